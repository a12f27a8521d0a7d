"""The close that is played to each candidate: the same arrivals, starts of pods and speeds, drawn from one seed.

It is the simulator's default world in compressed time: pods start in a third of the time, the burst decays sooner. What
is not compressed is the machinery: the HPA controller syncs every 15 s, a cron entry is true to the minute.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from statistics import NormalDist

from eod_workers.trades.partitioner import partition_of

TICK_S = 0.1
"""Arrivals are drawn for so long at a time."""
_P95 = NormalDist().inv_cdf(0.95)


@dataclass(frozen=True, slots=True)
class Close:
    """One close and the world around it; rates are in records a second.

    Attributes:
        seed: of all draws.
        before_s: quiet time before the close.
        after_s: time from the close until the end.
        base_per_s: arrivals in quiet.
        peak_per_s: what the burst adds at its top.
        rise_s: from the close to the top.
        decay_s: time constant of the fall.
        partitions: of the topic.
        symbols: how many keys there are.
        zipf: exponent of their weights.
        replica_per_s: what one replica consumes.
        start_median_s: of a pod, from its creation until it joins the group.
        start_p95_s: the same, of the slowest twentieth.
        commit_s: between two commits of a replica.
        least: replicas in quiet.
        most: replicas at most.
        burst: replicas that whoever configures a candidate believes a close needs.
    """

    seed: int = 7
    before_s: float = 150.0
    after_s: float = 210.0
    base_per_s: float = 40.0
    peak_per_s: float = 510.0
    rise_s: float = 5.0
    decay_s: float = 45.0
    partitions: int = 12
    symbols: int = 400
    zipf: float = 0.7
    replica_per_s: float = 100.0
    start_median_s: float = 10.0
    start_p95_s: float = 15.0
    commit_s: float = 1.0
    least: int = 1
    most: int = 12
    burst: int = 6

    def __post_init__(self) -> None:
        if self.before_s <= 0 or self.after_s <= 0:
            raise ValueError(f"{self.before_s:g} s before and {self.after_s:g} s after the close: both must be above 0")
        if not 0 < self.start_median_s <= self.start_p95_s:
            raise ValueError(f"a start of {self.start_p95_s:g} s at the 95th percentile is below the median")
        if not 0 < self.least <= self.burst <= self.most <= self.partitions:
            raise ValueError(
                f"replicas {self.least} to {self.most}, {self.burst} at the burst, {self.partitions} partitions: they "
                "must rise in the order least, burst, most, partitions"
            )

    @property
    def length_s(self) -> float:
        """From the first arrival to the end."""
        return self.before_s + self.after_s

    def rate_per_s(self, since_close_s: float) -> float:
        """Mean arrivals at a time relative to the close."""
        if since_close_s < 0:
            return self.base_per_s
        if since_close_s < self.rise_s:
            return self.base_per_s + self.peak_per_s * since_close_s / self.rise_s
        return self.base_per_s + self.peak_per_s * math.exp(-(since_close_s - self.rise_s) / self.decay_s)

    def starts_s(self) -> Iterator[float]:
        """How long each next pod takes to join, in the order of their creation; endless."""
        draws = random.Random(f"{self.seed}:starts")
        sigma = math.log(self.start_p95_s / self.start_median_s) / _P95
        while True:
            yield draws.lognormvariate(math.log(self.start_median_s), sigma)

    def arrivals(self) -> Iterator[tuple[float, list[int]]]:
        """Seconds since the begin and the partitions of the records that arrive then, in steps of TICK_S."""
        draws = random.Random(f"{self.seed}:arrivals")
        owed = 0.0
        names = [f"SYM{number:03d}" for number in range(self.symbols)]
        partitions = [partition_of(name, self.partitions) for name in names]
        weights = list(accumulate((rank + 1) ** -self.zipf for rank in range(self.symbols)))
        for tick in range(round(self.length_s / TICK_S)):
            at_s = tick * TICK_S
            owed += self.rate_per_s(at_s + TICK_S / 2 - self.before_s) * TICK_S
            due = int(owed)
            owed -= due
            yield at_s, draws.choices(partitions, cum_weights=weights, k=due)
