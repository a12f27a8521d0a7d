"""Where a Kafka partition begins, now or at a given time: for readers that belong to no group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiokafka import TopicPartition as KafkaPartition

from eod_workers.ports import TopicPartition


async def first_offsets(reader: Any, sources: Sequence[TopicPartition], since_ms: int | None) -> dict[int, int]:
    """Partition → offset of the oldest record, or of the oldest whose timestamp is not before `since_ms`.

    Kafka says nothing of a partition that has no such record: it begins at its end then.

    Args:
        reader: a started `AIOKafkaConsumer`; its position and assignment stay as they are.
        sources: partitions of one topic.
        since_ms: milliseconds since the Unix epoch.
    """
    partitions = [KafkaPartition(*source) for source in sources]
    oldest = await reader.beginning_offsets(partitions)
    if since_ms is not None:
        found = await reader.offsets_for_times(dict.fromkeys(partitions, since_ms))
        late = [source for source in partitions if found.get(source) is None]
        ends = await reader.end_offsets(late) if late else {}
        # What retention has deleted meanwhile is no beginning.
        oldest = {s: max(oldest[s], ends[s] if s in ends else found[s].offset) for s in partitions}
    return {source.partition: offset for source, offset in oldest.items()}
