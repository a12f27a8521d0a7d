"""The types of columns ([MS-TDS] 2.2.5.4): their names in T-SQL, their descriptions and their values on the wire.

Only those that the project's SQL uses, and what a driver sends for them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tds.exact import A_SECOND, TIME_DIGITS, Decimal, decimal, time
from tds.reading import Reader

Value = int | str | bytes | None

COLLATION = bytes.fromhex("0904d00034")
"""Latin1_General, code page 1252, as servers announce it by default."""
INTN, BITN, BINARY, VARBINARY, NVARCHAR = 0x26, 0x68, 0xAD, 0xA5, 0xE7
_BIT = 0x32
_FIXED = {0x30: 1, _BIT: 1, 0x34: 2, 0x38: 4, 0x7F: 8}
"""Integers without a length: tinyint, bit, smallint, int, bigint."""
_INTEGERS = {"tinyint": 1, "smallint": 2, "int": 4, "integer": 4, "bigint": 8}
_BINARIES = {"binary": BINARY, "varbinary": VARBINARY}
MAX = 0xFFFF
"""The size of a `(max)`; its values come in chunks."""
_NULL = 0xFFFF
_NULL_CHUNKS = 0xFFFF_FFFF_FFFF_FFFF
_UNKNOWN_SIZE = 0xFFFF_FFFF_FFFF_FFFE
_MOST_BYTES = 8_000


@dataclass(frozen=True, slots=True)
class Type:
    """One type; `size` in bytes, `MAX` without a limit."""

    code: int
    size: int

    @property
    def is_text(self) -> bool:
        """Whether its values are str."""
        return self.code == NVARCHAR

    @property
    def is_bytes(self) -> bool:
        """Whether its values are bytes."""
        return self.code in {BINARY, VARBINARY}

    def described(self) -> bytes:
        """Its TYPE_INFO."""
        if self.is_text:
            return struct.pack("<BH", self.code, self.size) + COLLATION
        if self.is_bytes:
            return struct.pack("<BH", self.code, self.size)
        return bytes((self.code, self.size))

    def encoded(self, value: Value) -> bytes:
        """A value in a row.

        Raises:
            ValueError: it does not fit.
        """
        if self.is_text or self.is_bytes:
            return self._encoded_bytes(value)
        if value is None:
            return b"\x00"
        if not isinstance(value, int):
            raise ValueError(f"{value!r} is no integer")  # noqa: TRY004 - a value like any other
        try:
            return bytes((self.size,)) + value.to_bytes(self.size, "little", signed=self.size > 1)
        except OverflowError:
            raise ValueError(f"{value} does not fit into {self.size} bytes") from None

    def decoded(self, reader: Reader) -> Value:
        """The next value of a row."""
        if self.is_text or self.is_bytes:
            data = self._decoded_bytes(reader)
            if data is None:
                return None
            return data.decode("utf-16-le") if self.is_text else data
        size = reader.u8()
        if not size:
            return None
        return int.from_bytes(reader.take(size), "little", signed=size > 1)

    def _encoded_bytes(self, value: Value) -> bytes:
        if value is None:
            return struct.pack("<Q", _NULL_CHUNKS) if self.size == MAX else struct.pack("<H", _NULL)
        if isinstance(value, int):
            value = str(value)
        data = value if isinstance(value, bytes) else value.encode("utf-16-le")
        if self.size == MAX:
            chunk = struct.pack("<I", len(data)) + data if data else b""
            return struct.pack("<Q", len(data)) + chunk + struct.pack("<I", 0)
        if len(data) > self.size:
            raise ValueError(f"{len(data)} bytes do not fit into {self.size}")
        return struct.pack("<H", len(data)) + data

    def _decoded_bytes(self, reader: Reader) -> bytes | None:
        if self.size != MAX:
            size = reader.u16()
            return None if size == _NULL else reader.take(size)
        total = reader.u64()
        if total == _NULL_CHUNKS:
            return None
        chunks = []
        while size := reader.u32():
            chunks.append(reader.take(size))
        data = b"".join(chunks)
        if total not in {_UNKNOWN_SIZE, len(data)}:
            raise ValueError(f"{total} bytes are announced, {len(data)} have come")
        return data


BIGINT = Type(INTN, 8)
INT = Type(INTN, 4)
TEXT = Type(NVARCHAR, _MOST_BYTES)
BYTES = Type(VARBINARY, _MOST_BYTES)


@dataclass(frozen=True, slots=True)
class FixedType(Type):
    """An integer that has no length before its value, as some drivers bind a column that cannot be NULL."""

    def described(self) -> bytes:
        """Its TYPE_INFO: the code alone."""
        return bytes((self.code,))

    def encoded(self, value: Value) -> bytes:
        """A value in a row: its bytes alone."""
        return Type.encoded(self, value)[1:]

    def decoded(self, reader: Reader) -> Value:
        """The next value of a row."""
        return int.from_bytes(reader.take(self.size), "little", signed=self.size > 1)


_DECIMAL, _DATETIME2, _VARCHAR = 0x6C, 0x2A, 0xA7
_A_DAY = 86_400 * A_SECOND


@dataclass(frozen=True, slots=True)
class DecimalType(Type):
    """A decimal of `size` digits, `scale` of them behind the point; results have it, columns do not."""

    scale: int

    def described(self) -> bytes:
        """Its TYPE_INFO."""
        return bytes((self.code, self._length(), self.size, self.scale))

    def encoded(self, value: Value) -> bytes:
        """A value in a row: its sign, and the digits as an integer."""
        stands = Decimal(self.size, 0, value) if isinstance(value, int) else decimal(value)
        if stands is None:
            raise ValueError(f"{value!r} is no decimal")
        units = stands.at_scale(self.scale)
        size = self._length()
        return bytes((size, units >= 0)) + abs(units).to_bytes(size - 1, "little")

    def _length(self) -> int:
        return next(size for size, digits in ((5, 9), (9, 19), (13, 28), (17, 38)) if self.size <= digits)


@dataclass(frozen=True, slots=True)
class TimeType(Type):
    """A datetime2 with `size` digits of a second; results have it, columns do not."""

    def described(self) -> bytes:
        """Its TYPE_INFO."""
        return bytes((self.code, self.size))

    def encoded(self, value: Value) -> bytes:
        """A value in a row: the time of the day in units of its last digit, and the day since the year 1."""
        stands = time(value)
        if stands is None:
            raise ValueError(f"{value!r} is no datetime2")
        days, ticks = divmod(stands.ticks, _A_DAY)
        size = next(size for size, digits in ((3, 2), (4, 4), (5, 7)) if self.size <= digits)
        units = ticks // int(10 ** (TIME_DIGITS - self.size))
        return bytes((size + 3,)) + units.to_bytes(size, "little") + days.to_bytes(3, "little")


@dataclass(frozen=True, slots=True)
class AnsiType(Type):
    """A text of the session's code page, as drivers send parameters."""

    def decoded(self, reader: Reader) -> Value:
        """The next value."""
        size = reader.u16()
        return None if size == _NULL else reader.take(size).decode("cp1252")


def decimal_type(precision: int, scale: int) -> Type:
    """The type of decimals in a result."""
    return DecimalType(_DECIMAL, precision, scale)


def time_type(scale: int) -> Type:
    """The type of times in a result."""
    return TimeType(_DATETIME2, scale)


def without_null(type_: Type) -> Type:
    """The type of a column that cannot be NULL: servers describe integers in it without a length."""
    codes = {size: code for code, size in _FIXED.items() if code != _BIT}
    return FixedType(codes[type_.size], type_.size) if type_.code == INTN else type_


def type_named(name: str, size: str = "") -> Type:
    """The type of a column that is declared so: `nvarchar`, `4000`.

    Raises:
        ValueError: this server has no such type.
    """
    kind = name.lower()
    if kind in _INTEGERS:
        return Type(INTN, _INTEGERS[kind])
    if kind == "bit":
        return Type(BITN, 1)
    limit = MAX if size.lower() == "max" else int(size or 1)
    if kind == "nvarchar":
        return Type(NVARCHAR, limit if limit == MAX else 2 * limit)
    if kind in _BINARIES:
        return Type(_BINARIES[kind], limit)
    raise ValueError(f"this test server has no type {name}")


def read_type(reader: Reader) -> Type:
    """A TYPE_INFO.

    Raises:
        ValueError: this server has no such type.
    """
    code = reader.u8()
    if code in _FIXED:
        return FixedType(code, _FIXED[code])
    if code in {INTN, BITN}:
        return Type(code, reader.u8())
    if code in {BINARY, VARBINARY}:
        return Type(code, reader.u16())
    if code == NVARCHAR:
        size = reader.u16()
        reader.take(len(COLLATION))
        return Type(code, size)
    if code == _VARCHAR:
        size = reader.u16()
        reader.take(len(COLLATION))
        return AnsiType(code, size)
    raise ValueError(f"this test server has no type 0x{code:02x}")
