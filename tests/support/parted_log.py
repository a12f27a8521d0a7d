"""A log of which nobody leads some partitions, as long as a test wants it so."""

from __future__ import annotations

import asyncio
from typing import Any

from eod_workers.ports import Appended, Log, Producer, TopicPartition


class PartedLog:
    """Another log, and its own producer, which keeps what is for such partitions.

    Attributes:
        without: partitions that nobody leads.
        kept: what was sent to them.
        may_send: cleared while no `send` is to return.
        closed: how often the producer was.
    """

    def __init__(self, log: Log) -> None:
        self.without: set[TopicPartition] = set()
        self.kept: list[tuple[asyncio.Future[Appended], tuple[Any, ...], dict[str, Any]]] = []
        self.may_send = asyncio.Event()
        self.may_send.set()
        self.closed = 0
        self._log = log
        self._make = log.producer
        self._real: Producer | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def producer(self) -> PartedLog:
        """Itself."""
        self._real = await self._make()
        return self

    async def send(self, topic: str, partition: int, value: bytes, **given: Any) -> asyncio.Future[Appended]:
        """Sends a record, or keeps it."""
        assert self._real is not None
        await self.may_send.wait()
        if TopicPartition(topic, partition) not in self.without:
            return await self._real.send(topic, partition, value, **given)
        ack: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self.kept.append((ack, (topic, partition, value), given))
        return ack

    def leaderless(self) -> frozenset[TopicPartition]:
        """Those of `without` that something was sent to."""
        return frozenset(self.without & {TopicPartition(*where[:2]) for _, where, _ in self.kept})

    async def lead(self) -> None:
        """Have somebody lead them again, who takes what was kept."""
        self.without.clear()
        for ack, where, given in self.kept:
            ack.set_result(await (await self.send(*where, **given)))
        self.kept.clear()

    async def close(self) -> None:
        """Drop what was kept, if it is closed as a producer."""
        self.closed += 1
        for ack, *_ in self.kept:
            ack.cancel()
        self.kept.clear()
