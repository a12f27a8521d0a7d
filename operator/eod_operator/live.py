"""An object of the cluster, as much of it as a pass needs: 20,000 of them are kept at a time.

The rest is packed (JSON, compressed, without what the server adds) and looked at only when it is not known whether the
object still is as we left it: after a restart, and when somebody has edited it.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from eod_operator.resources import ANNOTATION_APPLIED, ANNOTATION_REFERENCES, LABEL_PIPELINE, LABEL_STAGE

Manifest = dict[str, Any]
_QUANTITIES = ("requests", "limits")
_FILLED_IN = ("managedFields", "creationTimestamp", "selfLink", "resourceVersion", "generation", "uid")


@dataclass(frozen=True, slots=True)
class Live:
    """One object.

    Attributes:
        kind: as in a manifest.
        namespace: its namespace.
        name: its name.
        uid: its identity.
        version: resourceVersion, for optimistic locking.
        owner_uid: of its controller; empty when it has none.
        pipeline: name of the pipeline that its label names; empty without the label.
        stage: name of the stage that its label names; empty without the label.
        applied: digest of the manifest that we applied last; empty when we never did.
        state: a digest of all that somebody could edit, except the replica count and the status.
        packed: the same, to be compared.
        replicas: that a Deployment asks for; 0 for other kinds.
        ready: ready replicas of a Deployment.
        updated: replicas of a Deployment that have its newest template.
        outdated: those that have an older one, and serve until newer ones are ready.
        settled: whether the controller has seen the newest spec.
        failure: why a Deployment's replicas could not be created (such as a quota), in the controller's own words.
        references: digest of the referred contents that its pods were made with.
        deleting: whether it is being deleted.
    """

    kind: str
    namespace: str
    name: str
    uid: str
    version: int
    owner_uid: str
    pipeline: str
    stage: str
    applied: str
    state: int
    packed: bytes
    replicas: int = 0
    ready: int = 0
    updated: int = 0
    outdated: int = 0
    settled: bool = True
    failure: str = ""
    references: str = ""
    deleting: bool = False

    @property
    def group(self) -> tuple[str, str] | None:
        """The pipeline that it is labelled with, by which indexes find it."""
        return (self.namespace, self.pipeline) if self.pipeline else None

    def content(self) -> Manifest:
        """What was packed."""
        unpacked: Manifest = json.loads(zlib.decompress(self.packed))
        return unpacked

    def fits(self, manifest: Manifest) -> bool:
        """Whether the object has everything that a signed manifest says, and was made from that very manifest."""
        signature = manifest["metadata"]["annotations"][ANNOTATION_APPLIED]
        if self.applied != signature or self.deleting:
            return False
        if self.kind == "Deployment" and self.replicas != manifest["spec"]["replicas"]:
            return False
        wanted = {**manifest, "spec": {k: v for k, v in manifest.get("spec", {}).items() if k != "replicas"}}
        return contains({**self.content(), "kind": self.kind, "apiVersion": manifest["apiVersion"]}, wanted)


def slim(kind: str, found: Manifest) -> Live:
    """Make a record of what the API server sent."""
    meta, spec, status = found["metadata"], found.get("spec") or {}, found.get("status") or {}
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    deployed = kind == "Deployment"
    kept = {
        **{key: value for key, value in found.items() if key not in {"status", "apiVersion", "kind"}},
        "metadata": {key: value for key, value in meta.items() if key not in _FILLED_IN},
    }
    if deployed:
        kept["metadata"]["annotations"] = {k: v for k, v in annotations.items() if not k.startswith("deployment.kub")}
    if "spec" in found:
        kept["spec"] = {key: value for key, value in spec.items() if key != "replicas"}
    text = json.dumps(kept, sort_keys=True).encode()
    template = ((spec.get("template") or {}).get("metadata") or {}).get("annotations") or {}
    return Live(
        kind=kind,
        namespace=sys.intern(meta.get("namespace", "")),
        name=meta["name"],
        uid=meta["uid"],
        version=int(meta["resourceVersion"]),
        owner_uid=sys.intern(
            next((one["uid"] for one in meta.get("ownerReferences") or () if one.get("controller")), "")
        ),
        pipeline=sys.intern(labels.get(LABEL_PIPELINE, "")),
        stage=sys.intern(labels.get(LABEL_STAGE, "")),
        applied=annotations.get(ANNOTATION_APPLIED, ""),
        state=hash(text),
        packed=zlib.compress(text, 1),
        replicas=int(spec.get("replicas", 1)) if deployed else 0,
        ready=int(status.get("readyReplicas", 0)) if deployed else 0,
        updated=int(status.get("updatedReplicas", 0)) if deployed else 0,
        outdated=max(0, int(status.get("replicas", 0)) - int(status.get("updatedReplicas", 0))) if deployed else 0,
        settled=not deployed or int(status.get("observedGeneration", 0)) >= int(meta.get("generation", 0)),
        failure=_failure(status) if deployed else "",
        references=template.get(ANNOTATION_REFERENCES, ""),
        deleting="deletionTimestamp" in meta,
    )


def _failure(status: Mapping[str, Any]) -> str:
    return next(
        (
            str(one.get("message", one.get("reason", "")))
            for one in status.get("conditions") or ()
            if one.get("type") == "ReplicaFailure" and one.get("status") == "True"
        ),
        "",
    )


def contains(found: object, wanted: object, *, quantity: bool = False) -> bool:
    """Whether `found` says all that `wanted` says; it may say more, as the server fills in defaults.

    Lists of things with names are compared by name; other lists must have the same length. A field that is wanted
    empty may be absent.
    """
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            return not wanted and found is None
        return all(
            contains(found.get(key), value, quantity=quantity or key in _QUANTITIES) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return _contains_list(found or [], wanted)
    if quantity and found is not None:
        return bool(parse_quantity(found) == parse_quantity(wanted))  # type: ignore[no-untyped-call]
    return bool(found == wanted)


def _contains_list(found: object, wanted: list[Any]) -> bool:
    if not isinstance(found, list):
        return False
    if wanted and all(isinstance(one, dict) and "name" in one for one in wanted):
        by_name = {one.get("name"): one for one in found if isinstance(one, dict)}
        return all(contains(by_name.get(one["name"]), one) for one in wanted)
    return len(found) == len(wanted) and all(contains(*pair) for pair in zip(found, wanted, strict=True))
