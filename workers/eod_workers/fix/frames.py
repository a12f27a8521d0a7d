"""Bytes ↔ frames: BeginString, BodyLength, CheckSum (FIX 4.4 vol. 2, "Message format" and "Garbled messages")."""

from __future__ import annotations

from typing import NamedTuple
from zlib import adler32

SOH = b"\x01"
MAX_FRAME_BYTES = 65_536
"""A BodyLength beyond this is taken for garbage instead of waited for."""

_START = b"8=FIX"
_TRAILER_BYTES = 7  # "10=" ddd SOH
_MAX_HEADER_BYTES = 24  # "8=FIXT.1.1" SOH "9=65536" SOH and some room
_ADLER_BASE = 65_521
_ADLER_SAFE_BYTES = _ADLER_BASE // 255


class Garbled(NamedTuple):
    """A run of bytes that is no frame, and the sentence that says why."""

    raw: bytes
    why: str


def checksum(data: bytes) -> int:
    """CheckSum(10): the sum of all bytes, modulo 256.

    The low half of Adler-32 is 1 + that sum as long as it stays below 65,521, which is several times faster than
    `sum` on the lengths of FIX frames; longer data is added up piece by piece.
    """
    if len(data) <= _ADLER_SAFE_BYTES:
        return (adler32(data) & 0xFFFF) - 1 & 0xFF
    return (
        sum((adler32(data[i : i + _ADLER_SAFE_BYTES]) & 0xFFFF) - 1 for i in range(0, len(data), _ADLER_SAFE_BYTES))
        & 0xFF
    )


def frame(begin_string: bytes, body: bytes) -> bytes:
    """A whole frame around a body that ends with SOH (the fields from MsgType(35) to the last before CheckSum)."""
    head = b"8=%b\x019=%d\x01%b" % (begin_string, len(body), body)
    return b"%b10=%03d\x01" % (head, checksum(head))


class FrameBuffer:
    """Cuts a byte stream into frames. Nothing is ever dropped: what is no frame comes out as `Garbled`.

    Attributes:
        data: what was pushed and is not all taken yet.
        position: where in it the next frame begins. Whoever takes whole frames by other means moves it on.
    """

    def __init__(self) -> None:
        self.data = b""
        self.position = 0

    @property
    def pending_bytes(self) -> int:
        """Bytes of an unfinished frame."""
        return len(self.data) - self.position

    def push(self, data: bytes) -> None:
        """Adds what the stream brought. Only what is not taken yet is copied, which is less than a frame as a rule."""
        self.data = self.data[self.position :] + data if self.position < len(self.data) else data
        self.position = 0

    def take(self) -> bytes | Garbled | None:
        """The next frame or garbled run, in stream order; None until more bytes come."""
        data, start = self.data, self.position
        size = len(data)
        if start == size:
            return None
        end, why = _frame_end(data, start, size)
        if why is None:
            if end == 0:
                return None
            self.position = end
            return data[start:end]
        end = _resynchronize(data, start, size)
        if end == 0:
            if size - start <= MAX_FRAME_BYTES:
                return None
            end = size - len(_START)
        self.position = end
        return Garbled(data[start:end], why)

    def feed(self, data: bytes) -> list[bytes | Garbled]:
        """The frames and garbled runs that `data` completes, in stream order."""
        self.push(data)
        return list(iter(self.take, None))

    def close(self) -> Garbled | None:
        """What was left when the connection ended, or None."""
        rest = self.data[self.position :]
        self.data, self.position = b"", 0
        return Garbled(rest, "the connection ended inside this frame") if rest else None


def _frame_end(buffer: bytes, start: int, size: int) -> tuple[int, str | None]:
    """(end, None) of a good frame; (0, None) when more bytes are needed; (0, why) when it can't be a frame."""
    if not buffer.startswith(_START, start):
        if size - start < len(_START) and _START.startswith(buffer[start:size]):
            return 0, None
        return 0, "BeginString(8) is not where a frame must begin"
    soh = buffer.find(SOH, start, start + _MAX_HEADER_BYTES)
    if soh < 0:
        return (0, None) if size - start < _MAX_HEADER_BYTES else (0, "BeginString(8) does not end")
    second = buffer.find(SOH, soh + 1, soh + 1 + _MAX_HEADER_BYTES)
    if second < 0:
        return (0, None) if size - soh < _MAX_HEADER_BYTES else (0, "BodyLength(9) does not end")
    digits = buffer[soh + 3 : second]
    if buffer[soh + 1 : soh + 3] != b"9=" or not digits.isdigit():
        return 0, "BodyLength(9) is not the second field, or no number"
    trailer = second + 1 + int(digits)
    if trailer - start > MAX_FRAME_BYTES:
        return 0, f"BodyLength(9)={digits.decode()} is beyond the limit of {MAX_FRAME_BYTES} bytes"
    end = trailer + _TRAILER_BYTES
    if end > size:
        # A BodyLength that is too large would swallow the frames behind it: a frame that starts inside gives it away.
        inner = buffer.find(SOH + _START, second, size)
        return (0, "BodyLength(9) reaches into the next frame") if inner >= 0 else (0, None)
    if buffer[trailer : trailer + 3] != b"10=" or buffer[end - 1] != 1:
        return 0, f"BodyLength(9)={digits.decode()} does not lead to CheckSum(10)"
    stated = buffer[trailer + 3 : end - 1]
    actual = checksum(buffer[start:trailer])
    if stated != b"%03d" % actual:
        return 0, f"CheckSum(10)={stated.decode('latin-1')} but the bytes add up to {actual:03d}"
    return end, None


def _resynchronize(buffer: bytes, start: int, size: int) -> int:
    """Where the next frame may begin after the garbage at `start`; 0 when that can't be told yet."""
    following = buffer.find(_START, start + 1, size)
    trailer = buffer.find(b"\x0110=", start, size)
    ends = []
    if following > 0:
        ends.append(following)
    if trailer >= 0 and trailer + _TRAILER_BYTES + 1 <= size and buffer[trailer + _TRAILER_BYTES] == 1:
        ends.append(trailer + _TRAILER_BYTES + 1)
    return min(ends, default=0)
