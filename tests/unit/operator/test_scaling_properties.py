"""What holds for every policy, signal and history."""

from __future__ import annotations

import itertools
from dataclasses import replace

from eod_operator.scaling import BurstWindow, History, Signals, StagePolicy, align, decide
from hypothesis import given
from hypothesis import strategies as st

NOW = 5_000.0
PARTITIONS = st.integers(1, 256)


@st.composite
def policies(draw: st.DrawFn) -> StagePolicy:
    low, burst, high = sorted(draw(st.lists(st.integers(0, 64), min_size=3, max_size=3)))
    return StagePolicy(
        min_replicas=low,
        max_replicas=high,
        burst_replicas=burst,
        lag_per_replica=draw(st.integers(1, 100_000)),
        stabilization_s=draw(st.floats(0, 600)),
    )


@st.composite
def signals(draw: st.DrawFn) -> Signals:
    partitions = draw(PARTITIONS)
    lags = st.lists(st.integers(-10, 1_000_000), min_size=partitions, max_size=partitions)
    return Signals(
        lag=tuple(draw(lags)) if partitions < 20 and draw(st.booleans()) else None,
        age_s=draw(st.sampled_from([0.0, 30.0, 61.0, float("nan")])),
        partitions=draw(st.sampled_from([partitions, partitions, None])),
    )


@st.composite
def histories(draw: st.DrawFn) -> History:
    history, at_s = History(), NOW
    for _ in range(draw(st.integers(0, 6))):
        at_s -= draw(st.floats(0, 300))
    for _ in range(draw(st.integers(0, 6))):
        at_s = min(NOW, at_s + draw(st.floats(0, 100)))
        history = history.add(at_s, draw(st.integers(0, 64)), window_s=600)
    return history


windows = st.sampled_from([BurstWindow(), BurstWindow(NOW - 10, NOW + 90_000), BurstWindow(NOW + 10, NOW + 10)])
running = st.integers(0, 80)


@given(policies(), signals(), windows, histories(), running)
def test_never_outside_min_and_max_and_never_above_partitions(
    policy: StagePolicy, signal: Signals, window: BurstWindow, history: History, current: int
) -> None:
    count = decide(policy, signal, window, history, current=current, now_s=NOW).replicas
    partitions = policy.max_replicas if signal.partitions is None else signal.partitions
    assert min(policy.min_replicas, partitions) <= count <= min(policy.max_replicas, partitions)


@given(policies(), PARTITIONS, windows, histories(), running, st.integers(0, 10**7), st.integers(0, 10**7))
def test_more_lag_never_means_fewer_replicas(
    policy: StagePolicy,
    partitions: int,
    window: BurstWindow,
    history: History,
    current: int,
    lag: int,
    more: int,
) -> None:
    signal = Signals(lag=(lag,), partitions=partitions)
    less = decide(policy, signal, window, history, current=current, now_s=NOW)
    signal = replace(signal, lag=(lag + more,))
    assert decide(policy, signal, window, history, current=current, now_s=NOW).replicas >= less.replicas


@given(policies(), windows, histories(), running, PARTITIONS, st.sampled_from([60.5, 1e9, float("nan")]))
def test_stale_signals_never_lower(
    policy: StagePolicy, window: BurstWindow, history: History, current: int, partitions: int, age_s: float
) -> None:
    """Below the caps, which always bind, a stale signal leaves at least what is running."""
    signal = Signals(lag=(0,), age_s=age_s, partitions=partitions)
    count = decide(policy, signal, window, history, current=current, now_s=NOW).replicas
    assert count >= min(current, policy.max_replicas, partitions)


@given(policies(), signals(), histories(), running)
def test_nothing_is_lowered_inside_the_burst(
    policy: StagePolicy, signal: Signals, history: History, current: int
) -> None:
    window = BurstWindow(NOW, NOW + 90_000)
    count = decide(policy, signal, window, history, current=current, now_s=NOW).replicas
    partitions = policy.max_replicas if signal.partitions is None else signal.partitions
    assert count >= min(current, policy.max_replicas, partitions)


@given(policies(), signals(), windows, running, st.floats(0.1, 120))
def test_constant_input_does_not_oscillate(
    policy: StagePolicy, signal: Signals, window: BurstWindow, current: int, interval_s: float
) -> None:
    """Under constant input the count moves at most up once and later down once, and then stays."""
    history, now_s, counts = History(), NOW, [current]
    steps = int(policy.stabilization_s / interval_s) + 5
    for _ in range(min(steps, 60)):
        decision = decide(policy, signal, window, history, current=counts[-1], now_s=now_s)
        history, now_s = decision.history, now_s + interval_s
        counts.append(decision.replicas)
    directions = [b > a for a, b in itertools.pairwise(counts[1:]) if a != b]
    assert directions in ([], [False])


@given(st.integers(0, 300), PARTITIONS)
def test_alignment_rounds_up_within_the_partitions_and_is_even(replicas: int, partitions: int) -> None:
    """The busiest replica of the aligned group owns no more than floor(partitions / asked)."""
    aligned = align(replicas, partitions)
    asked = min(replicas, partitions)
    assert asked <= aligned <= partitions
    assert aligned <= align(replicas + 1, partitions)
    if asked:
        assert -(-partitions // aligned) <= partitions // asked


@given(st.lists(st.tuples(st.floats(0, 50), st.integers(0, 20)), max_size=60), st.floats(0, 300))
def test_history_answers_like_one_that_forgets_nothing(steps: list[tuple[float, int]], window_s: float) -> None:
    """What is pruned can never have been the maximum; what is kept is bounded by the distinct counts."""
    history, at_s, everything = History(), 0.0, []
    for pause_s, replicas in steps:
        at_s += pause_s
        history = history.add(at_s, replicas, window_s=window_s)
        everything.append((at_s, replicas))
        full = max(count for at, count in everything if at >= at_s - window_s)
        assert full == history.highest(at_s, window_s=window_s)
    assert len(history.samples) <= 21
