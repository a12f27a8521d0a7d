"""The election on a real API server: its resource versions, its validation and its rights."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import pytest
import yaml
from eod_operator.kube.api import Api
from eod_operator.kube.lease import Lease, identity
from kubernetes import client, config
from support.patience import soon
from testbed.kubernetes import Kubernetes

TIMES = {"duration_s": 3.0, "renew_within_s": 2.0, "retry_every_s": 0.3}


@pytest.fixture
def namespace(kubernetes: Kubernetes, unique: str) -> str:
    kubernetes.kubectl("create", "namespace", unique)
    return unique


@pytest.fixture
def confined(kubernetes: Kubernetes, namespace: str, tmp_path: Path) -> Path:
    """A kubeconfig of a ServiceAccount without any rights."""
    kubernetes.kubectl("-n", namespace, "create", "serviceaccount", "operator")
    token = kubernetes.kubectl("-n", namespace, "create", "token", "operator").strip()
    kubeconfig = yaml.safe_load(kubernetes.kubeconfig.read_text())
    for user in kubeconfig["users"]:
        user["user"] = {"token": token}
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(kubeconfig))
    return file


class Wire:
    """A relay to the API server that can go silent: connections stay open, and nothing gets through."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.open = asyncio.Event()
        self.open.set()
        self.tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.server.close()
        await ended(*self.tasks)

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        for source, target in ((reader, back), (there, writer)):
            self.tasks.add(asyncio.create_task(self._carry(source, target)))

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                await self.open.wait()
                target.write(data)
        finally:
            target.close()


@asynccontextmanager
async def an_api(kubeconfig: Path, wire: Wire | None = None) -> AsyncIterator[Api]:
    configuration = client.Configuration()
    config.load_kube_config(str(kubeconfig), client_configuration=configuration)
    if wire is not None:
        configuration.host = wire.address
    api = Api(configuration)
    try:
        yield api
    finally:
        await api.close()


async def ended(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def the_spec(kubernetes: Kubernetes, namespace: str) -> dict[str, Any]:
    got = kubernetes.kubectl("-n", namespace, "get", "lease", "eod-operator", "-o", "json")
    spec: dict[str, Any] = json.loads(got)["spec"]
    return spec


async def test_the_other_takes_over_when_renewals_hang(kubernetes: Kubernetes, namespace: str) -> None:
    """Not before the first has noticed by itself; and when its wire is mended it follows."""
    overlaps = 0
    told: list[bool] = []
    async with (
        Wire(kubernetes.ports["apiserver"]) as wire,
        an_api(kubernetes.kubeconfig, wire) as wired,
        an_api(kubernetes.kubeconfig) as direct,
    ):
        first = Lease(wired, namespace=namespace, identity=identity(), changed=told.append, **TIMES)
        second = Lease(direct, namespace=namespace, identity=identity(), **TIMES)
        one = asyncio.create_task(first.run())
        await soon(lambda: first.held)
        two = asyncio.create_task(second.run())
        await soon(lambda: second.holder == first.holder)
        wire.open.clear()

        def seen() -> bool:
            nonlocal overlaps
            overlaps += first.held and second.held
            return second.held

        await soon(seen)
        assert not overlaps
        assert (first.held, told) == (False, [True, False])
        assert "no answer within 1 s" in (first.problem or "")
        assert second.transitions == 1
        wire.open.set()
        await soon(lambda: first.holder == second.holder)
        assert first.problem is None
        assert second.held
        await ended(one, two)


async def test_it_is_handed_over_when_its_holder_ends(kubernetes: Kubernetes, namespace: str) -> None:
    """The next has it at its next look, long before the first would have expired."""
    async with an_api(kubernetes.kubeconfig) as api:
        times = TIMES | {"duration_s": 3_600.0, "renew_within_s": 60.0}
        first, second = (Lease(api, namespace=namespace, identity=identity(), **times) for _ in range(2))
        one = asyncio.create_task(first.run())
        await soon(lambda: first.held)
        two = asyncio.create_task(second.run())
        await soon(lambda: second.holder == first.holder)
        await ended(one)
        assert not first.held
        await soon(lambda: second.held)
        assert the_spec(kubernetes, namespace)["leaseTransitions"] == 1
        await ended(two)
        spec = await asyncio.to_thread(the_spec, kubernetes, namespace)
        assert (spec.get("holderIdentity", ""), spec["leaseDurationSeconds"]) == ("", 1)


async def test_a_foreign_edit_and_a_deletion_are_survived(kubernetes: Kubernetes, namespace: str) -> None:
    told: list[bool] = []
    async with an_api(kubernetes.kubeconfig) as api:
        times = TIMES | {"duration_s": 6.0, "renew_within_s": 4.0}  # kubectl takes some of it
        lease = Lease(api, namespace=namespace, identity="me", changed=told.append, **times)
        task = asyncio.create_task(lease.run())
        await soon(lambda: lease.held)
        kubectl = kubernetes.kubectl
        await asyncio.to_thread(kubectl, "-n", namespace, "annotate", "lease", "eod-operator", "note=kept")
        await asyncio.sleep(1)
        got = await asyncio.to_thread(kubectl, "-n", namespace, "get", "lease", "eod-operator", "-o", "yaml")
        assert yaml.safe_load(got)["metadata"]["annotations"] == {"note": "kept"}
        await asyncio.to_thread(kubectl, "-n", namespace, "delete", "lease", "eod-operator")
        await asyncio.sleep(2.5)
        assert (await asyncio.to_thread(the_spec, kubernetes, namespace))["holderIdentity"] == "me"
        assert told == [True]
        assert lease.problem is None
        await ended(task)


async def test_get_create_and_update_are_enough_and_without_them_the_role_is_named(
    kubernetes: Kubernetes, namespace: str, confined: Path
) -> None:
    def grant() -> None:
        verbs = ("--verb=get,create,update", "--resource=leases.coordination.k8s.io")
        kubernetes.kubectl("-n", namespace, "create", "role", "leases", *verbs)
        bound = ("--role=leases", f"--serviceaccount={namespace}:operator")
        kubernetes.kubectl("-n", namespace, "create", "rolebinding", "leases", *bound)

    async with an_api(confined) as api:
        lease = Lease(api, namespace=namespace, identity="me", **TIMES)
        task = asyncio.create_task(lease.run())
        await soon(lambda: lease.problem)
        assert f"lacks a Role in namespace {namespace} that grants get, create and update on leases" in lease.problem
        assert not lease.held
        await asyncio.to_thread(grant)
        await soon(lambda: lease.held)
        await asyncio.sleep(1)
        assert lease.held
        assert lease.problem is None
        await ended(task)
        spec = await asyncio.to_thread(the_spec, kubernetes, namespace)
        assert spec.get("holderIdentity", "") == ""


async def test_a_missing_namespace_is_named(kubernetes: Kubernetes, unique: str) -> None:
    async with an_api(kubernetes.kubeconfig) as api:
        lease = Lease(api, namespace=unique, identity="me", **TIMES)
        task = asyncio.create_task(lease.run())
        await soon(lambda: lease.problem)
        assert f"there is no namespace {unique}: make it" in lease.problem
        await ended(task)
