"""The regulatory store in SQL Server: beside bare bulk copy, with two writers, at a replay, and while it is away.

Runs on tests/tds in a process of its own, or on the SQL Server that EOD_TEST_MSSQL names (its tables in the schema eod
are dropped). The test server is written in Python and takes one transaction at a time: it is the bottleneck of rows per
second and of two writers, so read the ratio to bulk copy on the same server, and the CPU of our own processes.
Run with `make bench-regulatory`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eod_workers.adapters.sqlserver.address import Address
from eod_workers.adapters.sqlserver.rows import staged
from eod_workers.adapters.sqlserver.schema import STAGING
from eod_workers.adapters.sqlserver.store import SqlServerRegulatoryStore
from eod_workers.ports import TopicPartition, TradeRow
from eod_workers.regulatory.stage import STAGE
from rich.console import Console
from rich.table import Table
from support.flow import flow
from support.regulatory_rows import trade
from support.regulatory_stores import MSSQL, connected, drop_schema, real_address
from support.stage_world import Flaky, StageWorld

BATCH = 5_000
USER, PASSWORD, DATABASE, GROUP = "bench", "bench", "bench", "bench"
TICK_S = 0.001
PARTS = ("bulk", "writers", "replay", "outage")


@dataclass
class Server:
    """Where the database is, and how to take the server away; that of somebody else cannot be."""

    address: Address
    process: subprocess.Popen[bytes] | None = None
    command: list[str] = field(default_factory=list)

    @property
    def what(self) -> str:
        """For the table."""
        return "tests/tds, not SQL Server" if self.process is not None else str(self.address)

    def start(self) -> None:
        """Start the test server, on its port if it was started before."""
        self.process = subprocess.Popen(  # noqa: S603 - ourselves
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "TDS_PASSWORD": PASSWORD, "TDS_PORT": str(self.address.port)},
        )
        assert self.process.stdout is not None  # noqa: S101 - for mypy: it is a pipe
        port = int(self.process.stdout.readline())
        self.address = Address(
            "127.0.0.1", port=port, user=USER, password=PASSWORD, database=DATABASE, encryption="off"
        )

    def kill(self) -> None:
        """End the test server at once."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()


@contextmanager
def server() -> Iterator[Server]:
    """The server to measure on."""
    if MSSQL in os.environ:
        address = real_address()
        drop_schema(address)
        yield Server(address)
        return
    with tempfile.TemporaryDirectory() as folder:
        nowhere = Address("127.0.0.1", port=0, user=USER, password=PASSWORD, database=DATABASE, encryption="off")
        made = Server(nowhere, command=[sys.executable, "-m", "tds", folder, USER, DATABASE])
        made.start()
        try:
            yield made
        finally:
            made.kill()


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def watch(delays_s: list[float]) -> None:
    """Note how late the event loop wakes us, for ever."""
    while True:
        begun = time.perf_counter()
        await asyncio.sleep(TICK_S)
        delays_s.append(time.perf_counter() - begun - TICK_S)


def rows_of(count: int, *, partition: int, start: int) -> list[list[TradeRow]]:
    """Batches of rows that nobody has stored."""
    numbers = range(start, start + count)
    return [[trade(number, partition) for number in numbers[at : at + BATCH]] for at in range(0, count, BATCH)]


async def store_all(store: SqlServerRegulatoryStore, batches: list[list[TradeRow]], partition: int) -> tuple[int, int]:
    """Rows added, and rows that were there."""
    source = TopicPartition("trades.raw", partition)
    ((epoch, *_),) = (await store.take_over(GROUP, [source])).values()
    added = there = 0
    for batch in batches:
        stored = await store.store(GROUP, batch, [], {source: (epoch, batch[-1].offset + 1)})
        added, there = added + stored.inserted, there + stored.duplicates
    return added, there


def bare(address: Address, batches: list[list[TradeRow]]) -> float:
    """Seconds that bulk copy alone takes for the same rows into a table of the same columns, in this process."""
    with connected(address) as connection:
        with connection.cursor() as cursor:
            cursor.execute(STAGING[0])
        ready = [staged("trades", batch) for batch in batches]
        begun = time.perf_counter()
        for rows in ready:
            connection.bulk_copy("#eod_trades", rows, batch_size=len(rows) + 1, tablock=True)
        return time.perf_counter() - begun


async def bulk(at: Server, rows: int, runs: int) -> dict[str, Any]:
    """Rows a second through the store and through bulk copy alone, in turns; and what a batch costs whom."""
    store = SqlServerRegulatoryStore(at.address)
    await store.migrate()
    await store_all(store, rows_of(BATCH, partition=90, start=0), 90)
    child = store._driver.pid or 0  # noqa: SLF001 - its CPU is what we want to know
    ours: list[float] = []
    alone: list[float] = []
    child_s: list[float] = []
    delays_s: list[float] = []
    for run in range(runs):
        batches = rows_of(rows, partition=0, start=run * rows)
        alone.append(await asyncio.to_thread(bare, at.address, batches))
        watching = asyncio.create_task(watch(delays_s))
        before, begun = cpu_s(child), time.perf_counter()
        await store_all(store, batches, 0)
        ours.append(time.perf_counter() - begun)
        child_s.append((cpu_s(child) - before) / len(batches))
        watching.cancel()
    await store.close()
    delays_s.sort()
    mine, peer = rows / statistics.median(ours), rows / statistics.median(alone)
    return {
        "rows_s": mine,
        "bulk_copy_rows_s": peer,
        "ratio": mine / peer,
        "child_cpu_ms_a_batch": statistics.median(child_s) * 1e3,
        "event_loop_late_ms_p99": delays_s[int(len(delays_s) * 0.99)] * 1e3,
    }


async def writers(at: Server, rows: int) -> dict[str, Any]:
    """Rows a second of one writer and of two at once, each with as many."""
    rates = []
    for count in (1, 2):
        stores = [SqlServerRegulatoryStore(at.address) for _ in range(count)]
        await stores[0].migrate()
        work = [rows_of(rows, partition=10 * count + number, start=0) for number in range(count)]
        await asyncio.gather(*(store.take_over(GROUP, []) for store in stores))
        begun = time.perf_counter()
        await asyncio.gather(
            *(store_all(store, some, 10 * count + n) for n, (store, some) in enumerate(zip(stores, work, strict=True)))
        )
        rates.append(count * rows / (time.perf_counter() - begun))
        for store in stores:
            await store.close()
    return {"one_rows_s": rates[0], "two_rows_s": rates[1], "ratio": rates[1] / rates[0]}


async def replay(at: Server, rows: int) -> dict[str, Any]:
    """Stores so many trades, and then all of them again."""
    store = SqlServerRegulatoryStore(at.address)
    await store.migrate()
    batches = rows_of(rows, partition=30, start=0)
    begun = time.perf_counter()
    first = await store_all(store, batches, 30)
    between = time.perf_counter()
    again = await store_all(store, batches, 30)
    ended = time.perf_counter()
    await store.close()
    return {
        "rows": rows,
        "added_first": first[0],
        "added_again": again[0],
        "rows_s": rows / (between - begun),
        "again_rows_s": rows / (ended - between),
        "held": first == (rows, 0) and again == (0, rows),
    }


async def outage(at: Server, away_s: float) -> dict[str, Any]:
    """A burst through the stage while the server is killed and comes back; what is in the store at the end."""
    if at.process is None:
        return {"skipped": f"{MSSQL} names a server that is not ours to kill"}
    rate, seconds = 1_000, away_s + 10
    trades = flow(round(rate * seconds), start=1)
    with tempfile.TemporaryDirectory() as folder:
        world = await StageWorld(Path(folder)).open()
        await world.regulatory.port.close()
        store = SqlServerRegulatoryStore(at.address, call_within_s=20)
        await store.migrate()
        world.regulatory = Flaky(store, "regulatory store")
        worker = world.start(STAGE, flush_interval_s=0.5)
        begun = time.perf_counter()
        killed = started = 0.0
        for number in range(0, len(trades), 100):
            await world.trade(trades[number : number + 100], batch=50)
            at_s = time.perf_counter() - begun
            if not killed and at_s > 3:  # noqa: PLR2004 - seconds of the burst that it is there for
                at.kill()
                killed = at_s
            if killed and not started and at_s > killed + away_s:
                await asyncio.to_thread(at.start)
                started = at_s
            await asyncio.sleep(max(0.0, number / rate - (time.perf_counter() - begun)))
        if not started:
            await asyncio.sleep(max(0.0, killed + away_s - (time.perf_counter() - begun)))
            await asyncio.to_thread(at.start)
            started = time.perf_counter() - begun
        await world.drained(STAGE)
        caught_up = time.perf_counter() - begun
        await worker.stop()
        found = [row.exec_id async for row in store.trades() if row.session in {one.session for one in trades[:8]}]
        await store.close()
        world.regulatory = Flaky(world._outside.regulatory, "regulatory store")  # noqa: SLF001 - what it was
        await world.close()
    sent = {one.exec_id for one in trades}
    return {
        "trades": len(trades),
        "away_s": started - killed,
        "lost": len(sent - set(found)),
        "doubled": len(found) - len(set(found)),
        "caught_up_after_s": caught_up - started,
        "held": set(found) == sent and len(found) == len(sent),
    }


def shown(what: str, found: dict[str, dict[str, Any]]) -> Table:
    """The figures, with the bars that they are held against."""
    bars = {"bulk": "ratio ≥ 0.9", "writers": "ratio ≥ 1.7", "replay": "adds 0 rows", "outage": "0 lost, 0 doubled"}
    table = Table("part", "figure", "value", "bar", title=what)
    for part, figures in found.items():
        for number, (name, value) in enumerate(figures.items()):
            text = f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)
            table.add_row(part if not number else "", name, text, bars[part] if not number else "")
    return table


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rows", type=int, default=50_000, help="of a measurement (bulk, writers)")
    parser.add_argument("--replay", type=int, default=1_000_000, help="trades that are stored and replayed")
    parser.add_argument("--away", type=float, default=60.0, help="seconds that the server is away")
    parser.add_argument("--runs", type=int, default=3, help="of bulk, in turns; the medians are shown")
    parser.add_argument("--quick", action="store_true", help="small, once: it shows that all of it works")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    told = parser.parse_args()
    rows, again, away_s, runs = (
        (10_000, 20_000, 5.0, 1) if told.quick else (told.rows, told.replay, told.away, told.runs)
    )
    asked = [part for part in PARTS if part in told.only.split(",")]
    console = Console()
    work: dict[str, Callable[[Server], Awaitable[dict[str, Any]]]] = {
        "bulk": lambda at: bulk(at, rows, runs),
        "writers": lambda at: writers(at, rows),
        "replay": lambda at: replay(at, again),
        "outage": lambda at: outage(at, away_s),
    }
    found: dict[str, dict[str, Any]] = {}
    for part in asked:
        with console.status(part), server() as at:
            what = at.what
            found[part] = asyncio.run(work[part](at))  # type: ignore[arg-type]
    console.print(shown(what, found))
    if told.json:
        told.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    sys.exit(0 if all(figures.get("held", True) for figures in found.values()) else 1)


if __name__ == "__main__":
    main()
