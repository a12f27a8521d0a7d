"""The arithmetic of `make bench-operator`: a wrong percentile would make every bar a lie."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from unit.bench.loading import loaded

PAGE = """\
# TYPE requests_total counter
requests_total{verb="list",kind="Pod"} 3
requests_total{verb="patch",kind="Pod"} 2
requests_total{verb="patch",kind="Lease"} 4
# TYPE late_seconds histogram
late_seconds_bucket{le="0.1"} 98
late_seconds_bucket{le="1.0"} 99
late_seconds_bucket{le="+Inf"} 100
late_seconds_sum 30
late_seconds_count 100
"""


@pytest.fixture(scope="module")
def figures() -> Iterator[Any]:
    """The module."""
    with loaded("operator_bars", "figures") as modules:
        yield modules.figures


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100)])
def test_a_percentile_is_a_value_that_was_measured(figures: Any, share: float, value: int) -> None:
    assert figures.percentile(list(range(100, 0, -1)), share) == value


def test_of_few_samples_the_p99_is_the_worst(figures: Any) -> None:
    assert figures.percentile([0.1, 9.0, 0.2], 0.99) == 9.0
    assert math.isnan(figures.percentile([], 0.99))


@pytest.mark.parametrize(("share", "bound"), [(0.5, 0.1), (0.98, 0.1), (0.99, 1.0), (1.0, math.inf)])
def test_a_quantile_of_a_histogram_is_the_bound_of_its_bucket(figures: Any, share: float, bound: float) -> None:
    assert figures.quantile_at_most(figures.Scrape(PAGE).buckets("late_seconds"), share) == bound


def test_an_empty_histogram_has_no_quantile(figures: Any) -> None:
    assert math.isnan(figures.quantile_at_most({0.1: 0.0, math.inf: 0.0}, 0.99))


def test_samples_are_summed_by_labels(figures: Any) -> None:
    page = figures.Scrape(PAGE)
    assert page.by("requests_total", "verb") == {("list",): 3, ("patch",): 6}
    assert page.total("requests_total", kind="Pod") == 5
    assert page.total("requests_total") == 9
    assert page.total("unheard_of") == 0


def test_growth_counts_what_is_new_and_leaves_out_what_stood_still(figures: Any) -> None:
    assert figures.grown({"a": 1, "b": 5}, {"a": 4, "b": 5, "c": 2}) == {"a": 3, "c": 2}


def test_a_bar_without_a_measurement_is_missed(figures: Any) -> None:
    assert figures.below("p99", math.nan, 2.0, "none", "< 2 s").verdict == "MISSED"
    assert figures.below("p99", 1.9, 2.0, "1.9 s", "< 2 s").verdict == "met"
    assert figures.worst([figures.none_of("flaps", 0), figures.none_of("flaps", 1)])
    assert not figures.worst([figures.Row("only told", "7")])
