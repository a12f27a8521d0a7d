"""Properties of one partition's book, against an oracle that recomputes everything from a list of standing trades."""

from __future__ import annotations

from collections import Counter, defaultdict

from eod_workers.pnl.book import Outcome, PartitionBook
from eod_workers.trades.model import ACTION_BUST, ACTION_CORRECT, SIDE_BUY, SIDE_SELL, Trade
from hypothesis import given
from hypothesis import strategies as st
from unit.pnl.executions import Counterparty, facts, histories


class Ledger:
    """The oracle: a list of standing trades under all the names they ever had, from which everything is recomputed."""

    def __init__(self) -> None:
        self.standing: dict[str, tuple[str, str, int, int] | None] = {}
        self.names: dict[tuple[str, str], str] = {}
        self.taken: dict[str, tuple[int, int]] = {}
        self.touched: set[tuple[str, str]] = set()

    def apply(self, row: Trade) -> Outcome:
        """What the book should make of the row."""
        if not row.redrive_of:
            if (row.epoch, row.msg_seq_num) <= self.taken.get(row.session, (0, 0)):
                return Outcome.DUPLICATE_DELIVERY
            self.taken[row.session] = (row.epoch, row.msg_seq_num)
        name = (row.session, row.exec_id)
        named = self.names.get((row.session, row.exec_ref_id))
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
        place = self.names[name] = named or f"{row.symbol}|{row.session}|{row.exec_id}"
        if row.action == ACTION_BUST:
            self.standing[place] = None
        else:
            quantity = row.last_qty_e8 if row.side == SIDE_BUY else -row.last_qty_e8
            self.standing[place] = (row.trader, row.symbol, quantity, row.last_px_e8)
            self.touched.add((row.trader, row.symbol))
        return Outcome.APPLIED

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
    assert ledger.taken == book.high_water()
    assert set(ledger.names) == {identity for identity, _ in book.remembered()}


@given(rows=histories(), data=st.data())
def test_busting_everything_leaves_nothing(rows: list[Trade], data: st.DataObject) -> None:
    book = PartitionBook()
    for row in rows:
        book.apply(row)
    standing = [identity for identity, t in book.remembered() if t[2] and not t[4]]
    symbols = {identity: t[1] for identity, t in book.remembered()}
    breaker = {session: Counterparty(session, epoch=1_000) for session in ("A->E", "B->E")}

    for number, (session, exec_id) in enumerate(data.draw(st.permutations(standing))):
        bust = breaker[session].bust(exec_id, symbol=symbols[session, exec_id], exec_id=f"BUST{number}")
        assert book.apply(bust).outcome is Outcome.APPLIED

    for _, position in book.positions():
        assert (position.quantity_e8, position.cost_e16, position.trades) == (0, 0, 0)
        assert 0 == position.realized_e16 == position.cash_e16


@given(rows=histories(), data=st.data())
def test_neither_interleaving_nor_redelivery_changes_the_set(rows: list[Trade], data: st.DataObject) -> None:
    """Sessions keep their own order; every delivery may come again at any later time."""
    plain = PartitionBook()
    for row in rows:
        plain.apply(row)
    queues = {s: [row for row in rows if row.session == s] for s in ("A->E", "B->E")}
    order = data.draw(st.permutations([row.session for row in rows]))
    book, delivered = PartitionBook(), []

    for session in order:
        row = queues[session].pop(0)
        book.apply(row)
        delivered.append(row)
        for index in data.draw(st.lists(st.integers(0, len(delivered) - 1), max_size=3)):
            if not delivered[index].redrive_of:
                assert book.apply(delivered[index]).outcome is Outcome.DUPLICATE_DELIVERY

    assert facts(plain) == facts(book)
    assert Counter(plain.remembered()) == Counter(book.remembered())
    assert plain.high_water() == book.high_water()
