"""Who has not logged on, or sends what is no FIX, costs little and keeps nobody out; every byte is on record once."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from eod_workers.fix.session import Room, SequenceNumbers, Session
from eod_workers.ingestion import limits
from eod_workers.ingestion.limits import LIMITS, Budget
from eod_workers.ingestion.settings import IngestionSettings
from eod_workers.letters import decode_letter
from support.fix_messages import message, parsed, report, trade_body
from support.fix_wire import Wire, booked, listening, received
from support.patience import limited, soon
from support.sampled import sampled
from support.stage_world import StageWorld, Worker

pytestmark = pytest.mark.timeout(60)
NS = 1_000_000_000


def logon(sender: str = "ACME", more: str = "") -> bytes:
    return message("A", 1, f"98=0|108=30|{more}", sender=sender)


def refused(worker: Worker, reason: str) -> float:
    return sampled(worker.metrics.refused, "eod_fix_refused_total", reason=reason)


async def on_record(world: StageWorld) -> int:
    return sum(len(raw) * count for raw, count in (await received(world)).items())


async def letters(world: StageWorld) -> list[Any]:
    return [decode_letter(record.value) for record in await world.records("trades.dlq")]


async def admitted(port: int, sender: str = "ACME") -> Wire:
    wire = await Wire.to(port)
    await wire.write(logon(sender))
    await wire.hear(b"A")
    return wire


# --- before a Logon -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(70_000),
        b"".join(b"8=FIX%06d" % number for number in range(8_000)),
        b"\x0110=000\x01" * 8_000,
        b"8=FIX.4.4\x019=65000\x01" * 4_000,
    ],
    ids=["another protocol", "TLS", "beginnings", "ends", "lengths"],
)
async def test_bytes_that_are_no_frame_before_a_logon_end_the_connection(world: StageWorld, data: bytes) -> None:
    """And make one letter: whoever connects with TLS to a port without it is to be found."""
    worker, port = await listening(world)
    wire = await Wire.to(port)
    await wire.write(data[:60_000])
    async with limited(20):
        await wire.closed()
    assert wire.heard == []
    await worker.stop()
    assert await on_record(world) == min(len(data), 60_000)
    assert len(await letters(world)) == 1
    assert refused(worker, "not_fix") == 1


async def test_a_first_message_that_is_no_logon_ends_the_reading(world: StageWorld) -> None:
    """What is glued behind it is kept, and not looked at: it made a letter a piece, each with the name of the first."""
    worker, port = await listening(world)
    data = message("0", 1, sender="X" * 60) + b"8=FIX" * 6_800
    wire = await Wire.to(port)
    await wire.write(data)
    async with limited(20):
        await wire.closed()
    await worker.stop()
    assert await on_record(world) == len(data)
    assert await letters(world) == []
    assert refused(worker, "first_message") == 1


async def test_what_a_counterparty_writes_in_front_of_its_logon_is_kept_frame_by_frame(world: StageWorld) -> None:
    """As QuickFIX/J does that was resending when its connection was lost: what it has sent is compared by frames."""
    worker, port = await listening(world)
    frames = [report(number, f"X{number}") for number in range(2, 12)]
    beginning, broken = report(12, "X12")[:60], report(13, "X13")[:-4] + b"999\x01" + b"8=FIX" * 1_000
    for behind in (beginning, broken):
        wire = await Wire.to(port)
        await wire.write(b"".join(frames) + behind)
        async with limited(20):
            await wire.closed()
    await worker.stop()
    kept = await received(world)
    assert {raw: kept[raw] for raw in frames} == dict.fromkeys(frames, 2)
    assert await on_record(world) == 2 * len(b"".join(frames)) + len(beginning) + len(broken)
    cut = [(beginning, "the connection ended inside this frame")]
    assert [(one.raw, one.detail) for one in await letters(world)] == cut
    assert refused(worker, "first_message") == 2


@pytest.mark.parametrize("field", ["49", "50", "56", "57"])
async def test_names_of_a_logon_have_an_end(world: StageWorld, field: str) -> None:
    """They are in everything that is kept about a session, and in what is logged."""
    worker, port = await listening(world)
    long = "N" * (limits.MAX_COMP_ID_BYTES + 1)
    names = {"sender": long} if field == "49" else {"target": long} if field == "56" else {}
    body = "98=0|108=30|" if field in {"49", "56"} else f"{field}={long}|98=0|108=30|"
    wire = await Wire.to(port)
    await wire.write(message("A", 1, body, **names))
    async with limited(20):
        await wire.closed()
    longest = await admitted(port, "N" * limits.MAX_COMP_ID_BYTES)
    await longest.close()
    await worker.stop()
    assert wire.heard == []
    assert refused(worker, "name") == 1
    assert all(len(record.key or b"") <= 2 * limits.MAX_COMP_ID_BYTES for record in await world.records("sessions.raw"))


async def test_letters_about_strangers_are_few_and_their_bytes_are_kept(world: StageWorld) -> None:
    worker, port = await listening(world)
    for number in range(limits.STRANGERS_AT_ONCE + 60):
        wire = await Wire.to(port)
        await wire.write(b"stranger %04d" % number)
        async with limited(20):
            await wire.write(b" and more")
            await wire.closed()
    await worker.stop()
    told = await letters(world)
    assert limits.STRANGERS_AT_ONCE <= len(told) < limits.STRANGERS_AT_ONCE + 50
    kept = b"".join((await received(world)).elements())
    assert all(b"stranger %04d" % number in kept for number in range(limits.STRANGERS_AT_ONCE + 60))


# --- how many may connect -----------------------------------------------------------------------------------


async def test_who_has_not_logged_on_makes_room_for_who_does(world: StageWorld) -> None:
    worker, port = await listening(world, fix_max_connections=10)
    silent = [await Wire.to(port) for _ in range(10)]
    good = [await admitted(port, f"S{number}") for number in range(9)]
    async with limited(20):
        await asyncio.gather(*(wire.closed() for wire in silent[:9]))
    assert worker.health.why_not == ""
    for wire, number in zip(good, range(9), strict=True):
        await wire.write(message("1", 2, f"112=still {number}|", sender=f"S{number}"))
        await wire.hear(b"0")
    assert refused(worker, "unknown") == 9
    await worker.stop()


async def test_room_is_made_by_the_address_that_has_most(world: StageWorld) -> None:
    """Else somebody with many sockets would drive out who has just connected and is about to log on."""
    worker, port = await listening(world, fix_max_connections=10)
    first = await Wire.to(port)
    many = [await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0)) for _ in range(9)]
    await soon(lambda: len(worker.service._admission.connections) == 10)
    await admitted(port, "NEW")
    async with limited(20):
        assert await many[0][0].read() == b""
    await first.write(logon("FIRST"))
    await first.hear(b"A")
    for _, writer in many:
        writer.close()
    await worker.stop()


async def test_where_all_have_logged_on_the_next_is_hung_up_on_and_the_replica_says_that_it_is_full(
    world: StageWorld,
) -> None:
    worker, port = await listening(world, fix_max_connections=10)
    good = [await admitted(port, f"S{number}") for number in range(10)]
    late = await Wire.to(port)
    async with limited(20):
        await late.closed()
    await soon(lambda: "EOD_FIX_MAX_CONNECTIONS" in worker.health.why_not)
    assert refused(worker, "full") == 1
    await good.pop().close()
    await soon(lambda: worker.health.why_not == "")
    await admitted(port, "LATE")
    await worker.stop()


async def test_there_are_no_more_connections_than_descriptors(
    world: StageWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nothing else could be opened: no probe would be answered, and no log be reached again."""
    monkeypatch.setattr("eod_workers.ingestion.admission.resource.getrlimit", lambda _: (70, 70))
    worker, port = await listening(world)
    good = [await admitted(port, f"S{number}") for number in range(6)]
    late = await Wire.to(port)
    async with limited(20):
        await late.closed()
    await worker.stop()
    assert len(good) == 6
    assert refused(worker, "full") == 1


async def test_a_new_connection_is_not_read_while_the_log_takes_nothing(world: StageWorld) -> None:
    worker, port = await listening(world)
    writer = worker.service._writer
    writer.is_full = True
    wire = await Wire.to(port)
    await wire.write(logon())
    await soon(lambda: bool(worker.service._admission.connections))
    (connection,) = worker.service._admission.connections
    assert connection._held_back
    await asyncio.sleep(0.1)
    assert connection.session is None
    writer.is_full = False
    worker.service._admission.hold_back(False)
    await wire.hear(b"A")
    await worker.stop()


# --- two who are one ----------------------------------------------------------------------------------------


async def test_of_two_logons_at_once_one_wins(world: StageWorld) -> None:
    """Both were refused, each because of the other."""
    worker, port = await listening(world)
    asked, goes_on, take_over = asyncio.Event(), asyncio.Event(), world.state.port.take_over

    async def slow(*args: Any) -> Any:
        asked.set()
        await goes_on.wait()
        return await take_over(*args)

    world.state.port.take_over = slow
    first, second = await Wire.to(port), await Wire.to(port)
    await first.write(logon())
    async with limited(20):
        await asked.wait()
        await second.write(logon())
        assert b"live on another connection" in (await second.hear(b"5"))[b"58"]
        goes_on.set()
        await first.hear(b"A")
        await second.closed()
    await first.write(report(2, "X2"))
    await soon(lambda: worker.service._writer.live["ACME->EOD"].sequence.inbound == 3)
    await worker.stop()
    assert [trade.exec_id for trade in await booked(world)] == ["X2"]


async def test_who_does_not_read_gives_way_to_a_new_logon(world: StageWorld) -> None:
    worker, port = await listening(world)
    wire = await admitted(port)
    (connection,) = worker.service._admission.connections
    connection.pause_writing()
    again = await Wire.to(port)
    await again.write(message("A", 2, "98=0|108=30|"))
    await again.hear(b"A")
    async with limited(20):
        await wire.closed()
    await worker.stop()


@pytest.mark.parametrize("gone_at", ["once", "last"])
async def test_what_was_not_looked_at_while_the_answers_were_not_read_is_taken_when_they_are(
    world: StageWorld, gone_at: str
) -> None:
    """Whole or as the connection ends: no frame becomes garbage by it."""
    worker, port = await listening(world)
    await admitted(port)
    (connection,) = worker.service._admission.connections
    connection.pause_writing()
    connection.data_received(report(2, "X2") + report(3, "X3")[:50])
    connection.data_received(report(3, "X3")[50:])
    assert connection.session.sequence.inbound == 2
    connection.resume_writing()
    assert connection.session.sequence.inbound == 4
    connection.pause_writing()
    connection.data_received(report(4, "X4"))
    if gone_at == "once":
        connection.abort()
    else:  # what we have written goes out first, and is read
        connection.close()
        connection.resume_writing()
    await soon(lambda: not worker.service._admission.connections)
    await worker.stop()
    assert [trade.exec_id for trade in await booked(world)] == ["X2", "X3", "X4"]
    assert await letters(world) == []


async def test_answers_are_written_before_they_pile_up(world: StageWorld) -> None:
    """Somebody who asks for much and reads nothing is not answered further from the same bytes."""
    worker, port = await listening(world)
    await admitted(port)
    (connection,) = worker.service._admission.connections
    most, write = [0], connection._transport.write

    def noted(data: bytes) -> None:
        most[0] = max(most[0], data.count(b"\x0135=0\x01"))
        write(data)

    connection._transport.write = noted
    connection.data_received(b"".join(message("1", number, "112=x|") for number in range(2, 502)))
    assert 0 < most[0] <= limits.OUTBOX_MESSAGES
    await worker.stop()


# --- a session's letters ------------------------------------------------------------------------------------


async def test_letters_of_a_session_have_a_budget_and_one_says_how_many_were_too_many(world: StageWorld) -> None:
    worker, port = await listening(world)
    wire = await admitted(port)
    bad = [report(2, f"X{number}")[:-4] + b"999\x01" for number in range(limits.LETTERS_AT_ONCE + 500)]
    good = report(2, "GOOD")
    for one in bad:
        await wire.write(one + message("0", 1, "43=Y|122=20260105-21:00:00|"))
    await wire.write(good)
    await wire.write(message("1", 3, "112=done|"))
    await wire.hear(b"0")
    await worker.stop()
    told = await letters(world)
    summaries = [letter for letter in told if not letter.raw]
    assert limits.LETTERS_AT_ONCE <= len(told) < len(bad)
    assert summaries
    left_out = sum(int(letter.detail.split()[0].replace(",", "")) for letter in summaries)
    assert left_out + len(told) - len(summaries) == len(bad)
    assert all("sessions.raw" in letter.detail and letter.session == "ACME->EOD" for letter in summaries)
    assert Counter(bad) <= await received(world)
    assert [trade.exec_id for trade in await booked(world)] == ["GOOD"]


def test_a_budget_is_so_many_at_once_and_then_so_many_a_second() -> None:
    budget = Budget(5, 2)
    assert [budget.spend(1, NS) for _ in range(6)] == [True] * 5 + [False]
    assert not budget.spend(1, NS + NS // 4)
    assert budget.spend(1, NS + NS // 2)
    assert [budget.spend(2, 100 * NS) for _ in range(3)] == [True, True, False]
    assert budget.spend(50, 200 * NS), "what costs more than there can be is taken from a whole budget"
    assert not budget.spend(1, 200 * NS)


# --- what waits behind a gap --------------------------------------------------------------------------------


def held_session(room: Room) -> Session:
    session = Session(
        begin_string=b"FIX.4.4",
        sender=b"EOD",
        target=b"ACME",
        sequence=SequenceNumbers(),
        now_ns=lambda: 1_790_000_000 * NS,
        room=room,
    )
    take(session, logon())
    return session


def take(session: Session, raw: bytes) -> None:
    session.received(raw, parsed(raw), 1_790_000_000 * NS)


def test_what_waits_behind_gaps_is_bounded_by_memory_for_all_sessions_together() -> None:
    long = "58=" + "x" * 60_000 + "|"
    room = Room(9 * 123_500)
    one, other = held_session(room), held_session(room)
    for number in range(3, 11):
        take(one, report(number, f"X{number}", long))
        take(other, report(number, f"X{number}", long))
    assert one.held + other.held == 9
    assert len(one.aside) + len(other.aside) == 2 + 16 - 9
    for number in range(2, 11):
        take(one, message("8", number, f"43=Y|122=20260102-20:59:00|{trade_body(f'X{number}')}{long}"))
    assert [delivered.msg_seq_num for delivered in one.delivered] == list(range(2, 11))
    assert one.held == 0
    for number in range(11, 15):
        take(other, report(number, f"X{number}", long))
    assert other.held > 5, "there is room again"
    other.abandon_held()
    assert room._left == 9 * 123_500


def test_a_message_that_found_no_room_is_asked_for_again_although_nothing_follows() -> None:
    now = [1_790_000_000 * NS]
    session = Session(
        begin_string=b"FIX.4.4",
        sender=b"EOD",
        target=b"ACME",
        sequence=SequenceNumbers(),
        now_ns=lambda: now[0],
        room=Room(4_000),
    )
    take(session, logon())
    take(session, report(3, "X3"))
    take(session, report(4, "X4"))
    take(session, report(2, "X2"))
    assert [delivered.msg_seq_num for delivered in session.delivered] == [2, 3]
    session.outbox.clear()
    now[0] += 3 * NS
    session.tick()
    (asked,) = [parsed(raw).fields for raw in session.outbox if parsed(raw).fields[b"35"] == b"2"]
    assert (asked[b"7"], asked[b"16"]) == (b"4", b"4")


# --- what is over -------------------------------------------------------------------------------------------


async def test_sessions_that_have_ended_cost_nothing(world: StageWorld) -> None:
    """The numbers of every session that had ever logged on were copied with every record."""
    worker, port = await listening(world)
    stays = await admitted(port, "STAYS")
    for number in range(5):
        wire = await admitted(port, f"S{number}")
        await wire.write(message("8", 2, trade_body(f"X{number}"), sender=f"S{number}"))
        await wire.close()
    await soon(lambda: len(worker.service._admission.connections) == 1)
    await stays.write(message("8", 2, trade_body("STAYS"), sender="STAYS"))
    await soon(lambda: set(worker.service._writer.live) == {"STAYS->EOD"})
    assert set(worker.service._writer._saved) <= {"STAYS->EOD"}
    again = await Wire.to(port)
    await again.write(message("A", 3, "98=0|108=30|", sender="S3"))
    await again.hear(b"A")
    assert again.of(b"2") == []
    await worker.stop()
    assert {trade.exec_id for trade in await booked(world)} == {"STAYS", *(f"X{number}" for number in range(5))}


async def test_a_logon_that_cannot_be_looked_at_is_answered(world: StageWorld) -> None:
    """A store that refuses what we may not do raised an error that nobody saw; the socket hung for ever."""
    worker, port = await listening(world)

    async def forbidden(*_: object) -> None:
        raise PermissionError("NOPERM this user has no permissions to run the 'eval' command")

    world.state.port.take_over = forbidden
    wire = await Wire.to(port)
    await wire.write(logon())
    assert b"PermissionError" in (await wire.hear(b"5"))[b"58"]
    async with limited(20):
        await wire.closed()
    await worker.stop()
    assert refused(worker, "terms") == 1


# --- the list -----------------------------------------------------------------------------------------------


def test_the_documentation_lists_every_limit() -> None:
    page = (Path(__file__).parents[3] / "docs/fix.md").read_text(encoding="utf-8")
    rows = [
        f"| {one.what} | {one.value} | {f'`{one.setting}`' if one.setting else ''} | {one.why} | {one.beyond} |"
        for one in LIMITS
    ]
    assert "\n".join(rows) in page
    usual = IngestionSettings.model_fields
    told = {one.setting: one.value for one in LIMITS if one.setting}
    assert told["EOD_FIX_MAX_CONNECTIONS"] == f"{usual['fix_max_connections'].default:,}"
    assert told["EOD_FIX_SENDING_TIME_WITHIN_S"] == f"{usual['fix_sending_time_within_s'].default:,} s"
    assert told["EOD_FIX_MAX_MESSAGE_BYTES"] == f"{usual['fix_max_message_bytes'].default:,} bytes"
