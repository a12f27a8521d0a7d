"""The promises of `ports.Log`, `Producer` and of a `Consumer` that is alone in its group, for every log."""

from __future__ import annotations

import asyncio
import time

import pytest
from eod_workers.adapters.kafka import KafkaLog
from eod_workers.ports import Appended, CommitRefused, Record, TopicPartition, TopicSpec, UnknownTopic
from support.members import Listener, Logs, drain, in_order, numbered
from support.patience import limited

# --- topics ---------------------------------------------------------------------------------------


async def test_topics_are_created_once_and_never_changed(logs: Logs, unique: str) -> None:
    """A second call with the same count does nothing, one with another count is refused and names both."""
    await logs.log.ensure_topics([TopicSpec(f"{unique}-a", 3), TopicSpec(f"{unique}-b", 1)])
    await logs.fill(f"{unique}-a", {2: [b"kept"]})
    await logs.log.ensure_topics([TopicSpec(f"{unique}-a", 3), TopicSpec(f"{unique}-c", 2)])
    assert [await logs.log.partition_count(f"{unique}-{name}") for name in "abc"] == [3, 1, 2]
    assert await logs.log.end_offsets(f"{unique}-a") == {0: 0, 1: 0, 2: 1}

    with pytest.raises(ValueError, match=r"3.* 5|5.* 3"):
        await logs.log.ensure_topics([TopicSpec(f"{unique}-a", 5)])
    assert await logs.log.partition_count(f"{unique}-a") == 3


async def test_the_ids_of_topics_differ_and_stay(logs: Logs, unique: str) -> None:
    """Where there are any: a log whose topics are never deleted needs none."""
    topics = [await logs.topic(f"{unique}-{name}", 2) for name in "ab"]
    ids = await logs.log.topic_ids(topics)
    assert await logs.log.topic_ids([topics[1], topics[0]]) == ids
    assert list(ids) == topics
    assert len(set(ids.values()) - {""}) == (2 if isinstance(logs.log, KafkaLog) else 0)


async def test_a_topic_that_does_not_exist_is_named(logs: Logs, unique: str) -> None:
    """Every call that names a missing topic or partition raises UnknownTopic with that name, and soon."""
    async with limited(10):
        with pytest.raises(UnknownTopic, match=unique):
            await logs.log.partition_count(unique)
        with pytest.raises(UnknownTopic, match=unique):
            await logs.log.end_offsets(unique)
        with pytest.raises(UnknownTopic, match=unique):
            await logs.log.committed("group", unique)
        with pytest.raises(UnknownTopic, match=unique):
            await logs.log.outdated("group", unique)
        with pytest.raises(UnknownTopic, match=unique):
            await logs.log.unsigned("group", unique)
        with pytest.raises(UnknownTopic, match=unique):
            await logs.log.topic_ids([unique])
        with pytest.raises(UnknownTopic, match=unique):
            await anext(aiter(logs.log.read(TopicPartition(unique, 0), 0, 1)))
        producer = await logs.log.producer()
        with pytest.raises(UnknownTopic, match=unique):
            await producer.send(unique, 0, b"")
        with pytest.raises(UnknownTopic, match=unique):
            await logs.consumer([unique], "group").start(Listener())

        await logs.topic(unique, 2)
        for partition in (2, -1):
            with pytest.raises(UnknownTopic, match=unique):
                await producer.send(unique, partition, b"")
            with pytest.raises(UnknownTopic, match=unique):
                await anext(aiter(logs.log.read(TopicPartition(unique, partition), 0, 1)))
        assert (await (await producer.send(unique, 1, b""))).offset == 0, "an earlier refusal must not be remembered"
        await producer.close()


# --- appending ------------------------------------------------------------------------------------


async def test_records_arrive_as_they_were_sent(logs: Logs, unique: str) -> None:
    """Key, value, headers and the producer's time survive; an empty value stays empty."""
    topic = await logs.topic(unique, 1)
    producer = await logs.log.producer()
    before_ms = time.time_ns() // 1_000_000
    headers = [("traceparent", b"00-\xff"), ("twice", b"1"), ("twice", b"")]
    assert await (await producer.send(topic, 0, b"value\0", key=b"AAPL", headers=headers)) == Appended(topic, 0, 0)
    assert await (await producer.send(topic, 0, b"")) == Appended(topic, 0, 1)
    await producer.close()
    first, second = [record async for record in logs.log.read(TopicPartition(topic, 0), 0, 2)]
    assert (first.key, first.value, first.headers, first.offset) == (b"AAPL", b"value\0", tuple(headers), 0)
    assert (second.key, second.value, second.headers, second.offset) == (None, b"", (), 1)
    assert first.source == TopicPartition(topic, 0)
    assert before_ms <= first.timestamp_ms <= second.timestamp_ms <= time.time_ns() // 1_000_000


async def test_each_partition_keeps_the_order_of_the_calls(logs: Logs, unique: str) -> None:
    """Offsets rise with the calls of `send`, also when many tasks call it at once, and none is appended twice."""
    topic = await logs.topic(unique, 3)
    producer = await logs.log.producer()
    sends = [producer.send(topic, number % 3, b"%d" % number) for number in range(300)]
    acknowledgements = await asyncio.gather(*sends)
    appended = await asyncio.gather(*acknowledgements)
    assert [(a.topic, a.partition, a.offset) for a in appended] == [(topic, n % 3, n // 3) for n in range(300)]
    for partition in range(3):
        values = [int(record.value) async for record in logs.log.read(TopicPartition(topic, partition), 0, 1_000)]
        assert values == list(range(partition, 300, 3))
    assert await logs.log.end_offsets(topic) == dict.fromkeys(range(3), 100)
    await producer.close()


async def test_senders_that_wait_are_not_overtaken(logs: Logs, unique: str) -> None:
    """Records so large that a batch is full after a few: the order of the calls is still the order in the log."""
    topic = await logs.topic(unique, 1)
    producer = await logs.log.producer()
    sending: list[asyncio.Task[asyncio.Future[Appended]]] = []
    for number in range(60):
        sending.append(asyncio.create_task(producer.send(topic, 0, b"%03d" % number + b"x" * 300_000)))
        if number > 20:
            await asyncio.sleep(0.002)  # some come while others wait
    for acknowledged in await asyncio.gather(*sending):
        await acknowledged
    await producer.close()
    values = [record.value[:3] async for record in logs.log.read(TopicPartition(topic, 0), 0, 99)]
    assert values == [b"%03d" % number for number in range(60)]


async def test_flush_and_close_leave_nothing_unacknowledged(logs: Logs, unique: str) -> None:
    topic = await logs.topic(unique, 1)
    producer = await logs.log.producer()
    sent = [await producer.send(topic, 0, value) for value in numbered(50)]
    await producer.flush()
    assert all(acknowledged.done() for acknowledged in sent)
    sent.append(await producer.send(topic, 0, b"last"))
    await producer.close()
    await producer.close()
    assert [acknowledged.result().offset for acknowledged in sent] == list(range(51))
    with pytest.raises(RuntimeError):
        await producer.send(topic, 0, b"too late")
    assert await logs.log.end_offsets(topic) == {0: 51}


# --- reading outside a group ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 10, range(10)),
        (3, 7, range(3, 7)),
        (7, 99, range(7, 10)),
        (4, 4, []),
        (5, 2, []),
        (10, 20, []),
        (99, 100, []),
    ],
)
async def test_read_gives_the_offsets_asked_for(logs: Logs, unique: str, start: int, end: int, expected: range) -> None:
    """Start is included, end is not; what does not exist yet is not waited for."""
    topic = await logs.topic(unique, 2)
    await logs.fill(topic, {1: numbered(10, 1)})
    records = [record async for record in logs.log.read(TopicPartition(topic, 1), start, end)]
    assert [(record.offset, record.value) for record in records] == [(n, b"1/%d" % n) for n in expected]


async def test_a_partition_begins_at_its_oldest_record_or_at_the_oldest_since_a_time(logs: Logs, unique: str) -> None:
    """A partition without such a record begins at its end; a time between two records begins at the second."""
    topic = await logs.topic(unique, 3)
    await logs.fill(topic, {0: numbered(4), 1: numbered(1, 1)})
    await asyncio.sleep(0.01)
    since_ms = time.time_ns() // 1_000_000
    await logs.fill(topic, {0: numbered(2)})
    assert await logs.log.start_offsets(topic) == {0: 0, 1: 0, 2: 0}
    assert await logs.log.start_offsets(topic, 0) == {0: 0, 1: 0, 2: 0}
    assert await logs.log.start_offsets(topic, since_ms) == {0: 4, 1: 1, 2: 0}
    assert await logs.log.start_offsets(topic, since_ms + 3_600_000) == {0: 6, 1: 1, 2: 0}
    with pytest.raises(ValueError, match="before 1970"):
        await logs.log.start_offsets(topic, -1)
    with pytest.raises(UnknownTopic, match=unique):
        await logs.log.start_offsets(f"{unique}-missing")


# --- consuming ------------------------------------------------------------------------------------


async def test_a_new_group_reads_everything_from_the_beginning(logs: Logs, unique: str) -> None:
    """Each record once, in offset order within its partition, and no poll returns more than it was asked for."""
    topic = await logs.topic(unique, 3)
    await logs.fill(topic, {number: numbered(40, number) for number in range(3)})
    consumer = logs.consumer([topic], unique)
    listener = Listener()
    await consumer.start(listener)
    everything = frozenset(TopicPartition(topic, number) for number in range(3))
    assert listener.events == [("assigned", everything)]
    assert consumer.assignment() == everything
    records: list[Record] = []
    async with limited(10):
        while len(records) < 120:
            some = await consumer.poll(7, 1.0)
            assert len(some) <= 7
            records += some
    assert in_order(records) == {source: list(range(40)) for source in everything}
    assert {record.value for record in records} == {value for n in range(3) for value in numbered(40, n)}


async def test_poll_waits_for_records_but_no_longer_than_asked(logs: Logs, unique: str) -> None:
    topic = await logs.topic(unique, 1)
    consumer = logs.consumer([topic], unique)
    await consumer.start(Listener())
    for timeout_s in (0.0, 0.3):
        begun = time.monotonic()
        async with limited(10):
            assert await consumer.poll(10, timeout_s) == []
        assert time.monotonic() - begun >= timeout_s - 0.01
    polling = asyncio.create_task(consumer.poll(10, 3_600.0))
    await asyncio.sleep(0.1)
    await logs.fill(topic, {0: [b"new"]})
    async with limited(10):  # a record ends the wait
        assert [record.value for record in await polling] == [b"new"]


async def test_a_cancelled_poll_loses_no_record(logs: Logs, unique: str) -> None:
    """Polls are cancelled at many moments while records come in; the next poll goes on where the last one ended."""
    topic = await logs.topic(unique, 1)
    consumer = logs.consumer([topic], unique)
    await consumer.start(Listener())
    filling = asyncio.create_task(logs.fill(topic, {0: numbered(200)}))
    offsets: list[int] = []
    async with limited(15):
        while len(offsets) < 200:
            polling = asyncio.create_task(consumer.poll(3, 1.0))
            await asyncio.sleep(0.002 * (len(offsets) % 3))
            polling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.shield(_cancelled_unless(polling, offsets))
            offsets += [record.offset for record in await consumer.poll(3, 0.2)]
    await filling
    assert offsets == list(range(200))


async def _cancelled_unless(polling: asyncio.Task[list[Record]], offsets: list[int]) -> None:
    """Note what a poll returned before the cancellation reached it, and end alike in both cases."""
    offsets += [record.offset for record in await polling]
    raise asyncio.CancelledError


async def test_a_group_goes_on_where_it_committed(logs: Logs, unique: str) -> None:
    """Committed offsets outlive the member, are kept per group, and are the next offset, not the last."""
    topic = await logs.topic(unique, 2)
    await logs.fill(topic, {0: numbered(10, 0), 1: numbered(10, 1)})
    assert await logs.log.committed(unique, topic) == {}
    first = logs.consumer([topic], unique)
    await first.start(Listener())
    assert len(await drain(first, 20)) == 20
    await first.commit({TopicPartition(topic, 0): 4})
    assert await logs.log.committed(unique, topic) == {0: 4}
    assert (await logs.log.outdated(unique, topic), await logs.log.unsigned(unique, topic)) == ({}, {})
    assert await logs.log.committed(f"{unique}-other", topic) == {}
    await first.close()
    second = logs.consumer([topic], unique)
    await second.start(Listener())
    assert in_order(await drain(second, 16)) == {
        TopicPartition(topic, 0): list(range(4, 10)),
        TopicPartition(topic, 1): list(range(10)),
    }


async def test_the_listener_says_where_to_start(logs: Logs, unique: str) -> None:
    """Its offsets win over the committed ones; a partition that it leaves out starts at the committed offset or at 0."""
    topic = await logs.topic(unique, 4)
    sources = [TopicPartition(topic, number) for number in range(4)]
    await logs.fill(topic, {number: numbered(10, number) for number in range(4)})
    first = logs.consumer([topic], unique)
    await first.start(Listener())
    await first.commit({sources[0]: 8, sources[1]: 8})
    await first.close()
    second = logs.consumer([topic], unique)
    await second.start(Listener(starts={sources[0]: 3, sources[2]: 10}))
    assert in_order(await drain(second, 7 + 2 + 10)) == {
        sources[0]: list(range(3, 10)),
        sources[1]: [8, 9],
        sources[3]: list(range(10)),
    }


async def test_seek_moves_one_partition(logs: Logs, unique: str) -> None:
    """Backwards and forwards, and records already fetched from the old place do not come."""
    topic = await logs.topic(unique, 2)
    await logs.fill(topic, {0: numbered(20, 0), 1: numbered(5, 1)})
    consumer = logs.consumer([topic], unique)
    await consumer.start(Listener())
    moved, other = TopicPartition(topic, 0), TopicPartition(topic, 1)
    before = await consumer.poll(3, 5.0)
    await consumer.seek(moved, 17)
    after = await drain(consumer, 5 + 3 - len(in_order(before).get(other, [])))
    assert in_order(after)[moved] == [17, 18, 19]
    assert in_order(before + after)[other] == list(range(5))
    await consumer.seek(moved, 2)
    assert in_order(await drain(consumer, 18)) == {moved: list(range(2, 20))}
    with pytest.raises(ValueError, match="not assigned"):
        await consumer.seek(TopicPartition(topic, 7), 0)


async def test_a_closed_consumer_is_of_no_more_use(logs: Logs, unique: str) -> None:
    topic = await logs.topic(unique, 1)
    consumer = logs.consumer([topic], unique)
    await consumer.start(Listener())
    polling = asyncio.create_task(consumer.poll(1, 30.0))
    await asyncio.sleep(0.05)
    await consumer.close()
    await consumer.close()
    assert consumer.assignment() == frozenset()
    with pytest.raises(RuntimeError):
        await polling
    with pytest.raises(RuntimeError):
        await consumer.poll(1, 0)
    with pytest.raises(RuntimeError):
        await consumer.start(Listener())
    with pytest.raises(CommitRefused):
        await consumer.commit({TopicPartition(topic, 0): 1})
