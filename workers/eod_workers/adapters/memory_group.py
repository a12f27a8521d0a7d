"""Consumer groups of `memory_log`: who owns which partition, and the members that read them.

A rebalance is eager, as aiokafka's is: every member gives up all of its partitions, then the range assignor deals
them out again. One task a group does this, and only while there is something to do; the listeners of the members are
called side by side. Ownership is the fence: only the owner of a partition may commit it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from eod_workers.adapters.memory_topic import Partition, Topic
from eod_workers.ports import (
    NO_ATTEMPTS,
    Attempt,
    CommitRefused,
    RebalanceListener,
    Record,
    TopicPartition,
    UnknownTopic,
)

Answer = TypeVar("Answer")


def assign_ranges(
    members: Mapping[str, Iterable[str]], partitions: Mapping[str, int]
) -> dict[str, frozenset[TopicPartition]]:
    """Deals partitions out as Kafka's RangeAssignor does: per topic, contiguous runs to the members in order of id.

    Args:
        members: member id → the topics it reads.
        partitions: topic → partition count.

    Returns:
        Member id → its partitions. The first members have one more where the count does not divide.
    """
    dealt: dict[str, set[TopicPartition]] = {member: set() for member in members}
    for topic, count in partitions.items():
        readers = sorted(member for member, topics in members.items() if topic in topics)
        for position, member in enumerate(readers):
            each, extra = divmod(count, len(readers))
            first = each * position + min(position, extra)
            length = each + (position < extra)
            dealt[member].update(TopicPartition(topic, number) for number in range(first, first + length))
    return {member: frozenset(sources) for member, sources in dealt.items()}


class Group:
    """A consumer group: its members, who owns what, and the offsets it has committed."""

    def __init__(self, name: str, topics: Mapping[str, Topic]) -> None:
        self.name = name
        self.topics = topics
        self.committed: dict[TopicPartition, int] = {}
        self.attempts: dict[TopicPartition, Attempt] = {}
        self._members: dict[str, MemoryConsumer] = {}
        self._owners: dict[TopicPartition, MemoryConsumer] = {}
        self._changed = False
        self._task: asyncio.Task[None] | None = None
        self._ids = itertools.count()

    def join(self, member: MemoryConsumer) -> None:
        """Adds a member, under an id that sorts behind those before it, and rebalances."""
        for topic in member.topics:
            self.topics[topic].add_group(self.name, lambda source: self.committed.get(source, 0))
        self._members[f"{next(self._ids):08}"] = member
        self._rebalance_soon()

    def leave(self, member: MemoryConsumer) -> None:
        """Removes a member and rebalances."""
        self._members = {key: other for key, other in self._members.items() if other is not member}
        self._owners = {source: owner for source, owner in self._owners.items() if owner is not member}
        self._rebalance_soon()

    def partition(self, source: TopicPartition) -> Partition:
        """Where the records of a partition are."""
        return self.topics[source.topic].partitions[source.partition]

    def commit(
        self,
        member: MemoryConsumer,
        offsets: Mapping[TopicPartition, int],
        attempts: Mapping[TopicPartition, Attempt] = NO_ATTEMPTS,
    ) -> None:
        """Stores offsets of partitions that `member` owns; all of them or none."""
        for source in offsets:
            if self._owners.get(source) is not member:
                raise CommitRefused(f"{source.topic}-{source.partition} is not ours any more in group {self.name}")
        self.committed.update(offsets)
        for source in offsets:
            self.attempts.pop(source, None)
        self.attempts.update(attempts)
        for topic in dict.fromkeys(source.topic for source in offsets):
            self.topics[topic].note_commit()

    def stop(self) -> None:
        """Ends a rebalance under way."""
        if self._task is not None:
            self._task.cancel()

    def _rebalance_soon(self) -> None:
        self._changed = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._rebalance(), name=f"rebalance {self.name}")

    async def _rebalance(self) -> None:
        while self._changed:
            self._changed = False
            await asyncio.gather(*(member.give_up() for member in self._members.values()))
            members = dict(self._members)  # as they are now: some may have come or gone meanwhile
            counts = {name: len(topic.partitions) for name, topic in self.topics.items()}
            plan = assign_ranges({key: member.topics for key, member in members.items()}, counts)
            self._owners = {source: members[key] for key, sources in plan.items() for source in sources}
            await asyncio.gather(*(member.take(plan[key]) for key, member in members.items()))


class MemoryConsumer:
    """A member of a group; see `ports.Consumer`."""

    def __init__(self, group: Group, topics: Sequence[str]) -> None:
        self.topics = tuple(topics)
        self._group = group
        self._listener: RebalanceListener | None = None
        self._started = asyncio.Event()
        self._news = asyncio.Event()  # records, a new assignment, or the end
        self._positions: dict[TopicPartition, int] = {}  # empty while the listener is at work
        self._turn = 0
        self._owned: frozenset[TopicPartition] = frozenset()
        self._calling = asyncio.Lock()  # one call of the listener at a time
        self._call: asyncio.Task[Any] | None = None
        self._failure: Exception | None = None
        self._closed = False

    async def start(self, listener: RebalanceListener) -> None:
        """Joins the group; returns when there is an assignment."""
        if self._listener is not None or self._closed:
            raise RuntimeError("this consumer was started or closed before: make another")
        for topic in self.topics:
            if topic not in self._group.topics:
                raise UnknownTopic(f"topic {topic} does not exist: 'eod topics ensure' creates it")
        self._listener = listener
        self._group.join(self)
        await self._started.wait()
        self._check()

    async def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Up to `max_records` records, in offset order within each partition; empty after `timeout_s` without any."""
        await asyncio.sleep(0)  # a loop of polls that find records must not starve other tasks
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            self._check()
            self._news.clear()
            records = self._next_records(max_records)
            if records:
                return records
            try:
                async with asyncio.timeout_at(deadline):
                    await self._news.wait()
            except TimeoutError:
                return []

    async def commit(
        self, offsets: Mapping[TopicPartition, int], attempts: Mapping[TopicPartition, Attempt] = NO_ATTEMPTS
    ) -> None:
        """Stores, for the group, the next offset to read of each partition, and attempts."""
        self._group.commit(self, offsets, attempts)

    async def seek(self, partition: TopicPartition, offset: int) -> None:
        """Goes on reading an assigned partition at `offset`."""
        self._check()
        if partition not in self._positions:
            raise ValueError(f"{partition.topic}-{partition.partition} is not assigned: nowhere to seek")
        self._positions[partition] = offset
        self._news.set()

    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions owned now."""
        return self._owned

    def leaderless(self) -> frozenset[TopicPartition]:
        """None: they are all here."""
        return frozenset()

    async def close(self) -> None:
        """Leaves the group at once (`listener.revoked` is called first). If it is cancelled, so is the listener."""
        if self._closed:
            return
        failure_before = self._failure
        try:
            await self.give_up()
        finally:
            self._end()
        if self._failure is not None and self._failure is not failure_before:
            raise self._failure

    def abandon(self) -> None:
        """As if the process had been killed: no listener is called, nothing is committed, the group expels it."""
        if not self._closed:
            self._end()

    async def give_up(self) -> None:
        """For the group: loses every partition, after the listener has heard of it."""
        async with self._calling:
            if self._listener is None or self._closed or not self._owned:
                return
            self._stop_reading()
            await self._ask(self._listener.revoked(self._owned))
            self._owned = frozenset()

    async def take(self, sources: frozenset[TopicPartition]) -> None:
        """For the group: gains partitions, and reads them once the listener has said from where."""
        async with self._calling:
            if self._listener is None or self._closed:
                return
            self._owned = sources
            starts = await self._ask(self._listener.assigned(sources))
            self._started.set()
            self._news.set()
            if starts is None or self._closed:
                return
            for source in sorted(sources):
                self._positions[source] = starts.get(source, self._group.committed.get(source, 0))
                self._group.partition(source).readers[self._news] = None

    def _next_records(self, max_records: int) -> list[Record]:
        taken: list[Record] = []
        sources = list(self._positions)
        self._turn = (self._turn + 1) % max(1, len(sources))  # no partition starves behind a busy one
        for source in sources[self._turn :] + sources[: self._turn]:
            position = self._positions[source]
            found = self._group.partition(source).records[position : position + max_records - len(taken)]
            self._positions[source] += len(found)
            taken += found
            if len(taken) >= max_records:
                break
        return taken

    async def _ask(self, call: Coroutine[Any, Any, Answer]) -> Answer | None:
        """Calls the listener; what it raises is kept for the next poll, and then None is returned."""
        task = asyncio.ensure_future(call)
        self._call = task
        try:
            return await task
        except asyncio.CancelledError:
            if not self._closed:  # not by `_end`: somebody cancels the caller
                raise
        except Exception as error:  # noqa: BLE001  whatever the stage's listener raises
            self._failure = error
        finally:
            self._call = None
        return None

    def _stop_reading(self) -> None:
        for source in self._positions:
            self._group.partition(source).readers.pop(self._news, None)
        self._positions.clear()

    def _end(self) -> None:
        self._closed = True
        if self._call is not None:
            self._call.cancel()
        self._stop_reading()
        self._owned = frozenset()
        self._started.set()
        self._news.set()
        if self._listener is not None:
            self._group.leave(self)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise RuntimeError("this consumer is closed")
