"""`spec` of an EodPipeline: what its owner wishes.

A field's description is what `kubectl explain` shows; `x-kubernetes-validations` are the API server's own checks,
each with a sentence. What needs more than the resource itself (does the exchange exist? the topic?) becomes a
condition instead. Sizes are bounded because the API server budgets the cost of its checks by the worst case.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from eod_operator.api.kinds import KINDS

DNS_LABEL = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
TOPIC = r"^[a-zA-Z0-9._-]+$"
BOOTSTRAP = r"^[^\s,:/]+:[0-9]{1,5}(,[^\s,:/]+:[0-9]{1,5})*$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
RESERVED_ENV = ("EOD_KAFKA_BOOTSTRAP", "EOD_STAGE_NAME", "EOD_TOPICS", "EOD_GROUP", "EOD_HTTP_PORT")
"""Set by the operator itself in every container."""

DEFAULT_INTERVAL_S = 15


def rule(expression: str, message: str, **more: str) -> dict[str, Any]:
    """One check of the API server, in CEL."""
    return {"rule": expression, "message": message, **more}


def rules(*checks: dict[str, Any], **extra: Any) -> dict[str, Any]:
    """Additions to a generated schema."""
    return {"x-kubernetes-validations": list(checks), **extra}


class Model(BaseModel):
    """A part of the resource: camelCase outside, unknown fields refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class Kafka(Model):
    """Where the log is."""

    bootstrap_servers: str = Field(
        pattern=BOOTSTRAP,
        max_length=1024,
        description="Kafka brokers to start from, as host:port or host:port,host:port.",
        examples=["kafka:9092"],
    )


class Named(Model):
    """A reference to an object of the same namespace."""

    name: str = Field(min_length=1, max_length=253, description="Name of the object, in the pipeline's namespace.")


class KeyOf(Named):
    """A reference to one key of a Secret or ConfigMap."""

    key: str = Field(min_length=1, max_length=253, description="Key within the object.")


class EnvSource(Model):
    """Where a variable's value comes from."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.secretKeyRef) != has(self.configMapKeyRef)",
                "valueFrom takes exactly one of secretKeyRef and configMapKeyRef",
            )
        )
    )

    secret_key_ref: KeyOf | None = Field(default=None, description="A key of a Secret.")
    config_map_key_ref: KeyOf | None = Field(default=None, description="A key of a ConfigMap.")


class EnvVar(Model):
    """One environment variable of every stage."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.value) != has(self.valueFrom)",
                "a variable takes exactly one of value and valueFrom",
            ),
            rule(
                f"!(self.name in [{', '.join(map(repr, RESERVED_ENV))}])",
                f"the operator itself sets {', '.join(RESERVED_ENV)}: choose another name",
                fieldPath=".name",
            ),
        )
    )

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128, description="Name of the variable.")
    value: str | None = Field(default=None, max_length=4096, description="Its value, written out.")
    value_from: EnvSource | None = Field(default=None, description="Its value, from a Secret or ConfigMap.")


class Config(Model):
    """What the workers need to know besides Kafka: addresses and credentials of their stores."""

    config_map_ref: Named | None = Field(
        default=None, description="A ConfigMap whose keys become environment variables of every stage."
    )
    secret_ref: Named | None = Field(
        default=None, description="A Secret whose keys become environment variables of every stage."
    )
    env: Annotated[
        tuple[EnvVar, ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
    ] = Field(default=(), max_length=64, description="Single environment variables of every stage.")


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
        description="At least so many around a close; without it the calendar does not change the stage.",
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
        description="Unconsumed Kafka records that one replica may have; lag divided by this is the replica count. "
        "A record of trades.raw is a batch of up to 500 trades.",
    )


_DEFAULT_GROUPS = "{" + ", ".join(f"'{kind.name}': '{kind.group or ''}'" for kind in KINDS.values()) + "}"
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
        tuple[Annotated[str, Field(pattern=TOPIC, min_length=1, max_length=249)], ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = Field(default=(), max_length=16, description="Kafka topics; by default those of the kind.")
    group: str | None = Field(
        default=None,
        pattern=TOPIC,
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
        return None if default is None else self.group or default


class Session(Model):
    """One trading session."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("self.close > self.open", "close must be after open", fieldPath=".close"),
        )
    )

    open: AwareDatetime = Field(description="Start of the session, such as 2026-11-27T09:30:00-05:00 (RFC 3339).")
    close: AwareDatetime = Field(description="End of the session, after open (RFC 3339).")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.close <= self.open:
            raise ValueError(f"close ({_rfc3339(self.close)}) must be after open ({_rfc3339(self.open)})")
        return self


class Burst(Model):
    """The time around a close in which a stage has at least its burst replicas."""

    lead_seconds: int = Field(
        default=300, ge=0, le=86_400, description="How long before the close it starts: cover the start of a pod."
    )
    duration_seconds: int = Field(default=900, ge=0, le=86_400, description="How long after the close it ends.")


class Calendar(Model):
    """When the closes are: an exchange's sessions, or sessions written out."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.exchange) != has(self.sessions)",
                "calendar takes exactly one of exchange (such as XNYS) and sessions (opens and closes written out)",
            ),
        )
    )

    exchange: str | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="ISO 10383 code of an exchange, such as XNYS; half days, holidays and clock changes are known.",
    )
    sessions: Annotated[tuple[Session, ...], Field(json_schema_extra={"x-kubernetes-list-type": "atomic"})] | None = (
        Field(
            default=None, min_length=1, max_length=400, description="Sessions written out, for another venue or a test."
        )
    )
    burst: Burst = Field(default=Burst(), description="The time around a close with burst replicas.")

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.exchange is None) == (self.sessions is None):
            raise ValueError("calendar takes exactly one of exchange (such as XNYS) and sessions")
        return self


class Scaling(Model):
    """How the operator decides."""

    interval_seconds: int | None = Field(
        default=None,
        ge=1,
        le=3600,
        description="Seconds between two decisions; by default the operator's --interval-seconds (15).",
    )
    scale_down_stabilization_seconds: int = Field(
        default=300,
        ge=0,
        le=86_400,
        description="A scale-down goes no lower than the highest need of so many seconds.",
    )
    stale_after_seconds: int = Field(
        default=60, ge=1, le=3600, description="A lag older than this lowers nothing and raises nothing."
    )


Mode = Literal["Auto", "Preview", "Paused"]


class PipelineSpec(Model):
    """What an EodPipeline consists of and how it is sized."""

    kafka: Kafka = Field(description="Where the log is.")
    image: str = Field(min_length=1, max_length=512, description="Container image of the stages.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None, description="When nodes pull the image; by default as Kubernetes decides by the tag."
    )
    config: Config = Field(default=Config(), description="Settings and credentials of the stages.")
    stages: Annotated[
        tuple[StageSpec, ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
    ] = Field(min_length=1, max_length=16, description="The stages, each with a name of its own.")
    calendar: Calendar = Field(description="When the closes are.")
    mode: Mode = Field(
        default="Auto",
        description="Auto sizes the stages; Preview decides and reports but changes nothing; "
        "Paused leaves every object as it is.",
    )
    scaling: Scaling = Field(default=Scaling(), description="How the operator decides.")

    @model_validator(mode="after")
    def _unique_names(self) -> Self:
        names = [stage.name for stage in self.stages]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"stages: the name {name!r} is given {names.count(name)} times")
        return self


def sentences(error: ValidationError) -> list[str]:
    """One sentence a wrong field."""
    return [
        f"{'.'.join(['spec', *map(str, one['loc'])])}: {one['msg'].removeprefix('Value error, ')}"
        for one in error.errors(include_url=False, include_context=False)
    ]


def _rfc3339(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")
