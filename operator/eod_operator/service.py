"""The operator as a whole: connections, watches, lease, loops and pages, started and stopped together."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from eod_contract.bearer import Token
from eod_contract.tls import Tls

from eod_operator import metrics
from eod_operator.asking import Asker
from eod_operator.closes import load_elsewhere
from eod_operator.cluster import Cluster
from eod_operator.health import Pages
from eod_operator.index import Index
from eod_operator.kafka.watch import KafkaWatches
from eod_operator.kube.api import Api, login
from eod_operator.kube.budget import Budget
from eod_operator.kube.events import Recorder
from eod_operator.kube.lease import Lease
from eod_operator.loops import Loops
from eod_operator.memory import keep_thrifty
from eod_operator.reconcile import Reconciler, Surroundings
from eod_operator.references import References
from eod_operator.scaling.calendar import YEARS
from eod_operator.watching import Watching

logger = logging.getLogger(__name__)

LEASE_S = 12.0
"""A replica that dies without a word is replaced within 20 s: this, the retries of the other, and its first passes."""
ACT_FOR_S = 8.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How this process runs.

    Attributes:
        namespaces: those whose pipelines are watched; empty for all.
        interval_s: seconds between two decisions.
        lease_namespace: where the Lease is; None to act without one.
        lease_name: of the Lease.
        identity: of this replica, in the Lease.
        http_port: of /healthz, /readyz and /metrics; None for none.
        http_tls: certificate of that port; without files it is plain HTTP.
        http_token: that its /metrics want; without a file none.
        requests_per_s: to the API server.
    """

    namespaces: tuple[str, ...]
    interval_s: float
    lease_namespace: str | None
    lease_name: str
    identity: str
    http_port: int | None
    http_tls: Tls
    http_token: Token
    requests_per_s: float


class Service:
    """One replica of the operator."""

    def __init__(self, settings: Settings) -> None:
        """Connect; `start` begins.

        Raises:
            ClusterError: there is no cluster to talk to.
        """
        YEARS.load = load_elsewhere
        self._settings = settings
        self._api = Api(login(), budget=Budget(settings.requests_per_s), observe=metrics.observe_request)
        self.loops = Loops(
            lambda: Reconciler(self._around), interval_s=settings.interval_s, ready=lambda: self._index.synced
        )
        self._index = Index(self._api, settings.namespaces or (None,), changed=self.loops.stirred)
        self._recorder = Recorder(self._api, instance=settings.identity)
        self._kafka = KafkaWatches(changed=self.loops.grown)
        self._lease = (
            None
            if settings.lease_namespace is None
            else Lease(
                self._api,
                namespace=settings.lease_namespace,
                name=settings.lease_name,
                identity=settings.identity,
                duration_s=LEASE_S,
                renew_within_s=ACT_FOR_S,
                changed=self._led,
            )
        )
        self._around = Surroundings(
            view=self._api,
            index=self._index,
            cluster=Cluster(self._api, self._index, leading=lambda: self.leading),
            kafka=self._kafka,
            references=References(self._api),
            emit=self._recorder.post,
            ask=Asker(),
        )
        self._watching = Watching(self._api, self.loops, settings.namespaces)
        self._pages = Pages(self, settings.http_tls, settings.http_token)
        self._tasks: list[asyncio.Task[None]] = []
        self._turning: asyncio.Task[None] | None = None

    @property
    def leading(self) -> bool:
        """Whether this replica may write."""
        return self._lease is None or self._lease.held

    @property
    def lease(self) -> Lease | None:
        """Which replica acts; None when that is not asked."""
        return self._lease

    @property
    def index(self) -> Index:
        """What is in the cluster."""
        return self._index

    @property
    def api(self) -> Api:
        """The API server."""
        return self._api

    async def start(self) -> None:
        """Begin to watch, and to act as soon as the lease is held."""
        runners: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("index", self._index.run),
            ("events", self._recorder.run),
            ("watch of pipelines", self._watching.run),
            ("housekeeping", keep_thrifty),
        ]
        if self._lease is not None:
            runners.append(("lease", self._lease.run))
        self._tasks = [asyncio.create_task(_required(name, run), name=name) for name, run in runners]
        if self._settings.http_port is not None:
            await self._pages.start(self._settings.http_port)
        if self._lease is None:
            logger.info("acting without a lease: nobody else may run beside this operator")
            self.loops.start()

    async def stop(self) -> None:
        """End the passes, hand the lease over, send what is still to be told."""
        await self.loops.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._kafka.close()
        await self._pages.stop()
        await self._api.close()

    def _led(self, leading: bool) -> None:  # noqa: FBT001 - the lease's own callback
        metrics.LEASE_HELD.set(leading)
        logger.info("this replica %s", "holds the lease and acts" if leading else "does not hold the lease and watches")
        before = self._turning
        self._turning = asyncio.create_task(self._turn(before), name="turn")

    async def _turn(self, before: asyncio.Task[None] | None) -> None:
        """Begin or end the loops, one turn after the other; what counts is how things are now."""
        if before is not None:
            await asyncio.wait({before})
        if self._lease is not None and self._lease.held:
            self.loops.start()
        else:
            await self.loops.stop()


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        ClusterError: there is no cluster to talk to.
    """
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    service = Service(settings)
    await service.start()
    try:
        await ended.wait()
        logger.info("ending: the passes, then the lease")
    finally:
        await service.stop()


async def _required(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run a part that must not end; if it does, that is a fault, and the process had better be restarted."""
    try:
        await run()
    except asyncio.CancelledError:
        raise
    except Exception:
        logger.exception("the operator's %s has failed; ending, to be restarted", name)
    else:
        logger.error("the operator's %s has ended; ending, to be restarted", name)
    os.kill(os.getpid(), signal.SIGTERM)
