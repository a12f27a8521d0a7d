"""Redriving a letter: once, amended where it must be, and counted once whatever happens."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from eod_workers import appends
from eod_workers.dead_letters.index import REDRIVEN_KEY, line_of
from eod_workers.dead_letters.lookup import ListedLetter, NoSuchLetter, find_letter, list_letters
from eod_workers.dead_letters.redrive import NotRedrivable, redrive
from eod_workers.dead_letters.stage import STAGE
from eod_workers.letters import OUTCOMES_KEY, Outcome, fix_letter, is_redriven_for, record_letter, trade_letter
from eod_workers.ports import Appended, Record, StateWrites, TopicPartition, Unavailable, UnknownTopic
from eod_workers.protos.dead_letter_pb2 import REASON_DOWNSTREAM, REASON_PROCESSING, REASON_VALIDATION, DeadLetter
from eod_workers.trades.codec import decode_trades, encode_trades, read_trades
from eod_workers.trades.contracts import Contract, Contracts
from eod_workers.trades.model import Trade
from eod_workers.trades.partitioner import partition_of
from support.fix_messages import message, report, trade_body
from support.parted_log import PartedLog
from support.patience import limited, soon
from support.stage_world import PARTITIONS, Flaky, StageWorld
from support.trade_rows import row

pytestmark = pytest.mark.timeout(60)


def letter_of(raw: bytes, *, number: int = 7) -> DeadLetter:
    """A letter about a report that ingestion refused."""
    return fix_letter(
        raw, REASON_VALIDATION, "LastPx", session="ACME->EOD", epoch=2, msg_seq_num=number, received_at_ns=42
    )


async def index(world: StageWorld, *letters: DeadLetter) -> None:
    """Let the stage store letters, as it would."""
    worker = world.start(STAGE)
    for letter in letters:
        await world.append("trades.dlq", partition_of(letter.id, PARTITIONS), letter.SerializeToString())
    await world.drained(STAGE)
    await worker.stop()


async def listed(world: StageWorld) -> list[ListedLetter]:
    """What the list says."""
    return await list_letters(world.state)  # type: ignore[arg-type]


async def found(world: StageWorld, prefix: str) -> DeadLetter:
    """The letter whose id begins so."""
    return await find_letter(world.state, world.log, "trades.dlq", prefix)  # type: ignore[arg-type]


async def drive(world: StageWorld, letter: DeadLetter, trader: str = "", **amend: str) -> Appended:
    """Redrive what is listed under the letter's id; amendments as t31="12.5"."""
    return await redrive(
        world.state,  # type: ignore[arg-type]
        world.log,
        await found(world, letter.id),
        trades_topic="trades.raw",
        now_ms=time.time_ns() // 1_000_000,
        amend={tag.removeprefix("t"): value for tag, value in amend.items()},
        trader=trader,
    )


async def tell(world: StageWorld, letter: DeadLetter, what: str, at: Appended) -> None:
    """Say, as flash P&L would, what became of a redrive."""
    outcome = Outcome(what, "", at.topic, at.partition, at.offset, at.offset)
    await world.state.write(StateWrites({OUTCOMES_KEY: {letter.id: outcome.stored()}}))


async def redriven(world: StageWorld) -> list[Trade]:
    """The trades on the log, in the order in which they were put there if they are of one partition."""
    return [trade for record in await world.records("trades.raw") for trade in decode_trades(record.value)]


GOOD = letter_of(report(7, "X7"))
NO_PRICE = letter_of(message("8", 7, trade_body("X7").replace("31=12.5|", "")))
BAD_SIDE = letter_of(message("8", 7, trade_body("X7").replace("54=1|", "54=9|")))


# --- the stage ----------------------------------------------------------------------------------------------


async def test_letters_are_listed_oldest_first_with_all_that_is_known_of_them(world: StageWorld) -> None:
    record = Record("trades.raw", 3, 17, None, b"\xff", 9)
    other = record_letter(record, "no TradeBatch", stage="regulatory")
    await index(world, other, GOOD)
    lines = await listed(world)
    assert [(x.id, x.redriven) for x in lines] == [(GOOD.id, ""), (other.id, "")]
    assert lines[1].summary == {
        "reason": "Deserialization", "detail": "no TradeBatch", "stage": "regulatory", "session": "",
        "msg_seq_num": 0, "source": "trades.raw[3]@17", "bytes": 1, "received_at_ns": 9_000_000,
        "missed_by": "", "stranger": False, "offset": 0, "written_at_ms": (await world.records("trades.dlq"))[0].timestamp_ms,
    }  # fmt: skip


async def test_the_oldest_comes_first_also_when_times_have_other_lengths(world: StageWorld) -> None:
    """9 comes before 10, which as texts it does not."""
    letters = [fix_letter(b"%d" % at, REASON_VALIDATION, "", session="S", epoch=1, msg_seq_num=1, received_at_ns=at)
               for at in (10, 9, 100)]  # fmt: skip
    await index(world, *letters)
    lines = await listed(world)
    assert [x.summary["received_at_ns"] for x in lines] == [9, 10, 100]


async def test_a_letter_that_was_written_many_times_is_one(world: StageWorld) -> None:
    """Two stages that meet the same undecodable record, each of them twice after a crash."""
    record = Record("trades.raw", 3, 17, None, b"\xff", 1)
    await index(world, *(record_letter(record, "x", stage=stage) for stage in ("flash-pnl", "regulatory") * 2))
    assert len(await listed(world)) == 1


async def test_one_letter_is_looked_up_without_reading_the_others(world: StageWorld) -> None:
    """With a hundred thousand of them that was 700 MB, and a time-out."""
    await index(world, GOOD, letter_of(b"another"))
    world.state.calls.clear()
    assert await found(world, GOOD.id) == GOOD
    assert await found(world, GOOD.id[:12]) == GOOD
    await drive(world, GOOD)
    assert "hash_get_all" not in {name for name, _ in world.state.calls}


async def test_a_store_that_is_away_or_refuses_is_told_before_the_first_letter(world: StageWorld) -> None:
    """It would be too late when one is looked for."""
    world.state.down = True
    worker = world.start(STAGE)
    await soon(lambda: worker.health.why_not.startswith("loading partitions: "), "it is told")
    world.state.down = False
    await soon(lambda: not worker.health.why_not, "it is found")
    await worker.stop()


async def test_letters_wait_for_the_store_and_none_is_lost(world: StageWorld) -> None:
    world.state.down = True
    worker = world.start(STAGE)
    letters = [letter_of(b"%d" % number) for number in range(40)]
    for letter in letters:
        await world.append("trades.dlq", partition_of(letter.id, PARTITIONS), letter.SerializeToString())
    async with limited(20):
        while world.state.refused < 2:  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.01)
    assert await world.log.committed("dead-letters", "trades.dlq") == {}
    world.state.down = False
    await world.drained(STAGE)
    await worker.stop()
    assert {x.id for x in await listed(world)} == {letter.id for letter in letters}


async def test_three_workers_that_come_and_go_lose_no_letter(world: StageWorld) -> None:
    letters = [letter_of(b"%d" % number) for number in range(240)]
    for part, step in enumerate(["start", "start", "start", "stop", "kill", "start"]):
        for letter in letters[part * 40 : part * 40 + 40]:
            await world.append("trades.dlq", partition_of(letter.id, PARTITIONS), letter.SerializeToString())
        running = [worker for worker in world.workers if not worker.task.done()]
        if step == "start":
            world.start(STAGE)
        elif step == "stop":
            await running[0].stop()
        else:
            running[0].kill()
        await asyncio.sleep(0.02)
    await world.drained(STAGE)
    assert {x.id for x in await listed(world)} == {letter.id for letter in letters}


@pytest.mark.parametrize(
    "value", [b"", b"\xff\xff", DeadLetter(version=9, id="x").SerializeToString()], ids=["empty", "garbage", "version"]
)
async def test_something_on_the_topic_that_is_no_letter_does_not_stop_the_stage(
    world: StageWorld, value: bytes
) -> None:
    worker = world.start(STAGE)
    await world.append("trades.dlq", 0, value, GOOD.SerializeToString())
    await world.drained(STAGE)
    await worker.stop()
    assert [one.id for one in await listed(world)] == [GOOD.id]


async def test_a_letter_that_nobody_expected_does_not_stop_the_stage_either(
    world: StageWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_good(letter: DeadLetter, record: Record) -> dict[str, Any]:
        if letter.id != GOOD.id:
            raise ZeroDivisionError
        return line_of(letter, record)

    monkeypatch.setattr("eod_workers.dead_letters.stage.line_of", only_good)
    odd = DeadLetter()
    odd.CopyFrom(GOOD)
    odd.id = "odd"
    await index(world, odd, GOOD)
    assert [one.id for one in await listed(world)] == [GOOD.id]


async def test_a_letter_with_a_reason_of_a_later_release_is_shown_as_unknown(world: StageWorld) -> None:
    later = DeadLetter()
    later.CopyFrom(GOOD)
    later.reason = 77  # type: ignore[assignment]
    await index(world, later)
    (line,) = await listed(world)
    assert line.summary["reason"] == "Unknown"


# --- redriving ----------------------------------------------------------------------------------------------


async def test_a_redriven_report_is_on_the_log_with_its_identity_and_the_letter_it_came_from(world: StageWorld) -> None:
    await index(world, GOOD)
    at = await drive(world, GOOD)
    (record,) = await world.records("trades.raw")
    assert (at.topic, at.partition, at.offset) == ("trades.raw", partition_of("IBM", PARTITIONS), 0)
    (trade,) = decode_trades(record.value)
    assert (trade.session, trade.epoch, trade.msg_seq_num, trade.exec_id) == ("ACME->EOD", 2, 7, "X7")
    assert trade.redrive_of == GOOD.id
    assert [(x.redriven, x.waiting) for x in await listed(world)] == [("sent", False)]


@pytest.mark.parametrize("what", ["booked", "already booked"])
async def test_a_letter_that_has_happened_is_redriven_no_more(world: StageWorld, what: str) -> None:
    await index(world, GOOD)
    at = await drive(world, GOOD)
    await tell(world, GOOD, what, at)
    with pytest.raises(NotRedrivable, match=rf"has been redriven: {what}, at trades.raw\[{at.partition}\]@0"):
        await drive(world, GOOD)
    assert len(await world.records("trades.raw")) == 1
    assert [(x.redriven, x.waiting) for x in await listed(world)] == [(what, False)]


async def test_until_it_has_happened_a_letter_is_redriven_as_often_as_somebody_likes(world: StageWorld) -> None:
    """Also when it was refused again, as a bust is that comes before its trade."""
    await index(world, GOOD)
    await drive(world, GOOD)
    at = await drive(world, GOOD)
    await tell(world, GOOD, "refused", at)
    assert [(x.redriven, x.waiting) for x in await listed(world)] == [("refused", True)]
    await drive(world, GOOD)
    assert [(x.redriven, x.waiting) for x in await listed(world)] == [("sent", False)]
    assert [trade.redrive_of for trade in await redriven(world)] == [GOOD.id] * 3


async def test_nobody_sends_it_to_two_instruments_at_once(world: StageWorld) -> None:
    """Books are by partition: both of them would take it."""
    await index(world, GOOD)
    at = await drive(world, GOOD)
    with pytest.raises(NotRedrivable, match="is on its way already, in another instrument"):
        await drive(world, GOOD, t55="MSFT")
    await tell(world, GOOD, "refused", at)
    assert (await drive(world, GOOD, t55="MSFT")).partition == partition_of("MSFT", PARTITIONS) != at.partition


def test_an_outcome_is_of_a_record_and_booking_is_not_forgotten() -> None:
    first, second, third = (Appended("trades.raw", 3, offset) for offset in (5, 6, 9))
    booked = Outcome("booked", "", "trades.raw", 3, 5, 5)
    both = booked.and_then(Outcome("already booked", "", "trades.raw", 3, 6, 6))
    assert [one and one.what for one in map(both.of, (first, second, third))] == ["booked", "already booked", None]
    assert booked.of(Appended("trades.raw", 4, 5)) is None
    refused = Outcome("refused", "why", "trades.raw", 3, 9, 9)
    assert both.and_then(refused) == refused
    assert refused.and_then(booked) == booked
    assert Outcome.read(both.stored()) == both
    assert Outcome.read(None) is None


@pytest.mark.parametrize(
    ("letter", "hint", "amend"),
    [(NO_PRICE, r"LastPx\(31\) is missing.*--set 31=VALUE", {"t31": "12.5"}),
     (BAD_SIDE, r"Side\(54\)='9'.*--set 54=VALUE", {"t54": "1"})],
)  # fmt: skip
async def test_a_report_that_is_still_wrong_says_what_to_set_and_set_it_goes(
    world: StageWorld, letter: DeadLetter, hint: str, amend: dict[str, str]
) -> None:
    await index(world, letter)
    with pytest.raises(NotRedrivable, match=hint):
        await drive(world, letter)
    await drive(world, letter, **amend)
    ((trade,),) = [decode_trades(record.value) for record in await world.records("trades.raw")]
    assert (trade.last_px_e8, trade.last_qty_e8, trade.exec_id) == (1_250_000_000, 100 * 10**8, "X7")
    assert trade.trader == "T001"


async def test_both_sides_of_a_report_are_redriven_and_share_its_frame(world: StageWorld) -> None:
    said = "571=R7|570=N|55=IBM|32=100|31=oops|60=20260102-21:00:00|552=2|54=1|37=A|54=2|37=B|"
    letter = letter_of(message("AE", 7, said))
    await index(world, letter)
    await drive(world, letter, t31="12.5")
    (record,) = await world.records("trades.raw")
    trades = decode_trades(record.value)
    assert [(trade.exec_id, trade.last_px_e8, trade.redrive_of) for trade in trades] == [
        ("AE:R7:B", 1_250_000_000, letter.id),
        ("AE:R7:S", 1_250_000_000, letter.id),
    ]
    assert trades[0].frame == trades[1].frame
    assert read_trades(record.value).received() == [trades[0].frame]


async def test_a_trade_that_a_stage_refused_is_redriven_for_its_trader(world: StageWorld) -> None:
    """A session may name its traders in a field of its own, which the letter of a stage does not know."""
    at = Record("trades.raw", 0, 5, None, b"", 1)
    refused = row(7)._replace(frame=report(7, "X7"), trader="eve")
    letter = trade_letter(refused, REASON_PROCESSING, "why", stage="flash-pnl", record=at)
    await index(world, letter)
    await drive(world, letter)
    assert [trade.trader for trade in await redriven(world)] == ["eve"]


async def test_a_report_that_was_never_booked_is_whose_it_is_said_to_be(world: StageWorld) -> None:
    await index(world, GOOD)
    for name, why in (("b" * 129, "has 129 bytes; at most 128"), ("\u20ac", "can't encode")):
        with pytest.raises(NotRedrivable, match=f"--trader .*{why}"):
            await drive(world, GOOD, trader=name)
    await drive(world, GOOD, trader="bob")
    await drive(world, GOOD, trader="UNASSIGNED")
    assert [trade.trader for trade in await redriven(world)] == ["bob", ""]


async def test_a_redriven_report_has_the_terms_that_reference_data_says_now(world: StageWorld) -> None:
    await index(world, NO_PRICE)
    contracts = Contracts(known={"IBM": Contract(50 * 10**8, "GBP")})
    await redrive(
        world.state,  # type: ignore[arg-type]
        world.log,
        NO_PRICE,
        trades_topic="trades.raw",
        now_ms=1,
        amend={"31": "12.5"},
        contracts=contracts,
    )
    ((trade,),) = [decode_trades(record.value) for record in await world.records("trades.raw")]
    assert (trade.symbol, trade.multiplier_e8) == ("IBM (GBP)", 50 * 10**8)


async def test_an_amendment_that_is_wrong_itself_leaves_the_letter_as_it_was(world: StageWorld) -> None:
    await index(world, NO_PRICE)
    for value in ("twelve", "1-", "12,5"):
        with pytest.raises(NotRedrivable, match=r"LastPx\(31\)"):
            await drive(world, NO_PRICE, t31=value)
    assert await world.records("trades.raw") == []
    await drive(world, NO_PRICE, t31="12.5")


async def test_a_letter_nobody_wrote_is_not_found_and_the_list_is_named(world: StageWorld) -> None:
    with pytest.raises(NoSuchLetter, match="eod dlq list"):
        await found(world, "0000")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (report(7, "X7")[:-4] + b"000\x01", "no FIX frame"),
        (b"GET / HTTP/1.1\r\n\r\n", "no FIX frame"),
        (report(7, "X7")[:-9], "no FIX frame"),
        (report(7, "X7") + report(8, "X8"), "no FIX frame"),
        (b"", "no FIX frame"),
        (message("8", 7, "17=X7|oops|150=F|"), "oops"),
        (message("8", 7, "17=X7|150=0|"), "moves no position"),
    ],
)
async def test_bytes_that_are_no_trade_cannot_be_redriven(world: StageWorld, raw: bytes, says: str) -> None:
    letter = letter_of(raw)
    await index(world, letter)
    with pytest.raises(NotRedrivable, match=says):
        await drive(world, letter)
    assert await world.state.hash_get_all(REDRIVEN_KEY) == {}
    assert await world.records("trades.raw") == []


@pytest.mark.parametrize("raw", [b"", b"x", b"8=FIX.4.4\x01", report(7, "X7")[:40], report(7, "X7")[30:], b"\x01" * 9])
async def test_setting_fields_of_something_that_is_no_frame_is_refused_and_nothing_worse(
    world: StageWorld, raw: bytes
) -> None:
    letter = letter_of(raw)
    await index(world, letter)
    with pytest.raises(NotRedrivable):
        await drive(world, letter, t31="12.5")


GARBLED = letter_of(report(7, "X7")[:-4] + b"000\x01")


async def test_a_garbled_frame_is_mended_only_by_who_says_which_trade_it_is(world: StageWorld) -> None:
    """The session has asked for it again: without its ExecID it would count twice."""
    await index(world, GARBLED)
    for change in ({}, {"t58": "mended"}, {"t31": "12.5", "t37": "O"}):
        with pytest.raises(NotRedrivable, match=r"has asked the counterparty for it again.*--set 17=EXECID"):
            await drive(world, GARBLED, **change)
    await drive(world, GARBLED, t17="X7")
    assert [trade.exec_id for trade in await redriven(world)] == ["X7"]


@pytest.mark.parametrize(
    ("tag", "says"),
    [
        ("8", r"BeginString\(8\) says what the message is"), ("9", "BodyLength"), ("10", "CheckSum"),
        ("34", "MsgSeqNum"), ("35", "MsgType"), ("49", "SenderCompID"), ("56", "TargetCompID"),
        ("448", "of a repeating group, which has no one value; a trader is set with --trader NAME"),
        ("452", "--trader NAME"), ("447", "of a repeating group, which has no one value$"),
    ],
)  # fmt: skip
async def test_what_a_message_is_and_groups_are_not_set(world: StageWorld, tag: str, says: str) -> None:
    await index(world, GOOD)
    with pytest.raises(NotRedrivable, match=says):
        await drive(world, GOOD, **{f"t{tag}": "8"})
    assert await world.records("trades.raw") == []


def refused_by(stage: str, raw: bytes, **changes: object) -> DeadLetter:
    """A letter of a stage about a trade that the other one has."""
    trade = row(7, **{"exec_id": "X7", "frame": raw, **changes})
    reason = REASON_DOWNSTREAM if stage == "regulatory" else REASON_PROCESSING
    return trade_letter(trade, reason, "why", stage=stage, record=Record("trades.raw", 1, 1, None, b"", 0))


async def test_a_trade_that_the_regulatory_store_has_is_redriven_only_as_it_was_sent(world: StageWorld) -> None:
    """It would keep the one and flash P&L book the other."""
    letter = refused_by("flash-pnl", report(7, "X7"))
    await index(world, letter)
    for change in ({"t31": "9"}, {"t58": "x"}, {"trader": "bob"}, {"t17": "X8"}):
        with pytest.raises(NotRedrivable, match="the regulatory store has this trade as it was sent, and counts it"):
            await drive(world, letter, **change)
    await drive(world, letter)
    assert [trade.exec_id for trade in await redriven(world)] == ["X7"]


async def test_a_bust_with_another_reference_is_another_bust(world: StageWorld) -> None:
    raw = message("8", 7, trade_body("X7").replace("150=F|", "150=H|19=WRONG|"))
    letter = refused_by("flash-pnl", raw, action=2, exec_ref_id="WRONG")
    await index(world, letter)
    with pytest.raises(NotRedrivable, match=r"takes one of its ExecID\(17\) once: .* --set 17=EXECID"):
        await drive(world, letter, t19="X1")
    await drive(world, letter, t19="X1", t17="X7-mended")
    assert [(one.action, one.exec_id, one.exec_ref_id) for one in await redriven(world)] == [(2, "X7-mended", "X1")]


async def test_what_flash_pnl_has_booked_is_set_only_where_positions_do_not_depend_on_it(world: StageWorld) -> None:
    letter = refused_by("regulatory", report(7, "X7"), trader="T001")
    await index(world, letter)
    for change in ({"t31": "9"}, {"t32": "9"}, {"t54": "2"}, {"t55": "MSFT"}, {"t17": "X8"}, {"trader": "bob"}):
        with pytest.raises(NotRedrivable, match="flash P&L has booked this trade as it was sent"):
            await drive(world, letter, **change)
    at = await drive(world, letter, t6061="shorter", t1="A")
    assert [(one.strategy, one.account) for one in await redriven(world)] == [("shorter", "A")]
    (record,) = await world.records("trades.raw")
    assert (is_redriven_for(record, "regulatory"), is_redriven_for(record, "flash-pnl")) == (True, False)
    await tell(world, letter, "already booked", at)  # it says nothing about the store that has to take it
    await drive(world, letter)
    assert [x.redriven for x in await listed(world)] == ["sent"]
    await index(world, letter)  # it was refused once more
    assert [x.redriven for x in await listed(world)] == ["refused"]


async def test_a_value_that_fix_cannot_carry_is_refused(world: StageWorld) -> None:
    await index(world, NO_PRICE)
    with pytest.raises(NotRedrivable, match="31"):
        await drive(world, NO_PRICE, t31="12\u20ac")


async def test_trades_of_a_record_go_back_where_they_came_from_as_redriven(world: StageWorld) -> None:
    """They come behind later ones, which must not make duplicates of them; their bytes are in the archive already."""
    trades = [row(1), row(2)]
    record = Record("trades.raw", 5, 17, None, encode_trades(trades), 1)
    letter = record_letter(record, "version 9", stage="flash-pnl")
    await index(world, letter)
    for change in ({"t31": "1"}, {"trader": "bob"}):
        with pytest.raises(NotRedrivable, match="no FIX fields to amend"):
            await drive(world, letter, **change)
    at = await drive(world, letter)
    assert (at.topic, at.partition) == ("trades.raw", 5)
    assert await redriven(world) == [trade._replace(redrive_of=letter.id) for trade in trades]


async def test_of_a_record_that_its_letter_has_no_room_for_the_whole_is_redriven_while_it_is_there(
    world: StageWorld,
) -> None:
    trades = [row(number, exec_id=f"X{number}" + "y" * 60) for number in range(5_000)]
    await world.append("trades.raw", 5, encode_trades(trades))
    record = (await world.records("trades.raw"))[0]
    letter = record_letter(record, "version 9", stage="flash-pnl")
    lost = record_letter(record._replace(offset=17), "version 9", stage="flash-pnl")
    assert letter.left_out > 0
    await index(world, letter, lost)
    assert [line.summary["bytes"] for line in await listed(world)] == [len(record.value)] * 2
    await drive(world, letter)
    assert decode_trades((await world.records("trades.raw"))[1].value) == [
        trade._replace(redrive_of=letter.id) for trade in trades
    ]
    with pytest.raises(NotRedrivable, match=r"holds 524,288 of .* not at trades\.raw\[5\]@17 any more: the archive"):
        await drive(world, lost)


async def test_a_record_that_this_release_cannot_read_either_stays_a_letter(world: StageWorld) -> None:
    letter = record_letter(Record("trades.raw", 5, 17, None, b"\xff", 1), "no TradeBatch", stage="flash-pnl")
    await index(world, letter)
    with pytest.raises(NotRedrivable, match="this release cannot read the record either"):
        await drive(world, letter)
    assert await world.records("trades.raw") == []


async def test_a_record_of_another_topic_goes_back_byte_for_byte(world: StageWorld) -> None:
    letter = record_letter(Record("prices.updates", 5, 17, None, b"a price", 1), "why", stage="flash-pnl")
    await index(world, letter)
    at = await drive(world, letter)
    assert (at.topic, at.partition) == ("prices.updates", 5)
    assert [record.value for record in await world.records("prices.updates")] == [b"a price"]


async def test_a_bust_that_came_too_early_can_be_redriven(world: StageWorld) -> None:
    raw = message("8", 7, trade_body("X7").replace("150=F|", "150=H|19=X1|"))
    refused = row(7, exec_id="X7", exec_ref_id="X1", action=2, frame=raw)
    letter = trade_letter(
        refused, REASON_PROCESSING, "unknown", stage="flash-pnl", record=Record("trades.raw", 1, 1, None, b"", 0)
    )
    await index(world, letter)
    await drive(world, letter)
    ((trade,),) = [decode_trades(record.value) for record in await world.records("trades.raw")]
    assert (trade.action, trade.exec_ref_id, trade.redrive_of) == (2, "X1", letter.id)


async def test_a_redrive_into_a_partition_that_nobody_leads_says_so_and_can_be_tried_again(
    world: StageWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever redrives does not wait for a broker to come back."""
    monkeypatch.setattr(appends, "_LOOK_S", 0.01)
    await index(world, GOOD)
    parted = world.log = PartedLog(world.log)  # type: ignore[assignment]
    count = await parted.partition_count("trades.raw")
    parted.without = {TopicPartition("trades.raw", number) for number in range(count)}
    with pytest.raises(Unavailable, match=r"^nobody leads trades.raw\[\d+\]: a broker that has it must come back"):
        await drive(world, GOOD)
    assert [x.redriven for x in await listed(world)] == [""]
    parted.without.clear()
    await drive(world, GOOD)
    assert len(await world.records("trades.raw")) == 1


@pytest.mark.parametrize("error", [Unavailable("the log is away"), UnknownTopic("deleted")])
async def test_a_redrive_that_failed_can_be_tried_again(world: StageWorld, error: Exception) -> None:
    await index(world, GOOD)
    real = world.log
    world.log = Flaky(real, "log")  # type: ignore[assignment]

    def fail(name: str) -> None:
        if name == "producer":
            raise error

    world.log.after = fail  # type: ignore[attr-defined]
    with pytest.raises(type(error)):
        await drive(world, GOOD)
    assert [x.redriven for x in await listed(world)] == [""]
    world.log = real
    await drive(world, GOOD)
    assert len(await world.records("trades.raw")) == 1


async def test_the_index_is_json_that_other_tools_can_read(world: StageWorld) -> None:
    await index(world, letter_of("Zürich\x01".encode("latin-1")))
    (key,) = await world.state.keys("dlq:index:")
    (summary,) = (await world.state.hash_get_all(key)).values()
    assert json.loads(summary)["bytes"] == 7
