"""Reference data as rows for tables: what is read, and that every number that is none is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from eod_workers.market.universe import make_universe, write_reference
from eod_workers.ports import MpidRow, SecurityRow, StrategyRow, TraderRow
from eod_workers.trades.reference import load_reference, reference_rows

WHOLE = """
traders:
  T2: {name: Bob, desk: Rates}
  T1: {name: Ada, desk: Equities}
strategies: {VWAP: {name: Volume weighted}}
securities:
  AAPL: {isin: US0378331005, cusip: "037833100", sedol: 2046251, mic: XNAS}
  VOD: {isin: GB00BH4HKS39, sedol: BH4HKS3, mic: XLON, currency: GBp}
  ES: {multiplier: 50}
mpids: {BROKER1->EOD: {mpid: ABCD, name: Broker One}, BROKER2->EOD: {mpid: EFGH}}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "reference.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_all_that_a_file_says_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    vodafone = SecurityRow("VOD", "GB00BH4HKS39", "", "BH4HKS3", "XLON", "GBp", 0)
    assert reference_rows(path) == {
        "traders": [TraderRow("T1", "Ada", "Equities"), TraderRow("T2", "Bob", "Rates")],
        "strategies": [StrategyRow("VWAP", "Volume weighted")],
        "securities": [
            SecurityRow("AAPL", "US0378331005", "037833100", "2046251", "XNAS", "", 0),
            SecurityRow("ES", "", "", "", "", "", 5_000_000_000),
            vodafone,
            vodafone._replace(symbol="VOD (GBp)"),
        ],
        "mpids": [MpidRow("BROKER1->EOD", "ABCD", "Broker One"), MpidRow("BROKER2->EOD", "EFGH", "")],
    }
    assert load_reference(path).securities.keys() == {"AAPL", "VOD", "VOD (GBp)"}, "stages read the same file"


def test_everything_is_taken_as_it_is_written_here_and_by_stages(tmp_path: Path) -> None:
    text = "traders: {001: {name: ON, desk: ~}}\nstrategies: {}\nsecurities: {NO: {isin: 012, multiplier: 010}}"
    path = written(tmp_path, text.replace("isin: 012, ", ""))
    assert reference_rows(path)["traders"] == [TraderRow("001", "ON", "~")]
    assert reference_rows(path)["securities"] == [SecurityRow("NO", "", "", "", "", "", 1_000_000_000)]
    known = load_reference(written(tmp_path, text))
    assert (known.traders, known.securities) == ({"001": ("ON", "~")}, {"NO": "012"})
    assert known.contracts["NO"].multiplier_e8 == 1_000_000_000


def test_entries_may_be_merged_and_the_last_of_two_counts_for_stages(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "base: &b {desk: Rates}\ntraders: {T1: {<<: *b, name: A}, T1: {<<: *b, name: B}}\nstrategies: {}\nsecurities: {}",
    )
    assert load_reference(path).traders == {"T1": ("B", "Rates")}


def test_what_a_file_says_of_a_security_in_its_currency_is_not_overwritten(tmp_path: Path) -> None:
    path = written(tmp_path, "securities: {VOD: {currency: EUR}, VOD (EUR): {isin: GB00BH4HKS39}}")
    assert [(row.symbol, row.isin, row.currency) for row in reference_rows(path)["securities"]] == [
        ("VOD", "", "EUR"),
        ("VOD (EUR)", "GB00BH4HKS39", ""),
    ]


def test_a_section_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert reference_rows(written(tmp_path, "traders: {}\nmpids:")) == {
        "traders": [],
        "strategies": [],
        "securities": [],
        "mpids": [],
    }


def test_the_example_is_in_order() -> None:
    path = Path(__file__).parents[3] / "examples" / "reference.yaml"
    assert all(reference_rows(path).values()), "something of each table"
    assert load_reference(path).securities.keys() == {"AAPL", "IBM", "VOD", "VOD (GBp)"}


def test_the_universe_of_a_market_is_in_order(tmp_path: Path) -> None:
    path = tmp_path / "reference.yaml"
    universe = make_universe(7)
    write_reference(universe, path)
    rows = reference_rows(path)
    assert {row[0] for row in rows["traders"]} >= set(universe.traders)
    assert {row[0]: row[1] for row in rows["securities"]} == load_reference(path).securities


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "has no sections: traders, strategies, securities, mpids"),
        ("trader: {}", "trader: no such section; there are traders,"),
        ("traders: [T1]", "traders is no mapping of names"),
        ("traders: {T1: Ada}", "traders, T1: needs fields"),
        ("traders: {T1: {name: Ada}}", "traders, T1: desk is missing"),
        ("traders: {T1: {name: [Ada], desk: X}}", "traders, T1: name is no text"),
        ("traders: {T1: {name: A, desk: X, dsek: Y}}", "traders, T1: no such field: dsek; there are name, desk"),
        ("traders: {' T1': {name: A, desk: X}}", "no blank at either end"),
        ("traders: {'': {name: A, desk: X}}", "a name has 1 to 400 characters"),
        ("strategies: {S: {}}", "strategies, S: name is missing"),
        ("securities: {X: {isin: US0378331006}}", "securities, X: isin 'US0378331006': .*check digit"),
        ("securities: {X: {isin: US03783310}}", "securities, X: isin 'US03783310': .*length"),
        ("securities: {X: {isin: ZZ0378331005}}", "securities, X: isin 'ZZ0378331005': "),
        ("securities: {X: {cusip: '037833101'}}", "securities, X: cusip '037833101': .*check digit"),
        ("securities: {X: {isin: us0378331005}}", "isin 'us0378331005' is written US0378331005"),
        ("securities: {X: {cusip: '037833100 '}}", "cusip '037833100 ' is written 037833100"),
        ("securities: {VOD (GBp): {currency: GBP}}", "currency 'GBP' is not that of the name"),
        ("securities: false", "securities is no mapping of names"),
        ("traders: {T1: {name: A, desk: B}, T1: {name: C, desk: D}}", "T1 comes twice"),
        ("traders: {}\nstrategies: {}\ntraders: {}", "traders comes twice"),
        ("securities: {X: {multiplier: 1:30}}", "multiplier: '1:30' is not a decimal number"),
        ("securities: {X: {sedol: 2046252}}", "securities, X: sedol '2046252': .*check digit"),
        ("securities: {X: {mic: NYSE!}}", "securities, X: mic 'NYSE!' is no market identifier such as XNYS"),
        ("securities: {X: {currency: dollars}}", "securities, X: currency 'dollars' is none such as USD"),
        ("securities: {X: {multiplier: -1}}", "securities, X: multiplier -1 must be above 0"),
        ("mpids: {A->B: {name: Broker}}", "mpids, A->B: mpid is missing"),
        ("mpids: {A-B: {mpid: ABCD}}", "mpids, A-B: is no session, which rows name SENDER->TARGET"),
        ("mpids: {A->B: {mpid: abc}}", "mpids, A->B: mpid 'abc' is not four capital letters"),
    ],
)
def test_whatever_is_wrong_is_told_with_its_entry(tmp_path: Path, text: str, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=says) as refused:
        reference_rows(path)
    assert str(path) in str(refused.value)


def test_all_problems_are_told_at_once_up_to_twenty(tmp_path: Path) -> None:
    lines = "".join(f"  S{number:02}: {{mic: bad}}\n" for number in range(23))
    with pytest.raises(ValueError, match=r"and 4 more$") as refused:
        reference_rows(written(tmp_path, f"traders: {{T1: {{}}}}\nsecurities:\n{lines}"))
    told = str(refused.value)
    assert "traders, T1: name is missing" in told
    assert told.count("mic 'bad'") == 19
