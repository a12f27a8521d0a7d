"""Rows of `trades.raw` as the tests of flash P&L write them, and random histories of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from eod_workers.pnl.book import PartitionBook
from eod_workers.trades.model import ACTION_BUST, ACTION_CORRECT, ACTION_TRADE, SIDE_BUY, SIDE_SELL, Trade
from hypothesis import strategies as st

E8 = 10**8
E16 = 10**16
SESSION = "ACME->EOD"


@dataclass
class Counterparty:
    """A FIX session that numbers its messages; quantities and prices are in whole units, negative for a sale."""

    session: str = SESSION
    epoch: int = 1
    msg_seq_num: int = 0
    trade_date: int = 20260102
    _exec_ids: int = field(default=0, init=False)

    def next_day(self) -> None:
        """Its ExecIDs begin again, as FIX lets them, and its numbers go on."""
        self.trade_date += 1
        self._exec_ids = 0

    def trade(
        self, quantity: float, price: float, *, trader: str = "ann", symbol: str = "IBM", exec_id: str = ""
    ) -> Trade:
        """A new execution."""
        return self._row(ACTION_TRADE, quantity, price, trader, symbol, exec_id, "")

    def bust(self, ref: str, *, symbol: str = "IBM", exec_id: str = "") -> Trade:
        """Takes an execution back; its own numbers must not matter, so they are strange ones."""
        return self._row(ACTION_BUST, 7, 7, "nobody", symbol, exec_id, ref)

    def correct(
        self, ref: str, quantity: float, price: float, *, trader: str = "ann", symbol: str = "IBM", exec_id: str = ""
    ) -> Trade:
        """Replaces an execution."""
        return self._row(ACTION_CORRECT, quantity, price, trader, symbol, exec_id, ref)

    def again(self, row: Trade) -> Trade:
        """The same execution under a new sequence number."""
        self.msg_seq_num += 1
        return row._replace(epoch=self.epoch, msg_seq_num=self.msg_seq_num)

    def _row(
        self, action: int, quantity: float, price: float, trader: str, symbol: str, exec_id: str, ref: str
    ) -> Trade:
        self.msg_seq_num += 1
        self._exec_ids += 1
        return Trade(
            session=self.session,
            epoch=self.epoch,
            msg_seq_num=self.msg_seq_num,
            exec_id=exec_id or f"X{self._exec_ids}",
            exec_ref_id=ref,
            action=action,
            side=SIDE_BUY if quantity > 0 else SIDE_SELL,
            symbol=symbol,
            trader=trader,
            strategy="",
            account="",
            last_qty_e8=round(abs(quantity) * E8),
            last_px_e8=round(price * E8),
            transact_time_ns=1_767_387_600_000_000_000,
            received_at_ns=1_767_387_600_001_000_000,
            frame=b"",
            trade_date=self.trade_date,
        )


def facts(book: PartitionBook) -> dict[tuple[str, str], tuple[int, int, int]]:
    """What does not depend on the order of trades."""
    return {key: (p.quantity_e8, p.cash_e16, p.trades) for key, p in book.positions()}


_STEP = st.tuples(
    st.sampled_from(
        ["trade", "trade", "trade", "bust", "correct", "resend", "again", "redrive", "reset", "no side", "next day"]
    ),
    st.sampled_from(["A->E", "B->E"]),
    st.sampled_from(["ann", "bob", ""]),
    st.sampled_from(["IBM", "AIG"]),
    st.sampled_from([SIDE_BUY, SIDE_SELL]),
    st.integers(1, 10**12),
    st.integers(1, 10**13),
    st.integers(0, 1_000),
)
# Few rows to show a failure in, many to find it with: left alone, Hypothesis draws about five.
_STEPS = st.lists(_STEP, max_size=8) | st.lists(_STEP, min_size=15, max_size=40)


@st.composite
def histories(draw: st.DrawFn) -> list[Trade]:
    """Rows as two sessions may send them: trades, busts and corrections of anything, resends, redrives, resets."""
    rows: list[Trade] = []
    counterparties = {"A->E": Counterparty("A->E"), "B->E": Counterparty("B->E")}
    for what, session, trader, symbol, side, quantity_e8, px_e8, pick in draw(_STEPS):
        counterparty = counterparties[session]
        past = [row for row in rows if row.session == session]
        earlier = past[pick % len(past)] if past else None
        # Mostly something that was traded, under its symbol, or else hardly a bust or correction would succeed.
        traded = [row for row in past if row.action != ACTION_BUST and row.side and row.exec_ref_id != "unheard of"]
        named = traded[pick % len(traded)] if traded and pick % 7 != 6 else earlier
        ref = "unheard of" if named is None or pick % 13 == 12 else named.exec_id
        of = symbol if named is None or pick % 11 == 10 else named.symbol
        numbers = {"side": side, "last_qty_e8": quantity_e8, "last_px_e8": px_e8}
        numbers["multiplier_e8"] = 50 * E8 if pick % 5 == 0 else 0
        if what == "trade":
            rows.append(counterparty.trade(1, 1, trader=trader, symbol=symbol)._replace(**numbers))
        elif what == "no side":
            rows.append(counterparty.trade(1, 1, trader=trader, symbol=symbol)._replace(side=0))
        elif what == "bust":
            rows.append(counterparty.bust(ref, symbol=of))
        elif what == "correct":
            rows.append(counterparty.correct(ref, 1, 1, trader=trader, symbol=of)._replace(**numbers))
        elif what == "next day":
            counterparty.next_day()
        elif what == "reset":
            counterparty.epoch, counterparty.msg_seq_num = counterparty.epoch + 1, 0
        elif earlier is not None and what == "resend":
            rows.append(earlier)
        elif earlier is not None and what == "again":
            rows.append(counterparty.again(earlier))
        elif earlier is not None:
            rows.append(earlier._replace(redrive_of="dead-letter"))
    return rows
