"""The decision: how many replicas a stage gets now, which rule asked for them, and what capped it.

Every rule that asks for replicas is a `Term`; the largest wins; then the caps (max, partitions) apply. Terms that
protect a running stage from a scale-down (stale signals, a backlog, the burst window, a burst ahead, stabilization)
never ask for more than are running, so they hold and cannot raise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from eod_contract.scaling import Signals, StagePolicy, Term

from eod_operator.scaling.calendar import BurstWindow
from eod_operator.scaling.demand import Outlook, Situation, demand, expected, learned, trusted
from eod_operator.scaling.effect import begun, judged
from eod_operator.scaling.history import History

LOW_LAG_S = 5.0
"""Nothing is lowered while a record has waited for longer: the replicas are working the burst off."""
FORESEEN_WINDOW_S = 30.0
"""With a trusted forecast a scale-down need not wait for longer to see whether the load comes back."""
_SETTLES_S = 300.0
"""A scale-down waits for so long while the forecast says that it could soon go much further."""
_LOOKED_AT_S = 60.0
"""How much of the time after that is looked at."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """What somebody has said about one stage besides the policy: each a sentence, or None.

    Attributes:
        frozen: nothing is raised or lowered, whatever the signals say.
        pinned: the stage has exactly so many replicas (within the caps), whatever the signals say; `frozen` wins.
        hold_down: nothing is lowered.
    """

    frozen: str | None = None
    pinned: int | None = None
    hold_down: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome.

    Attributes:
        replicas: what the stage shall have.
        terms: every rule that applied, in the order of the rules.
        winner: name of the term that set the number (load, lag, forecast, calendar, min, stale, backlog, burst-hold,
            returns, step, stabilization, hold, pin, freeze).
        capped_by: "max" or "partitions" when the winner asked for more than it got, else None.
        reason: one sentence for people; it has no ticking numbers where nothing changes.
        history: to be handed in at the next decision.
        replica_hours: that the stage has been asked to have today (UTC).
    """

    replicas: int
    terms: tuple[Term, ...]
    winner: str
    capped_by: str | None
    reason: str
    history: History
    replica_hours: float = 0.0


def decide(
    policy: StagePolicy,
    signals: Signals,
    window: BurstWindow,
    history: History,
    *,
    current: int,
    now_s: float,
    overrides: Overrides = Overrides(),
    outlook: Outlook | None = None,
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
        overrides: what somebody has said besides the policy.
        outlook: what is forecast for its topics, when that is trusted; else None.
    """
    if not history.samples:
        history = history.add(now_s, current, window_s=policy.stabilization_s)
    at = Situation(signals, window, history, current, now_s, outlook)
    history = learned(policy, at)
    history = replace(history, raised=judged(history.raised, signals, now_s=now_s, pause_s=policy.pause_s))
    at = replace(at, history=replace(history, behind=at.history.behind))
    wishes = demand(policy, at)
    recommended, _ = _cap(max(term.replicas for term in wishes), policy, signals)
    history = history.add(now_s, recommended, window_s=policy.stabilization_s)
    at = replace(at, history=history)
    terms = (*wishes, *_holds(policy, at, overrides, recommended))

    winner = max(terms, key=lambda term: term.replicas)  # the first of equals: demand before holds
    orders = _orders(overrides, current)
    if orders:
        terms, winner = (*terms, *orders), orders[0]
    replicas, capped_by = _cap(winner.replicas, policy, signals) if winner.name != "freeze" else (current, None)
    raised = history.raised
    if winner.name in {"load", "lag"}:
        raised = begun(raised, signals, current=current, wanted=replicas, now_s=now_s)
    history = replace(history, raised=raised, spent=history.spent.until(now_s, current, gap_s=policy.stale_after_s))
    return Decision(
        replicas=replicas,
        terms=terms,
        winner=winner.name,
        capped_by=capped_by,
        reason=_sentence(winner, replicas, capped_by, policy, signals),
        history=history,
        replica_hours=history.spent.replica_s / 3_600,
    )


def _orders(overrides: Overrides, current: int) -> tuple[Term, ...]:
    """Terms that win whatever the others ask for, the strongest first."""
    terms = []
    if overrides.frozen is not None:
        terms.append(Term("freeze", current, overrides.frozen))
    if overrides.pinned is not None:
        terms.append(Term("pin", overrides.pinned, "pinned by an annotation"))
    return tuple(terms)


def _holds(policy: StagePolicy, at: Situation, overrides: Overrides, recommended: int) -> tuple[Term, ...]:
    """Terms that keep what is running; none asks for more than `current`."""
    current, foreseen = at.current, trusted(policy, at)
    terms = []
    if overrides.hold_down is not None:
        terms.append(Term("hold", current, overrides.hold_down))
    if at.signals.lag is not None and at.signals.partitions is not None and not at.signals.complete:
        terms.append(Term("stale", current, "the lag of some partitions is unknown, so it is not lowered"))
    latest_s = at.signals.latest_s
    if latest_s is not None and latest_s > LOW_LAG_S:
        terms.append(Term("backlog", current, f"records have waited for more than {LOW_LAG_S:g} s"))
    if at.window.active and policy.burst_replicas is not None and not foreseen:
        terms.append(Term("burst-hold", current, "nothing is lowered during the burst of a close"))
    window_s = min(policy.stabilization_s, FORESEEN_WINDOW_S) if foreseen else policy.stabilization_s
    highest = min(current, at.history.highest(at.now_s, window_s=window_s))
    if recommended <= highest < current:
        terms += _worth(policy, at, highest, falling=recommended < highest)
    terms.append(Term("stabilization", highest, f"so many were needed within the last {window_s:g} s"))
    return tuple(terms)


def _worth(policy: StagePolicy, at: Situation, target: int, *, falling: bool) -> list[Term]:
    """What speaks against a scale-down now: it would not pay, or waiting makes one step of several.

    Args:
        policy: the owner's wishes.
        at: the situation.
        target: what would be lowered to.
        falling: whether the need is less already than it was within the window.
    """
    current, saved = at.current, at.current - target
    # A pod that is started again costs its start; each of the two rebalances stops everybody.
    pays_after_s = policy.start_s + 2 * policy.pause_s * current / saved
    back = expected(policy, at, at.now_s, at.now_s + policy.horizon_s + pays_after_s)
    terms = [Term("returns", min(current, back), "so many would be needed again before a scale-down has paid")]
    further = expected(policy, at, at.now_s + _SETTLES_S, at.now_s + _SETTLES_S + _LOOKED_AT_S)
    falling = falling or (trusted(policy, at) and max(further, policy.min_replicas) < target)
    if 2 * target > current and falling:
        terms.append(Term("step", current, "the need is still falling, so that one step will do for several"))
    return terms


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
