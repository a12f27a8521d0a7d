"""A reverse proxy in front of a real API server that records every request and makes some of them fail.

It listens on plain HTTP of the loopback address: the kubernetes client and kopf send their bearer token over it.
kubectl does not (client-go keeps credentials for TLS alone), so kubectl goes to the API server directly. A client
certificate cannot pass through any proxy; callers use the token of a ServiceAccount.

The proxy has a thread and an event loop of its own, so a synchronous test can use it. An ERROR event that it puts into
a watch is JSON; a watch in another encoding would not understand it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NoReturn, Self

import aiohttp
import yaml
from aiohttp import web
from testbed.ports import free_port

from support.api_faults import UNHARMED, Fate, Faults, draw, error_event, refusal
from support.api_requests import WRITES, Record, Request, request_of
from support.api_upstream import ApiServer, Upstream, passed_on
from support.patience import limit_s

__all__ = ["WRITES", "ApiProxy", "ApiServer", "Faults", "Request"]

_HOST = "127.0.0.1"
_PATIENCE_S = limit_s(15.0)
_TICK_S = 0.1
_BACKLOG = 1_024
_LONGEST_LINE_BYTES = 65_536
_OK = 200
_CLIENT_CERTIFICATE = frozenset(f"client-{what}{form}" for what in ("certificate", "key") for form in ("", "-data"))


@dataclass(frozen=True, slots=True)
class _Call:
    """One request on its way: as it came, as recorded, and what is to befall it."""

    asked: web.BaseRequest
    body: bytes
    request: Request
    number: int
    fate: Fate
    exempt: bool


class ApiProxy:
    """The proxy; `with ApiProxy(kubernetes, faults=Faults(conflict=0.1), seed=7) as proxy:` runs it.

    Args:
        server: the real API server.
        faults: what fails, and how often; may be replaced at any time by setting `faults`.
        seed: of everything random. Fates are dealt in the order of arrival.
        exempt: requests that nothing befalls; they are recorded all the same.
        admin: a client certificate and its key, used for requests that come without a bearer token.
    """

    def __init__(
        self,
        server: ApiServer,
        *,
        faults: Faults | None = None,
        seed: int = 0,
        exempt: Callable[[Request], bool] = lambda _request: False,
        admin: tuple[Path, Path] | None = None,
    ) -> None:
        self.faults = faults or Faults()
        self.port = free_port()
        self._server = server
        self._exempt = exempt
        self._admin = admin
        self._random = Random(seed)
        self._watch_random = Random(f"watches of {seed}")  # apart, so that time does not change the requests' fates
        self._record = Record()
        self._watches: dict[int, web.BaseRequest] = {}
        self._listener: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._run, name="api-proxy", daemon=True)
        self._started: Future[None] = Future()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{_HOST}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.result(timeout=_PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=_PATIENCE_S)

    def kubeconfig(self, from_kubeconfig: Path, to: Path) -> Path:
        """Write a kubeconfig that goes through the proxy, and return its path.

        Raises:
            ValueError: a user of it has a client certificate alone, and the proxy has none to use instead.
        """
        kubeconfig = yaml.safe_load(from_kubeconfig.read_text())
        for user in kubeconfig["users"]:
            if set(user["user"]) <= _CLIENT_CERTIFICATE and self._admin is None:
                raise ValueError(
                    f"user {user['name']} of {from_kubeconfig} has no token, and a client certificate cannot pass a "
                    "proxy: use the token of a ServiceAccount (kubectl create token), or give the proxy `admin`"
                )
        for cluster in kubeconfig["clusters"]:
            cluster["cluster"] = {"server": self.url}
        to.touch(mode=0o600)
        to.write_text(yaml.safe_dump(kubeconfig))
        return to

    def down(self) -> None:
        """Be gone: refuse connections, and cut all that are open."""
        self._do(self._close_listener())

    def up(self) -> None:
        """Listen again, on the same port."""
        self._do(self._listen())

    @staticmethod
    def mark() -> float:
        """The time now, for `since_s`."""
        return time.monotonic()

    def requests(self, *, since_s: float = 0.0, agent: str = "", verbs: Collection[str] = ()) -> list[Request]:
        """Recorded requests in order of arrival: since then, of agents that contain `agent`, of these verbs or all."""
        return self._record.select(since_s=since_s, agent=agent, verbs=verbs)

    def writes(self, *, since_s: float = 0.0, agent: str = "") -> list[Request]:
        """Recorded requests that would change something."""
        return self.requests(since_s=since_s, agent=agent, verbs=WRITES)

    def clear(self) -> None:
        """Forget the recorded requests."""
        self._record.clear()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=_PATIENCE_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._web = web.Server(
            self._handle,
            handler_cancellation=True,  # a caller that leaves ends its watch on the API server
            access_log=None,
            auto_decompress=False,
            max_line_size=_LONGEST_LINE_BYTES,
            max_field_size=_LONGEST_LINE_BYTES,
        )
        async with Upstream(self._server, self._admin) as self._upstream:
            await self._listen()
            self._started.set_result(None)
            dropping = asyncio.create_task(self._drop_watches())
            await self._stop.wait()
            dropping.cancel()
            await self._close_listener()
            await self._web.shutdown(_PATIENCE_S)

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await self._loop.create_server(self._web, _HOST, self.port, backlog=_BACKLOG)

    async def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for connection in self._web.connections:
            if connection.transport is not None:
                connection.transport.abort()

    async def _drop_watches(self) -> None:
        while not self._stop.is_set():
            await asyncio.sleep(_TICK_S)
            chance = 1 - (1 - self.faults.dropped_watch) ** _TICK_S
            for number, asked in list(self._watches.items()) if chance else ():
                if self._watch_random.random() < chance and asked.transport is not None:
                    self._record.settle(number, fault="dropped_watch")
                    asked.transport.abort()

    async def _handle(self, asked: web.BaseRequest) -> web.StreamResponse:
        if self._listener is None:  # accepted just before `down`
            _cut(asked)
        at_s = time.monotonic()
        body = await asked.content.read()
        request = request_of(
            asked.method, asked.raw_path, at_s=at_s, agent=asked.headers.get("User-Agent", ""), body=body
        )
        exempt = self._exempt(request)
        faults = self.faults
        fate = UNHARMED if exempt else draw(self._random, faults, request)
        call = _Call(asked, body, request, self._record.add(request), fate, exempt)
        await asyncio.sleep(fate.delay_s)
        if fate.fault and not fate.late:
            return await self._fail(call, faults)
        self._record.settle(call.number, forwarded=True)
        try:
            async with self._upstream.request(asked, body) as answer:
                if not fate.late or request.verb == "watch":
                    return await self._relay(call, answer)
                await answer.read()
            return await self._fail(call, faults)
        except aiohttp.ClientConnectorError:
            self._record.settle(call.number, forwarded=False)
            _cut(asked)
        except aiohttp.ClientError:  # the API server or the caller is gone: either way this connection is over
            _cut(asked)

    async def _fail(self, call: _Call, faults: Faults) -> web.StreamResponse:
        fault = call.fate.fault
        if fault == "timeout":
            self._record.settle(call.number, fault=fault)
            await asyncio.sleep(faults.timeout_s)
            _cut(call.asked)
        if fault == "silent_watch":
            self._record.settle(call.number, fault=fault, status=_OK)
            await web.StreamResponse(headers={"Content-Type": "application/json"}).prepare(call.asked)
            await asyncio.sleep(faults.silent_for_s)
            _cut(call.asked)
        answer = refusal(fault, call.request)
        self._record.settle(call.number, fault=fault, status=answer.code)
        return web.Response(status=answer.code, body=answer.body, headers=answer.headers)

    async def _relay(self, call: _Call, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        self._record.settle(call.number, status=answer.status)
        response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=passed_on(answer.headers))
        watching = call.request.verb == "watch" and answer.status == _OK
        if watching and not call.exempt:
            self._watches[call.number] = call.asked
        try:
            await response.prepare(call.asked)
            if watching and call.fate.fault == "gone":
                await self._relay_until_gone(call, answer, response)
            else:
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
        finally:
            self._watches.pop(call.number, None)
        await response.write_eof()
        return response

    async def _relay_until_gone(
        self, call: _Call, answer: aiohttp.ClientResponse, response: web.StreamResponse
    ) -> None:
        """Pass on whole lines alone, so that the ERROR event is a line of its own."""
        rest = b""
        try:
            async with asyncio.timeout(call.fate.late_s):
                async for chunk in answer.content.iter_any():
                    whole, newline, rest = (rest + chunk).rpartition(b"\n")
                    await response.write(whole + newline)
        except TimeoutError:
            self._record.settle(call.number, fault="gone")
            await response.write(error_event(call.request))


def _cut(asked: web.BaseRequest) -> NoReturn:
    """Close the connection without a word, and end the handler."""
    if asked.transport is not None:
        asked.transport.abort()
    raise asyncio.CancelledError
