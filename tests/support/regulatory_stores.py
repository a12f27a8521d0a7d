"""The stores that the suite of `ports.RegulatoryStore` runs on: SQLite, SQL Server's test server, SQL Server itself."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pymssql
import pytest
from eod_workers.adapters.sqlite import SqliteRegulatoryStore
from eod_workers.adapters.sqlserver import reports
from eod_workers.adapters.sqlserver.address import Address
from eod_workers.adapters.sqlserver.store import SqlServerRegulatoryStore
from eod_workers.ports import REFERENCE, RegulatoryStore
from tds.server import Server

Open = Callable[[], RegulatoryStore]
MSSQL = "EOD_TEST_MSSQL"
USER, PASSWORD, DATABASE = "eod_writer", "pä§s 'w\"", "regulatory_test"
STORES = (
    "sqlite",
    "tds",
    pytest.param("mssql", marks=pytest.mark.skipif(MSSQL not in os.environ, reason=f"{MSSQL} names no SQL Server")),
)
"""Parameters of what runs on every store."""
_TABLES = ("trades", "exceptions", "offsets", *REFERENCE, "schema_version")


def address_of(server: Server, **changes: str) -> Address:
    """The address of a test server; it has no TLS unless it was given a certificate."""
    known = {"user": USER, "password": PASSWORD, "database": DATABASE, "encryption": "off"} | changes
    return Address("127.0.0.1", port=server.port, **known)  # type: ignore[arg-type]


def real_address() -> Address:
    """The real server that EOD_TEST_MSSQL names as mssql://user:password@host:port/database.

    Its tables in the schema eod are dropped before each test, so the database must say that it is for tests.
    """
    url = urlsplit(os.environ[MSSQL])
    database = url.path.strip("/")
    if url.scheme != "mssql" or not url.hostname or "test" not in database:
        pytest.fail(f"{MSSQL} must be mssql://user:password@host:port/database with 'test' in the database's name")
    return Address(
        url.hostname,
        port=url.port or 1433,
        user=unquote(url.username or ""),
        password=unquote(url.password or ""),
        database=database,
        encryption="request",
    )


def connected(address: Address) -> pymssql.Connection:
    """A connection without anything of ours, which commits each statement."""
    return pymssql.connect(
        server=address.host,
        port=str(address.port),
        user=address.user,
        password=address.password,
        database=address.database,
        encryption=address.encryption,
        autocommit=True,
        tds_version="7.4",
    )


def drop_schema(address: Address) -> None:
    """Leave a real database as it was before the first test."""
    with connected(address) as connection, connection.cursor() as cursor:
        for kind, name in re.findall(r"CREATE OR ALTER (VIEW|PROCEDURE) ([\w.]+)", "".join(reports.BATCHES)):
            cursor.execute(f"DROP {kind} IF EXISTS {name}")
        for table in _TABLES:
            cursor.execute(f"DROP TABLE IF EXISTS eod.{table}")
        cursor.execute("DROP SCHEMA IF EXISTS eod")


async def stores(kind: str, folder: Path) -> AsyncIterator[Open]:
    """Opens one store of a kind, each time anew, as another process would."""
    opened: list[RegulatoryStore] = []
    if kind == "sqlite":
        async for one in _opening(opened, lambda: SqliteRegulatoryStore(folder / "regulatory.db")):
            yield one
    elif kind == "tds":
        with Server(folder, user=USER, password=PASSWORD) as server:
            await prepare(server)
            async for one in _sqlserver(opened, address_of(server)):
                yield one
    else:
        address = real_address()
        drop_schema(address)
        await apply_schema(address)
        async for one in _sqlserver(opened, address):
            yield one
        drop_schema(address)


_PREPARED: list[bytes] = []
"""A database of the test server with the schema, once one was made."""


async def prepare(server: Server) -> None:
    """Make the database on a test server, with the schema: as the store applies it, and from then on a copy of that."""
    server.create_database(DATABASE)
    file = server.file_of(DATABASE)
    if not _PREPARED:
        await apply_schema(address_of(server))
        with closing(sqlite3.connect(file)) as database:
            _PREPARED.append(database.serialize())
    else:
        file.write_bytes(_PREPARED[0])


async def apply_schema(address: Address) -> None:
    """By a store that is closed again."""
    maker = SqlServerRegulatoryStore(address)
    await maker.migrate()
    await maker.close()


async def _sqlserver(opened: list[RegulatoryStore], address: Address) -> AsyncIterator[Open]:
    async for one in _opening(opened, lambda: SqlServerRegulatoryStore(address)):
        yield one


async def _opening(opened: list[RegulatoryStore], make: Callable[[], RegulatoryStore]) -> AsyncIterator[Open]:
    def open_() -> RegulatoryStore:
        opened.append(make())
        return opened[-1]

    yield open_
    for store in opened:
        await store.close()
