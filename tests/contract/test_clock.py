"""The promises of `ports.Clock`, and how the manual clock moves."""

from __future__ import annotations

import asyncio
import time

import pytest
from eod_workers.adapters.clock import SystemClock
from eod_workers.ports import Clock
from support.manual_clock import ManualClock
from support.virtual_time import virtually

NS = 1_000_000_000


@pytest.fixture(params=[SystemClock, ManualClock])
def clock(request: pytest.FixtureRequest) -> Clock:
    kind: type[SystemClock | ManualClock] = request.param
    return kind()


async def pass_time(clock: Clock, seconds: float) -> None:
    if isinstance(clock, ManualClock):
        await clock.advance(seconds)
    else:
        await asyncio.sleep(seconds)


async def test_both_readings_move_with_time(clock: Clock) -> None:
    wall, monotonic = clock.now_ns(), clock.monotonic()
    await pass_time(clock, 0.05)
    assert (clock.now_ns() - wall) / NS >= 0.05
    assert clock.monotonic() - monotonic >= 0.049


async def test_sleep_waits_while_others_run(clock: Clock) -> None:
    """It ends no sooner than asked, and the event loop is free meanwhile."""
    begun = clock.monotonic()
    sleeping = asyncio.create_task(clock.sleep(0.05))
    await pass_time(clock, 0.02)
    assert not sleeping.done()
    await pass_time(clock, 0.04)
    await asyncio.wait_for(sleeping, 5)
    assert clock.monotonic() - begun >= 0.05


@pytest.mark.parametrize("seconds", [0, -1])
async def test_nothing_to_wait_for_is_one_turn_of_the_others(clock: Clock, seconds: float) -> None:
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    await clock.sleep(seconds)
    assert turns == [1]


def test_the_system_clock_tells_the_epoch() -> None:
    before_ns = time.time_ns()
    assert before_ns <= SystemClock().now_ns() <= time.time_ns()


def test_the_system_clock_waits_by_the_event_loop() -> None:
    """So that whatever loop a worker runs on, its deadlines and its timeouts are of one time."""

    async def hour() -> float:
        clock = SystemClock()
        begun = clock.monotonic()
        assert begun == asyncio.get_running_loop().time()
        await clock.sleep(3600)
        return clock.monotonic() - begun

    assert virtually(hour()) == pytest.approx(3600)


async def test_a_manual_clock_stops_at_every_deadline_on_the_way() -> None:
    """A task that sleeps twice within one advance wakes twice, each time at its own moment, and in order of deadlines."""
    clock = ManualClock(start_ns=1_700_000_000 * NS)
    woken: list[tuple[str, float, int]] = []

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await clock.sleep(nap)
            woken.append((name, clock.monotonic(), clock.now_ns()))

    tasks = [asyncio.create_task(sleeper("a", 3, 4)), asyncio.create_task(sleeper("b", 5))]
    await clock.advance(10)
    await asyncio.gather(*tasks)
    start = 1_700_000_000 * NS
    assert woken == [("a", 3, start + 3 * NS), ("b", 5, start + 5 * NS), ("a", 7, start + 7 * NS)]
    assert clock.monotonic() == 10


async def test_a_manual_clock_counts_its_sleepers_and_forgets_the_cancelled() -> None:
    clock = ManualClock()
    sleeping = [asyncio.create_task(clock.sleep(5)) for _ in range(2)]
    await clock.advance(1)
    assert clock.sleepers == 2
    sleeping[0].cancel()
    await asyncio.wait([sleeping[0]])
    assert clock.sleepers == 1
    await clock.advance(5)
    await sleeping[1]
    assert clock.sleepers == 0


async def test_a_manual_clock_does_not_go_backwards() -> None:
    with pytest.raises(ValueError, match="backwards"):
        await ManualClock().advance(-1)
