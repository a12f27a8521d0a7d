"""Who owns an object and how it is found again: names, labels, annotations, owner references."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eod_operator.api import API_VERSION, KIND

MANAGER = "eod-operator"
"""Field manager of every apply, and `app.kubernetes.io/managed-by`."""
LABEL_MANAGER = "app.kubernetes.io/managed-by"
LABEL_PIPELINE = "eod.markets/pipeline"
LABEL_STAGE = "eod.markets/stage"
ANNOTATION_APPLIED = "eod.markets/applied"
"""Digest of what was applied, so that a restarted operator knows whether a field has since left the spec."""

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Owner:
    """The pipeline that an object belongs to; deleting it deletes the object."""

    namespace: str
    name: str
    uid: str

    @property
    def reference(self) -> Manifest:
        """The owner reference, by which the garbage collector cleans up."""
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }


def object_name(owner: Owner, stage: str) -> str:
    """Name of a stage's objects; the CRD bounds both parts so that it is a DNS label."""
    return f"{owner.name}-{stage}"


def decisions_name(owner: Owner) -> str:
    """Name of the ConfigMap with a pipeline's last decisions; no stage's object has a dot."""
    return f"{owner.name}.decisions"


def forecast_name(pipeline: str) -> str:
    """Name of the ConfigMap with what was learned of a pipeline's closes."""
    return f"{pipeline}.forecast"


def selector(owner: Owner, stage: str) -> dict[str, str]:
    """Labels of a stage's pods that never change: a Deployment's selector is immutable."""
    return {LABEL_PIPELINE: owner.name, LABEL_STAGE: stage}


def metadata(owner: Owner, stage: str, kind: str) -> Manifest:
    """Metadata of a stage's object."""
    return {
        "name": object_name(owner, stage),
        "namespace": owner.namespace,
        "labels": {
            **selector(owner, stage),
            "app.kubernetes.io/name": kind,
            "app.kubernetes.io/instance": object_name(owner, stage),
            "app.kubernetes.io/part-of": owner.name,
            LABEL_MANAGER: MANAGER,
        },
        "ownerReferences": [owner.reference],
    }


def digest(content: object) -> str:
    """A short digest of anything that is JSON: equal contents have equal digests, in any order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def signed(manifest: Mapping[str, Any]) -> Manifest:
    """The manifest with its own digest as an annotation; a Deployment's replica count does not change the digest."""
    meta = manifest["metadata"]
    spec = manifest.get("spec", {})
    described = {**manifest, "spec": {key: value for key, value in spec.items() if key != "replicas"}}
    annotations = {**meta.get("annotations", {}), ANNOTATION_APPLIED: digest(described)}
    return {**manifest, "metadata": {**meta, "annotations": annotations}}
