"""Ingestion over real TCP: every byte received is on the log once, whatever the counterparty, the log or SIGTERM do."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from random import Random
from typing import Any

import pytest
from eod_workers.adapters.tcp import TcpNetwork
from eod_workers.fix.initiator import Initiator, LogonRefused
from eod_workers.ingestion.stage import STAGE, Ingestion
from eod_workers.ingestion.tenure import sent_key, state_key
from eod_workers.ingestion.writer import LogWriter
from eod_workers.letters import decode_letter
from eod_workers.ports import TopicSpec, Unavailable, UnknownTopic
from eod_workers.protos.dead_letter_pb2 import REASON_DESERIALIZATION, REASON_VALIDATION
from eod_workers.runtime.variables import SettingsError
from structlog.testing import capture_logs
from support.fix_messages import message, report, soh, trade_body
from support.fix_wire import Wire, booked, listening, pieces, received
from support.patience import limited, soon
from support.stage_world import Flaky, StageWorld

pytestmark = pytest.mark.timeout(60)
LOGON = message("A", 1, "98=0|108=30|")
SESSION = "ACME->EOD"


async def stored(world: StageWorld, session: str = SESSION) -> dict[str, int]:
    """The persisted numbers of a session."""
    stored = await world.state.port.get_versioned(state_key(session))
    return json.loads(stored[1]) if stored and stored[1] else {}  # type: ignore[no-any-return]


async def on_the_log(world: StageWorld, count: int) -> None:
    """Wait until some trades are there."""
    async with limited(20):
        while len(await booked(world)) < count:  # noqa: ASYNC110 - the log tells nobody
            await asyncio.sleep(0.01)


def broker(name: str = "ACME") -> Initiator:
    """A real counterparty."""
    return Initiator(name, "EOD", network=TcpNetwork(), now_ns=time.time_ns)


def body(exec_id: str, **changes: str) -> bytes:
    """What follows the header of a report."""
    return soh(trade_body(exec_id, **changes))


# --- bytes --------------------------------------------------------------------------------------------------


def _conversation(seed: int) -> bytes:
    """A stream with everything in it: trades, other messages, garbage, gaps, resends, refusals, a gap never filled, a cut end."""
    random = Random(f"conversation-{seed}")
    parts, number = [LOGON], 2
    for place in range(120):
        exec_id = f"X{number}"
        match random.randrange(12):
            case 0:
                bad = report(number, exec_id)
                parts.append(bad[:-4] + b"%03d\x01" % ((int(bad[-4:-1]) + 1) % 256))
                parts.append(message("8", number, "43=Y|" + trade_body(exec_id)))
            case 1:
                parts += [b"noise\r\n", message("0", number)]
            case 2:
                parts.append(message("8", number, trade_body(exec_id).replace("31=12.5|", "")))
            case 3:
                parts += [report(number, exec_id), message("8", number, "43=Y|" + trade_body(exec_id))]
            case 4:
                parts.append(message("1", number, f"112=t{place}|"))
            case 5:
                # A gap, and what was missing behind it.
                parts += [report(number + 1, f"X{number + 1}"), message("8", number, "43=Y|" + trade_body(exec_id))]
                number += 1
            case 6:
                parts.append(message("8", number, trade_body(exec_id).replace("150=F", "150=4")))
            case 7:
                parts.append(message("8", number, f"17={exec_id}|oops|150=F|"))
                parts.append(message("8", number, "43=Y|" + trade_body(exec_id)))
            case _:
                parts.append(report(number, exec_id))
        number += 1
    held = [report(number + 3, "HELD"), report(number + 5, "HELD TOO")]
    return b"".join([*parts, *held]) + report(number, "CUT")[: random.randrange(1, 100)]


@pytest.mark.parametrize("filled", ["123=Y|36=7|43=Y|", "123=N|36=7|"])
async def test_fills_that_are_held_when_their_gap_is_filled_are_booked(world: StageWorld, filled: str) -> None:
    """The counterparty has nothing more to send up to 7: 4 to 6 have come, and nobody will send them again."""
    worker, port = await listening(world)
    wire = await Wire.to(port)
    await wire.write(LOGON, report(2, "X2"), *(report(number, f"X{number}") for number in (4, 5, 6)))
    request = await wire.hear(b"2")
    assert (request[b"7"], request[b"16"]) == (b"3", b"3")
    fill = message("4", 3, filled)
    await wire.write(fill, report(7, "X7"))
    await on_the_log(world, 5)
    await wire.close()
    await worker.stop()
    assert [(trade.msg_seq_num, trade.exec_id) for trade in await booked(world)] == [
        (number, f"X{number}") for number in (2, 4, 5, 6, 7)
    ]
    assert (await received(world))[fill] == 1


@pytest.mark.parametrize("seed", range(4))
async def test_every_byte_received_is_on_the_log_exactly_once_whatever_the_chunks(world: StageWorld, seed: int) -> None:
    stream = _conversation(seed)
    worker, port = await listening(world)
    wire = await Wire.to(port)
    await wire.write(stream, chunks=Random(seed))
    await wire.close()
    await soon(lambda: not worker.service._admission.connections, "the connection is gone")
    await worker.stop()
    assert await received(world) == pieces([stream])
    assert sum(len(piece) * times for piece, times in (await received(world)).items()) == len(stream)


async def test_trades_are_booked_once_each_with_their_delivery_and_their_frame(world: StageWorld) -> None:
    worker, port = await listening(world)
    wire = await Wire.to(port)
    reports = [report(number, f"X{number}") for number in range(2, 60)]
    await wire.write(LOGON, *reports)
    await on_the_log(world, len(reports))
    await worker.stop()
    trades = await booked(world)
    epoch = (await stored(world))["epoch"]
    assert [(t.session, t.epoch, t.msg_seq_num, t.exec_id) for t in trades] == [
        (SESSION, epoch, number, f"X{number}") for number in range(2, 60)
    ]
    assert [t.frame for t in trades] == reports
    assert (await stored(world))["inbound"] == 60


async def test_a_garbled_frame_is_kept_asked_for_again_and_booked_when_it_comes(world: StageWorld) -> None:
    worker, port = await listening(world)
    broken = broker()
    await broken.connect("127.0.0.1", port)
    broken.send(b"8", body("X1"))
    broken.send(b"8", body("X2"), corrupt=True)
    garbled = broken.last_wire
    broken.send(b"8", body("X3"))
    await on_the_log(world, 3)
    await broken.logout()
    await worker.stop()
    assert [t.exec_id for t in await booked(world)] == ["X1", "X2", "X3"]
    (letter,) = [decode_letter(record.value) for record in await world.records("trades.dlq")]
    assert (letter.raw, letter.reason, letter.session) == (garbled, REASON_DESERIALIZATION, SESSION)
    assert "CheckSum(10)" in letter.detail


async def test_an_impossible_report_is_rejected_with_the_field_kept_and_not_in_the_way(world: StageWorld) -> None:
    worker, port = await listening(world)
    wire = await Wire.to(port)
    bad = message("8", 2, trade_body("X2").replace("31=12.5|", ""))
    await wire.write(LOGON, bad, report(3, "X3"))
    reject = await wire.hear(b"3")
    assert (reject[b"45"], reject[b"371"], reject[b"372"]) == (b"2", b"31", b"8")
    assert reject[b"58"].startswith(b"Required tag missing: LastPx(31) is missing")
    await on_the_log(world, 1)
    await wire.close()
    await worker.stop()
    assert [t.exec_id for t in await booked(world)] == ["X3"]
    (letter,) = [decode_letter(record.value) for record in await world.records("trades.dlq")]
    assert (letter.raw, letter.reason, letter.msg_seq_num) == (bad, REASON_VALIDATION, 2)
    assert letter.detail.startswith("LastPx(31) is missing")


async def test_fix_4_2_is_spoken_to_those_who_speak_it(world: StageWorld) -> None:
    worker, port = await listening(world)
    wire = await Wire.to(port)
    await wire.write(
        message("A", 1, "98=0|108=30|", version="FIX.4.2"),
        message("8", 2, trade_body("X2").replace("150=F", "20=0|150=2"), version="FIX.4.2"),
    )
    assert (await wire.hear(b"A"))[b"8"] == b"FIX.4.2"
    await on_the_log(world, 1)
    await wire.close()
    await worker.stop()


# --- who may log on -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (message("A", 1, "98=0|108=30|", target="OTHER"), "session 'ACME->OTHER' may not log on here"),
        (message("A", 1, "98=0|108=30|", sender="MALLORY"), "session 'MALLORY->EOD' may not log on here"),
        (message("A", 1, "98=0|108=30|", sender="ACME->X"), "session 'ACME-%3EX->EOD' may not log on here"),
    ],
)
async def test_a_stranger_is_told_so_and_nothing_of_his_is_booked(world: StageWorld, first: bytes, says: str) -> None:
    worker, port = await listening(world, fix_counterparties=frozenset({"ACME"}))
    wire = await Wire.to(port)
    stream = first + report(2, "X2")
    await wire.write(stream)
    assert says in (await wire.hear(b"5"))[b"58"].decode()
    await wire.closed()
    assert wire.of(b"A") == []
    await soon(lambda: not worker.service._admission.connections, "the connection is gone")
    await worker.stop()
    assert await booked(world) == []
    assert await world.state.port.keys("fix:session:") == []
    assert await received(world) == pieces([stream]), "what he sent is on record all the same"


@pytest.mark.parametrize(
    "first",
    [
        report(1, "X1"),
        message("0", 1),
        message("A", 1, "98=0|", version="FIX.4.0"),
        message("A", 1, "98=0|", version="FIXT.1.1"),
        message("A", 1, "98=0|108=30|", sender=""),
    ],
)
async def test_whatever_is_no_logon_of_a_version_we_speak_ends_the_connection_and_is_kept(
    world: StageWorld, first: bytes
) -> None:
    worker, port = await listening(world)
    wire = await Wire.to(port)
    await wire.write(first)
    await wire.closed()
    await soon(lambda: not worker.service._admission.connections, "the connection is gone")
    await worker.stop()
    assert await booked(world) == []
    assert await received(world) == pieces([first])


async def test_bytes_that_are_no_fix_at_all_are_kept_and_answered_by_nothing(world: StageWorld) -> None:
    worker, port = await listening(world)
    wire = await Wire.to(port)
    await wire.write(b"GET / HTTP/1.1\r\nHost: eod\r\n\r\n")
    await asyncio.sleep(0.05)
    await wire.close()
    await soon(lambda: not worker.service._admission.connections, "the connection is gone")
    await worker.stop()
    assert wire.heard == []
    assert await received(world) == pieces([b"GET / HTTP/1.1\r\nHost: eod\r\n\r\n"])


async def test_a_new_engine_under_an_old_name_is_told_why_it_is_refused_and_may_begin_anew(
    world: StageWorld,
) -> None:
    """One that remembers no numbers begins at 1, which counts only with ResetSeqNumFlag(141)."""
    worker, port = await listening(world)
    for reset, exec_id in ((False, "X1"), (True, "X2")):
        engine = broker()
        await engine.connect("127.0.0.1", port, reset=reset)
        engine.send(b"8", body(exec_id))
        await engine.synchronize()
        await engine.logout()
        if not reset:
            with (
                capture_logs() as logged,
                pytest.raises(LogonRefused, match="MsgSeqNum too low, expecting 5 but received 1"),
            ):
                await broker().connect("127.0.0.1", port)
            (hung_up,) = [one["why"] for one in logged if one["event"] == "fix.hanging_up"]
            assert hung_up.startswith("MsgSeqNum too low, expecting 5 but received 1: ")
    await worker.stop()
    assert {trade.exec_id for trade in await booked(world)} == {"X1", "X2"}


async def test_a_logon_while_the_state_store_is_away_is_refused_and_a_later_one_admitted(world: StageWorld) -> None:
    """Without its numbers a session would begin at 1, and what was received would count again."""
    worker, port = await listening(world)
    world.state.down = True
    with pytest.raises(LogonRefused):
        await broker().connect("127.0.0.1", port, timeout_s=5)
    world.state.down = False
    friend = broker()
    await friend.connect("127.0.0.1", port)
    friend.send(b"8", body("X1"))
    await on_the_log(world, 1)
    await friend.logout()
    await worker.stop()


@pytest.mark.parametrize(
    ("numbers", "sent"),
    [
        ((1, b'{"epoch": 1, "inbound": 70, "outbound": 1070}'), b"x"),
        ((1, b'{"epoch": 1, "inbound": 70, "outbound": 1070}'), b'{"epoch": 1, "sent": [[1, "3"]]}'),
        ((1, b'{"epoch": 1, "inbound": 70, "outbound": 1070}'), b"[]"),
        ((1, b"x"), None),
        ((1, b'{"epoch": 1, "numbers": 2}'), None),
        ((0, b'{"epoch": 1, "inbound": 70, "outbound": 1070}'), None),
    ],
)
async def test_numbers_that_cannot_be_read_refuse_the_logon_and_say_how_to_mend_it(
    world: StageWorld, numbers: tuple[int, bytes], sent: bytes | None
) -> None:
    """Such as those of an earlier build, which were kept in another form: without a version."""
    worker, port = await listening(world)
    if sent is not None:
        await world.state.port.put_if_newer(sent_key(SESSION), 1, sent)
    if numbers[0]:
        await world.state.port.put_if_newer(state_key(SESSION), *numbers)
    else:
        await world.state.port.put(state_key(SESSION), numbers[1])
    wire = await Wire.to(port)
    await wire.write(LOGON)
    said = (await wire.hear(b"5"))[b"58"].decode()
    assert "something else than sequence numbers under fix:session:ACME->EOD" in said
    assert "or than messages under fix:sent:ACME->EOD: remove both" in said
    for key in (state_key(SESSION), sent_key(SESSION)):
        await world.state.port.delete(key)
    again = await Wire.to(port)
    await again.write(message("A", 1, "98=0|108=30|141=Y|"), report(2, "X2"))
    await on_the_log(world, 1)
    await again.close()
    await worker.stop()


async def test_a_session_that_is_live_keeps_its_place_and_a_second_logon_is_refused(world: StageWorld) -> None:
    """Whoever knows a CompID must not end its session; nor must a second engine that somebody has started."""
    worker, port = await listening(world)
    first, second = broker(), broker()
    await first.connect("127.0.0.1", port)
    first.send(b"8", body("X1"))
    with pytest.raises(LogonRefused, match="the session is live on another connection: log that out first"):
        await second.connect("127.0.0.1", port)
    await second.close()
    first.send(b"8", body("X2"))
    await first.synchronize()
    await first.logout()
    await second.connect("127.0.0.1", port, reset=True)
    await second.logout()
    await worker.stop()
    assert [trade.exec_id for trade in await booked(world)] == ["X1", "X2"]


async def test_a_second_logon_of_a_session_replaces_a_first_that_does_not_answer_and_goes_on_with_its_numbers(
    world: StageWorld,
) -> None:
    """As after a broken line that only the counterparty has noticed."""
    worker, port = await listening(world)
    first, second = await Wire.to(port), await Wire.to(port)
    await first.write(LOGON, report(2, "X2"), report(4, "X4"))
    await first.hear(b"2")
    await second.write(message("A", 5, "98=0|108=30|"))
    await first.closed()
    await second.hear(b"A")
    request = await second.hear(b"2")
    assert (request[b"7"], request[b"16"]) == (b"3", b"4")
    await second.write(message("8", 3, "43=Y|" + trade_body("X3")), message("8", 4, "43=Y|" + trade_body("X4")))
    await on_the_log(world, 3)
    await second.write(report(6, "X6"))
    await on_the_log(world, 4)
    await second.close()
    await worker.stop()
    assert [(t.msg_seq_num, t.exec_id) for t in await booked(world)] == [(2, "X2"), (3, "X3"), (4, "X4"), (6, "X6")]


async def test_sessions_do_not_disturb_each_other(world: StageWorld) -> None:
    worker, port = await listening(world)
    brokers = [broker(f"B{number}") for number in range(6)]
    await asyncio.gather(*(one.connect("127.0.0.1", port) for one in brokers))
    for number in range(50):
        for one in brokers:
            one.send(b"8", body(f"X{number}"))
    await asyncio.gather(*(one.synchronize() for one in brokers))
    await asyncio.gather(*(one.logout() for one in brokers))
    await worker.stop()
    expected = {(f"B{b}->EOD", n + 2, f"X{n}") for b in range(6) for n in range(50)}
    trades = await booked(world)
    assert {(t.session, t.msg_seq_num, t.exec_id) for t in trades} == expected
    assert len(trades) == len(expected)


# --- epochs -------------------------------------------------------------------------------------------------


async def test_a_reset_is_a_new_epoch_and_persisted_before_it_is_confirmed(world: StageWorld) -> None:
    """Confirmed first and forgotten in a crash, the same epoch would be given to other deliveries."""
    worker, port = await listening(world)
    wire = await Wire.to(port)
    await wire.write(LOGON, report(2, "X2"))
    await on_the_log(world, 1)
    await wire.close()
    await soon(lambda: not worker.service._admission.connections, "the connection is gone")
    async with limited(20):
        while (await stored(world))["inbound"] != 3:  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.01)
    before = (await stored(world))["epoch"]
    world.state.down_for.add("put_if_newer")
    refused = await Wire.to(port)
    await refused.write(message("A", 1, "98=0|108=30|141=Y|"))
    await refused.closed()
    assert refused.of(b"A") == [], "a reset that may be forgotten is not confirmed"
    world.state.down_for.clear()
    again = await Wire.to(port)
    await again.write(message("A", 1, "98=0|108=30|141=Y|"), report(2, "Y2"))
    await again.hear(b"A")
    epoch = (await stored(world))["epoch"]
    assert epoch > before
    await on_the_log(world, 2)
    await again.close()
    await worker.stop()
    assert [(t.epoch, t.msg_seq_num, t.exec_id) for t in await booked(world)] == [(before, 2, "X2"), (epoch, 2, "Y2")]


async def test_a_restart_goes_on_with_the_numbers_and_the_epoch(world: StageWorld) -> None:
    worker, port = await listening(world)
    friend = broker()
    await friend.connect("127.0.0.1", port)
    friend.send(b"8", body("X1"))
    await friend.synchronize()
    await worker.stop()
    await soon(lambda: not friend.connected, "said goodbye")
    await friend.close()
    successor, port = await listening(world)
    await friend.connect("127.0.0.1", port)
    friend.send(b"8", body("X2"))
    await on_the_log(world, 2)
    await friend.logout()
    await successor.stop()
    epoch = (await stored(world))["epoch"]
    assert [(t.epoch, t.exec_id) for t in await booked(world)] == [(epoch, "X1"), (epoch, "X2")]
    assert friend.again_intact == 0, "nothing had to be sent again"


async def test_after_a_crash_the_gap_is_asked_for_and_comes_with_the_same_numbers(world: StageWorld) -> None:
    """On the log but not persisted: the deliveries carry the numbers that downstream stages have seen."""
    worker, port = await listening(world)
    friend = broker()
    await friend.connect("127.0.0.1", port)
    friend.send(b"8", body("X1"))
    await on_the_log(world, 1)
    async with limited(20):
        while (await stored(world))["inbound"] != 3:  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.01)
    world.state.down_for.add("put_if_newer")
    for number in range(2, 20):
        friend.send(b"8", body(f"X{number}"))
    await on_the_log(world, 19)
    worker.task.cancel()
    await asyncio.gather(worker.task, return_exceptions=True)
    await soon(lambda: not friend.connected, "the line is dead")
    await friend.close()
    world.state.down_for.clear()
    successor, port = await listening(world)
    await friend.connect("127.0.0.1", port)
    friend.send(b"8", body("X20"))
    await on_the_log(world, 38)
    await friend.logout()
    await successor.stop()
    trades = await booked(world)
    deliveries = {(t.epoch, t.msg_seq_num, t.exec_id) for t in trades}
    assert len(deliveries) == 20, "each delivery has one name, however often it is on the log"
    assert {t.exec_id for t in trades} == {f"X{number}" for number in range(1, 21)}


class _FailingLog:
    """A log whose producers fail after some records, until it is mended."""

    def __init__(self, log: Any) -> None:
        self.failing = False
        self.failed = 0
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def producer(self) -> Any:
        """One that may fail."""
        producer, send = await self._log.producer(), None
        send = producer.send

        async def maybe(*args: Any, **kwargs: Any) -> Any:
            if not self.failing:
                return await send(*args, **kwargs)
            self.failed += 1
            ack = asyncio.get_running_loop().create_future()
            ack.set_exception(Unavailable("not enough in-sync replicas"))
            return ack

        producer.send = maybe
        return producer


async def test_a_log_failure_loses_nothing_and_what_comes_again_keeps_its_number(world: StageWorld) -> None:
    """Appends that failed may have happened: downstream, what comes again is told by its ExecID."""
    real, world.log = world.log, _FailingLog(world.log)  # type: ignore[assignment]
    worker, port = await listening(world)
    friend = broker()
    await friend.connect("127.0.0.1", port)
    friend.send(b"8", body("X1"))
    await on_the_log(world, 1)
    async with limited(20):
        while (await stored(world))["inbound"] != 3:  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.01)
    world.log.failing = True  # type: ignore[attr-defined]
    friend.send(b"8", body("X2"), corrupt=True)
    garbled = friend.last_wire
    for number in range(3, 10):
        friend.send(b"8", body(f"X{number}"))
    await soon(lambda: not friend.connected, "the line is cut")
    await soon(lambda: "not enough in-sync replicas" in worker.health.why_not, "not ready, and why")
    assert (await stored(world))["inbound"] == 3
    world.log.failing = False  # type: ignore[attr-defined]
    await friend.close()
    async with limited(30):
        while True:
            try:
                await friend.connect("127.0.0.1", port)
                break
            except (OSError, LogonRefused):
                await asyncio.sleep(0.05)
    friend.send(b"8", body("X10"))
    await on_the_log(world, 10)
    assert worker.health.why_not == ""
    await friend.logout()
    await worker.stop()
    world.log = real
    trades = await booked(world)
    assert {t.exec_id for t in trades} == {f"X{number}" for number in range(1, 11)}
    assert len({t.epoch for t in trades}) == 1
    names = {t.exec_id: {again.msg_seq_num for again in trades if again.exec_id == t.exec_id} for t in trades}
    assert all(len(numbers) == 1 for numbers in names.values()), names
    letters = [decode_letter(record.value) for record in await world.records("trades.dlq")]
    assert {letter.raw for letter in letters} == {garbled}, "nobody sends garbled bytes a second time"


# --- overload and stopping ----------------------------------------------------------------------------------


async def test_a_port_that_is_taken_is_one_sentence_with_the_setting(world: StageWorld) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"^127.0.0.1:{port}: Address already in use: .* EOD_FIX_PORT; port 0"):
            await listening(world, fix_port=port)
    with pytest.raises(SettingsError, match=r"^192.0.2.1:0: Cannot assign requested address: .* EOD_FIX_HOST"):
        await listening(world, fix_host="192.0.2.1")


async def test_a_log_that_takes_no_more_stops_the_reading_and_nothing_is_dropped(
    world: StageWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory stays bounded: TCP tells the counterparty to wait, and a later session is not read either."""
    limit = 100_000
    monkeypatch.setitem(LogWriter.__init__.__kwdefaults__, "max_in_flight_bytes", limit)
    gate = asyncio.Event()
    real_producer = world.log.producer

    async def slow() -> Any:
        producer = await real_producer()
        send = producer.send

        async def wait(*args: Any, **kwargs: Any) -> Any:
            await gate.wait()
            return await send(*args, **kwargs)

        producer.send = wait  # type: ignore[method-assign]
        return producer

    monkeypatch.setattr(world.log, "producer", slow)
    worker, port = await listening(world)
    service: Ingestion = worker.service
    first, second = await Wire.to(port), await Wire.to(port)
    reports = [report(number, f"X{number}") for number in range(2, 20_000)]
    flood = asyncio.create_task(first.write(LOGON, *reports))
    writer = service._writer
    assert writer is not None
    await soon(lambda: writer.is_full, "the limit")
    late = [
        message("A", 1, "98=0|108=30|", sender="LATE"),
        *(message("8", number, trade_body(f"X{number}"), sender="LATE") for number in range(2, 8_000)),
    ]
    flood_2 = asyncio.create_task(second.write(*late))
    await asyncio.sleep(0.3)
    one_read = 256 * 1024  # what asyncio hands over at once
    assert writer.in_flight_bytes <= limit + 2 * one_read
    assert not flood.done()
    gate.set()
    await asyncio.gather(flood, flood_2)
    await on_the_log(world, len(reports) + len(late) - 1)
    await first.close()
    await second.close()
    await worker.stop()
    expected = {(SESSION, n) for n in range(2, 20_000)} | {("LATE->EOD", n) for n in range(2, 8_000)}
    assert {(t.session, t.msg_seq_num) for t in await booked(world)} == expected


async def test_stopping_says_goodbye_and_all_that_was_taken_is_on_the_log_and_persisted(world: StageWorld) -> None:
    worker, port = await listening(world)
    wire = await Wire.to(port)
    await wire.write(LOGON, *(report(number, f"X{number}") for number in range(2, 3_000)))
    await wire.hear(b"A")
    await worker.stop()
    await wire.closed()
    assert b"ingestion is stopping" in wire.of(b"5")[0][b"58"]
    trades = await booked(world)
    taken = (await stored(world))["inbound"]
    assert [t.msg_seq_num for t in trades] == list(range(2, taken))
    assert taken > 2


async def test_nobody_is_admitted_while_stopping(world: StageWorld) -> None:
    worker, port = await listening(world)
    await worker.stop()
    with pytest.raises(OSError, match=r"."):
        await Wire.to(port)


async def test_a_topic_that_is_about_to_be_made_is_waited_for(world: StageWorld) -> None:
    worker = world.start(STAGE, trades_topic="made.later")
    await soon(lambda: "topic made.later does not exist: 'eod topics ensure' creates it" in worker.health.why_not)
    assert not worker.task.done()
    await world.log.ensure_topics([TopicSpec("made.later", 4)])
    await soon(lambda: not worker.health.why_not, "ready")
    await worker.stop()


async def test_a_topic_that_nobody_makes_ends_the_stage_so_that_the_reason_is_seen(
    world: StageWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eod_workers.ingestion.stage._MADE_WITHIN_S", 0.5)
    worker = world.start(STAGE, trades_topic="made.never")
    with pytest.raises(UnknownTopic, match=r"made\.never"):
        await worker.task


async def test_stopping_while_the_log_is_away_ends_the_retries(world: StageWorld) -> None:
    world.log = Flaky(world.log, "log")  # type: ignore[assignment]
    world.log.down_for.add("producer")  # type: ignore[attr-defined]
    worker = world.start(STAGE)
    await soon(lambda: "the log is down" in worker.health.why_not, "not ready")
    await worker.stop()
