"""What autoscalers of the simulator are shown in their tests: observations and settings made of a few numbers."""

from __future__ import annotations

from collections.abc import Sequence

from eod_operator.simulate.scaler import Observation, Scaler, Setting

CLOSE_S = 1_700_000_000.0 - 1_700_000_000.0 % 60
"""A usual close, at a full minute."""


def setting(
    *,
    partitions: int = 12,
    least: int = 1,
    most: int = 12,
    service_per_s: float | None = 100.0,
    burst_replicas: int | None = None,
) -> Setting:
    """A morning's knowledge."""
    return Setting(
        partitions=partitions,
        min_replicas=least,
        max_replicas=most,
        burst_replicas=burst_replicas,
        service_per_s=service_per_s,
        start_s=45,
        pause_s=3,
        closes_s=(CLOSE_S,),
        timetable_s=(CLOSE_S,),
    )


def seen(
    lag: float | Sequence[float | None] = 0.0,
    *,
    now_s: float = 0.0,
    current: int = 1,
    ready: int | None = None,
    partitions: int = 12,
    reachable: bool = True,
    lag_s: float = 0.0,
    arrival_per_s: float = 0.0,
    consumed_per_s: float | Sequence[float] = 0.0,
) -> Observation:
    """One look; numbers that are not sequences are totals, spread over the partitions."""
    lags = tuple(lag) if isinstance(lag, Sequence) else (lag / partitions,) * partitions
    count = len(lags)
    consumed = tuple(consumed_per_s) if isinstance(consumed_per_s, Sequence) else (consumed_per_s / count,) * count
    return Observation(
        now_s=now_s,
        measured_at_s=now_s,
        reachable=reachable,
        current=current,
        ready=current if ready is None else ready,
        lag=lags,
        lag_s=(lag_s,) * count,
        arrival_per_s=(arrival_per_s / count,) * count,
        consumed_per_s=consumed,
    )


def follow(
    scaler: Scaler, lags: Sequence[float], *, start: int, from_s: float = 0.0, partitions: int = 12
) -> list[int]:
    """Replicas after each of its periods, with pods that are ready at once."""
    replicas = []
    for step, lag in enumerate(lags):
        look = seen(lag, now_s=from_s + step * scaler.period_s, current=start, partitions=partitions)
        start = scaler.replicas(look)
        replicas.append(start)
    return replicas
