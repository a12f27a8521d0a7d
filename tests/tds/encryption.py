"""Bytes on a socket, plain or under TLS, whose handshake travels in PRELOGIN packets ([MS-TDS] 3.2.5.2)."""

from __future__ import annotations

import select
import socket
import ssl

from tds.packets import PRELOGIN, Closed, packed, read_message

_CHUNK_BYTES = 65_536


class Plain:
    """The socket as it is."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def receive(self, size: int) -> bytes:
        """At most `size` bytes; empty when the other side has closed."""
        return self._connection.recv(size)

    def send(self, data: bytes) -> None:
        """All of it."""
        self._connection.sendall(data)

    def waiting(self, within_s: float) -> bool:
        """Whether bytes arrive, or the other side closes, within so many seconds."""
        return bool(select.select([self._connection], [], [], within_s)[0])


class Encrypted:
    """A socket under TLS; the handshake is done when this is made.

    Raises:
        ssl.SSLError: the handshake fails.
        Closed: the other side left instead.
    """

    def __init__(self, plain: Plain, context: ssl.SSLContext) -> None:
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush_handshake()
                self._incoming.write(read_message(plain).payload)
        self._flush_handshake()

    def receive(self, size: int) -> bytes:
        """At most `size` bytes; empty when the other side has closed."""
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                data = self._plain.receive(_CHUNK_BYTES)
                if not data:
                    raise Closed from None
                self._incoming.write(data)
            except ssl.SSLZeroReturnError:
                return b""

    def send(self, data: bytes) -> None:
        """All of it."""
        self._tls.write(data)
        self._plain.send(self._outgoing.read())

    def waiting(self, within_s: float) -> bool:
        """Whether bytes arrive, or the other side closes, within so many seconds."""
        return self._tls.pending() > 0 or self._plain.waiting(within_s)

    def _flush_handshake(self) -> None:
        if data := self._outgoing.read():
            self._plain.send(packed(PRELOGIN, data))
