"""The FIX session protocol (FIX 4.4 vol. 2) as a state machine without I/O: frames in, frames and deliveries out.

One class serves both sides. Application messages are delivered in the order of MsgSeqNum, each once; what arrives ahead
of a gap is held, and the gap is asked for with a ResendRequest as soon as it is seen, so that many gaps can be on their
way at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from eod_workers.fix.fields import Fields, format_timestamp
from eod_workers.fix.frames import frame

MAX_HELD = 20_000
"""Messages held ahead of a gap; a message beyond that is set aside and asked for again."""

RETRY_RESEND_S = 2.0
"""A gap that has not moved for this long is asked for again: the resend may itself have been garbled."""

_MAX_DIGITS = 18  # a number of more fits no column, and int() refuses very long texts in its own words
_TEST_AFTER = 1.2  # heartbeat intervals of silence until a TestRequest, and as many again until we hang up
_HEARTBEAT_S = 30  # of a counterparty that names no usable HeartBtInt(108)
_LOGON, _HEARTBEAT, _TEST, _RESEND, _REJECT, _RESET, _LOGOUT = b"A", b"0", b"1", b"2", b"3", b"4", b"5"
_ADMIN = frozenset((_LOGON, _HEARTBEAT, _TEST, _RESEND, _REJECT, _RESET, _LOGOUT))


class Delivered(NamedTuple):
    """An application message in its turn."""

    msg_seq_num: int
    frame: bytes
    fields: Fields
    received_at_ns: int


@dataclass(slots=True)
class SequenceNumbers:
    """What outlives a connection. `epoch` grows with every reset; `inbound` and `outbound` are the next numbers."""

    epoch: int = 1
    inbound: int = 1
    outbound: int = 1


Resend = Callable[[int, int], Iterable[tuple[int, bytes]]]
"""(first, last) → the application messages among them as (MsgSeqNum, whole frame with PossDupFlag=Y)."""


def _nothing_to_resend(_first: int, _last: int) -> Iterable[tuple[int, bytes]]:
    return ()


def _number(fields: Fields, tag: bytes) -> int | None:
    """The value of a field that must be a whole number: digits alone, which int() would not insist on."""
    text = fields.get(tag, b"")
    return int(text) if text.isdigit() and len(text) <= _MAX_DIGITS else None


def _logged_out(fields: Fields) -> str:
    """What a Logout(5) says."""
    said = fields.get(b"58", b"").decode("utf-8", "backslashreplace")
    return f"the counterparty has logged out{said and ': '}{said}"


class Session:
    """One connection's worth of a FIX session.

    The owner feeds `received` and `tick`, and after each takes what piled up: `outbox` (frames to write), `delivered`,
    `aside` (received frames that moved no application state) and `closed` (why the connection must end, or "").
    """

    def __init__(
        self,
        *,
        begin_string: bytes,
        sender: bytes,
        target: bytes,
        sequence: SequenceNumbers,
        now_ns: Callable[[], int],
        heartbeat_s: int = _HEARTBEAT_S,
        initiator: bool = False,
        resend: Resend = _nothing_to_resend,
    ) -> None:
        """`sender` and `target` are our and their CompID."""
        self.begin_string = begin_string
        self.sender = sender
        self.target = target
        self.sequence = sequence
        self.heartbeat_s = heartbeat_s
        self.initiator = initiator
        self.logged_on = False
        self.outbox: list[bytes] = []
        self.delivered: list[Delivered] = []
        self.aside: list[bytes] = []
        self.closed = ""
        self._resend = resend
        self._now_ns = now_ns
        self._held: dict[int, Delivered] = {}
        self._highest = sequence.inbound - 1
        self._logout_sent = False
        self._last_sent_ns = self._last_received_ns = self._progress_ns = now_ns()
        self._tested = False

    # --- sending --------------------------------------------------------------------------------------------

    def send(self, msg_type: bytes, body: bytes = b"") -> int:
        """Puts a message into the outbox; returns its MsgSeqNum. `body`: the fields after the header, each with SOH."""
        number = self.sequence.outbound
        self.sequence.outbound = number + 1
        self._put(number, msg_type, body)
        return number

    def _put(self, number: int, msg_type: bytes, body: bytes) -> None:
        now = self._now_ns()
        self._last_sent_ns = now
        head = b"35=%b\x0149=%b\x0156=%b\x0134=%d\x0152=%b\x01" % (
            msg_type,
            self.sender,
            self.target,
            number,
            format_timestamp(now),
        )
        self.outbox.append(frame(self.begin_string, head + body))

    def logon(self, *, reset: bool = False) -> None:
        """Opens the session (initiator). `reset` asks both sides to begin at 1 in a new epoch."""
        if reset:
            self.sequence.epoch += 1
            self.sequence.inbound = self.sequence.outbound = 1
            self._highest = 0
        flag = b"141=Y\x01" if reset else b""
        self.send(_LOGON, b"98=0\x01108=%d\x01%b" % (self.heartbeat_s, flag))

    def logout(self, text: str = "") -> None:
        """Says goodbye; the connection ends when the other side has answered."""
        if not self._logout_sent:
            self._logout_sent = True
            self.send(_LOGOUT, b"58=%b\x01" % text.encode() if text else b"")

    def reject(self, fields: Fields, tag: bytes, text: str) -> None:
        """Reject(3) of a received message: the value of `tag` is incorrect (SessionRejectReason 5)."""
        body = b"45=%b\x01371=%b\x01372=%b\x01373=5\x0158=%b\x01"
        clean = text.encode("latin-1", "replace").replace(b"\x01", b"|")
        self.send(_REJECT, body % (fields.get(b"34", b"0"), tag, fields.get(b"35", b""), clean))

    # --- receiving ------------------------------------------------------------------------------------------

    def received(self, raw: bytes, fields: Fields, received_at_ns: int) -> None:
        """Takes one well-formed frame, read from the socket at `received_at_ns`."""
        self._last_received_ns = received_at_ns
        self._tested = False
        kind = fields.get(b"35", b"")
        number = _number(fields, b"34")
        if number is None:
            self._refuse(raw, "MsgSeqNum(34) is missing or no number")
            return
        if fields.get(b"49") != self.target or fields.get(b"56") != self.sender:
            self._refuse(raw, "SenderCompID(49) or TargetCompID(56) are not those of this session")
            return
        if not self.logged_on and not self._may_come_first(raw, fields, kind, number):
            return
        expected = self.sequence.inbound
        if kind == _RESET and fields.get(b"123", b"N") != b"Y":
            self._sequence_reset(raw, fields)
        elif number < expected:
            if fields.get(b"43") == b"Y":
                self.aside.append(raw)
            else:
                self._refuse(raw, f"MsgSeqNum too low, expecting {expected} but received {number}")
        elif number > expected:
            self._ahead(Delivered(number, raw, fields, received_at_ns), kind)
        else:
            self._take(Delivered(number, raw, fields, received_at_ns), kind)
            while self._held and not self.closed:
                following = self._held.pop(self.sequence.inbound, None)
                if following is None:
                    break
                self._take(following, following.fields.get(b"35", b""))

    def _may_come_first(self, raw: bytes, fields: Fields, kind: bytes, number: int) -> bool:
        """Whether a message that comes before both Logons is to be taken; if not, it has been dealt with."""
        if kind == _LOGON:
            if fields.get(b"141") == b"Y":
                self._reset(number)
        elif kind == _LOGOUT:  # our Logon is refused, under whatever number the other side is at
            self.aside.append(raw)
            self.closed = _logged_out(fields)
            return False
        elif kind != _REJECT:
            self._refuse(raw, "the first message must be a Logon(A)")
            return False
        return True

    def took(self, count: int, received_at_ns: int) -> None:
        """The owner has dealt with the next `count` messages itself: application messages, each in its turn."""
        self._last_received_ns = self._progress_ns = received_at_ns
        self._tested = False
        self.sequence.inbound += count
        self._highest = max(self._highest, self.sequence.inbound - 1)

    def _reset(self, number: int) -> None:
        """ResetSeqNumFlag(141)=Y on a Logon: both directions begin again, which is a new epoch."""
        if not self.initiator:
            self.sequence.epoch += 1
            self.sequence.outbound = 1
        self.sequence.inbound = number
        self._highest = number - 1
        self.aside.extend(self.abandon_held())

    def _refuse(self, raw: bytes, why: str) -> None:
        self.aside.append(raw)
        self.logout(why)
        self.closed = why

    def _ahead(self, message: Delivered, kind: bytes) -> None:
        """A message ahead of its turn: acts on what cannot wait, holds it, asks for what is missing."""
        number = message.msg_seq_num
        first, self._highest = self._highest + 1, max(self._highest, number)
        if kind == _LOGON:
            self._logged_on(message.fields)
        elif kind == _RESEND:
            self._answer_resend(message.fields)
        if number in self._held or len(self._held) >= MAX_HELD:
            self.aside.append(message.frame)
        else:
            self._held[number] = message
        if first < number:
            self._request(first, number - 1)

    def _request(self, first: int, last: int) -> None:
        self._progress_ns = self._now_ns()
        self.send(_RESEND, b"7=%d\x0116=%d\x01" % (first, last))

    def _take(self, message: Delivered, kind: bytes) -> None:
        """A message in its turn."""
        number = message.msg_seq_num
        ahead = number > self._highest
        self.sequence.inbound = number + 1
        self._highest = max(self._highest, number)
        self._progress_ns = self._last_received_ns
        if kind not in _ADMIN:
            self.delivered.append(message)
            return
        self.aside.append(message.frame)
        fields = message.fields
        if kind == _LOGON:
            self._logged_on(fields)
        elif kind == _TEST:
            self.send(_HEARTBEAT, b"112=%b\x01" % fields.get(b"112", b""))
        elif kind == _RESEND and ahead:
            self._answer_resend(fields)
        elif kind == _RESET:
            self._gap_fill(fields)
        elif kind == _LOGOUT:
            self._answer_logout(fields)

    def _logged_on(self, fields: Fields) -> None:
        if self.logged_on:
            return
        self.logged_on = True
        if self.initiator:
            return
        interval = _number(fields, b"108")
        self.heartbeat_s = _HEARTBEAT_S if interval is None else interval
        flag = b"141=Y\x01" if fields.get(b"141") == b"Y" else b""
        self.send(_LOGON, b"98=0\x01108=%d\x01%b" % (self.heartbeat_s, flag))

    def _answer_logout(self, fields: Fields) -> None:
        self.logout()
        self.closed = _logged_out(fields)

    def _answer_resend(self, fields: Fields) -> None:
        """Resends application messages with PossDupFlag=Y and fills the gaps between them."""
        first, last = _number(fields, b"7"), _number(fields, b"16")
        if first is None or last is None:
            self.reject(fields, b"7", "ResendRequest needs BeginSeqNo(7) and EndSeqNo(16) as numbers")
            return
        highest = self.sequence.outbound - 1
        last = highest if last == 0 else min(last, highest)
        following = first = max(first, 1)
        for number, raw in self._resend(first, last):
            if number > following:
                self._fill(following, number)
            self.outbox.append(raw)
            following = number + 1
        if following <= last:
            self._fill(following, last + 1)

    def _fill(self, number: int, new: int) -> None:
        sending_time = format_timestamp(self._now_ns())
        self._put(number, _RESET, b"43=Y\x01122=%b\x01123=Y\x0136=%d\x01" % (sending_time, new))

    def _gap_fill(self, fields: Fields) -> None:
        new = _number(fields, b"36")
        if new is None or new < self.sequence.inbound:
            self.reject(fields, b"36", f"NewSeqNo(36) must be a number above {self.sequence.inbound - 1}")
            return
        self._skip_to(new)

    def _sequence_reset(self, raw: bytes, fields: Fields) -> None:
        """Reset mode: whatever MsgSeqNum says, the next number is NewSeqNo, which may only grow."""
        self.aside.append(raw)
        new = _number(fields, b"36")
        if new is None or new < self.sequence.inbound:
            self.reject(fields, b"36", f"NewSeqNo(36) must be a number of at least {self.sequence.inbound}")
            return
        self._skip_to(new)
        while not self.closed and (following := self._held.pop(self.sequence.inbound, None)) is not None:
            self._take(following, following.fields.get(b"35", b""))

    def _skip_to(self, new: int) -> None:
        """What is missing below `new` will not come. What is held of it has come: it is taken in its turn."""
        self._highest = max(self._highest, new - 1)
        for number in sorted(n for n in self._held if n < new):
            if self.closed:
                return  # by a held Logout: what is behind it was never in its turn
            if (message := self._held.pop(number, None)) is not None:  # a held GapFill may have taken it
                self._take(message, message.fields.get(b"35", b""))
        self.sequence.inbound = max(self.sequence.inbound, new)

    # --- time -----------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Heartbeats, TestRequests, second tries for gaps. To be called a few times a second."""
        now = self._now_ns()
        if not self.logged_on or self.closed:
            return
        if self._held and (now - self._progress_ns) / 1e9 >= RETRY_RESEND_S:
            self._request(self.sequence.inbound, min(self._held) - 1)
        if (now - self._last_sent_ns) / 1e9 >= self.heartbeat_s > 0:
            self.send(_HEARTBEAT)
        silence = (now - self._last_received_ns) / 1e9
        if self.heartbeat_s and silence >= 2 * _TEST_AFTER * self.heartbeat_s:
            self.closed = f"nothing heard for {silence:.0f} s, not even an answer to a TestRequest"
        elif self.heartbeat_s and silence >= _TEST_AFTER * self.heartbeat_s and not self._tested:
            self._tested = True
            self.send(_TEST, b"112=%d\x01" % now)

    def not_listening(self) -> None:
        """Called while the owner does not read: what we hear nothing of is then not the counterparty's silence."""
        self._last_received_ns = self._now_ns()

    @property
    def held(self) -> int:
        """Messages waiting behind a gap."""
        return len(self._held)

    def abandon_held(self) -> list[bytes]:
        """The held frames, when the connection ends before their gap was filled: they will be asked for again."""
        frames = [self._held[number].frame for number in sorted(self._held)]
        self._held.clear()
        return frames
