"""How many replicas a stage needs, and why: pure functions of signals, calendar, history and the time given.

Nothing here does I/O, reads a clock or imports a client library, so the operator and the demo decide by the same
code, and importing it is cheap: exchange_calendars is loaded only when an exchange's calendar is first asked.
Times are plain seconds (epoch, or any clock that only moves forward); the caller keeps the `History`.
"""

from eod_contract.scaling import Signals, StagePolicy, Term

from eod_operator.scaling.calendar import (
    AmendedCalendar,
    BurstWindow,
    Calendar,
    CalendarNotLoadedError,
    Event,
    ExchangeCalendar,
    ExplicitCalendar,
    NoCalendar,
    UnknownExchangeError,
    burst_window,
    closes_between,
    event_at,
)
from eod_operator.scaling.history import History, Sample
from eod_operator.scaling.partitions import align, fewest
from eod_operator.scaling.policy import Decision, Overrides, decide

__all__ = [
    "AmendedCalendar",
    "BurstWindow",
    "Calendar",
    "CalendarNotLoadedError",
    "Decision",
    "Event",
    "ExchangeCalendar",
    "ExplicitCalendar",
    "History",
    "NoCalendar",
    "Overrides",
    "Sample",
    "Signals",
    "StagePolicy",
    "Term",
    "UnknownExchangeError",
    "align",
    "burst_window",
    "closes_between",
    "decide",
    "event_at",
    "fewest",
]
