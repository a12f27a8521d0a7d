"""A counterparty that writes the bytes it is told to, and what the log then holds of them."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import Any, ClassVar

from eod_workers.archive.segments import received_frames
from eod_workers.fix.fields import Fields
from eod_workers.fix.frames import FrameBuffer, Garbled
from eod_workers.ingestion.stage import STAGE, Ingestion
from eod_workers.trades.codec import decode_trades
from eod_workers.trades.model import Trade

from support.fix_messages import parsed
from support.patience import soon
from support.stage_world import StageWorld, Worker


class Wire:
    """One TCP connection; the fixture `no_wire_is_left` closes those that a test leaves open."""

    made: ClassVar[list[Wire]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard: list[Fields] = []
        self._writer = writer
        self._task = asyncio.create_task(self._hear(reader))

    @classmethod
    async def to(cls, port: int, *, tls: ssl.SSLContext | None = None) -> Wire:
        """Connect."""
        wire = cls(*await asyncio.open_connection("127.0.0.1", port, ssl=tls))
        cls.made.append(wire)
        return wire

    async def write(self, *parts: bytes, chunks: Random | None = None) -> None:
        """Write bytes, cut into pieces of all sizes if `chunks` is given."""
        data = b"".join(parts)
        while data:
            size = len(data) if chunks is None else chunks.choice((1, 2, 7, 50, 300, 5_000))
            self._writer.write(data[:size])
            await self._writer.drain()
            data = data[size:]
            if chunks is not None and chunks.random() < 0.3:
                await asyncio.sleep(0)

    async def hear(self, kind: bytes, count: int = 1) -> Fields:
        """Wait for the answer of a MsgType that comes as number `count`."""
        await soon(lambda: len(self.of(kind)) >= count, f"MsgType {kind!r} among {self.heard}")
        return self.of(kind)[count - 1]

    def of(self, kind: bytes) -> list[Fields]:
        """The answers of a MsgType."""
        return [fields for fields in self.heard if fields[b"35"] == kind]

    @property
    def is_closed(self) -> bool:
        """Whether the other side has hung up, as far as we have heard."""
        return self._task.done()

    async def closed(self) -> None:
        """Wait until the other side has hung up."""
        await asyncio.wait_for(asyncio.shield(self._task), 20)

    async def close(self) -> None:
        """Hang up."""
        if self in Wire.made:
            Wire.made.remove(self)
        self._writer.close()
        self._task.cancel()
        await asyncio.gather(self._task, self._writer.wait_closed(), return_exceptions=True)

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        buffer = FrameBuffer()
        try:
            while data := await reader.read(65_536):
                for item in buffer.feed(data):
                    assert not isinstance(item, Garbled)
                    self.heard.append(parsed(item).fields)
        except ConnectionError:
            return


async def listening(world: StageWorld, **options: Any) -> tuple[Worker, int]:
    """Start ingestion; the port it listens on."""
    worker = world.start(STAGE, **options)
    service: Ingestion = worker.service
    opened = asyncio.create_task(service.listening())
    await asyncio.wait({opened, worker.task}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
    if worker.task.done():
        await worker.task
    return worker, await opened


async def received(world: StageWorld) -> Counter[bytes]:
    """Every received piece that the log holds: frames of trades and others, and the raw bytes of letters."""
    found: Counter[bytes] = Counter()
    for topic in ("trades.raw", "sessions.raw", "trades.dlq"):
        for record in await world.records(topic):
            found.update(received_frames(record, sessions_topic="sessions.raw", letters_topic="trades.dlq"))
    return found


def pieces(streams: Iterable[bytes]) -> Counter[bytes]:
    """What the streams of some connections consist of."""
    found: Counter[bytes] = Counter()
    for stream in streams:
        buffer = FrameBuffer()
        items = buffer.feed(stream)
        rest = buffer.close()
        found.update(item.raw if isinstance(item, Garbled) else item for item in [*items, *([rest] if rest else [])])
    return found


async def booked(world: StageWorld) -> list[Trade]:
    """The trades on the log, by delivery."""
    trades = [trade for record in await world.records("trades.raw") for trade in decode_trades(record.value)]
    return sorted(trades, key=lambda trade: (trade.session, trade.epoch, trade.msg_seq_num))
