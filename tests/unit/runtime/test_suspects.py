"""Records that end whoever takes them in hand: three workers, then a letter; all others are applied, none is accused."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import pytest
from eod_contract.kinds import StageKind
from eod_contract.streams import LETTERS, Stream
from eod_workers.adapters.clock import SystemClock
from eod_workers.adapters.memory_group import MemoryConsumer
from eod_workers.adapters.memory_log import MemoryLog
from eod_workers.letters import decode_letter
from eod_workers.ports import Attempt, Record, TopicPartition, TopicSpec, Unavailable
from eod_workers.protos.dead_letter_pb2 import REASON_PROCESSING, DeadLetter
from eod_workers.runtime.batchloop import BatchLoop
from eod_workers.runtime.core import Core, FlushPolicy, Offsets, Starts
from eod_workers.runtime.suspects import ENDED, Suspects
from eod_workers.runtime.variables import StageSettings
from hypothesis import given, settings
from hypothesis import strategies as st
from support.patience import limited, soon
from unit.runtime.contexts import context_of

pytestmark = pytest.mark.timeout(120)
P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


def records(first: int, count: int) -> list[Record]:
    return [Record(*P0, offset, None, b"x", 0) for offset in range(first, first + count)]


def pieces(found: Attempt, *polls: list[Record]) -> list[tuple[list[int], Attempt | None, int]]:
    """Offsets of each step, what is said of it, and by how many it is set apart for."""
    suspects = Suspects(found)
    return [
        ([record.offset for record in step.records], step.said, step.set_apart)
        for poll in polls
        for step in suspects.steps(poll)
    ]


def test_after_one_that_has_not_said_how_far_it_was_each_poll_is_a_piece() -> None:
    assert pieces(Attempt(5, None, 1), records(5, 3), records(8, 2)) == [
        ([5, 6, 7], Attempt(5, 8, 2), 0),
        ([8, 9], Attempt(8, 10, 2), 0),
    ]


def test_of_a_piece_that_ended_one_each_record_is_taken_by_itself() -> None:
    assert pieces(Attempt(6, 8, 2), records(5, 4), records(9, 1)) == [
        ([5], None, 0),
        ([6], Attempt(6, 7, 3), 0),
        ([7], Attempt(7, 8, 3), 0),
        ([8], Attempt(8, None, 1), 0),
        ([9], Attempt(9, None, 1), 0),
    ]


def test_a_piece_may_end_in_another_poll() -> None:
    assert pieces(Attempt(5, 8, 2), records(5, 2), records(7, 2)) == [
        ([5], Attempt(5, 6, 3), 0),
        ([6], Attempt(6, 7, 3), 0),
        ([7], Attempt(7, 8, 3), 0),
        ([8], Attempt(8, None, 1), 0),
    ]


def test_the_record_that_three_have_ended_over_is_set_apart() -> None:
    assert pieces(Attempt(6, 7, ENDED), records(5, 3)) == [
        ([5], None, 0),
        ([6], None, ENDED),
        ([7], Attempt(7, None, 1), 0),
    ]


def test_a_record_that_is_gone_is_suspected_no_more() -> None:
    assert pieces(Attempt(6, 7, ENDED), records(9, 2)) == [([9, 10], Attempt(9, None, 1), 0)]


# --- workers that end ---------------------------------------------------------------------------------------


class _Ended(BaseException):
    """In place of the end of a process: nobody expects it."""


@dataclass
class World:
    """A log, what ends workers, and a store that keeps what they have made durable."""

    fatal: set[tuple[TopicPartition, int]]
    log: MemoryLog = field(default_factory=MemoryLog)
    stored: defaultdict[TopicPartition, list[int]] = field(default_factory=lambda: defaultdict(list))
    reached: dict[TopicPartition, int] = field(default_factory=dict)
    down: bool = False
    lazy: int = 1
    """How often it is asked to keep something before it does, unless it is for the last time."""
    ends: int = 0

    def worker(self, policy: FlushPolicy) -> BatchLoop:
        core = _Core(self)
        loop = BatchLoop(core, context_of(self.log, SystemClock()), StageSettings(), policy)
        assert isinstance(loop._consumer, MemoryConsumer)
        core.die = loop._consumer.abandon
        return loop

    async def letters(self) -> list[DeadLetter]:
        end = (await self.log.end_offsets("trades.dlq"))[0]
        return [decode_letter(one.value) async for one in self.log.read(TopicPartition("trades.dlq", 0), 0, end)]

    async def drained(self) -> bool:
        committed, ends = await self.log.committed("core", "t"), await self.log.end_offsets("t")
        return all(committed.get(number, 0) == end for number, end in ends.items())


class _Core(Core):
    """Notes offsets; what is fatal ends it, at once or when it is to be made durable."""

    kind = StageKind("core", reads=(Stream("t", "anything", timedelta(days=1)),), writes=(LETTERS,))

    def __init__(self, world: World) -> None:
        self.world = world
        self.die: Callable[[], None]
        self.applied: defaultdict[TopicPartition, list[int]] = defaultdict(list)
        self.asked = 0

    async def load(self, partitions: frozenset[TopicPartition], topic_ids: Mapping[str, str]) -> Starts:
        del topic_ids
        return Starts({source: self.world.reached.get(source, 0) for source in partitions})

    def revoke(self, partitions: frozenset[TopicPartition]) -> None:
        for source in partitions:
            self.applied.pop(source, None)

    def apply(self, record: Record, letters: Callable[[DeadLetter], None]) -> int:
        del letters
        if record.value == b"at once" and (record.source, record.offset) in self.world.fatal:
            self._end()
        self.applied[record.source].append(record.offset)
        return 1

    def due(self, now: float) -> bool:
        del now
        return self.world.lazy > 1 and any(self.applied.values())

    async def make_durable(self, offsets: Offsets, *, final: bool) -> Mapping[TopicPartition, int]:
        if self.world.down:
            raise Unavailable("the store is down")
        for source, some in self.applied.items():
            if any((source, offset) in self.world.fatal for offset in some):
                self._end()
        self.asked += 1
        if self.asked % self.world.lazy and not final:
            return {}
        for source, some in self.applied.items():
            self.world.stored[source] += some
        self.applied.clear()
        self.world.reached |= offsets.next
        return offsets.next

    def _end(self) -> None:
        self.world.ends += 1
        self.die()
        raise _Ended


async def filled(fatal: set[tuple[TopicPartition, int]], counts: Mapping[TopicPartition, int], value: bytes) -> World:
    world = World(fatal)
    await world.log.ensure_topics([TopicSpec("t", 2), TopicSpec("trades.dlq", 1)])
    producer = await world.log.producer()
    for source, count in counts.items():
        for _ in range(count):
            await producer.send("t", source.partition, value)
    await producer.close()
    return world


async def lived(world: World, policy: FlushPolicy) -> None:
    """Workers follow each other until everything is committed."""
    async with limited(60):
        while not await world.drained():
            worker = world.worker(policy)
            running = asyncio.create_task(worker.run())
            while not running.done() and not await world.drained():
                await asyncio.wait({running}, timeout=0.001)
            if not running.done():
                await worker.stop()
            try:
                await running
            except _Ended:
                continue


def _policy(rows: int | None) -> FlushPolicy:
    return FlushPolicy(seconds=0.005, rows=rows)


@pytest.mark.parametrize("at", [0, 1, 7, 499, 500, 501, 1_199])
@pytest.mark.parametrize("value", [b"at once", b"later"])
async def test_the_one_record_is_a_letter_and_all_others_are_stored(at: int, value: bytes) -> None:
    world = await filled({(P0, at)}, {P0: 1_200, P1: 3}, value)
    await lived(world, FlushPolicy(seconds=0.2))
    assert world.stored[P0] == [offset for offset in range(1_200) if offset != at]
    assert world.stored[P1] == [0, 1, 2]
    (letter,) = await world.letters()
    assert (letter.source_partition, letter.source_offset, letter.reason) == (0, at, REASON_PROCESSING)
    assert letter.detail.startswith(f"{ENDED} workers of core in turn have ended over this record")
    assert world.ends <= ENDED + (at >= 500) * ENDED


@pytest.mark.parametrize("value", [b"at once", b"later"])
async def test_the_first_record_ends_three_workers_and_no_more(value: bytes) -> None:
    world = await filled({(P0, 0)}, {P0: 10}, value)
    await lived(world, _policy(None))
    assert (world.ends, world.stored[P0]) == (ENDED, list(range(1, 10)))


async def test_where_progress_is_kept_seldom_what_was_set_apart_is_kept_at_once() -> None:
    """Or whoever ends behind it would send its successor into it again, for ever."""
    world = await filled({(P0, 0), (P0, 1), (P0, 7)}, {P0: 10}, b"at once")
    world.lazy = 50
    await lived(world, _policy(None))
    assert world.stored[P0] == [2, 3, 4, 5, 6, 8, 9]
    assert sorted(one.source_offset for one in await world.letters()) == [0, 1, 7]


@settings(max_examples=25, deadline=None)
@given(
    counts=st.tuples(st.integers(1, 700), st.integers(1, 700)),
    fatal=st.sets(st.tuples(st.sampled_from([P0, P1]), st.integers(0, 699)), max_size=3),
    rows=st.sampled_from([None, 1, 50, 400]),
    value=st.sampled_from([b"at once", b"later"]),
)
def test_whatever_is_fatal_becomes_letters_and_nothing_else_does(
    counts: tuple[int, int], fatal: set[tuple[TopicPartition, int]], rows: int | None, value: bytes
) -> None:
    async def play() -> None:
        length = dict(zip((P0, P1), counts, strict=True))
        within = {(source, offset) for source, offset in fatal if offset < length[source]}
        world = await filled(within, length, value)
        await lived(world, _policy(rows))
        for source, count in length.items():
            assert world.stored[source] == [offset for offset in range(count) if (source, offset) not in within]
        letters = {(TopicPartition("t", one.source_partition), one.source_offset) for one in await world.letters()}
        assert letters == within

    asyncio.run(play())


async def killed(worker: BatchLoop, running: asyncio.Task[None]) -> None:
    """As kill -9 would."""
    assert isinstance(worker._consumer, MemoryConsumer)
    worker._consumer.abandon()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def _waits(worker: BatchLoop) -> bool:
    return "down" in worker._health.why_not


# --- what is no end -----------------------------------------------------------------------------------------


async def test_a_store_that_is_away_accuses_nobody_however_often_workers_follow_each_other() -> None:
    """Killed while they wait for it: they had lived through what they had in hand."""
    world = await filled(set(), {P0: 20}, b"x")
    world.down = True
    for _ in range(2 * ENDED):
        worker = world.worker(_policy(None))
        running = asyncio.create_task(worker.run())
        await soon(partial(_waits, worker), "it waits for the store")
        await killed(worker, running)
    world.down = False
    await lived(world, _policy(None))
    assert (world.stored[P0], await world.letters()) == (list(range(20)), [])


async def test_one_that_was_killed_without_a_reason_costs_nothing() -> None:
    world = await filled(set(), {P0: 2_000}, b"x")
    worker = world.worker(FlushPolicy(seconds=60))
    running = asyncio.create_task(worker.run())
    await soon(lambda: worker.progress.records >= 700, "it has read")
    await killed(worker, running)
    assert await world.log.attempts("core", "t") == {0: Attempt(0, None, 1)}
    await lived(world, _policy(None))
    assert (world.stored[P0], await world.letters()) == (list(range(2_000)), [])
