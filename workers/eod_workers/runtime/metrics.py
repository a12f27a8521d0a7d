"""What stages count. Each worker has Prometheus metrics of its own, which a process exports.

What one stage alone counts is in its folder; here is what several do, and the histogram that is fed batch by batch.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector

LATENCY_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Bounds of histograms of how long something took."""


class CountedHistogram(Collector):
    """A histogram that is fed with counts by bucket, for what happens too often to be observed one by one."""

    def __init__(self, name: str, documentation: str, bounds_s: Sequence[float]) -> None:
        """Nothing has been counted. `bounds_s` rise; beyond the last there is one bucket more."""
        self.bounds_ns: Final = tuple(round(bound_s * 1e9) for bound_s in bounds_s)
        self._name = name
        self._documentation = documentation
        self._labels = (*(str(float(bound_s)) for bound_s in bounds_s), "+Inf")
        self._counts = [0] * len(self._labels)
        self._sum_ns = 0

    def count(self, runs: Iterable[tuple[int, int]], until_ns: int) -> None:
        """Counts what took from a moment until `until_ns`: (that moment, how often) each."""
        counts, sum_ns = [0] * len(self._counts), 0
        for since_ns, times in runs:
            counts[bisect_left(self.bounds_ns, until_ns - since_ns)] += times
            sum_ns += (until_ns - since_ns) * times
        self.add(counts, sum_ns)

    def add(self, counts: Sequence[int], sum_ns: int) -> None:
        """Adds what was counted within each bound, and beyond the last, and the sum of all times."""
        # One assignment each: another thread that collects sees a list that belongs together.
        self._counts = [had + more for had, more in zip(self._counts, counts, strict=True)]
        self._sum_ns += sum_ns

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """What it is, without numbers."""
        yield HistogramMetricFamily(self._name, self._documentation)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What a scrape gets."""
        buckets = list(zip(self._labels, map(float, accumulate(self._counts)), strict=True))
        yield HistogramMetricFamily(self._name, self._documentation, buckets=buckets, sum_value=self._sum_ns / 1e9)


class Metrics:
    """What a worker counts: every attribute is a metric, in no registry until a process exports them."""

    def exported(self) -> list[Collector]:
        """All of them, in the order in which they were made."""
        return list(vars(self).values())


class FlushMetrics(Metrics):
    """What the batch loop counts for a stage that writes no letters."""

    def __init__(self) -> None:
        self.flush_seconds = Histogram(
            "eod_flush_seconds",
            "Time to make a batch durable and commit it",
            ["stage"],
            buckets=LATENCY_S,
            registry=None,
        )
        self.lost = Counter(
            "eod_records_lost_total",
            "Records that their topic had deleted before the stage had read them",
            ["stage", "topic"],
            registry=None,
        )
        self.skipped = Counter(
            "eod_records_skipped_total",
            "Records that the stage has not read since somebody set its group's offset forward",
            ["stage", "topic"],
            registry=None,
        )
        self.anew = Counter(
            "eod_partitions_anew_total",
            "Partitions whose topic was deleted and made anew since the stage had read them",
            ["stage", "topic"],
            registry=None,
        )
        self.leaderless = Gauge(
            "eod_partitions_leaderless",
            "Partitions of the stage that no broker leads: nothing of them is read until one does",
            ["stage", "topic"],
            registry=None,
        )


class LoopMetrics(FlushMetrics):
    """What it counts for any other."""

    def __init__(self) -> None:
        super().__init__()
        self.dead_letters = dead_letters()


class StoredMetrics(FlushMetrics):
    """Of a stage that stores records, and writes no letters."""

    def __init__(self) -> None:
        super().__init__()
        self.processed = _processed()


class TradeMetrics(LoopMetrics):
    """Of a stage for which each trade counts once."""

    def __init__(self) -> None:
        super().__init__()
        self.processed = _processed()
        self.duplicates = Counter(
            "eod_trades_duplicate_total",
            "Deliveries a stage has recognized as duplicates",
            ["stage"],
            registry=None,
        )


def dead_letters() -> Counter:
    """For whoever writes letters."""
    return Counter("eod_dead_letters_total", "Dead letters written", ["stage", "reason"], registry=None)


def _processed() -> Counter:
    return Counter(
        "eod_trades_processed_total",
        "Trades (archive: records, dead-letters: letters) applied",
        ["stage"],
        registry=None,
    )
