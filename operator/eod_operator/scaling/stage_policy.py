"""The owner's wishes for one stage."""

from __future__ import annotations

from dataclasses import dataclass

DECIDED_EVERY_S = 15.0


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
