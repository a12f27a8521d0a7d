"""Values of fields: texts, UTC time stamps, dates."""

from __future__ import annotations

import re
from calendar import timegm
from datetime import UTC, datetime
from functools import lru_cache

Fields = dict[bytes, bytes]
"""Tag → value, of one level: repeating groups have levels of their own (`reading.Part`)."""

_TIMESTAMP = re.compile(rb"(\d{8})-(\d\d):(\d\d):([0-5]\d|60)(?:\.(\d{1,9}))?\Z")
_DATE = re.compile(rb"\d{8}\Z")
_MAX_HOUR, _MAX_MINUTE = 23, 59
_FIRST_YEAR, _LAST_YEAR = 1970, 2261


def text_of(value: bytes) -> str:
    """The text of a value: UTF-8 if it is that, else Latin-1, in which every byte is a character and none is lost.

    FIX calls for ASCII and leaves the rest to those who agree on it (FIX 4.4 vol. 1, "MessageEncoding"): names come in
    either.
    """
    return _short_text(value) if len(value) <= _SHORT else _text(value)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


_SHORT = 64
_QUOTED = 32
_short_text = lru_cache(maxsize=65_536)(_text)
"""Names come again and again; what is long may be anything."""


@lru_cache(maxsize=64)
def _midnight_ns(date: bytes) -> int:
    """Nanoseconds at 00:00 UTC of yyyymmdd."""
    if not _FIRST_YEAR <= int(date[:4]) <= _LAST_YEAR:
        raise ValueError(f"the year must be between {_FIRST_YEAR} and {_LAST_YEAR}, or 64 bits do not hold the time")
    day = datetime(int(date[:4]), int(date[4:6]), int(date[6:]), tzinfo=UTC)
    return timegm(day.timetuple()) * 1_000_000_000


def quoted(value: bytes) -> str:
    """The beginning of a value as it is quoted in a sentence: what cannot be printed is escaped."""
    return repr(text_of(value[: 4 * _QUOTED])[:_QUOTED])


def parse_timestamp_ns(text: bytes) -> int:
    """A UTCTimestamp, "yyyymmdd-HH:MM:SS" with up to nine decimals, as nanoseconds since the Unix epoch.

    Raises:
        ValueError: not of that form, or no such date or time.
    """
    match = _TIMESTAMP.match(text)
    if match is None:
        raise ValueError(f"{quoted(text)} is not a UTC time stamp (yyyymmdd-HH:MM:SS.sss)")
    date, hours, minutes, seconds, fraction = match.groups()
    if int(hours) > _MAX_HOUR or int(minutes) > _MAX_MINUTE:
        raise ValueError(f"{quoted(text)} is no time of day")
    try:
        midnight = _midnight_ns(date)
    except ValueError as error:
        raise ValueError(f"{quoted(text)}: {error}") from None
    whole = int(hours) * 3600 + int(minutes) * 60 + int(seconds)
    return midnight + whole * 1_000_000_000 + (int(fraction.ljust(9, b"0")) if fraction else 0)


@lru_cache(maxsize=64)
def parse_date(text: bytes) -> int:
    """A LocalMktDate, "yyyymmdd", as that number.

    Raises:
        ValueError: not of that form, or no such day.
    """
    if _DATE.match(text) is None:
        raise ValueError(f"{quoted(text)} is not a date (yyyymmdd)")
    try:
        _midnight_ns(text)
    except ValueError as error:
        raise ValueError(f"{quoted(text)}: {error}") from None
    return int(text)


def format_timestamp(ns: int) -> bytes:
    """Nanoseconds since the Unix epoch as a UTCTimestamp with milliseconds."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return b"%b.%03d" % (_to_the_second(seconds), rest // 1_000_000)


@lru_cache(maxsize=8)
def _to_the_second(seconds: int) -> bytes:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d-%H:%M:%S").encode()
