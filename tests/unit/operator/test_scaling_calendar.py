"""Closes: of exchanges with their half days, holidays and clock changes, written out, and amended by announcements."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, time

import exchange_calendars as xcals
import pytest
from eod_operator.scaling import (
    BurstWindow,
    ExchangeCalendar,
    ExplicitCalendar,
    NoCalendar,
    UnknownExchangeError,
    burst_window,
)
from eod_operator.scaling.calendar import AmendedCalendar, Event, closes_between, event_at, factors
from eod_operator.scaling.zones import ZONES, zone_of

# exchange_calendars 4.13 reads pandas attributes that pandas 3.1 deprecates
pytestmark = [
    pytest.mark.filterwarnings("ignore:Series.values returning:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:DatetimeIndex.weekday is deprecated:DeprecationWarning"),
]


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


@pytest.mark.parametrize(
    ("code", "since", "closes"),
    [
        ("XNYS", "2026-01-05", ("2026-01-05 21:00",)),  # 16:00 New York in winter
        ("XNYS", "2026-07-06", ("2026-07-06 20:00",)),  # in summer
        ("XNYS", "2026-03-06", ("2026-03-06 21:00",)),  # the last one before the clocks go forward
        ("XNYS", "2026-03-09", ("2026-03-09 20:00",)),  # and the first one after
        ("XNYS", "2026-10-30", ("2026-10-30 20:00",)),  # before they go back
        ("XNYS", "2026-11-02", ("2026-11-02 21:00",)),
        ("XNYS", "2026-11-26", ()),  # Thanksgiving
        ("XNYS", "2026-11-27", ("2026-11-27 18:00",)),  # 13:00
        ("XNYS", "2026-12-24", ("2026-12-24 18:00",)),  # 13:00
        ("XNYS", "2026-12-25", ()),
        ("XLON", "2026-01-05", ("2026-01-05 16:30",)),
        ("XLON", "2026-07-06", ("2026-07-06 15:30",)),
        ("XLON", "2026-03-27", ("2026-03-27 16:30",)),  # London changes its clocks three weeks after New York
        ("XLON", "2026-03-30", ("2026-03-30 15:30",)),
        ("XLON", "2026-12-24", ("2026-12-24 12:30",)),
        ("XLON", "2026-12-28", ()),  # instead of Boxing Day, which is a Saturday
        ("XTKS", "2026-01-05", ("2026-01-05 06:30",)),  # 15:30 Tokyo, which changes no clock
        ("XTKS", "2026-07-06", ("2026-07-06 06:30",)),
        ("XTKS", "2026-01-12", ()),  # Coming of Age Day
        ("XHKG", "2026-07-06", ("2026-07-06 08:00",)),
        ("XHKG", "2026-12-24", ("2026-12-24 04:00",)),  # 12:00
        ("XHKG", "2026-02-17", ()),  # Lunar New Year
    ],
)
def test_closes_of_a_day(code: str, since: str, closes: tuple[str, ...]) -> None:
    begin_s = at(f"{since} 00:00")
    assert tuple(map(at, closes)) == closes_between(ExchangeCalendar(code), begin_s, begin_s + 86_399)


def test_closes_between_include_both_ends() -> None:
    calendar = ExplicitCalendar.of([1.0, 2.0, 3.0, 4.0])
    assert closes_between(calendar, 2.0, 3.0) == (2.0, 3.0)
    assert closes_between(calendar, 3.1, 3.9) == ()
    assert closes_between(NoCalendar(), 0.0, 9.0) == ()


@pytest.mark.parametrize("code", ["XSHG", "XBOM", "XSES", "XSAU"])
def test_a_calendar_is_known_to_the_end_of_its_last_recorded_year(code: str) -> None:
    """Which has no next January: venues that announce their holidays a year at a time."""
    until = type(xcals.get_calendar(code)).bound_max()
    assert until is not None
    known = closes_between(ExchangeCalendar(code), at(f"{until.year}-12-01 00:00"), at(f"{until.year}-12-31 23:59"))
    assert 15 < len(known) < 24
    with pytest.raises(UnknownExchangeError, match=rf"cannot be loaded for {until.year + 1}"):
        ExchangeCalendar(code).first_close(at(f"{until.year + 1}-01-02 00:00"))


def test_a_year_no_calendar_reaches_names_the_remedy() -> None:
    with pytest.raises(UnknownExchangeError, match=r"cannot be loaded for 2199.*Upgrade exchange-calendars, or write"):
        closes_between(
            AmendedCalendar(ExchangeCalendar("XHKG"), zone_of("XHKG")), at("2199-01-01 00:00"), at("2199-02-01 00:00")
        )


NEW_YORK = zone_of("XNYS")
MOURNING, HALF, LATE = date(2026, 7, 7), date(2026, 7, 8), date(2026, 7, 9)
AMENDED = AmendedCalendar(
    ExchangeCalendar("XNYS"),
    NEW_YORK,
    frozenset({MOURNING}),
    {HALF: time(13), LATE: time(17, 30), date(2026, 7, 11): time(12)},
)
WEEK = ("2026-07-06 20:00", "2026-07-08 17:00", "2026-07-09 21:30", "2026-07-10 20:00", "2026-07-13 20:00")
"""Without the Tuesday, with a Wednesday that closes early and a Thursday that closes late; Saturday stays closed."""


def test_an_amended_calendar_leaves_out_and_moves() -> None:
    assert tuple(map(at, WEEK)) == closes_between(AMENDED, at("2026-07-06 00:00"), at("2026-07-13 23:00"))


@pytest.mark.parametrize(
    ("since", "close"),
    [
        ("2026-07-06 20:01", "2026-07-08 17:00"),
        ("2026-07-08 17:00", "2026-07-08 17:00"),
        ("2026-07-08 17:01", "2026-07-09 21:30"),  # behind the early close, before the usual one
        ("2026-07-09 20:01", "2026-07-09 21:30"),  # behind the usual close, before the late one
        ("2026-07-09 21:31", "2026-07-10 20:00"),
    ],
)
def test_first_close_of_an_amended_calendar(since: str, close: str) -> None:
    assert at(close) == AMENDED.first_close(at(since))


def test_all_sessions_of_an_explicit_calendar_may_be_called_off() -> None:
    calendar = AmendedCalendar(ExplicitCalendar.of([1_000.0, 2_000.0]), UTC, frozenset({date(1970, 1, 1)}))
    assert calendar.first_close(0.0) is None


def test_a_day_is_that_of_the_venue() -> None:
    """15:30 in Tokyo is the same day in UTC; 09:00 in Auckland would not be."""
    nine = at("2026-07-06 21:00")
    auckland = AmendedCalendar(ExplicitCalendar((nine,)), zone_of("XNZE"), frozenset({date(2026, 7, 7)}))
    assert auckland.first_close(0.0) is None
    assert nine == replace(auckland, closed=frozenset({date(2026, 7, 6)})).first_close(0.0)


def test_an_amended_calendar_is_at_hand_when_its_base_is() -> None:
    assert AmendedCalendar(NoCalendar(), UTC).at_hand(0.0)
    loaded = ExchangeCalendar("XNYS")
    loaded.first_close(at("2026-07-06 00:00"))
    assert AmendedCalendar(loaded, NEW_YORK).at_hand(at("2026-07-06 00:00"))
    assert not AmendedCalendar(loaded, NEW_YORK).at_hand(at("2011-07-06 00:00"))


def test_a_burst_window_follows_the_amendment() -> None:
    window = burst_window(AMENDED, at("2026-07-08 16:58"), lead_s=300, duration_s=900)
    assert BurstWindow(at("2026-07-08 17:00"), at("2026-07-08 17:00")) == window
    assert burst_window(AMENDED, at("2026-07-08 19:58"), lead_s=300, duration_s=900).close_s is None


REBALANCE = Event(date(2026, 12, 18), 3.0, "index-rebalance")


def test_an_event_belongs_to_the_close_of_its_day() -> None:
    closes = closes_between(ExchangeCalendar("XNYS"), at("2026-12-17 00:00"), at("2026-12-21 23:00"))
    expiry = Event(REBALANCE.day, 1.5, "expiry")
    assert {at("2026-12-18 21:00"): 3.0} == factors([REBALANCE, expiry], closes, NEW_YORK)
    assert event_at([expiry, REBALANCE], at("2026-12-18 21:00"), NEW_YORK) == REBALANCE
    assert event_at([REBALANCE], at("2026-12-17 21:00"), NEW_YORK) is None


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan, math.inf])
def test_an_event_needs_a_factor(factor: float) -> None:
    with pytest.raises(ValueError, match=r"2026-12-18 has factor .*: give a positive number"):
        replace(REBALANCE, factor=factor)


def test_an_event_needs_a_name() -> None:
    with pytest.raises(ValueError, match=r"2026-12-18 has no name"):
        replace(REBALANCE, name=" ")


def test_zones_are_those_of_exchange_calendars() -> None:
    from exchange_calendars import calendar_utils  # noqa: PLC0415 - slow (pandas), as the code under test has it

    made = calendar_utils._default_calendar_factories
    names = calendar_utils.get_calendar_names()
    assert {name: str(made[calendar_utils.resolve_alias(name)].tz) for name in names} == ZONES
    assert all(zone_of(name).key == zone for name, zone in ZONES.items())


def test_a_zone_of_no_exchange_names_the_remedy() -> None:
    with pytest.raises(UnknownExchangeError, match=r"'XNYZ'.*did you mean .*XNYS"):
        zone_of("XNYZ")
