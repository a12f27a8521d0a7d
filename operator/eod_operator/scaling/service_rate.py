"""How much one replica consumes, learned while watching.

Throughput tells a replica's rate only while it has more work than it can do: an idle replica consumes what arrives.
So the rate is learned from seconds in which the group is saturated, and never from those around a rebalance. A
replica that keeps up proves a lower bound, which is remembered apart: records of quiet hours are smaller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from eod_contract.scaling import RATES_OVER_S, Signals

KNOWN_AFTER = 3
"""Observations before what was learned replaces what somebody believed."""
APART_S = 10.0
"""Rates are means over half a minute, so looks in quick succession are no more than one observation."""
_LEAST_WEIGHT = 0.1
"""Of a new observation: the last ten count most, so a new version's rate is learned within minutes."""
_SATURATED_S = 2.0
"""A partition whose lag is worth less than so many seconds of its own consumption, or younger, is keeping up."""
_SATURATED_SHARE = 0.5
"""Of the partitions: with two or more each, then nearly every replica has a backlog. The few that have none make the
learned rate too low rather than too high, which errs towards a replica more."""
_HALVES_IN_S = 3_600.0


@dataclass(frozen=True, slots=True)
class ServiceRate:
    """Records a second of one replica, as a value: `observe` returns a new one.

    Attributes:
        per_s: mean while saturated; 0 before the first observation.
        spread: mean deviation from it, as a part of it.
        observations: how many it is made of, counted up to a hundred.
        observed_at_s: when the last one was.
        kept_up_per_s: the highest rate at which replicas have kept up lately; it halves within an hour.
        kept_up_at_s: when that was brought up to date.
        ready: replicas that served at the last look.
        ready_since_s: since when it has been so many.
        saturated_since_s: since when every look has found a saturated group; infinite while it is not.
    """

    per_s: float = 0.0
    spread: float = 0.0
    observations: int = 0
    observed_at_s: float = -math.inf
    kept_up_per_s: float = 0.0
    kept_up_at_s: float = 0.0
    ready: int = -1
    ready_since_s: float = 0.0
    saturated_since_s: float = math.inf

    def believed(self, prior_per_s: float | None) -> float | None:
        """What one replica consumes: learned, else as somebody believes, else None."""
        return self.per_s if self.observations >= KNOWN_AFTER else prior_per_s

    def settled(self, now_s: float, for_s: float) -> bool:
        """Whether the group has had the same members for so long."""
        return now_s - self.ready_since_s >= for_s

    def observe(self, signals: Signals, *, now_s: float, pause_s: float) -> ServiceRate:
        """Learn from one look.

        Args:
            signals: of now; those that are old or incomplete teach nothing.
            now_s: the time; one before the last observation teaches nothing.
            pause_s: how long a rebalance stops the group.
        """
        ready, rates = signals.ready, signals.rates
        if ready is None or ready < 1:
            return self
        now = self
        if ready != self.ready:
            now = replace(self, ready=ready, ready_since_s=now_s, saturated_since_s=math.inf)
        if rates is None or signals.partitions is None or not now.settled(now_s, RATES_OVER_S + pause_s):
            return now
        _, consumed = rates
        lags = signals.lag or ()
        ages_s = signals.lag_s or (math.inf,) * len(lags)
        busy = [
            rate
            for lag, rate, age_s in zip(lags, consumed, ages_s, strict=True)
            if rate > 0 and lag >= max(1.0, _SATURATED_S * rate) and age_s >= _SATURATED_S
        ]
        alone = ready >= signals.partitions
        if (alone and busy) or len(busy) >= _SATURATED_SHARE * signals.partitions:
            now = replace(now, saturated_since_s=min(now.saturated_since_s, now_s))
            if now_s - now.saturated_since_s < RATES_OVER_S:
                return now  # means over half a minute are in part of the time before
            return _with_rate(now, sum(busy) / len(busy) if alone else sum(consumed) / ready, now_s)
        now = replace(now, saturated_since_s=math.inf)
        return _with_proof(now, sum(consumed) / ready, now_s) if not busy else now


def _with_rate(known: ServiceRate, per_s: float, now_s: float) -> ServiceRate:
    """With one more observation of a saturated group."""
    if not now_s - known.observed_at_s >= APART_S:
        return known
    weight = max(_LEAST_WEIGHT, 1 / (known.observations + 1))
    mean = known.per_s + weight * (per_s - known.per_s)
    off = abs(per_s - mean) / mean
    return replace(
        known,
        per_s=mean,
        spread=known.spread + weight * (off - known.spread),
        observations=min(100, known.observations + 1),
        observed_at_s=now_s,
    )


def _with_proof(known: ServiceRate, per_s: float, now_s: float) -> ServiceRate:
    """With what replicas have just kept up with."""
    faded = known.kept_up_per_s * 0.5 ** (max(0.0, now_s - known.kept_up_at_s) / _HALVES_IN_S)
    return replace(known, kept_up_per_s=max(per_s, faded), kept_up_at_s=now_s)
