"""One Kafka as the operator uses it: looks that never create what they look at, and topics on request.

It speaks its own requests over aiokafka's low-level client instead of using the admin client or a consumer: both of
those ask for metadata in a way that creates missing topics on a broker that allows it, and a topic that the operator
made by looking at it (with one partition) would be worse than a missing one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass

from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, collect_hosts
from aiokafka.errors import (
    BrokerResponseError,
    KafkaError,
    NotControllerError,
    RequestTimedOutError,
    TopicAlreadyExistsError,
)
from aiokafka.protocol.admin import CreateTopicsRequest, DescribeConfigsRequest
from aiokafka.protocol.metadata import MetadataRequest

from eod_operator.conditions import Problem
from eod_operator.kafka.errors import (
    KafkaUnreachableError,
    raised,
    refused_topic,
    turned_away,
    unreachable,
    unreadable_group,
    unreadable_topic,
    unusable,
)
from eod_operator.kafka.groups import Groups
from eod_operator.kafka.offsets import Offsets
from eod_operator.kafka.security import CredentialsError, Endpoint
from eod_operator.kafka.topics import Topics

READ_WITHIN_S = 5.0
"""Limit of one look at one Kafka, so that a dead one is soon known to be dead."""
MORE_S = 0.001
"""Added to that limit for each topic and group: a first look at 3,000 groups must find 3,000 coordinators."""
BROKERS_DEFAULT = -1
"""A replication factor: whatever the broker is configured with."""
_CLOSE_WITHIN_S = 1.0
_ASK_WHY_WITHIN_S = 3.0
_CLIENT = "eod-operator"
_METADATA_FOR_MS = 24 * 3600 * 1000
"""aiokafka would ask for all topics every five minutes, ours or not; `Topics` asks for what is needed."""
_TOPIC_RESOURCE = 2
_RETENTION = "retention.ms"
_TOPICS_PER_REQUEST = 500
_CONTROLLER_ATTEMPTS = 3
_RETRY_AFTER_S = 0.2


@dataclass(frozen=True, slots=True)
class _Connection:
    """Connections to the brokers, and what was learnt over them."""

    client: AIOKafkaClient
    topics: Topics
    groups: Groups


class KafkaReader:
    """One Kafka, over connections that it keeps between looks; looks must not overlap, anything else may."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._address = endpoint.address
        self._connection: _Connection | None = None
        self._opening = asyncio.Lock()

    async def read(self, topics: set[str], groups: Mapping[str, frozenset[str]]) -> Offsets:
        """Look at topics, and at what groups have committed in topics of theirs (which are among the topics).

        Raises:
            KafkaUnreachableError: no answer within `READ_WITHIN_S` and the allowance for so many topics and groups, or
                it does not let us in.
        """
        kept = self._connection is not None
        try:
            return await self._read(topics, groups)
        except KafkaUnreachableError as error:
            if not (kept and error.hung_up):
                raise
            # A broker closes a connection whose login has expired (KIP-368), which is no trouble with a new one.
            return await self._read(topics, groups)

    async def _read(self, topics: set[str], groups: Mapping[str, frozenset[str]]) -> Offsets:
        try:
            async with self._answering(READ_WITHIN_S + MORE_S * (len(topics) + len(groups))) as connection:
                ends = await connection.topics.read(topics)
                asked = {
                    group: {topic: ends.partitions[topic] for topic in sorted(theirs & ends.end.keys())}
                    for group, theirs in groups.items()
                }
                commits = await connection.groups.read({group: theirs for group, theirs in asked.items() if theirs})
        except BaseException:  # a connection with an answer on its way is of no use to the next look
            await self.close()
            raise
        return Offsets(
            partitions=ends.partitions,
            first=ends.first,
            end=ends.end,
            missing=frozenset(ends.missing),
            unreadable={topic: unreadable_topic(self._address, topic, code) for topic, code in ends.codes.items()},
            committed=commits.committed,
            refused={group: unreadable_group(self._address, group, code) for group, code in commits.codes.items()},
            requests=ends.requests + commits.requests,
        )

    async def retention(self, topics: Collection[str]) -> dict[str, int | None]:
        """How long each topic keeps its records, in milliseconds; -1 is for ever.

        None when the topic does not exist, or the operator may not read its settings.

        Raises:
            KafkaUnreachableError: no answer in time.
        """
        asked = sorted(set(topics))
        found: dict[str, int | None] = dict.fromkeys(asked)
        async with self._answering(READ_WITHIN_S + MORE_S * len(asked)) as connection:
            for start in range(0, len(asked), _TOPICS_PER_REQUEST):
                some = asked[start : start + _TOPICS_PER_REQUEST]
                request = DescribeConfigsRequest([(_TOPIC_RESOURCE, topic, [_RETENTION]) for topic in some])
                response = await connection.client.send(connection.client.get_random_node(), request)
                for code, _message, _kind, topic, settings in response.resources:
                    for name, value, *_rest in settings if code == 0 else ():
                        if name == _RETENTION and value is not None:
                            found[topic] = int(value)
        return found

    async def members(self, groups: Collection[str]) -> dict[str, int]:
        """How many members of each group have partitions; nothing of groups that are unsettled or unreadable.

        Raises:
            KafkaUnreachableError: no answer in time.
        """
        async with self._answering(READ_WITHIN_S + MORE_S * len(groups)) as connection:
            return await connection.groups.members(groups)

    async def create(self, name: str, partitions: int, replication_factor: int, configs: Mapping[str, str]) -> None:
        """Create a topic; one that exists is left as it is.

        Args:
            name: of the topic.
            partitions: that it shall have.
            replication_factor: copies of each record, or `BROKERS_DEFAULT`.
            configs: settings by their names in Kafka.

        Raises:
            KafkaUnreachableError: no answer in time.
            TopicRefusedError: the brokers do not create it as asked.
        """
        no_assignment: list[object] = []
        topic = (name, partitions, replication_factor, no_assignment, list(configs.items()))
        code, message = 0, None
        async with self._answering(READ_WITHIN_S) as connection:
            for _ in range(_CONTROLLER_ATTEMPTS):
                controller = await _controller(connection.client)
                request = CreateTopicsRequest([topic], int(READ_WITHIN_S * 1000), False)
                response = await connection.client.send(controller, request)
                ((_name, code, message),) = response.topic_errors
                if code != NotControllerError.errno:
                    break
                await asyncio.sleep(_RETRY_AFTER_S)
            if code == RequestTimedOutError.errno:
                raise RequestTimedOutError
        if code not in {0, TopicAlreadyExistsError.errno}:
            raise refused_topic(self._address, name, code, message)

    async def close(self) -> None:
        """Close the connections; whoever asks next opens new ones."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # A broker that has stopped reading would hold up what is still to be written to it.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_WITHIN_S):
                    await connection.client.close()

    @contextlib.asynccontextmanager
    async def _answering(self, within_s: float) -> AsyncIterator[_Connection]:
        """The connection, for a limited time."""
        try:
            async with asyncio.timeout(within_s):
                yield await self._opened()
        except CredentialsError as error:
            raise unusable(error) from error
        except (KafkaError, OSError, TimeoutError) as error:
            problem = await self._why_not(error)
            raise unreachable(self._address, error, within_s) if problem is None else raised(problem) from error

    async def _why_not(self, error: BaseException) -> Problem | None:
        """Why we are not let in; None when that is not why.

        aiokafka says of a connection that failed only that it did. So one more is made as it would make it, unless a
        broker did answer, or was silent, as it would be again.
        """
        if not isinstance(error, KafkaError) or isinstance(error, BrokerResponseError):
            return None
        for host, port, _family in collect_hosts(self._address):
            connection = AIOKafkaConnection(
                host,
                port,
                client_id=_CLIENT,
                request_timeout_ms=int(_ASK_WHY_WITHIN_S * 1000),
                **self._endpoint.security.arguments(),
            )
            try:
                async with asyncio.timeout(_ASK_WHY_WITHIN_S):
                    await connection.connect()
                    await connection.send(MetadataRequest([]))
            except (KafkaError, OSError, TimeoutError) as found:
                problem = turned_away(self._endpoint, f"{host}:{port}", found)
                if problem is not None:
                    return problem
            finally:
                connection.close()
        return None

    async def _opened(self) -> _Connection:
        async with self._opening:
            if self._connection is None:
                client = AIOKafkaClient(
                    bootstrap_servers=self._address,
                    client_id=_CLIENT,
                    request_timeout_ms=int(READ_WITHIN_S * 1000),
                    metadata_max_age_ms=_METADATA_FOR_MS,
                    **self._endpoint.security.arguments(),
                )
                await client.bootstrap()
                self._connection = _Connection(client, Topics(client), Groups(client))
            return self._connection


async def _controller(client: AIOKafkaClient) -> int:
    """The broker that creates topics."""
    response = await client.send(client.get_random_node(), MetadataRequest([], allow_auto_topic_creation=False))
    client.cluster.update_metadata(response)
    return int(response.controller_id)
