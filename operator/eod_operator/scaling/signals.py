"""What was measured of a stage's consumer group, and what of it can be believed."""

from __future__ import annotations

import math
from dataclasses import dataclass

RATES_OVER_S = 30.0
"""Rates are means over so many seconds."""
UNDER_WAY_S = 2.0
"""Records younger than this are being worked on and committed; older ones are behind."""


@dataclass(frozen=True, slots=True)
class Signals:
    """What was last measured of a stage's consumer group; arrays are by partition number.

    Attributes:
        lag: records not yet consumed; None when unknown (or nothing is consumed).
        age_s: seconds since all this was measured.
        partitions: partitions of the consumed topic; None when unknown (or nothing is consumed).
        lag_s: age of the oldest record that is not consumed, 0 without any; None when unknown.
        arrival_per_s: records appended a second, over `RATES_OVER_S`; None when unknown.
        consumed_per_s: records committed a second, over the same time; None when unknown.
        ready: replicas that serve; None when unknown.
    """

    lag: tuple[int, ...] | None = None
    age_s: float = 0.0
    partitions: int | None = None
    lag_s: tuple[float, ...] | None = None
    arrival_per_s: tuple[float, ...] | None = None
    consumed_per_s: tuple[float, ...] | None = None
    ready: int | None = None

    @property
    def total_lag(self) -> int | None:
        """Records of all partitions; a negative number (a topic made anew) counts as none."""
        return None if self.lag is None else sum(max(0, lag) for lag in self.lag)

    @property
    def complete(self) -> bool:
        """Whether every partition's lag is known: where some are missing, what is seen may only raise."""
        return self.lag is not None and self.partitions is not None and len(self.lag) == self.partitions

    @property
    def rates(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Arrival and consumption of every partition; None unless all are known, finite and not negative."""
        if self.arrival_per_s is None or self.consumed_per_s is None or not self.complete:
            return None
        if not len(self.arrival_per_s) == len(self.consumed_per_s) == self.partitions:
            return None
        both = (*self.arrival_per_s, *self.consumed_per_s)
        return (self.arrival_per_s, self.consumed_per_s) if all(0 <= rate < math.inf for rate in both) else None

    @property
    def behind(self) -> tuple[int, ...]:
        """Records of each partition that are not merely under way; needs `rates`."""
        arrival = self.arrival_per_s or ()
        lags = self.lag or ()
        return tuple(max(0, round(lag - rate * UNDER_WAY_S)) for lag, rate in zip(lags, arrival, strict=False))

    def stuck(self, partition: int) -> bool:
        """Whether a partition has work and gets nothing done while it should: no number of replicas mends that."""
        if self.lag is None or self.consumed_per_s is None or self.arrival_per_s is None:
            return False
        waits_s = self.lag_s[partition] if self.lag_s is not None else 0.0
        return (
            waits_s > RATES_OVER_S
            and self.lag[partition] > 0
            and self.consumed_per_s[partition] <= _STUCK * self.arrival_per_s[partition]
        )

    @property
    def latest_s(self) -> float | None:
        """Age of the oldest record that waits, stuck partitions left out; None when unknown."""
        if self.lag_s is None:
            return None
        if any(math.isnan(age) for age in self.lag_s):
            return None
        return max((age for number, age in enumerate(self.lag_s) if not self.stuck(number)), default=0.0)


_STUCK = 0.01
"""Of its arrival; a poison record stops its partition altogether."""
