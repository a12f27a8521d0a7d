"""On what terms a session is admitted: its file, where it may come from, and when its day ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from eod_workers.adapters.clock import SystemClock
from eod_workers.adapters.memory_state import MemoryState
from eod_workers.fix.session import SequenceNumbers, Session
from eod_workers.ingestion.sessions import list_sessions
from eod_workers.ingestion.settings import IngestionSettings
from eod_workers.ingestion.tenure import begin, save
from eod_workers.ingestion.terms import Terms, TermsBook
from eod_workers.pnl.book import PartitionBook
from structlog.testing import capture_logs
from support.fix_messages import message, report, trade_body
from support.fix_wire import Wire, booked, listening
from support.patience import soon
from support.stage_world import StageWorld
from unit.ingestion.test_counterparties import letters, trades

pytestmark = pytest.mark.timeout(60)
NS = 10**9
SESSION = "ACME->EOD"


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * NS


# --- the file -----------------------------------------------------------------------------------------------


def book(path: Path, text: str, usual: Terms | None = None) -> TermsBook:
    path.write_text(text, encoding="utf-8")
    return TermsBook(usual or Terms(), str(path))


def test_without_a_file_all_have_the_usual_terms() -> None:
    usual = Terms(zone="Europe/London", reset="17:00")
    assert TermsBook(usual).of("ANY->EOD") == usual
    assert not TermsBook(usual).look_again()


def test_sessions_have_their_own_terms_and_the_usual_ones_for_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "sessions.yaml"
    found = book(
        path,
        "sessions:\n  A->EOD:\n  FIX.4.2:B->EOD:\n    reset: 17:00\n    addresses: [10.0.0.0/8, '192.0.2.7', 'fd00::/8']\n"
        "    heartbeat_s: 20\n",
        Terms(zone="Europe/London"),
    )
    assert found.of("A->EOD") == Terms(zone="Europe/London")
    assert found.of("FIX.4.2:B->EOD") == Terms(
        zone="Europe/London", reset="17:00", addresses=("10.0.0.0/8", "192.0.2.7", "fd00::/8"), heartbeat_s=20
    )
    assert found.of("B->EOD") == f"session 'B->EOD' is not in EOD_FIX_SESSIONS_FILE ({path})"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sessions: [", "is not YAML as it is meant: "),
        ("sessions:\n  A->EOD: {}\n  B->EOD: {}\n  A->EOD: {reset: 17:00}", "'A->EOD' stands twice"),
        ("sessions: {A->EOD: {zone: UTC, reset: 17:00, zone: Europe/London}}", "'zone' stands twice"),
        ("", "needs one key, sessions"),
        ("sessions: [A->EOD]", "needs one key, sessions"),
        ("session: {A->EOD: {}}", "needs one key, sessions"),
        ("sessions: {A->EOD: {}}\nmore: 1", "needs one key, sessions"),
        ("sessions: {ACME: {}}", "session 'ACME': it must be SENDER->TARGET"),
        ("sessions: {FIX.4.4:ACME->EOD: {}}", "with FIX.4.2: in front for that version"),
        ("sessions: {fix.4.2:ACME->EOD: {}}", "with FIX.4.2: in front for that version"),
        ("sessions: {FIX.4.3:ACME->EOD: {}}", "with FIX.4.2: in front for that version"),
        ("sessions: {'ACME -> EOD': {}}", "it must be SENDER->TARGET"),
        ("sessions: {'->': {}}", "it must be SENDER->TARGET"),
        ("sessions: {'ACME->': {}}", "it must be SENDER->TARGET"),
        ("sessions: {A->B->EOD: {}}", "it must be SENDER->TARGET"),
        ("sessions: {A/B/C->EOD: {}}", "and /SUBID behind a side that has one"),
        ("sessions: {A->EOD: {reset: '17:00Z'}}", "'17:00Z' is no time of day: write it as '17:00', in the zone"),
        ("sessions: {A->EOD: {reset: '17:00:30'}}", "'17:00:30' is no time of day"),
        ("sessions: {A->EOD: '17:00'}", "session 'A->EOD': '17:00' are no terms"),
        ("sessions: {A->EOD: {zone: Mars}}", "session 'A->EOD': zone: Value error, 'Mars' is no time zone"),
        ("sessions: {A->EOD: {reset: 25:00}}", "session 'A->EOD': reset: Value error, '25:00' is no time of day"),
        ("sessions: {A->EOD: {reset: 5pm}}", "'5pm' is no time of day: write it as '17:00'"),
        ("sessions: {A->EOD: {addresses: [10.0.0.1/8]}}", "session 'A->EOD': addresses.0: "),
        ("sessions: {A->EOD: {heartbeat_s: 0}}", "session 'A->EOD': heartbeat_s: "),
        ("sessions: {A->EOD: {heartbeat: 30}}", "session 'A->EOD': heartbeat: Extra inputs"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_where_and_how_to_mend_it(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "sessions.yaml"
    with pytest.raises(ValueError, match="the sessions file") as caught:
        book(path, text)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "EOD_FIX_SESSIONS_FILE" in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot be read: .*No such file"):
        TermsBook(Terms(), str(tmp_path / "none.yaml"))


def test_a_changed_file_is_read_again_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sessions.yaml"
    found = book(path, "sessions: {A->EOD: {}}")
    assert not found.look_again()
    path.write_text("sessions: {A->EOD: {reset: '17:00'}, B->EOD: {}}", encoding="utf-8")
    assert found.look_again()
    assert found.of("A->EOD") == Terms(reset="17:00")
    assert found.of("B->EOD") == Terms()
    path.write_text("sessions: {A->EOD: {reset: soon}}", encoding="utf-8")
    with capture_logs() as said:
        assert not found.look_again()
        assert not found.look_again()
    assert [(one["event"], one["log_level"]) for one in said] == [("fix.sessions_file", "error")]
    assert found.of("B->EOD") == Terms()


# --- the day ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "reset", "now", "until"),
    [
        ("America/New_York", "17:00", "2026-01-05T21:59:59", "2026-01-05T22:00:00"),
        ("America/New_York", "17:00", "2026-01-05T22:00:00", "2026-01-06T22:00:00"),
        # Clocks change: the day has 23 hours, and 25.
        ("America/New_York", "17:00", "2026-03-07T22:00:00", "2026-03-08T21:00:00"),
        ("America/New_York", "17:00", "2026-10-31T21:00:00", "2026-11-01T22:00:00"),
        ("UTC", "00:00", "2026-01-05T23:59:59", "2026-01-06T00:00:00"),
        ("Asia/Tokyo", "06:30", "2026-01-05T21:00:00", "2026-01-05T21:30:00"),
        # A time that is not there, and one that is there twice.
        ("America/New_York", "02:30", "2026-03-08T06:00:00", "2026-03-08T07:30:00"),
        ("America/New_York", "01:30", "2026-11-01T04:00:00", "2026-11-01T05:30:00"),
        ("America/New_York", "01:30", "2026-11-01T05:30:00", "2026-11-02T06:30:00"),
    ],
)
def test_when_a_day_ends(zone: str, reset: str, now: str, until: str) -> None:
    assert Terms(zone=zone, reset=reset).until_ns(at(now)) == at(until)


def test_a_day_without_an_end_ends_never() -> None:
    assert Terms().until_ns(at("2026-01-05T21:00:00")) == 0
    assert Terms(reset="").told == ""


class Standing(SystemClock):
    """A time of day that stands still until it is moved on by hand."""

    def __init__(self, text: str) -> None:
        self.at_ns = at(text)

    def now_ns(self) -> int:
        return self.at_ns

    def move(self, *, hours: float = 0, seconds: float = 0) -> None:
        self.at_ns += round((hours * 3_600 + seconds) * NS)


@pytest.fixture
async def evening(tmp_path: Path) -> AsyncIterator[tuple[StageWorld, Standing]]:
    """Ten seconds to 17:00 in New York."""
    clock = Standing("2026-01-05T21:59:50")
    world = await StageWorld(tmp_path, clock=clock).open()
    yield world, clock
    await world.close()


def logon(number: int = 1, **more: str) -> bytes:
    body = "".join(f"{tag[1:]}={value}|" for tag, value in more.items())
    return message("A", number, f"98=0|108=30|{body}")


async def test_a_live_session_is_told_to_go_when_its_day_ends_and_begins_at_1(
    evening: tuple[StageWorld, Standing],
) -> None:
    world, clock = evening
    worker, port = await listening(world, fix_reset="17:00")
    wire = await Wire.to(port)
    await wire.write(logon(), report(2, "X2"))
    await trades(world, 1)
    clock.move(seconds=10)
    goodbye = await wire.hear(b"5")
    assert goodbye[b"58"] == (
        b"the day of this session ends at 17:00 America/New_York: log on again, with MsgSeqNum(34)=1"
    )
    await wire.write(report(3, "X3"), message("5", 4))  # what was on its way is booked
    await wire.closed()
    again = await Wire.to(port)
    await again.write(logon(), report(2, "Y2"))
    assert (await again.hear(b"A"))[b"34"] == b"1"
    found = await trades(world, 3)
    await again.close()
    await worker.stop()
    epochs = sorted({trade.epoch for trade in found})
    assert [(trade.exec_id, trade.msg_seq_num, epochs.index(trade.epoch)) for trade in found] == [
        ("X2", 2, 0), ("X3", 3, 0), ("Y2", 2, 1),
    ]  # fmt: skip
    assert await letters(world) == []


async def test_what_waits_behind_a_gap_is_booked_when_the_day_has_ended(evening: tuple[StageWorld, Standing]) -> None:
    """Whether the counterparty says goodbye, behind the gap as well, or hangs up."""
    world, clock = evening
    worker, port = await listening(world, fix_reset="17:00")
    wire = await Wire.to(port)
    await wire.write(logon(), report(2, "X2"), report(4, "X4"))
    await trades(world, 1)
    clock.move(seconds=10)
    await wire.hear(b"5")
    await wire.write(report(5, "X5"), message("5", 6))
    await wire.close()
    await trades(world, 3)
    again = await Wire.to(port)
    await again.write(logon(), report(2, "Y2"))
    assert (await again.hear(b"A"))[b"34"] == b"1"
    assert {trade.exec_id for trade in await trades(world, 4)} == {"X2", "X4", "X5", "Y2"}
    await again.close()
    await worker.stop()


@pytest.mark.parametrize("said", ["EURO", "123EUR", "xxUSD", "usd", "EU", "", "EUR\n"])
def test_a_currency_that_is_none_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match="fix_currency"):
        IngestionSettings(fix_currency=said)
    assert IngestionSettings(fix_currency="EUR").fix_currency == "EUR"


GOODBYES: dict[str, tuple[list[bytes], Callable[[Session], bool], set[str]]] = {
    "nothing": ([], lambda session: session.held == 1, set()),
    "a Logout in its turn": ([message("5", 5)], lambda session: session.held == 2, set()),
    "a Logout under the missing number": ([message("5", 3)], lambda session: bool(session.closed), set()),
    "a Heartbeat under the missing number": ([message("0", 3)], lambda session: session.sequence.inbound == 5, set()),
    "a Heartbeat ahead": ([message("0", 5)], lambda session: session.held == 2, set()),
    "a Logout ahead and a fill behind it": (
        [message("5", 5), report(6, "X6")], lambda session: session.held == 3, {"X6"},
    ),
}  # fmt: skip
"""What it answers to our Logout, when that has been read, and what is booked of it besides."""


@pytest.mark.parametrize("goodbye", GOODBYES)
@pytest.mark.parametrize("waits", [True, False])
async def test_what_waits_behind_a_gap_is_booked_however_the_day_is_ended(
    evening: tuple[StageWorld, Standing],
    goodbye: str,
    waits: bool,  # noqa: FBT001
) -> None:
    """Whatever it answers to our Logout, and whether it waits for us to hang up or hangs up itself."""
    world, clock = evening
    worker, port = await listening(world, fix_reset="17:00")
    wire = await Wire.to(port)
    await wire.write(logon(), report(2, "X2"), report(4, "X4"))
    await trades(world, 1)
    clock.move(seconds=10)
    await wire.hear(b"5")
    answer, is_read, more = GOODBYES[goodbye]
    (connection,) = worker.service._admission.connections
    session = connection.session
    assert session is not None
    await wire.write(*answer)
    await soon(lambda: is_read(session), "it has been read")
    if waits:
        clock.move(seconds=11)
        await wire.closed()
    await wire.close()
    wanted = {"X2", "X4"} | more
    assert {trade.exec_id for trade in await trades(world, len(wanted))} == wanted
    again = await Wire.to(port)
    await again.write(logon(), report(2, "Y2"))
    assert (await again.hear(b"A"))[b"34"] == b"1"
    assert {trade.exec_id for trade in await trades(world, len(wanted) + 1)} == wanted | {"Y2"}
    await again.close()
    await worker.stop()


async def test_the_next_day_begins_at_1_without_any_flag_also_on_another_ingestion(
    evening: tuple[StageWorld, Standing],
) -> None:
    world, clock = evening
    worker, port = await listening(world, fix_reset="17:00")
    wire = await Wire.to(port)
    await wire.write(logon(), report(2, "X2"), message("5", 3))
    await wire.closed()
    early = await Wire.to(port)
    await early.write(logon())
    refusal = (await early.hear(b"5"))[b"58"]
    assert refusal == (
        b"MsgSeqNum too low, expecting 4 but received 1: the numbers begin again at 17:00 America/New_York"
    )
    await early.closed()
    await worker.stop()
    clock.move(hours=15)
    worker, port = await listening(world, fix_reset="17:00")
    late = await Wire.to(port)
    await late.write(logon(), report(2, "Y2"))
    assert (await late.hear(b"A"))[b"34"] == b"1"
    await trades(world, 2)
    (state,) = await list_sessions(world.state)
    assert state.until_ns == at("2026-01-06T22:00:00")
    await late.close()
    await worker.stop()


async def test_without_a_day_the_refusal_names_both_remedies(evening: tuple[StageWorld, Standing]) -> None:
    world, clock = evening
    worker, port = await listening(world)
    wire = await Wire.to(port)
    await wire.write(logon(), report(2, "X2"), message("5", 3))
    await wire.closed()
    clock.move(hours=24)
    late = await Wire.to(port)
    await late.write(logon())
    assert (await late.hear(b"5"))[b"58"] == (
        b"MsgSeqNum too low, expecting 4 but received 1: no time is set for them to begin again (EOD_FIX_RESET), and "
        b"'eod fix reset ACME->EOD' makes them"
    )
    await late.closed()
    await worker.stop()


async def test_who_keeps_counting_over_the_end_of_the_day_is_asked_for_everything_and_books_nothing_twice(
    evening: tuple[StageWorld, Standing],
) -> None:
    world, clock = evening
    worker, port = await listening(world, fix_reset="17:00")
    wire = await Wire.to(port)
    await wire.write(logon(), report(2, "X2"), message("5", 3))
    await wire.closed()
    clock.move(seconds=10)
    late = await Wire.to(port)
    await late.write(logon(4))
    request = await late.hear(b"2")
    assert (request[b"7"], request[b"16"]) == (b"1", b"3")
    await late.write(
        message("4", 1, "43=Y|123=Y|36=2|"), message("8", 2, "43=Y|" + trade_body("X2")), message("4", 3, "43=Y|123=Y|36=4|"),
        report(5, "X5"),
    )  # fmt: skip
    found = await trades(world, 3)
    await late.close()
    await worker.stop()
    assert len({trade.epoch for trade in found}) == 2
    assert {trade.identity for trade in found} == {(SESSION, 20260102, "X2"), (SESSION, 20260102, "X5")}
    book_, outcomes = PartitionBook(), Counter[str]()
    for trade in found:
        outcomes[book_.apply(trade).outcome.value] += 1
    assert outcomes == {"applied": 2, "duplicate_trade": 1}


async def test_numbers_of_a_day_that_has_ended_are_not_gone_on_with_whoever_saved_them() -> None:
    state = MemoryState()
    tenure = await begin(state, SESSION, NS, None, 100 * NS)
    assert tenure is not None
    tenure.sequence.inbound = 7
    await save(state, tenure, tenure.sequence)
    same = await begin(state, SESSION, 99 * NS, tenure, 100 * NS)
    assert same is not None
    assert same.sequence.inbound == 7
    ours = await begin(state, SESSION, 100 * NS, same, 200 * NS)
    assert ours is not None
    assert (ours.sequence, ours.until_ns) == (SequenceNumbers(tenure.sequence.epoch + 1), 200 * NS)
    another = await begin(state, SESSION, 200 * NS, None, 300 * NS)
    assert another is not None
    assert another.sequence == SequenceNumbers(tenure.sequence.epoch + 2)


# --- who, from where ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ("{}", ""),
        ("{addresses: [127.0.0.0/8]}", ""),
        ("{addresses: [10.0.0.0/8]}", "it connects from 127.0.0.1, which is not among its addresses"),
        ("{heartbeat_s: 30}", ""),
        ("{heartbeat_s: 10}", "HeartBtInt(108)='30' is not 10, which was agreed on"),
    ],
)
async def test_a_logon_is_held_against_its_terms(world: StageWorld, tmp_path: Path, terms: str, says: str) -> None:
    path = tmp_path / "sessions.yaml"
    path.write_text(f"sessions: {{ACME->EOD: {terms}}}", encoding="utf-8")
    worker, port = await listening(world, fix_sessions_file=str(path))
    wire = await Wire.to(port)
    await wire.write(logon())
    if says:
        assert (await wire.hear(b"5"))[b"58"].decode() == says
        await wire.closed()
    else:
        await wire.hear(b"A")
    await worker.stop()


def test_no_session_is_held_to_a_certificate_that_nobody_is_asked_for(tmp_path: Path) -> None:
    """Else it could never log on."""
    path = tmp_path / "sessions.yaml"
    path.write_text("sessions: {A->EOD: {}, B->EOD: {certificate: b}}", encoding="utf-8")
    assert TermsBook(Terms(), str(path)).of("B->EOD") == Terms(certificate="b")
    with pytest.raises(ValueError, match=r"session 'B->EOD': it names a certificate, .*: set EOD_FIX_TLS_CA_FILE"):
        TermsBook(Terms(), str(path), certified=False)


async def test_who_is_not_in_the_file_is_refused_and_who_leaves_it_is_logged_out_alone(
    world: StageWorld, tmp_path: Path
) -> None:
    path = tmp_path / "sessions.yaml"
    path.write_text("sessions: {ACME->EOD: {}, OTHER->EOD: {}}", encoding="utf-8")
    worker, port = await listening(world, fix_sessions_file=str(path))
    wires = {}
    for sender in ("ACME", "OTHER", "STRANGER"):
        wires[sender] = await Wire.to(port)
        await wires[sender].write(message("A", 1, "98=0|108=30|", sender=sender))
    await wires["ACME"].hear(b"A")
    await wires["OTHER"].hear(b"A")
    assert b"session 'STRANGER->EOD' may not log on here" in (await wires["STRANGER"].hear(b"5"))[b"58"]
    path.write_text("sessions: {ACME->EOD: {zone: Asia/Tokyo}, STRANGER->EOD: {}}", encoding="utf-8")
    assert b"session 'OTHER->EOD' may not log on here" in (await wires["OTHER"].hear(b"5"))[b"58"]
    welcome = await Wire.to(port)
    await welcome.write(message("A", 1, "98=0|108=30|", sender="STRANGER"))
    await welcome.hear(b"A")
    # 21:00 UTC is the next day in Tokyo; ACME is connected all the while.
    await wires["ACME"].write(report(2, "X2"))
    (trade,) = await trades(world, 1)
    assert trade.trade_date == 20260103
    await worker.stop()


async def test_a_trade_is_of_the_day_that_it_has_in_the_zone_of_its_session(world: StageWorld) -> None:
    worker, port = await listening(world, fix_zone="Asia/Tokyo")
    wire = await Wire.to(port)
    await wire.write(logon(), report(2, "X2"), report(3, "X3", "75=20251231|"))
    await trades(world, 2)
    await wire.close()
    await worker.stop()
    assert [trade.trade_date for trade in await booked(world)] == [20260103, 20251231]
