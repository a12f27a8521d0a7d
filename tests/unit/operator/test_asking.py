"""What pods are believed to have said at `/readyz`, whatever runs in them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from eod_operator import asking
from eod_operator.api.http import Http
from eod_operator.asking import Asker, Door, door_of
from eod_workers.adapters.tcp import TcpNetwork
from eod_workers.process.probes import registry_of, serve_health
from eod_workers.process.settings import Process
from eod_workers.runtime.health import Health
from eod_workers.runtime.metrics import Metrics
from testbed.tls import Authority

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
        assert await Asker(port)("127.0.0.1", Door()) == said


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
            assert await Asker(port)("127.0.0.1", Door()) == ""
    assert not asked.is_set()


async def test_who_does_not_answer_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_WITHIN_S", 0.05)
    never = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the asker hangs up
        never.set()

    async with _served(serve) as port:
        assert await Asker(port)("127.0.0.1", Door()) == ""
        await never.wait()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "no address"])
async def test_where_nobody_listens_nothing_is_said(address: str) -> None:
    assert await Asker(1)(address, Door()) == ""


WHY_NOT = "loading partitions: redis:6379 refuses the login"
TOKEN = "a-token-of-23-characters"


@asynccontextmanager
async def _stage(**told: Any) -> AsyncIterator[tuple[Asker, Health]]:
    """The very server of the stages."""
    health = Health()
    health.not_ready(WHY_NOT)
    listener = await serve_health(health, registry_of(Metrics()), TcpNetwork(), Process(http_port=0, **told))
    try:
        yield Asker(listener.port), health
    finally:
        listener.close()


async def test_a_stage_says_why_it_is_not_ready() -> None:
    async with _stage() as (ask, health):
        assert await ask("127.0.0.1", Door()) == WHY_NOT
        health.ready()
        assert await ask("127.0.0.1", Door()) == ""


async def test_a_stage_with_a_token_says_it_to_who_gives_that(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    async with _stage(http_token_file=str(tmp_path / "token")) as (ask, _):
        assert await ask("127.0.0.1", Door(token=TOKEN)) == WHY_NOT
        assert await ask("127.0.0.1", Door(token=TOKEN[::-1])) == "not ready"
        assert await ask("127.0.0.1", Door()) == "not ready"
        assert await ask("127.0.0.1", Door(token=TOKEN + "\r\nX: y")) == "", "what is no token is not sent"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "an authority")


async def test_a_stage_with_tls_is_asked_if_it_shows_the_very_certificate(authority: Authority) -> None:
    """Another certificate of the same authority is another's, whatever lies behind the right one in the Secret."""
    certificate, key = authority.issue("stages", "/CN=stages", server_names="DNS:stages.example")
    other, _ = authority.issue("other", "/CN=other", server_names="DNS:stages.example")
    chain = authority.certificate.read_text()
    async with _stage(http_tls_cert_file=str(certificate), http_tls_key_file=str(key)) as (ask, health):
        assert await ask("127.0.0.1", Door(tls=True, certificate=certificate.read_text() + chain)) == WHY_NOT
        for pem in (other.read_text() + chain, "", "no PEM", certificate.read_text().replace("M", "N")):
            assert await ask("127.0.0.1", Door(tls=True, certificate=pem)) == ""
        assert await ask("127.0.0.1", Door()) == "", "a stage with TLS has nothing to say without"
        health.ready()
        assert await ask("127.0.0.1", Door(tls=True, certificate=certificate.read_text())) == ""


async def test_who_shows_another_certificate_is_given_no_token(authority: Authority) -> None:
    ours, _ = authority.issue("ours", "/CN=ours", server_names="DNS:stages.example")
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(*authority.issue("theirs", "/CN=theirs", server_names="DNS:stages.example"))
    heard: list[bytes] = []

    class Listening(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            heard.append(data)

    server = await asyncio.get_running_loop().create_server(Listening, "127.0.0.1", 0, ssl=theirs)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await Asker(port)("127.0.0.1", Door(tls=True, certificate=ours.read_text(), token=TOKEN)) == ""
    assert heard == []


HTTP = Http.model_validate(
    {"tls": {"secretRef": {"name": "tls"}}, "token": {"secretKeyRef": {"name": "token", "key": "scrape"}}}
)


@pytest.mark.parametrize(
    ("http", "secrets", "door"),
    [
        pytest.param(None, {}, Door(), id="open"),
        pytest.param(
            HTTP,
            {"tls": {"tls.crt": "PEM"}, "token": {"scrape": f" {TOKEN}\n"}},
            Door(True, "PEM", TOKEN),
            id="as a stage reads it",
        ),
        pytest.param(HTTP, {}, Door(True, "", ""), id="no Secrets yet"),
        pytest.param(HTTP.model_copy(update={"tls": None}), {"token": {"other": "x"}}, Door(), id="no such key"),
    ],
)
def test_pods_are_asked_by_what_the_secrets_hold(
    http: Http | None, secrets: dict[str, dict[str, str]], door: Door
) -> None:
    assert door_of(http, secrets) == door
    assert TOKEN not in repr(door)
