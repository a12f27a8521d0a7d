"""Who may ask a stage's HTTP port what: TLS and a token on real connections, and clients that are none."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from eod_workers.adapters import tcp
from eod_workers.adapters.tcp import TcpNetwork
from eod_workers.process import probes
from eod_workers.process.bootstrap import run_stage
from eod_workers.process.probes import serve_health
from eod_workers.process.settings import Process, SettingsError, load_settings
from eod_workers.runtime.health import Health
from eod_workers.runtime.stages import load_stages
from eod_workers.runtime.variables import read
from prometheus_client import CollectorRegistry, Gauge
from structlog.testing import capture_logs
from support.patience import eventually, limited
from testbed.nursery import nursery
from testbed.ports import free_port
from testbed.probes import Probes
from testbed.tls import Authority

pytestmark = pytest.mark.timeout(120)
TOKEN = "a-token-of-23-characters"
OTHER = "another-one-of-25-characters"
WHY_NOT = "redis:6379 refuses the login"


class Files:
    """A certificate with its key, and a token, each in a file."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder / "tls", "an authority")
        self.certificate, self.key = self.issue("server")
        self.token = folder / "token"
        self.token.write_text(TOKEN + "\n")
        self.client = ssl.create_default_context(cafile=self.authority.certificate)

    def issue(self, name: str) -> tuple[Path, Path]:
        """A certificate of this machine, under the name of its files."""
        return self.authority.issue(name, f"/CN={name}", server_names="DNS:localhost,IP:127.0.0.1")

    @property
    def tls(self) -> dict[str, Any]:
        """The settings that name the certificate."""
        return {"http_tls_cert_file": str(self.certificate), "http_tls_key_file": str(self.key)}

    @property
    def bearer(self) -> dict[str, Any]:
        """The setting that names the token."""
        return {"http_token_file": str(self.token)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Nobody changes these."""
    return Files(tmp_path_factory.mktemp("made"))


@pytest.fixture
def changing(tmp_path: Path) -> Files:
    """These are changed."""
    return Files(tmp_path)


class Served:
    """A port that is served to the end of a test."""

    def __init__(self) -> None:
        self.health = Health()
        self.health.not_ready(WHY_NOT)
        self.registry = CollectorRegistry()
        Gauge("eod_measured", "Something.", registry=self.registry).set(1)
        self._stack = contextlib.ExitStack()

    async def at(self, **told: Any) -> int:
        """Serve it by these settings; the port."""
        settings = Process(http_port=0, **told)
        listener = await serve_health(self.health, self.registry, TcpNetwork(), settings)
        self._stack.callback(listener.close)
        return listener.port

    def close(self) -> None:
        """Serve nobody any more."""
        self._stack.close()


@pytest.fixture
def served(caplog: pytest.LogCaptureFixture) -> Any:
    """And whatever anybody sends, nothing is logged as an error."""
    one = Served()
    with caplog.at_level(logging.WARNING):
        yield one
    one.close()
    assert [record.getMessage() for record in caplog.records] == []


class Heard(NamedTuple):
    """An answer."""

    status: int
    headers: str
    body: str


async def ask(port: int, path: str, *authorizations: str, tls: ssl.SSLContext | None = None) -> Heard:
    """Ask as a probe or a scraper does, and hang up."""
    lines = [f"GET {path} HTTP/1.1", "Host: x", *(f"Authorization: {one}" for one in authorizations)]
    return await say(port, "\r\n".join([*lines, "", ""]).encode(), tls=tls)


async def say(port: int, request: bytes, *, tls: ssl.SSLContext | None = None) -> Heard:
    """Send bytes and read the answer to them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    try:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        (length,) = (int(line.split()[1]) for line in head.splitlines() if line.startswith("Content-Length:"))
        body = (await reader.readexactly(length)).decode()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()
    return Heard(int(head.split()[1]), head, body)


async def hung_up_on(port: int, sent: bytes, *, tls: ssl.SSLContext | None = None) -> bytes:
    """Send bytes and wait until the other side hangs up; what it said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    said = b""
    try:
        async with limited(30):
            writer.write(sent)
            while data := await reader.read(65_536):
                said += data
    except (ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.transport.abort()
    return said


# --- the token ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authorizations", "known"),
    [
        pytest.param([f"Bearer {TOKEN}"], True, id="as it is meant"),
        pytest.param([f"bEARER   {TOKEN}"], True, id="the scheme in any case"),
        pytest.param([], False, id="none"),
        pytest.param([f"Bearer {OTHER}"], False, id="another"),
        pytest.param([f"Bearer {TOKEN[:-1]}"], False, id="its beginning"),
        pytest.param([f"Bearer {TOKEN}x"], False, id="more than it"),
        pytest.param(["Bearer"], False, id="the scheme alone"),
        pytest.param([TOKEN], False, id="no scheme"),
        pytest.param([f"Basic {TOKEN}"], False, id="another scheme"),
        pytest.param(["Bearer \xff"], False, id="no ASCII"),
        pytest.param([f"Bearer {TOKEN}", f"Bearer {TOKEN}"], False, id="twice"),
        pytest.param([f"Bearer {OTHER}", f"Bearer {TOKEN}"], False, id="another and it"),
    ],
)
async def test_who_gives_the_token_is_told_everything_and_a_stranger_what_a_probe_needs(
    served: Served,
    made: Files,
    authorizations: list[str],
    known: bool,  # noqa: FBT001 - a case
) -> None:
    port = await served.at(**made.bearer)
    seen = {path: await ask(port, path, *authorizations) for path in ("/metrics", "/metrics?x=1", "/readyz", "/health")}
    assert (await ask(port, "/livez", *authorizations))[::2] == (200, "ok\n")
    for path in ("/metrics", "/metrics?x=1"):
        assert seen[path].status == (200 if known else 401)
        assert ("eod_measured 1.0" in seen[path].body) == known
        assert ("\r\nWWW-Authenticate: Bearer\r\n" in seen[path].headers) == (not known)
    assert seen["/readyz"][::2] == seen["/health"][::2] == (503, f"{WHY_NOT}\n" if known else "not ready\n")
    served.health.ready()
    assert (await ask(port, "/readyz", *authorizations))[::2] == (200, "ok\n" if known else "ready\n")


async def test_the_refusal_says_what_to_give(served: Served, made: Files) -> None:
    port = await served.at(**made.bearer)
    refused = await ask(port, "/metrics")
    assert refused.body == (
        "give the token that EOD_HTTP_TOKEN_FILE of this stage holds, as Authorization: Bearer TOKEN\n"
    )


async def test_where_there_is_no_token_everybody_is_told_everything(served: Served) -> None:
    port = await served.at()
    assert (await ask(port, "/metrics")).status == 200
    assert (await ask(port, "/readyz", f"Bearer {OTHER}"))[::2] == (503, f"{WHY_NOT}\n")


async def test_a_changed_token_holds_for_the_next_request_and_a_wrong_one_changes_nothing(
    served: Served, changing: Files
) -> None:
    """And neither is logged."""
    port = await served.at(**changing.bearer)

    async def taken() -> set[str]:
        return {one for one in (TOKEN, OTHER) if (await ask(port, "/metrics", f"Bearer {one}")).status == 200}

    with capture_logs() as logs:
        for wrong in (b"short\n", OTHER.encode() + b" blank", b""):
            changing.token.write_bytes(wrong)
            assert await taken() == {TOKEN}
        changing.token.unlink()
        assert await taken() == {TOKEN}
        changing.token.write_text(OTHER)
        assert await taken() == {OTHER}
    assert [log["log_level"] for log in logs] == ["error"] * 4 + ["info"]
    assert logs[0]["why"] == "the token that was read before goes on"
    assert not any(one in repr(logs) for one in (TOKEN, OTHER, "short"))


# --- TLS ----------------------------------------------------------------------------------------------------


async def test_over_tls_all_is_as_without(served: Served, made: Files) -> None:
    port = await served.at(**made.tls, **made.bearer)
    assert (await ask(port, "/livez", tls=made.client))[::2] == (200, "ok\n")
    assert (await ask(port, "/readyz", tls=made.client))[::2] == (503, "not ready\n")
    assert (await ask(port, "/metrics", tls=made.client)).status == 401
    assert "eod_measured 1.0" in (await ask(port, "/metrics", f"Bearer {TOKEN}", tls=made.client)).body


async def test_an_answer_longer_than_all_buffers_arrives_whole(served: Served, made: Files) -> None:
    many = Gauge("eod_many", "Something.", ["what"], registry=served.registry)
    for number in range(20_000):
        many.labels(f"{number:0100}").set(number)
    port = await served.at(**made.tls)
    heard = await ask(port, "/metrics", tls=made.client)
    assert heard.body.count("\neod_many{") == 20_000


async def test_a_client_that_believes_in_other_authorities_leaves_no_trace(served: Served, made: Files) -> None:
    port = await served.at(**made.tls)
    with pytest.raises(ssl.SSLCertVerificationError):
        await ask(port, "/livez", tls=ssl.create_default_context())
    assert (await ask(port, "/livez", tls=made.client)).status == 200


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", id="plain HTTP"),
        pytest.param(b"\x16\x03\x01\x00\x05hello", id="a handshake that is none"),
        pytest.param(bytes(range(256)) * 1_000, id="noise"),
    ],
)
async def test_who_does_not_speak_tls_is_hung_up_on(served: Served, made: Files, sent: bytes) -> None:
    port = await served.at(**made.tls)
    assert b"HTTP" not in await hung_up_on(port, sent)
    assert (await ask(port, "/livez", tls=made.client)).status == 200


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="silence"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="half a ClientHello"),
    ],
)
async def test_who_never_ends_the_handshake_is_hung_up_on(
    served: Served, made: Files, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(tcp, "HANDSHAKE_S", 0.05)
    port = await served.at(**made.tls)
    assert await hung_up_on(port, sent) == b""


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="silence"),
        pytest.param(b"GET /livez HTTP/1.1\r\nHost", id="half a request"),
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", id="who stays after the answer"),
        pytest.param(b"GET /livez HTTP/1.1\r\nX: " + b"x" * 1_000_000, id="an endless header"),
    ],
)
async def test_nobody_holds_on_to_a_connection(
    served: Served, made: Files, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(probes, "_WITHIN_S", 0.05)
    port = await served.at(**made.tls)
    await hung_up_on(port, sent, tls=made.client)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"8=FIX.4.4\x019=5\x0135=A\x01\r\n\r\n", 400, id="no request"),
        pytest.param(b"GET /livez HTTP/1.1\r\nX: " + b"x" * 1_000_000, 431, id="an endless header"),
        pytest.param(
            b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + b"x" * 100_000, 431, id="an endless token"
        ),
    ],
)
async def test_what_cannot_be_read_is_answered(served: Served, made: Files, sent: bytes, status: int) -> None:
    port = await served.at(**made.tls)
    assert (await say(port, sent, tls=made.client)).status == status


async def test_a_renewed_certificate_is_shown_to_whoever_connects_next(served: Served, changing: Files) -> None:
    port = await served.at(**changing.tls)

    async def shown() -> str:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=changing.client)
        subject = dict(*writer.get_extra_info("peercert")["subject"])
        writer.transport.abort()
        return str(subject["commonName"])

    certificate, key = changing.issue("renewed")
    with capture_logs() as logs:
        assert await shown() == "server"
        certificate.replace(changing.certificate)
        assert await shown() == "server", "the certificate of another key changes nothing"
        key.replace(changing.key)
        assert await shown() == "renewed"
    assert [log["log_level"] for log in logs] == ["error", "info"]
    assert logs[0]["error"].startswith(f"EOD_HTTP_TLS_CERT_FILE={changing.certificate} and EOD_HTTP_TLS_KEY_FILE=")


@pytest.mark.parametrize(
    ("told", "says"),
    [
        pytest.param(
            {"http_tls_key_file": ""},
            "EOD_HTTP_TLS_CERT_FILE is set, and EOD_HTTP_TLS_KEY_FILE is not: TLS needs both",
            id="no key",
        ),
        pytest.param(
            {"http_tls_cert_file": ""},
            "EOD_HTTP_TLS_KEY_FILE is set, and EOD_HTTP_TLS_CERT_FILE is not: TLS needs both",
            id="no certificate",
        ),
        pytest.param(
            {"http_tls_cert_file": "/nowhere"},
            "EOD_HTTP_TLS_CERT_FILE=/nowhere and EOD_HTTP_TLS_KEY_FILE=.* are no certificate with its key",
            id="no such file",
        ),
        pytest.param({"http_tls_key_file": __file__}, f"EOD_HTTP_TLS_KEY_FILE={__file__} are no", id="no PEM"),
        pytest.param({"http_token_file": "/nowhere"}, "EOD_HTTP_TOKEN_FILE=/nowhere cannot be read", id="no token"),
    ],
)
async def test_a_stage_refuses_files_that_cannot_be_used_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, made: Files, told: dict[str, str], says: str
) -> None:
    usual = {"kafka_bootstrap": "127.0.0.1:1", "redis_url": "redis://127.0.0.1:1/0", "http_port": "0"}
    for name, value in {**usual, **made.tls, **made.bearer, **told}.items():
        monkeypatch.setenv(f"EOD_{name.upper()}", value)
    stage = load_stages()["dead-letters"]
    with pytest.raises(SettingsError, match=says):
        await run_stage(stage, load_settings(), read(stage.settings))


# --- a real stage -------------------------------------------------------------------------------------------


def test_a_stage_is_asked_by_its_own_settings_and_ends_while_strangers_hold_on(made: Files, tmp_path: Path) -> None:
    log, port = tmp_path / "log", free_port()
    told = {f"EOD_{name.upper()}": value for name, value in {**made.tls, **made.bearer}.items()}
    nowhere = {"EOD_KAFKA_BOOTSTRAP": "127.0.0.1:1", "EOD_REDIS_URL": "redis://127.0.0.1:1", "EOD_HTTP_PORT": str(port)}
    stage = nursery().start("eod", ["stage", "run", "dead-letters"], log=log, env={**nowhere, **told})
    asked = Probes(port, told)
    eventually(lambda: "Unable to bootstrap" in asked.why_not_ready(), why=log.read_text)
    assert "eod_trades_processed_total" in asked.metrics()
    with (
        socket.create_connection(("127.0.0.1", port)),
        made.client.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="127.0.0.1"),
    ):
        stage.send_signal(signal.SIGTERM)
        eventually(lambda: not stage.alive)
    assert stage.exit_code == 0
    said = log.read_text()
    assert "Traceback" not in said
    assert TOKEN not in said
