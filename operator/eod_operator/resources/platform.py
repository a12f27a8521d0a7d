"""What surrounds a stage's pods: identity, protection from drains, network rules, scraping."""

from __future__ import annotations

from eod_contract.kinds import HTTP_PORT, KINDS

from eod_operator.api import PipelineSpec, StageSpec
from eod_operator.api.http import Http
from eod_operator.resources.identity import Manifest, Owner, metadata, selector

DNS_PORT = 53


def service_account(owner: Owner, spec: PipelineSpec, stage: StageSpec) -> Manifest | None:
    """The identity of a stage: no rights in the cluster, no token, perhaps a cloud's role; None if one is named."""
    if spec.service_accounts.name is not None:
        return None
    described = metadata(owner, stage.name, stage.kind)
    if spec.service_accounts.annotations:
        described["annotations"] = spec.service_accounts.annotations
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": described,
        "automountServiceAccountToken": False,
    }


def disruption_budget(owner: Owner, stage: StageSpec) -> Manifest:
    """Nodes are drained one replica at a time; each eviction costs the group a rebalance.

    maxUnavailable, because a minAvailable would forbid draining the node of a stage that has one replica. Pods that are
    not ready may always go: they serve nobody, and a node would never be empty of one that crashes.
    """
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(owner, stage.name, stage.kind),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": selector(owner, stage.name)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def network_policy(owner: Owner, spec: PipelineSpec, stage: StageSpec) -> Manifest | None:
    """In to the stage's own ports only, out to DNS and the ports that the spec names; None unless asked for."""
    wishes = spec.network_policy
    if not wishes.enabled:
        return None
    ports = [HTTP_PORT, *(number for _, number in KINDS[stage.kind].ports)]
    rules: Manifest = {
        "podSelector": {"matchLabels": selector(owner, stage.name)},
        "policyTypes": ["Ingress"],
        "ingress": [{"ports": [{"protocol": "TCP", "port": port} for port in ports]}],
    }
    if wishes.egress_ports:
        dns = [{"protocol": protocol, "port": DNS_PORT} for protocol in ("UDP", "TCP")]
        stores = [{"protocol": "TCP", "port": port} for port in wishes.egress_ports]
        rules["policyTypes"].append("Egress")
        rules["egress"] = [{"ports": [*dns, *stores]}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(owner, stage.name, stage.kind),
        "spec": rules,
    }


def service_monitor(owner: Owner, spec: PipelineSpec, stage: StageSpec) -> Manifest | None:
    """Scraping of the stage's replicas by the Prometheus operator; None unless asked for."""
    wishes = spec.service_monitor
    if not wishes.enabled:
        return None
    described = metadata(owner, stage.name, stage.kind)
    described["labels"] = {**(wishes.labels or {}), **described["labels"]}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": described,
        "spec": {
            "selector": {"matchLabels": selector(owner, stage.name)},
            "endpoints": [
                {
                    "port": "http",
                    "path": "/metrics",
                    "interval": f"{wishes.interval_seconds}s",
                    **(_access(spec.http) if spec.http is not None else {}),
                }
            ],
            "podTargetLabels": ["eod.markets/pipeline", "eod.markets/stage"],
        },
    }


def _access(http: Http) -> Manifest:
    """How Prometheus gets at the metrics.

    It believes in the certificate that the Secret holds, by itself or by what else is in `tls.crt`: of an authority
    the Secret need hold none. It goes by pods' addresses, so it is told which name to verify.
    """
    told: Manifest = {}
    if http.tls is not None:
        authority = {"secret": {"name": http.tls.secret_ref.name, "key": "tls.crt"}}
        told |= {"scheme": "https", "tlsConfig": {"ca": authority, "serverName": http.tls.server_name}}
    if http.token is not None:
        credentials = http.token.secret_key_ref.model_dump()
        told["authorization"] = {"type": "Bearer", "credentials": credentials}
    return told
