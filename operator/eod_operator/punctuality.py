"""Whether each stage was ready for a close: what `status.lastClose` says.

It is kept pass by pass from the beginning of a close's window on, so that an operator that takes over goes on with it.
What happens between two passes counts as of the later one. Pods are ready when Kubernetes says so, and work once their
group has given them partitions, which Kafka alone knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from eod_operator import conditions
from eod_operator.api import CloseStage, LastClose, PipelineSpec, StageStatus
from eod_operator.scaling import BurstWindow


def last_close(
    window: BurstWindow,
    now_s: float,
    stages: Iterable[StageStatus],
    partitions: Mapping[str, int],
    previous: LastClose | None,
) -> LastClose | None:
    """The close whose window is on, else the one before, as far as it is known without a question to Kafka.

    Args:
        window: where now lies relative to the closes.
        now_s: now.
        stages: as they are now, with what they shall have for the close.
        partitions: that the replicas of a stage can share: more than that never have any.
        previous: what was said before.
    """
    if window.close_s is None:
        return previous
    at, after_s = conditions.rfc3339(window.close_s), now_s - window.close_s
    known = {one.name: one for one in previous.stages} if previous is not None and previous.at == at else {}
    told = []
    for stage in stages:
        one = known.get(stage.name)
        wanted = stage.forecast.replicas if stage.forecast is not None and after_s <= 0 else 0
        wanted = min(wanted, partitions.get(stage.name, wanted))
        if one is None and not wanted:
            continue
        if one is None or wanted > one.replicas:  # more than before: those have yet to come
            worst = None if one is None else one.worst_lag_seconds
            one = CloseStage(name=stage.name, replicas=wanted, worst_lag_seconds=worst)
        told.append(_now(one, stage, after_s))
    return LastClose(at=at, stages=tuple(told)) if told else previous


def _now(one: CloseStage, stage: StageStatus, after_s: float) -> CloseStage:
    ready = one.ready_seconds
    if ready is None and stage.ready >= one.replicas:
        ready = round(after_s)
    lags = [lag for lag in (one.worst_lag_seconds, stage.lag_seconds) if lag is not None]
    return one.model_copy(update={"ready_seconds": ready, "worst_lag_seconds": max(lags, default=None)})


def to_be_asked(spec: PipelineSpec, window: BurstWindow, told: LastClose | None) -> dict[str, str]:
    """Stages whose replicas are ready and may have no partitions yet, and their groups, about which to ask Kafka."""
    if window.close_s is None or told is None or told.at != conditions.rfc3339(window.close_s):
        return {}
    waiting = {one.name for one in told.stages if one.ready_seconds is not None and one.assigned_seconds is None}
    return {
        stage.name: stage.effective_group
        for stage in spec.stages
        if stage.name in waiting and stage.effective_group is not None
    }


def with_members(told: LastClose, now_s: float, members: Mapping[str, int]) -> LastClose:
    """The same, after Kafka has said how many members of a stage's group have partitions.

    Args:
        told: of the close whose window is on.
        now_s: now.
        members: of each stage that was asked about.
    """
    after_s = now_s - conditions.seconds(told.at)
    stages = [
        one.model_copy(update={"assigned_seconds": round(after_s)})
        if one.assigned_seconds is None and members.get(one.name, -1) >= one.replicas
        else one
        for one in told.stages
    ]
    return told.model_copy(update={"stages": tuple(stages)})


def at_the_bell(told: LastClose, consuming: frozenset[str]) -> tuple[bool, str]:
    """How it stood as the close began: whether a stage was late, and a sentence.

    Args:
        told: of that close.
        consuming: the stages whose replicas work once they have partitions.
    """
    late, punctual = [], []
    for one in told.stages:
        since = one.assigned_seconds if one.name in consuming else one.ready_seconds
        if since is not None and since <= 0:
            punctual.append(f"{one.name} had its {one.replicas} replicas at work {-since} s before")
        elif one.ready_seconds is not None and one.ready_seconds <= 0:
            late.append(f"{one.name} had its {one.replicas} replicas ready, and not all of them partitions")
        else:
            late.append(f"{one.name} lacked some of its {one.replicas} replicas")
    message = f"at the close of {told.at}: {'; '.join([*late, *punctual])}"
    if late:
        message += (
            ". To mend it, have them asked for earlier (spec.calendar.burst.leadSeconds), or see why pods start slowly"
        )
    return bool(late), message
