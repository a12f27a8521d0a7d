"""What pods are believed to have said at `/readyz`, whatever runs in them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from eod_operator import asking
from eod_operator.asking import Asker
from eod_workers.adapters.tcp import TcpNetwork
from eod_workers.process.probes import registry_of, serve_health
from eod_workers.process.settings import Process
from eod_workers.runtime.health import Health
from eod_workers.runtime.metrics import Metrics

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def _served(serve: Serve) -> AsyncIterator[int]:
    ended = asyncio.Event()

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await serve(reader, writer)
        finally:
            writer.close()
            ended.set()

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await ended.wait()


def _answers(raw: bytes) -> Serve:
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    return serve


def _503(body: bytes) -> bytes:
    return b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        pytest.param(_503(b"loading: no\nway\n"), "loading: no way", id="a sentence"),
        pytest.param(_503(b"\x1b[31m\xff\x00"), "\ufffd[31m\ufffd\ufffd", id="no text"),
        pytest.param(_503(b"x" * 100_000), "x" * 2048, id="too much"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "", id="ready"),
        pytest.param(
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "", id="elsewhere"
        ),
        pytest.param(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", "", id="no such page"),
        pytest.param(b"SSH-2.0-x\r\n", "", id="another protocol"),
        pytest.param(b"", "", id="hung up"),
    ],
)
async def test_an_answer_is_a_line_of_text(raw: bytes, said: str) -> None:
    async with _served(_answers(raw)) as port:
        assert await Asker(port)("127.0.0.1") == said


async def test_nobody_is_followed_elsewhere() -> None:
    """A pod could make the operator ask any address that it can reach, and tell the answer."""
    asked = asyncio.Event()

    async def elsewhere(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        writer.close()

    server = await asyncio.start_server(elsewhere, "127.0.0.1", 0)
    async with server:
        target = server.sockets[0].getsockname()[1]
        moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n" % target
        async with _served(_answers(moved)) as port:
            assert await Asker(port)("127.0.0.1") == ""
    assert not asked.is_set()


async def test_who_does_not_answer_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_WITHIN_S", 0.05)
    never = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the asker hangs up
        never.set()

    async with _served(serve) as port:
        assert await Asker(port)("127.0.0.1") == ""
        await never.wait()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "no address"])
async def test_where_nobody_listens_nothing_is_said(address: str) -> None:
    assert await Asker(1)(address) == ""


async def test_a_stage_says_why_it_is_not_ready() -> None:
    """The very server of the stages."""
    health = Health()
    health.not_ready("loading partitions: redis:6379 refuses the login")
    listener = await serve_health(health, registry_of(Metrics()), TcpNetwork(), Process(http_port=0))
    try:
        assert await Asker(listener.port)("127.0.0.1") == health.why_not
        health.ready()
        assert await Asker(listener.port)("127.0.0.1") == ""
    finally:
        listener.close()
