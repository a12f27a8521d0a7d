"""What is remembered from one decision to the next: a value, so that a decision is a function of its arguments."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from eod_operator.scaling.effect import Raise
from eod_operator.scaling.service_rate import ServiceRate


@dataclass(frozen=True, slots=True)
class Sample:
    """One past recommendation: `replicas` were called for at `at_s`, before any scale-down rule held it up."""

    at_s: float
    replicas: int


@dataclass(frozen=True, slots=True)
class Spent:
    """Replica-seconds of one day (UTC) that were asked for, up to a moment."""

    day: int = -1
    replica_s: float = 0.0
    until_s: float = 0.0

    def until(self, now_s: float, replicas: int, *, gap_s: float) -> Spent:
        """With the time since then at so many replicas; gaps longer than `gap_s` count as that (nobody watched)."""
        day = int(now_s // 86_400)
        if day != self.day:
            return Spent(day, 0.0, now_s)
        since_s = min(max(0.0, now_s - self.until_s), gap_s)
        return Spent(day, self.replica_s + since_s * replicas, now_s)


@dataclass(frozen=True, slots=True)
class Burst:
    """How the burst of one close compares with its forecast: records that arrived, and that were forecast."""

    close_s: float = 0.0
    arrived: float = 0.0
    forecast: float = 0.0
    until_s: float = 0.0


@dataclass(frozen=True, slots=True)
class History:
    """Recommendations in rising time, and what was learned: `add` returns a new one, which the caller keeps.

    Only samples that can still be the maximum of a window are kept (each newer one is smaller than those before
    it), so the length is bounded by the number of distinct replica counts, however often one decides.

    Attributes:
        samples: past recommendations.
        service: what one replica consumes.
        raised: the last raise by lag or load whose effect is being watched.
        behind: when a backlog was last told, and how many records it was, to tell how fast it grows.
        shares: of each partition in what arrives, smoothed over minutes.
        shared_at_s: when those were brought up to date.
        spent: replica-seconds of the day.
        burst: how the present burst compares with its forecast.
    """

    samples: tuple[Sample, ...] = ()
    service: ServiceRate = field(default_factory=ServiceRate)
    raised: Raise | None = None
    behind: tuple[float, int] | None = None
    shares: tuple[float, ...] = ()
    shared_at_s: float = 0.0
    spent: Spent = field(default_factory=Spent)
    burst: Burst = field(default_factory=Burst)

    def add(self, at_s: float, replicas: int, *, window_s: float) -> History:
        """Append a recommendation, and forget those older than the window and those that it outbids."""
        kept = [
            sample for sample in self.samples if at_s - window_s <= sample.at_s <= at_s and sample.replicas > replicas
        ]
        return replace(self, samples=(*kept, Sample(at_s, replicas)))

    def highest(self, now_s: float, *, window_s: float) -> int:
        """Highest recommendation of the last `window_s` seconds; 0 when there is none."""
        return max((s.replicas for s in self.samples if now_s - window_s <= s.at_s), default=0)
