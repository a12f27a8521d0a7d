"""`kubectl eod report`: a ZIP of what somebody needs who is asked for help with a pipeline, and no secret.

Read by the rights of whoever asks: what may not be read is named in it. Secrets are never asked for. Values of
environment variables, which somebody may have written a password into, are withheld wherever they stand.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from eod_operator.api import KIND
from eod_operator.conditions import rfc3339
from eod_operator.explain import explain
from eod_operator.kube.api import Api, ClusterError, Manifest
from eod_operator.lookup import Access, look_up
from eod_operator.resources import LABEL_PIPELINE, Owner, decisions_name, forecast_name
from eod_operator.telling import text

LINES = 1_000
"""Of each container's log, the last so many."""
WITHHELD = "(withheld)"
_KINDS = ("Deployment", "ConfigMap", "Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy", "Pod")
"""Whose objects of a pipeline are read."""
_DECISIONS = 50
_NOISE = ("managedFields",)


@dataclass(slots=True)
class Dossier:
    """Files by name, and what could not be read, in sentences."""

    files: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def packed(self) -> bytes:
        """All of it as a ZIP."""
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self.files.items():
                archive.writestr(name, content)
        return made.getvalue()


async def collect(
    access: Access, namespace: str, name: str, now_s: float, tell: Callable[[str], None] = lambda _: None
) -> Dossier:
    """Reads everything; `tell` is told of each step.

    Raises:
        LookupFailedError: the pipeline itself cannot be read.
    """
    api = Api(access.configuration, user_agent="kubectl-eod", granted=False)
    try:
        found = await look_up(api, namespace, name)
        dossier = Dossier()
        tell("the pipeline, and what it says of itself")
        _explained(dossier, found.pipeline, found.decisions, now_s)
        if found.problem is not None:
            dossier.missing.append(found.problem)
        owner = Owner(namespace, name, found.pipeline["metadata"]["uid"])
        for config_map in (decisions_name(owner), forecast_name(name)):
            await _one(dossier, api, namespace, config_map)
        pods: list[Manifest] = []
        for kind in _KINDS:
            tell(f"its {kind}s")
            objects = await _listed(dossier, api, kind, namespace, {"labelSelector": f"{LABEL_PIPELINE}={name}"})
            if objects:
                dossier.files[f"objects/{kind.lower()}.yaml"] = _yaml([without_values(one) for one in objects])
            pods += objects if kind == "Pod" else []
        tell("events")
        events = await _listed(dossier, api, "Event", namespace, {})
        ours = [one for one in events if str((one.get("involvedObject") or {}).get("name", "")).startswith(name)]
        dossier.files["events.yaml"] = _yaml(ours)
        for pod in pods:
            tell(f"logs of {pod['metadata']['name']}")
            await _logs(dossier, api, namespace, pod)
    finally:
        await api.close()
    dossier.files = {"about.txt": _about(namespace, name, now_s, dossier.missing), **dossier.files}
    return dossier


def _explained(dossier: Dossier, pipeline: Manifest, decisions: dict[str, str] | None, now_s: float) -> None:
    dossier.files["pipeline.yaml"] = _yaml(without_values(pipeline))
    told = explain(pipeline, decisions, now_s, last=_DECISIONS)
    dossier.files["explain.txt"] = text(told)
    dossier.files["explain.json"] = json.dumps(told, indent=2) + "\n"


async def _one(dossier: Dossier, api: Api, namespace: str, name: str) -> None:
    try:
        found = await api.call("get", "ConfigMap", namespace, name)
    except ClusterError as error:
        if not error.missing:
            dossier.missing.append(f"ConfigMap {name}: {error}")
        return
    dossier.files[f"{name}.yaml"] = _yaml(without_values(found))


async def _listed(dossier: Dossier, api: Api, kind: str, namespace: str, query: dict[str, str]) -> list[Manifest]:
    try:
        found: list[Manifest] = (await api.call("list", kind, namespace, query=query)).get("items") or []
    except ClusterError as error:
        dossier.missing.append(f"{kind}s: {error}")
        return []
    return found


async def _logs(dossier: Dossier, api: Api, namespace: str, pod: Manifest) -> None:
    """Of each container that has run, and of its run before where it has ended."""
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        runs = {"": {}, **({"-previous": {"previous": "true"}} if container.get("restartCount") else {})}
        for which, query in runs.items():
            asked = {"container": container["name"], "tailLines": str(LINES), **query}
            try:
                said = await api.text("Pod", namespace, name, subresource="log", query=asked)
            except ClusterError as error:
                dossier.missing.append(f"log of {name}, {container['name']}{which}: {error}")
                continue
            dossier.files[f"logs/{name}/{container['name']}{which}.log"] = said


def without_values(found: Any) -> Any:
    """The same without values of environment variables, and without who set which field when."""
    if isinstance(found, list):
        return [without_values(one) for one in found]
    if not isinstance(found, dict):
        return found
    return {
        key: [_unset(one) for one in value] if key == "env" and isinstance(value, list) else without_values(value)
        for key, value in found.items()
        if key not in _NOISE and not key.endswith("last-applied-configuration")
    }


def _unset(variable: Any) -> Any:
    if isinstance(variable, dict) and "value" in variable:
        return {**variable, "value": WITHHELD}
    return variable


def _about(namespace: str, name: str, now_s: float, missing: list[str]) -> str:
    lines = [
        f"{KIND} {name} of namespace {namespace}, as it was at {rfc3339(now_s)}.",
        "",
        "explain.txt     what it was doing, and why: begin here",
        "pipeline.yaml   the resource itself, with its status",
        "objects/        what the operator had made of it, and its pods",
        f"logs/           the last {LINES} lines of each container, and of the run before it if it has ended",
        "events.yaml     what was said of all this",
        "",
        f"No Secret was read. Values of environment variables are {WITHHELD}. Logs are as the stages wrote them.",
    ]
    if missing:
        lines += ["", "What could not be read:", *(f"- {one}" for one in missing)]
    return "\n".join(lines) + "\n"


def _yaml(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
