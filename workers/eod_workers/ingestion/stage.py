"""The ingestion stage: a FIX acceptor whose sessions write to the log."""

from __future__ import annotations

import asyncio
import contextlib

import structlog
from eod_contract.kinds import INGESTION

from eod_workers.ingestion.admission import Admission
from eod_workers.ingestion.metrics import IngestionMetrics
from eod_workers.ingestion.settings import IngestionSettings
from eod_workers.ingestion.writer import LogWriter, Topics
from eod_workers.ports import Unavailable, UnknownTopic
from eod_workers.protos.dead_letter_pb2 import DeadLetter
from eod_workers.runtime.stages import Service, Stage, StageContext
from eod_workers.runtime.variables import cannot_listen
from eod_workers.trades.spread import spread_of

logger = structlog.get_logger()
_TICK_S = 0.25
_FIRST_RETRY_S, _LAST_RETRY_S = 0.2, 10.0
_MADE_WITHIN_S = 60.0
"""How long a topic may be missing: what makes it may be on its way."""
_GOODBYE_S = 0.2
_HANG_UP_S = 2.0
_DRAIN_S = 10.0
"""How long a stopping stage waits for the log to take what was read; the counterparties resend the rest."""


class Ingestion(Service):
    """Listens, and starts over with a new producer when the log fails."""

    def __init__(self, context: StageContext[IngestionMetrics], settings: IngestionSettings) -> None:
        """Takes log, state and clock of the context.

        Raises:
            ValueError: the reference data or the file of sessions is wrong.
        """
        self.port = 0
        self._context = context
        self._settings = settings
        self._contracts = settings.contracts()
        self._admission = Admission(
            settings, context.state, context.clock, context.metrics, drawn_name=context.draw_name()
        )
        self._stop = asyncio.Event()
        self._listening = asyncio.Event()
        self._writer: LogWriter | None = None
        self._left_over: list[DeadLetter] = []

    @property
    def connected(self) -> frozenset[str]:
        """The sessions that are logged on here."""
        connections = self._admission.connections
        return frozenset(one.name for one in connections if one.session is not None and one.session.logged_on)

    @property
    def gaps(self) -> dict[str, tuple[int, int, int]]:
        """Session → the first and the last number that is missing, and how many messages wait behind them."""
        sessions = {one.name: one.session for one in self._admission.connections if one.session is not None}
        return {name: (*one.gap, one.held) for name, one in sorted(sessions.items()) if one.gap is not None}

    async def run(self) -> None:
        """Serves until `stop`; while the log cannot be reached nobody is admitted, and it is tried again.

        Raises:
            UnknownTopic: a topic has not existed for `_MADE_WITHIN_S`.
        """
        delay = _FIRST_RETRY_S
        missing_since: float | None = None
        while not self._stop.is_set():
            try:
                await self._serve()
            except* (Unavailable, UnknownTopic) as group:
                error = _first(group)
                now = self._context.clock.monotonic()
                if isinstance(error, UnknownTopic):
                    missing_since = now if missing_since is None else missing_since
                    if now - missing_since >= _MADE_WITHIN_S:
                        raise error from None
                else:
                    missing_since = None
                why = str(error)
                self._context.health.not_ready(why)
                logger.warning("ingestion.unavailable", error=why, retry_in_s=delay)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), delay)
                delay = min(delay * 2, _LAST_RETRY_S)
            else:
                delay, missing_since = _FIRST_RETRY_S, None

    async def stop(self) -> None:
        """Reads no more; `run` returns when all that was read is on the log and the counterparties are told."""
        self._admission.stopping = True
        self._stop.set()

    async def listening(self) -> int:
        """The port, once it is open."""
        await self._listening.wait()
        return self.port

    async def _serve(self) -> None:
        context = self._context
        settings = self._settings
        topics = Topics(
            settings.trades_topic,
            await spread_of(context.log, context.state, settings.trades_topic, warn=True),
            settings.sessions_topic,
            await context.log.partition_count(settings.sessions_topic),
            settings.letters_topic,
            await context.log.partition_count(settings.letters_topic),
        )
        producer = await context.log.producer()
        try:
            writer = LogWriter(
                producer,
                context.state,
                context.clock,
                topics,
                full=self._admission.hold_back,
                superseded=self._admission.superseded,
                waits=self._admission.wait,
                metrics=context.metrics,
                linger_s=settings.linger_ms / 1_000,
                contracts=self._contracts,
            )
            for letter in self._left_over:
                writer.letter(letter)
            self._left_over = []
            self._writer = writer
            await self._accept(writer)
        finally:
            if self._writer is not None:
                self._left_over = self._writer.unacknowledged_letters()
            self._hang_up()
            self._writer = None
            with contextlib.suppress(Unavailable):
                await producer.close()

    async def _accept(self, writer: LogWriter) -> None:
        settings = self._settings
        host, port = settings.fix_host, self.port or settings.fix_port
        try:
            listener = await self._context.network.listen(
                lambda: self._admission.connected(writer), host, port, tls=self._admission.tls.context
            )
        except OSError as error:
            raise cannot_listen(error, "FIX", host, port) from error
        self.port = listener.port
        logger.info("ingestion.listening", host=host, port=self.port, tls=self._admission.tls.context is not None)
        self._context.health.ready()
        self._listening.set()
        try:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(writer.run())
                ticking = group.create_task(self._tick(writer))
                looking = group.create_task(self._admission.look_around())
                answering = group.create_task(self._admission.claims.run())
                stopping = group.create_task(self._stop.wait())
                await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
                ticking.cancel()
                looking.cancel()
                if not running.done():
                    listener.close()
                    self._context.health.not_ready("ingestion is stopping: its sessions log on elsewhere")
                    await self._drain(writer, running)
                answering.cancel()
                stopping.cancel()
        finally:
            listener.close()
            self._hang_up()

    async def _drain(self, writer: LogWriter, running: asyncio.Task[None]) -> None:
        """What was read is on the log and its numbers are saved before any counterparty is told to go elsewhere.

        In this order whoever serves it next asks again for nothing that we have taken. Each wait is bounded: a log or
        a store that is away means more resends, no loss.
        """
        give_up_at = asyncio.get_running_loop().time() + _DRAIN_S
        for connection in self._admission.connections:
            connection.hear_no_more()
        settling = asyncio.create_task(writer.settled())
        try:
            await asyncio.wait({running, settling}, timeout=_DRAIN_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            settling.cancel()
        await self._goodbye()
        writer.stop()
        await asyncio.wait({running}, timeout=max(0.0, give_up_at - asyncio.get_running_loop().time()))
        if running.cancel():
            logger.warning("ingestion.drain_gave_up", seconds=_DRAIN_S, bytes=writer.in_flight_bytes)

    async def _goodbye(self) -> None:
        admission = self._admission
        for connection in list(admission.connections):
            connection.logout("ingestion is stopping: reconnect")
        await asyncio.sleep(_GOODBYE_S)
        self._hang_up()
        try:
            await asyncio.wait_for(admission.until(lambda: not admission.connections), _HANG_UP_S)
        except TimeoutError:
            for connection in list(admission.connections):
                connection.abort()
            await admission.until(lambda: not admission.connections)

    def _hang_up(self) -> None:
        for connection in list(self._admission.connections):
            connection.close()

    async def _tick(self, writer: LogWriter) -> None:
        full = ""
        while True:
            await asyncio.sleep(_TICK_S)
            if (why := self._admission.why_full) != full:
                full = why
                self._context.health.not_ready(why) if why else self._context.health.ready()
            self._context.metrics.in_flight_bytes.set(writer.in_flight_bytes)
            for connection in list(self._admission.connections):
                connection.tick()


def _first(group: BaseExceptionGroup[Unavailable | UnknownTopic]) -> BaseException:
    """The first error in nested groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


STAGE = Stage(INGESTION, Ingestion, IngestionSettings, IngestionMetrics)
