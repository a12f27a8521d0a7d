"""Over how many partitions trades are spread: said once, and kept when a topic is given more."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from eod_workers.adapters.memory_state import MemoryState
from eod_workers.ports import Unavailable, UnknownTopic
from eod_workers.trades.spread import spread_of
from structlog.testing import capture_logs


class Counts:
    """A log that knows how many partitions its topics have, and nothing else."""

    def __init__(self, **counts: int) -> None:
        self.counts = counts

    async def partition_count(self, topic: str) -> int:
        if topic not in self.counts:
            raise UnknownTopic(topic)
        return self.counts[topic]


async def test_it_is_what_the_topic_has_when_it_is_first_asked_for_and_stays() -> None:
    log: Any = Counts(trades=12, others=3)
    state = MemoryState()
    assert await asyncio.gather(*(spread_of(log, state, "trades") for _ in range(3))) == [12, 12, 12]
    log.counts["trades"] = 24
    assert (await spread_of(log, state, "trades"), await spread_of(log, state, "others")) == (12, 3)
    assert await spread_of(log, MemoryState(), "trades") == 24, "a store that knows nothing"


async def test_partitions_that_are_not_used_are_said_where_it_is_wanted() -> None:
    log: Any = Counts(trades=12)
    state = MemoryState()
    with capture_logs() as logs:
        await spread_of(log, state, "trades", warn=True)
        log.counts["trades"] = 13
        await spread_of(log, state, "trades")
        assert logs == []
        await spread_of(log, state, "trades", warn=True)
    assert [(one["event"], one["partitions"], one["used"]) for one in logs] == [("partitions.unused", 13, 12)]


async def test_fewer_partitions_than_before_are_waited_for_and_the_remedy_is_named() -> None:
    log: Any = Counts(trades=12)
    state = MemoryState()
    await spread_of(log, state, "trades")
    log.counts["trades"] = 6
    with pytest.raises(
        Unavailable, match=r"has 6 partitions, and .* over 12: .*--alter --topic trades --partitions 12"
    ):
        await spread_of(log, state, "trades")
    log.counts["trades"] = 12
    assert await spread_of(log, state, "trades") == 12


async def test_a_topic_that_is_not_there_leaves_nothing_behind() -> None:
    state = MemoryState()
    with pytest.raises(UnknownTopic):
        await spread_of(Counts(), state, "trades")  # type: ignore[arg-type]
    assert await state.keys("spread:") == []
