"""The pure parts of `make bench`: a slip in them would report a speed that nobody measured."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from eod_workers.fix.frames import FrameBuffer
from eod_workers.market.tally import Holding
from eod_workers.pnl.book import PartitionBook
from eod_workers.trades.codec import decode_trades
from eod_workers.trades.dates import TradeDates
from eod_workers.trades.executions import trade_of
from eod_workers.trades.partitioner import partition_of
from support.fix_messages import parsed
from unit.bench.loading import loaded


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """The package's modules."""
    names = ("account", "figures", "flow", "ingest", "matching", "options", "profile", "watching", "whole", "worker")
    with loaded("close", *names) as modules:
        yield modules


@pytest.fixture(scope="module")
def flow(bench: Any) -> Any:
    """A few thousand executions."""
    return bench.flow.make_flow("T", 3_000, bench.flow.Shape(symbols=7, traders=5, sessions=2))


# --- what is sent -------------------------------------------------------------------------------------------


def test_the_same_tag_means_the_same_executions(bench: Any, flow: Any) -> None:
    same, other = (list(bench.flow.make_flow(tag, 3_000, flow.shape).executions()) for tag in ("T", "U"))
    assert list(flow.executions()) == same
    assert {row[0].exec_id for row in same}.isdisjoint(row[0].exec_id for row in other)


def test_each_session_counts_its_messages_from_behind_the_logon(flow: Any) -> None:
    for number in range(flow.shape.sessions):
        mine = flow.seq[flow.session == number].tolist()
        assert mine == list(range(2, 2 + len(mine)))


def test_a_trader_sends_through_one_session(flow: Any) -> None:
    sessions: dict[str, set[str]] = {}
    for execution, _, _ in flow.executions():
        sessions.setdefault(execution.trader, set()).add(execution.session)
    assert {len(found) for found in sessions.values()} == {1}
    assert len(sessions) == flow.shape.traders


def test_frames_are_whole_and_say_what_the_columns_say(flow: Any) -> None:
    dates = TradeDates()
    raws = [raw for _, _, raw in flow.executions()]
    assert FrameBuffer().feed(b"".join(raws)) == raws
    for (execution, seq, raw), quantity in zip(flow.executions(), flow.quantity_e8.tolist(), strict=True):
        trade = trade_of(parsed(raw), raw, session="S", epoch=1, msg_seq_num=seq, received_at_ns=0, dates=dates)
        assert trade is not None
        signed = trade.last_qty_e8 if trade.side == 1 else -trade.last_qty_e8
        assert (trade.exec_id, trade.symbol, trade.trader) == (execution.exec_id, execution.symbol, execution.trader)
        assert (signed, trade.last_px_e8) == (quantity, execution.px_e8)


def test_part_of_a_flow_is_that_part_of_it(flow: Any) -> None:
    assert list(flow.executions(100, 200)) == list(flow.executions())[100:200]


def test_records_hold_every_trade_once_in_the_partition_of_its_symbol(bench: Any, flow: Any) -> None:
    records = bench.flow.our_records(flow)
    found: list[tuple[str, str]] = []
    for number, values in records.items():
        for value in values:
            trades = decode_trades(value)
            assert 0 < len(trades) <= bench.flow.ROWS
            assert {partition_of(trade.symbol, bench.flow.PARTITIONS) for trade in trades} == {number}
            found += [(trade.session, trade.exec_id) for trade in trades]
    assert len(found) == len(flow)
    assert set(found) == flow.exec_ids()


def test_flows_that_follow_each_other_on_a_topic_count_each_even_for_a_book_that_forgets(bench: Any) -> None:
    """A book that has forgotten trades goes by MsgSeqNum, and each flow begins with the same numbers."""
    flows = [bench.flow.make_flow(tag, 2_000, bench.flow.Shape()) for tag in ("F1", "F2")]
    books: dict[int, PartitionBook] = {}
    for epoch, flow in enumerate(flows, 1):
        for number, values in bench.flow.our_records(flow, epoch=epoch).items():
            book = books.setdefault(number, PartitionBook(remember=10))
            for value in values:
                for trade in decode_trades(value):
                    book.apply(trade)
    counted = sum(position.trades for book in books.values() for _, position in book.positions())
    assert counted == sum(map(len, flows))


def test_logon_and_logout_are_whole_frames(bench: Any) -> None:
    for raw, kind in ((bench.flow.logon("BROKER1"), b"A"), (bench.flow.logout("BROKER1", 9), b"5")):
        assert FrameBuffer().feed(raw) == [raw]
        assert parsed(raw).fields[b"35"] == kind


# --- what must come out -------------------------------------------------------------------------------------


def test_the_account_agrees_with_the_book_and_with_fractions(bench: Any, flow: Any) -> None:
    account, book = bench.account.Account(), PartitionBook()
    account.take(flow)
    holdings: dict[tuple[str, str], Holding] = {}
    for values in bench.flow.our_records(flow).values():
        for value in values:
            for trade in decode_trades(value):
                book.apply(trade)
                signed = trade.last_qty_e8 if trade.side == 1 else -trade.last_qty_e8
                holding = holdings.setdefault((trade.trader, trade.symbol), Holding())
                holding.trade(Fraction(signed, 10**8), Fraction(trade.last_px_e8, 10**8))
    kept = {key: (p.quantity_e8, p.cost_e16, p.realized_e16, p.trades) for key, p in book.positions()}
    assert {key: tuple(standing) for key, standing in account.positions.items()} == kept
    for key, holding in holdings.items():
        standing = account.positions[key]
        assert Fraction(standing.quantity_e8, 10**8) == holding.quantity
        assert abs(Fraction(standing.realized_e16, 10**16) - holding.realized) < Fraction(standing.trades, 10**16)


def test_a_position_that_differs_is_named(bench: Any, flow: Any) -> None:
    account = bench.account.Account()
    account.take(flow)
    other = dict(account.positions)
    assert account.difference(other) == ""
    key = min(other)
    other[key] = other[key]._replace(cost_e16=other[key].cost_e16 + 1)
    assert str(key) in account.difference(other)
    del other[key]
    assert "None" in account.difference(other)
    assert account.difference({**account.positions, ("X", "Y"): bench.account.Standing()})


def test_missing_doubled_and_foreign_trades_are_counted(bench: Any) -> None:
    sent = {("S", "1"), ("S", "2"), ("S", "3")}
    assert bench.ingest.difference(Counter(sent), sent) == ""
    found = Counter({("S", "1"): 2, ("S", "3"): 1, ("S", "9"): 1})
    assert bench.ingest.difference(found, sent) == "of 3 trades 1 are missing, 1 doubled, 1 were never sent"


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("1", 10**8), ("-1.5", -(15 * 10**7)), ("0.00000001", 1), ("-12.25", -(1225 * 10**6))]
)
def test_decimal_text_becomes_an_exact_integer(bench: Any, text: str, value: int) -> None:
    assert bench.watching.exact(text, 10**8) == value


# --- who became visible when --------------------------------------------------------------------------------


def resp(*parts: bytes) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


@pytest.mark.parametrize("cut", [1, 2, 7, 23, 1_000])
def test_a_message_is_visible_with_the_last_read_that_it_came_in(bench: Any, cut: int) -> None:
    wire = b"*3\r\n$10\r\npsubscribe\r\n$1\r\n*\r\n:1\r\n"
    wire += resp(b"pmessage", b"p*", b"pnl", b'{"a":1}') + resp(b"pmessage", b"p*", b"pnl", b"x\r\n*y")
    ends = [wire.index(b'{"a":1}\r\n') + 9, len(wire)]
    reads = [(at + cut, wire[at : at + cut]) for at in range(0, len(wire), cut)]
    found = list(bench.matching.messages(reads))
    assert [payload for _, payload in found] == [b'{"a":1}', b"x\r\n*y"]
    assert [at for at, _ in found] == [-(-end // cut) * cut for end in ends]


def test_an_error_of_the_server_is_not_taken_for_a_message(bench: Any) -> None:
    with pytest.raises(bench.matching.BadReply, match="NOAUTH"):
        list(bench.matching.messages([(1, b"-NOAUTH Authentication required.\r\n")]))


def small(bench: Any, pairs: list[tuple[int, int]]) -> Any:
    """A flow of (trader, symbol) in this order."""
    base = bench.flow.make_flow("V", len(pairs), bench.flow.Shape(symbols=2, traders=2, sessions=2))
    return replace(
        base, trader=np.array([trader for trader, _ in pairs]), symbol=np.array([symbol for _, symbol in pairs])
    )


def test_a_trade_is_visible_with_the_first_publication_that_counts_it(bench: Any) -> None:
    flow = small(bench, [(0, 0), (0, 0), (1, 0), (0, 0), (0, 1)])
    (zero, one), (first, second) = flow.traders, flow.symbols
    seen = [
        (10.0, (zero, first), 6),  # of 5 before
        (20.0, (one, first), 1),
        (30.0, (zero, first), 8),
        (40.0, (zero, first), 8),
        (50.0, ("somebody", "else"), 3),
    ]
    found = bench.matching.visible_at(flow, seen, {(zero, first): 5})
    assert found[:4].tolist() == [10.0, 30.0, 20.0, 30.0]
    assert np.isnan(found[4])
    assert bench.matching.visible_at(flow, [*seen, (60.0, (zero, second), 1)], {(zero, first): 5})[4] == 60.0


def test_a_late_sender_does_not_move_the_time_at_which_a_trade_was_due(bench: Any) -> None:
    assert bench.matching.intended(5.0, 4, 1_000.0).tolist() == [5.0, 1_000_005.0, 2_000_005.0, 3_000_005.0]


def test_bytes_due_by_session_grow_with_each_execution(bench: Any) -> None:
    flow = small(bench, [(0, 0), (1, 0), (0, 1)])
    assert bench.matching.spread(flow, [5, 7, 11]).tolist() == [[0, 0], [5, 0], [5, 7], [16, 7]]


# --- figures ------------------------------------------------------------------------------------------------


def test_quantiles_are_values_that_were_measured(bench: Any) -> None:
    found = bench.figures.quantiles(np.arange(1_000, 0, -1))
    assert found == {"p50": 500, "p95": 950, "p99": 990, "p99.9": 999, "max": 1_000}


@pytest.mark.parametrize("values", [[], [1.0, float("nan")]])
def test_a_latency_that_is_missing_is_no_latency(bench: Any, values: list[float]) -> None:
    with pytest.raises(ValueError, match="latency"):
        bench.figures.quantiles(np.array(values))


def test_a_ratio_says_how_many_times_better_ours_is(bench: Any) -> None:
    faster = bench.figures.Row("b", "rate", "1/s", [30, 10, 20], [5, 5, 5], bar=20)
    assert (faster.our_median, faster.peer_median, faster.ratio, faster.verdict) == (20, 5, 4.0, "met")
    slower = bench.figures.Row("b", "time", "ms", [8.0], [2.0], bar=7.0, more_is_better=False)
    assert (slower.ratio, slower.verdict) == (0.25, "MISSED")
    alone = bench.figures.Row("b", "time", "ms", [8.0])
    assert (alone.ratio, alone.peer_median, alone.verdict) == (None, None, "")
    assert bench.figures.Row("b", "time", "ms", [8.0], [2.0], comparable=False).ratio is None
    assert bench.figures.missed([faster, slower])
    assert not bench.figures.missed([faster, alone])


@pytest.mark.parametrize(
    ("bar", "ratio_bar", "peer", "verdict"),
    [
        (None, 4.0, [5.0], "met"),
        (None, 4.1, [5.0], "MISSED"),
        (20.0, 4.1, [5.0], "MISSED"),
        (21.0, 4.0, [5.0], "MISSED"),
        (20.0, 4.0, [5.0], "met"),
        (None, 4.0, [], "MISSED"),
    ],
)
def test_both_bars_must_be_reached(
    bench: Any, bar: float | None, ratio_bar: float, peer: list[float], verdict: str
) -> None:
    """A ratio without a peer was not measured, so it is missed."""
    row = bench.figures.Row("b", "rate", "1/s", [20.0], peer, bar=bar, ratio_bar=ratio_bar)
    assert row.verdict == verdict
    assert row.plain()["met"] is (verdict == "met")


def test_cpu_of_the_worker_is_compared_for_a_million_trades(bench: Any) -> None:
    spent = {"ours": [{"worker": 1.0, "kafka": 9.0}, {"worker": 3.0}], "peer": [{"worker": 16.0}]}
    row = bench.figures.cpu_row("b", "CPU", spent, 500_000, 5.0)
    assert (row.our_median, row.peer_median, row.ratio, row.verdict) == (4.0, 32.0, 8.0, "met")


def test_a_hop_counts_only_what_came_between_two_readings(bench: Any) -> None:
    """Before it everything was late; of the hundred since then 98 were within 1 ms, one within 5, one beyond."""
    before = {"applied": {0.001: 0.0, 0.005: 0.0, float("inf"): 50.0}}
    after = {"applied": {0.001: 98.0, 0.005: 99.0, float("inf"): 150.0}}
    assert bench.whole.hops_since(before, after) == "applied within 1 ms (p50) and 5 ms (p99)"
    assert bench.whole.hops_since({}, {}) == ""


def test_samples_are_added_up_by_the_library_they_were_taken_in(bench: Any) -> None:
    """Functions of our own kernel stand alone, what is said of several processes or nothing is not counted."""
    report = """
# Overhead;Shared Object;Symbol
    30.00%;cramjam.cpython-311-x86_64-linux-gnu.so;[.] 0x0000000000320103
    20.00%;cramjam.cpython-311-x86_64-linux-gnu.so;[.] 0x00000000003201cc
    12.50%;ledger_kernel.cpython-311-x86_64-linux-gnu.so;[.] read_message
    10.00%;[kernel.kallsyms];[k] _copy_to_iter
     5.00%;libpython3.11.so.1.0;[.] _PyEval_EvalFrameDefault
     2.50%;_ssl.cpython-311-x86_64-linux-gnu.so;[.] main

    nonsense
"""
    assert bench.profile.shares(report.splitlines()) == {
        "cramjam: zstd": pytest.approx(0.5),
        "our kernel: ledger, read_message": 0.125,
        "Linux: sockets, scheduling, memory": 0.1,
        "Python itself": 0.05,
        "_ssl": 0.025,
    }


def test_cpu_is_the_median_of_runs_for_a_million_trades(bench: Any) -> None:
    spent = [{"worker": 3.0, "kafka": 1.0}, {"worker": 1.0, "kafka": 1.0}, {"worker": 2.0, "kafka": 4.0}]
    assert bench.figures.per_million(spent, 500_000) == {"worker": 4.0, "kafka": 2.0}


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (0, "0"), (1_234_567.0, "1,234,567"), (12.345, "12.3"), (0.01234, "0.0123")]
)
def test_numbers_are_shown_with_three_digits(bench: Any, value: float | None, text: str) -> None:
    assert bench.figures.shown(value) == text


def test_a_meter_counts_the_cpu_of_all_threads_since_it_was_made(bench: Any) -> None:
    meter = bench.worker.Meter({"me": os.getpid()})
    until = sum(os.times()[:2]) + 0.2
    while sum(os.times()[:2]) < until:
        pass
    assert 0.15 <= meter.spent()["me"] < 5.0
