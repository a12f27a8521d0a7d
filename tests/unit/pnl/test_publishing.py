"""When updates go out, and what they say."""

from __future__ import annotations

import json
from decimal import Decimal, localcontext
from itertools import pairwise

import pytest
from eod_workers.pnl.marks import Mark
from eod_workers.pnl.positions import Position
from eod_workers.pnl.publishing import RECEIPTS, Coalescer, format_e16, position_field, update_message
from eod_workers.protos.prices_pb2 import PRICE_SOURCE_OFFICIAL_CLOSE
from hypothesis import given
from hypothesis import strategies as st

E8 = 10**8
E16 = 10**16


# --- when --------------------------------------------------------------------------------------------


def test_the_first_change_of_a_quiet_trader_is_due_at_once() -> None:
    coalescer = Coalescer(0.5)
    coalescer.changed("ann", "IBM", 7, now=10.0)

    assert coalescer.next_due() == 10.0
    assert [("ann", {"IBM"}, [7])] == coalescer.due(10.0)
    assert coalescer.next_due() is None
    assert coalescer.due(99.0) == []


def test_changes_within_the_interval_go_out_together_at_its_end() -> None:
    coalescer = Coalescer(0.5)
    coalescer.changed("ann", "IBM", 7, now=10.0)
    coalescer.due(10.0)
    for symbol, received_at_ns, now in (("IBM", 8, 10.1), ("AIG", 9, 10.2), ("IBM", None, 10.3)):
        coalescer.changed("ann", symbol, received_at_ns, now)

    assert coalescer.due(10.4) == []
    assert coalescer.next_due() == 10.5
    assert [("ann", {"IBM", "AIG"}, [8, 9])] == coalescer.due(10.5)
    coalescer.changed("ann", "IBM", 10, now=11.5)
    assert coalescer.next_due() == 11.5


def test_traders_do_not_wait_for_each_other() -> None:
    coalescer = Coalescer(0.5)
    coalescer.changed("ann", "IBM", 1, now=10.0)
    coalescer.due(10.0)
    coalescer.changed("ann", "IBM", 2, now=10.1)
    coalescer.changed("bob", "IBM", 3, now=10.2)

    assert [due.trader for due in coalescer.due(10.2)] == ["bob"]
    assert [due.trader for due in coalescer.due(10.5)] == ["ann"]


def test_a_trader_published_before_its_time_is_published_again_later() -> None:
    """Partitions come and go while a worker lives: what was flushed at a rebalance must not fall silent."""
    coalescer = Coalescer(0.5)
    coalescer.changed("ann", "IBM", 1, now=10.0)
    coalescer.due(10.0)
    coalescer.changed("ann", "IBM", 2, now=10.1)

    assert [("ann", {"IBM"}, [2])] == coalescer.due(float("inf"))
    coalescer.changed("ann", "IBM", 3, now=10.2)
    assert coalescer.next_due() == 11.0
    assert [("ann", {"IBM"}, [3])] == coalescer.due(11.0)


def test_receive_times_are_kept_up_to_a_limit() -> None:
    coalescer = Coalescer()
    for received_at_ns in range(RECEIPTS + 10):
        coalescer.changed("ann", "IBM", received_at_ns, now=0.0)

    assert list(range(RECEIPTS)) == coalescer.due(0.0)[0].received_at_ns


def test_the_interval_is_a_tenth_of_a_second_unless_told_otherwise() -> None:
    coalescer = Coalescer()
    coalescer.changed("ann", "IBM", 1, now=0.0)
    coalescer.due(0.0)
    coalescer.changed("ann", "IBM", 1, now=0.0)

    assert coalescer.next_due() == 0.1


INTERVAL = 8
TICKS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["ann", "bob", ""]), st.sampled_from(["IBM", "AIG"])), max_size=60
)


@given(ticks=TICKS, lateness=st.lists(st.integers(0, 3), min_size=1, max_size=5))
def test_gaps_and_the_trailing_publication(ticks: list[tuple[int, str, str]], lateness: list[int]) -> None:
    """A caller that sleeps until `next_due`, and somewhat longer, publishes every last state, never too often.

    Times are whole numbers, so that gaps are exact.
    """
    coalescer = Coalescer(INTERVAL)
    book: dict[tuple[str, str], int] = {}
    told: dict[tuple[str, str], int] = {}
    published: dict[str, list[int]] = {}
    waiting_since: dict[str, int] = {}
    receipts: list[int] = []
    now = polls = 0

    def publish_until(end: float) -> None:
        nonlocal polls
        while (at := coalescer.next_due()) is not None:
            woken = int(at) + lateness[polls % len(lateness)]
            if woken > end:
                return
            polls += 1
            for trader, symbols, received_at_ns in coalescer.due(woken):
                news = {s for (t, s), state in book.items() if t == trader and told.get((t, s)) != state}
                assert news == symbols, "a publication names exactly what has changed"
                told.update({(trader, s): book[trader, s] for s in symbols})
                assert woken - waiting_since.pop(trader) <= INTERVAL + max(lateness)
                published.setdefault(trader, []).append(woken)
                receipts.extend(received_at_ns)

    for number, (wait, trader, symbol) in enumerate(ticks):
        publish_until(now + wait)
        now = max([now + wait, *(times[-1] for times in published.values())])
        book[trader, symbol] = number
        waiting_since.setdefault(trader, now)
        coalescer.changed(trader, symbol, number, now)
    publish_until(float("inf"))

    assert book == told, "the last message equals the book"
    assert sorted(receipts) == list(range(len(ticks)))
    for times in published.values():
        assert all(later - earlier >= INTERVAL for earlier, later in pairwise(times))
    assert set(published) == {trader for _, trader, _ in ticks}


# --- what --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "0.0000000000000001"),
        (-1, "-0.0000000000000001"),
        (15 * 10**15, "1.5"),
        (-200 * E16, "-200"),
        (10**40, "1000000000000000000000000"),
        (12345678901234567890123456789, "1234567890123.4567890123456789"),
    ],
)
def test_money_as_text(value: int, text: str) -> None:
    assert text == format_e16(value)


@given(st.integers(-(10**45), 10**45))
def test_money_as_text_is_exact(value: int) -> None:
    with localcontext() as context:
        context.prec = 60
        text = format_e16(value)
        assert value == Decimal(text) * E16
        assert not text.endswith(".")
        assert "." not in text or not text.endswith("0")


def test_a_position_with_a_mark() -> None:
    """Sold 3 at 10 on average and bought 1 back at 9.5."""
    position = Position(-2 * E8, -20 * E16, E16 // 2, 2)

    assert json.loads(position_field(position, Mark(PRICE_SOURCE_OFFICIAL_CLOSE, 1_025_000_001, 5, 20260102))) == {
        "quantity": "-2",
        "average_price": "10",
        "cost": "-20",
        "realized": "0.5",
        "unrealized": "-0.50000002",
        "total": "-0.00000002",
        "mark": "10.25000001",
        "mark_source": "official_close",
        "trades": 2,
    }


def test_money_is_so_many_times_quantity_and_price_as_the_multiplier_says() -> None:
    """2 lots of 50 sold at 5,000, one bought back at 4,990."""
    position = Position(-1 * E8, -5_000 * E16, 10 * E16, 2)
    told = json.loads(position_field(position, Mark(PRICE_SOURCE_OFFICIAL_CLOSE, 5_010 * E8, 5, 20260102), 50 * E8))
    assert told == {
        "quantity": "-1",
        "average_price": "5000",
        "cost": "-250000",
        "realized": "500",
        "unrealized": "-500",
        "total": "0",
        "mark": "5010",
        "mark_source": "official_close",
        "trades": 2,
        "multiplier": "50",
    }
    assert position_field(position, None, E8) == position_field(position, None, 0) == position_field(position, None)


def test_rounded_money_adds_up() -> None:
    told = json.loads(position_field(Position(1, 1, 1, 1), Mark(PRICE_SOURCE_OFFICIAL_CLOSE, 2, 5, 20260102), E8 // 2))
    unit = "0.0000000000000001"
    assert (told["cost"], told["realized"], told["unrealized"], told["total"]) == (unit, unit, unit, unit[:-1] + "2")


def test_an_open_position_without_a_mark_has_no_value() -> None:
    value = json.loads(position_field(Position(3 * E8, 10 * E16, 0, 1), None))

    assert [value[name] for name in ("unrealized", "total", "mark", "mark_source")] == [None] * 4
    assert tuple(value[name] for name in ("quantity", "average_price", "cost", "realized")) == (
        "3",
        "3.33333333",
        "10",
        "0",
    )


def test_a_flat_position_without_a_mark_has_earned_what_it_realized() -> None:
    value = json.loads(position_field(Position(0, 0, 5 * E16, 2), None))

    assert tuple(value[name] for name in ("average_price", "realized", "unrealized", "total", "mark")) == (
        None,
        "5",
        "0",
        "5",
        None,
    )


def test_an_update_message_carries_the_fields_as_they_are() -> None:
    """Names come from counterparties and may hold anything."""
    fields = {"IBM": position_field(Position(), None), 'O"D\\D\n€': b'{"trades":1}'}

    message = json.loads(update_message('an"n', 3, fields, 1_767_387_600_000_000_001))

    assert {
        "trader": 'an"n',
        "partition": 3,
        "as_of_ns": 1_767_387_600_000_000_001,
        "positions": {"IBM": json.loads(fields["IBM"]), 'O"D\\D\n€': {"trades": 1}},
    } == message


def test_an_update_message_of_nothing_is_still_json() -> None:
    assert json.loads(update_message("", 0, {}, 1))["positions"] == {}
