"""Asks everything that a pipeline, or a stage of it, relies on."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from eod_contract.kinds import StageKind
from eod_contract.streams import STREAMS

from eod_workers.adapters.s3 import S3Archive
from eod_workers.doctor.findings import Finding, State
from eod_workers.doctor.kafka import WHERE as KAFKA
from eod_workers.doctor.kafka import Wanted, of_kafka
from eod_workers.doctor.stores import ARCHIVE, REDIS, ROWS, of_bucket, of_redis, of_schema, of_sqlserver
from eod_workers.pnl.settings import PnlSettings
from eod_workers.ports import Unavailable, UnknownTopic
from eod_workers.process.bootstrap import make_archive, make_log, make_regulatory, make_state
from eod_workers.process.provision import check_database
from eod_workers.process.settings import Settings, SettingsError
from eod_workers.runtime.variables import read
from eod_workers.trades.spread import spread_key

if TYPE_CHECKING:
    from eod_workers.adapters.redis import RedisState

Look = Callable[[Settings, AsyncExitStack], AsyncIterator[Finding]]
_MS_PER_S = 1_000
_PAUSE_S = 1.0
_NAMED = "do what the sentence says"
_SAYS_HOW = re.compile(r"\b(mend|set|make|name)\b")
_ADDRESS = {
    KAFKA: "EOD_KAFKA_BOOTSTRAP",
    REDIS: "EOD_REDIS_URL",
    ROWS: "EOD_SQLSERVER_HOST or EOD_REGULATORY_URL",
    ARCHIVE: "EOD_S3_ENDPOINT or EOD_ARCHIVE_URL",
}


async def examine(settings: Settings, kind: StageKind | None = None) -> list[Finding]:
    """Looks at all of it at the same time; makes and changes nothing.

    Args:
        settings: where everything is.
        kind: a stage, if only what it relies on is of interest.
    """
    needs = _OF_STORES if kind is None else kind.needs
    looks: list[tuple[str, Look]] = [
        (KAFKA, partial(_kafka, kind)),
        *(_OF_STORES[store] for store in _OF_STORES if store in needs),
    ]
    parts = await asyncio.gather(*(_guarded(settings, where, look) for where, look in looks))
    return [finding for found in parts for finding in found]


async def patiently(
    settings: Settings, kind: StageKind | None, wait_s: float, say: Callable[[str], None]
) -> list[Finding]:
    """`examine`, again and again until everything answers, or for `wait_s`; `say` is told once what is waited for."""
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_s
    said = False
    while True:
        found = await examine(settings, kind)
        away = [finding for finding in found if finding.state is State.AWAY]
        if not away or loop.time() + _PAUSE_S > until:
            return found
        if not said:
            say(f"waiting up to {wait_s:g} s: {'; '.join(f'{one.where}: {one.said}' for one in away)}")
            said = True
        await asyncio.sleep(_PAUSE_S)


async def _guarded(settings: Settings, where: str, look: Look) -> list[Finding]:
    """What is found until the look ends, or fails: that is a finding, too."""
    found: list[Finding] = []
    try:
        async with AsyncExitStack() as stack:
            async for finding in look(settings, stack):
                found.append(finding)  # noqa: PERF401 - what was found before it failed stays
    except Unavailable as error:
        found.append(Finding(where, "server", State.AWAY, str(error), _away(where, str(error))))
    except SettingsError as error:
        found.append(Finding(where, "settings", State.MISSING, str(error), _NAMED))
    except (PermissionError, UnknownTopic, ValueError) as error:
        found.append(Finding(where, "access", State.MISSING, str(error), _NAMED))
    return found


def _away(where: str, said: str) -> str:
    return _NAMED if _SAYS_HOW.search(said) else f"start it, or mend {_ADDRESS[where]}"


async def _kafka(kind: StageKind | None, settings: Settings, stack: AsyncExitStack) -> AsyncIterator[Finding]:
    streams = tuple(STREAMS.values()) if kind is None else tuple(dict.fromkeys((*kind.reads, *kind.writes)))
    log = make_log(settings)
    stack.push_async_callback(log.close)
    seen = await log.look([settings.topic(stream) for stream in streams])
    snapshots_ms = read(PnlSettings).snapshot_interval_s * _MS_PER_S
    spread = await _spread(settings, stack) if kind is None or "state" in kind.needs else None
    for finding in of_kafka(seen, Wanted(streams, settings, settings.kafka_bootstrap, snapshots_ms, spread)):
        yield finding


async def _spread(settings: Settings, stack: AsyncExitStack) -> int | None:
    """Over how many partitions trades are spread; None where nobody says: there is a look at the store itself."""
    try:
        if (state := make_state(settings)) is None:
            return None
        stack.push_async_callback(state.close)
        kept = await state.get(spread_key(settings.trades_topic))
    except (SettingsError, Unavailable, PermissionError):
        return None
    return None if kept is None else int(kept)


async def _redis(settings: Settings, stack: AsyncExitStack) -> AsyncIterator[Finding]:
    state = cast("RedisState | None", make_state(settings))
    if state is None:
        raise SettingsError("EOD_REDIS_URL is not set: redis://[:password@]host:port/db is wanted")
    stack.push_async_callback(state.close)
    for finding in of_redis(await state.look()):
        yield finding


async def _rows(settings: Settings, stack: AsyncExitStack) -> AsyncIterator[Finding]:
    store = make_regulatory(settings)
    if store is None:
        raise SettingsError("neither EOD_SQLSERVER_HOST nor EOD_REGULATORY_URL is set: there is no regulatory store")
    stack.push_async_callback(store.close)
    if not settings.sqlserver_host:
        yield Finding(ROWS, "kind", State.NOTE, "SQLite: workers of one machine share it, and no others")
        yield of_schema(store.where, await store.schema_version(), store.migrations)
        return
    for finding in of_sqlserver(settings):
        yield finding
    yield of_schema(store.where, await store.schema_version(), store.migrations)
    await check_database(settings, wait_s=0, say=lambda _: None)
    yield Finding(ROWS, "login", State.OK, f"{settings.sqlserver_user} may read")


async def _archive(settings: Settings, stack: AsyncExitStack) -> AsyncIterator[Finding]:
    archive = make_archive(settings)
    if archive is None:
        raise SettingsError("EOD_ARCHIVE_URL is not set: s3://bucket/prefix or file:///folder is wanted")
    stack.push_async_callback(archive.close)
    if isinstance(archive, S3Archive):
        for finding in of_bucket(urlsplit(settings.archive_url).netloc, await archive.look()):
            yield finding
        return
    folder = Path(urlsplit(settings.archive_url).path)
    there = "is there" if await asyncio.to_thread(folder.is_dir) else "is not there yet: the archive stage makes it"
    yield Finding(ARCHIVE, "folder", State.OK, f"{folder} {there}")
    yield Finding(ARCHIVE, "kind", State.NOTE, "a folder: who may write in it can change and delete what is archived")


_OF_STORES: dict[str, tuple[str, Look]] = {
    "state": (REDIS, _redis),
    "regulatory": (ROWS, _rows),
    "archive": (ARCHIVE, _archive),
}
"""Store, as `StageKind.needs` has it → what it is called, and who looks at it."""
