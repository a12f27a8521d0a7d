"""From what was seen to numbers, by the simulator's own metrics: both sides are measured with the same rod.

A record counts as processed when it is committed, for that is what can be seen from outside. The simulator knows the
moment of processing, so its curve is delayed by what commits cost on average before the two are compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from eod_operator.simulate.engine import Day
from eod_operator.simulate.metrics import Metrics, lag_seconds, measure
from eod_operator.simulate.traffic import Floats
from eod_operator.simulate.world import World

from scaler_real.recording import EVERY_S, Recording

NUMBERS = (
    *("max_lag", "lag_integral", "max_lag_s", "lateness_s2", "p99_age_s", "late_s", "drain_s"),
    *("replica_s", "changes", "rebalances", "unfinished"),
)


@dataclass(frozen=True, slots=True)
class Curves:
    """One close, real or simulated, on an even grid of time.

    Attributes:
        times_s: epoch seconds.
        arrived: [times, partitions], records in the log.
        committed: [times, partitions].
        asked: [times], replicas asked for.
        members: [times], replicas in the group.
        rebalances: how many there were after the first assignment.
        ended: pods that were ended.
    """

    times_s: Floats
    arrived: Floats
    committed: Floats
    asked: Floats
    members: Floats
    rebalances: int
    ended: int

    @property
    def lag(self) -> Floats:
        """Records, of all partitions."""
        lag: Floats = (self.arrived - self.committed).sum(axis=1)
        return lag

    @property
    def lag_s(self) -> Floats:
        """Age of the oldest record that is not committed."""
        return lag_seconds(self._day())

    def _day(self) -> Day:
        steps = len(self.times_s) - 1
        asked = self.asked[:-1].astype(np.int32)
        return Day(
            policy="",
            seed=0,
            times_s=self.times_s,
            arrived=self.arrived,
            done=self.committed,
            asked=asked,
            members=self.members[:-1].astype(np.int32),
            owners=np.zeros((steps, self.arrived.shape[1]), dtype=np.int32),
            hidden_s=0.0,
            hidden_s2=0.0,
            changes=int(np.count_nonzero(np.diff(asked))),
            ended=self.ended,
            rebalances=self.rebalances,
            moved=0,
        )

    def metrics(self, world: World) -> dict[str, float]:
        """The numbers of the table."""
        found: Metrics = measure(world, self._day())
        return {
            "max_lag": float(self.lag.max()),
            "lag_integral": float(np.trapezoid(self.lag, self.times_s)),
            **{name: float(getattr(found, name)) for name in NUMBERS if hasattr(found, name)},
            "replica_s": found.replica_hours * 3600,
        }


def seen(recording: Recording) -> Curves:
    """What was recorded, on the grid; replicas are those of the last look."""
    at_s = np.asarray(recording.at_s)
    times_s = np.arange(np.ceil(at_s[0] / EVERY_S) * EVERY_S, at_s[-1], EVERY_S)
    last = np.searchsorted(at_s, times_s, side="right") - 1

    def line(values: list[list[int]]) -> Floats:
        rows = np.maximum.accumulate(np.asarray(values, dtype=np.float64), axis=0)
        return np.stack([np.interp(times_s, at_s, column) for column in rows.T], axis=1)

    arrived = line(recording.ends)
    return Curves(
        times_s=times_s,
        arrived=arrived,
        committed=np.minimum(line(recording.committed), arrived),
        asked=np.asarray(recording.asked, dtype=np.float64)[last],
        members=np.asarray(recording.members, dtype=np.float64)[last],
        rebalances=len(generations(recording)),
        ended=sum(max(0, before - after) for before, after in pairwise(recording.asked)),
    )


def generations(recording: Recording) -> dict[int, tuple[float, float]]:
    """By generation of the group: when its first member had an assignment, and its last; of rebalances under load."""
    found: dict[int, list[float]] = {}
    for pod in recording.pods:
        for event in pod["events"]:
            if event["event"] == "assigned" and recording.at_s[0] <= event["at_s"] <= recording.at_s[-1]:
                found.setdefault(int(event["generation"]), []).append(float(event["at_s"]))
    return {generation: (min(times), max(times)) for generation, times in sorted(found.items())}


def pauses_s(recording: Recording) -> list[float]:
    """How long each member stood still in each rebalance: from giving up its partitions until it had some again."""
    found = []
    for pod in recording.pods:
        gave_up_s: float | None = None
        for event in pod["events"]:
            if event["event"] == "revoked":
                gave_up_s = float(event["at_s"])
            elif event["event"] == "assigned" and gave_up_s is not None:
                found.append(float(event["at_s"]) - gave_up_s)
                gave_up_s = None
    return found


def waits_s(recording: Recording) -> list[float]:
    """How long each member waited from asking to join until it had an assignment."""
    found = []
    for pod in recording.pods:
        asked_s: float | None = None
        for event in pod["events"]:
            if event["event"] == "joining":
                asked_s = float(event["at_s"])
            elif event["event"] == "assigned" and asked_s is not None:
                found.append(float(event["at_s"]) - asked_s)
                asked_s = None
    return found


def delayed(times_s: Floats, done: Floats, commit_s: float) -> Floats:
    """What is committed of what is done, when replicas commit at moments of their own: the mean over one interval."""
    window = _window(times_s, commit_s)
    padded = np.concatenate((np.repeat(done[:1], window, axis=0), done))
    weights = np.ones(window + 1)
    weights[[0, -1]] = 0.5  # trapezoids, so that the mean delay is half an interval
    mean: Floats = sum(
        (weight * padded[window - back : len(padded) - back] for back, weight in enumerate(weights)),
        np.zeros_like(done),
    )
    return mean / window


def smoothed(times_s: Floats, line: Floats, commit_s: float) -> Floats:
    """The mean over one commit interval around each moment: when within it a replica commits is chance."""
    half = _window(times_s, commit_s) // 2
    padded = np.concatenate((np.repeat(line[:1], half), line, np.repeat(line[-1:], half)))
    mean: Floats = np.convolve(padded, np.full(2 * half + 1, 1 / (2 * half + 1)), mode="valid")
    return mean


def _window(times_s: Floats, commit_s: float) -> int:
    return max(1, round(commit_s / float(times_s[1] - times_s[0])))


def disagreement(real: Curves, simulated: Curves, commit_s: float) -> dict[str, float]:
    """Of two lag curves on the same grid, as shares of the real one: area between them, area, peak, replica-seconds.

    Both are means over a commit interval, since the moment at which a replica commits within it is not predicted.
    """
    measured, said = (smoothed(one.times_s, one.lag, commit_s) for one in (real, simulated))
    area = float(np.trapezoid(measured, real.times_s))
    between = float(np.trapezoid(np.abs(measured - said), real.times_s))
    asked, would = float(real.asked.sum()), float(simulated.asked.sum())
    return {
        "curve": between / area,
        "integral": abs(float(np.trapezoid(said, real.times_s)) - area) / area,
        "peak": abs(float(said.max()) - float(measured.max())) / float(measured.max()),
        "replica_s": abs(would - asked) / asked,
    }
