"""What consumer groups have committed, over one connection: many groups a request, asked of the broker that keeps them.

Which broker keeps a group is asked once and kept until that broker says that it does not.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from aiokafka.client import AIOKafkaClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import BrokerResponseError, IncompatibleBrokerVersion, RequestTimedOutError, for_code
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.commit import OffsetFetchRequest

from eod_operator.kafka.wire import GroupOffsets, PartitionOffsets, fetch_offsets, fetched_topic

AT_ONCE = 64
"""Requests on their way at once."""
_PARTITIONS_PER_REQUEST = 400
_ATTEMPTS = 20
_RETRY_AFTER_S = 0.1
"""A cluster that has just started needs a second to choose who keeps a group; 20 attempts are two."""
_GROUP_COORDINATOR = 0
_SETTLED = "Stable"

_Item = TypeVar("_Item")
_Topics = Mapping[str, int]
"""Topics of a group with their numbers of partitions."""


@dataclass(slots=True)
class Commits:
    """What was read: see `Offsets`; `codes` are the errors of groups that cannot be read."""

    committed: dict[str, dict[str, array[int]]] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    requests: int = 0


class Groups:
    """The groups of one Kafka."""

    def __init__(self, client: AIOKafkaClient) -> None:
        self._client = client
        self._coordinators: dict[str, int] = {}
        self._unsettled: set[str] = set()
        self._one_by_one = False

    async def read(self, groups: Mapping[str, _Topics]) -> Commits:
        """What each group has committed in its topics.

        A group without a coordinator is waited for, but not a second time: it must not hold every look up.

        Raises:
            KafkaError: a broker did not answer.
        """
        self._coordinators = {group: node for group, node in self._coordinators.items() if group in groups}
        found = Commits()
        pending = set(groups)
        for attempt in range(_ATTEMPTS):
            await self._find_coordinators(pending, found.codes)
            batches = list(self._batches({group: groups[group] for group in pending if group in self._coordinators}))
            found.requests = found.requests or len(batches)
            await _each(batches, lambda batch: self._fetch(batch, found))
            pending = {group for group in groups if _retriable(found.codes.get(group, 0))}
            if pending <= self._unsettled or attempt == _ATTEMPTS - 1:
                break
            await asyncio.sleep(_RETRY_AFTER_S)
        self._unsettled = pending
        return found

    async def members(self, groups: Collection[str]) -> dict[str, int]:
        """How many members of each settled group have partitions.

        Raises:
            KafkaError: a broker did not answer.
        """
        found: dict[str, int] = {}

        async def ask(group: str) -> None:
            # One group a request: aiokafka reads an answer of version 3 as one of 2, and stumbles over a second group.
            response = await self._client.send(self._coordinators[group], DescribeGroupsRequest([group]))
            for described in response.groups:
                code, name, state, _, _, members, *_ = described
                if code == 0 and state == _SETTLED:
                    found[name] = sum(_holds(member[4]) for member in members)
                elif _retriable(code):
                    self._coordinators.pop(name, None)

        await self._find_coordinators(set(groups), {})
        await _each([group for group in groups if group in self._coordinators], ask)
        return found

    async def _find_coordinators(self, groups: set[str], codes: dict[str, int]) -> None:
        async def find(group: str) -> None:
            try:
                self._coordinators[group] = await self._client.coordinator_lookup(_GROUP_COORDINATOR, group)
            except RequestTimedOutError:
                raise
            except BrokerResponseError as error:
                codes[group] = error.errno
            else:
                codes.pop(group, None)

        await _each([group for group in groups if group not in self._coordinators], find)

    def _batches(self, groups: Mapping[str, _Topics]) -> Iterator[dict[str, _Topics]]:
        """Groups of one coordinator each, to be fetched by one request."""
        kept: dict[int, list[str]] = defaultdict(list)
        for group in groups:
            kept[self._coordinators[group]].append(group)
        for together in kept.values():
            batch: dict[str, _Topics] = {}
            size = 0
            for group in together:
                if batch and (self._one_by_one or size >= _PARTITIONS_PER_REQUEST):
                    yield batch
                    batch, size = {}, 0
                batch[group] = groups[group]
                size += sum(groups[group].values())
            yield batch

    async def _fetch(self, batch: dict[str, _Topics], found: Commits) -> None:
        node = self._coordinators[next(iter(batch))]
        answers: Iterable[GroupOffsets]
        if not self._one_by_one:
            packed = {group: [fetched_topic(*topic) for topic in topics.items()] for group, topics in batch.items()}
            try:
                answers = await self._client.send(node, fetch_offsets(packed))
            except IncompatibleBrokerVersion:  # older than 3.0
                self._one_by_one = True
        if self._one_by_one:
            answers = [await self._fetch_one(node, group, topics) for group, topics in batch.items()]
        for answer in answers:
            self._enter(answer, batch[answer.group], found)

    async def _fetch_one(self, node: int, group: str, topics: _Topics) -> GroupOffsets:
        request = OffsetFetchRequest(group, [(topic, list(range(count))) for topic, count in topics.items()])
        response = await self._client.send(node, request)
        found = []
        for topic, partitions in response.topics:
            numbers, offsets, _metadata, codes = zip(*partitions, strict=True)
            found.append(PartitionOffsets(topic, numbers, codes, offsets))
        return GroupOffsets(group, getattr(response, "error_code", 0), tuple(found))

    def _enter(self, answer: GroupOffsets, topics: _Topics, found: Commits) -> None:
        code = answer.code or next((code for topic in answer.topics for code in topic.codes if code), 0)
        if code:
            found.codes[answer.group] = code
            if _retriable(code):
                self._coordinators.pop(answer.group, None)
            return
        found.codes.pop(answer.group, None)
        rows = {topic: array("q", [-1]) * count for topic, count in topics.items()}
        for one in answer.topics:
            for number, offset in zip(one.numbers, one.offsets, strict=True):
                rows[one.topic][number] = offset
        found.committed[answer.group] = rows


def _holds(assignment: bytes) -> bool:
    """Whether a member's assignment has a partition."""
    return bool(assignment) and any(
        partitions for _, partitions in ConsumerProtocolMemberAssignment.decode(assignment).assignment
    )


def _retriable(code: int) -> bool:
    return code != 0 and bool(for_code(code).retriable)


async def _each(items: Iterable[_Item], work: Callable[[_Item], Awaitable[None]]) -> None:
    """Do the work for each item, `AT_ONCE` at a time."""
    rest = iter(items)

    async def worker() -> None:
        for item in rest:
            await work(item)

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
