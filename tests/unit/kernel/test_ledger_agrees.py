"""The ledger in C against the one in Python: whatever comes, in whatever order, both say the same after every step."""

from __future__ import annotations

from typing import Any

import pytest
from eod_workers import kernel
from eod_workers.layouts import UndecodableBatch
from eod_workers.pnl.ledger import Publication, PureLedger
from eod_workers.pnl.snapshot import ReadTo, SnapshotRefused
from eod_workers.protos.storage_pb2 import PnlSnapshot
from eod_workers.trades.codec import encode_trades
from eod_workers.trades.model import ACTION_BUST, ACTION_CORRECT, ACTION_TRADE, SIDE_BUY, SIDE_SELL, Trade
from eod_workers.trades.prices import Price, encode_prices
from fuzz import ledger as fuzz_ledger
from fuzz.agreement import Disagreement
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.ledgers import PARTITIONS, due, home, snapshot_facts, told
from support.pnl_executions import SESSION, Counterparty

if not kernel.available():
    pytest.skip(f"the kernel is not used: {kernel.why_not()}", allow_module_level=True)

from eod_workers.pnl.ledger_kernel import Ledger
from support.amounts import examples

SYMBOLS = ("IBM", "AIG", "MSFT")
LARGEST = 2**63 - 1
quantities = st.integers(0, 10**12) | st.sampled_from([1, LARGEST, LARGEST - 1, -1, -LARGEST])
amounts = st.integers(-(10**13), 10**13) | st.sampled_from([LARGEST, -LARGEST - 1, 0])
numbers = st.integers(0, 30)

rows = st.builds(
    Trade,
    session=st.sampled_from(["A->E", "B->E"]),
    epoch=st.integers(0, 40) | st.just(1),
    msg_seq_num=numbers,
    exec_id=numbers.map(lambda n: f"X{n}" * (1 + n % 4 * 30)) | st.sampled_from(["", "é"]),
    exec_ref_id=numbers.map(lambda n: f"X{n}" * (1 + n % 4 * 30)) | st.just(""),
    action=st.sampled_from([ACTION_TRADE, ACTION_TRADE, ACTION_BUST, ACTION_CORRECT]),
    side=st.sampled_from([SIDE_BUY, SIDE_SELL]),
    symbol=st.sampled_from(SYMBOLS),
    trader=st.sampled_from(["ann", "bob", ""]),
    strategy=st.sampled_from(["", "alpha"]),
    account=st.just(""),
    last_qty_e8=quantities,
    last_px_e8=amounts,
    transact_time_ns=st.just(5),
    received_at_ns=st.integers(-(2**63), 2**63 - 1),
    frame=st.binary(max_size=3),
    trade_date=st.sampled_from([0, 20260101, 20260102, 20260103, 2**32 - 1]),
    time_source=st.sampled_from([0, 0, 1]),
    multiplier_e8=st.sampled_from([0, 0, 0, 50 * 10**8, 50 * 10**8, 10**6, 33_333_333, 2**63 - 1]),
)
prices = st.builds(
    Price,
    symbol=st.sampled_from(SYMBOLS),
    source=st.integers(1, 4),
    px_e8=amounts,
    event_time_ns=st.integers(-3, 3),
    session_date=st.integers(20260101, 20260103),
)


class Both(RuleBasedStateMachine):
    """Two ledgers that are told the same."""

    @initialize(remember=st.integers(1, 12) | st.just(1_000))
    def begin(self, remember: int) -> None:
        self.ledgers: tuple[PureLedger, Ledger] = (PureLedger(8.0, remember), Ledger(8.0, remember))
        self.now = 0.0
        self.failed: tuple[list[Publication], list[Publication]] = ([], [])
        self.offsets = 0
        for partition in range(PARTITIONS):
            self.open(partition)

    @rule(partition=st.integers(0, PARTITIONS - 1))
    def open(self, partition: int) -> None:
        for ledger in self.ledgers:
            assert ledger.open(partition, None, self.now) == {}

    @rule(partition=st.integers(0, PARTITIONS - 1))
    def close(self, partition: int) -> None:
        for ledger in self.ledgers:
            ledger.close(partition)

    @rule(batch=st.lists(rows, min_size=1, max_size=30), symbol=st.sampled_from(SYMBOLS), redriven=st.booleans())
    def trade(self, batch: list[Trade], symbol: str, redriven: bool) -> None:  # noqa: FBT001 - what is drawn
        """Symbols of one batch belong to one partition; some rows say another."""
        batch = [row if home(row.symbol) == home(symbol) else row._replace(symbol=symbol) for row in batch]
        self.apply(home(symbol), [row._replace(redrive_of="letter" if redriven else "") for row in batch])

    @rule(count=st.integers(1, 40), first=numbers, symbol=st.sampled_from(SYMBOLS), session=st.sampled_from("AB"))
    def trade_in_order(self, count: int, first: int, symbol: str, session: str) -> None:
        acme = Counterparty(f"{session}->E", msg_seq_num=first)
        self.apply(
            home(symbol), [acme.trade(n % 7 - 3, n, symbol=symbol, exec_id=f"X{first + n}") for n in range(count)]
        )

    def apply(self, partition: int, batch: list[Trade]) -> None:
        pure, ours = self.ledgers
        if pure.owns(partition):
            value = encode_trades(batch)
            assert pure.apply_trades(partition, value, self.now) == ours.apply_trades(partition, value, self.now)
            assert pure.applied_lateness(3, [-5, 0, 5]) == ours.applied_lateness(3, [-5, 0, 5])

    @rule(batch=st.lists(prices, max_size=6))
    def price(self, batch: list[Price]) -> None:
        for partition in range(PARTITIONS):
            value = encode_prices([price for price in batch if home(price.symbol) == partition])
            for ledger in self.ledgers:
                if ledger.owns(partition):
                    ledger.apply_prices(partition, value, self.now)

    @rule(wait=st.integers(0, 9))
    def wait(self, wait: int) -> None:
        self.now += wait

    @rule(everything=st.booleans())
    def publish(self, everything: bool) -> None:  # noqa: FBT001 - what is drawn
        until = float("inf") if everything else self.now
        pure, ours = (due(ledger, until) for ledger in self.ledgers)
        assert told(pure) == told(ours)
        self.failed = (pure, ours)
        late = [ledger.lateness(said, 3, [-5, 0, 5]) for ledger, said in zip(self.ledgers, (pure, ours), strict=True)]
        assert late[0] == late[1]

    @rule()
    def fail(self) -> None:
        for ledger, failed in zip(self.ledgers, self.failed, strict=True):
            ledger.announce_again(failed, self.now)
        self.failed = ([], [])

    @rule(partition=st.integers(0, PARTITIONS - 1), crossed=st.booleans())
    def snapshot(self, partition: int, crossed: bool) -> None:  # noqa: FBT001 - what is drawn
        pure, ours = self.ledgers
        if not pure.owns(partition):
            return
        self.offsets += 1
        offsets = {"trades.raw": ReadTo(self.offsets, f"id {self.offsets % 3}", 1), "prices.updates": ReadTo(0)}
        dumps = [ledger.dump(partition, offsets) for ledger in self.ledgers]
        assert snapshot_facts(dumps[0]) == snapshot_facts(dumps[1])
        assert pure.open(partition, dumps[crossed], self.now) == offsets
        assert ours.open(partition, dumps[not crossed], self.now) == offsets

    @rule()
    def look(self) -> None:
        """Not after every step: what is looked at is made anew of the trades that stand, if it has to be."""
        pure, ours = self.ledgers
        for partition in filter(pure.owns, range(PARTITIONS)):
            for symbol in SYMBOLS:
                assert pure.value(partition, symbol) == ours.value(partition, symbol)
            assert list(pure.positions(partition)) == list(ours.positions(partition))

    def teardown(self) -> None:
        if hasattr(self, "ledgers"):
            self.look()

    @invariant()
    def they_agree(self) -> None:
        pure, ours = self.ledgers
        assert pure.next_due() == ours.next_due()
        assert pure.size == ours.size
        for partition in range(PARTITIONS):
            assert pure.owns(partition) == ours.owns(partition)
            if pure.owns(partition):
                assert pure.remembers(partition) == ours.remembers(partition)
                for symbol in SYMBOLS:
                    assert pure.mark(partition, symbol) == ours.mark(partition, symbol)
                    assert pure.multiplier_e8(partition, symbol) == ours.multiplier_e8(partition, symbol)


TestBoth = Both.TestCase
TestBoth.settings = settings(max_examples=examples(60), stateful_step_count=30, deadline=None)


@pytest.mark.slow
def test_the_fuzzer_agrees_and_meets_what_it_is_about() -> None:
    seen = fuzz_ledger.run(3.0, 20260102)
    assert min(seen) > 0, f"something never happened: {seen}"
    assert seen.undecodable < seen.batches / 2


@pytest.mark.parametrize(
    ("module", "name", "wrong"),
    [
        ("eod_workers.pnl.book", "MAX_EPOCHS", 31),
        ("eod_workers.pnl.publishing", "RECEIPTS", 1),
        ("eod_workers.pnl.book", "choose", lambda _current, incoming: incoming),
        ("eod_workers.pnl.ledger", "partition_of", lambda symbol, _: len(symbol) % 3),
    ],
)
def test_the_fuzzer_finds_what_differs(monkeypatch: pytest.MonkeyPatch, module: str, name: str, wrong: object) -> None:
    """Each fault is put into the pure ledger, whose rule it is."""
    monkeypatch.setattr(f"{module}.{name}", wrong)
    with pytest.raises(Disagreement, match=r"history 1\.\d+ \(fuzz\.ledger\.case repeats it\)"):
        fuzz_ledger.run(30.0, 1)


# --- bytes that nobody has written ------------------------------------------------------------------------------


def _verdict(ledger: Any, value: bytes, *, trades: bool) -> tuple[object, ...]:
    """What a fresh partition makes of the bytes."""
    ledger.open(0, None, 0.0)
    try:
        result = ledger.apply_trades(0, value, 0.0) if trades else ledger.apply_prices(0, value, 0.0)
    except UndecodableBatch as error:
        return (str(error), ledger.size)
    return (result, list(ledger.positions(0)), ledger.remembers(0))


_EXTRA = st.sampled_from(
    [
        b"",
        b"\xf8\x01\x05",  # field 31, unknown
        b"\x1b\x08\x01\x1c",  # a group where the column of sessions should be
        b"\x1b\x08\x01\x24",  # that ends as another
        b"\x0b" * 99 + b"\x0c" * 99,  # groups in groups
        b"\x0b" * 101 + b"\x0c" * 101,
        b"\x08\x81\x00",  # version 1 in two bytes
        b"\x08\x81\x80\x80\x80\x80\x80\x80\x80\x80\x00",  # and in ten
        b"\x08\x81\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00",  # and in eleven
        b"\x08\x81\x80\x80\x80\x10",  # 1 beyond 32 bits
        b"\x88\x80\x80\x80\x00\x01",  # the tag in five bytes
        b"\x88\x80\x80\x80\x80\x00\x01",  # and in six
        b"\x0a\x01\x01",  # a version as text
        b"\x0d\x01\x00\x00\x00",  # and as four bytes
        b"\x00\x01",  # field 0
        b"\x92\x01\x00",  # frames once more: none
        b"\x1a\x80\x80\x80\x80\x00",  # an empty column whose length has five bytes
        b"\x1a\xff\xff\xff\xff\x0f",
        b"\x12\x01\xff",
    ]
)


@given(data=st.data(), batch=st.lists(rows, max_size=4), extra=_EXTRA)
@settings(deadline=None)
def test_both_take_and_refuse_the_same_bytes_of_trades(data: st.DataObject, batch: list[Trade], extra: bytes) -> None:
    value = encode_trades(batch) if batch else b"\x08\x01"
    _hold_together(data, value, extra, trades=True)


@given(data=st.data(), batch=st.lists(prices, max_size=4), extra=_EXTRA)
@settings(deadline=None)
def test_both_take_and_refuse_the_same_bytes_of_prices(data: st.DataObject, batch: list[Price], extra: bytes) -> None:
    _hold_together(data, encode_prices(batch), extra, trades=False)


def _hold_together(data: st.DataObject, value: bytes, extra: bytes, *, trades: bool) -> None:
    spoilt = bytearray(value + extra)
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(spoilt) - 1))
        spoilt[place] = data.draw(st.integers(0, 255))
    value = bytes(spoilt[: data.draw(st.integers(0, len(spoilt)) | st.just(len(spoilt)))])
    assert _verdict(PureLedger(1.0, 100), value, trades=trades) == _verdict(Ledger(1.0, 100), value, trades=trades)


TEXTS = [
    *("a", "é", "€", "\U0001f600", "\ud7ff", "\ue000", "\U0010ffff", "\x7f\x80", "\u07ff\u0800", "\uffff\U00010000"),
    *(
        b"\x80",
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xc3",
        b"\xc3A",
        b"\xe0\x9f\xbf",
        b"\xe2\x82",
        b"\xe2\x28\xa1",
        b"\xe2\x82\x28",
    ),
    *(
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xf0\x8f\xbf\xbf",
        b"\xf0\x9f\x98",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xff",
    ),
    *(b"12345678\xff", b"1234567\xc3", b"\xf0\x9f\x98\x80\x80", b"1234567\xc3\xa9\xed\xa0\x80"),
]


@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_both_read_the_same_texts(text: str | bytes) -> None:
    """Table 3-7 of Unicode: overlong forms, surrogates and what lies beyond U+10FFFF are no UTF-8."""
    data = text if isinstance(text, bytes) else text.encode()
    value = encode_trades([Counterparty().trade(1, 1)]) + b"\xa2\x01" + bytes([len(data)]) + data  # redrive_of
    verdicts = [_verdict(ledger, value, trades=True) for ledger in (PureLedger(1.0, 9), Ledger(1.0, 9))]
    assert verdicts[0] == verdicts[1]
    assert isinstance(verdicts[1][0], str) == isinstance(text, bytes)


@pytest.mark.parametrize("size", [0, 1, 4, 7, 8, 12])
def test_fixed_numbers_fill_their_column(size: int) -> None:
    value = encode_trades([Counterparty().trade(1, 1)]) + b"\x82\x01" + bytes([size]) + bytes(size)  # transact_time_ns
    verdicts = [_verdict(ledger, value, trades=True) for ledger in (PureLedger(1.0, 9), Ledger(1.0, 9))]
    assert verdicts[0] == verdicts[1]
    assert isinstance(verdicts[1][0], str) == (size > 0)


def test_columns_that_are_not_packed_are_read() -> None:
    """As protobuf demands of every reader."""
    row = Counterparty().trade(2, 3)
    unpacked = (
        b"\x08\x01\x12\x00\x12\x09ACME->EOD\x12\x03IBM\x12\x03ann"  # version, strings
        b"\x18\x01\x20\x01\x28\x01\x32\x02X1\x40\x01\x48\x01\x50\x02\x58\x03\x60\x00\x68\x00"
        b"\x70\x80\x88\xde\xbe\x01\x78\x80\x8c\x8d\x9e\x02"
        b"\x81\x01\x00\x00\x00\x00\x00\x00\x00\x00\x89\x01\x01\x00\x00\x00\x00\x00\x00\x00\x98\x01\x00"
    )
    verdicts = [_verdict(ledger, unpacked, trades=True) for ledger in (PureLedger(1.0, 9), Ledger(1.0, 9))]
    assert verdicts[0] == verdicts[1]
    positions = verdicts[1][1]
    assert isinstance(positions, list)
    assert [(key, position.trades) for key, position in positions] == [((row.trader, row.symbol), 1)]


# --- snapshots that nobody has written --------------------------------------------------------------------------


DAY = Counterparty().trade_date


def _snapshot(**changes: Any) -> bytes:
    """A snapshot of two trades, changed."""
    ledger, acme = Ledger(1.0, 100), Counterparty()
    ledger.open(0, None, 0.0)
    ledger.apply_trades(0, encode_trades([acme.trade(1, 1), acme.trade(2, 2)]), 0.0)
    snapshot = PnlSnapshot.FromString(ledger.dump(0, {}))
    for name, change in changes.items():
        change(getattr(snapshot, name))
    return snapshot.SerializeToString()


CONTRADICTIONS: dict[str, tuple[bytes, str]] = {
    "no position": (_snapshot(positions=lambda rows: rows.pop()), "a remembered trade has no position"),
    "position twice": (_snapshot(positions=lambda rows: rows.append(rows[0])), "a position is there twice"),
    "no number": (_snapshot(positions=lambda rows: setattr(rows[0], "cost_e16", "1e5")), "is no whole number"),
    "empty number": (_snapshot(positions=lambda rows: setattr(rows[0], "cost_e16", "-")), "is no whole number"),
    "trades": (_snapshot(positions=lambda rows: setattr(rows[0], "trades", 2**63)), "more trades than there are"),
    "twice": (_snapshot(remembered_exec_id=lambda ids: ids.__setitem__(1, ids[0])), "a trade is remembered twice"),
    "short": (_snapshot(remembered_px_e8=lambda column: column.pop()), "do not fit together"),
    "epochs": (_snapshot(remembered_epoch=lambda column: column.pop()), "do not fit together"),
    "index": (_snapshot(remembered_trader=lambda column: column.__setitem__(0, 9)), "do not fit together"),
    "replaced by nothing": (
        _snapshot(replaced_by=lambda m: m.add(row=0, exec_id="X9", trade_date=DAY)),
        "a correction is not there",
    ),
    "replaced by itself": (
        _snapshot(replaced_by=lambda m: m.add(row=0, exec_id="X1", trade_date=DAY)),
        "older than what it replaces",
    ),
    "replaced by an older one": (
        _snapshot(replaced_by=lambda m: m.add(row=1, exec_id="X1", trade_date=DAY)),
        "older than what it replaces",
    ),
    "nothing is replaced": (
        _snapshot(replaced_by=lambda m: m.add(row=2, exec_id="X1", trade_date=DAY)),
        "a trade that is not there",
    ),
    "source": (_snapshot(marks=lambda rows: rows.add(symbol="IBM", source=5)), "outside the schema"),
    "no multiplier": (_snapshot(multipliers=lambda rows: rows.add(symbol="IBM")), "a multiplier is outside the schema"),
    "multiplier": (
        _snapshot(multipliers=lambda rows: rows.add(symbol="IBM", multiplier_e8=2**63)),
        "a multiplier is outside the schema",
    ),
    "quantity": (
        _snapshot(remembered_quantity_e8=lambda column: column.__setitem__(0, -(2**63))),
        "a remembered quantity is outside the schema",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_snapshot_that_contradicts_itself_is_refused_with_the_remedy(name: str) -> None:
    data, why = CONTRADICTIONS[name]
    ledger = Ledger(1.0, 100)
    with pytest.raises(SnapshotRefused, match=rf"{why}.*; delete the snapshot to replay the log"):
        ledger.open(0, data, 0.0)
    assert not ledger.owns(0)
    assert ledger.size == 0


@given(data=st.data())
@settings(deadline=None, max_examples=examples(300))
def test_a_spoilt_snapshot_is_refused_or_makes_a_book_that_works(data: st.DataObject) -> None:
    spoilt = bytearray(_snapshot())
    for _ in range(data.draw(st.integers(1, 4))):
        spoilt[data.draw(st.integers(0, len(spoilt) - 1))] = data.draw(st.integers(0, 255))
    ledger = Ledger(1.0, 100)
    try:
        ledger.open(0, bytes(spoilt[: data.draw(st.integers(0, len(spoilt)) | st.just(len(spoilt)))]), 0.0)
    except SnapshotRefused:
        assert not ledger.owns(0)
        return
    acme = Counterparty(SESSION, 2)
    ledger.apply_trades(0, encode_trades([acme.bust("X1", exec_id="B1"), acme.correct("X2", 1, 1, exec_id="B2")]), 0.0)
    due(ledger, 0.0, partitions=1)
    assert ledger.open(0, ledger.dump(0, {}), 0.0) == {}
