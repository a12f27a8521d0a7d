"""One shared look at each Kafka for all pipelines on it, again and again.

A task per address and credentials, while a pipeline is on it: a dead Kafka holds no other up, nor does a wrong
password those whose is right. All of it runs on one event loop: `subscribe`, `unsubscribe` and `look` return at once,
and what `look` says changes only between two of its turns.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from eod_operator.conditions import Problem
from eod_operator.kafka.client import BROKERS_DEFAULT, KafkaReader
from eod_operator.kafka.errors import KafkaUnreachableError
from eod_operator.kafka.readings import Look, Wanted
from eod_operator.kafka.security import Endpoint
from eod_operator.kafka.watched import Watched

COALESCE_S = 0.05
"""New wishes wait for this, so that a burst of them is one look."""
RETRY_AT_MOST_S = 5.0
"""A Kafka that does not answer is asked this often in the end."""
RETENTION_FOR_S = 60.0

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Watch:
    """One endpoint: what is remembered of it, its connections, and the task that looks."""

    reader: KafkaReader
    memory: Watched = field(default_factory=Watched)
    wished: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class KafkaWatches:
    """Looks at each Kafka for many pipelines, each of which is known by a key."""

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        fastest_s: float = 1.0,
        requests_per_s: float = 400.0,
        changed: Callable[[str], None],
        reader: Callable[[Endpoint], KafkaReader] = KafkaReader,
    ) -> None:
        """Prepare; the first subscription starts the first task.

        Args:
            wall: tells when a look was.
            clock: tells how far two looks are apart.
            fastest_s: no Kafka is looked at more often, unless for a new wish.
            requests_per_s: nor with more requests than these, which bounds what many pipelines cost.
            changed: called after a look with each key of which it said something new; it must neither block
                nor raise.
            reader: makes the connections to an endpoint.
        """
        self._wall = wall
        self._clock = clock
        self._fastest_s = fastest_s
        self._requests_per_s = requests_per_s
        self._changed = changed
        self._make_reader = reader
        self._watches: dict[Endpoint, _Watch] = {}
        self._endpoint_of: dict[str, Endpoint] = {}
        self._withheld: dict[str, Problem] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._retention: dict[tuple[Endpoint, str], tuple[float, int | None]] = {}

    def subscribe(self, key: str, endpoint: Endpoint, wanted: Mapping[str, Wanted]) -> None:
        """Look at this for a pipeline from now on, instead of what it wanted before.

        A new wish is looked at at once, a wish as before changes nothing. While Kafka does not answer, new wishes
        wait for its next attempt.
        """
        if self._endpoint_of.get(key, endpoint) != endpoint:
            self.unsubscribe(key)
        self._withheld.pop(key, None)
        self._endpoint_of[key] = endpoint
        watch = self._watches.get(endpoint)
        if watch is None:
            watch = self._watches[endpoint] = _Watch(self._make_reader(endpoint))
            watch.task = asyncio.create_task(self._keep_looking(endpoint, watch), name=f"watch of Kafka at {endpoint}")
        if watch.memory.want(key, wanted):
            watch.wished.set()

    def withhold(self, key: str, problem: Problem) -> None:
        """Do not look for this pipeline, whose credentials are missing, and say why."""
        self.unsubscribe(key)
        self._withheld[key] = problem

    def unsubscribe(self, key: str) -> None:
        """Look for this pipeline no more; the last one on a Kafka closes the connections to it."""
        self._withheld.pop(key, None)
        endpoint = self._endpoint_of.pop(key, None)
        if endpoint is None:
            return
        watch = self._watches[endpoint]
        watch.memory.drop(key)
        if not watch.memory and watch.task is not None:
            del self._watches[endpoint]
            watch.task.cancel()
            self._ending.add(watch.task)
            watch.task.add_done_callback(self._ending.discard)

    def look(self, key: str) -> Look:
        """What is known of a pipeline; nothing of one that has not subscribed."""
        if key in self._withheld:
            return Look(problem=self._withheld[key].message, reason=self._withheld[key].reason)
        endpoint = self._endpoint_of.get(key)
        return Look() if endpoint is None else self._watches[endpoint].memory.look(key)

    async def retention(self, endpoint: Endpoint, topics: Collection[str]) -> Mapping[str, int | None]:
        """How long topics keep their records in milliseconds, as of at most `RETENTION_FOR_S` ago; -1 is for ever.

        None when the topic does not exist, or the operator may not read its settings.

        Raises:
            KafkaUnreachableError: no answer in time.
        """
        now_s = self._clock()
        self._retention = {key: known for key, known in self._retention.items() if known[0] > now_s - RETENTION_FOR_S}
        known = {topic: self._retention[endpoint, topic][1] for topic in topics if (endpoint, topic) in self._retention}
        asked = set(topics) - known.keys()
        if not asked:
            return known
        async with self._reader(endpoint) as reader:
            found = await reader.retention(asked)
        self._retention |= {(endpoint, topic): (now_s, kept_ms) for topic, kept_ms in found.items()}
        return known | found

    async def members(self, endpoint: Endpoint, groups: Collection[str]) -> Mapping[str, int]:
        """How many members of each group have partitions; nothing of groups that are unsettled or unreadable.

        Raises:
            KafkaUnreachableError: no answer in time.
        """
        async with self._reader(endpoint) as reader:
            return await reader.members(groups)

    async def create_topic(
        self,
        endpoint: Endpoint,
        name: str,
        *,
        partitions: int,
        replication_factor: int | None,
        retention_ms: int | None,
    ) -> None:
        """Create a topic, with the broker's defaults for what is None; one that exists is left as it is.

        Raises:
            KafkaUnreachableError: no answer in time.
            TopicRefusedError: the brokers do not create it as asked.
        """
        configs = {} if retention_ms is None else {"retention.ms": str(retention_ms)}
        copies = BROKERS_DEFAULT if replication_factor is None else replication_factor
        async with self._reader(endpoint) as reader:
            await reader.create(name, partitions, copies, configs)
        self._retention.pop((endpoint, name), None)
        if endpoint in self._watches:
            self._watches[endpoint].wished.set()

    async def close(self) -> None:
        """End all looks and close all connections."""
        for key in list(self._endpoint_of):
            self.unsubscribe(key)
        await asyncio.gather(*self._ending, return_exceptions=True)

    @asynccontextmanager
    async def _reader(self, endpoint: Endpoint) -> AsyncIterator[KafkaReader]:
        """The connections to an endpoint: those of its watch, or else some for this once."""
        watch = self._watches.get(endpoint)
        reader = self._make_reader(endpoint) if watch is None else watch.reader
        try:
            yield reader
        finally:
            if watch is None or self._watches.get(endpoint) is not watch:  # nobody else will close them
                await reader.close()

    async def _keep_looking(self, endpoint: Endpoint, watch: _Watch) -> None:
        """Look, wait, and look again, until cancelled."""
        retry_s = self._fastest_s
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(COALESCE_S)
            while True:
                watch.wished.clear()
                started_s = loop.time()
                requests = await self._look(endpoint, watch)
                took_s = loop.time() - started_s
                if requests is None:
                    await asyncio.sleep(retry_s)
                    retry_s = min(RETRY_AT_MOST_S, 2 * retry_s)
                    continue
                retry_s = self._fastest_s
                period_s = max(self._fastest_s, requests / self._requests_per_s)
                # Pipelines that come one after the other must not make this look without a pause.
                pause_s = max(COALESCE_S, took_s)
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, period_s - took_s - pause_s)):
                        await watch.wished.wait()
                await asyncio.sleep(pause_s)
        finally:
            await watch.reader.close()

    async def _look(self, endpoint: Endpoint, watch: _Watch) -> int | None:
        """Look once and tell whom it concerns; how many requests it took, None when it failed."""
        topics, groups = watch.memory.wishes()
        clock_s, wall_s = self._clock(), self._wall()
        requests = None
        try:
            offsets = await watch.reader.read(topics, groups)
        except KafkaUnreachableError as error:
            changed = watch.memory.failed(str(error), error.reason)
        except Exception as error:
            # Whatever it is, it must not end the only task that watches this Kafka.
            logger.exception("the look at Kafka at %s failed", endpoint)
            changed = watch.memory.failed(
                f"Kafka at {endpoint} (spec.kafka.bootstrapServers) was not understood ({error!r}): this is a fault of "
                "the operator, whose log has the details; replicas are held until it is mended",
                "KafkaUnreachable",
            )
        else:
            requests = offsets.requests
            changed = watch.memory.took(offsets, clock_s=clock_s, wall_s=wall_s)
        for key in changed:
            self._changed(key)
        return requests
