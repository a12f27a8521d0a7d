"""One stage of a pipeline: what it consumes, and how many replicas of what size it may have."""

from __future__ import annotations

from typing import Annotated, Self

from eod_contract.kinds import KINDS
from pydantic import ConfigDict, Field, model_validator

from eod_operator.api.model import DNS_LABEL, QUANTITY, TOPIC_NAME, Model, rule, rules

Quantity = Annotated[str | int, Field(json_schema_extra={"x-kubernetes-int-or-string": True, "pattern": QUANTITY})]


class Resources(Model):
    """CPU and memory of one replica, as Kubernetes' resource quantities."""

    requests: dict[str, Quantity] | None = Field(
        default=None, max_length=8, description="What a replica is guaranteed, such as {cpu: 500m, memory: 512Mi}."
    )
    limits: dict[str, Quantity] | None = Field(default=None, max_length=8, description="What a replica may not exceed.")


class Replicas(Model):
    """How many replicas a stage may have."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.min <= self.max",
                "min must not be above max: lower replicas.min or raise replicas.max",
                fieldPath=".min",
                messageExpression="'min (%d) must not be above max (%d): lower replicas.min or raise replicas.max'"
                ".format([self.min, self.max])",
            ),
            rule(
                "!has(self.burst) || self.burst <= self.max",
                "burst must not be above max: lower replicas.burst or raise replicas.max",
                fieldPath=".burst",
                messageExpression="'burst (%d) must not be above max (%d): lower replicas.burst or raise "
                "replicas.max'.format([self.burst, self.max])",
            ),
            rule(
                "!has(self.burst) || self.burst >= self.min",
                "burst must not be below min: raise replicas.burst or lower replicas.min",
                fieldPath=".burst",
                messageExpression="'burst (%d) must not be below min (%d): raise replicas.burst or lower "
                "replicas.min'.format([self.burst, self.min])",
            ),
        )
    )

    min: int = Field(default=1, ge=0, le=1000, description="Never fewer than this.")
    max: int = Field(ge=1, le=1000, description="Never more than this; never more than the topic has partitions.")
    burst: int | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="So many at least around a close, until a forecast has been learned that is to be trusted "
        "(spec.scaling.forecast); without it the calendar alone does not change the stage.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) must not be above max ({self.max})")
        if self.burst is not None and not self.min <= self.burst <= self.max:
            raise ValueError(f"burst ({self.burst}) must lie between min ({self.min}) and max ({self.max})")
        return self


class Target(Model):
    """What one replica is expected to cope with."""

    lag_per_replica: int = Field(
        default=1000,
        ge=1,
        le=1_000_000_000,
        description="Unconsumed Kafka records that one replica may have; lag divided by this is the replica count, "
        "while it is not known what a replica consumes. A record of trades.raw is a batch of up to 500 trades.",
    )
    records_per_second: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description="Kafka records that one replica consumes a second, until that has been learned from a backlog.",
    )
    replica_hours_per_day: float | None = Field(
        default=None,
        ge=0.01,
        le=24_000,
        description="Budget of replica-hours a day (UTC); when it is exceeded, that is told and nothing is capped.",
    )


_DEFAULT_GROUPS = "{" + ", ".join(f"'{kind.name}': '{kind.group}'" for kind in KINDS.values()) + "}"
"""A CEL map from kind to default group."""


class StageSpec(Model):
    """One stage: one consumer group (or acceptor), run as one Deployment."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                f"(has(self.group) ? self.group : {_DEFAULT_GROUPS}[self.kind]) == "
                f"(has(oldSelf.group) ? oldSelf.group : {_DEFAULT_GROUPS}[oldSelf.kind])",
                "group cannot change, because the stage's offsets are committed under it: "
                "remove this stage and add one of another name",
                fieldPath=".group",
            ),
            rule(
                "self.kind == oldSelf.kind",
                "kind cannot change: remove this stage and add one of another name",
                fieldPath=".kind",
            ),
        )
    )

    name: str = Field(
        pattern=DNS_LABEL,
        max_length=24,
        description="Name of the stage, unique in the pipeline; its Deployment is called PIPELINE-NAME.",
    )
    kind: str = Field(
        max_length=24,
        json_schema_extra={"enum": list(KINDS)},
        description="What the stage does; it decides the defaults of topics and group.",
    )
    topics: Annotated[
        tuple[Annotated[str, Field(pattern=TOPIC_NAME, min_length=1, max_length=249)], ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = Field(default=(), max_length=16, description="Kafka topics; by default those of the kind.")
    group: str | None = Field(
        default=None,
        pattern=TOPIC_NAME,
        min_length=1,
        max_length=249,
        description="Consumer group; by default that of the kind. It cannot change later.",
    )
    image: str | None = Field(
        default=None, min_length=1, max_length=512, description="Container image; by default spec.image."
    )
    resources: Resources = Field(default=Resources(), description="CPU and memory of one replica.")
    replicas: Replicas = Field(description="Bounds of the replica count.")
    target: Target = Field(default=Target(), description="What one replica is expected to cope with.")
    termination_grace_seconds: int | None = Field(
        default=None,
        ge=10,
        le=3600,
        description="Seconds that a replica has to drain and commit once stopped; by default what its kind takes.",
    )
    paused: bool = Field(default=False, description="Leave this stage's objects exactly as they are.")

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r} is unknown: use one of {', '.join(KINDS)}")
        return self

    @property
    def effective_topics(self) -> tuple[str, ...]:
        """Topics given, or the kind's."""
        return self.topics or KINDS[self.kind].topics

    @property
    def effective_group(self) -> str | None:
        """Group given, or the kind's; None for a kind that consumes nothing."""
        default = KINDS[self.kind].group
        return self.group or default if default else None
