"""What one pass saw and did, and the status that says so: pure once the pass is over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from eod_operator import conditions
from eod_operator.api import PipelineSpec, PipelineStatus, StageSpec, StageStatus
from eod_operator.conditions import Answer, Problem
from eod_operator.lag import Reading
from eod_operator.resources import Owner, object_name
from eod_operator.scaling import History
from eod_operator.sizing import Sizes

Manifest = dict[str, Any]
Objects = dict[tuple[str, str], Manifest]
"""Objects of the cluster by kind and name."""


@dataclass(slots=True)
class Memory:
    """What a pass leaves for the next one.

    Attributes:
        histories: past recommendations of each stage.
        readings: the last look at Kafka that succeeded, and its time.
        applied: per object the digest that was applied and the version that it had afterwards.
        status: as last written.
    """

    histories: dict[str, History] = field(default_factory=dict)
    readings: dict[str, Reading] = field(default_factory=dict)
    read_at_s: float = 0.0
    applied: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    status: PipelineStatus | None = None


@dataclass(slots=True)
class Pass:
    """One pass in the making."""

    owner: Owner
    generation: int
    spec: PipelineSpec
    previous: PipelineStatus | None
    live: Objects
    now_s: float
    kafka_problem: Problem | None = None
    problems: list[Problem] = field(default_factory=list)
    scaled: set[str] = field(default_factory=set)

    def replicas(self, stage: StageSpec) -> int:
        """Replicas that the stage's own Deployment asks for; 0 without one."""
        found = self.live.get(("Deployment", object_name(self.owner, stage.name)))
        return int(found["spec"].get("replicas", 1)) if found is not None and self.owner.owns(found) else 0

    def ready(self, stage: StageSpec) -> int:
        """Ready replicas of the stage's own Deployment."""
        found = self.live.get(("Deployment", object_name(self.owner, stage.name)))
        owned = found is not None and self.owner.owns(found)
        return int(found.get("status", {}).get("readyReplicas", 0)) if found is not None and owned else 0


def status_of(work: Pass, sizes: Sizes, memory: Memory) -> PipelineStatus:
    """The status after a pass."""
    now = conditions.rfc3339(work.now_s)
    stages = tuple(_stage_status(work, sizes, memory, stage, now) for stage in work.spec.stages)
    answers = _answers(work, sizes, memory)
    answers.insert(0, conditions.ready(answers, stages))
    next_close_s = sizes.window.next_close_s
    before = work.previous.conditions if work.previous else ()
    return PipelineStatus(
        observed_generation=work.generation,
        phase=conditions.phase(work.spec.mode, answers, stages, bursting=sizes.window.active),
        next_close=None if next_close_s is None else conditions.rfc3339(next_close_s),
        lag=conditions.total(stage.lag for stage in stages),
        replicas=sum(stage.replicas for stage in stages),
        conditions=conditions.transition(answers, before, generation=work.generation, now=now),
        stages=stages,
    )


def _stage_status(work: Pass, sizes: Sizes, memory: Memory, stage: StageSpec, now: str) -> StageStatus:
    decision = sizes.decisions[stage.name]
    old = {one.name: one for one in work.previous.stages} if work.previous else {}
    last = old[stage.name].last_scale_time if stage.name in old else None
    reading = memory.readings.get(stage.name, Reading())
    believed = work.now_s - memory.read_at_s <= work.spec.scaling.stale_after_seconds
    return StageStatus(
        name=stage.name,
        replicas=work.replicas(stage),
        desired=decision.replicas,
        ready=work.ready(stage),
        lag=sum(reading.lag) if believed and reading.lag is not None else None,
        reason=f"paused; otherwise {decision.reason}" if stage.paused else decision.reason,
        last_scale_time=now if stage.name in work.scaled else last,
    )


def _answers(work: Pass, sizes: Sizes, memory: Memory) -> list[Answer]:
    """The conditions that Ready is summed up from."""
    calendar = [Problem("InvalidCalendar", sizes.calendar_problem)] if sizes.calendar_problem else []
    kafka = [work.kafka_problem] if work.kafka_problem else []
    return [
        conditions.answer("SpecValid", calendar, Problem("Valid", "the spec is valid and its calendar is known")),
        conditions.answer("ObjectsApplied", work.problems, Problem("Applied", "every object is as it should be")),
        conditions.answer("KafkaReachable", kafka, Problem("Reachable", "Kafka answers")),
        *_kafka_answers(work, memory),
    ]


def _kafka_answers(work: Pass, memory: Memory) -> list[Answer]:
    """What Kafka says of the stages' topics and groups."""
    if work.kafka_problem:
        message = "unknown until Kafka answers"
        return [Answer(kind, "Unknown", "KafkaUnreachable", message) for kind in ("TopicsReady", "LagKnown")]
    missing, waiting = [], []
    for stage in work.spec.stages:
        seen, group = memory.readings.get(stage.name, Reading()), stage.effective_group
        if seen.missing:
            missing.append(f"topic {', '.join(seen.missing)} of stage {stage.name}")
        elif group is not None and seen.lag is None:
            waiting.append(f"group {group} of stage {stage.name}")
    return [_topics_ready(missing, work.spec.kafka.bootstrap_servers), _lag_known(waiting)]


def _topics_ready(missing: list[str], address: str) -> Answer:
    if not missing:
        return Answer("TopicsReady", "True", "Present", "every topic exists")
    return Answer(
        "TopicsReady",
        "False",
        "TopicMissing",
        f"not found at {address}: {'; '.join(missing)}. Create it, or correct the stage's topics; "
        "replicas are held until then",
    )


def _lag_known(waiting: list[str]) -> Answer:
    if not waiting:
        return Answer("LagKnown", "True", "Known", "every group's lag is known")
    return Answer(
        "LagKnown",
        "False",
        "GroupUnknown",
        f"nothing committed yet: {'; '.join(waiting)}. Lag counts from the first commit on; replicas are held",
    )
