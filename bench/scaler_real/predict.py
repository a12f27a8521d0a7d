"""The simulator's prediction of a recorded close: the same arrivals, starts and settings, and its own policies.

What arrived and when the controller looked is taken from the recording; who scales, how pods start, how a group
rebalances and how records flow is the simulator's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from eod_operator.simulate import policies, scenario
from eod_operator.simulate.baselines import BASELINES
from eod_operator.simulate.engine import Day, play
from eod_operator.simulate.scaler import Policy, Setting
from eod_operator.simulate.world import DRAWS, DRIFT_S, World

from scaler_real.close import Close
from scaler_real.figures import Curves, delayed
from scaler_real.recording import EVERY_S

SLO_S = 5.0
HPA_SYNC_S = 15.0


@dataclass(frozen=True, slots=True)
class Group:
    """What a rebalance cost, as it was measured.

    Attributes:
        pause_s: how long a member stood still that was in the group before.
        wait_s: how long a new member waited for its assignment.
        beat_s: new members came when the time of day was a multiple of it; 0 is at once.
    """

    pause_s: float
    wait_s: float
    beat_s: float


def world(close: Close, curves: Curves, close_s: float, group: Group) -> World:
    """The recorded close as a world of one seed; a start lasts until the pod consumes, so it has the wait in it.

    With a beat the simulator lets pods join just then, and there is no place for a wait behind it: it is left out.
    """
    wait_s = 0.0 if group.beat_s else group.wait_s
    spans = math.ceil(close.length_s / DRIFT_S) + 2
    setting = Setting(
        partitions=close.partitions,
        min_replicas=close.least,
        max_replicas=close.most,
        burst_replicas=close.burst,
        service_per_s=None,
        start_s=close.start_p95_s + group.wait_s + group.beat_s,
        pause_s=group.pause_s,
        closes_s=(close_s,),
        timetable_s=(close_s,),
    )
    return World(
        name="recorded",
        seeds=(close.seed,),
        times_s=curves.times_s,
        arrived=curves.arrived[:, None, :],
        down=(),
        crawls=(),
        per_s=close.replica_per_s,
        start_s=wait_s + np.fromiter(islice(close.starts_s(), DRAWS), dtype=np.float64)[None, :],
        speed=np.ones((1, DRAWS)),
        drift=np.ones((1, spans, close.most)),
        phase_s=np.zeros(1),
        group=scenario.Group(
            partitions=close.partitions,
            min=close.least,
            max=close.most,
            pause_s=group.pause_s,
            commit_s=close.commit_s,
            beat_s=group.beat_s,
        ),
        pods=scenario.Pods(start_median_s=close.start_median_s, start_p95_s=close.start_p95_s, stop_s=0),
        sight=scenario.Sight(),
        settings=(setting,),
        close_s=close_s,
        slo_s=SLO_S,
    )


def policy(name: str, settings: Mapping[str, Any]) -> Policy:
    """The simulator's policy with a candidate's settings."""
    if name == policies.EOD:
        known = {key: value for key, value in settings.items() if key in policies.SETTINGS}
        return policies.find(name, [f"{key}={json.dumps(value)}" for key, value in known.items()])
    renamed = {"down_stabilization_s" if key == "stabilization_s" else key: value for key, value in settings.items()}
    return BASELINES[name](**renamed)


def simulate(close: Close, real: Curves, close_s: float, group: Group, who: Policy) -> tuple[World, Curves]:
    """Play the recorded arrivals; the first decision is made when the real controller made one."""
    late = _phase(real)
    started = Curves(
        times_s=real.times_s[late:],
        arrived=real.arrived[late:] - real.committed[late],
        committed=real.committed[late:] - real.committed[late],
        asked=real.asked[late:],
        members=real.members[late:],
        rebalances=real.rebalances,
        ended=real.ended,
    )
    made = world(close, started, close_s, group)
    day: Day = play(made, [who])[0][0]
    done = delayed(day.times_s, day.done, close.commit_s)
    return made, _padded(real, late, done, day)


def _phase(real: Curves) -> int:
    """How many looks after the begin the controller synced, told by when it changed the count first."""
    changes = np.flatnonzero(np.diff(real.asked))
    if not len(changes):
        return 0
    since_s = float(real.times_s[changes[0] + 1] - real.times_s[0])
    return round((since_s % HPA_SYNC_S) / EVERY_S)


def _padded(real: Curves, late: int, done: np.ndarray[Any, np.dtype[np.float64]], day: Day) -> Curves:
    """On the grid of the recording: before its first decision the simulated day is the real one."""
    committed = np.concatenate((real.committed[:late], done + real.committed[late]))

    def steps(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.concatenate((before[:late], after, after[-1:])).astype(np.float64)

    return Curves(
        times_s=real.times_s,
        arrived=real.arrived,
        committed=np.minimum(committed, real.arrived),
        asked=steps(real.asked, day.asked),
        members=steps(real.members, day.members),
        rebalances=day.rebalances,
        ended=day.ended,
    )
