"""Redriving with the stages that take it: whatever is redriven how often, both sinks have the same trades, each once."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from decimal import Decimal

import pytest
from eod_workers.dead_letters.lookup import find_letter, list_letters
from eod_workers.dead_letters.redrive import NotRedrivable, outcome_of, redrive
from eod_workers.dead_letters.stage import STAGE as DEAD_LETTERS
from eod_workers.letters import Outcome, fix_letter, unexpected_letter
from eod_workers.pnl.published import read_position, stored
from eod_workers.pnl.stage import STAGE as FLASH_PNL
from eod_workers.ports import Appended, Record, Unavailable
from eod_workers.protos.dead_letter_pb2 import REASON_VALIDATION, DeadLetter
from eod_workers.regulatory.stage import STAGE as REGULATORY
from eod_workers.trades.codec import encode_trades
from eod_workers.trades.model import ACTION_BUST, Trade
from eod_workers.trades.partitioner import partition_of
from support.fix_messages import message, report, trade_body
from support.patience import limited
from support.stage_world import PARTITIONS, StageWorld
from support.trade_rows import row

pytestmark = pytest.mark.timeout(60)
SESSION = "ACME->EOD"
STAGES = (FLASH_PNL, REGULATORY, DEAD_LETTERS)


def rejected(exec_id: str, *, body: str = "") -> DeadLetter:
    """Of ingestion: never on the log."""
    raw = message("8", 7, body or trade_body(exec_id))
    return fix_letter(raw, REASON_VALIDATION, "why", session=SESSION, epoch=1, msg_seq_num=7, received_at_ns=42)


def bust(exec_id: str, of: str) -> Trade:
    raw = message("8", 8, trade_body(exec_id).replace("150=F|", f"150=H|19={of}|"))
    return row(8, session=SESSION, exec_id=exec_id, exec_ref_id=of, action=ACTION_BUST, frame=raw)


async def settled(world: StageWorld) -> None:
    """Everything on the log has been read by all, letters that came of it included."""
    for _ in range(2):
        for stage in STAGES:
            await world.drained(stage)


async def appended(world: StageWorld, *letters: DeadLetter) -> None:
    for letter in letters:
        await world.append("trades.dlq", partition_of(letter.id, PARTITIONS), letter.SerializeToString())
    await settled(world)


async def drive(world: StageWorld, letter_id: str, **amend: str) -> Appended:
    return await redrive(
        world.state,  # type: ignore[arg-type]
        world.log,
        await find_letter(world.state, world.log, "trades.dlq", letter_id),  # type: ignore[arg-type]
        trades_topic="trades.raw",
        now_ms=time.time_ns() // 1_000_000,
        amend={tag.removeprefix("t"): value for tag, value in amend.items()},
    )


async def came_of(world: StageWorld, letter_id: str, at: Appended) -> Outcome:
    """What flash P&L says of a redrive."""
    async with limited(20):
        while (found := await outcome_of(world.state, letter_id, at)) is None:  # type: ignore[arg-type]  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return found


async def quantities(world: StageWorld) -> Mapping[tuple[str, str], Decimal]:
    """(trader, symbol) → quantity in both sinks, which must come to the same."""
    await settled(world)
    reported: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    with closing(sqlite3.connect(world.folder / "regulatory.sqlite")) as connection:
        for trader, symbol, quantity in connection.execute("SELECT trader, symbol, quantity FROM vw_DailyPositions"):
            reported[trader, symbol] += Decimal(quantity)
    wanted = {key: quantity for key, quantity in reported.items() if quantity}
    async with limited(20):
        while True:
            found = {key: read_position(value) for key, value in (await stored(world.state)).items()}  # type: ignore[arg-type]
            published = {key: Decimal(one.quantity_e8) / 10**8 for key, one in found.items() if one.quantity_e8}
            if published == wanted:
                return published
            await asyncio.sleep(0.01)


async def open_letters(world: StageWorld) -> list[tuple[str, str]]:
    """Id and state of the letters that wait for somebody."""
    listed = await list_letters(world.state)  # type: ignore[arg-type]
    return [(one.id, one.redriven) for one in listed if one.waiting]


@pytest.fixture
async def running(world: StageWorld) -> StageWorld:
    for stage in STAGES:
        world.start(stage)
    return world


async def test_a_bust_that_is_redriven_too_early_is_redriven_again_when_its_trade_has_come(running: StageWorld) -> None:
    world, trade = running, rejected("X1")
    await appended(world, trade)
    await world.trade([bust("X2", "X1")])
    await settled(world)
    ((first, _), (early, state)) = await open_letters(world)
    assert (first, state) == (trade.id, "")
    at = await drive(world, early)
    assert (await came_of(world, early, at)).what == "refused"
    await settled(world)
    assert (early, "refused") in await open_letters(world)
    assert (await came_of(world, trade.id, await drive(world, trade.id))).what == "booked"
    await settled(world)
    assert [read_position(value).quantity_e8 for value in (await stored(world.state)).values()] == [100 * 10**8]  # type: ignore[arg-type]
    assert (await came_of(world, early, await drive(world, early))).what == "booked"
    assert await quantities(world) == {}
    assert await open_letters(world) == []
    with pytest.raises(NotRedrivable, match="has been redriven: booked"):
        await drive(world, early)


async def test_a_bust_with_a_wrong_reference_is_mended_in_both(running: StageWorld) -> None:
    world = running
    await world.trade([row(7, session=SESSION, exec_id="X1", frame=report(7, "X1"))])
    await settled(world)
    await world.trade([bust("X2", "WRONG")])
    await settled(world)
    ((letter, _),) = await open_letters(world)
    await drive(world, letter, t19="X1", t17="X2-mended")
    assert await quantities(world) == {}
    assert {one.exec_id async for one in world.regulatory.trades()} == {"X1", "X2", "X2-mended"}


async def test_a_trade_that_has_come_meanwhile_is_said_to_be_booked_already(running: StageWorld) -> None:
    world, letter = running, rejected("X1")
    await appended(world, letter)
    await world.trade([row(9, session=SESSION, exec_id="X1", frame=report(9, "X1"))])
    before = await quantities(world)
    assert (await came_of(world, letter.id, await drive(world, letter.id))).what == "already booked"
    assert await quantities(world) == before != {}


async def test_of_many_redrives_at_once_one_books(running: StageWorld) -> None:
    world, letter = running, rejected("X1")
    await appended(world, letter)
    sent = await asyncio.gather(*(drive(world, letter.id) for _ in range(8)))
    said = [(await came_of(world, letter.id, at)).what for at in sent]
    assert sorted(said) == ["already booked"] * 7 + ["booked"]
    assert list((await quantities(world)).values()) == [Decimal(100)]
    assert [one.exec_id async for one in world.regulatory.trades()] == ["X1"]


async def test_a_record_that_one_stage_stumbled_over_is_for_that_stage(running: StageWorld) -> None:
    """Flash P&L has had it, and does not remember for ever; the regulatory store tells by the ExecID whatever comes."""
    world = running
    trades = [
        row(number, session=SESSION, exec_id=f"X{number}", frame=report(number, f"X{number}")) for number in (1, 2)
    ]
    value = encode_trades(trades)
    partition = partition_of(trades[0].symbol, PARTITIONS)
    await world.append("trades.raw", partition, value)
    before = await quantities(world)
    record = Record("trades.raw", partition, 0, None, value, 1)
    letters = [unexpected_letter(record, ZeroDivisionError("x"), stage=stage) for stage in ("regulatory", "flash-pnl")]
    await appended(world, *letters)
    await drive(world, letters[0].id)
    assert await quantities(world) == before
    at = await drive(world, letters[1].id)
    assert (await came_of(world, letters[1].id, at)).what == "already booked"
    assert await quantities(world) == before
    outcomes = await world.state.hash_get_all("dlq:outcomes")
    assert {name: json.loads(value)["what"] for name, value in outcomes.items()} == {letters[1].id: "already booked"}


async def test_an_outcome_that_could_not_be_told_is_when_the_store_is_back(running: StageWorld) -> None:
    """Also when nothing more comes then."""
    world, letter = running, rejected("X1")
    await appended(world, letter)
    world.state.down_for.add("write")
    with pytest.raises(Unavailable):
        await drive(world, letter.id)  # it is on the log, and could not be noted
    await world.drained(FLASH_PNL)
    at = Appended("trades.raw", partition_of("IBM", PARTITIONS), 0)
    assert await outcome_of(world.state, letter.id, at) is None  # type: ignore[arg-type]
    world.state.down_for.clear()
    assert (await came_of(world, letter.id, at)).what == "booked"
    with pytest.raises(NotRedrivable, match="has been redriven: booked"):
        await drive(world, letter.id)
