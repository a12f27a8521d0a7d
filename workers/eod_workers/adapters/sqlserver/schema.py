"""The tables, as migrations in T-SQL that may be run any number of times; `eod db migrate` applies or prints them.

Rows are never changed: triggers refuse UPDATE and DELETE, whoever asks. A trade is one row by `row_key`, a hash of its
identity: SQL Server compares text without case (in most collations) and without trailing blanks (in all), and an index
takes no more than 1,700 bytes; a hash has neither trouble. Prices and quantities are BIGINT in units of 1e-8, as
everywhere in eod: exact, over the whole range of the contract, and bulk copy sends integers at their cheapest. To read
them as numbers: CAST(last_px_e8 AS DECIMAL(19, 0)) * 0.00000001, which is an exact DECIMAL(28, 8).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, get_type_hints

from eod_workers.adapters.sqlserver import reports
from eod_workers.ports import REFERENCE, ExceptionRow, TradeRow
from eod_workers.trades.conflicts import SUBSTANCE

KEY_BYTES = 32
TEXT_UNITS = 4_000
"""Longest text of a column, in UTF-16 units: what NVARCHAR holds within a row."""
GROUP_UNITS, TOPIC_UNITS = 190, 249
"""Both are in the key of the offsets, which takes 900 bytes; Kafka's topics have at most 249 characters."""
UNBOUNDED = frozenset({"value", "detail"})
"""Texts of exceptions quote what was sent, however long it is."""
COLLATION = "Latin1_General_100_BIN2"
TOPIC_ID_UNITS = 64
"""Kafka's have 22 characters."""
STALE = 51_000
"""Number of the error that ends a transaction of a former owner."""
_APPEND_ONLY = 51_001
LATER = 51_004
"""Number of the error of who finds the schema of a later release."""
LOCKED = 51_003
"""Number of the error of who has waited for another's migration in vain."""
_LOCK_MS = 20_000
CONFLICT = 51_002
"""Number of the error that ends a transaction whose trades are stored as others, which must be noted with it."""

KINDS: Mapping[str, Mapping[str, type]] = MappingProxyType(
    {
        "trades": get_type_hints(TradeRow),
        "exceptions": get_type_hints(ExceptionRow),
        **{table: get_type_hints(row) for table, row in REFERENCE.items()},
    }
)
"""Table → its columns, in the order of the rows, with `str` or `int`."""


def _stored(name: str, kind: type) -> str:
    if kind is int:
        return f"[{name}] BIGINT NOT NULL"
    size = "MAX" if name in UNBOUNDED else str(TEXT_UNITS)
    return f"[{name}] NVARCHAR({size}) COLLATE {COLLATION} NOT NULL"


def _table(table: str) -> str:
    columns = ",\n    ".join(_stored(name, kind) for name, kind in KINDS[table].items())
    return f"""IF OBJECT_ID(N'eod.{table}', N'U') IS NULL CREATE TABLE eod.{table} (
    [row_id] BIGINT IDENTITY(1, 1) NOT NULL CONSTRAINT {table}_order PRIMARY KEY,
    [row_key] BINARY({KEY_BYTES}) NOT NULL CONSTRAINT {table}_once UNIQUE,
    {columns}
)"""


def _reference(table: str) -> str:
    columns = ",\n    ".join(_stored(name, kind) for name, kind in KINDS[table].items())
    return f"""IF OBJECT_ID(N'eod.{table}', N'U') IS NULL CREATE TABLE eod.{table} (
    [row_key] BINARY({KEY_BYTES}) NOT NULL CONSTRAINT {table}_once PRIMARY KEY,
    {columns}
)"""


def _append_only(table: str) -> str:
    return f"""CREATE OR ALTER TRIGGER eod.{table}_append_only ON eod.{table} INSTEAD OF UPDATE, DELETE AS
THROW {_APPEND_ONLY}, N'eod.{table} is append-only', 1"""


def _added(table: str, column: str) -> str:
    """A column that an earlier version did not have; 0 in its rows, as in the log's records behind them."""
    return f"""IF COL_LENGTH(N'eod.{table}', N'{column}') IS NULL
ALTER TABLE eod.{table} ADD [{column}] BIGINT NOT NULL CONSTRAINT {table}_{column} DEFAULT 0"""


_TOPIC_ID = f"""IF COL_LENGTH(N'eod.offsets', N'topic_id') IS NULL
ALTER TABLE eod.offsets ADD [topic_id] NVARCHAR({TOPIC_ID_UNITS}) COLLATE {COLLATION} NOT NULL
    CONSTRAINT offsets_topic_id DEFAULT N''"""
"""Of the topic that the offset is of; empty in rows of earlier versions, and where the log has no ids."""


class Migration(NamedTuple):
    """A version of the schema: what it brings, and the batches that bring it to the one before."""

    version: int
    what: str
    batches: tuple[str, ...]

    @property
    def recorded(self) -> tuple[str, ...]:
        """The batches, and the one that says that they are done."""
        done = f"""INSERT INTO eod.schema_version (version) SELECT {self.version}
WHERE NOT EXISTS (SELECT 1 FROM eod.schema_version WHERE version = {self.version})"""  # noqa: S608 - our own number
        return (*self.batches, done)


MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        1,
        "trades, exceptions, the offsets that they came from",
        (
            "IF SCHEMA_ID(N'eod') IS NULL EXEC(N'CREATE SCHEMA eod')",
            _table("trades"),
            _table("exceptions"),
            f"""IF OBJECT_ID(N'eod.offsets', N'U') IS NULL CREATE TABLE eod.offsets (
    [grp] NVARCHAR({GROUP_UNITS}) COLLATE {COLLATION} NOT NULL,
    [topic] NVARCHAR({TOPIC_UNITS}) COLLATE {COLLATION} NOT NULL,
    [part] INT NOT NULL,
    [next_offset] BIGINT NULL,
    [epoch] BIGINT NOT NULL,
    CONSTRAINT offsets_once PRIMARY KEY ([grp], [topic], [part])
)""",
            """IF OBJECT_ID(N'eod.schema_version', N'U') IS NULL CREATE TABLE eod.schema_version (
    [version] INT NOT NULL CONSTRAINT schema_version_once PRIMARY KEY
)""",
            _append_only("trades"),
            _append_only("exceptions"),
        ),
    ),
    Migration(
        2,
        "the trading day, and where a time comes from",
        (_added("trades", "trade_date"), _added("trades", "time_source"), _added("exceptions", "trade_date")),
    ),
    Migration(3, "the multiplier of a contract", (_added("trades", "multiplier_e8"),)),
    Migration(4, "traders, strategies, securities and market participants", tuple(map(_reference, REFERENCE))),
    Migration(
        5, "views of what stands after busts and corrections", ()
    ),  # as they are now: made by the last that has them
    Migration(6, "an exception for each other trade of an ExecID", reports.BATCHES),  # by its key: see `rows.staged`
    Migration(7, "of which topic of a name the offsets are", (_TOPIC_ID,)),
)
"""Each batch is one of its own, as a trigger must be. New tables have all columns at once; later batches find them."""
VERSION = MIGRATIONS[-1].version
LOCK = f"""DECLARE @got INT;
EXEC @got = sp_getapplock @Resource = N'eod.schema', @LockMode = N'Exclusive', @LockOwner = N'Session',
    @LockTimeout = {_LOCK_MS};
IF @got < 0 THROW {LOCKED}, N'somebody else migrates this database', 1"""
"""Of a session, until it ends or UNLOCK: one migrates, the others wait (docs of SQL Server: sp_getapplock)."""
UNLOCK = "EXEC sp_releaseapplock @Resource = N'eod.schema', @LockOwner = N'Session'"
GUARD = f"""IF OBJECT_ID(N'eod.schema_version', N'U') IS NOT NULL
EXEC(N'IF (SELECT MAX(version) FROM eod.schema_version) > {VERSION} THROW {LATER}, N''a later release'', 1')"""  # noqa: S608 - our own numbers
"""Ends a session that would bring a later release's schema back; its table is named in a batch of its own, which is not
read where there is none."""
SCHEMA: tuple[str, ...] = (LOCK, GUARD, *(batch for one in MIGRATIONS for batch in one.recorded), UNLOCK)
"""All of it for one session; any number of times."""


IN_ONE_PIECE: tuple[str, ...] = (LOCK, GUARD, "BEGIN TRANSACTION", *SCHEMA[2:-1], "COMMIT TRANSACTION", UNLOCK)
"""The same, whole or nothing."""


def as_script() -> str:
    """The schema for sqlcmd and its like, where GO ends a batch. It ends at the first error, and undoes all of it."""
    return scripted(["SET XACT_ABORT ON", *IN_ONE_PIECE])


def scripted(batches: Sequence[str]) -> str:
    """Batches for sqlcmd, which goes on after an error unless it is told not to."""
    return ":on error exit\n" + "".join(f"{batch};\nGO\n" for batch in batches)


# --- staging --------------------------------------------------------------------------------------

# FreeTDS's bulk copy sends an empty value as NULL, and takes trailing blanks from text. So text travels as the bytes of
# its UTF-16, which it leaves alone, and NULL stands for empty: no value of ours is NULL.


def _staged(name: str, kind: type) -> str:
    if kind is int:
        return f"[{name}] BIGINT NOT NULL"
    return f"[{name}] VARBINARY({'MAX' if name in UNBOUNDED else 2 * TEXT_UNITS}) NULL"


def _staging(table: str) -> str:
    columns = ", ".join(_staged(name, kind) for name, kind in KINDS[table].items())
    return f"CREATE TABLE #eod_{table} ([row_key] BINARY({KEY_BYTES}) NOT NULL, {columns})"


STAGING: tuple[str, ...] = (
    *map(_staging, KINDS),
    f"""CREATE TABLE #eod_offsets (
    [topic] NVARCHAR({TOPIC_UNITS}) COLLATE {COLLATION} NOT NULL, [part] INT NOT NULL,
    [epoch] BIGINT NULL, [next_offset] BIGINT NULL,
    [topic_id] NVARCHAR({TOPIC_ID_UNITS}) COLLATE {COLLATION} NULL, [outdated] BIGINT NULL
)""",
)
"""Temporary tables of one connection: nobody else sees them, and they vanish with it."""


def _unstaged(name: str, kind: type) -> str:
    if kind is int:
        return f"s.[{name}]"
    size = "MAX" if name in UNBOUNDED else str(TEXT_UNITS)
    return f"COALESCE(CAST(s.[{name}] AS NVARCHAR({size})), N'')"


def move(table: str) -> str:
    """The statement that adds the staged rows that are new."""
    names = ", ".join(f"[{name}]" for name in KINDS[table])
    values = ", ".join(_unstaged(name, kind) for name, kind in KINDS[table].items())
    return (
        f"INSERT INTO eod.{table} ([row_key], {names}) SELECT s.[row_key], {values} FROM #eod_{table} AS s "  # noqa: S608 - our own names
        f"WHERE NOT EXISTS (SELECT 1 FROM eod.{table} AS t WHERE t.[row_key] = s.[row_key])"
    )


def replace(table: str) -> str:
    """The statements that make the staged rows all that a table of reference data holds."""
    return f"DELETE FROM eod.{table}; {move(table)}"  # noqa: S608 - our own names


def _differs(name: str) -> str:
    return f"{_unstaged(name, KINDS['trades'][name])} <> t.[{name}]"


_OTHERS = " OR ".join(map(_differs, SUBSTANCE))
CONFLICTS = f"FROM #eod_trades AS s JOIN eod.trades AS t ON t.[row_key] = s.[row_key] WHERE {_OTHERS}"
"""The staged trades that are stored as others: s as they come, t as they are stored."""
