"""What is done to sessions by hand: it fences whoever serves them, is on record, and changes nothing else."""

from __future__ import annotations

import asyncio

import pytest
from eod_workers.adapters.memory_state import MemoryState
from eod_workers.fix import session as session_module
from eod_workers.fix.session import MAX_ASKS, SequenceNumbers
from eod_workers.ingestion import sessions
from eod_workers.ingestion.sessions import NotDone, Stuck, audit, list_sessions, note_stuck, reset, skip
from eod_workers.ingestion.tenure import OUTBOUND_HEADROOM, begin, save
from support.fix_messages import message, report, trade_body
from support.fix_wire import Wire, booked, listening
from support.patience import limited
from support.stage_world import StageWorld

pytestmark = pytest.mark.timeout(60)
SESSION = "ACME->EOD"
BY = {"who": "ann@desk", "why": "the broker says so"}
NOW = 1_767_387_600_000_000_000


async def served(state: MemoryState, inbound: int = 7, outbound: int = 3) -> sessions.SessionState:
    """A session that was served, and where it stands."""
    tenure = await begin(state, SESSION, NOW)
    assert tenure is not None
    await save(state, tenure, SequenceNumbers(tenure.sequence.epoch, inbound, outbound))
    (one,) = await list_sessions(state)
    return one


async def test_a_session_is_listed_with_its_numbers() -> None:
    state = MemoryState()
    assert await list_sessions(state) == []
    one = await served(state)
    assert (one.session, one.inbound, one.outbound, one.stuck) == (SESSION, 7, 3 + OUTBOUND_HEADROOM, None)


async def test_a_session_is_listed_as_stuck_while_it_stands_there() -> None:
    state = MemoryState()
    one = await served(state)
    await note_stuck(state, SESSION, SequenceNumbers(one.epoch, 7, 3), 12, NOW)
    assert (await list_sessions(state))[0].stuck == Stuck(7, 12, NOW)
    await served(state, inbound=8)
    assert (await list_sessions(state))[0].stuck is None


async def test_a_reset_begins_both_numbers_at_1_in_a_new_epoch_and_is_on_record() -> None:
    state = MemoryState()
    before = await served(state)
    after = await reset(state, SESSION, now_ns=NOW + 1, **BY)
    assert (after.epoch, after.inbound, after.outbound) == (before.epoch + 1, 1, 1)
    assert await list_sessions(state) == [after]
    assert await audit(state) == [
        {
            "at_ns": NOW + 1, "what": "reset", "session": SESSION, **BY,
            "from": {"epoch": before.epoch, "inbound": 7, "outbound": before.outbound},
            "to": {"epoch": before.epoch + 1, "inbound": 1, "outbound": 1},
        },
    ]  # fmt: skip
    tenure = await begin(state, SESSION, NOW + 2)
    assert tenure is not None
    assert tenure.sequence == SequenceNumbers(before.epoch + 1, 1, 1)


async def test_a_skip_gives_up_the_next_message_and_no_other() -> None:
    state = MemoryState()
    before = await served(state)
    for number in (1, 6, 8):
        with pytest.raises(NotDone, match=f"waits for MsgSeqNum 7, not {number}"):
            await skip(state, SESSION, number, now_ns=NOW, **BY)
    after = await skip(state, SESSION, 7, now_ns=NOW + 1, **BY)
    assert (after.epoch, after.inbound, after.outbound) == (before.epoch, 8, before.outbound)
    assert [entry["what"] for entry in await audit(state)] == ["skip"]


@pytest.mark.parametrize("known", [True, False])
async def test_a_session_that_nobody_knows_is_not_made(known: bool) -> None:  # noqa: FBT001
    state = MemoryState()
    if known:
        await served(state)
    with pytest.raises(NotDone, match="there is no session 'ACME'.*" + (SESSION if known else "none yet")):
        await reset(state, "ACME", now_ns=NOW, **BY)
    assert await audit(state) == []


async def test_whoever_served_it_saves_nothing_any_more() -> None:
    state = MemoryState()
    tenure = await begin(state, SESSION, NOW)
    assert tenure is not None
    await save(state, tenure, SequenceNumbers(tenure.sequence.epoch, 7, 3))
    after = await reset(state, SESSION, now_ns=NOW + 1, **BY)
    assert not await save(state, tenure, SequenceNumbers(tenure.sequence.epoch, 9, 3))
    assert await list_sessions(state) == [after]


async def test_a_session_that_moves_on_meanwhile_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    state = MemoryState()
    tenure = await begin(state, SESSION, NOW)
    assert tenure is not None
    await save(state, tenure, SequenceNumbers(tenure.sequence.epoch, 7, 3))
    found = sessions._found

    async def late(*arguments: str) -> sessions.SessionState:
        one = await found(*arguments)  # type: ignore[arg-type]
        await save(state, tenure, SequenceNumbers(tenure.sequence.epoch, 8, 3))
        return one

    monkeypatch.setattr(sessions, "_found", late)
    with pytest.raises(NotDone, match="has moved on meanwhile, to MsgSeqNum 8"):
        await skip(state, SESSION, 7, now_ns=NOW + 1, **BY)
    assert (await list_sessions(state))[0].inbound == 8


async def test_a_live_session_that_is_stuck_is_hung_up_on_and_goes_on_behind_what_was_skipped(
    world: StageWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "RETRY_RESEND_S", 0.1)
    worker, port = await listening(world)
    wire = await Wire.to(port)
    await wire.write(message("A", 1, "98=0|108=30|"), report(2, "X2"), report(4, "X4"))
    await wire.hear(b"2", MAX_ASKS + 1)
    async with limited(20):
        while not (stuck := (await list_sessions(world.state.port))[0].stuck):  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.05)
    assert (stuck.msg_seq_num, stuck.held) == (3, 1)
    await skip(world.state.port, SESSION, 3, now_ns=worker.service._context.clock.now_ns(), **BY)
    await wire.closed()
    again = await Wire.to(port)
    await again.write(message("A", 5, "98=0|108=30|"))
    request = await again.hear(b"2")
    assert (request[b"7"], request[b"16"]) == (b"4", b"4")
    await again.write(message("8", 4, "43=Y|" + trade_body("X4")))
    async with limited(20):
        while len(await booked(world)) < 2:  # noqa: ASYNC110 - the log tells nobody
            await asyncio.sleep(0.01)
    await again.close()
    await worker.stop()
    assert [(trade.msg_seq_num, trade.exec_id) for trade in await booked(world)] == [(2, "X2"), (4, "X4")]
