"""FIX sessions for those who run them: which there are, where they stand, and the two things that can be done by hand.

To *reset* a session begins its numbers at 1 in a new epoch, as for a counterparty that begins a day at 1 without saying
so by ResetSeqNumFlag(141). To *skip* gives up the message that a session waits for and that does not come whole. Either
takes the session over in the store, as another ingestion would (see `tenure`): whoever serves it is superseded and
hangs up, and the counterparty goes on from the new numbers when it logs on again. Both are written down with who did it
and why.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import NamedTuple

from eod_workers.fix.session import SequenceNumbers
from eod_workers.ingestion.tenure import STATE_PREFIX, numbers_of, state_key, stored_value
from eod_workers.ports import StateStore, StateWrites

STUCK_KEY = "fix:stuck"
"""Hash: session → JSON of what it waits for, as far as `Stuck` applies."""
AUDIT_KEY = "fix:audit"
"""Hash: time and session → JSON of what was done by hand."""


class NotDone(Exception):
    """Nothing was changed; the message says why."""


class Stuck(NamedTuple):
    """A session that waits for a message which was asked for in vain."""

    msg_seq_num: int
    held: int
    since_ns: int


@dataclass(frozen=True, slots=True)
class SessionState:
    """Where a session stands.

    Attributes:
        session: its name, SENDER->TARGET as the counterparty writes them.
        epoch: another with every reset.
        inbound: the MsgSeqNum that is expected next, and all below are safe on the log.
        outbound: the most that ours can be next.
        token: of its last owner.
        until_ns: when the numbers begin at 1 again by themselves, in nanoseconds since the Unix epoch; 0: never.
        stuck: what it waits for, or None.
    """

    session: str
    epoch: int
    inbound: int
    outbound: int
    token: int
    until_ns: int
    stuck: Stuck | None


async def list_sessions(state: StateStore) -> list[SessionState]:
    """All sessions that the store knows, by name.

    Raises:
        Unavailable: the store is away.
    """
    stuck = await state.hash_get_all(STUCK_KEY)
    found = []
    for key in await state.keys(STATE_PREFIX):
        stored = await state.get_versioned(key)
        if stored is None or not stored[1]:
            continue
        session = key.removeprefix(STATE_PREFIX)
        numbers, until_ns = numbers_of(stored[1])
        waits = _applies(stuck.get(session), numbers)
        found.append(
            SessionState(session, numbers.epoch, numbers.inbound, numbers.outbound, stored[0], until_ns, waits)
        )
    return sorted(found, key=lambda one: one.session)


def _applies(noted: bytes | None, numbers: SequenceNumbers) -> Stuck | None:
    """What was noted, if the session still stands there."""
    if noted is None:
        return None
    one = json.loads(noted)
    if (one["epoch"], one["msg_seq_num"]) != (numbers.epoch, numbers.inbound):
        return None
    return Stuck(one["msg_seq_num"], one["held"], one["since_ns"])


async def note_stuck(state: StateStore, session: str, numbers: SequenceNumbers, held: int, since_ns: int) -> None:
    """Says in the store that a session waits in vain for the message that is expected next."""
    noted = {"epoch": numbers.epoch, "msg_seq_num": numbers.inbound, "held": held, "since_ns": since_ns}
    await state.write(StateWrites({STUCK_KEY: {session: json.dumps(noted).encode()}}))


async def reset(state: StateStore, session: str, *, now_ns: int, who: str, why: str) -> SessionState:
    """Begins the numbers of a session at 1, in a new epoch; returns where it stands now.

    Raises:
        NotDone: there is no such session, or it was taken over meanwhile.
        Unavailable: the store is away; whether it was done can be seen by listing.
    """
    before = await _found(state, session)
    after = SequenceNumbers(epoch=before.epoch + 1)
    return await _change(state, before, after, what="reset", now_ns=now_ns, who=who, why=why)


async def skip(state: StateStore, session: str, number: int, *, now_ns: int, who: str, why: str) -> SessionState:
    """Gives up a message that a session waits for; returns where it stands now.

    Raises:
        NotDone: there is no such session, it waits for another message, or it was taken over meanwhile.
        Unavailable: as `reset`.
    """
    before = await _found(state, session)
    if before.inbound != number:
        raise NotDone(
            f"{session} waits for MsgSeqNum {before.inbound}, not {number}: only the message that is expected next can "
            "be skipped"
        )
    after = SequenceNumbers(before.epoch, number + 1, before.outbound)
    return await _change(state, before, after, what="skip", now_ns=now_ns, who=who, why=why)


async def audit(state: StateStore) -> list[dict[str, object]]:
    """What was done by hand, oldest first."""
    return [json.loads(entry) for _, entry in sorted((await state.hash_get_all(AUDIT_KEY)).items())]


async def _found(state: StateStore, session: str) -> SessionState:
    sessions = await list_sessions(state)
    for one in sessions:
        if one.session == session:
            return one
    names = ", ".join(one.session for one in sessions) or "none yet"
    raise NotDone(f"there is no session {session!r}; the store knows {names}")


async def _change(
    state: StateStore, before: SessionState, after: SequenceNumbers, *, what: str, now_ns: int, who: str, why: str
) -> SessionState:
    """Takes the session over and writes its numbers; what was done is on record before it is."""
    session = before.session
    taken = await state.take_over(state_key(session), now_ns)
    numbers = numbers_of(taken.value)[0] if taken.value else SequenceNumbers()
    if (numbers.epoch, numbers.inbound) != (before.epoch, before.inbound):
        raise NotDone(f"{session} has moved on meanwhile, to MsgSeqNum {numbers.inbound}: look at it again")
    entry = {
        "at_ns": now_ns,
        "what": what,
        "session": session,
        "from": {"epoch": before.epoch, "inbound": before.inbound, "outbound": before.outbound},
        "to": {"epoch": after.epoch, "inbound": after.inbound, "outbound": after.outbound},
        "who": who,
        "why": why,
    }
    await state.write(StateWrites({AUDIT_KEY: {f"{now_ns:020}:{session}": json.dumps(entry).encode()}}))
    if not await state.put_if_newer(state_key(session), taken.version, stored_value(after, before.until_ns)):
        raise NotDone(f"{session} has just logged on elsewhere: nothing was changed, try again")
    return SessionState(session, after.epoch, after.inbound, after.outbound, taken.version, before.until_ns, None)
