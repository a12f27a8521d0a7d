"""Counterparties as they are: what is odd about a message costs that message, and neither the session nor a trade."""

from __future__ import annotations

import asyncio
import json

import pytest
from eod_workers.fix import session as session_module
from eod_workers.fix.session import MAX_ASKS, RETRY_RESEND_S
from eod_workers.ingestion.tenure import state_key
from eod_workers.letters import decode_letter
from eod_workers.protos.dead_letter_pb2 import REASON_VALIDATION, DeadLetter
from eod_workers.trades.model import Trade
from structlog.testing import capture_logs
from support.fix_messages import capture, message, report, trade_body
from support.fix_wire import Wire, booked, listening, received
from support.patience import limited, soon
from support.stage_world import StageWorld

pytestmark = pytest.mark.timeout(60)
SESSION = "ACME->EOD"


def logon(version: str = "FIX.4.4") -> bytes:
    """Message 1."""
    return message("A", 1, "98=0|108=30|", version=version)


async def trades(world: StageWorld, count: int) -> list[Trade]:
    """The trades on the log, once there are so many."""
    async with limited(20):
        while len(found := await booked(world)) < count:  # noqa: ASYNC110 - the log tells nobody
            await asyncio.sleep(0.01)
    return found


async def letters(world: StageWorld) -> list[DeadLetter]:
    """The dead letters on the log."""
    return [decode_letter(record.value) for record in await world.records("trades.dlq")]


async def played(world: StageWorld, *frames: bytes, booked: int) -> tuple[Wire, list[Trade], list[DeadLetter]]:
    """What comes of a session of these frames behind its Logon, so many trades among them."""
    worker, port = await listening(world)
    wire = await Wire.to(port)
    await wire.write(logon(), *frames, message("1", len(frames) + 2, "112=end|"))
    await wire.hear(b"0")
    found = await trades(world, booked)
    await wire.close()
    await worker.stop()
    return wire, found, await letters(world)


async def test_a_trade_capture_is_booked_on_both_sides_and_its_bytes_are_kept_once(world: StageWorld) -> None:
    both, one = capture(2, "R1"), capture(3, "R2", "487=1|572=R1|")
    alleged = capture(4, "R3", "856=1|")
    with capture_logs() as logs:
        wire, found, refused = await played(world, both, one, alleged, report(5, "X5"), booked=5)
    assert [(trade.exec_id, trade.trader, trade.frame) for trade in found] == [
        ("AE:R1:B", "T001", both), ("AE:R1:S", "T002", both), ("AE:R2:B", "T001", one), ("AE:R2:S", "T002", one),
        ("X5", "T001", report(5, "X5")),
    ]  # fmt: skip
    assert (refused, wire.of(b"3"), wire.of(b"j")) == ([], [], [])
    assert [log["why"] for log in logs if log["event"] == "fix.set_aside"] == [
        "TradeReportType(856)=1: it reports no trade"
    ]
    kept = await received(world)
    assert {frame: kept[frame] for frame in (both, one, alleged)} == {both: 1, one: 1, alleged: 1}


async def test_a_trade_capture_that_cannot_be_booked_is_rejected_as_a_whole(world: StageWorld) -> None:
    bad = capture(2, "R1").replace(b"54=2", b"54=9")
    bad = message("AE", 2, bad[bad.index(b"571=") : bad.index(b"10=")].decode().replace("\x01", "|"))
    wire, found, refused = await played(world, bad, report(3, "X3"), booked=1)
    (reject,) = wire.of(b"3")
    assert (reject[b"45"], reject[b"371"], reject[b"372"], reject[b"373"]) == (b"2", b"54", b"AE", b"5")
    assert ([trade.exec_id for trade in found], [letter.raw for letter in refused]) == (["X3"], [bad])


async def test_where_trade_captures_are_off_or_unknown_they_are_unsupported(world: StageWorld) -> None:
    worker, port = await listening(world, fix_trade_captures=False)
    old = message("AE", 2, "571=R1|570=N|55=IBM|32=1|31=1|552=1|54=1|", version="FIX.4.2")
    for version, raw in (("FIX.4.4", capture(2, "R1")), ("FIX.4.2", old)):
        wire = await Wire.to(port)
        await wire.write(logon(version), raw)
        answer = await wire.hear(b"j")
        assert (answer[b"372"], answer[b"380"]) == (b"AE", b"3")
        await wire.close()
    await worker.stop()
    assert (await booked(world), await letters(world)) == ([], [])


async def test_fix_42_has_no_trade_captures(world: StageWorld) -> None:
    worker, port = await listening(world)
    wire = await Wire.to(port)
    await wire.write(logon("FIX.4.2"), message("AE", 2, "571=R1|55=IBM|552=1|54=1|", version="FIX.4.2"))
    assert (await wire.hear(b"j"))[b"380"] == b"3"
    await wire.close()
    await worker.stop()


async def test_a_wrapper_is_set_aside_and_takes_its_number(world: StageWorld) -> None:
    inner = "<RTRF>8=FIX.4.2|9=40|35=8|55=ES|31=208700|32=1|10=000|</RTRF>"
    wrapper = message("n", 2, f"212={len(inner)}|213={inner}|")
    wire, found, refused = await played(world, wrapper, report(3, "X3"), booked=1)
    assert ([trade.exec_id for trade in found], refused, wire.of(b"2"), wire.of(b"3")) == (["X3"], [], [], [])
    assert (await received(world))[wrapper] == 1


@pytest.mark.parametrize("cut", range(100, 190, 7))
async def test_a_wrapper_of_whole_frames_may_come_in_pieces(world: StageWorld, cut: int) -> None:
    """What looks like the start of the next frame stands inside data."""
    inner = "8=FIX.4.2|9=5|35=0|10=163|8=FIX.4.2|9=5|35=0|10=163|"
    wrapper = message("n", 2, f"58=x|212={len(inner)}|213={inner}|")
    worker, port = await listening(world)
    wire = await Wire.to(port)
    await wire.write(logon())
    await wire.hear(b"A")
    await wire.write(wrapper[:cut])
    await asyncio.sleep(0.01)
    await wire.write(wrapper[cut:], report(3, "X3"))
    found = await trades(world, 1)
    await wire.close()
    await worker.stop()
    assert ([trade.msg_seq_num for trade in found], await letters(world)) == ([3], [])


async def test_data_in_a_report_changes_nothing_about_it(world: StageWorld) -> None:
    fill = message("8", 2, trade_body("X2", px="10.25") + "354=22|355=was|31=9.99|32=1000000|")
    _, found, refused = await played(world, fill, booked=1)
    assert [(trade.last_qty_e8, trade.last_px_e8) for trade in found] == [(100 * 10**8, 1025 * 10**6)]
    assert refused == []


@pytest.mark.parametrize(
    ("bad", "reason", "tag"),
    [
        (message("8", 2, trade_body("BAD") + "oops|"), b"17", b"6061"),
        (message("8", 2, trade_body("BAD") + "32=7|"), b"13", b"32"),
        (message("8", 2, trade_body("BAD") + "453=1|"), b"13", b"453"),
        (message("8", 2, trade_body("BAD").replace("453=1|", "453=2|")), b"16", b"453"),
        (message("8", 2, trade_body("BAD") + "354=99|355=x|"), b"5", b"354"),
        (message("8", 2, trade_body("BAD").replace("31=12.5|", "")), b"1", b"31"),
        (message("8", 2, trade_body("BAD", px="12,5")), b"6", b"31"),
    ],
)
async def test_what_cannot_be_read_is_rejected_once_and_kept_and_the_next_fill_is_booked(
    world: StageWorld, bad: bytes, reason: bytes, tag: bytes
) -> None:
    wire, found, refused = await played(world, bad, report(3, "X3"), booked=1)
    (reject,) = wire.of(b"3")
    assert (reject[b"45"], reject[b"371"], reject[b"372"], reject[b"373"]) == (b"2", tag, b"8", reason)
    assert [trade.exec_id for trade in found] == ["X3"]
    assert [(letter.raw, letter.reason, letter.msg_seq_num) for letter in refused] == [(bad, REASON_VALIDATION, 2)]
    assert wire.of(b"2") == []


LONG_NEWS = message("B", 2, f"148=closing|33=1|58={'x' * 80_000}|")


async def test_a_message_beyond_the_limit_is_rejected_takes_its_number_and_is_kept(world: StageWorld) -> None:
    wire, found, refused = await played(world, LONG_NEWS, report(3, "X3"), booked=1)
    (reject,) = wire.of(b"3")
    assert (reject[b"45"], reject[b"371"], reject[b"372"], reject[b"373"]) == (b"2", b"9", b"B", b"5")
    assert b"EOD_FIX_MAX_MESSAGE_BYTES" in reject[b"58"]
    assert [trade.exec_id for trade in found] == ["X3"]
    assert [letter.raw for letter in refused] == [LONG_NEWS]


async def test_the_limit_of_a_message_can_be_raised(world: StageWorld) -> None:
    worker, port = await listening(world, fix_max_message_bytes=100_000)
    wire = await Wire.to(port)
    await wire.write(logon(), LONG_NEWS, report(3, "X3"))
    await trades(world, 1)
    assert (await wire.hear(b"j"))[b"45"] == b"2"
    await wire.close()
    await worker.stop()
    assert (wire.of(b"3"), await letters(world)) == ([], [])


async def test_nobody_sends_long_messages_before_the_logon(world: StageWorld) -> None:
    worker, port = await listening(world)
    wire = await Wire.to(port)
    await wire.write(b"8=FIX.4.4\x019=400000\x0135=A\x01" + b"x" * 1_000 + logon())
    async with limited(20):
        await wire.closed()
    await worker.stop()
    assert wire.heard == []
    (letter,) = await letters(world)
    assert "beyond the limit of 65536 bytes" in letter.detail


async def test_a_message_that_nobody_handles_is_refused_as_such_and_kept(world: StageWorld) -> None:
    news, captured = message("B", 2, "148=closing|33=1|58=x|"), message("AK", 3, "664=C1|773=2|")
    reply = message("j", 4, "45=1|372=B|380=3|")
    wire, found, refused = await played(world, news, captured, reply, report(5, "X5"), booked=1)
    assert [(one[b"45"], one[b"372"], one[b"380"], one[b"58"]) for one in wire.of(b"j")] == [
        (b"2", b"B", b"3", b"Unsupported Message Type"), (b"3", b"AK", b"3", b"Unsupported Message Type"),
    ]  # fmt: skip
    assert ([trade.exec_id for trade in found], refused, wire.of(b"3")) == (["X5"], [], [])
    kept = await received(world)
    assert [kept[raw] for raw in (news, captured, reply)] == [1, 1, 1]


async def test_names_in_utf_8_are_read_as_such_and_others_as_latin_1(world: StageWorld) -> None:
    first = message("8", 2, trade_body("X2")).replace(b"448=T001", b"448=T001")
    utf = message("8", 3, trade_body("X3").replace("448=T001", "448=MÃ¼ller"))  # the helper writes Latin-1
    latin = message("8", 4, trade_body("X4").replace("448=T001", "448=Müller"))
    _, found, refused = await played(world, first, utf, latin, booked=3)
    assert [trade.trader for trade in found] == ["T001", "Müller", "Müller"]
    assert (found[1].frame, found[2].frame, refused) == (utf, latin, [])


async def test_a_frame_that_is_garbled_whenever_it_comes_is_asked_for_so_often_and_no_more(
    world: StageWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session says that it is stuck, and goes on as soon as the gap is filled."""
    monkeypatch.setattr(session_module, "RETRY_RESEND_S", RETRY_RESEND_S / 20)
    worker, port = await listening(world)
    wire = await Wire.to(port)
    await wire.write(logon(), report(3, "X3"))
    with capture_logs() as logged:
        for asked in range(1, MAX_ASKS + 2):
            await wire.hear(b"2", asked)
            bad = message("8", 2, f"43=Y|122=20260102-21:00:00.{asked:03}|" + trade_body("X2"))
            await wire.write(bad[:-4] + b"%03d\x01" % ((int(bad[-4:-1]) + 1) % 256))
        await soon(lambda: any(one["event"] == "fix.stuck" for one in logged), "it says so")
        await wire.write(message("1", 4, "112=held back|"))
        await asyncio.sleep(1)
        assert len(wire.of(b"2")) == MAX_ASKS + 1
        await wire.write(message("4", 2, "43=Y|122=20260102-21:00:00|123=Y|36=3|"))
        await wire.hear(b"0")
        await soon(lambda: any(one["event"] == "fix.unstuck" for one in logged), "it says that, too")
    (stuck,) = [one for one in logged if one["event"] == "fix.stuck"]
    assert (stuck["session"], stuck["msg_seq_num"], stuck["held"]) == (SESSION, 2, 1)
    assert [trade.exec_id for trade in await trades(world, 1)] == ["X3"]
    await wire.close()
    await worker.stop()
    assert len(await letters(world)) == MAX_ASKS + 1


async def test_a_reset_of_a_live_session_is_a_new_epoch_on_the_same_connection(world: StageWorld) -> None:
    worker, port = await listening(world)
    wire = await Wire.to(port)
    again = message("A", 1, "98=0|108=30|141=Y|")
    await wire.write(logon(), report(2, "X2"), again, report(2, "Y2"), again, report(2, "Z2"), report(3, "Z3"))
    found = await trades(world, 4)
    answers = [(answer[b"34"], answer.get(b"141")) for answer in wire.of(b"A")]
    assert answers == [(b"1", None), (b"1", b"Y"), (b"1", b"Y")]
    epochs = sorted({trade.epoch for trade in found})
    assert [(epochs.index(trade.epoch), trade.msg_seq_num, trade.exec_id) for trade in found] == [
        (0, 2, "X2"), (1, 2, "Y2"), (2, 2, "Z2"), (2, 3, "Z3"),
    ]  # fmt: skip
    await wire.close()
    await worker.stop()
    stored = await world.state.port.get_versioned(state_key(SESSION))
    assert stored
    assert (json.loads(stored[1])["epoch"], json.loads(stored[1])["inbound"]) == (epochs[-1], 4)


async def test_what_waits_behind_a_gap_is_booked_when_the_numbers_begin_again(world: StageWorld) -> None:
    """It has been received, and the counterparty will not send it again."""
    worker, port = await listening(world)
    wire = await Wire.to(port)
    await wire.write(logon(), report(2, "X2"), report(4, "X4"), report(5, "X5"), message("A", 1, "98=0|108=30|141=Y|"))
    await wire.hear(b"A", 2)
    await wire.write(report(2, "Y2"))
    found = await trades(world, 4)
    epochs = sorted({trade.epoch for trade in found})
    assert [(epochs.index(trade.epoch), trade.msg_seq_num, trade.exec_id) for trade in found] == [
        (0, 2, "X2"), (0, 4, "X4"), (0, 5, "X5"), (1, 2, "Y2"),
    ]  # fmt: skip
    await wire.close()
    await worker.stop()


async def test_a_reset_of_a_live_session_is_answered_when_all_before_it_is_on_the_log(world: StageWorld) -> None:
    """The counterparty will not send again what came before it."""
    worker, port = await listening(world)
    wire = await Wire.to(port)
    await wire.write(logon(), report(2, "X2"))
    await trades(world, 1)
    acknowledge = asyncio.Event()
    waits = worker.service._writer.acknowledged_so_far

    async def slowly(session: str) -> None:
        await acknowledge.wait()
        await waits(session)

    worker.service._writer.acknowledged_so_far = slowly
    await wire.write(report(3, "X3"), message("A", 1, "98=0|108=30|141=Y|"), report(2, "Y2"))
    assert len(await trades(world, 2)) == 2
    await asyncio.sleep(0.2)
    assert (len(wire.of(b"A")), len(await booked(world))) == (1, 2)
    acknowledge.set()
    await wire.hear(b"A", 2)
    assert [trade.exec_id for trade in await trades(world, 3)] == ["X2", "X3", "Y2"]
    await wire.close()
    await worker.stop()


async def test_a_reset_of_a_live_session_that_cannot_be_saved_is_not_confirmed(world: StageWorld) -> None:
    worker, port = await listening(world)
    wire = await Wire.to(port)
    await wire.write(logon(), report(2, "X2"))
    await trades(world, 1)
    world.state.down_for.add("put_if_newer")
    reset = message("A", 1, "98=0|108=30|141=Y|")
    await wire.write(reset, report(2, "Y2"))
    await wire.closed()
    assert len(wire.of(b"A")) == 1
    world.state.down_for.clear()
    await worker.stop()
    assert [trade.exec_id for trade in await booked(world)] == ["X2"]
    kept = await received(world)
    assert (kept[reset], kept[report(2, "Y2")]) == (1, 1)


async def test_legs_are_booked_and_their_summary_is_set_aside_with_the_reason(world: StageWorld) -> None:
    legs = [message("8", number, trade_body(f"L{number}", symbol=f"LEG{number}") + "442=2|") for number in (2, 3)]
    summary = message("8", 4, trade_body("SUM", symbol="SPREAD") + "442=3|")
    with capture_logs() as said:
        _, found, refused = await played(world, *legs, summary, report(5, "X5"), booked=3)
    assert ([trade.exec_id for trade in sorted(found, key=lambda one: one.msg_seq_num)], refused) == (
        ["L2", "L3", "X5"],
        [],
    )
    assert [(one["msg_seq_num"], one["why"]) for one in said if one["event"] == "fix.set_aside"] == [
        (4, "MultiLegReportingType(442)=3: it sums up legs, each of which is reported by itself")
    ]
    assert (await received(world))[summary] == 1


async def test_two_versions_under_the_same_comp_ids_are_two_sessions(world: StageWorld) -> None:
    """With numbers and ExecIDs of their own; neither ends the other."""
    worker, port = await listening(world)
    new, old = await Wire.to(port), await Wire.to(port)
    fill = trade_body("X2").replace("150=F", "20=0|150=2")
    await new.write(logon(), report(2, "X2"))
    await old.write(logon("FIX.4.2"), message("8", 2, fill, version="FIX.4.2"))
    found = await trades(world, 2)
    await new.write(report(3, "X3"))
    await trades(world, 3)
    await old.close()
    await new.close()
    await worker.stop()
    assert {(trade.session, trade.exec_id) for trade in found} == {(SESSION, "X2"), (f"FIX.4.2:{SESSION}", "X2")}


async def test_who_begins_strangely_is_told_nothing(world: StageWorld) -> None:
    worker, port = await listening(world)
    for first in (message("0", 1), report(1, "X1"), message("A", 1, "98=0|108=30|", version="FIX.4.3"),
                  message("A", 1, "98=0|108=30|", sender="")):  # fmt: skip
        wire = await Wire.to(port)
        await wire.write(first, report(2, "X2"))
        await wire.closed()
        assert wire.heard == []
    await worker.stop()
    assert await booked(world) == []


async def test_an_encrypted_session_is_refused_in_words(world: StageWorld) -> None:
    worker, port = await listening(world)
    wire = await Wire.to(port)
    await wire.write(message("A", 1, "98=1|108=30|"))
    logout = await wire.hear(b"5")
    assert logout[b"58"] == b"EncryptMethod(98)=1: only 0, none, is supported"
    await wire.closed()
    await worker.stop()
