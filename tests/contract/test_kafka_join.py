"""Members that are started together stop their group once, and nobody waits for a group without members."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from eod_workers.adapters.kafka import KafkaLog
from support.members import Listener, Logs
from support.patience import limited, soon
from testbed.kafka import Kafka

BEAT_S = 6.0
LONG_S = 3_000.0


@pytest.fixture
async def logs(kafka: Kafka) -> AsyncIterator[Logs]:
    """A log whose members wait for a beat."""
    logs = Logs(KafkaLog(kafka.bootstrap, join_beat_s=BEAT_S))
    yield logs
    await logs.close()


@pytest.mark.slow
async def test_members_that_come_seconds_apart_join_in_one_rebalance(logs: Logs, unique: str) -> None:
    """Each of them would stop the first one once more."""
    topic = await logs.topic(unique, 6)
    first, heard = logs.consumer([topic], unique), Listener()
    await first.start(heard)
    await asyncio.sleep(BEAT_S - time.time() % BEAT_S)  # behind a beat, so that all of them meet at the next one
    others = [logs.consumer([topic], unique) for _ in range(3)]
    starts = []
    for other in others:
        starts.append(asyncio.create_task(other.start(Listener())))
        await asyncio.sleep(BEAT_S / 6)
    await asyncio.gather(*starts)
    await soon(
        lambda: sorted(len(member.assignment()) for member in (first, *others)) == [1, 1, 2, 2],
        "four members share six partitions",
    )
    await soon(lambda: heard.events[-1][0] == "assigned", "the first one is told")
    assert [kind for kind, _ in heard.events].count("assigned") == 2, heard.events


async def test_nobody_waits_for_a_group_without_members(kafka: Kafka, unique: str) -> None:
    """The first, and the first after all have left: it would stand still meanwhile."""
    logs = Logs(KafkaLog(kafka.bootstrap, join_beat_s=LONG_S))
    try:
        topic = await logs.topic(unique, 1)
        for _ in range(2):
            member = logs.consumer([topic], unique)
            async with limited(20):
                await member.start(Listener())
            await member.close()
    finally:
        await logs.close()
