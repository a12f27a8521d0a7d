"""Two replicas and one Lease; an API server that goes away; rights in one namespace only; races with people."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.api_proxy import ApiProxy, Faults, Request
from support.operator_world import Manifest, OperatorWorld
from support.patience import eventually, steadily
from testbed.ports import free_port

CONFLICT = 409


@pytest.fixture
def proxies(world: OperatorWorld) -> Iterator[tuple[ApiProxy, ApiProxy]]:
    """A way to the API server for each of two operators, which remembers who wrote what."""
    with ApiProxy(world.kubernetes) as first, ApiProxy(world.kubernetes) as second:
        yield first, second


def kubeconfigs(world: OperatorWorld, proxies: tuple[ApiProxy, ApiProxy]) -> tuple[Path, Path]:
    folder = world.log.parent
    first, second = (
        proxy.kubeconfig(world.kubeconfig, folder / f"through-{number}") for number, proxy in enumerate(proxies)
    )
    return first, second


def deeds(proxy: ApiProxy, since_s: float = 0.0) -> list[Request]:
    """What was written besides the Lease; Events only tell of what was."""
    return [one for one in proxy.writes(since_s=since_s) if one.resource not in {"leases", "events"}]


OBJECTS = {"deployments": "close-pnl", "eodpipelines": "close"}


def version(written: Manifest) -> int:
    """The resourceVersion of an object, or that a write names; 0 for a write that names none."""
    return int(written["metadata"].get("resourceVersion", 0))


def outdated(one: Request, versions: dict[str, int]) -> bool:
    """Whether a write names a version that is not the object's any more, so that the server must refuse it."""
    return one.resource in versions and 0 < version(json.loads(one.body)) < versions[one.resource]


def leader(world: OperatorWorld) -> str:
    """Who holds the Lease."""
    return str(world.get("lease", "eod-operator")["spec"].get("holderIdentity", ""))


def test_the_second_replica_watches_and_takes_over_from_a_killed_one(
    world: OperatorWorld, consumed_topic: str, proxies: tuple[ApiProxy, ApiProxy]
) -> None:
    """Only the leader writes; when it dies without a word, the other acts within 20 s, on what has changed since."""
    first, second = kubeconfigs(world, proxies)
    doomed = world.start_operator(kubeconfig=first)
    eventually(lambda: leader(world))
    world.start_operator(kubeconfig=second)
    world.apply(world.pipeline(world.stage(consumed_topic)))
    eventually(lambda: world.replicas() == 1)
    world.produce(consumed_topic, 35)
    eventually(lambda: world.replicas() == 4)
    assert deeds(proxies[0])
    assert proxies[1].writes() == []

    world.stop_operator(doomed, signal.SIGKILL)
    killed_s = time.monotonic()
    world.produce(consumed_topic, 25)
    eventually(lambda: world.replicas() == 6, within_s=20)
    assert min(one.at_s for one in deeds(proxies[1])) > killed_s


def test_a_leader_that_ends_in_order_hands_over_at_once(world: OperatorWorld, consumed_topic: str) -> None:
    ending = world.start_operator()
    eventually(lambda: leader(world))
    was = leader(world)
    world.start_operator()
    world.apply(world.pipeline(world.stage(consumed_topic)))
    eventually(lambda: world.replicas() == 1)
    assert world.stop_operator(ending) == 0
    eventually(lambda: leader(world) not in {"", was}, within_s=8)
    world.produce(consumed_topic, 35)
    eventually(lambda: world.replicas() == 4)


@pytest.mark.slow
def test_a_frozen_leader_writes_nothing_when_it_wakes(
    world: OperatorWorld, consumed_topic: str, proxies: tuple[ApiProxy, ApiProxy]
) -> None:
    """It has lost the Lease in its sleep, and with it the right to write; the other's count stands.

    A write that was past the look at the Lease when the freeze came is sent nevertheless; it names the version that it
    has seen, and the server refuses it, also when the writer has given the answer up by then.
    """
    first, second = kubeconfigs(world, proxies)
    frozen = world.start_operator(kubeconfig=first)
    eventually(lambda: leader(world))
    was = leader(world)
    world.start_operator(kubeconfig=second)
    world.apply(world.pipeline(world.stage(consumed_topic)))
    eventually(lambda: world.replicas() == 1)
    world.produce(consumed_topic, 35)
    eventually(lambda: world.replicas() == 4)
    frozen.send_signal(signal.SIGSTOP)
    world.produce(consumed_topic, 25)
    eventually(lambda: leader(world) not in {"", was})
    eventually(lambda: world.replicas() == 6)
    # What is wrong to the frozen one's knowledge would be right to the other's.
    world.commit(consumed_topic, f"{world.namespace}-pnl", at="end")
    eventually(lambda: world.replicas() == 1)
    eventually(lambda: world.status()["desired"] == 1)
    versions = {kind: version(world.get(kind, name)) for kind, name in OBJECTS.items()}
    woken_s = time.monotonic()
    frozen.send_signal(signal.SIGCONT)
    steadily(lambda: (world.replicas(), world.status()["desired"]) == (1, 1), for_s=6)
    late = deeds(proxies[0], woken_s)
    assert [one for one in late if one.status != CONFLICT and not (one.status == 0 and outdated(one, versions))] == []
    assert frozen.alive


AWAY_S = float(os.environ.get("EOD_AWAY_S", "20"))


@pytest.mark.slow
@pytest.mark.timeout(AWAY_S + 300)
def test_an_api_server_that_is_away_is_waited_for(
    world: OperatorWorld, consumed_topic: str, proxies: tuple[ApiProxy, ApiProxy]
) -> None:
    """For EOD_AWAY_S: longer than the lease. Counts stay; afterwards the operator acts on what is then, and tells of it."""
    first, _ = kubeconfigs(world, proxies)
    operator = world.start_operator(kubeconfig=first)
    world.apply(world.pipeline(world.stage(consumed_topic)))
    eventually(lambda: world.condition("LagKnown").get("status") == "True")
    proxies[0].down()
    world.produce(consumed_topic, 35)
    steadily(lambda: world.replicas() == 1, for_s=AWAY_S)
    assert operator.alive
    proxies[0].up()
    eventually(lambda: world.replicas() == 4)
    eventually(lambda: world.events("ClusterUnreachable"))
    assert "replicas were held meanwhile" in world.events("ClusterUnreachable")[0]
    world.commit(consumed_topic, f"{world.namespace}-pnl", at="end")
    eventually(lambda: world.replicas() == 1)


def test_rights_in_one_namespace_suffice(world: OperatorWorld, consumed_topic: str, confined_kubeconfig: Path) -> None:
    """As the chart binds them with watchNamespaces."""
    world.start_operator(kubeconfig=confined_kubeconfig)
    world.apply(world.pipeline(world.stage(consumed_topic), networkPolicy={"enabled": True}))
    eventually(lambda: world.condition("ClusterInView").get("status") == "True")
    eventually(lambda: world.names("networkpolicies") == {"close-pnl"})
    world.produce(consumed_topic, 35)
    eventually(lambda: world.replicas() == 4)
    assert "forbidden" not in world.log.read_text()


@pytest.mark.slow
def test_one_operator_serves_all_namespaces(lonely_world: OperatorWorld, unique: str) -> None:
    world, other = lonely_world, f"{unique}-b"
    topic = world.topic("trades")
    world.commit(topic, f"{world.namespace}-pnl", at="end")
    world.kubernetes.kubectl("create", "namespace", other)
    world.start_operator(everywhere=True)
    elsewhere = world.pipeline(world.stage(topic))
    elsewhere["metadata"]["namespace"] = other
    world.apply(world.pipeline(world.stage(topic)))
    world.kubernetes.kubectl("apply", "-f", "-", input=json.dumps(elsewhere))
    eventually(lambda: world.replicas() == 1)
    eventually(lambda: "close-pnl" in world.kubernetes.kubectl("-n", other, "get", "deployments"))


@pytest.mark.slow
def test_a_crd_that_is_upgraded_under_the_operator_stops_no_pipeline(lonely_world: OperatorWorld) -> None:
    """With a default of its own, which is in every pipeline from then on; the API server ends all watches of the kind."""
    world = lonely_world
    topic = world.topic("trades")
    world.commit(topic, f"{world.namespace}-pnl", at="end")
    operator = world.start_operator()
    world.apply(world.pipeline(world.stage(topic)))
    eventually(lambda: world.condition("LagKnown").get("status") == "True")
    crd = json.loads(world.kubectl("get", "crd", "eodpipelines.eod.markets", "-o", "json"))
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["shadow"] = {"type": "boolean", "default": True}
    world.kubectl("replace", "-f", "-", input=json.dumps(crd))
    eventually(lambda: world.get("eodp", "close")["spec"].get("shadow") is True)
    world.produce(topic, 35)
    eventually(lambda: world.replicas() == 4)
    world.apply(world.pipeline(world.stage(topic), image="eod:other"))
    eventually(lambda: world.condition("SpecValid").get("reason") == "NewerFields")
    assert "spec.shadow: this operator does not know" in world.condition("SpecValid")["message"]
    image = "jsonpath={..containers[0].image}"
    eventually(lambda: world.kubectl("get", "deploy", "close-pnl", "-o", image) == "eod:other")
    assert operator.alive


@pytest.mark.slow
def test_a_namespace_that_terminates_under_the_operator_delays_no_other(
    lonely_world: OperatorWorld, unique: str
) -> None:
    """It hangs, as they do: something in it has a finalizer that nobody removes, and a pipeline's stages are among that."""
    world, dying = lonely_world, f"{unique}-b"
    topic = world.topic("trades")
    world.commit(topic, f"{world.namespace}-pnl", at="end")
    there = ("-n", dying)
    kubectl = world.kubernetes.kubectl
    kubectl("create", "namespace", dying)
    operator = world.start_operator(everywhere=True)
    held = world.pipeline(world.stage(topic))
    held["metadata"] |= {"namespace": dying, "finalizers": ["example.com/held"]}
    kubectl("apply", "-f", "-", input=json.dumps(held))
    world.apply(world.pipeline(world.stage(topic)))
    eventually(lambda: "close-pnl" in kubectl(*there, "get", "deployments", "-o", "name"))
    kubectl("delete", "namespace", dying, "--wait=false")
    eventually(lambda: not kubectl(*there, "get", "deployments", "-o", "name"))
    world.produce(topic, 35)
    eventually(lambda: world.replicas() == 4)
    steadily(lambda: not kubectl(*there, "get", "deployments", "-o", "name"), for_s=5)
    kubectl(*there, "patch", "eodp", "close", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    eventually(lambda: dying not in kubectl("get", "namespaces", "-o", "name"))
    world.commit(topic, f"{world.namespace}-pnl", at="end")
    eventually(lambda: world.replicas() == 1)
    assert operator.alive


LOOK_S = 3.0
"""Within this time every operator has looked at Kafka anew."""


def counts(world: OperatorWorld, stop: threading.Event) -> list[int]:
    """Every replica count of the Deployment, as it changes."""
    seen: list[int] = []
    while not stop.is_set():
        try:
            now = world.replicas()
        except Exception:  # noqa: BLE001, S112 - not there yet
            continue
        if not seen or seen[-1] != now:
            seen.append(now)
    return seen


@pytest.mark.slow
def test_two_operators_without_a_lease_do_no_harm(world: OperatorWorld, consumed_topic: str) -> None:
    """Nobody should run them so: until both have looked at Kafka anew, one may undo what the other has done.

    But neither goes beyond what it has seen, and they come to the same.
    """
    for _ in range(2):
        world.start_operator("--no-lease")
    world.apply(world.pipeline(world.stage(consumed_topic)))
    eventually(lambda: world.replicas() == 1)
    stop, seen = threading.Event(), []
    watcher = threading.Thread(target=lambda: seen.extend(counts(world, stop)))
    watcher.start()
    try:
        world.produce(consumed_topic, 36)
        eventually(lambda: world.replicas() == 4)
        world.commit(consumed_topic, f"{world.namespace}-pnl", at="end")
        time.sleep(LOOK_S)
        eventually(lambda: world.replicas() == 1)
        steadily(lambda: world.replicas() == 1)
    finally:
        stop.set()
        watcher.join()
    assert set(seen) == {1, 4}


@pytest.mark.slow
def test_people_who_edit_at_the_same_time_lose_no_edit(world: OperatorWorld, consumed_topic: str) -> None:
    """Labels that somebody adds while the operator scales stay; counts that somebody sets do not."""
    world.start_operator()
    world.apply(world.pipeline(world.stage(consumed_topic)))
    eventually(lambda: world.replicas() == 1)
    stop, made = threading.Event(), []

    def edit() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            world.kubectl("label", "deployment", "close-pnl", f"edit-{number}=yes")
            made.append(f"edit-{number}")
            world.kubectl("scale", "deployment", "close-pnl", "--replicas=9")

    editor = threading.Thread(target=edit)
    editor.start()
    try:
        for _ in range(2):
            world.produce(consumed_topic, 35)
            time.sleep(2)
            world.commit(consumed_topic, f"{world.namespace}-pnl", at="end")
            time.sleep(2)
    finally:
        stop.set()
        editor.join()
    world.produce(consumed_topic, 35)
    eventually(lambda: world.replicas() == 4)
    labels = world.get("deployment", "close-pnl")["metadata"]["labels"]
    assert len(made) > 3
    assert set(made) <= set(labels)


@pytest.mark.slow
def test_a_pipeline_deleted_in_the_middle_of_scaling_is_gone_and_may_come_again(
    world: OperatorWorld, consumed_topic: str
) -> None:
    world.start_operator()
    pipeline = world.pipeline(
        world.stage(consumed_topic), world.stage(consumed_topic, name="second", group=f"{world.namespace}-pnl")
    )
    for lag in (24, 36, 60):
        world.apply(pipeline)
        eventually(lambda: world.names("deployments") == {"close-pnl", "close-second"})
        world.produce(consumed_topic, lag)
        world.kubectl("delete", "eodp", "close", "--wait=false")
        eventually(lambda: not world.names("deployments"), within_s=100)
        eventually(lambda: not world.names("pods"), within_s=100)
    world.apply(pipeline)
    eventually(lambda: world.replicas() == 12)
    eventually(lambda: world.condition("ObjectsApplied").get("status") == "True")


def owned(world: OperatorWorld) -> list[Manifest]:
    found: list[Manifest] = json.loads(world.kubectl("get", "deploy,cm,sa,svc,pdb", "-o", "json"))["items"]
    return [one for one in found if one["metadata"].get("ownerReferences")]


@pytest.mark.slow
def test_a_pipeline_made_anew_under_its_name_takes_over_nothing_of_the_old_one(
    world: OperatorWorld, consumed_topic: str
) -> None:
    """Deleted with its objects left behind (orphaned): they are named, not adopted."""
    world.start_operator()
    world.apply(world.pipeline(world.stage(consumed_topic)))
    eventually(lambda: world.replicas() == 1)
    world.kubectl("delete", "eodp", "close", "--cascade=orphan")
    eventually(lambda: not owned(world))
    world.apply(world.pipeline(world.stage(consumed_topic)))
    eventually(lambda: world.condition("ObjectsApplied").get("reason") == "NotOwned")
    told = world.condition("ObjectsApplied")["message"]
    command = re.search(r"kubectl (-n \S+ delete \S+ -l \S+)", told)
    assert command, told
    world.kubernetes.kubectl(*command[1].rstrip(";").split())
    eventually(lambda: world.condition("ObjectsApplied").get("status") == "True")
    eventually(lambda: len(owned(world)) >= 5)


@pytest.mark.slow
def test_a_pipeline_made_anew_at_once_under_its_name_owns_everything(world: OperatorWorld, consumed_topic: str) -> None:
    """While the garbage collector is at what the old one had."""
    world.start_operator()
    pipeline = world.pipeline(world.stage(consumed_topic), world.stage(consumed_topic, name="second", group="second"))
    world.apply(pipeline)
    eventually(lambda: world.condition("ObjectsApplied").get("status") == "True")
    names = {(one["kind"], one["metadata"]["name"]) for one in owned(world)}
    assert len(names) >= 10
    world.kubectl("delete", "eodp", "close")
    world.apply(pipeline)
    uid = world.get("eodp", "close")["metadata"]["uid"]

    def owners() -> dict[tuple[str, str], set[str]]:
        return {
            (one["kind"], one["metadata"]["name"]): {ref["uid"] for ref in one["metadata"]["ownerReferences"]}
            for one in owned(world)
        }

    eventually(lambda: owners() == {name: {uid} for name in names}, within_s=100)
    eventually(lambda: world.condition("ObjectsApplied").get("status") == "True")


def made_in(proxy: ApiProxy) -> list[str]:
    """Names of the Deployments that were made or changed through a proxy."""
    return [one.name for one in proxy.writes() if one.resource == "deployments" and one.status in {200, 201}]


@pytest.mark.slow
def test_a_pipeline_deleted_while_the_operator_was_cut_off_does_not_come_back(
    world: OperatorWorld, consumed_topic: str, proxies: tuple[ApiProxy, ApiProxy]
) -> None:
    """Its DELETED event is never seen, and where the watch would have gone on is answered with 410."""
    first, _ = kubeconfigs(world, proxies)
    operator = world.start_operator(kubeconfig=first)
    world.apply(world.pipeline(world.stage(consumed_topic)))
    world.apply(world.pipeline(world.stage(consumed_topic, group=f"{world.namespace}-other"), name="other"))
    eventually(lambda: world.names("deployments") == {"close-pnl", "other-pnl"})
    proxies[0].down()
    world.kubectl("delete", "eodp", "close")
    eventually(lambda: world.names("deployments") == {"other-pnl"})
    world.produce(consumed_topic, 35)
    proxies[0].clear()
    proxies[0].faults = Faults(gone=1.0)
    proxies[0].up()
    eventually(lambda: "gone" in {one.fault for one in proxies[0].requests()})
    proxies[0].faults = Faults()
    eventually(lambda: world.replicas("other-pnl") == 4)
    steadily(lambda: world.names("deployments") == {"other-pnl"}, for_s=5)
    assert set(made_in(proxies[0])) == {"other-pnl"}
    assert operator.alive


def page(port: int, path: str) -> tuple[int, str]:
    """What the operator serves; 0 while it does not listen."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()
    except OSError:
        return 0, ""


def test_health_and_metrics_tell_who_leads_and_what_was_decided(world: OperatorWorld, consumed_topic: str) -> None:
    ports = [free_port(), free_port()]
    world.start_operator("--http-port", str(ports[0]), forked=False)
    eventually(lambda: page(ports[0], "/readyz") == (200, "ready, leading\n"))
    world.start_operator("--http-port", str(ports[1]))
    eventually(lambda: page(ports[1], "/readyz") == (200, "ready, standing by\n"))
    assert [page(port, "/healthz")[0] for port in ports] == [200, 200]

    world.apply(world.pipeline(world.stage(consumed_topic)))
    eventually(lambda: world.replicas() == 1)
    world.produce(consumed_topic, 35)
    eventually(lambda: world.replicas() == 4)
    place = f'namespace="{world.namespace}",pipeline="close",stage="pnl"'

    def told() -> set[str]:
        return set(page(ports[0], "/metrics")[1].splitlines())

    expected = {
        "eod_operator_lease_held 1.0",
        "eod_operator_pipelines 1.0",
        f"eod_operator_desired_replicas{{{place}}} 4.0",
        f"eod_operator_current_replicas{{{place}}} 4.0",
        f"eod_operator_lag_records{{{place}}} 35.0",
        'eod_operator_scaled_total{direction="up"} 2.0',
    }
    eventually(lambda: expected <= told())
    standby = page(ports[1], "/metrics")[1]
    assert "eod_operator_lease_held 0.0" in standby
    assert "eod_operator_desired_replicas{" not in standby
