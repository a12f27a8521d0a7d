"""What the memory log does beyond the contract: back-pressure, and agreement with a model under any history."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import pytest
from eod_workers.adapters.memory_group import MemoryConsumer, assign_ranges
from eod_workers.adapters.memory_log import MemoryLog
from eod_workers.ports import Appended, Producer, TopicPartition, TopicSpec
from hypothesis import given
from hypothesis import strategies as st
from support.manual_clock import ManualClock
from support.members import Listener, Worker, drain, in_order
from support.patience import soon

TOPIC = "trades.raw"
P0 = TopicPartition(TOPIC, 0)


async def log_with(partitions: int = 1, **settings: Any) -> MemoryLog:
    log = MemoryLog(**settings)
    await log.ensure_topics([TopicSpec(TOPIC, partitions), TopicSpec("trades.dlq", 1)])
    return log


async def send_all(producer: Producer, values: list[bytes]) -> list[Appended]:
    return [await (await producer.send(TOPIC, 0, value)) for value in values]


# --- back-pressure --------------------------------------------------------------------------------


async def test_a_full_topic_makes_senders_wait_until_the_slowest_group_commits() -> None:
    """Reading is not enough, and the commit of a quicker group is not enough; order survives the wait."""
    log = await log_with(max_unread_bytes=100)
    fast, slow = log.consumer([TOPIC], "fast"), log.consumer([TOPIC], "slow")
    await fast.start(Listener())
    await slow.start(Listener())
    producer = await log.producer()
    sending = asyncio.create_task(send_all(producer, [b"%010d" % number for number in range(15)]))
    await soon(lambda: log._topics[TOPIC]._queue, "a sender waits")
    assert await log.end_offsets(TOPIC) == {0: 10}
    assert len(await drain(slow, 10)) == 10
    await fast.commit({P0: 10})
    await asyncio.sleep(0.01)
    assert await log.end_offsets(TOPIC) == {0: 10}
    await slow.commit({P0: 3})
    await soon(lambda: log._topics[TOPIC].partitions[0].end == 13, "three more fit")
    await slow.commit({P0: 13})
    assert await sending == [Appended(TOPIC, 0, number) for number in range(15)]
    assert [record.value async for record in log.read(P0, 0, 99)] == [b"%010d" % number for number in range(15)]


async def test_senders_are_let_in_as_they_came() -> None:
    """Also when one of them gives up meanwhile: it appends nothing."""
    log = await log_with(max_unread_bytes=10)
    consumer = log.consumer([TOPIC], "group")
    await consumer.start(Listener())
    producer = await log.producer()
    await producer.send(TOPIC, 0, b"x" * 10)
    waiting = [asyncio.create_task(producer.send(TOPIC, 0, b"%010d" % number)) for number in range(5)]
    await asyncio.sleep(0)
    waiting[2].cancel()
    for committed in range(1, 6):
        await consumer.commit({P0: committed})
        await asyncio.sleep(0)
    assert [record.value async for record in log.read(P0, 1, 99)] == [b"%010d" % n for n in (0, 1, 3, 4)]
    assert [task.cancelled() for task in waiting] == [False, False, True, False, False]


async def test_topics_fill_separately_and_only_where_somebody_reads() -> None:
    """A stage that writes to one topic before it commits on another never waits for itself."""
    log = await log_with(max_unread_bytes=10)
    consumer = log.consumer([TOPIC], "group")
    await consumer.start(Listener())
    producer = await log.producer()
    await producer.send(TOPIC, 0, b"x" * 50)
    async with asyncio.timeout(1):
        for _ in range(10):
            await producer.send("trades.dlq", 0, b"x" * 50)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await producer.send(TOPIC, 0, b"")


async def test_closing_the_log_fails_those_who_wait() -> None:
    log = await log_with(max_unread_bytes=1)
    await log.consumer([TOPIC], "group").start(Listener())
    producer = await log.producer()
    await producer.send(TOPIC, 0, b"full")
    waiting = asyncio.create_task(producer.send(TOPIC, 0, b"waits"))
    await asyncio.sleep(0)
    await log.close()
    with pytest.raises(RuntimeError, match="closed"):
        await waiting
    with pytest.raises(RuntimeError, match="closed"):
        await log.end_offsets(TOPIC)


async def test_records_carry_the_time_of_the_clock() -> None:
    log = await log_with(clock=ManualClock(start_ns=1_767_646_800_123_456_789))
    await send_all(await log.producer(), [b""])
    assert [record.timestamp_ms async for record in log.read(P0, 0, 1)] == [1_767_646_800_123]


# --- groups ---------------------------------------------------------------------------------------


@given(
    members=st.dictionaries(
        st.text("abc", min_size=1), st.sets(st.sampled_from(["t", "u", "v"]), min_size=1), min_size=1
    ),
    counts=st.fixed_dictionaries({"t": st.integers(0, 20), "u": st.integers(0, 20), "v": st.integers(0, 20)}),
)
def test_ranges_deal_every_partition_to_one_reader(members: dict[str, set[str]], counts: dict[str, int]) -> None:
    """Each partition that anybody reads has one owner, who reads its topic; shares differ by one at most, run by run."""
    dealt = assign_ranges(members, counts)
    assert dealt.keys() == members.keys()
    for topic, count in counts.items():
        runs = [
            sorted(source.partition for source in dealt[member] if source.topic == topic)
            for member in sorted(members)
            if topic in members[member]
        ]
        assert [partition for run in runs for partition in run] == (list(range(count)) if runs else [])
        sizes = [len(run) for run in runs]
        assert sizes == sorted(sizes, reverse=True)
        assert not sizes or max(sizes) - min(sizes) <= 1
        outsiders = [member for member in members if topic not in members[member]]
        assert not any(source.topic == topic for member in outsiders for source in dealt[member])


def test_ranges_are_those_of_kafka() -> None:
    """The example in the documentation of Kafka's RangeAssignor: two members, two topics of three partitions."""
    dealt = assign_ranges({"C1": ["t0", "t1"], "C0": ["t0", "t1"]}, {"t0": 3, "t1": 3})
    assert dealt == {
        "C0": {TopicPartition(topic, number) for topic in ("t0", "t1") for number in (0, 1)},
        "C1": {TopicPartition(topic, 2) for topic in ("t0", "t1")},
    }


async def test_a_member_killed_in_the_midst_of_a_revocation_holds_nobody_up() -> None:
    log = await log_with(2)
    dying, other = log.consumer([TOPIC], "group"), log.consumer([TOPIC], "group")
    stuck = Listener()
    await dying.start(stuck)
    stuck.may_revoke.clear()
    starting = asyncio.create_task(other.start(Listener()))
    await soon(lambda: stuck.events[-1][0] == "revoked", "the listener is stuck")
    dying.abandon()
    await asyncio.wait_for(starting, 5)
    assert other.assignment() == {P0, TopicPartition(TOPIC, 1)}


@pytest.mark.parametrize("moment", ["revoked", "assigned"])
async def test_a_member_may_close_while_the_group_rebalances(moment: str) -> None:
    """Its listener hears of each loss once, and the others go on."""
    log = await log_with(4)
    members = [log.consumer([TOPIC], "group") for _ in range(3)]
    listeners = [Listener() for _ in members]
    await members[0].start(listeners[0])
    await members[1].start(listeners[1])
    await soon(lambda: len(members[0].assignment()) == 2, "two share")
    gate = listeners[0].may_revoke if moment == "revoked" else listeners[0].may_assign
    gate.clear()
    starting = asyncio.create_task(members[2].start(listeners[2]))
    await soon(lambda: listeners[0].events[-1][0] == moment, "the rebalance is under way")
    closing = asyncio.create_task(members[0].close())
    await asyncio.sleep(0.01)
    gate.set()
    await asyncio.wait_for(asyncio.gather(starting, closing), 5)
    await soon(lambda: [len(m.assignment()) for m in members] == [0, 2, 2], "the others own everything")
    held: Counter[TopicPartition] = Counter()
    for event, partitions in listeners[0].events:
        held.update(partitions) if event == "assigned" else held.subtract(partitions)
        assert set(held.values()) <= {0, 1}
    assert not +held


# --- a model --------------------------------------------------------------------------------------

PARTITIONS = 3
ACTIONS = st.one_of(
    st.tuples(st.just("send"), st.integers(0, PARTITIONS - 1)),
    st.tuples(st.just("poll"), st.integers(1, 5)),
    st.tuples(st.just("commit"), st.just(0)),
    st.tuples(st.just("join"), st.just(0)),
    st.tuples(st.just("leave"), st.just(0)),
    st.tuples(st.just("kill"), st.just(0)),
)


class Model:
    """A group as a plain description: what was sent, what was committed, and what each member must read next."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.sent: dict[int, int] = dict.fromkeys(range(PARTITIONS), 0)
        self.committed: dict[int, int] = {}
        self.members: list[tuple[MemoryConsumer, dict[TopicPartition, int]]] = []
        self.delivered: defaultdict[int, set[int]] = defaultdict(set)

    async def join(self) -> None:
        """Add a member that commits what it has read when it loses it."""
        consumer, position = self.log.consumer([TOPIC], "group"), dict[TopicPartition, int]()

        class Committing(Listener):
            async def revoked(self, partitions: frozenset[TopicPartition]) -> None:
                assert partitions == position.keys()
                await commit()

            async def assigned(self, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
                position.clear()
                position.update({source: model.committed.get(source.partition, 0) for source in partitions})
                return {}

        model = self

        async def commit() -> None:
            await consumer.commit(position)
            model.committed.update({source.partition: offset for source, offset in position.items()})
            position.clear()

        self.members.append((consumer, position))
        await consumer.start(Committing())

    async def poll(self, turn: int, count: int) -> None:
        """Poll one member: each record is the next one of its partition."""
        if self.members:
            consumer, position = self.members[turn % len(self.members)]
            records = await consumer.poll(count, 0)
            assert len(records) <= count
            for record in records:
                assert record.offset == position[record.source]
                assert record.value == b"%d" % record.offset
                position[record.source] += 1
                self.delivered[record.partition].add(record.offset)


@given(history=st.lists(ACTIONS, max_size=60))
def test_any_history_of_a_group_delivers_every_record_in_order(history: list[tuple[str, int]]) -> None:
    """Members join, leave and are killed at any moment; in the end everything has been read, in order, from commits."""
    asyncio.run(_live_through(history))


async def _live_through(history: list[tuple[str, int]]) -> None:
    model = Model(await log_with(PARTITIONS))
    producer = await model.log.producer()
    for turn, (action, argument) in enumerate([*history, ("join", 0)]):
        if action == "send":
            appended = await (await producer.send(TOPIC, argument, b"%d" % model.sent[argument]))
            assert appended.offset == model.sent[argument]
            model.sent[argument] += 1
        elif action == "poll":
            await model.poll(turn, argument)
        elif action == "commit" and model.members:
            consumer, position = model.members[turn % len(model.members)]
            await consumer.commit(position)
            model.committed.update({source.partition: offset for source, offset in position.items()})
        elif action == "join":
            await model.join()
        elif action in {"leave", "kill"} and model.members:
            consumer, _ = model.members.pop(turn % len(model.members))
            await consumer.close() if action == "leave" else consumer.abandon()
        if "group" in model.log._groups and (rebalance := model.log._groups["group"]._task) is not None:
            await asyncio.wait([rebalance])
        owned = [source for consumer, _ in model.members for source in consumer.assignment()]
        assert sorted(owned) == ([TopicPartition(TOPIC, n) for n in range(PARTITIONS)] if model.members else [])
    for turn in range(len(model.members) * sum(model.sent.values())):
        await model.poll(turn, 5)
    assert {n: model.delivered[n] for n in model.sent} == {n: set(range(count)) for n, count in model.sent.items()}
    assert await model.log.committed("group", TOPIC) == model.committed
    await model.log.close()


async def test_a_burst_is_carried_without_back_pressure_in_the_way() -> None:
    """20,000 records through two members: all of them, once; the rate is measured elsewhere."""
    log = await log_with(4)
    producer = await log.producer()
    workers = [await Worker(log.consumer([TOPIC], "group")).start() for _ in range(2)]
    for number in range(20_000):
        await producer.send(TOPIC, number % 4, b"%d" % number)
    await soon(lambda: sum(len(worker.read) for worker in workers) >= 20_000, "all is read")
    for worker in workers:
        await worker.stop()
    read = [int(record.value) for worker in workers for record in worker.read]
    assert sorted(read) == list(range(20_000))
    assert all(offsets == list(range(5_000)) for worker in workers for offsets in in_order(worker.read).values())
