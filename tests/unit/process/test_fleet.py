"""Workers of one process: what one of them fails with is told to whoever waits for what it was to bring about."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from eod_contract.kinds import INGESTION
from eod_workers.process.fleet import Fleet
from eod_workers.runtime.stages import Ports, Service, Stage

pytestmark = pytest.mark.timeout(60)


class Worker(Service):
    """Runs until it is told to stop, or until it fails with what it is given."""

    def __init__(self) -> None:
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        await self.end

    async def stop(self) -> None:
        if not self.end.done():
            self.end.set_result(None)

    async def listening(self) -> int:
        await asyncio.Event().wait()
        return 0


async def fleet_of_one() -> tuple[Fleet, Worker]:
    """A fleet with its only worker, whose ports fail when they are used."""
    none = cast("Any", None)
    ports = Ports(log=none, state=none, regulatory=none, archive=none, clock=none, network=none)
    fleet = Fleet(Stage(INGESTION, lambda _context, _settings: Worker()), ports, {})
    await fleet.scale(1)
    return fleet, cast("Worker", fleet.services[0])


async def test_who_waits_for_a_worker_that_fails_is_told_what_with() -> None:
    fleet, worker = await fleet_of_one()
    waiting = asyncio.create_task(fleet.unless_failed(worker.listening()))
    await asyncio.sleep(0)
    assert not waiting.done()
    worker.end.set_exception(ValueError("no port is free"))
    with pytest.raises(ValueError, match="no port is free"):
        await waiting
    with pytest.raises(ValueError, match="no port is free"):  # whoever comes later, too
        await fleet.unless_failed(worker.listening())
    with pytest.raises(ValueError, match="no port is free"):
        fleet.check()


async def test_what_is_brought_about_is_given_and_its_own_failure_raised() -> None:
    fleet, _ = await fleet_of_one()

    async def fails() -> int:
        raise OSError("taken")

    async def port() -> int:
        return 9_876

    assert await fleet.unless_failed(port()) == 9_876
    with pytest.raises(OSError, match="taken"):
        await fleet.unless_failed(fails())
    fleet.check()
    await fleet.stop()


async def test_a_wait_that_is_given_up_leaves_nothing_behind() -> None:
    fleet, worker = await fleet_of_one()
    before = asyncio.all_tasks()
    waiting = asyncio.create_task(fleet.unless_failed(worker.listening()))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    for _ in range(3):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    await fleet.stop()
