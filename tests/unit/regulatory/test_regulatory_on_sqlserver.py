"""The regulatory stage over the SQL Server store, each worker with a driver of its own, while everything breaks."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from contract.regulatory import DATABASE, PASSWORD, USER, address_of
from eod_workers.adapters.sqlserver.store import SqlServerRegulatoryStore
from eod_workers.regulatory.stage import STAGE
from tds.faults import DEADLOCK, Cut, Fail
from tds.server import Server
from unit.runtime.flow import flow
from unit.runtime.world import Flaky, Worker, World

KILL_EVERY_S = 0.2


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A world whose regulatory store is on a server; `stores` of it are closed by whoever opened them."""
    made = await World(tmp_path).open()
    await made.regulatory.port.close()
    yield made
    await made.close()


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_workers_that_come_and_go_on_a_failing_server_lose_and_repeat_nothing(
    world: World, tmp_path: Path
) -> None:
    """Workers start, stop and die, drivers are killed, connections and commits are lost, deadlocks happen."""
    trades = flow(1_200)
    stores: list[SqlServerRegulatoryStore] = []
    with Server(tmp_path, user=USER, password=PASSWORD) as server:
        server.create_database(DATABASE)

        def open_store() -> SqlServerRegulatoryStore:
            stores.append(SqlServerRegulatoryStore(address_of(server), call_within_s=20))
            return stores[-1]

        def start() -> Worker:
            world.regulatory = Flaky(open_store(), "regulatory store")
            return world.start(STAGE)

        async def break_things() -> None:
            for turn in range(1_000):
                await asyncio.sleep(KILL_EVERY_S)
                pids = [pid for store in stores if (pid := store._driver.pid)]
                if turn % 2:
                    server.kill_connections()
                elif pids:
                    os.kill(pids[turn // 2 % len(pids)], signal.SIGKILL)

        await open_store().apply_schema()
        for strike in (Cut(), Fail(DEADLOCK)):
            server.faults.at("COMMIT", strike, skip=4, times=3)
            server.faults.at("COMMIT", strike, skip=9, times=3, after=True)
        breaking = asyncio.create_task(break_things())
        for part, step in enumerate(["start", "start", "start", "stop", "start", "kill", "start", "stop"]):
            await world.trade(trades[part * 150 : part * 150 + 150], batch=3)
            running = [worker for worker in world.workers if not worker.task.done()]
            if step == "start":
                start()
            elif step == "stop":
                await running[0].stop()
            else:
                running[0].kill()
            await asyncio.sleep(0.3)
        await asyncio.sleep(5 * KILL_EVERY_S)
        breaking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await breaking
        await world.drained(STAGE)
        for worker in [worker for worker in world.workers if not worker.task.done()]:
            await worker.stop()
        rows = [row async for row in open_store().trades()]
        for store in stores:
            await store.close()
    assert len(rows) == len({(row.session, row.exec_id) for row in rows})
    assert {(row.exec_id, row.symbol, row.last_qty_e8, row.last_px_e8) for row in rows} == {
        (trade.exec_id, trade.symbol, trade.last_qty_e8, trade.last_px_e8) for trade in trades
    }
