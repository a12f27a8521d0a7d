"""Forecasts in absolute time, today's level, and the gate that drops those that have been wrong."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from eod_operator.scaling.forecast import (
    MOST_ERROR,
    Forecast,
    Score,
    backtest,
    burst_watched,
    judge,
    level,
    trusted,
)
from eod_operator.scaling.profile import Profile, learn
from eod_operator.scaling.sessions import BINS, EDGES_S, RecordedSession, bin_of
from hypothesis import given
from hypothesis import strategies as st
from support.recorded import session, sessions

PROFILE = learn(sessions(10, spread=0.1))
CLOSE_S = 1_000_000.0


def ramp() -> Profile:
    """A profile whose rate tells how late it is: number of the bin and one."""
    return learn([RecordedSession(0.0, tuple(float(at + 1) for at in range(BINS)))])


def score(error: float, day: int = 0) -> Score:
    return Score(float(day), 100.0 * (1 + error), 100.0, error, error)


@pytest.mark.parametrize(
    ("at_s", "rate"),
    [
        (CLOSE_S - 23_401, 0.0),
        (CLOSE_S - 23_400, PROFILE.rate(-23_400)),
        (CLOSE_S, PROFILE.rate(0)),
        (CLOSE_S + 3_599, PROFILE.rate(3_599)),
        (CLOSE_S + 3_600, 0.0),
        (CLOSE_S + 86_400, 0.0),
    ],
)
def test_a_forecast_is_the_profile_laid_on_the_close(at_s: float, rate: float) -> None:
    assert rate == Forecast(PROFILE, (CLOSE_S,)).rate(at_s)
    assert Forecast(PROFILE, ()).rate(at_s) == 0


@pytest.mark.parametrize(
    ("at_s", "relative_s"),
    [
        (1_299, 299),  # the close at 1,000 decides up to the middle
        (1_301, -299),
        (1_600, 0),
        (1_600 + 3_599, 3_599),
        (5_300, -14_700),  # an hour after the second, the third decides though the second is nearer
    ],
)
def test_the_nearest_close_decides(at_s: float, relative_s: float) -> None:
    profile = ramp()
    assert profile.rate(relative_s) == Forecast(profile, (1_000.0, 1_600.0, 20_000.0)).rate(at_s)


def test_an_announced_event_multiplies_the_burst_alone() -> None:
    forecast = Forecast(PROFILE, (CLOSE_S, CLOSE_S + 86_400), {CLOSE_S: 3.0})
    assert forecast.rate(CLOSE_S) == pytest.approx(3 * PROFILE.rate(0))
    assert forecast.rate(CLOSE_S - 61) == PROFILE.rate(-61)
    assert forecast.rate(CLOSE_S + 86_400) == PROFILE.rate(0)
    assert forecast.peak(CLOSE_S - 7_200, CLOSE_S + 600) == pytest.approx(3 * PROFILE.peak(-60, 600))
    quieter = replace(forecast, factors={CLOSE_S: 0.01})
    assert quieter.peak(CLOSE_S - 7_200, CLOSE_S + 600) == PROFILE.peak(-7_200, -60.1)


def test_the_level_multiplies_everything() -> None:
    assert Forecast(PROFILE, (CLOSE_S,), level=1.5).rate(CLOSE_S - 100) == pytest.approx(1.5 * PROFILE.rate(-100))


@pytest.mark.parametrize("closes_s", [(2.0, 1.0), (1.0, 1.0)])
def test_closes_out_of_order_are_refused(closes_s: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="rising order: sort it"):
        Forecast(PROFILE, closes_s)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_a_level_that_is_no_factor_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="positive number"):
        Forecast(PROFILE, (), level=wrong)


def test_a_peak_backwards_is_refused() -> None:
    with pytest.raises(ValueError, match="the end lies before the beginning"):
        Forecast(PROFILE, (CLOSE_S,)).peak(2.0, 1.0)


@given(
    st.lists(st.integers(0, 40_000).map(float), max_size=4, unique=True).map(lambda found: tuple(sorted(found))),
    st.floats(-30_000, 60_000),
    st.floats(0, 20_000),
    st.floats(0, 1),
    st.floats(0.2, 5),
)
def test_a_peak_is_at_least_every_rate_within(
    closes_s: tuple[float, ...], from_s: float, for_s: float, share: float, factor: float
) -> None:
    forecast = Forecast(PROFILE, closes_s, dict.fromkeys(closes_s, factor), 1.2)
    peak = forecast.peak(from_s, from_s + for_s)
    assert peak >= forecast.rate(min(from_s + share * for_s, from_s + for_s))
    assert peak <= 1.2 * max(1, factor) * PROFILE.peak(-math.inf, math.inf) * (1 + 1e-9)


class Looked(tuple[float, ...]):  # noqa: SLOT001 - it counts
    """Knows how many of its numbers were asked for."""

    looks = 0

    def __getitem__(self, which: Any) -> Any:
        self.looks += 1
        return super().__getitem__(which)


def test_a_peak_is_asked_of_the_closes_nearby_alone() -> None:
    """Found by bisection: it is asked for every stage at every decision."""
    closes = Looked(CLOSE_S + day * 86_400 for day in range(1_000))
    assert Forecast(PROFILE, closes, {CLOSE_S: 2.0}).peak(CLOSE_S - 100, CLOSE_S + 60) > 0
    assert 0 < closes.looks < 60


def today(factor: float, *, from_s: float = -1_900, to_s: float = -60) -> list[tuple[float, float]]:
    return [(float(at), factor * PROFILE.median(at)) for at in range(int(from_s), int(to_s), 10)]


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(1.0, 1.0), (1.44, 1.2), (0.64, 0.8), (100.0, math.sqrt(2)), (0.0, math.sqrt(0.5))],
)
def test_the_level_shares_half_of_todays_deviation(factor: float, expected: float) -> None:
    assert expected == pytest.approx(level(PROFILE, today(factor)))


def test_little_seen_says_little() -> None:
    assert level(PROFILE, today(2.0, from_s=-200)) == pytest.approx(2 ** (0.5 * 130 / 900))
    assert level(PROFILE, today(2.0, from_s=-70)) == 1.0  # one look is a moment, not a volume


def test_one_block_trade_does_not_raise_the_level() -> None:
    assert level(PROFILE, [*today(1.0)[:-1], (-70.0, 1e9)]) == pytest.approx(1.0)


def test_only_the_half_hour_before_the_burst_counts() -> None:
    """Neither the morning nor the burst itself, which the level is to foretell."""
    assert level(PROFILE, [*today(9.0, from_s=-20_000, to_s=-5_000), *today(1.0)]) == pytest.approx(1.0)
    burst = [(float(at), 1e6) for at in range(-60, 1_000, 10)]
    assert level(PROFILE, [*today(1.0), *burst]) == pytest.approx(1.0)
    assert level(PROFILE, burst) == 1.0


def test_a_profile_of_nothing_compares_with_nothing() -> None:
    assert level(learn([]), today(3.0)) == 1.0


@given(st.lists(st.tuples(st.floats(-25_000, 4_000), st.floats(allow_nan=True, allow_infinity=True)), max_size=40))
def test_the_level_has_bounds(looks: list[tuple[float, float]]) -> None:
    assert 0.5 <= level(PROFILE, looks, weight=1.0) <= 2.0
    assert math.sqrt(0.5) <= level(PROFILE, looks) * (1 + 1e-12)
    assert level(PROFILE, looks) <= math.sqrt(2) * (1 + 1e-12)


@pytest.mark.parametrize(
    ("came", "error"), [(1.0, 0.0), (2.0, -0.5), (0.5, 1.0), (0.01, MOST_ERROR), (0.0, MOST_ERROR)]
)
def test_a_score_is_the_relative_error(came: float, error: float) -> None:
    found = judge(learn([session()]), session(1, scale=came))
    assert found is not None
    assert (found.peak_error, found.area_error) == (pytest.approx(error, abs=0.02), pytest.approx(error, abs=0.16))


def test_an_announced_factor_is_part_of_the_forecast() -> None:
    found = judge(learn([session()]), session(1, scale=3.0, event="rebalance"), factor=3.0)
    assert found is not None
    assert (found.peak_error, found.event) == (pytest.approx(0.0), "rebalance")


@pytest.mark.parametrize(("gap", "judged"), [((-60, 60), False), ((0, 50), True), ((-500, 900), False)])
def test_a_session_whose_burst_was_not_watched_is_not_judged(gap: tuple[float, float], judged: bool) -> None:  # noqa: FBT001 - a case of the table
    rates = tuple(None if gap[0] <= EDGES_S[at] < gap[1] else rate for at, rate in enumerate(session().rates_per_s))
    seen = RecordedSession(0.0, rates)
    assert burst_watched(seen) is judged
    assert (judge(PROFILE, seen) is not None) is judged


@pytest.mark.parametrize(
    ("errors", "sessions_", "believed", "reason"),
    [
        ((), 0, False, "fewer than 2 sessions"),
        ((0.0,), 1, False, "fewer than 2 sessions"),
        ((), 2, False, "not met a session"),
        ((0.1,), 2, True, "within 60%"),
        ((-0.5, 0.6, 0.5), 4, True, "within 60%"),
        ((0.7, 0.9), 3, False, "too high by more than 60%"),
        ((-0.7, -0.9, 0.1), 4, False, "too low by more than 60%"),
        ((9.0, 10.0), 3, False, "did not come"),
        ((0.9, 0.9, 0.9, 0.1, 0.1, 0.1), 7, True, "within 60%"),  # the last five are 0.9 0.9 0.1 0.1 0.1
        ((0.1, 0.1, 0.1, 0.9, 0.9, 0.9), 7, False, "too high"),
    ],
)
def test_the_gate(errors: tuple[float, ...], sessions_: int, believed: bool, reason: str) -> None:  # noqa: FBT001 - a case of the table
    scores = [score(error, day) for day, error in enumerate(errors)]
    verdict = trusted(list(reversed(scores)), sessions=sessions_)
    assert (believed, True) == (verdict.trusted, reason in verdict.reason)


def test_a_reason_has_no_ticking_number() -> None:
    """It goes into status and Events, where each new sentence is news."""
    assert trusted([score(0.7, 1), score(0.8, 2)], sessions=3) == trusted(
        [score(0.9, day) for day in range(9)], sessions=9
    )


def test_a_backtest_knows_only_what_was_before() -> None:
    known = [*sessions(6), session(6, scale=5.0), session(7)]
    tested = backtest(list(reversed(known)))
    assert [one.session.close_s for one in tested] == [one.close_s for one in known]
    assert [one.profile.sessions for one in tested] == list(range(8))
    assert tested[0].score is None
    errors = [one.score.peak_error for one in tested if one.score]
    assert errors[:5] == pytest.approx([0.0] * 5)
    assert errors[5] == pytest.approx(-0.8, abs=0.01)
    assert [False, False, *[True] * 6] == [one.verdict.trusted for one in tested]


def test_a_market_that_changed_is_mistrusted_until_it_is_learned() -> None:
    changed = [*(session(day) for day in range(10)), *(session(day, scale=8.0) for day in range(10, 24))]
    believed = [one.verdict.trusted for one in backtest(changed)]
    assert all(believed[2:11])
    assert not any(believed[14:15])
    assert believed[-1]


def test_a_backtest_is_of_one_kind() -> None:
    known = [*sessions(4), *(session(day, scale=3, event="rebalance") for day in range(10, 14))]
    assert (
        pytest.approx([one.score.peak_per_s / PROFILE_PEAK for one in backtest(known, event="rebalance") if one.score])
        == [3.0] * 3
    )


PROFILE_PEAK = max(rate or 0.0 for rate in session().rates_per_s[bin_of(-600) or 0 :])
