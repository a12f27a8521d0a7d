"""The status in words: conditions, phase, and what is worth writing at all."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from eod_operator.api import Condition, Phase, PipelineStatus, StageStatus
from eod_operator.api.spec import Mode
from eod_operator.api.status import MESSAGE_LENGTH

TRUE: Literal["True"] = "True"
FALSE: Literal["False"] = "False"
UNKNOWN: Literal["Unknown"] = "Unknown"

DEGRADING = (
    "SpecValid",
    "ReferencesFound",
    "ObjectsApplied",
    "KafkaReachable",
    "TopicsReady",
    "PodsHealthy",
    "ClusterInView",
)
"""Conditions that Degraded sums up, the gravest first; LagKnown is missing, for a new group has no lag yet."""
TOLD = (*DEGRADING, "RecordsKept", "CalendarReaches")
"""Conditions that are worth an Event when they become False; of the last two nothing is degraded now."""
SUMMARIES = ("Ready", "Progressing", "Degraded", "ForecastReady", "ScalingLimited", "WithinBudget", "Paused")
"""Conditions that answer an operator's first questions; they come first."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A condition without its times."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that went wrong with one thing: a CamelCase word and a sentence."""

    reason: str
    message: str


def answer(kind: str, problems: Sequence[Problem], good: Problem) -> Answer:
    """False with all problems in one message (and the first one's reason), or True."""
    if not problems:
        return Answer(kind, TRUE, good.reason, good.message)
    return Answer(kind, FALSE, problems[0].reason, "; ".join(problem.message for problem in problems))


def degraded(answers: Iterable[Answer]) -> Answer:
    """True with the first thing that needs attention, and all of them in one message."""
    wrong = [one for one in _ordered(answers) if one.status == FALSE]
    if not wrong:
        return Answer("Degraded", FALSE, "AllIsWell", "nothing needs attention")
    return Answer("Degraded", TRUE, wrong[0].reason, "; ".join(one.message for one in wrong))


def ready(answers: Iterable[Answer], stages: Sequence[StageStatus]) -> Answer:
    """Sum up: the first thing that is wrong, else the stages that lack ready replicas, else all is well."""
    wrong = next((one for one in _ordered(answers) if one.status == FALSE), None)
    if wrong is not None:
        return Answer("Ready", FALSE, wrong.reason, wrong.message)
    lacking = [f"{one.name} {one.ready}/{one.current}" for one in stages if one.ready < one.current]
    if lacking:
        return Answer("Ready", FALSE, "StagesNotReady", f"ready replicas are missing: {', '.join(lacking)}")
    return Answer("Ready", TRUE, "AllStagesReady", "every stage has its replicas, and they are ready")


def _ordered(answers: Iterable[Answer]) -> list[Answer]:
    by_type = {one.type: one for one in answers}
    return [by_type[kind] for kind in DEGRADING if kind in by_type]


def phase(mode: Mode, answers: Iterable[Answer], stages: Sequence[StageStatus], *, bursting: bool) -> Phase:
    """The pipeline in one word; what needs attention comes before what is merely going on."""
    if mode != "Auto":
        return mode
    if any(one.status == FALSE for one in _ordered(answers)):
        return "Degraded"
    if bursting:
        return "Bursting"
    if any(one.ready == 0 and one.current > 0 for one in stages):
        return "Pending"
    return "Running"


def _cut(message: str) -> str:
    """A message that fits: sixteen stages may each have a long one."""
    return message if len(message) <= MESSAGE_LENGTH else message[: MESSAGE_LENGTH - 1] + "…"


def transition(
    answers: Iterable[Answer], previous: Iterable[Condition], *, generation: int, now: str
) -> tuple[Condition, ...]:
    """Give each answer its time: that of the last change of its status, not of its wording."""
    before = {condition.type: condition for condition in previous}
    conditions = []
    for one in answers:
        old = before.get(one.type)
        since = old.last_transition_time if old is not None and old.status == one.status else now
        conditions.append(
            Condition(
                type=one.type,
                status=one.status,
                reason=one.reason,
                message=_cut(one.message),
                last_transition_time=since,
                observed_generation=generation,
            )
        )
    return tuple(conditions)


def worsened(conditions: Iterable[Condition], previous: Iterable[Condition]) -> list[Condition]:
    """Conditions of what people should hear of that have just become False for a new reason: each is worth an Event."""
    before = {condition.type: (condition.status, condition.reason) for condition in previous}
    return [
        one
        for one in conditions
        if one.type in TOLD and one.status == FALSE and before.get(one.type) != (one.status, one.reason)
    ]


def total(lags: Iterable[int | None]) -> int | None:
    """Sum of the lags that are known; None when none is."""
    known = [lag for lag in lags if lag is not None]
    return sum(known) if known else None


def rfc3339(at_s: float) -> str:
    """A time as Kubernetes writes it."""
    return datetime.fromtimestamp(at_s, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(at: str) -> float:
    """The same time as a number: seconds since 1970."""
    return datetime.fromisoformat(at).timestamp()


def dump(status: PipelineStatus) -> dict[str, object]:
    """A status as it is sent: what is unknown is absent."""
    return status.model_dump(by_alias=True, exclude_none=True, mode="json")


def pack(status: Mapping[str, object] | None) -> bytes:
    """A status as it is kept: a thousand of them, most of the time for nothing."""
    return zlib.compress(json.dumps(status).encode(), 1) if status else b""


def read(packed: bytes) -> PipelineStatus | None:
    """A status as it was stored; None when there is none, or one that this version cannot read."""
    try:
        return PipelineStatus.model_validate_json(zlib.decompress(packed)) if packed else None
    except ValueError:
        return None
