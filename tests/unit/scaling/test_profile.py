"""Profiles: what is learned from recorded sessions, and what is not."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from eod_operator.scaling.profile import Profile, bands, learn, picked, quantile_of
from eod_operator.scaling.sessions import BINS, EDGES_S, RecordedSession, bin_of
from hypothesis import given
from hypothesis import strategies as st
from support.recorded import BASE_PER_S, session, sessions

SCALES = st.floats(0.93, 1.07)
RATES = st.one_of(st.none(), st.floats(0, 1e6))
MOMENTS = st.floats(-30_000, 10_000)


def flat(day: int, rate: float | None, event: str = "") -> RecordedSession:
    return RecordedSession(day * 86_400.0, (rate,) * BINS, event)


def at_bin(day: int, relative_s: float, rate: float | None, elsewhere: float = 1.0) -> RecordedSession:
    rates: list[float | None] = [elsewhere] * BINS
    rates[bin_of(relative_s) or 0] = rate
    return RecordedSession(day * 86_400.0, tuple(rates))


@pytest.mark.parametrize(
    ("rates", "quantile", "expected"),
    [
        ((10,), 0.8, 10),
        ((10, 20), 0.8, 18),
        ((10, 20, 30), 0.8, 26),
        ((10, 20, 30), 0.5, 20),
        ((10, 20, 30, 40), 1.0, 40),
        ((10, 20, 30, 40, 1_000), 0.8, 40),  # of five, the wild one counts as the next
        ((10, 20, 30, 40, 1_000), 1.0, 40),
        ((0, 20, 30, 40, 50), 0.5, 30),
        ((10, 20, 30, 40, 50, 60), 0.8, 50),  # 10 20 30 40 50 50, at place 4
    ],
)
def test_a_profile_is_a_winsorised_quantile(rates: tuple[float, ...], quantile: float, expected: float) -> None:
    profile = learn([flat(day, rate) for day, rate in enumerate(rates)], quantile=quantile)
    assert profile.rate(0) == pytest.approx(expected)
    assert profile.sessions == len(rates)


def test_nothing_learned_foresees_nothing() -> None:
    profile = learn([])
    assert (profile.sessions, profile.peak(-math.inf, math.inf), profile.spread) == (0, 0.0, math.inf)


def test_only_the_last_sessions_of_the_kind_count() -> None:
    known = (
        [flat(day, 100) for day in range(5)] + [flat(day, 10) for day in range(5, 10)] + [flat(11, 900, "rebalance")]
    )
    assert [flat(8, 10), flat(9, 10)] == [*picked(known, kept=2)]
    assert learn(known, kept=5).rate(0) == 10
    assert learn(known, event="rebalance").rate(0) == 900
    assert learn(known, event="unheard of").sessions == 0


def test_a_burst_that_is_early_or_late_is_not_averaged_away() -> None:
    """Each of these is a single bin of 1,000; without looking at neighbours, every median would be 1."""
    shifted = [at_bin(day, 10 * (day % 3 - 1), 1_000) for day in range(9)]
    assert learn(shifted).median(0) == 1_000
    assert learn(shifted).rate(0) == 1_000
    assert learn(shifted).rate(60) == 1


def test_wide_bins_stand_for_themselves() -> None:
    profile = learn([at_bin(0, -3_000, 1_000)])
    assert [rate for rate in profile.rates_per_s if rate > 1] == [1_000]


@pytest.mark.parametrize("gap", [None, math.nan, math.inf, -5.0])
def test_what_is_no_rate_counts_as_not_watched(gap: float | None) -> None:
    assert learn([at_bin(0, 0, gap, 7), at_bin(1, 0, 9, 7)]).rate(0) == 9


def test_a_bin_nobody_watched_has_the_higher_of_its_neighbours() -> None:
    rates: list[float | None] = [5.0] * BINS
    burst = bin_of(0) or 0
    rates[burst - 4 : burst] = [None] * 4
    rates[burst:] = [50.0] * (BINS - burst)
    rates[-3:] = [None] * 3
    profile = learn([RecordedSession(0.0, tuple(rates))])
    assert (profile.rate(-35), profile.rate(-50), profile.rate(3_599)) == (50, 5, 50)


def test_a_session_without_anything_watched_teaches_nothing() -> None:
    assert learn([flat(0, None), flat(1, 12)]).rates_per_s == (12.0,) * BINS


def test_the_spread_tells_how_much_bursts_differ() -> None:
    assert learn(sessions(10)).spread == 0
    assert learn([flat(0, 100), flat(1, 100), flat(2, 150)]).spread == pytest.approx(0.3)


def test_a_profile_has_its_peak_at_the_burst() -> None:
    profile = learn(sessions(10, spread=0.1))
    assert -10 <= profile.peak_at_s <= 10
    assert profile.rate(-3_000) < 2 * BASE_PER_S


@pytest.mark.parametrize(
    ("from_s", "to_s", "peak"),
    [
        (-23_401, -23_400.5, 0),  # before the first bin
        (-30_000, -23_400, 1),
        (3_599, 9_000, 1),
        (3_600, 9_000, 0),  # behind the last bin
        (0, 0, 9),
        (-60, -0.001, 9),  # the neighbourhood
        (20, 30, 1),
        (-math.inf, math.inf, 9),
    ],
)
def test_peaks_at_the_edges(from_s: float, to_s: float, peak: float) -> None:
    assert peak == learn([at_bin(0, 0, 9)]).peak(from_s, to_s)


@pytest.mark.parametrize(("from_s", "to_s"), [(1, 0), (math.nan, 0), (0, math.nan)])
def test_a_peak_without_a_beginning_before_its_end_is_refused(from_s: float, to_s: float) -> None:
    with pytest.raises(ValueError, match="the end lies before the beginning"):
        learn([]).peak(from_s, to_s)


def test_a_quantile_below_the_median_is_refused() -> None:
    with pytest.raises(ValueError, match=r"quantile is 0\.3: .* such as 0\.8"):
        learn([], quantile=0.3)
    with pytest.raises(ValueError, match="no values"):
        quantile_of((), 0.5)


def test_a_profile_of_other_bins_is_refused() -> None:
    with pytest.raises(ValueError, match="medians_per_s has 3 bins"):
        replace(learn([]), medians_per_s=(1.0, 2.0, 3.0))


@given(st.lists(SCALES, min_size=5, max_size=12), st.floats(0, 100), st.data())
def test_one_wild_session_hardly_moves_the_peak(scales: list[float], wild: float, data: st.DataObject) -> None:
    ordinary = [session(day, scale=scale) for day, scale in enumerate(scales)]
    spoilt = list(ordinary)
    at = data.draw(st.integers(0, len(scales) - 1))
    spoilt[at] = session(at, scale=wild)
    before, after = learn(ordinary).peak(-60, 600), learn(spoilt).peak(-60, 600)
    assert abs(after / before - 1) < 0.15


@given(st.lists(st.floats(0.2, 5), min_size=5, max_size=12), st.floats(0, 1_000), st.floats(0, 1_000))
def test_one_wild_session_leads_nowhere_others_have_not_been(scales: list[float], low: float, high: float) -> None:
    others = [session(day, scale=scale) for day, scale in enumerate(scales)]
    for wild in (low, high):
        peak = learn([*others, session(99, scale=wild)], quantile=1.0).peak(-60, 600)
        assert learn([session(scale=min(scales))]).peak(-60, 600) * (1 - 1e-9) <= peak
        assert peak <= learn([session(scale=max(scales))]).peak(-60, 600) * (1 + 1e-9)


@given(
    st.lists(st.floats(0.1, 10), min_size=1, max_size=9),
    st.lists(st.floats(1, 3), min_size=9, max_size=9),
    st.sampled_from([0.5, 0.8, 0.95, 1.0]),
)
def test_more_volume_never_lowers_a_profile(scales: list[float], more: list[float], quantile: float) -> None:
    before = learn([session(day, scale=scale) for day, scale in enumerate(scales)], quantile=quantile)
    grown = [session(day, scale=scale * factor) for day, (scale, factor) in enumerate(zip(scales, more, strict=False))]
    after = learn(grown, quantile=quantile)
    assert all(old <= new * (1 + 1e-12) for old, new in zip(before.rates_per_s, after.rates_per_s, strict=True))


@given(st.permutations(sessions(8, spread=0.3)))
def test_the_order_of_the_sessions_is_of_no_account(shuffled: list[RecordedSession]) -> None:
    assert learn(sessions(8, spread=0.3), kept=6) == learn(shuffled, kept=6)


@pytest.mark.slow
@given(st.lists(st.lists(RATES, min_size=BINS, max_size=BINS).map(tuple), min_size=1, max_size=4), MOMENTS, MOMENTS)
def test_a_peak_is_the_highest_rate_within(rates: list[tuple[float | None, ...]], one: float, other: float) -> None:
    profile = learn([RecordedSession(float(day), rate) for day, rate in enumerate(rates)])
    from_s, to_s = sorted((one, other))
    within = {from_s, to_s, *(edge for edge in EDGES_S if from_s <= edge <= to_s)}
    assert profile.peak(from_s, to_s) == max(map(profile.rate, within))
    assert all(low <= high for low, high in zip(profile.medians_per_s, profile.rates_per_s, strict=True))


def test_bands_rise_with_the_quantile() -> None:
    low, middle, high = bands(sessions(10, spread=0.3), (0.1, 0.5, 0.9))
    assert all(a < b < c for a, b, c in zip(low, middle, high, strict=True))
    assert bands([], (0.5,)) == ((0.0,) * BINS,)


class Looked(tuple[float, ...]):  # noqa: SLOT001 - it counts
    """Knows how many of its numbers were asked for."""

    looks = 0

    def __getitem__(self, which: Any) -> Any:
        found = super().__getitem__(which)
        self.looks += len(found) if isinstance(which, slice) else 1
        return found


def test_a_peak_is_asked_of_the_bins_that_matter_alone() -> None:
    """It is asked for every stage at every decision, and a thousand times a simulated day."""
    profile: Profile = learn(sessions(20, spread=0.2))
    looked = Looked(profile.rates_per_s)
    assert replace(profile, rates_per_s=looked).peak(-60, 60) == profile.peak(-60, 60)
    assert 0 < looked.looks <= sum(-60 <= edge <= 60 for edge in EDGES_S) + 1 < BINS / 2
