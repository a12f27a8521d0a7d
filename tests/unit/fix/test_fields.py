"""Texts and time stamps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from eod_workers.fix.fields import format_timestamp, parse_timestamp_ns, text_of
from hypothesis import given
from hypothesis import strategies as st
from support.fix_messages import soh

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ns(*when: int) -> int:
    """Nanoseconds of a UTC date and time."""
    return (datetime(*when, tzinfo=UTC) - _EPOCH) // timedelta(seconds=1) * 10**9  # type: ignore[arg-type, misc]


# --- texts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"", ""),
        (b"IBM", "IBM"),
        ("Müller".encode(), "Müller"),
        ("Müller".encode("latin-1"), "Müller"),
        ("取引".encode(), "取引"),
        (b"\xff\x00", "ÿ\x00"),
        (b"M\xc3", "MÃ"),
    ],
)
def test_a_text_is_utf_8_or_else_latin_1(value: bytes, text: str) -> None:
    assert text_of(value) == text


@given(value=st.binary(max_size=40))
def test_no_byte_of_a_text_is_lost(value: bytes) -> None:
    assert value in {text_of(value).encode(), text_of(value).encode("latin-1", "ignore")}


# --- time stamps --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20260102-21:00:00", ns(2026, 1, 2, 21)),
        ("20260102-21:00:00.1", ns(2026, 1, 2, 21) + 100_000_000),
        ("20260102-21:00:00.123", ns(2026, 1, 2, 21) + 123_000_000),
        ("20260102-21:00:00.123456", ns(2026, 1, 2, 21) + 123_456_000),
        ("20260102-21:00:00.123456789", ns(2026, 1, 2, 21) + 123_456_789),
        ("20260102-00:00:00.000000001", ns(2026, 1, 2) + 1),
        ("20240229-12:00:00", ns(2024, 2, 29, 12)),
        ("20261231-23:59:59.999", ns(2026, 12, 31, 23, 59, 59) + 999_000_000),
        ("20161231-23:59:60", ns(2017, 1, 1)),
        ("19700101-00:00:00", 0),
        ("22611231-23:59:59.999999999", ns(2262, 1, 1) - 1),
    ],
)
def test_a_utc_time_stamp_is_exact_to_the_nanosecond(text: str, expected: int) -> None:
    """A leap second (:60) is the first of the next minute."""
    assert parse_timestamp_ns(text.encode()) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "20260102", "20260102 21:00:00", "2026-01-02T21:00:00Z", "20260102-21:00", "20260102-21:00:00.",
        "20260102-21:00:00.1234567890", "20260102-21:00:00Z", "20260102-24:00:00", "20260102-21:60:00",
        "20260102-21:00:61", "20260102-21:00:00\n", "20260230-21:00:00", "20250229-12:00:00", "20261301-21:00:00",
        "20260100-21:00:00", "20260102-21:00:00,5", "-20260102-21:00:00", "1767387600",
    ],
)  # fmt: skip
def test_anything_else_is_no_time_and_is_shown(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a UTC time stamp|is no time of day|: .*(day|month|year)"):
        parse_timestamp_ns(text.encode())


@pytest.mark.parametrize("text", ["00010101-00:00:00", "19691231-23:59:59", "22620101-00:00:00", "99991231-00:00:00"])
def test_a_time_that_no_64_bit_column_holds_is_refused(text: str) -> None:
    """One such report must not stop the writer for all."""
    with pytest.raises(ValueError, match="between 1970 and 2261"):
        parse_timestamp_ns(text.encode())


@given(at=st.integers(0, ns(2261, 12, 31) // 10**6))
def test_formatting_and_parsing_are_inverse_to_the_millisecond(at: int) -> None:
    assert parse_timestamp_ns(format_timestamp(at * 10**6)) == at * 10**6


def test_formatting_cuts_off_and_does_not_round_up() -> None:
    assert format_timestamp(ns(2026, 1, 2, 21) + 999_999_999) == b"20260102-21:00:00.999"


@given(text=st.text(st.sampled_from("0123456789-:. "), max_size=27))
def test_no_text_raises_anything_but_value_error(text: str) -> None:
    try:
        at = parse_timestamp_ns(text.encode())
    except ValueError:
        return
    assert 0 <= at < 2**63


def test_soh_is_what_separates_fields() -> None:
    """The tests' own helper says what it seems to say."""
    assert soh("8=FIX.4.4|9=5|") == b"8=FIX.4.4\x019=5\x01"
