"""An acceptor that returns what it is sent: for conformance runs and for the first day with a counterparty.

NewOrderSingle(D), SecurityDefinition(d) and Email(C) go back to their sender under a header of our own: every value of
the body byte for byte, the fields by ascending tags, each group whole and as it came. A body that is written so, as
engines of the QuickFIX family write them, comes back as the same bytes. A PossResend(97)=Y whose ClOrdID(11) has come
since the logon gets no answer; one that has not comes back as one. Every other application message is refused as
unsupported. The session protocol is the strict one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import cast

from eod_workers.fix.body import ascending_body_of
from eod_workers.fix.dictionary import VERSIONS, Dictionary, dictionary
from eod_workers.fix.frames import MAX_FRAME_BYTES, FrameBuffer, Garbled
from eod_workers.fix.reading import Message, read
from eod_workers.fix.rules import STRICT
from eod_workers.fix.sent import SentMessages
from eod_workers.fix.session import Delivered, SequenceNumbers, Session
from eod_workers.fix.writing import NOTHING_MORE
from eod_workers.ports import Network

_RETURNED = frozenset((b"D", b"d", b"C"))
_TICK_S = 0.1
LOGON_WITHIN_S = 10
"""How long a connection may take to log on."""
LINGER_S = 2.0
"""How long what still comes is read, once we have said our last word: to close at once could take it back."""
_ANNOUNCED = re.compile(rb"8=FIX[^\x01]*\x019=(\d{1,9})\x01")

Watcher = Callable[[str, str, bytes], None]
"""(session, what happens, bytes): "in" and "out" with a frame, "garbled" with what is none, "logon", "closed", with a
sentence.
"""


class BadSession(ValueError):
    """Not the name of a session, `FIX.4.4:OURS->THEIRS`."""


@dataclass(frozen=True, slots=True)
class SessionName:
    """BeginString(8), our CompID and the counterparty's."""

    begin_string: bytes
    ours: bytes
    theirs: bytes

    def __str__(self) -> str:
        """As it is written."""
        return b"%b:%b->%b".__mod__((self.begin_string, self.ours, self.theirs)).decode("latin-1")


def session_name(text: str) -> SessionName:
    """The session that `FIX.4.4:OURS->THEIRS` names.

    Raises:
        BadSession: it names none, or a version that there is no dictionary of.
    """
    version, colon, names = text.encode().partition(b":")
    ours, arrow, theirs = names.partition(b"->")
    if not (colon and arrow and ours and theirs):
        raise BadSession(f"{text!r} is not VERSION:OURS->THEIRS, for example FIX.4.4:ISLD->TW44")
    if version not in VERSIONS:
        known = " and ".join(one.decode() for one in VERSIONS)
        raise BadSession(f"{text!r}: there is no dictionary of {version.decode()}, but of {known}")
    return SessionName(version, ours, theirs)


@dataclass(slots=True)
class _Remembered:
    """What a session keeps between its connections."""

    sent: SentMessages
    sequence: SequenceNumbers = field(default_factory=SequenceNumbers)
    live: bool = False


class Echo:
    """The sessions of one acceptor."""

    def __init__(
        self,
        sessions: Iterable[SessionName],
        now_ns: Callable[[], int],
        *,
        reset_on_logon: bool = False,
        watch: Watcher = lambda _session, _what, _raw: None,
    ) -> None:
        """`reset_on_logon` begins the numbers of both sides at 1 with each Logon. `watch` is told what happens."""
        self.now_ns = now_ns
        self.reset_on_logon = reset_on_logon
        self.watch = watch
        self._sessions = {
            name: _Remembered(SentMessages(name.begin_string, name.ours, name.theirs, now_ns)) for name in sessions
        }

    def connected(self) -> EchoConnection:
        """The protocol of a new connection."""
        return EchoConnection(self)

    def remembered(self, name: SessionName) -> _Remembered | None:
        """What is kept of a session; None if there is no such session."""
        return self._sessions.get(name)

    async def serve(self, network: Network, host: str, port: int, listening: Callable[[int], None]) -> None:
        """Accepts connections until it is cancelled; `listening` is told the port.

        Raises:
            OSError: the port cannot be had.
        """
        listener = await network.listen(self.connected, host, port)
        try:
            listening(listener.port)
            await asyncio.Event().wait()
        finally:
            listener.close()


class EchoConnection(asyncio.Protocol):
    """One connection. Whoever begins with anything but a Logon of a session that is free is disconnected in silence."""

    def __init__(self, echo: Echo) -> None:
        """Belongs to an acceptor."""
        self._echo = echo
        self._buffer = FrameBuffer()
        self._known: Dictionary | None = None
        self._session: Session | None = None
        self._remembered: _Remembered | None = None
        self._orders: set[bytes] = set()
        self._name = ""
        self._transport: asyncio.Transport | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._swallows = 0
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = cast("asyncio.Transport", transport)
        self._timer = asyncio.get_running_loop().call_later(LOGON_WITHIN_S, self._hang_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone: the session is free again."""
        self._set_free()
        if self._timer is not None:
            self._timer.cancel()
        why = self._session.closed if self._session is not None else ""
        self._echo.watch(self._name, "closed", (why or str(exc or "the counterparty has hung up")).encode())

    def data_received(self, data: bytes) -> None:
        """Takes what the socket has."""
        if self._ended:
            return
        for item in self._buffer.feed(data):
            if self._ended:
                return
            raw = item.raw if isinstance(item, Garbled) else item
            if self._swallows or isinstance(item, Garbled):
                self._echo.watch(self._name, "garbled", raw)
                self._swallows = max(self._swallows - len(raw), 0) or too_long_by(raw)
                if self._session is None:
                    self._hang_up()
                continue
            self._take(raw)
            self._write()

    def _take(self, raw: bytes) -> None:
        if self._session is None and not self._begin(raw):
            self._hang_up()
            return
        session, remembered, known = self._session, self._remembered, self._known
        if session is None or remembered is None or known is None:
            return
        self._echo.watch(self._name, "in", raw)
        epoch, logged_on = session.sequence.epoch, session.logged_on
        session.received(raw, read(raw, known, strict=True), self._echo.now_ns())
        if session.sequence.epoch != epoch:
            remembered.sent.forget()
            self._orders.clear()
        if session.logged_on and not logged_on:
            self._echo.watch(self._name, "logon", b"")
        for delivered in session.delivered:
            self._answer(session, remembered, delivered)
        session.delivered.clear()
        session.refused.clear()
        session.aside.clear()

    def _begin(self, raw: bytes) -> bool:
        """Whether the first frame is of a session that is ours and free: it then begins."""
        version = raw[2 : raw.index(b"\x01")]
        if version not in VERSIONS:
            return False
        known = dictionary(version)
        fields = read(raw, known).fields
        name = SessionName(version, fields.get(b"56", b""), fields.get(b"49", b""))
        self._name = str(name)
        remembered = self._echo.remembered(name)
        if fields.get(b"35") != b"A" or remembered is None or remembered.live:
            return False
        if self._echo.reset_on_logon:
            remembered.sequence = SequenceNumbers(epoch=remembered.sequence.epoch + 1)
            remembered.sent.forget()
        remembered.live = True
        if self._timer is not None:
            self._timer.cancel()
        self._remembered, self._known = remembered, known
        self._session = Session(
            begin_string=version,
            sender=name.ours,
            target=name.theirs,
            sequence=remembered.sequence,
            now_ns=self._echo.now_ns,
            resend=remembered.sent.between,
            rules=STRICT,
        )
        self._ticker = asyncio.create_task(self._tick())
        return True

    def _answer(self, session: Session, remembered: _Remembered, delivered: Delivered) -> None:
        message, known = delivered.message, self._known
        kind = message.fields.get(b"35", b"")
        if known is None or kind not in _RETURNED:
            session.unsupported(message)
            return
        if self._seen(message):
            return
        body = ascending_body_of(delivered.frame, known)
        more = {97: b"Y"} if message.fields.get(b"97") == b"Y" else NOTHING_MORE
        number = session.send(kind, body, more)
        remembered.sent.keep(number, kind, body, session.outbox[-1], more)

    def _seen(self, message: Message) -> bool:
        """Whether it is a possible resend of an order that has come before."""
        order = message.fields.get(b"11")
        if order is None:
            return False
        if order in self._orders and message.fields.get(b"97") == b"Y":
            return True
        self._orders.add(order)
        return False

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            if self._session is not None:
                self._session.tick()
                self._write()

    def _write(self) -> None:
        session, transport = self._session, self._transport
        if session is None or transport is None or self._ended:
            return
        for raw in session.outbox:
            self._echo.watch(self._name, "out", raw)
            transport.write(raw)
        session.outbox.clear()
        if session.closed:
            self._hang_up()

    def _hang_up(self) -> None:
        """Says that this was our last word, and closes when the other side does, or has had the time to."""
        transport = self._transport
        if transport is None or self._ended:
            return
        self._ended = True
        self._set_free()
        if self._timer is not None:
            self._timer.cancel()
        transport.write_eof()
        self._timer = asyncio.get_running_loop().call_later(LINGER_S, transport.close)

    def _set_free(self) -> None:
        """The session may be logged on to again."""
        if self._ticker is not None:
            self._ticker.cancel()
        if self._remembered is not None:
            self._remembered.live = False
            self._remembered = None


def too_long_by(raw: bytes) -> int:
    """How many bytes behind a garbled frame its BodyLength(9) lays claim to.

    They go with it, as in engines of the QuickFIX family, up to the length of the longest frame. (An acceptor of trades
    takes a frame that begins there.)
    """
    announced = _ANNOUNCED.match(raw)
    if announced is None or int(announced[1]) > MAX_FRAME_BYTES:
        return 0
    return max(announced.end() + int(announced[1]) - len(raw), 0)
