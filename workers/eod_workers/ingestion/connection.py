"""One counterparty's TCP connection: bytes → frames → session → writer, and answers back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

import structlog

from eod_workers.fix.fields import Fields, parse
from eod_workers.fix.frames import FrameBuffer, Garbled
from eod_workers.fix.session import Delivered, SequenceNumbers, Session
from eod_workers.ingestion.plain import plain_reader
from eod_workers.letters import fix_letter
from eod_workers.ports import Clock, Unavailable
from eod_workers.protos.dead_letter_pb2 import REASON_DESERIALIZATION, REASON_VALIDATION
from eod_workers.trades.executions import Invalid, trade_of

if TYPE_CHECKING:
    from eod_workers.ingestion.tenure import Tenure
    from eod_workers.ingestion.writer import LogWriter

log = structlog.get_logger()
_VERSIONS = (b"FIX.4.2", b"FIX.4.4")
_EXECUTION_REPORT = b"8"
_MAX_PAUSE = 15
"""Most frames of a read that go by before the short way is tried again, when those before were not for it either."""

Opener = Callable[["Connection", str, bytes], Awaitable["Tenure | str"]]
"""(connection, session name, TargetCompID) → the tenure that begins, or the sentence that refuses it."""
Saver = Callable[["Tenure"], Awaitable[bool]]
"""Saves the numbers of a tenure as they are; False if another ingestion has taken the session over."""


class Connection(asyncio.Protocol):
    """Feeds one `Session` from a socket and hands what it delivers to the writer."""

    def __init__(
        self, writer: LogWriter, clock: Clock, opener: Opener, saver: Saver, closed: Callable[[Connection], None]
    ) -> None:
        """`opener` admits the session at its Logon; `closed` is called when the socket is gone."""
        self.name = ""
        self.session: Session | None = None
        self.tenure: Tenure | None = None
        self._writer = writer
        self._clock = clock
        self._open = opener
        self._save = saver
        self._closed = closed
        self._buffer = FrameBuffer()
        self._read_plain = plain_reader(writer.columns)
        self._backlog: list[tuple[bytes, Fields, int]] = []
        self._opening: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._held_back = False
        self._deaf = False

    # --- asyncio.Protocol -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Takes what the socket has."""
        received_at_ns = self._clock.now_ns()
        buffer, read_plain = self._buffer, self._read_plain
        buffer.push(data)
        misses = pause = 0
        while True:
            if read_plain is not None and self.session is not None:
                if pause:
                    pause -= 1
                elif size := read_plain(buffer, self.session, self.name, received_at_ns):
                    self._writer.taken(size, received_at_ns)
                    misses = 0
                else:
                    pause = min((1 << misses) - 1, _MAX_PAUSE)
                    misses += 1
            item = buffer.take()
            if item is None:
                break
            self._take(item, received_at_ns)
        self._write()

    def _take(self, item: bytes | Garbled, received_at_ns: int) -> None:
        """Takes one frame, or what is none."""
        if isinstance(item, Garbled):
            self._letter(item.raw, REASON_DESERIALIZATION, item.why, 0, received_at_ns)
            return
        try:
            fields = parse(item)
        except ValueError as error:
            self._letter(item, REASON_DESERIALIZATION, str(error), 0, received_at_ns)
            return
        if self.session is not None:
            self._feed(self.session, item, fields, received_at_ns)
        elif self._opening is not None:
            self._backlog.append((item, fields, received_at_ns))
        else:
            self._begin(item, fields, received_at_ns)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone; what was received and not used stays on record."""
        now = self._clock.now_ns()
        rest = self._buffer.close()
        if rest is not None:
            self._letter(rest.raw, REASON_DESERIALIZATION, rest.why, 0, now)
        if self._opening is not None:
            self._opening.cancel()
        self._set_aside_backlog()
        if self.session is not None:
            for raw in self.session.abandon_held():
                self._writer.aside(self.name, raw, now)
        log.info("fix.disconnected", session=self.name, error=str(exc) if exc else None)
        self._closed(self)

    # --- logon ----------------------------------------------------------------------------------------------

    def _begin(self, raw: bytes, fields: Fields, received_at_ns: int) -> None:
        """The first frame: it must be a Logon, and names the session."""
        sender, target = fields.get(b"49", b""), fields.get(b"56", b"")
        self.name = f"{sender.decode('latin-1')}->{target.decode('latin-1')}"
        version = raw[2 : raw.index(b"\x01")]
        if fields.get(b"35") != b"A" or version not in _VERSIONS or not sender:
            self._writer.aside(self.name, raw, received_at_ns)
            log.warning("fix.refused", session=self.name, why="the first message must be a Logon(A) of FIX 4.2 or 4.4")
            self.close()
            return
        self._backlog.append((raw, fields, received_at_ns))
        self.hold_back(True)
        self._opening = asyncio.create_task(self._admit(version, sender, target))

    async def _admit(self, version: bytes, sender: bytes, target: bytes) -> None:
        answer = await self._open(self, self.name, target)
        if isinstance(answer, str):
            self._opening = None
            log.warning("fix.refused", session=self.name, why=answer)
            self._set_aside_backlog()
            self._decline(version, sender, target, answer)
            return
        self.tenure, sequence = answer, answer.sequence
        session = Session(
            begin_string=version, sender=target, target=sender, sequence=sequence, now_ns=self._clock.now_ns
        )
        epoch = sequence.epoch
        self._feed(session, *self._backlog.pop(0))
        # The counterparty must not learn of a reset before we are sure to remember it; and what came behind its Logon
        # waits, since no number may be saved before the log has what it stands for.
        if sequence.epoch != epoch and (why := await self._unsaved(answer)):
            self._opening = None
            log.warning("fix.refused", session=self.name, why=f"the reset cannot be saved: {why}")
            self._set_aside_backlog()
            self.close()
            return
        self.session, self._opening = session, None
        backlog, self._backlog = self._backlog, []
        for item in backlog:
            self._feed(session, *item)
        self._write()
        self.hold_back(self._writer.is_full)
        log.info("fix.logon", session=self.name, epoch=sequence.epoch, inbound=sequence.inbound, token=answer.token)

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

    def _decline(self, version: bytes, sender: bytes, target: bytes, why: str) -> None:
        """Tells the counterparty why by a Logout(5) outside its session's numbers, and hangs up."""
        stranger = Session(
            begin_string=version, sender=target, target=sender, sequence=SequenceNumbers(), now_ns=self._clock.now_ns
        )
        stranger.logout(why)
        if self._transport is not None:
            self._transport.write(b"".join(stranger.outbox))
        self.close()

    # --- messages -------------------------------------------------------------------------------------------

    def _feed(self, session: Session, raw: bytes, fields: Fields, received_at_ns: int) -> None:
        if session.closed:
            self._writer.aside(self.name, raw, received_at_ns)
            return
        session.received(raw, fields, received_at_ns)
        if session.delivered:
            for message in session.delivered:
                self._deliver(session, message)
            session.delivered.clear()
        if session.aside:
            for frame in session.aside:
                self._writer.aside(self.name, frame, received_at_ns)
            session.aside.clear()

    def _deliver(self, session: Session, message: Delivered) -> None:
        number, raw, fields, received_at_ns = message
        if fields.get(b"35") != _EXECUTION_REPORT:
            self._writer.aside(self.name, raw, received_at_ns)
            return
        try:
            trade = trade_of(
                fields,
                raw,
                session=self.name,
                epoch=session.sequence.epoch,
                msg_seq_num=number,
                received_at_ns=received_at_ns,
            )
        except Invalid as why:
            session.reject(fields, why.tag, str(why))
            self._letter(raw, REASON_VALIDATION, str(why), number, received_at_ns)
            return
        if trade is None:
            self._writer.aside(self.name, raw, received_at_ns)
        else:
            self._writer.trade(trade)

    def _letter(self, raw: bytes, reason: int, detail: str, number: int, received_at_ns: int) -> None:
        self._writer.letter(
            fix_letter(
                raw,
                REASON_VALIDATION if reason == REASON_VALIDATION else REASON_DESERIALIZATION,
                detail,
                session=self.name,
                epoch=self.session.sequence.epoch if self.session else 0,
                msg_seq_num=number,
                received_at_ns=received_at_ns,
            )
        )

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
            log.info("fix.hanging_up", session=self.name, why=session.closed)
            self.close()

    # --- the owner's ----------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Heartbeats and time-outs."""
        if self.session is not None:
            if self._held_back:
                self.session.not_listening()
            self.session.tick()
            self._write()

    def hold_back(self, on: bool) -> None:  # noqa: FBT001 - the one thing it says is on or off
        """Stops or resumes reading the socket, unless it is not to be read any more."""
        on = on or self._deaf
        if self._transport is None or self._transport.is_closing() or on == self._held_back:
            return
        self._held_back = on
        (self._transport.pause_reading if on else self._transport.resume_reading)()

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
            self._transport.close()

    def abort(self) -> None:
        """Closes the socket at once, for a counterparty that does not read or is served elsewhere."""
        if self._transport is not None:
            self._transport.abort()
