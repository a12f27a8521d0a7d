"""Days small enough to be worked out by hand: constant or stepwise rates, no noise, exact starts; and simple policies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from eod_operator.simulate.engine import Day, play
from eod_operator.simulate.metrics import Metrics, measure
from eod_operator.simulate.scaler import Observation, Policy, Setting
from eod_operator.simulate.scenario import Group, Pods, Sight
from eod_operator.simulate.world import Crawl, World

OPEN_S = 1_000_000.0
"""When these days begin."""


def world(
    rates: Sequence[Sequence[float]],
    *,
    step_s: float = 1.0,
    per_s: float = 100.0,
    group: Group | None = None,
    start_s: float = 10.0,
    stop_s: float = 0.0,
    sight: Sight | None = None,
    down: tuple[tuple[float, float], ...] = (),
    crawls: tuple[Crawl, ...] = (),
    phase_s: float = 0.0,
    seeds: int = 1,
    close_s: float | None = None,
) -> World:
    """A day with these arrival rates, [steps][partitions]; `down` and `close_s` in seconds since its beginning."""
    rate = np.asarray(rates, dtype=np.float64)
    steps, partitions = rate.shape
    arrived = np.vstack((np.zeros(partitions), np.cumsum(rate * step_s, axis=0)))
    group = group or Group(beat_s=0, partitions=partitions, min=1, max=partitions, pause_s=0)
    return World(
        name="by-hand",
        seeds=tuple(range(seeds)),
        times_s=OPEN_S + step_s * np.arange(steps + 1),
        arrived=np.repeat(arrived[:, None, :], seeds, axis=1),
        down=tuple((OPEN_S + from_s, OPEN_S + to_s) for from_s, to_s in down),
        crawls=crawls,
        per_s=per_s,
        start_s=np.full((seeds, 8), start_s),
        speed=np.ones((seeds, 8)),
        drift=np.ones((seeds, 1000, group.max)),
        phase_s=np.full(seeds, phase_s),
        group=group,
        pods=Pods(start_median_s=start_s, start_p95_s=start_s, stop_s=stop_s),
        sight=sight or Sight(scrape_s=1, delay_s=0),
        settings=(setting(group),) * seeds,
        close_s=None if close_s is None else OPEN_S + close_s,
        slo_s=5,
    )


def setting(group: Group) -> Setting:
    """What these days' policies know."""
    return Setting(
        partitions=group.partitions,
        min_replicas=group.min,
        max_replicas=group.max,
        burst_replicas=None,
        service_per_s=100,
        start_s=10,
        pause_s=group.pause_s,
        closes_s=(),
        timetable_s=(),
    )


@dataclass(slots=True)
class Plan:
    """Asks for so many replicas from so many seconds on, and remembers what it saw."""

    at: dict[float, int] = field(default_factory=dict)
    name: str = "plan"
    period_s: float = 1.0
    seen: list[Observation] = field(default_factory=list)

    def scaler(self, setting: Setting) -> Plan:  # noqa: ARG002 - the protocol's argument
        return self

    def replicas(self, seen: Observation) -> int:
        self.seen.append(seen)
        since = seen.now_s - OPEN_S
        return next((count for at, count in sorted(self.at.items(), reverse=True) if at <= since), seen.current)


@dataclass(frozen=True, slots=True)
class ByLag:
    """One replica for each so many records of lag: it flaps, which is what tests want."""

    per_replica: float = 100.0
    name: str = "by-lag"
    period_s: float = 5.0

    def scaler(self, setting: Setting) -> ByLag:  # noqa: ARG002 - the protocol's argument
        return self

    def replicas(self, seen: Observation) -> int:
        return int(sum(lag or 0 for lag in seen.lag) / self.per_replica) + 1


@dataclass(frozen=True, slots=True)
class Answering:
    """Answers whatever it is told to."""

    answer: Callable[[], object]
    name: str = "odd"
    period_s: float = 1.0

    def scaler(self, setting: Setting) -> Answering:  # noqa: ARG002 - the protocol's argument
        return self

    def replicas(self, seen: Observation) -> int:  # noqa: ARG002 - the same
        return self.answer()  # type: ignore[return-value]  # what is tested


def only(made: World, policy: Policy) -> tuple[Day, Metrics]:
    """The one day of the first seed, and its metrics."""
    day = play(made, (policy,))[0][0]
    return day, measure(made, day)
