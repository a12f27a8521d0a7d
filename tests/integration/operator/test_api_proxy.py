"""The API proxy in front of a real API server: what passes through is unchanged, and each fault is what it says."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import kopf
import pytest
import yaml
from kubernetes import client, config
from support.api_proxy import ApiProxy, Faults, Request
from support.patience import eventually, limit_s
from testbed.kubernetes import Kubernetes

Manifest = dict[str, Any]
Core = Any
"""The kubernetes client's CoreV1Api, whose own types know no plain dicts."""
AGENT = "proxy-test/1"
WATCHES = 300


@pytest.fixture(scope="module")
def account(kubernetes: Kubernetes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig with the token of a ServiceAccount that may do all."""
    kubernetes.kubectl("create", "serviceaccount", "api-proxy")
    kubernetes.kubectl(
        "create", "clusterrolebinding", "api-proxy", "--clusterrole=cluster-admin", "--serviceaccount=default:api-proxy"
    )
    kubeconfig = yaml.safe_load(kubernetes.kubeconfig.read_text())
    for user in kubeconfig["users"]:
        user["user"] = {"token": kubernetes.kubectl("create", "token", "api-proxy", "--duration=2h").strip()}
    file = tmp_path_factory.mktemp("api-proxy") / "kubeconfig"
    file.write_text(yaml.safe_dump(kubeconfig))
    return file


@pytest.fixture
def namespace(kubernetes: Kubernetes, unique: str) -> Iterator[str]:
    """A namespace of this test's own, in which nobody else makes ConfigMaps any more."""
    kubernetes.kubectl("create", "namespace", unique)
    kubernetes.kubectl("-n", unique, "wait", "--for=create", "configmap/kube-root-ca.crt", "--timeout=30s")
    yield unique
    kubernetes.kubectl("delete", "namespace", unique, "--wait=false")


@pytest.fixture
def proxy(kubernetes: Kubernetes) -> Iterator[ApiProxy]:
    """A proxy without faults, for a test to give it some."""
    with ApiProxy(kubernetes, seed=7) as running:
        yield running


@pytest.fixture
def core(proxy: ApiProxy, account: Path, tmp_path: Path) -> Iterator[Core]:
    """The core API through the proxy."""
    with api_client(proxy.kubeconfig(account, tmp_path / "proxied")) as made:
        yield client.CoreV1Api(made)


def api_client(kubeconfig: Path) -> Any:
    made: Any = config.new_client_from_config(str(kubeconfig))  # type: ignore[no-untyped-call]
    made.user_agent = AGENT
    made.configuration.retries = False  # urllib3's, which would hide a cut connection
    made.rest_client.pool_manager.connection_pool_kw["retries"] = False
    return made


def config_map(name: str, **data: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def names(kubernetes: Kubernetes, namespace: str) -> set[str]:
    """Names of the ConfigMaps that the API server really has, without its own."""
    listed = kubernetes.kubectl("-n", namespace, "get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}")
    return set(listed.split()) - {"kube-root-ca.crt"}


def refused(call: Callable[[], object]) -> tuple[client.ApiException, Manifest]:
    """The error of a call that the API server seems to refuse, and the Status in it."""
    with pytest.raises(client.ApiException) as caught:
        call()
    return caught.value, json.loads(str(caught.value.body))


def cut(call: Callable[[], object]) -> float:
    """Make a call whose connection ends without an answer, and return how long that took."""
    begun_s = time.monotonic()
    with pytest.raises(Exception, match=r"Connection aborted|closed connection|Connection refused|NewConnectionError"):
        call()
    return time.monotonic() - begun_s


class Watching:
    """A watch of a namespace's ConfigMaps in a thread: its events, and how it ended."""

    def __init__(self, core: Core, namespace: str) -> None:
        self.events: queue.Queue[str] = queue.Queue()
        self.ended: queue.Queue[Exception | None] = queue.Queue()
        self._list, self._namespace = core.list_namespaced_config_map, namespace
        self._version = self._list(namespace).metadata.resource_version
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        end: Exception | None = None
        how = {"watch": True, "resource_version": self._version, "_preload_content": False}
        try:
            response = self._list(self._namespace, **how)
            for line in response:
                event = json.loads(line)
                self.events.put(f"{event['type']} {event['object'].get('metadata', {}).get('name', '')}".strip())
        except Exception as error:  # noqa: BLE001 - the test asks how it ended
            end = error
        self.ended.put(end)


def of_test(proxy: ApiProxy, **filters: Any) -> list[Request]:
    return proxy.requests(agent=AGENT, **filters)


def watched(kubernetes: Kubernetes) -> int:
    """How many watches of one namespace's ConfigMaps the API server serves now."""
    metrics = kubernetes.kubectl("get", "--raw", "/metrics").splitlines()
    of_config_maps = ("apiserver_longrunning_requests{", 'resource="configmaps"', 'scope="namespace"', 'verb="WATCH"')
    return sum(int(line.split()[-1]) for line in metrics if all(part in line for part in of_config_maps))


def test_what_passes_through_is_what_the_server_says(
    kubernetes: Kubernetes, core: Core, account: Path, namespace: str
) -> None:
    """Create, read, replace, patch, list and delete; errors of the server's own come through as they are."""
    with api_client(account) as api:
        direct: Core = client.CoreV1Api(api)
        core.create_namespaced_config_map(namespace, config_map("a", x="1"))
        core.create_namespaced_config_map(namespace, config_map("b", x="1" * 500_000))
        core.replace_namespaced_config_map("a", namespace, config_map("a", x="2"))
        core.patch_namespaced_config_map("a", namespace, {"data": {"y": "ü"}})
        got = core.read_namespaced_config_map("a", namespace)
        assert got.data == {"x": "2", "y": "ü"}
        assert got == direct.read_namespaced_config_map("a", namespace)
        selected = {"field_selector": "metadata.name!=kube-root-ca.crt"}
        through = core.list_namespaced_config_map(namespace, **selected)
        assert through.items == direct.list_namespaced_config_map(namespace, **selected).items
        assert len(through.items) == 2

        answers = [one.read_namespaced_config_map_with_http_info for one in (core, direct)]
        (_, status, headers), (_, status_directly, headers_directly) = (ask("a", namespace) for ask in answers)
        assert status == status_directly == 200
        unique_each = {"Audit-Id", "Date"}
        assert {*headers} >= {*headers_directly}
        assert all(headers[name] == headers_directly[name] for name in {*headers_directly} - unique_each)

        (error, told), (error_directly, told_directly) = (
            refused(partial(one.create_namespaced_config_map, namespace, config_map("a"))) for one in (core, direct)
        )
        assert error.status == error_directly.status == 409
        assert told == told_directly
        core.delete_namespaced_config_map("a", namespace)
        assert names(kubernetes, namespace) == {"b"}


def test_the_caller_is_who_its_token_says(
    kubernetes: Kubernetes, account: Path, tmp_path: Path, proxy: ApiProxy
) -> None:
    """With the admin's certificate in the proxy too; only who has no token becomes the admin."""
    with pytest.raises(ValueError, match=r"user admin of .*\(kubectl create token\)"):
        proxy.kubeconfig(kubernetes.kubeconfig, tmp_path / "none")
    pki = kubernetes.kubeconfig.parent
    with ApiProxy(kubernetes, admin=(pki / "admin.crt", pki / "admin.key")) as with_admin:
        for kubeconfig, expected in (
            (account, "system:serviceaccount:default:api-proxy"),
            (kubernetes.kubeconfig, "admin"),
        ):
            with api_client(with_admin.kubeconfig(kubeconfig, tmp_path / expected.replace(":", "-"))) as api:
                authentication: Any = client.AuthenticationV1Api(api)
                review = authentication.create_self_subject_review({})
            assert review.status.user_info.username == expected


def test_kopf_sends_its_token_through_it(
    proxy: ApiProxy, account: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over plain HTTP, that is; were it to withhold the token, the answer would be 403."""
    monkeypatch.setenv("KUBECONFIG", str(proxy.kubeconfig(account, tmp_path / "proxied")))
    info = kopf.login_with_kubeconfig(settings=kopf.OperatorSettings())
    assert info is not None

    async def status() -> int:
        async with (
            aiohttp.ClientSession(headers=info.as_http_headers()) as session,
            session.get(f"{info.server}/api/v1/namespaces/default/configmaps") as answer,
        ):
            return answer.status

    assert asyncio.run(status()) == 200


def test_a_watch_delivers_at_once(core: Core, namespace: str) -> None:
    """Each event arrives while the watch stays open, and long before any buffer would be full."""
    watching = Watching(core, namespace)
    for name in "abc":
        core.create_namespaced_config_map(namespace, config_map(name))
        assert watching.events.get(timeout=limit_s(10)) == f"ADDED {name}"
    assert watching.ended.empty()


def test_hundreds_of_watches_at_once(kubernetes: Kubernetes, core: Core, proxy: ApiProxy, namespace: str) -> None:
    """Every one of them sees the object, and none is left on the API server when their owners have gone."""
    token = core.api_client.configuration.auth_settings()["BearerToken"]["value"]
    query = {"watch": "1", "labelSelector": "app=a"}

    async def first_event(session: aiohttp.ClientSession, opened: asyncio.Semaphore) -> str:
        async with session.get(f"/api/v1/namespaces/{namespace}/configmaps", params=query) as answer:
            opened.release()
            event = json.loads(await answer.content.readline())
            return f"{event['type']} {event['object']['metadata']['name']}"

    async def run() -> list[str]:
        opened = asyncio.Semaphore(0)
        async with aiohttp.ClientSession(
            proxy.url,
            headers={"Authorization": token, "User-Agent": AGENT},
            connector=aiohttp.TCPConnector(limit=0),
        ) as session:
            watches = [asyncio.create_task(first_event(session, opened)) for _ in range(WATCHES)]
            for _ in range(WATCHES):
                await opened.acquire()
            assert await asyncio.to_thread(watched, kubernetes) >= WATCHES
            labelled = config_map("a") | {"metadata": {"name": "a", "labels": {"app": "a"}}}
            await asyncio.to_thread(core.create_namespaced_config_map, namespace, labelled)
            return await asyncio.gather(*watches)

    assert asyncio.run(run()) == ["ADDED a"] * WATCHES
    eventually(lambda: watched(kubernetes) < WATCHES // 10, within_s=10)  # those of other tests are few
    assert len(of_test(proxy, verbs={"watch"})) == WATCHES


def test_the_record_is_what_was_sent(core: Core, proxy: ApiProxy, namespace: str) -> None:
    core.create_namespaced_config_map(namespace, config_map("before"))
    since_s = proxy.mark()
    for name in "abcde":
        core.create_namespaced_config_map(namespace, config_map(name))
        core.read_namespaced_config_map(name, namespace)
    core.patch_namespaced_config_map("a", namespace, {"data": {"x": "1"}})
    core.delete_namespaced_config_map("b", namespace)
    refused(lambda: core.read_namespaced_config_map("missing", namespace))

    place = (namespace, "configmaps", True, "")
    assert {
        (one.verb, one.name, one.status, one.namespace, one.resource, one.forwarded, one.fault)
        for one in of_test(proxy, since_s=since_s)
    } == {
        ("create", "", 201, *place),
        *(("get", name, 200, *place) for name in "abcde"),
        ("patch", "a", 200, *place),
        ("delete", "b", 200, *place),
        ("get", "missing", 404, *place),
    }
    writes = proxy.writes(since_s=since_s, agent=AGENT)
    assert [one.verb for one in writes] == ["create"] * 5 + ["patch", "delete"]
    assert {json.loads(one.body)["metadata"]["name"] for one in writes[:5]} == set("abcde")
    assert proxy.requests(agent="somebody-else") == []
    proxy.clear()
    assert proxy.requests() == []


def test_a_conflict_befalls_writes_alone_and_is_not_forwarded(
    kubernetes: Kubernetes, core: Core, proxy: ApiProxy, namespace: str
) -> None:
    proxy.faults = Faults(conflict=1.0)
    error, status = refused(lambda: core.create_namespaced_config_map(namespace, config_map("a")))
    assert (error.status, status["reason"]) == (409, "Conflict")
    assert core.list_namespaced_config_map(namespace).items
    assert names(kubernetes, namespace) == set()
    (write,) = proxy.writes()
    assert (write.fault, write.status, write.forwarded) == ("conflict", 409, False)


def test_throttled_says_when_to_come_again(core: Core, proxy: ApiProxy, namespace: str) -> None:
    proxy.faults = Faults(throttled=1.0)
    error, status = refused(lambda: core.list_namespaced_config_map(namespace))
    assert (error.status, status["reason"], dict(error.headers or {})["Retry-After"]) == (429, "TooManyRequests", "1")


def test_broken_is_half_of_the_time_done_all_the_same(
    kubernetes: Kubernetes, core: Core, proxy: ApiProxy, namespace: str
) -> None:
    """The caller sees the same 500; the objects that exist are those that were forwarded, and no others."""
    proxy.faults = Faults(broken=1.0)
    for number in range(16):
        error, status = refused(partial(core.create_namespaced_config_map, namespace, config_map(f"m{number}")))
        assert (error.status, status["reason"]) == (500, "InternalError")
    done = {json.loads(one.body)["metadata"]["name"] for one in proxy.writes() if one.forwarded}
    assert 0 < len(done) < 16
    assert names(kubernetes, namespace) == done


def test_a_timeout_is_half_of_the_time_done_all_the_same(
    kubernetes: Kubernetes, core: Core, proxy: ApiProxy, namespace: str
) -> None:
    """No answer ever comes; the connection is cut after the time."""
    proxy.faults = Faults(timeout=1.0, timeout_s=0.3)
    for number in range(10):
        held_s = cut(partial(core.create_namespaced_config_map, namespace, config_map(f"m{number}")))
        assert held_s >= 0.3
    writes = proxy.writes()
    assert {(one.fault, one.status) for one in writes} == {("timeout", 0)}
    done = {json.loads(one.body)["metadata"]["name"] for one in writes if one.forwarded}
    assert 0 < len(done) < 10
    assert names(kubernetes, namespace) == done


def test_gone_befalls_lists_that_go_on_and_watches(core: Core, proxy: ApiProxy, namespace: str) -> None:
    """Half of the watches are refused; the others end with an ERROR event."""
    version = core.list_namespaced_config_map(namespace).metadata.resource_version
    proxy.faults = Faults(gone=1.0)
    assert core.list_namespaced_config_map(namespace).items
    error, status = refused(lambda: core.list_namespaced_config_map(namespace, resource_version=version))
    assert (error.status, status["reason"]) == (410, "Expired")

    endings = set()
    for watching in [Watching(core, namespace) for _ in range(12)]:
        match watching.ended.get(timeout=limit_s(10)):
            case None:
                assert [*watching.events.queue] == ["ERROR"]
                endings.add("event")
            case client.ApiException(status=410):
                endings.add("refusal")
            case unexpected:
                pytest.fail(f"neither: {unexpected!r}")
    assert endings == {"event", "refusal"}
    assert {(one.fault, one.status) for one in of_test(proxy, verbs={"watch"})} == {("gone", 410), ("gone", 200)}


def test_a_dropped_watch_ends_its_stream_and_nothing_else(core: Core, proxy: ApiProxy, namespace: str) -> None:
    watching = Watching(core, namespace)
    core.create_namespaced_config_map(namespace, config_map("a"))
    assert watching.events.get(timeout=limit_s(10)) == "ADDED a"
    proxy.faults = Faults(dropped_watch=1.0)
    assert watching.ended.get(timeout=limit_s(10)) is not None
    assert core.list_namespaced_config_map(namespace).items
    (seen,) = of_test(proxy, verbs={"watch"})
    assert (seen.fault, seen.status, seen.forwarded) == ("dropped_watch", 200, True)


def test_a_silent_watch_is_open_and_says_nothing(
    kubernetes: Kubernetes, core: Core, proxy: ApiProxy, namespace: str
) -> None:
    proxy.faults = Faults(silent_watch=1.0, silent_for_s=1.5)
    begun_s = time.monotonic()
    watching = Watching(core, namespace)
    eventually(lambda: of_test(proxy, verbs={"watch"}), within_s=5)
    kubernetes.kubectl("-n", namespace, "create", "configmap", "a")
    assert watching.ended.get(timeout=limit_s(10)) is not None
    assert time.monotonic() - begun_s >= 1.5
    assert watching.events.empty()
    assert [(one.fault, one.status, one.forwarded) for one in of_test(proxy, verbs={"watch"})] == [
        ("silent_watch", 200, False)
    ]


def test_latency_is_added(core: Core, proxy: ApiProxy, namespace: str) -> None:
    proxy.faults = Faults(latency_s=(0.3, 0.4))
    begun_s = time.monotonic()
    core.list_namespaced_config_map(namespace)
    assert time.monotonic() - begun_s >= 0.3


def test_exempt_requests_are_spared_and_recorded(kubernetes: Kubernetes, account: Path, tmp_path: Path) -> None:
    with (
        ApiProxy(
            kubernetes,
            faults=Faults(throttled=1.0, latency_s=(5.0, 5.0)),
            exempt=lambda request: request.resource == "namespaces",
        ) as proxy,
        api_client(proxy.kubeconfig(account, tmp_path / "proxied")) as api,
    ):
        core: Core = client.CoreV1Api(api)
        assert core.read_namespace("default").metadata.name == "default"
        (spared,) = proxy.requests()
        assert (spared.fault, spared.status) == ("", 200)


def test_down_cuts_all_and_up_brings_all_back(core: Core, proxy: ApiProxy, namespace: str) -> None:
    """A watch ends, a request that is being held ends, new ones are refused; then the same address works again."""
    watching = Watching(core, namespace)
    eventually(lambda: proxy._watches, within_s=5)
    proxy.faults = Faults(timeout=1.0, timeout_s=60)
    held = threading.Thread(target=lambda: cut(lambda: core.list_namespaced_config_map(namespace)))
    held.start()
    eventually(lambda: any(one.fault == "timeout" for one in proxy.requests()), within_s=5)

    proxy.down()
    proxy.down()
    assert watching.ended.get(timeout=limit_s(10)) is not None
    held.join(timeout=limit_s(10))
    assert not held.is_alive()
    since_s = proxy.mark()
    cut(lambda: core.list_namespaced_config_map(namespace))
    assert proxy.requests(since_s=since_s) == []

    proxy.faults = Faults()
    proxy.up()
    proxy.up()
    assert core.list_namespaced_config_map(namespace).items


@pytest.mark.slow
def test_an_api_server_that_is_gone_is_one_that_cuts(own_kubernetes: Kubernetes) -> None:
    """The proxy invents no answer of its own; what was not forwarded is recorded so."""

    async def ask(url: str) -> int:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/version") as answer:
            return answer.status

    with ApiProxy(own_kubernetes) as proxy:
        assert asyncio.run(ask(proxy.url)) == 200
        own_kubernetes.kill()
        with pytest.raises(aiohttp.ServerDisconnectedError):
            asyncio.run(ask(proxy.url))
        assert {(one.status, one.forwarded) for one in proxy.requests()} == {(200, True), (0, False)}
