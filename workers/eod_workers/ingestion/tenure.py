"""Who serves a FIX session: one connection at a time, on whichever replica; whoever takes it over later wins.

The numbers of a session are a versioned value in the state store. Each logon takes the value over, which raises its
version, atomically and to one that nobody else is given: that version is the *token* of the connection's `Tenure`. It
saves numbers under its token for as long as it lasts, and the store refuses them as soon as anybody has taken over
since. The one who is refused has been superseded: it hangs up and reads no more.

Fencing in the store keeps the numbers right; it cannot keep a zombie from appending what it has read, and need not.
Three rules together make every trade count once, whatever is appended, by whom and how late:

1. A number is saved only behind the log's acknowledgement of everything up to it (`writer`), and only under the token
   of who read it. So whoever takes over begins at or below the first delivery that is not on the log, and asks for
   everything from there by ResendRequest(2) (FIX 4.4 vol. 2, message recovery). Nothing is lost.
2. The epoch belongs to the numbers, not to the connection: it changes when MsgSeqNum(34) begins again, and only then.
   What is sent again with PossDupFlag(43)=Y carries the same (session, epoch, MsgSeqNum) wherever it is received.
3. Downstream a trade is (session, ExecID(17)): one that was taken already is not taken again, under whatever number.
   See `pnl.book` and the regulatory store.

What we have sent is kept for the counterparty in the same way: Reject(3) and BusinessMessageReject(j) are saved under
the same token, before the numbers that they belong to. Whoever takes over finds those of all messages whose numbers are
saved, and sends them again when asked; any other message is asked for again, and rejected again.

For the same reason, what a superseded connection has read already goes to the log all the same. The successor asks for
it again, but the counterparty may fill the gap instead (SequenceReset-GapFill), or have reset the numbers with its
Logon(A): then it is the only copy.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

from eod_workers.fix.sent import Kept
from eod_workers.fix.session import SequenceNumbers
from eod_workers.ports import StateStore

OUTBOUND_HEADROOM = 1_000
"""Outbound numbers reserved beyond the last saved one: after a crash we go on above all that we may have sent, and the
counterparty closes the gap with a ResendRequest. A number that is too low would end the session."""

MAX_KEPT_BYTES = 16 << 10
"""Of the rejections of one session that are kept, the latest. All are written whenever one is new."""

_NS_PER_S = 1_000_000_000


@dataclass(slots=True, eq=False)
class Tenure:
    """One connection's time with a session: its token, the numbers as they move on, and what was sent under them.

    They begin at 1 again at `until_ns` (nanoseconds since the Unix epoch), whoever serves the session then; 0: never.
    """

    session: str
    token: int
    sequence: SequenceNumbers
    until_ns: int = 0
    rejections: Kept = field(default_factory=lambda: Kept(MAX_KEPT_BYTES))
    saved_changes: int = 0
    """Of `rejections`, so many changes are in the store."""
    left: bool = False
    """Whether the connection has ended."""


STATE_PREFIX = "fix:session:"
"""Prefix of the keys of sessions."""


def state_key(session: str) -> str:
    """Where the numbers of a FIX session are kept."""
    return f"{STATE_PREFIX}{session}"


def sent_key(session: str) -> str:
    """Where the rejections that were sent in a FIX session are kept."""
    return f"fix:sent:{session}"


def owner_key(session: str) -> str:
    """Where the name of the ingestion that serves a FIX session, or served it last, is kept, under its token."""
    return f"fix:owner:{session}"


def stored_value(numbers: SequenceNumbers, until_ns: int) -> bytes:
    """Numbers as they are stored, with the end of the day that they are of."""
    value = {"epoch": numbers.epoch, "inbound": numbers.inbound, "outbound": numbers.outbound}
    return json.dumps(value | ({"until_ns": until_ns} if until_ns else {})).encode()


def numbers_of(value: bytes) -> tuple[SequenceNumbers, int]:
    """What `stored_value` was given."""
    stored = json.loads(value)
    until_ns = stored.pop("until_ns", 0)
    return SequenceNumbers(**stored), until_ns


async def begin(
    state: StateStore, session: str, now_ns: int, before: Tenure | None = None, until_ns: int = 0, owner: str = ""
) -> Tenure | None:
    """Takes a session over from whoever serves it; None if somebody else has taken it from us meanwhile.

    The numbers are those in the store. Only if nobody else has served the session since `before`, a tenure of this
    very process, they are its numbers: these are ahead of the store by what the log has not acknowledged yet, and the
    same writer is about to append that.

    A session that the store does not know begins at 1, in an epoch that is the time of day in seconds: a store that
    has lost everything must not make an epoch of last week come again, for other deliveries.

    If the day of the numbers has ended, they begin at 1 in the next epoch. `until_ns` is when the next day ends.
    `owner` is the name of this ingestion, under which others can ask it about the session (see `claims`).

    Raises:
        Unavailable: the store is away; the session may have been taken over or not.
        TypeError: the key is in use for something else.
        ValueError: what is kept of its rejections is none of ours.
    """
    taken = await state.take_over(state_key(session), now_ns)
    ours = before is not None and taken.previous in {0, before.token}
    tenure = Tenure(session, taken.version, SequenceNumbers(), until_ns)
    if before is not None and ours:
        tenure.sequence, ended_ns, tenure.rejections = before.sequence, before.until_ns, before.rejections
        tenure.saved_changes = before.saved_changes if taken.previous else -1
    elif taken.value:
        tenure.sequence, ended_ns = numbers_of(taken.value)
        if (sent := await state.get_versioned(sent_key(session))) is not None:
            tenure.rejections = Kept.decode(sent[1], tenure.sequence.epoch, MAX_KEPT_BYTES)
    else:
        tenure.sequence, ended_ns = SequenceNumbers(epoch=max(1, now_ns // _NS_PER_S)), 0
    if ended_ns and now_ns >= ended_ns:
        tenure.sequence, ours = SequenceNumbers(epoch=tenure.sequence.epoch + 1), False
        tenure.rejections = Kept(MAX_KEPT_BYTES)
    if owner and not await state.put_if_newer(owner_key(session), tenure.token, owner.encode()):
        return None
    return tenure if ours or await save(state, tenure, tenure.sequence) else None


async def save(state: StateStore, tenure: Tenure, numbers: SequenceNumbers) -> bool:
    """Saves what was sent, then numbers, the outbound one with its headroom; False if somebody has taken over.

    Raises:
        Unavailable: the store is away.
    """
    changes = tenure.rejections.changes
    if changes != tenure.saved_changes and tenure.rejections.messages:
        kept = tenure.rejections.encode(tenure.sequence.epoch)
        if not await state.put_if_newer(sent_key(tenure.session), tenure.token, kept):
            return False
        tenure.saved_changes = changes
    value = stored_value(replace(numbers, outbound=numbers.outbound + OUTBOUND_HEADROOM), tenure.until_ns)
    return await state.put_if_newer(state_key(tenure.session), tenure.token, value)
