"""Every word of T-SQL that we send stands in the list of docs/sqlserver.md, which says where it is documented."""

from __future__ import annotations

import re
from pathlib import Path

from eod_workers.adapters.sqlserver import database, schema, writer

PAGE = Path(__file__).parents[3] / "docs" / "sqlserver.md"
GRAMMAR = {
    "ADD",
    "ALL",
    "ALTER",
    "AND",
    "AS",
    "AT",
    "BEGIN",
    "BY",
    "COMMIT",
    "CREATE",
    "DATABASE",
    "ELSE",
    "END",
    "FOR",
    "INTO",
    "IS",
    "KEY",
    "LOGIN",
    "NOT",
    "NULL",
    "OF",
    "ON",
    "OR",
    "ORDER",
    "GROUP",
    "PARTITION",
    "PRIMARY",
    "PROCEDURE",
    "SCHEMA",
    "TABLE",
    "THEN",
    "TIME",
    "TO",
    "TRANSACTION",
    "TRIGGER",
    "UNION",
    "UNIQUE",
    "USER",
    "UTC",
    "VIEW",
    "ZONE",
}
"""Words that only make sense beside those that the list names."""


def sent() -> str:
    """All batches, without their texts and comments."""
    batches = (
        *schema.SCHEMA,
        *schema.STAGING,
        *map(schema.replace, ("traders", "mpids")),
        *(writer._SESSION, writer._EMPTY, writer._CLAIM, writer._STORE, writer._STORED_AS),
        *(writer._STALE_ONES, writer._TAKE_OVER),
        *database.in_master("d", "u", "p"),
        *database.in_database("u"),
    )
    return re.sub(r"N?'[^']*'", "''", " ".join(batches))


def test_every_word_that_is_sent_is_in_the_list() -> None:
    listed = set(
        re.findall(r"@?@?\w+", PAGE.read_text(encoding="utf-8").partition("## The T-SQL")[2].partition("\n## ")[0])
    )
    words = set(re.findall(r"@@[A-Z]+|\b[A-Z][A-Z_0-9]+\b|\bsp_[a-z]\w+", sent()))
    assert {"NANOSECOND", "@@ROWCOUNT", "sp_getapplock", "XACT_ABORT"} <= words
    assert words - listed - GRAMMAR == set()
