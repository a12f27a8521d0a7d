"""Events on a real API server, as `kubectl get events` shows them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from eod_operator.kube import events as events_of_ours
from eod_operator.kube.api import Api
from eod_operator.kube.events import Recorder
from eod_operator.resources import Owner
from kubernetes import client, config
from support.patience import limit_s
from testbed.kubernetes import Kubernetes


@pytest.fixture(autouse=True)
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow API server loses no Event at the end, as one would where an operator must be gone within 2 s."""
    monkeypatch.setattr(events_of_ours, "FLUSHED_WITHIN_S", limit_s(30))


@pytest.fixture
def owner(kubernetes: Kubernetes, unique: str) -> Owner:
    """A pipeline in a namespace of the test's own; an Event needs no more of it than its name."""
    kubernetes.kubectl("create", "namespace", unique)
    return Owner(unique, "close", "11111111-2222-3333-4444-555555555555")


@pytest.fixture
async def api(kubernetes: Kubernetes, owner: Owner, tmp_path: Path) -> AsyncIterator[Api]:
    """As a ServiceAccount that may get, create and patch Events, and nothing else."""

    def confined() -> str:
        kubectl, there = kubernetes.kubectl, ("-n", owner.namespace)
        kubectl(*there, "create", "serviceaccount", "operator")
        kubectl(*there, "create", "role", "events", "--verb=get,create,patch", "--resource=events")
        bound = ("--role=events", f"--serviceaccount={owner.namespace}:operator")
        kubectl(*there, "create", "rolebinding", "events", *bound)
        kubeconfig = yaml.safe_load(kubernetes.kubeconfig.read_text())
        kubeconfig["users"][0]["user"] = {"token": kubectl(*there, "create", "token", "operator").strip()}
        file = tmp_path / "kubeconfig"
        file.write_text(yaml.safe_dump(kubeconfig))
        return str(file)

    configuration = client.Configuration()
    config.load_kube_config(await asyncio.to_thread(confined), client_configuration=configuration)
    made = Api(configuration)
    yield made
    await made.close()


async def said(recorder: Recorder, owner: Owner, message: str, times: int = 1) -> None:
    """Post so many times, and run until everything is sent."""
    task = asyncio.create_task(recorder.run())
    await asyncio.sleep(0)
    for _ in range(times):
        recorder.post(owner, "Warning", "KafkaUnreachable", message)
        await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert recorder.dropped == 0


async def events(kubernetes: Kubernetes, owner: Owner) -> list[dict[str, Any]]:
    got = await asyncio.to_thread(kubernetes.kubectl, "-n", owner.namespace, "get", "events", "-o", "json")
    listed: list[dict[str, Any]] = json.loads(got)["items"]
    return listed


@pytest.mark.slow
async def test_a_repeated_event_is_one_object_with_a_count(kubernetes: Kubernetes, owner: Owner, api: Api) -> None:
    await said(Recorder(api, instance="eod-operator-0"), owner, "Kafka gave no answer", times=5)
    (event,) = await events(kubernetes, owner)
    assert event["count"] == 5
    assert event["message"] == "Kafka gave no answer"
    assert (event["type"], event["reason"]) == ("Warning", "KafkaUnreachable")
    assert event["source"] == {"component": "eod-operator"}
    assert (event["reportingComponent"], event["reportingInstance"]) == ("eod-operator", "eod-operator-0")
    assert event["involvedObject"] == {
        "apiVersion": "eod.markets/v1alpha1",
        "kind": "EodPipeline",
        "name": "close",
        "namespace": owner.namespace,
        "uid": owner.uid,
    }
    assert event["firstTimestamp"] <= event["lastTimestamp"]


async def test_a_second_operator_counts_on(kubernetes: Kubernetes, owner: Owner, api: Api) -> None:
    await said(Recorder(api), owner, "Kafka gave no answer", times=2)
    await said(Recorder(api), owner, "Kafka gave no answer", times=3)
    (event,) = await events(kubernetes, owner)
    assert event["count"] == 5


async def test_an_event_that_was_deleted_is_made_anew(kubernetes: Kubernetes, owner: Owner, api: Api) -> None:
    recorder = Recorder(api)
    await said(recorder, owner, "Kafka gave no answer", times=2)
    await asyncio.to_thread(kubernetes.kubectl, "-n", owner.namespace, "delete", "events", "--all")
    await said(recorder, owner, "Kafka gave no answer")
    (event,) = await events(kubernetes, owner)
    assert event["count"] == 1


async def test_a_message_of_the_greatest_length_is_taken(kubernetes: Kubernetes, owner: Owner, api: Api) -> None:
    await said(Recorder(api), owner, "é" * 5_000)
    (event,) = await events(kubernetes, owner)
    assert event["message"] == "é" * 1023 + "…"


async def test_kubectl_describes_the_pipeline_with_it(kubernetes: Kubernetes, owner: Owner, api: Api) -> None:
    """By the selector that `kubectl describe` and `kubectl events --for` use."""
    await said(Recorder(api), owner, "Kafka gave no answer")
    selector = f"involvedObject.uid={owner.uid},involvedObject.kind=EodPipeline,involvedObject.name=close"
    got = await asyncio.to_thread(
        kubernetes.kubectl, "-n", owner.namespace, "get", "events", "--field-selector", selector
    )
    assert "Kafka gave no answer" in got
