"""Two brokers, one of them away: the partitions that it alone has wait, and nothing else does."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from aiokafka.protocol.metadata import MetadataRequest
from eod_workers.adapters.kafka import KafkaLog
from eod_workers.ports import Appended, CommitRefused, Consumer, Record, TopicPartition, TopicSpec, Unavailable
from support.members import Listener, Logs, drain
from support.patience import limited, soon
from testbed.kafka import Kafka
from testbed.kafka_peer import NODE_ID, KafkaPeer

pytestmark = pytest.mark.timeout(120)
STALL_TIMEOUT_S = 0.5
MOST_ASKS_A_SECOND = 12
OFFSETS_PARTITIONS = 4
"""Of `testbed.kafka`'s brokers (offsets.topic.num.partitions)."""


@pytest.fixture(scope="module")
def first(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker of this module's own, which keeps the offsets of all groups."""
    del kafka  # asked for so that this machine's lack of a Kafka is told in one place
    with Kafka(tmp_path_factory.mktemp("first")) as one:
        yield one
    one.discard()


@pytest.fixture(scope="module")
def peer(first: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaPeer]:
    """A second one in its cluster, which tests stop."""
    with KafkaPeer(tmp_path_factory.mktemp("peer"), first) as one:
        yield one
    one.discard()


@pytest.fixture
async def logs(first: Kafka, peer: KafkaPeer) -> AsyncIterator[Logs]:
    """A log that both are up for."""
    if not peer.alive:
        await asyncio.to_thread(peer.start)
    made = Logs(
        KafkaLog(first.bootstrap, session_timeout_s=1.5, stall_timeout_s=STALL_TIMEOUT_S, request_timeout_s=5.0)
    )
    yield made
    await made.close()


async def make(first: Kafka, logs: Logs, name: str, *nodes: int) -> None:
    """A topic with a partition on each of these brokers."""
    admin = AIOKafkaAdminClient(bootstrap_servers=first.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, -1, -1, {number: [node] for number, node in enumerate(nodes)})])
    finally:
        await admin.close()
    await until_led(logs, name)


async def topic_of_both(first: Kafka, logs: Logs, name: str) -> tuple[TopicPartition, TopicPartition]:
    """A topic with a partition on the first broker and one on its peer; each holds a record."""
    await make(first, logs, name, 1, NODE_ID)
    await logs.fill(name, {0: [b"led"], 1: [b"waits"]})
    return TopicPartition(name, 0), TopicPartition(name, 1)


async def leaderless(logs: Logs, topic: str) -> tuple[int, ...]:
    """The partitions of a topic that nobody leads, as a look at the cluster says."""
    assert isinstance(logs.log, KafkaLog)
    try:
        (seen,) = (await logs.log.look([topic])).topics
    except Unavailable:  # the broker goes in the midst of an answer
        return (-1,)
    return seen.leaderless if seen.partitions else (-1,)


async def until_led(logs: Logs, topic: str) -> None:
    async with limited(30):
        while await leaderless(logs, topic):  # noqa: ASYNC110 - a broker tells nobody
            await asyncio.sleep(0.05)


async def stop(peer: KafkaPeer, logs: Logs, topic: str) -> None:
    """Stop the peer, and wait until the cluster says what that means."""
    await asyncio.to_thread(peer.stop)
    async with limited(30):
        while await leaderless(logs, topic) != (1,):  # noqa: ASYNC110 - a broker tells nobody
            await asyncio.sleep(0.05)


async def test_offsets_and_records_are_told_of_partitions_that_somebody_leads(
    logs: Logs, first: Kafka, peer: KafkaPeer, unique: str
) -> None:
    """Of the others it is said at once that nobody does, and not after a limit of time that something took too long."""
    led, waits = await topic_of_both(first, logs, unique)
    log = logs.log
    await stop(peer, logs, unique)
    assert await log.partition_count(unique) == 2
    assert await log.start_offsets(unique, partitions=[0]) == {0: 0}
    assert await log.start_offsets(unique, 0, [0]) == {0: 0}
    assert await log.end_offsets(unique, [0]) == {0: 1}
    assert [record.value async for record in log.read(led, 0, 9)] == [b"led"]
    told = rf"^nobody leads {unique}\[1\]: a broker that has it must come back \('kafka-topics --describe"
    with pytest.raises(Unavailable, match=told):
        await log.start_offsets(unique)
    with pytest.raises(Unavailable, match=told):
        await log.end_offsets(unique, [1])
    with pytest.raises(Unavailable, match=told):
        await anext(aiter(log.read(waits, 0, 9)))
    await asyncio.to_thread(peer.start)
    assert await log.end_offsets(unique) == {0: 1, 1: 1}
    assert [record.value async for record in log.read(waits, 0, 9)] == [b"waits"]


async def test_what_any_broker_can_answer_is_asked_of_one_that_is_up(
    logs: Logs, first: Kafka, peer: KafkaPeer, unique: str
) -> None:
    """Though what is known of the cluster still names both."""
    await make(first, logs, unique, 1)
    assert isinstance(logs.log, KafkaLog)
    admin = await logs.log._connected_admin()
    admin._client.cluster.update_metadata = lambda _metadata: None
    await asyncio.to_thread(peer.stop)
    for _ in range(12):
        assert await logs.log.partition_count(unique) == 1
        assert set(await logs.log.topic_ids([unique])) == {unique}


async def test_a_topic_that_was_ensured_or_remade_is_known_to_whichever_broker_is_asked(
    logs: Logs, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker hears of a topic, and of its end, a moment after the one that makes it and says till then what it knew."""
    asked, deleted = AIOKafkaAdminClient._send_request, AIOKafkaAdminClient.delete_topics
    known = [(UnknownTopicOrPartitionError.errno, unique, False, [])]
    late = [known] * 5

    async def ask(admin: Any, request: Any, node_id: int | None = None) -> Any:
        nonlocal known
        answer = await asked(admin, request, node_id)
        if node_id == NODE_ID and request.API_KEY == MetadataRequest.API_KEY and answer.topics:
            answer.topics = late.pop() if late else answer.topics
            known = answer.topics
        return answer

    async def delete(admin: Any, topics: list[str]) -> Any:
        late.extend([known] * 5)
        return await deleted(admin, topics)

    monkeypatch.setattr(AIOKafkaAdminClient, "_send_request", ask)
    monkeypatch.setattr(AIOKafkaAdminClient, "delete_topics", delete)
    assert isinstance(logs.log, KafkaLog)
    await logs.log.ensure_topics([TopicSpec(unique, 2)])
    assert (late, {await logs.log.partition_count(unique) for _ in range(20)}) == ([], {2})
    assert await logs.log.remake_empty([TopicSpec(unique, 3)]) == [unique]
    assert (late, {await logs.log.partition_count(unique) for _ in range(20)}) == ([], {3})


@pytest.mark.parametrize("starts", ["committed", "said by the listener"])
async def test_a_member_reads_and_commits_what_somebody_leads_and_the_rest_when_somebody_does(
    logs: Logs, first: Kafka, peer: KafkaPeer, unique: str, starts: str
) -> None:
    """The watchdog finds nothing stuck meanwhile."""
    led, waits = await topic_of_both(first, logs, unique)
    await stop(peer, logs, unique)
    consumer = logs.consumer([unique], unique)
    await consumer.start(Listener({led: 0, waits: 0} if starts != "committed" else {}))
    assert [record.value for record in await drain(consumer, 1)] == [b"led"]
    await consumer.commit({led: 1})
    assert consumer.leaderless() == {waits}
    assert await read_for(consumer, 6 * STALL_TIMEOUT_S) == []
    await logs.fill(unique, {0: [b"later"]})
    assert [record.value for record in await drain(consumer, 1)] == [b"later"]
    await asyncio.to_thread(peer.start)
    assert [record.value for record in await drain(consumer, 1)] == [b"waits"]
    await consumer.commit({led: 2, waits: 1})
    assert consumer.leaderless() == frozenset()
    assert await logs.log.committed(unique, unique) == {0: 2, 1: 1}


async def read_for(consumer: Consumer, seconds: float) -> list[Record]:
    until, found = time.monotonic() + seconds, []
    while time.monotonic() < until:
        found += await consumer.poll(10, 0.1)
    return found


async def test_a_group_that_nobody_coordinates_waits_and_says_so_and_other_groups_go_on(
    logs: Logs, first: Kafka, peer: KafkaPeer, unique: str
) -> None:
    """Its offsets are in a partition of __consumer_offsets that nobody leads: it cannot commit, and not be joined."""
    topic = unique
    await make(first, logs, topic, 1)
    await logs.fill(topic, {0: [b"before"]})
    here, away = group_in(1, unique), group_in(0, unique)
    await until_coordinated(first, here, 1)  # there are offsets' partitions now
    await asyncio.to_thread(peer.give, "__consumer_offsets", 0, NODE_ID)
    try:
        await until_coordinated(first, away, NODE_ID)
        goes_on, waits, joins = (logs.consumer([topic], group) for group in (here, away, away))
        for member in (goes_on, waits):
            await member.start(Listener())
            assert [record.value for record in await drain(member, 1)] == [b"before"]
        await asyncio.to_thread(peer.stop)
        told = "nobody coordinates the group now, for the partition of __consumer_offsets"
        with pytest.raises(Unavailable, match=f"^committing for group {away}: {told}"):
            await waits.commit({TopicPartition(topic, 0): 1})
        with pytest.raises(Unavailable, match=f"^looking for who coordinates group {away}: {told}"):
            await joins.start(Listener())
        with pytest.raises(Unavailable, match=f"^asking for the offsets of group {away}: {told}"):
            await logs.log.committed(away, topic)
        with pytest.raises(Unavailable, match=f"^looking for who coordinates group {away}: {told}"):
            await read_for(waits, 60)
        await logs.fill(topic, {0: [b"later"]})
        assert [record.value for record in await drain(goes_on, 1)] == [b"later"]
        await goes_on.commit({TopicPartition(topic, 0): 2})
        await asyncio.to_thread(peer.start)
        committed: dict[int, int] = {}
        async with limited(60):
            while committed != {0: 1}:
                with contextlib.suppress(Unavailable, CommitRefused):
                    await waits.poll(10, 0.1)
                    await waits.commit({TopicPartition(topic, 0): 1})
                    committed = await logs.log.committed(away, topic)
    finally:
        await asyncio.to_thread(peer.start)
        await asyncio.to_thread(peer.give, "__consumer_offsets", 0, 1)
        await until_coordinated(first, away, 1)


def group_in(partition: int, unique: str) -> str:
    """A group whose offsets are in a partition of __consumer_offsets, by the hash of Java's strings (GroupCoordinator)."""
    for number in range(1_000):
        hashed = 0
        for character in (name := f"{unique}-{number}"):
            hashed = (31 * hashed + ord(character)) & 0xFFFF_FFFF
        if (hashed & 0x7FFF_FFFF) % OFFSETS_PARTITIONS == partition:
            return name
    raise AssertionError(f"no name that begins with {unique}")


async def until_coordinated(first: Kafka, group: str, node: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=first.bootstrap)
    await admin.start()
    try:
        async with limited(30):
            while True:
                with contextlib.suppress(KafkaError):
                    if await admin.find_coordinator(group) == node:
                        return
                await asyncio.sleep(0.1)
    finally:
        await admin.close()


async def test_what_was_sent_to_a_partition_that_nobody_leads_waits_for_it_and_the_rest_passes(
    logs: Logs, first: Kafka, peer: KafkaPeer, unique: str
) -> None:
    """However long it takes: aiokafka would give it up, which spends a producer, and all that it holds for others."""
    led, waits = await topic_of_both(first, logs, unique)
    producer: Any = await logs.log.producer()
    producer._producer._message_accumulator._batch_ttl = 0.05
    await stop(peer, logs, unique)
    waiting = [await producer.send(*waits, b"before it is known")]
    await soon(lambda: producer.leaderless() == {waits}, "the producer knows that nobody leads it")
    asks_a_second = await asked_while(producer._producer.client, asyncio.sleep(1.0))
    waiting += [await producer.send(*waits, secrets.token_bytes(1_000_000)) for _ in range(4)]
    for number in range(3):
        assert await (await producer.send(*led, b"%d" % number)) == Appended(*led, 1 + number)
    assert not any(one.done() for one in waiting)
    await asyncio.to_thread(peer.start)
    async with limited(30):
        assert [await one for one in waiting] == [Appended(*waits, 1 + number) for number in range(5)]
    assert producer.leaderless() == frozenset()
    await producer.close()
    assert asks_a_second <= MOST_ASKS_A_SECOND, "a broker is not asked as fast as it answers"


async def asked_while(client: Any, doing: Awaitable[object]) -> float:
    """How often a second a client asks what there is in the cluster, while something is done."""
    ask, asks = client._metadata_update, 0

    async def counted(*args: Any) -> Any:
        nonlocal asks
        asks += 1
        return await ask(*args)

    client._metadata_update = counted
    begun = time.monotonic()
    await doing
    client._metadata_update = ask
    return asks / (time.monotonic() - begun)


async def test_a_member_does_not_ask_for_a_leader_as_fast_as_it_is_answered(
    logs: Logs, first: Kafka, peer: KafkaPeer, unique: str
) -> None:
    """It would take a whole core, of the broker's as well, for as long as nobody leads what it has."""
    await topic_of_both(first, logs, unique)
    await stop(peer, logs, unique)
    members: list[Any] = [logs.consumer([unique], unique) for _ in range(2)]
    for member in members:
        await member.start(Listener())
    await soon(lambda: [len(member.assignment()) for member in members] == [1, 1], "each has a partition")
    (consumer,) = (member for member in members if member.leaderless())
    assert await asked_while(consumer._kafka._client, read_for(consumer, 1.0)) <= MOST_ASKS_A_SECOND
