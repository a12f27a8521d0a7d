"""What was recommended recently: the memory that keeps a scale-down from following every dip."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """One past recommendation: `replicas` were called for at `at_s`, before any scale-down rule held it up."""

    at_s: float
    replicas: int


@dataclass(frozen=True, slots=True)
class History:
    """Recommendations in rising time, as a value: `add` returns a new one, which the caller keeps until next time.

    Only samples that can still be the maximum of a window are kept (each newer one is smaller than those before
    it), so the length is bounded by the number of distinct replica counts, however often one decides.
    """

    samples: tuple[Sample, ...] = ()

    def add(self, at_s: float, replicas: int, *, window_s: float) -> History:
        """Append a recommendation, and forget those older than the window and those that it outbids."""
        kept = [
            sample for sample in self.samples if at_s - window_s <= sample.at_s <= at_s and sample.replicas > replicas
        ]
        return History((*kept, Sample(at_s, replicas)))

    def highest(self, now_s: float, *, window_s: float) -> int:
        """Highest recommendation of the last `window_s` seconds; 0 when there is none."""
        return max((s.replicas for s in self.samples if now_s - window_s <= s.at_s), default=0)
