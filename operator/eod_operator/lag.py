"""What Kafka says of a stage: its topics' partitions and its group's lag.

It speaks four read-only requests over aiokafka's low-level client instead of using the admin client or a consumer:
both of those ask for metadata in a way that creates missing topics on a broker that allows it, and a topic that the
operator made by looking at it (with one partition) would be worse than a missing one.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest

READ_WITHIN_S = 5.0
"""Limit of one look at one Kafka, so that a dead one cannot hold a reconcile up."""
_RETRY_AFTER_S = 0.1
_EARLIEST, _LATEST = -2, -1
_READ_UNCOMMITTED = 0
_GROUP_COORDINATOR = 0

Partition = tuple[str, int]


class KafkaUnreachableError(Exception):
    """No broker answered in time; the message names the address and the remedy."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look at for one stage: its topics, and its group unless it consumes nothing."""

    topics: tuple[str, ...]
    group: str | None


@dataclass(frozen=True, slots=True)
class Reading:
    """What was seen of one stage.

    Attributes:
        missing: topics that do not exist.
        partitions: partitions that its replicas can share: those of its largest topic, because co-partitioned topics
            are assigned together. None while any topic is missing.
        lag: unconsumed records, by partition number, summed over the topics. None while a topic is missing, and
            while the group has committed nothing.
    """

    missing: tuple[str, ...] = ()
    partitions: int | None = None
    lag: tuple[int, ...] | None = None


class LagReader:
    """Reads one Kafka, over connections that it keeps between looks; not for concurrent use."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._client: AIOKafkaClient | None = None

    async def read(self, wanted: Mapping[str, Wanted]) -> dict[str, Reading]:
        """Look at the topics and groups of several stages at once.

        Raises:
            KafkaUnreachableError: no answer within `READ_WITHIN_S`, or an answer that was an error.
        """
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                return await self._read(wanted)
        except (KafkaError, OSError, TimeoutError) as error:
            await self.close()
            cause = "timed out" if isinstance(error, TimeoutError) else type(error).__name__
            raise KafkaUnreachableError(
                f"Kafka at {self._bootstrap_servers} (spec.kafka.bootstrapServers) gave no answer within "
                f"{READ_WITHIN_S:g} s ({cause}): check the address, that the brokers run, and that the operator's pod "
                "may reach them; replicas are held until then"
            ) from error

    async def close(self) -> None:
        """Close the connections; the next look opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _read(self, wanted: Mapping[str, Wanted]) -> dict[str, Reading]:
        if self._client is None:
            timeout_ms = int(READ_WITHIN_S * 1000)
            self._client = AIOKafkaClient(
                bootstrap_servers=self._bootstrap_servers, client_id="eod-operator", request_timeout_ms=timeout_ms
            )
            await self._client.bootstrap()
        leaders = await self._leaders({topic for one in wanted.values() for topic in one.topics})
        groups: dict[str, set[str]] = defaultdict(set)
        for one in wanted.values():
            if one.group is not None and all(topic in leaders for topic in one.topics):
                groups[one.group].update(one.topics)
        consumed = {topic for topics in groups.values() for topic in topics}
        read = {topic: leaders[topic] for topic in consumed}
        first, end = await asyncio.gather(self._offsets(read, _EARLIEST), self._offsets(read, _LATEST))
        committed = await asyncio.gather(*(self._committed(group, topics, leaders) for group, topics in groups.items()))
        by_group = dict(zip(groups, committed, strict=True))
        return {
            stage: _reading(one, leaders, first, end, by_group.get(one.group or "", {}))
            for stage, one in wanted.items()
        }

    async def _leaders(self, topics: set[str]) -> dict[str, dict[int, int]]:
        """Leader of each partition of the topics that exist."""
        client = self._connected
        request = MetadataRequest(sorted(topics), allow_auto_topic_creation=False)
        response = await client.send(client.get_random_node(), request)
        leaders = {}
        for error_code, topic, _internal, partitions in response.topics:
            if error_code == 0:
                leaders[topic] = {number: leader for _error, number, leader, *_rest in partitions}
        return leaders

    async def _offsets(self, leaders: Mapping[str, Mapping[int, int]], when: int) -> dict[Partition, int]:
        """First (`_EARLIEST`) or next (`_LATEST`) offset of every partition, asked of its leader."""
        asked: dict[int, dict[str, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
        for topic, partitions in leaders.items():
            for number, leader in partitions.items():
                asked[leader][topic].append((number, when))
        requests = (
            self._connected.send(leader, OffsetRequest(-1, _READ_UNCOMMITTED, list(topics.items())))
            for leader, topics in asked.items()
        )
        offsets = {}
        for response in await asyncio.gather(*requests):
            for topic, partitions in response.topics:
                for number, error_code, *_timestamp, offset in partitions:
                    _require_no_error(error_code)
                    offsets[topic, number] = offset
        return offsets

    async def _committed(
        self, group: str, topics: Iterable[str], leaders: Mapping[str, Mapping[int, int]]
    ) -> dict[Partition, int]:
        """Committed offsets of a group; a partition without one is left out."""
        request = OffsetFetchRequest(group, [(topic, sorted(leaders[topic])) for topic in sorted(topics)])
        response = await self._connected.send(await self._coordinator(group), request)
        committed = {}
        for topic, partitions in response.topics:
            for number, offset, _metadata, error_code in partitions:
                _require_no_error(error_code)
                if offset >= 0:
                    committed[topic, number] = offset
        return committed

    async def _coordinator(self, group: str) -> int:
        """The broker that keeps a group's offsets; a cluster that has just started needs a second to choose one."""
        while True:  # ended by the time limit of `read`
            try:
                return int(await self._connected.coordinator_lookup(_GROUP_COORDINATOR, group))
            except KafkaError as error:
                if not error.retriable:
                    raise
                await asyncio.sleep(_RETRY_AFTER_S)

    @property
    def _connected(self) -> AIOKafkaClient:
        if self._client is None:
            raise KafkaError("the connection was closed")
        return self._client


def _require_no_error(code: int) -> None:
    if code:
        raise for_code(code)


def _reading(
    wanted: Wanted,
    leaders: Mapping[str, Mapping[int, int]],
    first: Mapping[Partition, int],
    end: Mapping[Partition, int],
    committed: Mapping[Partition, int],
) -> Reading:
    missing = tuple(topic for topic in wanted.topics if topic not in leaders)
    if missing:
        return Reading(missing=missing)
    count = max(len(leaders[topic]) for topic in wanted.topics)
    mine = [(topic, number) for topic in wanted.topics for number in leaders[topic]]
    if wanted.group is None or not any(partition in committed for partition in mine):
        return Reading(partitions=count)
    lag = [0] * count
    for topic, number in mine:
        # Records that retention has removed are no longer ahead of anybody.
        position = max(committed.get((topic, number), 0), first[topic, number])
        lag[number] += max(0, end[topic, number] - position)
    return Reading(partitions=count, lag=tuple(lag))
