"""A histogram that is fed with counts shows what one that observes each value would."""

from __future__ import annotations

import pytest
from eod_workers.pnl.ledger import Publication, PureLedger
from eod_workers.runtime.metrics import CountedHistogram
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

_BOUNDS_S = (0.001, 0.0025, 0.1, 5, 10)


@pytest.mark.parametrize("at_once", [False, True])
@given(times_ns=st.lists(st.lists(st.integers(-5, 20_000_000_000) | st.sampled_from([1_000_000, 2_500_000]))))
def test_it_shows_what_a_histogram_shows(at_once: bool, times_ns: list[list[int]]) -> None:  # noqa: FBT001 - a parameter
    counted, observing = CollectorRegistry(), CollectorRegistry()
    ours = CountedHistogram("late_seconds", "How late", _BOUNDS_S)
    counted.register(ours)
    theirs = Histogram("late_seconds", "How late", buckets=_BOUNDS_S, registry=observing)
    for some in times_ns:
        publication = Publication("ann", [], [-time_ns for time_ns in some])
        if at_once:
            ours.count([(-time_ns, some.count(time_ns)) for time_ns in set(some)], 0)
        else:
            ours.add(*PureLedger(1.0).lateness([publication], 0, ours.bounds_ns))
        for time_ns in some:
            theirs.observe(time_ns / 1e9)

    def lines(registry: CollectorRegistry) -> dict[str, float]:
        text = generate_latest(registry).decode().splitlines()
        samples = dict(line.rsplit(" ", 1) for line in text if not line.startswith("#") and "_created" not in line)
        return {name: float(value) for name, value in samples.items()}

    assert lines(counted) == pytest.approx(lines(observing), abs=1e-6)
