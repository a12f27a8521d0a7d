"""A trading session as it is remembered: how many records arrived a second, by time relative to its close.

Half days, clock changes and holidays disappear in close-relative time: the close is at zero whatever the clock says.
Bins are narrow where volume changes within seconds and wide in the quiet hours, so a session is some hundred numbers.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass


def _edges() -> tuple[float, ...]:
    """10 s from ten minutes before the close to twenty after it, a minute for the hour around, five before that."""
    return (
        *(float(at) for at in range(-23_400, -3_600, 300)),
        *(float(at) for at in range(-3_600, -600, 60)),
        *(float(at) for at in range(-600, 1_200, 10)),
        *(float(at) for at in range(1_200, 3_601, 60)),
    )


EDGES_S = _edges()
"""Where bins begin, relative to the close; the last is where the last one ends."""
BINS = len(EDGES_S) - 1


def bin_of(relative_s: float) -> int | None:
    """The bin that a time relative to the close lies in; None before the first and after the last."""
    at = bisect.bisect_right(EDGES_S, relative_s) - 1
    return at if 0 <= at < BINS else None


@dataclass(frozen=True, slots=True)
class RecordedSession:
    """One session.

    Attributes:
        close_s: its close, epoch seconds.
        rates_per_s: mean arrival of each bin in records a second; None where nothing was watched.
        event: name of what made it unlike others, such as an index rebalance; empty for an ordinary session.
    """

    close_s: float
    rates_per_s: tuple[float | None, ...]
    event: str = ""

    def __post_init__(self) -> None:
        if len(self.rates_per_s) != BINS:
            raise ValueError(f"rates_per_s has {len(self.rates_per_s)} bins: a recorded session has {BINS}")
