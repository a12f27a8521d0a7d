"""Reference data: what it adds to a trade, what it does not know, and files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from eod_workers.market.universe import accented, isin, make_universe, write_reference
from eod_workers.ports import ExceptionRow, Record
from eod_workers.regulatory.enrichment import enrich, enrich_all
from eod_workers.trades.codec import encode_trades, read_trades
from eod_workers.trades.model import Trade
from eod_workers.trades.reference import ReferenceData, load_reference
from hypothesis import given
from hypothesis import strategies as st
from support.trade_rows import SESSION, TRADES, row

KNOWN = ReferenceData(
    traders={"T001": ("Ann Example", "Equities"), "": ("Nobody", "None")},
    strategies={"VWAP": "Volume weighted"},
    securities={"IBM": "US4592001014"},
)
AT = Record("trades.raw", 3, 17, None, b"", 0)


def test_a_row_carries_the_whole_trade_its_reference_data_and_where_it_stands() -> None:
    trade = row(5)
    enriched, unknown = enrich(trade, KNOWN, AT)
    assert unknown == []
    told = enriched._asdict()
    for name in set(told) & set(trade._fields):
        assert told[name] == getattr(trade, name), name
    assert {
        "trader_name": "Ann Example", "desk": "Equities", "strategy_name": "Volume weighted", "isin": "US4592001014",
        "topic": "trades.raw", "partition": 3, "offset": 17,
    }.items() <= told.items()  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "fields", "says"),
    [
        ({"trader": "GHOST"}, {"trader"}, "trader 'GHOST' is not in the reference data"),
        ({"strategy": "YOLO"}, {"strategy"}, "strategy 'YOLO' is not in the reference data"),
        ({"strategy": ""}, {"strategy"}, "the report names no strategy"),
        ({"symbol": "ZZZ"}, {"security"}, "security 'ZZZ' is not in the reference data"),
        ({"trader": "t001"}, {"trader"}, "trader 't001' is not in the reference data"),
        ({"trader": "GHOST", "strategy": "YOLO", "symbol": "ZZZ"}, {"trader", "strategy", "security"}, ""),
    ],
)
def test_a_name_that_is_not_known_becomes_an_exception_and_never_a_silent_blank(
    changes: dict[str, str], fields: set[str], says: str
) -> None:
    enriched, unknown = enrich(row(1, **changes), KNOWN, AT)
    assert {exception.field for exception in unknown} == fields
    assert all(isinstance(exception, ExceptionRow) for exception in unknown)
    assert {(exception.session, exception.exec_id) for exception in unknown} == {(SESSION, "X1")}
    assert all(says in exception.detail for exception in unknown)
    blank = {"trader": enriched.trader_name, "strategy": enriched.strategy_name, "security": enriched.isin}
    assert {field for field, name in blank.items() if not name} == fields
    assert (enriched.trader, enriched.strategy, enriched.symbol) == (
        changes.get("trader", "T001"), changes.get("strategy", "VWAP"), changes.get("symbol", "IBM"),
    ), "the row keeps what was sent"  # fmt: skip


def test_without_reference_data_every_name_is_an_exception() -> None:
    _, unknown = enrich(row(1), ReferenceData(), AT)
    assert [exception.value for exception in unknown] == ["T001", "VWAP", "IBM"]


def test_the_universe_of_a_market_is_reference_data(tmp_path: Path) -> None:
    universe = make_universe(3)
    write_reference(universe, tmp_path / "reference.yaml")
    reference = load_reference(tmp_path / "reference.yaml")
    assert set(reference.traders) == {*universe.traders, *(accented(line) for line in range(1, 17))}
    assert set(reference.strategies) == set(universe.strategies)
    assert set(reference.securities) == {*universe.symbols, *(one.key for one in universe.instruments)}
    assert len(set(reference.securities.values())) == len(reference.securities)
    assert reference.contracts == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "needs traders"),
        ("[]", "needs traders"),
        ("traders: {}", "'strategies'"),
        ("traders: {T1: {name: Ann}}\nstrategies: {}\nsecurities: {}", "'desk'"),
        ("traders: {T1: Ann}\nstrategies: {}\nsecurities: {}", "needs traders"),
        ("traders: []\nstrategies: {}\nsecurities: {}", "needs traders"),
        ("traders: {T1: {name: Ann, desk: X}}\nstrategies: {S: {}}\nsecurities: {}", "'name'"),
        ("traders: {}\nstrategies: {}\nsecurities: {IBM: {cusip: 1}}", "'isin'"),
        ("traders: {", "is not YAML"),
    ],
)
def test_a_file_that_is_no_reference_data_is_refused_with_its_name_and_the_entry(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "reference.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=says) as caught:
        load_reference(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_refused_with_the_variable_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="EOD_REFERENCE_FILE"):
        load_reference(tmp_path / "nothing.yaml")


def test_numbers_in_yaml_become_text(tmp_path: Path) -> None:
    path = tmp_path / "reference.yaml"
    path.write_text("traders: {7: {name: 8, desk: 9}}\nstrategies: {1: {name: 2}}\nsecurities: {3: {isin: 4}}")
    assert load_reference(path) == ReferenceData({"7": ("8", "9")}, {"1": "2"}, {"3": "4"})


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [("037833100", "US0378331005"), ("459200101", "US4592001014"), ("594918104", "US5949181045")],
)
def test_isins_have_the_check_digit_of_iso_6166(symbol: str, expected: str) -> None:
    """Apple, IBM, Microsoft: the country and the nine characters of the CUSIP."""
    assert isin(symbol) == expected


# --- a record at once -----------------------------------------------------------------------------------------

NAMES = st.sampled_from(["", "T001", "VWAP", "IBM", "GHOST"])
FEW_NAMES = st.builds(
    lambda trade, **names: trade._replace(**names), TRADES, trader=NAMES, strategy=NAMES, symbol=NAMES, session=NAMES
)
BLANK = ReferenceData(traders={"T001": ("", "")}, strategies={"VWAP": ""}, securities={"IBM": ""})


@given(trades=st.lists(FEW_NAMES, min_size=1, max_size=12), reference=st.sampled_from([KNOWN, BLANK, ReferenceData()]))
def test_a_record_at_once_is_what_its_trades_are_one_by_one(trades: list[Trade], reference: ReferenceData) -> None:
    one_by_one = [enrich(trade, reference, AT) for trade in trades]
    rows, unknown = enrich_all(read_trades(encode_trades(trades)), reference, AT)
    assert rows == [row for row, _ in one_by_one]
    assert unknown == [one for _, some in one_by_one for one in some]


def test_a_record_without_trades_is_no_row() -> None:
    assert enrich_all(read_trades(b"\x08\x01"), KNOWN, AT) == ([], [])
