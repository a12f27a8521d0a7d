"""Everything installed on a kind cluster by Helm, and the close played on it from outside: in the order of a day.

The tests build on each other, as the steps of a rehearsal do. Each that trades ends by comparing sets: what the FIX
client says it sent, the log, and every store. Times are printed, not asserted.
"""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import pytest
import yaml
from eod_contract.kinds import KINDS
from testbed.errors import CommandFailed

from e2e.images import NEW
from e2e.world import CHARTS, PIPELINE, VALUES, ClusterWorld, eventually

pytestmark = pytest.mark.timeout(600)

LEAD_S, DURATION_S = 60, 20
"""The lead is what a slow machine of two cores needs to start nine pods, and as much again: who scales must know that."""
_STAGE_LABEL = "eod.markets/stage"
_KIND = "eodpipelines.eod.markets"


def test_the_release_installs_and_every_stage_becomes_ready(world: ClusterWorld, figures: dict[str, object]) -> None:
    """CRDs, operator, stores and pipeline in a namespace that admits restricted pods alone."""
    world.helm("install", "eod-crds", CHARTS / "eod-crds", "--set=keep=false", "--wait")
    eventually(
        lambda: _KIND not in world.kind.kubectl("api-resources", "-o", "name") and "the kind is not there yet",
        within_s=30,
    )
    begun = time.monotonic()
    world.release("install")
    eventually(world.why_not_ready)
    eventually(lambda: _condition(world, "Ready")["status"] != "True" and _condition(world, "Ready"))
    figures["helm install to Ready, stores included, s"] = round(time.monotonic() - begun, 1)


def test_a_pipeline_is_ready_soon_after_it_was_applied(world: ClusterWorld, figures: dict[str, object]) -> None:
    """The stores are there: what is measured is operator, scheduler, kubelet and the start of five stages."""
    pipeline = world.get("eodp", PIPELINE)
    kept = {key: pipeline["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
    world.kubectl("delete", "eodp", PIPELINE, "--wait")
    selector = f"eod.markets/pipeline={PIPELINE}"
    eventually(lambda: world.get("pods", "-l", selector)["items"] and "pods of the old pipeline are still there")
    begun = time.monotonic()
    world.kubectl("apply", "-f", "-", input=json.dumps(pipeline | {"metadata": kept, "status": None}))
    eventually(world.why_not_ready)
    figures["kubectl apply to all stages Ready, s (bar: 60)"] = round(time.monotonic() - begun, 1)


def test_the_release_passes_its_own_tests(world: ClusterWorld) -> None:
    """Kafka, Redis, SQL Server, S3 and the FIX entrance, as `helm test` finds them."""
    assert "Failed" not in world.helm("test", "eod", "--timeout=3m")


_PASSES_S = 15
"""Two passes of the operator and what they take: it is that much later with its word, and never earlier."""


def test_stages_are_scaled_before_the_bell_and_back_after_it(world: ClusterWorld, figures: dict[str, object]) -> None:
    """flash-pnl 1 → 6 and regulatory 1 → 4, all ready and with partitions before the burst; not one trade is lost by it."""
    seconds = 140.0
    play = world.play("close", seconds=seconds, rate=100, burst=800, seed=1)
    close = datetime.fromtimestamp(play.begun, UTC) + timedelta(seconds=1 + seconds * 0.55)
    sessions = [{"open": "2020-01-01T00:00:00Z", "close": close.isoformat()}]
    burst = {"leadSeconds": LEAD_S, "durationSeconds": DURATION_S}
    _change(world, {"calendar": {"exchange": None, "sessions": sessions, "burst": burst}})
    groups = {stage: KINDS[stage].group for stage in ("flash-pnl", "regulatory")}
    assigned = world.watch_groups(*groups.values())
    with Replicas(world) as replicas:
        sent = play.finish()
        eventually(lambda: world.status().get("phase") == "Bursting" and "still bursting")
        eventually(lambda: _ready(world, "flash-pnl") != 1 and "flash-pnl is not back at 1 replica")
        eventually(lambda: _ready(world, "regulatory") != 1 and "regulatory is not back at 1 replica")
    assigned.stop()
    early = {
        stage: round(close.timestamp() - max(replicas.first(stage, count), assigned.first(groups[stage], count)), 1)
        for stage, count in (("flash-pnl", 6), ("regulatory", 4))
    }
    figures["every added replica Ready and with its partitions, s before the bell"] = early
    figures["trades of the close"] = sent
    figures["most replicas, at the bell and ever"] = {
        stage: (replicas.most(stage, until=close.timestamp()), replicas.most(stage)) for stage in groups
    }
    assert min(early.values()) > 0
    assert replicas.most("flash-pnl", until=close.timestamp()) == 6
    assert replicas.most("regulatory", until=close.timestamp()) == 4  # later, load may ask for more
    told = {one["name"]: one for one in world.status()["lastClose"]["stages"]}
    figures["the same as the operator says it, s before the bell"] = {
        stage: -told[stage].get("assignedSeconds", DURATION_S) for stage in early
    }
    for stage, count in (("flash-pnl", 6), ("regulatory", 4)):
        assert told[stage]["replicas"] == count
        assert early[stage] - _PASSES_S <= -told[stage]["assignedSeconds"] <= early[stage] + 1
    _equal(world.reconcile(play), sent)


def test_killed_and_evicted_pods_lose_nothing(world: ClusterWorld) -> None:
    """Kill -9 of a pod of each stage in turn, then all pods of the pipeline drained from the node, in mid-burst."""
    play = world.play("kills", seconds=45, rate=300, burst=300, seed=2)
    for stage in ("flash-pnl", "regulatory", "archive", "dead-letters", "ingestion"):
        world.kubectl("delete", "pod", "-l", f"{_STAGE_LABEL}={stage}", "--grace-period=0", "--force")
        time.sleep(2)
    (node,) = world.kind.kubectl("get", "nodes", "-o", "name").split()
    world.kind.kubectl("drain", node, f"--pod-selector=eod.markets/pipeline={PIPELINE}", "--delete-emptydir-data")
    world.kind.kubectl("uncordon", node)
    sent = play.finish()
    eventually(world.why_not_ready)
    _equal(world.reconcile(play), sent)


def test_an_upgrade_and_a_rollback_in_mid_burst_lose_nothing(world: ClusterWorld, figures: dict[str, object]) -> None:
    """Another image for operator and stages, and back again, while trades come in."""
    play = world.play("upgrade", seconds=100, rate=300, burst=300, seed=3)
    gaps = world.subscribe()
    time.sleep(5)
    tag = NEW.partition(":")[2]
    images = [f"--set={path}image.tag={tag}" for path in ("", "eod-operator.")]
    begun = time.monotonic()
    world.release("upgrade", *images)
    eventually(lambda: _images(world) != {NEW} and f"images in use: {_images(world)}")
    eventually(world.why_not_ready)
    figures["rolling upgrade of operator and stages, s"] = round(time.monotonic() - begun, 1)
    world.helm("rollback", "eod", "--timeout=5m")
    eventually(lambda: NEW in _images(world) and "the new image is still in use")
    eventually(world.why_not_ready)
    sent = play.finish()
    figures["longest gap in a trader's P&L over upgrade and rollback, s (bar: 10)"] = round(gaps.stop(), 1)
    _equal(world.reconcile(play), sent)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param({"image": "eod:absent"}, "eod:absent", id="image"),
        pytest.param({"config": {"secretRef": {"name": "absent"}}}, "absent", id="secret"),
    ],
)
def test_what_only_the_cluster_can_know_becomes_a_condition(
    world: ClusterWorld, change: dict[str, Any], told: str
) -> None:
    """A real kubelet refuses; `kubectl get eodp` says so, with the remedy, and the pods that work go on."""
    _told_and_mended(world, change, told)


@pytest.mark.parametrize(
    ("store", "told"),
    [
        pytest.param("nowhere.invalid", "nowhere.invalid", id="unreachable"),
        pytest.param(":wrong@eod-stores-redis", "EOD_REDIS_URL", id="wrong password"),
    ],
)
def test_what_only_a_stage_can_know_becomes_a_condition(world: ClusterWorld, store: str, told: str) -> None:
    """It runs, is not ready, and says why: `kubectl get eodp` repeats that, and the pods that work go on."""
    env = world.get("eodp", PIPELINE)["spec"]["config"].get("env", [])
    wrong = {"name": "EOD_REDIS_URL", "value": f"redis://{store}:6379"}
    _told_and_mended(world, {"config": {"env": [*env, wrong]}}, told)


def _told_and_mended(world: ClusterWorld, change: dict[str, Any], told: str) -> None:
    before = world.get("eodp", PIPELINE)["spec"]
    working = set(_serving(world, "flash-pnl"))
    assert working
    _change(world, change)
    eventually(lambda: told not in _degraded(world) and f"not told yet: {_degraded(world)!r}")
    assert working <= set(_serving(world, "flash-pnl"))
    restored = [{"op": "replace", "path": f"/spec/{key}", "value": before[key]} for key in change]
    world.kubectl("patch", "eodp", PIPELINE, "--type=json", "-p", json.dumps(restored))
    eventually(world.why_not_ready)
    eventually(lambda: _degraded(world))


def test_wrong_values_are_refused_by_helm(world: ClusterWorld) -> None:
    """With the schema's sentence, before anything is changed."""
    with pytest.raises(CommandFailed, match=r"(?s)fix.*type|nodePort"):
        world.release("upgrade", "--set=fix.type=Nodeport")


def test_uninstalling_leaves_nothing(world: ClusterWorld) -> None:
    """Nothing was kept in volumes, so no Secret is kept either; the CRD was not to be kept. Pods take their time to drain."""
    world.kubectl("delete", "pod", "tools", "--grace-period=0", "--force")
    world.helm("uninstall", "eod", "--wait")
    world.helm("uninstall", "eod-crds", "--wait")
    eventually(lambda: sorted(world.objects() - world.bare), within_s=120)


def _equal(result: dict[str, Any], sent: int) -> None:
    assert result["result"] == "equal", result
    assert result["numbers"]["sent"]["executions"] == sent > 0, result


def _change(world: ClusterWorld, spec: dict[str, Any]) -> None:
    world.kubectl("patch", "eodp", PIPELINE, "--type=merge", "-p", json.dumps({"spec": spec}))


def _condition(world: ClusterWorld, kind: str) -> dict[str, str]:
    conditions: list[dict[str, str]] = world.status().get("conditions", [])
    return next((one for one in conditions if one["type"] == kind), {"status": "", "message": "no such condition yet"})


def _degraded(world: ClusterWorld) -> str:
    condition = _condition(world, "Degraded")
    return condition["message"] if condition["status"] == "True" else ""


def _serving(world: ClusterWorld, stage: str) -> list[str]:
    """Those that are ready, and not about to go: pods that never started stay listed while they are removed."""
    return [
        one["metadata"]["name"]
        for one in world.get("pods", "-l", f"{_STAGE_LABEL}={stage}")["items"]
        if "deletionTimestamp" not in one["metadata"]
        and any(each["type"] == "Ready" and each["status"] == "True" for each in one["status"].get("conditions", ()))
    ]


def _ready(world: ClusterWorld, stage: str) -> int:
    got: int = world.get("deploy", f"{PIPELINE}-{stage}")["status"].get("readyReplicas", 0)
    return got


def _images(world: ClusterWorld) -> set[str]:
    """Of the pods that run eod as operator or stage."""
    return {
        container["image"]
        for pod in world.get("pods")["items"]
        for container in pod["spec"]["containers"]
        if container["name"] in {"stage", "operator"}
    }


class Replicas:
    """Watches the ready replicas of every stage while it is open."""

    def __init__(self, world: ClusterWorld) -> None:
        self._world = world
        self._seen: list[tuple[float, str, int]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *failed: object) -> None:
        """End."""
        self._ended.set()
        self._thread.join()

    def first(self, stage: str, count: int) -> float:
        """When a stage first had so many, in seconds since the epoch."""
        return next(at for at, name, ready in self._seen if (name, ready) == (stage, count))

    def most(self, stage: str, *, until: float = float("inf")) -> int:
        """Most that it had, up to a moment in seconds since the epoch."""
        return max(ready for at, name, ready in self._seen if name == stage and at <= until)

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            for one in self._world.get("deploy", "-l", f"eod.markets/pipeline={PIPELINE}")["items"]:
                stage = one["metadata"]["labels"][_STAGE_LABEL]
                self._seen.append((time.time(), stage, one["status"].get("readyReplicas", 0)))


def test_the_values_are_those_of_the_chart() -> None:
    """A key that the chart does not know would be ignored where the schema is open."""
    assert set(yaml.safe_load(VALUES.read_text())) <= set(yaml.safe_load((CHARTS / "eod/values.yaml").read_text()))
