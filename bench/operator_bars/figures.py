"""Numbers out of what a process says of itself, and the table that they end up in: pure, so that tests check them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        bar: what was measured.
        measured: the number with its unit.
        goal: what it should be; empty when it is only told.
        met: None when there is no goal.
    """

    bar: str
    measured: str
    goal: str = ""
    met: bool | None = None

    @property
    def verdict(self) -> str:
        """Met, missed, or nothing."""
        return {True: "met", False: "MISSED", None: ""}[self.met]

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed; NaN of none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


class Scrape:
    """One reading of /metrics."""

    def __init__(self, text: str) -> None:
        self._samples: dict[str, dict[Labels, float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value

    def of(self, name: str) -> Mapping[Labels, float]:
        """Values of all label sets of a sample's name."""
        return self._samples.get(name, {})

    def total(self, name: str, **labels: str) -> float:
        """Sum over all label sets that have these labels."""
        return sum(value for found, value in self.of(name).items() if labels.items() <= set(found))

    def by(self, name: str, *keys: str) -> dict[tuple[str, ...], float]:
        """Sums by some of the labels."""
        sums: dict[tuple[str, ...], float] = {}
        for found, value in self.of(name).items():
            labels = dict(found)
            group = tuple(labels.get(key, "") for key in keys)
            sums[group] = sums.get(group, 0.0) + value
        return sums

    def buckets(self, name: str) -> dict[float, float]:
        """Cumulative counts of a histogram by upper bound."""
        return {float(le): count for (le,), count in self.by(f"{name}_bucket", "le").items()}


def grown(before: Mapping[Any, float], after: Mapping[Any, float]) -> dict[Any, float]:
    """How much counters have grown between two readings; only those that have."""
    growth = {key: value - before.get(key, 0.0) for key, value in after.items()}
    return {key: value for key, value in growth.items() if value}


def quantile_at_most(buckets: Mapping[float, float], share: float) -> float:
    """The upper bound of the bucket in which this share of a histogram lies: the quantile is at most this.

    A histogram does not know more; an interpolation would look exact and not be. NaN of an empty one.
    """
    total = max(buckets.values(), default=0.0)
    if not total:
        return math.nan
    return min(bound for bound, count in buckets.items() if count >= share * total)


def milliseconds(seconds: float) -> str:
    """For people."""
    return "none" if math.isnan(seconds) else "∞" if math.isinf(seconds) else f"{seconds * 1000:,.0f} ms"


def megabytes(count: float) -> str:
    """For people: MB of a million bytes, as memory limits are often given."""
    return f"{count / 1e6:,.0f} MB"


def listed(counts: Mapping[tuple[str, ...], float], per: float) -> str:
    """Counts by labels, each divided by `per`, the largest first."""
    ordered = sorted(counts.items(), key=lambda one: -one[1])
    return ", ".join(f"{' '.join(key)} {value / per:,.1f}" for key, value in ordered) or "none"


def below(bar: str, value: float, limit: float, shown: str, goal: str) -> Row:
    """A bar that must stay below a limit; NaN misses it."""
    return Row(bar, shown, goal, met=value < limit)


def none_of(bar: str, count: float, detail: str = "") -> Row:
    """A bar that must be zero."""
    return Row(bar, f"{count:,.0f}{f' ({detail})' if detail and count else ''}", "0", met=count == 0)


def worst(rows: Iterable[Row]) -> bool:
    """Whether any bar was missed."""
    return any(row.met is False for row in rows)
