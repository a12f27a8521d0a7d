"""The topics of `memory_log`: what was appended, who wants to hear of it, and how much of it nobody has read.

Back-pressure is counted per topic, not per log: a stage that must write to one topic before it can commit on another
would otherwise wait for itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from eod_workers.ports import Appended, Record, TopicPartition

Answer = TypeVar("Answer")


@dataclass(slots=True)
class Partition:
    """Every record ever appended. `bytes_before[n]` is the size of the records before offset n."""

    records: list[Record] = field(default_factory=list)
    bytes_before: list[int] = field(default_factory=lambda: [0])
    committed_by_all: int = 0
    readers: dict[asyncio.Event, None] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The offset that the next record will have."""
        return len(self.records)

    @property
    def unread_bytes(self) -> int:
        """Size of the records that the slowest group has not committed."""
        return self.bytes_before[-1] - self.bytes_before[min(self.committed_by_all, self.end)]


@dataclass(slots=True)
class _Waiting:
    enter: Callable[[], Any]
    entered: asyncio.Future[Any]


class Topic:
    """The partitions of one topic and the queue of the senders that wait for room in it."""

    def __init__(self, name: str, partitions: int, max_unread_bytes: int) -> None:
        self.name = name
        self.partitions = [Partition() for _ in range(partitions)]
        self._max_unread_bytes = max_unread_bytes
        self._unread_bytes = 0
        self._committed: dict[str, Callable[[TopicPartition], int]] = {}
        self._queue: deque[_Waiting] = deque()

    def add_group(self, group: str, committed: Callable[[TopicPartition], int]) -> None:
        """From now on, what `group` has not committed counts as unread."""
        if group not in self._committed:
            self._committed[group] = committed
            self.note_commit()

    def note_commit(self) -> None:
        """A group has moved: counts what is unread now, and lets in the senders for whom there is room."""
        self._unread_bytes = 0
        for number, partition in enumerate(self.partitions):
            source = TopicPartition(self.name, number)
            partition.committed_by_all = min(committed(source) for committed in self._committed.values())
            self._unread_bytes += partition.unread_bytes
        while self._queue and self._has_room():
            waiting = self._queue.popleft()
            if not waiting.entered.done():  # cancelled
                waiting.entered.set_result(waiting.enter())

    async def append(self, record: Record) -> Appended:
        """Appends a record once there is room; its offset is set here."""
        return await self.enter(lambda: self.take(record))

    async def enter(self, work: Callable[[], Answer]) -> Answer:
        """Does something once there is room. Who waits is served in the order in which they came."""
        if self._has_room():  # then nobody waits: `note_commit` lets in as many as there is room for
            return work()
        waiting = _Waiting(work, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        answer: Answer = await waiting.entered
        return answer

    def refuse_waiting(self, error: Exception) -> None:
        """Fails every sender that waits for room."""
        while self._queue:
            waiting = self._queue.popleft()
            if not waiting.entered.done():
                waiting.entered.set_exception(error)

    def _has_room(self) -> bool:
        return self._unread_bytes < self._max_unread_bytes

    def take(self, record: Record) -> Appended:
        """Appends a record, whether there is room or not."""
        partition = self.partitions[record.partition]
        offset = partition.end
        size = len(record.value) + len(record.key or b"")
        partition.records.append(record._replace(offset=offset))
        partition.bytes_before.append(partition.bytes_before[-1] + size)
        if self._committed:
            self._unread_bytes += size
        for news in partition.readers:
            news.set()
        return Appended(self.name, record.partition, offset)
