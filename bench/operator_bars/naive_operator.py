"""The peer: what one writes after reading kopf's tutorial. A timer a pipeline lists its Deployments and sums them up.

It does less than ours: it asks no Kafka, decides nothing and watches no Deployment.
"""

from __future__ import annotations

from typing import Any

import kopf
from kubernetes import client, config

INTERVAL_S = 15.0


@kopf.on.startup()
def connect(**_: Any) -> None:
    """Log in."""
    config.load_kube_config()  # type: ignore[no-untyped-call]


@kopf.timer("eod.markets", "v1alpha1", "eodpipelines", interval=INTERVAL_S)
def look(name: str, namespace: str | None, status: kopf.Status, patch: kopf.Patch, **_: Any) -> None:
    """Report the replicas of all stages."""
    found = client.AppsV1Api().list_namespaced_deployment(str(namespace), label_selector=f"eod.markets/pipeline={name}")
    replicas = sum(one.spec.replicas or 0 for one in found.items)
    if status.get("replicas") != replicas:
        patch.status["replicas"] = replicas
