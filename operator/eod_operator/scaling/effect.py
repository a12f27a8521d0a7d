"""Did the last raise help? More replicas in front of a slow store or a poison record only queue there.

The idea is that of Flink's autoscaler (FLIP-271, ineffective scaling detection): after a scale-up whose throughput
grew by less than a small part of what it should have grown, do not scale up by the same signal again for a while.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from eod_contract.scaling import RATES_OVER_S, Signals

LEAST_GAIN = 0.2
"""Of the gain that the added replicas should have brought."""
FORGOTTEN_AFTER_S = 600.0
"""Whatever was in the way may be gone by then: it is tried again."""


@dataclass(frozen=True, slots=True)
class Raise:
    """A raise that lag or load called for.

    Attributes:
        at_s: when.
        before: replicas that served.
        after: replicas that were asked for.
        consumed_per_s: what the group consumed then.
        lag: records that waited then.
        serving_s: since when so many serve; None until they do.
        ineffective_s: when it was found to have brought nothing; None until then.
    """

    at_s: float
    before: int
    after: int
    consumed_per_s: float
    lag: int
    serving_s: float | None = None
    ineffective_s: float | None = None


def begun(raised: Raise | None, signals: Signals, *, current: int, wanted: int, now_s: float) -> Raise | None:
    """A raise begins to be watched, unless one is watched already or its effect could not be told."""
    if raised is not None or wanted <= current or current < 1 or signals.rates is None:
        return raised
    return Raise(now_s, signals.ready or current, wanted, sum(signals.rates[1]), signals.total_lag or 0)


def judged(raised: Raise | None, signals: Signals, *, now_s: float, pause_s: float) -> Raise | None:
    """Look again at a raise: None once it has helped, was not needed after all, or all that is long ago.

    Args:
        raised: what is watched.
        signals: of now; without rates nothing is judged.
        now_s: the time.
        pause_s: how long a rebalance stops the group.
    """
    if raised is None:
        return None
    since_s = raised.at_s if raised.ineffective_s is None else raised.ineffective_s
    if not 0 <= now_s - since_s <= FORGOTTEN_AFTER_S:
        return None
    if signals.rates is None or signals.ready is None:
        return raised
    consumed, waits = sum(signals.rates[1]), sum(signals.behind)
    expected = raised.after / max(1, raised.before)
    helped = consumed >= raised.consumed_per_s * (1 + LEAST_GAIN * (expected - 1)) and consumed > 0
    if raised.ineffective_s is not None:
        return None if helped or not waits else raised
    if signals.ready < raised.after:
        return replace(raised, serving_s=None)
    if raised.serving_s is None:
        return replace(raised, serving_s=now_s)
    if now_s - raised.serving_s < RATES_OVER_S + pause_s:
        return raised
    # A lag that shrinks is being worked off, and one that is gone needs no throughput.
    if helped or (signals.total_lag or 0) < raised.lag or not waits:
        return None
    return replace(raised, ineffective_s=now_s)
