"""A study: one day, many policies, each baseline tuned on that very day if asked, and how ours compares.

Studies do not depend on each other, so they are spread over the machine's cores. A study is data alone, which can be
sent from one process to another and written out.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from eod_operator.simulate import policies, scenario, trace, tune
from eod_operator.simulate.bars import PRICE_HOURS_PER_S2, RIVAL, USUAL, Bars, bars, carried, price, summary
from eod_operator.simulate.baselines import BASELINES
from eod_operator.simulate.engine import Day, play
from eod_operator.simulate.metrics import NUMBERS, Metrics, lag_seconds, measure
from eod_operator.simulate.run import run_many
from eod_operator.simulate.scaler import Policy
from eod_operator.simulate.traffic import Floats
from eod_operator.simulate.tune import Tuned
from eod_operator.simulate.world import World, build

SCREENED = 6
"""Days on which every configuration is tried; those that no other beats there are played on all days."""
ROWS = 100
"""Days played at once when tuning: each step costs about the same for so many as for one, and memory is bounded."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to study.

    Attributes:
        scenario: name or file of a scenario, or a recording's file when `recorded`.
        names: of policies.
        seeds: days to play.
        tuned: whether baselines are tuned, and by the quick grid.
        quick: by the quick grid.
        settings: of our policy.
        recorded: whether `scenario` is a recording.
    """

    scenario: str
    names: tuple[str, ...]
    seeds: tuple[int, ...]
    tuned: bool = False
    quick: bool = False
    settings: tuple[str, ...] = ()
    recorded: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One policy of a study: which configuration is shown, and every seed of it."""

    name: str
    params: Mapping[str, object]
    metrics: tuple[Metrics, ...]

    @property
    def point(self) -> Tuned:
        """Its medians, to be compared with tuned ones."""
        return Tuned(self.params, *summary(self.metrics), metrics=())

    def median(self, number: str) -> float:
        """The median of one metric."""
        return float(median(getattr(one, number) for one in self.metrics))

    def medians(self) -> dict[str, float]:
        """Of all metrics."""
        return {number: self.median(number) for number in NUMBERS}


@dataclass(frozen=True, slots=True)
class Line:
    """One policy's day of one seed, to be drawn."""

    name: str
    lag_s: Floats
    asked: Floats


@dataclass(frozen=True, slots=True)
class Study:
    """What came of a job.

    Attributes:
        scenario: its name.
        about: what happens in it.
        seeds: played.
        entries: ours, and each baseline with its documented defaults or, when tuned, at its knee.
        tuned: by baseline, every configuration that was tried.
        bars: ours against the tuned rival; None when either is not part of the study.
        close_s: the close, None without one.
        times_s: edges of the drawn day, that of the first seed.
        arrival_per_s: of each of its steps.
        lines: what each policy did then.
    """

    scenario: str
    about: str
    seeds: tuple[int, ...]
    entries: tuple[Entry, ...]
    tuned: Mapping[str, tuple[Tuned, ...]]
    bars: Bars | None
    close_s: float | None
    times_s: Floats
    arrival_per_s: Floats
    lines: tuple[Line, ...]


def met(studies: Sequence[Study]) -> dict[str, float]:
    """By scenario, our price as a multiple of that of the rival tuned for the usual day; empty without such a study."""
    usual = next((one.tuned[RIVAL] for one in studies if one.scenario == USUAL and RIVAL in one.tuned), None)
    found = {}
    for one in studies:
        ours = next((entry.point for entry in one.entries if entry.name == policies.EOD), None)
        if usual is not None and ours is not None and RIVAL in one.tuned:
            rival = carried(usual, one.tuned[RIVAL])
            if rival is not None:
                found[one.scenario] = price(ours) / price(rival)
    return found


def size(job: Job) -> int:
    """How many days (batches of seeds) a job will play."""
    if not job.tuned:
        return len(job.names)
    grids = tune.QUICK_GRIDS if job.quick else tune.GRIDS
    return sum(len(grids[name]) + 1 if name in BASELINES else 1 for name in job.names)


def study(job: Job, progress: Callable[[], None] = lambda: None) -> Study:
    """Do it.

    Args:
        job: what.
        progress: called after each batch of seeds.

    Raises:
        ScenarioError: the scenario is wrong.
        SettingError: a policy or setting is.
    """
    world, about, more = _world(job)
    few = world if len(job.seeds) <= SCREENED else _world(replace(job, seeds=job.seeds[:SCREENED]))[0]
    tuned: dict[str, tuple[Tuned, ...]] = {}
    shown: list[tuple[Policy, Mapping[str, object]]] = [(one, {}) for one in more]
    for name in job.names:
        if job.tuned and name in BASELINES:
            tuned[name] = _tuned(world, few, name, quick=job.quick, progress=progress)
            best = tune.knee(tuned[name], price=PRICE_HOURS_PER_S2)
            shown.append((BASELINES[name](**best.params), best.params))
        else:
            shown.append((policies.find(name, job.settings), _said(job) if name == policies.EOD else {}))
    entries, lines, first = [], [], None
    for policy, params in shown:
        (days,) = play(world, (policy,))
        entries.append(Entry(policy.name, params, tuple(measure(world, day) for day in days)))
        first = days[0]
        lines.append(_line(policy.name, first))
        progress()
    ours = next((one for one in entries if one.name == policies.EOD), None)
    return Study(
        scenario=world.name,
        about=about,
        seeds=job.seeds,
        entries=tuple(entries),
        tuned=tuned,
        bars=None if ours is None or RIVAL not in tuned else bars(ours.point, tuned[RIVAL]),
        close_s=world.close_s,
        times_s=world.times_s,
        arrival_per_s=np.diff(world.arrived[:, 0].sum(axis=1)) / np.diff(world.times_s),
        lines=tuple(lines),
    )


def _world(job: Job) -> tuple[World, str, tuple[Policy, ...]]:
    if job.recorded:
        file = Path(job.scenario)
        recording = trace.read(file)
        about = f"Recorded at the close of {recording.close:%Y-%m-%d %H:%M %Z}."
        return trace.world(recording, file.stem, job.seeds), about, (trace.Recorded.of(recording),)
    found = scenario.find(job.scenario)
    return build(found, job.seeds), found.about, ()


def _said(job: Job) -> Mapping[str, object]:
    parts = (one.partition("=") for one in job.settings)
    return {name: value for name, _, value in parts}


def _tuned(world: World, few: World, name: str, *, quick: bool, progress: Callable[[], None]) -> tuple[Tuned, ...]:
    grid = (tune.QUICK_GRIDS if quick else tune.GRIDS)[name]
    results = _batches(few, [BASELINES[name](**params) for params in grid])
    # Tuning asks for one configuration after the other in the grid's order; they were played many at a time.
    found = tune.tune(name, lambda _: next(results), quick=quick, measure=summary, progress=progress)
    if few is not world:
        best = [*tune.front(found), tune.knee(found, price=PRICE_HOURS_PER_S2)]
        again = _batches(world, [BASELINES[name](**one.params) for one in best])
        known = {id(one): Tuned(one.params, *summary(next(again)), metrics=()) for one in best}
        found = [known.get(id(one), one) for one in found]
    # Plain dictionaries, which can be sent to another process, and no seeds, which would be many.
    return tuple(replace(one, params=dict(one.params), metrics=()) for one in found)


def _batches(world: World, chosen: Sequence[Policy]) -> Iterator[list[Metrics]]:
    at_a_time = max(1, ROWS // len(world.seeds))
    for first in range(0, len(chosen), at_a_time):
        yield from run_many(world, chosen[first : first + at_a_time])


def _line(name: str, day: Day) -> Line:
    return Line(name, lag_seconds(day), np.asarray(day.asked, dtype=np.float64))


def studies(jobs: Sequence[Job], progress: Callable[[int], None], *, workers: int | None = None) -> Iterator[Study]:
    """Do all jobs, on all cores, each as it is ready.

    Args:
        jobs: what.
        progress: called with how many batches have been played since the last call.
        workers: processes; as many as there are cores unless said.

    Raises:
        ScenarioError: a scenario is wrong.
        SettingError: a policy or setting is.
    """
    workers = min(workers or len(os.sched_getaffinity(0)), len(jobs))
    if workers <= 1:
        for job in jobs:
            yield study(job, lambda: progress(1))
        return
    # Spawned, not forked: the caller draws a progress bar from a thread.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        with _uninterrupted():
            # The largest first, so that no core idles at the end.
            running = {pool.submit(study, job): job for job in sorted(jobs, key=size, reverse=True)}
        for done in as_completed(running):
            progress(size(running[done]))
            yield done.result()
    except BaseException:
        _end(pool)
        raise
    pool.shutdown()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Processes that are started meanwhile leave Ctrl-C to us, who end them; it reaches all processes of a terminal.

    They inherit that it is held back. Here it comes when this ends: it is late, and not lost. To hold it back in this
    thread is not enough for that: any other thread takes it, and Python raises it in the main one.
    """
    came: list[int] = []
    mine = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number)) if mine else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if mine:
            signal.signal(signal.SIGINT, handler)
    for number in came:
        signal.raise_signal(number)


def _end(pool: ProcessPoolExecutor) -> None:
    """End at once: a study takes up to a minute, and nobody waits for it any more."""
    for process in list((pool._processes or {}).values()):  # noqa: SLF001 - Python has kill_workers from 3.14 on
        process.kill()
    pool.shutdown(cancel_futures=True)
