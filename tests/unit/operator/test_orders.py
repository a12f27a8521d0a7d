"""What annotations say, and what is done with one that says nothing intelligible."""

from __future__ import annotations

import pytest
from eod_operator.orders import FREEZE, HOLD_SCALE_DOWN, PIN, orders

NOW_S = 1_795_802_400.0  # 2026-11-27T18:00:00Z
STAGES = frozenset({"pnl", "regulatory"})


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        ("true", True),
        ("True ", True),
        ("false", False),
        ("2026-11-27T18:00:01Z", True),
        ("2026-11-27T13:00:01-05:00", True),
        ("2026-11-27T18:00:00Z", False),
        ("2020-01-01T00:00:00Z", False),
    ],
)
def test_orders_last_as_long_as_they_say(value: str, *, holds: bool) -> None:
    said = orders({FREEZE: value, HOLD_SCALE_DOWN: value}, STAGES, NOW_S)
    assert ((said.frozen is not None), (said.hold_down is not None), said.problems) == (holds, holds, ())


@pytest.mark.parametrize("value", ["", "yes", "tomorrow", "2026-11-27T18:00:01", "17:00"])
@pytest.mark.parametrize("name", [FREEZE, HOLD_SCALE_DOWN])
def test_an_order_that_cannot_be_read_holds_scale_downs(name: str, value: str) -> None:
    """A time without a zone might be any of 24 hours, so it cannot be read either."""
    said = orders({name: value}, STAGES, NOW_S)
    assert said.frozen is None
    assert said.hold_down == "an annotation of the pipeline cannot be read, so nothing is lowered"
    (problem,) = said.problems
    assert problem.startswith(f"annotation {name} is {value!r}: write true, or a time such as")


def test_pins_are_read_and_the_wrong_ones_named() -> None:
    said = orders({PIN: "pnl=8, regulatory = 2,,"}, STAGES, NOW_S)
    assert (said.pinned, said.problems, said.hold_down) == ({"pnl": 8, "regulatory": 2}, (), None)
    said = orders({PIN: "pln=8,regulatory=many,pnl=3"}, STAGES, NOW_S)
    assert said.pinned == {"pnl": 3}
    assert said.problems == (
        "annotation eod.markets/pin has 'pln=8': the pipeline has no such stage; write one of pnl, regulatory, such as pnl=4",
        "annotation eod.markets/pin has 'regulatory=many': write a replica count, such as regulatory=4",
    )
    assert said.hold_down is not None


def test_nothing_said_is_nothing_ordered() -> None:
    said = orders({"eod.markets/other": "true"}, STAGES, NOW_S)
    assert (said.frozen, said.hold_down, said.pinned, said.problems) == (None, None, {}, ())
