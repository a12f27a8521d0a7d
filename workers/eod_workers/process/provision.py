"""What the stores need before the first worker: the archive's bucket, the regulatory store's database.

Both commands may run any number of times, beside each other, and before their server is up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from eod_workers.adapters.s3 import S3Archive
from eod_workers.adapters.s3_bucket import BucketState
from eod_workers.adapters.sqlserver import database
from eod_workers.ports import Unavailable
from eod_workers.process.bootstrap import make_archive, sqlserver_address
from eod_workers.process.settings import ADMIN_PREFIX, Admin, Settings, SettingsError
from eod_workers.runtime.variables import read

_PAUSE_S = 1.0
Answer = TypeVar("Answer")


async def patiently(work: Callable[[], Awaitable[Answer]], wait_s: float, say: Callable[[str], None]) -> Answer:
    """Does something as soon as its server is there.

    Args:
        work: may be repeated.
        wait_s: for how long a server that is away is waited for.
        say: is told once what it waits for.

    Raises:
        Unavailable: it is still away.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_s
    said = False
    while True:
        try:
            return await work()
        except Unavailable as away:
            if loop.time() + _PAUSE_S > until:
                raise
            if not said:
                say(f"waiting up to {wait_s:g} s: {away}")
                said = True
        await asyncio.sleep(_PAUSE_S)


async def make_bucket(
    settings: Settings, *, object_lock: bool, retention_days: int | None, wait_s: float, say: Callable[[str], None]
) -> BucketState:
    """The archive's bucket, made if it is not there.

    Raises:
        SettingsError: EOD_ARCHIVE_URL names no bucket.
        ValueError: it is there and lacks what is wanted.
        Unavailable: the server is away.
    """
    archive = make_archive(settings)
    if not isinstance(archive, S3Archive):
        if archive is not None:
            await archive.close()
        raise SettingsError(f"EOD_ARCHIVE_URL={settings.archive_url!r} names no bucket: s3://bucket/prefix is wanted")
    try:
        return await patiently(
            lambda: archive.ensure_bucket(object_lock=object_lock, retention_days=retention_days), wait_s, say
        )
    finally:
        await archive.close()


async def make_database(settings: Settings, *, wait_s: float, say: Callable[[str], None]) -> list[str]:
    """The regulatory store's database, its tables, the workers' login; what was made and what was there.

    Raises:
        SettingsError: a part of the address, or of who may make them, is missing.
        PermissionError: the server refuses.
        Unavailable: it is away.
    """
    worker, admin = sqlserver_address(settings), read(Admin, ADMIN_PREFIX)
    missing = [f"{ADMIN_PREFIX}{name.upper()}" for name, value in admin if not value]
    if missing:
        raise SettingsError(f"{' and '.join(missing)} not set: a login that may make databases and logins is needed")
    who = replace(worker, user=admin.user, password=admin.password.get_secret_value())
    return await patiently(lambda: database.make(who, worker), wait_s, say)


async def check_database(settings: Settings, *, wait_s: float, say: Callable[[str], None]) -> None:
    """Logs in as a worker does and reads.

    Raises:
        SettingsError: a part of the address is missing.
        PermissionError: the server refuses.
        Unavailable: it is away, or there is no schema.
    """
    worker = sqlserver_address(settings)
    await patiently(lambda: database.check(worker), wait_s, say)
