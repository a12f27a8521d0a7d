"""What the Kafka log does when the broker is away, when aiokafka stalls, and when a record is very large."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition as KafkaPartition
from eod_workers.adapters import kafka_consumer, kafka_limits
from eod_workers.adapters.kafka import KafkaLog
from eod_workers.adapters.kafka_producer import MAX_RECORD_BYTES
from eod_workers.ports import CommitRefused, RecordTooLarge, TopicPartition, TopicSpec, Unavailable
from support.kafka_settings import set_on_topic
from support.members import Listener, Logs, Worker, drain, in_order
from support.patience import limited, soon
from testbed.kafka import Kafka

REQUEST_TIMEOUT_S = 2.0
STALL_TIMEOUT_S = 0.5


@pytest.fixture(scope="module")
def broker(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker of this module's own, which its tests may stop."""
    del kafka  # asked for so that this machine's lack of a Kafka is told in one place
    with Kafka(tmp_path_factory.mktemp("own-kafka")) as own:
        yield own
    own.discard()


@pytest.fixture
async def logs(broker: Kafka) -> AsyncIterator[Logs]:
    """A log with short limits and little room, on a running broker."""
    async for one in _on(broker, STALL_TIMEOUT_S):
        yield one


@pytest.fixture
async def patient_logs(broker: Kafka) -> AsyncIterator[Logs]:
    """The same, whose consumers wait for a broker that has just come back as long as those of workers do."""
    async for one in _on(broker, 30.0):
        yield one


async def _on(broker: Kafka, stall_timeout_s: float) -> AsyncIterator[Logs]:
    if not broker.alive:
        await asyncio.to_thread(broker.start)
    logs = Logs(
        KafkaLog(
            broker.bootstrap,
            max_in_flight_bytes=4_000,
            session_timeout_s=1.5,
            stall_timeout_s=stall_timeout_s,
            request_timeout_s=REQUEST_TIMEOUT_S,
        )
    )
    yield logs
    await logs.close()


async def unread(logs: Logs, topic: str) -> list[bytes]:
    return [record.value async for record in logs.log.read(TopicPartition(topic, 0), 0, 1_000_000)]


# --- a broker that is away ------------------------------------------------------------------------


async def test_without_a_broker_every_call_is_unavailable_until_it_is_back(
    patient_logs: Logs, broker: Kafka, unique: str
) -> None:
    """Within the limit of a request; nothing is spoilt: the same log and the same consumer work afterwards."""
    logs = patient_logs
    topic = await logs.topic(unique, 1)
    await logs.fill(topic, {0: [b"waits"]})
    consumer = logs.consumer([topic], unique)
    await asyncio.to_thread(broker.kill)
    async with limited(7 * (REQUEST_TIMEOUT_S + 1)):
        with pytest.raises(Unavailable):
            await logs.log.ensure_topics([TopicSpec(unique, 1)])
        with pytest.raises(Unavailable):
            await logs.log.partition_count(unique)
        with pytest.raises(Unavailable):
            await logs.log.producer()
        with pytest.raises(Unavailable):
            await consumer.start(Listener())
        with pytest.raises(Unavailable):
            await logs.log.end_offsets(unique)
        with pytest.raises(Unavailable):
            await logs.log.committed(unique, unique)
        with pytest.raises(Unavailable):
            await anext(aiter(logs.log.read(TopicPartition(unique, 0), 0, 1)))
    await asyncio.to_thread(broker.start)
    assert await logs.log.end_offsets(topic) == {0: 1}
    await consumer.start(Listener())
    assert [record.value for record in await drain(consumer, 1)] == [b"waits"]


async def test_an_outage_loses_reorders_and_doubles_nothing(logs: Logs, broker: Kafka, unique: str) -> None:
    """Killed under load: `send` waits at the limit, and after the restart every record is there once, in order."""
    topic = await logs.topic(unique, 1)
    producer = await logs.log.producer()
    sent = []

    async def produce() -> None:
        for number in range(1_000):
            sent.append(await producer.send(topic, 0, b"%05d" % number))
            if number % 10 == 0:
                await asyncio.sleep(0.001)

    producing = asyncio.create_task(produce())
    await soon(lambda: len(sent) > 100, "production is under way")
    await asyncio.to_thread(broker.kill)
    await asyncio.sleep(0.5)
    waiting_at = len(sent)
    assert not producing.done()
    await asyncio.sleep(0.3)
    assert len(sent) == waiting_at, "4,000 bytes in flight are the limit"
    with pytest.raises(Unavailable):
        await logs.log.end_offsets(topic)
    await asyncio.to_thread(broker.start)
    await producing
    appended = [await acknowledged for acknowledged in sent]
    await producer.close()
    assert [a.offset for a in appended] == list(range(1_000))
    assert await unread(logs, topic) == [b"%05d" % number for number in range(1_000)]


async def test_a_consumer_lives_through_a_restart(logs: Logs, broker: Kafka, unique: str) -> None:
    """A commit during the outage is Unavailable or refused; afterwards reading goes on from the last commit."""
    topic = await logs.topic(unique, 2)
    source = TopicPartition(topic, 0)
    await logs.fill(topic, {0: [b"%d" % n for n in range(10)]})
    consumer = logs.consumer([topic], unique)
    listener = Listener()
    await consumer.start(listener)
    assert len(await drain(consumer, 10)) == 10
    await consumer.commit({source: 6})
    await asyncio.to_thread(broker.kill)
    with pytest.raises((Unavailable, CommitRefused)):
        await consumer.commit({source: 10})
    await asyncio.to_thread(broker.start)
    await logs.fill(topic, {0: [b"%d" % n for n in range(10, 20)]})
    offsets: set[int] = set()
    async with limited(30):
        while not offsets >= set(range(10, 20)):
            with contextlib.suppress(Unavailable):
                offsets.update(record.offset for record in await consumer.poll(100, 0.5))
    assert offsets <= set(range(6, 20))
    async with limited(30):
        while await logs.log.committed(unique, topic) != {0: 20}:
            # The broker may have forgotten this member in the outage: it joins again behind the next poll.
            with contextlib.suppress(Unavailable, CommitRefused):
                await consumer.commit({source: 20})
            with contextlib.suppress(Unavailable):
                await consumer.poll(100, 0.5)


async def test_closing_a_producer_without_a_broker_fails_what_is_in_flight(
    logs: Logs, broker: Kafka, unique: str
) -> None:
    """It returns within the limits, and whoever holds a future learns that its record may be lost."""
    topic = await logs.topic(unique, 1)
    producer = await logs.log.producer()
    await (await producer.send(topic, 0, b"there"))
    await asyncio.to_thread(broker.kill)
    sent = [await producer.send(topic, 0, b"in flight") for _ in range(3)]
    async with limited(3 * REQUEST_TIMEOUT_S):
        await producer.close()
    for acknowledged in sent:
        assert isinstance(acknowledged.exception(), Unavailable)
    with pytest.raises(RuntimeError):
        await producer.send(topic, 0, b"too late")


# --- consumers that do not move -------------------------------------------------------------------


async def test_a_consumer_that_stopped_by_itself_is_found_out(logs: Logs, unique: str) -> None:
    """With its fetcher dead and records waiting, `poll` raises; another consumer reads them."""
    topic = await logs.topic(unique, 2)
    consumer = logs.consumer([topic], unique)
    await consumer.start(Listener())
    consumer._kafka._fetcher._fetch_task.cancel()  # type: ignore[attr-defined]
    await asyncio.sleep(0.3)  # the request under way ends without records
    await logs.fill(topic, {1: [b"waits"]})
    with pytest.raises(Unavailable, match=f"{topic}-1: 1"):
        await drain(consumer, 1)
    await consumer.close()
    another = logs.consumer([topic], unique)
    await another.start(Listener())
    assert [record.value for record in await drain(another, 1)] == [b"waits"]


async def test_a_record_that_comes_in_the_moment_of_the_look_is_not_one_that_waits(logs: Logs, unique: str) -> None:
    """The first trade after a long silence must not end the stage that is about to read it."""
    topic = await logs.topic(unique, 1)
    consumer = logs.consumer([topic], unique)
    await consumer.start(Listener())
    end_offsets = consumer._end_offsets  # type: ignore[attr-defined]
    looks = []

    async def just_after_a_record(name: str, partitions: list[int]) -> dict[int, int]:
        if not looks:
            await logs.fill(topic, {0: [b"comes"]})
        looks.append(await end_offsets(name, partitions))
        return dict(looks[-1])

    consumer._end_offsets = just_after_a_record  # type: ignore[attr-defined]
    assert [record.value for record in await drain(consumer, 1)] == [b"comes"]
    assert looks[0] == {0: 1}


async def test_a_consumer_with_nothing_to_read_is_left_in_peace(logs: Logs, unique: str) -> None:
    """The watchdog looks several times and finds no lag, at the end of the log and without any partition."""
    topic = await logs.topic(unique, 1)
    await logs.fill(topic, {0: [b"only"]})
    members = [logs.consumer([topic], unique) for _ in range(2)]
    for member in members:
        await member.start(Listener())
    begun = time.monotonic()
    values = []
    while time.monotonic() - begun < 4 * STALL_TIMEOUT_S:
        for member in members:
            values += [record.value for record in await member.poll(10, 0.1)]
    assert set(values) <= {b"only"}


async def test_a_hung_stage_loses_its_partitions_to_others(
    logs: Logs, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who does not poll for the maximal interval is replaced, even if earlier polls were cancelled in the middle."""
    monkeypatch.setattr(kafka_consumer, "_MAX_POLL_INTERVAL_MS", 1_000)
    topic = await logs.topic(unique, 2)
    hung = logs.consumer([topic], unique)
    everything = frozenset(TopicPartition(topic, number) for number in range(2))
    await hung.start(Listener())
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(hung.poll(10, 5.0), 0.05)
    worker = await Worker(logs.consumer([topic], unique)).start()
    await soon(lambda: worker.consumer.assignment() == everything, "the other one owns both")
    with pytest.raises((CommitRefused, Unavailable)):
        await hung.commit(dict.fromkeys(everything, 1))
    await worker.stop()


async def test_a_stage_that_takes_longer_than_the_maximal_interval_to_let_go_is_let_in_again(
    logs: Logs, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a store that is slow. It polls all the while, and whoever polls belongs to the group."""
    monkeypatch.setattr(kafka_consumer, "_MAX_POLL_INTERVAL_MS", 1_000)
    topic = await logs.topic(unique, 2)
    slow, listener = logs.consumer([topic], unique), Listener()
    await slow.start(listener)

    async def work() -> None:
        while True:
            await slow.poll(10, 0.1)

    working = asyncio.create_task(work())
    listener.may_revoke.clear()
    other = Worker(logs.consumer([topic], unique))
    joining = asyncio.create_task(other.start())
    await soon(lambda: any(event == "revoked" for event, _ in listener.events), "it is asked to let go")
    await asyncio.sleep(1.5)  # longer than the interval, which is what this is about
    listener.may_revoke.set()
    await joining
    await soon(lambda: [len(one.assignment()) for one in (slow, other.consumer)] == [1, 1], "each owns one")
    await other.stop()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


@pytest.mark.parametrize("timeout_s", [0.0296, 0.0304], ids=["our deadline comes first", "aiokafka's comes first"])
async def test_a_poll_that_finds_nothing_is_a_poll(logs: Logs, unique: str, timeout_s: float) -> None:
    """A quiet stage is not taken for a hung one. aiokafka counts in milliseconds: one of both deadlines comes first."""
    topic = await logs.topic(unique, 1)
    quiet = logs.consumer([topic], unique)
    await quiet.start(Listener())
    polls = quiet._kafka._subscription
    for _ in range(20):
        before = time.monotonic()
        assert await quiet.poll(10, timeout_s) == []
        assert polls._fetch_count == 0
        assert polls._last_fetch_ended >= before


# --- records that are large, or gone --------------------------------------------------------------


async def test_large_records_pass_and_larger_ones_are_refused(logs: Logs, unique: str) -> None:
    """Up to the limit that topics are made with, incompressible, and through a consumer as well."""
    topic = await logs.topic(unique, 1)
    large = secrets.token_bytes(MAX_RECORD_BYTES - 1_000)
    producer = await logs.log.producer()
    for _ in range(2):
        await (await producer.send(topic, 0, large))
    with pytest.raises(RecordTooLarge, match=rf"topic {topic} takes, .*: raise its max.message.bytes"):
        await producer.send(topic, 0, b"x" * (MAX_RECORD_BYTES + 1))
    await (await producer.send(topic, 0, b"still of use"))
    await producer.close()
    consumer = logs.consumer([topic], unique)
    await consumer.start(Listener())
    assert [record.value for record in await drain(consumer, 3)] == [large, large, b"still of use"]
    assert await unread(logs, topic) == [large, large, b"still of use"]


async def test_topics_are_not_made_while_the_cluster_has_no_controller(
    logs: Logs, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a moment after a failure; aiokafka takes a controller for granted."""
    describe = AIOKafkaAdminClient.describe_cluster

    async def without_controller(self: AIOKafkaAdminClient) -> dict[str, Any]:
        return {**await describe(self), "controller_id": -1}

    with monkeypatch.context() as patch:
        patch.setattr(AIOKafkaAdminClient, "describe_cluster", without_controller)
        with pytest.raises(Unavailable, match=r"creating topics: .*no controller"):
            await logs.log.ensure_topics([TopicSpec(unique, 1)])
    await logs.log.ensure_topics([TopicSpec(unique, 1)])
    assert await logs.log.partition_count(unique) == 1


async def test_records_that_retention_deleted_are_left_out(logs: Logs, broker: Kafka, unique: str) -> None:
    """A read, and a group that has committed nothing, begin with the oldest record there is."""
    topic = await logs.topic(unique, 1)
    source = TopicPartition(topic, 0)
    await logs.fill(topic, {0: [b"%d" % n for n in range(10)]})
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    await admin.delete_records({KafkaPartition(*source): RecordsToDelete(before_offset=6)})
    await admin.close()
    assert [record.offset async for record in logs.log.read(source, 0, 9)] == [6, 7, 8]
    assert [record.offset async for record in logs.log.read(source, 0, 5)] == []
    assert await logs.log.start_offsets(topic) == await logs.log.start_offsets(topic, 0) == {0: 6}
    consumer = logs.consumer([topic], unique)
    await consumer.start(Listener())
    assert in_order(await drain(consumer, 4)) == {source: [6, 7, 8, 9]}


async def test_what_a_topic_takes_is_asked_for_and_batches_are_no_larger(
    broker: Kafka, logs: Logs, unique: str
) -> None:
    """Of records that are sent at once, incompressible; one that fits no batch spoils nothing."""
    topic = await logs.topic(unique, 1)
    await set_on_topic(broker.bootstrap, topic, max_message_bytes="50000")
    sizes = (20_000, 30_000, 49_700, 1, *[15_000] * 100)  # so many that they come together while one is under way
    values = [secrets.token_bytes(size) for size in sizes]
    roomy = KafkaLog(broker.bootstrap)
    producer = await roomy.producer()
    sent = [await producer.send(topic, 0, value) for value in values]
    with pytest.raises(RecordTooLarge, match=r"50,001 bytes is more than topic .* takes, 49,744") as refused:
        await producer.send(topic, 0, secrets.token_bytes(50_000), key=b"k")
    assert refused.value.limit == 49_744
    await asyncio.gather(*sent)
    await producer.close()
    await roomy.close()
    assert await unread(logs, topic) == values


async def test_who_may_not_ask_learns_from_what_is_refused(
    broker: Kafka, logs: Logs, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each refusal costs a producer; the next one sends half as much."""
    topic = await logs.topic(unique, 1)
    await set_on_topic(broker.bootstrap, topic, max_message_bytes="300000")
    monkeypatch.setattr(kafka_limits, "_said", lambda _answer, _topic: None)
    value, attempts = secrets.token_bytes(1_000_000), 0
    whole = value
    while True:
        attempts += 1
        producer = await logs.log.producer()
        try:
            await (await producer.send(topic, 0, value))
        except RecordTooLarge as error:
            value = value[: error.limit]
        except Unavailable:
            pass
        else:
            break
        finally:
            await producer.close()
    assert attempts < 12
    assert await unread(logs, topic) == [whole[: len(value)]]
    assert len(value) > 100_000
