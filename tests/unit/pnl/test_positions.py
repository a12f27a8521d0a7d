"""Weighted average cost: known answers, and properties against an oracle in fractions."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import pytest
from eod_workers.pnl.positions import Position
from hypothesis import example, given
from hypothesis import strategies as st

E8 = 10**8
E16 = 10**16


def position_after(steps: list[tuple[float, float]]) -> Position:
    position = Position()
    for quantity, price in steps:
        position.trade(round(quantity * E8), round(price * E8))
    return position


@pytest.mark.parametrize(
    ("steps", "mark", "quantity", "cost", "average", "realized", "unrealized"),
    [
        pytest.param([], 20, 0, 0, None, 0, 0, id="never traded"),
        pytest.param([(100, 10)], 12, 100, 1000, 10, 0, 200, id="long"),
        pytest.param([(100, 10), (100, 20)], 12, 200, 3000, 15, 0, -600, id="long, increased"),
        pytest.param([(-100, 10)], 8, -100, -1000, 10, 0, 200, id="a short earns when the price falls"),
        pytest.param([(-100, 10), (-300, 14)], 15, -400, -5200, 13, 0, -800, id="short, increased"),
        pytest.param([(100, 10), (-40, 12)], 12, 60, 600, 10, 80, 120, id="partial close of a long"),
        pytest.param([(-100, 10), (40, 7)], 7, -60, -600, 10, 120, 180, id="partial close of a short"),
        pytest.param([(100, 10), (-100, 12)], 99, 0, 0, None, 200, 0, id="closed"),
        pytest.param([(100, 10), (-100, 12), (100, 20)], 20, 100, 2000, 20, 200, 0, id="DESIGN 8: 200, not 700"),
        pytest.param([(100, 10), (-150, 12)], 11, -50, -600, 12, 200, 50, id="flip to short"),
        pytest.param([(-100, 10), (150, 8)], 9, 50, 400, 8, 200, 50, id="flip to long"),
        pytest.param([(2, -3), (-1, -1)], 0, 1, -3, -3, 2, 3, id="negative prices"),
    ],
)
def test_known_answers(
    steps: list[tuple[float, float]],
    mark: int,
    quantity: int,
    cost: int,
    average: int | None,
    realized: int,
    unrealized: int,
) -> None:
    position = position_after(steps)

    assert (quantity * E8, cost * E16, realized * E16, len(steps)) == (
        position.quantity_e8,
        position.cost_e16,
        position.realized_e16,
        position.trades,
    )
    assert (None if average is None else average * E8) == position.average_price_e8
    assert unrealized * E16 == position.unrealized_e16(mark * E8)


def test_an_open_position_without_a_mark_has_unknown_unrealized() -> None:
    assert position_after([(1, 10)]).unrealized_e16(None) is None


def test_a_flat_position_needs_no_mark() -> None:
    assert position_after([(1, 10), (-1, 12)]).unrealized_e16(None) == 0


@pytest.mark.parametrize(
    ("cost", "quantity", "average"),
    [(5, 2, 3), (5, 3, 2), (4, 3, 1), (-5, -2, 3), (-5, 2, -2), (7, 1, 7)],
)
def test_the_average_price_is_the_nearest_unit_with_ties_going_up(cost: int, quantity: int, average: int) -> None:
    assert average == Position(quantity, cost).average_price_e8


@pytest.mark.parametrize(("sign", "allotted"), [(1, 3), (-1, -3)])
def test_the_share_of_a_partial_close_is_rounded_toward_zero(sign: int, allotted: int) -> None:
    """Two of three units that cost 5 take 3.33 along."""
    position = Position(3 * sign, 5 * sign)

    position.trade(-2 * sign, 0)

    assert (1 * sign, 5 * sign - allotted, -allotted) == (
        position.quantity_e8,
        position.cost_e16,
        position.realized_e16,
    )


def test_a_bust_after_a_partial_close_leaves_the_sale_as_a_short() -> None:
    """100@10 bought, 40@12 sold, the purchase busted: the sale of 40 for 480 is all that happened."""
    position = position_after([(100, 10), (-40, 12)])

    position.reverse(100 * E8, 10 * E8)

    assert (position.quantity_e8, position.cash_e16, position.trades) == (-40 * E8, 480 * E16, 1)
    unrealized = position.unrealized_e16(15 * E8)
    assert unrealized is not None
    assert position.realized_e16 + unrealized == (480 - 40 * 15) * E16


@dataclass
class Oracle:
    """The same rules in fractions of 1e-8 and 1e-16 units: no rounding, and the average is the state, not the cost."""

    quantity: int = 0
    average: Fraction = Fraction(0)
    realized: Fraction = Fraction(0)
    cash: int = 0
    roundings: int = 0

    def trade(self, quantity: int, px: int) -> None:
        """First closes at the average, then opens what is left."""
        self.cash -= quantity * px
        left = quantity
        direction = 1 if self.quantity > 0 else -1
        if self.quantity and (quantity > 0) != (self.quantity > 0):
            closed = min(abs(quantity), abs(self.quantity))
            self.realized += closed * direction * (px - self.average)
            self.quantity -= closed * direction
            self.roundings = self.roundings + 1 if self.quantity else 0
            left = quantity + closed * direction
        if left:
            self.average = (self.quantity * self.average + left * px) / (self.quantity + left)
            self.quantity += left


quantities = st.integers(-(10**13), 10**13).filter(bool) | st.integers(-9, 9).filter(bool)
prices = st.integers(-(10**10), 10**14) | st.integers(0, 9)
trades = st.lists(st.tuples(quantities, prices), max_size=30)


@given(trades=trades, marks=st.lists(prices, min_size=1, max_size=5))
@example(trades=[(3, 5), (-1, 7), (-1, 7)], marks=[9])
def test_a_position_follows_the_oracle(trades: list[tuple[int, int]], marks: list[int]) -> None:
    """Quantity, cash and the identity exactly; realized to less than 1e-16 for each partial close since flat."""
    position, oracle = Position(), Oracle()
    for quantity, px in trades:
        position.trade(quantity, px)
        oracle.trade(quantity, px)

        assert (oracle.quantity, oracle.cash) == (position.quantity_e8, position.cash_e16)
        error = abs(position.realized_e16 - oracle.realized)
        assert error < oracle.roundings or error == 0
        for mark in marks:
            unrealized = position.unrealized_e16(mark)
            assert unrealized is not None
            assert oracle.cash + oracle.quantity * mark == position.realized_e16 + unrealized
        if not oracle.quantity:
            assert (position.cost_e16, position.average_price_e8) == (0, None)
    assert len(trades) == position.trades


@given(trades=trades, data=st.data())
def test_taking_everything_back_in_any_order_leaves_nothing(trades: list[tuple[int, int]], data: st.DataObject) -> None:
    position = Position()
    for trade in trades:
        position.trade(*trade)

    for trade in data.draw(st.permutations(trades)):
        position.reverse(*trade)

    assert (position.quantity_e8, position.cost_e16, position.trades) == (0, 0, 0)
    assert 0 == position.cash_e16 == position.realized_e16


@given(trades=trades.filter(bool), data=st.data())
def test_a_bust_leaves_quantity_and_cash_of_a_book_that_never_saw_the_trade(
    trades: list[tuple[int, int]], data: st.DataObject
) -> None:
    busted = data.draw(st.integers(0, len(trades) - 1))
    position, innocent = Position(), Position()
    for index, trade in enumerate(trades):
        position.trade(*trade)
        if index != busted:
            innocent.trade(*trade)

    position.reverse(*trades[busted])

    assert (innocent.quantity_e8, innocent.cash_e16, innocent.trades) == (
        position.quantity_e8,
        position.cash_e16,
        position.trades,
    )


def test_oil_on_20_april_2020() -> None:
    """Bought at -37.63, for which the seller paid, and sold at 10.01."""
    position = position_after([(10, -37.63), (-10, 10.01)])
    assert (position.quantity_e8, position.cost_e16, position.realized_e16) == (0, 0, 4764 * 10**15)
