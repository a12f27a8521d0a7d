"""A stage's Deployment: hardened pods that drain on SIGTERM.

The pod template depends on the spec and on the contents of what the spec refers to, never on the replica count: a
changed setting rolls the stage, scaling never does.
"""

from __future__ import annotations

from collections.abc import Sequence

from eod_contract.kinds import HTTP_PORT, KINDS

from eod_operator.api import PipelineSpec, StageSpec
from eod_operator.resources.files import mounts, volumes
from eod_operator.resources.identity import Manifest, Owner, digest, metadata, object_name, selector
from eod_operator.resources.settings import credentials, settings

ANNOTATION_SETTINGS = "eod.markets/settings"
"""Digest of the stage's own ConfigMap, on its pods: the environment of a running pod does not change by itself."""
ANNOTATION_REFERENCES = "eod.markets/references"
"""Digest of the ConfigMaps and Secrets that the spec refers to, for the same reason."""
_DELISTED_S = 3
"""How long a listening replica that is to go still serves, so that no node sends new connections to it when it stops.

A pod that is deleted is taken off its Service at the same time as it is told to stop. A client that is told first,
and comes back before every node has heard, is connected to a pod that is going, and waits for an answer to its Logon.
"""


def deployment(owner: Owner, spec: PipelineSpec, stage: StageSpec, replicas: int, references: str) -> Manifest:
    """The Deployment of one stage.

    Args:
        owner: its pipeline.
        spec: of the pipeline.
        stage: of the spec.
        replicas: how many.
        references: digest of the contents of what the spec refers to; empty when it refers to nothing.
    """
    described = metadata(owner, stage.name, stage.kind)
    annotations = {ANNOTATION_SETTINGS: digest(settings(spec, stage))}
    if references:
        annotations[ANNOTATION_REFERENCES] = references
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": described,
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": selector(owner, stage.name)},
            "template": {
                "metadata": {"labels": described["labels"], "annotations": annotations},
                "spec": _pod(owner, spec, stage),
            },
        },
    }


def _pod(owner: Owner, spec: PipelineSpec, stage: StageSpec) -> Manifest:
    wishes, kind = spec.scheduling, KINDS[stage.kind]
    pod: Manifest = {
        "serviceAccountName": spec.service_accounts.name or object_name(owner, stage.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # a Service named eod-fix would set EOD_FIX_PORT
        "terminationGracePeriodSeconds": (stage.termination_grace_seconds or kind.grace_s)
        + (_DELISTED_S if kind.ports else 0),
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(owner, spec, stage)],
        "volumes": [{"name": "tmp", "emptyDir": {}}, *volumes(spec)],
    }
    if spec.doctor.enabled:
        pod["initContainers"] = [_doctor(owner, spec, stage)]
    if wishes.topology_keys:
        pod["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",  # better in the wrong zone than pending at the bell
                "labelSelector": {"matchLabels": selector(owner, stage.name)},
            }
            for key in wishes.topology_keys
        ]
    if wishes.priority_class_name is not None:
        pod["priorityClassName"] = wishes.priority_class_name
    if wishes.node_selector:
        pod["nodeSelector"] = wishes.node_selector
    if wishes.affinity:
        pod["affinity"] = wishes.affinity
    if spec.image_pull_secrets:
        pod["imagePullSecrets"] = [one.model_dump(by_alias=True) for one in spec.image_pull_secrets]
    if wishes.tolerations:
        pod["tolerations"] = [one.model_dump(by_alias=True, exclude_none=True) for one in wishes.tolerations]
    return pod


def _container(owner: Owner, spec: PipelineSpec, stage: StageSpec) -> Manifest:
    kind = KINDS[stage.kind]
    ports = (("http", HTTP_PORT), *kind.ports)
    container: Manifest = {
        **_any_container(owner, spec, stage, "stage", kind.args),
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports],
        "livenessProbe": _probe("/livez", spec, period_s=10, failures=3),
        "readinessProbe": _probe("/readyz", spec, period_s=5, failures=2),
        "startupProbe": _probe("/livez", spec, period_s=1, failures=60),
    }
    if kind.ports:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": _DELISTED_S}}}
    return container


def _doctor(owner: Owner, spec: PipelineSpec, stage: StageSpec) -> Manifest:
    """What looks at the stage's surroundings first, as the stage will see them."""
    args = ("doctor", stage.kind, "--ignore-danger", "--wait-seconds", str(spec.doctor.wait_seconds))
    return _any_container(owner, spec, stage, "doctor", args)


def _any_container(owner: Owner, spec: PipelineSpec, stage: StageSpec, name: str, args: Sequence[str]) -> Manifest:
    """What all containers of a stage have in common: the image, the environment, what they may do."""
    container: Manifest = {
        "name": name,
        "image": stage.image or spec.image,
        "args": list(args),
        "envFrom": _sources(owner, spec, stage),
        "terminationMessagePolicy": "FallbackToLogsOnError",  # the last words are why it ended
        "resources": stage.resources.model_dump(by_alias=True, exclude_none=True),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own, on an emptyDir
            *mounts(spec),
        ],
    }
    given = [one.model_dump(by_alias=True, exclude_none=True) for one in spec.config.env]
    if env := [*given, *credentials(spec.kafka.security)]:
        container["env"] = env
    if spec.image_pull_policy is not None:
        container["imagePullPolicy"] = spec.image_pull_policy
    return container


def _sources(owner: Owner, spec: PipelineSpec, stage: StageSpec) -> list[Manifest]:
    """Where the environment comes from; of equal names the last wins, and that is the operator's own."""
    sources: list[Manifest] = []
    if spec.config.config_map_ref is not None:
        sources.append({"configMapRef": {"name": spec.config.config_map_ref.name}})
    if spec.config.secret_ref is not None:
        sources.append({"secretRef": {"name": spec.config.secret_ref.name}})
    return [*sources, {"configMapRef": {"name": object_name(owner, stage.name)}}]


def _probe(path: str, spec: PipelineSpec, *, period_s: int, failures: int) -> Manifest:
    scheme = {"scheme": "HTTPS"} if spec.http is not None and spec.http.tls is not None else {}
    return {
        "httpGet": {"path": path, "port": "http", **scheme},
        "periodSeconds": period_s,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }
