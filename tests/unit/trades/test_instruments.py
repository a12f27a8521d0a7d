"""What tells one instrument from another."""

from __future__ import annotations

from itertools import product

import pytest
from eod_workers.trades.instruments import INSTRUMENT_TAGS, NoInstrument, instrument_of
from eod_workers.trades.numbers import E8, format_e8
from hypothesis import given
from hypothesis import strategies as st


def key(text: str) -> str:
    """The key of fields that are written as 55=IBM|167=CS."""
    return instrument_of(dict(field.encode().split(b"=", 1) for field in text.split("|") if field))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("55=IBM", "IBM"),
        ("55=IBM|167=CS", "IBM"),
        ("55=IBM|167=", "IBM"),
        ("55=IBM|461=ESVUFR", "IBM"),
        ("55=IBM|207=XNYS", "IBM@XNYS"),
        ("55=BRK|65=B", "BRK/B"),
        ("55=BRK|65=B|207=XNYS", "BRK/B@XNYS"),
        ("", ""),
        ("55=", ""),
        ("167=OPT|200=202601|201=1|202=150", ""),
        # Options: by 4.2's fields, by 4.4's, and by none of them.
        ("55=IBM|167=OPT|200=20260116|201=1|202=150", "IBM   260116C00150000"),
        ("55=IBM|167=OPT|200=202601|205=16|201=0|202=150.5", "IBM   260116P00150500"),
        ("55=IBM|167=OPT|200=202601|205=6|201=0|202=150.5", "IBM   260106P00150500"),
        ("55=IBM|167=OPT|541=20260116|461=OCASPS|202=150", "IBM   260116C00150000"),
        ("55=IBM|541=20260116|461=OPASPS|202=150.000", "IBM   260116P00150000"),
        ("55=IBM|200=20260116|201=1|202=150", "IBM   260116C00150000"),
        ("55=IBM|167=OPT|200=202601|201=1|202=150", "IBM   260100C00150000"),
        ("55=IBM260116C00150000|167=OPT", "IBM   260116C00150000"),
        ("55=IBM   260116C00150000|167=OPT", "IBM   260116C00150000"),
        ("55=SPXW|167=OPT|541=20260116|201=1|202=6900|207=XCBO", "SPXW  260116C06900000@XCBO"),
        # What the Options Symbology Initiative cannot say.
        ("55=LONGROOT|167=OPT|541=20260116|201=1|202=150", "LONGROOT OPT 20260116 C150"),
        ("55=IBM|167=OPT|200=202601w2|201=1|202=150", "IBM OPT 202601w2 C150"),
        ("55=IBM|167=OPT|200=20260116|201=1|202=0.0001", "IBM OPT 20260116 C0.0001"),
        ("55=CL|167=OPT|200=202601|201=0|202=-5", "CL OPT 202601 P-5"),
        ("55=IBM|167=OPT|200=202601|202=150", "IBM OPT 202601 150"),
        ("55=IBM|167=OPT", "IBM OPT"),
        # Others.
        ("55=ES|167=FUT|200=202603", "ES 202603"),
        ("55=ES|461=FFICSX|200=202603", "ES 202603"),
        ("55=ES|167=FUT", "ES FUT"),
        ("55=ES|200=202603", "ES 202603"),
        ("55=T|167=CORP|541=20300115", "T CORP 20300115"),
        ("55=EUR/USD|167=FOR", "EUR/USD FOR"),
        ("55=ES|167=FUT|200=202603w2", "ES 202603w2"),
        # Blanks at either end mean nothing.
        ("55=  IBM ", "IBM"),
        ("55=BRK B|207=XNYS", "BRK B@XNYS"),
        ("55=   ", ""),
        ("55=   |200=202603", ""),
    ],
)
def test_the_key_of_an_instrument(fields: str, expected: str) -> None:
    assert key(fields) == expected


def test_a_strike_that_is_no_number_is_refused_by_its_tag() -> None:
    with pytest.raises(NoInstrument, match=r"StrikePrice\(202\): '1,5' is not a decimal number") as caught:
        key("55=IBM|167=OPT|200=202601|201=1|202=1,5")
    assert caught.value.tag == b"202"


@pytest.mark.parametrize(
    ("fields", "tag", "says"),
    [
        ("55=CVT|200=20260231|202=1|201=1", b"200", r"MaturityMonthYear(200)='20260231'"),
        ("55=T|541=x", b"541", r"MaturityDate(541)='x'"),
        ("55=T|541=203001", b"541", r"MaturityDate(541)='203001'"),
        ("55=IBM|200=202601|205=132", b"205", r"MaturityDay(205)='202601132'"),
        ("55=IBM|167=OPT|200=202601|202=150|201=P", b"201", r"PutOrCall(201)='P' is neither 0, a put, nor 1, a call"),
        ("55=IBM|167=OPT|200=202601|202=150|201=2", b"201", r"PutOrCall(201)='2'"),
        (
            "55=IBM|461=OPASPS|200=202601|202=150|201=1",
            b"201",
            r"PutOrCall(201) says C, and CFICode(461)='OPASPS' some",
        ),
        ("55=ES|200=202613", b"200", r"MaturityMonthYear(200)='202613' is no month or day that there is"),
        ("55=ES|200=202600", b"200", r"MaturityMonthYear(200)='202600'"),
        ("55=ES|200=20260132", b"200", r"MaturityMonthYear(200)='20260132'"),
        ("55=T|541=20301315", b"541", r"MaturityDate(541)='20301315'"),
        ("55=IBM|200=202601|205=32", b"205", r"MaturityMonthYear(200) and MaturityDay(205)='20260132'"),
    ],
)
def test_a_maturity_that_no_calendar_has_is_refused_by_its_tag(fields: str, tag: bytes, says: str) -> None:
    with pytest.raises(NoInstrument) as caught:
        key(fields)
    assert (caught.value.tag, says in str(caught.value)) == (tag, True), caught.value


def test_every_field_that_it_asks_for_is_one_that_it_names() -> None:
    """What is not named is not looked at twice: see `trades.executions`."""
    full = [
        "55=IBM",
        "65=A",
        "167=OPT",
        "200=202601",
        "201=1",
        "202=150",
        "205=16",
        "207=XNYS",
        "461=OC",
        "541=20260116",
    ]
    assert {field.partition("=")[0].encode() for field in full} == INSTRUMENT_TAGS


def test_options_futures_and_shares_of_one_symbol_are_all_apart() -> None:
    options = [
        f"55=IBM|167=OPT|541={day}|201={right}|202={format_e8(strike)}"
        for day, right, strike in product(
            ("20260116", "20260220", "20270115"), "01", (E8, 150 * E8, 150 * E8 + 50_000_000)
        )
    ]
    others = ["55=IBM", "55=IBM|207=XNYS", "55=IBM|207=XLON", "55=IBM|65=WI", "55=IBM|167=FUT|200=202601", "55=IBM1",
              "55=IBM|167=FUT|200=202602", "55=IBM|167=CORP|541=20260116"]  # fmt: skip
    keys = [key(fields) for fields in (*options, *others)]
    assert len(set(keys)) == len(keys)


@given(
    one=st.tuples(st.sampled_from(["A", "AB", "ABCDEF"]), st.integers(20260101, 20260131), st.booleans(), st.integers(1, 10**13)),
    other=st.tuples(st.sampled_from(["A", "AB", "ABCDEF"]), st.integers(20260101, 20260131), st.booleans(), st.integers(1, 10**13)),
)  # fmt: skip
def test_two_options_have_one_key_only_if_they_are_one(
    one: tuple[str, int, bool, int], other: tuple[str, int, bool, int]
) -> None:
    keys = [
        key(f"55={root}|167=OPT|541={day}|201={int(call)}|202={format_e8(strike)}")
        for root, day, call, strike in (one, other)
    ]
    assert (keys[0] == keys[1]) == (one == other)
