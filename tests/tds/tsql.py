"""Statements of T-SQL, turned into those of SQLite.

sqlglot reads what is standard enough; the rest (variables, IF, THROW, triggers, bulk load) is small and done here. What
is not known is refused, never guessed: a test that passes has been understood to the last word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import sqlglot
from sqlglot import exp

from tds.exact import literal
from tds.script import Name, Refused
from tds.tokens import Column
from tds.types import type_named


@dataclass(frozen=True, slots=True)
class Query:
    """A statement for SQLite.

    Attributes:
        sql: its text; variables are named parameters.
        tables: those that it reads.
        projections: what it selects, by name and by the column behind it, if it is one; None for `*`.
        returns_rows: whether it is a SELECT.
    """

    sql: str
    tables: tuple[Name, ...] = ()
    projections: tuple[tuple[str, str | None], ...] | None = None
    returns_rows: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table to be made: its columns, and the lists of columns that are unique."""

    name: Name
    columns: tuple[Column, ...]
    unique: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Added:
    """A column that a table gets, with the value that its rows have."""

    table: Name
    column: Column
    default: str


@lru_cache(maxsize=512)
def parsed(statement: str) -> Query | Table | Added:
    """What SQLite shall do for a statement.

    Raises:
        Refused: it is not T-SQL, or more of it than this server knows.
    """
    try:
        tree = sqlglot.parse_one(statement, dialect="tsql")
    except sqlglot.errors.ParseError as error:
        raise Refused(102, f"this test server cannot read it: {error}", severity=15) from None
    match tree:
        case exp.Create(kind="TABLE"):
            return _table(tree)
        case exp.Create(kind="SCHEMA"):
            return Query(f"INSERT INTO main.schemas VALUES ('{_schema_named(tree)}')")  # noqa: S608 - a name
        case exp.Drop(kind="SCHEMA"):
            return Query(f"DELETE FROM main.schemas WHERE name = '{_schema_named(tree)}'")  # noqa: S608 - a name
        case exp.Alter(kind="TABLE"):
            return _added(tree)
        case exp.TruncateTable():
            return Query(f"DELETE FROM {_name(tree.expressions[0]).quoted}")  # noqa: S608 - our own quoting
        case exp.Select() | exp.Insert() | exp.Update() | exp.Delete() | exp.Drop(kind="TABLE"):
            return _query(tree)
        case _:
            raise Refused(102, f"this test server does not know: {statement[:100]}", severity=15)


def expression(text: str) -> Query:
    """A value, as a query of one row."""
    query = parsed(f"SELECT {text}")
    if not isinstance(query, Query):
        raise Refused(102, f"no value: {text[:100]}", severity=15)
    return query


def condition(text: str) -> Query:
    """A condition, as a query of one row that is 1 where it holds."""
    return expression(f"CASE WHEN {text} THEN 1 ELSE 0 END")


def _name(table: exp.Expression) -> Name:
    identifier = table.this
    if identifier.args.get("temporary"):
        return Name(f"#{identifier.name}", temporary=True)
    parts = [part for part in (table.args.get("catalog"), table.args.get("db")) if part]
    path = [part.name for part in parts] or ["dbo"]
    return Name(".".join([*path, identifier.name]), temporary=path[0].lower() == "tempdb")


def _schema_named(tree: exp.Expression) -> str:
    return next(table.db for table in tree.find_all(exp.Table)).lower()


def _query(tree: exp.Expression) -> Query:
    if isinstance(tree, exp.Update):
        _aim(tree)
    found = []
    named = {one.alias for one in tree.find_all(exp.CTE)}
    for table in list(tree.find_all(exp.Table)):
        if not table.args.get("db") and table.name in named:
            continue
        name = _name(table)
        found.append(name)
        alias = table.args.get("alias")
        schema = exp.to_identifier("temp" if name.temporary else "main")
        fresh = exp.Table(this=exp.to_identifier(name.text, quoted=True), db=schema, alias=alias)
        table.replace(fresh)
        if table is tree:
            tree = fresh
    projections = None
    if isinstance(tree, exp.Select) and not tree.is_star:
        projections = tuple(
            (one.alias_or_name, inner.name if isinstance(inner := one.unalias(), exp.Column) else None)
            for one in tree.selects
        )
    tree = tree.transform(_for_sqlite)
    return Query(tree.sql("sqlite"), tuple(found), projections, isinstance(tree, exp.Select))


def _for_sqlite(node: exp.Expression) -> exp.Expression:
    match node:
        case exp.National():
            return exp.Literal.string(node.name)
        case exp.Parameter(this=exp.Parameter()):
            return exp.Placeholder(this=f"at_{node.this.name.lower()}")
        case exp.Parameter():
            return exp.Placeholder(this=node.name.lower())
        case exp.Cast(to=exp.DataType(this=exp.DataType.Type.NVARCHAR)):
            return _called("AS_TEXT", node.this)
        case exp.Cast(to=exp.DataType(this=exp.DataType.Type.DECIMAL)):
            return _called("AS_DECIMAL", node.this, *(size.this for size in node.to.expressions))
        case exp.Cast(to=exp.DataType(this=exp.DataType.Type.DATETIME2)):
            return _called("AS_TIME", node.this, *(size.this for size in node.to.expressions))
        case exp.Literal(is_string=False) if "." in node.name:
            return exp.Literal.string(literal(node.name))
        case _:
            return _in_words(node)


def _in_words(node: exp.Expression) -> exp.Expression:
    """What SQLite has no operator for, as calls of `tds.functions`."""
    match node:
        case exp.Mul():
            return _called("TIMES", node.this, node.expression)
        case exp.Neg() if not _is_whole(node.this):
            return _called("NEGATED", node.this)
        case exp.Sum():
            return _called("SUMMED", node.this)
        case exp.Like():
            return _called("IS_LIKE", node.this, node.expression)
        case exp.DateAdd(unit=exp.Expression() as unit):
            return _called("DATE_ADDED", exp.Literal.string(unit.name.upper()), node.expression, node.this)
        case exp.AtTimeZone(this=exp.AtTimeZone() as utc) if utc.args["zone"].name == "UTC":
            return _called("ZONED", node.args["zone"], utc.this)
        case exp.AtTimeZone():
            raise Refused(102, "this test server knows AT TIME ZONE 'UTC' AT TIME ZONE another", severity=15)
        case _:
            return node


def _is_whole(node: exp.Expression) -> bool:
    return isinstance(node, exp.Literal) and "." not in node.name


def _called(name: str, *values: exp.Expression) -> exp.Expression:
    return exp.Anonymous(this=name, expressions=[value.copy().transform(_for_sqlite) for value in values])


def _aim(update: exp.Update) -> None:
    """`UPDATE o … FROM offsets AS o JOIN n ON …` becomes what SQLite says for it: `UPDATE offsets AS o … FROM n WHERE …`."""
    source = update.args.get("from_") or update.args.get("from")
    if source is None:
        return
    first = source.this
    joins = first.args.pop("joins", None) or source.args.pop("joins", None) or []
    tables = [first, *(join.this for join in joins)]
    target = next((table for table in tables if table.alias_or_name == update.this.name), None)
    others = [table for table in tables if table is not target]
    if target is None or len(others) != 1:
        raise Refused(102, "this test server updates one table from one other", severity=15)
    conditions = [join.args["on"] for join in joins]
    where = update.args.get("where")
    update.set("where", exp.Where(this=exp.and_(*conditions, *([where.this] if where else []))))
    update.set("this", target.copy())
    source.set("this", others[0].copy())
    for assignment in update.expressions:
        assignment.this.set("table", None)


def _table(create: exp.Create) -> Table:
    schema = create.this
    columns: list[Column] = []
    unique: list[tuple[str, ...]] = []
    for part in schema.expressions:
        if isinstance(part, exp.ColumnDef):
            column, alone = _column(part)
            columns.append(column)
            unique += [(column.name,)] if alone else []
        else:
            unique.append(tuple(_constrained(part)))
    return Table(_name(schema.this), tuple(columns), tuple(unique))


def _added(alter: exp.Alter) -> Added:
    parts = alter.args["actions"]
    if len(parts) != 1 or not isinstance(parts[0], exp.ColumnDef):
        raise Refused(102, "this test server adds a column to a table, and alters nothing else of it", severity=15)
    defaults = [one for one in parts[0].constraints if isinstance(one.kind, exp.DefaultColumnConstraint)]
    if len(defaults) != 1:
        raise Refused(102, "this test server adds columns that have a default", severity=15)
    parts[0].set("constraints", [one for one in parts[0].constraints if one is not defaults[0]])
    return Added(_name(alter.this), _column(parts[0])[0], defaults[0].kind.this.transform(_for_sqlite).sql("sqlite"))


def _column(part: exp.ColumnDef) -> tuple[Column, bool]:
    """The column, and whether it is unique."""
    kind, size = part.kind, ""
    if kind is None:
        raise Refused(102, f"{part.name} has no type", severity=15)
    if kind.expressions:
        size = kind.expressions[0].name
    constraints = [one.kind for one in part.constraints]
    unknown = [
        one
        for one in constraints
        if not isinstance(
            one,
            exp.NotNullColumnConstraint
            | exp.CollateColumnConstraint
            | exp.GeneratedAsIdentityColumnConstraint
            | exp.PrimaryKeyColumnConstraint
            | exp.UniqueColumnConstraint,
        )
    ]
    if unknown:
        raise Refused(102, f"this test server does not know {unknown[0].sql('tsql')} of {part.name}", severity=15)
    strict = [
        one for one in constraints if isinstance(one, exp.NotNullColumnConstraint) and not one.args.get("allow_null")
    ]
    key = any(isinstance(one, exp.PrimaryKeyColumnConstraint) for one in constraints)
    identity = any(isinstance(one, exp.GeneratedAsIdentityColumnConstraint) for one in constraints)
    try:
        type_ = type_named(kind.sql("tsql").partition("(")[0], size)
    except ValueError as error:
        raise Refused(2715, str(error)) from None
    column = Column(part.name, type_, not (strict or key or identity), identity)
    return column, key or any(isinstance(one, exp.UniqueColumnConstraint) for one in constraints)


def _constrained(part: exp.Expression) -> Iterator[str]:
    kinds = list(part.find_all(exp.PrimaryKey, exp.UniqueColumnConstraint))
    if len(kinds) != 1:
        raise Refused(102, f"this test server does not know {part.sql('tsql')}", severity=15)
    for one in kinds[0].find_all(exp.Identifier):
        yield one.name
