"""Partitions that nobody leads: every broker with a copy that may lead is away (KIP-966 names the ways out)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition

from eod_workers.ports import TopicPartition

_NOBODY = -1


def leaderless(client: Any, partitions: Iterable[TopicPartition]) -> frozenset[TopicPartition]:
    """Those of some partitions that nobody leads, as far as a client knows; it asks again until somebody does.

    Args:
        client: a started `AIOKafkaConsumer` or `AIOKafkaProducer`.
        partitions: which.
    """
    cluster = (client.client if isinstance(client, AIOKafkaProducer) else client._client).cluster  # noqa: SLF001
    return frozenset(one for one in partitions if cluster.leader_for_partition(KafkaPartition(*one)) == _NOBODY)


def wait_for_leaders(producer: AIOKafkaProducer) -> None:
    """Makes a producer keep what it has for partitions that nobody leads.

    By itself aiokafka gives a batch up that has waited for a leader as long as a request may take. What is for a topic
    that is gone it still gives up.
    """
    accumulator = producer._message_accumulator  # noqa: SLF001  aiokafka has no public way to
    drain = accumulator.drain_by_nodes

    def drain_led(ignore_nodes: Any, muted_partitions: frozenset[Any] = frozenset()) -> tuple[Any, bool]:
        waiting = leaderless(producer, accumulator._batches)  # noqa: SLF001
        nodes, unknown = drain(ignore_nodes, muted_partitions | waiting)
        return nodes, unknown or bool(waiting)

    accumulator.drain_by_nodes = drain_led
