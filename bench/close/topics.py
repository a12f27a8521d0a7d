"""Topics filled before a run and read after it, by a client that takes no part in the run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

_BATCH_BYTES: Final = 1 << 20
_POLL_MS: Final = 500
_STUCK_POLLS: Final = 60
Ends = dict[int, int]
"""Partition → offset."""

Pair = tuple[bytes | None, bytes]
"""Key and value of a record."""


@asynccontextmanager
async def _reader(bootstrap: str, topic: str) -> AsyncIterator[tuple[AIOKafkaConsumer, list[TopicPartition]]]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, max_partition_fetch_bytes=8 << 20, fetch_max_bytes=64 << 20
    )
    await consumer.start()
    try:
        await consumer._client.force_metadata_update()  # noqa: SLF001 - else it may not know a topic that was just made
        sources = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        if not sources:
            raise RuntimeError(f"the topic {topic} is not on the broker: nobody has made it")
        yield consumer, sources
    finally:
        await consumer.stop()


class Watch:
    """Looks at the ends of topics over one connection, so that looking often costs little.

    To be used as a context, and outside of any event loop: it has one of its own.
    """

    def __init__(self, bootstrap: str, partitions: int) -> None:
        self._runner = asyncio.Runner()
        self._partitions = partitions
        self._bootstrap = bootstrap
        self._consumer: AIOKafkaConsumer | None = None

    def __enter__(self) -> Self:
        """Connects."""
        self._runner.run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        """Hangs up."""
        if self._consumer is not None:
            self._runner.run(self._consumer.stop())
        self._runner.close()

    async def _start(self) -> None:
        self._consumer = AIOKafkaConsumer(bootstrap_servers=self._bootstrap)
        await self._consumer.start()

    def ends(self, topic: str) -> Ends:
        """The offset behind each partition's last record."""
        sources = [TopicPartition(topic, number) for number in range(self._partitions)]
        consumer = self._consumer
        if consumer is None:
            raise RuntimeError("this is a context: use it with `with`")
        found = self._runner.run(consumer.end_offsets(sources))
        return {source.partition: offset for source, offset in found.items()}


async def read(
    bootstrap: str, topic: str, start: Mapping[int, int], until: Mapping[int, int]
) -> AsyncIterator[tuple[int, bytes | None, bytes]]:
    """(timestamp in ms, key, value) of all records between these offsets, those of a partition in their order.

    Raises:
        RuntimeError: records that the broker says it has do not come.
    """
    async with _reader(bootstrap, topic) as (consumer, sources):
        left = {source for source in sources if until.get(source.partition, 0) > start.get(source.partition, 0)}
        consumer.assign(list(left))
        for source in left:
            consumer.seek(source, start.get(source.partition, 0))
        idle = 0
        while left:
            polled = await consumer.getmany(timeout_ms=_POLL_MS)
            idle = 0 if polled else idle + 1
            if idle > _STUCK_POLLS:
                raise RuntimeError(f"{topic}: the broker does not give the records of {sorted(left)}")
            for source, records in polled.items():
                for record in records:
                    if record.offset < until[source.partition]:
                        yield record.timestamp, record.key, record.value
            left = {source for source in left if await consumer.position(source) < until[source.partition]}


async def fill(bootstrap: str, topic: str, records: Mapping[int, Iterable[Pair]], *, compression: str | None) -> int:
    """Appends records to the partitions given, in large batches; returns how many."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        compression_type=compression,
        max_batch_size=_BATCH_BYTES,
        max_request_size=4 * _BATCH_BYTES,
    )
    await producer.start()
    count = 0
    try:
        for number, pairs in records.items():
            waiting: Sequence[Pair] = list(pairs)
            position = 0
            while position < len(waiting):
                batch = producer.create_batch()
                while position < len(waiting):
                    key, value = waiting[position]
                    if batch.append(key=key, value=value, timestamp=None) is None:
                        break
                    position += 1
                count += batch.record_count()
                await producer.send_batch(batch, topic, partition=number)
        await producer.flush()
    finally:
        await producer.stop()
    return count
