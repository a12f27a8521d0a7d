"""A Kafka producer that keeps order, never doubles a record and holds a bounded number of bytes.

aiokafka sends one batch a partition at a time, and with idempotence it repeats a batch until the broker has it, however
long that takes: futures wait through an outage, also of the leader of one partition, and `send` waits once the limit is
reached. If it gives up all the same, records sent later could overtake the lost one; therefore one failure spends the
producer.

What is sent to a partition that nobody leads is kept here until somebody does. It takes its room of the limit, and no
other partition's record waits for it; aiokafka would take one batch, and make the next `send` wait.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError

from eod_workers.adapters.kafka_access import KafkaAccess
from eod_workers.adapters.kafka_errors import translated
from eod_workers.adapters.kafka_leaders import Leaders, wait_for_leaders
from eod_workers.ports import Appended, RecordTooLarge, TopicPartition, Unavailable, UnknownTopic

MAX_RECORD_BYTES = 4 * 1024 * 1024  # also the topics' max.message.bytes
_MAX_BATCH_BYTES = 1024 * 1024
_LINGER_MS = 0
_FULL_LOOK_S = 1.0  # how often it is looked whether somebody still leads a partition whose batch is full
_LEADER_LOOK_S = 0.25
_RECORD_OVERHEAD_BYTES = 128  # of a record and its futures while in flight
_BATCH_OVERHEAD_BYTES = 256  # of a batch with one record, beside its key, its value and its headers


class ByteBudget:
    """Room for a number of bytes, given out in the order in which it was asked for."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._used_bytes = 0
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> None:
        """Waits for room. Something larger than the limit gets in when nothing else is there."""
        if not self._queue and self._fits(size):
            self._used_bytes += size
            return
        granted = asyncio.get_running_loop().create_future()
        self._queue.append((size, granted))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.give_back(size)
            raise

    def give_back(self, size: int) -> None:
        """Makes room again, and lets in those who fit."""
        self._used_bytes -= size
        while self._queue and (self._queue[0][1].done() or self._fits(self._queue[0][0])):
            size, granted = self._queue.popleft()
            if not granted.done():  # else it was cancelled
                self._used_bytes += size
                granted.set_result(None)

    def _fits(self, size: int) -> bool:
        return self._used_bytes == 0 or self._used_bytes + size <= self._limit_bytes


class BatchLimits(Protocol):
    """What topics take in one batch."""

    async def of(self, topic: str) -> int:
        """Bytes of the largest batch that a topic takes: its `max.message.bytes`, as far as one may know."""
        ...

    def refused(self, topic: str, limit: int) -> None:
        """A broker has refused a batch that was within a limit."""
        ...


class _Kept(NamedTuple):
    """A record that waits for its partition's leader, or goes to aiokafka at once."""

    value: bytes
    key: bytes | None
    headers: Sequence[tuple[str, bytes]]
    acknowledged: asyncio.Future[Appended]
    size: int


class KafkaProducer:
    """A started producer; see `ports.Producer`. Made by `KafkaLog.producer`."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        partition_count: Callable[[str], Awaitable[int]],
        batch_limits: BatchLimits,
        *,
        max_in_flight_bytes: int,
        close_timeout_s: float,
    ) -> None:
        self._producer = producer
        self._leaders = Leaders(producer.client.cluster)
        wait_for_leaders(producer, self._leaders)
        self._partition_count = partition_count
        self._batch_limits = batch_limits
        self._limits: dict[str, int] = {}
        self._close_timeout_s = close_timeout_s
        self._counts: dict[str, int] = {}
        self._budget = ByteBudget(max_in_flight_bytes)
        self._turns: defaultdict[TopicPartition, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._kept: dict[TopicPartition, deque[_Kept]] = {}  # for partitions that nobody leads
        self._sending_kept: asyncio.Task[None] | None = None
        self._in_flight: dict[asyncio.Future[Appended], TopicPartition] = {}
        self._failure: BaseException | None = None
        self._closed = False

    async def send(
        self,
        topic: str,
        partition: int,
        value: bytes,
        *,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> asyncio.Future[Appended]:
        """Queues a record, waiting for room when the limit of bytes in flight is reached.

        Raises:
            UnknownTopic: no such topic or partition.
            Unavailable: the broker cannot be reached, or an earlier record was given up: close this producer then.
            RecordTooLarge: its topic takes none of this size.
        """
        size = len(value) + len(key or b"") + _RECORD_OVERHEAD_BYTES
        source = TopicPartition(topic, partition)
        async with self._turns[source]:  # aiokafka alone lets waiting senders be overtaken
            await self._require_partition(topic, partition)
            await self._require_room(topic, len(value) + len(key or b"") + sum(len(n) + len(v) for n, v in headers))
            await self._budget.take(size)
            try:
                self._check()
                acknowledged: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
                record = _Kept(value, key, headers, acknowledged, size)
                if source in self._kept or not await self._queue(source, record):
                    self._keep(source, record)
            except BaseException:
                self._budget.give_back(size)
                raise
            self._in_flight[acknowledged] = source
            return acknowledged

    def leaderless(self) -> frozenset[TopicPartition]:
        """Partitions that nobody leads now, of those that have yet to take what was sent."""
        missing = self._leaders.missing
        if not missing and not self._kept:
            return frozenset()
        return frozenset(one for one in self._in_flight.values() if one in missing or one in self._kept)

    async def flush(self) -> None:
        """Returns once all that was sent is acknowledged or has failed."""
        if self._in_flight:
            await asyncio.wait(tuple(self._in_flight))

    async def close(self) -> None:
        """Flushes and gives its resources back; what is not acknowledged within the time limit fails."""
        if self._closed:
            return
        self._closed = True
        if self._in_flight:
            await asyncio.wait(tuple(self._in_flight), timeout=self._close_timeout_s)
        if self._sending_kept is not None:
            self._sending_kept.cancel()
        try:
            async with asyncio.timeout(self._close_timeout_s if not self._in_flight else 0):
                await self._producer.stop()
        except TimeoutError:
            await self._abort()
        for acknowledged in tuple(self._in_flight):
            if not acknowledged.done():
                acknowledged.set_exception(Unavailable("the producer was closed before the broker had the record"))
        self._in_flight.clear()

    async def _queue(self, source: TopicPartition, record: _Kept) -> bool:
        """Hands a record to aiokafka; False if nobody leads its partition."""
        topic, partition = source
        with translated(f"sending to {topic}-{partition}"):
            while source not in self._leaders.missing:
                is_known = self._producer.client.cluster.leader_for_partition(source) is not None
                try:
                    async with asyncio.timeout(_FULL_LOOK_S if is_known else None):
                        queued: asyncio.Future[Any] = await self._producer.send(
                            topic, record.value, record.key, partition, headers=list(record.headers)
                        )
                except (KafkaTimeoutError, TimeoutError):  # the partition's batch is full and does not move: an outage
                    self._check()
                else:
                    queued.add_done_callback(partial(self._acknowledge, topic, record.acknowledged, record.size))
                    return True
        return False

    def _keep(self, source: TopicPartition, record: _Kept) -> None:
        self._kept.setdefault(source, deque()).append(record)
        if self._sending_kept is None or self._sending_kept.done():
            self._sending_kept = asyncio.create_task(self._send_kept(), name="records that nobody could take")

    async def _send_kept(self) -> None:
        """Looks from time to time who is led again, and sends what was kept for that partition, in order."""
        try:
            while self._kept:
                await asyncio.sleep(_LEADER_LOOK_S)
                await self._producer.client.force_metadata_update()
                for source in tuple(self._kept):
                    async with self._turns[source]:
                        await self._send_kept_of(source)
        except (Unavailable, PermissionError, UnknownTopic, ValueError, RuntimeError) as error:
            self._failure = self._failure or error
            for record in [record for some in self._kept.values() for record in some]:
                self._settle(record.acknowledged, record.size)
                if not record.acknowledged.done():
                    record.acknowledged.set_exception(Unavailable(f"the broker did not take the record: {error}"))
            self._kept.clear()

    async def _send_kept_of(self, source: TopicPartition) -> None:
        kept = self._kept[source]
        while kept:
            self._check_failure()
            if kept[0].acknowledged.done():  # cancelled by the caller
                self._settle(kept[0].acknowledged, kept[0].size)
            elif not await self._queue(source, kept[0]):
                return
            kept.popleft()
        del self._kept[source]

    def _settle(self, acknowledged: asyncio.Future[Appended], size: int) -> None:
        self._budget.give_back(size)
        self._in_flight.pop(acknowledged, None)

    def _acknowledge(
        self, topic: str, acknowledged: asyncio.Future[Appended], size: int, queued: asyncio.Future[Any]
    ) -> None:
        self._budget.give_back(size)
        self._in_flight.pop(acknowledged, None)
        error = asyncio.CancelledError() if queued.cancelled() else queued.exception()
        if error is not None:
            self._failure = self._failure or error
        if isinstance(error, MessageSizeTooLargeError):
            self._batch_limits.refused(topic, self._limits[topic])
        if acknowledged.done():  # cancelled by the caller, or failed by `close`
            return
        if error is not None:
            acknowledged.set_exception(Unavailable(f"the broker did not take the record: {error!r}"))
        else:
            metadata = queued.result()
            acknowledged.set_result(Appended(metadata.topic, metadata.partition, metadata.offset))

    async def _require_partition(self, topic: str, partition: int) -> None:
        count = self._counts.get(topic, 0)
        if not 0 <= partition < count:
            count = self._counts[topic] = await self._partition_count(topic)
        if not 0 <= partition < count:
            raise UnknownTopic(f"topic {topic} has {count} partitions, there is no {partition}")

    async def _require_room(self, topic: str, size: int) -> None:
        """Asks once what a topic takes. aiokafka does not divide a batch that is too large: it makes none such then."""
        if topic not in self._limits:
            limit = self._limits[topic] = await self._batch_limits.of(topic)
            accumulator = self._producer._message_accumulator  # noqa: SLF001  aiokafka has no public way to
            accumulator._batch_size = min(accumulator._batch_size, limit)  # noqa: SLF001
        limit = self._limits[topic] - _BATCH_OVERHEAD_BYTES
        if size > limit:
            raise RecordTooLarge(topic, size, limit)

    def _check(self) -> None:
        if self._closed:
            raise RuntimeError("this producer is closed")
        self._check_failure()

    def _check_failure(self) -> None:
        if self._failure is not None:
            raise Unavailable(f"this producer gave up an earlier record, make another: {self._failure!r}")

    async def _abort(self) -> None:
        """Ends what `AIOKafkaProducer.stop` leaves behind when it is interrupted."""
        sender = self._producer._sender  # noqa: SLF001  aiokafka has no public way to stop without delivering
        if sender.sender_task is not None:
            sender.sender_task.cancel()
        await self._producer.client.close()


async def start_producer(
    access: KafkaAccess,
    partition_count: Callable[[str], Awaitable[int]],
    batch_limits: BatchLimits,
    *,
    max_in_flight_bytes: int,
    timeout_s: float,
) -> KafkaProducer:
    """Connects a producer.

    Raises:
        Unavailable: the broker cannot be reached.
    """
    producer = AIOKafkaProducer(
        **access.arguments(),
        acks="all",
        enable_idempotence=True,
        compression_type="zstd",
        max_batch_size=_MAX_BATCH_BYTES,
        max_request_size=MAX_RECORD_BYTES,
        linger_ms=_LINGER_MS,
    )
    try:
        async with access.reaching(f"connecting a producer to {access.bootstrap}"):
            async with asyncio.timeout(timeout_s):
                await producer.start()
    except BaseException:
        await producer.stop()
        raise
    return KafkaProducer(
        producer, partition_count, batch_limits, max_in_flight_bytes=max_in_flight_bytes, close_timeout_s=timeout_s
    )
