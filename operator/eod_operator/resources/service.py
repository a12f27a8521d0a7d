"""The Service of a stage: its metrics, and the ports that others connect to, such as ingestion's FIX port."""

from __future__ import annotations

from eod_contract.kinds import HTTP_PORT, KINDS

from eod_operator.api import StageSpec
from eod_operator.resources.identity import Manifest, Owner, metadata, selector


def service(owner: Owner, stage: StageSpec) -> Manifest:
    """The Service of a stage."""
    ports = (("http", HTTP_PORT), *KINDS[stage.kind].ports)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(owner, stage.name, stage.kind),
        "spec": {
            "type": "ClusterIP",
            "selector": selector(owner, stage.name),
            "ports": [{"name": name, "port": port, "targetPort": name, "protocol": "TCP"} for name, port in ports],
        },
    }
