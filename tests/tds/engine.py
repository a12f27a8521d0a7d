"""One session on one database: variables, transactions, statements one after the other, results as tokens."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from tds import script, security, tokens, tsql
from tds.catalogue import Catalogue, refusal
from tds.exact import decimal
from tds.exact import time as datetime2
from tds.faults import BULK_LOAD, Fail, Faults, Pause
from tds.functions import Functions
from tds.requests import Call
from tds.script import Name, Refused
from tds.tokens import Column, Said
from tds.tsql import Added, Query, Table
from tds.types import BIGINT, BYTES, INT, TEXT, Type, Value, decimal_type, time_type

LOCK_WAIT_S = 30.0
_LOCK_POLL_S = 0.005
_WORD = re.compile(r"\w*")
_LOCKING = re.compile(
    r"(?:@(?P<into>\w+)\s*=\s*)?sp_(?P<what>get|release)applock\s+(?P<arguments>@.*)", re.IGNORECASE | re.DOTALL
)
_ARGUMENT = re.compile(r"@(\w+)\s*=\s*(N?'[^']*'|\d+)")
_NAMED = re.compile(r"@(?P<name>\w+)\s*=\s*(?P<value>.*)", re.DOTALL)
_NOT_IN_TIME = -1
_OPTIONS = frozenset(
    {"ANSI_NULLS", "ANSI_NULL_DFLT_ON", "ANSI_PADDING", "ANSI_WARNINGS", "ARITHABORT", "CONCAT_NULL_YIELDS_NULL"}
    | {"CURSOR_CLOSE_ON_COMMIT", "LOCK_TIMEOUT", "QUOTED_IDENTIFIER", "TEXTSIZE", "TRANSACTION", "XACT_ABORT"}
)
"""Session options that a client may set; only XACT_ABORT changes anything here."""


class Host(Protocol):
    """What a session asks of its server."""

    def create_database(self, name: str) -> None:
        """Make a database, if it does not exist yet."""

    def has_database(self, name: str) -> bool:
        """Whether there is one."""

    def has_login(self, name: str) -> bool:
        """Whether somebody may log in by that name."""

    def set_login(self, login: security.SetLogin) -> None:
        """Make a login, or give it another password."""

    def lock(self, path: Path, resource: str, owner: object) -> bool:
        """Give a session an application lock of a database; False if another has it."""

    def unlock(self, path: Path, resource: str | None, owner: object) -> None:
        """Take one back, or all that the session has."""


class Engine:
    """Runs batches; belongs to one thread.

    Args:
        path: file of the database.
        faults: what strikes.
        wait: waits so many seconds; True when the client has cancelled meanwhile.
        host: the server, with its other databases and its logins.
    """

    def __init__(self, path: Path, faults: Faults, wait: Callable[[float], bool], host: Host) -> None:
        self._host = host
        self._path = path
        self._faults = faults
        self._wait = wait
        self._connection = sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")  # tests kill clients, not the machine
        self._catalogue = Catalogue(self._connection)
        self._functions = Functions(self._connection)
        self._connection.create_function("DB_ID", 1, lambda name: host.has_database(name) or None)
        self._connection.create_function("SUSER_ID", 1, lambda name: host.has_login(name) or None)
        self._connection.execute("PRAGMA busy_timeout = 0")  # from here on `_patiently` waits, and hears a cancel
        self._variables: dict[str, Value] = {}
        self._depth = 0
        self._descriptor = 0
        self._count = 0
        self._abort = False
        self._bulk: Name | None = None

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._depth > 0

    def has_user(self, name: str) -> bool:
        """Whether a login has been let into this database."""
        return self._catalogue.user_id(name) is not None

    def close(self) -> None:
        """End the session, and with it its transaction, its temporary tables and its locks."""
        self._connection.close()
        self._host.unlock(self._path, None, self)

    def run(self, batch: str) -> bytes:
        """The answer to a batch.

        Raises:
            Cut: a fault says that the connection is to be lost.
            InterruptedError: the client has cancelled.
        """
        self._variables = {}
        answer: list[bytes] = []
        try:
            if not self._run_whole(batch, answer):
                for statement in script.statements(batch):
                    self._step(statement, answer)
        except (Refused, Fail) as error:
            return b"".join(answer) + self._failed(error.said)
        return b"".join(tokens.ended(answer, self._status()))

    def call(self, asked: Call) -> bytes:
        """The answer to a call of a procedure that does not come as a batch."""
        self._variables = {}
        answer: list[bytes] = []
        try:
            self._around(f"EXEC {asked.name}")
            procedure = self._catalogue.procedure(script.named(asked.name))
            self._variables = self._given(procedure, asked.given)
            self._execute(procedure.body, answer)
        except (Refused, Fail) as error:
            return b"".join(answer) + self._failed(error.said)
        return b"".join((*answer[:-1], tokens.within(answer[-1]), tokens.returned()))

    def load(self, rows: Iterable[Sequence[Value]], described: Sequence[Column]) -> bytes:
        """The answer to the rows of a bulk load."""
        target, self._bulk = self._bulk, None
        if target is None:
            return self._failed(
                Said(4002, "The incoming tabular data stream is incorrect: no INSERT BULK came before.")
            )
        names = ", ".join(f'"{column.name}"' for column in described)
        places = ", ".join("?" * len(described))
        text = f"INSERT INTO {target.quoted} ({names}) VALUES ({places})"  # noqa: S608 - our own quoting
        try:
            self._around(BULK_LOAD)
            count = self._patiently(lambda: self._loaded(text, rows))
        except (Refused, Fail) as error:
            return self._failed(error.said)
        return tokens.done(self._status(), count)

    def begin(self) -> bytes:
        """Begin a transaction, or go one deeper into it."""
        if not self._depth:
            self._patiently(lambda: self._connection.execute("BEGIN IMMEDIATE"))
            self._descriptor += 1
        self._depth += 1
        return tokens.env_transaction(tokens.BEGUN, self._descriptor) if self._depth == 1 else b""

    def commit(self) -> bytes:
        """Leave a transaction; the outermost one is made durable.

        Raises:
            Refused: there is none.
        """
        if not self._depth:
            raise Refused(3902, "The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION.")
        self._depth -= 1
        if self._depth:
            return b""
        self._connection.execute("COMMIT")
        return tokens.env_transaction(tokens.COMMITTED, self._descriptor)

    def rollback(self) -> bytes:
        """Undo the whole transaction.

        Raises:
            Refused: there is none.
        """
        if not self._depth:
            raise Refused(3903, "The ROLLBACK TRANSACTION request has no corresponding BEGIN TRANSACTION.")
        self._depth = 0
        self._connection.execute("ROLLBACK")
        return tokens.env_transaction(tokens.ROLLED_BACK, self._descriptor)

    # --- statements -------------------------------------------------------------------------------

    def _run_whole(self, batch: str, answer: list[bytes]) -> bool:
        """Batches that are one thing from end to end; True if this was one."""
        if (query := script.format_only(batch)) is not None:
            answer += [tokens.columns(self._columns(self._parsed(query), [])), tokens.done(tokens.MORE)]
        elif (target := script.bulk_target(batch)) is not None:
            self._around("INSERT BULK")
            self._bulk = target
            if not self._catalogue.columns(target):
                raise Refused(208, f"Invalid object name '{target.text}'.")
        elif (trigger := script.trigger(batch)) is not None:
            self._catalogue.protect(trigger)
        elif (view := script.view(batch)) is not None:
            query = self._parsed(view.query).sql
            self._patiently(lambda: self._catalogue.show(view.name, query))
        elif (procedure := script.procedure(batch)) is not None:
            self._parsed(procedure.body)
            self._patiently(lambda: self._catalogue.keep(procedure))
        else:
            return False
        return True

    def _step(self, statement: str, answer: list[bytes]) -> None:
        self._around(statement)
        word = _WORD.match(statement)[0]  # type: ignore[index]
        rest = statement[len(word) :].strip()
        match word.upper():
            case "IF":
                condition, inner = script.split_if(statement)
                if self._value(tsql.condition(condition)):
                    self._step(inner, answer)
                return
            case "DECLARE":
                for part in rest.split(", @"):
                    self._declare(part.lstrip("@"))
            case "SET":
                self._set(rest)
            case "THROW":
                number, text, _ = (self._value(tsql.expression(part)) for part in rest.split(","))
                raise Refused(int(str(number)), str(text))
            case "EXEC":
                self._call(rest, answer)
            case "CREATE" | "ALTER" | "GRANT" if (done := security.act(statement)) is not None:
                self._administer(done)
            case "USE":
                answer.append(tokens.env_text(tokens.DATABASE, rest.strip("[]"), rest.strip("[]")))
            case "BEGIN" | "COMMIT" | "ROLLBACK" if rest.upper() in {"TRAN", "TRANSACTION"}:
                answer.append({"BEGIN": self.begin, "COMMIT": self.commit, "ROLLBACK": self.rollback}[word.upper()]())
            case _:
                self._execute(statement, answer)
        self._around(statement, after=True)

    def _call(self, rest: str, answer: list[bytes]) -> None:
        if (call := _LOCKING.fullmatch(rest)) is not None:
            self._lock(call)
            return
        if rest.startswith("("):
            for part in script.statements(str(self._value(tsql.expression(rest.strip("() "))))):
                self._step(part, answer)
            return
        name, _, said = rest.partition(" ")
        procedure = self._catalogue.procedure(script.named(name))
        given: list[tuple[str, Value]] = []
        for part in filter(None, said.split(",")):
            named = _NAMED.fullmatch(part.strip())
            text = named["value"] if named else part.strip()
            given.append((named["name"].lower() if named else "", self._value(tsql.expression(text))))
        self._variables = self._given(procedure, given)
        self._execute(procedure.body, answer)

    def _given(self, procedure: script.Procedure, given: Sequence[tuple[str, Value]]) -> dict[str, Value]:
        """What the parameters of a procedure are, by name or by place."""
        names = [name for name, _ in procedure.parameters]
        told: dict[str, Value] = {}
        for place, (said, value) in enumerate(given):
            name = said or (names[place] if place < len(names) else "")
            if name not in names:
                raise Refused(8144, f"Procedure or function {procedure.name.text} has too many arguments specified.")
            told[name] = value
        for name, default in procedure.parameters:
            if name not in told and default is None:
                raise Refused(201, f"Procedure or function '{procedure.name.text}' expects parameter '@{name}'.")
            if name not in told:
                told[name] = self._value(tsql.expression(str(default)))
        return told

    def _lock(self, call: re.Match[str]) -> None:
        """sp_getapplock and sp_releaseapplock, for sessions."""
        told = {name.lower(): value for name, value in _ARGUMENT.findall(call["arguments"])}
        resource = str(self._value(tsql.expression(told["resource"])))
        if call["what"] == "release":
            self._host.unlock(self._path, resource, self)
            return
        until = time.monotonic() + int(told["locktimeout"]) / 1_000
        got = 0
        while not self._host.lock(self._path, resource, self):
            if time.monotonic() > until:
                got = _NOT_IN_TIME
                break
            if self._wait(_LOCK_POLL_S):
                raise InterruptedError
        if call["into"]:
            self._variables[call["into"].lower()] = got

    def _execute(self, statement: str, answer: list[bytes]) -> None:
        query = tsql.parsed(statement)
        if isinstance(query, Table):
            table = query
            self._patiently(lambda: self._catalogue.create(table))
        elif isinstance(query, Added):
            added = query
            self._patiently(lambda: self._catalogue.add(added))
        elif statement[:10].upper() == "DROP TABLE":
            exists = "IF EXISTS" in statement.upper()
            self._patiently(lambda: self._catalogue.drop(query.tables[0], if_exists=exists))
        elif query.returns_rows:
            names, rows = self._patiently(lambda: self._fetched(query))
            described = self._columns(query, rows, names)
            self._count = len(rows)
            answer += [tokens.columns(described), *(tokens.row(described, row) for row in rows)]
            answer.append(tokens.done(tokens.MORE | self._status(), len(rows)))
        else:
            self._count = self._patiently(lambda: self._connection.execute(query.sql, self._bound()).rowcount)
            answer.append(tokens.done(tokens.MORE | self._status(), max(self._count, 0)))

    def _administer(self, done: object) -> None:
        match done:
            case security.MakeDatabase(name):
                if self._host.has_database(name):
                    raise Refused(1801, f"Database '{name}' already exists. Choose a different database name.")
                self._host.create_database(name)
            case security.SetLogin():
                self._host.set_login(done)
            case security.MakeUser(name, login):
                if not self._host.has_login(login):
                    raise Refused(15007, f"'{login}' is not a valid login or you do not have permission.")
                self._patiently(lambda: self._catalogue.add_user(name))
            case security.Grant(name, table, rights):
                self._patiently(lambda: self._catalogue.grant(name, script.named(table), rights))

    def _declare(self, part: str) -> None:
        declared, equals, value = part.partition("=")
        name = declared.split()[0].lower()
        self._variables[name] = self._value(tsql.expression(value)) if equals else None

    def _set(self, rest: str) -> None:
        if rest.startswith("@"):
            name, _, value = rest[1:].partition("=")
            self._variables[name.strip().lower()] = self._value(tsql.expression(value))
            return
        option = rest.split(maxsplit=1)[0].upper()
        if option not in _OPTIONS:
            raise Refused(195, f"'{option}' is not a recognized SET option of this test server.", severity=15)
        if option == "XACT_ABORT":
            self._abort = rest.upper().endswith("ON")

    def _value(self, query: Query) -> Any:
        return self._patiently(lambda: self._connection.execute(query.sql, self._bound()).fetchone()[0])

    def _bound(self) -> dict[str, Value]:
        return {**self._variables, "at_rowcount": self._count, "at_trancount": self._depth}

    def _parsed(self, text: str) -> Query:
        query = tsql.parsed(text)
        if not isinstance(query, Query):
            raise Refused(102, f"no query: {text[:100]}", severity=15)
        return query

    def _fetched(self, query: Query) -> tuple[list[str], list[Any]]:
        """Names and rows."""
        cursor = self._connection.execute(query.sql, self._bound())
        return [name for name, *_ in cursor.description], cursor.fetchall()

    def _columns(self, query: Query, rows: Sequence[Sequence[Any]], names: Sequence[str] = ()) -> list[Column]:
        """The columns of a result: those of the tables behind it, else what the values need."""
        known = {column.name: column for table in query.tables for column in self._catalogue.columns(table)}
        if query.projections is None:
            if names and not known:
                return [Column(name, _fitting([row[number] for row in rows])) for number, name in enumerate(names)]
            if not known:
                raise Refused(208, f"Invalid object name '{query.tables[0].text if query.tables else '?'}'.")
            return list(known.values())
        return [
            Column(name, known[behind].type, known[behind].nullable)
            if behind in known
            else Column(name, _fitting([row[number] for row in rows]))
            for number, (name, behind) in enumerate(query.projections)
        ]

    def _loaded(self, text: str, rows: Iterable[Sequence[Value]]) -> int:
        """All rows or none."""
        alone = not self._connection.in_transaction
        if alone:
            self._connection.execute("BEGIN")
        try:
            count = self._connection.executemany(text, rows).rowcount
        except BaseException:
            if alone:
                self._connection.execute("ROLLBACK")
            raise
        if alone:
            self._connection.execute("COMMIT")
        return max(count, 0)

    # --- faults, locks and failures ---------------------------------------------------------------

    def _around(self, statement: str, *, after: bool = False) -> None:
        try:
            self._faults.meet(statement, after=after)
        except Pause as pause:
            if self._wait(pause.seconds):
                raise InterruptedError from None

    def _patiently(self, work: Callable[[], Any]) -> Any:
        """Does something that may find the database locked.

        Raises:
            Refused: it fails, or stays locked.
            InterruptedError: the client has cancelled meanwhile.
        """
        until = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                return work()
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
                    raise self._functions.why() or refusal(error) from error
            if time.monotonic() > until:
                raise Refused(1222, "Lock request time out period exceeded.")
            if self._wait(_LOCK_POLL_S):
                raise InterruptedError

    def _failed(self, said: Said) -> bytes:
        """The end of a batch that failed: a deadlock and XACT_ABORT take the transaction with them."""
        ended = b""
        if self._depth and (self._abort or said.number == 1205):
            ended = self.rollback()
        return tokens.said(said) + ended + tokens.done(tokens.FAILED | self._status())

    def _status(self) -> int:
        return tokens.IN_TRANSACTION if self._depth else 0


def _fitting(values: Sequence[Value]) -> Type:
    """What a column that is no table's needs."""
    numbers = [stands for value in values if (stands := decimal(value))]
    if numbers:
        return decimal_type(max(one.precision for one in numbers), max(one.scale for one in numbers))
    if (moment := next(filter(None, map(datetime2, values)), None)) is not None:
        return time_type(moment.scale)
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int}:
        return BIGINT
    if kinds == {bytes}:
        return BYTES
    return TEXT if kinds else INT
