"""A broker as Kafka ships it: what somebody asks for it makes, of one partition. Our questions make nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from eod_workers.adapters.kafka import KafkaLog
from eod_workers.ports import TopicPartition, TopicSpec, UnknownTopic
from support.members import Listener
from testbed.kafka import Kafka

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


class AsShipped(Kafka):
    """A broker that makes the topics that it is asked for."""

    def _prepare(self, programs: Path) -> None:
        super()._prepare(programs)
        with (self.home / "server.properties").open("a") as file:  # the last line of a setting counts
            file.write("\nauto.create.topics.enable=true\nnum.partitions=1\n")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with AsShipped(tmp_path_factory.mktemp("as-shipped")) as one:
        yield one


@pytest.fixture
async def log(broker: Kafka) -> AsyncIterator[KafkaLog]:
    one = KafkaLog(broker.bootstrap)
    yield one
    await one.close()


async def ask_as_others_do(broker: Kafka, *topics: str) -> None:
    """Have a client of somebody else's look at topics, which makes them, of one partition."""
    client = Producer({"bootstrap.servers": broker.bootstrap})
    for topic in topics:
        await asyncio.to_thread(client.list_topics, topic, timeout=30)


async def test_nothing_of_ours_makes_a_topic_by_looking_at_it(log: KafkaLog, unique: str) -> None:
    with pytest.raises(UnknownTopic):
        await log.partition_count(unique)
    with pytest.raises(UnknownTopic):
        await log.end_offsets(unique)
    with pytest.raises(UnknownTopic):
        await log.committed("group", unique)
    with pytest.raises(UnknownTopic):
        await anext(aiter(log.read(TopicPartition(unique, 0), 0, 1)))
    producer = await log.producer()
    with pytest.raises(UnknownTopic):
        await producer.send(unique, 0, b"")
    await producer.close()
    consumer = log.consumer([unique], "group")
    with pytest.raises(UnknownTopic):
        await consumer.start(Listener())
    await consumer.close()
    await log.ensure_topics([TopicSpec(unique, 12)])
    assert await log.partition_count(unique) == 12


async def test_topics_that_somebodys_question_has_made_are_offered_a_remedy(
    broker: Kafka, log: KafkaLog, unique: str
) -> None:
    asked, used, missing = (TopicSpec(f"{unique}-{name}", 12) for name in ("asked", "used", "missing"))
    await ask_as_others_do(broker, asked.name, used.name)
    for spec in (asked, used):
        await counted(log, spec.name, 1)
    with pytest.raises(ValueError, match=rf"{asked.name} has 1 partitions, not the 12 wanted: it has never held a"):
        await log.ensure_topics([asked, missing])
    producer = await log.producer()
    await (await producer.send(used.name, 0, b"a trade"))
    await producer.close()
    for refused in (log.ensure_topics, log.remake_empty):
        with pytest.raises(ValueError, match=f"{used.name} has 1 partitions, not the 12 wanted, and holds records"):
            await refused([asked, used, missing])
    assert await log.partition_count(asked.name) == 1, "nothing is deleted while another stays as it is"
    assert await log.remake_empty([asked, missing]) == [asked.name]
    assert [await log.partition_count(one.name) for one in (asked, missing)] == [12, 12]
    assert await log.remake_empty([asked, missing]) == [], "there is nothing left to be done"


async def counted(log: KafkaLog, topic: str, partitions: int) -> None:
    """Wait until a topic is there; it has so many partitions then."""
    for _ in range(600):
        with contextlib.suppress(UnknownTopic):
            assert await log.partition_count(topic) == partitions
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{topic} is not there")


async def test_the_command_says_how_to_mend_it_and_does(broker: Kafka, unique: str) -> None:
    names = {
        f"EOD_{stream.upper()}_TOPIC": f"{unique}-{stream}" for stream in ("trades", "prices", "sessions", "letters")
    }
    env = {**os.environ, **names, "EOD_KAFKA_BOOTSTRAP": broker.bootstrap}

    def ensure(*words: str) -> subprocess.CompletedProcess[str]:
        command = [Path(sys.executable).with_name("eod"), "topics", "ensure", *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    await ask_as_others_do(broker, f"{unique}-trades")
    refused = await asyncio.to_thread(ensure)
    assert refused.returncode == 2
    assert "'eod topics ensure --remake-empty' may make it anew" in refused.stderr
    done = await asyncio.to_thread(ensure, "--remake-empty")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"{unique}-trades: 12 partitions, made anew")
    again = await asyncio.to_thread(ensure, "--json")
    assert json.loads(again.stdout) == dict.fromkeys(names.values(), 12)
