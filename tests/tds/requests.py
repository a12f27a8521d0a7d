"""What clients send ([MS-TDS] 2.2.6), taken apart."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tds.packets import Malformed
from tds.reading import Reader
from tds.types import Value, read_type

ENCRYPT_OFF, ENCRYPT_ON, ENCRYPT_NOT_SUPPORTED, ENCRYPT_REQUIRED = 0, 1, 2, 3
_VERSION, _ENCRYPTION, _LAST = 0, 1, 0xFF
_SERVER_VERSION = bytes((16, 0, 0, 0, 0, 0))
_BY_NUMBER, _BY_REFERENCE = 0xFFFF, 0x01
_LOGIN_TEXTS = ("host", "user", "password", "application", "server", "extension", "library", "language", "database")
_LOGIN_OFFSETS_AT = 36
_HIDING = 0xA5
TRANSACTION_BEGIN, TRANSACTION_COMMIT, TRANSACTION_ROLLBACK = 5, 7, 8


@dataclass(frozen=True, slots=True)
class Login:
    """Who wants in, and where to."""

    user: str
    password: str
    database: str
    application: str
    tds_version: int


def read_prelogin(payload: bytes) -> int:
    """What the client wants of encryption; one that says nothing cannot."""
    options, reader = {}, Reader(payload)
    while (option := reader.u8()) != _LAST:
        at, size = struct.unpack(">HH", reader.take(4))
        options[option] = payload[at : at + size]
    return (options.get(_ENCRYPTION) or bytes((ENCRYPT_NOT_SUPPORTED,)))[0]


def prelogin(encryption: int) -> bytes:
    """The answer, which a client could send as well."""
    values = ((_VERSION, _SERVER_VERSION), (_ENCRYPTION, bytes((encryption,))))
    at = 5 * len(values) + 1
    head, body = b"", b""
    for option, value in values:
        head += struct.pack(">BHH", option, at + len(body), len(value))
        body += value
    return head + bytes((_LAST,)) + body


def hidden(password: str) -> bytes:
    """A password as a login carries it, which hides it from nobody: nibbles swapped, every other bit turned."""
    return bytes((byte << 4 & 0xF0 | byte >> 4) ^ _HIDING for byte in password.encode("utf-16-le"))


def _shown(data: bytes) -> str:
    turned = bytes(byte ^ _HIDING for byte in data)
    return bytes(byte << 4 & 0xF0 | byte >> 4 for byte in turned).decode("utf-16-le")


def read_login(payload: bytes) -> Login:
    """A LOGIN7.

    Raises:
        Malformed: it points outside of itself.
    """
    texts: dict[str, bytes] = {}
    for number, name in enumerate(_LOGIN_TEXTS):
        at, characters = struct.unpack_from("<HH", payload, _LOGIN_OFFSETS_AT + 4 * number)
        data = payload[at : at + 2 * characters]
        if len(data) != 2 * characters and name != "extension":
            raise Malformed(f"the {name} of a login lies outside of it")
        texts[name] = data
    (version,) = struct.unpack_from("<I", payload, 4)
    return Login(
        user=texts["user"].decode("utf-16-le"),
        password=_shown(texts["password"]),
        database=texts["database"].decode("utf-16-le"),
        application=texts["application"].decode("utf-16-le"),
        tds_version=version,
    )


def _after_headers(payload: bytes) -> Reader:
    """Past ALL_HEADERS, whose length comes first."""
    reader = Reader(payload)
    reader.take(reader.u32() - 4)
    return reader


def read_batch(payload: bytes) -> str:
    """The text of a SQL batch."""
    reader = _after_headers(payload)
    return reader.take(reader.left).decode("utf-16-le")


@dataclass(frozen=True, slots=True)
class Call:
    """A procedure by name; `given` are names of parameters, empty for those that are told by place, with their values."""

    name: str
    given: tuple[tuple[str, Value], ...]


def read_call(payload: bytes) -> Call:
    """An RPC request ([MS-TDS] 2.2.6.6) for one procedure.

    Raises:
        ValueError: it is of a kind that this server does not know.
    """
    reader = _after_headers(payload)
    size = reader.u16()
    if size == _BY_NUMBER:
        raise ValueError("procedures by number")
    name = reader.take(2 * size).decode("utf-16-le")
    reader.u16()  # options
    given = []
    while reader.left:
        parameter = reader.short_text().lstrip("@").lower()
        if reader.u8() & _BY_REFERENCE:
            raise ValueError("parameters that a procedure changes")
        given.append((parameter, read_type(reader).decoded(reader)))
    return Call(name, tuple(given))


def read_transaction_request(payload: bytes) -> int:
    """What a transaction manager request asks for: `TRANSACTION_BEGIN`, `_COMMIT` or `_ROLLBACK`."""
    return _after_headers(payload).u16()
