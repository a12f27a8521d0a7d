"""The promises of `ports.Consumer` and `RebalanceListener` when members come, go, hang and die, for every log."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial

import pytest
from eod_workers.ports import Attempt, CommitRefused, Consumer, TopicPartition
from support.members import SESSION_TIMEOUT_S, Listener, Logs, Worker, drain, in_order, numbered
from support.patience import limited, soon


async def test_ranges_are_assigned_alike_for_topics_with_the_same_count(logs: Logs, unique: str) -> None:
    """With one, two and three members: every partition has one owner, runs are contiguous, both topics go together."""
    left, right = await logs.topic(f"{unique}-left", 7), await logs.topic(f"{unique}-right", 7)
    members = []
    for count in (1, 2, 3):
        members.append(logs.consumer([left, right], unique))
        await members[-1].start(Listener())
        sizes = sorted((7 // count + (number < 7 % count) for number in range(count)), reverse=True)
        await soon(
            partial(_own, members, [2 * size for size in sizes]),
            f"{count} members own {sizes} partitions of each topic",
        )
        owned = [sorted(source.partition for source in m.assignment() if source.topic == left) for m in members]
        assert owned == [sorted(s.partition for s in m.assignment() if s.topic == right) for m in members]
        assert sorted(partition for run in owned for partition in run) == list(range(7))
        assert all(run == list(range(run[0], run[-1] + 1)) for run in owned)


def _own(members: list[Consumer], sizes: list[int]) -> bool:
    return sorted((len(member.assignment()) for member in members), reverse=True) == sizes


async def test_a_member_without_partitions_is_told_so(logs: Logs, unique: str) -> None:
    """More members than partitions: `start` returns all the same, and there is nothing to poll."""
    topic = await logs.topic(unique, 1)
    members = [logs.consumer([topic], unique) for _ in range(2)]
    listeners = [Listener() for _ in members]
    for member, listener in zip(members, listeners, strict=True):
        await member.start(listener)
    everything = frozenset({TopicPartition(topic, 0)})
    await soon(
        lambda: (
            {listener.events[-1] for listener in listeners} == {("assigned", everything), ("assigned", frozenset())}
        ),
        "one is told that it owns, the other that it does not",
    )
    (idle,) = [m for m, heard in zip(members, listeners, strict=True) if heard.events[-1] == ("assigned", frozenset())]
    assert idle.assignment() == frozenset()
    assert await idle.poll(1, 0.1) == []


async def test_partitions_change_hands_without_a_gap_or_a_repetition(logs: Logs, unique: str) -> None:
    """Members come and go under load, commit when they are revoked, and every record is read exactly once."""
    topic = await logs.topic(unique, 4)
    producer, sent, enough = await logs.log.producer(), 0, asyncio.Event()

    async def produce() -> None:
        nonlocal sent
        while not enough.is_set():  # however long the members take to come and go
            for partition in range(4):
                await producer.send(topic, partition, b"%d/%d" % (partition, sent))
            sent += 1
            await asyncio.sleep(0.01)

    producing = asyncio.create_task(produce())
    workers = [await Worker(logs.consumer([topic], unique)).start()]
    for _ in range(2):
        await soon(lambda: len(workers[-1].read) > 20, "the newest member reads")
        workers.append(await Worker(logs.consumer([topic], unique)).start())
    await soon(lambda: len(workers[-1].read) > 20, "the last member reads")
    await workers[0].stop()
    enough.set()
    await producing
    await producer.close()

    def read() -> list[bytes]:
        return [record.value for worker in workers for record in worker.read]

    everything = {b"%d/%d" % (partition, number) for partition in range(4) for number in range(sent)}
    await soon(lambda: len(set(read())) == len(everything), "all is read")
    for worker in workers[1:]:
        await worker.stop()
    assert Counter(read()) == dict.fromkeys(everything, 1)
    assert await logs.log.committed(unique, topic) == dict.fromkeys(range(4), sent)
    for worker in workers:
        for offsets in in_order(worker.read).values():
            assert offsets == sorted(offsets)


async def test_a_member_that_leaves_may_commit_first(logs: Logs, unique: str) -> None:
    """`close` calls `revoked` once, with everything owned, and a commit in there counts."""
    topic = await logs.topic(unique, 2)
    consumer = logs.consumer([topic], unique)
    everything = frozenset({TopicPartition(topic, 0), TopicPartition(topic, 1)})
    listener = Listener(on_revoked=lambda partitions: consumer.commit(dict.fromkeys(partitions, 5)))
    await consumer.start(listener)
    await consumer.close()
    assert listener.events == [("assigned", everything), ("revoked", everything)]
    assert await logs.log.committed(unique, topic) == {0: 5, 1: 5}


async def test_a_member_that_leaves_gets_nothing_more(logs: Logs, unique: str) -> None:
    """While `close` waits for `revoked`, which may take its time to finish, polls find nothing."""
    topic = await logs.topic(unique, 1)
    consumer = logs.consumer([topic], unique)
    listener = Listener()
    await consumer.start(listener)
    listener.may_revoke.clear()
    closing = asyncio.create_task(consumer.close())
    await soon(lambda: listener.events[-1][0] == "revoked", "the listener is asked to finish")
    await logs.fill(topic, {0: [b"new"]})
    assert await consumer.poll(10, 0.5) == []
    assert not closing.done()
    listener.may_revoke.set()
    await closing


@pytest.mark.parametrize("stuck_in", ["close", "rebalance"])
async def test_a_listener_that_never_returns_can_be_given_up(logs: Logs, unique: str, stuck_in: str) -> None:
    """Cancelling `close` ends it and the listener's call, and the group goes on without the member."""
    topic = await logs.topic(unique, 1)
    stuck, other = logs.consumer([topic], unique), logs.consumer([topic], unique)
    listener = Listener()
    await stuck.start(listener)
    listener.may_revoke.clear()
    starting = asyncio.create_task(other.start(Listener())) if stuck_in == "rebalance" else None
    if starting is not None:
        await soon(lambda: listener.events[-1][0] == "revoked", "the rebalance waits for the listener")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await stuck.close()
    assert stuck.assignment() == frozenset()
    async with limited(10):
        await (starting or other.start(Listener()))
    await soon(lambda: other.assignment() == {TopicPartition(topic, 0)}, "the other one owns all")


async def test_no_record_is_handed_out_while_the_listener_loads(logs: Logs, unique: str) -> None:
    """`assigned` may take longer than the group's session timeout; records come after it, from where it says."""
    topic = await logs.topic(unique, 2)
    await logs.fill(topic, {0: numbered(10, 0), 1: numbered(10, 1)})
    consumer = logs.consumer([topic], unique)
    listener = Listener(starts={TopicPartition(topic, 0): 6})
    listener.may_assign.clear()
    starting = asyncio.create_task(consumer.start(listener))
    await soon(lambda: listener.events, "the listener is called")
    await asyncio.sleep(SESSION_TIMEOUT_S + 1.0)
    assert not starting.done()
    assert await consumer.poll(100, 0.1) == []
    listener.may_assign.set()
    await starting
    records = await drain(consumer, 14)
    assert in_order(records) == {TopicPartition(topic, 0): [6, 7, 8, 9], TopicPartition(topic, 1): list(range(10))}
    await consumer.commit({TopicPartition(topic, 0): 10})
    assert [event for event, _ in listener.events] == ["assigned"], "it was never expelled"


async def test_a_poll_that_spans_a_rebalance_loses_nothing(logs: Logs, unique: str) -> None:
    """Records come while the listener of the new assignment is at work and a poll from before is still waiting."""
    topic = await logs.topic(unique, 2)
    staying, leaving = logs.consumer([topic], unique), logs.consumer([topic], unique)
    listener = Listener()
    await staying.start(listener)
    await leaving.start(Listener())
    await soon(lambda: len(staying.assignment()) == 1, "two share")
    polling = asyncio.create_task(staying.poll(100, 10.0))
    await asyncio.sleep(0.2)
    listener.may_assign.clear()
    await leaving.close()
    await soon(lambda: len(listener.events[-1][1]) == 2, "the other partition comes too")
    await logs.fill(topic, {0: numbered(10, 0), 1: numbered(10, 1)})
    await asyncio.sleep(0.5)
    assert not polling.done(), "nothing is handed out before the listener has answered"
    listener.may_assign.set()
    records = await polling
    records += await drain(staying, 20 - len(records))
    assert in_order(records) == {TopicPartition(topic, number): list(range(10)) for number in range(2)}


async def test_no_record_is_handed_out_while_partitions_are_revoked(logs: Logs, unique: str) -> None:
    """While one member finishes its work, neither it nor the newcomer gets records of those partitions."""
    topic = await logs.topic(unique, 2)
    old, new = logs.consumer([topic], unique), logs.consumer([topic], unique)
    listener = Listener()
    await old.start(listener)
    listener.may_revoke.clear()
    starting = asyncio.create_task(new.start(Listener()))
    await soon(lambda: listener.events[-1][0] == "revoked", "the old member is asked to finish")
    await logs.fill(topic, {0: numbered(5, 0), 1: numbered(5, 1)})
    assert await old.poll(100, 1.0) == []
    assert not starting.done()
    await old.commit({TopicPartition(topic, 0): 3})
    listener.may_revoke.set()
    await starting
    await soon(lambda: len(old.assignment()) == len(new.assignment()) == 1, "each owns one")
    records = [*await drain(old, 0), *await drain(new, 0)]
    async with limited(10):
        while len(records) < 7:
            records += await old.poll(100, 0.2) + await new.poll(100, 0.2)
    assert in_order(records) == {TopicPartition(topic, 0): [3, 4], TopicPartition(topic, 1): list(range(5))}


async def test_what_a_listener_raises_comes_out_of_poll(logs: Logs, unique: str) -> None:
    """A stage that cannot load its state must not be given records: the error surfaces, and nothing is handed out."""
    topic = await logs.topic(unique, 1)
    await logs.fill(topic, {0: numbered(3)})
    consumer = logs.consumer([topic], unique)
    listener = Listener()
    await consumer.start(listener)
    listener.failure = LookupError("no snapshot")
    other = logs.consumer([topic], unique)
    await other.start(Listener())
    with pytest.raises(LookupError, match="no snapshot"):
        await drain(consumer, 1)
    third = logs.consumer([topic], unique)
    with pytest.raises(LookupError, match="no snapshot"):
        await third.start(Listener(failure=LookupError("no snapshot")))


async def test_only_the_owner_commits(logs: Logs, unique: str) -> None:
    """A partition of another member, or one of a topic it does not read, is refused, and nothing of the call is stored."""
    topic = await logs.topic(unique, 2)
    members = [logs.consumer([topic], unique) for _ in range(2)]
    for member in members:
        await member.start(Listener())
    await soon(lambda: all(len(member.assignment()) == 1 for member in members), "each owns one")
    (mine,), (other,) = (member.assignment() for member in members)
    with pytest.raises(CommitRefused):
        await members[0].commit({mine: 1, other: 1})
    assert await logs.log.committed(unique, topic) == {}
    await members[0].commit({mine: 2})
    await members[1].commit({other: 3})
    assert await logs.log.committed(unique, topic) == {mine.partition: 2, other.partition: 3}


async def test_an_attempt_is_said_beside_a_commit_and_holds_until_the_next(logs: Logs, unique: str) -> None:
    """Of each partition by itself; the offset is what it would be without one."""
    topic = await logs.topic(unique, 3)
    p0, p1, p2 = (TopicPartition(topic, number) for number in range(3))
    consumer = logs.consumer([topic], unique)
    await consumer.start(Listener())
    assert await logs.log.attempts(unique, topic) == {}
    said = {p0: Attempt(4, None, 1), p1: Attempt(10**18, 10**18 + 7, 2)}
    await consumer.commit({p0: 3, p1: 10, p2: 5}, said)
    assert await logs.log.attempts(unique, topic) == {0: said[p0], 1: said[p1]}
    assert await logs.log.committed(unique, topic) == {0: 3, 1: 10, 2: 5}
    await consumer.commit({p1: 11})
    assert await logs.log.attempts(unique, topic) == {0: said[p0]}
    assert await logs.log.committed(unique, topic) == {0: 3, 1: 11, 2: 5}
    assert await logs.log.unsigned(unique, topic) == {}
    await consumer.close()
    assert await logs.log.attempts(f"{unique}-other", topic) == {}


async def test_a_killed_member_is_replaced_and_cannot_commit(logs: Logs, unique: str) -> None:
    """The survivor reads on from the last commit, so nothing is skipped; the dead one's late commit is refused."""
    topic = await logs.topic(unique, 2)
    await logs.fill(topic, {0: numbered(20, 0), 1: numbered(20, 1)})
    dying = logs.consumer([topic], unique)
    await dying.start(Listener())
    assert len(await drain(dying, 40)) == 40
    await dying.commit({TopicPartition(topic, 0): 12})
    survivor = await Worker(logs.consumer([topic], unique)).start()
    await soon(lambda: len(dying.assignment()) == 1, "the partitions are shared")
    (kept,) = dying.assignment()
    await logs.kill(dying)
    await soon(lambda: len(survivor.consumer.assignment()) == 2, "the survivor owns all")
    with pytest.raises(CommitRefused):
        await dying.commit({kept: 20})
    expected = {TopicPartition(topic, 0): list(range(12, 20)), TopicPartition(topic, 1): list(range(20))}
    await soon(
        lambda: {source: sorted(set(offsets)) for source, offsets in in_order(survivor.read).items()} == expected,
        "all that was not committed is read again",
    )
    await survivor.crash_loop()
    await logs.bury(dying)
