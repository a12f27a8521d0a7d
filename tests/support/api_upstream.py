"""The way from the API proxy to the real API server: requests are passed on as they came."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol, Self

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

_NOT_PASSED_ON = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
        *("transfer-encoding", "upgrade", "host", "expect"),
    }
)
"""Headers between two neighbours (RFC 9110, section 7.6.1), and those that each connection makes anew."""


class ApiServer(Protocol):
    """What stands behind the proxy, such as `testbed.kubernetes.Kubernetes`."""

    @property
    def server(self) -> str:
        """Its https address."""

    @property
    def ca(self) -> Path:
        """The authority that signed its certificate."""


class Upstream:
    """Connections to one API server, with the caller's own token; opened and used on one event loop.

    Args:
        server: the API server.
        admin: a client certificate and its key, for requests that come without a bearer token. They have connections
            of their own: a server that is shown a certificate looks at no token.
    """

    def __init__(self, server: ApiServer, admin: tuple[Path, Path] | None) -> None:
        self._server = server
        self._admin = admin
        self._sessions = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._as_caller = await self._open(None)
        self._as_admin = await self._open(self._admin) if self._admin else self._as_caller
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._sessions.aclose()

    @asynccontextmanager
    async def request(self, asked: web.BaseRequest, body: bytes) -> AsyncIterator[aiohttp.ClientResponse]:
        """Pass a request on.

        Raises:
            aiohttp.ClientError: the API server did not answer; a `ClientConnectorError` when it cannot have got it.
        """
        bearer = asked.headers.get("Authorization", "").lower().startswith("bearer ")
        session = self._as_caller if bearer else self._as_admin
        url = URL(self._server.server + asked.raw_path, encoded=True)
        headers = passed_on(asked.headers)
        headers.popall("Content-Length", None)  # the session writes that of `body`
        async with session.request(
            asked.method, url, headers=headers, data=body or None, allow_redirects=False
        ) as answer:
            try:
                yield answer
            finally:  # left before its end: TLS's polite goodbye would outlive the event loop
                if answer.connection is not None and answer.connection.transport is not None:
                    answer.connection.transport.abort()

    async def _open(self, identity: tuple[Path, Path] | None) -> aiohttp.ClientSession:
        tls = ssl.create_default_context(cafile=str(self._server.ca))
        if identity:
            tls.load_cert_chain(*identity)
        return await self._sessions.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls, limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            )
        )


def passed_on(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Headers without those that belong to the connection."""
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _NOT_PASSED_ON)
