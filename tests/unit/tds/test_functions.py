"""Decimals, times and patterns as SQL Server has them (docs: Precision, scale, and length; DATEADD; AT TIME ZONE; LIKE)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from decimal import ROUND_HALF_UP, localcontext
from decimal import Decimal as Exact

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tds import tsql
from tds.exact import Decimal, decimal, literal, time
from tds.functions import Functions
from tds.script import Refused

THERE = "AT TIME ZONE 'UTC' AT TIME ZONE 'Eastern Standard Time'"


@pytest.fixture(scope="module")
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        yield connection


@pytest.fixture(scope="module")
def functions(connection: sqlite3.Connection) -> Functions:
    return Functions(connection)


def value(connection: sqlite3.Connection, expression: str) -> object:
    return connection.execute(tsql.expression(expression).sql).fetchone()[0]


def number(connection: sqlite3.Connection, expression: str) -> tuple[int, int, Exact]:
    """Precision, scale and value of a decimal."""
    found = decimal(value(connection, expression))
    assert found is not None
    with localcontext(prec=60):
        return found.precision, found.scale, Exact(found.units).scaleb(-found.scale)


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize(
    ("expression", "precision", "scale", "said"),
    [
        ("CAST(5 AS DECIMAL(19, 8))", 19, 8, "5"),
        ("CAST(1.23456 AS DECIMAL(5, 2))", 5, 2, "1.23"),
        ("CAST(1.235 AS DECIMAL(5, 2))", 5, 2, "1.24"),
        ("CAST(-1.235 AS DECIMAL(5, 2))", 5, 2, "-1.24"),
        ("CAST(9223372036854775807 AS DECIMAL(19, 0)) * 0.00000001", 28, 8, "92233720368.54775807"),
        ("CAST(1.5 AS DECIMAL(19, 8)) * CAST(2.5 AS DECIMAL(19, 8))", 38, 15, "3.75"),
        ("CAST(1.5 AS DECIMAL(38, 8)) * CAST(2.5 AS DECIMAL(19, 8))", 38, 6, "3.75"),
        ("CAST(0.00000001 AS DECIMAL(19, 8)) * CAST(0.00000001 AS DECIMAL(19, 8))", 38, 15, "0"),
        ("-CAST(5 AS DECIMAL(19, 8))", 19, 8, "-5"),
        ("CAST(2 AS DECIMAL(5, 2)) * 3", 16, 2, "6"),
        ("SUM(CAST(5 AS DECIMAL(19, 8)))", 38, 8, "5"),
    ],
)
def test_decimals_have_the_precision_and_scale_of_sql_server(
    connection: sqlite3.Connection, expression: str, precision: int, scale: int, said: str
) -> None:
    assert number(connection, expression) == (precision, scale, Exact(said))


@pytest.mark.usefixtures("functions")
@given(st.integers(-(10**19) + 1, 10**19 - 1), st.integers(-(10**19) + 1, 10**19 - 1))
def test_products_are_those_of_exact_numbers_rounded_once(
    connection: sqlite3.Connection, left: int, right: int
) -> None:
    query = f"SELECT TIMES('{Decimal(19, 8, left).text()}', '{Decimal(19, 8, right).text()}')"
    found = decimal(connection.execute(query).fetchone()[0])
    with localcontext(prec=60):
        wanted = (Exact(left) * Exact(right)).scaleb(-16).quantize(Exact(1).scaleb(-15), ROUND_HALF_UP)
        assert found == Decimal(38, 15, int(wanted.scaleb(15)))


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("CAST('1970-01-01' AS DATETIME2(7))", "1970-01-01 00:00:00.0000000"),
        ("DATEADD(NANOSECOND, 123456700, CAST('1970-01-01' AS DATETIME2(7)))", "1970-01-01 00:00:00.1234567"),
        ("DATEADD(HOUR, 2562047, CAST('1970-01-01' AS DATETIME2(7)))", "2262-04-11 23:00:00.0000000"),
        ("DATEADD(SECOND, -1, CAST('1970-01-01' AS DATETIME2(0)))", "1969-12-31 23:59:59.0000000"),
        (
            f"CAST(DATEADD(HOUR, 21, CAST('2026-01-05' AS DATETIME2(7))) {THERE} AS DATETIME2(0))",
            "2026-01-05 16:00:00.0000000",
        ),
        (f"DATEADD(DAY, 180, CAST('2026-01-05' AS DATETIME2(7))) {THERE}", "2026-07-03 20:00:00.0000000"),
    ],
)
def test_times_are_counted_and_zoned(connection: sqlite3.Connection, expression: str, said: str) -> None:
    found = value(connection, expression)
    assert time(found) is not None
    assert str(found).partition(":")[2] == said


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("CASE WHEN N'VOD (GBp)' LIKE N'% ([A-Z][A-Za-z][A-Za-z])' THEN 1 ELSE 0 END", 1),
        ("CASE WHEN N'VOD (gbp)' LIKE N'% ([A-Z][A-Za-z][A-Za-z])' THEN 1 ELSE 0 END", 0),
        ("CASE WHEN N'a.c' LIKE N'a.c' THEN 1 ELSE 0 END", 1),
        ("CASE WHEN N'abc' LIKE N'a.c' THEN 1 ELSE 0 END", 0),
        ("CASE WHEN N'abc' LIKE N'_b_' THEN 1 ELSE 0 END", 1),
        ("NULL * 5", None),
        ("-NULL", None),
        ("3 * 5", 15),
    ],
)
def test_patterns_and_what_is_nothing(connection: sqlite3.Connection, expression: str, said: object) -> None:
    assert value(connection, expression) == said


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("CAST(100000 AS DECIMAL(5, 0))", 8115),
        ("CAST(N'five' AS DECIMAL(5, 0))", 8114),
        ("9223372036854775807 * 2", 8115),
        ("CAST('soon' AS DATETIME2(7))", 241),
        ("DATEADD(SECOND, 3000000000, CAST('1970-01-01' AS DATETIME2(7)))", 8115),
        ("DATEADD(FORTNIGHT, 1, CAST('1970-01-01' AS DATETIME2(7)))", 155),
        ("CAST('1970-01-01' AS DATETIME2(7)) AT TIME ZONE 'UTC' AT TIME ZONE 'Moon Standard Time'", 9820),
        ("CAST('1970-01-01' AS DATETIME2(7)) AT TIME ZONE 'Eastern Standard Time'", 102),
    ],
)
def test_what_cannot_be_worked_out_is_an_error_with_its_number(
    connection: sqlite3.Connection, functions: Functions, expression: str, error: int
) -> None:
    try:
        value(connection, expression)
    except sqlite3.OperationalError:
        why = functions.why()
    except Refused as refused:
        why = refused
    else:
        why = None
    assert why is not None
    assert why.said.number == error
    assert functions.why() is None, "each is told once"


@given(st.integers(1, 38), st.integers(0, 38), st.integers())
def test_a_decimal_comes_back_from_its_text(precision: int, scale: int, units: int) -> None:
    assert decimal(Decimal(precision, scale, units).text()) == Decimal(precision, scale, units)


@given(st.text())
def test_no_other_text_is_taken_for_a_number_or_a_time(text: str) -> None:
    assert (decimal(text), time(text)) == (None, None)
    assert decimal(literal("0.00000001")) == Decimal(8, 8, 1)
