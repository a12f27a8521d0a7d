"""What a trader holds of a symbol and what it has earned, by weighted average cost, in exact integers.

Quantities and prices are integers in 1e-8 units, so that their products, money, are integers in 1e-16 units. Each
trade moves as much into `realized` as it takes out of `cost` and gets in cash, hence `realized - cost == cash` and
`realized + unrealized == cash + quantity * mark` hold exactly, for longs, shorts, flips and busts alike.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Position:
    """A signed open quantity, its signed cost, and what closing has realized so far.

    A short has negative quantity and, at positive prices, negative cost: what its sales brought in. A flat position
    costs 0.
    """

    quantity_e8: int = 0
    cost_e16: int = 0
    realized_e16: int = 0
    trades: int = 0
    """Trades that stand: a bust takes one away, a correction leaves the number as it was."""
    approximate: bool = False
    """Whether a trade was taken back without knowing all others: `reverse` instead of beginning anew."""

    def clear(self) -> None:
        """Begins anew."""
        self.quantity_e8 = self.cost_e16 = self.realized_e16 = self.trades = 0

    def trade(self, quantity_e8: int, px_e8: int) -> None:
        """Takes in a trade; `quantity_e8` is negative for a sale."""
        self.trades += 1
        self._move(quantity_e8, px_e8)

    def reverse(self, quantity_e8: int, px_e8: int) -> None:
        """Takes a trade back: the opposite quantity at the same price.

        Quantity and cash are then those of a book that never saw the trade. What was realized between the two stays
        realized, and the unrealized part makes up for it.
        """
        self.trades -= 1
        self._move(-quantity_e8, px_e8)

    def _move(self, quantity_e8: int, px_e8: int) -> None:
        held = self.quantity_e8
        if held * quantity_e8 >= 0:  # opens or increases
            self.quantity_e8 = held + quantity_e8
            self.cost_e16 += quantity_e8 * px_e8
            return
        cost = self.cost_e16
        after = held + quantity_e8
        if after * held > 0:
            # Closes a part, which takes its share of the cost with it. The share is rounded toward zero: `cost`, and
            # with it `realized`, are then off by less than 1e-16 for each partial close since the position was last
            # flat or flipped, and by nothing once it is flat again.
            allotted = abs(cost * quantity_e8) // abs(held)
            if cost < 0:
                allotted = -allotted
            self.realized_e16 += -quantity_e8 * px_e8 - allotted
            self.cost_e16 = cost - allotted
        else:  # closes everything, which takes all of the cost, and opens the rest, if any, at this price
            self.realized_e16 += held * px_e8 - cost
            self.cost_e16 = after * px_e8
        self.quantity_e8 = after

    @property
    def cash_e16(self) -> int:
        """Money received less money paid, over all trades that stand."""
        return self.realized_e16 - self.cost_e16

    @property
    def average_price_e8(self) -> int | None:
        """Cost of one unit of the open quantity, to the nearest 1e-8 (ties go up); None when flat."""
        quantity, cost = self.quantity_e8, self.cost_e16
        if not quantity:
            return None
        if quantity < 0:
            quantity, cost = -quantity, -cost
        return (2 * cost + quantity) // (2 * quantity)

    def unrealized_e16(self, mark_px_e8: int | None) -> int | None:
        """What closing at the mark would add to `realized`.

        Without a mark nobody can tell, hence None, except when flat: that is 0 at any mark.
        """
        if not self.quantity_e8:
            return 0
        if mark_px_e8 is None:
            return None
        return self.quantity_e8 * mark_px_e8 - self.cost_e16
