"""Scripts of T-SQL, taken apart into statements; what is no statement that sqlglot reads is recognized here as a whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import sqlglot
from sqlglot import Token, TokenType

from tds.tokens import Said

_STATEMENTS = frozenset(
    {
        "ALTER",
        "BEGIN",
        "COMMIT",
        "CREATE",
        "DECLARE",
        "DELETE",
        "DROP",
        "EXEC",
        "GRANT",
        "INSERT",
        "ROLLBACK",
        "SELECT",
        "SET",
    }
    | {"THROW", "TRUNCATE", "UPDATE"}
)
_TRIGGER = re.compile(
    r"\s*CREATE\s+OR\s+ALTER\s+TRIGGER\s+(?P<name>[\w.]+)\s+ON\s+(?P<table>[\w.]+)\s+INSTEAD\s+OF\s+UPDATE,\s*DELETE\s+AS"
    r"\s+THROW\s+(?P<number>\d+),\s*N'(?P<text>[^']*)',\s*\d+\s*;?\s*",
    re.IGNORECASE,
)
_VIEW = re.compile(
    r"\s*CREATE\s+OR\s+ALTER\s+VIEW\s+(?P<name>[\w.]+)\s+AS\s+(?P<query>(?:SELECT|WITH)\b.*?)\s*;?\s*",
    re.IGNORECASE | re.DOTALL,
)
_PROCEDURE = re.compile(
    r"\s*CREATE\s+OR\s+ALTER\s+PROCEDURE\s+(?P<name>[\w.]+)\s+(?P<parameters>@.*?)\s+AS\s+(?P<body>SELECT\b.*?)\s*;?\s*",
    re.IGNORECASE | re.DOTALL,
)
_PARAMETER = re.compile(r"@(?P<name>\w+)\s+(?P<type>\w+(?:\(\w+\))?)(?:\s*=\s*(?P<default>.+))?", re.DOTALL)
_FORMAT_ONLY = re.compile(r"\s*SET\s+FMTONLY\s+ON\s+(?P<query>.*?)\s+SET\s+FMTONLY\s+OFF\s*", re.IGNORECASE | re.DOTALL)
_BULK = re.compile(
    r"\s*INSERT\s+BULK\s+(?P<table>[\w#.\[\]]+)\s*\((?P<columns>.*)\)(?:\s*WITH\s*\((?P<hints>.*)\))?\s*",
    re.IGNORECASE | re.DOTALL,
)


class Refused(Exception):
    """A statement cannot be run; `said` is what the client is told."""

    def __init__(self, number: int, text: str, *, severity: int = 16) -> None:
        super().__init__(text)
        self.said = Said(number, text, severity)


@dataclass(frozen=True, slots=True)
class Name:
    """A table: of this session, or of the database as schema and name."""

    text: str
    temporary: bool

    @property
    def quoted(self) -> str:
        """As SQLite wants it."""
        return f'{"temp" if self.temporary else "main"}."{self.text}"'


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger that refuses changes."""

    name: str
    table: Name
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class View:
    """A view to be made, or made anew."""

    name: Name
    query: str


@dataclass(frozen=True, slots=True)
class Procedure:
    """A procedure of one query; `parameters` are names in lower case with their defaults, None without one."""

    name: Name
    parameters: tuple[tuple[str, str | None], ...]
    body: str


def named(text: str) -> Name:
    """The table that a person writes so: `#staging`, `[eod].[trades]`, `tempdb..#staging`."""
    bare = text.replace("[", "").replace("]", "")
    last = bare.rpartition(".")[2]
    if last.startswith("#"):
        return Name(last, temporary=True)
    return Name(bare if "." in bare else f"dbo.{bare}", temporary=False)


def trigger(batch: str) -> Trigger | None:
    """The trigger that a batch makes, which must be all of it."""
    found = _TRIGGER.fullmatch(batch)
    if found is None:
        return None
    return Trigger(found["name"], named(found["table"]), int(found["number"]), found["text"])


def view(batch: str) -> View | None:
    """The view that a batch makes, which must be all of it."""
    found = _VIEW.fullmatch(batch)
    return View(named(found["name"]), found["query"]) if found else None


def procedure(batch: str) -> Procedure | None:
    """The procedure that a batch makes, which must be all of it.

    Raises:
        Refused: a parameter is of a form that is not known.
    """
    found = _PROCEDURE.fullmatch(batch)
    if found is None:
        return None
    parameters = []
    for part in found["parameters"].split(","):
        parameter = _PARAMETER.fullmatch(part.strip())
        if parameter is None:
            raise Refused(102, f"this test server cannot read the parameter {part.strip()}", severity=15)
        parameters.append((parameter["name"].lower(), parameter["default"]))
    return Procedure(named(found["name"]), tuple(parameters), found["body"])


def format_only(batch: str) -> str | None:
    """The query of which a batch wants to know the columns alone."""
    found = _FORMAT_ONLY.fullmatch(batch)
    return found["query"] if found else None


def bulk_target(batch: str) -> Name | None:
    """The table that a batch announces rows for."""
    found = _BULK.fullmatch(batch)
    return named(found["table"]) if found else None


@lru_cache(maxsize=512)
def statements(script: str) -> tuple[str, ...]:
    """The statements of a batch, which semicolons end.

    Raises:
        Refused: it is not made of tokens.
    """
    return tuple(_pieces(script))


def _pieces(script: str) -> Iterator[str]:
    start = 0
    for token in tokens(script):
        if token.token_type is TokenType.SEMICOLON:
            if piece := script[start : token.start].strip():
                yield piece
            start = token.end + 1
    if piece := script[start:].strip():
        yield piece


def tokens(text: str) -> list[Token]:
    """The words of a text.

    Raises:
        Refused: a quote does not end.
    """
    try:
        return sqlglot.tokenize(text, dialect="tsql")
    except sqlglot.errors.TokenError as error:
        raise Refused(105, f"this test server cannot read it: {error}", severity=15) from None


def split_if(statement: str) -> tuple[str, str]:
    """Condition and statement of an IF.

    Raises:
        Refused: it has no statement.
    """
    depth = 0
    for token in tokens(statement)[1:]:
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(token.token_type, 0)
        if not depth and token.text.upper() in _STATEMENTS:
            return statement[2 : token.start].strip(), statement[token.start :]
    raise Refused(102, f"IF without a statement: {statement[:100]}", severity=15)
