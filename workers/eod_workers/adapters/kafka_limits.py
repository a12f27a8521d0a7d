"""The largest batch that each topic takes: `max.message.bytes`, which whoever made the topic may have set to anything.

A batch that is larger is refused, and with it the producer is spent. So producers ask before they send. Whoever may not
ask (it needs the right to describe configurations) learns from what is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import ClusterAuthorizationFailedError, TopicAuthorizationFailedError, for_code

from eod_workers.adapters.kafka_access import KafkaAccess
from eod_workers.adapters.kafka_producer import MAX_RECORD_BYTES

_SETTING = "max.message.bytes"
_LEAST = 4_096
"""Below this nobody goes by refusals: no batch of ours is so small."""
_MAY_NOT_ASK = (TopicAuthorizationFailedError, ClusterAuthorizationFailedError)


class KafkaBatchLimits:
    """See `kafka_producer.BatchLimits`.

    Args:
        admin: gives a started `AIOKafkaAdminClient`.
        access: what names the reason when none can be reached.
        timeout_s: how long an answer may take.
    """

    def __init__(self, admin: Callable[[], Awaitable[Any]], access: KafkaAccess, timeout_s: float) -> None:
        self._admin = admin
        self._access = access
        self._timeout_s = timeout_s
        self._refused: dict[str, int] = {}

    async def of(self, topic: str) -> int:
        """Bytes of the largest batch that a topic takes; what we would send at most, if nobody lets us ask."""
        admin = await self._admin()
        async with self._access.reaching(f"asking what topic {topic} takes"):
            async with asyncio.timeout(self._timeout_s):
                (answer,) = await admin.describe_configs(
                    [ConfigResource(ConfigResourceType.TOPIC, topic, {_SETTING: ""})]
                )
            said = _said(answer, topic)
        return min(MAX_RECORD_BYTES, self._refused.get(topic, MAX_RECORD_BYTES) if said is None else said)

    def refused(self, topic: str, limit: int) -> None:
        """A batch within this limit was refused: next time half of it is tried, unless the topic says what it takes."""
        self._refused[topic] = max(_LEAST, limit // 2)


def _said(answer: Any, topic: str) -> int | None:
    """What the topic takes; None if we may not know."""
    for code, _message, _kind, _name, entries in answer.resources:
        if code and for_code(code) in _MAY_NOT_ASK:
            return None
        if code:
            raise for_code(code)(topic)
        for name, value, *_ in entries:
            if name == _SETTING:
                return int(value)
    return None
