"""How late and how dear a day was: exact integrals of the recorded curves.

Between two edges of a day records arrive and depart evenly, so ages and delays are known wherever they are asked for:
lag-seconds at every edge (trapezoids between them), a record's delay at every bend of either curve. What happens
within one step is not known: times below a step's length (`Steps.fine_s`, a second unless the scenario says less) are
those of the fluid, not of the group. Pauses that fit into one coarse step are added from the day's own account, to
lag-seconds alone. `FLOOR_S2` is the lateness below which two days are alike.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from eod_operator.simulate.engine import Day
from eod_operator.simulate.traffic import Floats
from eod_operator.simulate.world import World

FLOOR_S2 = 60.0
"""Resolution of `lateness_s2`: one second of lag, a step's length, over one minute."""
_TINY = 1e-9
_BISECTIONS = 48


@dataclass(frozen=True, slots=True)
class Metrics:
    """Of one seed's day.

    Attributes:
        seed: of the day.
        max_lag_s: highest age of the oldest unprocessed record of any partition.
        lateness_s2: its integral over the day, in seconds of lag times seconds.
        p99_age_s: 99th percentile of the time from append to processing, over all records.
        max_age_s: the highest.
        late_s: how long lag-seconds were above the scenario's `slo_s`.
        drain_s: from the close until they stay below it; 0 if they always do, or without a close.
        replica_hours: pods asked for, from the decision until they are gone.
        changes: how often the asked-for number changed.
        rebalances: how many began.
        moved: partitions that changed hands.
        unfinished: records not processed at the end.
    """

    seed: int
    max_lag_s: float
    lateness_s2: float
    p99_age_s: float
    max_age_s: float
    late_s: float
    drain_s: float
    replica_hours: float
    changes: int
    rebalances: int
    moved: int
    unfinished: float

    def as_dict(self) -> dict[str, float]:
        """For JSON and tables."""
        return asdict(self)


NUMBERS = tuple(name for name in Metrics.__dataclass_fields__ if name != "seed")


def measure(world: World, day: Day) -> Metrics:
    """The metrics of one day."""
    lag_s = lag_seconds(day)
    late_s, last_late_s = above(day.times_s, lag_s, world.slo_s)
    p99, worst = ages(day, (0.99,))
    length_s = np.diff(day.times_s)
    pod_s = float(day.asked @ length_s) + day.ended * world.pods.stop_s
    drain_s = 0.0 if world.close_s is None or last_late_s is None else max(0.0, last_late_s - world.close_s)
    return Metrics(
        seed=day.seed,
        max_lag_s=max(float(lag_s.max()), day.hidden_s),
        lateness_s2=float(np.trapezoid(lag_s, day.times_s)) + day.hidden_s2,
        p99_age_s=p99,
        max_age_s=worst,
        late_s=late_s,
        drain_s=drain_s,
        replica_hours=pod_s / 3600,
        changes=day.changes,
        rebalances=day.rebalances,
        moved=day.moved,
        unfinished=float((day.arrived[-1] - day.done[-1]).sum()),
    )


def lag_seconds(day: Day) -> Floats:
    """At each edge, the age of the oldest unprocessed record of any partition; 0 without one."""
    result = np.zeros(len(day.times_s))
    behind = day.arrived - day.done > _TINY
    for partition in np.flatnonzero(behind.any(axis=0)):
        late = np.flatnonzero(behind[:, partition])
        arrived, done = day.arrived[:, partition], day.done[late, partition]
        # The last edge at which everything before the record had arrived: it came right after it.
        edge = np.searchsorted(arrived, done + _TINY, side="right") - 1
        part = np.clip((done - arrived[edge]) / (arrived[edge + 1] - arrived[edge]), 0, 1)
        came_s = day.times_s[edge] + part * (day.times_s[edge + 1] - day.times_s[edge])
        result[late] = np.maximum(result[late], day.times_s[late] - came_s)
    return result


def above(times_s: Floats, values: Floats, bound: float) -> tuple[float, float | None]:
    """How long a line between points is above a bound, and when it last was; None for never."""
    low, high = np.minimum(values[:-1], values[1:]), np.maximum(values[:-1], values[1:])
    spread = np.where(high > low, high - low, 1.0)
    part = np.where(low >= bound, (high > bound).astype(float), np.clip((high - bound) / spread, 0, 1))
    length = np.diff(times_s)
    steps = np.flatnonzero(part > 0)
    if not len(steps):
        return 0.0, None
    last = int(steps[-1])
    falling = values[last + 1] < values[last]
    until_s = times_s[last] + part[last] * length[last] if falling else times_s[last + 1]
    return float(part @ length), float(until_s)


def ages(day: Day, quantiles: tuple[float, ...]) -> tuple[float, ...]:
    """Quantiles of all records' times from append to processing, and the longest; of processed records.

    Records of one stretch between two bends of the curves have delays that change evenly from its first to its last.
    """
    first, last, weight = [], [], []
    total = float(day.done[-1].sum() - day.done[0].sum())
    for partition in range(day.arrived.shape[1]):
        for delays in _stretches(day, partition):
            first.append(delays[0])
            last.append(delays[1])
            weight.append(delays[2])
    if not first or total <= 0:
        return (*(0.0 for _ in quantiles), 0.0)
    low = np.minimum(np.concatenate(first), np.concatenate(last))
    high = np.maximum(np.concatenate(first), np.concatenate(last))
    heavy = np.concatenate(weight)
    return (*(_quantile(low, high, heavy, total, q) for q in quantiles), float(high.max()))


def _stretches(day: Day, partition: int) -> list[tuple[Floats, Floats, Floats]]:
    """Delays of the first and last record of each stretch that waited, and how many records it has."""
    arrived, done = day.arrived[:, partition], day.done[:, partition]
    behind = arrived - done > _TINY
    # Steps with a backlog at either end; between others the curves are the same and nothing waits.
    busy = behind.copy()
    busy[:-1] |= behind[1:]
    busy[1:] |= behind[:-1]
    edges = np.flatnonzero(busy)
    if not len(edges):
        return []
    a, d, t = arrived[edges], done[edges], day.times_s[edges]
    bends = np.unique(np.concatenate((a, d)))
    bends = bends[(bends >= d[0]) & (bends <= d[-1])]
    size = np.diff(bends)
    keep = size > _TINY
    size, start = size[keep], bends[:-1][keep]
    # Inside a stretch both curves are straight; at its ends one may jump, so it is looked at inside.
    early, late = start + 0.25 * size, start + 0.75 * size
    one = np.interp(early, d, t) - np.interp(early, a, t)
    two = np.interp(late, d, t) - np.interp(late, a, t)
    slope = two - one
    waited = (one > _TINY) | (two > _TINY)
    ends = np.maximum(one - 0.5 * slope, 0)[waited], np.maximum(two + 0.5 * slope, 0)[waited]
    return [(ends[0], ends[1], size[waited])]


def _quantile(low: Floats, high: Floats, weight: Floats, total: float, quantile: float) -> float:
    """Where `quantile` of all weight lies below, those that never waited being at 0."""
    over = total * (1 - quantile)
    if weight.sum() <= over:
        return 0.0
    spread = np.where(high > low, high - low, 1.0)
    left, right = 0.0, float(high.max())
    for _ in range(_BISECTIONS):
        middle = (left + right) / 2
        part = np.where(high > low, np.clip((high - middle) / spread, 0, 1), (high > middle).astype(float))
        if float(part @ weight) > over:
            left = middle
        else:
            right = middle
    return right
