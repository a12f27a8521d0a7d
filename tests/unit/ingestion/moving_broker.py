"""The counterparty of the simulation in `moving`, and the lines between it and the ingestions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from eod_workers.fix.frames import FrameBuffer, Garbled, frame
from eod_workers.fix.session import SequenceNumbers, Session
from eod_workers.ingestion.connection import Connection
from support.fix_messages import parsed, soh, trade_body

SYMBOLS = ("IBM", "AAPL", "TSLA", "MSFT", "ORCL")
START_NS = 1_767_387_600_000_000_000


class Link:
    """One TCP connection: bytes on their way in both directions; also the transport of the ingestion's side."""

    def __init__(self) -> None:
        self.inward = bytearray()
        self.outward = bytearray()
        self.paused = False
        self.left = False
        """The counterparty has closed its side; what it wrote can still be read."""
        self.closed = False
        self.connection: Connection | None = None

    def get_extra_info(self, name: str) -> None:
        """Nobody knows where it comes from."""
        del name

    def write(self, data: bytes) -> None:
        if not self.left:
            self.outward += data

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            assert self.connection is not None
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)

    abort = close


@dataclass
class Broker:
    """The counterparty: numbers and keeps its messages, connected or not, and resends what is asked for."""

    random: Random
    numbers: SequenceNumbers = field(default_factory=SequenceNumbers)
    sent: list[str] = field(default_factory=list)
    """The ExecID of every trade."""
    history: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    """MsgSeqNum → MsgType and body of what it would send again."""
    resetting: bool = False
    """It has asked for a reset, which is not confirmed yet: until then it asks again, and sends nothing."""
    link: Link | None = None
    session: Session | None = None

    def connect(self, link: Link, *, reset: bool = False) -> None:
        """Leave the connection there is and log on over another."""
        if self.link is not None:
            self.link.left = True
        self.link, self.buffer = link, FrameBuffer()
        self.resetting = reset or self.resetting
        if self.resetting:
            self.history.clear()
        self.session = Session(
            begin_string=b"FIX.4.4",
            sender=b"ACME",
            target=b"EOD",
            sequence=self.numbers,
            now_ns=lambda: START_NS,
            heartbeat_s=0,
            initiator=True,
            resend=self._resend,
        )
        self.session.logon(reset=self.resetting)
        self._write()

    def trade(self) -> None:
        """One trade more, sent at once if there is a line, and kept for resending; or a News that nobody handles."""
        if self.session is None or self.resetting:
            return
        kind, body = b"B", soh("148=closing|33=1|58=x|")
        if self.random.random() < 0.9:
            exec_id = f"X{len(self.sent) + 1}"
            kind, body = b"8", soh(trade_body(exec_id, symbol=self.random.choice(SYMBOLS)))
            self.sent.append(exec_id)
        ready = self.session.logged_on and not self.session.closed
        self.history[self.session.send(kind, body)] = kind, body
        raw = self.session.outbox.pop()
        if ready and self.link is not None:
            self.link.inward += raw[:-4] + b"999\x01" if self.random.random() < 0.02 else raw

    def probe(self) -> None:
        """A TestRequest(1), as after some silence: it shows the ingestion what it has missed."""
        if not self.adrift and self.session is not None and self.session.logged_on:
            self.session.send(b"1", b"112=there?\x01")
            self._write()

    def hear(self, data: bytes) -> None:
        """Take what the ingestion says."""
        assert self.session is not None
        for item in self.buffer.feed(data):
            assert not isinstance(item, Garbled)
            self.session.received(item, parsed(item), START_NS)
        self.session.aside.clear()
        self.resetting = self.resetting and not self.session.logged_on
        self._write()

    @property
    def adrift(self) -> bool:
        """Whether there is no connection, or none any more."""
        return self.session is None or self.link is None or bool(self.session.closed) or self.link.closed

    def _write(self) -> None:
        assert self.session is not None
        assert self.link is not None
        self.link.inward += b"".join(self.session.outbox)
        self.session.outbox.clear()

    def _resend(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        for number in range(first, last + 1):
            if number in self.history:
                kind, body = self.history[number]
                head = b"35=%b\x0149=ACME\x0156=EOD\x0134=%d\x0143=Y\x0152=20260102-21:00:00\x01" % (kind, number)
                yield number, frame(b"FIX.4.4", head + body)
