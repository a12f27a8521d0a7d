"""The promises of `ports.RegulatoryStore`, for every store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from eod_workers.ports import (
    REFERENCE,
    Changes,
    Claimed,
    ExceptionRow,
    MpidRow,
    RegulatoryStore,
    SecurityRow,
    StaleEpoch,
    Stored,
    StrategyRow,
    TopicPartition,
    TradeRow,
    TraderRow,
)
from eod_workers.trades.conflicts import FIELD, conflict, describe
from support.regulatory_rows import TOPIC, trade, unresolved
from support.regulatory_stores import Open

GROUP = "regulatory"
P0, P1, P2 = (TopicPartition(TOPIC, number) for number in range(3))


@pytest.fixture
def store(open_store: Open) -> RegulatoryStore:
    return open_store()


async def contents(store: RegulatoryStore) -> tuple[set[TradeRow], set[ExceptionRow]]:
    """All rows; a row that is there twice fails the test."""
    trades = [row async for row in store.trades()]
    exceptions = [row async for row in store.exceptions()]
    assert len(set(trades)) == len(trades)
    assert len(set(exceptions)) == len(exceptions)
    return set(trades), set(exceptions)


async def next_offsets(store: RegulatoryStore, *sources: TopicPartition) -> list[int | None]:
    return [claimed.next_offset for claimed in (await store.take_over(GROUP, sources)).values()]


# --- rows -----------------------------------------------------------------------------------------


async def test_rows_come_back_as_they_were_stored(open_store: Open) -> None:
    """Every field, at its limits, and also to somebody who opens the store later."""
    store = open_store()
    assert await contents(store) == (set(), set())
    plain = trade(1)
    extreme = plain._replace(
        exec_id="é 中 '; DROP TABLE trades; --",
        last_qty_e8=2**63 - 1,
        last_px_e8=-(2**63),
        transact_time_ns=2**63 - 1,
        trader="",
        trader_name="",
        offset=2**62,
    )
    await store.take_over(GROUP, [P0])
    stored = await store.store(GROUP, [plain, extreme], [unresolved(1)], {P0: (1, 2)})
    assert stored == Stored(inserted=2, duplicates=0, exceptions=1)
    assert await contents(store) == ({plain, extreme}, {unresolved(1)})
    await store.close()
    assert await contents(open_store()) == ({plain, extreme}, {unresolved(1)})


async def test_a_trade_that_comes_again_is_counted_and_dropped(store: RegulatoryStore) -> None:
    """The first row stays; identity is (session, trade date, exec_id)."""
    await store.take_over(GROUP, [P0])
    first = trade(1)
    again = first._replace(msg_seq_num=99, transact_time_ns=1, strategy="S2", account="A2", desk="D", offset=7)
    others = {first._replace(session="OTHER-EOD"), first._replace(trade_date=20260106), first._replace(trade_date=0)}
    assert await store.store(GROUP, [first, again, first], [], {P0: (1, 1)}) == Stored(1, 2, 0)
    assert await store.store(GROUP, [again, trade(2), *others], [], {P0: (1, 2)}) == Stored(4, 1, 0)
    assert await store.store(GROUP, [again], [], {P0: (1, 3)}) == Stored(0, 1, 0)
    assert await contents(store) == ({first, trade(2), *others}, set())


CHANGES: dict[str, Any] = {
    "action": 1, "exec_ref_id": "E7", "symbol": "MSFT", "side": 1, "last_qty_e8": 1, "last_px_e8": -1, "trader": "T2",
}  # fmt: skip


@pytest.mark.parametrize("column", CHANGES)
@pytest.mark.parametrize("apart", [True, False])
async def test_another_trade_under_its_exec_id_is_noted_with_what_it_is(
    store: RegulatoryStore,
    column: str,
    apart: bool,  # noqa: FBT001
) -> None:
    """Whether the first is stored already or comes in the same call; each other trade once, wherever it comes again."""
    await store.take_over(GROUP, [P0])
    first, bystander = trade(1), trade(2)
    other = first._replace(offset=7, msg_seq_num=9, **{column: CHANGES[column]})
    third = first._replace(offset=8, last_qty_e8=77)
    if apart:
        assert await store.store(GROUP, [first], [unresolved(1)], {P0: (1, 1)}) == Stored(1, 0, 1)
        assert await store.store(GROUP, [bystander, other], [], {P0: (1, 2)}) == Stored(1, 1, 1, 1)
    else:
        stored = await store.store(GROUP, [first, other, bystander], [unresolved(1)], {P0: (1, 2)})
        assert stored == Stored(2, 1, 2, 1)
    assert await store.store(GROUP, [third, first, other], [], {P0: (1, 3)}) == Stored(0, 3, 1, 2)
    assert await store.store(GROUP, [third._replace(offset=9)], [], {P0: (1, 3)}) == Stored(0, 1, 0, 1)
    note = conflict(other)
    assert (note.field, note.value) == (FIELD, f"{TOPIC}[0]@7")
    assert describe(other) in note.detail
    assert await contents(store) == ({first, bystander}, {unresolved(1), note, conflict(third)})
    assert await next_offsets(store, P0) == [3]


async def test_of_two_that_store_different_trades_under_one_exec_id_one_is_stored_and_one_noted(
    open_store: Open,
) -> None:
    """At the same time, many times; each trade is in the rows or in the exceptions, and none in both."""

    async def write(source: TopicPartition) -> tuple[list[TradeRow], int]:
        store = open_store()
        await store.take_over(GROUP, [source])
        conflicts, sent = 0, []
        for start in range(0, 200, 20):
            shared = [
                trade(number)._replace(symbol=f"S{source.partition}", partition=source.partition)
                for number in range(start, start + 20)
            ]
            sent += shared
            conflicts += (await store.store(GROUP, shared, [], {source: (1, start + 20)})).conflicts
        return sent, conflicts

    results = await asyncio.gather(*(write(source) for source in (P0, P1)))
    rows, notes = await contents(open_store())
    sent = {row for some, _ in results for row in some}
    assert len(rows) == len(notes) == sum(conflicts for _, conflicts in results) == 200
    assert {conflict(row) for row in sent - rows} == notes


async def test_an_exception_is_noted_once(store: RegulatoryStore) -> None:
    """Once for each field of a trade; several fields of a trade are several exceptions."""
    await store.take_over(GROUP, [P0])
    some = [unresolved(1), unresolved(1, "symbol"), unresolved(1)]
    assert await store.store(GROUP, [], some, {P0: (1, 1)}) == Stored(0, 0, 2)
    changed, friday = unresolved(1)._replace(detail="other"), unresolved(1)._replace(trade_date=20260109)
    assert await store.store(GROUP, [], [changed, unresolved(2), friday], {P0: (1, 2)}) == Stored(0, 0, 2)
    assert (await contents(store))[1] == {unresolved(1), unresolved(1, "symbol"), unresolved(2), friday}


async def test_more_rows_than_one_page_are_all_read(store: RegulatoryStore) -> None:
    await store.take_over(GROUP, [P0])
    rows = [trade(number) for number in range(12_000)]
    assert await store.store(GROUP, rows, [], {P0: (1, 12_000)}) == Stored(12_000, 0, 0)
    assert await contents(store) == (set(rows), set())


async def test_a_row_that_cannot_be_stored_takes_the_others_with_it(store: RegulatoryStore) -> None:
    """A transaction is whole: with one impossible row, neither rows nor offsets are stored."""
    await store.take_over(GROUP, [P0])
    for impossible in (
        trade(2)._replace(symbol=None),  # type: ignore[arg-type]
        trade(2)._replace(last_px_e8="12.5"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match="row"):
            await store.store(GROUP, [trade(1), impossible], [unresolved(1)], {P0: (1, 5)})
    assert await contents(store) == (set(), set())
    assert await next_offsets(store, P0) == [None]


# --- offsets and epochs ---------------------------------------------------------------------------


async def test_taking_over_raises_the_epoch_and_tells_the_next_offset(open_store: Open) -> None:
    """Per group and partition; a partition that is named twice is taken over once."""
    store = open_store()
    assert await store.take_over(GROUP, [P0, P1, P0]) == {P0: Claimed(1, None), P1: Claimed(1, None)}
    await store.store(GROUP, [], [], {P0: (1, 42)})
    assert await store.take_over(GROUP, [P0]) == {P0: Claimed(2, 42)}
    await store.store(GROUP, [], [], {P0: (2, 50), P1: (1, 7)})
    assert await store.take_over("other", [P0]) == {P0: Claimed(1, None)}
    assert await store.take_over(GROUP, []) == {}
    await store.close()
    assert await open_store().take_over(GROUP, [P1, P0]) == {P0: Claimed(3, 50), P1: Claimed(2, 7)}


async def test_offsets_of_an_earlier_topic_of_the_name_are_forgotten_and_told_once(open_store: Open) -> None:
    """The id that they are of is known from the first taker on who knew it; one who does not forgets nothing."""
    store = open_store()
    await store.take_over(GROUP, [P0, P1])
    await store.store(GROUP, [], [], {P0: (1, 42), P1: (1, 7)})
    assert await store.take_over(GROUP, [P0], {TOPIC: "first"}) == {P0: Claimed(2, 42)}, "as it was before ids"
    assert await store.take_over(GROUP, [P0], {TOPIC: "first"}) == {P0: Claimed(3, 42)}
    assert await store.take_over(GROUP, [P0, P1], {TOPIC: "second"}) == {P0: Claimed(4, None, 42), P1: Claimed(2, 7)}
    assert await store.take_over(GROUP, [P0]) == {P0: Claimed(5, None)}
    with pytest.raises(StaleEpoch):
        await store.store(GROUP, [], [], {P0: (3, 43)})
    await store.store(GROUP, [], [], {P0: (5, 1)})
    await store.close()
    again = open_store()
    assert await again.take_over(GROUP, [P0], {TOPIC: "second", "other": "x"}) == {P0: Claimed(6, 1)}
    assert await again.take_over("other", [P0], {TOPIC: "first"}) == {P0: Claimed(1, None)}


async def test_a_former_owner_is_refused_and_nothing_is_stored(open_store: Open) -> None:
    """One stale partition among others refuses the whole call: rows, exceptions, and the offsets of the others."""
    old, new = open_store(), open_store()
    await old.take_over(GROUP, [P0, P1])
    await old.store(GROUP, [trade(0)], [], {P0: (1, 1), P1: (1, 10)})
    await new.take_over(GROUP, [P0])
    with pytest.raises(StaleEpoch, match=f"{TOPIC}-0"):
        await old.store(GROUP, [trade(1)], [unresolved(1)], {P1: (1, 11), P0: (1, 2)})
    assert await contents(new) == ({trade(0)}, set())
    await new.store(GROUP, [trade(1)], [], {P0: (2, 2)})
    assert await next_offsets(new, P0, P1) == [2, 10]


async def test_who_never_took_over_is_refused(store: RegulatoryStore) -> None:
    """Also with an epoch from the future, or with the epoch of another group."""
    await store.take_over("other", [P0])
    for epoch in (0, 1, 2):
        with pytest.raises(StaleEpoch):
            await store.store(GROUP, [trade(0)], [], {P0: (epoch, 1)})
    await store.take_over(GROUP, [P0])
    with pytest.raises(StaleEpoch):
        await store.store(GROUP, [trade(0)], [], {P0: (2, 1)})
    assert await contents(store) == (set(), set())


async def test_of_many_takers_each_gets_an_epoch_of_its_own(open_store: Open) -> None:
    """And only the last of them can store."""
    stores = [open_store() for _ in range(6)]
    taken = await asyncio.gather(*(store.take_over(GROUP, [P0]) for store in stores))
    epochs = [epoch for each in taken for epoch, *_ in each.values()]
    assert sorted(epochs) == [1, 2, 3, 4, 5, 6]
    attempts = [s.store(GROUP, [trade(e)], [], {P0: (e, e)}) for s, e in zip(stores, epochs, strict=True)]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    by_epoch = dict(zip(epochs, results, strict=True))
    assert by_epoch.pop(6) == Stored(1, 0, 0)
    assert {type(result) for result in by_epoch.values()} == {StaleEpoch}
    assert await contents(stores[0]) == ({trade(6)}, set())


async def test_writers_of_different_partitions_do_not_disturb_each_other(open_store: Open) -> None:
    """Several clients store at the same time, sometimes the same trade; the union of what they sent is there, once."""

    async def write(store: RegulatoryStore, source: TopicPartition) -> int:
        await store.take_over(GROUP, [source])
        duplicates = 0
        for start in range(0, 300, 50):
            rows = [trade(number, source.partition) for number in range(start, start + 50)]
            stored = await store.store(GROUP, [*rows, trade(start, 99)], [], {source: (1, start + 50)})
            duplicates += stored.duplicates
        return duplicates

    duplicates = await asyncio.gather(*(write(open_store(), source) for source in (P0, P1, P2)))
    assert sum(duplicates) == 2 * 6, "of the three that sent a shared trade, two were told that it was there"
    own = {trade(number, partition) for number in range(300) for partition in range(3)}
    shared = {trade(start, 99) for start in range(0, 300, 50)}
    reader = open_store()
    assert await contents(reader) == (own | shared, set())
    assert await next_offsets(reader, P0, P1, P2) == [300, 300, 300]


# --- reference data -------------------------------------------------------------------------------

ADA, EVE = TraderRow("T1", "Ada", "Equities"), TraderRow("t1", "Eve '; DROP TABLE traders; --", "")
APPLE = SecurityRow("AAPL", "US0378331005", "037833100", "2046251", "XNAS", "", 0)
FUTURE = SecurityRow("ES 202603", "", "", "", "XCME", "USD", 5_000_000_000)
REFERENCES = {
    "traders": [ADA, EVE],
    "strategies": [StrategyRow("CLOSE", "Clôture 中")],
    "securities": [APPLE, FUTURE],
    "mpids": [MpidRow("SENDER-EOD", "ABCD", "Broker One")],
}


async def test_reference_data_comes_back_as_it_was_put_also_to_others(open_store: Open) -> None:
    store = open_store()
    assert await store.reference() == {table: [] for table in REFERENCE}
    made = await store.put_reference(REFERENCES)
    assert made == {table: Changes(len(rows), 0, 0) for table, rows in REFERENCES.items()}
    assert await store.reference() == await open_store().reference() == REFERENCES
    assert {type(row) for rows in (await store.reference()).values() for row in rows} == set(REFERENCE.values())


async def test_what_is_put_is_all_that_a_table_holds_and_other_tables_stay(store: RegulatoryStore) -> None:
    await store.put_reference(REFERENCES)
    ann = TraderRow("T2", "Ann", "Rates")
    made = await store.put_reference({"traders": [ADA._replace(desk="Options"), ann], "mpids": []})
    assert made == {"traders": Changes(added=1, changed=1, gone=1), "mpids": Changes(0, 0, 1)}
    assert await store.reference() == {**REFERENCES, "traders": [ADA._replace(desk="Options"), ann], "mpids": []}
    assert await store.put_reference({"securities": [FUTURE, APPLE]}) == {"securities": Changes(0, 0, 0)}


@pytest.mark.parametrize(
    "rows",
    [
        {"strategies": [], "traders": [ADA, ADA._replace(name="Another")]},
        {"strategies": [], "securities": [APPLE._replace(multiplier_e8=2**63)]},
        {"strategies": [], "traders": [ADA, EVE._replace(desk=None)]},
    ],
    ids=["twice", "number", "nothing"],
)
async def test_a_row_that_cannot_be_stored_leaves_all_tables_as_they_were(store: RegulatoryStore, rows: Any) -> None:
    await store.put_reference(REFERENCES)
    with pytest.raises(ValueError, match=r"UNIQUE|two traders|too large|multiplier_e8|desk"):
        await store.put_reference(rows)
    assert await store.reference() == REFERENCES
    assert (await store.put_reference({"traders": [ADA]}))["traders"] == Changes(0, 0, 1)
