"""TCP by asyncio's own transports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class TcpListener:
    """An open server; see `ports.Listener`."""

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server
        self.port: int = server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Accepts nobody any more."""
        self._server.close()


class TcpNetwork:
    """This machine's network; see `ports.Network`."""

    async def listen(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> TcpListener:
        """Accepts connections, also while some of an earlier listener have not been forgotten yet."""
        loop = asyncio.get_running_loop()
        return TcpListener(await loop.create_server(factory, host, port, reuse_address=True))

    async def connect(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> None:
        """Makes a connection."""
        await asyncio.get_running_loop().create_connection(factory, host, port)
