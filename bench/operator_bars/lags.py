"""Lag at will: topics with records, and groups that commit any offset without consuming."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.commit import OffsetCommitRequest

TOPICS = 4
PARTITIONS = 12
RECORDS = 2_000
_AT_ONCE = 32
_ATTEMPTS = 100
_RETRY_AFTER_S = 0.1


def topic(number: int) -> str:
    """Name of a shared topic."""
    return f"trades-{number % TOPICS}"


class Lags:
    """Commits of consumer groups that have no members, as a simple consumer makes them."""

    def __init__(self, bootstrap: str) -> None:
        self._client = AIOKafkaClient(bootstrap_servers=bootstrap, client_id="bench")
        self._bootstrap = bootstrap
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def __aenter__(self) -> Self:
        await self._client.bootstrap()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def fill(self, topics: Iterable[str]) -> None:
        """Append `RECORDS` records to each topic, spread evenly over its partitions."""
        async with AIOKafkaProducer(bootstrap_servers=self._bootstrap, linger_ms=5) as producer:
            for name in topics:
                for number in range(RECORDS):
                    await producer.send(name, b"record", partition=number % PARTITIONS)
            await producer.flush()

    async def commit(self, group: str, name: str, *, behind: int = 0) -> None:
        """Let a group be so many records behind the end of a topic that `fill` has filled; 0 is at the end.

        Raises:
            KafkaError: the broker refused it.
        """
        offsets = []
        for number in range(PARTITIONS):
            end = RECORDS // PARTITIONS + (number < RECORDS % PARTITIONS)
            mine = behind // PARTITIONS + (number < behind % PARTITIONS)
            offsets.append((number, max(0, end - mine), ""))
        request = OffsetCommitRequest(group, OffsetCommitRequest.DEFAULT_GENERATION_ID, "", -1, [(name, offsets)])
        async with self._slots:
            for attempt in range(_ATTEMPTS):
                # The test bed's only broker keeps every group.
                response = await self._client.send(self._client.get_random_node(), request)
                codes = {code for _topic, partitions in response.topics for _number, code in partitions} - {0}
                if not codes:
                    return
                failure = for_code(codes.pop())
                if not failure.retriable or attempt == _ATTEMPTS - 1:
                    raise failure(f"committing {group}")
                # The topic of all commits is made when a coordinator is first asked for.
                with contextlib.suppress(KafkaError):
                    await self._client.coordinator_lookup(CoordinationType.GROUP, group)
                await asyncio.sleep(_RETRY_AFTER_S)
