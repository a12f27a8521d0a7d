"""How many replicas a stage needs, and why: pure functions of signals, calendar, history and the time given.

Nothing here does I/O, reads a clock or imports a client library, so the operator and the demo decide by the same
code, and importing it is cheap: exchange_calendars is loaded only when an exchange's calendar is first asked.
Times are plain seconds (epoch, or any clock that only moves forward); the caller keeps the `History`.
"""

from eod_operator.scaling.calendar import (
    BurstWindow,
    Calendar,
    ExchangeCalendar,
    ExplicitCalendar,
    NoCalendar,
    UnknownExchangeError,
    burst_window,
)
from eod_operator.scaling.history import History, Sample
from eod_operator.scaling.partitions import align
from eod_operator.scaling.policy import Decision, Signals, StagePolicy, Term, decide

__all__ = [
    "BurstWindow",
    "Calendar",
    "Decision",
    "ExchangeCalendar",
    "ExplicitCalendar",
    "History",
    "NoCalendar",
    "Sample",
    "Signals",
    "StagePolicy",
    "Term",
    "UnknownExchangeError",
    "align",
    "burst_window",
    "decide",
]
