"""A book that went through bytes goes on as if it had not."""

from __future__ import annotations

import pytest
from eod_workers.layouts import PNL_SNAPSHOT
from eod_workers.pnl.book import Outcome, PartitionBook
from eod_workers.pnl.marks import SOURCES, Mark
from eod_workers.pnl.snapshot import ReadTo, SnapshotRefused, dump, load
from eod_workers.protos.storage_pb2 import PnlSnapshot
from eod_workers.trades.model import Trade
from hypothesis import given
from hypothesis import strategies as st
from support.pnl_executions import E8, Counterparty, histories

READ = {"trades.raw": ReadTo(42, "an id", 3), "prices.updates": ReadTo(7)}
MARKS = st.tuples(
    st.sampled_from(["IBM", "AIG"]),
    st.builds(
        Mark,
        source=st.sampled_from(sorted(SOURCES)),
        px_e8=st.integers(-5, 5),
        event_time_ns=st.integers(0, 9),
        session_date=st.sampled_from([20260102, 20260105]),
    ),
)


def everything(book: PartitionBook) -> tuple[object, ...]:
    """All that a book tells, with the orders that matter."""
    return (
        list(book.positions()),
        dict(book.marks()),
        dict(book.multipliers()),
        {session: dict(epochs) for session, epochs in book.forgotten().items()},
        list(book.remembered()),
        {symbol: book.holders(symbol) for symbol in ("IBM", "AIG")},
    )


@given(
    rows=histories(),
    marks=st.lists(MARKS, max_size=6),
    cut=st.integers(0, 40),
    remember=st.sampled_from([1, 2, 5, 1000]),
)
def test_a_loaded_book_goes_on_as_the_dumped_one(
    rows: list[Trade], marks: list[tuple[str, Mark]], cut: int, remember: int
) -> None:
    """The same answers to the same rows and prices, also to duplicates, busts, and what has been forgotten."""
    book = PartitionBook(remember)
    for row in rows[:cut]:
        book.apply(row)
    for symbol, mark in marks[::2]:
        book.apply_price(symbol, mark)

    data = dump(book, 3, READ)
    loaded, read = load(data, remember)

    assert read == READ
    assert everything(book) == everything(loaded)
    assert data == dump(loaded, 3, read)
    for row in rows[cut:] + rows[:cut]:
        assert book.apply(row) == loaded.apply(row)
    for symbol, mark in marks[1::2]:
        assert book.apply_price(symbol, mark) == loaded.apply_price(symbol, mark)
    assert everything(book) == everything(loaded)


def test_a_chain_of_corrections_survives() -> None:
    book, acme = PartitionBook(), Counterparty()
    book.apply(acme.trade(100, 10, exec_id="T"))
    book.apply(acme.correct("T", 90, 10, trader="bob", exec_id="C"))

    loaded, _ = load(dump(book, 0, {}))

    assert loaded.apply(acme.bust("T")).changed == (("bob", "IBM"),)
    assert loaded.apply(acme.bust("C")).outcome is Outcome.ALREADY_BUSTED
    assert all(position.quantity_e8 == 0 for _, position in loaded.positions())


def test_money_beyond_64_bits_survives() -> None:
    book, acme = PartitionBook(), Counterparty()
    for quantity in (90_000_000, 90_000_000, -1):
        book.apply(acme.trade(quantity, 123_456_789.12345678))
    position = book.position("ann", "IBM")
    assert position is not None
    assert position.cost_e16 > 2**64

    loaded, _ = load(dump(book, 0, {}))

    assert position == loaded.position("ann", "IBM")


def test_a_smaller_memory_keeps_the_newest() -> None:
    book, acme = PartitionBook(), Counterparty()
    for _ in range(5):
        book.apply(acme.trade(1, 10))

    loaded, _ = load(dump(book, 0, {}), remember=2)

    assert list(book.remembered())[-2:] == list(loaded.remembered())


def test_a_snapshot_of_an_earlier_release_is_read() -> None:
    """It has the highest delivery taken, and none of each trade: what is at or below that and unknown counts as taken."""
    book, acme = PartitionBook(remember=2), Counterparty()
    rows = [acme.trade(1, 10) for _ in range(5)]
    for row in rows[:4]:
        book.apply(row)
    snapshot = PnlSnapshot.FromString(dump(book, 0, READ))
    del snapshot.remembered_epoch[:], snapshot.remembered_msg_seq_num[:], snapshot.forgotten[:]
    snapshot.forgotten.add(session=rows[0].session, epoch=1, msg_seq_num=4)

    loaded, _ = load(snapshot.SerializeToString(), remember=2)

    outcomes = [loaded.apply(row).outcome for row in (*rows, *rows)]
    assert outcomes[:5] == [*[Outcome.DUPLICATE_DELIVERY] * 2, *[Outcome.DUPLICATE_TRADE] * 2, Outcome.APPLIED]
    assert Outcome.APPLIED not in outcomes[5:]
    assert [position.trades for _, position in loaded.positions()] == [5]


def test_a_snapshot_says_its_version_and_partition() -> None:
    snapshot = PnlSnapshot.FromString(dump(PartitionBook(), 11, READ))

    assert (snapshot.version, snapshot.partition) == (PNL_SNAPSHOT.version, 11)


@pytest.mark.parametrize("version", [0, PNL_SNAPSHOT.version + 1])
def test_an_unknown_version_is_refused(version: int) -> None:
    data = PnlSnapshot(version=version).SerializeToString()

    with pytest.raises(
        SnapshotRefused, match=f"PnlSnapshot version {version}; this reader knows 1: run the release that wrote it"
    ):
        load(data)


@pytest.mark.parametrize("data", [b"\xff\xff", dump(PartitionBook(), 0, {"trades.raw": ReadTo(1)})[:-1]])
def test_damaged_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(SnapshotRefused, match="not a PnlSnapshot"):
        load(data)


def test_a_quantity_beyond_64_bits_goes_on_as_any_other() -> None:
    """Two trades that each fit a column may add up to more: that must not end every restart of the worker."""
    book, acme = PartitionBook(), Counterparty()
    for _ in range(2):
        book.apply(acme.trade(50_000_000_000, 1 / E8))

    loaded, _ = load(dump(book, 0, {}))

    assert everything(book) == everything(loaded)
    assert [position.quantity_e8 for _, position in loaded.positions()] == [100_000_000_000 * E8]
