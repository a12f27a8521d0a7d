"""Trades and frames through bytes and back; what is no batch is refused in one way only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from eod_workers.layouts import TRADE_BATCH, UndecodableBatch
from eod_workers.protos.trades_pb2 import FrameBatch, TradeBatch
from eod_workers.trades.codec import (
    decode_frames,
    decode_trades,
    encode_frames,
    encode_trades,
    read_trades,
    split_trades,
)
from eod_workers.trades.prices import Price, decode_prices, encode_prices
from hypothesis import given
from hypothesis import strategies as st
from support.trade_rows import LATIN_1, TRADES, row

PRICES = st.builds(
    Price,
    symbol=LATIN_1,
    source=st.integers(1, 4),
    px_e8=st.integers(-(2**63), 2**63 - 1),
    event_time_ns=st.integers(-(2**63), 2**63 - 1),
    session_date=st.integers(0, 99_999_999),
)
SAMPLE_TRADES = encode_trades([row(1), row(2, exec_ref_id="X1", action=2), row(3, symbol="AIG", trader="")])
SAMPLE_PRICES = encode_prices([Price("IBM", 4, 1_250_000_000, 7, 20260102), Price("AIG", 2, 5, 8, 20260102)])
SAMPLE_FRAMES = encode_frames("ACME->EOD", [b"8=FIX.4.4\x01", b"", b"abc"], [1, 2, 3])
DECODERS: list[tuple[Callable[[bytes], object], bytes]] = [
    (decode_trades, SAMPLE_TRADES),
    (decode_prices, SAMPLE_PRICES),
    (decode_frames, SAMPLE_FRAMES),
]


# --- round trips --------------------------------------------------------------------------------------------


@given(trades=st.lists(TRADES, min_size=1, max_size=8), redrive_of=st.sampled_from(["", "5f3a"]))
def test_trades_come_back_as_they_were_in_their_order(trades: list[Any], redrive_of: str) -> None:
    trades = [trade._replace(redrive_of=redrive_of) for trade in trades]
    assert decode_trades(encode_trades(trades)) == trades


@given(prices=st.lists(PRICES, max_size=8))
def test_prices_come_back_as_they_were(prices: list[Price]) -> None:
    assert decode_prices(encode_prices(prices)) == prices


@given(session=LATIN_1, frames=st.lists(st.binary(max_size=20), max_size=6))
def test_frames_come_back_with_their_session(session: str, frames: list[bytes]) -> None:
    assert decode_frames(encode_frames(session, frames, range(len(frames)))) == (session, frames)


@given(trades=st.lists(TRADES, min_size=1, max_size=9), shared=st.sets(st.integers(1, 8)))
def test_a_record_is_split_until_it_is_single_trades_and_shared_frames_stay_whole(
    trades: list[Any], shared: set[int]
) -> None:
    """In their order, each received byte once; a trade that shares the frame before it stays with it."""
    sides = [trade._replace(frame=b"" if n in shared else b"frame %d" % n) for n, trade in enumerate(trades)]
    whole = encode_trades(sides)
    waiting, parts = [whole], []
    while waiting:
        some = waiting.pop()
        if halves := split_trades(some):
            waiting += reversed(halves)
        else:
            parts.append(some)
    assert [trade for part in parts for trade in decode_trades(part)] == decode_trades(whole)
    assert [frame for part in parts for frame in read_trades(part).received()] == read_trades(whole).received()
    assert all(len(read_trades(part).received()) == 1 for part in parts)


def test_exec_ref_ids_are_left_out_when_every_row_is_a_trade() -> None:
    batch = TradeBatch.FromString(encode_trades([row(1), row(2)]))
    assert list(batch.exec_ref_id) == []
    assert [trade.exec_ref_id for trade in decode_trades(batch.SerializeToString())] == ["", ""]


def test_one_bust_among_trades_keeps_the_reference_in_its_own_row() -> None:
    trades = [row(1), row(2, exec_ref_id="X1", action=2), row(3)]
    assert [trade.exec_ref_id for trade in decode_trades(encode_trades(trades))] == ["", "X1", ""]


def test_names_that_repeat_are_in_the_string_table_once() -> None:
    batch = TradeBatch.FromString(encode_trades([row(number) for number in range(50)]))
    assert sorted(batch.strings) == sorted({"", "ACME->EOD", "IBM", "T001", "VWAP", "ACC1"})


def test_element_0_of_the_string_table_is_the_empty_string() -> None:
    """Readers in other languages rely on it."""
    assert TradeBatch.FromString(SAMPLE_TRADES).strings[0] == ""


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, TRADE_BATCH.version + 1, 2**32 - 1])
def test_a_trade_batch_of_another_version_is_refused_with_both_numbers(version: int) -> None:
    batch = TradeBatch.FromString(SAMPLE_TRADES)
    batch.version = version
    with pytest.raises(UndecodableBatch, match=rf"version {version}; this reader knows {TRADE_BATCH.version}"):
        decode_trades(batch.SerializeToString())


@pytest.mark.parametrize("version", [0, TRADE_BATCH.version + 1])
def test_a_frame_batch_of_another_version_is_refused(version: int) -> None:
    batch = FrameBatch.FromString(SAMPLE_FRAMES)
    batch.version = version
    with pytest.raises(UndecodableBatch, match=f"version {version}"):
        decode_frames(batch.SerializeToString())


COLUMNS = [
    "session", "epoch", "msg_seq_num", "exec_id", "exec_ref_id", "action", "side", "symbol", "trader", "strategy",
    "account", "last_qty_e8", "last_px_e8", "transact_time_ns", "received_at_ns",
]  # fmt: skip


@pytest.mark.parametrize("column", [*COLUMNS, "frame_length"])
@pytest.mark.parametrize("change", ["shorter", "longer", "emptied"])
def test_a_column_of_another_length_is_refused(column: str, change: str) -> None:
    """No row may be dropped silently, nor one be made up. An absent exec_ref_id column alone means "none"."""
    batch = TradeBatch.FromString(SAMPLE_TRADES)
    values = getattr(batch, column)
    if change == "shorter":
        del values[-1]
    elif change == "longer":
        values.append("" if isinstance(values[0], str) else 0)
    else:
        del values[:]
    if (column, change) == ("exec_ref_id", "emptied"):
        assert {trade.exec_ref_id for trade in decode_trades(batch.SerializeToString())} == {""}
        return
    if (column, change) == ("frame_length", "longer"):
        # The lengths still add up: only the number of rows gives it away.
        assert sum(batch.frame_length) == len(batch.frames)
    with pytest.raises(UndecodableBatch, match=r"fit together|adds up"):
        decode_trades(batch.SerializeToString())


@pytest.mark.parametrize("column", ["session", "symbol", "trader", "strategy", "account"])
def test_an_index_beyond_the_string_table_is_refused(column: str) -> None:
    batch = TradeBatch.FromString(SAMPLE_TRADES)
    getattr(batch, column)[1] = len(batch.strings)
    with pytest.raises(UndecodableBatch, match="fit together"):
        decode_trades(batch.SerializeToString())


def test_a_quantity_without_an_opposite_is_refused_with_its_exec_id() -> None:
    """Sold, it would need 65 bits."""
    batch = TradeBatch.FromString(SAMPLE_TRADES)
    batch.last_qty_e8[1] = -(2**63)
    with pytest.raises(UndecodableBatch, match=f"ExecID {batch.exec_id[1]}: the quantity -9223372036854775808"):
        decode_trades(batch.SerializeToString())


@pytest.mark.parametrize(("column", "value"), [("action", 0), ("action", 4), ("side", 0), ("side", 3)])
def test_an_action_or_side_outside_the_schema_is_refused_with_its_exec_id(column: str, value: int) -> None:
    """An unspecified side must never count as a sale."""
    batch = TradeBatch.FromString(SAMPLE_TRADES)
    getattr(batch, column)[1] = value
    with pytest.raises(UndecodableBatch, match=rf"ExecID X2: .*{column} {value}"):
        decode_trades(batch.SerializeToString())


def test_a_price_of_a_source_outside_the_schema_is_refused() -> None:
    """Found here it is one dead letter; found in the book it would stop the stage for ever."""
    with pytest.raises(UndecodableBatch, match="source 9"):
        decode_prices(encode_prices([Price("IBM", 4, 1, 1, 20260102), Price("AIG", 9, 1, 1, 20260102)]))


@pytest.mark.parametrize(("decode", "sample"), DECODERS)
def test_every_truncation_either_decodes_or_is_undecodable(decode: Callable[[bytes], object], sample: bytes) -> None:
    outcomes = {_outcome(decode, sample[:end]) for end in range(len(sample))}
    assert outcomes <= {"decoded", "refused"}
    assert "refused" in outcomes


@given(data=st.data())
def test_mutated_bytes_raise_nothing_but_undecodable_batch(data: st.DataObject) -> None:
    decode, sample = data.draw(st.sampled_from(DECODERS))
    mutated = bytearray(sample)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        mutated[at] = data.draw(st.integers(0, 255))
    assert _outcome(decode, bytes(mutated)) in {"decoded", "refused"}


@given(value=st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_undecodable_batch(value: bytes) -> None:
    for decode, _ in DECODERS:
        assert _outcome(decode, value) in {"decoded", "refused"}


def _outcome(decode: Callable[[bytes], object], value: bytes) -> str:
    try:
        decode(value)
    except UndecodableBatch as error:
        return "refused" if str(error) else "refused without a reason"
    return "decoded"
