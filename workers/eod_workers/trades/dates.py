"""Which trading day a trade belongs to."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

NEW_YORK: Final = "America/New_York"
"""The zone of sessions that name none."""

_NS = 1_000_000_000


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
