"""What holds whatever is measured, forecast and remembered."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

from eod_operator.scaling import BurstWindow, History, Signals, StagePolicy, decide, fewest
from eod_operator.scaling.partitions import HOT, align, busiest, delay_s, fewest_for
from eod_operator.scaling.service_rate import ServiceRate
from hypothesis import given
from hypothesis import strategies as st
from unit.scaling.situations import NOW, Flat

RATES = st.floats(0, 1e6)
ODD = st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 0.0, 1e300])
WINDOWS = st.sampled_from([BurstWindow(), BurstWindow(NOW - 100, NOW + 9e4), BurstWindow(NOW + 10, NOW + 10)])


@st.composite
def policies(draw: st.DrawFn) -> StagePolicy:
    low, burst, high = sorted(draw(st.lists(st.integers(0, 64), min_size=3, max_size=3)))
    return StagePolicy(
        low,
        high,
        burst,
        draw(st.integers(1, 10_000)),
        stabilization_s=draw(st.floats(0, 600)),
        replica_per_s=draw(st.one_of(st.none(), st.floats(0.1, 1e5))),
        catch_up_s=draw(st.floats(1, 600)),
        utilization=draw(st.floats(0.1, 1)),
        late_s=draw(st.floats(0, 60)),
        start_s=draw(st.floats(0, 300)),
        pause_s=draw(st.floats(0, 30)),
    )


@st.composite
def signals(draw: st.DrawFn, *, odd: bool = True) -> Signals:
    partitions = draw(st.integers(1, 16))
    number = st.one_of(RATES, ODD) if odd else RATES
    length = draw(st.integers(0, 18)) if odd and draw(st.booleans()) else partitions

    def each(values: st.SearchStrategy[float]) -> tuple[float, ...]:
        return tuple(draw(st.lists(values, min_size=length, max_size=length)))

    return Signals(
        lag=tuple(draw(st.lists(st.integers(-10 if odd else 0, 10**7), min_size=length, max_size=length))),
        age_s=draw(st.sampled_from([0.0, 30.0, 1e9, math.nan])) if odd else 0.0,
        partitions=partitions,
        lag_s=each(number),
        arrival_per_s=each(number),
        consumed_per_s=each(number),
        ready=draw(st.integers(0, 64)),
    )


outlooks = st.one_of(
    st.none(), st.builds(Flat, RATES, RATES, st.floats(NOW - 500, NOW + 500), st.floats(NOW, NOW + 900))
)
histories = st.builds(
    History,
    service=st.builds(
        ServiceRate,
        per_s=st.floats(0.1, 1e5),
        observations=st.integers(0, 10),
        kept_up_per_s=RATES,
        kept_up_at_s=st.just(NOW),
        ready=st.integers(0, 64),
        ready_since_s=st.floats(NOW - 1e5, NOW),
    ),
    behind=st.one_of(st.none(), st.tuples(st.floats(NOW - 60, NOW), st.integers(0, 10**7))),
)
running = st.integers(0, 80)


@given(policies(), signals(), WINDOWS, histories, running, outlooks)
def test_never_outside_min_and_max_and_never_above_partitions(
    policy: StagePolicy, seen: Signals, window: BurstWindow, history: History, current: int, outlook: Flat | None
) -> None:
    """Whatever is measured: negative lag, rates that are no numbers, missing partitions."""
    count = decide(policy, seen, window, history, current=current, now_s=NOW, outlook=outlook).replicas
    partitions = seen.partitions or 0
    assert min(policy.min_replicas, partitions) <= count <= min(policy.max_replicas, partitions)


@given(policies(), signals(), WINDOWS, histories, running, outlooks, st.sampled_from([1e9, math.nan]))
def test_stale_never_lowers(
    policy: StagePolicy,
    seen: Signals,
    window: BurstWindow,
    history: History,
    current: int,
    outlook: Flat | None,
    age_s: float,
) -> None:
    seen = replace(seen, age_s=age_s)
    count = decide(policy, seen, window, history, current=current, now_s=NOW, outlook=outlook).replicas
    assert count >= min(current, policy.max_replicas, seen.partitions or 0)


@given(policies(), signals(odd=False), WINDOWS, running, st.floats(1, 20))
def test_more_arrival_never_means_fewer_replicas(
    policy: StagePolicy, seen: Signals, window: BurstWindow, current: int, times: float
) -> None:
    """All else being equal: what is consumed, what is behind."""
    policy = replace(policy, replica_per_s=policy.replica_per_s or 100.0)
    behind = seen.behind
    more = tuple(times * rate for rate in seen.arrival_per_s or ())
    # What is under way grows with the rate, so the same backlog is more lag.
    lag = tuple(waits + math.ceil(2 * rate) for waits, rate in zip(behind, more, strict=True))
    same = tuple(waits + math.ceil(2 * rate) for waits, rate in zip(behind, seen.arrival_per_s or (), strict=True))
    less, greater = (
        decide(policy, one, window, History(), current=current, now_s=NOW)
        for one in (replace(seen, lag=same), replace(seen, arrival_per_s=more, lag=lag))
    )
    assert greater.replicas >= less.replicas


@given(policies(), signals(odd=False), WINDOWS, histories, running, st.floats(0, 1e5), st.floats(0, 1e5))
def test_a_higher_forecast_never_means_fewer_replicas(
    policy: StagePolicy, seen: Signals, window: BurstWindow, history: History, current: int, rate: float, more: float
) -> None:
    less, greater = (
        decide(policy, seen, window, history, current=current, now_s=NOW, outlook=Flat(each)).replicas
        for each in (rate, rate + more)
    )
    assert greater >= less


@given(policies(), signals(odd=False), running, st.floats(1, 60), outlooks)
def test_constant_load_does_not_oscillate(
    policy: StagePolicy, seen: Signals, current: int, interval_s: float, outlook: Flat | None
) -> None:
    """At most up once and later down, in falling steps, while every replica that is asked for serves."""
    outlook = outlook and replace(outlook, hump=0.0)
    history, now_s, counts = History(), NOW, [current]
    for _ in range(40):
        decision = decide(
            policy,
            replace(seen, ready=counts[-1]),
            BurstWindow(),
            history,
            current=counts[-1],
            now_s=now_s,
            outlook=outlook,
        )
        history, now_s = decision.history, now_s + interval_s
        counts.append(decision.replicas)
    directions = [later > earlier for earlier, later in itertools.pairwise(counts) if earlier != later]
    assert sorted(directions, reverse=True) == directions, counts


@given(st.lists(RATES, min_size=1, max_size=64), st.floats(0.1, 1e5))
def test_the_fewest_are_enough_and_aligned(rates: list[float], capacity: float) -> None:
    """No replica has more than its capacity, a partition above it counting as most of one; fewer aligned are too few."""
    count, partitions = fewest(rates, capacity), len(rates)
    clipped = [min(rate, HOT * capacity) for rate in rates]
    counts = {-(-partitions // share) for share in range(1, partitions + 1)}
    assert count in counts | {0}
    if count:
        assert busiest(clipped, count) <= capacity or count == partitions
        assert all(busiest(clipped, one) > capacity or one * capacity < sum(clipped) for one in counts if one < count)


@given(st.integers(1, 64), st.floats(0.1, 1e4))
def test_even_partitions_need_no_more_than_alignment_says(partitions: int, rate: float) -> None:
    """Counting partitions alone, one must assume that full replicas have none to spare."""
    needed = min(partitions, math.ceil(math.fsum([rate] * partitions) / 1e5))
    assert needed <= fewest([rate] * partitions, 1e5) <= align(needed, partitions)


@given(
    st.lists(st.floats(0.001, 1), min_size=1, max_size=24), st.lists(RATES, min_size=1, max_size=20), st.floats(0, 60)
)
def test_what_is_foreseen_does_not_wait_longer_than_allowed(
    shares: list[float], rates: list[float], late_s: float
) -> None:
    """Beyond what the hottest partition waits for with a replica of its own."""
    count = fewest_for(shares, rates, 10.0, 100.0, late_s)
    if any(rates):
        alone = delay_s(max(shares), rates, 10.0, 100.0)
        assert delay_s(busiest(shares, count), rates, 10.0, 100.0) <= alone + late_s or count == len(shares)
    else:
        assert count == 0
