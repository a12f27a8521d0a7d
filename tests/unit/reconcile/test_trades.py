"""Log against rows and exceptions, trade by trade: a table of what the two may say of one trade."""

from __future__ import annotations

from typing import Any

import pytest
from eod_workers.ports import ExceptionRow, Record, TradeRow
from eod_workers.reconcile.trades import Counts, Finding, Occurrence, Scope, compare, differences
from eod_workers.regulatory.enrichment import enrich
from eod_workers.trades.codec import decode_trades, encode_trades
from eod_workers.trades.conflicts import FIELD, conflict, describe
from eod_workers.trades.model import Trade
from eod_workers.trades.reference import ReferenceData
from hypothesis import given, settings
from hypothesis import strategies as st
from support.amounts import examples
from support.trade_rows import TRADES, row

KNOWN = ReferenceData({"T001": ("Ann", "D")}, {"VWAP": "Vwap"}, {"IBM": "US1"})
SPANS = {0: (10, 20), 1: (0, 20)}
SCOPE = Scope("trades.raw", SPANS, KNOWN, whole=True, log_ends={0: 30, 1: 30})
FIRST = row(1)
OTHER = row(2, exec_id="X1", symbol="IBM", last_px_e8=7)
THIRD = row(3, exec_id="X1", symbol="IBM", last_px_e8=8)
"""Another trade of the same ExecID."""
AGAIN = FIRST._replace(msg_seq_num=77, transact_time_ns=5, epoch=9)
"""The same trade, sent again."""


def at(partition: int, offset: int) -> Record:
    """A place in the log."""
    return Record("trades.raw", partition, offset, None, b"", 0)


def logged(trade: Trade, partition: int, offset: int, nth: int = 0) -> Occurrence:
    """The trade as the log has it there."""
    return SCOPE.occurrence(trade, at(partition, offset), nth)


def stored(trade: Trade, partition: int, offset: int, **changes: Any) -> TradeRow:
    """The row of a trade that was read there."""
    return enrich(trade, KNOWN, at(partition, offset))[0]._replace(**changes)


def found(
    occurrences: list[Occurrence],
    rows: list[TradeRow],
    exceptions: list[ExceptionRow] | None = None,
    scope: Scope = SCOPE,
) -> list[tuple[str, str]]:
    """(check, kind) of every difference."""
    return [(one.check, one.kind) for one in findings(occurrences, rows, exceptions, scope)]


def findings(
    occurrences: list[Occurrence],
    rows: list[TradeRow],
    exceptions: list[ExceptionRow] | None = None,
    scope: Scope = SCOPE,
) -> list[Finding]:
    return list(compare(sorted(occurrences), sorted(rows), sorted(exceptions or []), scope, Counts()))


TABLE: dict[str, tuple[list[Occurrence], list[TradeRow], list[tuple[str, str]]]] = {
    "nothing": ([], [], []),
    "a trade and its row": ([logged(FIRST, 0, 10)], [stored(FIRST, 0, 10)], []),
    "no row": ([logged(FIRST, 0, 10)], [], [("rows", "missing")]),
    "no trade": ([], [stored(FIRST, 0, 10)], [("rows", "extra")]),
    "another price": ([logged(FIRST, 0, 10)], [stored(FIRST, 0, 10, last_px_e8=1)], [("rows", "different")]),
    "another desk": ([logged(FIRST, 0, 10)], [stored(FIRST, 0, 10, desk="E")], [("rows", "different")]),
    "another offset": ([logged(FIRST, 0, 10)], [stored(FIRST, 0, 11)], [("rows", "different")]),
    "another partition": ([logged(FIRST, 0, 10)], [stored(FIRST, 1, 10)], [("rows", "different")]),
    "a repeat in the log": ([logged(FIRST, 0, 10), logged(AGAIN, 0, 11)], [stored(FIRST, 0, 10)], []),
    "the repeat was stored": (
        [logged(FIRST, 0, 10), logged(AGAIN, 0, 11)], [stored(AGAIN, 0, 11)], [("rows", "different")],
    ),
    "a repeat in the same record": ([logged(FIRST, 0, 10), logged(AGAIN, 0, 10, 1)], [stored(FIRST, 0, 10)], []),
    "the repeat in the same record was stored": (
        [logged(FIRST, 0, 10), logged(AGAIN, 0, 10, 1)], [stored(AGAIN, 0, 10)], [("rows", "different")],
    ),
    "first in two partitions, one stored": ([logged(FIRST, 0, 12), logged(AGAIN, 1, 2)], [stored(FIRST, 0, 12)], []),
    "first in two partitions, other stored": ([logged(FIRST, 0, 12), logged(AGAIN, 1, 2)], [stored(AGAIN, 1, 2)], []),
    "stored before the span": ([logged(FIRST, 0, 12)], [stored(FIRST, 0, 9)], []),
    "before the span and not in it": ([], [stored(FIRST, 0, 9)], []),
    "behind the span": ([], [stored(FIRST, 0, 25)], []),
    "behind the span though in it": ([logged(FIRST, 0, 12)], [stored(FIRST, 0, 25)], [("rows", "different")]),
    "behind the end of the log": ([], [stored(FIRST, 0, 30)], [("rows", "extra")]),
    "of another topic": ([], [stored(FIRST, 0, 12, topic="old")], []),
    "of a partition that is not compared": ([], [stored(FIRST, 7, 12)], []),
    "two rows": ([logged(FIRST, 0, 10)], [stored(FIRST, 0, 10), stored(FIRST, 0, 10)], [("rows", "twice")]),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE)
def test_a_trade_is_compared_as_the_table_says(case: str) -> None:
    occurrences, rows, expected = TABLE[case]
    assert found(occurrences, rows) == expected


@pytest.mark.parametrize(
    ("occurrences", "rows", "noted", "expected"),
    [
        # In one partition: flash P&L and the store have the first, and the other is noted.
        ([logged(FIRST, 0, 10), logged(OTHER, 0, 11)], [stored(FIRST, 0, 10)], [stored(OTHER, 0, 11)], []),
        ([logged(FIRST, 0, 10), logged(OTHER, 0, 10, 1)], [stored(FIRST, 0, 10)], [stored(OTHER, 0, 10)], []),
        ([logged(FIRST, 0, 10), logged(OTHER, 0, 11)], [stored(FIRST, 0, 10)], [], [("exceptions", "missing")]),
        (
            [logged(FIRST, 0, 10), logged(OTHER, 0, 11)], [stored(OTHER, 0, 11)], [stored(FIRST, 0, 10)],
            [("rows", "different"), ("exceptions", "different")],
        ),
        # In two: flash P&L counts both.
        (
            [logged(FIRST, 0, 12), logged(OTHER, 1, 2)], [stored(FIRST, 0, 12)], [stored(OTHER, 1, 2)],
            [("rows", "conflict")],
        ),
        (
            [logged(FIRST, 0, 12), logged(OTHER, 1, 2)], [stored(OTHER, 1, 2)], [stored(FIRST, 0, 12)],
            [("rows", "conflict")],
        ),
        # Each of several others is noted.
        (
            [logged(FIRST, 0, 10), logged(OTHER, 0, 11), logged(THIRD, 0, 12)], [stored(FIRST, 0, 10)],
            [stored(OTHER, 0, 11), stored(THIRD, 0, 12)], [],
        ),
        (
            [logged(FIRST, 0, 10), logged(OTHER, 0, 11), logged(THIRD, 0, 11, 1)], [stored(FIRST, 0, 10)],
            [stored(OTHER, 0, 11), stored(THIRD, 0, 11)], [],
        ),
        (
            [logged(FIRST, 0, 10), logged(OTHER, 0, 11), logged(THIRD, 0, 12)], [stored(FIRST, 0, 10)],
            [stored(THIRD, 0, 12)], [("exceptions", "missing")],
        ),
        (
            [logged(FIRST, 0, 10), logged(OTHER, 0, 11), logged(OTHER, 0, 12)], [stored(FIRST, 0, 10)],
            [stored(OTHER, 0, 11), stored(THIRD, 0, 12)], [("exceptions", "extra")],
        ),
        # Any place where it came may be named, and none where it did not.
        (
            [logged(FIRST, 0, 10), logged(OTHER, 0, 11), logged(OTHER, 0, 13)], [stored(FIRST, 0, 10)],
            [stored(OTHER, 0, 13)], [],
        ),
        ([logged(FIRST, 0, 10), logged(AGAIN, 0, 11)], [stored(FIRST, 0, 10)], [stored(OTHER, 0, 11)], [("exceptions", "extra")]),
        (
            [logged(FIRST, 0, 10), logged(OTHER, 0, 11)], [stored(FIRST, 0, 10)], [stored(OTHER, 0, 12)],
            [("exceptions", "different")],
        ),
        # What was not read is not judged.
        ([logged(FIRST, 0, 10)], [stored(FIRST, 0, 10)], [stored(OTHER, 0, 25)], []),
        ([logged(FIRST, 0, 10)], [stored(FIRST, 0, 10)], [stored(OTHER, 7, 11)], []),
        ([logged(FIRST, 0, 12), logged(OTHER, 0, 13)], [stored(FIRST, 0, 12)], [stored(OTHER, 0, 3)], []),
    ],
)  # fmt: skip
def test_another_trade_under_one_exec_id_is_noted_and_where_both_count_it_is_a_break(
    occurrences: list[Occurrence], rows: list[TradeRow], noted: list[TradeRow], expected: list[tuple[str, str]]
) -> None:
    assert found(occurrences, rows, [conflict(row) for row in noted]) == expected


@pytest.mark.parametrize("value", ["", "nonsense", "trades.raw[x]@1", "trades.raw[0]@" + "9" * 40])
def test_a_note_that_names_no_place_is_one_too_many(value: str) -> None:
    note = ExceptionRow(FIRST.session, FIRST.trade_date, FIRST.exec_id, FIELD, value, "…")
    assert found([logged(FIRST, 0, 10)], [stored(FIRST, 0, 10)], [note]) == [("exceptions", "extra")]


UNKNOWN = row(1, trader="GHOST")
NOTED = ExceptionRow(FIRST.session, FIRST.trade_date, "X1", "trader", "GHOST", "…")
SAME = ([logged(UNKNOWN, 0, 10)], [stored(UNKNOWN, 0, 10)])
EXCEPTIONS: dict[str, tuple[list[Occurrence], list[TradeRow], list[ExceptionRow], list[tuple[str, str]]]] = {
    "noted": (*SAME, [NOTED], []),
    "not noted": (*SAME, [], [("exceptions", "missing")]),
    "another name": (*SAME, [NOTED._replace(value="x")], [("exceptions", "different")]),
    "one too many": (*SAME, [NOTED, NOTED._replace(field="strategy")], [("exceptions", "extra")]),
    "of a trade that nobody knows": ([], [], [NOTED], [("exceptions", "extra")]),
    "of a row outside": ([], [stored(UNKNOWN, 0, 9)], [NOTED], []),
    "of a repeat": (
        [logged(FIRST, 0, 10), logged(UNKNOWN, 0, 11)], [stored(FIRST, 0, 10)], [NOTED, conflict(stored(UNKNOWN, 0, 11))], [],
    ),
    "of a row whose trade is missing": ([], [stored(UNKNOWN, 0, 12)], [NOTED], [("rows", "extra"), ("exceptions", "extra")]),
}  # fmt: skip


@pytest.mark.parametrize("case", EXCEPTIONS)
def test_exceptions_are_compared_as_the_table_says(case: str) -> None:
    occurrences, rows, exceptions, expected = EXCEPTIONS[case]
    assert found(occurrences, rows, exceptions) == expected


def test_without_reference_data_neither_enrichment_nor_exceptions_are_compared() -> None:
    scope = Scope("trades.raw", SPANS, None, whole=True)
    occurrence = scope.occurrence(UNKNOWN, at(0, 10), 0)
    assert found([occurrence], [stored(UNKNOWN, 0, 10, desk="any")], [], scope) == []
    assert found([occurrence], [stored(UNKNOWN, 0, 10, account="any")], [], scope) == [("rows", "different")]


def test_an_exception_without_a_trade_is_left_alone_when_only_some_partitions_are_compared() -> None:
    scope = Scope("trades.raw", SPANS, KNOWN, whole=False)
    assert found([], [], [NOTED], scope) == []


def test_it_counts_what_it_has_compared() -> None:
    counts = Counts()
    occurrences = sorted([logged(FIRST, 0, 10), logged(AGAIN, 0, 11), logged(row(5), 1, 3)])
    rows = sorted([stored(FIRST, 0, 10), stored(row(5), 1, 3), stored(row(6), 0, 2)])
    assert list(compare(occurrences, rows, [], SCOPE, counts)) == []
    assert counts == Counts(trades=2, duplicates=1, rows=2, rows_elsewhere=1, exceptions=0)


_COLUMN = st.sampled_from(TradeRow._fields[3:20])


@settings(max_examples=examples(200))
@given(trade=TRADES, column=_COLUMN, other=TRADES)
def test_any_one_column_that_differs_is_found_and_named(trade: Trade, column: str, other: Trade) -> None:
    """Whatever a trade holds, through the codec of the log."""
    (trade,) = decode_trades(encode_trades([trade]))
    record = at(0, 10)
    occurrence = SCOPE.occurrence(trade, record, 0)
    expected, _ = SCOPE.expected(trade, record)
    assert SCOPE.fingerprint(expected) == occurrence.fingerprint
    value = getattr(enrich(other, KNOWN, record)[0], column)
    changed = expected._replace(**{column: value})
    kinds = [one.kind for one in findings([occurrence], [changed], []) if one.check == "rows"]
    assert kinds == (["different"] if changed != expected else [])
    is_, should = differences(changed, expected, SCOPE)
    assert (is_, should) == ((f"{column} is {value!r}", repr(getattr(expected, column))) if kinds else ("", ""))
    assert describe(expected)
