"""Sessions while nobody leads a partition: who has sent something for it is not read, and whoever has not is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from eod_workers.ports import TopicPartition
from eod_workers.trades.partitioner import partition_of
from support.fix_messages import message, trade_body
from support.fix_wire import Wire, booked, listening
from support.parted_log import PartedLog
from support.patience import limited, soon
from support.sampled import sampled
from support.stage_world import StageWorld, Worker

pytestmark = pytest.mark.timeout(60)
GONE, LED = "IBM", "AAPL"


def logon(sender: str, number: int = 1) -> bytes:
    return message("A", number, "98=0|108=30|", sender=sender)


def trade(sender: str, number: int, symbol: str) -> bytes:
    return message("8", number, trade_body(f"{sender}{number}", symbol=symbol), sender=sender)


async def on_the_log(world: StageWorld, *exec_ids: str) -> None:
    """Wait until these trades are, and no others."""
    found: Sequence[str] = ()
    async with limited(20):
        while sorted(found) != sorted(exec_ids):
            found = [one.exec_id for one in await booked(world)]
            await asyncio.sleep(0.01)


async def test_sessions_wait_for_what_they_have_sent_and_for_nothing_else(world: StageWorld) -> None:
    """Others come in meanwhile. What one that waits writes is read when somebody leads again."""
    parted = world.log = PartedLog(world.log)  # type: ignore[assignment]
    parted.without = {TopicPartition("trades.raw", partition_of(GONE, await parted.partition_count("trades.raw")))}
    worker, port = await listening(world)
    waits, goes_on = await Wire.to(port), await Wire.to(port)
    stranger = await Wire.to(port)
    await waits.write(logon("A"), trade("A", 2, GONE))
    await goes_on.write(logon("B"), trade("B", 2, LED))
    await on_the_log(world, "B2")
    await soon(lambda: sampled(worker.metrics.waiting, "eod_fix_sessions_waiting") == 1, "one waits")
    await waits.write(trade("A", 3, LED))
    await goes_on.write(trade("B", 3, LED))
    await stranger.write(logon("C"), trade("C", 2, LED))
    await on_the_log(world, "B2", "B3", "C2")
    assert worker.health.why_not == ""
    await parted.lead()
    await soon(lambda: sampled(worker.metrics.waiting, "eod_fix_sessions_waiting") == 0, "nobody waits")
    await on_the_log(world, "A2", "A3", "B2", "B3", "C2")
    for wire in (waits, goes_on, stranger):
        await wire.close()
    await worker.stop()


async def test_a_session_that_comes_back_still_waits(world: StageWorld) -> None:
    """It had hung up before it was known that nobody leads what it has sent for."""
    parted = world.log = PartedLog(world.log)  # type: ignore[assignment]
    parted.without = {TopicPartition("trades.raw", partition_of(GONE, await parted.partition_count("trades.raw")))}
    worker, port = await listening(world)
    parted.may_send.clear()
    gone = await Wire.to(port)
    await gone.write(logon("A"), trade("A", 2, GONE))
    await soon(lambda: 3 in {one.tenure and one.tenure.sequence.inbound for one in connections(worker)}, "it is read")
    await gone.close()
    await soon(lambda: not connections(worker), "it has hung up")
    parted.may_send.set()
    await soon(lambda: sampled(worker.metrics.waiting, "eod_fix_sessions_waiting") == 1, "it waits")
    again, other = await Wire.to(port), await Wire.to(port)
    await again.write(logon("A", 3))
    await again.hear(b"A")
    await again.write(trade("A", 4, LED))
    await other.write(logon("B"), trade("B", 2, LED))
    await on_the_log(world, "B2")
    await parted.lead()
    await on_the_log(world, "A2", "A4", "B2")
    for wire in (again, other):
        await wire.close()
    await worker.stop()


def connections(worker: Worker) -> list[Any]:
    return list(worker.service._admission.connections)


async def test_whoever_has_not_logged_on_is_read_though_what_strangers_have_sent_waits(world: StageWorld) -> None:
    """All of them are nobody: what one has sent holds up no other."""
    parted = world.log = PartedLog(world.log)  # type: ignore[assignment]
    count = await parted.partition_count("sessions.raw")
    parted.without = {TopicPartition("sessions.raw", number) for number in range(count)}
    worker, port = await listening(world)
    late, nobody = await Wire.to(port), await Wire.to(port)
    await nobody.write(message("0", 1, sender="X" * 300))
    await soon(lambda: bool(parted.kept), "what a stranger has sent waits")
    await late.write(logon("B"))
    await late.hear(b"A")
    await parted.lead()
    for wire in (late, nobody):
        await wire.close()
    await worker.stop()
