"""What an answer is made of ([MS-TDS] 2.2.7)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tds.reading import Reader
from tds.types import COLLATION, Type, Value, read_type

COLUMNS, ERROR, INFO, LOGIN_ACK, ROW, NBC_ROW, ENV_CHANGE, DONE = 0x81, 0xAA, 0xAB, 0xAD, 0xD1, 0xD2, 0xE3, 0xFD
RETURN_STATUS, DONE_PROCEDURE, DONE_IN_PROCEDURE = 0x79, 0xFE, 0xFF
MORE, FAILED, IN_TRANSACTION, COUNTED, CANCELLED = 0x01, 0x02, 0x04, 0x10, 0x20
"""Bits of the status of DONE."""
DATABASE, PACKET_SIZE, SQL_COLLATION, BEGUN, COMMITTED, ROLLED_BACK = 1, 4, 7, 8, 9, 10
"""What an ENVCHANGE tells of."""
_TDS_7_4 = bytes.fromhex("74000004")
_PROGRAM = "tests/tds, not SQL Server"
_VERSION = bytes((16, 0, 0, 0))
_DONE = struct.Struct("<BHHQ")
_MAY_BE_NULL, _IDENTITY = 0x0001, 0x0010
_SERVER = "tests-tds"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a result or of a table."""

    name: str
    type: Type
    nullable: bool = True
    identity: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """What a server says to a person: an error when its severity is above 10."""

    number: int
    text: str
    severity: int = 16
    state: int = 1
    line: int = 1


def _short(text: str) -> bytes:
    return bytes((len(text),)) + text.encode("utf-16-le")


def login_ack() -> bytes:
    """The login is accepted, with TDS 7.4."""
    body = b"\x01" + _TDS_7_4 + _short(_PROGRAM) + _VERSION
    return struct.pack("<BH", LOGIN_ACK, len(body)) + body


def env_text(what: int, new: str, old: str) -> bytes:
    """A database or a packet size has changed."""
    body = bytes((what,)) + _short(new) + _short(old)
    return struct.pack("<BH", ENV_CHANGE, len(body)) + body


def env_collation() -> bytes:
    """The collation of the session."""
    body = bytes((SQL_COLLATION, len(COLLATION))) + COLLATION + b"\x00"
    return struct.pack("<BH", ENV_CHANGE, len(body)) + body


def env_transaction(what: int, descriptor: int) -> bytes:
    """A transaction has begun or ended."""
    number = b"\x08" + struct.pack("<Q", descriptor)
    body = bytes((what,)) + (number + b"\x00" if what == BEGUN else b"\x00" + number)
    return struct.pack("<BH", ENV_CHANGE, len(body)) + body


def said(message: Said) -> bytes:
    """An error or a notice."""
    text = message.text.encode("utf-16-le")
    body = (
        struct.pack("<IBBH", message.number, message.state, message.severity, len(text) // 2)
        + text
        + _short(_SERVER)
        + _short("")
        + struct.pack("<I", message.line)
    )
    return struct.pack("<BH", ERROR if message.severity > 10 else INFO, len(body)) + body


def done(status: int = 0, count: int | None = None) -> bytes:
    """A statement or a batch is over."""
    return _DONE.pack(DONE, status | (COUNTED if count is not None else 0), 0, count or 0)


def returned() -> bytes:
    """What ends a procedure's answer: it returned 0, and is done."""
    return struct.pack("<Bi", RETURN_STATUS, 0) + _DONE.pack(DONE_PROCEDURE, 0, 0, 0)


def within(finished: bytes) -> bytes:
    """A DONE as it is told of a statement in a procedure."""
    return bytes((DONE_IN_PROCEDURE,)) + finished[1:]


def ended(answer: list[bytes], status: int) -> list[bytes]:
    """An answer whose last DONE says that nothing follows, as drivers wait for."""
    if answer and answer[-1][0] == DONE:
        token, said_of_it, command, count = _DONE.unpack(answer[-1])
        return [*answer[:-1], _DONE.pack(token, said_of_it & ~(MORE | IN_TRANSACTION) | status, command, count)]
    return [*answer, done(status)]


def columns(described: Sequence[Column]) -> bytes:
    """The columns of the rows that follow."""
    parts = [struct.pack("<BH", COLUMNS, len(described))]
    for column in described:
        flags = (_MAY_BE_NULL if column.nullable else 0) | (_IDENTITY if column.identity else 0)
        parts += [struct.pack("<IH", 0, flags), column.type.described(), _short(column.name)]
    return b"".join(parts)


def row(described: Sequence[Column], values: Sequence[Value]) -> bytes:
    """A row, with a bitmap of its NULLs if it has any."""
    if None not in values:
        return bytes((ROW,)) + b"".join(c.type.encoded(v) for c, v in zip(described, values, strict=True))
    bitmap = bytearray((len(described) + 7) // 8)
    parts = []
    for number, (column, value) in enumerate(zip(described, values, strict=True)):
        if value is None:
            bitmap[number // 8] |= 1 << number % 8
        else:
            parts.append(column.type.encoded(value))
    return bytes((NBC_ROW,)) + bytes(bitmap) + b"".join(parts)


def read_columns(reader: Reader) -> list[Column]:
    """Columns, as `columns` writes them; the token itself is read already."""
    described = []
    for _ in range(reader.u16()):
        reader.u32()
        flags = reader.u16()
        kind = read_type(reader)
        described.append(Column(reader.short_text(), kind, bool(flags & _MAY_BE_NULL), bool(flags & _IDENTITY)))
    return described


def read_rows(reader: Reader) -> tuple[list[Column], Iterable[list[Value]]]:
    """Columns and rows until DONE, as a bulk load sends them.

    Raises:
        ValueError: there is another token among them.
    """
    token = reader.u8()
    if token != COLUMNS:
        raise ValueError(f"a bulk load begins with token 0x{token:02x}")
    described = read_columns(reader)
    return described, _rows(reader, described)


def _rows(reader: Reader, described: Sequence[Column]) -> Iterable[list[Value]]:
    while reader.left:
        token = reader.u8()
        if token == DONE:
            return
        if token == ROW:
            yield [column.type.decoded(reader) for column in described]
        elif token == NBC_ROW:
            bitmap = reader.take((len(described) + 7) // 8)
            yield [
                None if bitmap[number // 8] >> number % 8 & 1 else column.type.decoded(reader)
                for number, column in enumerate(described)
            ]
        else:
            raise ValueError(f"token 0x{token:02x} stands among the rows")
