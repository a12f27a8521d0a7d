"""Trades as ingestion writes them, one at a time and at random."""

from __future__ import annotations

from eod_workers.fix.frames import frame
from eod_workers.trades.model import ACTION_BUST, ACTION_CORRECT, ACTION_TRADE, SIDE_BUY, SIDE_SELL, Trade
from hypothesis import strategies as st

SESSION = "ACME->EOD"
AT_NS = 1_767_387_600_000_000_000


def row(number: int = 1, **changes: object) -> Trade:
    """The trade with MsgSeqNum `number`: 100 IBM at 12.5 bought by T001, unless `changes` say otherwise."""
    exec_id = str(changes.get("exec_id", f"X{number}"))
    raw = frame(b"FIX.4.4", b"35=8\x0149=ACME\x0156=EOD\x0134=%d\x0117=%b\x01" % (number, exec_id.encode("latin-1")))
    usual = Trade(
        session=SESSION,
        epoch=1,
        msg_seq_num=number,
        exec_id=exec_id,
        exec_ref_id="",
        action=ACTION_TRADE,
        side=SIDE_BUY,
        symbol="IBM",
        trader="T001",
        strategy="VWAP",
        account="ACC1",
        last_qty_e8=100 * 10**8,
        last_px_e8=1_250_000_000,
        transact_time_ns=AT_NS + number,
        received_at_ns=AT_NS + 1_000_000 + number,
        frame=raw,
        trade_date=20260102,
    )
    return usual._replace(**changes)  # type: ignore[arg-type]


LATIN_1 = st.text(st.characters(max_codepoint=255), max_size=12)
INT64 = st.integers(-(2**63), 2**63 - 1)
TRADES = st.builds(
    Trade,
    session=LATIN_1,
    epoch=st.integers(0, 2**32 - 1),
    msg_seq_num=st.integers(0, 2**63 - 1),
    exec_id=LATIN_1,
    exec_ref_id=st.just("") | LATIN_1,
    action=st.sampled_from([ACTION_TRADE, ACTION_BUST, ACTION_CORRECT]),
    side=st.sampled_from([SIDE_BUY, SIDE_SELL]),
    symbol=LATIN_1,
    trader=LATIN_1,
    strategy=LATIN_1,
    account=LATIN_1,
    last_qty_e8=st.integers(-(2**63) + 1, 2**63 - 1),  # that of a sale is its opposite
    last_px_e8=INT64,
    transact_time_ns=INT64,
    received_at_ns=INT64,
    frame=st.binary(min_size=1, max_size=30),  # an empty one stands for that of the row before
    trade_date=st.just(20260102) | st.integers(0, 2**32 - 1),
    time_source=st.integers(0, 1),
    multiplier_e8=st.just(0) | st.integers(0, 2**63 - 1),
)
