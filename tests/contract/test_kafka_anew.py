"""Topics of Kafka that were deleted and made anew, as the adapter tells them from those that were there before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IncompatibleBrokerVersion,
    KafkaConnectionError,
    TopicAuthorizationFailedError,
)
from eod_workers.adapters import kafka_consumer
from eod_workers.adapters.kafka import KafkaLog
from eod_workers.adapters.kafka_ids import attempted, note, noted, topic_ids
from eod_workers.ports import Attempt, TopicPartition
from support.members import SESSION_TIMEOUT_S, Listener, Logs, drain, in_order, numbered
from support.patience import limited
from testbed.kafka import Kafka

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


@pytest.fixture
async def logs(kafka: Kafka) -> AsyncIterator[Logs]:
    made = Logs(KafkaLog(kafka.bootstrap, session_timeout_s=SESSION_TIMEOUT_S))
    yield made
    await made.close()


class Ids:
    """What a consumer is told of topics, in place of the broker: another id for all of them whenever a test wants."""

    def __init__(self, consumer: Any) -> None:
        self.name = "one"
        self.asked = 0
        consumer._topic_ids = self.told

    async def told(self, topics: Sequence[str]) -> dict[str, str]:
        self.asked += 1
        return dict.fromkeys(topics, self.name)


async def test_a_new_id_takes_all_partitions_from_the_listener_and_gives_them_back(
    logs: Logs, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says where to begin. What it leaves out goes on where the group has committed, else at the beginning."""
    monkeypatch.setattr(kafka_consumer, "_IDS_LOOK_S", 0.05)
    topic = await logs.topic(unique, 3)
    p0, p1, p2 = (TopicPartition(topic, number) for number in range(3))
    await logs.fill(topic, {number: numbered(10, number) for number in range(3)})
    consumer = logs.consumer([topic], unique)
    ids = Ids(consumer)

    async def commit(_partitions: frozenset[TopicPartition]) -> None:
        await consumer.commit({p0: 9, p1: 4})

    listener = Listener(on_revoked=commit)
    await consumer.start(listener)
    assert len(await drain(consumer, 30)) == 30
    before = ids.asked
    async with limited(20):
        while ids.asked <= before + 2:
            assert await consumer.poll(1, 0.05) == []
    assert listener.events == [("assigned", frozenset({p0, p1, p2}))], "the ids are the same"
    listener.starts, ids.name = {p0: 7}, "another"
    again = in_order(await drain(consumer, 19))
    assert again == {p0: [7, 8, 9], p1: list(range(4, 10)), p2: list(range(10))}
    everything = frozenset({p0, p1, p2})
    assert listener.events == [("assigned", everything), ("revoked", everything), ("assigned", everything)]
    assert await consumer.poll(1, 0.3) == []


@pytest.mark.parametrize("error", [KafkaConnectionError("away"), GroupAuthorizationFailedError()], ids=repr)
async def test_partitions_are_given_back_once_the_broker_answers(
    logs: Logs, unique: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Where to go on is asked again, not given up: a stage would be without partitions until it is started anew."""
    monkeypatch.setattr(kafka_consumer, "_IDS_LOOK_S", 0.05)
    monkeypatch.setattr(kafka_consumer, "_RETRY_S", 0.05)
    topic = await logs.topic(unique, 1)
    await logs.fill(topic, {0: numbered(10)})
    consumer = logs.consumer([topic], unique)
    ids = Ids(consumer)
    await consumer.start(Listener())
    await drain(consumer, 10)
    await consumer.commit({TopicPartition(topic, 0): 6})
    committed, refused = consumer._kafka.committed, iter([error] * 3)

    async def asked(partition: KafkaPartition) -> int | None:
        for failure in refused:
            raise failure
        return await committed(partition)

    monkeypatch.setattr(consumer._kafka, "committed", asked)
    ids.name = "another"
    assert in_order(await drain(consumer, 4)) == {TopicPartition(topic, 0): [6, 7, 8, 9]}
    assert next(refused, None) is None, "it was asked again"


async def test_a_consumer_that_waits_for_an_answer_can_be_closed(
    logs: Logs, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_consumer, "_IDS_LOOK_S", 0.05)
    topic = await logs.topic(unique, 1)
    consumer = logs.consumer([topic], unique)
    ids = Ids(consumer)
    await consumer.start(Listener())
    asked = asyncio.Event()

    async def away(_partition: KafkaPartition) -> int | None:
        asked.set()
        raise KafkaConnectionError("away")

    monkeypatch.setattr(consumer._kafka, "committed", away)
    ids.name = "another"
    async with limited(20):
        while not asked.is_set():
            assert await consumer.poll(1, 0.05) == []
        await consumer.close()


async def test_what_was_committed_of_an_earlier_topic_is_outdated(kafka: Kafka, logs: Logs, unique: str) -> None:
    """A commit says which topic it is of. One that does not is taken for this one's: tools and earlier releases."""
    topic = await logs.topic(unique, 4)
    await logs.fill(topic, {number: numbered(10, number) for number in range(4)})
    consumer = logs.consumer([topic], unique)
    await consumer.start(Listener())
    await drain(consumer, 40)
    await consumer.commit({TopicPartition(topic, 0): 3})
    await consumer.close()
    assert (await logs.log.committed(unique, topic), await logs.log.outdated(unique, topic)) == ({0: 3}, {})
    own = (await logs.log.topic_ids([topic]))[topic]
    options = {"group_id": unique, "bootstrap_servers": kafka.bootstrap, "enable_auto_commit": False}
    async with AIOKafkaConsumer(topic, **options) as other:
        await other.getmany(timeout_ms=0)
        notes = {1: "eod topic id another", 2: "somebody's note", 3: f"eod topic id {own}"}
        await other.commit({KafkaPartition(topic, number): (number, note) for number, note in notes.items()})
    assert await logs.log.committed(unique, topic) == {0: 3, 2: 2, 3: 3}
    assert await logs.log.unsigned(unique, topic) == {2: 2}
    assert await logs.log.outdated(unique, topic) == {1: 1}


@pytest.mark.parametrize("topic_id", ["", "k6Cu_1UhQ7-RsVVTQk9m1g"])
@pytest.mark.parametrize("attempt", [None, Attempt(0, None, 1), Attempt(5, 6, 3), Attempt(10**18, 10**18 + 1, 0)])
def test_what_a_commit_says_is_read_as_it_was_meant(topic_id: str, attempt: Attempt | None) -> None:
    said = note(topic_id, attempt)
    assert (noted(said), attempted(said)) == (topic_id, attempt)


@pytest.mark.parametrize("text", ["", "somebody's note", "eod trying x", "eod topic id a b", "eod trying 1:2 times"])
def test_what_others_say_beside_a_commit_is_theirs(text: str) -> None:
    assert (noted(text), attempted(text)) == ("", None)


class OldBroker:
    """An admin client of a broker that knows no ids, or has something against the question."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def _send_request(self, _request: Any) -> Any:
        raise self.error


@pytest.mark.parametrize("error", [NotImplementedError(), IncompatibleBrokerVersion()], ids=repr)
async def test_a_broker_that_is_too_old_has_none(error: Exception) -> None:
    assert await topic_ids(OldBroker(error), ["a", "b"]) == {"a": "", "b": ""}


async def test_other_errors_are_no_lack_of_ids() -> None:
    with pytest.raises(TopicAuthorizationFailedError):
        await topic_ids(OldBroker(TopicAuthorizationFailedError()), ["a"])
