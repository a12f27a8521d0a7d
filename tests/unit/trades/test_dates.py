"""Which day an instant is of, in a zone."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from eod_workers.ingestion.settings import IngestionSettings
from eod_workers.trades.dates import NEW_YORK, TradeDates
from hypothesis import given
from hypothesis import strategies as st

NS = 10**9


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * NS


@pytest.mark.parametrize(
    ("zone", "instant", "date"),
    [
        (NEW_YORK, "2026-01-03T04:59:59Z", 20260102),
        (NEW_YORK, "2026-01-03T05:00:00Z", 20260103),
        # Its clocks change: days of 23 and of 25 hours.
        (NEW_YORK, "2026-03-09T03:59:59Z", 20260308),
        (NEW_YORK, "2026-03-09T04:00:00Z", 20260309),
        (NEW_YORK, "2026-11-02T04:59:59Z", 20261101),
        (NEW_YORK, "2026-11-02T05:00:00Z", 20261102),
        ("UTC", "2026-01-02T23:59:59Z", 20260102),
        ("Asia/Tokyo", "2026-01-02T15:00:00Z", 20260103),
        # No midnight: clocks go from 24:00 to 01:00.
        ("America/Santiago", "2026-09-06T03:59:59Z", 20260905),
        ("America/Santiago", "2026-09-06T04:00:00Z", 20260906),
        # A day that never was.
        ("Pacific/Apia", "2011-12-30T09:59:59Z", 20111229),
        ("Pacific/Apia", "2011-12-30T10:00:00Z", 20111231),
        (NEW_YORK, "1970-01-01T00:00:00Z", 19691231),
    ],
)
def test_the_day_of_an_instant(zone: str, instant: str, date: int) -> None:
    dates = TradeDates(zone)
    assert dates.of(at(instant)) == date
    assert dates.begin_ns <= at(instant) < dates.end_ns
    assert dates.of(at(instant)) == dates.date == date


@given(
    zone=st.sampled_from([NEW_YORK, "UTC", "Europe/London", "Australia/Lord_Howe", "America/Santiago", "Pacific/Apia"]),
    instants=st.lists(st.integers(0, 9_214_646_399 * NS), min_size=1, max_size=5),
    step_ns=st.integers(-(10**14), 10**14),
)
def test_it_is_the_day_that_the_zone_says_whatever_was_asked_before(
    zone: str, instants: list[int], step_ns: int
) -> None:
    dates, info = TradeDates(zone), ZoneInfo(zone)
    for instant in [*instants, abs(instants[-1] + step_ns)]:
        local = datetime.fromtimestamp(instant // NS, info)
        assert dates.of(instant) == local.year * 10_000 + local.month * 100 + local.day
        assert dates.begin_ns <= instant < dates.end_ns


@pytest.mark.parametrize("zone", ["New York", "", "../etc/passwd", "America"])
def test_a_zone_that_does_not_exist_is_refused_with_an_example(zone: str) -> None:
    with pytest.raises(ValueError, match=r"is no time zone: name one as IANA does, e\.g\. America/New_York"):
        TradeDates(zone)
    with pytest.raises(ValueError, match=r"is no time zone"):
        IngestionSettings(fix_zone=zone)
