"""One pass over one pipeline: what it sees, what it decides, what it runs into; and what it leaves for the next."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from eod_operator.api import PipelineSpec, StageSpec
from eod_operator.conditions import Problem
from eod_operator.decisions import DecisionLog
from eod_operator.index import Autoscaler
from eod_operator.kafka.readings import Look, Reading
from eod_operator.learning import Learning
from eod_operator.live import Live
from eod_operator.orders import Orders
from eod_operator.references import Referred
from eod_operator.resources import Owner, object_name
from eod_operator.scaling import History, Signals


@dataclass(frozen=True, slots=True)
class Pipeline:
    """An EodPipeline as last seen.

    Attributes:
        owner: its identity.
        generation: of its spec.
        version: its resourceVersion.
        content: its spec, packed; empty when it cannot be read.
        wrong: why it cannot be read, in sentences; empty when it can.
        newer: paths of fields that only a newer CRD has; the spec is without them.
        annotations: those of eod.markets.
        status: as stored, packed; empty when there is none.
        deleting: whether it is being deleted.
    """

    owner: Owner
    generation: int
    version: int
    content: bytes
    wrong: str = ""
    newer: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    status: bytes = b""
    deleting: bool = False

    @property
    def spec(self) -> PipelineSpec | None:
        """Its spec; None when it cannot be read."""
        return _unpacked(self.content) if self.content else None


def packed(spec: PipelineSpec) -> bytes:
    """A spec as it is kept: a thousand of them, each looked at for a moment every few seconds."""
    return zlib.compress(spec.model_dump_json(by_alias=True, exclude_none=True).encode(), 1)


@lru_cache(maxsize=64)
def _unpacked(content: bytes) -> PipelineSpec:
    return PipelineSpec.model_validate_json(zlib.decompress(content))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the last pass saw and decided, as much as metrics show.

    Attributes:
        generation: of the spec that it carried out.
        referred: what the spec's ConfigMaps and Secrets were like.
        stages: name, desired, current and ready replicas of each.
    """

    generation: int
    referred: Referred
    stages: tuple[tuple[str, int, int, int], ...]


@dataclass(slots=True)
class Memory:
    """What a pass leaves for the next one; losing it costs requests, never a decision.

    Attributes:
        histories: past recommendations of each stage.
        applied: per object the digest that was applied and the state that it had afterwards.
        plans: per stage what its objects were made from, and their kinds, names and digests.
        status: as last written, packed; None before anything was.
        version: of the pipeline after our last write.
        written_at_s: when the status was last written.
        decisions: the last ones, None until they have been read.
        decisions_at_s: when they were last written.
        lacking_since_s: since when each stage has lacked pods that should serve.
        learnings: what was learned of each stage that consumes; None until it has been read.
        learned_at_s: when that was last written.
        diagnosed: what the pods of each stage told, and when they were asked.
        close_told: the close of which it was told how it was met.
    """

    histories: dict[str, History] = field(default_factory=dict)
    applied: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    plans: dict[str, tuple[object, tuple[tuple[str, str, str], ...]]] = field(default_factory=dict)
    status: bytes | None = None
    version: int = 0
    written_at_s: float = 0.0
    decisions: DecisionLog | None = None
    decisions_at_s: float = 0.0
    learnings: dict[str, Learning] | None = None
    learned_at_s: float = 0.0
    lacking_since_s: dict[str, float] = field(default_factory=dict)
    diagnosed: dict[str, tuple[float, Problem | None]] = field(default_factory=dict)
    close_told: str = ""


@dataclass(slots=True)
class Pass:
    """One pass in the making.

    Attributes:
        pipeline: whose spec is being carried out.
        spec: its spec.
        live: its objects by kind and name, as they were.
        look: what Kafka said last.
        orders: what the annotations say.
        referred: what the spec's ConfigMaps and Secrets are like.
        autoscalers: who else scales each stage.
        now_s: the time of the pass.
        surroundings: what is wrong with the operator's own view: its clock, its watches.
        topics: what is wrong with topics, besides missing ones.
        problems: objects that could not be brought about.
        scaled: stages whose count was changed, with the count before.
        deferred: stages whose pods will be rolled after the burst.
        met: whether something was made in this pass, and so the pipeline seen to be there.
    """

    pipeline: Pipeline
    spec: PipelineSpec
    live: dict[tuple[str, str], Live]
    look: Look
    orders: Orders
    referred: Referred
    autoscalers: Mapping[str, Autoscaler]
    now_s: float
    surroundings: list[Problem] = field(default_factory=list)
    topics: list[Problem] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    scaled: dict[str, int] = field(default_factory=dict)
    deferred: set[str] = field(default_factory=set)
    met: bool = False

    @property
    def owner(self) -> Owner:
        """The pipeline's identity."""
        return self.pipeline.owner

    def deployment(self, stage: StageSpec) -> Live | None:
        """The stage's own Deployment; a namesake of somebody else's does not count."""
        found = self.live.get(("Deployment", object_name(self.owner, stage.name)))
        return found if found is not None and found.owner_uid == self.owner.uid else None

    def current(self, stage: StageSpec) -> int:
        """Replicas that the stage's Deployment asks for; 0 without one."""
        found = self.deployment(stage)
        return found.replicas if found is not None else 0

    def ready(self, stage: StageSpec) -> int:
        """Ready replicas of the stage's Deployment."""
        found = self.deployment(stage)
        return found.ready if found is not None else 0

    def lacking(self, stage: StageSpec) -> bool:
        """Whether pods are missing that should serve: old ones that still serve hide that new ones do not start."""
        found = self.deployment(stage)
        return found is not None and (found.ready < found.replicas or found.outdated > 0)

    def reading(self, stage: StageSpec) -> Reading:
        """What Kafka said last of the stage."""
        return self.look.readings.get(stage.name, Reading())

    @property
    def age_s(self) -> float:
        """Age of what Kafka said last; infinite when it never has."""
        return float("inf") if self.look.at_s is None else max(0.0, self.now_s - self.look.at_s)

    @property
    def believed(self) -> bool:
        """Whether that is young enough to be believed."""
        return self.age_s <= self.spec.scaling.stale_after_seconds

    def signals(self, stage: StageSpec) -> Signals:
        """What the stage is sized by."""
        seen = self.reading(stage)
        return Signals(
            lag=seen.lag,
            age_s=self.age_s,
            partitions=seen.partitions,
            lag_s=seen.ages_s,
            arrival_per_s=seen.arrivals_per_s,
            consumed_per_s=seen.consumptions_per_s,
            ready=self.ready(stage) if self.deployment(stage) is not None else None,
        )
