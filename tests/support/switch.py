"""A TCP switch: one address for a counterparty, and behind it whichever server the test says.

Moving ends the counterparty's connections; it connects anew and comes out elsewhere. The server's ends may be left
open, as when a line breaks and only the counterparty has noticed: what was on its way can still be read there.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from typing import Self

_CHUNK_BYTES = 65_536


@dataclass(eq=False)
class _Line:
    """One connection through the switch."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    abandoned: bool = False


class Switch:
    """Listens on a free port; `to` says where connections made from now on go."""

    def __init__(self) -> None:
        self.port = 0
        self._target = 0
        self._lines: set[_Line] = set()
        self._loop = asyncio.new_event_loop()
        self._open = threading.Event()
        self._thread = threading.Thread(target=self._run, name="switch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._open.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def to(self, port: int) -> None:
        """Send connections made from now on to this port."""
        self._target = port

    def move(self, port: int, *, hang_up: bool = True) -> None:
        """Send the counterparty to this port at once; `hang_up` also ends the server's side of its connections."""
        self.to(port)
        self._loop.call_soon_threadsafe(self._cut, hang_up)

    def _cut(self, hang_up: bool) -> None:  # noqa: FBT001 - called by position across threads
        for line in self._lines:
            line.abandoned = line.abandoned or not hang_up
            line.near.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._connected, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._open.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        server.close()
        for line in self._lines:
            line.near.transport.abort()
            line.far.transport.abort()
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            near.close()
            return
        line = _Line(near, far)
        self._lines.add(line)
        try:
            await asyncio.gather(self._inward(line, reader), self._outward(line, far_reader))
        finally:
            self._lines.discard(line)

    async def _inward(self, line: _Line, reader: asyncio.StreamReader) -> None:
        """From the counterparty to the server, and then its end, unless nobody is to tell the server."""
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                line.far.write(data)
                await line.far.drain()
        if not line.abandoned:
            line.far.close()

    async def _outward(self, line: _Line, reader: asyncio.StreamReader) -> None:
        """From the server to the counterparty; what it says on an abandoned line is heard by nobody."""
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                if not line.near.is_closing():
                    line.near.write(data)
        line.near.close()
        line.far.close()
