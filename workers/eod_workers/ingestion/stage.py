"""The ingestion stage: a FIX acceptor whose sessions write to the log."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from eod_workers.fix.session import Sequence
from eod_workers.ingestion.connection import Connection
from eod_workers.ingestion.writer import LogWriter, Topics, load_sequence, save_sequence
from eod_workers.ports import Unavailable
from eod_workers.protos.dead_letter_pb2 import DeadLetter
from eod_workers.runtime import telemetry
from eod_workers.runtime.stages import Service, StageContext, StageKind

log = structlog.get_logger()
_TICK_S = 0.25
_FIRST_RETRY_S, _LAST_RETRY_S = 0.2, 10.0
_GOODBYE_S = 0.2
_HANG_UP_S = 2.0
_DRAIN_S = 10.0
"""How long a stopping stage waits for the log to take what was read; the counterparties resend the rest."""


class Ingestion(Service):
    """Listens, admits sessions, and starts over with a new producer when the log fails."""

    def __init__(self, context: StageContext) -> None:
        """Takes log, state, clock and the FIX options of the context."""
        self.port = 0
        self._context = context
        self._connections: set[Connection] = set()
        self._gone = asyncio.Event()
        self._stop = asyncio.Event()
        self._listening = asyncio.Event()
        self._writer: LogWriter | None = None
        self._failed_before = False
        self._left_over: list[DeadLetter] = []

    async def run(self) -> None:
        """Serves until `stop`; while the log cannot be reached nobody is admitted, and it is tried again."""
        delay = _FIRST_RETRY_S
        while not self._stop.is_set():
            try:
                await self._serve()
            except* Unavailable as group:
                why = _first(group)
                self._context.health.not_ready(why)
                log.warning("ingestion.unavailable", error=why, retry_in_s=delay)
                self._failed_before = True
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), delay)
                delay = min(delay * 2, _LAST_RETRY_S)
            else:
                delay = _FIRST_RETRY_S

    async def stop(self) -> None:
        """Says goodbye to the counterparties; `run` returns when all that was read is on the log."""
        self._stop.set()

    async def listening(self) -> int:
        """The port, once it is open."""
        await self._listening.wait()
        return self.port

    async def _serve(self) -> None:
        context = self._context
        options = context.options
        sizes = [
            await context.log.partition_count(topic)
            for topic in (options.trades_topic, options.sessions_topic, options.letters_topic)
        ]
        topics = Topics(
            options.trades_topic, sizes[0], options.sessions_topic, sizes[1], options.letters_topic, sizes[2]
        )
        producer = await context.log.producer()
        try:
            writer = LogWriter(
                producer, context.state, context.clock, topics, full=self._hold_back, linger_s=options.linger_s
            )
            for letter in self._left_over:
                writer.letter(letter)
            self._left_over = []
            self._writer = writer
            await self._accept(writer)
        finally:
            if self._writer is not None:
                self._left_over = self._writer.unacknowledged_letters()
            for connection in list(self._connections):
                connection.close()
            self._writer = None
            with contextlib.suppress(Unavailable):
                await producer.close()

    async def _accept(self, writer: LogWriter) -> None:
        options = self._context.options
        server = await asyncio.get_running_loop().create_server(
            lambda: self._connected(writer), options.fix_host, self.port or options.fix_port, reuse_address=True
        )
        self.port = server.sockets[0].getsockname()[1]
        log.info("ingestion.listening", host=options.fix_host, port=self.port)
        self._context.health.ready()
        self._listening.set()
        try:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(writer.run())
                ticking = group.create_task(self._tick())
                stopping = group.create_task(self._stop.wait())
                await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
                ticking.cancel()
                if not running.done():
                    server.close()
                    await self._goodbye(writer)
                    await asyncio.wait({running}, timeout=_DRAIN_S)
                    if running.cancel():
                        log.warning("ingestion.drain_gave_up", seconds=_DRAIN_S, bytes=writer.in_flight_bytes)
                stopping.cancel()
        finally:
            server.close()
            for connection in list(self._connections):
                connection.close()

    async def _goodbye(self, writer: LogWriter) -> None:
        for connection in list(self._connections):
            connection.logout("ingestion is stopping: reconnect")
        await asyncio.sleep(_GOODBYE_S)
        for connection in list(self._connections):
            connection.close()
        try:
            await asyncio.wait_for(self._until(lambda: not self._connections), _HANG_UP_S)
        except TimeoutError:
            for connection in list(self._connections):
                connection.abort()
            await self._until(lambda: not self._connections)
        writer.stop()

    def _connected(self, writer: LogWriter) -> Connection:
        connection = Connection(writer, self._context.clock, self._admit, self._save, self._disconnected)
        self._connections.add(connection)
        return connection

    async def _admit(self, connection: Connection, session: str, target: bytes) -> Sequence | str:
        options = self._context.options
        ours = options.fix_comp_id
        sender = session.removesuffix(f"->{ours}")  # a CompID may hold an arrow itself
        if target.decode("latin-1") != ours:
            return f"TargetCompID(56)={target.decode('latin-1')!r} is not ours ({ours!r}): set EOD_FIX_COMP_ID"
        if options.fix_counterparties and sender not in options.fix_counterparties:
            return f"SenderCompID(49)={sender!r} is not in EOD_FIX_COUNTERPARTIES"
        if self._stop.is_set() or self._writer is None:
            return "ingestion is stopping"
        writer = self._writer
        for other in self._connections:
            if other is not connection and other.name == session:
                other.close()
        await self._until(
            lambda: not any(other is not connection and other.name == session for other in self._connections)
        )
        sequence = writer.live.get(session)
        if sequence is None:
            try:
                sequence = await load_sequence(self._context.state, session, new_epoch=self._failed_before)
                await save_sequence(self._context.state, session, sequence)
            except Unavailable as error:
                return f"the session's sequence numbers cannot be read now: {error}"
            writer.live[session] = sequence
        return sequence

    async def _save(self, session: str, sequence: Sequence) -> None:
        await save_sequence(self._context.state, session, sequence)

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Waits for connections to go: `_gone` is set whenever one has."""
        while not condition():
            self._gone.clear()
            await self._gone.wait()

    def _disconnected(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._gone.set()

    def _hold_back(self, on: bool) -> None:  # noqa: FBT001 - the writer's callback
        for connection in self._connections:
            connection.hold_back(on)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            telemetry.IN_FLIGHT_BYTES.set(self._writer.in_flight_bytes if self._writer else 0)
            for connection in list(self._connections):
                connection.tick()


def _first(group: BaseExceptionGroup[Unavailable]) -> str:
    """The message of the first error in nested groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


STAGE = StageKind(name="ingestion", topics=(), group="", start=Ingestion, needs=frozenset({"state"}))
