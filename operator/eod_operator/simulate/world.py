"""A scenario and some seeds become a world: everything that happens to a group, whoever scales it.

All randomness is drawn here, for each seed from a generator of its own, so that a seed means the same day for every
policy, alone or in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import NormalDist
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from eod_operator.scaling.sessions import RecordedSession
from eod_operator.simulate import traffic
from eod_operator.simulate.scaler import Setting
from eod_operator.simulate.scenario import (
    USUAL_CLOSE,
    Group,
    Lasting,
    Pods,
    Scenario,
    Service,
    Sight,
    epoch_s,
    is_weekday,
    sessions,
)
from eod_operator.simulate.traffic import Floats

DRAWS = 512
"""Pods whose start and speed are drawn for a seed; after so many the draws come round again."""
DRIFT_S = 60.0
"""Seconds over which a replica's speed stays the same."""


@dataclass(frozen=True, slots=True)
class Crawl:
    """A poison partition: from when to when, how fast it still is, and which one by seed."""

    from_s: float
    to_s: float
    per_s: float
    partition: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class World:
    """One day for a batch of seeds; arrays are read only.

    Attributes:
        name: of the scenario.
        seeds: in the order of the arrays.
        times_s: edges of the steps, epoch seconds.
        arrived: [edges, seeds, partitions], records in the log at each edge.
        down: spans in which the broker does not answer.
        crawls: poison partitions.
        per_s: what an average replica consumes.
        start_s: [seeds, draws], how long each next pod takes to join.
        speed: [seeds, draws], its speed as a multiple of the average.
        drift: [seeds, spans of DRIFT_S, slots], what changes of it in time.
        phase_s: [seeds], where in its interval a commit happens.
        settings: by seed, what whoever configures an autoscaler knows.
        close_s: the close, or None.
        slo_s: lag-seconds above this are late.
    """

    name: str
    seeds: tuple[int, ...]
    times_s: Floats
    arrived: Floats
    down: tuple[tuple[float, float], ...]
    crawls: tuple[Crawl, ...]
    per_s: float
    start_s: Floats
    speed: Floats
    drift: Floats
    phase_s: Floats
    group: Group
    pods: Pods
    sight: Sight
    settings: tuple[Setting, ...]
    close_s: float | None
    slo_s: float


def build(scenario: Scenario, seeds: Sequence[int]) -> World:
    """Draw a world.

    Raises:
        ValueError: no seed is given.
    """
    if not seeds:
        raise ValueError("a world needs at least one seed")
    times_s = grid(scenario)
    drawn = [_draw(scenario, seed, times_s) for seed in seeds]
    outages = tuple((scenario.place(one), one) for one in scenario.outages)
    return World(
        name=scenario.name,
        seeds=tuple(seeds),
        times_s=times_s,
        arrived=np.stack([one.arrived for one in drawn], axis=1),
        down=tuple((from_s, from_s + one.for_s) for from_s, one in outages),
        crawls=tuple(
            Crawl(
                from_s=scenario.place(one),
                to_s=scenario.place(one) + one.for_s,
                per_s=one.per_s,
                partition=np.array([each.places[index] for each in drawn]),
            )
            for index, one in enumerate(scenario.poison)
        ),
        per_s=scenario.service.per_s,
        **batch([one.replicas for one in drawn]),
        group=scenario.group,
        pods=scenario.pods,
        sight=scenario.sight,
        settings=tuple(_setting(scenario, one.history) for one in drawn),
        close_s=scenario.close_s,
        slo_s=scenario.slo_s,
    )


def grid(scenario: Scenario) -> Floats:
    """Edges of the steps: chosen from the scenario alone, so that a seed's day does not depend on its batch."""
    steps = scenario.steps
    total_s = scenario.until_s - scenario.open_s
    spans = [(one.at_s, one.at_s) for one in traffic.prints(scenario, factor=1)]
    lasting: list[Lasting] = [*scenario.traffic.hot, *scenario.poison, *scenario.outages]
    spans += [(scenario.place(one), scenario.place(one) + one.for_s) for one in lasting]
    coarse = np.append(np.arange(0, total_s, steps.coarse_s), total_s)
    fine = np.arange(0, total_s, steps.fine_s)
    wanted = np.zeros(len(fine), dtype=bool)
    for from_s, to_s in spans:
        wanted |= (fine >= from_s - scenario.open_s - steps.before_s) & (fine <= to_s - scenario.open_s + steps.after_s)
    # Millisecond rounding makes the edges of both grids that mean the same one edge.
    edges = scenario.open_s + np.unique(np.round(np.concatenate((coarse, fine[wanted])), 3))
    return np.asarray(edges, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Replicas:
    """What is random about the replicas of one seed; the fields are those of `World`."""

    start_s: Floats
    speed: Floats
    drift: Floats
    phase_s: float


def draw_replicas(
    pods: Pods, service: Service, group: Group, seconds: float, starts: np.random.Generator, speeds: np.random.Generator
) -> Replicas:
    """Draw starts from one generator and speeds from another, so that slower starts change no speed."""
    sigma = math.log(pods.start_p95_s / pods.start_median_s) / NormalDist().inv_cdf(0.95)
    spans = math.ceil(seconds / DRIFT_S) + 1
    return Replicas(
        start_s=pods.start_median_s * starts.lognormal(0, sigma, DRAWS),
        speed=speeds.lognormal(-(service.between**2) / 2, service.between, DRAWS),
        drift=speeds.lognormal(-(service.within**2) / 2, service.within, (spans, group.max)),
        phase_s=float(speeds.uniform(0, group.commit_s)),
    )


class Batch(TypedDict):
    """Fields of `World` with the replicas of all seeds."""

    start_s: Floats
    speed: Floats
    drift: Floats
    phase_s: Floats


def batch(drawn: Sequence[Replicas]) -> Batch:
    """Put seeds side by side."""
    return {
        "start_s": np.stack([one.start_s for one in drawn]),
        "speed": np.stack([one.speed for one in drawn]),
        "drift": np.stack([one.drift for one in drawn]),
        "phase_s": np.array([one.phase_s for one in drawn]),
    }


@dataclass(frozen=True, slots=True)
class _Drawn:
    arrived: Floats
    replicas: Replicas
    places: list[int]
    history: tuple[RecordedSession, ...]


def _draw(scenario: Scenario, seed: int, times_s: Floats) -> _Drawn:
    """Each use has a generator of its own, so that a fault more does not change the traffic."""
    today, past, keys, service, pods, faults = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(6)
    )
    clock = traffic.Clock(scenario.open_s, scenario.close_s, scenario.until_s)
    share = traffic.shares(scenario, keys)
    partitions = scenario.group.partitions
    places = [int(faults.integers(partitions)) for _ in (*scenario.poison, *scenario.traffic.hot)]
    factor = scenario.traffic.today * math.prod(event.factor for event in scenario.events)
    outages = tuple((scenario.place(one), one) for one in scenario.outages)
    total = traffic.produced(scenario.traffic.base, traffic.prints(scenario, factor=factor), clock, today)
    hot = [
        (scenario.place(one), one, place)
        for one, place in zip(scenario.traffic.hot, places[len(scenario.poison) :], strict=True)
    ]
    curve = traffic.by_partition(traffic.appended(total, clock, outages), share, clock, hot)
    seconds = np.arange(len(curve), dtype=np.float64)
    return _Drawn(
        arrived=np.stack(
            [np.interp(times_s - scenario.open_s, seconds, curve[:, p]) for p in range(partitions)], axis=1
        ),
        replicas=draw_replicas(scenario.pods, scenario.service, scenario.group, clock.seconds, pods, service),
        places=places,
        history=_history(scenario, past),
    )


def _history(scenario: Scenario, random: np.random.Generator) -> tuple[RecordedSession, ...]:
    """Sessions before this one, with the bursts that recur, and the outliers that the scenario asks for."""
    past = scenario.history
    outliers = {one.session: one for one in past.outliers}
    days = list(islice(sessions(scenario.date, -1), past.sessions))[::-1]
    found = []
    for index, (day, close) in enumerate(days):
        usual = scenario.model_copy(update={"date": day, "close": f"{close:%H:%M}"})
        close_s = usual.at("close")
        clock = traffic.Clock(usual.open_s, close_s, usual.until_s)
        bursts = [one for one in traffic.prints(usual, factor=1) if one.burst.recurs]
        odd = outliers.get(index)
        if odd is not None:
            bursts = traffic.outlying(bursts, odd.factor)
        total = traffic.produced(scenario.traffic.base, bursts, clock, random)
        rates = traffic.recorded_rates(total, clock.open_s, close_s)
        found.append(RecordedSession(close_s, rates, event="" if odd is None else odd.event))
    return tuple(found)


def _setting(scenario: Scenario, history: tuple[RecordedSession, ...]) -> Setting:
    believed, group, close_s = scenario.believed, scenario.group, scenario.close_s
    around = [epoch_s(*next(sessions(scenario.date, step))) for step in (-1, 1)]
    factor = math.prod(event.factor for event in scenario.events)
    return Setting(
        partitions=group.partitions,
        min_replicas=group.min,
        max_replicas=group.max,
        burst_replicas=believed.burst_replicas,
        service_per_s=believed.service_per_s,
        start_s=scenario.pods.start_p95_s if believed.start_s is None else believed.start_s,
        pause_s=group.pause_s if believed.pause_s is None else believed.pause_s,
        closes_s=tuple(sorted([*around, *([] if close_s is None else [close_s])])),
        timetable_s=(epoch_s(scenario.date, USUAL_CLOSE),) if is_weekday(scenario.date) else (),
        events={close_s: factor} if close_s is not None and scenario.events else {},
        history=history,
    )
