"""How ingestion cuts what it has read into records that a broker takes."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest
from eod_workers.adapters.clock import SystemClock
from eod_workers.adapters.kafka_producer import MAX_RECORD_BYTES
from eod_workers.adapters.memory_log import MemoryLog
from eod_workers.adapters.memory_state import MemoryState
from eod_workers.ingestion.metrics import IngestionMetrics
from eod_workers.ingestion.writer import LogWriter, Topics
from eod_workers.letters import decode_letter, is_first_hand
from eod_workers.ports import RecordTooLarge, TopicPartition, TopicSpec
from eod_workers.trades.codec import decode_frames, decode_trades
from eod_workers.trades.columns import MAX_FRAME_BYTES_A_RECORD, MAX_TRADES_A_RECORD, slices
from support.trade_rows import row


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([10], [1]),
        ([1] * MAX_TRADES_A_RECORD, [MAX_TRADES_A_RECORD]),
        ([1] * (MAX_TRADES_A_RECORD + 1), [MAX_TRADES_A_RECORD, 1]),
        ([MAX_FRAME_BYTES_A_RECORD], [1]),
        ([MAX_FRAME_BYTES_A_RECORD, 1], [1, 1]),
        ([MAX_FRAME_BYTES_A_RECORD // 2] * 5, [2, 2, 1]),
        ([MAX_FRAME_BYTES_A_RECORD + 1] * 3, [1, 1, 1]),
    ],
)
def test_frames_are_cut_by_number_and_by_bytes_and_none_is_left_out(sizes: list[int], expected: list[int]) -> None:
    parts = list(slices(sizes))
    assert [part.stop - part.start for part in parts] == expected
    assert [size for part in parts for size in sizes[part]] == sizes


class Narrow:
    """A producer of a log whose topics take no record of more than so many bytes."""

    def __init__(self, producer: Any, **limits: int) -> None:
        self.producer = producer
        self.limits = limits
        self.sizes: list[int] = []

    async def send(self, topic: str, partition: int, value: bytes, **more: Any) -> Any:
        size = len(value) + len(more.get("key") or b"")
        self.sizes.append(size)
        if size > self.limits[topic]:
            raise RecordTooLarge(topic, size, self.limits[topic])
        return await self.producer.send(topic, partition, value, **more)

    def leaderless(self) -> Any:
        return self.producer.leaderless()


async def test_records_are_no_larger_than_their_topics_take_and_what_fits_none_is_a_letter() -> None:
    """In their order, each received byte once, with the remedy; a letter without room holds what has."""
    async with AsyncExitStack() as stack:
        log = MemoryLog()
        stack.push_async_callback(log.close)
        await log.ensure_topics([TopicSpec(name, 1) for name in ("t", "s", "l")])
        narrow = Narrow(await log.producer(), t=2_000, s=1_000, l=1_500)
        writer = writer_of(narrow)
        trades = [row(n, frame=b"%d" % n + b"x" * (200 if n % 10 else 1_900)) for n in range(1, 60)]
        frames = [b"%d" % n + b"y" * (100 if n % 7 else 1_100) for n in range(1, 30)]
        for trade in trades:
            writer.trade(trade)
        for frame in frames:
            writer.aside("A->B", frame, 5)
        writer.stop()
        await writer.run()
        assert writer.unacknowledged_letters() == []
        found = {name: [r async for r in log.read(TopicPartition(name, 0), 0, 10_000)] for name in ("t", "s", "l")}
    assert [one for r in found["t"] for one in decode_trades(r.value)] == [t for t in trades if len(t.frame) < 1_000]
    assert [one for r in found["s"] for one in decode_frames(r.value)[1]] == [f for f in frames if len(f) < 1_000]
    letters = {one.raw: one for one in (decode_letter(r.value) for r in found["l"])}
    large = [t.frame for t in trades if len(t.frame) > 1_000] + [f for f in frames if len(f) > 1_000]
    assert len(letters) == len(large)
    for whole in large:
        (letter,) = (one for raw, one in letters.items() if whole.startswith(raw) and raw[:5] == whole[:5])
        assert len(letter.raw) + letter.left_out == len(whole)
        assert bool(letter.left_out) == (len(whole) > 1_500)
        assert "raise its max.message.bytes (kafka-configs --alter --topic" in letter.detail
        assert is_first_hand(letter)
    assert max(r.offset for r in found["t"]) < 20, "records are as large as they may be, about"


def writer_of(producer: Any) -> LogWriter:
    """One of topics with one partition."""
    return LogWriter(
        producer,
        MemoryState(),
        SystemClock(),
        Topics("t", 1, "s", 1, "l", 1),
        full=lambda _on: None,
        superseded=lambda _tenure: None,
        waits=lambda _sessions: None,
        metrics=IngestionMetrics(),
    )


async def test_a_backlog_of_any_size_becomes_records_that_the_broker_takes() -> None:
    """A session that ends ahead of a gap sets up to 20,000 frames aside at once; one record of them all was refused."""
    log = MemoryLog()
    await log.ensure_topics([TopicSpec(name, 1) for name in ("t", "s", "l")])
    producer = await log.producer()
    writer = writer_of(producer)
    frames = [b"8=FIX.4.4 %06d" % number + b"x" * 300 for number in range(20_000)]
    for frame in frames:
        writer.aside("A->B", frame, 1)
    writer.stop()
    await writer.run()
    records = [record async for record in log.read(TopicPartition("s", 0), 0, 1_000)]
    assert [frame for record in records for frame in decode_frames(record.value)[1]] == frames
    assert max(len(record.value) for record in records) < MAX_RECORD_BYTES
    await producer.close()
    await log.close()
