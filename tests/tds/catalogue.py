"""What tables a database and a session have, in tables of SQLite that a client sees as sys.columns."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from tds.script import Name, Procedure, Refused, Trigger, named
from tds.tokens import Column
from tds.tsql import Added, Table
from tds.types import BINARY, BITN, INTN, MAX, NVARCHAR, VARBINARY, Type, Value, without_null

_IDS = {
    (INTN, 1): 48,
    (INTN, 2): 52,
    (INTN, 4): 56,
    (INTN, 8): 127,
    BITN: 104,
    NVARCHAR: 231,
    BINARY: 173,
    VARBINARY: 165,
}
_NAMES = {
    48: "tinyint", 52: "smallint", 56: "int", 127: "bigint", 104: "bit", 231: "nvarchar", 173: "binary", 165: "varbinary",
}  # fmt: skip
_COLUMNS = """
CREATE TABLE IF NOT EXISTS {catalogue} (
    object_id INTEGER NOT NULL, object TEXT NOT NULL, column_id INTEGER NOT NULL, name TEXT NOT NULL,
    system_type_id INTEGER NOT NULL, code INTEGER NOT NULL, size INTEGER NOT NULL,
    is_nullable INTEGER NOT NULL, is_identity INTEGER NOT NULL, PRIMARY KEY (object, column_id)
) STRICT
"""
_PERMANENT, _TEMPORARY = 'main."sys.columns"', 'temp."tempdb.sys.columns"'
_TOO_LONG, _TOO_LARGE = 2628, 8115


class Catalogue:
    """The tables that one connection sees; makes and drops them."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        for catalogue in (_PERMANENT, _TEMPORARY):
            connection.execute(_COLUMNS.format(catalogue=catalogue))
        connection.execute("CREATE TABLE IF NOT EXISTS main.schemas (name TEXT PRIMARY KEY) STRICT")
        connection.execute("INSERT OR IGNORE INTO main.schemas VALUES ('dbo')")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS main.procedures (name TEXT PRIMARY KEY, parameters TEXT, body TEXT) STRICT"
        )
        connection.execute("CREATE TABLE IF NOT EXISTS main.users (name TEXT PRIMARY KEY COLLATE NOCASE) STRICT")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS main.grants (user TEXT, object TEXT, right TEXT, UNIQUE (user, object, right)) STRICT"
        )
        connection.create_function("DATABASE_PRINCIPAL_ID", 1, self.user_id)
        connection.create_function("OBJECT_ID", -1, self._object_id)
        connection.create_function("COL_LENGTH", 2, self._column_length)
        connection.create_function("SCHEMA_ID", 1, self._schema_id)
        connection.create_function("AS_TEXT", 1, _as_text, deterministic=True)
        connection.create_function("TYPE_NAME", 1, _NAMES.get, deterministic=True)

    def columns(self, table: Name) -> list[Column]:
        """The columns of a table; empty if there is none."""
        catalogue = _TEMPORARY if table.temporary else _PERMANENT
        found = self._connection.execute(
            f"SELECT name, code, size, is_nullable, is_identity FROM {catalogue} WHERE object = ? ORDER BY column_id",  # noqa: S608 - our own names
            (table.text.lower(),),
        )
        return [
            Column(name, Type(code, size) if null else without_null(Type(code, size)), bool(null), bool(own))
            for name, code, size, null, own in found
        ]

    def create(self, table: Table) -> None:
        """Make a table.

        Raises:
            Refused: it exists, or its schema does not.
        """
        if self.columns(table.name):
            raise Refused(2714, f"There is already an object named '{table.name.text}' in the database.")
        if not table.name.temporary and self._schema_id(table.name.text.partition(".")[0]) is None:
            raise Refused(2760, f"The schema of {table.name.text} does not exist or you have no permission to use it.")
        lines = [_declared(column) for column in table.columns]
        lines += [f"UNIQUE ({', '.join(map(_quoted, names))})" for names in table.unique]
        self._connection.execute(f"CREATE TABLE {table.name.quoted} ({', '.join(lines)}) STRICT")
        catalogue = _TEMPORARY if table.name.temporary else _PERMANENT
        self._connection.executemany(
            f"INSERT INTO {catalogue} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - our own names
            list(_described(table)),
        )

    def add(self, added: Added) -> None:
        """Give a table one more column.

        Raises:
            Refused: it has it, or there is no such table.
        """
        columns = self.columns(added.table)
        if not columns:
            raise Refused(4902, f"Cannot find the object '{added.table.text}' because it does not exist.")
        if added.column.name in {column.name for column in columns}:
            raise Refused(2705, f"Column names in each table must be unique: '{added.column.name}' is there already.")
        declared = f"{_declared(added.column)} DEFAULT {added.default}"
        self._connection.execute(f"ALTER TABLE {added.table.quoted} ADD COLUMN {declared}")
        (described,) = _described(Table(added.table, (added.column,), ()))
        self._connection.execute(
            f"INSERT INTO {_PERMANENT} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - our own names
            (*described[:2], len(columns) + 1, *described[3:]),
        )

    def drop(self, name: Name, *, if_exists: bool) -> None:
        """Drop a table, with its triggers.

        Raises:
            Refused: there is none.
        """
        if not self.columns(name):
            if if_exists:
                return
            raise Refused(3701, f"Cannot drop the table '{name.text}', because it does not exist.")
        self._connection.execute(f"DROP TABLE {name.quoted}")
        catalogue = _TEMPORARY if name.temporary else _PERMANENT
        self._connection.execute(f"DELETE FROM {catalogue} WHERE object = ?", (name.text.lower(),))  # noqa: S608 - our own names

    def protect(self, trigger: Trigger) -> None:
        """Make a trigger that refuses changes, or make it anew."""
        if not self.columns(trigger.table):
            raise Refused(8197, f"The object '{trigger.table.text}' does not exist or is invalid for this operation.")
        for verb in ("UPDATE", "DELETE"):
            name = _quoted(f"{trigger.name} {verb}")
            self._connection.execute(f"DROP TRIGGER IF EXISTS {name}")
            self._connection.execute(
                f"CREATE TRIGGER {name} BEFORE {verb} ON {_quoted(trigger.table.text)} "
                f"BEGIN SELECT RAISE(ABORT, '{trigger.number}:{trigger.text}'); END"
            )

    def show(self, name: Name, query: str) -> None:
        """Make a view of a query of SQLite, or make it anew.

        Raises:
            Refused: a table has that name.
        """
        if self.columns(name):
            raise Refused(2714, f"There is already an object named '{name.text}' in the database.")
        self._connection.execute(f"DROP VIEW IF EXISTS {name.quoted}")
        self._connection.execute(f"CREATE VIEW {name.quoted} AS {query}")

    def keep(self, procedure: Procedure) -> None:
        """Make a procedure, or make it anew."""
        kept = (procedure.name.text.lower(), json.dumps(procedure.parameters), procedure.body)
        self._connection.execute("INSERT OR REPLACE INTO main.procedures VALUES (?, ?, ?)", kept)

    def procedure(self, name: Name) -> Procedure:
        """The procedure of that name.

        Raises:
            Refused: there is none.
        """
        found = self._connection.execute(
            "SELECT parameters, body FROM main.procedures WHERE name = ?", (name.text.lower(),)
        ).fetchone()
        if found is None:
            raise Refused(2812, f"Could not find stored procedure '{name.text}'.")
        return Procedure(name, tuple(map(tuple, json.loads(found[0]))), found[1])

    def user_id(self, name: str) -> int | None:
        """A number for a user of this database; None if there is none."""
        found = self._connection.execute("SELECT rowid FROM main.users WHERE name = ?", (name,)).fetchone()
        return found[0] if found else None

    def add_user(self, name: str) -> None:
        """Let a login in.

        Raises:
            Refused: it is in.
        """
        if self.user_id(name) is not None:
            raise Refused(15023, f"User, group, or role '{name}' already exists in the current database.")
        self._connection.execute("INSERT INTO main.users VALUES (?)", (name,))

    def grant(self, user: str, table: Name, rights: Iterable[str]) -> None:
        """Record what a user may do.

        Raises:
            Refused: there is no such user, or no such table.
        """
        if self.user_id(user) is None or not self.columns(table):
            text = f"Cannot find the object '{table.text}' or the user '{user}', or you do not have permission."
            raise Refused(15151, text)
        self._connection.executemany(
            "INSERT OR IGNORE INTO main.grants VALUES (?, ?, ?)", [(user, table.text, right) for right in rights]
        )

    def grants(self) -> set[tuple[str, str, str]]:
        """User, table and right of all that was granted."""
        return set(self._connection.execute("SELECT user, object, right FROM main.grants"))

    def _object_id(self, name: str, _kind: str = "U") -> int | None:
        return _identity(named(name)) if self.columns(named(name)) else None

    def _column_length(self, table: str, column: str) -> int | None:
        return next((one.type.size for one in self.columns(named(table)) if one.name == column), None)

    def _schema_id(self, name: str) -> int | None:
        found = self._connection.execute("SELECT rowid FROM main.schemas WHERE name = ?", (name.lower(),)).fetchone()
        return found[0] if found else None


def refusal(error: sqlite3.Error) -> Refused:
    """What SQL Server would say of an error of SQLite."""
    text = str(error)
    number, colon, rest = text.rpartition("failed: ")[2].partition(":")
    if colon and number.isdigit():
        return Refused(int(number), rest)
    if text.startswith("NOT NULL"):
        return Refused(515, f"Cannot insert the value NULL: {text}")
    if text.startswith("UNIQUE"):
        return Refused(2627, f"Violation of UNIQUE KEY constraint: {text}", severity=14)
    if text.startswith("no such table: "):
        return Refused(208, f"Invalid object name '{text.partition(': ')[2].partition('.')[2]}'.")
    if text.startswith("no such column"):
        return Refused(207, f"Invalid column name: {text}")
    if text.startswith("cannot store"):
        return Refused(245, f"Conversion failed: {text}")
    return Refused(50_000, f"tests/tds: {text}")


def _as_text(value: Value) -> str | None:
    """CAST(… AS NVARCHAR), which takes bytes for UTF-16."""
    if value is None or isinstance(value, str):
        return value
    return value.decode("utf-16-le") if isinstance(value, bytes) else str(value)


def _quoted(name: str) -> str:
    return f'"{name}"'


def _declared(column: Column) -> str:
    """A column for SQLite, which by itself knows neither lengths nor sizes of integers."""
    name = _quoted(column.name)
    if column.identity:
        return f"{name} INTEGER PRIMARY KEY AUTOINCREMENT"
    null = "" if column.nullable else " NOT NULL"
    if column.type.is_text or column.type.is_bytes:
        kind = "TEXT" if column.type.is_text else "BLOB"
        if column.type.size == MAX:
            return f"{name} {kind}{null}"
        units = column.type.size // 2 if column.type.is_text else column.type.size
        limit = f"length({name}) {'=' if column.type.code == BINARY else '<='} {units}"
        return f'{name} {kind}{null} CONSTRAINT "{_TOO_LONG}:{column.name}: would be truncated" CHECK ({limit})'
    bits = 8 * column.type.size
    least, most = (0, 2**bits - 1) if column.type.size == 1 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    limit = f"{name} BETWEEN {least} AND {most}"
    return f'{name} INTEGER{null} CONSTRAINT "{_TOO_LARGE}:{column.name}: arithmetic overflow" CHECK ({limit})'


def _identity(name: Name) -> int:
    """A number for a name, positive and the same in every run."""
    number = 0
    for byte in name.text.lower().encode():
        number = (number * 131 + byte) % 2_147_483_647
    return number


def _described(table: Table) -> Iterable[tuple[int | str, ...]]:
    for number, column in enumerate(table.columns, 1):
        kind = column.type
        type_id = _IDS.get((kind.code, kind.size)) or _IDS[kind.code]
        yield (
            _identity(table.name), table.name.text.lower(), number, column.name,
            type_id, kind.code, kind.size, int(column.nullable), int(column.identity),
        )  # fmt: skip
