"""Both kinds of `TradeColumns`: what was added comes out as records, once, in order, cut where the writer says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import pytest
from eod_workers import kernel
from eod_workers.protos.trades_pb2 import TradeBatch
from eod_workers.trades import columns as pure
from eod_workers.trades.codec import decode_trades
from eod_workers.trades.columns import MAX_FRAME_BYTES_A_RECORD, MAX_TRADES_A_RECORD, Columns, make_columns, slices
from eod_workers.trades.model import Trade
from eod_workers.trades.partitioner import partition_of
from hypothesis import given, settings
from hypothesis import strategies as st
from support.trade_rows import TRADES, row

MADE: list[Callable[[int], Columns]] = [pure.TradeColumns]
if kernel.available():
    from eod_workers.trades.columns_kernel import TradeColumns as InC

    MADE.append(InC)
both = pytest.mark.parametrize("make", MADE, ids=[make.__module__ for make in MADE])
DELIVERED = TRADES.map(lambda trade: trade._replace(redrive_of=""))
Records = list[tuple[int, int, list[Trade]]]


def drained(columns: Columns) -> Records:
    """The records, decoded."""
    return [(partition, rows, decode_trades(value)) for partition, rows, value in columns.drain()]


def expected(trades: list[Trade], partitions: int) -> Records:
    """The records by the rules alone."""
    by_partition = defaultdict(list)
    for trade in trades:
        by_partition[partition_of(trade.symbol, partitions)].append(trade)
    return [
        (partition, part.stop - part.start, rows[part])
        for partition, rows in sorted(by_partition.items())
        for part in slices([len(trade.frame) for trade in rows])
    ]


@both
@given(trades=st.lists(DELIVERED, max_size=30), partitions=st.integers(1, 13))
def test_what_was_added_comes_out_once_and_in_order(
    make: Callable[[int], Columns], trades: list[Trade], partitions: int
) -> None:
    columns = make(partitions)
    for trade in trades:
        columns.add(trade)
    assert (columns.rows, columns.frame_bytes) == (len(trades), sum(len(trade.frame) for trade in trades))
    assert drained(columns) == expected(trades, partitions)
    assert (columns.rows, columns.frame_bytes, columns.drain()) == (0, 0, [])


@both
@settings(max_examples=15)
@given(sizes=st.lists(st.sampled_from([1, 300, 20_000, 65_536]), max_size=60), many=st.integers(0, 1_100))
def test_records_end_where_the_limits_say(make: Callable[[int], Columns], sizes: list[int], many: int) -> None:
    columns = make(2)
    trades = [row(number, frame=b"x" * size) for number, size in enumerate([*sizes, *[7] * many])]
    for trade in trades:
        columns.add(trade)
    out = drained(columns)
    assert out == expected(trades, 2)
    for _, rows, record in out:
        assert rows == len(record) <= MAX_TRADES_A_RECORD
        assert rows == 1 or sum(len(trade.frame) for trade in record) <= MAX_FRAME_BYTES_A_RECORD


@both
@pytest.mark.parametrize(
    ("sizes", "rows"),
    [
        ([MAX_FRAME_BYTES_A_RECORD], [1]),
        ([MAX_FRAME_BYTES_A_RECORD, 1], [1, 1]),
        ([MAX_FRAME_BYTES_A_RECORD - 1, 1, 1], [2, 1]),
        ([MAX_FRAME_BYTES_A_RECORD // 2] * 5, [2, 2, 1]),
        ([MAX_FRAME_BYTES_A_RECORD + 1] * 3, [1, 1, 1]),
        ([1] * (2 * MAX_TRADES_A_RECORD + 1), [MAX_TRADES_A_RECORD, MAX_TRADES_A_RECORD, 1]),
        # a row without a frame stays with the one before it, whose it shares
        ([1] * (MAX_TRADES_A_RECORD - 2) + [1, 0, 1], [MAX_TRADES_A_RECORD, 1]),
        ([1] * (MAX_TRADES_A_RECORD - 1) + [1, 0], [MAX_TRADES_A_RECORD - 1, 2]),
        ([MAX_FRAME_BYTES_A_RECORD, 0, 1, 0], [2, 2]),
        ([1] + [0] * MAX_TRADES_A_RECORD, [MAX_TRADES_A_RECORD, 1]),
    ],
)
def test_a_record_is_cut_in_front_of_what_would_be_too_much(
    make: Callable[[int], Columns], sizes: list[int], rows: list[int]
) -> None:
    columns = make(1)
    for number, size in enumerate(sizes):
        columns.add(row(number, frame=b"%d" % (number % 10) * size))
    out = drained(columns)
    assert [count for _, count, _ in out] == rows
    shared = [size or sizes[number - 1] for number, size in enumerate(sizes)]
    if sizes.count(0) < 3:
        assert [len(trade.frame) for _, _, record in out for trade in record] == shared


@both
def test_names_that_are_let_go_of_leave_no_trace(make: Callable[[int], Columns]) -> None:
    """Whoever makes up a new name a trade fills no memory for good; and what was known once is known anew."""
    columns = make(3)
    for begin in range(0, 96_000, 24_000):
        trades = [row(1), *(row(n, symbol=f"S{n % 7}", trader=f"T{n}") for n in range(begin, begin + 24_000)), row(2)]
        for trade in trades:
            columns.add(trade)
        assert drained(columns) == expected(trades, 3)


@both
@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 15, 16, 17, 31, 70_000])
def test_names_of_any_length_are_told_apart(make: Callable[[int], Columns], size: int) -> None:
    columns = make(1)
    names = ["x" * size, "x" * size + "a", "x" * size + "b", "x" * size + "é", "x" * size + "\0", ""]
    trades = [row(number, symbol=name, account=name) for number, name in enumerate(names)]
    for trade in trades:
        columns.add(trade)
    assert drained(columns) == expected(trades, 1)


@both
def test_a_redriven_trade_is_refused(make: Callable[[int], Columns]) -> None:
    columns = make(1)
    with pytest.raises(ValueError, match="ExecID X1 was redriven from letter: it does not come from a session"):
        columns.add(row(1, redrive_of="letter"))
    assert (columns.rows, columns.drain()) == (0, [])


@both
def test_a_name_is_in_a_record_once_and_the_empty_one_first(make: Callable[[int], Columns]) -> None:
    columns = make(1)
    for number in range(1, 2 * MAX_TRADES_A_RECORD):
        columns.add(row(number, trader=f"T{number % 3}", account="T0", strategy="" if number % 2 else "IBM"))
    for _, _, value in columns.drain():
        strings = list(TradeBatch.FromString(value).strings)
        assert strings[0] == ""
        assert sorted(strings) == ["", "ACME->EOD", "IBM", "T0", "T1", "T2"]


@both
@pytest.mark.parametrize("partitions", [0, -1])
def test_a_topic_has_a_partition(make: Callable[[int], Columns], partitions: int) -> None:
    with pytest.raises(ValueError, match=f"{partitions} partitions: a topic has at least one"):
        make(partitions)


@both
@pytest.mark.parametrize(
    "changes", [{"last_qty_e8": 2**63}, {"last_px_e8": -(2**63) - 1}, {"epoch": 2**32}, {"msg_seq_num": -1}]
)
def test_a_number_that_does_not_fit_is_an_error_and_never_wraps(
    make: Callable[[int], Columns], changes: dict[str, int]
) -> None:
    columns = make(1)

    def written() -> Records:
        columns.add(row(1, **changes))
        return drained(columns)

    with pytest.raises((OverflowError, ValueError)):
        written()


def test_the_kernel_is_used_where_it_can_be() -> None:
    assert isinstance(make_columns(12), MADE[-1])
