"""*remark*: one price of the close arrives, and every position of its symbol is worth something else.

A library call, not a process: the book of one partition is given a snapshot with as many traders as asked for, all in
one symbol, and then one record of prices. What they are worth afterwards is compared with a plain sum.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from importlib.util import find_spec
from math import inf
from pathlib import Path

from eod_workers.pnl.marks import Mark
from eod_workers.pnl.snapshot import load
from eod_workers.protos.prices_pb2 import PRICE_SOURCE_OFFICIAL_CLOSE
from eod_workers.protos.storage_pb2 import PnlSnapshot
from eod_workers.trades.prices import Price, encode_prices

from close.figures import Row
from close.options import Options
from close.servers import Servers

_SYMBOL = "CLOSE"
_E8 = 10**8
_DATE = 20261120
Remark = Callable[[int], int]
"""A price in 1e-8 → what all positions have gained by it, unrealized, in 1e-16."""


def _snapshot(positions: int, seed: int) -> tuple[bytes, int, int]:
    """A snapshot of one symbol; the sum of its quantities in 1e-8 and of its costs in 1e-16."""
    dice = random.Random(seed)
    snapshot = PnlSnapshot(version=1, partition=0)
    quantities = costs = 0
    for number in range(positions):
        quantity = dice.randrange(1, 500) * 100 * _E8 * dice.choice((1, -1))
        cost = quantity * dice.randrange(9_000, 11_000) * 1_000_000
        quantities, costs = quantities + quantity, costs + cost
        snapshot.positions.add(
            trader=f"T{number:07d}",
            symbol=_SYMBOL,
            quantity_e8=str(quantity),
            cost_e16=str(cost),
            realized_e16="0",
            trades=1,
        )
    return snapshot.SerializeToString(), quantities, costs


def _ledger(data: bytes) -> Remark:
    """By the ledger of flash P&L, whichever is in use."""
    from eod_workers.pnl.ledger import make_ledger  # noqa: PLC0415 - it may not be there

    ledger = make_ledger(0.1)
    ledger.open(0, data, 0.0)
    ledger.due(inf, as_of_ns=0, partitions=1)  # what a snapshot brings is announced first

    def remark(px_e8: int) -> int:
        price = Price(_SYMBOL, PRICE_SOURCE_OFFICIAL_CLOSE, px_e8, px_e8, _DATE)
        ledger.apply_prices(0, encode_prices([price]), 1.0)
        return ledger.value(0, _SYMBOL).unrealized_e16(px_e8)

    return remark


def _book(data: bytes) -> Remark:
    """By the book in Python."""
    book = load(data)[0]

    def remark(px_e8: int) -> int:
        changed = book.apply_price(_SYMBOL, Mark(PRICE_SOURCE_OFFICIAL_CLOSE, px_e8, px_e8, _DATE))
        held = (book.position(*key) for key in changed)
        return sum(position.unrealized_e16(px_e8) or 0 for position in held if position)

    return remark


def measure(_made: Servers, _folder: Path, options: Options) -> list[Row]:
    """A price after the other, each another one.

    Raises:
        RuntimeError: the positions are not worth what they must be.
    """
    data, quantities, costs = _snapshot(options.positions, options.shape.seed)
    remark = _ledger(data) if find_spec("eod_workers.pnl.ledger") else _book(data)
    took_ms = []
    for number in range(options.runs + 1):
        px_e8 = (10_000 + number) * 1_000_000
        began = time.perf_counter()
        gained = remark(px_e8)
        if number:
            took_ms.append((time.perf_counter() - began) * 1e3)
        if gained != quantities * px_e8 - costs:
            raise RuntimeError(f"no time is worth reporting: gained {gained}, not {quantities * px_e8 - costs}")
    return [
        Row(
            "remark",
            f"one price on {options.positions:,} positions, all valued",
            "ms",
            took_ms,
            bar=options.bars["remark_ms"],
            more_is_better=False,
        )
    ]
