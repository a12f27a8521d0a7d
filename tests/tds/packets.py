"""Messages in packets ([MS-TDS] 2.2.3): a header of eight bytes, the last packet of a message has the status bit 1."""

from __future__ import annotations

import struct
from typing import NamedTuple, Protocol

SQL_BATCH, RPC, ANSWER, ATTENTION, BULK_LOAD, TRANSACTION, LOGIN, PRELOGIN = 1, 3, 4, 6, 7, 14, 16, 18
PACKET_BYTES = 4_096
MESSAGE_BYTES = 256 << 20
"""No message may be longer: whoever sends more is not talking TDS."""
_HEADER = struct.Struct(">BBHHBB")
_END = 1


class Closed(Exception):
    """The other side has gone."""


class Malformed(Exception):
    """The bytes are not TDS."""


class Message(NamedTuple):
    """The type of its packets, and what they carry together."""

    kind: int
    payload: bytes


class Stream(Protocol):
    """Bytes in order, both ways."""

    def receive(self, size: int) -> bytes:
        """At most `size` bytes; empty when the other side has closed."""
        ...

    def send(self, data: bytes) -> None:
        """All of it."""
        ...


def exactly(stream: Stream, size: int) -> bytes:
    """Read so many bytes.

    Raises:
        Closed: the other side closed first.
    """
    parts, left = [], size
    while left:
        part = stream.receive(left)
        if not part:
            raise Closed
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def read_packet(stream: Stream) -> tuple[Message, bool]:
    """One packet, and whether it is the last of its message.

    Raises:
        Closed: the other side closed first.
        Malformed: the header is impossible.
    """
    kind, status, size, *_ = _HEADER.unpack(exactly(stream, _HEADER.size))
    if size < _HEADER.size:
        raise Malformed(f"a packet of type {kind} says that it has {size} bytes, with its header")
    return Message(kind, exactly(stream, size - _HEADER.size)), bool(status & _END)


def read_message(stream: Stream) -> Message:
    """One whole message. An attention in the middle of another message stands for both: it cancels that one.

    Raises:
        Closed: the other side closed first.
        Malformed: the packets do not belong together, or are too many.
    """
    first, last = read_packet(stream)
    parts, size = [first.payload], len(first.payload)
    while not last:
        more, last = read_packet(stream)
        if more.kind == ATTENTION:
            return more
        size += len(more.payload)
        if more.kind != first.kind or size > MESSAGE_BYTES:
            raise Malformed(f"a message of type {first.kind} goes on with type {more.kind} at {size} bytes")
        parts.append(more.payload)
    return Message(first.kind, b"".join(parts))


def packed(kind: int, payload: bytes, *, packet_bytes: int = PACKET_BYTES) -> bytes:
    """A message as packets of at most `packet_bytes`."""
    room = packet_bytes - _HEADER.size
    pieces = [payload[at : at + room] for at in range(0, len(payload), room)] or [b""]
    last = len(pieces) - 1
    return b"".join(
        _HEADER.pack(kind, _END if number == last else 0, len(piece) + _HEADER.size, 0, (number + 1) % 256, 0) + piece
        for number, piece in enumerate(pieces)
    )
