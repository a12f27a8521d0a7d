"""The one loop of every consuming stage: poll, apply, make durable, and only then commit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from eod_contract.kinds import StageKind
from eod_contract.streams import LETTERS, Stream
from eod_workers import appends
from eod_workers.adapters.memory_log import MemoryLog
from eod_workers.layouts import UndecodableBatch
from eod_workers.letters import decode_letter
from eod_workers.ports import (
    NO_ATTEMPTS,
    Attempt,
    CommitRefused,
    RebalanceListener,
    Record,
    StaleEpoch,
    TopicPartition,
    TopicSpec,
    Unavailable,
    UnknownTopic,
)
from eod_workers.protos.dead_letter_pb2 import REASON_DESERIALIZATION, REASON_PROCESSING, DeadLetter
from eod_workers.runtime.batchloop import DRAIN_S, LET_IN_WITHIN_S, REJOIN_S, BatchLoop
from eod_workers.runtime.core import Core, FlushPolicy, Offsets, Starts
from eod_workers.runtime.health import Health
from eod_workers.runtime.metrics import LoopMetrics
from eod_workers.runtime.stages import StageContext
from eod_workers.runtime.variables import StageSettings
from structlog.testing import capture_logs
from support.manual_clock import ManualClock
from support.parted_log import PartedLog
from support.patience import soon
from unit.runtime.contexts import context_of

pytestmark = pytest.mark.timeout(30)
P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


def records(*offsets: int, source: TopicPartition = P0) -> list[Record]:
    return [Record(*source, offset, None, b"x", 0) for offset in offsets]


@dataclass
class Diary:
    """What happened, in order; and what shall go wrong, by the name of the call, in order."""

    events: list[str] = field(default_factory=list)
    trouble: dict[str, deque[Exception]] = field(default_factory=dict)
    always: dict[str, Exception] = field(default_factory=dict)

    def note(self, name: str, detail: object = "") -> None:
        """Write down a call; raise what was ordered for it."""
        self.events.append(f"{name} {detail}".strip())
        try:
            self.raise_for(name)
        except Exception:
            self.events[-1] += " !"
            raise

    def raise_for(self, name: str) -> None:
        """Raise what was ordered for a call, which is not written down."""
        if self.trouble.get(name):
            raise self.trouble[name].popleft()
        if name in self.always:
            raise self.always[name]

    def fail(self, name: str, *errors: Exception) -> None:
        """Let the next calls of a name raise these."""
        self.trouble.setdefault(name, deque()).extend(errors)

    def without(self, *names: str) -> list[str]:
        """The events but those of some names."""
        return [event for event in self.events if event.split()[0] not in names]


@dataclass
class _Consumer:
    """A member whose polls return what a test has queued, and empty lists then."""

    diary: Diary
    queue: deque[list[Record]] = field(default_factory=deque)
    partitions: frozenset[TopicPartition] = frozenset({P0, P1})
    without: frozenset[TopicPartition] = frozenset()
    listener: RebalanceListener | None = None
    polls: int = 0
    said: list[tuple[dict[TopicPartition, int], dict[TopicPartition, Attempt]]] = field(default_factory=list)
    may_poll: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_poll.set()

    async def start(self, listener: RebalanceListener) -> None:
        self.diary.note("start")
        self.listener = listener
        await listener.assigned(self.partitions)

    async def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        assert max_records > 0 < timeout_s
        self.polls += 1
        await asyncio.sleep(0)
        await self.may_poll.wait()
        if self.diary.trouble.get("poll") or "poll" in self.diary.always:
            self.diary.note("poll")
        return self.queue.popleft() if self.queue else []

    async def commit(
        self, offsets: Mapping[TopicPartition, int], attempts: Mapping[TopicPartition, Attempt] = NO_ATTEMPTS
    ) -> None:
        if attempts:
            self.diary.raise_for("say")
            self.said.append((dict(offsets), dict(attempts)))
            return
        self.diary.note("commit", {source.partition: offset for source, offset in sorted(offsets.items())})

    async def seek(self, partition: TopicPartition, offset: int) -> None:
        raise NotImplementedError

    def assignment(self) -> frozenset[TopicPartition]:
        return self.partitions

    def leaderless(self) -> frozenset[TopicPartition]:
        return self.without

    async def close(self) -> None:
        self.diary.note("close")


class _Nobody:
    """Another member, that does nothing."""

    async def assigned(self, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        del partitions
        return {}

    async def revoked(self, partitions: frozenset[TopicPartition]) -> None:
        pass


@dataclass
class _Collector(Core):
    """A core that notes what it is told, and says with `is_due` that it has something of its own to flush."""

    kind = StageKind("collector", reads=(Stream("t", "anything", timedelta(days=1)),), writes=(LETTERS,))
    diary: Diary
    is_due: bool = False
    beyond: int = 0
    inside: int = 0
    rows: int = 1
    starts: dict[TopicPartition, int] = field(default_factory=dict)
    outdated: dict[TopicPartition, int] = field(default_factory=dict)

    async def load(self, partitions: frozenset[TopicPartition], topic_ids: Mapping[str, str]) -> Starts:
        del topic_ids
        await self._alone("assigned", sorted(source.partition for source in partitions))
        return Starts(self.starts, self.outdated)

    def revoke(self, partitions: frozenset[TopicPartition]) -> None:
        assert not self.inside
        self.diary.note("revoked", sorted(source.partition for source in partitions))

    def apply(self, record: Record, letters: Callable[[DeadLetter], None]) -> int:
        del letters
        assert not self.inside
        self.diary.note("apply", record.offset)
        return self.rows

    def due(self, now: float) -> bool:
        del now
        return self.is_due

    async def make_durable(self, offsets: Offsets, *, final: bool) -> Mapping[TopicPartition, int]:
        await self._alone("flush", "final" if final else "")
        return {source: offset + self.beyond for source, offset in offsets.fresh.items()}

    async def _alone(self, name: str, detail: object) -> None:
        assert not self.inside, f"{name} was called inside another call"
        self.inside += 1
        try:
            await asyncio.sleep(0)
            self.diary.note(name, detail)
        finally:
            self.inside -= 1


class _Silent(_Collector):
    """One whose kind writes no letters."""

    kind = StageKind("silent", reads=(Stream("t", "anything", timedelta(days=1)),))


class _Log(MemoryLog):
    """A log whose consumer is the test's; letters go into its topic of letters.

    Attributes:
        firsts: partition of the topic read → the offset of the oldest record that still exists, where that is not 0.
        was_committed: partition → what the group had committed before.
        ids: of its topics.
        of_earlier: partition → what the group had committed of an earlier topic of the name.
    """

    def __init__(self, consumer: _Consumer) -> None:
        super().__init__()
        self._made = consumer
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked = 0
        self.firsts: dict[int, int] = {}
        self.was_committed: dict[int, int] = {}
        self.ids: dict[str, str] = {}
        self.of_earlier: dict[int, int] = {}

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        return {**await super().topic_ids(topics), **self.ids}

    async def outdated(self, group: str, topic: str) -> dict[int, int]:
        assert (group, topic) == ("collector", "t")
        return self.of_earlier

    async def start_offsets(
        self, topic: str, since_ms: int | None = None, partitions: Collection[int] | None = None
    ) -> dict[int, int]:
        assert (topic, since_ms) == ("t", None)
        assert partitions is not None
        self.asked += 1
        await self.may_answer.wait()
        if without := [one for one in sorted(self._made.without) if one.partition in partitions]:
            raise Unavailable(f"nobody leads {without}")
        firsts = {**await super().start_offsets(topic), **self.firsts}
        return {number: firsts[number] for number in partitions}

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        assert (group, topic) in {("collector", "t"), ("silent", "t")}
        return self.was_committed

    def consumer(self, topics: Sequence[str], group: str) -> Any:
        assert (list(topics), group) in ((["t"], "collector"), (["t"], "silent"))
        return self._made


@dataclass
class Bench:
    """A loop under test."""

    diary: Diary
    clock: ManualClock
    consumer: _Consumer
    core: _Collector
    log: _Log
    context: StageContext[LoopMetrics]
    loop: BatchLoop
    task: asyncio.Task[None] | None = None

    @classmethod
    async def made(cls, policy: FlushPolicy, core: type[_Collector] = _Collector) -> Bench:
        diary, clock = Diary(), ManualClock()
        consumer, collector = _Consumer(diary), core(diary)
        log = _Log(consumer)
        await log.ensure_topics([TopicSpec("trades.dlq", 1), TopicSpec("t", 8)])
        context = context_of(log, clock)
        loop = BatchLoop(collector, context, StageSettings(), policy)
        return cls(diary, clock, consumer, collector, log, context, loop)

    @property
    def health(self) -> Health:
        """What probes are told."""
        return self.context.health

    def run(self) -> asyncio.Task[None]:
        """Start it."""
        self.task = asyncio.create_task(self.loop.run())
        return self.task

    async def polls(self, more: int = 3) -> None:
        """Wait until it has polled some more times, so that it has done all it would do now."""
        target = self.consumer.polls + more
        await soon(lambda: self.consumer.polls >= target or (self.task and self.task.done()), "polls")

    async def until(self, event: str) -> None:
        """Wait for an event."""
        await soon(lambda: event in self.diary.events, event)

    async def letters(self) -> list[DeadLetter]:
        """The letters that were written."""
        read = self.log.read(TopicPartition("trades.dlq", 0), 0, 1_000)
        return [decode_letter(record.value) async for record in read]

    async def close(self) -> None:
        """End what still runs."""
        if self.task is not None and not self.task.done():
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """One that flushes after each batch."""
    made = await Bench.made(FlushPolicy(seconds=0.0))
    yield made
    await made.close()


@pytest.fixture
async def patient() -> AsyncIterator[Bench]:
    """One that waits five seconds, or for four rows, or for 100 bytes."""
    made = await Bench.made(FlushPolicy(seconds=5.0, rows=4, size=100))
    yield made
    await made.close()


# --- the order of things ------------------------------------------------------------------------------------


async def test_a_batch_is_committed_after_it_is_durable_and_never_before(bench: Bench) -> None:
    bench.consumer.queue.extend([records(0, 1), records(2)])
    bench.run()
    await bench.until("commit {0: 3}")
    assert bench.diary.events == [
        "start", "assigned [0, 1]",
        "apply 0", "apply 1", "flush", "commit {0: 2}",
        "apply 2", "flush", "commit {0: 3}",
    ]  # fmt: skip


async def test_batches_collect_until_there_are_rows_enough(patient: Bench) -> None:
    patient.consumer.queue.extend(records(offset) for offset in range(5))
    patient.run()
    await patient.until("commit {0: 4}")
    await patient.until("apply 4")
    await patient.polls()
    assert patient.diary.without("start", "assigned", "apply") == ["flush", "commit {0: 4}"]


async def test_batches_collect_until_there_are_bytes_enough(patient: Bench) -> None:
    patient.core.rows = 0
    large = [record._replace(value=b"x" * 60) for record in records(0, 1)]
    patient.consumer.queue.extend([[large[0]], [large[1]], records(2)])
    patient.run()
    await patient.until("commit {0: 2}")
    await patient.until("apply 2")
    await patient.polls()
    assert patient.diary.without("start", "assigned", "apply") == ["flush", "commit {0: 2}"]


async def test_a_core_with_something_of_its_own_to_keep_is_flushed_though_nothing_came(patient: Bench) -> None:
    patient.run()
    await patient.polls()
    patient.core.is_due = True
    await patient.until("flush")
    assert not any(event.startswith("commit") for event in patient.diary.events)


async def test_a_batch_becomes_due_by_time_on_a_log_that_has_fallen_silent(patient: Bench) -> None:
    """Not when the next message comes: after the close none may come until morning. The first that waits counts."""
    patient.consumer.queue.append(records(0))
    patient.run()
    await patient.until("apply 0")
    await patient.clock.advance(3)
    patient.consumer.queue.append(records(1))
    await patient.until("apply 1")
    await patient.clock.advance(1.9)
    await patient.polls()
    assert "flush" not in patient.diary.events
    await patient.clock.advance(0.1)
    await patient.until("commit {0: 2}")
    patient.consumer.queue.append(records(2))
    await patient.until("apply 2")
    await patient.clock.advance(4.9)
    await patient.polls()
    assert patient.diary.events.count("flush") == 1
    await patient.clock.advance(0.1)
    await patient.until("commit {0: 3}")


async def test_what_is_below_the_offset_of_its_partition_is_skipped(bench: Bench) -> None:
    """A store may have more than was applied: a segment that somebody else has cut, an offset it knows better."""
    bench.core.beyond = 2
    bench.consumer.queue.extend([records(0), records(1, 2, 3, 4), records(5, source=P1)])
    bench.run()
    await bench.until("commit {1: 8}")
    assert bench.diary.without("start", "assigned", "flush") == [
        "apply 0", "commit {0: 3}", "apply 3", "apply 4", "commit {0: 7}", "apply 5", "commit {1: 8}",
    ]  # fmt: skip


async def test_where_a_store_says_that_reading_goes_on_is_committed_though_nothing_comes(patient: Bench) -> None:
    """Or a partition that fell silent as its last owner died, before it could commit, would look behind for ever."""
    patient.core.starts = {P0: 7, P1: 0}
    patient.diary.fail("commit", Unavailable("no broker"))
    patient.consumer.queue.append(records(5, 6))
    patient.run()
    await soon(lambda: patient.clock.sleepers, "a pause")
    await patient.clock.advance(1)
    await patient.until("commit {0: 7}")
    await patient.polls()
    assert patient.diary.without("start", "assigned") == ["commit {0: 7} !", "commit {0: 7}"]
    patient.consumer.queue.append(records(7))
    await patient.until("apply 7")
    await patient.clock.advance(5)
    await patient.until("commit {0: 8}")
    assert patient.diary.events.count("commit {0: 7}") == 1


async def test_where_a_store_says_that_reading_goes_on_is_committed_with_what_is_taken_in_hand(patient: Bench) -> None:
    patient.core.starts = {P0: 7, P1: 0}
    patient.diary.fail("say", Unavailable("no broker"))
    patient.consumer.queue.append(records(5, 6, 7))
    patient.run()
    await soon(lambda: patient.clock.sleepers, "a pause")
    assert patient.consumer.said == []
    assert "apply 7" not in patient.diary.events, "what is not said is not taken in hand"
    await patient.clock.advance(1)
    await patient.until("apply 7")
    assert patient.consumer.said == [({P0: 7}, {P0: Attempt(7, None, 1)})]
    await patient.polls()
    await patient.clock.advance(5)
    await patient.until("commit {0: 8}")
    assert patient.diary.without("start", "assigned") == ["apply 7", "flush", "commit {0: 8}"]


async def test_what_is_not_ours_is_skipped(bench: Bench) -> None:
    bench.consumer.partitions = frozenset({P0})
    bench.consumer.queue.extend([records(0, source=P1), records(0)])
    bench.run()
    await bench.until("commit {0: 1}")
    assert bench.diary.events.count("apply 0") == 1


# --- records that are gone ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("starts", "committed", "lost"),
    [
        pytest.param({}, {0: 4}, [(0, 4, 2)], id="behind the committed offset"),
        pytest.param({0: 5}, {0: 2}, [(0, 5, 1)], id="behind what the store says, which counts"),
        pytest.param({0: 0, 1: 3}, {}, [(0, 0, 6), (1, 3, 7)], id="of two partitions"),
        pytest.param({}, {0: 6, 1: 10, 2: 0}, [], id="none"),
        pytest.param({}, {}, [], id="never read before"),
    ],
)
async def test_records_that_were_deleted_before_they_were_read_are_said_to_be_lost(
    bench: Bench, starts: dict[int, int], committed: dict[int, int], lost: list[tuple[int, int, int]]
) -> None:
    """Partition, first offset and how many: in a letter each, in the metric, and in the log."""
    bench.log.firsts, bench.log.was_committed = {0: 6, 1: 10}, committed
    bench.core.starts = {TopicPartition("t", number): offset for number, offset in starts.items()}
    bench.consumer.partitions = frozenset(TopicPartition("t", number) for number in range(3))
    with capture_logs() as logs:
        bench.run()
        await bench.polls()
    told = [(x.source_partition, x.source_offset, x.detail.partition(" read them")[0]) for x in await bench.letters()]
    assert told == [
        (number, first, f"offsets {first} to {first + count - 1} of t[{number}] had been deleted before collector")
        for number, first, count in lost
    ]
    assert [(log["first"], log["records"]) for log in logs if log["event"] == "stage.records_lost"] == [
        (f"t[{number}]@{first}", count) for number, first, count in lost
    ]
    samples = [one for family in bench.context.metrics.lost.collect() for one in family.samples]
    assert sum(one.value for one in samples if one.name == "eod_records_lost_total") == sum(count for *_, count in lost)


async def test_what_is_gone_of_a_partition_without_a_leader_is_said_when_it_has_one_and_the_others_go_on(
    bench: Bench,
) -> None:
    """Which wait for one is in the metric and in the log, once; nobody's readiness ends by it."""
    bench.log.firsts, bench.core.starts, bench.consumer.without = {0: 2, 1: 2}, {P0: 0, P1: 0}, frozenset({P1})
    bench.consumer.queue.append(records(2))
    with capture_logs() as logs:
        bench.run()
        await bench.until("commit {0: 3}")
        assert [(x.source_partition, x.source_offset) for x in await bench.letters()] == [(0, 0)]
        assert (waiting(bench), bench.health.why_not) == (1, "")
        bench.consumer.without = frozenset()
        await bench.polls()
    assert [(x.source_partition, x.source_offset) for x in await bench.letters()] == [(0, 0), (1, 0)]
    assert waiting(bench) == 0
    assert [(log["event"], log.get("partitions")) for log in logs if log["event"].startswith("stage.partitions_l")] == [
        ("stage.partitions_leaderless", None),
        ("stage.partitions_led", ["t[1]"]),
    ]


async def test_a_leader_that_goes_while_it_is_asked_holds_up_no_other_partition(bench: Bench) -> None:
    """The next attempt asks for those that are left."""
    bench.log.firsts, bench.core.starts = {0: 2, 1: 2}, {P0: 0, P1: 0}
    bench.log.may_answer.clear()
    bench.run()
    await soon(lambda: bench.log.asked == 1, "the log is asked for both")
    bench.consumer.without = frozenset({P1})
    bench.log.may_answer.set()
    await soon(
        lambda: (
            bench.health.why_not == "looking for what is gone: nobody leads [TopicPartition(topic='t', partition=1)]"
        ),
        "told",
    )
    await bench.clock.advance(1)
    await bench.polls()
    assert bench.health.why_not == ""
    assert [(x.source_partition, x.source_offset) for x in await bench.letters()] == [(0, 0)]


async def test_a_letter_that_waits_for_a_leader_is_what_the_stage_waits_for_and_says(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is committed before it is on the log, where it stands once."""
    monkeypatch.setattr(appends, "_LOOK_S", 0.01)
    parted = PartedLog(bench.log)
    parted.without = {TopicPartition("trades.dlq", 0)}
    bench.log.producer = parted.producer  # type: ignore[method-assign,assignment]
    bench.diary.fail("apply", UndecodableBatch("not a batch"))
    bench.consumer.queue.append(records(0, 1, 2))
    bench.run()
    await soon(lambda: bench.health.why_not.startswith("flushing: nobody leads trades.dlq[0]: a broker"), "told")
    assert "commit {0: 3}" not in bench.diary.events
    parted.without.clear()
    await bench.clock.advance(1)
    await bench.until("commit {0: 3}")
    assert (bench.health.why_not, parted.closed, len(await bench.letters())) == ("", 1, 1)


def waiting(bench: Bench) -> int:
    """The partitions that the metric says have no leader."""
    samples = [one for family in bench.context.metrics.leaderless.collect() for one in family.samples]
    return int(sum(one.value for one in samples))


def anew(bench: Bench) -> int:
    """The partitions that the metric says are of a topic that was made anew."""
    samples = [one for family in bench.context.metrics.anew.collect() for one in family.samples]
    return int(sum(one.value for one in samples if one.name == "eod_partitions_anew_total"))


async def test_that_a_topic_was_made_anew_is_said_once_for_each_that_was(bench: Bench) -> None:
    """A letter, the metric, the log: with the new one's id, and how far the old one was read."""
    bench.log.ids, bench.core.starts, bench.core.outdated = {"t": "2nd"}, {P0: 0, P1: 3}, {P0: 7}
    with capture_logs() as logs:
        bench.run()
        await bench.polls()
        assert bench.consumer.listener is not None
        await bench.consumer.listener.assigned(frozenset({P0, P1}))
        await bench.polls()
        bench.log.ids, bench.core.outdated = {"t": "3rd"}, {P0: 9, P1: 3}
        await bench.consumer.listener.assigned(frozenset({P0, P1}))
        await bench.polls()
    first, second = await bench.letters()
    assert first.detail.startswith(
        "t was deleted and made anew (its id is now 2nd): collector had read the old one's [0] to 7; what came behind"
    )
    assert "its id is now 3rd): collector had read the old one's [0] to 9, [1] to 3;" in second.detail
    assert anew(bench) == 3
    told = [(log["topic_id"], log["read"]) for log in logs if log["event"] == "stage.topic_made_anew"]
    assert told == [("2nd", {"[0]": 7}), ("3rd", {"[0]": 9, "[1]": 3})]


async def test_what_the_group_has_committed_of_an_earlier_topic_is_no_place_to_begin_at(bench: Bench) -> None:
    """Unless the core knows where to begin."""
    bench.log.ids, bench.log.of_earlier, bench.core.starts = {"t": "2nd"}, {0: 4, 1: 9, 5: 1}, {P1: 3}
    bench.run()
    await bench.polls()
    assert bench.consumer.listener is not None
    assert await bench.consumer.listener.assigned(frozenset({P0, P1})) == {P0: 0, P1: 3}
    (letter,) = await bench.letters()
    assert "collector had read the old one's [0] to 4;" in letter.detail
    assert anew(bench) == 1


async def test_a_rebalance_does_not_wait_for_what_the_log_is_asked_and_the_new_partitions_are_looked_at(
    bench: Bench,
) -> None:
    bench.log.firsts, bench.core.starts = {0: 6}, {P0: 0}
    bench.consumer.partitions = frozenset({P1})
    bench.log.may_answer.clear()
    bench.run()
    await soon(lambda: bench.log.asked, "it asks")
    assert bench.consumer.listener is not None
    async with asyncio.timeout(20):
        await bench.consumer.listener.revoked(frozenset({P1}))
        await bench.consumer.listener.assigned(frozenset({P0}))
    bench.log.may_answer.set()
    await bench.polls()
    assert [(x.source_partition, x.source_offset) for x in await bench.letters()] == [(0, 0)]


# --- records that a core stumbles over ----------------------------------------------------------------------


async def test_a_record_that_does_not_decode_is_a_letter_and_the_next_is_applied(bench: Bench) -> None:
    bench.diary.fail("apply", UndecodableBatch("not a batch"))
    bench.consumer.queue.append(records(0, 1))
    bench.run()
    await bench.until("commit {0: 2}")
    (letter,) = await bench.letters()
    assert (letter.reason, letter.detail, letter.source_offset, letter.raw) == (
        REASON_DESERIALIZATION, "not a batch", 0, b"x",
    )  # fmt: skip
    assert bench.diary.without("start", "assigned") == ["apply 0 !", "apply 1", "flush", "commit {0: 2}"]


async def test_an_error_that_nobody_expected_costs_one_record_which_is_kept_as_a_letter(bench: Bench) -> None:
    """And not the whole stage at the close, started again and again with the same record in front of it."""
    bench.diary.fail("apply", ZeroDivisionError("a bug"))
    bench.consumer.queue.append(records(0, 1))
    with capture_logs() as logs:
        bench.run()
        await bench.until("commit {0: 2}")
    (letter,) = await bench.letters()
    assert (letter.reason, letter.detail, letter.stage, letter.source_topic, letter.source_offset, letter.raw) == (
        REASON_PROCESSING, "unexpected ZeroDivisionError: a bug", "collector", "t", 0, b"x",
    )  # fmt: skip
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["stage.unexpected"]


async def test_a_letter_is_on_the_log_before_its_record_is_committed(bench: Bench) -> None:
    bench.diary.fail("apply", UndecodableBatch("not a batch"))
    bench.log.partition_count = _away  # type: ignore[method-assign]
    bench.consumer.queue.append(records(0))
    bench.run()
    await soon(lambda: bench.clock.sleepers, "a pause")
    assert bench.diary.without("start", "assigned") == ["apply 0 !"]
    del bench.log.partition_count  # type: ignore[method-assign]
    await bench.clock.advance(1)
    await bench.until("commit {0: 1}")
    assert len(await bench.letters()) == 1


async def _away(_topic: str) -> int:
    raise Unavailable("no broker")


@pytest.mark.parametrize("error", [UndecodableBatch("not a batch"), ZeroDivisionError("a bug")])
async def test_a_stage_that_writes_no_letters_passes_over_nothing(error: Exception) -> None:
    bench = await Bench.made(FlushPolicy(seconds=0.0), _Silent)
    bench.diary.fail("apply", error)
    bench.consumer.queue.append(records(0))
    with pytest.raises(type(error), match=str(error)):
        await bench.run()
    assert not any(event.startswith("commit") for event in bench.diary.events)


# --- one call at a time -------------------------------------------------------------------------------------


async def test_nothing_is_committed_when_nothing_was_made_durable(bench: Bench) -> None:
    bench.run()
    await bench.polls()
    assert bench.diary.events == ["start", "assigned [0, 1]"]


async def test_calls_into_a_core_never_overlap_rebalances_included(bench: Bench) -> None:
    """`_Collector._alone` fails the test when they do."""
    bench.consumer.queue.extend(records(offset) for offset in range(30))
    bench.run()
    for _ in range(10):
        await bench.loop.revoked(frozenset({P0, P1}))
        await bench.loop.assigned(frozenset({P0, P1}))
    await bench.polls()
    assert bench.task is not None
    assert not bench.task.done()


# --- stores that are away -----------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["flush", "commit"])
async def test_a_store_that_is_away_is_tried_again_until_it_answers_and_nothing_is_skipped(
    bench: Bench, call: str
) -> None:
    bench.diary.fail(call, *(Unavailable(f"no {call} now") for _ in range(4)))
    bench.consumer.queue.extend([records(0), records(1)])
    bench.run()
    await soon(lambda: any(event.endswith("!") for event in bench.diary.events), "trouble")
    assert "commit {0: 1}" not in bench.diary.events
    await soon(lambda: bench.clock.sleepers, "a pause")
    assert f"no {call} now" in bench.health.why_not
    assert bench.consumer.polls == 1, "nothing more is read meanwhile: the lag grows instead"
    for _ in range(8):
        await bench.clock.advance(5)
    await bench.until("commit {0: 2}")
    assert bench.health.why_not == ""
    good = [event for event in bench.diary.events if not event.endswith("!")]
    assert good == [
        "start", "assigned [0, 1]", "apply 0", "flush", "commit {0: 1}", "apply 1", "flush", "commit {0: 2}",
    ]  # fmt: skip
    assert sum(event.endswith("!") for event in bench.diary.events) == 4


async def test_pauses_between_tries_grow_and_are_bounded(bench: Bench) -> None:
    bench.diary.always["flush"] = Unavailable("gone")
    bench.consumer.queue.append(records(0))
    bench.run()
    await bench.until("flush !")
    tries_at = []
    for _ in range(600):
        before = bench.diary.events.count("flush !")
        await bench.clock.advance(0.1)
        if bench.diary.events.count("flush !") > before:
            tries_at.append(bench.clock.monotonic())
    pauses = [round(b - a, 1) for a, b in pairwise(tries_at)]
    assert pauses[:6] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert set(pauses[6:]) == {5.0}


async def test_a_log_that_is_away_makes_the_stage_not_ready_until_it_is_back(bench: Bench) -> None:
    """It is ready again although no record comes: the log may simply be silent."""
    bench.run()
    await bench.polls()
    assert bench.health.why_not == ""
    bench.diary.fail("poll", Unavailable("no broker"), Unavailable("no broker"))
    await soon(lambda: bench.health.why_not == "no broker", "not ready")
    for _ in range(3):
        await bench.clock.advance(1)
    await bench.polls()
    assert bench.health.why_not == ""


async def test_joining_is_tried_again_until_the_log_is_there(bench: Bench) -> None:
    bench.diary.fail("start", Unavailable("no broker"), Unavailable("no broker"))
    bench.run()
    await soon(lambda: bench.clock.sleepers, "a pause")
    assert "no broker" in bench.health.why_not
    await bench.clock.advance(1)
    await bench.polls()
    assert bench.diary.events == ["start !", "start !", "start", "assigned [0, 1]"]
    assert bench.health.why_not == ""


async def test_partitions_are_loaded_again_until_their_store_answers(bench: Bench) -> None:
    bench.diary.fail("assigned", Unavailable("no store"))
    bench.run()
    await soon(lambda: bench.clock.sleepers, "a pause")
    assert "no store" in bench.health.why_not
    await bench.clock.advance(1)
    await bench.polls()
    assert bench.diary.events == ["start", "assigned [0, 1] !", "assigned [0, 1]"]


@pytest.mark.parametrize(("call", "event"), [("assigned", "assigned [0, 1]"), ("flush", "flush")])
@pytest.mark.parametrize(
    "refused", [PermissionError("login failed; mend EOD_SQLSERVER_PASSWORD"), UnknownTopic("login failed: no topic")]
)
async def test_what_is_refused_is_asked_again_as_what_is_missing_may_be_on_its_way(
    bench: Bench, call: str, event: str, refused: Exception
) -> None:
    """What makes the database, its user, the topic may be at work; a crash loop would come back minutes after it is done."""
    bench.diary.fail(call, *([refused] * 12))
    bench.consumer.queue.append(records(0))
    bench.run()
    await soon(lambda: "login failed" in bench.health.why_not, "the reason is told meanwhile")
    for _ in range(11):
        await bench.clock.advance(LET_IN_WITHIN_S / 12)
    await bench.until("commit {0: 1}")
    assert bench.diary.events.count(f"{event} !") == 12
    assert bench.health.why_not == ""


@pytest.mark.parametrize(
    "wrong", [PermissionError("login failed; mend EOD_SQLSERVER_PASSWORD"), UnknownTopic("topic trades.raw does not")]
)
async def test_what_stays_wrong_ends_the_stage_so_that_the_reason_is_seen(bench: Bench, wrong: Exception) -> None:
    """And time that the store was merely away does not count."""
    away_s = LET_IN_WITHIN_S
    bench.diary.always["flush"] = Unavailable("gone")
    bench.consumer.queue.append(records(0))
    bench.run()
    await bench.until("flush !")
    for _ in range(int(away_s)):
        await bench.clock.advance(1)
    bench.diary.always["flush"] = wrong
    for _ in range(int(LET_IN_WITHIN_S)):
        await bench.clock.advance(1)
        assert bench.task is not None
        assert not bench.task.done()
    for _ in range(10):
        await bench.clock.advance(1)
    with pytest.raises(type(wrong), match=str(wrong)):
        await bench.task
    assert not any(event.startswith("commit") for event in bench.diary.events)


async def test_an_error_that_time_does_not_mend_ends_the_stage_and_leaves_the_group(bench: Bench) -> None:
    bench.diary.fail("flush", ValueError("a bug"))
    bench.consumer.queue.append(records(0))
    with pytest.raises(ValueError, match="a bug"):
        await bench.run()
    assert bench.diary.events[-1] == "close"
    assert not any(event.startswith("commit") for event in bench.diary.events)


# --- partitions that were taken over ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error"),
    [("commit", CommitRefused("not ours")), ("flush", StaleEpoch("taken over")), ("flush", CommitRefused("not ours"))],
)
async def test_refused_partitions_are_dropped_and_not_committed(bench: Bench, call: str, error: Exception) -> None:
    bench.diary.fail(call, error)
    bench.consumer.queue.append(records(0))
    bench.run()
    await bench.until("revoked [0, 1]")
    await bench.polls()
    assert [event for event in bench.diary.events if event.startswith("commit") and not event.endswith("!")] == []


async def test_a_stage_whose_partitions_were_taken_goes_on_with_a_new_assignment(bench: Bench) -> None:
    bench.diary.fail("commit", CommitRefused("not ours"))
    bench.consumer.queue.append(records(0))
    bench.run()
    await bench.until("revoked [0, 1]")
    await bench.clock.advance(REJOIN_S - 1)
    await bench.loop.assigned(frozenset({P1}))
    bench.consumer.queue.append(records(7, source=P1))
    await bench.clock.advance(2 * REJOIN_S)
    await bench.until("commit {1: 8}")
    assert bench.task is not None
    assert not bench.task.done()


async def test_a_stage_that_is_given_no_partitions_any_more_gives_up(bench: Bench) -> None:
    """So that it is started afresh, instead of sitting there for ever and looking healthy."""
    bench.diary.fail("commit", CommitRefused("not ours"))
    bench.consumer.queue.append(records(0))
    task = bench.run()
    await bench.until("revoked [0, 1]")
    await bench.clock.advance(REJOIN_S - 0.1)
    await bench.polls()
    assert not task.done()
    await bench.clock.advance(0.2)
    with pytest.raises(CommitRefused, match="no new assignment"):
        await task
    assert bench.diary.events[-1] == "close"


async def test_further_refusals_do_not_put_off_giving_up(bench: Bench) -> None:
    """A core that has something of its own to flush must not keep a lost stage alive."""
    bench.diary.always["commit"] = CommitRefused("not ours")
    bench.consumer.queue.append(records(0))
    task = bench.run()
    await bench.until("revoked [0, 1]")
    for offset in range(1, 6):
        await bench.clock.advance(REJOIN_S / 4)
        bench.consumer.queue.append(records(offset))
        await bench.polls()
    with pytest.raises(CommitRefused, match="no new assignment"):
        await task


# --- rebalances ---------------------------------------------------------------------------------------------


async def test_what_was_polled_before_a_rebalance_and_not_applied_yet_is_dropped(bench: Bench) -> None:
    """The partition starts over at its committed offset: these records come again, here or elsewhere."""
    flushing, may_end = asyncio.Event(), asyncio.Event()

    async def slowly(_offsets: Offsets, *, final: bool) -> Mapping[TopicPartition, int]:
        assert final
        flushing.set()
        await may_end.wait()
        return {}

    bench.run()
    await bench.polls()
    bench.consumer.may_poll.clear()
    await asyncio.sleep(0.01)  # the loop waits for records now, not for the lock
    bench.core.make_durable = slowly  # type: ignore[method-assign]
    rebalance = asyncio.create_task(bench.loop.revoked(frozenset({P0, P1})))
    await flushing.wait()
    bench.consumer.queue.append(records(5))
    bench.consumer.may_poll.set()
    await soon(lambda: not bench.consumer.queue, "the poll")
    may_end.set()
    await rebalance
    await bench.polls()
    assert bench.diary.events == ["start", "assigned [0, 1]", "revoked [0, 1]"]


async def test_partitions_that_go_are_flushed_committed_and_then_forgotten(patient: Bench) -> None:
    patient.consumer.queue.append(records(0, 1))
    patient.run()
    await patient.until("apply 1")
    await patient.loop.revoked(frozenset({P0, P1}))
    assert patient.diary.events[-3:] == ["flush final", "commit {0: 2}", "revoked [0, 1]"]


@pytest.mark.parametrize("call", ["flush", "commit"])
async def test_partitions_that_go_while_the_store_is_away_are_left_to_the_next_owner(patient: Bench, call: str) -> None:
    """A rebalance must not wait for a store; the next owner reads the batch again."""
    patient.consumer.queue.append(records(0, 1))
    patient.run()
    await patient.until("apply 1")
    patient.diary.fail(call, Unavailable("gone"))
    await patient.loop.revoked(frozenset({P0, P1}))
    assert patient.diary.events[-1] == "revoked [0, 1]"
    assert [event for event in patient.diary.events if event.startswith("commit") and not event.endswith("!")] == []
    if call == "flush":
        taken_back = {P0: Attempt(0, None, 0)}
        assert patient.consumer.said[-1] == ({P0: 0}, taken_back), "it has ended nobody"


# --- stopping -----------------------------------------------------------------------------------------------


async def test_stopping_makes_the_last_batch_durable_commits_it_and_leaves(patient: Bench) -> None:
    patient.consumer.queue.append(records(0, 1, 2))
    task = patient.run()
    await patient.until("apply 2")
    await patient.loop.stop()
    await task
    assert patient.diary.events[-3:] == ["flush final", "commit {0: 3}", "close"]


@pytest.mark.parametrize("call", ["flush", "commit"])
async def test_a_stage_that_is_stopped_while_its_store_is_away_waits_a_while_and_then_leaves_uncommitted(
    bench: Bench, call: str
) -> None:
    bench.diary.always[call] = Unavailable("gone")
    bench.consumer.queue.append(records(0))
    task = bench.run()
    await soon(lambda: bench.clock.sleepers, "a pause")
    await bench.loop.stop()
    await bench.clock.advance(DRAIN_S / 3)
    assert not task.done()
    for _ in range(20):
        await bench.clock.advance(DRAIN_S / 10)
    await soon(task.done, "the end")
    assert task.exception() is None
    assert bench.diary.events[-1] == "close"
    assert [event for event in bench.diary.events if event.startswith("commit") and not event.endswith("!")] == []


async def test_a_store_that_comes_back_while_a_stage_is_stopping_gets_the_last_batch(bench: Bench) -> None:
    bench.diary.fail("flush", Unavailable("gone"), Unavailable("gone"))
    bench.consumer.queue.append(records(0))
    task = bench.run()
    await soon(lambda: bench.clock.sleepers, "a pause")
    await bench.loop.stop()
    await bench.clock.advance(1)
    await soon(task.done, "the end")
    assert "commit {0: 1}" in bench.diary.events


async def test_a_stage_that_waits_for_the_log_to_join_stops_at_once(bench: Bench) -> None:
    bench.diary.always["start"] = Unavailable("no broker")
    task = bench.run()
    await soon(lambda: bench.clock.sleepers, "a pause")
    await bench.loop.stop()
    await soon(task.done, "the end")
    assert task.exception() is None
    assert bench.diary.events[-1] == "close"


@pytest.mark.parametrize("error", [Unavailable("no store"), PermissionError("not let in")])
async def test_a_stage_that_ends_does_not_wait_for_a_store_that_its_new_partitions_need(
    bench: Bench, error: Exception
) -> None:
    """Leaving a group waits for a rebalance under way, which would try for ever."""
    bench.run()
    await bench.polls()
    bench.diary.always["assigned"] = error
    loading = asyncio.create_task(bench.loop.assigned(frozenset({P1})))
    await bench.until("assigned [1] !")
    assert bench.task is not None
    bench.task.cancel()
    await bench.until("close")
    await bench.clock.advance(5)
    with pytest.raises(type(error), match=str(error)):
        await asyncio.wait_for(loading, 10)


@pytest.mark.parametrize("error", [Unavailable("deadlock"), PermissionError("not let in")])
async def test_partitions_that_come_while_a_stage_leaves_and_cannot_be_loaded_are_no_failure(
    bench: Bench, error: Exception
) -> None:
    async def close() -> None:
        await bench.loop.assigned(frozenset({P1}))  # what the listener raises is what `close` raises

    bench.consumer.close = close  # type: ignore[method-assign]
    task = bench.run()
    await bench.polls()
    bench.diary.always["assigned"] = error
    await bench.loop.stop()
    await soon(task.done, "the end")
    assert task.exception() is None
    assert bench.diary.events[-1] == "assigned [1] !"


@pytest.mark.parametrize("error", [Unavailable("deadlock"), PermissionError("not let in")])
async def test_a_stage_that_is_stopped_before_its_new_partitions_are_loaded_ends_in_good_order(
    error: Exception,
) -> None:
    diary, clock, log = Diary(), ManualClock(), MemoryLog()
    await log.ensure_topics([TopicSpec("t", 2)])
    context = context_of(log, clock)
    loop = BatchLoop(_Collector(diary), context, StageSettings(group="g"), FlushPolicy(seconds=0.0))
    running = asyncio.create_task(loop.run())
    await soon(lambda: "assigned [0, 1]" in diary.events, "the first assignment")
    diary.always["assigned"] = error
    other = log.consumer(["t"], "g")
    joining = asyncio.create_task(other.start(_Nobody()))
    await soon(lambda: clock.sleepers, "a pause between two tries")
    await loop.stop()
    while not running.done():
        await clock.advance(1)
        await asyncio.sleep(0)
    assert running.exception() is None
    await joining
    assert other.assignment() == {P0, P1}
    await other.close()
    await log.close()


async def test_a_failure_to_leave_that_is_not_about_its_partitions_ends_the_stage(bench: Bench) -> None:
    bench.diary.fail("close", Unavailable("no broker"))
    task = bench.run()
    await bench.polls()
    await bench.loop.stop()
    await soon(task.done, "the end")
    assert str(task.exception()) == "no broker"


async def test_progress_counts_records_flushes_and_rebalances(bench: Bench) -> None:
    bench.consumer.queue.extend([records(0, 1), records(2)])
    task = bench.run()
    await bench.until("commit {0: 3}")
    await bench.loop.stop()
    await task
    progress = bench.loop.progress
    assert (progress.records, progress.flushes, progress.rebalances) == (3, 3, 1)
