"""Series of offsets: rates, ages, bounds, and topics that change under the eyes of the looker."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

import pytest
from eod_operator.kafka.offsets import COVERED_S, SAMPLES, CommitSeries, TopicSeries
from hypothesis import given
from hypothesis import strategies as st

GAPS_S = st.lists(st.floats(0.05, 30.0), min_size=1, max_size=300)


def series(samples: Iterable[tuple[float, Sequence[int]]]) -> TopicSeries:
    made = TopicSeries()
    for at_s, end in samples:
        made.append(at_s, array("q", end))
    return made


def total(rates: Sequence[float] | None) -> float | None:
    return None if rates is None else sum(rates)


def steadily(per_s: float, gaps_s: Sequence[float]) -> tuple[TopicSeries, float, int]:
    """A partition at a constant rate, looked at with these pauses; the series, and the newest sample's time and end."""
    at_s, made = 1_000.0, TopicSeries()
    made.append(at_s, array("q", [round(per_s * at_s)]))
    for gap_s in gaps_s:
        at_s += gap_s
        made.append(at_s, array("q", [round(per_s * at_s)]))
    return made, at_s, round(per_s * at_s)


@given(per_s=st.floats(1.0, 1e6), gaps_s=GAPS_S, share=st.floats(0.0, 1.0))
def test_constant_traffic_gives_the_true_age(per_s: float, gaps_s: list[float], share: float) -> None:
    """To within a record or two, however the samples lie and were thinned."""
    made, now_s, end = steadily(per_s, gaps_s)
    position = end - 1 - int(share * made.span_s * per_s)
    appended_s = made.appended_at_s(0, position)
    if appended_s is not None:
        assert appended_s == pytest.approx(position / per_s, abs=2.5 / per_s)
        assert made.age_s(0, position) == pytest.approx(now_s - position / per_s, abs=2.5 / per_s)


@given(
    steps=st.lists(st.tuples(st.floats(0.05, 60.0), st.integers(0, 10**12)), min_size=1, max_size=300), data=st.data()
)
def test_the_age_is_within_one_sample_of_the_truth_and_falls_with_the_position(
    steps: list[tuple[float, int]], data: st.DataObject
) -> None:
    """For any traffic: a record is as old as some moment between the samples around it, and never of no age."""
    at_s, end, truth = 0.0, 5, [(0.0, 5)]
    for gap_s, records in steps:
        at_s, end = at_s + gap_s, end + records
        truth.append((at_s, end))
    made = series((at_s, [end]) for at_s, end in truth)
    assert len(made) <= SAMPLES
    if end == 0:
        return
    first, second = sorted(data.draw(st.tuples(st.integers(0, end - 1), st.integers(0, end - 1))))
    older, younger = made.age_s(0, first), made.age_s(0, second)
    assert older is not None
    assert younger is not None
    assert made.span_s >= older >= younger > 0
    appended_s = made.appended_at_s(0, first)
    if appended_s is not None:
        kept = list(zip(made._times_s, made._rows, strict=True))
        low_s = max(time_s for time_s, row in kept if row[0] <= first)
        high_s = min(time_s for time_s, row in kept if row[0] > first)
        assert low_s <= appended_s <= high_s
        assert low_s <= min(time_s for time_s, seen in truth if seen > first) <= high_s


@given(gaps_s=GAPS_S, per_s=st.floats(1.0, 1e6))
def test_the_arrival_rate_of_constant_traffic_is_that_rate(gaps_s: list[float], per_s: float) -> None:
    made, _now_s, _end = steadily(per_s, gaps_s)
    rate = total(made.arrivals_per_s())
    assert rate is not None
    assert rate == pytest.approx(per_s, rel=1e-6, abs=1.01 / min(30.0, made.span_s))


@pytest.mark.parametrize("gap_s", [0.02, 0.1, 1.0, 7.5])
def test_ten_minutes_are_covered_in_few_samples(gap_s: float) -> None:
    """However often it is looked at; and what is kept lies closer the younger it is."""
    made = TopicSeries()
    for look in range(int(1_200 / gap_s)):
        made.append(look * gap_s, array("q", [look] * 12))
        assert len(made) <= SAMPLES
    assert made.span_s >= COVERED_S
    gaps_s = [after - before for before, after in zip(made._times_s, made._times_s[1:], strict=False)]
    newest_s = made._times_s[-1]
    for gap, younger_s in zip(gaps_s, made._times_s[1:], strict=False):
        assert gap <= max(1.0, gap_s, (newest_s - younger_s) / 10) + 1e-6


def test_a_rate_needs_two_samples() -> None:
    assert total(series([]).arrivals_per_s()) is None
    assert total(series([(0.0, [5])]).arrivals_per_s()) is None
    assert series([(0.0, [5])]).age_s(0, 4) is None
    assert total(series([(0.0, [5]), (2.0, [9])]).arrivals_per_s()) == 2.0


def test_the_rate_is_of_the_window() -> None:
    """A burst of a minute ago is over."""
    made = series([(0.0, [0]), (10.0, [1_000]), *((10.0 + at_s, [1_000]) for at_s in range(1, 61))])
    assert total(made.arrivals_per_s()) == 0.0
    assert total(made.arrivals_per_s(window_s=65.0)) == 1_000 / 70


def test_a_single_record_in_a_quiet_topic_has_an_age_between_the_looks() -> None:
    made = series([(0.0, [7]), (1.0, [7]), (2.0, [8])])
    assert made.age_s(0, 7) == 0.5


def test_a_topic_made_anew_starts_over() -> None:
    made = series([(0.0, [100]), (1.0, [200]), (2.0, [3])])
    assert (len(made), made.span_s, total(made.arrivals_per_s())) == (1, 0.0, None)
    made.append(3.0, array("q", [5]))
    assert total(made.arrivals_per_s()) == 2.0
    assert made.appended_at_s(0, 1) is None


def test_a_topic_made_anew_with_fewer_partitions_starts_over() -> None:
    assert len(series([(0.0, [1, 1]), (1.0, [1])])) == 1


def test_added_partitions_were_empty_before() -> None:
    made = series([(0.0, [10]), (1.0, [10, 4])])
    assert total(made.arrivals_per_s()) == 4.0
    assert made.appended_at_s(1, 0) == pytest.approx(1 / 8)


def test_a_clock_that_stands_still_keeps_the_newest() -> None:
    made = series([(0.0, [1]), (1.0, [2]), (1.0, [4])])
    assert (len(made), total(made.arrivals_per_s())) == (2, 3.0)


def commits(*samples: tuple[float, Sequence[int]]) -> CommitSeries:
    made = CommitSeries()
    for at_s, committed in samples:
        made.append(at_s, array("q", committed))
    return made


def test_the_consumption_is_what_was_committed_a_second() -> None:
    assert total(commits((0.0, [10, 10])).consumptions_per_s()) is None
    assert total(commits((0.0, [10, 10]), (2.0, [14, 20])).consumptions_per_s()) == 7.0
    assert total(commits((0.0, [10, 10]), (2.0, [10, 10])).consumptions_per_s()) == 0.0


def test_the_first_commit_of_a_partition_is_no_consumption() -> None:
    """It tells where the group stands; how it came there was not seen."""
    assert total(commits((0.0, [10, -1]), (1.0, [11, 5_000])).consumptions_per_s()) == 1.0


def test_a_group_that_was_set_back_starts_over() -> None:
    made = commits((0.0, [10]), (1.0, [20]), (2.0, [0]))
    assert total(made.consumptions_per_s()) is None
    made.append(4.0, array("q", [6]))
    assert total(made.consumptions_per_s()) == 3.0


@given(gaps_s=st.lists(st.floats(0.01, 90.0), min_size=1, max_size=200))
def test_commits_of_a_minute_are_few_and_give_the_rate(gaps_s: list[float]) -> None:
    made, at_s = CommitSeries(), 0.0
    for gap_s in gaps_s:
        made.append(at_s, array("q", [round(100 * at_s)]))
        at_s += gap_s
    assert len(made._times_s) <= 34
    span_s = made._times_s[-1] - made._times_s[0]
    assert span_s <= 60
    rate = total(made.consumptions_per_s())
    assert (rate is None) == (len(made._times_s) == 1)
    assert rate is None or rate == pytest.approx(100, abs=1.01 / min(30.0, span_s))


def test_rates_are_told_by_partition() -> None:
    """A hot partition shows, whatever the others do; the last two partitions were added on the way."""
    ends = series([(0.0, [5, 5]), (10.0, [25, 5]), (20.0, [45, 5, 10])])
    assert ends.arrivals_per_s() == (2.0, 0.0, 0.5)
    assert commits((0.0, [5, -1]), (10.0, [25, 7]), (20.0, [45, 17, 40])).consumptions_per_s() == (2.0, 0.5, 0.0)
