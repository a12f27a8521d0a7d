"""The index of one kind against a real API server: it ends as `kubectl get` says, whatever happened in between."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from eod_operator.kube.api import MERGE, Api, Manifest
from eod_operator.kube.budget import Budget
from eod_operator.kube.informer import Informer
from kubernetes import client, config
from support.patience import soon
from testbed.kubernetes import Kubernetes

LABEL = "eod.markets/informed"
Version = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Slim:
    """What is kept of a ConfigMap here."""

    namespace: str
    name: str
    uid: str
    version: int


def slim(manifest: Manifest) -> Slim:
    metadata = manifest["metadata"]
    return Slim(metadata["namespace"], metadata["name"], metadata["uid"], int(metadata["resourceVersion"]))


class Cluster:
    """ConfigMaps of one test, in namespaces of its own, and an API client that may ask as often as it likes."""

    def __init__(self, server: Kubernetes, label: str) -> None:
        configuration = client.Configuration()
        config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=str(server.kubeconfig), client_configuration=configuration
        )
        self.server = server
        self.selector = f"{LABEL}={label}"
        self.label = label
        self.namespaces = [f"{label}-{which}" for which in ("one", "two", "three")]
        self.asked: list[str] = []
        self.api = Api(
            configuration,
            budget=Budget(10_000, 10_000),
            observe=lambda verb, _kind, _status, _seconds: self.asked.append(verb),
        )

    def informer(self, *namespaces: str | None, **more: Any) -> Informer[Slim]:
        return Informer(
            self.api,
            "ConfigMap",
            namespaces=namespaces,
            selector=self.selector,
            slim=slim,
            group=lambda record: record.namespace,
            page=50,
            **more,
        )

    async def make(self, namespace: str, names: Iterable[str], *, labelled: bool = True) -> list[Manifest]:
        labels = {LABEL: self.label} if labelled else {}
        bodies = [{"metadata": {"name": name, "labels": labels}, "data": {"n": "0"}} for name in names]
        return await asyncio.gather(*(self.api.call("create", "ConfigMap", namespace, body=body) for body in bodies))

    async def patch(self, namespace: str, names: Iterable[str], body: Manifest) -> list[Manifest]:
        return await asyncio.gather(
            *(self.api.call("patch", "ConfigMap", namespace, name, body=body, content_type=MERGE) for name in names)
        )

    async def delete(self, namespace: str, names: Iterable[str]) -> None:
        await asyncio.gather(*(self.api.call("delete", "ConfigMap", namespace, name) for name in names))

    def truth(self, *namespaces: str) -> set[Version]:
        """What kubectl says, of all namespaces or of these."""
        said: set[Version] = set()
        for place in [f"--namespace={one}" for one in namespaces] or ["--all-namespaces"]:
            answer = json.loads(self.server.kubectl("get", "configmap", "-l", self.selector, "-o", "json", place))
            said |= {(one.namespace, one.name, one.version) for one in map(slim, answer["items"])}
        return said

    def known(self, informer: Informer[Slim]) -> set[Version]:
        """What the informer says."""
        records = (record for namespace in self.namespaces for record in informer.of(namespace).values())
        return {(record.namespace, record.name, record.version) for record in records}


@contextlib.asynccontextmanager
async def cluster_of(server: Kubernetes, label: str) -> AsyncIterator[Cluster]:
    cluster = Cluster(server, label)
    for namespace in cluster.namespaces:
        server.kubectl("create", "namespace", namespace)
    try:
        yield cluster
    finally:
        await cluster.api.close()
        server.kubectl("delete", "namespace", *cluster.namespaces, "--wait=false")


@pytest.fixture
async def cluster(kubernetes: Kubernetes, unique: str) -> AsyncIterator[Cluster]:
    async with cluster_of(kubernetes, unique[-20:].strip("-")) as made:
        yield made


@contextlib.asynccontextmanager
async def running(*informers: Informer[Slim]) -> AsyncIterator[None]:
    """Run informers; the test goes on once they are synced."""
    tasks = [asyncio.create_task(informer.run()) for informer in informers]
    try:
        await soon(lambda: all(informer.synced for informer in informers))
        yield
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def equal(cluster: Cluster, informer: Informer[Slim], *namespaces: str) -> set[Version]:
    """Wait until informer and kubectl agree; return what they agree on."""
    truth = cluster.truth(*namespaces)
    with contextlib.suppress(AssertionError):  # the comparison below shows the difference
        await soon(lambda: cluster.known(informer) == truth, within_s=10)
    assert cluster.known(informer) == truth
    return truth


def numbered(start: int, end: int) -> list[str]:
    return [f"config-{number:03}" for number in range(start, end)]


async def test_the_index_is_what_kubectl_says_everywhere_and_in_two_namespaces(cluster: Cluster) -> None:
    """Half of the objects come by lists of 50, half by events; then they change, lose labels, regain them and go."""
    one, two, three = cluster.namespaces
    await cluster.make(one, numbered(0, 120))
    await cluster.make(two, numbered(0, 30))
    await cluster.make(three, numbered(0, 10))
    await cluster.make(one, (f"other-{name}" for name in numbered(0, 60)), labelled=False)
    heard: list[object] = []
    everywhere, here = cluster.informer(None, changed=heard.append), cluster.informer(one, two)

    async def agree() -> int:
        await equal(cluster, here, one, two)
        return len(await equal(cluster, everywhere))

    async with running(everywhere, here):
        assert await agree() == 160
        assert sorted(map(str, heard)) == [one] * 120 + [three] * 10 + [two] * 30

        await cluster.make(one, numbered(120, 250))
        await cluster.make(three, numbered(10, 20))
        await cluster.make(two, (f"other-{name}" for name in numbered(0, 60)), labelled=False)
        assert await agree() == 300

        await cluster.patch(one, numbered(50, 150), {"data": {"n": "1"}})
        await cluster.patch(one, numbered(0, 20), {"metadata": {"labels": {LABEL: None}}})
        await cluster.delete(one, numbered(200, 250))
        await cluster.delete(two, numbered(0, 10))
        assert await agree() == 220

        await cluster.patch(one, numbered(0, 10), {"metadata": {"labels": {LABEL: cluster.label}}})
        await cluster.make(one, numbered(200, 210))  # the same names, other objects
        assert await agree() == 240
        assert everywhere.problem is None
        assert everywhere.fresh_s < 20


async def test_our_own_writes_are_known_before_the_watch_tells_and_never_go_back(cluster: Cluster) -> None:
    one = cluster.namespaces[0]
    informer = cluster.informer(None)

    async def write_and_read(name: str) -> None:
        (made,) = await cluster.make(one, [name])
        informer.put(made)
        for number in range(5):
            (patched,) = await cluster.patch(one, [name], {"data": {"n": str(number + 1)}})
            informer.put(patched)
            record = informer.get(one, name)
            assert record is not None
            assert record.version == slim(patched).version
        if name.endswith("0"):
            await cluster.delete(one, [name])
            informer.forget(one, name, made["metadata"]["uid"])
            for _ in range(20):
                assert informer.get(one, name) is None
                await asyncio.sleep(0.01)

    async with running(informer):
        await asyncio.gather(*map(write_and_read, numbered(0, 40)))
        assert len(await equal(cluster, informer)) == 36


@pytest.mark.slow
async def test_the_index_survives_a_restart_of_the_api_server(own_kubernetes: Kubernetes, unique: str) -> None:
    """A restarted server has no history: an informer that slept through it is told 410, and lists anew."""
    async with cluster_of(own_kubernetes, unique[-20:].strip("-")) as cluster:
        one, two, _ = cluster.namespaces
        await cluster.make(one, numbered(0, 120))
        everywhere, here, asleep = cluster.informer(None), cluster.informer(one, two), cluster.informer(None)
        async with running(asleep):
            assert len(await equal(cluster, asleep)) == 120
        await cluster.make(one, numbered(120, 130))
        async with running(everywhere, here):
            assert len(await equal(cluster, everywhere)) == 130

            await asyncio.to_thread(own_kubernetes.stop)
            await soon(lambda: everywhere.problem is not None and here.problem is not None)
            assert "check that the API server runs" in str(everywhere.problem)
            assert len(cluster.known(everywhere)) == 130
            await asyncio.to_thread(own_kubernetes.start)

            await cluster.delete(one, numbered(0, 20))
            await cluster.make(two, numbered(0, 30))
            await soon(lambda: everywhere.problem is None and here.problem is None)
            assert len(await equal(cluster, everywhere)) == 140
            assert len(await equal(cluster, here, one, two)) == 140

        cluster.asked.clear()
        async with running(asleep):
            assert len(await equal(cluster, asleep)) == 140
            assert cluster.asked[:4] == ["watch", "list", "list", "list"]  # three pages
