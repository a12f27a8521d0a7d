"""Fixed-point numbers: exact, or refused with the reason."""

from __future__ import annotations

from decimal import Decimal

import pytest
from eod_workers.trades.numbers import E8, MAX_E8, format_e8, parse_e8
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"0", 0),
        (b"-0", 0),
        (b"1", E8),
        (b"12.5", 1_250_000_000),
        (b"12.50", 1_250_000_000),
        (b".5", 50_000_000),
        (b"5.", 5 * E8),
        (b"-12.5", -1_250_000_000),
        (b"-.5", -50_000_000),
        (b"007", 7 * E8),
        (b"0.00000001", 1),
        (b"-0.00000001", -1),
        (b"0.123456780", 12_345_678),
        (b"0.10000000000000000000", 10_000_000),
        (b"92233720368", 9_223_372_036_800_000_000),
        (b"92233720368.54775807", MAX_E8),
        (b"-92233720368.54775807", -MAX_E8),
        (b"00000000000000000000000012", 12 * E8),
    ],
)
def test_a_fix_float_becomes_its_exact_value(text: bytes, value: int) -> None:
    assert parse_e8(text) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "is not a decimal number"),
        (b".", "is not a decimal number"),
        (b"-", "is not a decimal number"),
        (b"-.", "is not a decimal number"),
        (b"+1", "is not a decimal number"),
        (b"1e5", "is not a decimal number"),
        (b"1E5", "is not a decimal number"),
        (b" 1", "is not a decimal number"),
        (b"1 ", "is not a decimal number"),
        (b"1\n", "is not a decimal number"),
        (b"1,000", "is not a decimal number"),
        (b"1_000", "is not a decimal number"),
        (b"1.2.3", "is not a decimal number"),
        (b"--1", "is not a decimal number"),
        (b"nan", "is not a decimal number"),
        (b"inf", "is not a decimal number"),
        (b"0x10", "is not a decimal number"),
        ("\u0661".encode(), "is not a decimal number"),
        (b"0.123456789", "has more than 8 decimals"),
        (b"1.000000001", "has more than 8 decimals"),
        (b"92233720368.54775808", "is too large"),
        (b"-92233720368.54775808", "is too large"),
        (b"1234567890123456789", "is too large"),
        (b"9" * 40, "is too large"),
        (b"9" * 5_000, "is too large"),
    ],
)
def test_anything_else_is_refused_with_the_reason(text: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_e8(text)


@given(value=st.integers(-MAX_E8, MAX_E8))
def test_formatting_and_parsing_are_inverse(value: int) -> None:
    assert parse_e8(format_e8(value).encode()) == value


@given(value=st.integers(-MAX_E8, MAX_E8))
def test_the_text_is_the_shortest_exact_decimal(value: int) -> None:
    text = format_e8(value)
    assert Decimal(text) == Decimal(value) / E8
    assert "e" not in text.lower()
    assert text == "0" or not ("." in text and text.endswith(("0", ".")))


@given(value=st.decimals(min_value=-(10**10), max_value=10**10, places=8))
def test_a_decimal_means_the_same_to_both(value: Decimal) -> None:
    assert Decimal(parse_e8(format(value, "f").encode())) == value * E8


@given(text=st.text(st.sampled_from("0123456789.-+e_ "), max_size=24))
def test_whatever_is_accepted_means_what_decimal_says(text: str) -> None:
    try:
        value = parse_e8(text.encode())
    except ValueError:
        return
    assert Decimal(value) / E8 == Decimal(text)
