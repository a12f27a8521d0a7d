"""*clients*: which Kafka client for which role. Ours is the adapter on aiokafka, the peer librdkafka (confluent-kafka).

The records are those of a close: 500 trades each, zstd, acknowledged by all replicas, with idempotence. CPU time is
that of this whole process, librdkafka's threads included. The peer is spared what an asyncio program has to add: its
acknowledgements are counted where they come, and handed to nobody's event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from confluent_kafka import Consumer, Producer
from eod_workers.adapters.kafka import KafkaLog
from eod_workers.ports import TopicPartition

from close.figures import Row, quantiles
from close.flow import PARTITIONS, ROWS, make_flow, our_records
from close.options import Options
from close.servers import Servers

_POLL_S: Final = 0.1
_RECORDS_A_POLL: Final = 500
_BATCH_BYTES: Final = 1 << 20
_LARGEST_BYTES: Final = 4 << 20
_FEW_TRADES: Final = 30
"""What 10,000 trades a second come to in 3 ms, in as many records as they have partitions: those are timed alone."""

_ALONE: Final = 500
"""How many of them."""

Records = list[tuple[int, bytes]]
"""(partition, value)."""


class Spent:
    """Seconds by the wall and of the process's CPU since this was made."""

    def __init__(self) -> None:
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def so_far(self) -> tuple[float, float]:
        """Both."""
        return time.perf_counter() - self._wall_s, time.process_time() - self._cpu_s


class _Everything:
    """A listener that reads from the beginning and keeps nothing."""

    async def assigned(self, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        """From the first record on."""
        return dict.fromkeys(partitions, 0)

    async def revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """There is nothing to give back."""


async def our_produce(log: KafkaLog, topic: str, records: Records) -> tuple[float, float]:
    """Appends all records, many in flight; until the last is acknowledged."""
    producer = await log.producer()
    try:
        spent = Spent()
        acks = [await producer.send(topic, number, value) for number, value in records]
        await asyncio.gather(*acks)
        return spent.so_far()
    finally:
        await producer.close()


async def our_latencies(log: KafkaLog, topic: str, values: Iterable[bytes]) -> list[float]:
    """Milliseconds from sending to the acknowledgement, one record after the other."""
    producer, took_ms = await log.producer(), []
    try:
        for value in values:
            began = time.perf_counter()
            await (await producer.send(topic, 0, value))
            took_ms.append((time.perf_counter() - began) * 1e3)
    finally:
        await producer.close()
    return took_ms


async def our_consume(log: KafkaLog, topic: str, group: str, count: int) -> tuple[float, float, int]:
    """Reads so many records as a member of a group; their bytes, too."""
    consumer, found, size = log.consumer((topic,), group), 0, 0
    await consumer.start(_Everything())
    try:
        spent = Spent()
        while found < count:
            records = await consumer.poll(_RECORDS_A_POLL, _POLL_S)
            found += len(records)
            size += sum(len(record.value) for record in records)
        return *spent.so_far(), size
    finally:
        await consumer.close()


def _peer_producer(bootstrap: str) -> Producer:
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "zstd",
            "linger.ms": 0,
            "batch.size": _BATCH_BYTES,
            "message.max.bytes": _LARGEST_BYTES,
        }
    )


def peer_produce(bootstrap: str, topic: str, records: Records) -> tuple[float, float]:
    """The same by librdkafka."""
    producer = _peer_producer(bootstrap)
    failed: list[Any] = []
    producer.list_topics(topic, timeout=10)  # connected, as ours is when its clock starts
    spent = Spent()
    for number, value in records:
        while True:
            try:
                producer.produce(topic, value, partition=number, on_delivery=lambda error, _: failed.append(error))
                break
            except BufferError:
                producer.poll(_POLL_S)
        producer.poll(0)
    producer.flush()
    took = spent.so_far()
    if len(failed) != len(records) or any(failed):
        raise RuntimeError(f"no time is worth reporting: librdkafka lost records, {[e for e in failed if e][:1]}")
    return took


def peer_latencies(bootstrap: str, topic: str, values: Iterable[bytes]) -> list[float]:
    """The same by librdkafka."""
    producer, took_ms = _peer_producer(bootstrap), []
    producer.list_topics(topic, timeout=10)
    for value in values:
        began = time.perf_counter()
        producer.produce(topic, value, partition=0)
        while len(producer):
            producer.poll(_POLL_S)
        took_ms.append((time.perf_counter() - began) * 1e3)
    return took_ms


def peer_consume(bootstrap: str, topic: str, group: str, count: int) -> tuple[float, float, int]:
    """The same by librdkafka, whose clock starts when it has its partitions."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "partition.assignment.strategy": "range",
            "fetch.wait.max.ms": 100,
            "max.partition.fetch.bytes": _LARGEST_BYTES,
        }
    )
    begun: list[Spent] = []
    consumer.subscribe([topic], on_assign=lambda *_: begun.append(Spent()))
    found = size = 0
    try:
        while found < count:
            for message in consumer.consume(_RECORDS_A_POLL, _POLL_S):
                if message.error():
                    raise RuntimeError(f"librdkafka: {message.error()}")
                found += 1
                size += len(message.value())
        return *begun[0].so_far(), size
    finally:
        consumer.close()


def measure(made: Servers, _folder: Path, options: Options) -> list[Row]:
    """Each role by both, after a run that warms up.

    Raises:
        RuntimeError: a client lost a record, or read other bytes than were sent.
    """
    flow = make_flow("K", options.trades, options.shape)
    records = [(number, value) for number, values in our_records(flow).items() for value in values]
    sent_bytes = sum(len(value) for _, value in records)
    small = [value for values in our_records(make_flow("L", _FEW_TRADES, options.shape)).values() for value in values]
    alone = (small * _ALONE)[:_ALONE]
    bootstrap = made.kafka.bootstrap
    wall: dict[tuple[str, str], list[float]] = {}
    cpu: dict[tuple[str, str], list[float]] = {}
    late: dict[str, list[dict[str, float]]] = {}
    for run in range(options.runs + 1):
        for side in ("ours", "peer"):
            topic, group = made.topic(f"log-{side}"), made.unique("readers")
            if side == "ours":
                wrote, read, took_ms = asyncio.run(_ours(bootstrap, topic, group, records, alone))
            else:
                wrote = peer_produce(bootstrap, topic, records)
                read = peer_consume(bootstrap, topic, group, len(records))
                took_ms = peer_latencies(bootstrap, topic, alone)
            made.kafka.delete_topic(topic)
            if read[2] != sent_bytes:
                raise RuntimeError(f"no time is worth reporting: {side} read {read[2]} bytes of {sent_bytes}")
            if run:
                for role, (took_s, cpu_s, *_) in (("produce", wrote), ("consume", read)):
                    wall.setdefault((role, side), []).append(len(flow) / took_s)
                    cpu.setdefault((role, side), []).append(cpu_s * 1e6 / len(flow))
                late.setdefault(side, []).append(quantiles(np.array(took_ms)))
    rows = []
    for role in ("produce", "consume"):
        what = f"{role}: aiokafka; librdkafka"
        rows.append(Row("clients", what, "trades/s", wall[role, "ours"], wall[role, "peer"]))
        rows.append(Row("clients", what, "CPU s/million", cpu[role, "ours"], cpu[role, "peer"], more_is_better=False))
    for share in ("p50", "p99"):
        ours, peer = ([one[share] for one in late[side]] for side in ("ours", "peer"))
        what = f"{share} from sending to acknowledged, one at a time"
        rows.append(Row("clients", what, "ms", ours, peer, more_is_better=False))
    each_kb = sent_bytes / len(records) / 1e3
    rows[0].note = f"{len(records):,} records of {ROWS} trades and {each_kb:.0f} KB, zstd, {PARTITIONS} partitions"
    return rows


async def _ours(
    bootstrap: str, topic: str, group: str, records: Records, alone: list[bytes]
) -> tuple[tuple[float, float], tuple[float, float, int], list[float]]:
    log = KafkaLog(bootstrap)
    try:
        wrote = await our_produce(log, topic, records)
        read = await our_consume(log, topic, group, len(records))
        return wrote, read, await our_latencies(log, topic, alone)
    finally:
        await log.close()
