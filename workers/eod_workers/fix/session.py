"""The FIX session protocol (FIX 4.4 vol. 2) as a state machine without I/O: frames in, frames and deliveries out.

One class serves both sides. Application messages are delivered in the order of MsgSeqNum, each once; what arrives ahead
of a gap is held, and the gap is asked for with a ResendRequest as soon as it is seen, so that many gaps can be on their
way at the same time. A message that cannot be read by the dictionary is rejected in its turn, and takes its number: a
counterparty that is wrong once is not wrong for ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from eod_workers.fix.fields import Fields, format_timestamp, parse_timestamp_ns, text_of
from eod_workers.fix.reading import WORDING, Message, Problem, Reason
from eod_workers.fix.rules import LENIENT, Rules, number_of
from eod_workers.fix.sent import Kept, SentMessages
from eod_workers.fix.writing import NOTHING_MORE, compose

MAX_HELD = 20_000
"""Messages held ahead of a gap; a message beyond that is set aside and asked for again."""

MAX_HELD_BYTES = 96 << 20
"""Of the messages held by all sessions that share one `Room`, as what they cost in memory."""

RETRY_RESEND_S = 2.0
"""A gap that has not moved for this long is asked for again: the resend may itself have been garbled."""

MAX_ASKS = 8
"""Times that a gap is asked for without anything moving. Then the session is stuck: what is missing cannot come."""

TEST_REQUEST_ID = b"TEST"
"""TestReqID(112) of a TestRequest that a silence has caused."""

_PUNCTUATION = re.compile(r"[%/:>]")  # of the names of sessions
_TEST_AFTER = 1.2  # heartbeat intervals of silence until a TestRequest, and as many again until we hang up
_HEARTBEAT_S = 30  # until a Logon(A) says otherwise
_LOGON, _HEARTBEAT, _TEST, _RESEND, _REJECT, _RESET, _LOGOUT = b"A", b"0", b"1", b"2", b"3", b"4", b"5"
_NOT_FIX = b"n"  # XMLnonFIX: wraps what belongs to neither the session nor an application
_ADMIN = frozenset((_LOGON, _HEARTBEAT, _TEST, _RESEND, _REJECT, _RESET, _LOGOUT, _NOT_FIX))
_LAST_REASON_42 = Reason.INVALID_MSG_TYPE
_UNNAMED = frozenset((Reason.COMP_ID, Reason.SENDING_TIME, Reason.INVALID_MSG_TYPE))
_COMP_IDS = frozenset((b"49", b"56"))
_UNNAMED_VERSION = b"FIX.4.4"
_UNSUPPORTED = 3  # BusinessRejectReason(380): unsupported message type
# What a message of ours says in its header when the one that it answers came by way of somebody else.
_PAIRS = ((50, 57), (142, 143), (115, 128), (116, 129), (144, 145))
_REVERSED = {ours: b"%d" % theirs for one, other in _PAIRS for ours, theirs in ((one, other), (other, one))}


class Delivered(NamedTuple):
    """An application message in its turn."""

    msg_seq_num: int
    frame: bytes
    message: Message
    received_at_ns: int


class Refused(NamedTuple):
    """A message that was rejected in its turn, and why."""

    msg_seq_num: int
    frame: bytes
    problem: Problem
    received_at_ns: int


class Room:
    """Memory for messages that are held, of one session or of several together."""

    def __init__(self, size: int = MAX_HELD_BYTES) -> None:
        """`size` in bytes."""
        self._left = size

    def take(self, frame: bytes) -> bool:
        """Makes room for a message, if there is any."""
        cost = _cost(frame)
        if cost > self._left:
            return False
        self._left -= cost
        return True

    def give_back(self, frame: bytes) -> None:
        """The message is no longer held."""
        self._left += _cost(frame)


def _cost(frame: bytes) -> int:
    """A frame, its values once more, and some thirty objects."""
    return 2 * len(frame) + 3_000


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


def _logged_out(fields: Fields) -> str:
    """What a Logout(5) says."""
    said = text_of(fields.get(b"58", b""))
    return f"the counterparty has logged out{said and ': '}{said}"


def name_of(begin_string: bytes, sender: bytes, target: bytes, sender_sub: bytes = b"", target_sub: bytes = b"") -> str:
    """What a session is called: SENDER->TARGET as the counterparty writes them, after the version if it is not 4.4.

    Where SenderSubID(50) and TargetSubID(57) tell sessions apart, each stands behind its CompID: SENDER/SUB->TARGET.

    Sessions are told apart by BeginString(8), too: a counterparty may speak two versions under the same CompIDs, each
    with numbers and ExecIDs of its own. What would look like a part of the name is escaped in a CompID, as in a URL, so
    that no two sessions have one name.
    """
    version = "" if begin_string == _UNNAMED_VERSION else f"{text_of(begin_string)}:"
    sides = ((sender, sender_sub), (target, target_sub))
    return version + "->".join(_named(side) + (f"/{_named(part)}" if part else "") for side, part in sides)


def _named(comp_id: bytes) -> str:
    return _PUNCTUATION.sub(lambda found: f"%{ord(found[0]):02X}", text_of(comp_id))


def asks_for_reset(message: Message) -> bool:
    """Whether a message is a Logon(A) that begins the numbers of a live session again, at 1."""
    fields = message.fields
    return (
        fields.get(b"35") == _LOGON
        and fields.get(b"141") == b"Y"
        and fields.get(b"43") != b"Y"
        and number_of(fields, b"34") == 1
        and message.problem is None
    )


class Session:
    """One connection's worth of a FIX session.

    The owner feeds `received` and `tick`, and after each takes what piled up: `outbox` (frames to write), `delivered`,
    `refused`, `aside` (received frames that moved no application state) and `closed` (why the connection must end, or
    "").
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
        rejections: SentMessages | None = None,
        rules: Rules = LENIENT,
        header: Mapping[int, bytes] = NOTHING_MORE,
        room: Room | None = None,
    ) -> None:
        """`sender` and `target` are our and their CompID, `header` what our headers say besides, by tag.

        `room` is for the messages that wait behind a gap, shared with other sessions; one of its own if none is given.

        Our Reject(3) and BusinessMessageReject(j) are kept in `rejections` and sent again from there, in which case
        `resend` is not asked. Reject is the one session message that may be (FIX 4.4 vol. 2, "SequenceReset").
        """
        self.header = header
        self.begin_string = begin_string
        self.sender = sender
        self.target = target
        self.sequence = sequence
        self.heartbeat_s = heartbeat_s
        self.initiator = initiator
        self.rules = rules
        self.logged_on = False
        self.outbox: list[bytes] = []
        self.delivered: list[Delivered] = []
        self.refused: list[Refused] = []
        self.aside: list[bytes] = []
        self.closed = ""
        self.resets = ""
        """What a Logon(A) whose number is too low is told besides: when the numbers begin again."""
        self._resend = resend if rejections is None else rejections.between
        self._rejections = rejections
        self._now_ns = now_ns
        self._begins = b"8=%b\x01" % begin_string
        self._held: dict[int, Delivered] = {}
        self._room = Room() if room is None else room
        self._highest = sequence.inbound - 1
        self._logout_sent_ns = 0
        self._reset_sent = False
        self._last_sent_ns = self._last_received_ns = self._progress_ns = now_ns()
        self._tested = False
        self._asks = 0

    # --- sending --------------------------------------------------------------------------------------------

    def send(self, msg_type: bytes, body: bytes = b"", more: Mapping[int, bytes] = NOTHING_MORE) -> int:
        """Puts a message into the outbox; returns its MsgSeqNum.

        Args:
            msg_type: MsgType(35).
            body: the fields after the header, each with SOH.
            more: other fields of the header, by tag.
        """
        number = self.sequence.outbound
        self.sequence.outbound = number + 1
        now = self._last_sent_ns = self._now_ns()
        self.outbox.append(
            compose(
                self.begin_string,
                msg_type,
                sender=self.sender,
                target=self.target,
                number=number,
                sending_time=format_timestamp(now),
                body=body,
                more={**self.header, **more} if self.header else more,
            )
        )
        return number

    def logon(self, *, reset: bool = False) -> None:
        """Opens the session (initiator). `reset` asks both sides to begin at 1 in a new epoch."""
        if reset:
            self._new_epoch()
            self.sequence.inbound = 1
            self._highest = 0
            self._reset_sent = True
        flag = b"141=Y\x01" if reset else b""
        self.send(_LOGON, b"98=0\x01108=%d\x01%b" % (self.heartbeat_s, flag))

    def logout(self, text: str = "") -> None:
        """Says goodbye; the connection ends when the other side has answered."""
        if not self._logout_sent_ns:
            self._logout_sent_ns = self._now_ns()
            self.send(_LOGOUT, b"58=%b\x01" % _printable(text) if text else b"")

    def reject(self, message: Message, problem: Problem) -> None:
        """Reject(3) of a received message. Text(58) is the specification's wording of the reason, then the details."""
        fields, reason = message.fields, problem.reason
        text = WORDING[reason] if self.rules.strict else f"{WORDING[reason]}: {problem.detail}"
        body = b"45=%b\x0158=%b\x01" % (fields.get(b"34", b"0"), _printable(text))
        if problem.tag and reason not in _UNNAMED and problem.tag.removeprefix(b"-").isdigit():
            body += b"371=%b\x01" % problem.tag
        if kind := fields.get(b"35"):
            body += b"372=%b\x01" % kind
        if self.begin_string != b"FIX.4.2" or reason <= _LAST_REASON_42:
            body += b"373=%d\x01" % reason
        self._send_rejection(_REJECT, body, _reversed(fields))

    def unsupported(self, message: Message) -> None:
        """BusinessMessageReject(j) of an application message that nobody here handles (BusinessRejectReason 3)."""
        fields = message.fields
        body = b"45=%b\x0158=Unsupported Message Type\x01372=%b\x01380=%d\x01"
        self._send_rejection(b"j", body % (fields[b"34"], fields[b"35"], _UNSUPPORTED), _reversed(fields))

    def _send_rejection(self, msg_type: bytes, body: bytes, more: Mapping[int, bytes]) -> None:
        number = self.send(msg_type, body, more)
        if self._rejections is not None:
            self._rejections.keep(number, msg_type, body, self.outbox[-1], {**self.header, **more})

    def fill_gap(self, first: int) -> None:
        """SequenceReset-GapFill(4), unasked: of the numbers from `first` to now nothing more will come."""
        self._fill(first, self.sequence.outbound)

    def go_on_from(self, sequence: SequenceNumbers, kept: Kept) -> None:
        """Goes on with these numbers, and with what was sent under them, before the numbers begin again."""
        self.sequence = sequence
        if self._rejections is not None:
            self._rejections.kept = kept

    # --- receiving ------------------------------------------------------------------------------------------

    def received(self, raw: bytes, message: Message, received_at_ns: int) -> None:
        """Takes one well-formed frame, read from the socket at `received_at_ns`, and the message that it is."""
        self._last_received_ns = received_at_ns
        self._tested = False
        fields = message.fields
        kind = fields.get(b"35", b"")
        number = number_of(fields, b"34")
        if not self.logged_on and not self._may_come_first(raw, message, kind, number):
            return
        if number is None:
            self._refuse(raw, "MsgSeqNum(34) is missing or no number")
            return
        if not raw.startswith(self._begins):
            self._refuse(raw, self._other_version(raw))
            return
        message.problem = message.problem or self.rules.without_time(fields)
        expected = self.sequence.inbound
        if (wrong := self._not_from_here(message)) is not None:
            self._turn_out(Delivered(number, raw, message, received_at_ns), wrong)
        elif kind == _RESET and fields.get(b"123", b"N") != b"Y":
            self._sequence_reset(Delivered(number, raw, message, received_at_ns))
        elif kind == _LOGON and self.logged_on and asks_for_reset(message):
            self._begin_again(Delivered(number, raw, message, received_at_ns))
        elif self.rules.strict and self._is_out_of_turn(kind, number, message):
            self._take_out_of_turn(raw, kind, message)
        elif number < expected:
            self._too_low(number, raw, message)
        elif number > expected:
            self._ahead(Delivered(number, raw, message, received_at_ns), kind)
        else:
            self._take(Delivered(number, raw, message, received_at_ns), kind)
            while self._held and not self.closed:
                following = self._pop_held(self.sequence.inbound)
                if following is None:
                    break
                self._take(following, following.message.fields.get(b"35", b""))

    def took(self, count: int, received_at_ns: int) -> None:
        """The owner has dealt with the next `count` messages itself: application messages, each in its turn."""
        self._last_received_ns = self._progress_ns = received_at_ns
        self._tested = False
        self.sequence.inbound += count
        self._highest = max(self._highest, self.sequence.inbound - 1)

    def _may_come_first(self, raw: bytes, message: Message, kind: bytes, number: int | None) -> bool:
        """Whether a message that comes before both Logons is to be taken; if not, it has been dealt with.

        Who begins strangely is told nothing: it may be nobody who speaks FIX, or somebody who tries doors.
        """
        fields = message.fields
        ours = fields.get(b"49") == self.target and fields.get(b"56") == self.sender and raw.startswith(self._begins)
        if not ours:
            self._drop(raw, "SenderCompID(49), TargetCompID(56) or BeginString(8) are not those of this session")
        elif kind == _LOGOUT:  # our Logon is refused, under whatever number the other side is at
            self.aside.append(raw)
            self.closed = _logged_out(fields)
        elif kind == _REJECT:
            return True
        elif kind != _LOGON:
            self._drop(raw, "the first message must be a Logon(A)")
        elif message.problem is not None and self.rules.strict:
            self._drop(raw, message.problem.detail)
        elif why := self.rules.why_no_logon(message, self._last_received_ns):
            self._refuse(raw, why)
        elif self.rules.wrong_time(fields, self._last_received_ns) is not None:
            self._drop(raw, "SendingTime(52) is not the time of now")
        else:
            if number is not None and fields.get(b"141") == b"Y":
                self._reset(number)
            return True
        return False

    def _other_version(self, raw: bytes) -> str:
        """What is said of a message whose BeginString(8) is not that of the session (FIX 4.4 vol. 2, "BeginString")."""
        if self.rules.strict:
            return "Incorrect BeginString"
        said = text_of(raw[2 : raw.find(b"\x01")][:16])
        return f"Incorrect BeginString: this session is one of {text_of(self.begin_string)}, not of {said}"

    def _not_from_here(self, message: Message) -> Problem | None:
        """What is wrong with the CompIDs or the clock of a message of a live session: after that, it ends."""
        fields, problem = message.fields, message.problem
        if self.rules.strict and problem is not None and problem.tag in _COMP_IDS:
            return None  # the dictionary says what is wrong with it
        if fields.get(b"49") != self.target or fields.get(b"56") != self.sender:
            detail = "SenderCompID(49) or TargetCompID(56) are not those of this session"
            return Problem(Reason.COMP_ID, b"", detail)
        return self.rules.wrong_time(fields, self._last_received_ns) if self.logged_on else None

    def _turn_out(self, message: Delivered, wrong: Problem) -> None:
        """Ends the session over a message that should not be here.

        FIX 4.4 vol. 2 ("SenderCompID and TargetCompID do not match", "SendingTime accuracy problem"): Reject, its
        number is taken, Logout. Who is lenient does not count one that may be anybody's, nor one out of its turn: it
        is asked for again, and then says the time of then.
        """
        if not self.rules.strict:
            if wrong.reason != Reason.SENDING_TIME or message.msg_seq_num != self.sequence.inbound:
                self._refuse(message.frame, wrong.detail)
                return
            message.message.problem = wrong
            self._take(message, message.message.fields.get(b"35", b""))
            self.logout(wrong.detail)
            self.closed = self.closed or wrong.detail
            return
        self.aside.append(message.frame)
        self.reject(message.message, wrong)
        if message.msg_seq_num == self.sequence.inbound:
            self.sequence.inbound += 1
            self._highest = max(self._highest, message.msg_seq_num)
        self.logout()

    def _reset(self, number: int) -> None:
        """ResetSeqNumFlag(141)=Y on a Logon: both directions begin again, which is a new epoch."""
        if not self.initiator:
            self._new_epoch()
        self._reset_sent = False
        self.sequence.inbound = number
        self._highest = number - 1
        self.aside.extend(self.abandon_held())

    def _new_epoch(self) -> None:
        """Our numbers begin at 1: what was sent under those before will not be asked for."""
        self.sequence.epoch += 1
        self.sequence.outbound = 1
        if self._rejections is not None:
            self._rejections.forget()

    def _begin_again(self, message: Delivered) -> None:
        """A Logon that resets the numbers of a live session, as some do at the end of their day without hanging up."""
        if why := self.rules.why_no_logon(message.message, message.received_at_ns):
            self._refuse(message.frame, why)
            return
        asked = self._reset_sent
        self._reset(message.msg_seq_num)
        if asked:
            self._take(message, _LOGON)
            return
        if self.initiator:
            self._new_epoch()
        self._take(message, _LOGON)
        self._answer_logon(message.message)

    def _is_out_of_turn(self, kind: bytes, number: int, message: Message) -> bool:
        """Whether a sound message is taken although its number is another than is expected."""
        expected = self.sequence.inbound
        if message.problem is not None or message.fields.get(b"43") == b"Y":
            return False
        return (kind == _LOGOUT and number != expected) or (kind == _RESEND and number < expected)

    def _take_out_of_turn(self, raw: bytes, kind: bytes, message: Message) -> None:
        self.aside.append(raw)
        if kind == _LOGOUT:
            self._answer_logout(message.fields)
        else:
            self._answer_resend(message)

    def _drop(self, raw: bytes, why: str) -> None:
        """Ends the connection without a word."""
        self.aside.append(raw)
        self.closed = why

    def _refuse(self, raw: bytes, why: str) -> None:
        """Ends the connection with a Logout that says why."""
        self.aside.append(raw)
        self.logout(why)
        self.closed = why

    def _too_low(self, number: int, raw: bytes, message: Message) -> None:
        fields = message.fields
        if fields.get(b"43") != b"Y":
            more = f": {self.resets}" if self.resets and fields.get(b"35") == _LOGON else ""
            self._refuse(raw, f"MsgSeqNum too low, expecting {self.sequence.inbound} but received {number}{more}")
            return
        self.aside.append(raw)
        if self.rules.strict and fields.get(b"35") != _RESET:
            self._look_at_original_time(message)

    def _look_at_original_time(self, message: Message) -> None:
        """A possible duplicate must say when it was first sent, and that must not be later than it was sent now."""
        original = message.fields.get(b"122")
        if original is None:
            missing = Problem(Reason.REQUIRED_TAG_MISSING, b"122", "OrigSendingTime(122) is missing")
            self.reject(message, missing)
            return
        try:
            later = parse_timestamp_ns(original) > parse_timestamp_ns(message.fields.get(b"52", b""))
        except ValueError:
            return
        if later:
            self.reject(message, Problem(Reason.SENDING_TIME, b"122", "OrigSendingTime(122) is after SendingTime(52)"))
            self.logout()

    def _ahead(self, message: Delivered, kind: bytes) -> None:
        """A message ahead of its turn: acts on what cannot wait, holds it, asks for what is missing."""
        number = message.msg_seq_num
        waiting = bool(self._held)
        first, self._highest = self._highest + 1, max(self._highest, number)
        if kind == _LOGON:
            self._logged_on(message.message)
        elif kind == _RESEND and message.message.problem is None:
            self._answer_resend(message.message)
        if number in self._held or len(self._held) >= MAX_HELD or not self._room.take(message.frame):
            self.aside.append(message.frame)
        else:
            self._held[number] = message
        if self.rules.strict:
            if not waiting:
                self._request(self.sequence.inbound, 0)
        elif first < number:
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
        self._asks = 0
        problem = message.message.problem
        if problem is not None and not (kind == _LOGOUT and not self.rules.strict):
            self.refused.append(Refused(number, message.frame, problem, message.received_at_ns))
            self.reject(message.message, problem)
            return
        if kind not in _ADMIN:
            self.delivered.append(message)
            return
        self.aside.append(message.frame)
        fields = message.message.fields
        if kind == _LOGON:
            self._logged_on(message.message)
        elif kind == _TEST:
            self.send(_HEARTBEAT, b"112=%b\x01" % fields.get(b"112", b""))
        elif kind == _RESEND and ahead:
            self._answer_resend(message.message)
        elif kind == _RESET:
            self._gap_fill(message.message)
        elif kind == _LOGOUT:
            self._answer_logout(fields)

    def _logged_on(self, message: Message) -> None:
        if self.logged_on:
            return
        self.logged_on = True
        if not self.initiator:
            self._answer_logon(message)

    def _answer_logon(self, message: Message) -> None:
        fields = message.fields
        interval = number_of(fields, b"108")
        self.heartbeat_s = self.heartbeat_s if interval is None else interval
        flag = b"141=Y\x01" if fields.get(b"141") == b"Y" else b""
        self.send(_LOGON, b"98=0\x01108=%d\x01%b" % (self.heartbeat_s, flag))

    def _answer_logout(self, fields: Fields) -> None:
        self.logout()
        self.closed = _logged_out(fields)

    def _answer_resend(self, message: Message) -> None:
        """Resends application messages with PossDupFlag=Y and fills the gaps between them."""
        first, last = number_of(message.fields, b"7"), number_of(message.fields, b"16")
        if first is None or last is None:
            detail = "ResendRequest needs BeginSeqNo(7) and EndSeqNo(16) as numbers"
            self.reject(message, Problem(Reason.OUT_OF_RANGE, b"7", detail))
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
        now = self._last_sent_ns = self._now_ns()
        sending_time = format_timestamp(now)
        self.outbox.append(
            compose(
                self.begin_string,
                _RESET,
                sender=self.sender,
                target=self.target,
                number=number,
                sending_time=sending_time,
                original_time=sending_time,
                body=b"36=%d\x01123=Y\x01" % new,
                more=self.header,
            )
        )

    def _gap_fill(self, message: Message) -> None:
        new = number_of(message.fields, b"36")
        if new is None or new < self.sequence.inbound:
            detail = f"NewSeqNo(36) must be a number above {self.sequence.inbound - 1}"
            self.reject(message, Problem(Reason.OUT_OF_RANGE, b"" if self.rules.strict else b"36", detail))
            return
        self._skip_to(new)

    def _sequence_reset(self, message: Delivered) -> None:
        """Reset mode: whatever MsgSeqNum says, the next number is NewSeqNo, which may only grow."""
        self.aside.append(message.frame)
        problem = message.message.problem
        new = number_of(message.message.fields, b"36")
        if problem is None and (new is None or new < self.sequence.inbound):
            detail = f"NewSeqNo(36) must be a number of at least {self.sequence.inbound}"
            problem = Problem(Reason.OUT_OF_RANGE, b"" if self.rules.strict else b"36", detail)
        if problem is not None or new is None:
            if problem is not None:
                self.reject(message.message, problem)
            return
        self._skip_to(new)
        while not self.closed and (following := self._pop_held(self.sequence.inbound)) is not None:
            self._take(following, following.message.fields.get(b"35", b""))

    def _skip_to(self, new: int) -> None:
        """What is missing below `new` will not come. What is held of it has come: it is taken in its turn."""
        self._highest = max(self._highest, new - 1)
        self._asks = 0
        for number in sorted(n for n in self._held if n < new):
            if self.closed:
                return  # by a held Logout: what is behind it was never in its turn
            if (message := self._pop_held(number)) is not None:  # a held GapFill may have taken it
                self._take(message, message.message.fields.get(b"35", b""))
        self.sequence.inbound = max(self.sequence.inbound, new)

    # --- time -----------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Heartbeats, TestRequests, second tries for gaps. To be called a few times a second."""
        now = self._now_ns()
        if not self.logged_on or self.closed:
            return
        self._ask_again(now)
        if self._logout_sent_ns and (now - self._logout_sent_ns) / 1e9 >= self.rules.logout_s:
            self.closed = f"our Logout was not answered within {self.rules.logout_s:g} s"
            return
        if (now - self._last_sent_ns) / 1e9 >= self.heartbeat_s > 0 and not (self.rules.strict and self._tested):
            self.send(_HEARTBEAT)
        silence = (now - self._last_received_ns) / 1e9
        if self.heartbeat_s and silence >= 2 * _TEST_AFTER * self.heartbeat_s:
            self.closed = f"nothing heard for {silence:.0f} s, not even an answer to a TestRequest"
        elif self.heartbeat_s and silence >= _TEST_AFTER * self.heartbeat_s and not self._tested:
            self._tested = True
            self.send(_TEST, b"112=%b\x01" % TEST_REQUEST_ID)

    def _ask_again(self, now: int) -> None:
        """Asks for a gap that does not move, a few times and then no more: each try may cost both sides as much."""
        if self.rules.strict or not self._is_behind or (now - self._progress_ns) / 1e9 < RETRY_RESEND_S:
            return
        if self._asks < MAX_ASKS:
            self._asks += 1
            self._request(self.sequence.inbound, min(self._held, default=self._highest + 1) - 1)

    @property
    def stuck_at(self) -> int:
        """The number of the message that has been asked for in vain, `MAX_ASKS` times; 0 if there is none."""
        return self.sequence.inbound if self._is_behind and self._asks >= MAX_ASKS else 0

    @property
    def _is_behind(self) -> bool:
        """Whether something has come that is beyond what is missing: it is held, or was more than could be held."""
        return self._highest >= self.sequence.inbound

    @property
    def gap(self) -> tuple[int, int] | None:
        """The first and the last number of the messages that are missing before what is held; None if none are."""
        return (self.sequence.inbound, min(self._held, default=self._highest + 1) - 1) if self._is_behind else None

    def not_listening(self) -> None:
        """Called while the owner does not read: what we hear nothing of is then not the counterparty's silence."""
        self._last_received_ns = self._now_ns()

    @property
    def held(self) -> int:
        """Messages waiting behind a gap."""
        return len(self._held)

    def take_held(self) -> None:
        """What is missing will not come any more, since the numbers end: what is held is ours, and taken in its turn.

        The owner of an acceptor calls it before a Logon that begins the numbers again, and at the end of their day. It
        is taken also where the session has been closed, by a Logout that is among it or for any other reason.
        """
        closed = self.closed
        while self._held:
            self.closed = ""
            self._skip_to(max(self._held) + 1)
        self.closed = closed or self.closed

    def abandon_held(self) -> list[bytes]:
        """The held frames, when the connection ends before their gap was filled: they will be asked for again."""
        return [held.frame for number in sorted(self._held) if (held := self._pop_held(number)) is not None]

    def _pop_held(self, number: int) -> Delivered | None:
        held = self._held.pop(number, None)
        if held is not None:
            self._room.give_back(held.frame)
        return held


def _printable(text: str) -> bytes:
    """A text as the value of a field: nothing in it can be taken for a separator."""
    return text.encode().replace(b"\x01", b"|")


def _reversed(fields: Fields) -> Mapping[int, bytes]:
    """The routing fields of an answer: whoever it was sent on behalf of is whom the answer is delivered to."""
    there = {tag: fields[source] for tag, source in _REVERSED.items() if fields.get(source)}
    return there or NOTHING_MORE
