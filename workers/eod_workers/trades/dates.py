"""Which trading day a trade belongs to, and when it can have been."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

NEW_YORK: Final = "America/New_York"
"""The zone of sessions that name none."""

MAX_AHEAD_DAYS = 1
"""How long after its report a trade can have been: clocks differ, and some write local time."""
MAX_AGE_DAYS = 3_653
"""How long before its report a trade can have been. What is booked late or cancelled is years old, not decades."""

_NS = 1_000_000_000
_DAY_NS = 86_400 * _NS
MAX_AHEAD_NS, MAX_AGE_NS = MAX_AHEAD_DAYS * _DAY_NS, MAX_AGE_DAYS * _DAY_NS


def why_impossible(at_ns: int, reported_ns: int) -> str:
    """Why a trade cannot have been at an instant when it was reported at another, or ""."""
    age_ns = reported_ns - at_ns
    if age_ns < -MAX_AHEAD_NS:
        return f"{-age_ns // _DAY_NS:,} days after its report, and at most {MAX_AHEAD_DAYS} is taken"
    if age_ns > MAX_AGE_NS:
        return f"{age_ns // _DAY_NS:,} days before its report, and at most {MAX_AGE_DAYS:,} are taken"
    return ""


class TradeDates:
    """The dates of instants in one zone. The day of the last one is kept, for most come from the same.

    Attributes:
        zone: its name.
        begin_ns: that day's first nanosecond since the Unix epoch.
        end_ns: the first of the next; both are 0 until a date was asked for.
        date: that day as yyyymmdd.
    """

    __slots__ = ("_info", "begin_ns", "date", "end_ns", "zone")

    def __init__(self, zone: str = NEW_YORK) -> None:
        """Dates in an IANA zone.

        Raises:
            ValueError: there is no such zone.
        """
        self.zone = zone
        self._info = zone_of(zone)
        self.begin_ns = self.end_ns = self.date = 0

    def of(self, at_ns: int) -> int:
        """The date of an instant as yyyymmdd."""
        if not self.begin_ns <= at_ns < self.end_ns:
            day = datetime.fromtimestamp(at_ns // _NS, self._info).replace(hour=0, minute=0, second=0, fold=0)
            self.begin_ns = int(day.timestamp()) * _NS
            self.end_ns = int((day + timedelta(days=1)).timestamp()) * _NS
            self.date = day.year * 10_000 + day.month * 100 + day.day
        return self.date


@lru_cache(maxsize=64)
def zone_of(name: str) -> ZoneInfo:
    """An IANA zone.

    Raises:
        ValueError: there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone: name one as IANA does, e.g. {NEW_YORK} or Europe/London") from None
