"""A consumer that has stalled ends its process: whoever supervises it starts one that reads again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from eod_contract.kinds import ARCHIVE
from eod_workers.ports import RebalanceListener, Record, Stalled, TopicPartition
from eod_workers.protos.dead_letter_pb2 import DeadLetter
from eod_workers.runtime.batchloop import BatchLoop
from eod_workers.runtime.core import Core, FlushPolicy, Offsets, Starts
from eod_workers.runtime.variables import StageSettings
from support.manual_clock import ManualClock
from unit.runtime.contexts import context_of


class StalledConsumer:
    """Owns a partition and never reads from it."""

    def __init__(self) -> None:
        self.closed = False

    async def start(self, listener: RebalanceListener) -> None:
        await listener.assigned(frozenset({TopicPartition("trades.raw", 0)}))

    async def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        raise Stalled(f"nothing was read: {max_records} {timeout_s}")

    def leaderless(self) -> frozenset[TopicPartition]:
        return frozenset()

    async def close(self) -> None:
        self.closed = True


class Idle(Core):
    """A core with nothing to do, that has everything."""

    kind = ARCHIVE

    async def load(self, partitions: frozenset[TopicPartition], topic_ids: Mapping[str, str]) -> Starts:
        del topic_ids
        return Starts(dict.fromkeys(partitions, 0))

    def revoke(self, partitions: frozenset[TopicPartition]) -> None:
        pass

    def apply(self, record: Record, letters: Callable[[DeadLetter], None]) -> int:
        raise NotImplementedError

    async def make_durable(self, offsets: Offsets, *, final: bool) -> Mapping[TopicPartition, int]:
        del offsets
        return {} if final else {TopicPartition("trades.raw", 0): 1}


async def test_a_stalled_consumer_ends_the_stage_and_leaves_the_group() -> None:
    consumer = StalledConsumer()

    async def start_offsets(_topic: str, *, partitions: list[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, 0)

    async def topic_ids(topics: list[str]) -> dict[str, str]:
        return dict.fromkeys(topics, "")

    made = SimpleNamespace(consumer=lambda _topics, _group: consumer, start_offsets=start_offsets, topic_ids=topic_ids)
    log = cast("Any", made)
    context = context_of(log, ManualClock())
    loop = BatchLoop(Idle(), context, StageSettings(), FlushPolicy(seconds=0.0))
    with pytest.raises(Stalled, match="nothing was read"):
        await loop.run()
    assert consumer.closed
