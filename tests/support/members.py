"""What the tests of the log put into consumer groups: listeners that write down, workers that read and commit."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from eod_workers.adapters.kafka_consumer import KafkaConsumer
from eod_workers.adapters.memory_group import MemoryConsumer
from eod_workers.ports import Consumer, Log, Record, TopicPartition, TopicSpec

from support.patience import limited

PATIENCE_S = 20.0
SESSION_TIMEOUT_S = 1.5  # of group members on Kafka
_LOOK_S = 0.01

Offsets = dict[TopicPartition, int]


@dataclass
class Listener:
    """Writes down what it is told, and answers with `starts`, or raises `failure` when it is assigned partitions.

    A test that wants to act in the midst of a call clears `may_revoke` or `may_assign`, which the call then waits for.
    """

    starts: Offsets = field(default_factory=dict)
    events: list[tuple[str, frozenset[TopicPartition]]] = field(default_factory=list)
    may_revoke: asyncio.Event = field(default_factory=asyncio.Event)
    may_assign: asyncio.Event = field(default_factory=asyncio.Event)
    on_revoked: Callable[[frozenset[TopicPartition]], Any] | None = None
    failure: Exception | None = None

    def __post_init__(self) -> None:
        self.may_revoke.set()
        self.may_assign.set()

    async def revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """See `ports.RebalanceListener`."""
        self.events.append(("revoked", partitions))
        await self.may_revoke.wait()
        if self.on_revoked is not None:
            await self.on_revoked(partitions)

    async def assigned(self, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        """See `ports.RebalanceListener`."""
        self.events.append(("assigned", partitions))
        await self.may_assign.wait()
        if self.failure is not None:
            raise self.failure
        return {source: offset for source, offset in self.starts.items() if source in partitions}


class Worker:
    """A group member that reads in a task, and commits what it has read when it loses partitions, as a stage does."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.read: list[Record] = []
        self.next: Offsets = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> Worker:
        """Join, and begin to read."""
        await self.consumer.start(Listener(on_revoked=self._commit))
        self._task = asyncio.create_task(self._work())
        return self

    async def stop(self) -> None:
        """Leave in good order."""
        await self.crash_loop()
        await self.consumer.close()

    async def crash_loop(self) -> None:
        """Stop reading, and nothing else."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _work(self) -> None:
        while True:
            for record in await self.consumer.poll(50, 0.1):
                self.read.append(record)
                self.next[record.source] = record.offset + 1

    async def _commit(self, partitions: frozenset[TopicPartition]) -> None:
        await self.consumer.commit({source: self.next.pop(source) for source in partitions if source in self.next})


class Logs:
    """A log under test, with what the suite needs besides the port."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self._open: list[Consumer] = []

    async def topic(self, name: str, partitions: int) -> str:
        """Make a topic and return its name."""
        await self.log.ensure_topics([TopicSpec(name, partitions)])
        return name

    async def fill(self, topic: str, values: Mapping[int, list[bytes]]) -> None:
        """Append values to partitions and wait for the acknowledgements."""
        producer = await self.log.producer()
        for partition, some in values.items():
            for value in some:
                await producer.send(topic, partition, value)
        await producer.close()

    def consumer(self, topics: list[str], group: str) -> Consumer:
        """Make a consumer that is closed after the test."""
        consumer = self.log.consumer(topics, group)
        self._open.append(consumer)
        return consumer

    async def kill(self, consumer: Consumer) -> None:
        """Stop a member as kill -9 would: it says nothing to the group, and its listener hears nothing."""
        self._open.remove(consumer)
        if isinstance(consumer, MemoryConsumer):
            consumer.abandon()
        elif isinstance(consumer, KafkaConsumer):
            coordinator = consumer._kafka._coordinator
            for task in (coordinator._coordination_task, coordinator._heartbeat_task):
                task.cancel()
            await asyncio.wait([coordinator._coordination_task])

    async def bury(self, consumer: Consumer) -> None:
        """Give back the sockets of a killed member."""
        if isinstance(consumer, KafkaConsumer):
            consumer._kafka._coordinator.generation = -1  # a dead process sends no farewell
            await consumer._kafka.stop()

    async def close(self) -> None:
        """Close the consumers that are still open, then the log."""
        for consumer in self._open:
            async with limited(PATIENCE_S):  # a failed test may have left its listener waiting
                await consumer.close()
        await self.log.close()


def in_order(records: list[Record]) -> dict[TopicPartition, list[int]]:
    """Return the offsets read, by partition, as they came."""
    offsets = defaultdict(list)
    for record in records:
        offsets[record.source].append(record.offset)
    return dict(offsets)


async def drain(consumer: Consumer, count: int) -> list[Record]:
    """Poll until `count` records have come, and once more to see that no more come."""
    records: list[Record] = []
    async with limited(PATIENCE_S):
        while len(records) < count:
            records += await consumer.poll(100, 0.2)
    return records + await consumer.poll(100, 0.2)


def numbered(count: int, partition: int = 0) -> list[bytes]:
    """Return values that tell where they belong."""
    return [b"%d/%d" % (partition, number) for number in range(count)]
