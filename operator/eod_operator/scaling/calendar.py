"""When the next close is, and whether now lies in the burst around one.

Two kinds of calendar: an exchange's (half days, holidays and daylight saving come from exchange_calendars) and
sessions written out in the pipeline, for a venue of one's own or a test. Times are epoch seconds.
"""

from __future__ import annotations

import bisect
import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

COMMON_EXCHANGES = ("XNYS", "XNAS", "XLON", "XETR", "XPAR", "XTKS", "XHKG", "XTSE", "XASX")
"""Codes shown as examples to somebody who mistyped one."""


class UnknownExchangeError(ValueError):
    """The exchange code is not known, or its calendar does not reach the date that was asked."""


class Calendar(Protocol):
    """Anything that knows closes."""

    def first_close(self, since_s: float) -> float | None:
        """First close at or after `since_s`, or None when the calendar has no more."""
        ...


@dataclass(frozen=True, slots=True)
class NoCalendar:
    """A calendar without closes: nothing is ever pre-scaled."""

    def first_close(self, since_s: float) -> float | None:  # noqa: ARG002 - the protocol's argument
        """Return None."""
        return None


@dataclass(frozen=True, slots=True)
class ExplicitCalendar:
    """Closes written out, in rising order."""

    closes_s: tuple[float, ...]

    @classmethod
    def of(cls, closes_s: Iterable[float]) -> ExplicitCalendar:
        """Make one from closes in any order."""
        return cls(tuple(sorted(closes_s)))

    def first_close(self, since_s: float) -> float | None:
        """First of the written closes at or after `since_s`."""
        at = bisect.bisect_left(self.closes_s, since_s)
        return self.closes_s[at] if at < len(self.closes_s) else None


@dataclass(frozen=True, slots=True)
class ExchangeCalendar:
    """The sessions of an exchange known to exchange_calendars, by its ISO 10383 code (XNYS, XLON, …).

    The first question about a year loads that year (about a second, mostly pandas' import); later ones bisect.
    """

    code: str

    def first_close(self, since_s: float) -> float | None:
        """First close of the exchange at or after `since_s`.

        Raises:
            UnknownExchangeError: the code is unknown or its calendar has no such year.
        """
        closes = _closes_around(self.code, datetime.fromtimestamp(since_s, tz=UTC).year)
        at = bisect.bisect_left(closes, since_s)
        return closes[at] if at < len(closes) else None


@lru_cache(maxsize=64)
def _closes_around(code: str, year: int) -> tuple[float, ...]:
    """Closes from the first of January of `year` to the end of next January, so that December can look ahead."""
    import exchange_calendars as xcals  # noqa: PLC0415 - slow (pandas), and only needed for exchange calendars
    from exchange_calendars.errors import InvalidCalendarName  # noqa: PLC0415 - the same

    if code not in xcals.get_calendar_names():
        raise UnknownExchangeError(unknown_exchange(code, xcals.get_calendar_names(include_aliases=False)))
    try:
        calendar = xcals.get_calendar(code, start=f"{year}-01-01", end=f"{year + 1}-01-31")
    except (InvalidCalendarName, ValueError) as error:
        raise UnknownExchangeError(
            f"the calendar of exchange {code!r} cannot be loaded for {year}: {error}. "
            "Upgrade exchange-calendars, or write the closes out as spec.calendar.sessions."
        ) from error
    return tuple(close.timestamp() for close in calendar.closes)


def unknown_exchange(code: str, known: Iterable[str]) -> str:
    """Say that a code is unknown, and which ones would do."""
    near = difflib.get_close_matches(code.upper(), list(known), n=3, cutoff=0.6)
    guess = f"did you mean {' or '.join(near)}? " if near else ""
    return (
        f"{code!r} is not an exchange known to exchange_calendars: {guess}"
        f"Valid codes are for example {', '.join(COMMON_EXCHANGES)}; "
        "a venue of your own is written out as spec.calendar.sessions."
    )


@dataclass(frozen=True, slots=True)
class BurstWindow:
    """Where now lies relative to the closes: `close_s` is the close whose burst is on (None outside a burst)."""

    close_s: float | None = None
    next_close_s: float | None = None

    @property
    def active(self) -> bool:
        """Whether now is within [close - lead, close + duration] of some close."""
        return self.close_s is not None


def burst_window(calendar: Calendar, now_s: float, *, lead_s: float, duration_s: float) -> BurstWindow:
    """State of the burst window [close - lead, close + duration], both ends included, at `now_s`.

    Raises:
        UnknownExchangeError: from an exchange's calendar.
    """
    candidate = calendar.first_close(now_s - duration_s)
    active = candidate is not None and candidate - lead_s <= now_s
    return BurstWindow(
        close_s=candidate if active else None,
        next_close_s=calendar.first_close(math.nextafter(now_s, math.inf)),
    )
