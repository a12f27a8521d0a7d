"""TCP by asyncio's own transports."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

HANDSHAKE_S, SHUTDOWN_S = 10.0, 2.0
"""How long a connection may take to become encrypted, and to end as such."""


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

    async def listen(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int, *, tls: ssl.SSLContext | None = None
    ) -> TcpListener:
        """Accepts connections, also while some of an earlier listener have not been forgotten yet."""
        loop = asyncio.get_running_loop()
        return TcpListener(
            await loop.create_server(
                factory,
                host,
                port,
                reuse_address=True,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else HANDSHAKE_S,
                ssl_shutdown_timeout=None if tls is None else SHUTDOWN_S,
            )
        )

    async def connect(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> None:
        """Makes a connection."""
        await asyncio.get_running_loop().create_connection(factory, host, port)
