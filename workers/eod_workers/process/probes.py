"""Liveness, readiness and metrics over HTTP.

One request a connection: probes and scrapes come seconds apart, and nobody who connects can hold on to us. h11 reads
and writes the protocol: a worker starts sooner without a web framework (`make bench-startup`).

Where a token is asked for, a stranger is told what a probe of the kubelet needs and no more: that cannot give one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple, cast

import h11
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from eod_workers.ports import Listener, Network
from eod_workers.process.settings import Process
from eod_workers.runtime.health import Health
from eod_workers.runtime.metrics import Metrics
from eod_workers.runtime.tls import tls_of, token_of

_TEXT = "text/plain; charset=utf-8"
_EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = (b"GET", b"HEAD")
_WANTED = b"give the token that EOD_HTTP_TOKEN_FILE of this stage holds, as Authorization: Bearer TOKEN\n"
_WITHIN_S = 10.0
"""How long a request, and the reading of its answer, may take."""


class Answer(NamedTuple):
    """What a path says."""

    status: HTTPStatus
    body: bytes
    content_type: str = _TEXT
    headers: tuple[tuple[str, str], ...] = ()


Pages = dict[bytes, Callable[[], Answer]]
"""Path → what it says now."""


def registry_of(metrics: Metrics) -> CollectorRegistry:
    """What a process exports: these, and what is worth knowing of any process in Python."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a gauge beside every counter, which nobody asks for
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    for metric in metrics.exported():
        registry.register(metric)
    return registry


async def serve_health(health: Health, registry: CollectorRegistry, network: Network, settings: Process) -> Listener:
    """Serves /livez, /readyz, /health and /metrics until its caller closes it.

    Raises:
        OSError: it cannot be listened there.
        ValueError: a file of its TLS or of its token cannot be used.
    """
    tls, token = tls_of(settings, "http"), token_of(settings.http_token_file)
    ours = _pages(health, registry)
    strangers = _pages_for_strangers(ours)

    def connected() -> _Exchange:
        tls.look_again()  # before the handshake begins
        token.look_again()
        return _Exchange(lambda authorizations: ours if token.is_given(authorizations) else strangers)

    return await network.listen(connected, settings.http_host, settings.http_port, tls=tls.context)


def _pages(health: Health, registry: CollectorRegistry) -> Pages:
    def ready() -> Answer:
        if health.why_not:
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, health.why_not.encode() + b"\n")
        return Answer(HTTPStatus.OK, b"ok\n")

    return {
        b"/livez": lambda: Answer(HTTPStatus.OK, b"ok\n"),
        b"/readyz": ready,
        b"/health": ready,
        b"/metrics": lambda: Answer(HTTPStatus.OK, generate_latest(registry), _EXPOSITION),
    }


def _pages_for_strangers(ours: Pages) -> Pages:
    """The same, for who does not give the token."""

    def ready() -> Answer:
        status = ours[b"/readyz"]().status
        return Answer(status, b"ready\n" if status is HTTPStatus.OK else b"not ready\n")

    refused = Answer(HTTPStatus.UNAUTHORIZED, _WANTED, headers=(("WWW-Authenticate", "Bearer"),))
    return {**ours, b"/readyz": ready, b"/health": ready, b"/metrics": lambda: refused}


class _Exchange(asyncio.Protocol):
    """One request and its answer."""

    def __init__(self, pages_for: Callable[[list[bytes]], Pages]) -> None:
        """`pages_for` are those for whoever sends Authorization headers with these values."""
        self._pages_for = pages_for
        self._http = h11.Connection(h11.SERVER)
        self._request: h11.Request | None = None
        self._transport: asyncio.Transport
        self._too_late: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has connected, and has a while to say what for."""
        self._transport = cast("asyncio.Transport", transport)
        self._too_late = asyncio.get_running_loop().call_later(_WITHIN_S, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        """A piece of the request."""
        if self._http.our_state is not h11.IDLE and self._http.our_state is not h11.SEND_RESPONSE:
            return  # what comes behind the request
        try:
            self._http.receive_data(data)
            self._hear()
        except h11.RemoteProtocolError as error:
            if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
                said = Answer(HTTPStatus(error.error_status_hint), f"{error}\n".encode())
                self._say(said)

    def _hear(self) -> None:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._request = event
            elif isinstance(event, h11.EndOfMessage):
                self._say(self._answer())
                return
            elif event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                return

    def _answer(self) -> Answer:
        request = cast("h11.Request", self._request)
        if request.method not in _METHODS:
            allowed = (("Allow", b", ".join(_METHODS).decode()),)
            return Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"only GET and HEAD\n", headers=allowed)
        pages = self._pages_for([value for name, value in request.headers if name == b"authorization"])
        page = pages.get(request.target.partition(b"?")[0])
        if page is None:
            return Answer(HTTPStatus.NOT_FOUND, b"here are " + b", ".join(pages) + b"\n")
        return page()

    def _say(self, answer: Answer) -> None:
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Connection", "close"),
            *answer.headers,
        ]
        response = h11.Response(status_code=answer.status, headers=headers, reason=answer.status.phrase.encode())
        bodiless = self._request is not None and self._request.method == b"HEAD"
        for event in (response, *([] if bodiless else [h11.Data(data=answer.body)]), h11.EndOfMessage()):
            if part := self._http.send(event):
                self._transport.write(part)
        if self._transport.can_write_eof():  # TLS cannot: who has read Content-Length hangs up, or is hung up on
            self._transport.write_eof()  # and no close: bytes that nobody reads would make the answer be lost, too

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        del exc
        self._too_late.cancel()
