"""The calls to SQL Server; one connection, made when it is needed and dropped after every failure.

Rows are copied into temporary tables first, outside of any transaction. Then one batch does the rest: it moves the
offsets of the partitions that are still ours, fails if that was not all of them, adds the rows that are new, commits.
The server has the whole batch before it begins, so a transaction never waits for a client, and locks never outlive one.

It also fails if trades are stored as others than those that we know of (see `trades.conflicts`): then we look which
they are, add an exception for each, and begin again. Rows never change, so what was found stays found.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pymssql
from pymssql import _mssql

from eod_workers.adapters.sqlserver import schema
from eod_workers.adapters.sqlserver.address import Address
from eod_workers.adapters.sqlserver.errors import ALREADY_THERE, meaning, missing_schema, number_and_text
from eod_workers.adapters.sqlserver.rows import Staged, staged
from eod_workers.adapters.sqlserver.schema import (
    CONFLICT,
    GROUP_UNITS,
    KINDS,
    LOCK,
    MIGRATIONS,
    STAGING,
    STALE,
    TOPIC_UNITS,
    UNLOCK,
    VERSION,
)
from eod_workers.ports import REFERENCE, StaleEpoch, TradeRow
from eod_workers.trades.conflicts import SUBSTANCE, conflict, conflicts_among
from eod_workers.trades.model import Identity

PAGE_ROWS = 1_000
_ATTEMPTS = 3
"""Of a transaction that met another writer's row; the next attempt sees that row."""
_LOCK_WAIT_MS = 15_000
_LARGEST_PARTITION = 2**31 - 1
Answer = TypeVar("Answer")
Claim = tuple[str, int, int, int]
"""Topic, partition, epoch, next offset."""
Taken = tuple[str, int, int, int | None, int | None]
"""Topic, partition, its epoch now, the next offset stored, and that of an earlier topic of the name."""

_SESSION = (
    "SET ANSI_NULLS ON; SET ANSI_PADDING ON; SET ANSI_WARNINGS ON; SET ARITHABORT ON; SET CONCAT_NULL_YIELDS_NULL ON; "
    f"SET QUOTED_IDENTIFIER ON; SET XACT_ABORT ON; SET LOCK_TIMEOUT {_LOCK_WAIT_MS}"
)
_EMPTY = "TRUNCATE TABLE #eod_trades; TRUNCATE TABLE #eod_exceptions; TRUNCATE TABLE #eod_offsets; "
_CLAIM = "INSERT INTO #eod_offsets (topic, part, epoch, next_offset) VALUES (%s, %d, %d, %d); "
_TAKE = "INSERT INTO #eod_offsets (topic, part, topic_id) VALUES (%s, %d, %s); "
_STORE = f"""
DECLARE @grp NVARCHAR({GROUP_UNITS}) = %s;
DECLARE @claimed INT = (SELECT COUNT(*) FROM #eod_offsets);
DECLARE @conflicts INT = %d;
DECLARE @staged INT = (SELECT COUNT(*) FROM #eod_trades);
DECLARE @moved INT;
DECLARE @inserted INT;
DECLARE @noted INT;
BEGIN TRANSACTION;
UPDATE o SET o.next_offset = CASE WHEN o.next_offset > n.next_offset THEN o.next_offset ELSE n.next_offset END
FROM eod.offsets AS o JOIN #eod_offsets AS n ON n.topic = o.topic AND n.part = o.part AND n.epoch = o.epoch
WHERE o.grp = @grp;
SET @moved = @@ROWCOUNT;
IF @moved <> @claimed THROW {STALE}, N'taken over', 1;
{schema.move("trades")};
SET @inserted = @@ROWCOUNT;
IF @inserted < @staged AND @conflicts < (SELECT COUNT(*) {schema.CONFLICTS}) THROW {CONFLICT}, N'other trades', 1;
{schema.move("exceptions")};
SET @noted = @@ROWCOUNT;
COMMIT TRANSACTION;
SELECT @inserted AS inserted, @noted AS noted
"""  # noqa: S608 - our own names
_STORED_AS = f"SELECT {', '.join(f't.[{name}]' for name in (*TradeRow._fields[:3], *SUBSTANCE))} {schema.CONFLICTS}"
_STALE_ONES = """
SELECT n.topic, n.part, n.epoch FROM #eod_offsets AS n WHERE NOT EXISTS (
    SELECT 1 FROM eod.offsets AS o WHERE o.grp = %s AND o.topic = n.topic AND o.part = n.part AND o.epoch = n.epoch
) ORDER BY n.topic, n.part
"""
# Rows that are missing come first, with epoch 0: of two that take over a new partition at the same time, the second
# then finds the first one's row, or fails to make it again, and in both cases counts on from there. The epoch is raised
# before the offset is looked at: from then on nobody else moves it.
_THEIRS = "eod.offsets AS o JOIN #eod_offsets AS n ON n.topic = o.topic AND n.part = o.part"
_ANOTHER = "n.topic_id <> N'' AND o.topic_id <> N'' AND n.topic_id <> o.topic_id"
_TAKE_OVER = f"""
DECLARE @grp NVARCHAR({GROUP_UNITS}) = %s;
BEGIN TRANSACTION;
INSERT INTO eod.offsets (grp, topic, part, epoch) SELECT @grp, n.topic, n.part, 0 FROM #eod_offsets AS n
WHERE NOT EXISTS (SELECT 1 FROM eod.offsets AS o WHERE o.grp = @grp AND o.topic = n.topic AND o.part = n.part);
UPDATE o SET o.epoch = o.epoch + 1 FROM {_THEIRS} WHERE o.grp = @grp;
UPDATE n SET n.outdated = o.next_offset
FROM #eod_offsets AS n JOIN eod.offsets AS o ON o.topic = n.topic AND o.part = n.part
WHERE o.grp = @grp AND {_ANOTHER};
UPDATE o SET o.next_offset = NULL FROM {_THEIRS} WHERE o.grp = @grp AND {_ANOTHER};
UPDATE o SET o.topic_id = n.topic_id FROM {_THEIRS} WHERE o.grp = @grp AND n.topic_id <> N'';
UPDATE n SET n.epoch = o.epoch, n.next_offset = o.next_offset
FROM #eod_offsets AS n JOIN eod.offsets AS o ON o.topic = n.topic AND o.part = n.part
WHERE o.grp = @grp;
COMMIT TRANSACTION;
SELECT topic, part, epoch, next_offset, outdated FROM #eod_offsets
"""  # noqa: S608 - our own numbers


class Writer:
    """Calls, one at a time.

    Args:
        address: of the server.
        login_within_s: how long connecting may take.
        answer_within_s: how long the server may be silent within a call.
    """

    def __init__(self, address: Address, *, login_within_s: int, answer_within_s: int) -> None:
        self._address = address
        self._login_within_s = login_within_s
        self._answer_within_s = answer_within_s
        self._connection: pymssql.Connection | None = None
        if address.ca_file:
            _trust(address.ca_file)

    def take_over(self, group: str, sources: Sequence[tuple[str, int, str]]) -> list[Taken]:
        """Takes partitions over, each with the id of its topic or ""; see `ports.RegulatoryStore`."""
        _check_group(group)
        _check_sources([source[:2] for source in sources])
        claims = tuple(value for source in sources for value in source)

        def call(cursor: pymssql.Cursor) -> list[Taken]:
            cursor.execute(_EMPTY + _TAKE * len(sources), claims)
            return self._again(lambda: _rows(cursor, _TAKE_OVER, group))

        return self._call(call)

    def store(
        self,
        group: str,
        trades: Sequence[Sequence[object]],
        exceptions: Sequence[Sequence[object]],
        claims: Sequence[Claim],
    ) -> tuple[int, int, int]:
        """New trades, new exceptions, trades that are stored as others; see `ports.RegulatoryStore`."""
        _check_group(group)
        _check_sources([claim[:2] for claim in claims])
        rows = staged("trades", trades)

        def others(known: Mapping[Identity, tuple[object, ...]]) -> list[TradeRow]:
            again = known or len(rows) < len(trades)
            return list(conflicts_among(map(TradeRow._make, trades), known)) if again else []

        def call(cursor: pymssql.Cursor) -> tuple[int, int, int]:
            cursor.execute(_EMPTY + _CLAIM * len(claims), tuple(value for claim in claims for value in claim))
            _copy(cursor, "trades", rows)
            known: dict[Identity, tuple[object, ...]] = {}
            while True:
                conflicts = others(known)
                _copy(cursor, "exceptions", staged("exceptions", [*exceptions, *map(conflict, conflicts)]))
                try:
                    ((inserted, noted),) = self._again(partial(_rows, cursor, _STORE, group, len(known)))
                except (pymssql.Error, _mssql.MSSQLException) as error:
                    number = number_and_text(error)[0]
                    if number == STALE:
                        raise _stale(group, _rows(cursor, _STALE_ONES, group)) from None
                    if number != CONFLICT:
                        raise
                    known = {row[:3]: row[3:] for row in _rows(cursor, _STORED_AS)}
                    cursor.execute("TRUNCATE TABLE #eod_exceptions")
                else:
                    return inserted, noted, len(conflicts)

        return self._call(call)

    def page(self, table: str, after: int) -> list[tuple[Any, ...]]:
        """Up to `PAGE_ROWS` rows, their row_id first, in the order in which they were stored."""
        names = ", ".join(f"[{name}]" for name in KINDS[table])
        query = f"SELECT TOP ({PAGE_ROWS}) [row_id], {names} FROM eod.{table} WHERE [row_id] > %d ORDER BY [row_id]"  # noqa: S608 - our own names
        return self._call(lambda cursor: _rows(cursor, query, after))

    def put_reference(self, tables: Mapping[str, Sequence[Sequence[object]]]) -> dict[str, list[tuple[Any, ...]]]:
        """Table → the rows that it held before; see `ports.ReferenceOwner`."""
        rows = {table: staged(table, some) for table, some in tables.items()}
        for table, some in tables.items():
            if len(rows[table]) < len(some):
                raise ValueError(f"two {table} have the same {next(iter(KINDS[table]))}")

        def call(cursor: pymssql.Cursor) -> dict[str, list[tuple[Any, ...]]]:
            cursor.execute("; ".join(f"TRUNCATE TABLE #eod_{table}" for table in rows))
            for table, some in rows.items():
                _copy(cursor, table, some)
            before = {table: self._reference(cursor, table) for table in rows}
            moved = "; ".join(map(schema.replace, rows))
            _rows_of_any(cursor, f"BEGIN TRANSACTION; {moved}; COMMIT TRANSACTION")
            return before

        return self._call(call)

    def reference(self) -> dict[str, list[tuple[Any, ...]]]:
        """Table → its rows; see `ports.ReferenceOwner`."""
        return self._call(lambda cursor: {table: self._reference(cursor, table) for table in REFERENCE})

    @staticmethod
    def _reference(cursor: pymssql.Cursor, table: str) -> list[tuple[Any, ...]]:
        first, *rest = KINDS[table]
        names = ", ".join(f"[{name}]" for name in (first, *rest))
        return [tuple(row) for row in _rows(cursor, f"SELECT {names} FROM eod.{table} ORDER BY [{first}]")]  # noqa: S608 - our own names

    def schema_version(self) -> int | None:
        """The version that is there, None if there is none."""
        return self._alone(_version)

    def migrate(self) -> tuple[int | None, list[int]]:
        """The version before, and those that were applied; each in a transaction, all under one lock."""

        def call(cursor: pymssql.Cursor) -> tuple[int | None, list[int]]:
            _rows_of_any(cursor, LOCK)
            before = _version(cursor)
            if before is not None and before > VERSION:
                raise ValueError(
                    f"{self._address} has schema version {before}, of a later release than this: {VERSION}"
                )
            missing = [one for one in MIGRATIONS if one.version > (before or 0)]
            for migration in missing:
                for batch in ("BEGIN TRANSACTION", *migration.recorded, "COMMIT TRANSACTION"):
                    _rows_of_any(cursor, batch)
            _rows_of_any(cursor, UNLOCK)
            return before, [one.version for one in missing]

        return self._alone(call)

    def run(self, batches: Sequence[str]) -> list[list[Any]]:
        """The rows of each of some batches, run one by one on a connection that needs no schema."""

        def call(cursor: pymssql.Cursor) -> list[list[Any]]:
            return [_rows_of_any(cursor, batch) for batch in batches]

        return self._alone(call)

    def _alone(self, call: Callable[[pymssql.Cursor], Answer]) -> Answer:
        """A call on a connection of its own, which needs no schema."""
        self._disconnect()
        answer = self._call(call, prepared=False)
        self._disconnect()  # the next call wants one that is prepared
        return answer

    def _call(self, call: Callable[[pymssql.Cursor], Answer], *, prepared: bool = True) -> Answer:
        with self._translated():
            connection = self._connected(prepared=prepared)
            with connection.cursor() as cursor:
                return call(cursor)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """After a failure nothing is known of the connection, so it goes, and its temporary tables with it."""
        try:
            yield
        except StaleEpoch:
            raise
        except (pymssql.Error, _mssql.MSSQLException) as error:
            self._disconnect()
            raise meaning(error, self._address) from None
        except BaseException:
            self._disconnect()
            raise

    @staticmethod
    def _again(work: Callable[[], Answer]) -> Answer:
        """A transaction; once more when another writer was quicker with the same row."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return work()
            except (pymssql.Error, _mssql.MSSQLException) as error:
                if number_and_text(error)[0] not in ALREADY_THERE:
                    raise
        return work()

    def _connected(self, *, prepared: bool) -> pymssql.Connection:
        if self._connection is None:
            connection = pymssql.connect(
                server=self._address.host,
                port=str(self._address.port),
                user=self._address.user,
                password=self._address.password,
                database=self._address.database,
                encryption=self._address.encryption,
                login_timeout=self._login_within_s,
                timeout=self._answer_within_s,
                tds_version="7.4",
                appname="eod regulatory",
                conn_properties=_SESSION,
                autocommit=True,
            )
            self._connection = connection
            if prepared:
                self._prepare(connection)
        return self._connection

    def _prepare(self, connection: pymssql.Connection) -> None:
        with connection.cursor() as cursor:
            version = _version(cursor)
            if version is None or version < VERSION:
                raise missing_schema(self._address)
            if version != VERSION:
                raise RuntimeError(f"{self._address} has schema version {version}, this program needs {VERSION}")
            for table in STAGING:
                cursor.execute(table)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(pymssql.Error, _mssql.MSSQLException):
                connection.close()


def _copy(cursor: pymssql.Cursor, table: str, rows: Sequence[Staged]) -> None:
    if rows:
        cursor.connection.bulk_copy(f"#eod_{table}", rows, batch_size=len(rows) + 1, tablock=True)


def _rows(cursor: pymssql.Cursor, query: str, *values: str | int) -> list[Any]:
    """The rows of a query's only result; errors that come after it count as well."""
    cursor.execute(query, values)
    rows = cursor.fetchall()
    cursor.nextset()
    return rows


def _version(cursor: pymssql.Cursor) -> int | None:
    ((found,),) = _rows(cursor, "SELECT OBJECT_ID(N'eod.schema_version', N'U') AS found")
    if found is None:
        return None
    ((version,),) = _rows(cursor, "SELECT MAX(version) AS version FROM eod.schema_version")
    return version  # type: ignore[no-any-return]


def _rows_of_any(cursor: pymssql.Cursor, batch: str) -> list[Any]:
    """The rows of a batch that may have none."""
    cursor.execute(batch)
    rows: list[Any] = cursor.fetchall() if cursor.description else []
    cursor.nextset()
    return rows


def _stale(group: str, ones: Sequence[tuple[str, int, int]]) -> StaleEpoch:
    if not ones:  # taken over and over again between the two looks; ours is none of them
        return StaleEpoch(f"a partition has been taken over in group {group}")
    topic, part, epoch = ones[0]
    return StaleEpoch(f"{topic}-{part} has been taken over in group {group} since epoch {epoch}")


def _check_group(group: str) -> None:
    if len(group) > GROUP_UNITS or group != group.rstrip(" "):
        raise ValueError(
            f"consumer group {group!r}: {GROUP_UNITS} characters fit, and no blank at the end; set EOD_GROUP"
        )


def _check_sources(sources: Sequence[tuple[str, int]]) -> None:
    for topic, part in sources:
        if len(topic) > TOPIC_UNITS or not 0 <= part <= _LARGEST_PARTITION:
            raise ValueError(f"{topic}-{part} is no partition of a Kafka topic")


def _trust(ca_file: str) -> None:
    """FreeTDS is told of authorities by a file alone, which it finds through the environment."""
    if not Path(ca_file).is_file():
        raise PermissionError(f"EOD_SQLSERVER_CA_FILE={ca_file} is no file: give the PEM of the server's authority")
    conf = os.memfd_create("freetds.conf")  # as good as a file, and gone with this process
    os.write(conf, f"[global]\n\tca file = {ca_file}\n\tcheck certificate hostname = yes\n".encode())
    os.environ["FREETDSCONF"] = f"/proc/self/fd/{conf}"
