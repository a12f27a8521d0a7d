"""The views of what stands after busts and corrections, on every store: rows as a reader of the database finds them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import pytest
from eod_workers.adapters.sqlite import SqliteRegulatoryStore
from eod_workers.adapters.sqlserver.address import Address
from eod_workers.adapters.sqlserver.store import SqlServerRegulatoryStore
from eod_workers.adapters.standing import MOST_LINKS
from eod_workers.ports import MpidRow, RegulatoryStore, SecurityRow, TopicPartition, TradeRow
from eod_workers.reconcile.positions import book_of
from eod_workers.trades.model import ACTION_BUST, ACTION_CORRECT, ACTION_TRADE, SIDE_BUY, SIDE_SELL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.regulatory_rows import TOPIC, trade
from support.regulatory_stores import (
    PASSWORD,
    STORES,
    USER,
    address_of,
    apply_schema,
    connected,
    drop_schema,
    prepare,
    real_address,
)
from tds.server import Server

GROUP = "regulatory"
P0 = TopicPartition(TOPIC, 0)
E8 = 10**8
DAY = 20260105
CLOSE_NS = 1_767_646_800_000_000_000
"""Monday 2026-01-05, 16:00 in New York."""


class Ask(Protocol):
    """The rows of a query, or of a procedure if it is `given` parameters."""

    def __call__(self, query: str, given: tuple[int | str, ...] | None = None) -> list[dict[str, Any]]: ...


class Reader:
    """Somebody who reads the database of a store without us."""

    def __init__(self, store: RegulatoryStore, ask: Ask, schema: str) -> None:
        self.store = store
        self._ask = ask
        self._schema = schema
        self.has_procedures = bool(schema)

    async def view(self, name: str, where: str = "") -> list[dict[str, Any]]:
        """All rows, or those of a condition."""
        return await asyncio.to_thread(self._ask, f"SELECT * FROM {self._schema}{name}{where and f' WHERE {where}'}")  # noqa: S608 - our own names

    async def call(self, name: str, given: str) -> list[dict[str, Any]]:
        """The rows of a procedure."""
        return await asyncio.to_thread(self._ask, f"EXEC {self._schema}{name} {given}")

    async def call_directly(self, name: str, *given: int | str) -> list[dict[str, Any]]:
        """The same, as a call of the driver's with parameters by place."""
        return await asyncio.to_thread(self._ask, f"{self._schema}{name}", given)


def _of_sqlite(path: Path) -> Ask:
    def ask(query: str, given: tuple[int | str, ...] | None = None) -> list[dict[str, Any]]:
        assert given is None, "there are no procedures"
        with closing(sqlite3.connect(path)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query)]

    return ask


def _of_sql_server(address: Address) -> Ask:
    def ask(query: str, given: tuple[int | str, ...] | None = None) -> list[dict[str, Any]]:
        with connected(address) as connection, connection.cursor(as_dict=True) as cursor:
            if given is None:
                cursor.execute(query)
            else:
                cursor.callproc(query, given)
            return list(cursor)

    return ask


@pytest.fixture(params=STORES)
async def reader(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Reader]:
    """A store without rows, and somebody who reads it."""
    if request.param == "sqlite":
        file = tmp_path / "regulatory.db"
        lite = SqliteRegulatoryStore(file)
        await lite.migrate()
        yield Reader(lite, _of_sqlite(file), "")
        await lite.close()
    elif request.param == "tds":
        with Server(tmp_path, user=USER, password=PASSWORD) as server:
            await prepare(server)
            store = SqlServerRegulatoryStore(address_of(server))
            yield Reader(store, _of_sql_server(address_of(server)), "eod.")
            await store.close()
    else:
        address = real_address()
        drop_schema(address)
        await apply_schema(address)
        store = SqlServerRegulatoryStore(address)
        yield Reader(store, _of_sql_server(address), "eod.")
        await store.close()
        drop_schema(address)


async def put(reader: Reader, rows: Sequence[TradeRow]) -> None:
    ((epoch, *_),) = (await reader.store.take_over(GROUP, [P0])).values()
    await reader.store.store(GROUP, rows, [], {P0: (epoch, len(rows))})


def row(number: int, **changes: Any) -> TradeRow:
    """A purchase of 100 at 10 at the close, other than `changes` say; ExecIDs and places follow the number."""
    plain = trade(number)._replace(
        action=ACTION_TRADE, side=SIDE_BUY, last_qty_e8=100 * E8, last_px_e8=10 * E8, multiplier_e8=0, time_source=0,
        transact_time_ns=CLOSE_NS + number, exec_id=f"E{number}",
    )  # fmt: skip
    return plain._replace(**changes)


def bust(number: int, of: str, **changes: Any) -> TradeRow:
    return row(number, action=ACTION_BUST, exec_ref_id=of, **changes)


def correction(number: int, of: str, quantity: int, **changes: Any) -> TradeRow:
    return row(number, action=ACTION_CORRECT, exec_ref_id=of, last_qty_e8=quantity * E8, **changes)


async def statuses(reader: Reader) -> dict[str, str]:
    return {one["exec_id"]: one["status"] for one in await reader.view("vw_Trades")}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([row(1), bust(2, "E1")], {"E1": "busted", "E2": "applied"}, id="bust"),
        pytest.param([row(1), correction(2, "E1", 50)], {"E1": "corrected", "E2": "stands"}, id="correction"),
        pytest.param(
            [row(1), correction(2, "E1", 50), correction(3, "E2", 60), correction(4, "E1", 70)],
            {"E1": "corrected", "E2": "corrected", "E3": "corrected", "E4": "stands"},
            id="any-link-may-be-named",
        ),
        pytest.param(
            [row(1), correction(2, "E1", 50), correction(3, "E2", 60), bust(4, "E1")],
            {"E1": "busted", "E2": "busted", "E3": "busted", "E4": "applied"},
            id="bust-of-a-chain",
        ),
        pytest.param(
            [row(1), bust(2, "E9"), correction(3, "E8", 1), bust(4, "")],
            {"E1": "stands", "E2": "unresolved", "E3": "unresolved", "E4": "unresolved"},
            id="unknown-reference",
        ),
        pytest.param(
            [row(1), bust(2, "E1", symbol="IBM")], {"E1": "stands", "E2": "unresolved"}, id="another-instrument"
        ),
        pytest.param(
            [row(1), bust(2, "E1", trade_date=DAY - 1)], {"E1": "busted", "E2": "applied"}, id="of-a-day-before"
        ),
        pytest.param(
            [row(1), bust(2, "E1", session="OTHER-EOD")], {"E1": "stands", "E2": "unresolved"}, id="another-session"
        ),
        pytest.param([row(1), bust(2, "E2")], {"E1": "stands", "E2": "unresolved"}, id="itself"),
        pytest.param(
            [row(1), correction(2, "E3", 1), correction(3, "E2", 2)],
            {"E1": "stands", "E2": "unresolved", "E3": "unresolved"},
            id="each-other",
        ),
        pytest.param(
            [bust(1, "E2"), row(2, trade_date=DAY + 1)],
            {"E1": "unresolved", "E2": "stands"},
            id="before-a-trade-of-a-later-day",
        ),
        pytest.param([bust(1, "E2"), row(2)], {"E1": "applied", "E2": "busted"}, id="before-its-trade"),
    ],
)
async def test_what_stands_is_told_of_every_row(reader: Reader, rows: list[TradeRow], expected: dict[str, str]) -> None:
    await put(reader, rows)
    assert await statuses(reader) == expected


async def test_of_two_days_with_an_exec_id_the_nearest_before_is_meant(reader: Reader) -> None:
    first, second = row(1), row(2, trade_date=DAY + 1, exec_id="E1")
    await put(reader, [first, second, bust(3, "E1", trade_date=DAY + 2), row(4, trade_date=DAY + 3, exec_id="E1")])
    found = {(one["trade_date"], one["exec_id"]): one["status"] for one in await reader.view("vw_Trades")}
    assert found == {
        (DAY, "E1"): "stands",
        (DAY + 1, "E1"): "busted",
        (DAY + 2, "E3"): "applied",
        (DAY + 3, "E1"): "stands",
    }


@pytest.mark.parametrize(
    ("first_at", "second_at", "bust_at", "bust_day", "busted"),
    [(1, 2, 3, DAY, DAY), (1, 2, 3, DAY + 1, DAY + 1), (1, 2, 3, DAY + 2, DAY + 1), (1, 3, 2, DAY + 1, DAY)],
    ids=["its-own-day-first", "which-is-the-latest", "else-the-latest", "and-before-all-what-came-before-it"],
)
async def test_of_two_days_with_an_exec_id_the_one_that_the_book_takes_is_meant(
    reader: Reader, first_at: int, second_at: int, bust_at: int, bust_day: int, busted: int
) -> None:
    rows = [
        row(first_at, exec_id="E1"),
        row(second_at, exec_id="E1", trade_date=DAY + 1),
        bust(bust_at, "E1", exec_id="B", trade_date=bust_day),
    ]
    rows.sort(key=lambda one: one.offset)
    await put(reader, rows)
    found = {one["trade_date"]: one["status"] for one in await reader.view("vw_Trades") if one["exec_id"] == "E1"}
    assert found == {DAY: "stands", DAY + 1: "stands"} | {busted: "busted"}
    remembered = {identity[1]: trade[2] for identity, trade in book_of(rows).remembered() if identity[2] == "E1"}
    assert [day for day, quantity in remembered.items() if not quantity] == [busted], "as the book has it"


@pytest.mark.parametrize(("partition", "first", "last"), [(0, "stands", "unresolved"), (1, "busted", "applied")])
async def test_a_reference_is_of_the_latest_in_its_partition_which_may_be_of_another_instrument(
    reader: Reader, partition: int, first: str, last: str
) -> None:
    """As flash P&L has it, which refuses the bust then, and knows nothing of other partitions."""
    between = row(2, exec_id="E1", symbol="IBM", trade_date=DAY + 1, partition=partition)
    await put(reader, [row(1), between, bust(3, "E1", trade_date=DAY + 1)])
    found = {(one["exec_id"], one["symbol"]): one["status"] for one in await reader.view("vw_Trades")}
    assert found == {("E1", "AAPL"): first, ("E1", "IBM"): "stands", ("E3", "AAPL"): last}


async def test_a_chain_that_is_too_long_ends_without_an_error(reader: Reader) -> None:
    """The last that the view climbs from stands in the trade's place; what is further is told as unresolved."""
    rows = [row(1), *(correction(number, f"E{number - 1}", number) for number in range(2, MOST_LINKS + 5))]
    await put(reader, rows)
    found = await statuses(reader)
    assert [name for name, status in found.items() if status == "stands"] == [f"E{MOST_LINKS + 1}"]
    assert {name for name, status in found.items() if status == "unresolved"} == {
        f"E{MOST_LINKS + beyond}" for beyond in (2, 3, 4)
    }


async def test_numbers_are_exact_and_times_are_times(reader: Reader) -> None:
    await reader.store.put_reference(
        {
            "mpids": [MpidRow("SENDER-EOD", "ABCD", "Broker One")],
            "securities": [SecurityRow("AAPL", "US0378331005", "037833100", "2046251", "XNAS", "", 0)],
        }
    )
    rows = [
        row(1, last_qty_e8=2**63 - 1, last_px_e8=-(2**63), transact_time_ns=2**63 - 1),
        row(2, last_qty_e8=1, last_px_e8=-1, side=SIDE_SELL, transact_time_ns=0),
        row(3, symbol="VOD (GBp)", multiplier_e8=50 * E8, transact_time_ns=CLOSE_NS + 123_456_789),
        row(4, symbol="X (usd)", session="OTHER-EOD"),
    ]
    await put(reader, rows)
    found = {one["exec_id"]: one for one in await reader.view("vw_Trades")}

    def numbers(name: str) -> list[Decimal]:
        return [Decimal(str(found[f"E{number}"][name])) for number in range(1, 5)]

    assert numbers("quantity") == [Decimal("92233720368.54775807"), Decimal("0.00000001"), 100, 100]
    assert numbers("price") == [Decimal("-92233720368.54775808"), Decimal("-0.00000001"), 10, 10]
    assert numbers("multiplier") == [1, 1, 50, 1]
    assert numbers("notional")[2:] == [50_000, 1_000]
    assert abs(numbers("notional")[0] / Decimal("-8507059173023461586436.98") - 1) < Decimal("1e-12")
    assert [found[f"E{number}"]["currency"] for number in range(1, 5)] == ["", "", "GBp", ""]
    assert [found[f"E{number}"]["mpid"] for number in (1, 4)] == ["ABCD", ""]
    apple = [found["E1"][name] for name in ("cusip", "sedol", "mic", "isin")]
    assert apple == ["037833100", "2046251", "XNAS", "US0378331005"]
    times = {name: str(one["transact_time"])[:26] for name, one in found.items()}
    assert times["E3"] == "2026-01-05 21:00:00.123456"
    assert times["E1"] == "2262-04-11 23:47:16.854775"
    assert times["E2"].startswith("1970-01-01 00:00:00")
    assert [found[f"E{number}"]["side"] for number in (1, 2)] == ["buy", "sell"]
    await put(reader, [row(5, last_qty_e8=2**63 - 1, last_px_e8=2**63 - 1, multiplier_e8=2**63 - 1)])
    found = {one["exec_id"]: one for one in await reader.view("vw_Trades")}
    assert found["E5"]["notional"] is None, "and it costs no other row"
    assert all([await reader.view(name) for name in ("vw_TraderDailySummary", "vw_HourlyVolume", "vw_DailyPositions")])


async def test_money_is_rounded_once(reader: Reader) -> None:
    rows = [
        row(1, last_qty_e8=E8 // 2, last_px_e8=1, multiplier_e8=10**14),
        row(2, last_qty_e8=1, last_px_e8=4 * 10**7, multiplier_e8=10**14),
    ]
    await put(reader, rows)
    found = [Decimal(str(one["notional"])) for one in await reader.view("vw_Trades")]
    assert [one.quantize(Decimal("1e-9")) for one in found] == [Decimal("0.005"), Decimal("0.004")]


async def test_a_trader_of_nothing_that_counts_has_no_line(reader: Reader) -> None:
    await put(
        reader,
        [row(1), correction(2, "E1", 5, trader="T2"), correction(3, "E2", 6), row(4), bust(5, "E4", trader="")],
    )
    (line,) = await reader.view("vw_TraderDailySummary")
    assert same(line, trader="T1", trades=1, corrected=1, busted=1, bought_quantity=6)
    assert (await statuses(reader))["E2"] == "corrected"


async def test_blanks_at_the_end_of_a_reference_count(reader: Reader) -> None:
    await put(reader, [row(1), row(2, exec_id="E1 "), bust(3, "E1 ")])
    assert await statuses(reader) == {"E1": "stands", "E1 ": "busted", "E3": "applied"}


def same(found: Mapping[str, Any], **expected: Any) -> bool:
    """Whether columns of a row are these; numbers may be of any type."""
    plain = {
        name: Decimal(str(one)) if isinstance(one, float | str) and _is_number(one) else one
        for name, one in found.items()
    }
    return {name: plain[name] for name in expected} == expected


def _is_number(value: float | str) -> bool:
    return isinstance(value, float) or (bool(value) and set(value) <= set("-.0123456789"))


async def test_a_trader_has_a_line_a_day_and_currency(reader: Reader) -> None:
    """A correction counts on the day of its trade; what is busted counts as nothing but that."""
    rows = [
        row(1),
        row(2, side=SIDE_SELL, last_qty_e8=30 * E8, symbol="IBM"),
        row(3),
        bust(4, "E3"),
        row(5),
        correction(6, "E5", 40, trade_date=DAY + 1),
        row(7, symbol="VOD (GBp)"),
        bust(8, "E9"),
        row(9, trade_date=DAY + 1, trader="T2"),
    ]
    await put(reader, [one for one in rows if one.exec_id != "E9"])
    lines = {
        (one["trade_date"], one["trader"], one["currency"]): one for one in await reader.view("vw_TraderDailySummary")
    }
    assert lines.keys() == {(DAY, "T1", ""), (DAY, "T1", "GBp")}
    assert same(
        lines[DAY, "T1", ""], trades=3, instruments=2, corrected=1, busted=1, unresolved=1, bought_quantity=140,
        sold_quantity=30, bought_notional=1_400, sold_notional=300, trader_name="Ada", desk="Equities",
    ), lines  # fmt: skip
    assert same(lines[DAY, "T1", "GBp"], trades=1, bought_quantity=100, sold_quantity=0, busted=0)


async def test_volume_is_by_the_hour_here_and_in_new_york(reader: Reader) -> None:
    """Summer time begins at 07:00 UTC on 2026-03-08 and ends at 06:00 UTC on 2026-11-01."""
    times = {
        "2026-01-05 20:59:59": "2026-01-05 15:00:00",
        "2026-01-05 21:00:00": "2026-01-05 16:00:00",
        "2026-03-08 06:59:59": "2026-03-08 01:00:00",
        "2026-03-08 07:00:00": "2026-03-08 03:00:00",
        "2026-11-01 05:59:59": "2026-11-01 01:00:00",
        "2026-11-01 06:00:00": "2026-11-01 01:00:00",
    }
    rows = [
        row(number, transact_time_ns=int(datetime.fromisoformat(f"{time}+00:00").timestamp()) * 10**9 + 5)
        for number, time in enumerate(times)
    ]
    late = [correction(20, "E0", 70, transact_time_ns=CLOSE_NS + 10**13), row(21, transact_time_ns=CLOSE_NS)]
    await put(reader, [*rows, *late])
    found = {str(one["hour_utc"]): one for one in await reader.view("vw_HourlyVolume")}
    assert {hour: str(one["hour_new_york"]) for hour, one in found.items()} == {
        f"{time[:13]}:00:00": there for time, there in times.items()
    }
    assert same(found["2026-01-05 20:00:00"], trades=1, quantity=70, notional=700), "a correction, in its trade's hour"
    assert same(found["2026-01-05 21:00:00"], trades=2, quantity=200, notional=2_000)


async def test_sums_of_the_largest_quantities_are_exact(reader: Reader) -> None:
    most = 2**63 - 1
    rows = [row(number, last_qty_e8=most, last_px_e8=1, side=SIDE_SELL) for number in range(1, 4)]
    await put(reader, [*rows, row(4, last_qty_e8=1, last_px_e8=1)])
    (position,) = await reader.view("vw_DailyPositions")
    assert Decimal(str(position["quantity"])) == Decimal(1 - 3 * most) / E8
    assert Decimal(str(position["sold_quantity"])) == Decimal(3 * most) / E8


async def test_procedures_take_a_day(reader: Reader) -> None:
    if not reader.has_procedures:
        pytest.skip("SQLite has no procedures: its readers take the views")
    await reader.store.put_reference({"mpids": [MpidRow("SENDER-EOD", "ABCD", "Broker One")]})
    rows = [
        row(1),
        row(2, trade_date=DAY + 1, side=SIDE_SELL, last_qty_e8=30 * E8),
        correction(3, "E1", 80, trade_date=DAY + 2),
        row(4, session="OTHER-EOD", transact_time_ns=CLOSE_NS - 1),
    ]
    await put(reader, rows)

    async def events(given: str) -> list[tuple[str, str, str]]:
        found = await reader.call("sp_GetTradesForCat", given)
        return [(one["exec_id"], one["kind"], one["status"]) for one in found]

    assert await events(f"@TradeDate = {DAY}") == [("E4", "trade", "stands"), ("E1", "trade", "corrected")]
    assert await events(f"@TradeDate = {DAY}, @Mpid = N'ABCD'") == [("E1", "trade", "corrected")]
    assert [one["exec_id"] for one in await reader.call_directly("sp_GetTradesForCat", DAY, "ABCD")] == ["E1"]
    assert await reader.call_directly("sp_GetTradesForCat", DAY, "WXYZ") == []
    assert await events(f"{DAY + 2}") == [("E3", "correction", "stands")]
    (first,) = await reader.call("sp_GetEodPositions", f"{DAY}")
    assert same(first, trader="T1", symbol="AAPL", trades=2, quantity=180, bought_quantity=180, sold_quantity=0)
    (both,) = await reader.call("sp_GetEodPositions", f"@TradeDate = {DAY + 1}")
    assert same(both, trades=3, quantity=150, bought_notional=1_800, sold_notional=300)
    (second,) = await reader.call("sp_GetEodPositions", f"@TradeDate = {DAY + 1}, @FromDate = {DAY + 1}")
    assert same(second, trades=1, quantity=-30)


# --- by the book ----------------------------------------------------------------------------------

_STEPS = st.tuples(
    st.sampled_from((ACTION_TRADE, ACTION_TRADE, ACTION_BUST, ACTION_CORRECT, ACTION_CORRECT)),
    st.integers(0, 4).map("E{}".format),
    st.integers(0, 12).map("C{}".format),
    st.sampled_from(("T1", "T1", "T2")),
    st.sampled_from(("AAPL", "AAPL", "AAPL", "IBM", "MSFT")),
    st.sampled_from((SIDE_BUY, SIDE_SELL)),
    st.integers(1, 9),
    st.sampled_from((0, 0, 0, 1)),
    st.booleans(),
)
_PARTITIONS = {"AAPL": 0, "MSFT": 0, "IBM": 1}


def _played(steps: Sequence[tuple[int, str, str, str, str, int, int, int, bool]]) -> list[TradeRow]:
    """Rows in the order of the log. ExecIDs of trades come again on other days; a bust may name a day before.

    A change names a trade, or another change, that came before it in its partition.
    """
    rows: list[TradeRow] = []
    day = DAY
    for number, (action, trade_id, change_id, trader, symbol, side, quantity, later, other) in enumerate(steps):
        day += later
        partition = _PARTITIONS[symbol]
        ref = change_id if other else trade_id
        if action == ACTION_TRADE:
            name, date, ref = trade_id, day, ""
        else:
            name, date = f"C{number}", day - other
            if ref not in {one.exec_id for one in rows if one.partition == partition}:
                continue
        if (date, name) in {one[1:3] for one in rows}:
            continue
        rows.append(
            row(
                number, exec_id=name, trade_date=date, action=action, exec_ref_id=ref, trader=trader, symbol=symbol,
                side=side, last_qty_e8=quantity * E8, partition=partition,
            )
        )  # fmt: skip
    return rows


def _held(rows: Sequence[TradeRow]) -> dict[tuple[str, str], Decimal]:
    """What the books of the partitions hold."""
    books = [book_of(one for one in rows if one.partition == partition) for partition in (0, 1)]
    return {
        key: Decimal(position.quantity_e8) / E8
        for book in books
        for key, position in book.positions()
        if position.quantity_e8
    }


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[asyncio.Runner, list[Reader]]]:
    """A store on SQLite and one on SQL Server's test server, and the loop that they live in."""
    file = tmp_path / "regulatory.db"
    with asyncio.Runner() as runner, Server(tmp_path, user=USER, password=PASSWORD) as server:
        runner.run(prepare(server))
        lite, store = SqliteRegulatoryStore(file), SqlServerRegulatoryStore(address_of(server))
        yield runner, [Reader(lite, _of_sqlite(file), ""), Reader(store, _of_sql_server(address_of(server)), "eod.")]
        runner.run(lite.close())
        runner.run(store.close())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(_STEPS, max_size=20))
def test_positions_are_those_of_the_book(both: tuple[asyncio.Runner, list[Reader]], steps: list[Any]) -> None:
    """Every example has a session and traders of its own, in the same two stores."""
    runner, readers = both
    own = f"{next(_NUMBERS)}"
    rows = [one._replace(session=own, trader=f"{one.trader}/{own}") for one in _played(steps)]

    async def positions() -> list[dict[tuple[str, str], Decimal]]:
        found = []
        for reader in readers:
            await put(reader, rows)
            traders = f"trader IN ('T1/{own}', 'T2/{own}')"
            found.append(_totals(await reader.view("vw_DailyPositions", traders)))
        return found

    expected = _held(rows)
    assert runner.run(positions()) == [expected, expected]


_NUMBERS = count()


def _totals(lines: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], Decimal]:
    totals: dict[tuple[str, str], Decimal] = {}
    for line in lines:
        key = (line["trader"], line["symbol"])
        totals[key] = totals.get(key, Decimal(0)) + Decimal(str(line["quantity"]))
    return {key: quantity for key, quantity in totals.items() if quantity}
