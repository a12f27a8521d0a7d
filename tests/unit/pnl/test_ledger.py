"""The contract of a ledger, held by both: the one in Python, and the one in C where it is built."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from eod_workers.layouts import UndecodableBatch
from eod_workers.pnl.book import Outcome
from eod_workers.pnl.ledger import Ledger, Value
from eod_workers.pnl.marks import Mark
from eod_workers.pnl.positions import Position
from eod_workers.pnl.publishing import RECEIPTS, position_field
from eod_workers.pnl.snapshot import ReadTo, SnapshotRefused
from eod_workers.protos.prices_pb2 import (
    PRICE_SOURCE_LAST_TRADE,
    PRICE_SOURCE_MID,
    PRICE_SOURCE_OFFICIAL_CLOSE,
)
from eod_workers.protos.storage_pb2 import PnlSnapshot
from eod_workers.protos.trades_pb2 import TradeBatch
from eod_workers.trades.codec import decode_trades, encode_trades
from eod_workers.trades.model import SIDE_BUY, SIDE_SELL, Trade
from eod_workers.trades.prices import Price, encode_prices
from hypothesis import given
from support.ledgers import PARTITIONS, due, home, kinds, price, snapshot_facts, told, trade
from support.pnl_executions import E8, E16, SESSION, Counterparty, histories

Make = Callable[..., Ledger]
OTHER = next(symbol for symbol in ("AIG", "MSFT", "T", "GE") if home(symbol) != home("IBM"))


@pytest.fixture(params=sorted(kinds()))
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a ledger of one kind, with all partitions open."""

    def made(interval_s: float = 0.5, remember: int = 1_000) -> Ledger:
        ledger = kinds()[request.param](interval_s, remember)
        for partition in range(PARTITIONS):
            assert ledger.open(partition, None, 0.0) == {}
        return ledger

    return made


def field(position: Position, mark: Mark | None = None) -> bytes:
    return position_field(position, mark)


# --- rows -------------------------------------------------------------------------------------------------------


def test_trades_move_positions_and_repeats_do_not(make: Make) -> None:
    ledger, acme = make(), Counterparty()
    rows = [acme.trade(3, 10), acme.trade(-1, 12), acme.trade(5, 1, trader="bob")]

    assert trade(ledger, *rows) == (3, 0, [])
    assert trade(ledger, rows[0], acme.again(rows[1])) == (2, 2, [])
    assert list(ledger.positions(home("IBM"))) == [
        (("ann", "IBM"), Position(2 * E8, 20 * E16, 2 * E16, 2)),
        (("bob", "IBM"), Position(5 * E8, 5 * E16, 0, 1)),
    ]
    assert ledger.size == 2
    assert ledger.remembers(home("IBM")) == 3


def test_busts_and_corrections_reverse_what_stands(make: Make) -> None:
    ledger, acme = make(), Counterparty()
    first, second = acme.trade(3, 10), acme.trade(2, 20)
    corrected = acme.correct(first.exec_id, 4, 11, trader="bob")
    again = acme.correct(first.exec_id, 1, 1, trader="bob")

    assert trade(ledger, first, second, corrected, acme.bust(second.exec_id), again).refused == []
    positions = dict(ledger.positions(home("IBM")))
    assert positions["ann", "IBM"].quantity_e8 == 0
    assert positions["bob", "IBM"].quantity_e8 == E8
    assert [positions["ann", "IBM"].trades, positions["bob", "IBM"].trades] == [0, 1]


def fan(acme: Counterparty, count: int) -> list[Trade]:
    """Corrections that all name the original."""
    first = acme.trade(3, 10)
    return [first, *(acme.correct(first.exec_id, 1 + n % 7, 10) for n in range(count))]


def to_and_fro(acme: Counterparty, count: int) -> list[Trade]:
    """The same, to one trader and to another."""
    first = acme.trade(3, 10)
    traders = ("bob", "ann")
    return [first, *(acme.correct(first.exec_id, 1 + n % 7, 10, trader=traders[n % 2]) for n in range(count))]


def chain(acme: Counterparty, count: int) -> list[Trade]:
    """Corrections of corrections."""
    rows = [acme.trade(3, 10)]
    for n in range(count):
        rows.append(acme.correct(rows[-1].exec_id, 1 + n % 7, 10))
    return rows


def any_of(acme: Counterparty, count: int) -> list[Trade]:
    """Corrections that name any of those before them."""
    rows, random = [acme.trade(3, 10)], Random(20260102)
    for n in range(count):
        rows.append(acme.correct(random.choice(rows).exec_id, 1 + n % 7, 10))
    return rows


def busts(acme: Counterparty, count: int) -> list[Trade]:
    """Half of the rows take the others back, the oldest first; one is left."""
    rows = [acme.trade(1, 10) for _ in range(count // 2)]
    return [*rows, *(acme.bust(row.exec_id) for row in rows[:-1])]


def busts_at_once(acme: Counterparty, count: int) -> list[Trade]:
    """Each trade but the last is taken back before the next."""
    rows: list[Trade] = []
    for _ in range(count // 2):
        rows.append(acme.trade(1, 10))
        rows.append(acme.bust(rows[-1].exec_id))
    return [*rows, acme.trade(1, 10)]


@pytest.mark.parametrize("rows", [fan, to_and_fro, chain, any_of, busts, busts_at_once])
@pytest.mark.parametrize("batch", [1, 250])
@pytest.mark.parametrize("remember", [100, 100_000], ids=["most are forgotten", "all are remembered"])
def test_corrections_and_busts_cost_what_they_are_many(
    make: Make, rows: Callable[[Counterparty, int], list[Trade]], batch: int, remember: int
) -> None:
    """Not their square: of a trade that was corrected a thousand times the last is found in a few steps."""
    ledger, history = make(remember=remember), rows(Counterparty(), 3_000)
    for start in range(0, len(history), batch):
        trade(ledger, *history[start : start + batch])
    if remember > len(history):
        assert sum(position.trades for _, position in ledger.positions(home("IBM"))) == 1
        assert ledger.walked(home("IBM")) > 0
    assert ledger.value(home("IBM"), "IBM").positions >= 1
    assert ledger.walked(home("IBM")) < 12 * len(history)


def test_marks_that_come_with_every_batch_are_told_once_an_interval(make: Make) -> None:
    """A mark changes the positions of all who hold the symbol; who waits to be told already does not wait twice."""
    ledger, acme, traders = make(interval_s=0.5), Counterparty(), [f"T{n}" for n in range(200)]
    for n, trader in enumerate(traders):
        trade(ledger, acme.trade(1, 10, trader=trader), now=1.0)
        price(ledger, Price("IBM", PRICE_SOURCE_MID, 10 * E8 + n, n, 20260102), now=1.0)
    assert sorted(publication.trader for publication in due(ledger, 1.0)) == sorted(traders)
    price(ledger, Price("IBM", PRICE_SOURCE_MID, 9 * E8, 1_000, 20260102), now=1.1)
    assert due(ledger, 1.4) == []
    assert len(due(ledger, 1.5)) == len(traders)
    assert due(ledger, 9.0) == []


@pytest.mark.parametrize("remember", [1, 2, 5, 1_000])
@given(rows=histories())
def test_looking_at_positions_changes_nothing(remember: int, rows: list[Trade]) -> None:
    """What busts and corrections have changed is made anew when somebody looks, and is what it would have been."""
    for kind in kinds().values():
        looked_at, left_alone = kind(0.5, remember), kind(0.5, remember)
        for ledger in (looked_at, left_alone):
            for partition in range(PARTITIONS):
                ledger.open(partition, None, 0.0)
        for number, row in enumerate(row for row in rows if row.side):  # no record holds the others
            assert trade(looked_at, row, now=number) == trade(left_alone, row, now=number)
            list(looked_at.positions(home(row.symbol)))
        for partition in range(PARTITIONS):
            for symbol in ("IBM", "AIG"):
                assert looked_at.value(partition, symbol) == left_alone.value(partition, symbol)
            assert snapshot_facts(looked_at.dump(partition, {})) == snapshot_facts(left_alone.dump(partition, {}))


def test_what_is_published_is_made_anew_first(make: Make) -> None:
    ledger, acme = make(), Counterparty()
    first, second = acme.trade(3, 10), acme.trade(-1, 20)
    trade(ledger, first, second)
    trade(ledger, acme.correct(first.exec_id, 5, 12))
    (publication,) = due(ledger, 9.0)
    assert publication.parts[0].fields == {"IBM": field(Position(4 * E8, 48 * E16, 8 * E16, 2))}


def test_what_is_refused_comes_back_whole_with_the_reason(make: Make) -> None:
    ledger, acme = make(remember=4), Counterparty()
    kept = acme.trade(1, 1)
    other = acme.trade(1, 1, symbol=OTHER)
    unknown = acme.bust("never seen")._replace(frame=b"8=FIX", account="A1", strategy="alpha")
    itself = acme.bust("me", exec_id="me")
    gone = acme.bust(kept.exec_id)
    twice = acme.bust(kept.exec_id)
    elsewhere = acme.correct(kept.exec_id, 1, 1)._replace(symbol=OTHER)
    ledger.apply_trades(home("IBM"), encode_trades([kept, other._replace(symbol="IBM")]), 0.0)
    itself, elsewhere, twice = (row._replace(frame=b"9=%d" % n) for n, row in enumerate((itself, elsewhere, twice)))

    rows, duplicates, refused = trade(ledger, unknown, itself, elsewhere, gone, twice)

    assert (rows, duplicates) == (5, 0)
    assert [(row, result.outcome) for row, result in refused] == [
        (unknown, Outcome.UNKNOWN_REFERENCE),
        (itself, Outcome.INVALID),
        (elsewhere, Outcome.INVALID),
        (twice, Outcome.ALREADY_BUSTED),
    ]
    assert [result.changed for _, result in refused] == [()] * 4
    assert "never seen in ExecRefID(19), which is not among the last 4 trades" in refused[0][1].detail
    assert "that of the trade it refers to is IBM" in refused[2][1].detail


def test_memory_ends_and_the_numbers_tell_what_lies_behind(make: Make) -> None:
    ledger, acme = make(remember=2), Counterparty()
    rows = [acme.trade(1, 1) for _ in range(5)]
    trade(ledger, *rows)

    assert ledger.remembers(home("IBM")) == 2
    assert trade(ledger, *rows).duplicates == 5
    assert trade(ledger, *[row._replace(redrive_of="letter") for row in rows[:1]]).duplicates == 0
    assert trade(ledger, rows[1]._replace(epoch=2)).duplicates == 0


def test_a_row_without_number_in_an_epoch_nobody_knows_is_taken_for_a_repeat(make: Make) -> None:
    """It is not above what the session has forgotten, which is nothing."""
    ledger, acme = make(remember=1), Counterparty()
    trade(ledger, acme.trade(1, 1), acme.trade(1, 1))
    assert trade(ledger, acme.trade(1, 1)._replace(epoch=9, msg_seq_num=0)).duplicates == 1


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda value: value[:-1],
    "empty": lambda _: b"",
    "garbage": lambda _: b"\xff" * 40,
    "version 2": lambda value: value + b"\x08\x02",
    "a session more than rows": lambda value: value + b"\x18\x00",
    "an ExecID more": lambda value: value + b"\x32\x01X",
    "other frames": lambda value: value + b"\x92\x01\x01X",
    "no UTF-8": lambda value: value + b"\xa2\x01\x01\xff",
    "wire type 7": lambda value: value + b"\x07",
    "the end of no group": lambda value: value + b"\x0c",
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_batch_that_does_not_decode_changes_nothing(make: Make, how: str) -> None:
    ledger, acme = make(), Counterparty()
    value = SPOILT[how](encode_trades([acme.trade(1, 1), acme.trade(2, 2)]))

    with pytest.raises(UndecodableBatch) as pure:
        decode_trades(value)
    with pytest.raises(UndecodableBatch) as ours:
        ledger.apply_trades(0, value, 0.0)
    assert str(pure.value) == str(ours.value)
    assert ledger.size == ledger.remembers(0) == 0
    assert ledger.next_due() is None


@pytest.mark.parametrize(
    ("name", "column"), [("action", [1, 4]), ("side", [0, 1]), ("trader", [0, 99]), ("strategy", [99, 0])]
)
def test_numbers_outside_the_schema_are_undecodable(make: Make, name: str, column: list[int]) -> None:
    ledger, acme = make(), Counterparty()
    batch = TradeBatch.FromString(encode_trades([acme.trade(1, 1), acme.trade(2, 2)]))
    getattr(batch, name)[:] = column
    with pytest.raises(UndecodableBatch):
        ledger.apply_trades(0, batch.SerializeToString(), 0.0)
    assert ledger.size == 0


def test_a_quantity_without_an_opposite_is_undecodable(make: Make) -> None:
    """Sold, it would have 65 bits, and no snapshot could hold it."""
    ledger = make()
    for side in (SIDE_BUY, SIDE_SELL):
        row = Counterparty().trade(1, 1)._replace(last_qty_e8=-(2**63), side=side)
        with pytest.raises(UndecodableBatch, match="cannot be sold"):
            trade(ledger, row)


def test_an_unknown_partition_is_an_error_of_the_caller(make: Make) -> None:
    ledger = make()
    for call in (
        lambda: ledger.apply_trades(99, b"", 0.0),
        lambda: ledger.apply_prices(99, b"", 0.0),
        lambda: ledger.dump(99, {}),
        lambda: ledger.remembers(99),
    ):
        with pytest.raises(KeyError):
            call()
    assert not ledger.owns(99)
    ledger.close(99)


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_a_ledger_that_remembers_nothing_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="at least 1 trade, not 0"):
        kinds()[kind](0.1, 0)


# --- prices -----------------------------------------------------------------------------------------------------


def test_the_better_mark_values_every_position_of_its_symbol(make: Make) -> None:
    ledger, acme = make(), Counterparty()
    trade(ledger, acme.trade(2, 10), acme.trade(-1, 10, trader="bob"))
    due(ledger, 0.0)
    close = Price("IBM", PRICE_SOURCE_OFFICIAL_CLOSE, 11 * E8, 5, 20260102)

    price(ledger, close, Price("IBM", PRICE_SOURCE_MID, 99 * E8, 6, 20260102), now=1.0)

    mark = Mark(*close[1:])
    assert ledger.mark(home("IBM"), "IBM") == mark
    assert told(due(ledger, 1.0)) == {
        "ann": ({home("IBM"): {"IBM": field(Position(2 * E8, 20 * E16, 0, 1), mark)}}, []),
        "bob": ({home("IBM"): {"IBM": field(Position(-E8, -10 * E16, 0, 1), mark)}}, []),
    }
    price(ledger, close._replace(event_time_ns=9), now=2.0)
    assert ledger.next_due() is None, "a later price of the same amount tells nobody anything"
    price(ledger, Price("IBM", PRICE_SOURCE_LAST_TRADE, 11 * E8, 1, 20260103), now=2.0)
    assert ledger.next_due() == 2.0, "but its source is told, and a new session starts over"


def test_a_price_comes_before_the_first_trade(make: Make) -> None:
    ledger = make()
    price(ledger, Price("IBM", PRICE_SOURCE_MID, 5 * E8, 1, 20260102))
    assert ledger.next_due() is None
    trade(ledger, Counterparty().trade(1, 4))
    fields = told(due(ledger, 0.0))["ann"][0][home("IBM")]
    assert b'"mark":"5","mark_source":"mid"' in fields["IBM"]
    assert ledger.mark(home("IBM"), "never seen") is None
    assert ledger.mark(home(OTHER), OTHER) is None


@pytest.mark.parametrize("more", [b"\x20\x05", b"\x18\x09", b"\x07"])
def test_prices_that_do_not_decode_change_nothing(make: Make, more: bytes) -> None:
    ledger = make()
    value = encode_prices([Price("IBM", PRICE_SOURCE_MID, 5 * E8, 1, 20260102)])
    for spoilt in (value + more, value[:-1], b""):
        with pytest.raises(UndecodableBatch):
            ledger.apply_prices(0, spoilt, 0.0)
    assert ledger.mark(0, "IBM") is None


def test_what_a_symbol_comes_to(make: Make) -> None:
    ledger, acme = make(), Counterparty()
    trade(
        ledger, acme.trade(3, 10), acme.trade(-1, 12), acme.trade(-5, 20, trader="bob"), acme.trade(0, 1, trader="cy")
    )
    value = ledger.value(home("IBM"), "IBM")
    assert value == Value(3, 2 * E8, -5 * E8, 20 * E16 - 100 * E16, 2 * E16)
    assert value.unrealized_e16(15 * E8) == -45 * E16 + 80 * E16
    assert ledger.value(0, "never seen") == (0, 0, 0, 0, 0)


# --- turns ------------------------------------------------------------------------------------------------------


def test_a_trader_is_told_once_an_interval_over_all_partitions_and_always_after_the_last_change(make: Make) -> None:
    ledger, acme = make(), Counterparty()
    trade(ledger, acme.trade(1, 1)._replace(received_at_ns=1), now=10.0)
    assert ledger.next_due() == 10.0
    assert list(told(due(ledger, 10.0))) == ["ann"]
    trade(ledger, acme.trade(1, 1)._replace(received_at_ns=2), now=10.1)
    trade(ledger, acme.trade(1, 1, symbol=OTHER)._replace(received_at_ns=3), now=10.2)

    assert due(ledger, 10.4) == []
    assert ledger.next_due() == 10.5
    parts, received = told(due(ledger, 10.5))["ann"]
    assert {home("IBM"): {"IBM"}, home(OTHER): {OTHER}} == {number: set(fields) for number, fields in parts.items()}
    assert received == [2, 3]
    assert ledger.next_due() is None


def test_longest_due_first_and_not_more_than_the_limit(make: Make) -> None:
    ledger, acme = make(), Counterparty()
    for number in range(20):
        trade(ledger, acme.trade(1, 1, trader=f"t{number}"), now=20.0 - number)
    assert due(ledger, 99.0, limit=0) == []
    order = [publication.trader for publication in due(ledger, 99.0, limit=7)]
    assert order == [f"t{number}" for number in range(19, 12, -1)]
    assert [publication.trader for publication in due(ledger, 99.0)] == [f"t{number}" for number in range(12, -1, -1)]


def test_the_limit_is_in_positions_and_never_parts_a_trader(make: Make) -> None:
    ledger, acme = make(), Counterparty()
    for number, trader in enumerate(("ann", "bob", "cy", "dan")):
        for symbol in ("IBM", OTHER, "X"):
            trade(ledger, acme.trade(1, 1, trader=trader, symbol=symbol), now=float(number))
    ledger.close(home("IBM"))
    ledger.close(home(OTHER))
    ledger.open(home("IBM"), None, 9.0)
    ledger.open(home(OTHER), None, 9.0)
    trade(ledger, acme.trade(1, 1, trader="cy"), acme.trade(1, 1, trader="dan"), now=9.0)
    assert [publication.trader for publication in due(ledger, 99.0, limit=3)] == ["ann", "bob", "cy"]
    assert [publication.trader for publication in due(ledger, 99.0)] == ["dan"]


def test_whoever_is_told_before_the_time_is_told_again_later(make: Make) -> None:
    ledger, acme = make(), Counterparty()
    trade(ledger, acme.trade(1, 1), now=10.0)
    due(ledger, 10.0)
    trade(ledger, acme.trade(1, 1), now=10.1)
    assert list(told(due(ledger, float("inf")))) == ["ann"]
    trade(ledger, acme.trade(1, 1), now=10.2)
    assert ledger.next_due() == 11.0


def test_receive_times_are_kept_up_to_a_limit(make: Make) -> None:
    ledger, acme = make(remember=10_000), Counterparty()
    trade(ledger, *[acme.trade(1, 1)._replace(received_at_ns=n) for n in range(RECEIPTS + 10)])
    assert told(due(ledger, 0.0))["ann"][1] == list(range(RECEIPTS))
    trade(ledger, acme.trade(1, 1)._replace(received_at_ns=-5))
    assert told(due(ledger, 1.0))["ann"][1] == [-5]


def test_what_could_not_be_told_is_told_an_interval_later_with_its_earliest_receipt(make: Make) -> None:
    ledger, acme = make(), Counterparty()
    trade(ledger, *[acme.trade(1, 1)._replace(received_at_ns=n) for n in (9, 4, 6)])
    failed = due(ledger, 0.0)
    trade(ledger, acme.trade(1, 1, symbol=OTHER)._replace(received_at_ns=8), now=0.1)

    ledger.announce_again(failed, 0.2)

    assert ledger.next_due() == 0.5
    parts, received = told(due(ledger, 0.5))["ann"]
    assert {symbol for fields in parts.values() for symbol in fields} == {"IBM", OTHER}
    assert received == [8, 4]


def test_a_trader_whom_this_ledger_does_not_know_has_nothing_to_be_told(make: Make) -> None:
    other, ledger = make(), make()
    trade(other, Counterparty().trade(1, 1))
    ledger.announce_again(due(other, 0.0), 1.0)
    assert told(due(ledger, 99.0)) == {"ann": ({}, [Counterparty().trade(1, 1).received_at_ns])}


def test_nothing_of_a_partition_that_is_given_up_is_told(make: Make) -> None:
    ledger, acme = make(), Counterparty()
    trade(ledger, acme.trade(1, 1))
    trade(ledger, acme.trade(1, 1, symbol=OTHER), acme.trade(1, 1, trader="bob", symbol=OTHER))
    failed = due(ledger, 0.0)
    ledger.announce_again(failed, 1.0)
    ledger.close(home(OTHER))

    publications = told(due(ledger, 1.0))

    assert list(publications["ann"][0]) == [home("IBM")]
    assert publications["bob"][0] == {}
    assert ledger.size == 1
    ledger.announce_again(failed, 2.0)
    assert {trader: list(parts) for trader, (parts, _) in told(due(ledger, 2.0)).items()} == {
        "ann": [home("IBM")],
        "bob": [],
    }


def test_a_partition_that_comes_back_tells_everything_again(make: Make) -> None:
    ledger, acme = make(), Counterparty()
    trade(ledger, acme.trade(1, 1), acme.trade(2, 2, trader=""))
    due(ledger, 0.0)
    read = {"trades.raw": ReadTo(5), "prices.updates": ReadTo(2, "an id", 1)}
    data = ledger.dump(home("IBM"), read)
    ledger.close(home("IBM"))

    assert ledger.open(home("IBM"), data, 3.0) == read
    assert set(told(due(ledger, 3.0))) == {"ann", ""}


def test_the_partition_of_a_symbol_is_the_one_that_the_partitioner_names(make: Make) -> None:
    """After a change of the partition count an old snapshot may hold what now belongs elsewhere."""
    ledger, acme = make(), Counterparty()
    wrong = 1 - home("IBM")
    ledger.apply_trades(wrong, encode_trades([acme.trade(5, 5)]), 0.0)
    assert told(due(ledger, 0.0)) == {"ann": ({}, [acme.trade(1, 1).received_at_ns])}
    trade(ledger, acme.trade(1, 1), now=1.0)
    ledger.apply_trades(wrong, encode_trades([acme.trade(5, 5)]), 1.0)
    assert told(due(ledger, 1.0))["ann"][0] == {home("IBM"): {"IBM": field(Position(E8, E16, 0, 1))}}
    trade(ledger, acme.trade(1, 1), now=2.0)
    assert list(told(due(ledger, 2.0, partitions=1))["ann"][0]) == [0]


def test_names_may_hold_anything(make: Make) -> None:
    ledger, acme = make(), Counterparty()
    symbol, trader = 'O"D\\D\n€', "añn\x00\u2028" * 400
    trade(ledger, acme.trade(1, 1, symbol=symbol, trader=trader, exec_id="é" * 5_000))
    assert told(due(ledger, 0.0))[trader][0] == {home(symbol): {symbol: field(Position(E8, E16, 0, 1))}}
    assert trade(ledger, acme.trade(1, 1, symbol=symbol, exec_id="é" * 5_000)).duplicates == 1


def test_how_late_publications_were(make: Make) -> None:
    ledger, acme = make(), Counterparty()
    trade(ledger, *[acme.trade(1, 1)._replace(received_at_ns=n) for n in (100, 90, 80, 0)])
    trade(ledger, acme.trade(1, 1, trader="bob")._replace(received_at_ns=-(2**63)))
    publications = due(ledger, 0.0)
    assert ledger.lateness(publications, 100, [0, 10, 20]) == ([1, 1, 1, 2], 10 + 20 + 100 + 100 + 2**63)
    assert ledger.lateness([], 100, []) == ([0], 0)


# --- snapshots --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", sorted(kinds()))
def test_a_snapshot_of_either_is_read_by_either(make: Make, reader: str) -> None:
    ledger, acme = make(remember=6), Counterparty()
    rows = [acme.trade(n, n, trader=f"t{n % 3}", exec_id="x" * n) for n in range(1, 10)]
    trade(ledger, *rows, acme.correct(rows[7].exec_id, -4, 4), acme.bust(rows[8].exec_id))
    price(ledger, Price("IBM", PRICE_SOURCE_MID, -5 * E8, -1, 20260102))
    read = {"trades.raw": ReadTo(2**40, "Zm9v-_é", 2**32 - 1), "prices.updates": ReadTo(0)}
    data = ledger.dump(home("IBM"), read)

    other = kinds()[reader](0.5, 6)
    assert other.open(home("IBM"), data, 0.0) == read

    assert snapshot_facts(other.dump(home("IBM"), read)) == snapshot_facts(data)
    assert trade(other, *rows, acme.bust(rows[7].exec_id)).refused == []
    with pytest.raises(SnapshotRefused):
        other.open(home("IBM"), b"\xff\xff", 0.0)
    assert not other.owns(home("IBM")), "what it held before has gone: it was to begin anew"


@pytest.mark.parametrize("data", [b"\xff\xff", b"", b"\x08\x02"])
def test_what_is_no_snapshot_is_refused_with_the_remedy(make: Make, data: bytes) -> None:
    ledger = make()
    with pytest.raises(SnapshotRefused, match="delete the snapshot to replay the log"):
        ledger.open(0, data, 0.0)
    assert not ledger.owns(0)
    assert ledger.owns(1)


def test_an_earlier_release_kept_no_numbers_of_trades(make: Make) -> None:
    ledger, acme = make(), Counterparty()
    rows = [acme.trade(1, 1), acme.trade(2, 2)]
    trade(ledger, *rows)
    snapshot = PnlSnapshot.FromString(ledger.dump(home("IBM"), {}))
    del snapshot.remembered_epoch[:], snapshot.remembered_msg_seq_num[:]
    ledger.open(home("IBM"), snapshot.SerializeToString(), 0.0)
    assert trade(ledger, *rows).duplicates == 2
    assert SESSION in snapshot.strings


# --- beyond 64 and 128 bits -------------------------------------------------------------------------------------

MOST = 2**63 - 1
LARGE = [
    [(1, MOST, MOST)] * 6,
    [(1, MOST, MOST), (-1, MOST, -MOST)] * 4,
    [(1, MOST, MOST), (1, MOST, MOST), (-1, MOST - 1, 1), (-1, 5, MOST), (-1, MOST, -MOST)],
    [(-1, MOST, MOST)] * 3 + [(1, 1, 1)] * 3 + [(1, MOST, -MOST)] * 4,
    [(1, MOST, MOST), (-1, 1, 1), (-1, 2, MOST), (-1, 3, -MOST), (-1, 7, 7)],
    [(1, MOST, MOST), (-1, MOST, -MOST), (1, 1, 1), (-1, 1, MOST)],
    [(1, 1, MOST), (1, MOST, 1), (-1, MOST, MOST), (-1, MOST, MOST)],
]


@pytest.mark.parametrize("trades", LARGE, ids=range(len(LARGE)))
@pytest.mark.parametrize("mark_px", [MOST, -MOST, 1])
def test_large_numbers_are_exact(make: Make, trades: list[tuple[int, int, int]], mark_px: int) -> None:
    """No number wraps, whatever trades, marks, busts and snapshots make of it."""
    ledger, acme, position = make(), Counterparty(), Position()
    symbol, mark = "IBM", Mark(PRICE_SOURCE_MID, mark_px, 1, 20260102)
    price(ledger, Price(symbol, *mark))
    rows = [
        acme.trade(1, 1)._replace(side=SIDE_BUY if sign > 0 else SIDE_SELL, last_qty_e8=quantity, last_px_e8=px)
        for sign, quantity, px in trades
    ]
    for row, (sign, quantity, px) in zip(rows, trades, strict=True):
        trade(ledger, row)
        position.trade(sign * quantity, px)
        assert dict(ledger.positions(home(symbol))) == {("ann", symbol): position}
        assert told(due(ledger, float("inf")))["ann"][0] == {home(symbol): {symbol: field(position, mark)}}
    assert ledger.value(home(symbol), symbol) == (
        1, max(position.quantity_e8, 0), min(position.quantity_e8, 0), position.cost_e16, position.realized_e16,
    )  # fmt: skip
    ledger.open(home(symbol), ledger.dump(home(symbol), {}), 0.0)
    assert dict(ledger.positions(home(symbol))) == {("ann", symbol): position}
    for left in reversed(range(len(rows))):
        assert trade(ledger, acme.bust(rows[left].exec_id)).refused == []
        position = Position()
        for sign, quantity, px in trades[:left]:
            position.trade(sign * quantity, px)
        assert dict(ledger.positions(home(symbol))) == {("ann", symbol): position}


def test_a_trade_that_makes_another_forgotten_counts_in_a_position_that_is_made_anew(make: Make) -> None:
    """In one batch: a bust, and behind it a trade of the same position, for which its oldest is forgotten."""
    ledger, acme = make(remember=4), Counterparty()
    trade(ledger, acme.trade(10, 5), acme.trade(20, 6, exec_id="T2"), acme.trade(1, 7))
    trade(ledger, acme.bust("T2"), acme.trade(2, 8), acme.trade(-3, 9))
    ((_, position),) = ledger.positions(home("IBM"))
    expected = Position()
    for quantity, px in ((10, 5), (1, 7), (2, 8), (-3, 9)):
        expected.trade(quantity * E8, px * E8)
    assert position == expected


def test_thousands_of_trades_at_the_limit_pass_128_bits(make: Make) -> None:
    ledger, acme, position = make(remember=10), Counterparty(), Position()
    rows = [acme.trade(1, 1)._replace(last_qty_e8=MOST, last_px_e8=MOST - n) for n in range(4_000)]
    assert trade(ledger, *rows).rows == 4_000
    for row in rows:
        position.trade(row.last_qty_e8, row.last_px_e8)
    assert position.cost_e16 > 2**137
    assert list(ledger.positions(home("IBM"))) == [(("ann", "IBM"), position)]
    assert snapshot_facts(ledger.dump(home("IBM"), {}))[1] == [(("ann", "IBM"), position)]
