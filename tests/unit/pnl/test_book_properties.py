"""Properties of one partition's book, against an oracle that recomputes everything from a list of standing trades."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from eod_workers.pnl.book import Outcome, PartitionBook
from eod_workers.pnl.positions import Position
from eod_workers.trades.model import ACTION_BUST, ACTION_CORRECT, SIDE_BUY, SIDE_SELL, Trade
from hypothesis import given
from hypothesis import strategies as st
from support.pnl_executions import Counterparty, facts, histories


class Ledger:
    """The oracle: a list of standing trades under all the names they ever had, from which everything is recomputed."""

    def __init__(self) -> None:
        self.standing: dict[str, tuple[str, str, int, int] | None] = {}
        self.names: dict[tuple[str, int, str], str] = {}
        self.touched: set[tuple[str, str]] = set()

    def apply(self, row: Trade) -> Outcome:
        """What the book should make of the row."""
        name = row.identity
        named = self.named(row)
        if row.exec_ref_id == row.exec_id:
            return Outcome.INVALID
        if name in self.names:
            return Outcome.DUPLICATE_TRADE
        if row.action != ACTION_BUST and row.side not in (SIDE_BUY, SIDE_SELL):
            return Outcome.INVALID
        if row.action in (ACTION_BUST, ACTION_CORRECT):
            if named is None:
                return Outcome.UNKNOWN_REFERENCE
            if named.split("|")[0] != row.symbol:
                return Outcome.INVALID
            if self.standing[named] is None:
                return Outcome.ALREADY_BUSTED
        place = self.names[name] = named or f"{row.symbol}|{row.session}|{row.trade_date}|{row.exec_id}"
        if row.action == ACTION_BUST:
            self.standing[place] = None
        else:
            quantity = row.last_qty_e8 if row.side == SIDE_BUY else -row.last_qty_e8
            self.standing[place] = (row.trader, row.symbol, quantity, row.last_px_e8)
            self.touched.add((row.trader, row.symbol))
        return Outcome.APPLIED

    def named(self, row: Trade) -> str | None:
        """What ExecRefID stands for: of the same day, else of the latest that has it."""
        days = sorted(
            day for session, day, exec_id in self.names if (session, exec_id) == (row.session, row.exec_ref_id)
        )
        if not days:
            return None
        day = row.trade_date if row.trade_date in days else days[-1]
        return self.names[row.session, day, row.exec_ref_id]

    def facts(self) -> dict[tuple[str, str], tuple[int, int, int]]:
        """Position → quantity, cash and number of the trades that stand."""
        rows: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
        for trade in filter(None, self.standing.values()):
            rows[trade[0], trade[1]].append((trade[2], trade[3]))
        return {
            key: (sum(q for q, _ in rows[key]), -sum(q * px for q, px in rows[key]), len(rows[key]))
            for key in self.touched
        }


@given(rows=histories(), mark=st.integers(1, 10**13))
def test_a_book_follows_the_ledger(rows: list[Trade], mark: int) -> None:
    """Outcomes, quantity, cash and count exactly after every row; the identity at any mark."""
    book, ledger = PartitionBook(), Ledger()
    for row in rows:
        before = {key: (p.quantity_e8, p.cash_e16, p.realized_e16, p.trades) for key, p in book.positions()}
        result = book.apply(row)

        assert ledger.apply(row) is result.outcome
        assert ledger.facts() == facts(book)
        assert (result.outcome is Outcome.APPLIED) == (result.detail == "") == bool(result.changed)
        assert len(set(result.changed)) == len(result.changed)
        for key, p in book.positions():
            if key not in result.changed:
                assert before[key] == (p.quantity_e8, p.cash_e16, p.realized_e16, p.trades)
            unrealized = p.unrealized_e16(mark)
            assert unrealized is not None
            assert p.cash_e16 + p.quantity_e8 * mark == p.realized_e16 + unrealized
    assert book.forgotten() == {}
    assert set(ledger.names) == {identity for identity, _ in book.remembered()}


@given(rows=histories(), data=st.data())
def test_busting_everything_leaves_nothing(rows: list[Trade], data: st.DataObject) -> None:
    book = PartitionBook()
    for row in rows:
        book.apply(row)
    standing = [identity for identity, t in book.remembered() if t[2] and not t[4]]
    symbols = {identity: t[1] for identity, t in book.remembered()}
    breaker = {session: Counterparty(session, epoch=1_000) for session in ("A->E", "B->E")}

    for number, (session, date, exec_id) in enumerate(data.draw(st.permutations(standing))):
        bust = breaker[session].bust(exec_id, symbol=symbols[session, date, exec_id], exec_id=f"BUST{number}")
        bust = bust._replace(trade_date=date)
        assert book.apply(bust).outcome is Outcome.APPLIED

    for _, position in book.positions():
        assert (position.quantity_e8, position.cost_e16, position.trades) == (0, 0, 0)
        assert 0 == position.realized_e16 == position.cash_e16


@given(rows=histories(), data=st.data())
def test_neither_interleaving_nor_redelivery_changes_the_set(rows: list[Trade], data: st.DataObject) -> None:
    """Sessions keep their own order; every trade that counted may come again at any later time, in any epoch."""
    plain = PartitionBook()
    for row in rows:
        plain.apply(row)
    queues = {s: [row for row in rows if row.session == s] for s in ("A->E", "B->E")}
    order = data.draw(st.permutations([row.session for row in rows]))
    book, counted = PartitionBook(), []

    for session in order:
        row = queues[session].pop(0)
        if book.apply(row).outcome is Outcome.APPLIED:
            counted.append(row)
        for index in data.draw(st.lists(st.integers(0, len(counted) - 1), max_size=3)) if counted else []:
            again = counted[index]._replace(epoch=data.draw(st.integers(0, 3)))
            assert book.apply(again).outcome is Outcome.DUPLICATE_TRADE

    assert facts(plain) == facts(book)
    assert Counter(_without_numbers(plain)) == Counter(_without_numbers(book))


def _without_numbers(book: PartitionBook) -> list[tuple[object, ...]]:
    return [(identity, *trade[:5]) for identity, trade in book.remembered()]


@st.composite
def _moves(draw: st.DrawFn) -> list[int]:
    """The numbers of one session as they come to a partition: tenures begin at or below what follows, and overlap."""
    reached, runs = 0, []
    for _ in range(draw(st.integers(1, 5))):
        first = draw(st.integers(1, reached + 1))
        last = draw(st.integers(first, first + 30))
        runs.append(list(range(first, last + 1)))
        reached = max(reached, last)
    return draw(_merged(runs))


@st.composite
def _merged(draw: st.DrawFn, runs: list[list[int]]) -> list[int]:
    """The runs interleaved, each in its own order; none begins before what lies below it has come at least once."""
    merged: list[int] = []
    waiting = [list(run) for run in runs]
    while any(waiting):
        seen = max(merged, default=0)
        ready = [run for run in waiting if run and run[0] <= seen + 1]
        merged.append(draw(st.sampled_from(ready)).pop(0))
    return merged


@given(numbers=_moves(), remember=st.integers(1, 12))
def test_however_little_is_remembered_a_session_that_moves_counts_each_trade_once(
    numbers: list[int], remember: int
) -> None:
    """Tenures overlap at will, and memory is shorter than any of them: each number counts the first time."""
    book = PartitionBook(remember)
    acme = Counterparty()
    trades = {number: acme.trade(number, 1) for number in range(1, max(numbers) + 1)}

    outcomes = [book.apply(trades[number]).outcome for number in numbers]

    firsts = [number not in numbers[:place] for place, number in enumerate(numbers)]
    assert [outcome is Outcome.APPLIED for outcome in outcomes] == firsts
    assert not any(outcome.refused for outcome in outcomes)


@given(rows=histories())
def test_a_book_that_remembers_all_is_one_that_never_saw_what_was_taken_back(rows: list[Trade]) -> None:
    """Average and realized P&L too: a correction in the place of its trade, unless it moved to another trader."""
    book = PartitionBook()
    for row in rows:
        book.apply(row)
    assert dict(book.positions()) == replayed(rows)


def replayed(rows: list[Trade]) -> dict[tuple[str, str], Position]:
    """Every position made of the trades that stand in the end, from a list that is edited as people edit one."""
    ledger = Ledger()
    entries: list[list[Any]] = []  # [place, trader, symbol, quantity, price]; taken out: quantity 0
    where: dict[str, int] = {}
    touched: dict[tuple[str, str], None] = {}
    for row in rows:
        named = ledger.named(row)
        if ledger.apply(row) is not Outcome.APPLIED:
            continue
        quantity = row.last_qty_e8 if row.side == SIDE_BUY else -row.last_qty_e8
        if row.action == ACTION_BUST:
            entries[where[named or ""]][3] = 0
            continue
        touched[row.trader, row.symbol] = None
        at = where.get(named or "") if row.action == ACTION_CORRECT else None
        if at is not None and entries[at][1] == row.trader:
            entries[at][3:] = [quantity, row.last_px_e8]
            continue
        if at is not None:
            entries[at][3] = 0
        where[ledger.names[row.identity]] = len(entries)
        entries.append([ledger.names[row.identity], row.trader, row.symbol, quantity, row.last_px_e8])
    found = {key: Position() for key in touched}
    for _, trader, symbol, quantity, px in entries:
        if quantity:
            found[trader, symbol].trade(quantity, px)
    return found
