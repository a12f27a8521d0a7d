"""What a Kafka cluster is like, for whoever asks whether it may be relied on: its topics, its brokers' settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidTopicError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)

_MAY_NOT_ASK = (TopicAuthorizationFailedError, ClusterAuthorizationFailedError)
_NONE_OF_THIS_NAME = (UnknownTopicOrPartitionError, InvalidTopicError)

Settings = Mapping[str, str] | None
"""Name → value, as Kafka's documentation has them; None if we may not ask."""


@dataclass(frozen=True, slots=True)
class TopicSeen:
    """A topic.

    Attributes:
        name: of it.
        partitions: how many it has; 0 if there is no such topic.
        replicas: of the partition that has the fewest.
        leaderless: partitions that nobody can read or write now.
        behind: partitions with a replica that is not in sync, but with a leader.
        settings: its own and those that it has from its broker.
        forbidden: it may exist, and we may not look at it.
    """

    name: str
    partitions: int = 0
    replicas: int = 0
    leaderless: tuple[int, ...] = ()
    behind: tuple[int, ...] = ()
    settings: Settings = None
    forbidden: bool = False


@dataclass(frozen=True, slots=True)
class KafkaSeen:
    """A cluster.

    Attributes:
        brokers: how many are up.
        settings: of one of them.
        topics: those that were asked for, in that order.
    """

    brokers: int
    settings: Settings
    topics: tuple[TopicSeen, ...]


async def look(admin: Any, topics: Sequence[str]) -> KafkaSeen:
    """Looks at a cluster; makes and changes nothing.

    Args:
        admin: a started `AIOKafkaAdminClient`.
        topics: which.
    """
    brokers = (await admin.describe_cluster())["brokers"]
    described = {one["topic"]: one for one in await admin.describe_topics(list(topics))}
    seen = [await _topic(admin, name, described[name]) for name in topics]
    nodes = sorted(broker["node_id"] for broker in brokers)
    settings = await _settings(admin, ConfigResourceType.BROKER, str(nodes[0])) if nodes else None
    return KafkaSeen(len(nodes), settings, tuple(seen))


async def _topic(admin: Any, name: str, described: Mapping[str, Any]) -> TopicSeen:
    if code := described["error_code"]:
        error = for_code(code)
        if issubclass(error, _NONE_OF_THIS_NAME):
            return TopicSeen(name)
        if issubclass(error, _MAY_NOT_ASK):
            return TopicSeen(name, forbidden=True)
        raise error(name)
    partitions = sorted(described["partitions"], key=lambda one: int(one["partition"]))
    leaderless = tuple(one["partition"] for one in partitions if one["leader"] < 0)
    behind = tuple(
        one["partition"] for one in partitions if one["leader"] >= 0 and len(one["isr"]) < len(one["replicas"])
    )
    return TopicSeen(
        name,
        len(partitions),
        min((len(one["replicas"]) for one in partitions), default=0),
        leaderless,
        behind,
        await _settings(admin, ConfigResourceType.TOPIC, name),
    )


async def _settings(admin: Any, kind: ConfigResourceType, name: str) -> Settings:
    (answer,) = await admin.describe_configs([ConfigResource(kind, name)])
    found: dict[str, str] = {}
    for code, _message, _kind, _name, entries in answer.resources:
        if code and issubclass(for_code(code), _MAY_NOT_ASK):
            return None
        if code:
            raise for_code(code)(name)
        found |= {setting: value or "" for setting, value, *_ in entries}
    return found
