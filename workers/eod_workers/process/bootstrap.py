"""The one place where ports meet adapters: settings in, a running stage out."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar, cast
from urllib.parse import urlsplit

import structlog

from eod_workers import kernel
from eod_workers.adapters.clock import SystemClock
from eod_workers.adapters.kafka import KafkaLog
from eod_workers.adapters.kafka_security import FILES, KafkaSecurity
from eod_workers.adapters.tcp import TcpNetwork
from eod_workers.ports import ObjectArchive, RegulatoryStore, StateStore
from eod_workers.process.probes import registry_of, serve_health
from eod_workers.process.settings import Settings, SettingsError
from eod_workers.runtime.stages import Context, Stage, assemble
from eod_workers.runtime.tracing import configure_tracing
from eod_workers.runtime.variables import StageSettings, cannot_listen

if TYPE_CHECKING:
    from eod_workers.adapters.sqlserver.address import Address
    from eod_workers.adapters.sqlserver.store import SqlServerRegulatoryStore

logger = structlog.get_logger()
_StoreT = TypeVar("_StoreT", StateStore, RegulatoryStore, ObjectArchive)
_LAST_PORT = 65_535
_VARIABLES = {
    "state": "EOD_REDIS_URL",
    "regulatory": "EOD_REGULATORY_URL (or EOD_SQLSERVER_HOST)",
    "archive": "EOD_ARCHIVE_URL",
}


class _NotConfigured:
    """Stands where a port would; any use says which variable is missing."""

    def __init__(self, port: str) -> None:
        self._port = port

    def __getattr__(self, name: str) -> NoReturn:
        raise SettingsError(f"the {self._port} port is used but {_VARIABLES[self._port]} is not set, or not looked at")


def make_log(settings: Settings) -> KafkaLog:
    """Kafka.

    Raises:
        SettingsError: EOD_KAFKA_BOOTSTRAP is not set, or half of what TLS or a login needs.
    """
    if not settings.kafka_bootstrap:
        raise SettingsError("EOD_KAFKA_BOOTSTRAP is not set: give Kafka's address as host:port[,host:port]")
    for broker in settings.kafka_bootstrap.split(","):
        host, colon, port = broker.strip().rpartition(":")
        if colon and not host.endswith(":") and not (port.isdecimal() and 0 < int(port) <= _LAST_PORT):
            raise SettingsError(
                f"EOD_KAFKA_BOOTSTRAP: {port!r} of {broker.strip()!r} is no port: give 1 to {_LAST_PORT}"
            )
    security = make_kafka_security(settings)
    try:
        return KafkaLog(
            settings.kafka_bootstrap,
            security=security,
            client_id=f"eod-{settings.stage_name or 'cli'}",
            session_timeout_s=settings.session_timeout_s,
            join_beat_s=settings.join_beat_s,
        )
    except ValueError as error:
        raise SettingsError(str(error)) from error


def make_kafka_security(settings: Settings) -> KafkaSecurity:
    """TLS and credentials for Kafka.

    Raises:
        SettingsError: half of them is missing, or two do not go together.
    """
    files = {"ca_file": settings.kafka_ca_file, "cert_file": settings.kafka_cert_file}
    files["key_file"] = settings.kafka_key_file
    if settings.kafka_tls_dir:
        folder = Path(settings.kafka_tls_dir)
        if not folder.is_dir():
            raise SettingsError(f"EOD_KAFKA_TLS_DIR={folder} is no folder: mount or make it, or unset the variable")
        for name, conventional in FILES.items():
            if not files[name] and (folder / conventional).is_file():
                files[name] = str(folder / conventional)
    security = KafkaSecurity(
        protocol=settings.kafka_security_protocol,
        mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_username,
        password=settings.kafka_password.get_secret_value(),
        aws_region=settings.kafka_aws_region,
        **files,
    )
    problems = "; ".join(security.problems())
    if problems:
        raise SettingsError(problems)
    return security


def make_state(settings: Settings) -> StateStore | None:
    """Redis, or None when it is not configured.

    Raises:
        SettingsError: EOD_REDIS_CA_FILE cannot be used.
    """
    url = settings.redis_url.get_secret_value()
    if not url:
        return None
    ca_file = settings.redis_ca_file
    if ca_file and not url.startswith("rediss://"):
        raise SettingsError("EOD_REDIS_CA_FILE is set, but EOD_REDIS_URL is not encrypted: begin it with rediss://")
    if ca_file and not Path(ca_file).is_file():
        raise SettingsError(f"EOD_REDIS_CA_FILE={ca_file} is no file: give the PEM of the server's authority")
    from eod_workers.adapters.redis import RedisState  # noqa: PLC0415 - a client library is loaded where it is used

    try:
        return RedisState(url, ca_file=ca_file)
    except ValueError as error:  # the client's words do not repeat the address, in which the password stands
        raise SettingsError(f"EOD_REDIS_URL: {error}: redis://[:password@]host:port/db is wanted") from error


def make_regulatory(settings: Settings) -> RegulatoryStore | None:
    """The regulatory store, or None when it is not configured.

    Raises:
        SettingsError: the settings name two stores, one that we do not have, or half of one.
    """
    url = settings.regulatory_url.get_secret_value()
    if settings.sqlserver_host:
        if url:
            raise SettingsError("EOD_REGULATORY_URL and EOD_SQLSERVER_HOST are both set: one store, not two")
        return make_sqlserver(settings)
    if not url:
        return None
    parts = urlsplit(url)
    if parts.scheme == "sqlite" and parts.netloc:
        raise SettingsError(
            f"EOD_REGULATORY_URL: {parts.netloc!r} stands where a host would: sqlite:///path/to/file has three slashes"
        )
    if parts.scheme != "sqlite" or not parts.path.strip("/"):
        raise SettingsError(
            f"EOD_REGULATORY_URL has scheme {parts.scheme!r}: sqlite:///path/to/file is supported; "
            "for SQL Server set EOD_SQLSERVER_HOST instead"
        )
    from eod_workers.adapters.sqlite import SqliteRegulatoryStore  # noqa: PLC0415 - loaded where it is used

    return SqliteRegulatoryStore(Path(parts.path))


def make_sqlserver(settings: Settings) -> SqlServerRegulatoryStore:
    """The regulatory store in SQL Server.

    Raises:
        SettingsError: a part of its address is missing.
    """
    from eod_workers.adapters.sqlserver.store import SqlServerRegulatoryStore  # noqa: PLC0415 - loaded where it is used

    return SqlServerRegulatoryStore(sqlserver_address(settings))


def sqlserver_address(settings: Settings) -> Address:
    """Where SQL Server is, and who the workers are to it.

    Raises:
        SettingsError: a part is missing.
    """
    needed = {
        "EOD_SQLSERVER_HOST": settings.sqlserver_host,
        "EOD_SQLSERVER_DATABASE": settings.sqlserver_database,
        "EOD_SQLSERVER_USER": settings.sqlserver_user,
        "EOD_SQLSERVER_PASSWORD": settings.sqlserver_password.get_secret_value(),
    }
    missing = [name for name, value in needed.items() if not value]
    if missing:
        raise SettingsError(f"{' and '.join(missing)} not set: the regulatory store in SQL Server needs them")
    from eod_workers.adapters.sqlserver.address import Address  # noqa: PLC0415 - loaded where it is used

    return Address(
        host=settings.sqlserver_host,
        port=settings.sqlserver_port,
        database=settings.sqlserver_database,
        user=settings.sqlserver_user,
        password=settings.sqlserver_password.get_secret_value(),
        encryption=settings.sqlserver_encryption,
        ca_file=settings.sqlserver_ca_file,
    )


def require_archive(settings: Settings) -> None:
    """Refuses a folder that is not there: whoever reads would find it empty, and all that is in it in order.

    Raises:
        SettingsError: EOD_ARCHIVE_URL names one.
    """
    parts = urlsplit(settings.archive_url)
    if parts.scheme == "file" and not parts.netloc and not Path(parts.path).is_dir():
        raise SettingsError(
            f"EOD_ARCHIVE_URL={settings.archive_url!r}: there is no folder {parts.path}: the archive stage makes it"
        )


def make_archive(settings: Settings) -> ObjectArchive | None:
    """The archive, or None when it is not configured.

    Raises:
        SettingsError: the URL names a kind of archive we do not have.
    """
    if not settings.archive_url:
        return None
    parts = urlsplit(settings.archive_url)
    if parts.scheme == "file" and parts.path and not parts.netloc:
        from eod_workers.adapters.directory import DirectoryArchive  # noqa: PLC0415 - loaded where it is used

        return DirectoryArchive(Path(parts.path))
    if parts.scheme == "s3" and parts.netloc:
        from eod_workers.adapters.s3 import S3Archive  # noqa: PLC0415 - boto3 takes half a second

        prefix = parts.path.strip("/")
        return S3Archive(
            parts.netloc,
            endpoint=settings.s3_endpoint or None,
            prefix=f"{prefix}/" if prefix else "",
            region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        )
    raise SettingsError(
        f"EOD_ARCHIVE_URL={settings.archive_url!r}: file:///folder (three slashes) or s3://bucket/prefix is supported"
    )


async def make_context(
    settings: Settings, stack: AsyncExitStack, needs: frozenset[str], *, uses: frozenset[str] = frozenset()
) -> Context:
    """Ports for one process: those in `needs`, and those in `uses` that are configured; `stack` closes them.

    Raises:
        SettingsError: something in `needs` is not configured.
    """
    kafka = make_log(settings)
    stack.push_async_callback(kafka.close)

    def store(name: str, make: Callable[[Settings], _StoreT | None]) -> _StoreT:
        port = make(settings) if name in needs | uses else None
        if port is not None:
            stack.push_async_callback(port.close)
            return port
        if name in needs:
            raise SettingsError(f"{_VARIABLES[name]} is not set, and this stage needs it")
        return cast("_StoreT", _NotConfigured(name))

    return Context(
        topics=settings,
        log=kafka,
        state=store("state", make_state),
        regulatory=store("regulatory", make_regulatory),
        archive=store("archive", make_archive),
        clock=SystemClock(),
        network=TcpNetwork(),
    )


async def run_stage(stage: Stage, settings: Settings, own: StageSettings) -> None:
    """Runs one worker until SIGTERM or SIGINT, then drains and commits.

    Raises:
        SettingsError: the environment does not fit the stage, or names an address that cannot be listened on.
    """
    name = settings.stage_name or stage.kind.name
    try:
        without = kernel.why_not()
    except ValueError as error:
        raise SettingsError(str(error)) from error
    structlog.contextvars.bind_contextvars(stage=name)
    configure_tracing(name)
    async with AsyncExitStack() as stack:
        context = await make_context(settings, stack, stage.kind.needs)
        try:
            worker = assemble(stage, own, context)
        except ValueError as error:
            raise SettingsError(str(error)) from error
        service = worker.service
        try:
            registry = registry_of(worker.metrics)
            probes = await serve_health(worker.health, registry, context.network, settings)
        except OSError as error:
            raise cannot_listen(error, "HTTP", settings.http_host, settings.http_port) from error
        except ValueError as error:
            raise SettingsError(str(error)) from error
        stack.callback(probes.close)
        loop = asyncio.get_running_loop()
        stopping: list[asyncio.Task[None]] = []

        def stop() -> None:
            logger.info("stage.stopping")
            stopping.append(loop.create_task(service.stop()))

        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stop)
        using = f"not used: {without}" if without else "used"
        logger.info("stage.starting", kind=stage.kind.name, http_port=settings.http_port, kernel=using)
        gc.enable()
        gc.freeze()  # what has been loaded is there to stay, and need not be looked at again
        await service.run()
        logger.info("stage.stopped")
