"""Rows per second into the SQL Server store, where the time goes, and how long the caller's event loop is held.

Runs on tests/tds in a process of its own, so the number is that of our side plus a server in Python: read the CPU of
the child, which a real server does not change, and not the rows per second.
Run with `PYTHONPATH=tests .venv/bin/python bench/sqlserver.py`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from contract.rows import trade
from eod_workers.adapters.sqlserver.address import Address
from eod_workers.adapters.sqlserver.store import SqlServerRegulatoryStore
from eod_workers.ports import TopicPartition

BATCHES, ROWS = 10, 5_000
TICK_S = 0.001
USER, PASSWORD, DATABASE, GROUP = "bench", "bench", "bench", "bench"
SOURCE = TopicPartition("trades.raw", 0)


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


async def measure(port: int, server_pid: int) -> None:
    """Store batches one after the other, print a table."""
    address = Address("127.0.0.1", port=port, user=USER, password=PASSWORD, database=DATABASE, encryption="off")
    store = SqlServerRegulatoryStore(address)
    await store.migrate()
    await store.take_over(GROUP, [SOURCE])
    await store.store(GROUP, [trade(0)], [], {SOURCE: (1, 1)})
    batches = [[trade(1 + number * ROWS + row) for row in range(ROWS)] for number in range(BATCHES)]
    child_pid = store._driver.pid or 0  # noqa: SLF001 - its CPU is what we want to know
    delays_s: list[float] = []
    watching = asyncio.create_task(watch(delays_s))
    child_s, server_s, parent_s, begun = cpu_s(child_pid), cpu_s(server_pid), time.process_time(), time.perf_counter()
    for batch in batches:
        await store.store(GROUP, batch, [], {SOURCE: (1, batch[-1].offset + 1)})
    wall_s = time.perf_counter() - begun
    watching.cancel()
    delays_s.sort()
    print(f"{BATCHES * ROWS / wall_s:,.0f} rows/s; a batch of {ROWS:,} took {wall_s / BATCHES * 1e3:.0f} ms, and CPU:")
    print(f"  child  {(cpu_s(child_pid) - child_s) / BATCHES * 1e3:6.1f} ms")
    print(f"  server {(cpu_s(server_pid) - server_s) / BATCHES * 1e3:6.1f} ms (tests/tds, not SQL Server)")
    print(f"  parent {(time.process_time() - parent_s) / BATCHES * 1e3:6.1f} ms")
    late_s = delays_s[int(len(delays_s) * 0.99)]
    print(f"event loop late by {delays_s[-1] * 1e3:.1f} ms at most, {late_s * 1e3:.1f} ms at the 99th percentile")
    begun = time.perf_counter()
    count = len([row async for row in store.trades()])
    print(f"{count / (time.perf_counter() - begun):,.0f} rows/s back")
    await store.close()


def main() -> None:
    """Start the server and measure."""
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", "tds", folder, USER, DATABASE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "TDS_PASSWORD": PASSWORD},
        ) as server,
    ):
        assert server.stdin is not None and server.stdout is not None  # noqa: S101, PT018 - for mypy: they are pipes
        try:
            asyncio.run(measure(int(server.stdout.readline()), server.pid))
        finally:
            server.stdin.close()


if __name__ == "__main__":
    main()
