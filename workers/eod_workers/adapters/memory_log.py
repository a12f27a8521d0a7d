"""A log in this process's memory: partitions, consumer groups and back-pressure without a broker.

It keeps every record for as long as it lives, and belongs to one event loop. An append is acknowledged at once; what
is limited is the bytes of a topic that its slowest group has not committed. A full topic makes `send` wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Sequence

from eod_workers.adapters.clock import SystemClock
from eod_workers.adapters.memory_group import Group, MemoryConsumer
from eod_workers.adapters.memory_topic import Partition, Topic
from eod_workers.ports import Appended, Attempt, Clock, Producer, Record, TopicPartition, TopicSpec, UnknownTopic

DEFAULT_MAX_UNREAD_BYTES = 256 * 1024 * 1024
_NS_PER_MS = 1_000_000
_READ_RECORDS = 1_000  # between two turns of other tasks


class MemoryLog:
    """Topics and groups; see `ports.Log`.

    Args:
        max_unread_bytes: limit, per topic, on key and value bytes that some group has not committed. The record that
            reaches it still passes. Topics that no group has joined are not limited.
        clock: gives records their timestamps.
    """

    def __init__(self, *, max_unread_bytes: int = DEFAULT_MAX_UNREAD_BYTES, clock: Clock | None = None) -> None:
        self._topics: dict[str, Topic] = {}
        self._groups: dict[str, Group] = {}
        self._max_unread_bytes = max_unread_bytes
        self._clock = clock or SystemClock()
        self._closed = False

    async def ensure_topics(self, specs: Iterable[TopicSpec]) -> None:
        """Creates the topics that do not exist; never changes one that does."""
        self._check()
        wanted = list(specs)
        for spec in wanted:
            existing = self._topics.get(spec.name)
            if existing is not None and len(existing.partitions) != spec.partitions:
                raise ValueError(
                    f"topic {spec.name} has {len(existing.partitions)} partitions, not the {spec.partitions} wanted"
                )
        for spec in wanted:
            self._make(spec)

    async def partition_count(self, topic: str) -> int:
        """How many partitions a topic has."""
        return len(self._topic(topic).partitions)

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """Nothing: no topic is ever deleted here."""
        return {self._topic(topic).name: "" for topic in topics}

    async def producer(self) -> Producer:
        """A producer of its own."""
        self._check()
        return MemoryProducer(self)

    def consumer(self, topics: Sequence[str], group: str) -> MemoryConsumer:
        """A consumer, not started."""
        self._check()
        return self._consumer(self._group(group), topics)

    async def end_offsets(self, topic: str, partitions: Collection[int] | None = None) -> dict[int, int]:
        """Partition → offset that the next appended record will have; of these partitions, or of all."""
        return {number: partition.end for number, partition in self._of(topic, partitions).items()}

    async def start_offsets(
        self, topic: str, since_ms: int | None = None, partitions: Collection[int] | None = None
    ) -> dict[int, int]:
        """Partition → offset of the oldest record, or of the oldest whose timestamp is not before `since_ms`."""
        if since_ms is not None and since_ms < 0:
            raise ValueError(f"since_ms {since_ms} is before 1970")
        return {
            number: next((r.offset for r in partition.records if r.timestamp_ms >= (since_ms or 0)), partition.end)
            for number, partition in self._of(topic, partitions).items()
        }

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        """Partition → next offset that the group would read, for the partitions it has committed."""
        self._topic(topic)
        if group not in self._groups:
            return {}
        committed = self._groups[group].committed.items()
        return {source.partition: offset for source, offset in committed if source.topic == topic}

    async def unsigned(self, group: str, topic: str) -> dict[int, int]:
        """Nothing: there are no tools for it."""
        del group
        self._topic(topic)
        return {}

    async def outdated(self, group: str, topic: str) -> dict[int, int]:
        """Nothing: no topic is ever deleted here."""
        del group
        self._topic(topic)
        return {}

    async def attempts(self, group: str, topic: str) -> dict[int, Attempt]:
        """Partition → what was said beside the last commit, if anything was."""
        self._topic(topic)
        if group not in self._groups:
            return {}
        attempts = self._groups[group].attempts.items()
        return {source.partition: attempt for source, attempt in attempts if source.topic == topic}

    async def read(self, partition: TopicPartition, start: int, end: int) -> AsyncIterator[Record]:
        """The records with start ≤ offset < end that exist now."""
        records = self.topic_of(partition).partitions[partition.partition].records
        end = min(end, len(records))
        for first in range(max(0, start), end, _READ_RECORDS):
            for record in records[first : min(end, first + _READ_RECORDS)]:
                yield record
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Ends rebalances under way and fails the senders that wait for room."""
        self._closed = True
        for group in self._groups.values():
            group.stop()
        for topic in self._topics.values():
            topic.refuse_waiting(RuntimeError("the log was closed"))

    def topic_of(self, partition: TopicPartition) -> Topic:
        """The topic of a partition, which exists."""
        topic = self._topic(partition.topic)
        if not 0 <= partition.partition < len(topic.partitions):
            raise UnknownTopic(
                f"topic {partition.topic} has {len(topic.partitions)} partitions, there is no {partition.partition}"
            )
        return topic

    def _of(self, topic: str, partitions: Collection[int] | None) -> dict[int, Partition]:
        every = self._topic(topic).partitions
        wanted = range(len(every)) if partitions is None else partitions
        return {number: self.topic_of(TopicPartition(topic, number)).partitions[number] for number in wanted}

    def now_ms(self) -> int:
        """For the producer: the timestamp of a record sent now."""
        return self._clock.now_ns() // _NS_PER_MS

    def _make(self, spec: TopicSpec) -> None:
        self._topics.setdefault(spec.name, Topic(spec.name, spec.partitions, self._max_unread_bytes))

    def _group(self, name: str) -> Group:
        if name not in self._groups:
            self._groups[name] = Group(name, self._topics)
        return self._groups[name]

    def _consumer(self, group: Group, topics: Sequence[str]) -> MemoryConsumer:
        return MemoryConsumer(group, topics)

    def _topic(self, name: str) -> Topic:
        self._check()
        topic = self._topics.get(name)
        if topic is None:
            raise UnknownTopic(f"topic {name} does not exist: 'eod topics ensure' creates it")
        return topic

    def _check(self) -> None:
        if self._closed:
            raise RuntimeError("this log is closed")


class MemoryProducer:
    """Appends to a `MemoryLog`; see `ports.Producer`."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._closed = False

    async def send(
        self,
        topic: str,
        partition: int,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> asyncio.Future[Appended]:
        """Appends a record, waiting for room while the topic is full; the future is done already."""
        if self._closed:
            raise RuntimeError("this producer is closed")
        destination = self._log.topic_of(TopicPartition(topic, partition))
        record = Record(topic, partition, -1, key, value, self._log.now_ms(), tuple(headers))
        acknowledged = asyncio.get_running_loop().create_future()
        acknowledged.set_result(await destination.append(record))
        return acknowledged

    def leaderless(self) -> frozenset[TopicPartition]:
        """None: they are all here."""
        return frozenset()

    async def flush(self) -> None:
        """Returns at once: what was appended is acknowledged."""

    async def close(self) -> None:
        """Ends it."""
        self._closed = True
