"""`spec` of an EodPipeline: what its owner wishes.

A field's description is what `kubectl explain` shows; `x-kubernetes-validations` are the API server's own checks,
each with a sentence. What needs more than the resource itself (does the exchange exist? the topic?) becomes a
condition instead. Sizes are bounded because the API server budgets the cost of its checks by the worst case.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from eod_contract.kinds import KINDS
from eod_contract.scaling import StagePolicy
from pydantic import ConfigDict, Field, ValidationError, model_validator

from eod_operator.api.closes import Calendar
from eod_operator.api.http import Http
from eod_operator.api.model import IN_WORDS, Model, rule, rules
from eod_operator.api.platform import Doctor, NetworkPolicy, PullSecret, Scheduling, ServiceAccounts, ServiceMonitor
from eod_operator.api.sources import Config, Kafka, Topic
from eod_operator.api.stage import StageSpec

DEFAULT_INTERVAL_S = 15
DEFAULTS = StagePolicy(min_replicas=0, max_replicas=1)
LONGEST_STABILIZATION_S = 3600
"""The HorizontalPodAutoscaler's own limit, for the same reason: a longer one would outlast the load it remembers."""


class Scaling(Model):
    """How the operator decides."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.scaleDownStabilizationSeconds) || "
                f"self.scaleDownStabilizationSeconds <= {LONGEST_STABILIZATION_S}",
                f"scaleDownStabilizationSeconds must lie between 0 and {LONGEST_STABILIZATION_S} (one hour): to keep "
                "replicas for longer, raise replicas.min or calendar.burst.durationSeconds",
                fieldPath=".scaleDownStabilizationSeconds",
            ),
            rule(
                "!has(self.intervalSeconds) || !has(self.staleAfterSeconds) || "
                "self.intervalSeconds <= self.staleAfterSeconds",
                "staleAfterSeconds must not be below intervalSeconds: every signal would be stale before it is used",
                fieldPath=".staleAfterSeconds",
            ),
        )
    )

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
        description="A scale-down goes no lower than the highest need of so many seconds; at most 3600.",
    )
    stale_after_seconds: int = Field(
        default=60, ge=1, le=3600, description="A lag older than this lowers nothing and raises nothing."
    )

    catch_up_seconds: int = Field(
        default=round(DEFAULTS.catch_up_s),
        ge=1,
        le=3600,
        description="A backlog shall be worked off within so many seconds.",
    )
    forecast: Literal["Auto", "Off"] = Field(
        default="Auto",
        description="Auto learns the shape of each close and sizes the stages by it, once it has been right; until "
        "then, and with Off, replicas.burst holds around a close.",
    )
    max_delay_seconds: float = Field(
        default=DEFAULTS.late_s,
        ge=0,
        le=3600,
        description="In a close that was foreseen no record shall wait for longer; more of it saves replicas.",
    )
    utilization_percent: int = Field(
        default=round(100 * DEFAULTS.utilization),
        ge=1,
        le=100,
        description="Share of a replica's service rate that the forecast plans with; the rest is for its error.",
    )
    pod_start_seconds: int = Field(
        default=round(DEFAULTS.start_s),
        ge=1,
        le=3600,
        description="How long a new pod takes until it serves (95th percentile), until that has been measured.",
    )

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        if self.scale_down_stabilization_seconds > LONGEST_STABILIZATION_S:
            raise ValueError(f"scaleDownStabilizationSeconds must lie between 0 and {LONGEST_STABILIZATION_S}")
        if self.interval_seconds is not None and self.interval_seconds > self.stale_after_seconds:
            raise ValueError("staleAfterSeconds must not be below intervalSeconds")
        return self


Mode = Literal["Auto", "Preview", "Paused"]

_TOPICS_OF = "{" + ", ".join(f"'{kind.name}': {list(kind.topics)!r}" for kind in KINDS.values()) + "}"
"""A CEL map from kind to default topics."""
_EFFECTIVE_TOPICS = f"(has(s.topics) && size(s.topics) > 0 ? s.topics : {_TOPICS_OF}[s.kind])"
_CONSUMING = "[" + ", ".join(repr(kind.name) for kind in KINDS.values() if kind.group) + "]"

_UNVERIFIABLE = (
    "http.tls needs serverName with serviceMonitor.enabled: Prometheus scrapes pods by their addresses, and verifies "
    "that name of the certificate instead. Name one that the certificate has"
)


class PipelineSpec(Model):
    """What an EodPipeline consists of and how it is sized."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.topics) || self.stages.all(s, !(s.kind in "
                f"{_CONSUMING}) || !{_EFFECTIVE_TOPICS}.all(t, self.topics.exists(d, d.name == t && has(d.partitions) "
                "&& d.partitions < s.replicas.max)))",
                "replicas.max of a stage must not be above the partitions of its topics (spec.topics): replicas beyond "
                "them would have nothing to consume. Lower replicas.max, or plan more partitions",
                fieldPath=".stages",
            ),
            rule(
                "!has(self.serviceMonitor) || !self.serviceMonitor.enabled || !has(self.http) || !has(self.http.tls) "
                "|| has(self.http.tls.serverName)",
                _UNVERIFIABLE,
                fieldPath=".http",
            ),
        )
    )

    kafka: Kafka = Field(description="Where the log is.")
    topics: Annotated[
        tuple[Topic, ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
    ] = Field(default=(), max_length=32, description="What topics shall be like: checked, and created on request.")
    image: str = Field(min_length=1, max_length=512, description="Container image of the stages.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None, description="When nodes pull the image; by default as Kubernetes decides by the tag."
    )
    image_pull_secrets: Annotated[
        tuple[PullSecret, ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
    ] = Field(default=(), max_length=8, description="Secrets with which nodes pull the stages' images.")
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
    scheduling: Scheduling = Field(default=Scheduling(), description="Where the pods run.")
    service_accounts: ServiceAccounts = Field(default=ServiceAccounts(), description="What the stages run as.")
    http: Http | None = Field(
        default=None,
        description="TLS and a token on the stages' port of probes and metrics; by default it is plain and open.",
    )
    doctor: Doctor = Field(default=Doctor(), description="A look at what the stages rely on before they begin.")
    network_policy: NetworkPolicy = Field(default=NetworkPolicy(), description="Who may talk to the stages.")
    service_monitor: ServiceMonitor = Field(
        default=ServiceMonitor(), description="Scraping by the Prometheus operator."
    )

    @model_validator(mode="after")
    def _unique_names(self) -> Self:
        for field, named in (
            ("stages", self.stages),
            ("topics", self.topics),
            ("imagePullSecrets", self.image_pull_secrets),
        ):
            names = [one.name for one in named]
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"{field}: the name {name!r} is given {names.count(name)} times")
        return self

    @model_validator(mode="after")
    def _verifiable(self) -> Self:
        tls = self.http.tls if self.http is not None else None
        if self.service_monitor.enabled and tls is not None and tls.server_name is None:
            raise ValueError(_UNVERIFIABLE)
        return self

    @model_validator(mode="after")
    def _enough_partitions(self) -> Self:
        planned = {topic.name: topic.partitions for topic in self.topics}
        for stage in self.stages:
            if stage.effective_group is None:
                continue
            counts = [planned.get(topic) for topic in stage.effective_topics]
            if all(count is not None and count < stage.replicas.max for count in counts):
                raise ValueError(
                    f"stages: replicas.max ({stage.replicas.max}) of {stage.name} is above its topics' partitions "
                    f"({max(count or 0 for count in counts)}): lower it, or plan more partitions"
                )
        return self


def understood(raw: Mapping[str, Any]) -> tuple[PipelineSpec, tuple[str, ...]]:
    """A spec that the API server has let in, without the fields that only a newer CRD has, and their paths.

    A CRD is upgraded before its operator, and its defaults are in every pipeline from then on. Without these fields the
    spec says what it said before.

    Raises:
        ValidationError: something else is wrong with it.
    """
    rest = copy.deepcopy(dict(raw))
    newer: list[str] = []
    while True:
        try:
            return PipelineSpec.model_validate(rest), tuple(newer)
        except ValidationError as error:
            places = [one["loc"] for one in error.errors(include_url=False) if one["type"] == "extra_forbidden"]
            if not places:
                raise
            for place in places:
                holder: Any = rest
                for step in place[:-1]:
                    holder = holder[step]
                del holder[place[-1]]
                newer.append(".".join(["spec", *map(str, place)]))


def findings(error: ValidationError) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """Place and sentence of each wrong field; a list whose entries are refused is not too short for that, too."""
    found = error.errors(include_url=False)
    for one in found:
        place = one["loc"]
        if one["type"] == "too_short" and any(o["loc"][: len(place)] == place != o["loc"] for o in found):
            continue
        said = one["msg"].removeprefix("Value error, ")
        if words := IN_WORDS.get(one.get("ctx", {}).get("pattern", "")):
            said = f"{one['input']!r} is not as it must be: {words.replace('`', '')}"
        yield place, f"{'.'.join(['spec', *map(str, place)])}: {said}"


def sentences(error: ValidationError) -> list[str]:
    """One sentence a wrong field."""
    return [sentence for _, sentence in findings(error)]
