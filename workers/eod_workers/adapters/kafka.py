"""The log on a Kafka cluster: topics, offsets and reading outside a group; producers and consumers have own modules."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import (
    BrokerNotAvailableError,
    GroupCoordinatorNotAvailableError,
    InvalidTopicError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)

from eod_workers.adapters.kafka_access import KafkaAccess
from eod_workers.adapters.kafka_admin import AnyBrokerAdmin
from eod_workers.adapters.kafka_consumer import KafkaConsumer, record_of, stop_consumer
from eod_workers.adapters.kafka_errors import translated
from eod_workers.adapters.kafka_ids import attempted, noted, topic_ids
from eod_workers.adapters.kafka_join import await_beat, has_members
from eod_workers.adapters.kafka_limits import KafkaBatchLimits
from eod_workers.adapters.kafka_look import KafkaSeen, look
from eod_workers.adapters.kafka_producer import MAX_RECORD_BYTES, start_producer
from eod_workers.adapters.kafka_reader import first_offsets
from eod_workers.adapters.kafka_security import KafkaSecurity
from eod_workers.ports import (
    Attempt,
    Consumer,
    Producer,
    Record,
    TopicPartition,
    TopicSpec,
    Unavailable,
    UnknownTopic,
    are_two,
    nobody_leads,
)

PLAINTEXT = KafkaSecurity()
DEFAULT_MAX_IN_FLIGHT_BYTES = 32 * 1024 * 1024
_AS_THE_BROKER_SAYS = -1
_LEADER_POLL_S = 0.05
_READ_RECORDS = 1_000
_READ_WAIT_MS = 500
_MS_PER_S = 1_000


class _Commits(NamedTuple):
    """What a group has committed in a topic, by partition.

    Attributes:
        signed: next offsets that say that they are of this topic.
        unsigned: that do not say which topic they are of.
        outdated: of an earlier topic.
        attempts: said beside the first two.
    """

    signed: dict[int, int]
    unsigned: dict[int, int]
    outdated: dict[int, int]
    attempts: dict[int, Attempt]


class KafkaLog:
    """See `ports.Log`.

    Args:
        bootstrap: `host:port[,host:port…]` of brokers.
        security: TLS and credentials.
        client_id: shown in the broker's logs and metrics.
        max_in_flight_bytes: of each producer.
        replication_factor: of the topics created; -1 is the broker's default.
        session_timeout_s: a group member that is silent for so long is expelled.
        join_beat_s: members join a group that others are in when the time of day is a multiple of it; 0 is at once.
        stall_timeout_s: a consumer that reads nothing for so long while records wait raises `Unavailable`.
        request_timeout_s: limit of every request that a caller waits for.

    Raises:
        ValueError: a file of `security` cannot be used.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        security: KafkaSecurity = PLAINTEXT,
        client_id: str = "eod",
        max_in_flight_bytes: int = DEFAULT_MAX_IN_FLIGHT_BYTES,
        replication_factor: int = _AS_THE_BROKER_SAYS,
        session_timeout_s: float = 10.0,
        join_beat_s: float = 0.0,
        stall_timeout_s: float = 30.0,
        request_timeout_s: float = 10.0,
    ) -> None:
        self._access = KafkaAccess(bootstrap, security, client_id)
        self._max_in_flight_bytes = max_in_flight_bytes
        self._replication_factor = replication_factor
        self._session_timeout_s = session_timeout_s
        self._join_beat_s = join_beat_s
        self._stall_timeout_s = stall_timeout_s
        self._request_timeout_s = request_timeout_s
        self._connecting = asyncio.Lock()
        self._admin: Any = None
        self._reader: Any = None  # a consumer without a group, for end offsets
        self._closed = False
        self._batch_limits = KafkaBatchLimits(self._connected_admin, self._access, request_timeout_s)

    async def ensure_topics(self, specs: Iterable[TopicSpec]) -> None:
        """Creates the topics that do not exist and waits for their leaders; never changes one that exists.

        Then every broker knows them, whichever is asked next.
        """
        wanted = {spec.name: spec for spec in specs}
        if not wanted:
            return
        missing = await self._missing(await self._describe(list(wanted)), wanted)
        if missing:
            admin = await self._connected_admin()
            async with self._access.reaching("creating topics"):
                async with asyncio.timeout(self._request_timeout_s):
                    cluster = await admin.describe_cluster()
                    if cluster["controller_id"] not in {broker["node_id"] for broker in cluster["brokers"]}:
                        raise BrokerNotAvailableError("no controller at the moment")  # aiokafka takes one for granted
                    created = await admin.create_topics([self._new_topic(spec) for spec in missing])
                    for name, code, *message in created.topic_errors:
                        if code and for_code(code) is not TopicAlreadyExistsError:
                            raise for_code(code)(f"{name}: {message}")
        deadline = asyncio.get_running_loop().time() + self._request_timeout_s
        while not _led(described := await self._described_by_each(wanted)):
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable(f"no leader for every partition of {', '.join(wanted)} yet")
            await asyncio.sleep(_LEADER_POLL_S)
        await self._missing(described, wanted)  # somebody else may have created it otherwise

    async def remake_empty(self, specs: Iterable[TopicSpec]) -> list[str]:
        """Deletes topics that have another number of partitions and have never held a record, and makes them anew.

        As somebody's question may have made them, where the broker makes what it is asked for. Returns their names.

        Raises:
            ValueError: one has another number, and holds records or did.
        """
        wanted = {spec.name: spec for spec in specs}
        others = self._others(await self._describe(list(wanted)), wanted)
        if held := [name for name in others if await self._has_held(name)]:
            raise ValueError("; ".join([await self._remedy(wanted[name], others[name]) for name in held]))
        if others:
            admin = await self._connected_admin()
            async with self._access.reaching("deleting topics"):
                async with asyncio.timeout(self._request_timeout_s):
                    deleted = await admin.delete_topics(list(others))
                    for name, code, *_ in deleted.topic_error_codes:
                        if code and for_code(code) is not UnknownTopicOrPartitionError:
                            raise for_code(code)(name)
                    while self._counts(await self._described_by_each(others)):  # noqa: ASYNC110 - a broker tells nobody
                        await asyncio.sleep(_LEADER_POLL_S)
        await self.ensure_topics(wanted.values())
        return list(others)

    async def partition_count(self, topic: str) -> int:
        """How many partitions a topic has."""
        return len(await self._leaders(topic))

    async def _leaders(self, topic: str) -> dict[int, int]:
        """Partition → the broker that leads it, -1 if nobody does."""
        (described,) = await self._describe([topic])
        if described["error_code"] in {UnknownTopicOrPartitionError.errno, InvalidTopicError.errno}:
            raise UnknownTopic(f"topic {topic} does not exist: 'eod topics ensure' creates it")
        with translated(f"looking at topic {topic}"):
            if described["error_code"]:
                raise for_code(described["error_code"])(topic)
        return {one["partition"]: one["leader"] for one in described["partitions"]}

    async def _sources(self, topic: str, partitions: Collection[int] | None = None) -> list[TopicPartition]:
        """These partitions of a topic, or all; each has a leader now. A client would ask until one comes back."""
        leaders = await self._leaders(topic)
        wanted = sorted(leaders if partitions is None else partitions)
        if wrong := [number for number in wanted if number not in leaders]:
            raise UnknownTopic(f"topic {topic} has {len(leaders)} partitions, there is no {wrong[0]}")
        if without := [TopicPartition(topic, number) for number in wanted if leaders[number] < 0]:
            raise Unavailable(nobody_leads(without))
        return [TopicPartition(topic, number) for number in wanted]

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """Topic → its id, "" where the broker is too old to have any (Kafka 2.8 has)."""
        admin = await self._connected_admin()
        async with self._access.reaching("asking for the ids of topics"):
            async with asyncio.timeout(self._request_timeout_s):
                return await topic_ids(admin, topics)

    async def look(self, topics: Sequence[str]) -> KafkaSeen:
        """What the cluster is like, and these topics; makes and changes nothing."""
        admin = await self._connected_admin()
        async with self._access.reaching("looking at the cluster"):
            async with asyncio.timeout(self._request_timeout_s):
                return await look(admin, topics)

    async def producer(self) -> Producer:
        """A started producer of its own; the caller closes it."""
        self._check()
        return await start_producer(
            self._access,
            self.partition_count,
            self._batch_limits,
            max_in_flight_bytes=self._max_in_flight_bytes,
            timeout_s=self._request_timeout_s,
        )

    def consumer(self, topics: Sequence[str], group: str) -> Consumer:
        """A consumer, not started."""
        self._check()
        return KafkaConsumer(
            self._access,
            group=group,
            topics=topics,
            require_topics=self._require_topics,
            may_join=partial(self._may_join, group),
            coordinated=partial(self._coordinated, group),
            end_offsets=self.end_offsets,
            topic_ids=self.topic_ids,
            session_timeout_s=self._session_timeout_s,
            stall_timeout_s=self._stall_timeout_s,
            request_timeout_s=self._request_timeout_s,
        )

    async def _may_join(self, group: str) -> None:
        """Returns when it is time to join; at once when nobody is in the group."""
        await self._coordinated(group)
        if self._join_beat_s <= 0:
            return
        admin = await self._connected_admin()
        async with self._access.reaching(f"looking at group {group}"):
            async with asyncio.timeout(self._request_timeout_s):
                others = await has_members(admin, group)
        if others:
            await await_beat(self._join_beat_s, time.time())

    async def _coordinated(self, group: str) -> None:
        """Returns when somebody coordinates a group: its members would wait for that without a word.

        Raises:
            Unavailable: nobody does, or the broker cannot be reached.
        """
        admin = await self._connected_admin()
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._request_timeout_s / 2  # the first question of all makes __consumer_offsets
        async with self._access.reaching(f"looking for who coordinates group {group}"):
            async with asyncio.timeout(self._request_timeout_s):
                while True:
                    try:
                        await admin.find_coordinator(group)
                    except GroupCoordinatorNotAvailableError:
                        if loop.time() > give_up_at:
                            raise
                        await asyncio.sleep(_LEADER_POLL_S)
                    else:
                        return

    async def end_offsets(self, topic: str, partitions: Collection[int] | None = None) -> dict[int, int]:
        """Partition → offset that the next appended record will have; of these partitions, or of all."""
        return await self._ends(await self._sources(topic, partitions))

    async def start_offsets(
        self, topic: str, since_ms: int | None = None, partitions: Collection[int] | None = None
    ) -> dict[int, int]:
        """Partition → offset of the oldest record, or of the oldest whose timestamp is not before `since_ms`."""
        if since_ms is not None and since_ms < 0:
            raise ValueError(f"since_ms {since_ms} is before 1970")
        sources = await self._sources(topic, partitions)
        reader = await self._connected_reader()
        async with self._access.reaching(f"asking where {topic} begins"):
            async with asyncio.timeout(self._request_timeout_s):
                return await first_offsets(reader, sources, since_ms)

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        """Partition → next offset that the group would read, for the partitions it has committed of this topic."""
        commits = await self._commits(group, topic)
        return {**commits.signed, **commits.unsigned}

    async def unsigned(self, group: str, topic: str) -> dict[int, int]:
        """Of `committed`, what does not say which topic it is of; nothing where topics have no ids."""
        return (await self._commits(group, topic)).unsigned

    async def outdated(self, group: str, topic: str) -> dict[int, int]:
        """Partition → next offset that the group has committed of an earlier topic of this name."""
        return (await self._commits(group, topic)).outdated

    async def attempts(self, group: str, topic: str) -> dict[int, Attempt]:
        """Partition → what was said beside the last commit of this topic, if anything was."""
        return (await self._commits(group, topic)).attempts

    async def _commits(self, group: str, topic: str) -> _Commits:
        count = await self.partition_count(topic)
        now = (await self.topic_ids([topic]))[topic]
        admin = await self._connected_admin()
        async with self._access.reaching(f"asking for the offsets of group {group}"):
            async with asyncio.timeout(self._request_timeout_s):
                offsets = await admin.list_consumer_group_offsets(
                    group, partitions=[KafkaPartition(topic, number) for number in range(count)]
                )
        found = _Commits({}, {}, {}, {})
        for source, committed in offsets.items():
            if committed.offset < 0:
                continue
            theirs = noted(committed.metadata or "")
            if are_two(theirs, now):
                found.outdated[source.partition] = committed.offset
                continue
            of = found.signed if theirs or not now else found.unsigned
            of[source.partition] = committed.offset
            if attempt := attempted(committed.metadata or ""):
                found.attempts[source.partition] = attempt
        return found

    async def read(self, partition: TopicPartition, start: int, end: int) -> AsyncIterator[Record]:
        """The records with start ≤ offset < end that exist now; those that retention has deleted are left out."""
        ends = await self.end_offsets(partition.topic, [partition.partition])
        end = min(end, ends[partition.partition])
        if start >= end:
            return
        source = KafkaPartition(*partition)
        reader = await self._start_reader()
        try:
            reader.assign([source])
            reader.seek(source, max(0, start))
            position = start
            while position < end:
                async with self._access.reaching(f"reading {partition.topic}-{partition.partition}"):
                    async with asyncio.timeout(self._request_timeout_s):
                        batches: dict[Any, list[Any]] = {}
                        while not batches and position < end:
                            batches = await reader.getmany(timeout_ms=_READ_WAIT_MS, max_records=_READ_RECORDS)
                            position = await reader.position(source)
                for record in batches.get(source, ()):
                    if record.offset < end:
                        yield record_of(record)
        finally:
            await stop_consumer(reader)

    async def close(self) -> None:
        """Gives resources back; producers and consumers are closed by their owners."""
        self._closed = True
        async with self._connecting:
            if self._reader is not None:
                await stop_consumer(self._reader)
            if self._admin is not None:
                await self._admin.close()
            self._reader = self._admin = None

    async def _ends(self, sources: Sequence[TopicPartition]) -> dict[int, int]:
        reader = await self._connected_reader()
        async with self._access.reaching("asking for end offsets"):
            async with asyncio.timeout(self._request_timeout_s):
                ends = await reader.end_offsets([KafkaPartition(*source) for source in sources])
        return {source.partition: offset for source, offset in ends.items()}

    async def _describe(self, topics: list[str]) -> list[dict[str, Any]]:
        admin = await self._connected_admin()
        async with self._access.reaching("looking at topics"):
            async with asyncio.timeout(self._request_timeout_s):
                described: list[dict[str, Any]] = await admin.describe_topics(topics)
        return described

    async def _described_by_each(self, topics: Iterable[str]) -> list[dict[str, Any]]:
        admin = await self._connected_admin()
        async with self._access.reaching("looking at topics on every broker"):
            async with asyncio.timeout(self._request_timeout_s):
                described: list[dict[str, Any]] = await admin.described_by_each(list(topics))
                if not described:
                    raise BrokerNotAvailableError("no broker answers at the moment")
        return described

    async def _require_topics(self, topics: Sequence[str]) -> None:
        for topic in topics:
            await self.partition_count(topic)

    @staticmethod
    def _counts(described: Iterable[dict[str, Any]]) -> dict[str, int]:
        """How many partitions those topics have that there are."""
        return {topic["topic"]: len(topic["partitions"]) for topic in described if topic["partitions"]}

    def _others(self, described: Iterable[dict[str, Any]], wanted: dict[str, TopicSpec]) -> dict[str, int]:
        """Those that have another number of partitions, and how many."""
        counts = self._counts(described)
        return {
            name: counts[name] for name, spec in wanted.items() if counts.get(name, spec.partitions) != spec.partitions
        }

    async def _missing(self, described: list[dict[str, Any]], wanted: dict[str, TopicSpec]) -> list[TopicSpec]:
        if others := self._others(described, wanted):
            raise ValueError("; ".join([await self._remedy(wanted[name], count) for name, count in others.items()]))
        counts = self._counts(described)
        return [spec for name, spec in wanted.items() if name not in counts]

    async def _has_held(self, topic: str) -> bool:
        return any((await self.end_offsets(topic)).values())

    async def _remedy(self, spec: TopicSpec, count: int) -> str:
        told = f"topic {spec.name} has {count} partitions, not the {spec.partitions} wanted"
        if await self._has_held(spec.name):
            return f"{told}, and holds records, whose places follow from the number: it stays as it is"
        return f"{told}: it has never held a record, so 'eod topics ensure --remake-empty' may make it anew"

    def _new_topic(self, spec: TopicSpec) -> NewTopic:
        settings = {"retention.ms": str(spec.retention_ms), "max.message.bytes": str(MAX_RECORD_BYTES)}
        topic = NewTopic(spec.name, spec.partitions, 1, topic_configs=settings)
        topic.replication_factor = self._replication_factor  # aiokafka's constructor refuses -1, the protocol does not
        return topic

    async def _connected_admin(self) -> Any:
        self._check()
        async with self._connecting:
            if self._admin is None:
                admin = AnyBrokerAdmin(
                    **self._access.arguments(),
                    request_timeout_ms=round(self._request_timeout_s * _MS_PER_S),
                )
                try:
                    async with self._access.reaching(f"connecting to {self._access.bootstrap}"):
                        async with asyncio.timeout(self._request_timeout_s):
                            await admin.start()
                except BaseException:
                    await admin.close()
                    raise
                self._admin = admin
            return self._admin

    async def _connected_reader(self) -> Any:
        self._check()
        async with self._connecting:
            if self._reader is None:
                self._reader = await self._start_reader()
            return self._reader

    async def _start_reader(self) -> Any:
        reader = AIOKafkaConsumer(
            **self._access.arguments(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            request_timeout_ms=round(self._request_timeout_s * _MS_PER_S),
            max_partition_fetch_bytes=MAX_RECORD_BYTES,
        )
        try:
            async with self._access.reaching(f"connecting to {self._access.bootstrap}"):
                async with asyncio.timeout(self._request_timeout_s):
                    await reader.start()
        except BaseException:
            await stop_consumer(reader)
            raise
        return reader

    def _check(self) -> None:
        if self._closed:
            raise RuntimeError("this log is closed")


def _led(described: Iterable[dict[str, Any]]) -> bool:
    return all(
        topic["partitions"] and all(p["leader"] >= 0 and not p["error_code"] for p in topic["partitions"])
        for topic in described
    )
