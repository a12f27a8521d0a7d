"""What the platform is asked for besides containers: placement, identity, network, scraping."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from eod_operator.api.model import DNS_SUBDOMAIN, LABEL_KEY, Model, rule, rules


class Toleration(Model):
    """A taint that the pods tolerate, as in a pod's spec."""

    key: str | None = Field(default=None, pattern=LABEL_KEY, max_length=253, description="Key of the taint.")
    operator: Literal["Exists", "Equal"] | None = Field(default=None, description="How the value is compared.")
    value: str | None = Field(default=None, max_length=63, description="Value of the taint.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Effect of the taint; by default all."
    )
    toleration_seconds: int | None = Field(
        default=None, ge=0, le=86_400, description="How long a pod stays on a node with a NoExecute taint."
    )


class Scheduling(Model):
    """Where the pods run and what they may displace."""

    priority_class_name: str | None = Field(
        default=None,
        pattern=DNS_SUBDOMAIN,
        max_length=253,
        description="PriorityClass of the pods, so that the close is not waiting for a batch job's room.",
    )
    node_selector: dict[str, str] | None = Field(
        default=None, max_length=16, description="Labels that a node must have."
    )
    tolerations: Annotated[tuple[Toleration, ...], Field(json_schema_extra={"x-kubernetes-list-type": "atomic"})] = (
        Field(default=(), max_length=16, description="Taints that the pods tolerate.")
    )
    affinity: dict[str, Any] | None = Field(
        default=None,
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
        description="Affinity of the pods, as in a pod's spec; the API server checks it with the Deployment.",
    )
    topology_keys: Annotated[
        tuple[Annotated[str, Field(pattern=LABEL_KEY, min_length=1, max_length=253)], ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = Field(
        default=("topology.kubernetes.io/zone", "kubernetes.io/hostname"),
        max_length=4,
        description="Node labels over whose values each stage's replicas are spread, where it can be done.",
    )


class NetworkPolicy(Model):
    """Who may connect to the stages, and whereto they may connect."""

    enabled: bool = Field(
        default=False,
        description="Make a NetworkPolicy for each stage: in only to its own ports, out only as said here.",
    )
    egress_ports: Annotated[
        tuple[Annotated[int, Field(ge=1, le=65_535)], ...], Field(json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = Field(
        default=(),
        max_length=32,
        description="TCP ports that the stages may connect to besides DNS: those of Kafka and the stores. "
        "Without any, what goes out is not restricted.",
    )


class ServiceMonitor(Model):
    """Scraping by the Prometheus operator."""

    enabled: bool = Field(
        default=False, description="Make a ServiceMonitor for each stage; the Prometheus operator must be installed."
    )
    interval_seconds: int = Field(default=15, ge=1, le=3600, description="Seconds between two scrapes.")
    labels: dict[str, str] | None = Field(
        default=None, max_length=16, description="Labels of the ServiceMonitors, by which a Prometheus selects them."
    )


class Doctor(Model):
    """A look at what a stage relies on, in front of each of its pods: `eod doctor`."""

    enabled: bool = Field(
        default=False,
        description="Each pod begins with 'eod doctor' of its stage, and goes on once nothing is missing; until then a "
        "condition says what is. What is merely dangerous holds nothing up.",
    )
    wait_seconds: int = Field(
        default=60, ge=0, le=3600, description="How long a server that is away is waited for before that is said."
    )


class PullSecret(Model):
    """A Secret of the pipeline's namespace with which nodes pull images."""

    name: str = Field(pattern=DNS_SUBDOMAIN, min_length=1, max_length=253, description="Name of the Secret.")


class ServiceAccounts(Model):
    """The ServiceAccount that each stage runs as; it has no rights in the cluster."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!(has(self.name) && has(self.annotations))",
                "annotations are of the accounts that the operator makes, and with name it makes none: annotate that "
                "account, and remove annotations",
                fieldPath=".annotations",
            )
        )
    )

    name: str | None = Field(
        default=None,
        pattern=DNS_SUBDOMAIN,
        min_length=1,
        max_length=253,
        description="A ServiceAccount of your own that all stages run as; by default the operator makes one for each. "
        "Pods get no token of either.",
    )
    annotations: dict[str, str] | None = Field(
        default=None,
        max_length=16,
        description="Annotations of the ServiceAccounts, such as the role of a cloud provider that they stand for.",
    )

    @model_validator(mode="after")
    def _made(self) -> Self:
        if self.name is not None and self.annotations is not None:
            raise ValueError("annotations are of the accounts that the operator makes, and with name it makes none")
        return self
