"""A network in this process's memory: no sockets, and so no timing but the event loop's.

A stream has the two buffers that a TCP connection has: the reader's, which its kernel fills while nobody reads, and
the writer's, in which waits what does not fit there. An end whose writer's buffer is full is asked to pause. Bytes are
handed over in a later turn of the event loop than the one in which they were written.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import ssl
from collections.abc import Callable
from typing import cast

READ_BYTES = 256 * 1024
"""The most that is handed over at once, as asyncio reads from a socket."""
RECEIVE_BUFFER = 256 * 1024
"""Bytes that an end takes in while it does not read."""
HIGH_WATER, LOW_WATER = 64 * 1024, 16 * 1024
"""Bytes that wait in a writer's buffer when it is asked to pause, and when to go on (asyncio's own limits)."""
_FIRST_PORT = 49_152


class _Wire:
    """One direction: what was written, and not handed over yet."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False
        """Nothing more will be written."""

    @property
    def unsent(self) -> int:
        """Bytes that the reader's end has no room for."""
        return max(0, len(self.data) - RECEIVE_BUFFER)


class MemoryTransport(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, protocol: asyncio.BaseProtocol, incoming: _Wire, outgoing: _Wire) -> None:
        super().__init__({"peername": ("memory", 0)})
        self.peer: MemoryTransport
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._incoming = incoming
        self._outgoing = outgoing
        self._reading = True
        self._writing_paused = False
        self._closing = False
        self._gone = False
        self._reader_called = False
        self._heard_end = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Whom events are told from here on."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Whom events are told."""
        return self._protocol

    # --- reading --------------------------------------------------------------------------------------------

    def is_reading(self) -> bool:
        """Whether what comes is handed over."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Hands nothing over until `resume_reading`."""
        self._reading = False

    def resume_reading(self) -> None:
        """Hands over what has come meanwhile, and what will."""
        self._reading = True
        self.look()

    def look(self) -> None:
        """Something may have come: looks for it in the next turn."""
        if not self._reader_called and (self._incoming.data or self._incoming.ended):
            self._reader_called = True
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        self._reader_called = False
        if not self.is_reading():
            return
        protocol, data = cast("asyncio.Protocol", self._protocol), self._incoming.data
        if data:
            piece = bytes(data[:READ_BYTES])
            del data[:READ_BYTES]
            self.peer.sent()
            protocol.data_received(piece)
            self.look()
        elif self._incoming.ended and not self._heard_end:
            self._heard_end = True
            if not protocol.eof_received():
                self.close()

    # --- writing --------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends bytes; whoever writes to an end that is gone finds its own gone as well."""
        if self._outgoing.ended and not self._closing:
            raise RuntimeError("write() after write_eof()")
        if self._closing or not data:
            return
        if self.peer.is_gone():
            self._lose(ConnectionResetError(errno.ECONNRESET, "the other end is gone"))
            return
        self._outgoing.data += data
        self.peer.look()
        if self._outgoing.unsent > HIGH_WATER and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        """Always."""
        return True

    def write_eof(self) -> None:
        """Says that nothing more comes; what the other end says is still heard."""
        self._outgoing.ended = True
        self.peer.look()

    def get_write_buffer_size(self) -> int:
        """Bytes that the other end has no room for."""
        return self._outgoing.unsent

    def sent(self) -> None:
        """The other end has taken something in."""
        if self._closing:
            self._end_if_sent()
        elif self._writing_paused and self._outgoing.unsent <= LOW_WATER:
            self._writing_paused = False
            self._protocol.resume_writing()

    # --- the end --------------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        """Whether it is closed, or will be."""
        return self._closing

    def is_gone(self) -> bool:
        """Whether its protocol knows that it is closed, or will in a moment."""
        return self._gone

    def bereft(self) -> None:
        """The other end is gone: what it sent can still be read; what it has no room for is never sent."""
        if self._outgoing.unsent:
            self._lose(ConnectionResetError(errno.ECONNRESET, "the other end is gone"))
        else:
            self.look()

    def close(self) -> None:
        """Reads no more, and closes once all that was written is sent."""
        if not self._closing:
            self._closing = True
            self._end_if_sent()

    def abort(self) -> None:
        """Closes at once; what is not sent is lost."""
        self._lose(None)

    def _end_if_sent(self) -> None:
        if not self._outgoing.unsent:
            self._lose(None)

    def _lose(self, error: Exception | None) -> None:
        if self._gone:
            return
        self._closing = self._gone = True
        del self._outgoing.data[RECEIVE_BUFFER:]
        self._outgoing.ended = True
        self.peer.bereft()
        self._loop.call_soon(self._protocol.connection_lost, error)


class MemoryListener:
    """See `ports.Listener`."""

    def __init__(
        self, port: int, factory: Callable[[], asyncio.Protocol], listeners: dict[int, MemoryListener]
    ) -> None:
        self.port = port
        self.factory = factory
        self._listeners = listeners

    def close(self) -> None:
        """Accepts nobody any more."""
        if self._listeners.get(self.port) is self:
            del self._listeners[self.port]


class MemoryNetwork:
    """One host with many ports; see `ports.Network`. Hosts are names for it."""

    def __init__(self) -> None:
        self._listeners: dict[int, MemoryListener] = {}
        self._free = itertools.count(_FIRST_PORT)

    async def listen(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int, *, tls: ssl.SSLContext | None = None
    ) -> MemoryListener:
        """Accepts connections."""
        del host
        if tls is not None:
            raise ValueError("a network in memory has no TLS")
        if port in self._listeners:
            raise OSError(errno.EADDRINUSE, f"somebody listens on port {port} already")
        port = port or next(number for number in self._free if number not in self._listeners)
        self._listeners[port] = MemoryListener(port, factory, self._listeners)
        return self._listeners[port]

    async def connect(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> None:
        """Makes a connection."""
        listener = self._listeners.get(port)
        if listener is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"nobody listens on {host}:{port}")
        there, back = _Wire(), _Wire()
        ours = MemoryTransport(factory(), back, there)
        theirs = MemoryTransport(listener.factory(), there, back)
        ours.peer, theirs.peer = theirs, ours
        asyncio.get_running_loop().call_soon(theirs.get_protocol().connection_made, theirs)
        ours.get_protocol().connection_made(ours)
        await asyncio.sleep(0)
