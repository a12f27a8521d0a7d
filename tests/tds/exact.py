"""Decimals and times as they stand in SQLite, which has neither: texts that nothing else says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

A_SECOND = 10_000_000
"""In 100 ns, the ticks of a datetime2."""
TIME_DIGITS = 7
YEAR_1 = datetime(1, 1, 1)  # noqa: DTZ001 - a datetime2 has no zone
_DECIMAL = re.compile("\ue000(\\d+),(\\d+):(-?\\d+)\\Z")
_TIME = re.compile("\ue001(\\d):(\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d)\\.(\\d{7})\\Z")


@dataclass(frozen=True, slots=True)
class Decimal:
    """A number of at most `precision` digits, `scale` of them behind the point; `units` is it without the point."""

    precision: int
    scale: int
    units: int

    @property
    def fits(self) -> bool:
        """Whether it has no more digits than it may."""
        return bool(abs(self.units) < 10**self.precision)

    def text(self) -> str:
        """As it stands in SQLite."""
        return f"\ue000{self.precision},{self.scale}:{self.units}"

    def at_scale(self, scale: int) -> int:
        """The units at another scale, to the nearest, halves away from zero."""
        if scale >= self.scale:
            return self.units * int(10 ** (scale - self.scale))
        step = int(10 ** (self.scale - scale))
        whole, rest = divmod(abs(self.units), step)
        return (whole + (2 * rest >= step)) * (-1 if self.units < 0 else 1)


@dataclass(frozen=True, slots=True)
class Time:
    """A datetime2: 100 ns since the year 1, and how many digits of a second it has."""

    scale: int
    ticks: int

    def text(self) -> str:
        """As it stands in SQLite; of one scale they sort by themselves."""
        seconds, rest = divmod(self.ticks, A_SECOND)
        return f"\ue001{self.scale}:{YEAR_1 + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S}.{rest:07}"


def decimal(value: object) -> Decimal | None:
    """The decimal that a text says."""
    found = _DECIMAL.match(value) if isinstance(value, str) else None
    return Decimal(int(found[1]), int(found[2]), int(found[3])) if found else None


def time(value: object) -> Time | None:
    """The time that a text says."""
    found = _TIME.match(value) if isinstance(value, str) else None
    if found is None:
        return None
    stands = datetime.strptime(found[2], "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007 - a datetime2 has no zone
    return Time(int(found[1]), (stands - YEAR_1) // timedelta(seconds=1) * A_SECOND + int(found[3]))


def literal(text: str) -> str:
    """A number that is written with a point."""
    whole, _, fraction = text.partition(".")
    digits = f"{whole.lstrip('0')}{fraction}"
    return Decimal(max(len(digits), 1), len(fraction), int(digits or "0")).text()
