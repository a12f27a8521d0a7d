"""Looks at a real Kafka: lag, rates and ages of known traffic, topics on request, and brokers that restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import CreateAclsRequest
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.metadata import MetadataRequest
from eod_operator.kafka import Endpoint, KafkaUnreachableError, KafkaWatches, Reading, TopicRefusedError, Wanted
from eod_operator.kafka.client import KafkaReader
from eod_operator.kafka.topics import FACTS_FOR_S
from support.patience import limited, soon
from testbed.kafka import Kafka

PARTITIONS = 4
_NO_MEMBER = (-1, "", -1)
"""Generation, member and retention of a commit by somebody who is not in the group."""


_TOPIC, _GROUP, _CLUSTER = 2, 3, 4
_ALL, _CREATE = 2, 5
_LITERAL = 3
_DENY, _ALLOW = 2, 3
"""As Kafka numbers the parts of an access rule."""


class Hands:
    """What the tests do to a Kafka."""

    def __init__(self, client: AIOKafkaClient, producer: AIOKafkaProducer) -> None:
        self._client = client
        self._producer = producer

    async def produce(self, topic: str, records: int) -> None:
        """Append records, spread evenly over the partitions."""
        for number in range(records):
            await self._producer.send(topic, b"record", partition=number % PARTITIONS)
        await self._producer.flush()

    async def commit(self, group: str, topic: str, offsets: Sequence[int], metadata: str = "") -> None:
        """Commit an offset for each of the first partitions."""
        async with limited(20):
            while True:
                node = await self._coordinator(group)
                rows = [(number, offset, metadata) for number, offset in enumerate(offsets)]
                response = await self._client.send(node, OffsetCommitRequest(group, *_NO_MEMBER, [(topic, rows)]))
                if all(code == 0 for _topic, partitions in response.topics for _number, code in partitions):
                    return
                await asyncio.sleep(0.1)

    async def rule(self, permission: int, operation: int, kind: int, name: str) -> None:
        """Allow or deny something to everybody."""
        request = CreateAclsRequest(kind, name, _LITERAL, "User:ANONYMOUS", "*", operation, permission)
        response = await self._client.send(self._client.get_random_node(), request)
        assert [code for code, _message in response.creation_responses] == [0]

    async def topics(self) -> set[str]:
        """Names of all topics."""
        response = await self._client.send(self._client.get_random_node(), MetadataRequest(None))
        return {name for _code, name, *_rest in response.topics}

    async def _coordinator(self, group: str) -> int:
        while True:
            try:
                return int(await self._client.coordinator_lookup(0, group))
            except KafkaError:
                await asyncio.sleep(0.1)


@asynccontextmanager
async def using(broker: Kafka) -> AsyncIterator[Hands]:
    """Hands on a Kafka."""
    client = AIOKafkaClient(bootstrap_servers=broker.bootstrap)
    await client.bootstrap()
    try:
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
            yield Hands(client, producer)
    finally:
        await client.close()


@pytest.fixture
async def hands(kafka: Kafka) -> AsyncIterator[Hands]:
    async with using(kafka) as made:
        yield made


@pytest.fixture
def changed() -> list[str]:
    """Whom the watches have told."""
    return []


@pytest.fixture
async def watches(changed: list[str]) -> AsyncIterator[KafkaWatches]:
    """Watches that look five times a second."""
    made = KafkaWatches(fastest_s=0.2, changed=changed.append)
    yield made
    await made.close()


@pytest.fixture
async def reader(kafka: Kafka) -> AsyncIterator[KafkaReader]:
    made = KafkaReader(Endpoint(kafka.bootstrap))
    yield made
    await made.close()


@pytest.fixture
async def own_reader(own_kafka: Kafka) -> AsyncIterator[KafkaReader]:
    made = KafkaReader(Endpoint(own_kafka.bootstrap))
    yield made
    await made.close()


async def test_lag_of_a_group(kafka: Kafka, hands: Hands, watches: KafkaWatches, topic_name: str) -> None:
    """Known to the record; one that has committed nothing has everything before it, whether it exists or not."""
    kafka.create_topic(topic_name, PARTITIONS)
    await hands.produce(topic_name, 40)
    await hands.commit(f"{topic_name}-pnl", topic_name, [10, 7, 0, 4])
    wanted = {
        "pnl": Wanted((topic_name,), f"{topic_name}-pnl"),
        "archive": Wanted((topic_name,), f"{topic_name}-archive"),
        "in": Wanted((topic_name,), None),
    }
    watches.subscribe("one", Endpoint(kafka.bootstrap), wanted)
    await soon(lambda: watches.look("one").readings["pnl"].lag == (0, 3, 10, 6))
    archive = watches.look("one").readings["archive"]
    assert (archive.partitions, archive.lag, archive.problem) == (PARTITIONS, (10,) * PARTITIONS, None)
    assert watches.look("one").readings["in"].partitions == PARTITIONS
    await hands.commit(f"{topic_name}-pnl", topic_name, [10, 10, 10, 10])
    await soon(lambda: watches.look("one").readings["pnl"].lag_s == 0.0)


async def test_rates_and_age_of_known_traffic(
    kafka: Kafka, hands: Hands, watches: KafkaWatches, topic_name: str
) -> None:
    """A hundred records a second, of which the group has committed those of two seconds ago."""
    kafka.create_topic(topic_name, PARTITIONS)
    group = f"{topic_name}-pnl"
    await hands.commit(group, topic_name, [0] * PARTITIONS)
    watches.subscribe("one", Endpoint(kafka.bootstrap), {"pnl": Wanted((topic_name,), group)})
    await soon(lambda: watches.look("one").at_s)
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    for step in range(1, 61):
        await hands.produce(topic_name, 2 * PARTITIONS)
        await hands.commit(group, topic_name, [2 * max(0, step - 20)] * PARTITIONS)
        await asyncio.sleep(max(0.0, begun_s + 0.1 * step - loop.time()))
    per_s = 60 * 2 * PARTITIONS / (loop.time() - begun_s)
    reading = watches.look("one").readings["pnl"]
    assert reading.arrival_per_s == pytest.approx(per_s, rel=0.25)
    assert reading.consumed_per_s == pytest.approx(per_s * 4 / 6, rel=0.35)
    assert reading.lag_s == pytest.approx(2.0 * 80 / per_s, abs=0.8)


async def reconfigure(broker: Kafka, settings: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Restart a broker with more settings; of one that is set twice the last counts."""
    prepare = broker._prepare

    def with_settings(programs: Path) -> None:
        prepare(programs)
        with (broker.home / "server.properties").open("a") as file:
            file.write(f"\n{settings}\n")

    monkeypatch.setattr(broker, "_prepare", with_settings)
    await asyncio.to_thread(broker.restart)


@pytest.mark.slow
async def test_a_missing_topic_is_named_and_never_created(
    own_kafka: Kafka, watches: KafkaWatches, topic_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a broker that creates topics that are asked for, which is what Kafka does unless told not to."""
    await reconfigure(own_kafka, "auto.create.topics.enable=true", monkeypatch)
    async with using(own_kafka) as hands:
        watches.subscribe("one", Endpoint(own_kafka.bootstrap), {"pnl": Wanted((topic_name,), "pnl")})
        await soon(lambda: watches.look("one").readings["pnl"] == Reading(missing=(topic_name,)))
        assert await watches.retention(Endpoint(own_kafka.bootstrap), [topic_name]) == {topic_name: None}
        await asyncio.sleep(1.0)
        assert topic_name not in await hands.topics()
        await watches.create_topic(
            Endpoint(own_kafka.bootstrap), topic_name, partitions=3, replication_factor=None, retention_ms=None
        )
        await soon(lambda: watches.look("one").readings["pnl"].partitions == 3)


async def test_a_topic_is_created_as_asked_and_then_left_as_it_is(
    kafka: Kafka, watches: KafkaWatches, reader: KafkaReader, topic_name: str
) -> None:
    watches.subscribe("one", Endpoint(kafka.bootstrap), {"in": Wanted((topic_name,), None)})
    for partitions, retention_ms in ((6, 7_200_000), (9, 3_600_000)):
        await watches.create_topic(
            Endpoint(kafka.bootstrap),
            topic_name,
            partitions=partitions,
            replication_factor=1,
            retention_ms=retention_ms,
        )
        async with limited(20):  # the controller has made it before the broker knows
            while (await reader.retention([topic_name]))[topic_name] is None:  # noqa: ASYNC110 - brokers tell nobody
                await asyncio.sleep(0.1)
        assert await watches.retention(Endpoint(kafka.bootstrap), [topic_name]) == {topic_name: 7_200_000}
    await soon(lambda: watches.look("one").readings["in"].partitions == 6)


async def test_retention_is_the_brokers_unless_the_topic_has_its_own(
    kafka: Kafka, watches: KafkaWatches, unique: str
) -> None:
    kafka.create_topic(f"{unique}-week", 1)
    kafka.create_topic(f"{unique}-ever", 1, retention_ms=-1)
    asked = [f"{unique}-week", f"{unique}-ever", f"{unique}-nowhere"]
    week_ms = 7 * 24 * 3_600_000
    assert await watches.retention(Endpoint(kafka.bootstrap), asked) == dict(
        zip(asked, (week_ms, -1, None), strict=True)
    )


async def test_a_refused_topic_says_why_and_what_to_do(kafka: Kafka, watches: KafkaWatches, topic_name: str) -> None:
    with pytest.raises(TopicRefusedError) as refused:
        await watches.create_topic(
            Endpoint(kafka.bootstrap), topic_name, partitions=1, replication_factor=3, retention_ms=None
        )
    assert str(refused.value).startswith(
        f"Kafka at {kafka.bootstrap} refused to create the topic {topic_name} (InvalidReplicationFactorError: "
    )
    assert str(refused.value).endswith("ask for no more copies (replicationFactor) than there are brokers")


async def test_a_topic_made_anew_is_read_from_its_start(
    kafka: Kafka, hands: Hands, reader: KafkaReader, topic_name: str
) -> None:
    """Although where it began was asked a moment ago."""
    kafka.create_topic(topic_name, PARTITIONS)
    await hands.produce(topic_name, 40)
    assert list((await reader.read({topic_name}, {})).end[topic_name]) == [10] * PARTITIONS
    kafka.delete_topic(topic_name)
    kafka.create_topic(topic_name, 2)
    async with limited(10):
        while topic_name in (look := await reader.read({topic_name}, {})).missing:  # noqa: ASYNC110 - brokers tell nobody
            await asyncio.sleep(0.1)
    assert (look.partitions[topic_name], list(look.end[topic_name])) == (2, [0, 0])


async def test_an_added_partition_is_noticed(
    kafka: Kafka, hands: Hands, reader: KafkaReader, topic_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the time that facts are kept for."""
    assert FACTS_FOR_S <= 30
    monkeypatch.setattr("eod_operator.kafka.topics.FACTS_FOR_S", 0.0)
    kafka.create_topic(topic_name, 1)
    await hands.commit("added", topic_name, [0])
    groups = {"added": frozenset({topic_name})}
    assert (await reader.read({topic_name}, groups)).partitions == {topic_name: 1}
    await add_partitions(kafka, topic_name, 3)
    async with limited(10):
        while (look := await reader.read({topic_name}, groups)).partitions != {topic_name: 3}:  # noqa: ASYNC110 - as it is with facts that age
            await asyncio.sleep(0.1)
    assert list(look.committed["added"][topic_name]) == [0, -1, -1]


async def add_partitions(kafka: Kafka, topic: str, count: int) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, NewPartitions  # noqa: PLC0415 - the only test that needs it

    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        await admin.create_partitions({topic: NewPartitions(count)})
    finally:
        await admin.close()


async def test_many_groups_at_once_and_one_by_one_read_the_same(
    kafka: Kafka, hands: Hands, reader: KafkaReader, unique: str
) -> None:
    """Also commits with metadata, of more groups than fit into one request, and brokers older than 3.0."""
    topics = {kafka.create_topic(f"{unique}-{number}", PARTITIONS) for number in range(2)}
    groups = {f"{unique}-{number}": frozenset(topics) for number in range(120)}
    await asyncio.gather(
        *(
            hands.commit(group, topic, [number, number + 1], metadata="" if number % 3 else "by hand ✓" * 40)
            for number, group in enumerate(groups)
            for topic in topics
        )
    )
    at_once = await reader.read(topics, groups)
    assert {group: {topic: list(row) for topic, row in rows.items()} for group, rows in at_once.committed.items()} == {
        f"{unique}-{number}": {topic: [number, number + 1, -1, -1] for topic in topics} for number in range(120)
    }
    assert at_once.refused == {}
    assert reader._connection is not None
    reader._connection.groups._one_by_one = True
    one_by_one = await reader.read(topics, groups)
    assert one_by_one.committed == at_once.committed
    assert (at_once.requests < 10, one_by_one.requests > 120) == (True, True)


async def test_what_the_operator_may_not_read_fails_nothing_else(
    own_kafka: Kafka, own_reader: KafkaReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a broker that denies one topic, one group and the creation of topics."""
    everybody = "allow.everyone.if.no.acl.found=true"
    authorizer = "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer"
    await reconfigure(own_kafka, f"{everybody}\n{authorizer}", monkeypatch)
    address = own_kafka.bootstrap
    topics = {own_kafka.create_topic("open", 1), own_kafka.create_topic("closed", 1)}
    async with using(own_kafka) as hands:
        await hands.commit("good", "open", [0])
        await hands.commit("bad", "open", [0])
        await hands.rule(_ALLOW, _ALL, _CLUSTER, "kafka-cluster")
        await hands.rule(_DENY, _CREATE, _CLUSTER, "kafka-cluster")
        await hands.rule(_DENY, _ALL, _TOPIC, "closed")
        await hands.rule(_DENY, _ALL, _GROUP, "bad")
    groups = {"good": frozenset(topics), "bad": frozenset(topics)}
    async with limited(10):
        while len((look := await own_reader.read(topics, groups)).refused) + len(look.unreadable) < 2:  # noqa: ASYNC110 - rights arrive
            await asyncio.sleep(0.1)
    assert look.refused == {
        "bad": f"Kafka at {address} does not let the operator read the group bad: grant it Describe on the group"
    }
    assert look.unreadable == {
        "closed": f"Kafka at {address} does not let the operator read the topic closed: grant it Describe on the topic"
    }
    assert look.missing == frozenset()
    assert list(look.committed["good"]["open"]) == [0]
    assert await own_reader.retention(topics) == {"open": 7 * 24 * 3_600_000, "closed": None}
    with pytest.raises(TopicRefusedError, match="grant the operator Create on the topic"):
        await own_reader.create("closed", 1, 1, {})


@pytest.mark.slow
async def test_a_broker_that_restarts_is_looked_at_again(
    own_kafka: Kafka, watches: KafkaWatches, changed: list[str], topic_name: str
) -> None:
    own_kafka.create_topic(topic_name, PARTITIONS)
    async with using(own_kafka) as hands:
        await hands.produce(topic_name, 40)
        await hands.commit("pnl", topic_name, [5] * PARTITIONS)
    watches.subscribe("one", Endpoint(own_kafka.bootstrap), {"pnl": Wanted((topic_name,), "pnl")})
    await soon(lambda: watches.look("one").readings["pnl"].lag == (5,) * PARTITIONS)
    await asyncio.to_thread(own_kafka.kill)
    await soon(lambda: watches.look("one").problem)
    assert str(watches.look("one").problem).startswith(
        f"Kafka at {own_kafka.bootstrap} (spec.kafka.bootstrapServers) gave no answer within 5 s ("
    )
    assert watches.look("one").readings["pnl"].lag == (5,) * PARTITIONS
    with pytest.raises(KafkaUnreachableError):
        await watches.retention(Endpoint(own_kafka.bootstrap), [topic_name])
    changed.clear()
    await asyncio.to_thread(own_kafka.start)
    await soon(lambda: watches.look("one").problem is None)
    async with using(own_kafka) as hands:
        await hands.commit("pnl", topic_name, [10] * PARTITIONS)
    await soon(lambda: watches.look("one").readings["pnl"].lag == (0,) * PARTITIONS)
    assert "one" in changed


async def test_members_that_have_partitions_are_counted_once_the_group_is_settled(
    kafka: Kafka, watches: KafkaWatches, unique: str
) -> None:
    """Of two partitions a third member gets none; a group of which nobody has heard is in no answer."""
    topic = kafka.create_topic(unique, 2)
    endpoint, groups = Endpoint(kafka.bootstrap), [f"{unique}-one", f"{unique}-two", f"{unique}-none"]
    options: dict[str, Any] = {"bootstrap_servers": kafka.bootstrap, "group_id": groups[1], "enable_auto_commit": False}
    async with AsyncExitStack() as stack:
        assert await watches.members(endpoint, groups) == {}
        for count in (1, 2, 2):
            consumer = AIOKafkaConsumer(topic, **options, session_timeout_ms=6_000, heartbeat_interval_ms=200)
            await stack.enter_async_context(consumer)
            async with limited(20):
                while await watches.members(endpoint, groups) != {groups[1]: count}:  # noqa: ASYNC110 - brokers tell nobody
                    await asyncio.sleep(0.1)
        async with AIOKafkaConsumer(topic, **{**options, "group_id": groups[0]}), limited(20):
            while await watches.members(endpoint, groups) != {groups[0]: 1, groups[1]: 2}:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.1)
