"""The pure parts of `make bench-scaler-real`: a slip here would make a peer look worse, or the simulator better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import numpy as np
import pytest
from unit.bench.loading import loaded

CLOSE_S = datetime(2026, 11, 25, 16, 0, tzinfo=UTC).timestamp()


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """The package's modules."""
    with loaded("scaler_real", "close", "candidates", "figures", "predict", "recording") as modules:
        yield modules


def test_a_seed_means_the_same_close_for_every_candidate(bench: Any) -> None:
    one, same, other = (list(bench.close.Close(seed=seed).arrivals()) for seed in (7, 7, 8))
    assert one == same
    assert one != other


def test_as_many_records_arrive_as_the_rate_says(bench: Any) -> None:
    close = bench.close.Close()
    rates = [close.rate_per_s(at_s / 100 - close.before_s) for at_s in range(round(close.length_s * 100))]
    assert sum(len(records) for _, records in close.arrivals()) == pytest.approx(sum(rates) / 100, rel=0.005)
    assert max(rates) == pytest.approx(close.base_per_s + close.peak_per_s, rel=0.01)


def test_partitions_are_loaded_unevenly_and_all_of_them(bench: Any) -> None:
    close = bench.close.Close()
    counts = Counter(partition for _, records in close.arrivals() for partition in records)
    assert set(counts) == set(range(close.partitions))
    assert max(counts.values()) > 1.3 * min(counts.values())


def test_pods_start_as_slowly_as_was_asked_for(bench: Any) -> None:
    starts = sorted(islice(bench.close.Close(start_median_s=10, start_p95_s=15).starts_s(), 20_000))
    assert starts[10_000] == pytest.approx(10, rel=0.03)
    assert starts[19_000] == pytest.approx(15, rel=0.03)


@pytest.mark.parametrize(
    "wrong",
    [{"burst": 13}, {"least": 0}, {"most": 13}, {"start_p95_s": 5.0}, {"before_s": 0.0}, {"after_s": -1.0}],
)
def test_a_close_that_cannot_be_is_refused(bench: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|below"):
        bench.close.Close(**wrong)


def _place(bench: Any, close_s: float = CLOSE_S) -> Any:
    return bench.candidates.Place("localhost:9", "topic", "group", bench.close.Close(), close_s)


@pytest.mark.parametrize(
    ("close_s", "start", "end"),
    [(CLOSE_S, "59 15 * * *", "2 16 * * *"), (CLOSE_S + 8 * 3600 - 60, "58 23 * * *", "1 0 * * *")],
)
def test_cron_knows_the_minutes_around_the_close(bench: Any, close_s: float, start: str, end: str) -> None:
    _, scaled = bench.candidates.Keda(cron=True, lead_min=1, after_min=2).objects(_place(bench, close_s))
    kafka, cron = scaled["spec"]["triggers"]
    assert kafka["metadata"]["consumerGroup"] == "group"
    assert cron["metadata"] == {"timezone": "Etc/UTC", "start": start, "end": end, "desiredReplicas": "6"}


def test_without_cron_keda_knows_the_lag_alone(bench: Any) -> None:
    candidate = bench.candidates.Keda(cron=False)
    _, scaled = candidate.objects(_place(bench))
    assert [one["type"] for one in scaled["spec"]["triggers"]] == ["kafka"]
    assert "lead_min" not in candidate.settings()


def test_our_pipeline_has_the_close_as_a_session_and_further_settings_as_given(bench: Any) -> None:
    candidate = bench.candidates.Eod(scaling='{"intervalSeconds": 5}')
    [pipeline] = candidate.objects(_place(bench))
    spec = pipeline["spec"]
    assert spec["calendar"]["sessions"][0]["close"] == "2026-11-25T16:00:00Z"
    assert spec["stages"][0]["replicas"] == {"min": 1, "max": 12, "burst": 6}
    assert spec["scaling"] == {"scaleDownStabilizationSeconds": 60, "intervalSeconds": 5}
    assert candidate.settings()["intervalSeconds"] == 5


def _recording(bench: Any, looks: int = 9, **more: Any) -> Any:
    at_s = [CLOSE_S + look / 4 for look in range(looks)]
    return bench.recording.Recording(
        "eod",
        CLOSE_S,
        CLOSE_S,
        at_s=at_s,
        ends=[[10 * look, 20 * look] for look in range(looks)],
        committed=[[5 * look, 20 * look] for look in range(looks)],
        asked=[1, 1, 4, 4, 4, 2, 2, 2, 2],
        ready=[1] * looks,
        members=[1] * looks,
        state=["Stable"] * looks,
        **more,
    )


def test_what_was_seen_becomes_curves_on_an_even_grid(bench: Any) -> None:
    curves = bench.figures.seen(_recording(bench))
    assert np.diff(curves.times_s) == pytest.approx(0.25)
    assert curves.lag == pytest.approx([5 * look for look in range(8)])
    assert curves.asked.tolist() == [1, 1, 4, 4, 4, 2, 2, 2]
    assert curves.ended == 2
    assert curves.lag_s[4] == pytest.approx(0.5)  # half of a second's records of the first partition


def test_a_commit_that_was_read_after_the_end_offset_makes_no_negative_lag(bench: Any) -> None:
    recording = _recording(bench)
    recording.committed[3] = [31, 61]
    assert bench.figures.seen(recording).lag.min() == 0


def _event(name: str, after_s: float, **more: Any) -> dict[str, Any]:
    return {"event": name, "at_s": CLOSE_S + after_s, **more}


def test_pauses_waits_and_rebalances_are_told_by_the_pods(bench: Any) -> None:
    old = [
        _event("joining", -60),
        _event("assigned", -59, generation=1),
        _event("revoked", 1.0),
        _event("assigned", 1.5, generation=2),
        _event("revoked", 9.0),
    ]
    new = [_event("joining", -1.5), _event("assigned", 1.25, generation=2)]
    recording = _recording(bench, pods=[{"events": old}, {"events": new}])
    assert bench.figures.pauses_s(recording) == [0.5]
    assert bench.figures.waits_s(recording) == [1.0, 2.75]
    assert bench.figures.generations(recording) == {2: (CLOSE_S + 1.25, CLOSE_S + 1.5)}


def test_commits_come_half_an_interval_late_on_average(bench: Any) -> None:
    times_s = np.arange(0, 60, 0.25)
    done = 100 * times_s[:, None]
    late = bench.figures.delayed(times_s, done, 1.0)
    assert (done - late)[8:] == pytest.approx(50)
    assert late.shape == done.shape


def test_smoothing_takes_the_teeth_and_leaves_the_mean(bench: Any) -> None:
    times_s = np.arange(0, 60, 0.25)
    saw = 100 + 50 * np.sin(2 * np.pi * times_s)
    smooth = bench.figures.smoothed(times_s, saw, 1.0)
    assert len(smooth) == len(saw)
    assert np.abs(smooth[4:-4] - 100).max() < 15
    assert smooth.mean() == pytest.approx(saw.mean(), rel=0.01)


def test_a_curve_agrees_with_itself_and_not_with_half_of_it(bench: Any) -> None:
    curves = bench.figures.seen(_recording(bench))
    half = bench.figures.Curves(
        times_s=curves.times_s,
        arrived=curves.arrived,
        committed=(curves.arrived + curves.committed) / 2,
        asked=2 * curves.asked,
        members=curves.members,
        rebalances=0,
        ended=0,
    )
    assert set(bench.figures.disagreement(curves, curves, 1.0).values()) == {0.0}
    assert bench.figures.disagreement(curves, half, 1.0) == pytest.approx(
        {"curve": 0.5, "integral": 0.5, "peak": 0.5, "replica_s": 1.0}
    )


@pytest.mark.parametrize("name", ["keda", "keda+cron", "eod"])
@pytest.mark.parametrize("phase_s", [0.0, 4.5])
def test_a_day_of_the_simulator_itself_is_predicted(bench: Any, name: str, phase_s: float) -> None:
    """Whoever was simulated from a controller that syncs at another moment is found to be that policy again."""
    close, group = bench.close.Close(before_s=90, after_s=90), bench.predict.Group(pause_s=0.1, wait_s=1.5, beat_s=0)
    candidate = bench.candidates.Eod() if name == "eod" else bench.candidates.Keda(cron=name == "keda+cron")
    who = bench.predict.policy(name, candidate.settings())
    times_s = CLOSE_S - close.before_s + np.arange(0, close.length_s, 0.25)
    per_tick = [np.bincount(records, minlength=close.partitions) for _, records in close.arrivals()]
    total = np.concatenate((np.zeros((1, close.partitions)), np.cumsum(per_tick, axis=0)))
    ticks_s = CLOSE_S - close.before_s + 0.1 * np.arange(len(total))
    arrived = np.stack([np.interp(times_s, ticks_s, column) for column in total.T], axis=1)
    nothing = np.ones(len(times_s))
    start = bench.figures.Curves(times_s, arrived, arrived, nothing, nothing, 0, 0)
    late = round(phase_s * 4)
    start.asked[late:] = 2  # the moment at which the controller is seen to have acted
    _, first = bench.predict.simulate(close, start, CLOSE_S, group, who)
    _, second = bench.predict.simulate(close, first, CLOSE_S, group, who)
    off = bench.figures.disagreement(first, second, close.commit_s)
    assert first.asked.max() >= 5
    assert max(off["curve"], off["peak"], off["replica_s"]) < 0.05
