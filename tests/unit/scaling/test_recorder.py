"""Recording a session: means of bins, gaps, numbers that cannot be true, and the day's trace."""

from __future__ import annotations

import itertools
import json
import math

import pytest
from eod_operator.scaling.recorder import MOST_CHANGES, Circumstances, Recorder, trace
from eod_operator.scaling.sessions import BINS, EDGES_S, bin_of
from hypothesis import given
from hypothesis import strategies as st

CLOSE_S = 1_000_000.0


def rate_at(recorder: Recorder, relative_s: float) -> float | None:
    at = bin_of(relative_s)
    assert at is not None
    return recorder.session().rates_per_s[at]


def counted(*looks: tuple[float, float]) -> Recorder:
    """Looks at one partition: seconds since the close, and its end offset."""
    made = Recorder(CLOSE_S)
    for at_s, end in looks:
        made.totals(CLOSE_S + at_s, [end])
    return made


def test_a_bin_has_the_mean_rate_of_its_time() -> None:
    recorder = counted((0, 100), (4, 140), (10, 260), (15, 260))
    assert rate_at(recorder, 0) == pytest.approx(16.0)  # 160 records in 10 s
    assert rate_at(recorder, 10) is None  # half of it has been watched, not more
    recorder.totals(CLOSE_S + 16, [266])
    assert rate_at(recorder, 10) == pytest.approx(1.0)  # 6 records in 6 s


def test_a_look_over_an_edge_is_shared_by_time() -> None:
    recorder = counted((0, 0), (5, 0), (15, 100), (20, 100))
    assert (rate_at(recorder, 0), rate_at(recorder, 10)) == (pytest.approx(5.0), pytest.approx(5.0))


def test_the_first_look_only_says_where_to_count_from() -> None:
    assert counted((0, 1e9)).session().rates_per_s == (None,) * BINS


def test_a_silence_is_a_gap() -> None:
    recorder = counted((-1_000, 0), (-940, 60), (-879, 9_999_999), (-820, 10_000_058))
    assert rate_at(recorder, -1_000) == pytest.approx(1.0)
    assert rate_at(recorder, -960) is None  # 61 s without a look: nobody knows when they came
    assert rate_at(recorder, -900) == pytest.approx(1.0)  # counted from the look that ended it


@pytest.mark.parametrize("end", [-1.0, 0.0, 99.0])
def test_a_topic_made_anew_leaves_a_gap_and_is_counted_from_there(end: float) -> None:
    recorder = counted((0, 100), (10, end), (20, end + 50))
    assert (rate_at(recorder, 0), rate_at(recorder, 10)) == (None, pytest.approx(5.0))


def test_more_partitions_leave_a_gap_and_are_counted_from_there() -> None:
    recorder = counted((0, 100))
    recorder.totals(CLOSE_S + 10, [200, 5])
    recorder.totals(CLOSE_S + 20, [210, 15])
    assert (rate_at(recorder, 0), rate_at(recorder, 10)) == (None, pytest.approx(2.0))


@pytest.mark.parametrize("at_s", [-100.0, 5.0, 10.0])
def test_a_clock_that_goes_back_changes_nothing(at_s: float) -> None:
    recorder = counted((0, 0), (10, 100), (at_s, 1e6), (20, 200))
    assert (rate_at(recorder, 0), rate_at(recorder, 10)) == (pytest.approx(10.0), pytest.approx(10.0))


@pytest.mark.parametrize("end", [math.nan, math.inf])
def test_a_total_that_is_no_number_is_passed_over(end: float) -> None:
    """The next one tells what came since the last."""
    assert rate_at(counted((0, 0), (5, end), (10, 100)), 0) == pytest.approx(10.0)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -1.0])
def test_a_rate_that_cannot_be_true_leaves_its_time_unwatched(wrong: float) -> None:
    recorder = Recorder(CLOSE_S)
    for at_s, rate in ((0, 0.0), (10, 7.0), (20, wrong), (30, 9.0)):
        recorder.rates(CLOSE_S + at_s, [rate, 1.0])
    assert [rate_at(recorder, at_s) for at_s in (0, 10, 20)] == [pytest.approx(8.0), None, pytest.approx(10.0)]


def test_rates_and_totals_do_not_mix() -> None:
    """After a mean rate, an end offset says only where to count from."""
    recorder = counted((0, 0))
    recorder.rates(CLOSE_S + 10, [3.0])
    recorder.totals(CLOSE_S + 20, [1e6])
    recorder.totals(CLOSE_S + 30, [1e6 + 20])
    assert [rate_at(recorder, at_s) for at_s in (0, 10, 20)] == [pytest.approx(3.0), None, pytest.approx(2.0)]


def test_what_lies_outside_the_session_is_cut_off() -> None:
    recorder = counted((EDGES_S[-1] - 30, 0), (EDGES_S[-1] + 30, 600))
    assert recorder.session().rates_per_s[-1] is None
    recorder = counted((EDGES_S[-1] - 60, 0), (EDGES_S[-1] - 10, 0), (EDGES_S[-1] + 10, 240), (9_000, 1e9))
    assert recorder.session().rates_per_s[-1] == pytest.approx(2.0)
    assert counted((-30_000, 0), (-29_990, 99)).session().rates_per_s == (None,) * BINS


@pytest.mark.parametrize(
    ("relative_s", "covered", "over"),
    [(-23_401, False, False), (-23_400, True, False), (3_599, True, False), (3_600, False, True)],
)
def test_a_session_begins_and_ends(relative_s: float, covered: bool, over: bool) -> None:  # noqa: FBT001 - a case of the table
    recorder = Recorder(CLOSE_S)
    assert (covered, over) == (recorder.covers(CLOSE_S + relative_s), recorder.over(CLOSE_S + relative_s))


def test_only_a_session_whose_burst_was_watched_teaches() -> None:
    recorder = Recorder(CLOSE_S)
    for at_s in range(-620, 10):
        recorder.totals(CLOSE_S + at_s, [at_s + 1_000.0])
    assert not recorder.worth_learning()
    for at_s in range(10, 400):
        recorder.totals(CLOSE_S + at_s, [at_s + 1_000.0])
    assert recorder.worth_learning()


@given(
    st.lists(st.tuples(st.floats(0.1, 60), st.integers(0, 10_000)), min_size=1, max_size=60),
    st.floats(-3_700, 1_000),
)
def test_nothing_is_lost_or_made_up(steps: list[tuple[float, int]], begin_s: float) -> None:
    """All that came lies in the bins, by the time that each was watched."""
    recorder = Recorder(CLOSE_S)
    at_s, end = begin_s, 0
    recorder.totals(CLOSE_S + at_s, [0])
    for step_s, came in steps:
        at_s, end = at_s + step_s, end + came
        recorder.totals(CLOSE_S + at_s, [end])
    assert sum(recorder._records) == pytest.approx(end, rel=1e-6, abs=1e-6)
    assert sum(recorder._watched_s) == pytest.approx(at_s - begin_s, rel=1e-6)
    session = recorder.session()
    known = [(rate, watched_s) for rate, watched_s in zip(session.rates_per_s, recorder._watched_s, strict=True)]
    fastest = max(came / step_s for step_s, came in steps)
    assert all(rate is None or 0 <= rate <= fastest * (1 + 1e-6) for rate, _ in known)
    assert sum(rate * watched_s for rate, watched_s in known if rate is not None) <= end * (1 + 1e-6)


def test_a_session_goes_on_after_a_restart() -> None:
    before = counted(*((at_s, 5.0 * at_s) for at_s in range(-100, 101)))
    after = Recorder.resumed(before.session())
    for at_s in range(150, 201):
        after.totals(CLOSE_S + at_s, [7.0 * at_s])
    assert [rate_at(after, at_s) for at_s in (-50, 90, 120, 180)] == [
        pytest.approx(5),
        pytest.approx(5),
        None,
        pytest.approx(7),
    ]


def test_shares_are_those_of_the_records() -> None:
    recorder = Recorder(CLOSE_S)
    assert recorder.shares() == ()
    for at_s, ends in ((0, (0, 0, 0)), (10, (30, 10, 0)), (20, (60, 20, 0))):
        recorder.totals(CLOSE_S + at_s, ends)
    assert recorder.shares() == pytest.approx((0.75, 0.25, 0.0))


def test_only_changes_of_the_replica_count_are_kept() -> None:
    recorder = Recorder(CLOSE_S)
    for at_s, count in ((-30_000, 9), (-100, 1), (-50, 1), (0, 6), (0, 7), (10, 6), (20, 2), (9_999, 1)):
        recorder.replicas(CLOSE_S + at_s, count)
    assert recorder.changes() == ((-100, 1), (0, 6), (20, 2))


def test_of_too_many_changes_the_briefest_are_forgotten() -> None:
    recorder = Recorder(CLOSE_S)
    at_s = -10_000.0
    for number in range(3 * MOST_CHANGES):
        recorder.replicas(CLOSE_S + at_s, 1 + number % 2)
        at_s += 1.0 if 100 <= number < 300 else 7.0
    changes = recorder.changes()
    assert len(changes) <= MOST_CHANGES
    assert (changes[0], changes[-1][0]) == ((-10_000.0, 1), pytest.approx(at_s - 7.0))
    assert all(earlier[1] != later[1] and earlier[0] < later[0] for earlier, later in itertools.pairwise(changes))


def test_a_trace_holds_the_day() -> None:
    recorder = Recorder(1_795_802_400.0, event="rebalance")  # 2026-11-27 18:00:00 UTC
    for at_s in range(31):
        recorder.totals(recorder.close_s + at_s, [8.0 * at_s, 2.0 * at_s])
        recorder.replicas(recorder.close_s + at_s, 1 + at_s // 20)
    found = json.loads(trace(recorder, Circumstances(1, 12, service_per_s=100.0, start_s=31.5)))
    rates = found.pop("arrivalPerSecond")
    assert [(at, rate) for at, rate in enumerate(rates) if rate is not None] == [
        (bin_of(at_s), 10.0) for at_s in (0, 10, 20)
    ]
    assert found == {
        "version": 1,
        "close": "2026-11-27T18:00:00Z",
        "event": "rebalance",
        "edges": list(EDGES_S),
        "shares": [0.8, 0.2],
        "servicePerSecond": 100.0,
        "startSeconds": 31.5,
        "pauseSeconds": None,
        "min": 1,
        "max": 12,
        "replicas": [[0.0, 1], [20.0, 2]],
    }
