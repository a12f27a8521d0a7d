"""The one place where ports meet adapters: settings in, a running stage out."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import structlog

from eod_workers.adapters.clock import SystemClock
from eod_workers.adapters.directory import DirectoryArchive
from eod_workers.adapters.kafka import KafkaLog
from eod_workers.adapters.redis import RedisState
from eod_workers.adapters.s3 import S3Archive
from eod_workers.adapters.sqlite import SqliteRegulatoryStore
from eod_workers.ports import Log, ObjectArchive, RegulatoryStore, StateStore
from eod_workers.runtime.health import serve_health
from eod_workers.runtime.settings import Settings, SettingsError
from eod_workers.runtime.stages import StageContext, StageKind
from eod_workers.runtime.telemetry import configure_tracing

log = structlog.get_logger()
_VARIABLES = {"state": "EOD_REDIS_URL", "regulatory": "EOD_REGULATORY_URL", "archive": "EOD_ARCHIVE_URL"}


class _NotConfigured:
    """Stands where a port would; any use says which variable is missing."""

    def __init__(self, port: str) -> None:
        self._port = port

    def __getattr__(self, name: str) -> NoReturn:
        raise SettingsError(f"the {self._port} port is used but {_VARIABLES[self._port]} is not set")


def make_log(settings: Settings) -> Log:
    """Kafka.

    Raises:
        SettingsError: EOD_KAFKA_BOOTSTRAP is not set.
    """
    if not settings.kafka_bootstrap:
        raise SettingsError("EOD_KAFKA_BOOTSTRAP is not set: give Kafka's address as host:port[,host:port]")
    return KafkaLog(
        settings.kafka_bootstrap,
        client_id=f"eod-{settings.stage_name or 'cli'}",
        session_timeout_s=settings.session_timeout_s,
    )


def make_state(settings: Settings) -> StateStore | None:
    """Redis, or None when it is not configured."""
    url = settings.redis_url.get_secret_value()
    return RedisState(url) if url else None


def make_regulatory(settings: Settings) -> RegulatoryStore | None:
    """The regulatory store, or None when it is not configured.

    Raises:
        SettingsError: the URL names a store we do not have.
    """
    url = settings.regulatory_url.get_secret_value()
    if not url:
        return None
    parts = urlsplit(url)
    if parts.scheme != "sqlite" or not parts.path.strip("/"):
        raise SettingsError(f"EOD_REGULATORY_URL has scheme {parts.scheme!r}: sqlite:///path/to/file is supported")
    return SqliteRegulatoryStore(Path(parts.path))


def make_archive(settings: Settings) -> ObjectArchive | None:
    """The archive, or None when it is not configured.

    Raises:
        SettingsError: the URL names a kind of archive we do not have.
    """
    if not settings.archive_url:
        return None
    parts = urlsplit(settings.archive_url)
    if parts.scheme == "file" and parts.path:
        return DirectoryArchive(Path(parts.path))
    if parts.scheme == "s3" and parts.netloc:
        prefix = parts.path.strip("/")
        return S3Archive(parts.netloc, endpoint=settings.s3_endpoint or None, prefix=f"{prefix}/" if prefix else "")
    raise SettingsError(f"EOD_ARCHIVE_URL={settings.archive_url!r}: file:///folder or s3://bucket/prefix is supported")


async def make_context(settings: Settings, stack: AsyncExitStack, needs: frozenset[str]) -> StageContext:
    """Ports for one process; `stack` closes them.

    Raises:
        SettingsError: something in `needs` is not configured.
    """
    kafka = make_log(settings)
    stack.push_async_callback(kafka.close)
    ports: dict[str, Any] = {
        "state": make_state(settings),
        "regulatory": make_regulatory(settings),
        "archive": make_archive(settings),
    }
    for name, port in ports.items():
        if port is not None:
            stack.push_async_callback(port.close)
        elif name in needs:
            raise SettingsError(f"{_VARIABLES[name]} is not set, and this stage needs it")
        else:
            ports[name] = _NotConfigured(name)
    return StageContext(options=settings.options(), log=kafka, clock=SystemClock(), **ports)


async def run_stage(kind: StageKind, settings: Settings) -> None:
    """Runs one worker until SIGTERM or SIGINT, then drains and commits.

    Raises:
        SettingsError: the environment does not fit the stage.
    """
    name = settings.stage_name or kind.name
    structlog.contextvars.bind_contextvars(stage=name)
    configure_tracing(name)
    async with AsyncExitStack() as stack:
        context = await make_context(settings, stack, kind.needs)
        try:
            service = kind.start(context)
        except ValueError as error:
            raise SettingsError(str(error)) from error
        runner = await serve_health(context.health, settings.http_host, settings.http_port)
        stack.push_async_callback(runner.cleanup)
        loop = asyncio.get_running_loop()
        stopping: list[asyncio.Task[None]] = []

        def stop() -> None:
            log.info("stage.stopping")
            stopping.append(loop.create_task(service.stop()))

        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stop)
        log.info("stage.starting", kind=kind.name, http_port=settings.http_port)
        await service.run()
        log.info("stage.stopped")
