"""Trades per second and core of the hot path's parts, each against a peer in the same run (the ratio is what counts).

Peers: simplefix for FIX frames to fields; the pure code for the kernel's way from bytes to records; one single-trade
record a trade for the columnar batch; the textbook average cost with fractions for the book. Medians of five runs
after a warm-up.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from fractions import Fraction
from random import Random

import simplefix
from eod_workers import kernel
from eod_workers.fix.dictionary import dictionary
from eod_workers.fix.frames import FrameBuffer, Garbled, frame
from eod_workers.fix.reading import read
from eod_workers.market.play import report
from eod_workers.market.tally import Execution, Holding
from eod_workers.market.universe import make_universe
from eod_workers.pnl.book import PartitionBook
from eod_workers.ports import Record, TradeRow
from eod_workers.regulatory.enrichment import enrich, enrich_all
from eod_workers.trades.codec import decode_trades, encode_trades, read_trades
from eod_workers.trades.columns import TradeColumns
from eod_workers.trades.dates import TradeDates
from eod_workers.trades.executions import trade_of
from eod_workers.trades.model import ACTION_TRADE, SIDE_BUY, Trade
from eod_workers.trades.reference import ReferenceData
from rich.console import Console
from rich.table import Table

TRADES = 5_000
KNOWN = dictionary(b"FIX.4.4")
DATES = TradeDates()
BEGAN_NS = 1_795_000_000_000_000_000
DAY = DATES.of(BEGAN_NS)
BATCH = 250
READ = 4_096
PARTITIONS = 12
SESSION = "BROKER1->EOD"
AT = Record("trades.raw", 3, 17, None, b"", 0)
Records = list[tuple[int, int, bytes]]


def frames() -> list[bytes]:
    """Execution reports of a seeded market, as whole frames."""
    random, universe = Random("bench"), make_universe(1)
    out = []
    for number in range(1, TRADES + 1):
        quantity = random.randrange(1, 50) * 10_000_000_000 * random.choice((1, -1))
        execution = Execution(
            SESSION,
            DAY,
            f"BROKER1-{number:08d}",
            "",
            ACTION_TRADE,
            random.choice(universe.symbols),
            random.choice(universe.traders),
            random.choice(universe.strategies),
            quantity,
            random.randrange(500, 50_000) * 1_000_000,
            BEGAN_NS + number * 1_000_000,
        )
        head = b"35=8\x0149=BROKER1\x0156=EOD\x0134=%d\x0152=20261120-20:59:59.123\x01" % number
        out.append(frame(b"FIX.4.4", head + report(execution)))
    return out


def per_second(work: Callable[[], object]) -> float:
    """Trades per second: the median of five runs after one that warms up."""
    work()
    rates = []
    for _ in range(5):
        start = time.perf_counter()
        work()
        rates.append(TRADES / (time.perf_counter() - start))
    return statistics.median(rates)


def ours_fix(wire: bytes) -> list[Trade]:
    """Bytes to trades, checksum and every field checked."""
    out = []
    for item in FrameBuffer().feed(wire):
        assert not isinstance(item, Garbled)  # noqa: S101 - the bench's own input
        trade = trade_of(read(item, KNOWN), item, session="S", epoch=1, msg_seq_num=1, received_at_ns=0, dates=DATES)
        assert trade is not None  # noqa: S101 - the same
        out.append(trade)
    return out


def pure_records(wire: bytes) -> Records:
    """Bytes to records of `trades.raw`, by the pure code."""
    columns = TradeColumns(PARTITIONS)
    for number, item in enumerate(FrameBuffer().feed(wire), 1):
        assert not isinstance(item, Garbled)  # noqa: S101 - the bench's own input
        trade = trade_of(
            read(item, KNOWN), item, session=SESSION, epoch=1, msg_seq_num=number, received_at_ns=0, dates=DATES
        )
        assert trade is not None  # noqa: S101 - the same
        columns.add(trade)
    return columns.drain()


def kernels_records(wire: bytes) -> Records:
    """The same by the kernel."""
    from eod_workers.ingestion.plain_kernel import take_plain  # noqa: PLC0415 - the same
    from eod_workers.trades.columns_kernel import TradeColumns as InC  # noqa: PLC0415 - a machine may have no kernel

    columns = InC(PARTITIONS)
    take_plain(
        wire,
        0,
        columns,
        begin_string=b"FIX.4.4",
        sender=b"BROKER1",
        target=b"EOD",
        session=SESSION,
        epoch=1,
        expected=1,
        received_at_ns=0,
        dates=DATES,
    )
    return columns.drain()


def decoded(records: Records) -> list[tuple[int, list[Trade]]]:
    """What readers of the records get."""
    return [(partition, decode_trades(value)) for partition, _, value in records]


def simplefix_fields(wire: bytes) -> int:
    """Bytes to messages with the same eight fields read; simplefix checks no checksum."""
    parser = simplefix.FixParser()
    count = 0
    for start in range(0, len(wire), READ):  # in reads of a socket's size: it copies its buffer for every message
        parser.append_buffer(wire[start : start + READ])
        while (message := parser.get_message()) is not None:
            for tag in (17, 55, 54, 32, 31, 60, 448, 150):
                message.get(tag)
            count += 1
    return count


def textbook(trades: list[Trade]) -> dict[tuple[str, str], Holding]:
    """Positions with fractions."""
    holdings: dict[tuple[str, str], Holding] = {}
    for trade in trades:
        quantity = trade.last_qty_e8 if trade.side == SIDE_BUY else -trade.last_qty_e8
        holding = holdings.setdefault((trade.trader, trade.symbol), Holding())
        holding.trade(Fraction(quantity, 10**8), Fraction(trade.last_px_e8, 10**8))
    return holdings


def known() -> ReferenceData:
    """Reference data of the market."""
    universe = make_universe(1)
    return ReferenceData(
        traders=dict.fromkeys(universe.traders, ("name", "desk")),
        strategies=dict.fromkeys(universe.strategies, "name"),
        securities=dict.fromkeys(universe.symbols, "isin"),
    )


def rows_by_columns(batches: list[bytes], reference: ReferenceData) -> list[TradeRow]:
    """What the regulatory stage stores of records."""
    return [row for value in batches for row in enrich_all(read_trades(value), reference, AT)[0]]


def book(trades: list[Trade]) -> PartitionBook:
    """Positions as flash P&L keeps them, deduplication included."""
    out = PartitionBook()
    for trade in trades:
        out.apply(trade)
    return out


def main() -> None:
    """Measures, compares the answers, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", metavar="FILE", help="write the numbers here too")
    options = parser.parse_args()
    wire = b"".join(frames())
    trades = [trade._replace(msg_seq_num=n) for n, trade in enumerate(ours_fix(wire), 1)]
    parts = [trades[i : i + BATCH] for i in range(0, TRADES, BATCH)]
    batches, singles = [encode_trades(part) for part in parts], [encode_trades([trade]) for trade in trades]
    reference = known()
    if rows_by_columns(batches, reference) != [enrich(trade, reference, AT)[0] for trade in trades]:
        raise SystemExit("rows by columns and trade by trade differ: no time is worth reporting")
    expected, positions = textbook(trades), dict(book(trades).positions())
    if {key: held.quantity for key, held in expected.items()} != {
        key: Fraction(position.quantity_e8, 10**8) for key, position in positions.items()
    }:
        raise SystemExit("the book and the textbook disagree: no time is worth reporting")
    rows = {
        "FIX frames → trades (peer: simplefix, fields only)": (
            per_second(lambda: ours_fix(wire)),
            per_second(lambda: simplefix_fields(wire)),
        ),
        f"trades → records of {BATCH} (peer: a record a trade)": (
            per_second(lambda: [encode_trades(part) for part in parts]),
            per_second(lambda: [encode_trades([trade]) for trade in trades]),
        ),
        f"records of {BATCH} → trades (peer: a record a trade)": (
            per_second(lambda: [decode_trades(value) for value in batches]),
            per_second(lambda: [decode_trades(value) for value in singles]),
        ),
        f"records of {BATCH} → regulatory rows (peer: trade by trade)": (
            per_second(lambda: [enrich_all(read_trades(value), reference, AT) for value in batches]),
            per_second(lambda: [[enrich(one, reference, AT) for one in decode_trades(value)] for value in batches]),
        ),
        "trades → positions (peer: fractions, no deduplication)": (
            per_second(lambda: book(trades)),
            per_second(lambda: textbook(trades)),
        ),
    }
    if kernel.available():
        if decoded(kernels_records(wire)) != decoded(pure_records(wire)):
            raise SystemExit("the kernel and the pure code disagree: no time is worth reporting")
        rows["FIX bytes → TradeBatch, by the kernel (peer: the pure code)"] = (
            per_second(lambda: kernels_records(wire)),
            per_second(lambda: pure_records(wire)),
        )
    else:
        print(f"not measured: the kernel ({kernel.why_not()})")
    table = Table("trades/s on one core", title=f"{platform.python_version()}, {TRADES:,} trades, medians of 5")
    for name in ("ours", "peer", "ratio"):
        table.add_column(name, justify="right")
    for name, (ours, peer) in rows.items():
        table.add_row(name, f"{ours:,.0f}", f"{peer:,.0f}", f"{ours / peer:.1f}")
    Console().print(table)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:  # noqa: PTH123 - one line
            json.dump({name: {"ours": a, "peer": b, "ratio": a / b} for name, (a, b) in rows.items()}, file, indent=2)


if __name__ == "__main__":
    main()
