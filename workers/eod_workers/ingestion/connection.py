"""One counterparty's TCP connection: bytes → frames → session → writer, and answers back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, cast

import structlog

from eod_workers.fix.dictionary import VERSIONS, Dictionary, dictionary
from eod_workers.fix.frames import MAX_FRAME_BYTES, FrameBuffer, Garbled
from eod_workers.fix.reading import Message, Problem, Reason, read
from eod_workers.fix.sent import SentMessages
from eod_workers.fix.session import (
    TEST_REQUEST_ID,
    Delivered,
    Refused,
    Room,
    SequenceNumbers,
    Session,
    asks_for_reset,
    name_of,
)
from eod_workers.ingestion import limits
from eod_workers.ingestion.plain import plain_reader
from eod_workers.ingestion.terms import Terms, told
from eod_workers.ingestion.tls import names_of
from eod_workers.letters import fix_letter, summary_letter
from eod_workers.ports import Clock, Unavailable
from eod_workers.protos.dead_letter_pb2 import REASON_DESERIALIZATION, REASON_VALIDATION
from eod_workers.trades.captures import CAPTURE, trades_of, why_no_trade
from eod_workers.trades.dates import TradeDates
from eod_workers.trades.executions import Invalid

if TYPE_CHECKING:
    from eod_workers.ingestion.tenure import Tenure
    from eod_workers.ingestion.writer import LogWriter

logger = structlog.get_logger()
_EXECUTION_REPORT, _BUSINESS_REJECT = b"8", b"j"
_TOLD_S = 1.0
"""A session that is read no faster for longer than this is named in the log."""
_NS = 1_000_000_000
_MAX_PAUSE = 15
"""Most frames of a read that go by before the short way is tried again, when those before were not for it either."""

Opener = Callable[["Connection", bytes, bytes], Awaitable["Tenure | str"]]
"""(connection, SenderCompID, TargetCompID) → the tenure that begins, or the sentence that refuses it."""
Renewer = Callable[["Tenure"], Awaitable["Tenure | str"]]
"""The tenure that follows one whose numbers begin again, once the log has all that was read in it; or why none does."""
Saver = Callable[["Tenure"], Awaitable[bool]]
"""Saves the numbers of a tenure as they are; False if another ingestion has taken the session over."""


class Connection(asyncio.Protocol):
    """Feeds one `Session` from a socket and hands what it delivers to the writer."""

    def __init__(
        self,
        writer: LogWriter,
        clock: Clock,
        *,
        max_message_bytes: int,
        is_named: Callable[[str], bool],
        opener: Opener,
        renewer: Renewer,
        saver: Saver,
        opened: Callable[[Connection], str],
        closed: Callable[[Connection], None],
        refusals: Callable[[str], None],
        strangers: limits.Budget,
        room: Room,
    ) -> None:
        """`opener` admits the session at its Logon; `opened` and `closed` are called as the socket comes and goes.

        What `opened` returns is why nobody more can be served, or "". `refusals` is told the reason of each refusal.
        Letters about those who never log on are from the budget of `strangers`. `room` is for what waits behind gaps.

        `is_named` tells whether a name is one of a session that is told apart by its SubIDs.

        A message of more than `max_message_bytes` is rejected, as far as frames of its size are read at all.
        """
        self.name = ""
        self.session: Session | None = None
        self.tenure: Tenure | None = None
        self.certified: frozenset[str] = frozenset()
        """The names in the certificate that it has shown."""
        self.peer = ""
        """The address of who has connected; "" if it is not known."""
        self.claim = 0
        """When it began to log on, as a number that grows; 0 if it did not."""
        self.stuck_since_ns = 0
        """Since when the session waits for a message in vain; 0 if it does not."""
        self._writer = writer
        self._clock = clock
        self._is_named = is_named
        self._header: Mapping[int, bytes] = {}
        self._open = opener
        self._renew = renewer
        self._save = saver
        self._opened = opened
        self._closed = closed
        self._count_refusal = refusals
        self._budget = strangers
        self._room = room
        self._unlettered = [0, 0]
        """Runs of bytes for which there was no letter any more, and their bytes."""
        self._buffer = FrameBuffer(max_message_bytes)  # nobody has logged on yet
        self._max_message_bytes = max_message_bytes
        self._read_plain = plain_reader(writer.columns, writer.contracts.house)
        self._terms = Terms()
        self._dates = TradeDates()
        self._trader_tag = b""
        self._allowance = 0.0
        self._allowed_ns = 0
        self._slowed: asyncio.TimerHandle | None = None
        self._dictionary: Dictionary | None = None
        self._backlog: list[tuple[bytes, Message, int]] = []
        self._opening: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._asked_to_hold = self._waits = False
        self._held_back = False
        self._deaf = False
        self._since_ns = clock.now_ns()
        self._clogged_ns = self._closing_ns = 0
        self._heard = asyncio.Event()

    # --- asyncio.Protocol -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = cast("asyncio.Transport", transport)
        self.peer = str((transport.get_extra_info("peername") or ("",))[0])
        self.certified = names_of(transport.get_extra_info("peercert"))
        if why := self._opened(self):
            self.turn_away("full", why)
            return
        self.hold_back(self._writer.is_full)

    def pause_writing(self) -> None:
        """The counterparty does not read: we do not go on reading what would make us answer, either."""
        self._clogged_ns = self._clock.now_ns() or 1
        self._listen()

    def resume_writing(self) -> None:
        """It has read."""
        self._clogged_ns = 0
        self._listen()
        if self._buffer.pending_bytes and self._closing_ns == 0:
            self._take_all(self._clock.now_ns())

    def data_received(self, data: bytes) -> None:
        """Takes what the socket has."""
        self._heard.set()
        self._buffer.push(data)
        self._take_all(self._clock.now_ns())

    def _take_all(self, received_at_ns: int, *, unread: bool = False) -> None:
        """Takes what has come, up to where the counterparty reads none of our answers; `unread`: for all that."""
        buffer = self._buffer
        read_plain = None if self._trader_tag else self._read_plain  # which knows the executing party alone
        misses = pause = messages = 0
        while not self._clogged_ns or unread:
            if read_plain is not None and self.session is not None and self._opening is None:
                if pause:
                    pause -= 1
                elif taken := read_plain(buffer, self.session, self.name, received_at_ns, self._dates):
                    size, count = taken
                    self._writer.taken(size, received_at_ns)
                    messages += count
                    misses = 0
                else:
                    pause = min((1 << misses) - 1, _MAX_PAUSE)
                    misses += 1
            item = buffer.take()
            if item is None:
                if self.is_unknown and (why := buffer.why_garbled) and (rest := buffer.close()) is not None:
                    self._take(Garbled(rest.raw, why), received_at_ns)
                break
            messages += 1
            self._take(item, received_at_ns)
            if self.session is None:
                if self._closing_ns:
                    self._set_rest_aside(item, received_at_ns)
                    return
            elif len(self.session.outbox) >= limits.OUTBOX_MESSAGES:
                self._write()
        self._write()
        if self._terms.messages_per_s is not None:
            self._slow_down(messages, self._terms.messages_per_s)

    def _set_rest_aside(self, last: bytes | Garbled | None, received_at_ns: int) -> None:
        """Keeps what came behind `last`: frames as they are, and all behind the first bytes that are none at once.

        A counterparty may write what is left of a resend into its next connection, in front of the Logon(A): what it
        has sent is compared frame by frame. Of a last one that is cut the end of the connection makes a letter.
        """
        begun = b""
        while isinstance(last, bytes) and (last := self._buffer.take()) is not None:
            if isinstance(last, bytes):
                self._writer.aside(self.name, last, received_at_ns)
            else:
                begun = last.raw
        if last is None and not self._buffer.why_garbled:
            return
        rest = self._buffer.close()
        if garbage := begun + (rest.raw if rest is not None else b""):
            self._writer.aside(self.name, garbage, received_at_ns)

    def _take(self, item: bytes | Garbled, received_at_ns: int) -> None:
        """Takes one frame, or what is none."""
        if isinstance(item, Garbled):
            self._letter(item.raw, REASON_DESERIALIZATION, item.why, 0, received_at_ns)
            if self.session is None and self._opening is None:
                self.turn_away("not_fix", f"no Logon(A), but bytes that are no FIX: {item.why}")
            return
        known = self._dictionary
        if known is None:
            self._begin(item, received_at_ns)
            return
        message = read(item, known)
        if len(item) > self._max_message_bytes:
            detail = (
                f"the message has {len(item):,} bytes, and the longest that is taken {self._max_message_bytes:,}: send "
                "less, or set EOD_FIX_MAX_MESSAGE_BYTES"
            )
            message.problem = Problem(Reason.OUT_OF_RANGE, b"9", detail)
        if self._opening is not None:
            self._backlog.append((item, message, received_at_ns))
        elif self.session is not None:
            self._feed(self.session, item, message, received_at_ns)
        else:
            self._writer.aside(self.name, item, received_at_ns)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone; what was received and not used stays on record."""
        now = self._clock.now_ns()
        if self.session is not None and self._opening is None:  # what was not looked at while answers were not read
            self._take_all(now, unread=True)
        rest = self._buffer.close()
        if rest is not None:
            self._letter(rest.raw, REASON_DESERIALIZATION, rest.why, 0, now)
        if self._opening is not None:
            self._opening.cancel()
        self._heard.set()  # nothing more, which answers who waits for it
        if self._slowed is not None:
            self._slowed.cancel()
        self._set_aside_backlog()
        if self.session is not None:
            if self._day_is_over():  # and nothing of it can be asked for again
                self.session.take_held()
                self._distribute(self.session, now)
            for raw in self.session.abandon_held():
                self._writer.aside(self.name, raw, now)
        self._tell_of_unlettered(now)
        if self.tenure is not None:
            self.tenure.left = True
        logger.info("fix.disconnected", session=self.name, error=str(exc) if exc else None)
        self._closed(self)

    # --- logon ----------------------------------------------------------------------------------------------

    def _begin(self, raw: bytes, received_at_ns: int) -> None:
        """The first frame: it must be a Logon, and names the session. Whoever begins otherwise is told nothing."""
        version = raw[2 : raw.index(b"\x01")]
        known = dictionary(version if version in VERSIONS else VERSIONS[-1])
        message = read(raw, known)
        self._dictionary, fields = known, message.fields
        sender, target = fields.get(b"49", b""), fields.get(b"56", b"")
        sub_ids = fields.get(b"50", b""), fields.get(b"57", b"")
        if max(map(len, (sender, target, *sub_ids))) > limits.MAX_COMP_ID_BYTES:
            self._writer.aside("", raw, received_at_ns)
            self.turn_away("name", f"a CompID or a SubID has more than {limits.MAX_COMP_ID_BYTES} bytes")
            return
        self.name = name_of(version, sender, target)
        if any(sub_ids) and self._is_named(named := name_of(version, sender, target, *sub_ids)):
            self.name = named
            self._header = {tag: value for tag, value in zip((57, 50), sub_ids, strict=True) if value}
        if fields.get(b"35") != b"A" or version not in VERSIONS or not sender:
            self._writer.aside(self.name, raw, received_at_ns)
            self.turn_away("first_message", "the first message must be a Logon(A) of FIX 4.2 or 4.4")
            return
        self._backlog.append((raw, message, received_at_ns))
        self._buffer.limit = MAX_FRAME_BYTES
        self.hold_back(True)
        self._opening = asyncio.create_task(self._admit(version, sender, target))

    @property
    def logon(self) -> Message:
        """The Logon(A) that waits to be admitted."""
        return self._backlog[0][1]

    @property
    def logon_at_ns(self) -> int:
        """When that was read."""
        return self._backlog[0][2]

    def agree(self, terms: Terms) -> None:
        """Goes on by these terms."""
        if terms.zone != self._dates.zone or not self._dates.date:
            self._dates = TradeDates(terms.zone)
            self._dates.of(self._clock.now_ns())  # so that the first trade of today is plain already
        self._terms = terms
        if self.session is not None:
            self.session.rules = terms.rules
        self._trader_tag = b"%d" % terms.trader_tag if terms.trader_tag else b""
        now_ns = self._clock.now_ns()
        if self.tenure is not None and not 0 < self.tenure.until_ns <= now_ns:
            self.tenure.until_ns = terms.until_ns(now_ns)

    async def _admit(self, version: bytes, sender: bytes, target: bytes) -> None:
        try:
            answer = await self._open(self, sender, target)
        except Exception as error:  # nobody else would ever answer
            logger.exception("fix.admission_failed", session=self.name)
            answer = f"the session cannot be opened: {type(error).__name__}"
        if isinstance(answer, str):
            self._opening = None
            self._refuse("terms", answer)
            self._decline(version, answer)
            self._set_aside_backlog()
            return
        self.tenure, sequence = answer, answer.sequence
        session = Session(
            begin_string=version,
            sender=target,
            target=sender,
            sequence=sequence,
            now_ns=self._clock.now_ns,
            rejections=SentMessages(version, target, sender, self._clock.now_ns, answer.rejections),
            header=self._header,
            room=self._room,
            rules=self._terms.rules,
        )
        self._budget = limits.Budget(limits.LETTERS_AT_ONCE, limits.LETTERS_PER_S)
        session.resets = (
            f"the numbers begin again at {self._terms.told}"
            if self._terms.told
            else f"no time is set for them to begin again (EOD_FIX_RESET), and 'eod fix reset {self.name}' makes them"
        )
        epoch = sequence.epoch
        self._feed(session, *self._backlog.pop(0), renewing=True)
        # The counterparty must not learn of a reset before we are sure to remember it; and what came behind its Logon
        # waits, since no number may be saved before the log has what it stands for.
        if sequence.epoch != epoch and (why := await self._unsaved(answer)):
            self._opening = None
            self._refuse("store", f"the reset cannot be saved: {why}")
            self._set_aside_backlog()
            self.close()
            return
        self.session, self._opening = session, None
        self._go_on(session)
        logger.info("fix.logon", session=self.name, epoch=sequence.epoch, inbound=sequence.inbound, token=answer.token)

    def _go_on(self, session: Session) -> None:
        """Takes what has come meanwhile, and listens again."""
        backlog, self._backlog = self._backlog, []
        for at, item in enumerate(backlog):
            if self._opening is not None:  # the numbers begin again, again
                self._backlog += backlog[at:]
                break
            self._feed(session, *item)
        self._write()
        if self._opening is None:
            self.wait(self.name in self._writer.waiting)
            self.hold_back(self._writer.is_full)

    async def _begin_again(self, session: Session, tenure: Tenure) -> None:
        """A Logon has come that resets the numbers of the live session.

        It is answered once everything before it is on the log and the new numbers are saved, for the counterparty will
        send none of it again then; and under a new token, so that no save that is on its way can bring the old numbers
        back.
        """
        answer = await self._renew(tenure)
        if not isinstance(answer, str):
            self.tenure = answer
            session.go_on_from(answer.sequence, answer.rejections)
            self._feed(session, *self._backlog.pop(0), renewing=True)
            why = await self._unsaved(answer)
        else:
            why = answer
        self._opening = None
        if why:
            self._refuse("store", f"the reset cannot be saved: {why}")
            self._set_aside_backlog()
            session.outbox.clear()
            self.close()
            return
        logger.info("fix.reset", session=self.name, epoch=session.sequence.epoch)
        self._go_on(session)

    async def _unsaved(self, tenure: Tenure) -> str:
        """Saves the numbers; why that failed, or ""."""
        try:
            return "" if await self._save(tenure) else "another ingestion has taken the session over"
        except Unavailable as error:
            return str(error)

    def _set_aside_backlog(self) -> None:
        for raw, _, received_at_ns in self._backlog:
            self._writer.aside(self.name, raw, received_at_ns)
        self._backlog.clear()

    def _decline(self, version: bytes, why: str) -> None:
        """Answers the Logon(A) by a Logout(5) that says why, outside its session's numbers, and hangs up."""
        fields = self.logon.fields
        names = tuple(fields.get(tag, b"") for tag in (b"49", b"56", b"50", b"57"))
        stranger = Session(
            begin_string=version,
            sender=names[1],
            target=names[0],
            sequence=SequenceNumbers(),
            now_ns=self._clock.now_ns,
            header={ours: fields[theirs] for ours, theirs in ((50, b"57"), (57, b"50")) if fields.get(theirs)},
        )
        stranger.logout(told(why, name_of(version, *names)))
        if self._transport is not None:
            self._transport.write(b"".join(stranger.outbox))
        self.close()

    # --- messages -------------------------------------------------------------------------------------------

    def _feed(
        self, session: Session, raw: bytes, message: Message, received_at_ns: int, *, renewing: bool = False
    ) -> None:
        if session.closed:
            self._writer.aside(self.name, raw, received_at_ns)
            return
        if not renewing and self.tenure is not None and self._begins_again(session, message, received_at_ns):
            session.take_held()
            self._distribute(session, received_at_ns)
            self._backlog.append((raw, message, received_at_ns))
            self.hold_back(True)
            self._opening = asyncio.create_task(self._begin_again(session, self.tenure))
            return
        session.received(raw, message, received_at_ns)
        self._distribute(session, received_at_ns)

    @staticmethod
    def _begins_again(session: Session, message: Message, received_at_ns: int) -> bool:
        """Whether it is a Logon(A) that resets the numbers of the live session, and one that is not refused."""
        return session.logged_on and asks_for_reset(message) and not session.rules.why_no_logon(message, received_at_ns)

    def _distribute(self, session: Session, received_at_ns: int) -> None:
        """Takes what piled up in the session."""
        if session.delivered:
            for delivered in session.delivered:
                self._deliver(session, delivered)
            session.delivered.clear()
        if session.refused:
            for refused in session.refused:
                self._refused(refused)
            session.refused.clear()
        if session.aside:
            for frame in session.aside:
                self._writer.aside(self.name, frame, received_at_ns)
            session.aside.clear()

    def _deliver(self, session: Session, delivered: Delivered) -> None:
        number, raw, message, received_at_ns = delivered
        kind = message.fields.get(b"35")
        if kind != _EXECUTION_REPORT and not (kind == CAPTURE and self._books_captures()):
            if kind != _BUSINESS_REJECT:
                session.unsupported(message)
            self._writer.aside(self.name, raw, received_at_ns)
            return
        try:
            trades = trades_of(
                message,
                raw,
                session=self.name,
                epoch=session.sequence.epoch,
                msg_seq_num=number,
                received_at_ns=received_at_ns,
                dates=self._dates,
                contracts=self._writer.contracts,
                trader_tag=self._trader_tag,
            )
        except Invalid as why:
            problem = Problem(why.reason, why.tag, str(why))
            session.reject(message, problem)
            self._refused(Refused(number, raw, problem, received_at_ns))
            return
        for trade in trades:
            self._writer.trade(trade)
        if not trades:
            if reason := why_no_trade(message.fields):
                logger.info("fix.set_aside", session=self.name, msg_seq_num=number, why=reason)
            self._writer.aside(self.name, raw, received_at_ns)

    def _books_captures(self) -> bool:
        """Whether a TradeCaptureReport(AE) is booked; FIX 4.2 does not have it."""
        known = self._dictionary
        return self._terms.trade_captures and known is not None and CAPTURE in known.messages

    def _refused(self, refused: Refused) -> None:
        number, raw, problem, received_at_ns = refused
        self._letter(raw, REASON_VALIDATION, problem.detail, number, received_at_ns)

    def _letter(self, raw: bytes, reason: int, detail: str, number: int, received_at_ns: int) -> None:
        """A dead letter, as long as there are not too many of this session."""
        if not self._budget.spend(1 + len(raw) // 1024, received_at_ns):
            self._writer.aside(self.name, raw, received_at_ns)
            self._unlettered[0] += 1
            self._unlettered[1] += len(raw)
            return
        self._tell_of_unlettered(received_at_ns)
        self._writer.letter(
            fix_letter(
                raw,
                REASON_VALIDATION if reason == REASON_VALIDATION else REASON_DESERIALIZATION,
                detail,
                session=self.name,
                epoch=self.session.sequence.epoch if self.session else 0,
                msg_seq_num=number,
                received_at_ns=received_at_ns,
                zone=self._dates.zone,
                trader_tag=self._terms.trader_tag or 0,
            )
        )

    def _tell_of_unlettered(self, now_ns: int) -> None:
        """A letter that stands for those that were too many."""
        runs, size = self._unlettered
        if not runs or self.session is None:  # of strangers there is none: each would cause one more
            return
        self._unlettered = [0, 0]
        detail = (
            f"{runs:,} more were too many for dead letters of their own ({limits.LETTERS_PER_S} a second): their "
            f"{size:,} bytes are in sessions.raw, under this session"
        )
        logger.warning("fix.letters_left_out", session=self.name, count=runs, bytes=size)
        self._writer.letter(summary_letter(detail, session=self.name, received_at_ns=now_ns))

    def _write(self) -> None:
        session = self.session
        if session is None or self._transport is None:
            return
        if session.outbox:
            self._transport.write(b"".join(session.outbox))
            session.outbox.clear()
        if session.closed:
            if self._transport.is_closing():
                return
            logger.info("fix.hanging_up", session=self.name, why=session.closed)
            self.close()

    # --- the owner's ----------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Heartbeats and time-outs."""
        now_ns = self._clock.now_ns()
        if self._closing_ns:
            if now_ns - self._closing_ns > limits.LEAVE_WITHIN_S * _NS:
                self.abort()
            return
        if self._clogged_ns and now_ns - self._clogged_ns > limits.READS_NOTHING_S * _NS:
            why = f"it has read nothing for {limits.READS_NOTHING_S:g} s"
            logger.warning("fix.hanging_up", session=self.name, why=why)
            self._count_refusal("unread")
            self.abort()
            return
        if self.is_unknown and now_ns - self._since_ns > limits.LOGON_WITHIN_S * _NS:
            self.turn_away("late", f"no Logon(A) within {limits.LOGON_WITHIN_S:g} s")
            return
        if self._unlettered[0] and self._budget.spend(1, now_ns):
            self._tell_of_unlettered(now_ns)
        if self.session is not None:
            if self._held_back:
                self.session.not_listening()
            self._end_day()
            self.session.tick()
            self._tell_stuck(self.session)
            self._write()

    def _end_day(self) -> None:
        """The numbers are of a day that has ended: the counterparty logs on again, and both begin at 1."""
        if self._day_is_over() and self._opening is None:
            self.logout(f"the day of this session ends at {self._terms.told}: log on again, with MsgSeqNum(34)=1")

    def _day_is_over(self) -> bool:
        until_ns = self.tenure.until_ns if self.tenure is not None else 0
        return bool(until_ns) and self._clock.now_ns() >= until_ns

    def _tell_stuck(self, session: Session) -> None:
        """Says once that a message does not come, and once that it has come."""
        if bool(session.stuck_at) == bool(self.stuck_since_ns):
            return
        self.stuck_since_ns = self._clock.now_ns() if session.stuck_at else 0
        if session.stuck_at:
            logger.warning(
                "fix.stuck",
                session=self.name,
                msg_seq_num=session.stuck_at,
                held=session.held,
                why="a message was asked for again and again, and does not come, or does not come whole: the "
                "counterparty must fill the gap with SequenceReset(4)-GapFill, or 'eod fix skip' gives it up",
            )
        else:
            logger.info("fix.unstuck", session=self.name, inbound=session.sequence.inbound)

    @property
    def is_unknown(self) -> bool:
        """Whether nobody has begun to log on here."""
        return self.session is None and self._opening is None and not self._closing_ns

    def _refuse(self, reason: str, why: str) -> None:
        logger.warning("fix.refused", session=self.name, peer=self.peer, why=why)
        self._count_refusal(reason)

    def turn_away(self, reason: str, why: str) -> None:
        """Hangs up on who has not logged on, without a word."""
        self._refuse(reason, why)
        self.close()

    async def answers(self, within_s: float) -> bool:
        """Whether the other end is there: whether it says anything when it is asked to by a TestRequest(1).

        Who reads nothing of what we have written, for as long as that, is not: it could not be told a thing.
        """
        session = self.session
        if self._transport is None or self._transport.is_closing():
            return False
        if self._clogged_ns:
            await self._clock.sleep(within_s)
            return not self._clogged_ns and not self._transport.is_closing()
        if session is None or self._opening is not None or self._held_back:
            return True  # it is about to say something, or we do not listen
        self._heard.clear()
        session.send(b"1", b"112=%b\x01" % TEST_REQUEST_ID)
        self._write()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._heard.wait(), within_s)
        return self._heard.is_set() and not session.closed and not self._transport.is_closing()

    def hold_back(self, on: bool) -> None:  # noqa: FBT001 - the one thing it says is on or off
        """Stops or resumes reading the socket, unless it is not to be read for another reason."""
        self._asked_to_hold = on
        self._listen()

    def wait(self, on: bool) -> None:  # noqa: FBT001 - as above
        """The same while what it has sent is for a partition that nobody leads."""
        self._waits = on
        self._listen()

    def _listen(self) -> None:
        on = self._asked_to_hold or self._waits or self._deaf or bool(self._clogged_ns) or self._slowed is not None
        if self._transport is None or self._transport.is_closing() or on == self._held_back:
            return
        self._held_back = on
        (self._transport.pause_reading if on else self._transport.resume_reading)()

    def _slow_down(self, messages: int, per_s: float) -> None:
        """Reads nothing for as long as so many messages are too many; what a second allows may come at once."""
        now_ns = self._clock.now_ns()
        grown = (now_ns - self._allowed_ns) / _NS * per_s
        self._allowance = min(per_s, self._allowance + grown) - messages
        self._allowed_ns = now_ns
        if self._allowance >= 0 or self.session is None:
            return
        pause_s = -self._allowance / per_s
        if pause_s > _TOLD_S and self._slowed is None:
            logger.warning("fix.slowed_down", session=self.name, seconds=round(pause_s, 1), messages_per_s=per_s)
        if self._slowed is not None:
            self._slowed.cancel()
        self._slowed = asyncio.get_running_loop().call_later(pause_s, self._go_on_reading)
        self._listen()

    def _go_on_reading(self) -> None:
        self._slowed = None
        self._listen()

    def hear_no_more(self) -> None:
        """Reads nothing from here on; what was read goes its way."""
        self._deaf = True
        self.hold_back(True)

    def logout(self, text: str) -> None:
        """Says goodbye to the counterparty."""
        if self.session is not None and self.session.logged_on:
            self.session.logout(text)
            self._write()

    def superseded(self) -> None:
        """Another ingestion serves the session: hangs up at once, without a word under numbers that are its now."""
        self.hear_no_more()
        self.abort()

    def close(self) -> None:
        """Closes the socket once what was written is sent."""
        if self._transport is not None:
            self._closing_ns = self._closing_ns or self._clock.now_ns()
            self._transport.close()

    def abort(self) -> None:
        """Closes the socket at once, for a counterparty that does not read or is served elsewhere."""
        if self._transport is not None:
            self._transport.abort()
