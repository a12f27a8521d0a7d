"""From `kubectl apply` to `kubectl delete`: what is made, kept, repaired, left alone and cleaned up."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml
from support.operator_world import Manifest, OperatorWorld
from support.patience import eventually, steadily

ROOT = Path(__file__).parents[3]


@pytest.fixture
def example(world: OperatorWorld) -> Manifest:
    """examples/eodpipeline.yaml, with this test's namespace, Kafka, topics and groups."""
    manifest: Manifest = yaml.safe_load((ROOT / "examples/eodpipeline.yaml").read_text())
    manifest["metadata"]["namespace"] = world.namespace
    manifest["spec"]["kafka"]["bootstrapServers"] = world.kafka.bootstrap
    topic = world.topic("trades")
    for stage in manifest["spec"]["stages"]:
        stage["topics"] = [topic]
        if stage["kind"] != "ingestion":
            stage["group"] = f"{world.namespace}-{stage['name']}"
    return manifest


EVERYTHING = "deployments,services,poddisruptionbudgets,networkpolicies,replicasets,pods"
STAGES = ("ingestion", "flash-pnl", "regulatory", "archive", "dead-letters")


def test_the_example_becomes_deployments_and_goes_without_a_trace(operated: OperatorWorld, example: Manifest) -> None:
    """Objects of each stage, a status, columns; all gone with the pipeline, by owner references."""
    operated.apply(example)
    expected = {f"us-equities-{stage}" for stage in STAGES}
    eventually(lambda: operated.names("deployments") == expected)
    for kind in ("services", "configmaps", "serviceaccounts", "poddisruptionbudgets"):
        eventually(lambda kind=kind: expected <= operated.names(kind))
    eventually(lambda: operated.status("us-equities").get("observedGeneration") == 1)
    eventually(lambda: operated.condition("TopicsReady", "us-equities").get("status") == "True")

    status = operated.status("us-equities")
    assert [stage["name"] for stage in status["stages"]] == list(STAGES)
    # whether the close of XNYS is on while this runs is the calendar's business
    assert status["phase"] in {"Pending", "Bursting"}
    assert operated.condition("Ready", "us-equities")["reason"] == "StagesNotReady"
    head, row = operated.kubectl("get", "eodp").splitlines()
    assert head.split("  ") != []
    assert [" ".join(cell.split()) for cell in head.split("  ") if cell] == [
        *("NAME", "PHASE", "MODE", "LAG", "REPLICAS", "NEXT CLOSE", "READY", "AGE"),
    ]
    assert row.startswith("us-equities ")
    assert status["nextClose"] in row

    pipeline = operated.get("eodp", "us-equities")["metadata"]
    assert "finalizers" not in pipeline
    assert not [name for name in pipeline["annotations"] if "kopf" in name or "zalando" in name]
    eventually(lambda: len(operated.events("Scaled")) == len(STAGES))

    operated.kubectl("delete", "eodp", "us-equities")
    # Kubernetes' garbage collector looks for new kinds every 30 s, and this one's CRD may have come just now.
    eventually(lambda: not operated.names(EVERYTHING), within_s=100)
    assert operated.names("configmaps,serviceaccounts") == {"kube-root-ca.crt", "default"}


def test_nothing_is_written_when_nothing_changes(operated: OperatorWorld, topic: str) -> None:
    """A steady pipeline is only read: neither it nor its objects get a new version."""
    operated.apply(operated.pipeline(operated.stage(topic)))
    eventually(lambda: operated.condition("TopicsReady").get("status") == "True")
    time.sleep(1)

    def versions() -> str:
        return operated.kubectl(
            "get", "eodp,deploy,cm,sa,svc,pdb", "-o", "jsonpath={.items[*].metadata.resourceVersion}"
        )

    before = versions()
    steadily(lambda: versions() == before)


@pytest.mark.slow
def test_a_stage_taken_out_of_the_spec_is_deleted(operated: OperatorWorld, topic: str) -> None:
    keep, drop = operated.stage(topic), {"name": "in", "kind": "ingestion", "topics": [topic], "replicas": {"max": 1}}
    operated.apply(operated.pipeline(keep, drop))
    eventually(lambda: operated.names("deployments") == {"close-pnl", "close-in"})
    eventually(lambda: operated.names("services") == {"close-pnl", "close-in"})
    operated.apply(operated.pipeline(keep))
    for kind in ("deployments", "services", "poddisruptionbudgets"):
        eventually(lambda kind=kind: operated.names(kind) == {"close-pnl"})
    eventually(lambda: operated.names("serviceaccounts") == {"default", "close-pnl"})
    eventually(lambda: operated.events("Removed"))


def test_drift_is_repaired_and_foreign_fields_are_kept(operated: OperatorWorld, topic: str) -> None:
    """What we apply comes back; what somebody adds beside it stays."""
    operated.apply(operated.pipeline(operated.stage(topic)))
    eventually(lambda: operated.replicas() == 1)
    operated.kubectl("annotate", "deployment", "close-pnl", "team=desk-7")
    operated.kubectl("scale", "deployment", "close-pnl", "--replicas=9")
    operated.kubectl("set", "image", "deployment/close-pnl", "stage=evil:1")

    def image() -> str:
        return operated.kubectl("get", "deploy", "close-pnl", "-o", "jsonpath={..containers[0].image}")

    eventually(lambda: image() == "eod:test")
    assert operated.get("deployment", "close-pnl")["metadata"]["annotations"]["team"] == "desk-7"


def test_a_change_of_the_spec_reaches_the_deployment_at_once(operated: OperatorWorld, topic: str) -> None:
    operated.apply(operated.pipeline(operated.stage(topic)))
    eventually(lambda: operated.replicas() == 1)
    operated.apply(operated.pipeline(operated.stage(topic, replicas={"min": 3, "max": 12})))
    eventually(lambda: operated.replicas() == 3)
    eventually(lambda: operated.status()["observedGeneration"] == 2)


def test_a_foreign_deployment_is_not_adopted(operated: OperatorWorld, topic: str) -> None:
    """It stays as it is; the condition names it and says what to do; the other stages go on."""
    operated.kubectl("create", "deployment", "close-pnl", "--image=theirs:1", "--replicas=2")
    other = operated.stage(topic, name="other")
    operated.apply(operated.pipeline(operated.stage(topic), other))
    eventually(lambda: operated.condition("ObjectsApplied").get("reason") == "NotOwned")
    ready = operated.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "NotOwned")
    assert "Deployment close-pnl exists and does not belong to this pipeline" in ready["message"]
    assert "delete or rename it, or rename the stage" in ready["message"]
    assert operated.status()["phase"] == "Degraded"
    eventually(lambda: operated.replicas("close-other") == 1)
    eventually(lambda: operated.events("NotOwned"))
    theirs = operated.get("deployment", "close-pnl")
    assert "ownerReferences" not in theirs["metadata"]
    assert theirs["spec"]["replicas"] == 2

    operated.kubectl("delete", "deployment", "close-pnl")
    eventually(lambda: operated.condition("ObjectsApplied").get("status") == "True")
    assert operated.get("deployment", "close-pnl")["metadata"]["ownerReferences"]


def test_preview_decides_but_makes_nothing(operated: OperatorWorld, topic: str) -> None:
    operated.commit(topic, f"{operated.namespace}-pnl", at="end")
    operated.produce(topic, 35)
    operated.apply(operated.pipeline(operated.stage(topic), mode="Preview"))
    eventually(lambda: operated.status().get("phase") == "Preview")
    eventually(lambda: operated.status()["stages"][0]["desired"] == 4)
    assert operated.status()["replicas"] == 0
    steadily(lambda: operated.names("deployments") == set(), for_s=1.5)


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False], ids=["pipeline", "stage"])
def test_paused_leaves_everything_as_it_is(operated: OperatorWorld, topic: str, *, whole: bool) -> None:
    """A pause holds against lag, and lets a person scale by hand."""
    operated.commit(topic, f"{operated.namespace}-pnl", at="end")
    operated.apply(operated.pipeline(operated.stage(topic)))
    eventually(lambda: operated.replicas() == 1)
    paused = operated.stage(topic, **({} if whole else {"paused": True}))
    operated.apply(operated.pipeline(paused, **({"mode": "Paused"} if whole else {})))
    eventually(lambda: operated.status()["observedGeneration"] == 2)
    operated.kubectl("scale", "deployment", "close-pnl", "--replicas=2")
    operated.produce(topic, 120)
    eventually(lambda: operated.status()["stages"][0]["desired"] == 12)
    steadily(lambda: operated.replicas() == 2, for_s=2)
    operated.apply(operated.pipeline(operated.stage(topic)))
    eventually(lambda: operated.replicas() == 12)


@pytest.mark.slow
def test_a_kubectl_restart_of_the_stage_survives(operated: OperatorWorld, topic: str) -> None:
    """`kubectl rollout restart` writes an annotation into the template, which is not ours to remove."""
    operated.apply(operated.pipeline(operated.stage(topic)))
    eventually(lambda: operated.replicas() == 1)
    operated.kubectl("rollout", "restart", "deployment/close-pnl")

    def annotated() -> bool:
        template = operated.get("deployment", "close-pnl")["spec"]["template"]["metadata"]
        return "kubectl.kubernetes.io/restartedAt" in json.dumps(template)

    steadily(annotated, for_s=2)
