"""Terms that say what the load calls for: by rate once a replica's service rate is known, by lag until then.

    load      records that arrive and that are behind, per replica, with what a rebalance adds
    forecast  the highest rate within the time that a new replica takes to serve
    calendar  the burst size of the spec, while no forecast is trusted
    lag       lag divided by the lag that one replica may have, while no service rate is known

Sources: the rate needed to work a backlog off within a time is that of Flink's autoscaler (FLIP-271, catch-up
duration); partition alignment and packing are in `partitions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from eod_contract.scaling import DECIDED_EVERY_S, RATES_OVER_S, Signals, StagePolicy, Term

from eod_operator.scaling.calendar import BurstWindow
from eod_operator.scaling.history import Burst, History
from eod_operator.scaling.partitions import align, fewest, fewest_for

HUMP_S = 120.0
"""A raise for the forecast looks so much further ahead, so that a burst is one step and one rebalance."""
STEP_S = 10.0
"""Of a forecast: its bins near a close are as wide."""
BURST_S = 900.0
"""After a close its burst is compared with its forecast for so long."""
_COMPARED_AFTER_S = 45.0
_LEAST_RATIO, _MOST_RATIO = 0.3, 2.0
"""What a burst may turn out to be of its forecast: below, the forecast is as good as dropped; above, lag is quicker."""
GROWTH_OVER_S = 4.0
"""How fast a backlog grows is told over at least so long: looks a second apart show the rhythm of commits."""
_SHARES_OVER_S = 600.0
_TOLERATED = 0.25
"""Of a replica: arrival that exceeds what replicas have proven to keep up with by less raises nothing."""


class Outlook(Protocol):
    """What is expected, in records a second and absolute time: a `Forecast` that is trusted."""

    def rate(self, at_s: float) -> float:
        """Expected at a time."""
        ...

    def peak(self, from_s: float, to_s: float) -> float:
        """Highest in [from_s, to_s]."""
        ...


@dataclass(frozen=True, slots=True)
class Situation:
    """What a decision is made from besides the policy.

    Attributes:
        signals: the last measurement.
        window: where now lies relative to the closes.
        history: of the decision before.
        current: replicas that are asked for now.
        now_s: the time.
        outlook: the forecast, when it is trusted.
    """

    signals: Signals
    window: BurstWindow
    history: History
    current: int
    now_s: float
    outlook: Outlook | None = None


def trusted(policy: StagePolicy, at: Situation) -> bool:
    """Whether the forecast can size the stage: it is trusted, and a replica's service rate is known."""
    return at.outlook is not None and service_per_s(policy, at) is not None and bool(at.signals.partitions)


def service_per_s(policy: StagePolicy, at: Situation) -> float | None:
    """Records a second of one replica: learned, else believed, else None."""
    return at.history.service.believed(policy.replica_per_s)


def demand(policy: StagePolicy, at: Situation) -> tuple[Term, ...]:
    """What the load calls for, every term that applies."""
    terms = []
    if trusted(policy, at):
        terms.append(_forecast(policy, at))
    elif at.window.close_s is not None:
        burst = policy.min_replicas if policy.burst_replicas is None else policy.burst_replicas
        terms.append(Term("calendar", burst, f"the burst of the close at {_clock(at.window.close_s)}"))
    if policy.lag_per_replica is not None:
        terms.append(_present(policy, at))
    terms.append(Term("min", policy.min_replicas, "the least it may have"))
    return tuple(terms)


def expected(policy: StagePolicy, at: Situation, from_s: float, to_s: float) -> int:
    """Replicas for the highest rate that is forecast between two times; 0 without a trusted forecast."""
    service = service_per_s(policy, at)
    partitions = at.signals.partitions
    if at.outlook is None or service is None or not partitions:
        return 0
    scale = ratio(at.history.burst, at.now_s)
    plan = service * policy.utilization
    peak = scale * at.outlook.peak(from_s, to_s)
    if peak <= plan * max(1, policy.min_replicas) / partitions:
        return min(1, -int(-peak // 1))
    shares = at.history.shares if len(at.history.shares) == partitions else (1 / partitions,) * partitions
    steps = max(1, -int(-(to_s - from_s) // STEP_S))
    wide = [scale * at.outlook.rate(from_s + STEP_S * step) for step in range(-1, steps + 2)]
    # A profile holds each rate for a step before and after it, so as to come early enough. That says when, and would
    # count records three times: the least of three neighbours is how much.
    rates = [min(around) for around in zip(wide, wide[1:], wide[2:], strict=False)]
    return fewest_for(shares, rates, STEP_S, plan, policy.late_s)


def learned(policy: StagePolicy, at: Situation) -> History:
    """The history with what this look teaches: service rate, shares, growth of lag, the burst against its forecast."""
    history, signals = at.history, at.signals
    if signals.age_s <= policy.stale_after_s and not (history.raised and history.raised.ineffective_s is not None):
        history = replace(history, service=history.service.observe(signals, now_s=at.now_s, pause_s=policy.pause_s))
    rates = signals.rates
    if rates is not None and signals.total_lag is not None:
        history = replace(
            history,
            shares=_shares(history, rates[0], at.now_s),
            burst=_burst(history.burst, at, sum(rates[0])),
            behind=_behind(history, at),
            shared_at_s=at.now_s,
        )
    return history


def ratio(burst: Burst, now_s: float) -> float:
    """What the present burst has been of its forecast so far; 1 before it can be told, and long after."""
    if not _COMPARED_AFTER_S <= now_s - burst.close_s <= BURST_S or burst.forecast <= 0:
        return 1.0
    return min(_MOST_RATIO, max(_LEAST_RATIO, burst.arrived / burst.forecast))


def _burst(burst: Burst, at: Situation, arrival_per_s: float) -> Burst:
    close_s = at.window.close_s
    if at.outlook is None or close_s is None or not 0 <= at.now_s - close_s <= BURST_S:
        return burst
    if burst.close_s != close_s:
        burst = Burst(close_s, until_s=at.now_s)
    if at.now_s - close_s < RATES_OVER_S:
        return replace(burst, until_s=at.now_s)  # the rates are still of the time before
    gap_s = max(0.0, at.now_s - burst.until_s)
    times = (at.now_s - RATES_OVER_S * part for part in (1.0, 0.75, 0.5, 0.25, 0.0))
    foreseen = sum(map(at.outlook.rate, times)) / 5
    return Burst(close_s, burst.arrived + gap_s * arrival_per_s, burst.forecast + gap_s * foreseen, at.now_s)


def _behind(history: History, at: Situation) -> tuple[float, int]:
    """When it was told how much is behind, and how much: from the last look that is long enough ago."""
    known = history.behind
    if known is not None and 0 <= at.now_s - known[0] < GROWTH_OVER_S:
        return known
    return at.now_s, sum(at.signals.behind)


def _shares(history: History, arrival: Sequence[float], now_s: float) -> tuple[float, ...]:
    """Each partition's share in what arrives, as a mean that forgets over minutes."""
    total = sum(arrival)
    if total <= 0:
        return history.shares
    now = tuple(rate / total for rate in arrival)
    if len(history.shares) != len(now):
        return now
    weight = min(1.0, max(0.0, now_s - history.shared_at_s) / _SHARES_OVER_S)
    return tuple(old + weight * (new - old) for old, new in zip(history.shares, now, strict=True))


def _forecast(policy: StagePolicy, at: Situation) -> Term:
    soon_s = at.now_s + policy.horizon_s + STEP_S  # the step that `expected` takes off
    wanted = expected(policy, at, at.now_s, soon_s)
    ahead_s = policy.horizon_s
    if wanted > at.current:
        wanted = max(wanted, expected(policy, at, at.now_s, soon_s + HUMP_S))
        ahead_s += HUMP_S
    peak = at.outlook.peak(at.now_s, at.now_s + ahead_s) if at.outlook is not None else 0.0
    return Term(
        "forecast",
        wanted,
        f"up to {peak:,.0f} records/s are forecast within {ahead_s:.0f} s, at "
        f"{service_per_s(policy, at) or 0:,.0f} a replica and {policy.utilization:.0%} of it",
    )


def _present(policy: StagePolicy, at: Situation) -> Term:
    """By what is there: lag, and rates where they are known."""
    signals, current = at.signals, at.current
    lag, partitions = signals.total_lag, signals.partitions
    if lag is None or partitions is None or partitions < 1:
        return Term("stale", current, "its lag is unknown, so it is not lowered")
    if not signals.age_s <= policy.stale_after_s:  # so that a NaN is stale
        return Term("stale", current, f"its lag is older than {policy.stale_after_s:g} s, so it is not lowered")
    service = service_per_s(policy, at)
    if service is not None and signals.rates is not None:
        return _by_load(policy, at, service)
    by_lag = _by_lag(policy, lag, partitions)
    if signals.rates is None or not signals.ready or lag <= (policy.lag_per_replica or 1):
        return by_lag
    # A backlog, and nobody knows what a replica does: it does at least what it has done.
    done = max(at.history.service.kept_up_per_s, sum(signals.rates[1]) / signals.ready)
    by_load = _by_load(policy, at, done) if done > 0 else by_lag
    return by_load if by_load.replicas > by_lag.replicas else by_lag


def _by_lag(policy: StagePolicy, lag: int, partitions: int) -> Term:
    per_replica = policy.lag_per_replica or 1
    needed = -(-lag // per_replica)
    aligned = align(needed, partitions)
    detail = f"lag {lag:,} at {per_replica:,} a replica calls for {needed:,}"
    if aligned != needed:
        detail += f", {aligned} to share {partitions} partitions evenly"
    return Term("lag", aligned, detail)


def _by_load(policy: StagePolicy, at: Situation, service: float) -> Term:
    """Replicas that carry what arrives and work off what is behind in time.

    To stay takes a little more room than to come: what would just do when raised is not lowered to, so that noise
    about a boundary moves nothing.
    """
    arrival = _arrival(policy, at)
    behind = [waits / policy.catch_up_s for waits in at.signals.behind]
    after_pause = 1 + policy.pause_s / policy.catch_up_s
    up = fewest([rate * after_pause + back for rate, back in zip(arrival, behind, strict=True)], service)
    stay = fewest([rate / policy.utilization + back for rate, back in zip(arrival, behind, strict=True)], service)
    wanted = up if up > at.current else max(up, min(at.current, stay))
    wanted = _proven(at, arrival, wanted, service)
    waits = sum(at.signals.behind)
    detail = f"{sum(arrival):,.0f} records/s and {waits:,} behind, at {service:,.0f} a replica, call for {wanted}"
    stuck = [number for number in range(len(arrival)) if at.signals.stuck(number)]
    if stuck:
        detail += f"; partition {', '.join(map(str, stuck))} makes no progress, which replicas cannot mend"
    raised = at.history.raised
    if raised is not None and raised.ineffective_s is not None and wanted > at.current:
        return Term(
            "load",
            at.current,
            f"{detail}, but the raise to {raised.after} brought no throughput: see what the replicas wait for",
        )
    return Term("load", wanted, detail)


def _arrival(policy: StagePolicy, at: Situation) -> list[float]:
    """Arrival of each partition; when a backlog grows faster than half a minute's means explain, as fast as it grows.

    A backlog and not lag: that of records under way rises with the rate, once, and says nothing of the next seconds.
    """
    rates = at.signals.rates
    assert rates is not None  # noqa: S101 - the caller has looked
    arrival, consumed = rates
    total = sum(arrival)
    before = at.history.behind
    if before is None or total <= 0 or not at.history.service.settled(at.now_s, policy.pause_s + DECIDED_EVERY_S):
        return list(arrival)
    since_s = at.now_s - before[0]
    if since_s < GROWTH_OVER_S:
        return list(arrival)
    growing = sum(consumed) + (sum(at.signals.behind) - before[1]) / since_s
    return [rate * max(1.0, growing / total) for rate in arrival]


def _proven(at: Situation, arrival: Sequence[float], wanted: int, service: float) -> int:
    """Where replicas keep up with more than they were thought able to, that counts: quiet hours' records are small."""
    proven = at.history.service.kept_up_per_s
    if proven <= service or any(at.signals.behind) or not at.signals.partitions:
        return wanted
    needed = align(-int(-(sum(arrival) / proven - _TOLERATED) // 1), at.signals.partitions)
    return min(wanted, max(1, needed))


def _clock(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
