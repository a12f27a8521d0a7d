"""Ledgers as the tests look at them: both kinds, and what they say in a form that can be compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from eod_workers import kernel
from eod_workers.pnl.ledger import Applied, Ledger, Publication, PureLedger
from eod_workers.pnl.snapshot import load
from eod_workers.trades.codec import encode_trades
from eod_workers.trades.model import Trade
from eod_workers.trades.partitioner import partition_of
from eod_workers.trades.prices import Price, encode_prices

PARTITIONS = 2
Make = Callable[..., Ledger]


def kinds() -> dict[str, Make]:
    """Name → how a ledger of that kind is made: the one in C only where it is built."""
    if not kernel.available():
        return {"pure": PureLedger}
    from eod_workers.pnl.ledger_kernel import Ledger as InC  # noqa: PLC0415 - it may not be built

    return {"pure": PureLedger, "kernel": InC}


def home(symbol: str) -> int:
    """The partition that the symbol belongs to."""
    return partition_of(symbol, PARTITIONS)


def trade(ledger: Ledger, *rows: Trade, now: float = 0.0) -> Applied:
    """Applies rows of one symbol in the partition it belongs to."""
    return ledger.apply_trades(home(rows[0].symbol), encode_trades(rows), now)


def price(ledger: Ledger, *prices: Price, now: float = 0.0) -> None:
    """Applies prices of one symbol in the partition it belongs to."""
    ledger.apply_prices(home(prices[0].symbol), encode_prices(prices), now)


def due(ledger: Ledger, now: float, **options: int) -> list[Publication]:
    """The traders to publish."""
    return ledger.due(now, **{"as_of_ns": 7, "partitions": PARTITIONS} | options)


def told(publications: Sequence[Publication]) -> dict[str, Any]:
    """Trader → what it is told, with every message read and held against its fields."""
    assert len({publication.trader for publication in publications}) == len(publications)
    return {publication.trader: _said(publication) for publication in publications}


def _said(publication: Publication) -> tuple[dict[int, dict[str, bytes]], list[int]]:
    parts = {}
    for partition, fields, message in publication.parts:
        assert json.loads(message) == {
            "trader": publication.trader or "UNASSIGNED",
            "partition": partition,
            "as_of_ns": 7,
            "positions": {symbol: json.loads(field) for symbol, field in fields.items()},
        }
        assert partition not in parts
        parts[partition] = fields
    return parts, list(publication.received_at_ns)


def snapshot_facts(data: bytes) -> tuple[object, ...]:
    """What a snapshot holds, without the order of sessions, symbols and the string table."""
    book, offsets = load(data)
    return (
        dict(offsets),
        list(book.positions()),
        dict(book.marks()),
        {session: dict(epochs) for session, epochs in book.forgotten().items() if epochs},
        list(book.remembered()),
    )
