"""Messages as counterparties really send them, beside the plain trades of a played market.

Each is what a FIX engine or a trading system has got wrong somewhere, with the account of what must come of it: which
trades are booked, whether it is refused. `docs/fix.md` has the rules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from eod_workers.fix.fields import format_timestamp
from eod_workers.market.tally import Execution
from eod_workers.market.universe import Instrument, Universe, accented
from eod_workers.trades.model import ACTION_BUST, ACTION_CORRECT, ACTION_TRADE
from eod_workers.trades.numbers import E8, format_e8

_DAY_NS = 86_400_000_000_000
_TOO_LONG = 80_000
"""Bytes of a News that nobody takes."""


class Odd(NamedTuple):
    """A message and what must come of it.

    Attributes:
        msg_type: MsgType(35).
        body: what follows the header.
        executions: what is booked; their time is that of the message where `undated`.
        refused: it is rejected, and becomes a dead letter.
        undated: it has no TransactTime(60).
    """

    msg_type: bytes
    body: bytes
    executions: tuple[Execution, ...] = ()
    refused: bool = False
    undated: bool = False


@dataclass(slots=True)
class Maker:
    """What a line needs to say something odd.

    Attributes:
        random: the market's.
        universe: what is traded.
        number: of the line, from 1.
        session: its name.
        traders: those it trades for.
        new_id: makes an ExecID.
        at_ns: now, in whole milliseconds.
        date_of: the trade date of an instant.
    """

    random: Random
    universe: Universe
    number: int
    session: str
    traders: tuple[str, ...]
    new_id: Callable[[], str]
    at_ns: int
    date_of: Callable[[int], int]

    def execution(self, instrument: Instrument, trader: str = "") -> Execution:
        """A trade of an instrument, near its opening price."""
        random = self.random
        quantity = random.randrange(1, 20) * E8
        return Execution(
            session=self.session,
            trade_date=self.date_of(self.at_ns),
            exec_id=self.new_id(),
            exec_ref_id="",
            action=ACTION_TRADE,
            symbol=instrument.key,
            trader=trader or random.choice(self.traders),
            strategy=random.choice(self.universe.strategies),
            quantity_e8=random.choice((quantity, -quantity)),
            px_e8=instrument.opening_px_e8 + random.randrange(-50, 51) * 1_000_000,
            transact_time_ns=self.at_ns,
            multiplier_e8=instrument.multiplier_e8,
        )

    def share(self) -> Instrument:
        """One of the plain symbols."""
        place = self.random.randrange(len(self.universe.symbols))
        symbol = self.universe.symbols[place]
        return Instrument(symbol, b"55=%b\x01" % symbol.encode(), self.universe.opening_px_e8[place])

    def plain(self, more: bytes = b"", trader: str = "") -> tuple[Execution, bytes]:
        """A trade of a share, and its report with more behind it."""
        share = self.share()
        execution = self.execution(share, trader)
        return execution, report_of(execution, share.fields) + more


def report_of(execution: Execution, instrument: bytes, *, timed: bool = True) -> bytes:
    """The body of an ExecutionReport(8); a bust has no quantity and no price."""
    kind = b"H" if execution.action == ACTION_BUST else b"G" if execution.action == ACTION_CORRECT else b"F"
    exec_id = execution.exec_id.encode()
    reference = b"19=%b\x01" % execution.exec_ref_id.encode() if execution.exec_ref_id else b""
    deal = b""
    if execution.action != ACTION_BUST:
        quantity, px = (format_e8(value).encode() for value in (abs(execution.quantity_e8), execution.px_e8))
        deal = b"32=%b\x0131=%b\x01" % (quantity, px)
    time = b"60=%b\x01" % format_timestamp(execution.transact_time_ns) if timed else b""
    return (
        b"37=O%b\x0117=%b\x01%b150=%b\x0139=2\x01453=1\x01448=%b\x01447=D\x01452=12\x01"
        b"%b54=%b\x01%b151=0\x0114=0\x016=0\x01%b6061=%b\x01"
    ) % (
        exec_id, exec_id, reference, kind, execution.trader.encode(), instrument,
        b"1" if execution.quantity_e8 > 0 else b"2", deal, time, execution.strategy.encode(),
    )  # fmt: skip


# --- booked, however they are written ---------------------------------------------------------------------------


def _instrument(make: Maker) -> list[Odd]:
    """An option, a future, a spread below 0, a share in another currency, of another class or exchange."""
    instrument = make.random.choice(make.universe.instruments)
    execution = make.execution(instrument)
    return [Odd(b"8", report_of(execution, instrument.fields), (execution,))]


def _data(make: Maker) -> list[Odd]:
    """What a length field announces is data, although it looks like fields."""
    data = b"was\x0131=9.99\x0132=1000000"
    execution, body = make.plain(b"354=%d\x01355=%b\x01" % (len(data), data))
    return [Odd(b"8", body, (execution,))]


def _undated(make: Maker) -> list[Odd]:
    """No TransactTime(60): SendingTime(52) counts."""
    share = make.share()
    execution = make.execution(share)
    return [Odd(b"8", report_of(execution, share.fields, timed=False), (execution,), undated=True)]


def _same_id_on_another_day(make: Maker) -> list[Odd]:
    """The same ExecID with the TradeDate(75) of the day before is another trade."""
    execution, body = make.plain()
    before = make.date_of(make.at_ns - _DAY_NS)
    share = make.share()
    other = make.execution(share)._replace(exec_id=execution.exec_id, trade_date=before)
    return [
        Odd(b"8", body, (execution,)),
        Odd(b"8", report_of(other, share.fields) + b"75=%d\x01" % before, (other,)),
    ]


def _accented(make: Maker) -> list[Odd]:
    """A name in UTF-8."""
    execution, body = make.plain(trader=accented(make.number))
    return [Odd(b"8", body, (execution,))]


def _legs(make: Maker) -> list[Odd]:
    """A multileg trade: its legs are booked, the summary beside them is not."""
    (one, first), (two, second) = make.plain(b"442=2\x01"), make.plain(b"442=2\x01")
    _, summary = make.plain(b"442=3\x01")
    return [Odd(b"8", summary), Odd(b"8", first, (one,)), Odd(b"8", second, (two,))]


def _bare_bust(make: Maker) -> list[Odd]:
    """A bust that says neither quantity nor price."""
    share = make.share()
    execution = make.execution(share)
    bust = execution._replace(
        exec_id=make.new_id(), exec_ref_id=execution.exec_id, action=ACTION_BUST, quantity_e8=0, px_e8=0
    )
    return [
        Odd(b"8", report_of(execution, share.fields), (execution,)),
        Odd(b"8", report_of(bust, share.fields), (bust,)),
    ]


def _correction(make: Maker) -> list[Odd]:
    """A trade that is corrected after another one has come: the book must be as if it always had been so."""
    share, trader = make.share(), make.random.choice(make.traders)
    first, second = make.execution(share, trader), make.execution(share, trader)
    corrected = make.execution(share, trader)._replace(action=ACTION_CORRECT, exec_ref_id=first.exec_id)
    return [Odd(b"8", report_of(one, share.fields), (one,)) for one in (first, second, corrected)]


def _capture(make: Maker) -> list[Odd]:
    """A TradeCaptureReport(AE): both sides are booked, each for its party."""
    share = make.share()
    bought = make.execution(share)
    name = bought.exec_id
    bought = bought._replace(exec_id=f"AE:{name}:B", quantity_e8=abs(bought.quantity_e8))
    sold = bought._replace(
        exec_id=f"AE:{name}:S", quantity_e8=-bought.quantity_e8, trader=make.random.choice(make.traders)
    )
    sides = b"".join(
        b"54=%b\x0137=O%b\x01453=1\x01448=%b\x01447=D\x01452=12\x01" % (side, name.encode(), one.trader.encode())
        for side, one in ((b"1", bought), (b"2", sold))
    )
    body = b"571=%b\x01570=N\x01%b32=%b\x0131=%b\x0175=%d\x0160=%b\x016061=%b\x01552=2\x01%b" % (
        name.encode(), share.fields, format_e8(bought.quantity_e8).encode(), format_e8(bought.px_e8).encode(),
        bought.trade_date, format_timestamp(bought.transact_time_ns), bought.strategy.encode(), sides,
    )  # fmt: skip
    return [Odd(b"AE", body, (bought, sold))]


# --- kept, and not booked ---------------------------------------------------------------------------------------


def _wrapper(make: Maker) -> list[Odd]:
    """An XMLnonFIX(n) whose data holds what looks like a frame."""
    data = b"<RTRF>8=FIX.4.2\x019=40\x0135=8\x0155=%b\x0131=208700\x0132=1\x0110=000\x01</RTRF>" % (
        make.share().key.encode()
    )
    return [Odd(b"n", b"212=%d\x01213=%b\x01" % (len(data), data))]


def _news(make: Maker) -> list[Odd]:
    """An application message that nobody handles: BusinessMessageReject(j)."""
    return [Odd(b"B", b"148=closing %d\x0133=1\x0158=the auction begins\x01" % make.number)]


def _acknowledgement(make: Maker) -> list[Odd]:
    """A report of an order that is new: quantities and prices, and yet no trade."""
    _, body = make.plain()
    return [Odd(b"8", body.replace(b"\x01150=F\x01", b"\x01150=0\x01"))]


# --- refused ----------------------------------------------------------------------------------------------------


def _twice(make: Maker) -> list[Odd]:
    """LastQty(32) twice: nobody can tell which one is meant."""
    _, body = make.plain(b"32=7\x01")
    return [Odd(b"8", body, refused=True)]


def _stray(make: Maker) -> list[Odd]:
    """A field without "=", under a right checksum."""
    _, body = make.plain(b"oops\x01")
    return [Odd(b"8", body, refused=True)]


def _priceless(make: Maker) -> list[Odd]:
    """A fill without LastPx(31)."""
    share = make.share()
    execution = make.execution(share)
    px = b"31=%b\x01" % format_e8(execution.px_e8).encode()
    return [Odd(b"8", report_of(execution, share.fields).replace(px, b"", 1), refused=True)]


def _too_long(make: Maker) -> list[Odd]:
    """A message beyond the limit."""
    return [Odd(b"B", b"148=closing %d\x0133=1\x0158=%b\x01" % (make.number, b"x" * _TOO_LONG), refused=True)]


ODDITIES: tuple[Callable[[Maker], list[Odd]], ...] = (
    _instrument, _instrument, _instrument, _data, _undated, _same_id_on_another_day, _accented, _legs, _bare_bust,
    _correction, _capture, _wrapper, _news, _acknowledgement, _twice, _stray, _priceless, _too_long,
)  # fmt: skip
"""Each makes one or more messages."""
