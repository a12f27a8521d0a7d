"""The initiating side of a FIX session over TCP: sends application messages, keeps them, resends what is asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import cast

from eod_workers.fix.dictionary import dictionary
from eod_workers.fix.fields import text_of
from eod_workers.fix.frames import FrameBuffer, Garbled
from eod_workers.fix.reading import read
from eod_workers.fix.sent import SentMessages
from eod_workers.fix.session import SequenceNumbers, Session, name_of
from eod_workers.fix.writing import NOTHING_MORE
from eod_workers.ports import Network

_TICK_S = 0.25
_SYNC_RETRY_S = 2.0
_CLOSE_S = 1.0


class LogonRefused(Exception):
    """The acceptor closed the connection, or was silent, instead of answering our Logon."""


class Initiator(asyncio.Protocol):
    """One FIX session to an acceptor.

    Args:
        sender: our CompID.
        target: the acceptor's CompID.
        network: connects us.
        now_ns: wall clock.
        on_bytes: sees every byte string as it is written to the socket.
        heartbeat_s: HeartBtInt(108).
        begin_string: BeginString(8).
    """

    def __init__(
        self,
        sender: str,
        target: str,
        *,
        network: Network,
        now_ns: Callable[[], int],
        on_bytes: Callable[[bytes], None] = lambda _data: None,
        heartbeat_s: int = 30,
        begin_string: bytes = b"FIX.4.4",
    ) -> None:
        self.name = name_of(begin_string, sender.encode(), target.encode())
        self.sequence = SequenceNumbers()
        self.again_intact = 0
        """Application messages resent on request although they had been sent whole before."""
        self.last_wire = b""
        """The bytes of the last message sent, as they go on the wire."""
        self.rejected: list[str] = []
        """Text(58) of each Reject(3) received."""
        self._ids = (sender.encode(), target.encode())
        self._network = network
        self._now_ns = now_ns
        self._on_bytes = on_bytes
        self._heartbeat_s = heartbeat_s
        self._begin_string = begin_string
        self._dictionary = dictionary(begin_string)
        self._sent = SentMessages(begin_string, *self._ids, now_ns)
        self._intact: set[int] = set()
        self._buffer = FrameBuffer()
        self._session: Session | None = None
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._gone = asyncio.Event()
        self._changed = asyncio.Event()
        self._ticker: asyncio.Task[None] | None = None
        self._answered = b""
        self._queued: list[bytes] = []

    # --- the connection -------------------------------------------------------------------------------------

    async def connect(self, host: str, port: int, *, reset: bool = False, timeout_s: float = 10.0) -> None:
        """Connects and logs on, going on with the sequence numbers of earlier connections.

        `reset` begins both sides' numbers at 1 again, by ResetSeqNumFlag(141), as an engine does that remembers none.

        Raises:
            OSError: nobody listens there.
            LogonRefused: the acceptor did not answer the Logon in time, or refused it: its Text(58) is in the message.
        """
        self._buffer = FrameBuffer()
        if reset:
            self._forget()
        self._session = Session(
            begin_string=self._begin_string,
            sender=self._ids[0],
            target=self._ids[1],
            sequence=self.sequence,
            now_ns=self._now_ns,
            heartbeat_s=self._heartbeat_s,
            initiator=True,
            resend=self._resend,
        )
        await self._network.connect(lambda: self, host, port)
        self._session.logon(reset=reset)
        self._write()
        session = self._session
        try:
            await asyncio.wait_for(self._until(lambda: session.logged_on or bool(session.closed)), timeout_s)
        except TimeoutError:
            raise LogonRefused(f"{self.name}: no answer to the Logon within {timeout_s:g} s") from None
        if session.closed:
            raise LogonRefused(f"{self.name}: {session.closed}")
        self._ticker = asyncio.create_task(self._tick())

    @property
    def connected(self) -> bool:
        """Whether messages can be sent now."""
        return self._session is not None and self._session.logged_on and not self._session.closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = cast("asyncio.Transport", transport)
        self._gone.clear()
        self._writable.set()

    def pause_writing(self) -> None:
        """The acceptor reads more slowly than we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """There is room again."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Takes what the acceptor says."""
        session = self._session
        if session is None:
            return
        for item in self._buffer.feed(data):
            if isinstance(item, Garbled):
                continue  # the session asks for it again when the next number comes
            message = read(item, self._dictionary)
            fields = message.fields
            if fields.get(b"35") == b"3":
                self.rejected.append(text_of(fields.get(b"58", b"")))
            epoch = self.sequence.epoch
            session.received(item, message, self._now_ns())
            if self.sequence.epoch != epoch:
                self._forget()
            if fields.get(b"35") == b"0" and b"112" in fields:
                self._answered = fields[b"112"]
        session.aside.clear()
        session.delivered.clear()
        session.refused.clear()
        self._write()
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        if self._session is not None and not self._session.closed:
            self._session.closed = f"the connection was lost: {exc or 'closed by the acceptor'}"
        self._transport = None
        self._gone.set()
        self._writable.set()
        self._changed.set()

    def _write(self) -> None:
        session = self._session
        if session is None or self._transport is None or not session.outbox:
            return
        for item in session.outbox:
            self._put(item)
        session.outbox.clear()

    def _put(self, data: bytes) -> None:
        """Queues bytes for the socket; what one turn of the event loop queues goes out in one write."""
        if not self._queued:
            asyncio.get_running_loop().call_soon(self._flush)
        self._queued.append(data)

    def _flush(self) -> None:
        queued, self._queued = self._queued, []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(queued))
            for data in queued:
                self._on_bytes(data)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def _tick(self) -> None:
        while self.connected:
            await asyncio.sleep(_TICK_S)
            if self._session is not None:
                self._session.tick()
                self._write()

    # --- messages -------------------------------------------------------------------------------------------

    def send(
        self, msg_type: bytes, body: bytes, more: Mapping[int, bytes] = NOTHING_MORE, *, corrupt: bool = False
    ) -> int:
        """Sends an application message and keeps it for resending; returns its MsgSeqNum.

        `more` is what its header says besides, by tag.
        `corrupt` puts a wrong CheckSum on the wire, as a broken line would; what is kept for resending is right.
        """
        session = self._active()
        number = session.send(msg_type, body, more)
        raw = session.outbox.pop()
        self._sent.keep(number, msg_type, body, raw, more)
        if not corrupt:
            self._intact.add(number)
        self.last_wire = _spoiled(raw) if corrupt else raw
        self._put(self.last_wire)
        return number

    def repeat(self, number: int) -> None:
        """Sends a kept message again with PossDupFlag=Y, without being asked."""
        self._put(self._sent.again(number))

    def lose_heartbeat(self) -> int:
        """Numbers a Heartbeat(0) that never reaches the wire; returns its MsgSeqNum."""
        session = self._active()
        number = session.send(b"0")
        session.outbox.pop()
        return number

    def fill_gap(self, first: int) -> None:
        """Says, unasked, that of the numbers from `first` to the last one used nothing more will come."""
        session = self._active()
        session.fill_gap(first)
        self._write()

    async def reset(self, *, timeout_s: float = 10.0) -> None:
        """Begins the numbers of the live session again, by a Logon(A) with ResetSeqNumFlag(141).

        Nothing that was sent before can be asked for afterwards: `synchronize` first, and send nothing meanwhile.

        Raises:
            TimeoutError: the acceptor did not answer in time.
            ConnectionError: the connection ended.
        """
        session = self._active()
        self._forget()
        session.logon(reset=True)
        self._write()
        await asyncio.wait_for(self._until(lambda: self.sequence.inbound > 1 or not self.connected), timeout_s)
        self._active()

    async def drain(self) -> None:
        """Waits until the socket takes more."""
        await self._writable.wait()

    async def synchronize(self, *, timeout_s: float = 30.0) -> None:
        """Returns once the acceptor has received all that was sent: it answers a TestRequest(1) in its turn.

        Waiting for messages to be resent it does not answer, and TestRequests are not resent: so they are repeated.

        Raises:
            TimeoutError: it did not answer in time.
            ConnectionError: the connection ended.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not await self._asked(min(_SYNC_RETRY_S, deadline - loop.time())):
            if loop.time() >= deadline:
                raise TimeoutError(f"{self.name}: no answer to a TestRequest within {timeout_s:g} s")

    async def _asked(self, patience_s: float) -> bool:
        session = self._active()
        wanted = b"sync-%d" % session.sequence.outbound
        session.send(b"1", b"112=%b\x01" % wanted)
        self._write()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._until(lambda: self._answered == wanted or not self.connected), patience_s)
        self._active()
        return self._answered == wanted

    async def logout(self, *, timeout_s: float = 10.0) -> None:
        """Says goodbye, waits for the answer, closes."""
        session = self._session
        if session is not None and not session.closed:
            session.logout()
            self._write()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._until(lambda: bool(session.closed)), timeout_s)
        await self.close()

    async def close(self) -> None:
        """Closes the socket; what was queued is written first, if the acceptor takes it within `_CLOSE_S`.

        The connection is gone when this returns: news of it cannot reach the next one.
        """
        self._flush()
        if self._ticker is not None:
            self._ticker.cancel()
        transport = self._transport
        if transport is None:
            return
        transport.close()
        try:
            await asyncio.wait_for(self._gone.wait(), _CLOSE_S)
        except TimeoutError:
            transport.abort()
            await self._gone.wait()

    def _active(self) -> Session:
        if self._session is None or not self.connected:
            why = self._session.closed if self._session is not None else "not connected yet"
            raise ConnectionError(f"{self.name}: {why}")
        return self._session

    def _forget(self) -> None:
        """The numbers begin again: what stood under them before is not what would be asked for."""
        self._sent.forget()
        self._intact.clear()

    def _resend(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        for number, raw in self._sent.between(first, last):
            self.again_intact += number in self._intact
            self._intact.add(number)
            yield number, raw


def _spoiled(raw: bytes) -> bytes:
    """The frame with another CheckSum(10)."""
    wrong = (int(raw[-4:-1]) + 1) % 256
    return raw[:-4] + b"%03d\x01" % wrong
