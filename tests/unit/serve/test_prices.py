"""Prices as text and CSV, and through the socket: what is understood arrives, what is not is named."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from eod_workers import appends
from eod_workers.adapters.memory_log import MemoryLog
from eod_workers.ports import TopicPartition, TopicSpec, Unavailable
from eod_workers.serve.prices import (
    Answer,
    NoPrice,
    PriceDoor,
    append_prices,
    make_price,
    read_csv,
    send_prices,
    socket_path,
)
from eod_workers.trades.dates import TradeDates
from eod_workers.trades.partitioner import partition_of
from eod_workers.trades.prices import Price, decode_prices
from support.parted_log import PartedLog

NOW = 1_767_387_600_000_000_000  # 2026-01-02 16:00 in New York
DATES = TradeDates()
E8 = 10**8


def read(text: str) -> list[Price]:
    """The prices of a CSV."""
    return list(read_csv(io.StringIO(text), source="last_trade", now_ns=NOW, dates=DATES))


async def test_a_price_into_a_partition_that_nobody_leads_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appends, "_LOOK_S", 0.01)
    log = MemoryLog()
    await log.ensure_topics([TopicSpec("prices", 1)])
    parted = PartedLog(log)
    parted.without = {TopicPartition("prices", 0)}
    price = make_price("IBM", "12.5", at_ns=NOW, dates=DATES)
    with pytest.raises(Unavailable, match=r"^nobody leads prices\[0\]: a broker that has it must come back"):
        await append_prices(parted, "prices", [price])  # type: ignore[arg-type]
    parted.without.clear()
    assert await append_prices(parted, "prices", [price]) == 1  # type: ignore[arg-type]
    await log.close()


def test_a_price_is_that_of_the_day_it_was_made() -> None:
    assert make_price("IBM", " 12.5 ", at_ns=NOW, dates=DATES) == Price("IBM", 3, 1_250_000_000, NOW, 20260102)
    late = make_price("CL", "-37.63", source="official_close", at_ns=NOW + 9 * 3_600 * 10**9, dates=DATES)
    assert (late.px_e8, late.source, late.session_date) == (-3_763_000_000, 4, 20260103)


@pytest.mark.parametrize(
    ("text", "prices"),
    [
        ("symbol,price\n", []),
        ("\ufeffsymbol,price\r\nIBM,1\r\n", [("IBM", 3, E8)]),
        ("symbol,price\nIBM,12.5\nES 202603,5010\n", [("IBM", 3, 1250 * 10**6), ("ES 202603", 3, 5010 * E8)]),
        ("Price, Symbol , source\n12.5,IBM,mid\n1,AIG,\n", [("IBM", 2, 1250 * 10**6), ("AIG", 3, E8)]),
        ('symbol,price\r\n"IBM   260116C00150000",-1\r\n', [("IBM   260116C00150000", 3, -E8)]),
    ],
)
def test_a_csv_is_read_by_its_columns(text: str, prices: list[tuple[str, int, int]]) -> None:
    assert [(one.symbol, one.source, one.px_e8) for one in read(text)] == prices


def test_a_csv_may_say_when() -> None:
    first, second = read("symbol,price,time\nIBM,1,2026-01-02T16:00:00-05:00\nIBM,2,\n")
    assert (first.event_time_ns, first.session_date, second.event_time_ns) == (NOW, 20260102, NOW)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("symbol,price\n" + "A" * 200_000 + ",1\n", "line 2: field larger than field limit"),
        ("", r"line 1: nothing: it must name columns: symbol,price"),
        ("IBM,12.5\n", "line 1: ibm, 12.5: it must name columns"),
        ("symbol,price,venue\nIBM,1,X\n", "line 1: symbol, price, venue: it must"),
        ("symbol,price\nIBM\n", "line 2: it has not as many columns"),
        ("symbol,price\nIBM,1,2\n", "line 2: it has not as many columns"),
        ("symbol,price\nIBM,1\n,2\n", "line 3: a price needs a symbol"),
        ("symbol,price\nIBM,1e3\n", "line 2: IBM: price: '1e3' is not a decimal number"),
        (
            "symbol,price,source\nIBM,1,close\n",
            "line 2: IBM: source 'close' is none of previous_close, mid, last_trade",
        ),
        ("symbol,price,time\nIBM,1,noon\n", "line 2: time 'noon' is none"),
        ("symbol,price,time\nIBM,1,2026-01-03T16:00:00-05:00\n", r"line 2: time '2026-01-03.* is 86,400 s from now"),
        ("symbol,price,time\nIBM,1,2026-01-02T16:00:00\n", "line 2: time '2026-01-02T16:00:00' has no zone"),
    ],
)
def test_a_line_that_is_no_price_is_named(text: str, says: str) -> None:
    with pytest.raises(NoPrice, match=says):
        read(text)


@pytest.fixture
async def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MemoryLog]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    log = MemoryLog()
    await log.ensure_topics([TopicSpec("prices", 4)])
    yield log
    await log.close()


async def test_prices_go_through_the_door_to_the_partitions_of_their_symbols(log: MemoryLog) -> None:
    door = PriceDoor(9876, log, "prices", lambda: {"IBM", "AIG"})
    await door.open()
    prices = [Price(f"S{number}", 3, number, NOW, 20260102) for number in range(1_200)] + [Price("IBM", 4, -5, 1, 2)]
    assert await send_prices(9876, prices) == Answer(1_201, ("IBM",), ("AIG", "IBM"))
    found = [
        (number, price)
        for number, end in (await log.end_offsets("prices")).items()
        async for record in log.read(TopicPartition("prices", number), 0, end)
        for price in decode_prices(record.value)
    ]
    assert {price for _, price in found} == set(prices)
    assert all(number == partition_of(price.symbol, 4) for number, price in found)
    assert (socket_path(9876).stat().st_mode & 0o777, socket_path(9876).parent.stat().st_mode & 0o777) == (0o600, 0o700)
    await door.close()
    assert not socket_path(9876).exists()


async def test_who_finds_no_door_is_told_what_to_do(log: MemoryLog) -> None:
    del log
    with pytest.raises(FileNotFoundError, match=r"no 'eod serve' of this user runs on port 9: start one"):
        await send_prices(9, [])
    path = socket_path(9)
    path.parent.mkdir(mode=0o700)
    left_behind = await asyncio.start_unix_server(lambda *_: None, path)
    left_behind.close()
    with pytest.raises(FileNotFoundError, match="no 'eod serve'"):
        await send_prices(9, [])
    door = PriceDoor(9, MemoryLog(), "prices", set)
    await door.open()  # in the place of what was left behind
    await door.close()


@pytest.mark.parametrize(
    "line",
    [b"", b"x", b"[]", b"{}", b'{"prices": 3}', b'{"prices": [[1]]}', b'{"prices": [["IBM", 9, 1, 1, 1]]}',
     b'{"prices": [["IBM", 3, 9223372036854775808, 1, 1]]}', b'{"prices": [["IBM", 3, 1, 18446744073709551616, 1]]}'],
)  # fmt: skip
async def test_a_line_that_makes_no_sense_is_answered_and_the_next_one_heard(log: MemoryLog, line: bytes) -> None:
    door = PriceDoor(9876, log, "prices", set)
    await door.open()
    reader, writer = await asyncio.open_unix_connection(socket_path(9876))
    writer.write(line + b"\n" + json.dumps({"prices": [["IBM", 3, 1, 1, 1]]}).encode() + b"\n")
    assert "these are no prices" in json.loads(await reader.readline())["error"]
    assert json.loads(await reader.readline())["taken"] == 1
    writer.close()
    await door.close()


async def test_a_log_that_is_away_is_said(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away() -> None:
        raise Unavailable("the disk is full")

    monkeypatch.setattr(log, "producer", away)
    door = PriceDoor(9876, log, "prices", set)
    await door.open()
    with pytest.raises(NoPrice, match="the disk is full"):
        await send_prices(9876, [Price("IBM", 3, 1, 1, 1)])
    await door.close()


async def test_a_folder_that_others_can_open_is_refused(log: MemoryLog) -> None:
    folder = socket_path(9876).parent
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(PermissionError, match=f"eod-{os.getuid()} can be opened by others"):
        await PriceDoor(9876, log, "prices", set).open()
