"""The decision: how many replicas a stage gets now, which rule asked for them, and what capped it.

Every rule that asks for replicas is a `Term`; the largest wins; then the caps (max, partitions) apply. Terms that
protect a running stage from a scale-down (stale signals, the burst window, stabilization) never ask for more than
are running, so they hold and cannot raise.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from eod_operator.scaling.calendar import BurstWindow
from eod_operator.scaling.history import History
from eod_operator.scaling.partitions import align


@dataclass(frozen=True, slots=True)
class StagePolicy:
    """The owner's wishes for one stage.

    Attributes:
        min_replicas: never fewer (unless there are fewer partitions).
        max_replicas: never more.
        burst_replicas: at least so many inside the burst window; None means `min_replicas`.
        lag_per_replica: records of lag that one replica may have; None for a stage that consumes nothing.
        stabilization_s: a scale-down goes to the highest recommendation of this many seconds.
        stale_after_s: signals older than this are not believed.
    """

    min_replicas: int
    max_replicas: int
    burst_replicas: int | None = None
    lag_per_replica: int | None = None
    stabilization_s: float = 300.0
    stale_after_s: float = 60.0

    def __post_init__(self) -> None:
        burst = self.min_replicas if self.burst_replicas is None else self.burst_replicas
        if not 0 <= self.min_replicas <= burst <= self.max_replicas:
            raise ValueError(
                f"0 <= min ({self.min_replicas}) <= burst ({burst}) <= max ({self.max_replicas}) does not hold"
            )
        if self.lag_per_replica is not None and self.lag_per_replica < 1:
            raise ValueError(f"lag_per_replica is {self.lag_per_replica}: it must be at least 1")


@dataclass(frozen=True, slots=True)
class Signals:
    """What was last measured of a stage's consumer group.

    Attributes:
        lag: records not yet consumed, one number a partition; None when unknown (or nothing is consumed).
        age_s: seconds since `lag` was measured.
        partitions: partitions of the consumed topic; None when unknown (or nothing is consumed).
    """

    lag: tuple[int, ...] | None = None
    age_s: float = 0.0
    partitions: int | None = None

    @property
    def total_lag(self) -> int | None:
        """Records of all partitions; a negative number (a topic made anew) counts as none."""
        return None if self.lag is None else sum(max(0, lag) for lag in self.lag)


@dataclass(frozen=True, slots=True)
class Term:
    """One rule's wish: its name, the replicas it asks for, and the arithmetic in words."""

    name: str
    replicas: int
    detail: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome.

    Attributes:
        replicas: what the stage shall have.
        terms: every rule that applied, in the order of the rules.
        winner: name of the term that set the number (lag, calendar, min, stale, burst-hold, stabilization).
        capped_by: "max" or "partitions" when the winner asked for more than it got, else None.
        reason: one sentence for people; it has no ticking numbers, so equal situations give equal sentences.
        history: to be handed in at the next decision.
    """

    replicas: int
    terms: tuple[Term, ...]
    winner: str
    capped_by: str | None
    reason: str
    history: History


def decide(
    policy: StagePolicy,
    signals: Signals,
    window: BurstWindow,
    history: History,
    *,
    current: int,
    now_s: float,
) -> Decision:
    """Decide the replicas of one stage.

    An empty history (first decision, or the operator restarted) counts `current` as recommended just now, so a
    restart lowers nothing for one stabilization window.

    Args:
        policy: the owner's wishes.
        signals: the last measurement.
        window: from `burst_window` at the same `now_s`.
        history: of the previous decision; `History()` at first.
        current: replicas that the stage has now, 0 when it does not exist yet.
        now_s: seconds, on the clock of `history`.
    """
    if not history.samples:
        history = history.add(now_s, current, window_s=policy.stabilization_s)
    demand = _demand(policy, signals, window, current)
    recommended, _ = _cap(max(term.replicas for term in demand), policy, signals)
    history = history.add(now_s, recommended, window_s=policy.stabilization_s)
    terms = (*demand, *_holds(policy, window, history, current, now_s))

    winner = max(terms, key=lambda term: term.replicas)  # the first of equals: demand before holds
    replicas, capped_by = _cap(winner.replicas, policy, signals)
    return Decision(
        replicas=replicas,
        terms=terms,
        winner=winner.name,
        capped_by=capped_by,
        reason=_sentence(winner, replicas, capped_by, policy, signals),
        history=history,
    )


def _demand(policy: StagePolicy, signals: Signals, window: BurstWindow, current: int) -> tuple[Term, ...]:
    """Terms that say what the load calls for."""
    terms = []
    if window.close_s is not None:
        burst = policy.min_replicas if policy.burst_replicas is None else policy.burst_replicas
        terms.append(Term("calendar", burst, f"the burst of the close at {_clock(window.close_s)}"))
    if policy.lag_per_replica is not None:
        terms.append(_lag_term(policy.lag_per_replica, policy.stale_after_s, signals, current))
    terms.append(Term("min", policy.min_replicas, "the least it may have"))
    return tuple(terms)


def _lag_term(lag_per_replica: int, stale_after_s: float, signals: Signals, current: int) -> Term:
    lag, partitions = signals.total_lag, signals.partitions
    if lag is None or partitions is None or partitions < 1:
        return Term("stale", current, "its lag is unknown, so it is not lowered")
    if not signals.age_s <= stale_after_s:  # so that a NaN is stale
        return Term("stale", current, f"its lag is older than {stale_after_s:g} s, so it is not lowered")
    needed = -(-lag // lag_per_replica)
    aligned = align(needed, partitions)
    detail = f"lag {lag:,} at {lag_per_replica:,} a replica calls for {needed:,}"
    if aligned != needed:
        detail += f", {aligned} to share {partitions} partitions evenly"
    return Term("lag", aligned, detail)


def _holds(policy: StagePolicy, window: BurstWindow, history: History, current: int, now_s: float) -> tuple[Term, ...]:
    """Terms that keep what is running; none asks for more than `current`."""
    terms = []
    if window.active:
        terms.append(Term("burst-hold", current, "nothing is lowered during the burst of a close"))
    highest = min(current, history.highest(now_s, window_s=policy.stabilization_s))
    detail = f"so many were needed within the last {policy.stabilization_s:g} s"
    terms.append(Term("stabilization", highest, detail))
    return tuple(terms)


def _cap(replicas: int, policy: StagePolicy, signals: Signals) -> tuple[int, str | None]:
    """Apply the caps; a stage with fewer partitions than `min_replicas` gets one replica a partition."""
    capped_by = None
    if replicas > policy.max_replicas:
        replicas, capped_by = policy.max_replicas, "max"
    if signals.partitions is not None and signals.partitions >= 1 and replicas > signals.partitions:
        replicas, capped_by = signals.partitions, "partitions"
    return replicas, capped_by


def _sentence(winner: Term, replicas: int, capped_by: str | None, policy: StagePolicy, signals: Signals) -> str:
    count = f"{replicas} replica{'' if replicas == 1 else 's'}"
    caps = {
        "max": f"; capped by max {policy.max_replicas}",
        "partitions": f"; capped by {signals.partitions} partitions",
    }
    return f"{count} ({winner.name}): {winner.detail}{caps.get(capped_by or '', '')}"


def _clock(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
