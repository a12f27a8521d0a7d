"""What the operator serves: /healthz, /readyz and /metrics.

Where a token is asked for, a stranger is told what a probe of the kubelet needs and no more: that cannot give one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Protocol, cast

from aiohttp import web
from eod_contract.bearer import Token
from eod_contract.tls import Tls
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from eod_operator import metrics
from eod_operator.index import Index
from eod_operator.kafka.readings import Reading
from eod_operator.kube.api import Api
from eod_operator.kube.lease import Lease
from eod_operator.loops import Loops

_CONTENT = "text/plain; version=0.0.4"
_LABELS = ["namespace", "pipeline", "stage"]
_WANTED = "give the token that EOD_HTTP_TOKEN_FILE of the operator holds, as Authorization: Bearer TOKEN\n"


class Running(Protocol):
    """The service, as far as it is told about."""

    @property
    def loops(self) -> Loops:
        """One a pipeline."""
        ...

    @property
    def index(self) -> Index:
        """The cluster in view."""
        ...

    @property
    def api(self) -> Api:
        """The API server."""
        ...

    @property
    def lease(self) -> Lease | None:
        """Who acts; None while there is nobody to agree with."""
        ...

    @property
    def leading(self) -> bool:
        """Whether it is us."""
        ...


class _Pipelines(Collector):
    """What is known of each pipeline, gathered when it is asked for: a thousand of them cost nothing in between."""

    def __init__(self, service: Running) -> None:
        self._service = service

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Gauges of every stage, and of the operator's own view."""
        desired = GaugeMetricFamily("eod_operator_desired_replicas", "Replicas decided", labels=_LABELS)
        current = GaugeMetricFamily("eod_operator_current_replicas", "Replicas asked for", labels=_LABELS)
        ready = GaugeMetricFamily("eod_operator_ready_replicas", "Replicas ready", labels=_LABELS)
        lag = GaugeMetricFamily("eod_operator_lag_records", "Unconsumed records", labels=_LABELS)
        behind = GaugeMetricFamily("eod_operator_lag_seconds", "Age of the oldest unconsumed record", labels=_LABELS)
        age = GaugeMetricFamily("eod_operator_signal_age_seconds", "Age of the last look at Kafka", labels=_LABELS[:2])
        for pipeline, reconciler in self._service.loops:
            if reconciler.last is None:
                continue
            place = [pipeline.owner.namespace, pipeline.owner.name]
            look = reconciler.look(pipeline)
            age.add_metric(place, reconciler.age_s(look))
            for stage, decided, asked, serving in reconciler.last.stages:
                labels, reading = [*place, stage], look.readings.get(stage, Reading())
                desired.add_metric(labels, decided)
                current.add_metric(labels, asked)
                ready.add_metric(labels, serving)
                if reading.lag is not None:
                    lag.add_metric(labels, sum(reading.lag))
                if reading.lag_s is not None:
                    behind.add_metric(labels, reading.lag_s)
        yield from (desired, current, ready, lag, behind, age)
        yield _single("eod_operator_pipelines", "Pipelines watched", len(self._service.loops))
        yield _single("eod_operator_index_silent_seconds", "Silence of the quietest watch", self._service.index.fresh_s)
        yield _single(
            "eod_operator_clock_skew_seconds", "Our clock ahead of the API server's", self._service.api.skew_s
        )


def _single(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


class Pages:
    """The HTTP server."""

    def __init__(self, service: Running, tls: Tls, token: Token) -> None:
        self._service = service
        self._tls = tls
        self._token = token
        self._collector = _Pipelines(service)
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None

    async def start(self, port: int) -> None:
        """Listen on all addresses of the pod.

        Raises:
            OSError: it cannot be listened there.
        """
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        REGISTRY.register(self._collector)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        serve = cast("web.Server", self._runner.server)  # setting up has made it

        def connected() -> asyncio.BaseProtocol:
            self._tls.look_again()  # before the handshake begins
            self._token.look_again()
            return serve()

        everywhere = "0.0.0.0"  # noqa: S104 - the kubelet asks from outside
        self._listener = await asyncio.get_running_loop().create_server(
            connected, everywhere, port, ssl=self._tls.context
        )

    async def stop(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._runner is not None:
            REGISTRY.unregister(self._collector)
            await self._runner.cleanup()
            self._runner = None

    def _is_known(self, request: web.Request) -> bool:
        given = request.headers.getall("Authorization", ())
        return self._token.is_given([one.encode(errors="surrogateescape") for one in given])  # as aiohttp decodes

    async def _healthz(self, request: web.Request) -> web.Response:
        """Alive: the event loop that all passes run on has come to answer."""
        del request
        return web.Response(text="alive\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        """Ready to act, or to take over: the cluster is in view. A replica without the lease is ready, too."""
        index, known = self._service.index, self._is_known(request)
        if not index.synced:
            why = f": {index.problem or 'the cluster is being listed'}" if known else ""
            return web.Response(status=503, text=f"not yet{why}\n")
        if not known:
            return web.Response(text="ready\n")
        return web.Response(text="ready, leading\n" if self._service.leading else "ready, standing by\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        if not self._is_known(request):
            return web.Response(status=401, text=_WANTED, headers={"WWW-Authenticate": "Bearer"})
        lease = self._service.lease
        metrics.LEASE_HELD.set(self._service.leading)
        if lease is not None:
            metrics.LEASE_TRANSITIONS.set(lease.transitions)
        return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": _CONTENT})
