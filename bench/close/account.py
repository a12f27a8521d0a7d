"""Positions by weighted average cost, counted a third time: what both sides must arrive at, to the last 1e-16."""

from __future__ import annotations

from typing import NamedTuple

from close.flow import Flow


class Standing(NamedTuple):
    """One position: quantity in 1e-8, money in 1e-16."""

    quantity_e8: int = 0
    cost_e16: int = 0
    realized_e16: int = 0
    trades: int = 0

    def after(self, quantity_e8: int, px_e8: int) -> Standing:
        """The position with one more trade; the share of a partial close is rounded toward zero."""
        held, cost, realized, trades = self
        left = held + quantity_e8
        if held * quantity_e8 >= 0:
            return Standing(left, cost + quantity_e8 * px_e8, realized, trades + 1)
        closed = min(abs(held), abs(quantity_e8)) * (1 if held > 0 else -1)
        share = cost if closed == held else abs(cost) * closed // held * (1 if cost > 0 else -1)
        opened = quantity_e8 + closed
        return Standing(left, cost - share + opened * px_e8, realized + closed * px_e8 - share, trades + 1)


class Account:
    """Positions after all flows given so far, by (trader, symbol)."""

    def __init__(self) -> None:
        self.positions: dict[tuple[str, str], Standing] = {}

    def take(self, flow: Flow) -> None:
        """Adds the executions of a flow, in their order."""
        names = [[(trader, symbol) for symbol in flow.symbols] for trader in flow.traders]
        positions, none = self.positions, Standing()
        columns = (flow.trader, flow.symbol, flow.quantity_e8, flow.px_e8)
        for trader, symbol, quantity, px in zip(*(column.tolist() for column in columns), strict=True):
            key = names[trader][symbol]
            positions[key] = positions.get(key, none).after(quantity, px)

    def difference(self, other: dict[tuple[str, str], Standing]) -> str:
        """What is not the same in a side's positions: a sentence about the first of them, or ""."""
        mine = self.positions
        wrong = [key for key in mine.keys() | other.keys() if mine.get(key) != other.get(key)]
        if not wrong:
            return ""
        first = min(wrong)
        return f"{len(wrong):,} of {len(mine):,} positions differ; {first}: {other.get(first)}, not {mine.get(first)}"
