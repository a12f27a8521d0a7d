"""What the money of a trade is: multiplier and currency of its instrument."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from eod_workers.trades.contracts import BadTerms, Contract, Contracts, currency_of, money_e16
from eod_workers.trades.numbers import E8
from eod_workers.trades.reference import ReferenceData, load_reference
from hypothesis import given
from hypothesis import strategies as st

KNOWN = Contracts(
    "USD",
    {
        "ES": Contract(50 * E8), "ES 202612": Contract(25 * E8), "VOD": Contract(0, "GBp"), "BUND": Contract(1_000_000, "EUR"),
        "IBM": Contract(0, "USD"),
    },
)  # fmt: skip


def said(contracts: Contracts, text: str, instrument: str) -> tuple[str, int]:
    """The terms of fields that are written as 55=ES|231=50."""
    fields = dict(field.encode().split(b"=", 1) for field in text.split("|") if field)
    return contracts.terms(fields, instrument)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("contracts", "fields", "instrument", "expected"),
    [
        # What the report says.
        (Contracts(), "55=ES", "ES 202603", ("ES 202603", 0)),
        (Contracts(), "55=ES|231=50", "ES 202603", ("ES 202603", 50 * E8)),
        (Contracts(), "55=ES|231=1", "ES 202603", ("ES 202603", E8)),
        (Contracts(), "55=X|231=0.01", "X", ("X", 1_000_000)),
        (Contracts(), "55=IBM|15=USD", "IBM", ("IBM", 0)),
        (Contracts(), "55=VOD|15=GBP", "VOD", ("VOD (GBP)", 0)),
        (Contracts(), "55=VOD|15=GBp|231=10", "VOD@XLON", ("VOD@XLON (GBp)", 10 * E8)),
        (Contracts("GBP"), "55=VOD|15=GBP", "VOD", ("VOD", 0)),
        (Contracts("GBP"), "55=IBM|15=USD", "IBM", ("IBM (USD)", 0)),
        (Contracts(), "15=EUR", "", ("", 0)),
        # A symbol that is written as a key says its currency, too.
        (Contracts(), "55=VOD (GBP)", "VOD (GBP)", ("VOD (GBP)", 0)),
        (Contracts(), "55=VOD (GBP)|15=GBP", "VOD (GBP)", ("VOD (GBP)", 0)),
        (Contracts("GBP"), "55=VOD (GBP)", "VOD (GBP)", ("VOD (GBP)", 0)),
        (Contracts(), "55=VOD (x)", "VOD (x)", ("VOD (x)", 0)),
        # What reference data says, by the instrument before the symbol.
        (KNOWN, "55=ES", "ES 202603", ("ES 202603", 50 * E8)),
        (KNOWN, "55=ES", "ES 202612", ("ES 202612", 25 * E8)),
        (KNOWN, "55=ES|231=50.0", "ES 202603", ("ES 202603", 50 * E8)),
        (KNOWN, "55=VOD", "VOD@XLON", ("VOD@XLON (GBp)", 0)),
        (KNOWN, "55=VOD|15=USD|231=2", "VOD", ("VOD", 2 * E8)),
        (KNOWN, "55=BUND", "BUND 202603", ("BUND 202603 (EUR)", 1_000_000)),
        # An option's multiplier is its own, its currency is that of what it is about.
        (KNOWN, "55=ES|167=OPT|231=100", "ES OPT", ("ES OPT", 100 * E8)),
        (KNOWN, "55=ES|201=1|202=150", "ES    260320C05000000", ("ES    260320C05000000", 0)),
        (KNOWN, "55=BUND|461=OCXXXX", "BUND OPT", ("BUND OPT (EUR)", 0)),
        (KNOWN, "55=IBM", "IBM", ("IBM", 0)),
        (KNOWN, "55=AIG", "AIG", ("AIG", 0)),
    ],
)
def test_the_terms_of_an_instrument(
    contracts: Contracts, fields: str, instrument: str, expected: tuple[str, int]
) -> None:
    assert said(contracts, fields, instrument) == expected


@pytest.mark.parametrize(
    ("fields", "tag", "says"),
    [
        ("55=ES|231=0", b"231", r"ContractMultiplier\(231\)=0 must be above 0"),
        ("55=ES|231=-50", b"231", r"ContractMultiplier\(231\)=-50 must be above 0"),
        ("55=ES|231=", b"231", r"ContractMultiplier\(231\): '' is not a decimal number"),
        ("55=ES|231=5e1", b"231", r"'5e1' is not a decimal number"),
        ("55=ES|231=5", b"231", r"\(231\) is 5, and 50 in the reference data for ES 202603"),
        ("55=ES|15=usd", b"15", r"Currency\(15\)='usd' is no currency such as USD"),
        ("55=ES|15=U$D", b"15", "is no currency"),
        ("55=ES|15=EURO", b"15", "is no currency"),
        ("55=ES (EUR)|15=USD", b"15", r"Currency\(15\) is USD, and Symbol\(55\) says EUR"),
    ],
)
def test_impossible_terms_are_refused_with_their_field(fields: str, tag: bytes, says: str) -> None:
    with pytest.raises(BadTerms, match=says) as refused:
        said(KNOWN, fields, "ES (EUR)" if "(EUR)" in fields else "ES 202603")
    assert refused.value.tag == tag


@pytest.mark.parametrize(
    ("key", "currency"),
    [
        ("VOD", ""),
        ("VOD (GBP)", "GBP"),
        ("VOD@XLON (GBp)", "GBp"),
        ("VOD (GBPX)", ""),
        ("VOD(GBP)", ""),
        ("(GBP) x", ""),
    ],
)
def test_a_key_tells_its_currency(key: str, currency: str) -> None:
    assert currency_of(key) == currency


@given(value=st.integers(-(2**200), 2**200), multiplier=st.integers(1, 2**63 - 1))
def test_money_is_off_by_no_more_than_half_a_unit(value: int, multiplier: int) -> None:
    exact = Fraction(value * multiplier, E8)
    assert Fraction(-1, 2) < money_e16(value, multiplier) - exact <= Fraction(1, 2)


def test_money_without_a_multiplier_is_quantity_times_price() -> None:
    assert money_e16(7, 0) == money_e16(7, E8) == 7
    assert money_e16(1, E8 // 2) == 1  # ties go up
    assert money_e16(-1, E8 // 2) == 0


HEAD = "traders: {}\nstrategies: {}\nsecurities:\n"


def test_reference_data_says_terms_of_securities_that_need_no_isin_then(tmp_path: Path) -> None:
    path = tmp_path / "reference.yaml"
    path.write_text(
        HEAD + "  ES: {multiplier: 50}\n  VOD: {isin: GB00BH4HKS39, currency: GBp}\n  IBM: {isin: US4592001014}\n"
        "  BUND: {multiplier: 0.01, currency: EUR}\n"
    )
    assert load_reference(path) == ReferenceData(
        securities={"VOD": "GB00BH4HKS39", "VOD (GBp)": "GB00BH4HKS39", "IBM": "US4592001014"},
        contracts={
            "ES": Contract(50 * E8),
            **dict.fromkeys(("VOD", "VOD (GBp)"), Contract(0, "GBp")),
            **dict.fromkeys(("BUND", "BUND (EUR)"), Contract(1_000_000, "EUR")),
        },
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("  ES: {multiplier: 0}", "securities, ES: multiplier 0 must be above 0"),
        ("  ES: {multiplier: fifty}", "securities, ES: multiplier: 'fifty' is not a decimal number"),
        ("  ES: {currency: dollars}", "securities, ES: currency 'dollars' is none such as USD"),
    ],
)
def test_impossible_terms_of_reference_data_are_refused_with_their_security(
    tmp_path: Path, line: str, says: str
) -> None:
    path = tmp_path / "reference.yaml"
    path.write_text(HEAD + line)
    with pytest.raises(ValueError, match=says) as refused:
        load_reference(path)
    assert str(path) in str(refused.value)
