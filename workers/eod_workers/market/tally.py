"""What a played market has sent: the plain, independent account that the system's answers are held against.

Nothing in here comes from the stages: positions are kept with fractions, average cost by the textbook.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import blake2b
from typing import NamedTuple


class Execution(NamedTuple):
    """One report as it was meant: quantity signed (negative for a sale), numbers in 1e-8."""

    session: str
    exec_id: str
    exec_ref_id: str
    action: int
    symbol: str
    trader: str
    strategy: str
    quantity_e8: int
    px_e8: int
    transact_time_ns: int


@dataclass(slots=True)
class Holding:
    """Average cost by the textbook: quantity, cost of what is open, realized P&L, and the cash that must explain it."""

    quantity: Fraction = Fraction(0)
    cost: Fraction = Fraction(0)
    realized: Fraction = Fraction(0)
    cash: Fraction = Fraction(0)
    trades: int = 0

    def trade(self, quantity: Fraction, price: Fraction) -> None:
        """Buys (positive) or sells (negative) at a price."""
        self.cash -= quantity * price
        self.trades += 1
        if self.quantity * quantity < 0:
            closing = -min(abs(quantity), abs(self.quantity)) * (1 if self.quantity > 0 else -1)
            average = self.cost / self.quantity
            self.realized += -closing * (price - average)
            self.cost += closing * average
            self.quantity += closing
            quantity -= closing
        self.quantity += quantity
        self.cost += quantity * price


def digest(raw: bytes) -> bytes:
    """A short name for a frame's bytes."""
    return blake2b(raw, digest_size=12).digest()


@dataclass(slots=True)
class Tally:
    """Everything sent. `frames` counts each whole frame on the wire by its digest, garbled ones included."""

    executions: dict[tuple[str, str], Execution] = field(default_factory=dict)
    frames: Counter[bytes] = field(default_factory=Counter)
    garbled: set[bytes] = field(default_factory=set)
    unknown: set[tuple[str, str]] = field(default_factory=set)
    bytes_sent: int = 0
    duplicates: int = 0
    busts: int = 0
    marks_e8: dict[str, int] = field(default_factory=dict)

    def wrote(self, raw: bytes) -> None:
        """Bytes went to a socket."""
        self.bytes_sent += len(raw)
        self.frames[digest(raw)] += 1

    def positions(self) -> dict[tuple[str, str], Holding]:
        """(trader, symbol) → holding after all executions, in the order each session sent them."""
        holdings: dict[tuple[str, str], Holding] = {}
        for execution in self.executions.values():
            if execution.exec_ref_id:
                busted = self.executions[execution.session, execution.exec_ref_id]
                trader, symbol = busted.trader, busted.symbol
                quantity, px = -busted.quantity_e8, busted.px_e8
            else:
                trader, symbol = execution.trader, execution.symbol
                quantity, px = execution.quantity_e8, execution.px_e8
            holding = holdings.setdefault((trader, symbol), Holding())
            holding.trade(Fraction(quantity, 10**8), Fraction(px, 10**8))
        return holdings
