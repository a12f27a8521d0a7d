"""Who owns an object and how it is found again: names, labels, owner references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eod_operator.api import API_VERSION, KIND

MANAGER = "eod-operator"
"""Field manager of every apply, and `app.kubernetes.io/managed-by`."""
LABEL_PIPELINE = "eod.markets/pipeline"
LABEL_STAGE = "eod.markets/stage"

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

    def owns(self, manifest: Mapping[str, Any]) -> bool:
        """Whether an object of the cluster is controlled by this very pipeline."""
        references = manifest.get("metadata", {}).get("ownerReferences") or []
        return any(one.get("controller") and one.get("uid") == self.uid for one in references)


def object_name(owner: Owner, stage: str) -> str:
    """Name of a stage's Deployment and Service; the CRD bounds both parts so that it is a DNS label."""
    return f"{owner.name}-{stage}"


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
            "app.kubernetes.io/managed-by": MANAGER,
        },
        "ownerReferences": [owner.reference],
    }
