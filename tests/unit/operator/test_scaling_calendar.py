"""Closes: of exchanges with their half days, holidays and clock changes, and written out."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest
from eod_operator.scaling import (
    BurstWindow,
    ExchangeCalendar,
    ExplicitCalendar,
    NoCalendar,
    UnknownExchangeError,
    burst_window,
)

# exchange_calendars 4.13 reads a pandas attribute that pandas 3.1 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:Series.values returning:DeprecationWarning")


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("since", "close"),
    [
        ("2026-11-25 12:00", "2026-11-25 21:00"),  # winter: 16:00 New York is 21:00 UTC
        ("2026-07-01 12:00", "2026-07-01 20:00"),  # summer: 20:00 UTC
        ("2026-03-06 22:00", "2026-03-09 20:00"),  # over the weekend in which the clocks change
        ("2026-11-26 12:00", "2026-11-27 18:00"),  # Thanksgiving is skipped; the day after closes at 13:00
        ("2026-12-24 12:00", "2026-12-24 18:00"),  # Christmas Eve closes at 13:00
        ("2026-12-31 21:00", "2026-12-31 21:00"),  # at the close itself, it is this one
        ("2026-12-31 21:01", "2027-01-04 21:00"),  # over the new year
    ],
)
def test_new_york_closes(since: str, close: str) -> None:
    assert at(close) == ExchangeCalendar("XNYS").first_close(at(since))


def test_other_venues_have_their_own_closes() -> None:
    assert at("2026-07-01 15:30") == ExchangeCalendar("XLON").first_close(at("2026-07-01 06:00"))


def test_unknown_exchange_names_the_remedy() -> None:
    with pytest.raises(UnknownExchangeError, match=r"'XNYZ'.*XNYS.*spec\.calendar\.sessions"):
        ExchangeCalendar("XNYZ").first_close(at("2026-07-01 06:00"))


@pytest.mark.parametrize(
    ("now_s", "expected"),
    [
        (699.0, BurstWindow(None, 1_000.0)),
        (700.0, BurstWindow(1_000.0, 1_000.0)),  # the lead belongs to the window
        (999.0, BurstWindow(1_000.0, 1_000.0)),
        (1_000.0, BurstWindow(1_000.0, 5_000.0)),  # at the close, the next one is the following
        (1_900.0, BurstWindow(1_000.0, 5_000.0)),  # so does the end
        (1_901.0, BurstWindow(None, 5_000.0)),
        (5_901.0, BurstWindow(None, None)),  # no closes left
    ],
)
def test_burst_window_around_explicit_closes(now_s: float, expected: BurstWindow) -> None:
    calendar = ExplicitCalendar.of([5_000.0, 1_000.0])
    assert expected == burst_window(calendar, now_s, lead_s=300, duration_s=900)


def test_two_closes_near_each_other_keep_the_window_on() -> None:
    """Inside both windows it is the earlier close's burst; it goes on over the second."""
    calendar = ExplicitCalendar.of([1_000.0, 1_500.0])
    states = [burst_window(calendar, now_s, lead_s=300, duration_s=900).active for now_s in range(690, 2_410, 10)]
    assert [False, *[True] * 171] == states


def test_no_calendar_is_never_in_a_burst() -> None:
    assert BurstWindow() == burst_window(NoCalendar(), 1_000.0, lead_s=300, duration_s=900)


def test_importing_the_scaling_code_loads_no_client_library() -> None:
    """The demo imports it at every start: pandas, pydantic and the Kubernetes clients must stay out."""
    code = "import sys, eod_operator.scaling; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pandas", "exchange_calendars", "pydantic", "kopf", "kubernetes", "aiokafka"} & set(loaded)
