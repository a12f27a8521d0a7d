"""Two sides of a FIX session without a socket, and time that stands still until it is moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from eod_workers.fix.fields import Fields
from eod_workers.fix.frames import FrameBuffer, Garbled
from eod_workers.fix.reading import Message
from eod_workers.fix.rules import LENIENT, Rules
from eod_workers.fix.sent import SentMessages
from eod_workers.fix.session import Refused, SequenceNumbers, Session
from support.fix_messages import message, parsed

START_NS = 1_767_387_600_000_000_000


@dataclass
class Now:
    """Nanoseconds that only tests move."""

    ns: int = START_NS

    def __call__(self) -> int:
        """The time."""
        return self.ns

    def pass_s(self, seconds: float) -> None:
        """Let time go by."""
        self.ns += round(seconds * 1e9)


@dataclass
class Party:
    """One side: what outlives its connections, and the session of the present one."""

    name: str
    other: str
    now: Now
    initiator: bool = False
    heartbeat_s: int = 30
    sequence: SequenceNumbers = field(default_factory=SequenceNumbers)
    sent: dict[int, str] = field(default_factory=dict)
    """MsgSeqNum → the text of each application message sent."""
    got: list[str] = field(default_factory=list)
    """The texts of the application messages delivered."""
    aside: list[bytes] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    rules: Rules = LENIENT
    header: Mapping[int, bytes] = field(default_factory=dict)
    rejections: SentMessages | None = None
    delivered: list[Message] = field(default_factory=list)
    """The application messages delivered."""

    def __post_init__(self) -> None:
        self.connect()

    def connect(self) -> None:
        """Begin a connection with the numbers of the one before."""
        self.buffer = FrameBuffer()
        self.session = Session(
            begin_string=b"FIX.4.4",
            sender=self.name.encode(),
            target=self.other.encode(),
            sequence=self.sequence,
            now_ns=self.now,
            heartbeat_s=self.heartbeat_s,
            initiator=self.initiator,
            resend=self._resend,
            rejections=self.rejections,
            rules=self.rules,
            header=self.header,
        )

    def say(self, text: str) -> None:
        """Send an application message."""
        self.sent[self.session.send(b"B", b"58=%b\x01" % text.encode())] = text

    def again(self, number: int) -> bytes:
        """An application message of before, with PossDupFlag=Y."""
        body = f"43=Y|122=20260102-21:00:00.000|58={self.sent[number]}|"
        return message("B", number, body, sender=self.name, target=self.other)

    def hear(self, raw: bytes) -> None:
        """Take bytes from the wire; garbled ones come to nothing."""
        for item in self.buffer.feed(raw):
            if not isinstance(item, Garbled):
                self.session.received(item, parsed(item), self.now())
        self.collect()

    def collect(self) -> None:
        """Take what the session has delivered and set aside."""
        self.delivered += [delivered.message for delivered in self.session.delivered]
        self.got += [delivered.message.fields.get(b"58", b"").decode() for delivered in self.session.delivered]
        self.aside += self.session.aside
        self.refused += self.session.refused
        self.session.delivered.clear()
        self.session.refused.clear()
        self.session.aside.clear()

    def answers(self) -> list[Fields]:
        """What waits to be written, taken and parsed."""
        out = [parsed(raw).fields for raw in self.session.outbox]
        self.session.outbox.clear()
        return out

    def said(self) -> list[str]:
        """What waits to be written, taken: each as "MsgType MsgSeqNum" and the fields that matter to its type."""
        return [_in_short(fields) for fields in self.answers()]

    def _resend(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        for number in range(first, last + 1):
            if number in self.sent:
                yield number, self.again(number)


_TELLING = (b"7", b"16", b"36", b"43", b"108", b"112", b"123", b"141", b"371", b"373", b"45", b"58")


def _in_short(fields: Fields) -> str:
    shown = [f"{tag.decode()}={fields[tag].decode('latin-1')}" for tag in _TELLING if tag in fields]
    return " ".join([fields[b"35"].decode(), fields[b"34"].decode(), *shown])
