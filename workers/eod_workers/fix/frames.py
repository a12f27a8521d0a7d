"""Bytes ↔ frames: BeginString, BodyLength, CheckSum (FIX 4.4 vol. 2, "Message format" and "Garbled messages")."""

from __future__ import annotations

import re
from typing import NamedTuple
from zlib import adler32

SOH = b"\x01"
MAX_FRAME_BYTES = 512 * 1024
"""A BodyLength beyond this is taken for garbage instead of waited for."""
MAX_GARBAGE_BYTES = 65_536
"""Garbage whose end is not in sight is let go in pieces of this size."""

_START = b"8=FIX"
_TRAILER_BYTES = 7  # "10=" ddd SOH
_MAX_HEADER_BYTES = 24  # "8=FIXT.1.1" SOH "9=65536" SOH and some room
_LENGTHS = frozenset(b"90 93 95 212 348 350 352 354 356 358 360 362 364 445 618 621".split())
_DATA = frozenset(b"91 89 96 213 349 351 353 355 357 359 361 363 365 446 619 622".split())
"""Data fields, and the fields that announce their lengths, of all versions (FIX 4.4 vol. 1, data types: "data")."""
_INNER = SOH + _START
_TRAILER = b"\x0110="
# What `_frame_end` takes: up to 24 bytes from the beginning of BeginString to its end, and on to that of BodyLength.
_HEADER = re.compile(rb"8=FIX[^\x01]{0,18}\x019=[0-9]{1,21}\x0135=")
_HEADER_BEGUN = re.compile(
    rb"8=FIX(?:[^\x01]{0,18}|[^\x01]{0,18}\x01(?:9(?:=(?:[0-9]{0,21}|[0-9]{1,21}\x01(?:35?)?))?)?)\Z"
)
_MAX_WORK = 2 << 20
"""Bytes that are looked at in vain, of all that one push brings, before what is left is garbage without a closer look.
Frames inside frames could be counted again and again; a step of `_Walk` stands for many bytes of a checksum."""
_STEP = 1_500
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

    The work is linear in the bytes, in however many pieces they come: those of a frame that is not complete are kept
    aside and looked at once, until there are enough of them; garbage is one run as far as it has come, and searched for
    the headers of frames. Where it is cut depends on how it came; what is a frame does not.

    Attributes:
        data: what was pushed, can be cut, and is not all taken yet.
        position: where in it the next frame begins. Whoever takes whole frames by other means moves it on.
        limit: bytes of a frame; what claims to have more is garbled.
    """

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self.data = b""
        self.position = 0
        self.limit = limit
        self._rest = bytearray()
        """What was pushed and cannot be cut yet."""
        self._wanted = 0
        """Bytes of `_rest` with which the frame in it is complete; 0 if that is not known."""
        self._walk = _Walk(0)
        self._work = 0
        self._garbled = ""
        """Why what is kept aside is no frame, if that is known."""

    @property
    def pending_bytes(self) -> int:
        """Bytes of an unfinished frame."""
        return len(self.data) - self.position + len(self._rest)

    @property
    def why_garbled(self) -> str:
        """Why the bytes that wait are no frame, if that is known; what becomes of them depends on what follows."""
        return self._garbled

    def push(self, data: bytes) -> None:
        """Adds what the stream brought."""
        self._work = 0
        if self.position < len(self.data):
            self._put_aside(0, 0)
        if not self._rest:
            self.data, self.position = data, 0
            return
        if len(self._rest) + len(data) >= self._wanted:
            self.data, self.position = b"".join((self._rest, data)), 0
            self._rest.clear()
            return
        self._rest += data
        if self._walk.meets_a_frame(self._rest):
            self.data, self.position = bytes(self._rest), 0
            self._rest.clear()

    def take(self) -> bytes | Garbled | None:
        """The next frame or garbled run, in stream order; None until more bytes come."""
        data, start = self.data, self.position
        size = len(data)
        if start == size:
            return None
        end, why = 0, self._garbled or None
        if why is None:
            end, why, _ = _frame_end(data, start, size, self.limit)
        if why is None:
            if 0 < end <= size:
                self.position = end
                return data[start:end]
            self._put_aside(end - start if end else 0, start)
            return None
        end = self._resynchronize(data, start, size)
        if end == start:
            if size - start <= MAX_GARBAGE_BYTES:
                self._put_aside(0, start)
                self._garbled = why
                return None
            end = size - len(_START)
        self.position, self._garbled = end, ""
        return Garbled(data[start:end], why)

    def _resynchronize(self, data: bytes, start: int, size: int) -> int:
        """How far the garbage at `start` goes for certain, at least; `start` when that can't be told yet."""
        last = start
        while self._work <= _MAX_WORK and (found := _HEADER.search(data, last + 1)):
            last = found.start()
            _, why, work = _frame_end(data, last, size, self.limit)
            if why is None:
                return last
            self._work += work
        if begun := _HEADER_BEGUN.search(data, max(last + 1, size - 2 * _MAX_HEADER_BYTES - len(_TRAILER))):
            return begun.start()
        trailer = size - _TRAILER_BYTES - 1
        while (trailer := data.rfind(_TRAILER, last, trailer + len(_TRAILER))) >= 0:
            if data[trailer + _TRAILER_BYTES] == SOH[0]:
                return trailer + _TRAILER_BYTES + 1
            trailer -= 1
        return last

    def _put_aside(self, wanted: int, start: int) -> None:
        """What is left is a part of a frame, which is complete with `wanted` bytes."""
        self._rest += memoryview(self.data)[self.position :]
        self._wanted, self._walk = wanted, _Walk(_body_start(self.data, start) - start if wanted else 0)
        self.data, self.position = b"", 0

    def feed(self, data: bytes) -> list[bytes | Garbled]:
        """The frames and garbled runs that `data` completes, in stream order."""
        self.push(data)
        return list(iter(self.take, None))

    def close(self) -> Garbled | None:
        """What was left when the connection ended, or None."""
        rest = bytes(self._rest) + self.data[self.position :]
        self.data, self.position, self._garbled = b"", 0, ""
        self._rest.clear()
        return Garbled(rest, "the connection ended inside this frame") if rest else None


class _Walk:
    """Looks into the body of a frame that is not complete for the start of another one, each byte once.

    A BodyLength that is too large would swallow the frames behind it: a frame that starts inside gives it away, unless
    it stands in what a length field has announced.
    """

    def __init__(self, start: int) -> None:
        """`start`: where the body begins."""
        self.steps = 1
        """Fields that were looked at one by one."""
        self._field = start
        self._looked = start
        self._announced = 0

    def meets_a_frame(self, body: bytes | bytearray) -> bool:
        """Whether a frame begins in what has come so far."""
        while (found := body.find(_INNER, max(self._field - 1, self._looked - len(_INNER) + 1))) >= 0:
            if not self._is_data(body, found + 1):
                return True
            self._looked = self._field
        self._looked = len(body)
        return False

    def _is_data(self, body: bytes | bytearray, place: int) -> bool:
        """Whether a place is inside a data field; if it is, goes on behind that, or waits in front of it."""
        while self._field < place:
            self.steps += 1
            end = body.index(SOH, self._field)  # there is one in front of the place
            equals = body.find(b"=", self._field, end)
            tag = bytes(body[self._field : max(equals, self._field)])
            if self._announced and tag in _DATA:
                end = equals + 1 + self._announced
            value = bytes(body[equals + 1 : end]) if tag in _LENGTHS else b""
            self._announced = int(value) if value.isdigit() and len(value) < _MAX_HEADER_BYTES else 0
            self._field = end + 1
        return self._field > place


def _frame_end(buffer: bytes, start: int, size: int, limit: int) -> tuple[int, str | None, int]:
    """Where the frame at `start` ends, why it can't be one, and how many bytes had to be looked at for that.

    (end, None, …) of a good frame, or of one that needs more bytes than there are; (0, None, …) when that can't be told
    yet; (0, why, …) when it can't be a frame.
    """
    if not buffer.startswith(_START, start):
        if size - start < len(_START) and _START.startswith(buffer[start:size]):
            return 0, None, 0
        return 0, "BeginString(8) is not where a frame must begin", 0
    soh = buffer.find(SOH, start, start + _MAX_HEADER_BYTES)
    if soh < 0:
        return (0, None, 0) if size - start < _MAX_HEADER_BYTES else (0, "BeginString(8) does not end", 0)
    second = buffer.find(SOH, soh + 1, soh + 1 + _MAX_HEADER_BYTES)
    if second < 0:
        return (0, None, 0) if size - soh <= _MAX_HEADER_BYTES else (0, "BodyLength(9) does not end", 0)
    digits = buffer[soh + 3 : second]
    if buffer[soh + 1 : soh + 3] != b"9=" or not digits.isdigit():
        return 0, "BodyLength(9) is not the second field, or no number", 0
    if not buffer.startswith(b"35=", second + 1) and size - second > len(b"35="):
        return 0, "MsgType(35) is not the third field", 0
    trailer = second + 1 + int(digits)
    if trailer - start > limit:
        return 0, f"BodyLength(9)={digits.decode()} is beyond the limit of {limit} bytes", _STEP
    end = trailer + _TRAILER_BYTES
    if end > size:
        walk = _Walk(second + 1)
        swallows = walk.meets_a_frame(buffer)
        work = walk.steps * _STEP
        return (0, "BodyLength(9) reaches into the next frame", work) if swallows else (end, None, work)
    if buffer[trailer - 1 : trailer + 3] != b"\x0110=" or buffer[end - 1] != 1:
        return 0, f"BodyLength(9)={digits.decode()} does not lead to CheckSum(10)", _STEP
    stated = buffer[trailer + 3 : end - 1]
    actual = checksum(buffer[start:trailer])
    if stated != b"%03d" % actual:
        why = f"CheckSum(10)={stated.decode('latin-1')} but the bytes add up to {actual:03d}"
        return 0, why, trailer - start + _STEP
    return end, None, 0


def _body_start(buffer: bytes, start: int) -> int:
    """Behind BodyLength(9), which is the second field."""
    return buffer.index(SOH, buffer.index(SOH, start) + 1) + 1
