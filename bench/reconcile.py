"""What `eod reconcile` costs for a million trades: time, memory and temporary disk, without any store's own share.

The log and the regulatory store are generated as they are read, so that nothing but the comparison is in the figures:
decoding, books, fingerprints, sorting. Run it as `nice .venv/bin/python bench/reconcile.py --trades 1000000`.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

from eod_workers.adapters.clock import SystemClock
from eod_workers.adapters.memory_state import MemoryState
from eod_workers.pnl.book import PartitionBook
from eod_workers.pnl.published import positions_key
from eod_workers.pnl.publishing import position_field
from eod_workers.ports import Record, StateWrites, TopicPartition, TradeRow
from eod_workers.reconcile.report import MAX_BREAKS
from eod_workers.reconcile.run import Request, reconcile
from eod_workers.regulatory.enrichment import enrich
from eod_workers.runtime.stages import Context
from eod_workers.runtime.variables import TopicNames
from eod_workers.trades.codec import decode_trades, encode_trades
from eod_workers.trades.model import ACTION_TRADE, SIDE_BUY, SIDE_SELL, Trade
from eod_workers.trades.partitioner import partition_of
from eod_workers.trades.reference import ReferenceData

PARTITIONS = 12
BATCH = 100
SYMBOLS = [f"S{number:03}" for number in range(240)]
MIB = 1 << 20


def trades(partition: int, offset: int, symbols: list[str]) -> list[Trade]:
    """The trades of one record; the same for the same arguments."""
    first = offset * BATCH
    return [
        Trade(
            f"BROKER{number % 4}->EOD", 1, number + 1, f"P{partition:02}-{number:09}", "", ACTION_TRADE,
            SIDE_BUY if number % 3 else SIDE_SELL, symbols[number % len(symbols)], f"T{number % 40:03}", "VWAP",
            "ACC1", (number % 500 + 1) * 10**8, (number % 9_000 + 1) * 10**6, 1_767_387_600_000_000_000 + number,
            0, b"8=FIX.4.4\x01" + b"x" * 200,
        )
        for number in range(first, first + BATCH)
    ]  # fmt: skip


class Log:
    """`ports.Log`, as far as a comparison reads it: every record is made when it is read."""

    def __init__(self, records: int) -> None:
        self._records = records
        self._symbols = [[s for s in SYMBOLS if partition_of(s, PARTITIONS) == n] for n in range(PARTITIONS)]

    async def start_offsets(self, _topic: str, _since_ms: int | None = None) -> dict[int, int]:
        """See `ports.Log`, as all that follow."""
        return dict.fromkeys(range(PARTITIONS), 0)

    async def end_offsets(self, topic: str) -> dict[int, int]:
        """Only trades are there."""
        return dict.fromkeys(range(PARTITIONS), self._records if topic == "trades.raw" else 0)

    async def committed(self, _group: str, topic: str) -> dict[int, int]:
        """Everybody has read everything."""
        return await self.end_offsets(topic)

    async def read(self, source: TopicPartition, start: int, end: int) -> AsyncIterator[Record]:
        """Makes the records."""
        for offset in range(start, end):
            made = encode_trades(trades(source.partition, offset, self._symbols[source.partition]))
            yield Record(*source, offset, None, made, 0)

    async def trades(self) -> AsyncIterator[TradeRow]:
        """The rows of the regulatory store."""
        for offset in range(self._records):
            for number in range(PARTITIONS):
                record = Record("trades.raw", number, offset, None, b"", 0)
                for trade in trades(number, offset, self._symbols[number]):
                    yield enrich(trade, ReferenceData(), record)[0]


async def main() -> None:
    """Compares, and prints what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trades", type=int, default=1_000_000)
    count = parser.parse_args().trades
    records = count // (PARTITIONS * BATCH)
    log, state = Log(records), MemoryState()
    for number in range(PARTITIONS):
        book = PartitionBook()
        async for record in log.read(TopicPartition("trades.raw", number), 0, records):
            for trade in decode_trades(record.value):
                book.apply(trade)
        for (trader, symbol), position in book.positions():
            await state.write(StateWrites({positions_key(trader): {symbol: position_field(position, None)}}))
    del book
    generated_s = time.perf_counter()
    for number in range(PARTITIONS):
        async for _ in log.read(TopicPartition("trades.raw", number), 0, records):
            pass
    async for _ in log.trades():
        pass
    generated_s = time.perf_counter() - generated_s
    store = cast("Any", SimpleNamespace(trades=log.trades))
    none = cast("Any", None)
    context = Context(
        topics=TopicNames(),
        log=cast("Any", log),
        state=state,
        regulatory=store,
        archive=none,
        clock=SystemClock(),
        network=none,
    )
    groups = {"regulatory": "regulatory", "flash-pnl": "flash-pnl"}
    silent = cast("Any", SimpleNamespace(phase=lambda *_: None, advance=lambda *_: None))
    for checks in (frozenset({"rows"}), frozenset({"rows", "positions"})):
        begun = time.perf_counter()
        report = await reconcile(context, Request(checks, groups), MAX_BREAKS, silent)
        took_s = time.perf_counter() - begun - generated_s
        rows = report.numbers["rows"]
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
        print(
            f"{'+'.join(sorted(checks))}: {rows['rows']:,} trades, {report.counts.total()} breaks: {took_s:.1f} s "
            f"({took_s / rows['rows'] * 1e6:.1f} µs a trade), {rows['sorted_bytes'] / MIB:,.0f} MiB of temporary disk, "
            f"peak of the process {peak_mib:,.0f} MiB"
        )


if __name__ == "__main__":
    asyncio.run(main())
