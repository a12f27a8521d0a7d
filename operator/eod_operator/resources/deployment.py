"""A stage's Deployment: hardened pods that drain on SIGTERM."""

from __future__ import annotations

from typing import Any

from eod_operator.api import KINDS, PipelineSpec, StageSpec
from eod_operator.api.kinds import HTTP_PORT
from eod_operator.api.spec import EnvVar
from eod_operator.resources.identity import Manifest, Owner, metadata, selector

GRACE_PERIOD_S = 60
"""Longer than a stage takes to finish its batch, flush and commit."""


def deployment(owner: Owner, spec: PipelineSpec, stage: StageSpec, replicas: int) -> Manifest:
    """The Deployment of one stage with so many replicas."""
    described = metadata(owner, stage.name, stage.kind)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": described,
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": selector(owner, stage.name)},
            "template": {
                "metadata": {"labels": described["labels"]},
                "spec": {
                    "automountServiceAccountToken": False,
                    "terminationGracePeriodSeconds": GRACE_PERIOD_S,
                    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [_container(spec, stage)],
                    "volumes": [{"name": "tmp", "emptyDir": {}}],
                },
            },
        },
    }


def _container(spec: PipelineSpec, stage: StageSpec) -> Manifest:
    kind = KINDS[stage.kind]
    ports = (("http", HTTP_PORT), *kind.ports)
    container: Manifest = {
        "name": "stage",
        "image": stage.image or spec.image,
        "args": list(kind.args),
        "env": _env(spec, stage),
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports],
        "livenessProbe": _probe("/livez", period_s=10, failures=3),
        "readinessProbe": _probe("/readyz", period_s=5, failures=2),
        "startupProbe": _probe("/livez", period_s=1, failures=60),
        "resources": stage.resources.model_dump(by_alias=True, exclude_none=True),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - the pod's own, on an emptyDir
    }
    if spec.image_pull_policy is not None:
        container["imagePullPolicy"] = spec.image_pull_policy
    sources = _env_from(spec)
    if sources:
        container["envFrom"] = sources
    return container


def _env(spec: PipelineSpec, stage: StageSpec) -> list[Manifest]:
    """What the operator sets, which comes last in no dispute: the CRD refuses these names in config.env."""
    own = {
        "EOD_KAFKA_BOOTSTRAP": spec.kafka.bootstrap_servers,
        "EOD_STAGE_NAME": stage.name,
        "EOD_HTTP_PORT": str(HTTP_PORT),
    }
    if stage.effective_group is not None:
        own |= {"EOD_TOPICS": ",".join(stage.effective_topics), "EOD_GROUP": stage.effective_group}
    return [*(_variable(one) for one in spec.config.env), *({"name": k, "value": v} for k, v in own.items())]


def _variable(variable: EnvVar) -> Manifest:
    dumped: dict[str, Any] = variable.model_dump(by_alias=True, exclude_none=True)
    return dumped


def _env_from(spec: PipelineSpec) -> list[Manifest]:
    sources: list[Manifest] = []
    if spec.config.config_map_ref is not None:
        sources.append({"configMapRef": {"name": spec.config.config_map_ref.name}})
    if spec.config.secret_ref is not None:
        sources.append({"secretRef": {"name": spec.config.secret_ref.name}})
    return sources


def _probe(path: str, *, period_s: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period_s,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }
