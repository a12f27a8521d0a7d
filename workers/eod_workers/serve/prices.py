"""Prices from outside: as text, as CSV, and through a Unix socket into a running `eod serve`.

The socket takes a line of JSON, `{"prices": [[symbol, source, price in 1e-8, event time in ns, yyyymmdd], …]}`, and
answers with one when the log has them: `{"taken": 3, "held": ["IBM"], "positions": ["IBM", …]}`, or `{"error": "…"}`.
Only the user who runs `eod serve` can open it.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from eod_workers.appends import acknowledged
from eod_workers.pnl.marks import SOURCES
from eod_workers.ports import Log, Unavailable
from eod_workers.trades.dates import TradeDates
from eod_workers.trades.numbers import parse_e8
from eod_workers.trades.partitioner import partition_of
from eod_workers.trades.prices import Price, encode_prices

SOURCE_NAMES = {name: source for source, name in SOURCES.items()}
"""How a source of prices is called → its number."""
LAST_TRADE = "last_trade"
_LINE_BYTES = 64 << 20
_A_BATCH = 500
_PRIVATE = 0o700
_AHEAD_S = 60  # clocks differ
_COLUMNS = ("symbol", "price", "source", "time")


class NoPrice(ValueError):
    """A price cannot be understood; the message says which, what is wrong and how to mend it."""


class Answer(NamedTuple):
    """What became of prices: how many the log has, of which symbols there are positions, and in what there are any."""

    taken: int
    held: tuple[str, ...]
    positions: tuple[str, ...]


def make_price(symbol: str, price: str, *, source: str = LAST_TRADE, at_ns: int, dates: TradeDates) -> Price:
    """A price from its text.

    Raises:
        NoPrice: it is none, or there is no such source.
    """
    if not symbol:
        raise NoPrice("a price needs a symbol")
    if source not in SOURCE_NAMES:
        raise NoPrice(f"{symbol}: source {source!r} is none of {', '.join(SOURCE_NAMES)}")
    try:
        px_e8 = parse_e8(price.strip().encode())
    except ValueError as error:
        raise NoPrice(f"{symbol}: price: {error}") from None
    return Price(symbol, SOURCE_NAMES[source], px_e8, at_ns, dates.of(at_ns))


def read_csv(lines: TextIO, *, source: str, now_ns: int, dates: TradeDates) -> Iterator[Price]:
    """The prices of a CSV whose first line names its columns: symbol, price, and if they like source and time.

    A time is written as in ISO 8601, with its zone, and lies not ahead of now.

    Raises:
        NoPrice: a line cannot be understood; the message has its number.
    """
    reader = csv.DictReader(lines)
    try:
        yield from _rows(reader, source=source, now_ns=now_ns, dates=dates)
    except csv.Error as error:
        raise NoPrice(f"line {reader.line_num + 1}: {error}") from None


def _rows(reader: csv.DictReader[str], *, source: str, now_ns: int, dates: TradeDates) -> Iterator[Price]:
    columns = [name.strip().removeprefix("\ufeff").lower() for name in reader.fieldnames or ()]
    if "symbol" not in columns or "price" not in columns or not set(columns) <= set(_COLUMNS):
        raise NoPrice(f"line 1: {', '.join(columns) or 'nothing'}: it must name columns: symbol,price[,source][,time]")
    reader.fieldnames = columns
    for row in reader:
        where = f"line {reader.line_num}"
        if None in row or None in row.values():
            raise NoPrice(f"{where}: it has not as many columns as line 1")
        try:
            yield make_price(
                row["symbol"].strip(),
                row["price"],
                source=row.get("source", "").strip() or source,
                at_ns=_instant_ns(row.get("time", "").strip(), now_ns) or now_ns,
                dates=dates,
            )
        except NoPrice as why:
            raise NoPrice(f"{where}: {why}") from None


def _instant_ns(text: str, now_ns: int) -> int:
    """Nanoseconds since the Unix epoch; 0 for no text."""
    if not text:
        return 0
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise NoPrice(f"time {text!r} is none: write it as 2026-01-02T16:00:00-05:00") from None
    if at.tzinfo is None:
        raise NoPrice(f"time {text!r} has no zone: write it as {text}Z, or with an offset such as -05:00")
    ahead_s = at.timestamp() - now_ns / 1e9
    if ahead_s > _AHEAD_S:
        raise NoPrice(f"time {text!r} is {ahead_s:,.0f} s from now: no later price would count until then")
    return round(at.timestamp() * 1_000_000) * 1_000


async def append_prices(log: Log, topic: str, prices: Iterable[Price], spread: int | None = None) -> int:
    """Appends prices to their partitions, in their order; returns how many, once the log has them.

    Args:
        log: where.
        topic: of prices.
        prices: which.
        spread: over how many partitions the trades are; all there are if it is not given.

    Raises:
        Unavailable: the log is away; some of the prices may be there.
        UnknownTopic: there is no such topic.
    """
    partitions = spread or await log.partition_count(topic)
    by_partition: dict[int, list[Price]] = {}
    for price in prices:
        by_partition.setdefault(partition_of(price.symbol, partitions), []).append(price)
    producer = await log.producer()
    try:
        sent = [
            await producer.send(topic, partition, encode_prices(some[first : first + _A_BATCH]))
            for partition, some in by_partition.items()
            for first in range(0, len(some), _A_BATCH)
        ]
        await acknowledged(producer, sent)
    finally:
        await producer.close()
    return sum(map(len, by_partition.values()))


def socket_path(port: int) -> Path:
    """Where the `eod serve` of this user whose FIX port is `port` takes prices."""
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    return base / f"eod-{os.getuid()}" / f"serve-{port}.sock"


class PriceDoor:
    """Takes prices from the socket of a port while it is open."""

    def __init__(self, port: int, log: Log, topic: str, held: Callable[[], Collection[str]]) -> None:
        """`held` tells in which symbols there are positions."""
        self.path = socket_path(port)
        self._log = log
        self._topic = topic
        self._held = held
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listens. A socket that an earlier process has left behind is replaced.

        Raises:
            OSError: it cannot be listened there, or the folder of the socket is somebody else's.
        """
        folder = self.path.parent
        folder.mkdir(mode=_PRIVATE, exist_ok=True)
        found = folder.stat()
        if found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise PermissionError(f"{folder} can be opened by others than us: delete it, or set XDG_RUNTIME_DIR")
        with suppress(FileNotFoundError):
            self.path.unlink()
        self._server = await asyncio.start_unix_server(self._serve, self.path, limit=_LINE_BYTES)
        self.path.chmod(0o600)

    async def close(self) -> None:
        """Listens no more."""
        if self._server is not None:
            self._server.close()
            with suppress(FileNotFoundError):
                self.path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._take(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # whoever it was has gone, or has sent a line without an end
        finally:
            writer.close()

    async def _take(self, line: bytes) -> dict[str, object]:
        try:
            prices = [_checked(row) for row in json.loads(line)["prices"]]
            taken = await append_prices(self._log, self._topic, prices)
        except (ValueError, TypeError, KeyError) as error:
            return {"error": f"these are no prices: {error}"}
        except Unavailable as error:
            return {"error": str(error)}
        held = self._held()
        symbols = dict.fromkeys(price.symbol for price in prices)
        return {"taken": taken, "held": [one for one in symbols if one in held], "positions": sorted(held)}


def _checked(row: Sequence[Any]) -> Price:
    symbol, source, px_e8, event_time_ns, session_date = row
    price = Price(str(symbol), int(source), int(px_e8), int(event_time_ns), int(session_date))
    if price.source not in SOURCES or not -(2**63) <= price.px_e8 < 2**63:
        raise ValueError(f"{row} is outside the schema")
    return price


async def send_prices(port: int, prices: Sequence[Price]) -> Answer:
    """Hands prices to a running `eod serve`.

    Raises:
        OSError: none runs on that port, or it does not answer.
        NoPrice: it refuses them.
    """
    path = socket_path(port)
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=_LINE_BYTES)
    except (FileNotFoundError, ConnectionRefusedError):
        raise FileNotFoundError(
            f"no 'eod serve' of this user runs on port {port}: start one, name its port with --port, or set "
            "EOD_KAFKA_BOOTSTRAP for a pipeline on Kafka"
        ) from None
    try:
        writer.write(json.dumps({"prices": prices}).encode() + b"\n")
        await writer.drain()
        line = await reader.readline()
    finally:
        writer.close()
    if not line:
        raise ConnectionError("'eod serve' has ended: it is not known whether it has taken the prices")
    told = json.loads(line)
    if "error" in told:
        raise NoPrice(str(told["error"]))
    return Answer(int(told["taken"]), tuple(told["held"]), tuple(told["positions"]))
