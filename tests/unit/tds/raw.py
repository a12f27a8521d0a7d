"""A client of a few lines, to say to the test server what drivers do not say."""

from __future__ import annotations

import socket
import struct

from tds.encryption import Plain
from tds.packets import LOGIN, PRELOGIN, SQL_BATCH, Closed, packed, read_message
from tds.requests import ENCRYPT_NOT_SUPPORTED, hidden, prelogin

HEADERS = struct.pack("<IIHQI", 22, 18, 2, 0, 1)
"""ALL_HEADERS of a request outside of a transaction."""


def login(user: str, password: str, database: str) -> bytes:
    """A LOGIN7 with what a server must know."""
    at, offsets, body = 94, b"", b""
    for text in (
        b"",
        user.encode("utf-16-le"),
        hidden(password),
        b"",
        b"",
        b"",
        b"",
        b"",
        database.encode("utf-16-le"),
    ):
        offsets += struct.pack("<HH", at + len(body), len(text) // 2)
        body += text
    fixed = struct.pack("<IIIIIBBBBiI", 0x74000004, 4096, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    rest = bytes(94 - 4 - len(fixed) - len(offsets))
    return struct.pack("<I", at + len(body)) + fixed + offsets + rest + body


class Client:
    """One connection, logged in."""

    def __init__(self, port: int, user: str, password: str, database: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._stream = Plain(self._socket)
        self.ask(PRELOGIN, prelogin(ENCRYPT_NOT_SUPPORTED))
        self.greeting = self.ask(LOGIN, login(user, password, database))

    def ask(self, kind: int, payload: bytes) -> bytes:
        """Send a message and return the answer."""
        self.send(kind, payload)
        return read_message(self._stream).payload

    def send(self, kind: int, payload: bytes) -> None:
        """Send a message."""
        self._stream.send(packed(kind, payload))

    def run(self, batch: str) -> bytes:
        """The answer to a batch."""
        return self.ask(SQL_BATCH, HEADERS + batch.encode("utf-16-le"))

    def is_cut_off(self) -> bool:
        """Whether the server has closed the connection."""
        try:
            read_message(self._stream)
        except (Closed, ConnectionResetError):
            return True
        return False

    def close(self) -> None:
        """Leave."""
        self._socket.close()
