"""Stores trades batch by batch until it is killed: `sqlite_writer.py PATH [STATEMENT]`.

With the beginning of a statement it kills itself when its third `store` is about to execute such a one.
It prints the next offset after each batch that the store acknowledged.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from eod_workers.adapters.sqlite import SqliteRegulatoryStore
from eod_workers.ports import TopicPartition
from support.regulatory_rows import trade, unresolved

SOURCE = TopicPartition("trades.raw", 0)
BATCH = 50


def die_at(beginning: str, store: SqliteRegulatoryStore) -> None:
    """Kill -9 this process when the store's connection is given a statement that begins so."""

    def on_statement(statement: str) -> None:
        if statement.startswith(beginning):
            os.kill(os.getpid(), signal.SIGKILL)

    store._connected().set_trace_callback(on_statement)


async def main() -> None:
    """Take the partition over and go on where the last writer ended."""
    path, *fatal = sys.argv[1:]
    store = SqliteRegulatoryStore(path)
    ((epoch, stored, _),) = (await store.take_over("regulatory", [SOURCE])).values()
    start = stored or 0
    for batch in range(10_000):
        if batch == 2 and fatal:
            await store._call(lambda: die_at(fatal[0], store))
        end = start + BATCH
        exceptions = [unresolved(start)]
        await store.store("regulatory", [trade(n) for n in range(start, end)], exceptions, {SOURCE: (epoch, end)})
        print(end, flush=True)  # noqa: T201
        start = end


asyncio.run(main())
