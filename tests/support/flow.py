"""A seeded stream of trades over every partition, and what it must add up to by plain arithmetic."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from random import Random

from eod_workers.trades.model import SIDE_BUY, SIDE_SELL, Trade

from support.trade_rows import row

SYMBOLS = tuple(f"{a}{b}X" for a in "ABCD" for b in "EFGHI")
TRADERS = ("T001", "T002", "T003")


def flow(count: int, *, seed: int = 1, start: int = 1, sessions: tuple[str, ...] = ("A->EOD", "B->EOD")) -> list[Trade]:
    """Trades with rising MsgSeqNum in each session, from `start` on."""
    random = Random(f"flow-{seed}-{start}")
    trades = []
    for number in range(start, start + count):
        session = random.choice(sessions)
        trades.append(
            row(
                number,
                session=session,
                exec_id=f"{session[0]}{number}",
                side=random.choice((SIDE_BUY, SIDE_SELL)),
                symbol=random.choice(SYMBOLS),
                trader=random.choice(TRADERS),
                last_qty_e8=random.randrange(1, 500) * 10**8,
                last_px_e8=random.randrange(1, 10_000) * 10**6,
            )
        )
    return trades


def signed(trade: Trade) -> int:
    """Its quantity, negative for a sale."""
    return trade.last_qty_e8 if trade.side == SIDE_BUY else -trade.last_qty_e8


def quantities(trades: Iterable[Trade]) -> dict[tuple[str, str], tuple[int, int, int]]:
    """(trader, symbol) → quantity, cash that came in, number of trades."""
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for trade in trades:
        entry = sums[trade.trader, trade.symbol]
        entry[0] += signed(trade)
        entry[1] -= signed(trade) * trade.last_px_e8
        entry[2] += 1
    return {key: (quantity, cash, number) for key, (quantity, cash, number) in sums.items()}
