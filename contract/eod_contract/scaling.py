"""What a scaling decision is made of: what the owner wants, what was measured, and what each rule asks for.

The operator decides by these, and so does the demo's fleet; `eod_operator.scaling` has the rules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

DECIDED_EVERY_S = 15.0
"""How often the operator decides."""
RATES_OVER_S = 30.0
"""Rates are means over so many seconds."""
UNDER_WAY_S = 2.0
"""Records younger than this are being worked on and committed; older ones are behind."""


@dataclass(frozen=True, slots=True)
class StagePolicy:
    """The owner's wishes for one stage.

    Attributes:
        min_replicas: never fewer (unless there are fewer partitions).
        max_replicas: never more.
        burst_replicas: so many inside the burst window, while no forecast is trusted; None means `min_replicas`.
        lag_per_replica: records of lag that one replica may have, while its service rate is not known; None for a
            stage that consumes nothing.
        stabilization_s: a scale-down goes to the highest recommendation of this many seconds.
        stale_after_s: signals older than this are not believed.
        replica_per_s: records a second that one replica is believed to consume; None without a belief.
        catch_up_s: a backlog shall be gone within this.
        late_s: no record shall wait for longer in a burst that was foreseen.
        utilization: share of a replica's service rate that a forecast plans with: the rest is for its error.
        start_s: 95th percentile of the time from a decision until a new pod consumes.
        pause_s: how long a rebalance stops the group.
        replica_hours_per_day: budget whose overrun is reported; None without one.
    """

    min_replicas: int
    max_replicas: int
    burst_replicas: int | None = None
    lag_per_replica: int | None = None
    stabilization_s: float = 300.0
    stale_after_s: float = 60.0
    replica_per_s: float | None = None
    catch_up_s: float = 30.0
    late_s: float = 2.5
    utilization: float = 0.8
    start_s: float = 45.0
    pause_s: float = 3.0
    replica_hours_per_day: float | None = None

    def __post_init__(self) -> None:
        burst = self.min_replicas if self.burst_replicas is None else self.burst_replicas
        if not 0 <= self.min_replicas <= burst <= self.max_replicas:
            raise ValueError(
                f"0 <= min ({self.min_replicas}) <= burst ({burst}) <= max ({self.max_replicas}) does not hold"
            )
        if self.lag_per_replica is not None and self.lag_per_replica < 1:
            raise ValueError(f"lag_per_replica is {self.lag_per_replica}: it must be at least 1")
        if self.replica_per_s is not None and not self.replica_per_s > 0:
            raise ValueError(f"replica_per_s is {self.replica_per_s}: it must be above 0")
        if not (self.catch_up_s > 0 and 0 < self.utilization <= 1 and self.start_s >= 0 and self.pause_s >= 0):
            raise ValueError("catch_up_s must be above 0, utilization in (0, 1], start_s and pause_s not negative")

    @property
    def horizon_s(self) -> float:
        """How far ahead a decision must look so that what it asks for serves in time."""
        return self.start_s + self.pause_s + DECIDED_EVERY_S


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


@dataclass(frozen=True, slots=True)
class Term:
    """One rule's wish: its name, the replicas it asks for, and the arithmetic in words."""

    name: str
    replicas: int
    detail: str
