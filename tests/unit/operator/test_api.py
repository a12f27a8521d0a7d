"""Calls and watches of an API server: what is sent, what errors become, what is noted of its clock and its outages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web
from eod_operator.cluster import NotLeadingError
from eod_operator.kube import api as api_module
from eod_operator.kube.api import Api, ClusterError
from eod_operator.kube.budget import Budget
from kubernetes import client

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """An HTTP server on loopback that answers as a test says."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.bodies: list[Any] = []
        self.answer: Handler = self._fine
        self.runner: web.AppRunner | None = None
        self.host = ""

    async def _fine(self, request: web.Request) -> web.Response:
        del request
        return web.json_response({"kind": "Fine"})

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        text = await request.text()
        self.bodies.append(json.loads(text) if text else None)
        return await self.answer(request)

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        port = self.runner.addresses[0][1]
        self.host = f"http://127.0.0.1:{port}"

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    configuration = client.Configuration(host=server.host)
    configuration.api_key["authorization"] = "token-1"
    configuration.api_key_prefix["authorization"] = "Bearer"
    made = Api(configuration)
    yield made
    await made.close()


async def test_what_is_sent(server: Server, api: Api) -> None:
    await api.call("patch", "Deployment", "trading", "close-pnl", query={"fieldManager": "me"}, body={"a": 1})
    await api.call("list", "Pod", "trading", query={"limit": "10"})
    await api.call("patch", "EodPipeline", "trading", "close", subresource="status", body={})
    await api.call("list", "Deployment", None)
    sent = [(one.method, one.path_qs, one.headers.get("Content-Type")) for one in server.requests]
    assert sent == [
        ("PATCH", "/apis/apps/v1/namespaces/trading/deployments/close-pnl?fieldManager=me", "application/apply-patch+yaml"),
        ("GET", "/api/v1/namespaces/trading/pods?limit=10", "application/json"),
        ("PATCH", "/apis/eod.markets/v1alpha1/namespaces/trading/eodpipelines/close/status", "application/apply-patch+yaml"),
        ("GET", "/apis/apps/v1/deployments", "application/json"),
    ]  # fmt: skip
    assert server.bodies[0] == {"a": 1}
    assert {one.headers["Authorization"] for one in server.requests} == {"Bearer token-1"}


async def test_the_token_is_read_anew_each_time(server: Server) -> None:
    """That of a service account rotates while the operator runs."""
    configuration = client.Configuration(host=server.host)
    configuration.api_key["authorization"] = "Bearer old"
    api = Api(configuration)
    await api.call("list", "Pod", "trading")
    configuration.api_key["authorization"] = "Bearer new"
    await api.call("list", "Pod", "trading")
    await api.close()
    assert [one.headers["Authorization"] for one in server.requests] == ["Bearer old", "Bearer new"]


@pytest.mark.parametrize(
    ("status", "properties"),
    [
        (404, {"missing"}),
        (409, {"conflict"}),
        (410, {"expired"}),
        (429, {"transient"}),
        (500, {"transient"}),
        (503, {"transient"}),
        (403, set()),
        (422, set()),
    ],
)
async def test_what_a_refusal_becomes(server: Server, api: Api, status: int, properties: set[str]) -> None:
    async def refuse(request: web.Request) -> web.Response:
        del request
        return web.json_response({"message": "no such luck", "reason": "Because"}, status=status)

    server.answer = refuse
    with pytest.raises(ClusterError, match=r"get /api/v1/namespaces/t/configmaps/x: no such luck") as refusal:
        await api.call("get", "ConfigMap", "t", "x")
    error = refusal.value
    assert (error.status, error.reason) == (status, "Because")
    assert {name for name in ("missing", "conflict", "expired", "transient") if getattr(error, name)} == properties


async def test_an_answer_that_is_not_json_is_an_error_with_its_beginning(server: Server, api: Api) -> None:
    async def proxy(request: web.Request) -> web.Response:
        del request
        return web.Response(status=502, text="<html>Bad Gateway</html>")

    server.answer = proxy
    with pytest.raises(ClusterError, match="Bad Gateway") as refusal:
        await api.call("list", "Pod", "t")
    assert refusal.value.transient


async def test_no_answer_in_time_and_no_server_at_all_are_transient(
    server: Server, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(request: web.Request) -> web.Response:
        del request
        await asyncio.sleep(60)
        return web.Response()

    monkeypatch.setattr(api_module, "REQUEST_WITHIN_S", 0.1)
    server.answer = hang
    with pytest.raises(ClusterError, match=r"the API server did not answer: no answer within 0\.1 s") as hung:
        await api.call("list", "Pod", "t")
    await server.stop()
    with pytest.raises(ClusterError, match="did not answer") as gone:
        await api.call("list", "Pod", "t")
    assert (hung.value.status, hung.value.transient, gone.value.status) == (0, True, 0)


async def test_an_outage_is_noted_once_it_is_over(server: Server, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A moment without an answer is none."""
    now_s = 1_000.0
    monkeypatch.setattr(api_module.time, "time", lambda: now_s)
    monkeypatch.setattr(api_module, "REQUEST_WITHIN_S", 0.05)
    fine = server.answer

    async def hang(request: web.Request) -> web.Response:
        del request
        await asyncio.sleep(60)
        return web.Response()

    for gone_s, outage in ((5, None), (300, (1_005.0, 1_305.0))):
        server.answer = hang
        with pytest.raises(ClusterError):
            await api.call("list", "Pod", "t")
        now_s += gone_s
        with pytest.raises(ClusterError):
            await api.call("list", "Pod", "t")
        server.answer = fine
        await api.call("list", "Pod", "t")
        assert api.outage == outage


@pytest.mark.parametrize("ahead_s", [-3_600, -30, 30, 3_600])
async def test_the_clocks_are_compared(
    server: Server, api: Api, monkeypatch: pytest.MonkeyPatch, ahead_s: float
) -> None:
    async def dated(request: web.Request) -> web.Response:
        del request
        return web.json_response({}, headers={"Date": formatdate(1_000_000, usegmt=True)})

    server.answer = dated
    monkeypatch.setattr(api_module.time, "time", lambda: 1_000_000.5 + ahead_s)
    await api.call("list", "Pod", "t")
    assert api.skew_s == pytest.approx(ahead_s, abs=1)


async def events(api: Api) -> list[dict[str, Any]]:
    return [event async for event in api.watch("ConfigMap", None, query={"resourceVersion": "7"}, within_s=60)]


async def test_a_watch_yields_events_however_they_are_cut(server: Server, api: Api) -> None:
    """In pieces, several at once, longer than any buffer."""
    long = {"type": "ADDED", "object": {"data": "x" * 300_000}}
    short = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}
    text = (json.dumps(short) + "\n" + json.dumps(long) + "\n" + json.dumps(short) + "\n").encode()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(text), 50_001):
            await response.write(text[start : start + 50_001])
        return response

    server.answer = stream
    assert await events(api) == [short, long, short]
    query = server.requests[0].query
    assert (query["watch"], query["resourceVersion"], query["timeoutSeconds"]) == ("true", "7", "60")


async def test_an_error_in_a_watch_is_an_error(server: Server, api: Api) -> None:
    async def expire(request: web.Request) -> web.Response:
        del request
        return web.json_response({"type": "ERROR", "object": {"code": 410, "message": "too old"}})

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"type": "ADDED", ')
        assert request.transport is not None
        request.transport.abort()
        return response

    async def refuse(request: web.Request) -> web.Response:
        del request
        return web.json_response({"message": "forbidden"}, status=403)

    async def newline(request: web.Request) -> web.Response:
        answer = await expire(request)
        answer.body = bytes(answer.body or b"") + b"\n"  # type: ignore[call-overload, arg-type]
        return answer

    for answer, status in ((newline, 410), (cut, 0), (refuse, 403)):
        server.answer = answer
        with pytest.raises(ClusterError) as error:
            await events(api)
        assert error.value.status == status


async def test_requests_beyond_the_budget_wait_and_urgent_ones_do_not(server: Server) -> None:
    slept: list[float] = []
    clock_s = 0.0
    budget = Budget(10, 2, clock=lambda: clock_s)
    api = Api(client.Configuration(host=server.host), budget=budget)
    real = asyncio.sleep

    async def sleep(delay_s: float) -> None:
        slept.append(round(delay_s, 3))
        await real(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eod_operator.kube.budget.asyncio.sleep", sleep)
        assert budget.plenty
        for _ in range(4):
            await api.call("list", "Pod", "t")
        assert not budget.plenty
        await api.call("get", "Lease", "t", "x", urgent=True)
        assert slept == [0.1, 0.2]
        clock_s = 10.0
        await api.call("list", "Pod", "t")
        assert slept == [0.1, 0.2]
    await api.close()


async def test_a_request_that_is_fenced_off_while_it_waits_for_the_budget_is_not_sent(server: Server) -> None:
    """A thousand pipelines may wait for seconds, in which the lease may be lost."""
    leading = True
    api = Api(client.Configuration(host=server.host), budget=Budget(1, 1, clock=lambda: 0.0))

    def fence() -> None:
        if not leading:
            raise NotLeadingError

    async def lose(_delay_s: float) -> None:
        nonlocal leading
        leading = False

    await api.call("list", "Pod", "t", fence=fence)
    assert len(server.requests) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eod_operator.kube.budget.asyncio.sleep", lose)
        with pytest.raises(NotLeadingError):
            await api.call("list", "Pod", "t", fence=fence)
    assert len(server.requests) == 1
    await api.close()


async def test_each_request_is_observed(server: Server) -> None:
    seen: list[tuple[str, str, int]] = []
    api = Api(
        client.Configuration(host=server.host),
        observe=lambda verb, kind, status, _seconds: seen.append((verb, kind, status)),
    )
    await api.call("list", "Pod", "t")
    await server.stop()
    with pytest.raises(ClusterError):
        await api.call("list", "Pod", "t")
    await api.close()
    assert seen == [("list", "Pod", 200), ("list", "Pod", 0)]
