"""Stores one batch, and is killed meanwhile: `sqlserver_orphan.py PORT`. It prints the driver's process first."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from eod_workers.adapters.sqlserver.address import Address
from eod_workers.adapters.sqlserver.store import SqlServerRegulatoryStore
from eod_workers.ports import TopicPartition
from support.regulatory_rows import TOPIC, trade
from support.regulatory_stores import DATABASE, PASSWORD, USER


async def main() -> None:
    """Own a partition, say which process works for us, store."""
    address = Address(
        "127.0.0.1", port=int(sys.argv[1]), user=USER, password=PASSWORD, database=DATABASE, encryption="off"
    )
    store = SqlServerRegulatoryStore(address)
    _ = [row async for row in store.trades()]
    print(store._driver.pid, flush=True)  # noqa: T201
    await store.store("regulatory", [trade(1)], [], {TopicPartition(TOPIC, 0): (1, 1)})


asyncio.run(main())
