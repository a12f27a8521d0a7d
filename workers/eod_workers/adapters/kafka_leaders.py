"""Partitions that nobody leads: every broker with a copy that may lead is away (KIP-966 names the ways out)."""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition

_NOBODY = -1


class Leaders:
    """What a client knows of them: it asks again until somebody leads.

    Attributes:
        missing: partitions that nobody leads, of all topics that the client knows; worked out when it hears of the
            cluster, since it is looked at with every record.
    """

    def __init__(self, cluster: Any) -> None:
        """`cluster`: the `ClusterMetadata` of a client."""
        self.missing: frozenset[tuple[str, int]] = frozenset()
        cluster.add_listener(self._look)
        self._look(cluster)

    def _look(self, cluster: Any) -> None:
        self.missing = frozenset(
            (topic, number)
            for topic in cluster.topics()
            for number in cluster.partitions_for_topic(topic) or ()
            if cluster.leader_for_partition(KafkaPartition(topic, number)) == _NOBODY
        )


def wait_for_leaders(producer: AIOKafkaProducer, leaders: Leaders) -> None:
    """Makes a producer keep what it has for partitions that nobody leads.

    By itself aiokafka gives a batch up that has waited for a leader as long as a request may take. What is for a topic
    that is gone it still gives up.
    """
    accumulator = producer._message_accumulator  # noqa: SLF001  aiokafka has no public way to
    drain = accumulator.drain_by_nodes

    def drain_led(ignore_nodes: Any, muted_partitions: frozenset[Any] = frozenset()) -> tuple[Any, bool]:
        if not leaders.missing:
            return drain(ignore_nodes, muted_partitions)  # type: ignore[no-any-return]
        waiting = leaders.missing & accumulator._batches.keys()  # noqa: SLF001
        nodes, unknown = drain(ignore_nodes, muted_partitions | waiting)
        return nodes, unknown or bool(waiting)

    accumulator.drain_by_nodes = drain_led
