"""The log of `memory_log` with a file behind it: records and offsets outlive the process.

A record is shown to readers, and acknowledged, when it is on the disk, never before: no stage has acted on one that a
crash takes back. All records are in memory as well.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence

from eod_workers.adapters.keeper import Keeper
from eod_workers.adapters.memory_group import Group, MemoryConsumer
from eod_workers.adapters.memory_log import DEFAULT_MAX_UNREAD_BYTES, MemoryLog
from eod_workers.adapters.memory_topic import Topic
from eod_workers.ports import (
    NO_ATTEMPTS,
    Appended,
    Attempt,
    Clock,
    Producer,
    Record,
    TopicPartition,
    TopicSpec,
    Unavailable,
)

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS topics (name TEXT PRIMARY KEY, partitions INTEGER NOT NULL) STRICT",
    """
    CREATE TABLE IF NOT EXISTS records (
        topic TEXT NOT NULL, part INTEGER NOT NULL, offset_ INTEGER NOT NULL,
        key BLOB, value BLOB NOT NULL, timestamp_ms INTEGER NOT NULL, headers TEXT,
        PRIMARY KEY (topic, part, offset_)
    ) STRICT
    """,
    """
    CREATE TABLE IF NOT EXISTS offsets (
        grp TEXT NOT NULL, topic TEXT NOT NULL, part INTEGER NOT NULL, next_offset INTEGER NOT NULL,
        PRIMARY KEY (grp, topic, part)
    ) STRICT, WITHOUT ROWID
    """,
)
_ADD_TOPIC = "INSERT OR IGNORE INTO topics VALUES (?, ?)"
_ADD_RECORD = "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)"
_SET_OFFSET = "INSERT OR REPLACE INTO offsets VALUES (?, ?, ?, ?)"


class KeptLog(MemoryLog):
    """Topics and groups; see `ports.Log`. The file is its owner's, who closes it after the log."""

    def __init__(
        self, keeper: Keeper, *, max_unread_bytes: int = DEFAULT_MAX_UNREAD_BYTES, clock: Clock | None = None
    ) -> None:
        """Reads what is kept; `keeper` has the tables of `SCHEMA`."""
        super().__init__(max_unread_bytes=max_unread_bytes, clock=clock)
        self._keeper = keeper
        self._ends: dict[TopicPartition, int] = {}  # of partitions that have records on their way to the disk
        keeper.lost.append(self._ends.clear)
        for name, partitions in keeper.rows("SELECT name, partitions FROM topics"):
            self._make(TopicSpec(name, partitions))
        for topic, number, offset, key, value, at_ms, headers in keeper.rows(
            "SELECT * FROM records ORDER BY topic, part, offset_"
        ):
            self.topic_of(TopicPartition(topic, number)).take(
                Record(topic, number, offset, key, value, at_ms, _read(headers))
            )
        for group, topic, number, offset in keeper.rows("SELECT * FROM offsets"):
            self._group(group).committed[TopicPartition(topic, number)] = offset

    async def ensure_topics(self, specs: Iterable[TopicSpec]) -> None:
        """Creates the topics that do not exist; never changes one that does."""
        wanted = list(specs)
        await super().ensure_topics(wanted)
        await self._keeper.keep([(_ADD_TOPIC, [(spec.name, spec.partitions) for spec in wanted])])

    async def producer(self) -> Producer:
        """A producer of its own."""
        self._check()
        return KeptProducer(self)

    async def append(self, record: Record) -> asyncio.Future[Appended]:
        """Hands a record in, once there is room for it; the future is done when it is kept, and readers see it."""
        destination = self.topic_of(record.source)
        return await destination.enter(lambda: self._hand_in(destination, record))

    def _hand_in(self, destination: Topic, record: Record) -> asyncio.Future[Appended]:
        source = record.source
        offset = self._ends.get(source, destination.partitions[source.partition].end)
        self._ends[source] = offset + 1
        row = (*source, offset, record.key, record.value, record.timestamp_ms, _written(record.headers))
        appended: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()

        def done() -> None:
            at = destination.take(record)
            if self._ends.get(source) == offset + 1:
                del self._ends[source]
            if not appended.done():
                appended.set_result(at)

        def ended(kept: asyncio.Future[None]) -> None:
            if (error := kept.exception()) is not None and not appended.done():
                appended.set_exception(error)
                appended.exception()  # who does not wait for it is not told by the event loop either

        self._keeper.keep([(_ADD_RECORD, [row])], done).add_done_callback(ended)
        return appended

    async def keep_offsets(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Keeps what a group has committed."""
        await self._keeper.keep([(_SET_OFFSET, [(group, *source, offset) for source, offset in offsets.items()])])

    def _consumer(self, group: Group, topics: Sequence[str]) -> MemoryConsumer:
        return KeptConsumer(self, group, topics)


class KeptProducer:
    """Appends to a `KeptLog`; see `ports.Producer`."""

    def __init__(self, log: KeptLog) -> None:
        self._log = log
        self._closed = False
        self._failed: BaseException | None = None
        self._unacknowledged: set[asyncio.Future[Appended]] = set()

    async def send(
        self,
        topic: str,
        partition: int,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> asyncio.Future[Appended]:
        """Hands a record in, waiting for room while the topic is full."""
        if self._closed:
            raise RuntimeError("this producer is closed")
        if self._failed is not None:
            raise Unavailable(f"an earlier record was not kept: {self._failed}")
        record = Record(topic, partition, -1, key, value, self._log.now_ms(), tuple(headers))
        appended = await self._log.append(record)
        self._unacknowledged.add(appended)
        appended.add_done_callback(self._ended)
        return appended

    def leaderless(self) -> frozenset[TopicPartition]:
        """None: they are all here."""
        return frozenset()

    async def flush(self) -> None:
        """Returns once all that was sent is kept, or could not be."""
        if self._unacknowledged:
            await asyncio.wait(self._unacknowledged)

    async def close(self) -> None:
        """Flushes, and ends it."""
        await self.flush()
        self._closed = True

    def _ended(self, appended: asyncio.Future[Appended]) -> None:
        self._unacknowledged.discard(appended)
        if not appended.cancelled() and (error := appended.exception()) is not None:
            self._failed = error


class KeptConsumer(MemoryConsumer):
    """A member of a group whose commits are kept."""

    def __init__(self, log: KeptLog, group: Group, topics: Sequence[str]) -> None:
        super().__init__(group, topics)
        self._log = log

    async def commit(
        self, offsets: Mapping[TopicPartition, int], attempts: Mapping[TopicPartition, Attempt] = NO_ATTEMPTS
    ) -> None:
        """Stores, for the group, the next offset to read of each partition; attempts last as long as the process."""
        await super().commit(offsets, attempts)
        await self._log.keep_offsets(self._group.name, offsets)


def _written(headers: tuple[tuple[str, bytes], ...]) -> str | None:
    return json.dumps([(name, value.hex()) for name, value in headers]) if headers else None


def _read(text: str | None) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, bytes.fromhex(value)) for name, value in json.loads(text)) if text else ()
