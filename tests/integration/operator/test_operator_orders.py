"""What people and other controllers say beside the spec: annotations, autoscalers, referred objects, topics."""

from __future__ import annotations

import asyncio
import json
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from eod_operator.cli import plugin
from support.operator_world import Manifest, OperatorWorld
from support.patience import eventually, steadily
from testbed.kubernetes import Kubernetes
from typer.testing import CliRunner

SCALED_OBJECT = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "scaledobjects.keda.sh"},
    "spec": {
        "group": "keda.sh",
        "scope": "Namespaced",
        "names": {"kind": "ScaledObject", "plural": "scaledobjects", "singular": "scaledobject"},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}
SERVICE_MONITOR = json.loads(
    json.dumps(SCALED_OBJECT)
    .replace("keda.sh", "monitoring.coreos.com")
    .replace("ScaledObject", "ServiceMonitor")
    .replace("scaledobject", "servicemonitor")
    .replace("v1alpha1", "v1")
)


@pytest.fixture
def kind_installed(kubernetes: Kubernetes, request: pytest.FixtureRequest) -> Iterator[str]:
    """A CRD that another project would bring, for as long as the test lasts."""
    crd: Manifest = request.param
    kubernetes.kubectl("apply", "-f", "-", input=json.dumps(crd))
    name = crd["metadata"]["name"]
    kubernetes.await_kinds(name)
    eventually(lambda: kubernetes.kubectl("get", name, "-A") is not None)
    yield name
    kubernetes.kubectl("delete", "crd", name)


@pytest.mark.slow
def test_freeze_holds_every_count_until_its_time(operated: OperatorWorld, consumed_topic: str) -> None:
    operated.apply(operated.pipeline(operated.stage(consumed_topic)))
    eventually(lambda: operated.replicas() == 1)
    until = (datetime.now(tz=UTC) + timedelta(seconds=12)).strftime("%Y-%m-%dT%H:%M:%SZ")
    operated.kubectl("annotate", "eodp", "close", f"eod.markets/freeze={until}")
    eventually(lambda: operated.condition("ScalingLimited").get("reason") == "Frozen")
    operated.produce(consumed_topic, 35)
    steadily(lambda: operated.replicas() == 1, for_s=2)
    assert until in operated.status()["stages"][0]["reason"]
    eventually(lambda: operated.replicas() == 4)
    assert datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ") >= until


def test_a_pin_and_a_hold(operated: OperatorWorld, consumed_topic: str) -> None:
    """A pin is exact; a hold lets lag raise and nothing lower; both end with their annotation."""
    operated.apply(operated.pipeline(operated.stage(consumed_topic)))
    eventually(lambda: operated.replicas() == 1)
    operated.kubectl("annotate", "eodp", "close", "eod.markets/pin=pnl=3")
    eventually(lambda: operated.replicas() == 3)
    operated.produce(consumed_topic, 60)
    steadily(lambda: operated.replicas() == 3, for_s=2)
    operated.kubectl("annotate", "eodp", "close", "eod.markets/pin-", "eod.markets/hold-scale-down=true")
    eventually(lambda: operated.replicas() == 6)
    operated.commit(consumed_topic, f"{operated.namespace}-pnl", at="end")
    eventually(lambda: operated.condition("ScalingLimited").get("reason") == "Held")
    steadily(lambda: operated.replicas() == 6)
    operated.kubectl("annotate", "eodp", "close", "eod.markets/hold-scale-down-")
    eventually(lambda: operated.replicas() == 1)
    eventually(lambda: operated.condition("ScalingLimited").get("status") == "False")


def test_an_annotation_nobody_can_read_is_told(operated: OperatorWorld, consumed_topic: str) -> None:
    operated.apply(operated.pipeline(operated.stage(consumed_topic)))
    eventually(lambda: operated.replicas() == 1)
    operated.kubectl("annotate", "eodp", "close", "eod.markets/pin=pln=3")
    eventually(lambda: operated.condition("SpecValid").get("reason") == "InvalidAnnotation")
    assert "write one of pnl, such as pnl=4" in operated.condition("SpecValid")["message"]


def test_it_steps_back_from_a_horizontal_pod_autoscaler(operated: OperatorWorld, consumed_topic: str) -> None:
    """The HPA's count is left to it, also one that our max forbids; a roll-out keeps it, the condition says what to do."""
    stage = operated.stage(consumed_topic, replicas={"min": 1, "max": 4})
    operated.apply(operated.pipeline(stage))
    eventually(lambda: operated.replicas() == 1)
    operated.kubectl("autoscale", "deployment", "close-pnl", "--name=theirs", "--min=6", "--max=10", "--cpu=50%")
    eventually(lambda: operated.condition("ScalingLimited").get("reason") == "OtherAutoscaler")
    assert "HorizontalPodAutoscaler theirs scales stage pnl too" in operated.condition("ScalingLimited")["message"]
    eventually(lambda: operated.replicas() == 6)  # kube-controller-manager raises it to its min
    raised = operated.get("deployment", "close-pnl")["metadata"]["generation"]
    operated.produce(consumed_topic, 60)
    steadily(lambda: operated.replicas() == 6, for_s=3)
    assert operated.get("deployment", "close-pnl")["metadata"]["generation"] == raised  # nor between two looks
    operated.apply(operated.pipeline(stage, image="eod:other"))

    def image() -> str:
        return operated.kubectl("get", "deploy", "close-pnl", "-o", "jsonpath={..containers[0].image}")

    eventually(lambda: image() == "eod:other")
    assert operated.replicas() == 6
    operated.kubectl("delete", "hpa", "theirs")
    eventually(lambda: operated.replicas() == 4)


@pytest.mark.slow
@pytest.mark.parametrize("kind_installed", [SCALED_OBJECT], indirect=True)
def test_it_steps_back_from_a_scaled_object_of_keda(
    world: OperatorWorld, consumed_topic: str, kind_installed: str
) -> None:
    """One whose target leaves its kind out, as KEDA's examples do."""
    del kind_installed
    world.start_operator()
    world.apply(world.pipeline(world.stage(consumed_topic)))
    eventually(lambda: world.replicas() == 1)
    scaled = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "kedas"},
        "spec": {"scaleTargetRef": {"name": "close-pnl"}},
    }
    world.apply(scaled)
    eventually(lambda: world.condition("ScalingLimited").get("reason") == "OtherAutoscaler")
    assert "ScaledObject kedas" in world.condition("ScalingLimited")["message"]
    world.produce(consumed_topic, 60)
    steadily(lambda: world.replicas() == 1, for_s=2)
    world.kubectl("delete", "scaledobjects", "kedas")
    eventually(lambda: world.replicas() == 6)


@pytest.mark.slow
@pytest.mark.parametrize("kind_installed", [SERVICE_MONITOR], indirect=True)
def test_service_monitors_are_made_where_their_kind_is_known(
    world: OperatorWorld, consumed_topic: str, kind_installed: str
) -> None:
    world.start_operator()
    world.apply(world.pipeline(world.stage(consumed_topic), serviceMonitor={"enabled": True}))
    eventually(lambda: world.names(kind_installed) == {"close-pnl"})
    world.apply(world.pipeline(world.stage(consumed_topic), serviceMonitor={"enabled": False}))
    eventually(lambda: world.names(kind_installed) == set())


def test_a_missing_kind_is_told_and_the_stage_runs(operated: OperatorWorld, consumed_topic: str) -> None:
    operated.apply(operated.pipeline(operated.stage(consumed_topic), serviceMonitor={"enabled": True}))
    eventually(lambda: operated.condition("ObjectsApplied").get("reason") == "KindMissing")
    assert (
        "install the Prometheus operator, or set spec.serviceMonitor.enabled to false"
        in (operated.condition("ObjectsApplied")["message"])
    )
    eventually(lambda: operated.replicas() == 1)


def test_a_missing_secret_is_told_and_a_changed_one_rolls_the_stage(
    operated: OperatorWorld, consumed_topic: str
) -> None:
    config = {"secretRef": {"name": "redis"}}
    operated.apply(operated.pipeline(operated.stage(consumed_topic), config=config))
    eventually(lambda: operated.condition("ReferencesFound").get("reason") == "ReferenceMissing")
    assert "Secret redis" in operated.condition("Ready")["message"]
    operated.kubectl("create", "secret", "generic", "redis", "--from-literal=EOD_REDIS_PASSWORD=first")
    eventually(lambda: operated.condition("ReferencesFound").get("status") == "True")

    def digest() -> str:
        return operated.kubectl(
            "get",
            "deploy",
            "close-pnl",
            "-o",
            r"jsonpath={.spec.template.metadata.annotations.eod\.markets/references}",
        )

    eventually(digest)
    first = digest()
    operated.produce(consumed_topic, 60)
    eventually(lambda: operated.replicas() == 6)
    assert digest() == first
    patch = json.dumps({"stringData": {"EOD_REDIS_PASSWORD": "second"}})
    operated.kubectl("patch", "secret", "redis", "-p", patch)
    # A changed spec has them looked at anew; without one it takes up to a minute.
    operated.apply(operated.pipeline(operated.stage(consumed_topic), config=config, imagePullPolicy="Always"))
    eventually(lambda: digest() != first)


@pytest.mark.slow
def test_replicas_that_a_quota_refuses_are_told(operated: OperatorWorld, consumed_topic: str) -> None:
    operated.kubectl("create", "quota", "small", "--hard=pods=1")
    operated.apply(operated.pipeline(operated.stage(consumed_topic, replicas={"min": 3, "max": 12})))
    eventually(lambda: operated.condition("PodsHealthy").get("reason") == "ReplicasRefused")
    assert "exceeded quota: small" in operated.condition("PodsHealthy")["message"]
    assert "raise the namespace's quota" in operated.condition("Degraded")["message"]
    operated.kubectl("delete", "quota", "small")
    eventually(lambda: operated.condition("PodsHealthy").get("status") == "True", within_s=90)


@pytest.mark.slow
def test_a_quota_on_deployments_stops_one_stage_and_no_other(operated: OperatorWorld, consumed_topic: str) -> None:
    operated.kubectl("create", "quota", "few", "--hard=count/deployments.apps=1")
    operated.apply(operated.pipeline(operated.stage(consumed_topic), operated.stage(consumed_topic, name="second")))
    eventually(lambda: operated.condition("ObjectsApplied").get("reason") == "ApplyFailed")
    assert "exceeded quota: few" in operated.condition("ObjectsApplied")["message"]
    assert len(operated.names("deployments")) == 1
    operated.kubectl("delete", "quota", "few")
    eventually(lambda: operated.names("deployments") == {"close-pnl", "close-second"})


@pytest.mark.slow
def test_an_image_that_cannot_be_pulled_is_told(operated: OperatorWorld, consumed_topic: str) -> None:
    """No kubelet runs here, so the test says what a kubelet would say of the pod."""
    operated.apply(operated.pipeline(operated.stage(consumed_topic)))
    eventually(lambda: operated.names("pods"))
    (pod,) = operated.names("pods")
    waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "eod:test"'}
    container = {
        "name": "stage",
        "image": "eod:test",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"waiting": waiting},
    }
    status = json.dumps({"status": {"phase": "Pending", "containerStatuses": [container]}})
    operated.kubectl("patch", "pod", pod, "--subresource=status", "--type=merge", "-p", status)
    eventually(lambda: operated.condition("PodsHealthy").get("reason") == "ImageNotPulled")
    assert f"pod {pod}: ImagePullBackOff" in operated.condition("PodsHealthy")["message"]


def test_a_topic_is_created_where_that_is_asked(operated: OperatorWorld) -> None:
    """With the partitions and the retention of the spec; a later plan for other ones is reported, not carried out."""
    name = f"{operated.namespace}.made"
    planned = {"name": name, "partitions": 4, "retentionHours": 2, "replicationFactor": 1, "create": True}
    stage = operated.stage(name, replicas={"min": 1, "max": 4})
    operated.apply(operated.pipeline(stage, topics=[planned]))
    eventually(lambda: operated.condition("TopicsReady").get("status") == "True")
    eventually(lambda: operated.events("TopicCreated"))
    assert asyncio.run(_partitions(operated.kafka.bootstrap, name)) == 4
    planned |= {"partitions": 8, "retentionHours": 3}
    operated.apply(operated.pipeline(stage, topics=[planned]))
    eventually(lambda: operated.condition("TopicsReady").get("reason") == "TopicDiffers")
    message = operated.condition("TopicsReady")["message"]
    assert f"topic {name} has 4 partitions where spec.topics says 8" in message
    assert "retention.ms=7200000 where spec.topics says 3 hours (10800000)" in message
    assert asyncio.run(_partitions(operated.kafka.bootstrap, name)) == 4


@pytest.mark.slow
def test_a_topic_that_kafka_refuses_is_told(operated: OperatorWorld) -> None:
    name = f"{operated.namespace}.refused"
    planned = {"name": name, "partitions": 12, "replicationFactor": 5, "create": True}
    operated.apply(operated.pipeline(operated.stage(name), topics=[planned]))
    eventually(lambda: "no more copies" in operated.condition("TopicsReady").get("message", ""))
    assert operated.condition("TopicsReady")["status"] == "False"


@pytest.mark.slow
def test_decisions_are_recorded_and_events_are_deduplicated(operated: OperatorWorld, consumed_topic: str) -> None:
    """Up and down three times: the record has each step, and the same step is the same Event, counted."""
    group = f"{operated.namespace}-pnl"
    scaling = {"scaleDownStabilizationSeconds": 0}
    operated.apply(operated.pipeline(operated.stage(consumed_topic), scaling=scaling))
    eventually(lambda: operated.replicas() == 1)
    for _ in range(3):
        operated.produce(consumed_topic, 35)
        eventually(lambda: operated.replicas() == 4)
        operated.commit(consumed_topic, group, at="end")
        eventually(lambda: operated.replicas() == 1)
    up = "pnl scaled from 1 to 4 replicas (lag): lag 35 at 10 a replica calls for 4"
    assert operated.events("Scaled").count(up) <= 1

    def steps() -> list[tuple[int, int]]:
        made = json.loads(operated.get("configmap", "close.decisions")["data"]["decisions.json"])
        return [(one["from"], one["replicas"]) for one in made if one["from"] != one["replicas"]]

    eventually(lambda: steps().count((1, 4)) + steps().count((1, 3)) >= 3)
    assert steps()[0] == (0, 1)


async def _partitions(bootstrap: str, consumed_topic: str) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        (described,) = await admin.describe_topics([consumed_topic])
        return len(described["partitions"])
    finally:
        await admin.close()


def test_kubectl_eod_pauses_a_stage_lets_it_go_on_and_reports_it(
    operated: OperatorWorld, consumed_topic: str, tmp_path: Path
) -> None:
    """With the rights and the kubeconfig of whoever types it, on a real API server."""

    def eod(*words: str) -> str:
        access = ["--kubeconfig", str(operated.kubernetes.kubeconfig), "--namespace", operated.namespace]
        ended = CliRunner().invoke(plugin, [*words, *access])
        assert ended.exit_code == 0, ended.output
        return ended.stdout

    operated.apply(operated.pipeline(operated.stage(consumed_topic)))
    eventually(lambda: operated.replicas() == 1)
    assert eod("pause", "close", "--stage", "pnl").startswith("stage pnl of close is paused: ")
    eventually(lambda: operated.condition("Paused").get("reason") == "StagesPaused")
    operated.produce(consumed_topic, 35)
    steadily(lambda: operated.replicas() == 1, for_s=2)
    assert eod("resume", "close", "--stage", "pnl") == "stage pnl of close goes on: the operator sizes it\n"
    eventually(lambda: operated.replicas() == 4)
    eventually(lambda: operated.status()["replicas"] == 4)  # said once the scaling is done
    (row,) = (one for one in json.loads(eod("status", "--json")) if one["name"] == "close")
    assert (row["namespace"], row["mode"], row["replicas"]) == (operated.namespace, "Auto", 4)
    file = tmp_path / "close.zip"
    eod("report", "close", "--output", str(file))
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        about = archive.read("about.txt").decode()
    assert {"explain.txt", "pipeline.yaml", "events.yaml", "objects/deployment.yaml", "objects/service.yaml"} <= names
    assert "could not be read" not in about
