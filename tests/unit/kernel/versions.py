"""What the kernel writes and reads when the layouts have other versions: `python -m unit.kernel.versions`, as JSON.

A program of its own, because the versions are to be others before the kernel is loaded.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Final

from eod_workers.layouts import PNL_SNAPSHOT, PRICE_BATCH, TRADE_BATCH, Layout, UndecodableBatch
from eod_workers.pnl.snapshot import ReadTo, SnapshotRefused
from eod_workers.protos.prices_pb2 import PRICE_SOURCE_OFFICIAL_CLOSE, PriceBatch
from eod_workers.protos.storage_pb2 import PnlSnapshot
from eod_workers.protos.trades_pb2 import TradeBatch
from eod_workers.trades.codec import encode_trades
from eod_workers.trades.prices import Price, encode_prices
from support.trade_rows import row

OTHERS: Final = {"TradeBatch": 7, "PriceBatch": 300, "PnlSnapshot": 70_000}
"""Each another one, so that none is taken for another; two of them are more than a byte."""
TRIED: Final = (1, *OTHERS.values())


def refusal(read: Callable[[bytes], object], message: TradeBatch | PriceBatch | PnlSnapshot, version: int) -> str:
    """Why the message is not read when it says this version; "" if it is read."""
    message.version = version
    try:
        read(message.SerializeToString())
    except (UndecodableBatch, SnapshotRefused) as error:
        return str(error)
    return ""


def main() -> None:
    """Says the versions that are written, and of each layout what is said to each version."""
    layouts: tuple[Layout[TradeBatch], Layout[PriceBatch], Layout[PnlSnapshot]] = TRADE_BATCH, PRICE_BATCH, PNL_SNAPSHOT
    for layout in layouts:
        object.__setattr__(layout, "version", OTHERS[layout.name])  # it is frozen
    if loaded := [name for name in sys.modules if name.endswith("_kernel")]:
        sys.exit(f"{loaded} were there before the versions")
    from eod_workers.pnl.ledger_kernel import Ledger  # noqa: PLC0415 - see above
    from eod_workers.trades.columns_kernel import TradeColumns  # noqa: PLC0415 - see above

    columns, ledger = TradeColumns(1), Ledger(1.0)
    columns.add(row())
    ((_, _, batch),) = columns.drain()
    ledger.open(0, None, 0.0)
    ledger.apply_trades(0, batch, 0.0)
    snapshot = ledger.dump(0, {"trades.raw": ReadTo(1)})
    trades = TradeBatch.FromString(encode_trades([row()]))
    prices = PriceBatch.FromString(encode_prices([Price("IBM", PRICE_SOURCE_OFFICIAL_CLOSE, 10**8, 1, 20260105)]))
    read: dict[str, Callable[[int], str]] = {
        "TradeBatch": lambda version: refusal(lambda value: ledger.apply_trades(0, value, 0.0), trades, version),
        "PriceBatch": lambda version: refusal(lambda value: ledger.apply_prices(0, value, 0.0), prices, version),
        "PnlSnapshot": lambda version: refusal(
            lambda value: ledger.open(1, value, 0.0), PnlSnapshot.FromString(snapshot), version
        ),
    }
    told = {
        "written": [TradeBatch.FromString(batch).version, PnlSnapshot.FromString(snapshot).version],
        "read": {name: {version: ask(version) for version in TRIED} for name, ask in read.items()},
    }
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
