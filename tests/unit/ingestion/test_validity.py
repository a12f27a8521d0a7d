"""What FIX does not allow is refused by the rule that covers it, in words; what is just inside the bounds is taken."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from eod_workers import kernel
from eod_workers.fix.fields import format_timestamp
from eod_workers.fix.frames import frame
from eod_workers.letters import decode_letter
from eod_workers.protos.dead_letter_pb2 import REASON_DESERIALIZATION, REASON_VALIDATION, DeadLetter
from support.fix_messages import message, soh, trade_body
from support.fix_wire import Wire, booked, listening, received
from support.patience import soon
from support.sampled import sampled
from support.stage_world import StageWorld, Worker

pytestmark = pytest.mark.timeout(60)
DAY_S = 86_400
WITHIN_S = 120
LOGON = "98=0|108=30|"
FILL = trade_body("X2").replace("60=20260102-21:00:00.123|", "")


@pytest.fixture(params=["kernel", "pure"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both readers of trades."""
    if request.param == "pure":
        monkeypatch.setattr(kernel, "available", lambda: False)


def at(offset_s: float = 0) -> str:
    """A time as it is written, so far from now."""
    return format_timestamp(time.time_ns() + round(offset_s * 1e9)).decode()


def sent(
    kind: str, number: int, body: str = "", *, off_s: float | None = 0, version: str = "FIX.4.4", sender: str = "ACME"
) -> bytes:
    """A message whose SendingTime(52) is so far from now; None leaves it out."""
    when = "" if off_s is None else f"52={at(off_s)}|"
    return frame(version.encode(), soh(f"35={kind}|49={sender}|56=EOD|34={number}|{when}{body}"))


def fill(number: int, *, off_s: float | None = 0, traded_s: float = 0, more: str = "") -> bytes:
    """A trade of so far from now, reported by a message of so far from now."""
    body = FILL.replace("X2", f"X{number}") + f"60={at(traded_s)}|{more}"
    return sent("8", number, body, off_s=off_s)


async def letters(world: StageWorld) -> list[DeadLetter]:
    return [decode_letter(record.value) for record in await world.records("trades.dlq")]


async def begun(world: StageWorld, **told: object) -> tuple[Worker, Wire]:
    """A session that is logged on, with an acceptor that looks at the time."""
    worker, port = await listening(world, **{"fix_sending_time_within_s": WITHIN_S, **told})
    wire = await Wire.to(port)
    await wire.write(sent("A", 1, LOGON))
    await wire.hear(b"A")
    return worker, wire


# --- Logon --------------------------------------------------------------------------------------------------

TOO_LONG = "at most 3,600 s are taken, 0 for no heartbeats"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("98=1|108=30|", "EncryptMethod(98)=1: only 0, none, is supported"),
        ("98=x|108=30|", "EncryptMethod(98)=x: only 0, none, is supported"),
        ("108=30|", "EncryptMethod(98) is missing: only 0, none, is supported"),
        ("98=0|", "HeartBtInt(108) is missing: a Logon(A) says it in seconds, 0 for no heartbeats"),
        ("98=0|108=-30|", "HeartBtInt(108) must not be negative"),
        ("98=0|108=soon|", "HeartBtInt(108)='soon' is no number of seconds"),
        ("98=0|108=3601|", f"HeartBtInt(108)=3601 is too long: {TOO_LONG}"),
        ("98=0|108=1000000000|", f"HeartBtInt(108)=1000000000 is too long: {TOO_LONG}"),
        ("98=0|108=30|0=1|", "'0' is no tag"),
    ],
)
async def test_a_logon_that_fix_does_not_allow_costs_the_session_nothing(
    world: StageWorld, body: str, why: str
) -> None:
    """No numbers are taken over for it; the next one finds them where they were."""
    worker, port = await listening(world)
    wire, stranger = await Wire.to(port), await Wire.to(port)
    await wire.write(message("A", 1, body))
    assert (await wire.hear(b"5"))[b"58"] == why.encode()
    await wire.closed()
    assert await world.state.port.keys("fix:") == []
    assert sampled(worker.metrics.refused, "eod_fix_refused_total", reason="terms") == 1
    await stranger.write(message("A", 1, LOGON))
    assert (await stranger.hear(b"A"))[b"34"] == b"1"
    await worker.stop()
    assert await letters(world) == []


@pytest.mark.parametrize("body", ["98=1|108=-1|", "98=0|108=1000000000|", "abc=1|"])
async def test_a_stranger_is_not_told_what_is_wrong_with_its_logon(world: StageWorld, body: str) -> None:
    worker, port = await listening(world, fix_counterparties=frozenset({"BRAVO"}), fix_sending_time_within_s=WITHIN_S)
    wire = await Wire.to(port)
    await wire.write(sent("A", 1, body, off_s=-10 * DAY_S))
    assert (await wire.hear(b"5"))[b"58"] == b"session 'ACME->EOD' may not log on here"
    await wire.closed()
    await worker.stop()
    assert (await letters(world), await world.state.port.keys("fix:")) == ([], [])


@pytest.mark.parametrize("off_s", [-WITHIN_S - 5, WITHIN_S + 60, -20_000 * DAY_S, 4 * 365 * DAY_S])
async def test_a_logon_of_another_time_is_refused(world: StageWorld, off_s: int) -> None:
    worker, port = await listening(world, fix_sending_time_within_s=WITHIN_S)
    wire = await Wire.to(port)
    await wire.write(sent("A", 1, LOGON, off_s=off_s))
    said = (await wire.hear(b"5"))[b"58"].decode()
    side = "behind" if off_s < 0 else "ahead of"
    assert said.startswith("SendingTime(52)=")
    assert f" is more than 120 s {side} our clock, which says " in said
    await wire.closed()
    await worker.stop()
    assert await world.state.port.keys("fix:") == []


async def test_a_logon_without_its_time_is_refused_where_that_is_looked_at(world: StageWorld) -> None:
    worker, port = await listening(world, fix_sending_time_within_s=WITHIN_S)
    wire = await Wire.to(port)
    await wire.write(sent("A", 1, LOGON, off_s=None))
    assert (await wire.hear(b"5"))[b"58"] == b"SendingTime(52) is missing: every message has one"
    await worker.stop()


# --- BeginString and MsgType --------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["FIX.4.2", "FIXT.1.1", "FIX.9.9"])
@pytest.mark.usefixtures("reader")
async def test_another_version_in_mid_session_ends_it(world: StageWorld, version: str) -> None:
    """Its number is not taken: the message is asked for again when the counterparty is back."""
    worker, wire = await begun(world)
    other = sent("8", 3, FILL + f"60={at()}|", version=version)
    await wire.write(fill(2), other, fill(4))
    said = (await wire.hear(b"5"))[b"58"].decode()
    assert said == f"Incorrect BeginString: this session is one of FIX.4.4, not of {version}"
    await wire.closed()
    back = await Wire.to(worker.service.port)
    await back.write(sent("A", 5, LOGON))
    assert (await back.hear(b"2"))[b"7"] == b"3"
    await worker.stop()
    assert [trade.exec_id for trade in await booked(world)] == ["X2"]
    assert (await received(world))[other] == 1


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("49=ACME|56=EOD|34=2|52={now}|37=O|17=X|", "MsgType(35) is not the third field"),
        ("49=ACME|35=8|56=EOD|34=2|52={now}|" + FILL, "MsgType(35) is not the third field"),
        ("035=8|49=ACME|56=EOD|34=2|52={now}|" + FILL, "MsgType(35) is not the third field"),
    ],
)
@pytest.mark.usefixtures("reader")
async def test_a_frame_without_its_type_in_the_third_place_is_garbled(world: StageWorld, body: str, why: str) -> None:
    """It is kept, takes no number and is asked for when that is missed."""
    worker, wire = await begun(world)
    garbled = frame(b"FIX.4.4", soh(body.replace("{now}", at())))
    await wire.write(garbled, sent("0", 3))
    assert {(await wire.hear(b"2"))[tag] for tag in (b"7", b"16")} == {b"2"}
    await wire.write(fill(2), sent("1", 4, "112=end|"))
    await wire.hear(b"0")
    await worker.stop()
    assert [(letter.reason, letter.raw, letter.detail) for letter in await letters(world)] == [
        (REASON_DESERIALIZATION, garbled, why)
    ]
    assert [trade.exec_id for trade in await booked(world)] == ["X2"]


@pytest.mark.usefixtures("reader")
async def test_a_type_without_a_value_is_rejected(world: StageWorld) -> None:
    worker, wire = await begun(world)
    bad = sent("", 2, FILL)
    await wire.write(bad, fill(3), sent("1", 4, "112=end|"))
    await wire.hear(b"0")
    (reject,) = wire.of(b"3")
    assert (reject[b"45"], reject[b"373"], reject[b"371"], b"372" in reject) == (b"2", b"4", b"35", False)
    await worker.stop()
    assert [letter.raw for letter in await letters(world)] == [bad]
    assert [trade.exec_id for trade in await booked(world)] == ["X3"]


# --- tags ---------------------------------------------------------------------------------------------------


NO_TAGS = ("abc", "", "0", "-1", "+1", "01", "1.5", " 1", "1 ", "0x10", "1234567890", "\u00b2")


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.usefixtures("reader")
async def test_what_is_no_tag_costs_its_message(world: StageWorld, place: str) -> None:
    """Invalid tag number: rejected in its turn, and a dead letter; the trades around it are booked."""
    worker, wire = await begun(world)
    bad = []
    for number, tag in enumerate(NO_TAGS):
        odd, body = f"{tag}=5|", FILL + f"60={at()}|"
        body = {"first": odd + body, "middle": body.replace("55=", odd + "55=", 1), "last": body + odd}[place]
        bad.append(sent("8", 2 * number + 2, body))
        await wire.write(bad[-1], fill(2 * number + 3))
    numbers = range(2, 2 * len(NO_TAGS) + 2, 2)
    await wire.write(sent("1", numbers.stop, "112=end|"))
    await wire.hear(b"0")
    rejects = wire.of(b"3")
    assert [int(reject[b"45"]) for reject in rejects] == list(numbers)
    assert {(reject[b"372"], reject[b"373"]) for reject in rejects} == {(b"8", b"0")}
    assert all(reject[b"58"].startswith(b"Invalid tag number: ") for reject in rejects)
    assert all(reject[b"58"].endswith(b" is no tag") for reject in rejects)
    await worker.stop()
    found = sorted(await letters(world), key=lambda letter: letter.msg_seq_num)
    assert [(letter.reason, letter.msg_seq_num) for letter in found] == [
        (REASON_VALIDATION, number) for number in numbers
    ]
    assert [letter.raw for letter in found] == bad
    assert [trade.exec_id for trade in await booked(world)] == [f"X{number + 1}" for number in numbers]


@pytest.mark.parametrize("kind", ["0", "1", "2", "4"])
async def test_what_is_no_tag_costs_a_message_of_the_session_as_well(world: StageWorld, kind: str) -> None:
    worker, wire = await begun(world)
    body = {"1": "112=T|", "2": "7=1|16=0|", "4": "123=Y|36=9|"}.get(kind, "")
    await wire.write(sent(kind, 2, f"{body}abc=1|"), sent("1", 3, "112=end|"))
    assert (await wire.hear(b"0"))[b"112"] == b"end"
    assert [reject[b"373"] for reject in wire.of(b"3")] == [b"0"]
    await worker.stop()


# --- SendingTime --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("off_s", [-WITHIN_S + 60, -1, 1, WITHIN_S - 5])
@pytest.mark.usefixtures("reader")
async def test_a_sending_time_within_bounds_is_taken(world: StageWorld, off_s: int) -> None:
    worker, wire = await begun(world)
    await wire.write(fill(2, off_s=off_s), sent("1", 3, "112=end|", off_s=off_s))
    await wire.hear(b"0")
    await worker.stop()
    assert [trade.exec_id for trade in await booked(world)] == ["X2"]
    assert await letters(world) == []


@pytest.mark.parametrize("off_s", [-WITHIN_S - 5, WITHIN_S + 60, -20_000 * DAY_S, 4 * 365 * DAY_S])
@pytest.mark.usefixtures("reader")
async def test_a_sending_time_of_another_time_is_rejected_and_ends_the_session(world: StageWorld, off_s: int) -> None:
    """SendingTime accuracy problem: Reject, its number is taken, Logout; it is a letter, for a trade is in it."""
    worker, wire = await begun(world)
    bad = fill(3, off_s=off_s)
    await wire.write(fill(2), bad, fill(4), fill(5))
    reject, logout = await wire.hear(b"3"), await wire.hear(b"5")
    await wire.closed()
    assert (reject[b"45"], reject[b"373"], reject[b"372"]) == (b"3", b"10", b"8")
    assert reject[b"58"] == b"SendingTime accuracy problem: " + logout[b"58"]
    assert logout[b"58"].endswith(b" UTC: set yours right")
    back = await Wire.to(worker.service.port)
    await back.write(sent("A", 6, LOGON))
    assert (await back.hear(b"2"))[b"7"] == b"4"
    await worker.stop()
    assert [trade.exec_id for trade in await booked(world)] == ["X2"]
    assert [(letter.raw, letter.msg_seq_num, letter.reason) for letter in await letters(world)] == [
        (bad, 3, REASON_VALIDATION)
    ]


@pytest.mark.parametrize("when", ["", "yesterday", "20260102 21:00:00"])
@pytest.mark.usefixtures("reader")
async def test_a_sending_time_that_is_none_is_inaccurate(world: StageWorld, when: str) -> None:
    worker, wire = await begun(world)
    await wire.write(sent("8", 2, f"52={when}|{FILL}60={at()}|", off_s=None))
    assert (await wire.hear(b"3"))[b"373"] == b"10"
    assert (await wire.hear(b"5"))[b"58"].endswith(b"is not a UTC time stamp (yyyymmdd-HH:MM:SS.sss)")
    await wire.closed()
    await worker.stop()
    assert (await booked(world), len(await letters(world))) == ([], 1)


@pytest.mark.usefixtures("reader")
async def test_a_message_without_its_time_is_rejected_and_the_session_goes_on(world: StageWorld) -> None:
    worker, wire = await begun(world)
    await wire.write(fill(2, off_s=None), fill(3), sent("1", 4, "112=end|"))
    await wire.hear(b"0")
    (reject,) = wire.of(b"3")
    assert (reject[b"373"], reject[b"371"]) == (b"1", b"52")
    await worker.stop()
    assert [trade.exec_id for trade in await booked(world)] == ["X3"]
    assert [letter.msg_seq_num for letter in await letters(world)] == [2]


@pytest.mark.usefixtures("reader")
async def test_out_of_its_turn_a_sending_time_of_another_time_takes_no_number(world: StageWorld) -> None:
    """What is behind a gap will be sent again, and then says the time of then."""
    worker, wire = await begun(world)
    await wire.write(fill(4, off_s=-DAY_S))
    await wire.hear(b"5")
    await wire.closed()
    assert wire.of(b"3") == []
    back = await Wire.to(worker.service.port)
    await back.write(sent("A", 5, LOGON))
    assert (await back.hear(b"2"))[b"7"] == b"2"
    await worker.stop()
    assert (await booked(world), await letters(world)) == ([], [])


@pytest.mark.parametrize("told", [{"fix_sending_time_within_s": 0}, {}], ids=["not looked at", "as it comes"])
@pytest.mark.usefixtures("reader")
async def test_how_far_a_sending_time_may_be_is_a_setting(world: StageWorld, told: dict[str, object]) -> None:
    """Without it a day, which no clock drifts by; 0 takes any."""
    usual = {} if told else {"fix_sending_time_within_s": DAY_S}
    worker, wire = await begun(world, **told, **usual)
    await wire.write(fill(2, off_s=-DAY_S + 300, traded_s=-DAY_S), fill(3, off_s=-DAY_S - 60, traded_s=-DAY_S))
    await wire.write(sent("1", 4, "112=end|"))
    await wire.hear(b"0" if told else b"5")
    await worker.stop()
    assert [trade.exec_id for trade in await booked(world)] == (["X2", "X3"] if told else ["X2"])


# --- TransactTime -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("traded_s", [-3_653 * DAY_S, -365 * DAY_S, -60, 60, DAY_S - 60])
@pytest.mark.usefixtures("reader")
async def test_a_trade_that_is_booked_late_is_taken(world: StageWorld, traded_s: int) -> None:
    worker, wire = await begun(world)
    await wire.write(fill(2, off_s=1, traded_s=traded_s + 60), sent("1", 3, "112=end|"))
    await wire.hear(b"0")
    await worker.stop()
    assert ([trade.exec_id for trade in await booked(world)], await letters(world)) == (["X2"], [])


@pytest.mark.parametrize("when", ["19700101-00:00:00", "{later}", "22611231-00:00:00", "{earlier}"])
@pytest.mark.parametrize("kind", ["8", "AE"])
@pytest.mark.usefixtures("reader")
async def test_a_trade_of_another_time_is_rejected(world: StageWorld, when: str, kind: str) -> None:
    when = when.format(later=at(DAY_S + 60), earlier=at(-3_653 * DAY_S - 60))
    worker, wire = await begun(world)
    sides = "571=R|570=N|55=IBM|32=1|31=1|75=20260102|552=1|54=1|37=O|"
    bad = sent(kind, 2, (FILL if kind == "8" else sides) + f"60={when}|")
    await wire.write(bad, fill(3), sent("1", 4, "112=end|"))
    await wire.hear(b"0")
    (reject,) = wire.of(b"3")
    assert (reject[b"45"], reject[b"373"], reject[b"371"]) == (b"2", b"5", b"60")
    assert f": TransactTime(60)={when} is ".encode() in reject[b"58"]
    await worker.stop()
    assert [trade.exec_id for trade in await booked(world)] == ["X3"]
    assert [letter.raw for letter in await letters(world)] == [bad]


async def test_how_far_a_sending_time_may_be_is_a_term_of_the_session(world: StageWorld, tmp_path: Path) -> None:
    """Also where it changes while the session lives."""
    file = tmp_path / "sessions.yaml"
    file.write_text("sessions: {ACME->EOD: {sending_time_within_s: 0}}")
    worker, wire = await begun(world, fix_admit_anybody=False, fix_sessions_file=str(file))
    await wire.write(fill(2, off_s=-DAY_S), sent("1", 3, "112=T|"))
    await wire.hear(b"0")
    file.write_text("sessions: {ACME->EOD: {sending_time_within_s: 3600}}")
    (connection,) = worker.service._admission.connections
    await soon(lambda: connection.session.rules.accuracy_s == 3_600, "the changed terms are agreed on")
    await wire.write(fill(4, off_s=-3_000), fill(5, off_s=-DAY_S))
    assert (await wire.hear(b"3"))[b"373"] == b"10"
    await wire.hear(b"5")
    await worker.stop()
    assert [trade.exec_id for trade in await booked(world)] == ["X2", "X4"]
