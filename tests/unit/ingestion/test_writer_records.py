"""How ingestion cuts what it has read into records that a broker takes."""

from __future__ import annotations

import pytest
from eod_workers.adapters.clock import SystemClock
from eod_workers.adapters.kafka_producer import MAX_RECORD_BYTES
from eod_workers.adapters.memory_log import MemoryLog
from eod_workers.adapters.memory_state import MemoryState
from eod_workers.ingestion.metrics import IngestionMetrics
from eod_workers.ingestion.writer import LogWriter, Topics
from eod_workers.ports import TopicPartition, TopicSpec
from eod_workers.trades.codec import decode_frames
from eod_workers.trades.columns import MAX_FRAME_BYTES_A_RECORD, MAX_TRADES_A_RECORD, slices


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


async def test_a_backlog_of_any_size_becomes_records_that_the_broker_takes() -> None:
    """A session that ends ahead of a gap sets up to 20,000 frames aside at once; one record of them all was refused."""
    log = MemoryLog()
    await log.ensure_topics([TopicSpec(name, 1) for name in ("t", "s", "l")])
    producer = await log.producer()
    state = MemoryState()
    writer = LogWriter(
        producer,
        state,
        SystemClock(),
        Topics("t", 1, "s", 1, "l", 1),
        full=lambda _on: None,
        superseded=lambda _tenure: None,
        metrics=IngestionMetrics(),
    )
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
