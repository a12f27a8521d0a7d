"""The objects of a stage: what the workers are told, and how their pods are confined."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from eod_contract.kinds import KINDS
from eod_operator.api import PipelineSpec
from eod_operator.api.sources import RESERVED_ENV
from eod_operator.resources import ANNOTATION_APPLIED, Owner, stage_objects
from eod_workers.ingestion.stage import _DRAIN_S as INGESTION_DRAIN_S
from eod_workers.process.bootstrap import make_kafka_security
from eod_workers.process.settings import load_settings
from eod_workers.runtime.batchloop import DRAIN_S

Manifest = dict[str, Any]


def objects(
    spec: PipelineSpec, owner: Owner, stage: int = 1, replicas: int = 3, references: str = ""
) -> dict[str, Manifest]:
    """The objects of a stage, by kind."""
    made = stage_objects(owner, spec, spec.stages[stage], replicas, references=references)
    assert len({one["kind"] for one in made}) == len(made)
    return {one["kind"]: one for one in made}


def pod(spec: PipelineSpec, owner: Owner, stage: int = 1) -> Manifest:
    made: Manifest = objects(spec, owner, stage)["Deployment"]["spec"]["template"]["spec"]
    return made


def container(spec: PipelineSpec, owner: Owner, stage: int = 1) -> Manifest:
    (only,) = pod(spec, owner, stage)["containers"]
    return dict(only)


SECRET = {"secretRef": {"name": "kafka-client"}}
SECURITY: dict[str, Manifest] = {
    "tls": {"protocol": "SSL"},
    "mutual": {"protocol": "SSL", **SECRET},
    "scram": {"protocol": "SASL_SSL", **SECRET},
    "plain": {"protocol": "SASL_PLAINTEXT", "mechanism": "PLAIN", **SECRET},
    "iam": {"protocol": "SASL_SSL", "mechanism": "AWS_MSK_IAM", "awsRegion": "eu-west-1"},
    "iam with an authority": {"protocol": "SASL_SSL", "mechanism": "AWS_MSK_IAM", "awsRegion": "eu-west-1", **SECRET},
}


def with_security(spec: PipelineSpec, security: Manifest) -> PipelineSpec:
    raw = spec.model_dump(by_alias=True, mode="json", exclude_none=True)
    raw["kafka"]["security"] = security
    return PipelineSpec.model_validate(raw)


def test_stage_is_told_what_to_run_and_where_kafka_is(spec: PipelineSpec, owner: Owner) -> None:
    made = objects(spec, owner)
    assert container(spec, owner)["args"] == ["stage", "run", "flash-pnl"]
    assert container(spec, owner)["envFrom"] == [{"configMapRef": {"name": "close-pnl"}}]
    assert made["ConfigMap"]["metadata"]["name"] == "close-pnl"
    assert made["ConfigMap"]["data"] == {
        "EOD_KAFKA_BOOTSTRAP": "kafka:9092",
        "EOD_STAGE_NAME": "pnl",
        "EOD_TOPICS": "trades.raw,prices.updates",
        "EOD_GROUP": "flash-pnl",
        "EOD_JOIN_BEAT_S": "5",
        "EOD_HTTP_PORT": "8080",
        "EOD_HTTP_HOST": "0.0.0.0",  # noqa: S104 - a pod
    }


def test_what_the_operator_sets_is_reserved(spec: PipelineSpec, owner: Owner) -> None:
    """The CRD refuses these names in config.env, which would win over the ConfigMap."""
    assert set(objects(spec, owner)["ConfigMap"]["data"]) <= set(RESERVED_ENV)
    told: set[str] = set()
    for security in SECURITY.values():
        secured = with_security(spec, security)
        told |= set(objects(secured, owner)["ConfigMap"]["data"])
        told |= set(objects(secured, owner, stage=0)["ConfigMap"]["data"])
        told |= {one["name"] for one in container(secured, owner).get("env", [])}
    files = {"EOD_KAFKA_CA_FILE", "EOD_KAFKA_CERT_FILE", "EOD_KAFKA_KEY_FILE"}  # which the folder's would not fit
    http = {"EOD_HTTP_TLS_CERT_FILE", "EOD_HTTP_TLS_KEY_FILE", "EOD_HTTP_TOKEN_FILE"}  # see test_http
    assert told | files | http == set(RESERVED_ENV)


def test_a_stage_that_consumes_nothing_is_told_no_group_and_no_topics(spec: PipelineSpec, owner: Owner) -> None:
    told = objects(spec, owner, stage=0)["ConfigMap"]["data"]
    assert not {"EOD_GROUP", "EOD_TOPICS"} & set(told)


def test_a_stage_listens_on_the_addresses_of_its_pod_and_not_on_loopback(spec: PipelineSpec, owner: Owner) -> None:
    told = objects(spec, owner, stage=0)["ConfigMap"]["data"]
    assert {name: value for name, value in told.items() if name.endswith("_HOST")} == {
        "EOD_HTTP_HOST": "0.0.0.0",  # noqa: S104 - a pod
        "EOD_FIX_HOST": "0.0.0.0",  # noqa: S104 - a pod
    }


def test_topics_group_image_and_resources_of_the_stage_win(raw_spec: Manifest, owner: Owner) -> None:
    raw_spec["stages"][1] |= {
        "topics": ["t.1", "t.2"],
        "group": "g",
        "image": "other:2",
        "resources": {"requests": {"cpu": "500m", "memory": 1024}},
        "terminationGraceSeconds": 90,
    }
    spec = PipelineSpec.model_validate(raw_spec)
    made = container(spec, owner)
    assert (made["image"], made["resources"]) == ("other:2", {"requests": {"cpu": "500m", "memory": 1024}})
    told = objects(spec, owner)["ConfigMap"]["data"]
    assert (told["EOD_TOPICS"], told["EOD_GROUP"]) == ("t.1,t.2", "g")
    assert pod(spec, owner)["terminationGracePeriodSeconds"] == 90


def test_settings_reach_every_stage_and_the_operators_own_come_last(raw_spec: Manifest, owner: Owner) -> None:
    raw_spec["config"] = {
        "configMapRef": {"name": "settings"},
        "secretRef": {"name": "credentials"},
        "env": [
            {"name": "EOD_REDIS_URL", "value": "redis://r"},
            {"name": "EOD_S3_KEY", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "id"}}},
        ],
    }
    made = container(PipelineSpec.model_validate(raw_spec), owner)
    assert made["envFrom"] == [
        {"configMapRef": {"name": "settings"}},
        {"secretRef": {"name": "credentials"}},
        {"configMapRef": {"name": "close-pnl"}},
    ]
    assert made["env"] == [
        {"name": "EOD_REDIS_URL", "value": "redis://r"},
        {"name": "EOD_S3_KEY", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "id"}}},
    ]


def test_pods_are_confined(spec: PipelineSpec, owner: Owner) -> None:
    """They pass the `restricted` Pod Security Standard and hold no token of the cluster."""
    made = pod(spec, owner)
    assert made["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert made["automountServiceAccountToken"] is False
    assert made["enableServiceLinks"] is False  # a Service named eod-fix would set EOD_FIX_PORT
    assert made["serviceAccountName"] == "close-pnl"
    assert made["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert objects(spec, owner)["ServiceAccount"]["automountServiceAccountToken"] is False


def test_pods_are_probed(spec: PipelineSpec, owner: Owner) -> None:
    made = container(spec, owner)
    assert made["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
    assert made["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}


def test_a_doctor_looks_first_where_one_is_wanted(raw_spec: Manifest, spec: PipelineSpec, owner: Owner) -> None:
    """It sees what the stage will see, and may do no more."""
    assert "initContainers" not in pod(spec, owner)
    seen = PipelineSpec.model_validate({**raw_spec, "doctor": {"enabled": True, "waitSeconds": 7}})
    (doctor,), stage = pod(seen, owner)["initContainers"], container(seen, owner)
    assert doctor.pop("name") == "doctor"
    assert doctor.pop("args") == ["doctor", seen.stages[1].kind, "--ignore-danger", "--wait-seconds", "7"]
    assert doctor.items() <= stage.items()
    assert stage.keys() - doctor.keys() == {"name", "args", "ports", "livenessProbe", "readinessProbe", "startupProbe"}


def test_the_grace_of_every_kind_fits_its_drain(raw_spec: Manifest, owner: Owner) -> None:
    """A worker drains for so long and then closes its stores; the kubelet must not kill it on the way."""
    raw_spec["stages"] = [{"name": name, "kind": name, "replicas": {"max": 1}} for name in KINDS]
    spec = PipelineSpec.model_validate(raw_spec)
    for number in range(len(KINDS)):
        assert pod(spec, owner, number)["terminationGracePeriodSeconds"] >= 2 * max(DRAIN_S, INGESTION_DRAIN_S)


def test_a_listening_stage_serves_on_until_every_node_has_taken_it_off_its_service(
    raw_spec: Manifest, owner: Owner
) -> None:
    """And that time is not taken from its drain: the kubelet counts the hook as part of the grace."""
    raw_spec["stages"] = [
        {"name": name, "kind": name, "replicas": {"max": 1}, "terminationGraceSeconds": 10} for name in KINDS
    ]
    spec = PipelineSpec.model_validate(raw_spec)
    for number, kind in enumerate(KINDS.values()):
        waits_s = (
            container(spec, owner, number).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        )
        assert (waits_s > 0) == bool(kind.ports), kind.name
        assert pod(spec, owner, number)["terminationGracePeriodSeconds"] == 10 + waits_s


def test_replicas_are_spread_over_zones_and_nodes_where_that_can_be(spec: PipelineSpec, owner: Owner) -> None:
    spread = pod(spec, owner)["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert {one["whenUnsatisfiable"] for one in spread} == {"ScheduleAnyway"}


AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "pool", "operator": "In", "values": ["fast"]}]}]
        }
    }
}


def test_scheduling_wishes_reach_the_pods(raw_spec: Manifest, owner: Owner) -> None:
    tolerations = [{"key": "close", "operator": "Exists", "effect": "NoSchedule"}]
    raw_spec["scheduling"] = {
        "priorityClassName": "close",
        "nodeSelector": {"pool": "fast"},
        "tolerations": tolerations,
        "topologyKeys": [],
        "affinity": AFFINITY,
    }
    made = pod(PipelineSpec.model_validate(raw_spec), owner)
    assert (made["priorityClassName"], made["nodeSelector"], made["tolerations"]) == (
        "close",
        {"pool": "fast"},
        tolerations,
    )
    assert made["affinity"] == AFFINITY
    assert "topologySpreadConstraints" not in made


def test_images_are_pulled_with_the_secrets_that_are_named(raw_spec: Manifest, owner: Owner) -> None:
    assert "imagePullSecrets" not in pod(PipelineSpec.model_validate(raw_spec), owner)
    raw_spec["imagePullSecrets"] = [{"name": "registry"}, {"name": "mirror"}]
    made = pod(PipelineSpec.model_validate(raw_spec), owner)
    assert made["imagePullSecrets"] == raw_spec["imagePullSecrets"]


def test_stages_run_as_the_account_that_is_named_and_none_is_made(raw_spec: Manifest, owner: Owner) -> None:
    raw_spec["serviceAccounts"] = {"name": "traders"}
    spec = PipelineSpec.model_validate(raw_spec)
    assert pod(spec, owner)["serviceAccountName"] == "traders"
    assert pod(spec, owner)["automountServiceAccountToken"] is False
    assert "ServiceAccount" not in objects(spec, owner)


def test_a_pod_that_does_not_work_holds_up_no_drain(spec: PipelineSpec, owner: Owner) -> None:
    assert objects(spec, owner)["PodDisruptionBudget"]["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_objects_belong_to_the_pipeline_and_name_their_manager(spec: PipelineSpec, owner: Owner) -> None:
    for made in objects(spec, owner).values():
        (reference,) = made["metadata"]["ownerReferences"]
        assert (reference["uid"], reference["controller"], reference["blockOwnerDeletion"]) == ("uid-1", True, True)
        labels = made["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "eod-operator"
        assert (labels["eod.markets/pipeline"], labels["eod.markets/stage"]) == ("close", "pnl")


def test_scaling_changes_nothing_but_the_replicas(spec: PipelineSpec, owner: Owner) -> None:
    """Neither the pod template nor the digest depends on the count, so scaling never rolls the stage."""
    one, two = (objects(spec, owner, replicas=count)["Deployment"] for count in (1, 7))
    assert (one["spec"].pop("replicas"), two["spec"].pop("replicas")) == (1, 7)
    assert one == two


@pytest.mark.parametrize(
    "change",
    [
        {"kafka": {"bootstrapServers": "other:9092"}},
        {"image": "eod:2"},
        {"config": {"env": [{"name": "A", "value": "1"}]}},
    ],
)
def test_a_changed_setting_changes_the_pod_template(raw_spec: Manifest, owner: Owner, change: Manifest) -> None:
    """The environment of a running pod does not change by itself, so the stage is rolled."""
    before, after = (
        objects(PipelineSpec.model_validate(raw), owner)["Deployment"] for raw in (raw_spec, {**raw_spec, **change})
    )
    assert before["spec"]["template"] != after["spec"]["template"]
    assert before["metadata"]["annotations"][ANNOTATION_APPLIED] != after["metadata"]["annotations"][ANNOTATION_APPLIED]


def test_changed_references_change_the_pod_template_and_nothing_else(spec: PipelineSpec, owner: Owner) -> None:
    before, after = objects(spec, owner), objects(spec, owner, references="abc")
    assert {kind for kind in before if before[kind] != after[kind]} == {"Deployment"}
    assert after["Deployment"]["spec"]["template"]["metadata"]["annotations"]["eod.markets/references"] == "abc"


def test_every_stage_serves_its_metrics_and_ingestion_fix(spec: PipelineSpec, owner: Owner) -> None:
    http = {"name": "http", "port": 8080, "targetPort": "http", "protocol": "TCP"}
    fix = {"name": "fix", "port": 9876, "targetPort": "fix", "protocol": "TCP"}
    assert objects(spec, owner, stage=0)["Service"]["spec"]["ports"] == [http, fix]
    assert objects(spec, owner, stage=1)["Service"]["spec"]["ports"] == [http]
    assert {"name": "fix", "containerPort": 9876, "protocol": "TCP"} in container(spec, owner, stage=0)["ports"]


def test_a_drain_takes_one_replica_at_a_time(spec: PipelineSpec, owner: Owner) -> None:
    made = objects(spec, owner)["PodDisruptionBudget"]["spec"]
    assert made["maxUnavailable"] == 1
    assert made["selector"]["matchLabels"] == {"eod.markets/pipeline": "close", "eod.markets/stage": "pnl"}


def test_network_policy_and_service_monitor_are_made_where_asked_for(raw_spec: Manifest, owner: Owner) -> None:
    assert not {"NetworkPolicy", "ServiceMonitor"} & set(objects(PipelineSpec.model_validate(raw_spec), owner))
    raw_spec["networkPolicy"] = {"enabled": True, "egressPorts": [9092, 6379]}
    raw_spec["serviceMonitor"] = {"enabled": True, "intervalSeconds": 5, "labels": {"release": "prom"}}
    made = objects(PipelineSpec.model_validate(raw_spec), owner, stage=0)
    rules = made["NetworkPolicy"]["spec"]
    assert rules["policyTypes"] == ["Ingress", "Egress"]
    assert {one["port"] for one in rules["ingress"][0]["ports"]} == {8080, 9876}
    assert {(one["protocol"], one["port"]) for one in rules["egress"][0]["ports"]} == {
        ("UDP", 53),
        ("TCP", 53),
        ("TCP", 9092),
        ("TCP", 6379),
    }
    monitor = made["ServiceMonitor"]
    assert monitor["metadata"]["labels"]["release"] == "prom"
    assert monitor["spec"]["endpoints"] == [{"port": "http", "path": "/metrics", "interval": "5s"}]


def test_without_egress_ports_what_goes_out_is_not_restricted(raw_spec: Manifest, owner: Owner) -> None:
    raw_spec["networkPolicy"] = {"enabled": True}
    rules = objects(PipelineSpec.model_validate(raw_spec), owner)["NetworkPolicy"]["spec"]
    assert rules["policyTypes"] == ["Ingress"]
    assert "egress" not in rules


def test_service_accounts_carry_a_role_of_the_clouds(raw_spec: Manifest, owner: Owner) -> None:
    raw_spec["serviceAccounts"] = {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/eod"}}
    made = objects(PipelineSpec.model_validate(raw_spec), owner)["ServiceAccount"]
    assert made["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] == "arn:aws:iam::1:role/eod"


# Kafka's TLS and credentials, and files

LOGIN = [
    {"name": "EOD_KAFKA_USERNAME", "valueFrom": {"secretKeyRef": {"name": "kafka-client", "key": "username", "optional": True}}},
    {"name": "EOD_KAFKA_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "kafka-client", "key": "password", "optional": True}}},
]  # fmt: skip
PEM = {
    "name": "kafka",
    "secret": {
        "secretName": "kafka-client",
        "items": [{"key": key, "path": key} for key in ("ca.crt", "tls.crt", "tls.key")],
        "defaultMode": 0o444,
        "optional": True,
    },
}
MOUNTED = {"name": "kafka", "mountPath": "/etc/eod/kafka", "readOnly": True}


@pytest.mark.parametrize(
    ("security", "told", "env", "volumes"),
    [
        ("tls", {"SECURITY_PROTOCOL": "SSL"}, None, []),
        ("mutual", {"SECURITY_PROTOCOL": "SSL", "TLS_DIR": "/etc/eod/kafka"}, None, [PEM]),
        ("scram", {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "SCRAM-SHA-512", "TLS_DIR": "/etc/eod/kafka"}, LOGIN, [PEM]),
        ("plain", {"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SASL_MECHANISM": "PLAIN"}, LOGIN, []),
        ("iam", {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "AWS_MSK_IAM", "AWS_REGION": "eu-west-1"}, None, []),
        ("iam with an authority", {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "AWS_MSK_IAM", "AWS_REGION": "eu-west-1", "TLS_DIR": "/etc/eod/kafka"}, None, [PEM]),
    ],
)  # fmt: skip
def test_stages_get_what_kafka_wants(
    spec: PipelineSpec,
    owner: Owner,
    security: str,
    told: dict[str, str],
    env: list[Manifest] | None,
    volumes: list[Manifest],
) -> None:
    """Credentials by reference and files from the Secret, never their contents; whatever the Secret has is used."""
    secured = with_security(spec, SECURITY[security])
    data = objects(secured, owner)["ConfigMap"]["data"]
    named = {f"EOD_KAFKA_{name}": value for name, value in told.items()}
    assert {name: value for name, value in data.items() if name.startswith("EOD_KAFKA_")} == {
        "EOD_KAFKA_BOOTSTRAP": "kafka:9092", **named,
    }  # fmt: skip
    assert container(secured, owner).get("env") == env
    assert pod(secured, owner)["volumes"] == [{"name": "tmp", "emptyDir": {}}, *volumes]
    mounted = [MOUNTED] if volumes else []
    assert container(secured, owner)["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}, *mounted]


def test_the_settings_of_a_stage_can_be_loaded_by_a_worker(
    spec: PipelineSpec, owner: Owner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the operator writes and what the worker reads are in two packages that do not know each other."""
    for security in SECURITY.values():
        for name in [name for name in os.environ if name.startswith("EOD_")]:
            monkeypatch.delenv(name)
        secured = with_security(spec, security)
        told = dict(objects(secured, owner)["ConfigMap"]["data"])
        if "EOD_KAFKA_TLS_DIR" in told:
            told["EOD_KAFKA_TLS_DIR"] = str(tmp_path)
        told |= {one["name"]: "x" for one in container(secured, owner).get("env", [])}
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        assert make_kafka_security(load_settings()).protocol == security["protocol"]


def test_files_are_mounted_read_only_into_every_stage(raw_spec: Manifest, owner: Owner) -> None:
    raw_spec["config"] = {
        "files": [
            {"mountPath": "/etc/eod/reference", "configMapRef": {"name": "traders"}},
            {"mountPath": "/etc/eod/redis", "secretRef": {"name": "redis-ca"}},
        ]
    }
    spec = PipelineSpec.model_validate(raw_spec)
    for stage in range(2):
        _tmp, reference, redis = pod(spec, owner, stage)["volumes"]
        assert reference.items() >= {"configMap": {"name": "traders", "defaultMode": 0o444}}.items()
        assert redis.items() >= {"secret": {"secretName": "redis-ca", "defaultMode": 0o444}}.items()
        assert container(spec, owner, stage)["volumeMounts"][1:] == [
            {"name": reference["name"], "mountPath": "/etc/eod/reference", "readOnly": True},
            {"name": redis["name"], "mountPath": "/etc/eod/redis", "readOnly": True},
        ]
        assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", one["name"]) for one in (reference, redis))
