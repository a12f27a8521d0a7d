"""A consumer that has stalled ends its process: whoever supervises it starts one that reads again."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from eod_workers.adapters.clock import ManualClock
from eod_workers.ports import RebalanceListener, Record, Stalled, TopicPartition
from eod_workers.runtime.batchloop import BatchLoop
from eod_workers.runtime.health import Health


class StalledConsumer:
    """Owns a partition and never reads from it."""

    def __init__(self) -> None:
        self.closed = False

    async def start(self, listener: RebalanceListener) -> None:
        await listener.assigned(frozenset({TopicPartition("trades.raw", 0)}))

    async def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        raise Stalled(f"nothing was read: {max_records} {timeout_s}")

    async def close(self) -> None:
        self.closed = True


class Idle:
    """A handler with nothing to do."""

    name = "idle"

    async def assigned(self, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def flush(self, *, final: bool) -> Mapping[TopicPartition, int]:
        return {} if final else {TopicPartition("trades.raw", 0): 1}


async def test_a_stalled_consumer_ends_the_stage_and_leaves_the_group() -> None:
    consumer = StalledConsumer()
    loop = BatchLoop(Idle(), consumer, ManualClock(), Health())  # type: ignore[arg-type]
    with pytest.raises(Stalled, match="nothing was read"):
        await loop.run()
    assert consumer.closed
