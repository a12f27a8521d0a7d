"""The regulatory stage over the SQL Server store, each worker with a driver of its own, while everything breaks."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from eod_workers.adapters.sqlserver.store import SqlServerRegulatoryStore
from eod_workers.letters import decode_letter
from eod_workers.regulatory.stage import STAGE
from support.flow import flow
from support.regulatory_stores import DATABASE, PASSWORD, USER, address_of, prepare
from support.stage_world import Flaky, StageWorld, Worker
from support.trade_rows import row
from tds.faults import DEADLOCK, Cut, Fail
from tds.server import Server

KILL_EVERY_S = 0.2


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[StageWorld]:
    """A world whose regulatory store is on a server; `stores` of it are closed by whoever opened them."""
    made = await StageWorld(tmp_path).open()
    await made.regulatory.port.close()
    yield made
    await made.close()


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_workers_that_come_and_go_on_a_failing_server_lose_and_repeat_nothing(
    world: StageWorld, tmp_path: Path
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

        await open_store().migrate()
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


LONG = {"account": "A" * 4_001, "trader": "T" * 4_001, "symbol": "S" * 4_001, "strategy": "\U0001f600" * 2_001}
ODD = {
    "account": "'; DROP TABLE eod.trades; --",
    "trader": "Müller 中 \x00\t",
    "symbol": 'Q"]',
    "strategy": "\U0001f600" * 2_000,
}


async def test_texts_at_and_beyond_their_limits_are_rows_or_letters_and_cost_no_other(
    world: StageWorld, tmp_path: Path
) -> None:
    """Also after one of them was mended by hand, and sent again."""
    good = flow(40)
    odd = [row(900 + n, exec_id=f"ODD{n}", **{name: text}) for n, (name, text) in enumerate(ODD.items())]
    long = [row(950 + n, exec_id=f"LONG{n}", **{name: text}) for n, (name, text) in enumerate(LONG.items())]
    with Server(tmp_path, user=USER, password=PASSWORD) as server:
        await prepare(server)
        store = SqlServerRegulatoryStore(address_of(server))
        world.regulatory = Flaky(store, "regulatory store")
        worker = world.start(STAGE)
        await world.trade([*good[:20], *odd, *long, *good[20:]], batch=9)
        await world.drained(STAGE)
        kept = {(one.exec_id, one.account, one.trader, one.symbol, one.strategy) async for one in store.trades()}
        assert kept == {(one.exec_id, one.account, one.trader, one.symbol, one.strategy) for one in [*good, *odd]}
        letters = [decode_letter(record.value) for record in await world.records("trades.dlq")]
        said = {letter.raw: letter.detail for letter in letters}
        assert said.keys() == {trade.frame for trade in long}
        for trade, name in zip(long, LONG, strict=True):
            assert f"refuses the row: {name} has 4,00" in said[trade.frame]
        await world.trade([long[0]._replace(account="short")])
        await world.drained(STAGE)
        await worker.stop()
        assert ("LONG0", "short") in {(one.exec_id, one.account) async for one in store.trades()}
        await store.close()
