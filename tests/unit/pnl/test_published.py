"""Whoever reads what flash P&L publishes gets the book's own numbers, or a sentence that says what is wrong."""

from __future__ import annotations

import asyncio
import json

import pytest
from eod_workers.adapters.memory_state import MemoryState
from eod_workers.pnl.marks import SOURCES, Mark
from eod_workers.pnl.positions import Position
from eod_workers.pnl.published import (
    UNASSIGNED,
    Published,
    Unreadable,
    positions_key,
    read_position,
    read_update,
    stored,
    updates,
    updates_channel,
)
from eod_workers.pnl.publishing import position_field, update_message
from eod_workers.ports import StateWrites
from hypothesis import given
from hypothesis import strategies as st
from support.patience import within

E8, E16 = 10**8, 10**16
LARGE = 10**40
MARKS = st.none() | st.builds(Mark, st.sampled_from(sorted(SOURCES)), st.integers(0, 2**63 - 1), st.just(1), st.just(1))
POSITION = Position(-2 * E8, -20 * E16, E16 // 2, 2)
FIELD = position_field(POSITION, None)
READ = Published(-2 * E8, 10 * E8, -20 * E16, E16 // 2, None, None, None, None, 2)


@given(st.integers(-LARGE, LARGE), st.integers(-LARGE, LARGE), st.integers(-LARGE, LARGE), st.integers(0, 10**9), MARKS)
def test_what_is_read_is_what_was_in_the_book(
    quantity_e8: int, cost_e16: int, realized_e16: int, trades: int, mark: Mark | None
) -> None:
    position = Position(quantity_e8, cost_e16 if quantity_e8 else 0, realized_e16, trades)
    gain = position.unrealized_e16(None if mark is None else mark.px_e8)
    assert read_position(position_field(position, mark)) == Published(
        quantity_e8,
        position.average_price_e8,
        position.cost_e16,
        realized_e16,
        gain,
        None if gain is None else realized_e16 + gain,
        None if mark is None else mark.px_e8,
        None if mark is None else mark.source,
        trades,
    )
    assert read_position(position_field(position, mark, 50 * E8)) == Published(
        quantity_e8,
        position.average_price_e8,
        50 * position.cost_e16,
        50 * realized_e16,
        None if gain is None else 50 * gain,
        None if gain is None else 50 * (realized_e16 + gain),
        None if mark is None else mark.px_e8,
        None if mark is None else mark.source,
        trades,
        50 * E8,
    )


def spoilt(**changed: object) -> bytes:
    return json.dumps({**json.loads(FIELD), **changed}).encode()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", "not a position, no JSON: "),
        (b"\xff", "not a position, no JSON: "),
        (b"[1]", r"not a position, no JSON object: \[1\]"),
        (b"{}", "no position .*KeyError"),
        (spoilt(quantity="many"), "no position .*many"),
        (spoilt(quantity="NaN"), "no position "),
        (spoilt(quantity="Infinity"), "no position "),
        (spoilt(quantity="1" * 201), "no position .*Inexact"),
        (spoilt(quantity="0.000000001"), "has more than 8 decimals"),
        (spoilt(cost=None), "no position "),
        (spoilt(mark_source="a guess"), "no position .*a guess"),
        (spoilt(trades="x"), "no position "),
        (spoilt(multiplier="x"), "no position "),
        (spoilt(trades=float("inf")), "no position "),
        (b"x" * 1_000, "x{200}…$"),
    ],
)
def test_what_is_no_position_is_refused(value: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        read_position(value)


def test_an_update_is_read() -> None:
    update = read_update(update_message('an"n', 3, {"IBM": FIELD}, 17))
    assert (update.trader, update.partition, update.as_of_ns, update.positions) == ('an"n', 3, 17, {"IBM": READ})
    assert read_update(update_message("", 3, {}, 17)).trader == UNASSIGNED


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"nonsense", "not an update, no JSON: nonsense"),
        (b"{}", "no update .*KeyError"),
        (b'{"trader":"a","partition":1,"as_of_ns":1,"positions":[]}', "no update "),
        (b'{"trader":"a","partition":"x","as_of_ns":1,"positions":{}}', "no update "),
        (b'{"trader":"a","partition":1,"as_of_ns":1,"positions":{"IBM":{}}}', "no position "),
    ],
)
def test_what_is_no_update_is_refused(message: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        read_update(message)


async def test_positions_are_those_of_the_hashes() -> None:
    state = MemoryState()
    fields = {positions_key("ann"): {"IBM": FIELD}, positions_key(""): {"GE": FIELD}, "dlq:index": {"x": b"y"}}
    await state.write(StateWrites(fields))
    assert await stored(state) == {("ann", "IBM"): FIELD, (UNASSIGNED, "GE"): FIELD}
    assert await stored(state, ["ann", "bob"]) == {("ann", "IBM"): FIELD}
    await state.close()


@pytest.mark.parametrize(
    ("trader", "heard"), [(None, ["ann", "bob", UNASSIGNED]), ("ann", ["ann"]), ("", [UNASSIGNED])]
)
async def test_updates_are_those_of_the_channels(trader: str | None, heard: list[str]) -> None:
    state = MemoryState()
    found: list[str] = []

    async def listen() -> None:
        async for update in updates(state, trader):
            found.append(update.trader)
            if len(found) == len(heard):
                return

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0)
    for name in ("ann", "bob", ""):
        await state.write(StateWrites(publications=[(updates_channel(name), update_message(name, 1, {}, 1))]))
    await within(10, listening)
    assert found == heard
    await state.close()
