"""What a connection, a session or all of them together may cost, and what is said where that ends.

Nobody who has not logged on can make us keep or do much; nobody who has can at the cost of the others. `LIMITS` is the
whole list, which docs/fix.md shows.
"""

from __future__ import annotations

from typing import NamedTuple

from eod_workers.fix.frames import MAX_FRAME_BYTES, MAX_GARBAGE_BYTES
from eod_workers.fix.rules import MAX_HEARTBEAT_S
from eod_workers.fix.session import MAX_HELD, MAX_HELD_BYTES
from eod_workers.trades.dates import MAX_AGE_DAYS, MAX_AHEAD_DAYS
from eod_workers.trades.executions import MAX_ID_BYTES, MAX_NAME_BYTES

LOGON_WITHIN_S = 10.0
"""How long a connection may take until its Logon(A) has come."""
READS_NOTHING_S = 30.0
"""How long a counterparty may leave unread what we have written; meanwhile we read nothing of its."""
LEAVE_WITHIN_S = 5.0
"""How long the rest of what we have written may take when we hang up."""
MAX_COMP_ID_BYTES = 64
"""Of each CompID and SubID of a Logon(A): they are in everything that is kept about a session."""
LETTERS_AT_ONCE, LETTERS_PER_S = 1_000, 50
"""Dead letters of a session, each with as many more as it has KiB. Those of a close must not crowd out its P&L."""
STRANGERS_AT_ONCE, STRANGERS_PER_S = 100, 5
"""Dead letters about connections that never logged on, of all together."""
MAX_IN_FLIGHT_BYTES = 16 << 20
"""What was read and is not yet on the log, by what it costs in memory."""
LETTER_BYTES, FRAME_BYTES = 1_500, 100
"""What a dead letter costs besides its bytes, and a frame that is no trade; `make hostile` holds them to that."""
OUTBOX_MESSAGES = 64
"""Answers that pile up before they are written and, where they are not read, no more is."""

_NS = 1_000_000_000


class Budget:
    """So many at once, and so many a second from then on."""

    def __init__(self, at_once: float, per_s: float) -> None:
        """Begins whole."""
        self._at_once = self._left = at_once
        self._per_s = per_s
        self._at_ns = 0

    def spend(self, count: float, now_ns: int) -> bool:
        """Takes so many if there are, else nothing. What costs more than there can be is taken when all are there."""
        grown = (now_ns - self._at_ns) / _NS * self._per_s if self._at_ns else 0.0
        self._left = min(self._at_once, self._left + max(0.0, grown))
        self._at_ns = now_ns
        if min(count, self._at_once) > self._left:
            return False
        self._left = max(0.0, self._left - count)
        return True


class Limit(NamedTuple):
    """One of them: what is limited and how far, by which setting, why, and what becomes of what is beyond."""

    what: str
    value: str
    setting: str
    why: str
    beyond: str


LIMITS = (
    Limit(
        "a Logon(A) after connecting", f"{LOGON_WITHIN_S:g} s", "", "a silent socket is none of a counterparty",
        "hung up on",
    ),
    Limit(
        "bytes that are no frame before a Logon(A)", "none", "", "who does not speak FIX will not begin to",
        "hung up on; the bytes are on record",
    ),
    Limit(
        "a CompID or a SubID", f"{MAX_COMP_ID_BYTES} bytes", "", "it is in all that is kept about a session",
        "hung up on without a word",
    ),
    Limit(
        "HeartBtInt(108) of a Logon(A)", f"0 to {MAX_HEARTBEAT_S:,} s", "",
        "who has gone without a word is missed after 2.4 of it; 0 is FIX's for never",
        "the Logon is refused, with the reason",
    ),
    Limit(
        "SendingTime(52) from our clock", "86,400 s", "EOD_FIX_SENDING_TIME_WITHIN_S",
        "what is of another day is a replay or a broken clock, and not of now",
        "rejected (373=10), a dead letter, and logged out",
    ),
    Limit(
        "TransactTime(60) from the time of its report",
        f"{MAX_AGE_DAYS:,} days before it to {MAX_AHEAD_DAYS} behind it", "",
        "what is booked late or cancelled is years old, not of 1970", "rejected, and a dead letter",
    ),
    Limit(
        "connections", "1,000", "EOD_FIX_MAX_CONNECTIONS", "each costs a descriptor and buffers",
        "who has not logged on makes room, the oldest of the address that has most; where all have, the new one is "
        "hung up on, and the replica is not ready",
    ),
    Limit(
        "the name of a trader, a strategy, an account or a symbol", f"{MAX_NAME_BYTES} bytes", "",
        "positions, snapshots and caches are by names", "rejected, and a dead letter",
    ),
    Limit(
        "an ExecID or another identifier", f"{MAX_ID_BYTES} bytes", "", "it is remembered with its trade",
        "rejected, and a dead letter",
    ),
    Limit(
        "a message", "65,536 bytes", "EOD_FIX_MAX_MESSAGE_BYTES", "a fill has some hundred bytes",
        "rejected, and a dead letter",
    ),
    Limit(
        "a frame", f"{MAX_FRAME_BYTES:,} bytes", "", "a length that is wrong must not be waited for",
        "garbage; the session asks for it again",
    ),
    Limit(
        "garbage without an end in sight", f"{MAX_GARBAGE_BYTES:,} bytes", "", "it is kept until a frame begins",
        "a dead letter of its own",
    ),
    Limit(
        "messages of a session", "as many as it sends", "EOD_FIX_MESSAGES_PER_S", "terms of a counterparty",
        "read no faster",
    ),
    Limit(
        "messages that wait behind a gap", f"{MAX_HELD:,} of a session, {MAX_HELD_BYTES >> 20} MiB of all", "",
        "they are kept in memory", "set aside, and asked for again when the gap is closed",
    ),
    Limit(
        "dead letters of a session", f"{LETTERS_AT_ONCE:,} at once and {LETTERS_PER_S} a second, fewer of long ones",
        "", "each is read by somebody, and listed where the positions are",
        "the bytes go to `sessions.raw`, and one letter says how many",
    ),
    Limit(
        "dead letters about connections that never logged on",
        f"{STRANGERS_AT_ONCE} at once and {STRANGERS_PER_S} a second", "", "anybody can cause them",
        "the bytes go to `sessions.raw`",
    ),
    Limit(
        "what was read and is not on the log", f"{MAX_IN_FLIGHT_BYTES >> 20} MiB of memory", "",
        "a log that is slow must not cost memory",
        "no socket is read, a new one neither; what waits for a partition that nobody leads counts half",
    ),
    Limit(
        "what was written and is not read", f"{READS_NOTHING_S:g} s", "", "answers pile up",
        "nothing more is read of that counterparty meanwhile; then hung up on",
    ),
)  # fmt: skip
