"""What a deployed worker is told, and what it tells of itself."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

import aiohttp
import pytest
from eod_contract.kinds import FLASH_PNL
from eod_workers.adapters.memory_network import MemoryNetwork
from eod_workers.adapters.tcp import TcpNetwork
from eod_workers.ingestion.settings import IngestionSettings
from eod_workers.pnl.settings import PnlSettings
from eod_workers.ports import StateStore
from eod_workers.process.bootstrap import make_archive, make_context, make_log, make_regulatory, make_state, run_stage
from eod_workers.process.probes import registry_of, serve_health
from eod_workers.process.settings import ELSEWHERE, Process, Settings, SettingsError, load_settings
from eod_workers.regulatory.settings import RegulatorySettings
from eod_workers.runtime.health import Health
from eod_workers.runtime.stages import load_stages
from eod_workers.runtime.variables import StageSettings, check, names_of, read, refuse_slips
from prometheus_client import CollectorRegistry, enable_created_metrics
from support.patience import limit_s
from support.virtual_time import now, virtually

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No EOD_ variable of this machine reaches a test."""
    for name in [name for name in os.environ if name.startswith("EOD_")]:
        monkeypatch.delenv(name)


# --- settings -----------------------------------------------------------------------------------------------


def test_settings_come_from_variables_named_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "EOD_KAFKA_BOOTSTRAP": "a:1,b:2", "EOD_TOPICS": "x, y,", "EOD_FIX_COUNTERPARTIES": "ACME, BETA",
        "EOD_LINGER_MS": "7", "EOD_PUBLISH_INTERVAL_MS": "250", "EOD_FLUSH_ROWS": "12", "EOD_GROUP": "g",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assert load_settings().kafka_bootstrap == "a:1,b:2"
    regulatory, ingestion = read(RegulatorySettings), read(IngestionSettings)
    assert (regulatory.topics, regulatory.group, regulatory.flush_rows) == (("x", "y"), "g", 12)
    assert (ingestion.fix_counterparties, ingestion.linger_ms) == ({"ACME", "BETA"}, 7.0)
    assert read(PnlSettings).publish_interval_ms == 250.0


def test_a_stage_consumes_the_topics_of_its_kind_under_their_names_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EOD_TRADES_TOPIC", "desk.trades")
    settings = read(StageSettings)
    assert settings.consumed(FLASH_PNL) == ("desk.trades", "prices.updates")
    assert settings.group_of(FLASH_PNL) == "flash-pnl"
    monkeypatch.setenv("EOD_TOPICS", "a,b")
    monkeypatch.setenv("EOD_GROUP", "g")
    settings = read(StageSettings)
    assert (settings.consumed(FLASH_PNL), settings.group_of(FLASH_PNL)) == (("a", "b"), "g")


def test_a_stage_takes_of_what_all_are_told_what_it_knows() -> None:
    told = {"flush_rows": 3, "fix_port": 0, "group": "g"}
    assert RegulatorySettings.fitting(told) == RegulatorySettings(flush_rows=3, group="g")


@pytest.mark.parametrize(
    ("name", "value"),
    [("EOD_HTTP_PORT", "99999"), ("EOD_LINGER_MS", "-1"), ("EOD_FLUSH_ROWS", "0"), ("EOD_FLUSH_ROWS", "many"),
     ("EOD_SNAPSHOT_INTERVAL_S", "0"), ("EOD_SEGMENT_BYTES", "0"), ("EOD_FIX_PORT", "x"), ("EOD_LOG_LEVEL", "loud")],
)  # fmt: skip
def test_an_impossible_value_is_refused_with_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name}: "):
        check(Settings, *(stage.settings for stage in load_stages().values()))


def test_every_impossible_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EOD_HTTP_PORT", "-1")
    monkeypatch.setenv("EOD_FLUSH_ROWS", "-1")
    with pytest.raises(SettingsError, match=r"^EOD_HTTP_PORT: [^;]*; EOD_FLUSH_ROWS: [^;]*$"):
        check(Settings, RegulatorySettings, RegulatorySettings)


def test_passwords_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EOD_REDIS_URL", "redis://:hunter2@host/0")
    assert "hunter2" not in repr(load_settings())


def test_a_setting_that_is_nearly_one_is_refused_with_the_one_that_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    known = names_of(Settings) | names_of(RegulatorySettings)
    monkeypatch.setenv("EOD_FLUSH_ROW", "5")
    monkeypatch.setenv("EOD_TRADE_TOPIC", "t")
    with pytest.raises(SettingsError) as refusal:
        refuse_slips(known)
    assert str(refusal.value) == (
        "EOD_FLUSH_ROW is no setting: EOD_FLUSH_ROWS is one; EOD_TRADE_TOPIC is no setting: EOD_TRADES_TOPIC is one"
    )


def test_what_is_near_to_no_setting_is_told_and_what_kubernetes_says_of_services_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A Service of the namespace may be called eod-redis, or eod-http."""
    for name in ("EOD_REDIS_SERVICE_HOST", "EOD_HTTP_SERVICE_PORT_WEB", "EOD_REDIS_PORT_6379_TCP_ADDR"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("EOD_HTTPS_PORT", "tcp://10.0.0.1:80")
    monkeypatch.setenv("EOD_SOMETHING", "else")
    assert refuse_slips(names_of(Settings)) == ["EOD_SOMETHING"]


def test_no_variable_of_the_tests_is_taken_for_a_slip(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {
        name for file in (ROOT / "tests").rglob("*.py") for name in re.findall(r"EOD_[A-Z_]*[A-Z]", file.read_text())
    }
    for name in named & {
        "EOD_PATIENCE",
        "EOD_TIERS",
        "EOD_EXAMPLES",
        "EOD_SECOND_TRY",
        "EOD_REQUIRE_ALL",
        "EOD_TEST_MSSQL",
    }:
        monkeypatch.setenv(name, "1")
    stages = load_stages().values()
    assert len(refuse_slips(ELSEWHERE.union(names_of(Settings), *(names_of(one.settings) for one in stages)))) == 6


# --- ports --------------------------------------------------------------------------------------------------


def test_without_kafka_the_variable_is_named() -> None:
    with pytest.raises(SettingsError, match="EOD_KAFKA_BOOTSTRAP is not set"):
        make_log(Settings())


@pytest.mark.parametrize("url", ["postgres://x/y", "sqlite://", "sqlite:///", "mssql://host"])
def test_a_regulatory_store_we_do_not_have_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("EOD_REGULATORY_URL", url)
    with pytest.raises(SettingsError, match="EOD_REGULATORY_URL"):
        make_regulatory(load_settings())


@pytest.mark.parametrize("url", ["ftp://x/y", "file://", "s3://", "nonsense"])
def test_an_archive_we_do_not_have_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("EOD_ARCHIVE_URL", url)
    with pytest.raises(SettingsError, match="EOD_ARCHIVE_URL"):
        make_archive(load_settings())


def test_what_is_not_configured_is_none() -> None:
    assert (make_state(Settings()), make_regulatory(Settings()), make_archive(Settings())) == (None, None, None)


async def test_a_stage_that_needs_a_port_which_is_not_configured_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EOD_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    async with AsyncExitStack() as stack:
        with pytest.raises(SettingsError, match="EOD_REDIS_URL is not set"):
            await make_context(load_settings(), stack, frozenset({"state"}))
        context = await make_context(load_settings(), stack, frozenset())
        unused: StateStore = context.state
        with pytest.raises(SettingsError, match="EOD_REDIS_URL is not set"):
            await unused.get("x")


async def test_a_port_that_is_taken_is_one_sentence_with_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EOD_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("EOD_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("EOD_HTTP_HOST", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("EOD_HTTP_PORT", str(port))
        stage = load_stages()["dead-letters"]
        with pytest.raises(
            SettingsError, match=rf"^127.0.0.1:{port}: Address already in use: .* EOD_HTTP_PORT; port 0"
        ):
            await run_stage(stage, load_settings(), read(stage.settings))


# --- health -------------------------------------------------------------------------------------------------


async def test_health_is_what_the_stage_can_do_now_and_not_that_it_was_started() -> None:
    health = Health()
    enable_created_metrics()  # type: ignore[no-untyped-call]  # what the library begins with
    registry = registry_of(load_stages()["flash-pnl"].metrics())
    probes = await serve_health(health, registry, TcpNetwork(), Process(http_port=0))
    seen = []
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{probes.port}") as session:

            async def look() -> None:
                for path in ("/livez", "/readyz", "/health"):
                    async with session.get(path) as answer:
                        seen.append((path, answer.status, (await answer.text()).strip()))

            await look()
            health.ready()
            await look()
            health.not_ready("the state store is down")
            await look()
            async with session.get("/metrics") as answer:
                metrics = await answer.text()
    finally:
        probes.close()
    assert seen == [
        ("/livez", 200, "ok"), ("/readyz", 503, "starting"), ("/health", 503, "starting"),
        ("/livez", 200, "ok"), ("/readyz", 200, "ok"), ("/health", 200, "ok"),
        ("/livez", 200, "ok"), ("/readyz", 503, "the state store is down"), ("/health", 503, "the state store is down"),
    ]  # fmt: skip
    types = [line.split()[2] for line in metrics.splitlines() if line.startswith("# TYPE eod_")]
    assert set(types) == {
        "eod_trades_processed_total", "eod_trades_duplicate_total", "eod_dead_letters_total", "eod_flush_seconds",
        "eod_records_lost_total", "eod_records_skipped_total", "eod_partitions_anew_total", "eod_pnl_applied_seconds",
        "eod_pnl_latency_seconds", "eod_positions", "eod_partitions_leaderless",
    }  # fmt: skip
    assert "process_resident_memory_bytes" in metrics


async def test_health_that_cannot_listen_says_so() -> None:
    first = await serve_health(Health(), CollectorRegistry(), TcpNetwork(), Process(http_port=0))
    try:
        with pytest.raises(OSError, match="address already in use"):
            await serve_health(Health(), CollectorRegistry(), TcpNetwork(), Process(http_port=first.port))
    finally:
        first.close()


@pytest.mark.parametrize(
    ("request_", "first_line", "body"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK", b"ok\n"),
        (b"GET /livez HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK", b"ok\n"),
        (b"GET /livez?a=1 HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\n", b"HTTP/1.1 200 OK", b"ok\n"),
        (b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK", b""),
        (b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 503 Service Unavailable", b"starting\n"),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"HTTP/1.1 404 Not Found",
            b"here are /livez, /readyz, /health, /metrics\n",
        ),
        (
            b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
            b"HTTP/1.1 405 Method Not Allowed",
            b"only GET and HEAD\n",
        ),
        (b"8=FIX.4.4\x019=5\x0135=A\x01\r\n\r\n", b"HTTP/1.1 400 Bad Request", b"illegal request line"),
        (b"GET /" + b"x" * 100_000, b"HTTP/1.1 431 Request Header Fields Too Large", b""),
    ],
)
@pytest.mark.parametrize("piece", [1_000_000, 7])
async def test_whatever_is_asked_it_answers_once_and_closes(
    request_: bytes, first_line: bytes, body: bytes, piece: int
) -> None:
    """Pieces of all sizes; what it cannot read included."""
    network = MemoryNetwork()
    probes = await serve_health(Health(), CollectorRegistry(), network, Process(http_port=0))
    client = _Client()
    await network.connect(lambda: client, "127.0.0.1", probes.port)
    for begin in range(0, len(request_), piece):
        if client.lost.done():
            break
        client.transport.write(request_[begin : begin + piece])
        await asyncio.sleep(0)
    await asyncio.wait_for(client.lost, limit_s(20))
    head, _, said = bytes(client.heard).partition(b"\r\n\r\n")
    assert head.splitlines()[0] == first_line
    assert b"Connection: close" in head
    assert said.startswith(body)
    probes.close()


def test_who_says_nothing_is_hung_up_on_after_a_while() -> None:
    async def silent() -> float:
        network = MemoryNetwork()
        probes = await serve_health(Health(), CollectorRegistry(), network, Process(http_port=0))
        client = _Client()
        await network.connect(lambda: client, "127.0.0.1", probes.port)
        client.transport.write(b"GET /livez HT")
        begun = now()
        await client.lost
        return now() - begun

    assert virtually(silent()) == 10


class _Client(asyncio.Protocol):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost.set_result(None)
