"""What ingestion has rejected it says again when it is asked: after a reconnection, elsewhere, after a kill."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from eod_workers.adapters.memory_state import MemoryState
from eod_workers.fix.fields import Fields
from eod_workers.fix.sent import Kept, Sent
from eod_workers.fix.session import SequenceNumbers
from eod_workers.ingestion.sessions import reset, skip
from eod_workers.ingestion.tenure import MAX_KEPT_BYTES, Tenure, begin, save, sent_key, state_key
from support.fix_messages import message, report
from support.fix_wire import Wire, booked, listening
from support.patience import limited
from support.stage_world import Flaky, StageWorld
from unit.ingestion.test_terms import Standing, at, logon

pytestmark = pytest.mark.timeout(60)
SESSION = "ACME->EOD"
NOW = 1_767_387_600_000_000_000
WRONG = message("8", 2, "37=O|17=X2|150=F|39=1|54=1|55=IBM|32=1|31=ten|60=20260102-21:00:00|")
NEWS = message("B", 3, "148=closing|33=1|58=x|")
SENT = Sent(b"3", b"20260102-21:00:00.000", b"45=2\x01", {})


async def saved(world: StageWorld, inbound: int) -> None:
    """Wait until this is the next number in the store."""
    async with limited(20):
        while True:
            stored = await world.state.port.get_versioned(state_key(SESSION))
            if stored is not None and stored[1] and json.loads(stored[1])["inbound"] == inbound:
                return
            await asyncio.sleep(0.01)


async def asked(port: int, number: int) -> tuple[list[Fields], Fields]:
    """The rejections and GapFills that a ResendRequest from 2 on is answered with, and the Logon's answer."""
    wire = await Wire.to(port)
    await wire.write(
        message("A", number, "98=0|108=30|"),
        message("2", number + 1, "7=2|16=0|"),
        message("1", number + 2, "112=end|"),
    )
    answer = await wire.hear(b"A")
    await wire.hear(b"0")
    await wire.close()
    return [fields for fields in wire.heard if fields[b"35"] in {b"3", b"j", b"4"}], answer


async def rejected(port: int) -> list[Fields]:
    """A session that is told two rejections under 2 and 3, and hangs up."""
    wire = await Wire.to(port)
    await wire.write(message("A", 1, "98=0|108=30|"), WRONG, NEWS)
    return [await wire.hear(b"3"), await wire.hear(b"j")]


def same(again: Fields, first: Fields) -> bool:
    """Whether this is that message, as a possible duplicate."""
    header = {b"9", b"10", b"43", b"52", b"122"}
    kept = {tag: value for tag, value in again.items() if tag not in header}
    return kept == {tag: value for tag, value in first.items() if tag not in header} and (
        again[b"43"],
        again[b"122"],
    ) == (b"Y", first[b"52"])


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("killed", [False, True])
async def test_rejections_are_said_again_after_a_reconnection_there_and_elsewhere(
    world: StageWorld,
    elsewhere: bool,  # noqa: FBT001
    killed: bool,  # noqa: FBT001
) -> None:
    worker, port = await listening(world)
    first = await rejected(port)
    await saved(world, 4)
    if killed:
        worker.task.cancel()
        await asyncio.gather(worker.task, return_exceptions=True)
    if elsewhere or killed:
        worker, port = await listening(world)
    again, answer = await asked(port, 4)
    assert [fields[b"35"] for fields in again] == [b"3", b"j", b"4"]
    assert all(same(*pair) for pair in zip(again, first, strict=False))
    assert int(again[2][b"34"]) == 4
    assert int(again[2][b"36"]) > int(answer[b"34"]), "the Logon's answer is behind what was kept, and filled"
    await worker.stop()


async def test_what_is_rejected_is_kept_before_its_number_is_saved(world: StageWorld) -> None:
    """So whoever takes over knows the Reject, or is sent the message again and rejects it anew."""
    worker, port = await listening(world)
    writes: list[tuple[str, int]] = []

    def note(name: str) -> None:
        if name == "put_if_newer" and world.state.calls[-1][1][0] in {sent_key(SESSION), state_key(SESSION)}:
            key, _, value = world.state.calls[-1][1]
            writes.append((key, json.loads(value).get("inbound") or len(json.loads(value)["sent"])))

    world.state.after = note
    await rejected(port)
    await saved(world, 4)
    await worker.stop()
    before = [key for key, _ in writes].index(sent_key(SESSION))
    assert all(inbound <= 2 for key, inbound in writes[:before] if key == state_key(SESSION))
    told = 0
    for key, count in writes:
        if key == sent_key(SESSION):
            told = count
        else:
            assert count - 2 <= told, "a number was saved, and the Reject of its message was not"
    assert told == 2


async def test_a_store_that_does_not_take_the_rejection_is_given_no_number_either(world: StageWorld) -> None:
    state, tenure = world.state, await begin(world.state, SESSION, NOW)
    assert tenure is not None
    tenure.rejections.add(2, SENT)
    await state.port.take_over(sent_key(SESSION), tenure.token + 1)
    assert not await save(state, tenure, SequenceNumbers(tenure.sequence.epoch, 9, 9))
    stored = await state.port.get_versioned(state_key(SESSION))
    assert json.loads(stored[1])["inbound"] == 1


async def begun(state: MemoryState, *, before: Tenure | None = None, until_ns: int = 0, now_ns: int = NOW) -> Tenure:
    """A tenure of the session."""
    tenure = await begin(state, SESSION, now_ns, before, until_ns)
    assert tenure is not None
    return tenure


async def kept_after(state: MemoryState, *, now_ns: int = NOW) -> set[int]:
    """The numbers of the messages that the next one finds."""
    return set((await begun(state, now_ns=now_ns)).rejections.messages)


async def test_a_reset_by_hand_or_by_the_day_forgets_and_a_skip_does_not() -> None:
    for change, left in (("skip", {2}), ("reset", set()), ("day", set())):
        state = MemoryState()
        tenure = await begun(state, until_ns=NOW + 100)
        tenure.rejections.add(2, SENT)
        assert await save(state, tenure, SequenceNumbers(tenure.sequence.epoch, 5, 5))
        by = {"who": "ann", "why": "so"}
        if change == "skip":
            await skip(state, SESSION, 5, now_ns=NOW + 1, **by)
        elif change == "reset":
            await reset(state, SESSION, now_ns=NOW + 1, **by)
        assert await kept_after(state, now_ns=NOW + (100 if change == "day" else 2)) == left, change


async def test_the_same_process_goes_on_with_what_it_has_also_if_the_store_has_forgotten() -> None:
    state = MemoryState()
    tenure = await begun(state)
    tenure.rejections.add(2, SENT)
    assert await save(state, tenure, tenure.sequence)
    tenure.rejections.add(3, SENT)  # not saved yet
    after = await begun(state, before=tenure)
    assert set(after.rejections.messages) == {2, 3}
    assert await save(state, after, after.sequence)
    assert await kept_after(state) == {2, 3}
    empty = MemoryState()
    again = await begun(empty, before=after)
    assert await save(empty, again, again.sequence)
    assert await kept_after(empty) == {2, 3}


async def test_what_another_has_sent_meanwhile_counts_and_not_ours() -> None:
    state = MemoryState()
    ours = await begun(state)
    other = await begun(state)
    other.rejections.add(7, SENT)
    assert await save(state, other, other.sequence)
    ours.rejections.add(2, SENT)
    assert not await save(state, ours, ours.sequence)
    assert set((await begun(state, before=ours)).rejections.messages) == {7}


async def test_nothing_is_written_for_a_session_that_is_never_rejected() -> None:
    state = MemoryState()
    tenure = await begun(state)
    for inbound in range(2, 9):
        assert await save(state, tenure, SequenceNumbers(tenure.sequence.epoch, inbound, 2))
    assert await state.get_versioned(sent_key(SESSION)) is None


async def test_who_makes_us_reject_without_end_costs_the_store_a_bounded_value(world: StageWorld) -> None:
    worker, port = await listening(world)
    wire = await Wire.to(port)
    count = 300
    await wire.write(message("A", 1, "98=0|108=30|"))
    await wire.write(*(message("B", number, "148=closing|33=1|58=x|") for number in range(2, count + 2)))
    await wire.hear(b"j", count)
    await wire.close()
    await saved(world, count + 2)
    await worker.stop()
    stored = await world.state.port.get_versioned(sent_key(SESSION))
    numbers = list(Kept.decode(stored[1], json.loads(stored[1])["epoch"]).messages)
    assert numbers == list(range(count + 2 - len(numbers), count + 2)), "the latest"
    assert 40 < len(numbers) < count
    assert len(stored[1]) < 2 * MAX_KEPT_BYTES


async def test_numbers_that_begin_again_as_their_day_ends_are_those_that_are_saved(tmp_path: Path) -> None:
    """The reset of a live session is read before anybody has looked at the clock: the day has ended, too."""
    clock = Standing("2026-01-05T21:59:50")
    world = await StageWorld(tmp_path, clock=clock).open()
    worker, port = await listening(world, fix_reset="17:00")
    wire = await Wire.to(port)
    await wire.write(logon(), report(2, "X2"), NEWS)
    await wire.hear(b"j")
    await saved(world, 4)
    (connection,) = worker.service._admission.connections
    connection._end_day = lambda: None
    clock.move(seconds=10)
    await wire.write(logon(_141="Y"), report(2, "Y2"), message("2", 3, "7=1|16=0|"), message("1", 4, "112=end|"))
    await wire.hear(b"A", 2)
    await wire.hear(b"0")
    (fill,) = wire.of(b"4")
    assert (fill[b"34"], fill[b"36"]) == (b"1", b"2"), "nothing of yesterday is said again"
    await saved(world, 5)
    await wire.close()
    await worker.stop()
    stored = await world.state.port.get_versioned(state_key(SESSION))
    epochs = [trade.epoch for trade in await booked(world)]
    assert json.loads(stored[1])["epoch"] == epochs[-1] > epochs[0]
    assert json.loads(stored[1])["until_ns"] > at("2026-01-06T21:00:00")
    await world.close()


async def test_a_reset_does_not_spoil_what_is_stored_before_its_numbers_are() -> None:
    """Whoever crashes between the two writes, or finds that another has taken over, has not reset anything."""
    state = MemoryState()
    tenure = await begun(state)
    tenure.rejections.add(2, SENT)
    assert await save(state, tenure, tenure.sequence)
    tenure.rejections.add(3, SENT)
    tenure.rejections.forget()
    tenure.sequence = SequenceNumbers(tenure.sequence.epoch + 1, 2, 2)
    calls = Flaky(state, "state store")
    assert await save(calls, tenure, tenure.sequence)
    assert [arguments[0] for name, arguments in calls.calls] == [state_key(SESSION)]
    assert await kept_after(state) == set()
