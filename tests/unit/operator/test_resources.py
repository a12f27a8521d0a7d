"""The objects of a stage: what the workers are told, and how their pods are confined."""

from __future__ import annotations

from typing import Any

from eod_operator.api import PipelineSpec
from eod_operator.resources import Owner, deployment, service


def container(spec: PipelineSpec, owner: Owner, stage: int = 1) -> dict[str, Any]:
    made = deployment(owner, spec, spec.stages[stage], 3)
    (only,) = made["spec"]["template"]["spec"]["containers"]
    return dict(only)


def env(made: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in made["env"]}


def test_stage_is_told_what_to_run_and_where_kafka_is(spec: PipelineSpec, owner: Owner) -> None:
    made = container(spec, owner)
    assert made["args"] == ["stage", "run", "flash-pnl"]
    assert env(made) == {
        "EOD_KAFKA_BOOTSTRAP": "kafka:9092",
        "EOD_STAGE_NAME": "pnl",
        "EOD_TOPICS": "trades.raw,prices.updates",
        "EOD_GROUP": "flash-pnl",
        "EOD_HTTP_PORT": "8080",
    }


def test_a_stage_that_consumes_nothing_is_told_no_group_and_no_topics(spec: PipelineSpec, owner: Owner) -> None:
    assert not {"EOD_GROUP", "EOD_TOPICS"} & set(env(container(spec, owner, stage=0)))


def test_topics_group_image_and_resources_of_the_stage_win(raw_spec: dict[str, Any], owner: Owner) -> None:
    raw_spec["stages"][1] |= {
        "topics": ["t.1", "t.2"],
        "group": "g",
        "image": "other:2",
        "resources": {"requests": {"cpu": "500m", "memory": 1024}},
    }
    made = container(PipelineSpec.model_validate(raw_spec), owner)
    assert (made["image"], made["resources"]) == ("other:2", {"requests": {"cpu": "500m", "memory": 1024}})
    assert (env(made)["EOD_TOPICS"], env(made)["EOD_GROUP"]) == ("t.1,t.2", "g")


def test_settings_reach_every_stage(raw_spec: dict[str, Any], owner: Owner) -> None:
    raw_spec["config"] = {
        "configMapRef": {"name": "settings"},
        "secretRef": {"name": "credentials"},
        "env": [
            {"name": "EOD_REDIS_URL", "value": "redis://r"},
            {"name": "EOD_S3_KEY", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "id"}}},
        ],
    }
    made = container(PipelineSpec.model_validate(raw_spec), owner)
    assert made["envFrom"] == [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "credentials"}}]
    assert env(made)["EOD_REDIS_URL"] == "redis://r"
    assert env(made)["EOD_S3_KEY"] == {"secretKeyRef": {"name": "s3", "key": "id"}}


def test_pods_are_confined(spec: PipelineSpec, owner: Owner) -> None:
    """They pass the `restricted` Pod Security Standard and hold no token of the cluster."""
    pod = deployment(owner, spec, spec.stages[1], 1)["spec"]["template"]["spec"]
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert pod["automountServiceAccountToken"] is False
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_pods_are_probed_and_have_time_to_drain(spec: PipelineSpec, owner: Owner) -> None:
    pod = deployment(owner, spec, spec.stages[1], 1)["spec"]["template"]["spec"]
    made = pod["containers"][0]
    assert pod["terminationGracePeriodSeconds"] == 60
    assert made["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
    assert made["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}


def test_objects_belong_to_the_pipeline(spec: PipelineSpec, owner: Owner) -> None:
    made = deployment(owner, spec, spec.stages[1], 3)
    (reference,) = made["metadata"]["ownerReferences"]
    assert (reference["uid"], reference["controller"], reference["blockOwnerDeletion"]) == ("uid-1", True, True)
    assert owner.owns(made)
    assert not Owner("trading", "close", "uid-2").owns(made)
    assert not owner.owns({"metadata": {}})


def test_scaling_changes_nothing_but_the_replicas(spec: PipelineSpec, owner: Owner) -> None:
    """The pod template does not depend on the count, so scaling never rolls the stage."""
    one, two = (deployment(owner, spec, spec.stages[1], count) for count in (1, 7))
    assert (one["spec"].pop("replicas"), two["spec"].pop("replicas")) == (1, 7)
    assert one == two


def test_only_a_stage_with_ports_of_its_own_gets_a_service(spec: PipelineSpec, owner: Owner) -> None:
    made = service(owner, spec.stages[0])
    assert made is not None
    assert made["spec"]["ports"] == [{"name": "fix", "port": 9876, "targetPort": "fix", "protocol": "TCP"}]
    assert {"name": "fix", "containerPort": 9876, "protocol": "TCP"} in container(spec, owner, stage=0)["ports"]
    assert service(owner, spec.stages[1]) is None
