"""Who may ask the operator's port what: a token and TLS on real connections, of files that may be renewed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from eod_contract.bearer import Token
from eod_contract.tls import Tls
from eod_contract.watched import Reread
from eod_operator.cli import app
from eod_operator.health import Pages, Running
from testbed.ports import free_port
from testbed.tls import Authority
from typer.testing import CliRunner

pytestmark = pytest.mark.timeout(60)
TOKEN, OTHER = "a-token-of-23-characters", "another-one-of-25-characters"
SETTINGS = {"cert": "CERT", "key": "KEY"}
WHY_NOT = "apiserver:6443 refuses us"


@dataclass
class Operator:
    """As much of a service as its pages look at: one that cannot see the cluster."""

    index: Any = field(default_factory=lambda: SimpleNamespace(synced=False, problem=WHY_NOT, fresh_s=1.0))
    api: Any = field(default_factory=lambda: SimpleNamespace(skew_s=0.0))
    loops: Any = ()
    lease: Any = None
    leading: bool = False


class Served:
    """The pages of an operator at a port of their own."""

    def __init__(self, port: int, scheme: str, told: list[Reread], operator: Operator) -> None:
        self.url = f"{scheme}://127.0.0.1:{port}"
        self.told = told
        self.operator = operator

    async def ask(self, path: str, token: str = "", *, tls: ssl.SSLContext | None = None) -> tuple[int, str, str]:
        """Status, text and WWW-Authenticate of an answer, on a connection of its own."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        context: Any = tls if tls is not None else True
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
            session.get(self.url + path, headers=headers, ssl=context) as answer,
        ):
            return answer.status, await answer.text(), answer.headers.get("WWW-Authenticate", "")


@asynccontextmanager
async def served(files: dict[str, str] | None = None, token: str = "") -> AsyncIterator[Served]:
    told: list[Reread] = []
    operator = Operator()
    pages = Pages(
        cast("Running", operator), Tls(files or {}, SETTINGS, told.append), Token(token, "TOKEN", told.append)
    )
    port = free_port()
    await pages.start(port)
    try:
        yield Served(port, "https" if files else "http", told, operator)
    finally:
        await pages.stop()


async def test_without_files_everybody_is_told_everything() -> None:
    async with served() as port:
        assert await port.ask("/healthz") == (200, "alive\n", "")
        assert await port.ask("/readyz") == (503, f"not yet: {WHY_NOT}\n", "")
        port.operator.index.synced = True
        assert await port.ask("/readyz") == (200, "ready, standing by\n", "")
        status, text, _ = await port.ask("/metrics")
        assert (status, "eod_operator_pipelines 0.0" in text) == (200, True)


async def test_a_stranger_is_told_what_a_probe_needs_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    async with served(token=str(tmp_path / "token")) as port:
        for given in ("", OTHER, TOKEN[:-1]):
            assert await port.ask("/healthz", given) == (200, "alive\n", "")
            assert await port.ask("/readyz", given) == (503, "not yet\n", "")
            status, text, wanted = await port.ask("/metrics", given)
            assert (status, wanted) == (401, "Bearer")
            assert text.startswith("give the token that EOD_HTTP_TOKEN_FILE of the operator holds")
        assert await port.ask("/readyz", TOKEN) == (503, f"not yet: {WHY_NOT}\n", "")
        assert (await port.ask("/metrics", TOKEN))[0] == 200
        port.operator.index.synced = port.operator.leading = True
        assert await port.ask("/readyz") == (200, "ready\n", "")
        assert await port.ask("/readyz", TOKEN) == (200, "ready, leading\n", "")


async def test_a_token_that_is_no_text_is_a_strangers(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    async with served(token=str(tmp_path / "token")) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port.url.rpartition(":")[2]))
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\n\r\n")
        assert b" 401 " in await reader.readline()
        writer.close()


async def test_a_changed_token_holds_from_the_next_connection_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    async with served(token=str(file)) as port:
        file.write_text("too short")
        assert (await port.ask("/metrics", TOKEN))[0] == 200
        file.write_text(OTHER)
        assert (await port.ask("/metrics", TOKEN))[0] == 401
        assert (await port.ask("/metrics", OTHER))[0] == 200
        assert [one.error[:20] for one in port.told] == [f"TOKEN={file} holds"[:20], ""]


async def test_with_a_certificate_it_speaks_tls_alone_and_shows_a_renewed_one(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "an authority")
    client = ssl.create_default_context(cafile=authority.certificate)
    names = "DNS:localhost,IP:127.0.0.1"
    certificate, key = authority.issue("operator", "/CN=operator", server_names=names)
    async with served({"cert": str(certificate), "key": str(key)}) as port:
        assert await port.ask("/healthz", tls=client) == (200, "alive\n", "")
        with pytest.raises(aiohttp.ClientError):
            async with aiohttp.ClientSession() as session:
                await session.get(port.url.replace("https", "http") + "/healthz")
        another = Authority(tmp_path / "another", "another authority")
        renewed, its_key = another.issue("renewed", "/CN=renewed", server_names=names)
        its_key.replace(key)
        renewed.replace(certificate)
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await port.ask("/healthz", tls=client)
        believing = ssl.create_default_context(cafile=another.certificate)
        assert await port.ask("/healthz", tls=believing) == (200, "alive\n", "")
        assert port.told[-1] == Reread(str(certificate))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--http-port", "1", "--http-tls-cert-file", "/no.crt"], "EOD_HTTP_TLS_CERT_FILE is set, and EOD_HTTP_TLS_KEY_FILE is not: TLS needs both"),
        (["--http-port", "1", "--http-tls-cert-file", "/no.crt", "--http-tls-key-file", "/no.key"], "EOD_HTTP_TLS_CERT_FILE=/no.crt and EOD_HTTP_TLS_KEY_FILE=/no.key are no certificate with its key"),
        (["--http-port", "1", "--http-token-file", "/no"], "EOD_HTTP_TOKEN_FILE=/no cannot be read: No such file or directory: give a file"),
        (["--http-token-file", "/no"], "there is no port to be protected: give --http-port, too"),
    ],
    ids=["half", "no files", "no token", "no port"],
)  # fmt: skip
def test_files_that_are_wrong_are_refused_at_the_start(words: list[str], says: str) -> None:
    result = CliRunner().invoke(app, ["run", *words], env={"COLUMNS": "500", "NO_COLOR": "1"})
    assert result.exit_code == 2
    assert says in " ".join(result.output.split())
