"""What was seen of one candidate: curves of offsets and replicas, as they were read four times a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from scaler_real.cluster import Cluster

EVERY_S = 0.25


@dataclass(slots=True)
class Recording:
    """One candidate's close; lists are parallel, one entry a look.

    Attributes:
        candidate: its name.
        begin_s: when the load began, epoch seconds.
        close_s: the close.
        at_s: when the offsets had been read.
        ends: by partition, end offsets.
        committed: by partition, committed offsets; 0 where the group has committed nothing.
        asked: the Deployment's spec.replicas.
        ready: its ready pods.
        members: of the consumer group.
        state: of the consumer group, in Kafka's words.
        pods: by pod, when it was created, the drawn start, and what its process told.
        load_late_s: how late the latest record of the load was sent.
        looks_late_s: the longest time between two looks.
        settings: of the candidate.
    """

    candidate: str
    begin_s: float
    close_s: float
    at_s: list[float] = field(default_factory=list)
    ends: list[list[int]] = field(default_factory=list)
    committed: list[list[int]] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    ready: list[int] = field(default_factory=list)
    members: list[int] = field(default_factory=list)
    state: list[str] = field(default_factory=list)
    pods: list[dict[str, Any]] = field(default_factory=list)
    load_late_s: float = 0.0
    looks_late_s: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Eyes:
    """Reads offsets, the group and the Deployment; a client of its own for each Kafka question."""

    def __init__(self, bootstrap: str, topic: str, group: str, partitions: int) -> None:
        self._partitions = [TopicPartition(topic, number) for number in range(partitions)]
        self._group = group
        self._consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
        self._admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        await self._admin.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()
        await self._admin.close()

    async def offsets(self) -> tuple[list[int], list[int]]:
        """End and committed offsets by partition, read at the same time."""
        ends, committed = await asyncio.gather(
            self._consumer.end_offsets(self._partitions),
            self._admin.list_consumer_group_offsets(self._group, partitions=self._partitions),
        )
        return (
            [ends[one] for one in self._partitions],
            [max(0, committed[one].offset) if one in committed else 0 for one in self._partitions],
        )

    async def group(self) -> tuple[str, int]:
        """The group's state and how many members it has."""
        answers = await self._admin.describe_consumer_groups([self._group])
        _code, _name, state, _protocol_type, _protocol, members = answers[0].groups[0][:6]
        return str(state), len(members)


async def record(
    into: Recording, eyes: Eyes, cluster: Cluster, deployment: str, until_s: float, check: Callable[[], None]
) -> None:
    """Look until a time comes; `check` raises when there is no sense in going on."""
    next_s = time.time()
    while next_s < until_s:
        await asyncio.sleep(max(0.0, next_s - time.time()))
        check()
        (ends, committed), (state, members), found = await asyncio.gather(
            eyes.offsets(), eyes.group(), cluster.get(deployment)
        )
        if found is None:
            raise RuntimeError(f"{deployment} has gone in the midst of a run")
        if into.at_s:
            into.looks_late_s = max(into.looks_late_s, time.time() - into.at_s[-1])
        into.at_s.append(time.time())
        into.ends.append(ends)
        into.committed.append(committed)
        into.asked.append(int(found["spec"]["replicas"]))
        into.ready.append(int(found.get("status", {}).get("readyReplicas", 0)))
        into.members.append(members)
        into.state.append(state)
        next_s = max(next_s + EVERY_S, time.time())
