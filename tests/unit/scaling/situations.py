"""Situations of a stage with twelve partitions, for the tables and properties of the policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eod_operator.scaling import BurstWindow, History, Sample, Signals, StagePolicy
from eod_operator.scaling.service_rate import ServiceRate

NOW = 1_000_000.0
PARTITIONS = 12
CALM = BurstWindow(None, NOW + 20_000)
BURST = BurstWindow(NOW + 60, NOW + 60)
KNOWN = StagePolicy(1, 12, 6, 1_000, replica_per_s=100.0)
"""One replica is believed to do 100 records a second."""


def flow(
    arrival: float | Sequence[float],
    *,
    consumed: float | Sequence[float] | None = None,
    lag: int | Sequence[int] = 0,
    lag_s: float | Sequence[float] = 0.0,
    ready: int = 1,
    age_s: float = 0.0,
    partitions: int = PARTITIONS,
) -> Signals:
    """Signals; a single number is of all partitions together (an age: of each)."""

    def spread(value: float | Sequence[float]) -> tuple[float, ...]:
        return (value / partitions,) * partitions if isinstance(value, (int, float)) else tuple(value)

    return Signals(
        lag=tuple(round(one) for one in spread(lag)),
        age_s=age_s,
        partitions=partitions,
        lag_s=(float(lag_s),) * partitions if isinstance(lag_s, (int, float)) else tuple(lag_s),
        arrival_per_s=spread(arrival),
        consumed_per_s=spread(arrival if consumed is None else consumed),
        ready=ready,
    )


def one_hot(rest: float, hot: float) -> tuple[float, ...]:
    """Partition 0 has `hot`, each other one `rest`."""
    return (hot, *(rest,) * (PARTITIONS - 1))


def settled(replicas: int = 0, *, ready: int = 1, service: ServiceRate | None = None) -> History:
    """A history that holds nothing up: so many were needed all the while."""
    known = service or ServiceRate(ready=ready, ready_since_s=NOW - 10_000)
    return History((Sample(NOW - 10, replicas),), service=known)


@dataclass(frozen=True)
class Flat:
    """A forecast with one hump: a level, and another from `from_s` to `to_s`."""

    level: float
    hump: float = 0.0
    from_s: float = 0.0
    to_s: float = 0.0

    def rate(self, at_s: float) -> float:
        return self.hump if self.from_s <= at_s < self.to_s else self.level

    def peak(self, from_s: float, to_s: float) -> float:
        inside = self.from_s <= to_s and from_s < self.to_s
        return max(self.level, self.hump) if inside else self.level
