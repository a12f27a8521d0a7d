"""What the operator tells a stage: a ConfigMap whose keys become its environment."""

from __future__ import annotations

from eod_contract.kinds import HTTP_PORT, KINDS

from eod_operator.api import PipelineSpec, StageSpec
from eod_operator.api.http import Http
from eod_operator.api.sources import HTTP_FILES, KAFKA_FILES, KafkaSecurity
from eod_operator.resources.identity import Manifest, Owner, metadata

JOIN_BEAT_S = "5"
"""Pods of one scale-up become ready seconds apart: they join their group together, for one rebalance."""

_EVERYWHERE = "0.0.0.0"  # noqa: S104 - of a pod, which has its own; a stage by itself listens on loopback


def settings(spec: PipelineSpec, stage: StageSpec) -> dict[str, str]:
    """Environment of a stage that is the operator's to say; the CRD refuses these names in config.env."""
    told = {
        "EOD_KAFKA_BOOTSTRAP": spec.kafka.bootstrap_servers,
        "EOD_STAGE_NAME": stage.name,
        "EOD_HTTP_PORT": str(HTTP_PORT),
        **{f"EOD_{name.upper()}_HOST": _EVERYWHERE for name, _ in (("http", HTTP_PORT), *KINDS[stage.kind].ports)},
    }
    if spec.kafka.security is not None:
        told |= _security(spec.kafka.security)
    if spec.http is not None:
        told |= _http(spec.http)
    if stage.effective_group is not None:
        told |= {"EOD_TOPICS": ",".join(stage.effective_topics), "EOD_GROUP": stage.effective_group}
        told |= {"EOD_JOIN_BEAT_S": JOIN_BEAT_S}
    return told


def _security(security: KafkaSecurity) -> dict[str, str]:
    """What is no secret of TLS and credentials; the folder is named whatever is in it, and looked at by the stage."""
    told: dict[str, str] = {"EOD_KAFKA_SECURITY_PROTOCOL": security.protocol}
    if security.sasl is not None:
        told["EOD_KAFKA_SASL_MECHANISM"] = security.sasl
    if security.aws_region is not None:
        told["EOD_KAFKA_AWS_REGION"] = security.aws_region
    if security.tls and security.secret_ref is not None:
        told["EOD_KAFKA_TLS_DIR"] = KAFKA_FILES
    return told


def _http(http: Http) -> dict[str, str]:
    """Where the files of the stage's own port are; it reads them again when they change."""
    told: dict[str, str] = {}
    if http.tls is not None:
        told |= {"EOD_HTTP_TLS_CERT_FILE": f"{HTTP_FILES}/tls.crt", "EOD_HTTP_TLS_KEY_FILE": f"{HTTP_FILES}/tls.key"}
    if http.token is not None:
        told["EOD_HTTP_TOKEN_FILE"] = f"{HTTP_FILES}/token"
    return told


def credentials(security: KafkaSecurity | None) -> list[Manifest]:
    """Environment of a stage from Kafka's Secret; a pod starts without it, too, and says itself what is missing."""
    if security is None or security.secret_ref is None or not security.login:
        return []
    keys = {"EOD_KAFKA_USERNAME": "username", "EOD_KAFKA_PASSWORD": "password"}
    return [
        {
            "name": name,
            "valueFrom": {"secretKeyRef": {"name": security.secret_ref.name, "key": key, "optional": True}},
        }
        for name, key in keys.items()
    ]


def config_map(owner: Owner, spec: PipelineSpec, stage: StageSpec) -> Manifest:
    """The ConfigMap of a stage."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(owner, stage.name, stage.kind),
        "data": settings(spec, stage),
    }
