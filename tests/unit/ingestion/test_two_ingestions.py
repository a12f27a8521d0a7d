"""Two ingestions over real TCP on one log and one state store: a session moves, is fenced, and is let go in order."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from eod_workers.adapters.tcp import TcpNetwork
from eod_workers.fix.initiator import Initiator, LogonRefused
from eod_workers.ingestion.tenure import owner_key, state_key
from eod_workers.letters import decode_letter
from support.fix_messages import message, report, soh, trade_body
from support.fix_wire import Wire, booked, listening
from support.patience import limited, soon
from support.sampled import sampled
from support.stage_world import StageWorld
from unit.ingestion.test_ingestion import LOGON, SESSION, on_the_log, stored

pytestmark = pytest.mark.timeout(60)


async def saved(world: StageWorld, inbound: int) -> None:
    """Wait until this is the next number in the store."""
    async with limited(20):
        while (await stored(world)).get("inbound") != inbound:  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.01)


async def saved_behind(world: StageWorld, number: int) -> None:
    """Wait until the store asks for nothing up to this number any more."""
    async with limited(20):
        while (await stored(world)).get("inbound", 0) <= number:  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.01)


def slow(world: StageWorld, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Let the log take nothing until the event is set."""
    gate, real_producer = asyncio.Event(), world.log.producer

    async def make() -> Any:
        producer = await real_producer()
        send: Callable[..., Any] = producer.send

        async def wait(*args: Any, **kwargs: Any) -> Any:
            await gate.wait()
            return await send(*args, **kwargs)

        producer.send = wait  # type: ignore[method-assign]
        return producer

    monkeypatch.setattr(world.log, "producer", make)
    return gate


async def test_a_session_moves_to_another_ingestion_and_back_while_both_live(world: StageWorld) -> None:
    """Each goes on where the other was, although it remembers older numbers of its own."""
    ports = [(await listening(world))[1] for _ in range(2)]
    friend = Initiator("ACME", "EOD", network=TcpNetwork(), now_ns=time.time_ns)
    sent = 0
    for turn in range(6):
        await friend.connect("127.0.0.1", ports[turn % 2])
        for _ in range(20):
            sent += 1
            friend.send(b"8", soh(trade_body(f"X{sent}")))
        if turn % 3:
            await friend.synchronize()
        await friend.close()
        await soon(lambda: not friend.connected, "hung up")
    await friend.connect("127.0.0.1", ports[0])
    await friend.synchronize()
    await on_the_log(world, sent)
    await friend.logout()
    for worker in world.workers:
        await worker.stop()
    trades = await booked(world)
    assert {trade.exec_id for trade in trades} == {f"X{number}" for number in range(1, sent + 1)}
    names = {(trade.epoch, trade.msg_seq_num, trade.exec_id) for trade in trades}
    assert len(names) == sent, "what came again came under its own number"


async def test_a_session_that_is_live_on_another_ingestion_keeps_its_place(world: StageWorld) -> None:
    """Whoever knows a CompID must not end its session, whichever replica answers the address; nor begin its numbers."""
    (_, here), (there, there_port) = [await listening(world) for _ in range(2)]
    friend = Initiator("ACME", "EOD", network=TcpNetwork(), now_ns=time.time_ns)
    await friend.connect("127.0.0.1", here)
    friend.send(b"8", soh(trade_body("X1")))
    await friend.synchronize()
    before = await stored(world)
    for reset in (False, True):
        other = Initiator("ACME", "EOD", network=TcpNetwork(), now_ns=time.time_ns)
        with pytest.raises(LogonRefused, match="the session is live on another connection: log that out first"):
            await other.connect("127.0.0.1", there_port, reset=reset)
        await other.close()
    number = friend.send(b"8", soh(trade_body("X2")))
    await saved_behind(world, number)
    assert (await stored(world))["epoch"] == before["epoch"]
    assert sampled(there.metrics.refused, "eod_fix_refused_total", reason="terms") == 2
    await friend.logout()
    await friend.connect("127.0.0.1", there_port)
    await friend.logout()
    assert [trade.exec_id for trade in await booked(world)] == ["X1", "X2"]


async def test_who_answers_nothing_on_another_ingestion_is_hung_up_on_and_may_log_on_here(world: StageWorld) -> None:
    """As after a broken line that only the counterparty has noticed; what was sent over it is not asked for again."""
    (_, here), (_, there) = [await listening(world) for _ in range(2)]
    older, newer = await Wire.to(here), await Wire.to(there)
    await older.write(LOGON, report(2, "X2"))
    await older.hear(b"A")
    await saved(world, 3)
    await newer.write(message("A", 3, "98=0|108=30|"), report(4, "X4"))
    assert b"this one does not answer" in (await older.hear(b"5"))[b"58"]
    await older.closed()
    await newer.hear(b"A")
    await saved(world, 5)
    assert (newer.of(b"2"), newer.of(b"5")) == ([], [])
    assert {trade.exec_id for trade in await booked(world)} == {"X2", "X4"}


async def test_of_two_logons_at_once_on_two_ingestions_one_wins(world: StageWorld) -> None:
    """Both may have found nobody there. Then one is hung up on, if it was answered with the next message it sends."""
    workers = [await listening(world) for _ in range(2)]
    for turn in range(10):
        wires = [await Wire.to(port) for _, port in workers]
        await asyncio.gather(*(wire.write(message("A", 1, "98=0|108=30|141=Y|")) for wire in wires))
        for wire in wires:
            await soon(lambda wire=wire: wire.of(b"A") or wire.is_closed, "an answer")
            if not wire.is_closed:
                await wire.write(report(2, f"X{turn}"))
        await soon(lambda wires=wires: any(wire.is_closed for wire in wires), "one is hung up on")
        (winner,) = [wire for wire in wires if not wire.is_closed]
        await winner.write(message("1", 3, "112=still here|"))
        assert (await winner.hear(b"0"))[b"112"] == b"still here"
        await winner.close()
        await soon(lambda: not any(worker.service._admission.connections for worker, _ in workers), "both have gone")
    assert {trade.exec_id for trade in await booked(world)} == {f"X{turn}" for turn in range(10)}


async def test_whether_a_session_is_live_elsewhere_must_be_known_before_anybody_logs_on(world: StageWorld) -> None:
    (_, here), (_, there) = [await listening(world) for _ in range(2)]
    friend = Initiator("ACME", "EOD", network=TcpNetwork(), now_ns=time.time_ns)
    await friend.connect("127.0.0.1", here)
    world.state.down_for.add("publish")
    other = Initiator("ACME", "EOD", network=TcpNetwork(), now_ns=time.time_ns)
    told = "whether the session is live elsewhere cannot be found out now: the state store is down"
    with pytest.raises(LogonRefused, match=told):
        await other.connect("127.0.0.1", there)
    world.state.down_for.clear()
    await world.state.port.delete(owner_key(SESSION))
    await world.state.port.put(owner_key(SESSION), b"something else")
    with pytest.raises(
        LogonRefused, match="something else than the session's owner under fix:owner:ACME->EOD: remove it"
    ):
        await other.connect("127.0.0.1", there)
    await other.close()
    friend.send(b"8", soh(trade_body("X1")))
    await friend.synchronize()
    await friend.logout()


async def test_a_logon_elsewhere_waits_for_what_a_stopping_ingestion_has_read(
    world: StageWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nothing is asked for again: the numbers are saved, and the older connection is over."""
    gate = slow(world, monkeypatch)
    (leaving, here), (_, there) = [await listening(world) for _ in range(2)]
    older, newer = await Wire.to(here), await Wire.to(there)
    await older.write(LOGON, report(2, "X2"))
    await older.hear(b"A")
    await soon(lambda: leaving.service._writer.live[SESSION].sequence.inbound == 3, "it is read")
    stopping = asyncio.create_task(leaving.stop())
    await soon(lambda: "stopping" in leaving.health.why_not, "it stops")
    await newer.write(message("A", 3, "98=0|108=30|"))
    await soon(lambda: leaving.service._admission.claims._askers, "it is asked about the session")
    gate.set()
    await newer.hear(b"A")
    await stopping
    assert newer.of(b"2") == []
    assert [trade.exec_id for trade in await booked(world)] == ["X2"]


async def test_of_an_ingestion_that_does_not_answer_the_sessions_are_taken_over(world: StageWorld) -> None:
    """The older finds out with the next message it hears, hangs up without a word, and takes nothing more."""
    (first, first_port), (second, second_port) = [await listening(world) for _ in range(2)]
    first.service._admission.claims._is_live_here = lambda _session: asyncio.Event().wait()
    second.service._admission.claims._answered_within_s = 0.05
    older, newer = await Wire.to(first_port), await Wire.to(second_port)
    await older.write(LOGON, report(2, "X2"))
    await older.hear(b"A")
    await saved(world, 3)
    await newer.write(message("A", 3, "98=0|108=30|"), report(4, "X4"))
    await newer.hear(b"A")
    await saved(world, 5)
    with structlog.testing.capture_logs() as said:
        await older.write(report(3, "X3 of a line that is over"))
        await older.closed()
    assert older.of(b"5") == []
    (one,) = [line for line in said if line["event"] == "fix.superseded"]
    assert (one["session"], one["log_level"], one["connected"]) == (SESSION, "warning", True)
    assert "another ingestion has taken the session over" in one["why"]
    counted = [sampled(one.metrics.superseded, "eod_ingestion_superseded_total") for one in (first, second)]
    assert counted == [1, 0]
    await newer.write(report(5, "X5"))
    await saved(world, 6)
    assert newer.of(b"5") == []
    await newer.close()


async def test_numbers_that_a_frozen_ingestion_saves_late_are_refused(world: StageWorld) -> None:
    """It has read and appended more than it has saved; its successor asks for that, and both come under one number."""
    first, port = await listening(world)
    other, other_port = await listening(world)
    old = await Wire.to(port)
    await old.write(LOGON, report(2, "X2"))
    await saved(world, 3)
    world.state.down_for.add("put_if_newer")
    await old.write(report(3, "X3"), report(4, "X4"))
    await on_the_log(world, 3)
    await soon(lambda: world.state.refused, "a save that is refused, and not tried again for half a second")
    await old.close()
    world.state.down_for.clear()
    new = await Wire.to(other_port)
    await new.write(message("A", 5, "98=0|108=30|"))
    request = await new.hear(b"2")
    first_missing = int(request[b"7"])
    again = [message("8", n, "43=Y|" + trade_body(f"X{n}")) for n in range(first_missing, 5)]
    await new.write(*again, report(6, "X6"))
    await saved(world, 7)
    await asyncio.sleep(0.6)  # the first one tries again to save, twice a second
    assert (await stored(world))["inbound"] == 7
    await new.close()
    await first.stop()
    await other.stop()
    assert {(t.msg_seq_num, t.exec_id) for t in await booked(world)} == {(n, f"X{n}") for n in (2, 3, 4, 6)}


# --- stopping -----------------------------------------------------------------------------------------------


async def test_nobody_is_told_to_go_before_what_was_read_is_on_the_log_and_saved(
    world: StageWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told earlier, a counterparty would log on elsewhere and be asked again for what was about to be appended."""
    gate = slow(world, monkeypatch)
    leaving, port = await listening(world)
    wire = await Wire.to(port)
    half = report(500, "X500")[:40]
    await wire.write(LOGON, *(report(number, f"X{number}") for number in range(2, 500)), half)
    await wire.hear(b"A")
    await soon(lambda: leaving.service._writer.live[SESSION].sequence.inbound == 500, "all of it is read")
    stopping = asyncio.create_task(leaving.stop())
    await soon(lambda: "stopping" in leaving.health.why_not, "no new session comes here")
    await wire.write(report(500, "X500")[40:], report(501, "written after the reading has ended"))
    await asyncio.sleep(0.3)
    assert wire.of(b"5") == []
    assert await booked(world) == []
    gate.set()
    goodbye = await wire.hear(b"5")
    assert b"ingestion is stopping" in goodbye[b"58"]
    assert (await stored(world))["inbound"] == 500
    assert [trade.msg_seq_num for trade in await booked(world)] == list(range(2, 500))
    await stopping
    assert (await stored(world))["inbound"] == 500
    assert len(await booked(world)) == 498, "nothing was read any more"
    (letter,) = [decode_letter(record.value) for record in await world.records("trades.dlq")]
    assert letter.raw == half, "and what was read is kept to the last byte"


async def test_a_stopped_ingestion_hands_over_without_anything_being_sent_again_that_it_took(world: StageWorld) -> None:
    leaving, port = await listening(world)
    _, other_port = await listening(world)
    friend = Initiator("ACME", "EOD", network=TcpNetwork(), now_ns=time.time_ns)
    await friend.connect("127.0.0.1", port)
    for number in range(1, 300):
        friend.send(b"8", soh(trade_body(f"X{number}")))
        if number % 50 == 0:
            await friend.drain()
            await asyncio.sleep(0)
    await leaving.stop()
    await soon(lambda: not friend.connected, "said goodbye")
    taken = len(await booked(world))
    await friend.close()
    await friend.connect("127.0.0.1", other_port)
    await friend.synchronize()
    await on_the_log(world, 299)
    await friend.logout()
    trades = await booked(world)
    assert [trade.exec_id for trade in trades] == [f"X{number}" for number in range(1, 300)], "each once"
    assert friend.again_intact == 299 - taken


async def test_stopping_while_the_state_store_is_away_says_goodbye_all_the_same(world: StageWorld) -> None:
    worker, port = await listening(world)
    wire = await Wire.to(port)
    await wire.write(LOGON)
    await wire.hear(b"A")
    world.state.down = True
    await wire.write(report(2, "X2"))
    await on_the_log(world, 1)
    async with limited(5):
        await worker.stop()
    assert len(wire.of(b"5")) == 1


async def test_a_reset_is_saved_before_anything_that_came_with_its_logon_is_taken(world: StageWorld) -> None:
    """One write of the counterparty may hold its Logon and trades; a crash then must not have counted them as taken."""
    worker, port = await listening(world)
    wire = await Wire.to(port)
    saves: list[dict[str, int]] = []

    def look(name: str) -> None:
        if name == "put_if_newer" and world.state.calls[-1][1][0] == state_key(SESSION):
            saves.append(json.loads(world.state.calls[-1][1][2]))

    world.state.after = look
    await wire.write(message("A", 1, "98=0|108=30|141=Y|"), *(report(n, f"X{n}") for n in range(2, 40)))
    await on_the_log(world, 38)
    await saved(world, 40)
    begun, reset, *_ = saves
    assert (begun["inbound"], reset["inbound"], saves[-1]["inbound"]) == (1, 2, 40)
    assert reset["epoch"] == begun["epoch"] + 1
    await wire.close()
    await worker.stop()
