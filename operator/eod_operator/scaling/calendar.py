"""When the next close is, and whether now lies in the burst around one.

Two kinds of calendar: an exchange's (half days, holidays and daylight saving come from exchange_calendars) and
sessions written out in the pipeline, for a venue of one's own or a test. Either can be amended by what no calendar
foresees: a day of mourning, a close that is moved, a day on which more than usual is announced.

Times are epoch seconds.
"""

from __future__ import annotations

import bisect
import difflib
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, tzinfo
from typing import Protocol

COMMON_EXCHANGES = ("XNYS", "XNAS", "XLON", "XETR", "XPAR", "XTKS", "XHKG", "XTSE", "XASX")
"""Codes shown as examples to somebody who mistyped one."""


class UnknownExchangeError(ValueError):
    """The exchange code is not known, or its calendar does not reach the date that was asked."""


class CalendarNotLoadedError(UnknownExchangeError):
    """The calendar could not be loaded this time, whatever the exchange; it is worth asking again."""


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

    The first question about a year loads that year (about a second); later ones bisect.
    """

    code: str

    def first_close(self, since_s: float) -> float | None:
        """First close of the exchange at or after `since_s`.

        Raises:
            UnknownExchangeError: the code is unknown or its calendar has no such year.
        """
        closes = YEARS.closes(self.code, _year(since_s))
        at = bisect.bisect_left(closes, since_s)
        return closes[at] if at < len(closes) else None

    def at_hand(self, since_s: float) -> bool:
        """Whether a question about this time needs no loading."""
        return YEARS.has(self.code, _year(since_s))


@dataclass(frozen=True, slots=True)
class AmendedCalendar:
    """A calendar with what was announced since it was made; a day is that on which its close falls, by local time.

    Attributes:
        base: the calendar.
        zone: where the venue is, so that a day and a time of day have a meaning; `scaling.zones` knows it of exchanges.
        closed: days whose session does not take place.
        moved: day → local time of its close, instead of the usual one. A day without a session does not get one.
    """

    base: Calendar
    zone: tzinfo
    closed: frozenset[date] = frozenset()
    moved: Mapping[date, time] = field(default_factory=dict)

    def first_close(self, since_s: float) -> float | None:
        """First close at or after `since_s`, as amended.

        Raises:
            UnknownExchangeError: from an exchange's calendar.
        """
        usual_s = self.base.first_close(self._seek_s(since_s))
        while usual_s is not None:  # each turn passes over a close of a day that is amended, and those are few
            close_s = self._amended(usual_s)
            if close_s is not None and close_s >= since_s:
                return close_s
            usual_s = self.base.first_close(math.nextafter(usual_s, math.inf))
        return None

    def at_hand(self, since_s: float) -> bool:
        """Whether a question about this time needs no loading."""
        asked = getattr(self.base, "at_hand", None)
        return asked is None or bool(asked(since_s) and asked(self._seek_s(since_s)))

    def _seek_s(self, since_s: float) -> float:
        """From where on the usual closes are looked through: one that was moved to later lies behind us."""
        day = datetime.fromtimestamp(since_s, tz=self.zone).date()
        midnight = datetime.combine(day, time(), tzinfo=self.zone)
        return midnight.timestamp() if day in self.moved else since_s

    def _amended(self, usual_s: float) -> float | None:
        day = datetime.fromtimestamp(usual_s, tz=self.zone).date()
        if day in self.closed:
            return None
        if day not in self.moved:
            return usual_s
        return datetime.combine(day, self.moved[day], tzinfo=self.zone).timestamp()


@dataclass(frozen=True, slots=True)
class Event:
    """A day on which more, or less, than usual is announced, such as an index rebalance.

    Attributes:
        day: on which the close falls, by the venue's local time.
        factor: how many times the usual burst is expected.
        name: of its kind; sessions under the same name can be learned together.
    """

    day: date
    factor: float
    name: str

    def __post_init__(self) -> None:
        if not 0 < self.factor < math.inf:
            raise ValueError(f"the event of {self.day} has factor {self.factor}: give a positive number, such as 3")
        if not self.name.strip():
            raise ValueError(f"the event of {self.day} has no name: name its kind, such as index-rebalance")


def event_at(events: Iterable[Event], close_s: float, zone: tzinfo) -> Event | None:
    """The event announced for a close; of several, the one with most volume."""
    day = datetime.fromtimestamp(close_s, tz=zone).date()
    return max((one for one in events if one.day == day), key=lambda one: one.factor, default=None)


def factors(events: Sequence[Event], closes_s: Iterable[float], zone: tzinfo) -> dict[float, float]:
    """Close → factor, of those closes that an event is announced for."""
    found = ((close_s, event_at(events, close_s, zone)) for close_s in closes_s)
    return {close_s: event.factor for close_s, event in found if event is not None}


def closes_between(calendar: Calendar, from_s: float, to_s: float) -> tuple[float, ...]:
    """All closes in [from_s, to_s], in rising order.

    Raises:
        UnknownExchangeError: from an exchange's calendar.
    """
    found: list[float] = []
    close_s = calendar.first_close(from_s)
    while close_s is not None and close_s <= to_s:
        found.append(close_s)
        close_s = calendar.first_close(math.nextafter(close_s, math.inf))
    return tuple(found)


Load = Callable[[str, int], tuple[float, ...]]
"""From an exchange's code and a year to the closes from the first of that January to the end of the next."""


class Years:
    """Closes by exchange and year, each loaded once; safe for threads."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self._known: dict[tuple[str, int], tuple[float, ...] | UnknownExchangeError] = {}
        self._lock = threading.Lock()

    def has(self, code: str, year: int) -> bool:
        """Whether a year has been loaded, or found not to be there."""
        return (code, year) in self._known

    def closes(self, code: str, year: int) -> tuple[float, ...]:
        """Closes of a year, loaded if need be.

        Raises:
            UnknownExchangeError: the code is unknown or its calendar has no such year.
        """
        with self._lock:  # whoever asks for a year that is being loaded waits for it
            if (code, year) not in self._known:
                while len(self._known) >= _YEARS_KEPT:
                    del self._known[next(iter(self._known))]
                try:
                    self._known[code, year] = self.load(code, year)
                except CalendarNotLoadedError:
                    raise
                except UnknownExchangeError as error:
                    self._known[code, year] = error
            found = self._known[code, year]
        if isinstance(found, UnknownExchangeError):
            raise UnknownExchangeError(str(found))
        return found


def load_closes(code: str, year: int) -> tuple[float, ...]:
    """Closes from the first of January of `year` to the end of next January, so that December can look ahead.

    Raises:
        UnknownExchangeError: the code is unknown or its calendar has no such year.
    """
    import exchange_calendars as xcals  # noqa: PLC0415 - slow (pandas), and only needed for exchange calendars
    from exchange_calendars.errors import InvalidCalendarName  # noqa: PLC0415 - the same

    if code not in xcals.get_calendar_names():
        raise UnknownExchangeError(unknown_exchange(code, xcals.get_calendar_names(include_aliases=False)))
    first = f"{year}-01-01"
    try:
        try:
            calendar = xcals.get_calendar(code, start=first, end=f"{year + 1}-01-31")
        except ValueError:  # where holidays are announced a year ahead: as far as they are recorded
            calendar = xcals.get_calendar(code, start=first, end=type(xcals.get_calendar(code)).bound_max())
    except (InvalidCalendarName, ValueError) as error:
        raise UnknownExchangeError(
            f"the calendar of exchange {code!r} cannot be loaded for {year}: {error}. "
            "Upgrade exchange-calendars, or write the closes out as spec.calendar.sessions."
        ) from error
    return tuple(close.timestamp() for close in calendar.closes)


_YEARS_KEPT = 64
YEARS = Years(load_closes)
"""Of this process; the operator, which must stay small, has them loaded in another one."""


def _year(at_s: float) -> int:
    return datetime.fromtimestamp(at_s, tz=UTC).year


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
