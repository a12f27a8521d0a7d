"""FIX messages out of log files, however they were written: SOH, `|` or `^A` between fields, with or without a prefix.

QuickFIX and its family write `20260102-21:00:00.123 : 8=FIX.4.4…`, others a line of their own; many people replace SOH
by something that can be seen. A file may be compressed (gzip).
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from eod_workers.fix.frames import SOH, FrameBuffer, Garbled, checksum

_GZIP = b"\x1f\x8b"
_BEGIN = re.compile(rb"8=FIXT?\.\d\.\d(\x01|\||\^A)9=")
_CHECKSUM = re.compile(rb"10=(\d{3})\Z")
_MAX_TEXT = 256 * 1024
"""Bytes of lines that may be one message; what is longer is cut there."""


class Logged(NamedTuple):
    """A message of a log.

    Attributes:
        line: where it begins, from 1.
        prefix: what stands in front of it on its line, stripped.
        raw: its bytes, with SOH between fields.
        why: what is wrong with the frame ("" if it is sound): logs are copied, cut and edited.
    """

    line: int
    prefix: str
    raw: bytes
    why: str


class _Compressed(gzip.GzipFile):
    """Says of which file it is that it is broken."""

    def readline(self, size: int | None = -1) -> bytes:
        """The next line."""
        try:
            return super().readline(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise OSError(f"{self.name} is compressed (gzip), and broken: {error}") from None


def open_log(path: Path) -> BinaryIO:
    """A log file for reading, compressed or not.

    Raises:
        OSError: it cannot be read; so do its lines where it is compressed and broken.
    """
    with path.open("rb") as file:
        compressed = file.read(len(_GZIP)) == _GZIP
    return cast("BinaryIO", _Compressed(path)) if compressed else path.open("rb")


def messages_of(lines: Iterable[bytes]) -> Iterator[Logged]:
    """The messages of a log, in order. A line without any is passed over; one may hold several."""
    text, begun = b"", 0
    for number, line in enumerate(lines, 1):
        begins = _BEGIN.search(line) is not None
        if text and (begins or not _goes_on(text)):
            yield from _of_lines(begun, text)
            text = b""
        if begins:
            begun = number
        if begins or text:
            text += line
    yield from _of_lines(begun, text)


def _goes_on(text: bytes) -> bool:
    """Whether the last message of a line is not at its end: a data field may hold line feeds."""
    *_, last = _BEGIN.finditer(text)
    return len(text) < _MAX_TEXT and last[1] == SOH and not FrameBuffer().feed(text[last.start() :])


def _of_lines(number: int, text: bytes) -> Iterator[Logged]:
    begins = list(_BEGIN.finditer(text))
    if not begins:
        return
    prefix = text[: begins[0].start()].decode("utf-8", "replace").strip(" :\t\r\n")
    start, follows = begins[0].start(), 0
    while start < len(text):
        begin = _BEGIN.match(text, start)
        if begin is None:
            return
        end = _end(text, start, begin[1])
        yield _logged(number, prefix, text[start:end], begin[1])
        following = [one.start() for one in begins[follows:] if one.start() >= end]
        follows = len(begins) - len(following)
        if not following:
            return
        start = following[0]


def _end(text: bytes, start: int, separator: bytes) -> int:
    """Where the message at `start` ends: where its BodyLength says, or else behind its CheckSum, or with its line."""
    items = FrameBuffer().feed(text[start:].replace(separator, SOH))
    if items and isinstance(items[0], bytes):
        return start + len(items[0]) + items[0].count(SOH) * (len(separator) - 1)
    following = _BEGIN.search(text, start + 1)
    until = following.start() if following else len(text)
    trailer = re.compile(re.escape(separator) + rb"10=\d{3}(" + re.escape(separator) + rb"|\s|\Z)")
    found = trailer.search(text, start, until)
    return found.end() if found else until


def _logged(number: int, prefix: str, text: bytes, separator: bytes) -> Logged:
    raw = text.rstrip(b"\r\n") if separator == SOH else text.strip().replace(separator, SOH)
    if not raw.endswith(SOH):
        raw += SOH
    return Logged(number, prefix, raw, unsound(raw))


def unsound(raw: bytes) -> str:
    """Why these bytes are no sound frame, or ""."""
    items = FrameBuffer().feed(raw)
    if not items:
        return "it is cut short: BodyLength(9) leads beyond its end"
    if isinstance(items[0], Garbled):
        return items[0].why
    return "" if len(items[0]) == len(raw) else "there are bytes behind CheckSum(10)"


def repaired(raw: bytes) -> bytes:
    """The frame with the BodyLength and CheckSum that its fields have: what a log has changed is not its sender's.

    Raises:
        ValueError: it has no BodyLength(9) or no CheckSum(10).
    """
    begin, _, rest = raw.partition(SOH)
    length, _, body = rest.partition(SOH)
    cut = body.rfind(b"10=")
    if not length.startswith(b"9=") or cut < 0 or not _CHECKSUM.match(body[cut:].rstrip(SOH)):
        raise ValueError("it has no BodyLength(9) or no CheckSum(10)")
    head = b"%b\x019=%d\x01%b" % (begin, cut, body[:cut])
    return b"%b10=%03d\x01" % (head, checksum(head))
