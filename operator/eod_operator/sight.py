"""What a pass makes of what it sees: pure functions between the pass and the decision."""

from __future__ import annotations

from collections.abc import Iterator

from eod_operator.api import PipelineSpec, StageSpec, Topic
from eod_operator.conditions import Problem
from eod_operator.kafka.readings import Reading, Wanted
from eod_operator.passes import Pass
from eod_operator.scaling import Overrides

SKEW_S = 10.0
"""A clock further than this from the API server's is reported, and nothing is lowered by it."""
SILENT_S = 300.0
"""Watches that have been silent for longer show the cluster as it was: nothing is lowered by it."""
_TOPIC = "topic/"
"""Begins the names under which planned topics are looked at; no stage's name has a slash."""


def wanted(spec: PipelineSpec) -> dict[str, Wanted]:
    """What to look at in Kafka: the stages by name, and each planned topic."""
    return {
        **{stage.name: Wanted(stage.effective_topics, stage.effective_group) for stage in spec.stages},
        **{_TOPIC + topic.name: Wanted((topic.name,), None) for topic in spec.topics},
    }


def surroundings(skew_s: float, silent_s: float, problem: str | None) -> list[Problem]:
    """What is wrong with the operator's own view.

    Args:
        skew_s: how far our clock is ahead of the API server's.
        silent_s: how long a watch has been silent.
        problem: why a kind cannot be read.
    """
    problems = []
    if abs(skew_s) > SKEW_S:
        where = "ahead of" if skew_s > 0 else "behind"
        problems.append(
            Problem(
                "ClockSkew",
                f"the operator's clock is more than {SKEW_S:g} s {where} the API server's, so closes come at the wrong "
                "time and nothing is lowered: mend time synchronization (NTP) on the operator's node",
            )
        )
    if silent_s > SILENT_S:
        problems.append(
            Problem(
                "WatchSilent",
                f"the API server's watches have been silent for over {SILENT_S:g} s, so nothing is lowered: check the "
                "API server and the network between; the operator reconnects by itself",
            )
        )
    if problem is not None:
        problems.append(Problem("WatchRefused", problem))
    return problems


def overrides(work: Pass, stage: StageSpec) -> Overrides:
    """What holds for a stage besides its policy; a freeze holds what is there, and does not keep a stage from being."""
    hold = work.orders.hold_down
    if hold is None and work.surroundings:
        hold = "the operator does not trust its view of the cluster (see the condition ClusterInView)"
    exists = work.deployment(stage) is not None
    return Overrides(
        frozen=work.orders.frozen if exists else None, pinned=work.orders.pinned.get(stage.name), hold_down=hold
    )


def references(work: Pass, stage: StageSpec, *, bursting: bool) -> str:
    """Digest of the referred contents that the stage's pods shall be made with.

    What it already has, while something is missing (pods that run are better than pods that cannot start) or cannot be
    read, and during a burst (a rotated password must not restart every worker at the close), which the pass notes.
    """
    new, found = work.referred.digest, work.deployment(stage)
    if found is None or found.references == new:
        return new
    if work.referred.missing or work.referred.unknown:
        return found.references
    if bursting:
        work.deferred.add(stage.name)
        return found.references
    return new


def outcome(work: Pass, stage: StageSpec, replicas: int) -> str:
    """What became of a decision."""
    if work.spec.mode != "Auto":
        return f"not carried out: spec.mode is {work.spec.mode}"
    if stage.paused:
        return "not carried out: the stage is paused"
    if stage.name in work.autoscalers:
        other = work.autoscalers[stage.name]
        return f"not carried out: {other.kind} {other.name} scales it"
    return "applied" if work.current(stage) == replicas else "failed: see the condition ObjectsApplied"


def absent(work: Pass, topic: Topic) -> bool:
    """Whether a planned topic does not exist."""
    return bool(work.look.readings.get(_TOPIC + topic.name, Reading()).missing)


def unlike(work: Pass, topic: Topic, retention_ms: int | None) -> Iterator[Problem]:
    """How an existing topic differs from what is planned; `retention_ms` is None when it is not known."""
    partitions = work.look.readings.get(_TOPIC + topic.name, Reading()).partitions
    if topic.partitions is not None and partitions is not None and partitions != topic.partitions:
        yield Problem(
            "TopicDiffers",
            f"topic {topic.name} has {partitions} partitions where spec.topics says {topic.partitions}: correct the "
            "spec, or make a new topic and move to it; adding partitions would move keys between workers",
        )
    planned_ms = None if topic.retention_hours is None else topic.retention_hours * 3_600_000
    if planned_ms is not None and retention_ms is not None and retention_ms != planned_ms:
        yield Problem(
            "TopicDiffers",
            f"topic {topic.name} has retention.ms={retention_ms} where spec.topics says {topic.retention_hours} hours "
            f"({planned_ms}): correct the spec, or set it with kafka-configs --alter --entity-type topics "
            f"--entity-name {topic.name} --add-config retention.ms={planned_ms}",
        )
