"""An admin client that asks a broker that is up."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError

from eod_workers.adapters.kafka_access import Look


class AnyBrokerAdmin(AIOKafkaAdminClient):  # type: ignore[misc]  # aiokafka has no types
    """Asks what every broker can answer of another one, if one cannot be reached: aiokafka picks one by chance."""

    async def _send_request(self, request: Any, node_id: int | None = None) -> Any:
        """A request that was never sent may be sent to somebody else."""
        if node_id is not None:
            return await super()._send_request(request, node_id)
        nodes = [broker.nodeId for broker in self._client.cluster.brokers()]
        random.shuffle(nodes)
        while len(nodes) > 1:
            with suppress(NodeNotReadyError):
                return await super()._send_request(request, nodes.pop())
        return await super()._send_request(request, *nodes)

    async def described_by_each(self, topics: Sequence[str]) -> list[dict[str, Any]]:
        """`describe_topics` as each broker answers it that is up: brokers hear of a topic one after another."""
        found: list[dict[str, Any]] = []
        for broker in self._client.cluster.brokers():
            with suppress(NodeNotReadyError, KafkaConnectionError):
                answer = await super()._send_request(Look(list(topics)), broker.nodeId)
                found += answer.to_object()["topics"]
        return found
