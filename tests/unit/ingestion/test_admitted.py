"""Who may log on, who traded by whose word, and how fast a session is read."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from eod_workers.dead_letters.redrive import redrive
from eod_workers.dead_letters.stage import STAGE as DEAD_LETTERS
from eod_workers.ingestion.stage import STAGE
from eod_workers.letters import decode_letter
from eod_workers.trades.codec import decode_trades
from structlog.testing import capture_logs
from support.fix_messages import SIDES, message, report, trade_body
from support.fix_wire import Wire, booked, listening
from support.patience import limited, soon
from support.sampled import sampled
from support.stage_world import StageWorld

pytestmark = pytest.mark.timeout(60)


def logon(sender: str = "ACME") -> bytes:
    """Message 1."""
    return message("A", 1, "98=0|108=30|", sender=sender)


async def answered(port: int, sender: str) -> str:
    """What becomes of a Logon: "" if it is taken, else the text of the Logout."""
    wire = await Wire.to(port)
    await wire.write(logon(sender))
    await soon(lambda: bool(wire.heard), "an answer")
    answer = wire.heard[0]
    await wire.close()
    return "" if answer[b"35"] == b"A" else answer[b"58"].decode()


def test_it_does_not_start_until_it_is_said_who_may_log_on(world: StageWorld) -> None:
    """A port that takes anybody, or nobody without a word, is worse than none."""
    with pytest.raises(
        ValueError, match=r"^nobody is named who may log on: name .* EOD_FIX_COUNTERPARTIES or EOD_FIX_S"
    ):
        world.start(STAGE, fix_admit_anybody=False)


async def test_a_list_without_anybody_is_a_list(world: StageWorld, tmp_path: Path) -> None:
    """Those who will be in it need not be known when the port is opened; it is read again."""
    file = tmp_path / "sessions.yaml"
    file.write_text("sessions: {}")
    worker, port = await listening(world, fix_admit_anybody=False, fix_sessions_file=str(file))
    assert await answered(port, "ACME") == "session 'ACME->EOD' may not log on here", "our settings are nothing to it"
    file.write_text("sessions: {ACME->EOD: {}}")
    async with limited(20):
        while await answered(port, "ACME"):  # noqa: ASYNC110 - nobody is told of a file that was read
            await asyncio.sleep(0.05)
    await worker.stop()


@pytest.mark.parametrize("anybody", [False, True])
async def test_who_is_named_may_and_nobody_else(world: StageWorld, *, anybody: bool) -> None:
    worker, port = await listening(world, fix_admit_anybody=anybody, fix_counterparties=frozenset({"ACME", "BRAVO"}))
    assert [await answered(port, sender) for sender in ("ACME", "BRAVO")] == ["", ""]
    with capture_logs() as logs:
        assert await answered(port, "ECHO") == "session 'ECHO->EOD' may not log on here"
    assert [log["why"] for log in logs if log["event"] == "fix.refused"] == [
        "SenderCompID(49)='ECHO' is not in EOD_FIX_COUNTERPARTIES"
    ]
    await worker.stop()


async def test_a_sessions_file_names_them_too(world: StageWorld, tmp_path: Path) -> None:
    file = tmp_path / "sessions.yaml"
    file.write_text("sessions: {ACME->EOD: {}}")
    with capture_logs() as logs:
        worker, port = await listening(world, fix_admit_anybody=False, fix_sessions_file=str(file))
        assert await answered(port, "ACME") == ""
        assert await answered(port, "ECHO") == "session 'ECHO->EOD' may not log on here"
        await worker.stop()
    assert [log["why"] for log in logs if log["event"] == "fix.refused"] == [
        f"session 'ECHO->EOD' is not in EOD_FIX_SESSIONS_FILE ({file})"
    ]


async def test_a_file_that_has_become_wrong_is_counted_until_it_is_mended(world: StageWorld, tmp_path: Path) -> None:
    """Nobody here is troubled by it, and a worker that starts meanwhile does not come up."""
    file = tmp_path / "sessions.yaml"
    file.write_text("sessions: {ACME->EOD: {}}")
    worker, port = await listening(world, fix_admit_anybody=False, fix_sessions_file=str(file))

    def refused() -> float:
        return sampled(worker.metrics.sessions_file_refused, "eod_fix_sessions_file_refused")

    assert refused() == 0
    file.write_text("sessions: {ACME->EOD: {zone: Europe/Lndon}}")
    await soon(lambda: refused() == 1, "the wrong file is counted")
    assert await answered(port, "ACME") == ""
    file.write_text("sessions: {ACME->EOD: {zone: Europe/London}}")
    await soon(lambda: refused() == 0, "the mended file is counted")
    await worker.stop()


async def test_sessions_may_be_told_apart_by_their_sub_ids(world: StageWorld, tmp_path: Path) -> None:
    """Where the file names them so; our messages have them the other way round."""
    file = tmp_path / "sessions.yaml"
    file.write_text("sessions: {ACME/D1->EOD: {}, ACME/D2->EOD/X: {}, BRAVO->EOD: {}}")
    worker, port = await listening(world, fix_admit_anybody=False, fix_sessions_file=str(file))
    first, second, third = [await Wire.to(port) for _ in range(3)]
    await first.write(message("A", 1, "50=D1|98=0|108=30|"), message("8", 2, "50=ann|" + trade_body("X2")))
    await second.write(message("A", 1, "50=D2|57=X|98=0|108=30|"), report(2, "X2"), report(4, "X4"))
    await third.write(message("A", 1, "50=D9|98=0|108=30|", sender="BRAVO"))
    await soon_booked(world, 2)
    assert {(trade.session, trade.exec_id) for trade in await booked(world)} >= {
        ("ACME/D1->EOD", "X2"), ("ACME/D2->EOD/X", "X2"),
    }  # fmt: skip
    answers = [await wire.hear(b"A") for wire in (first, second, third)]
    assert [(one.get(b"50"), one.get(b"57")) for one in answers] == [(None, b"D1"), (b"X", b"D2"), (None, None)]
    asked = await second.hear(b"2")
    assert (asked[b"50"], asked[b"57"]) == (b"X", b"D2")
    assert await answered(port, "ACME") == "session 'ACME->EOD' may not log on here"
    stranger = await Wire.to(port)
    await stranger.write(message("A", 1, "50=D9|57=X|98=0|108=30|"))
    refused = await stranger.hear(b"5")
    assert (refused[b"50"], refused[b"57"]) == (b"X", b"D9")
    assert refused[b"58"] == b"session 'ACME/D9->EOD/X' may not log on here"
    for wire in (first, second, third, stranger):
        await wire.close()
    await worker.stop()


# --- who traded -------------------------------------------------------------------------------------------------


async def test_a_field_of_the_session_names_the_trader(world: StageWorld) -> None:
    """Before the parties; where a report does not have it they do."""
    worker, port = await listening(world, fix_trader_tag=50)
    wire = await Wire.to(port)
    deal = "55=IBM|32=100|31=12.5|75=20260102|60=20260102-21:00:00|"
    await wire.write(
        logon(),
        message("8", 2, "50=ann|" + trade_body("X2")),
        report(3, "X3"),
        message("8", 4, "50=bob|" + trade_body("X4").replace("453=1|448=T001|447=D|452=12|", "")),
        message("AE", 5, f"50=kim|571=R1|570=N|{deal}552=2|{''.join(SIDES)}"),
    )
    await soon_booked(world, 5)
    assert [(trade.exec_id, trade.trader) for trade in await booked(world)] == [
        ("X2", "ann"), ("X3", "T001"), ("X4", "bob"), ("AE:R1:B", "kim"), ("AE:R1:S", "kim"),
    ]  # fmt: skip
    await wire.close()
    await worker.stop()


async def soon_booked(world: StageWorld, count: int) -> None:
    """Wait until the log has so many trades."""
    while len(await booked(world)) < count:  # noqa: ASYNC110 - the log tells nobody
        await asyncio.sleep(0.01)


async def test_a_dead_letter_remembers_the_field_that_names_the_trader(world: StageWorld) -> None:
    worker, port = await listening(world, fix_trader_tag=50)
    wire = await Wire.to(port)
    await wire.write(logon(), message("8", 2, "50=ann|" + trade_body("X2").replace("31=12.5|", "")))
    await wire.hear(b"3")
    await wire.close()
    await worker.stop()
    (letter,) = [decode_letter(record.value) for record in await world.records("trades.dlq")]
    stage = world.start(DEAD_LETTERS)
    await world.drained(DEAD_LETTERS)
    await stage.stop()
    await redrive(world.state, world.log, letter, trades_topic="trades.raw", now_ms=1, amend={"31": "12.5"})
    ((trade,),) = [decode_trades(record.value) for record in await world.records("trades.raw")]
    assert (letter.trader_tag, trade.trader, trade.last_px_e8) == (50, "ann", 1_250_000_000)


# --- how fast ---------------------------------------------------------------------------------------------------


async def test_a_session_that_sends_too_much_is_read_no_faster_and_delays_nobody(world: StageWorld) -> None:
    worker, port = await listening(world, fix_messages_per_s=40)
    fast, other = await Wire.to(port), await Wire.to(port)
    with capture_logs() as logs:
        await fast.write(logon())
        await fast.hear(b"A")
        await fast.write(*(report(number, f"X{number}") for number in range(2, 122)))
        await soon_booked(world, 120)
        (connection,) = [one for one in worker.service._admission.connections if one.name == "ACME->EOD"]
        assert connection._slowed is not None, "it is not read for two seconds"
        await fast.write(report(122, "X122"))
        await other.write(logon("BRAVO"), message("8", 2, trade_body("Y2"), sender="BRAVO"))
        await soon_booked(world, 121)
        assert (await booked(world))[-1].session == "BRAVO->EOD"
        assert connection._slowed is not None
        await soon_booked(world, 122)  # nothing is lost
    assert [log["session"] for log in logs if log["event"] == "fix.slowed_down"] == ["ACME->EOD"]
    await fast.close()
    await other.close()
    await worker.stop()
