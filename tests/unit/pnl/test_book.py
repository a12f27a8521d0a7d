"""One partition's book: each trade counts once, busts and corrections adjust, prices move what they concern."""

from __future__ import annotations

import pytest
from eod_workers.pnl.book import MAX_EPOCHS, REMEMBER, Outcome, PartitionBook
from eod_workers.pnl.marks import Mark
from eod_workers.pnl.positions import Position
from eod_workers.pnl.published import read_position
from eod_workers.pnl.publishing import position_field
from eod_workers.pnl.snapshot import dump, load
from eod_workers.protos.prices_pb2 import PRICE_SOURCE_LAST_TRADE, PRICE_SOURCE_MID, PRICE_SOURCE_OFFICIAL_CLOSE
from support.pnl_executions import E8, E16, SESSION, Counterparty, facts

ANN = ("ann", "IBM")
BOB = ("bob", "IBM")


@pytest.fixture
def book() -> PartitionBook:
    return PartitionBook()


@pytest.fixture
def acme() -> Counterparty:
    return Counterparty()


def held(book: PartitionBook, trader: str = "ann", symbol: str = "IBM") -> tuple[float, float, int]:
    """(quantity, cash, trades that stand) in whole units."""
    position = book.position(trader, symbol)
    assert position is not None
    return position.quantity_e8 / E8, position.cash_e16 / E16, position.trades


# --- multipliers --------------------------------------------------------------------------------------


def test_the_first_multiplier_that_is_said_holds_for_all_trades_of_the_symbol(
    book: PartitionBook, acme: Counterparty
) -> None:
    """Whoever holds it is told, for what they have is worth something else."""
    book.apply(acme.trade(2, 5_000))
    book.apply(acme.trade(1, 5_000, trader="bob"))
    book.apply(acme.trade(1, 5_000, symbol="AIG"))
    assert book.multiplier_e8("IBM") == 0
    said = book.apply(acme.trade(-2, 5_010)._replace(multiplier_e8=50 * E8))
    assert said == (Outcome.APPLIED, "", (ANN, BOB))
    assert book.apply(acme.trade(1, 5_010)._replace(multiplier_e8=50 * E8)).changed == (ANN,)
    assert book.apply(acme.trade(1, 5_010)).changed == (ANN,)
    assert (book.multipliers(), book.multiplier_e8("AIG")) == ({"IBM": 50 * E8}, 0)
    assert held(book) == (2, 20 - 2 * 5_010, 4)


def test_another_multiplier_is_refused_and_changes_nothing(book: PartitionBook, acme: Counterparty) -> None:
    book.apply(acme.trade(2, 5_000, exec_id="E1")._replace(multiplier_e8=50 * E8))
    for row in (acme.trade(2, 5_000, trader="bob"), acme.correct("E1", 3, 5_000)):
        result = book.apply(row._replace(multiplier_e8=5 * E8))
        assert result.outcome is Outcome.INVALID
        assert "ContractMultiplier(231) is 5, that of earlier trades in IBM is 50" in result.detail
    assert list(book.positions()) == [(ANN, Position(2 * E8, 10_000 * E16, 0, 1))]
    assert book.apply(acme.bust("E1")._replace(multiplier_e8=5 * E8)).outcome is Outcome.APPLIED


def test_a_correction_may_be_the_first_to_say_the_multiplier(book: PartitionBook, acme: Counterparty) -> None:
    book.apply(acme.trade(2, 5_000, exec_id="E1"))
    book.apply(acme.trade(2, 5_000, trader="bob"))
    refused = book.apply(acme.correct("E9", 3, 5_000)._replace(multiplier_e8=5 * E8))
    assert (refused.outcome, book.multipliers()) == (Outcome.UNKNOWN_REFERENCE, {})
    said = book.apply(acme.correct("E1", 3, 5_000, trader="eve")._replace(multiplier_e8=50 * E8))
    assert said.changed == (ANN, ("eve", "IBM"), BOB)
    assert book.multipliers() == {"IBM": 50 * E8}


# --- trades and their duplicates ---------------------------------------------------------------------


def test_trades_move_the_position_of_their_trader_and_symbol(book: PartitionBook, acme: Counterparty) -> None:
    result = book.apply(acme.trade(100, 10))

    assert result == (Outcome.APPLIED, "", (ANN,))
    book.apply(acme.trade(-40, 12))
    book.apply(acme.trade(5, 3, symbol="AIG"))
    book.apply(acme.trade(-5, 3, trader=""))
    assert {
        ANN: Position(60 * E8, 600 * E16, 80 * E16, 2),
        ("ann", "AIG"): Position(5 * E8, 15 * E16, 0, 1),
        ("", "IBM"): Position(-5 * E8, -15 * E16, 0, 1),
    } == dict(book.positions())


def test_the_same_delivery_is_dropped(book: PartitionBook, acme: Counterparty) -> None:
    first, second = acme.trade(100, 10), acme.trade(1, 1)
    book.apply(first)
    book.apply(second)

    for row in (second, first):
        outcome, detail, changed = book.apply(row)
        assert (outcome, changed) == (Outcome.DUPLICATE_TRADE, ())
        assert detail == f"{row.exec_id} of {SESSION} was taken before"
    assert held(book) == (101, -1001, 2)


@pytest.mark.parametrize("changes", [{"msg_seq_num": 900}, {"epoch": 9}, {"epoch": 0}, {"redrive_of": "a letter"}])
def test_the_same_trade_is_dropped_under_whatever_number(
    book: PartitionBook, acme: Counterparty, changes: dict[str, object]
) -> None:
    row = acme.trade(100, 10)
    book.apply(row)

    assert book.apply(row._replace(**changes)).outcome is Outcome.DUPLICATE_TRADE  # type: ignore[arg-type]
    assert held(book) == (100, -1000, 1)


@pytest.mark.parametrize(("epoch", "number"), [(5, 7), (5, 1), (4, 9_000), (4, 1), (6, 1)])
def test_a_new_trade_counts_under_whatever_number(
    book: PartitionBook, acme: Counterparty, epoch: int, number: int
) -> None:
    """Late, of an epoch that is over, or under a number that another trade came under: nobody else will bring it."""
    acme.epoch, acme.msg_seq_num = 5, 6
    row = acme.trade(1, 10)
    book.apply(row)

    late = row._replace(exec_id="other", epoch=epoch, msg_seq_num=number)
    assert book.apply(late).outcome is Outcome.APPLIED
    assert held(book) == (2, -20, 2)


def test_sessions_number_and_name_their_trades_for_themselves(book: PartitionBook) -> None:
    book.apply(Counterparty("A->E").trade(1, 10))

    assert book.apply(Counterparty("B->E").trade(1, 10)).outcome is Outcome.APPLIED


def test_a_redriven_row_counts_once(book: PartitionBook, acme: Counterparty) -> None:
    late, later = acme.trade(1, 10), acme.trade(2, 10)
    book.apply(later)
    redriven = late._replace(redrive_of="dead-letter")

    assert [book.apply(redriven).outcome for _ in range(2)] == [Outcome.APPLIED, Outcome.DUPLICATE_TRADE]
    assert held(book) == (3, -30, 2)


# --- where memory ends -------------------------------------------------------------------------------


def test_a_trade_that_is_remembered_no_more_is_told_by_its_number(acme: Counterparty) -> None:
    """Resends reach back as far as they like; what is new comes above what has been forgotten."""
    book = PartitionBook(remember=2)
    rows = [acme.trade(1, 10) for _ in range(5)]
    for row in rows:
        book.apply(row)

    assert book.forgotten() == {SESSION: {1: 3}}
    outcomes = [book.apply(row).outcome for row in (*rows, *rows)]
    assert outcomes == [*[Outcome.DUPLICATE_DELIVERY] * 3, *[Outcome.DUPLICATE_TRADE] * 2] * 2
    outcome, detail, changed = book.apply(rows[0])
    assert (outcome, changed) == (Outcome.DUPLICATE_DELIVERY, ())
    assert "X1 of ACME->EOD is not among the last 2 trades" in detail
    assert "MsgSeqNum 1 of epoch 1 is not above 3" in detail
    assert held(book) == (5, -50, 5)


def test_a_trade_sent_anew_under_a_higher_number_is_still_told_by_that_one_when_it_is_forgotten(
    acme: Counterparty,
) -> None:
    book = PartitionBook(remember=3)
    row = acme.trade(1, 10)
    book.apply(row)
    book.apply(acme.trade(1, 10))
    anew = acme.again(row)
    book.apply(anew)
    for _ in range(2):
        book.apply(acme.trade(1, 10))

    assert book.forgotten() == {SESSION: {1: anew.msg_seq_num}}
    assert book.apply(anew).outcome is Outcome.DUPLICATE_DELIVERY
    assert held(book) == (4, -40, 4)


def test_what_is_forgotten_of_one_epoch_or_session_says_nothing_about_another(acme: Counterparty) -> None:
    book = PartitionBook(remember=1)
    acme.msg_seq_num = 1_000
    for _ in range(3):
        book.apply(acme.trade(1, 10))
    assert book.forgotten() == {SESSION: {1: 1_002}}

    row = acme.trade(1, 10)
    for number, changes in enumerate(({"epoch": 2}, {"epoch": 0}, {"session": "B->E"})):
        fresh = row._replace(msg_seq_num=1, exec_id=f"Y{number}", **changes)  # type: ignore[arg-type]
        assert book.apply(fresh).outcome is Outcome.APPLIED, changes
    assert book.apply(row._replace(msg_seq_num=1, exec_id="late")).outcome is Outcome.DUPLICATE_DELIVERY


def test_a_redriven_row_counts_even_if_what_came_behind_it_is_forgotten(acme: Counterparty) -> None:
    book = PartitionBook(remember=1)
    letter = acme.trade(5, 10, exec_id="mended")
    for _ in range(3):
        book.apply(acme.trade(1, 10))

    assert book.apply(letter).outcome is Outcome.DUPLICATE_DELIVERY
    assert book.apply(letter._replace(redrive_of="dead-letter")).outcome is Outcome.APPLIED


def test_a_bust_that_is_remembered_no_more_is_told_by_its_number_too(acme: Counterparty) -> None:
    """It would be a dead letter for nothing: the trade that it refers to is forgotten as well."""
    book = PartitionBook(remember=2)
    book.apply(acme.trade(1, 10, exec_id="T"))
    bust = acme.bust("T")
    book.apply(bust)
    for _ in range(2):
        book.apply(acme.trade(1, 10))

    assert book.apply(bust).outcome is Outcome.DUPLICATE_DELIVERY
    assert not Outcome.DUPLICATE_DELIVERY.refused


def test_of_many_epochs_the_last_are_kept(acme: Counterparty) -> None:
    book = PartitionBook(remember=1)
    for epoch in range(1, MAX_EPOCHS + 12):
        acme.epoch, acme.msg_seq_num = epoch, 0
        book.apply(acme.trade(1, 10))

    assert book.forgotten() == {SESSION: dict.fromkeys(range(11, MAX_EPOCHS + 11), 1)}


def test_the_oldest_trades_are_forgotten_first(acme: Counterparty) -> None:
    book = PartitionBook(remember=2)
    rows = [acme.trade(1, 10) for _ in range(3)]
    for row in rows:
        book.apply(row)

    assert [identity for identity, _ in book.remembered()] == [rows[1].identity, rows[2].identity]
    outcome, detail, _ = book.apply(acme.bust("X1"))
    assert outcome is Outcome.UNKNOWN_REFERENCE
    assert "last 2 trades" in detail
    assert book.apply(acme.bust("X2")).outcome is Outcome.APPLIED


def test_a_forgotten_original_leaves_its_correction_within_reach(acme: Counterparty) -> None:
    book = PartitionBook(remember=1)
    book.apply(acme.trade(10, 10, exec_id="T"))
    book.apply(acme.correct("T", 20, 10, exec_id="C"))

    assert book.apply(acme.bust("T")).outcome is Outcome.UNKNOWN_REFERENCE
    assert book.apply(acme.bust("C")).outcome is Outcome.APPLIED
    assert held(book) == (0, 0, 0)


def test_a_book_remembers_two_hundred_thousand_trades_unless_told_otherwise() -> None:
    assert REMEMBER == 200_000
    with pytest.raises(ValueError, match="at least 1"):
        PartitionBook(remember=0)


# --- busts and corrections ---------------------------------------------------------------------------


def test_a_bust_takes_the_trade_back_at_its_own_quantity_and_price(book: PartitionBook, acme: Counterparty) -> None:
    book.apply(acme.trade(100, 10, exec_id="T"))
    book.apply(acme.trade(-40, 12))

    result = book.apply(acme.bust("T"))

    assert result == (Outcome.APPLIED, "", (ANN,))
    assert held(book) == (-40, 480, 1)


def test_a_trade_is_busted_once(book: PartitionBook, acme: Counterparty) -> None:
    book.apply(acme.trade(100, 10, exec_id="T"))
    bust = acme.bust("T", exec_id="B")
    book.apply(bust)

    assert book.apply(acme.again(bust)).outcome is Outcome.DUPLICATE_TRADE
    for row in (acme.bust("T"), acme.correct("T", 1, 1), acme.bust("B")):
        outcome, detail, changed = book.apply(row)
        assert (outcome, changed) == (Outcome.ALREADY_BUSTED, ())
        assert f"refers to {row.exec_ref_id} in ExecRefID(19), which does not stand" in detail
    assert held(book) == (0, 0, 0)


def test_a_correction_replaces_the_trade(book: PartitionBook, acme: Counterparty) -> None:
    book.apply(acme.trade(100, 10, exec_id="T"))
    correction = acme.correct("T", -50, 11)

    assert book.apply(correction) == (Outcome.APPLIED, "", (ANN,))

    assert held(book) == (-50, 550, 1)
    assert book.apply(acme.again(correction)).outcome is Outcome.DUPLICATE_TRADE


def test_a_correction_may_move_the_trade_to_another_trader(book: PartitionBook, acme: Counterparty) -> None:
    book.apply(acme.trade(100, 10, exec_id="T"))

    assert book.apply(acme.correct("T", 100, 10, trader="bob")) == (Outcome.APPLIED, "", (ANN, BOB))

    assert held(book) == (0, 0, 0)
    assert held(book, "bob") == (100, -1000, 1)


@pytest.mark.parametrize("named", ["T", "C1", "C2"])
def test_a_bust_may_name_any_trade_of_a_chain_of_corrections(
    book: PartitionBook, acme: Counterparty, named: str
) -> None:
    book.apply(acme.trade(100, 10, exec_id="T"))
    book.apply(acme.correct("T", 90, 10, trader="bob", exec_id="C1"))
    book.apply(acme.correct("T", 80, 10, exec_id="C2"))
    assert [held(book), held(book, "bob")] == [(80, -800, 1), (0, 0, 0)]

    assert book.apply(acme.bust(named)) == (Outcome.APPLIED, "", (ANN,))

    assert [held(book), held(book, "bob")] == [(0, 0, 0), (0, 0, 0)]
    for other in ("T", "C1", "C2"):
        assert book.apply(acme.bust(other)).outcome is Outcome.ALREADY_BUSTED


@pytest.mark.parametrize("ref", ["unheard of", ""])
def test_an_unknown_reference_is_refused_until_its_trade_comes(
    book: PartitionBook, acme: Counterparty, ref: str
) -> None:
    bust = acme.bust(ref)

    outcome, detail, changed = book.apply(bust)

    assert (outcome, changed) == (Outcome.UNKNOWN_REFERENCE, ())
    assert f"refers to {ref or 'nothing'} in ExecRefID(19)" in detail
    assert f"Its instrument is {bust.symbol}: that of the trade it refers to must be said in the same words" in detail
    assert book.apply(bust).outcome is Outcome.UNKNOWN_REFERENCE
    book.apply(acme.trade(100, 10, exec_id="unheard of"))
    expected = [Outcome.APPLIED, Outcome.DUPLICATE_TRADE] if ref else [Outcome.UNKNOWN_REFERENCE] * 2
    assert [book.apply(row).outcome for row in (bust, bust._replace(redrive_of="dead-letter"))] == expected


def test_what_is_said_of_a_captured_trade_names_the_fields_of_its_report(
    book: PartitionBook, acme: Counterparty
) -> None:
    unknown = book.apply(acme.bust("AE:T1:B", exec_id="AE:T2:B"))
    assert "refers to AE:T1:B in TradeReportRefID(572)" in unknown.detail
    itself = book.apply(acme.bust("AE:T3:B", exec_id="AE:T3:B"))
    assert "it names itself in TradeReportRefID(572), but needs a TradeReportID(571) of its own" in itself.detail


def test_another_session_cannot_take_a_trade_back(book: PartitionBook, acme: Counterparty) -> None:
    book.apply(acme.trade(100, 10, exec_id="T"))

    assert book.apply(Counterparty("B->E").bust("T", exec_id="B")).outcome is Outcome.UNKNOWN_REFERENCE


def test_rows_that_contradict_themselves_are_refused(book: PartitionBook, acme: Counterparty) -> None:
    """None of them may count as a sale, as a trade, or as a change of another symbol's position."""
    book.apply(acme.trade(100, 10, exec_id="T"))
    for row, why in (
        (acme.trade(1, 1)._replace(side=0), "Side(54) 0 is neither buy nor sell"),
        (acme.correct("T", 1, 1)._replace(side=0), "Side(54) 0 is neither buy nor sell"),
        (acme.trade(1, 1)._replace(action=0), "action 0 is neither"),
        (acme.correct("T", 1, 1, symbol="AIG"), "its Symbol(55) is AIG, that of the trade it refers to is IBM"),
        (acme.bust("T", symbol="AIG"), "its Symbol(55) is AIG"),
        (acme.bust("T", exec_id="T"), "names itself in ExecRefID(19)"),
        (acme.correct("T", 1, 1, exec_id="T"), "names itself in ExecRefID(19)"),
    ):
        outcome, detail, changed = book.apply(row)
        assert (outcome, changed) == (Outcome.INVALID, ())
        assert f"{row.exec_id} of {SESSION}: " in detail
        assert why in detail
        assert book.apply(row).outcome is Outcome.INVALID, "it is refused as often as it comes"
    assert facts(book) == {ANN: (100 * E8, -1000 * E16, 1)}
    assert book.apply(acme.bust("T")).outcome is Outcome.APPLIED


def test_what_is_refused_belongs_with_the_dead_letters_and_duplicates_do_not() -> None:
    assert {Outcome.UNKNOWN_REFERENCE, Outcome.ALREADY_BUSTED, Outcome.INVALID} == {o for o in Outcome if o.refused}


# --- prices ------------------------------------------------------------------------------------------


def test_a_price_concerns_everybody_who_has_a_position_in_its_symbol(book: PartitionBook, acme: Counterparty) -> None:
    for row in (acme.trade(1, 1), acme.trade(1, 1, symbol="AIG"), acme.trade(1, 1, trader="bob"), acme.trade(-1, 1)):
        book.apply(row)
    mark = Mark(PRICE_SOURCE_MID, 10 * E8, 1, 20260102)

    assert (ANN, BOB) == book.apply_price("IBM", mark) == book.holders("IBM")
    assert {"IBM": mark} == book.marks()
    assert mark is book.mark("IBM")


def test_who_comes_to_a_symbol_is_added_to_its_holders(book: PartitionBook, acme: Counterparty) -> None:
    """Those before are not gone through again, or N traders of one symbol would take N*N steps."""
    book.apply(acme.trade(1, 1))
    holders = book._holders["IBM"]
    book.apply(acme.trade(1, 1, trader="bob"))

    assert holders is book._holders["IBM"]
    assert tuple(holders) == (ANN, BOB)


def test_every_price_that_is_chosen_concerns_them(book: PartitionBook, acme: Counterparty) -> None:
    book.apply(acme.trade(1, 1))

    for source, price, at in (
        (PRICE_SOURCE_MID, 10, 1),
        (PRICE_SOURCE_MID, 11, 2),
        (PRICE_SOURCE_LAST_TRADE, 11, 2),
        (PRICE_SOURCE_OFFICIAL_CLOSE, 12, 1),
    ):
        assert book.apply_price("IBM", Mark(source, price * E8, at, 20260102)) == (ANN,)


def test_a_price_that_changes_no_value_concerns_nobody(book: PartitionBook, acme: Counterparty) -> None:
    book.apply(acme.trade(1, 1))
    book.apply_price("IBM", Mark(PRICE_SOURCE_LAST_TRADE, 10 * E8, 5, 20260102))
    confirmed = Mark(PRICE_SOURCE_LAST_TRADE, 10 * E8, 6, 20260102)

    assert book.apply_price("IBM", Mark(PRICE_SOURCE_MID, 11 * E8, 9, 20260102)) == ()
    assert book.apply_price("IBM", confirmed) == ()
    assert confirmed == book.mark("IBM")
    assert book.apply_price("AIG", confirmed) == ()
    assert book.apply_price("IBM", Mark(PRICE_SOURCE_OFFICIAL_CLOSE, 10 * E8, 7, 20260102)) == (ANN,)


# --- days ----------------------------------------------------------------------------------------------------


def test_the_same_exec_id_on_two_days_is_two_trades(acme: Counterparty) -> None:
    """FIX asks for unique ExecIDs within a trading day only."""
    book = PartitionBook()
    wednesday = acme.trade(100, 10, exec_id="1001")
    acme.next_day()
    friday = acme.trade(40, 11, exec_id="1001")
    assert [book.apply(row).outcome for row in (wednesday, friday, wednesday, friday)] == [
        *[Outcome.APPLIED] * 2,
        *[Outcome.DUPLICATE_TRADE] * 2,
    ]
    position = book.position("ann", "IBM")
    assert position is not None
    assert (position.quantity_e8, position.trades) == (140 * E8, 2)


@pytest.mark.parametrize(("days_later", "left"), [(0, 100), (1, 100), (2, 100), (-1, 40), (-2, 100)])
def test_a_bust_means_the_trade_of_its_day_or_else_the_latest(acme: Counterparty, days_later: int, left: int) -> None:
    book = PartitionBook()
    book.apply(acme.trade(100, 10, exec_id="1001"))
    acme.next_day()
    book.apply(acme.trade(40, 11, exec_id="1001"))
    acme.trade_date += days_later
    assert book.apply(acme.bust("1001", exec_id="B")).outcome is Outcome.APPLIED
    position = book.position("ann", "IBM")
    assert position is not None
    assert position.quantity_e8 == left * E8


def test_a_correction_that_came_the_day_after_is_what_stands_for_its_trade(acme: Counterparty) -> None:
    """By either name, and also when the correction's ExecID was a trade's the day before."""
    book = PartitionBook()
    book.apply(acme.trade(100, 10, exec_id="1"))
    book.apply(acme.trade(7, 10, exec_id="2"))
    acme.next_day()
    book.apply(acme.correct("1", 60, 10, exec_id="2"))
    restored, _ = load(dump(book, 0, {}))
    for each in (book, restored):
        assert each.apply(acme.bust("1", exec_id=f"B{id(each)}")).outcome is Outcome.APPLIED
        position = each.position("ann", "IBM")
        assert position is not None
        assert position.quantity_e8 == 7 * E8
        assert each.apply(acme.bust("2", exec_id=f"C{id(each)}")).outcome is Outcome.ALREADY_BUSTED


# --- as if the old trade had never been ------------------------------------------------------------------------


def shown(book: PartitionBook, trader: str = "ann") -> tuple[float, float, float, int, bool]:
    """(quantity, average price, realized, trades that stand, approximate)."""
    position = book.position(trader, "IBM")
    assert position is not None
    average = position.average_price_e8 or 0
    return (
        position.quantity_e8 / E8, average / E8, position.realized_e16 / E16, position.trades, position.approximate
    )  # fmt: skip


def test_a_correction_stands_in_the_place_of_what_it_corrects(acme: Counterparty) -> None:
    """Average and realized P&L are those of a book that never saw the old trade."""
    book = PartitionBook()
    for row in (acme.trade(100, 10, exec_id="E1"), acme.trade(100, 20), acme.trade(-50, 18)):
        book.apply(row)
    assert shown(book) == (150, 15, 150, 3, False)
    book.apply(acme.correct("E1", 100, 12, exec_id="C1"))
    assert shown(book) == (150, 16, 100, 3, False)
    book.apply(acme.correct("C1", 100, 20, exec_id="C2"))
    assert shown(book) == (150, 20, -100, 3, False)
    book.apply(acme.bust("E1"))
    assert shown(book) == (50, 20, -100, 2, False)


def test_a_bust_leaves_nothing_of_its_trade(acme: Counterparty) -> None:
    book = PartitionBook()
    for row in (acme.trade(100, 10, exec_id="E1"), acme.trade(-100, 15), acme.trade(100, 20)):
        book.apply(row)
    assert shown(book) == (100, 20, 500, 3, False)
    book.apply(acme.bust("E1"))
    assert shown(book) == (0, 0, -500, 2, False)


def test_what_moves_to_another_trader_is_booked_there_as_if_it_came_now(acme: Counterparty) -> None:
    book = PartitionBook()
    for row in (
        acme.trade(100, 10, exec_id="E1"), acme.trade(-50, 12), acme.trade(10, 30, trader="bob"),
        acme.trade(-10, 40, trader="bob"),
    ):  # fmt: skip
        book.apply(row)
    book.apply(acme.correct("E1", 100, 10, trader="bob", exec_id="C1"))
    assert shown(book) == (-50, 12, 0, 1, False)
    assert shown(book, "bob") == (100, 10, 100, 3, False)
    book.apply(acme.correct("E1", 100, 10, exec_id="C2"))
    assert shown(book) == (50, 10, 100, 2, False)
    assert shown(book, "bob") == (0, 0, 100, 2, False)


@pytest.mark.parametrize("again", [False, True])
def test_a_position_of_which_a_trade_is_forgotten_says_that_it_is_approximate(
    acme: Counterparty,
    again: bool,  # noqa: FBT001
) -> None:
    """Quantity and cash are exact all the same; and a position that never lost one is exact in the same book."""
    book = PartitionBook(remember=3)
    for row in (acme.trade(10, 5), acme.trade(100, 10, exec_id="E1"), acme.trade(-50, 18), acme.trade(7, 8)):
        book.apply(row)
    if again:
        book, _ = load(dump(book, 0, {}), 3)
    book.apply(acme.bust("E1"))
    quantity, _, _, trades, approximate = shown(book)
    assert (quantity, trades, approximate) == (-33, 3, True)
    assert held(book)[1] == -10 * 5 + 50 * 18 - 7 * 8
    book, _ = load(dump(book, 0, {}), 3)
    assert shown(book)[4]
    position = book.position("ann", "IBM")
    assert position is not None
    assert b',"approximate":true}' in position_field(position, None)
    assert read_position(position_field(position, None)).approximate
    book.apply(acme.trade(5, 1, trader="bob", exec_id="B1"))
    book.apply(acme.bust("B1"))
    assert shown(book, "bob") == (0, 0, 0, 0, False)


def test_a_busted_trade_that_is_forgotten_costs_no_exactness(acme: Counterparty) -> None:
    book = PartitionBook(remember=3)
    book.apply(acme.trade(10, 5, exec_id="E1"))
    book.apply(acme.bust("E1"))
    for row in (acme.trade(10, 5, exec_id="E2"), acme.trade(-4, 7), acme.bust("E2")):
        book.apply(row)
    assert shown(book) == (-4, 7, 0, 1, False)
