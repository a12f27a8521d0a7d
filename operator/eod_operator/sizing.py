"""From the spec to the scaling code's own terms, and the decisions of all stages at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo

from eod_operator import api
from eod_operator.api import PipelineSpec, StageSpec
from eod_operator.scaling import (
    AmendedCalendar,
    BurstWindow,
    Calendar,
    CalendarNotLoadedError,
    Decision,
    Event,
    ExchangeCalendar,
    ExplicitCalendar,
    History,
    Overrides,
    Signals,
    StagePolicy,
    UnknownExchangeError,
    burst_window,
    closes_between,
    decide,
    event_at,
)
from eod_operator.scaling.demand import HUMP_S, Outlook, Situation, expected, trusted
from eod_operator.scaling.sessions import EDGES_S
from eod_operator.scaling.zones import zone_of

SOON_S = 31 * 86_400.0
"""A calendar without a close so far ahead is told of: there is time to mend it."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a trusted forecast asks for at a close.

    Attributes:
        at_s: when, so that it serves in time.
        replicas: how many.
        peak_per_s: highest arrival that is foreseen.
    """

    at_s: float
    replicas: int
    peak_per_s: float


@dataclass(frozen=True, slots=True)
class Sizes:
    """What was decided at one moment.

    Attributes:
        window: where that moment lies relative to the closes.
        decisions: of each stage, by name.
        foreseen: of each stage that a trusted forecast sizes, what it will ask for at the next close.
        notes: of each stage that learns, why its forecast is trusted or is not.
        start_s: of each stage whose pods' start was measured, its 95th percentile.
        calendar_problem: why the calendar could not be asked; the stages are then sized without it.
    """

    window: BurstWindow
    decisions: Mapping[str, Decision]
    calendar_problem: str | None = None
    foreseen: Mapping[str, Foreseen] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    start_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StageInput:
    """What a stage's decision depends on besides its spec."""

    signals: Signals = field(default_factory=Signals)
    history: History = field(default_factory=History)
    current: int = 0
    overrides: Overrides = field(default_factory=Overrides)
    outlook: Outlook | None = None
    start_s: float | None = None
    note: str | None = None


def zone(calendar: api.Calendar) -> tzinfo:
    """Where the calendar's days and times of day are: the exchange's own; UTC for sessions written out."""
    return zone_of(calendar.exchange) if calendar.exchange is not None else UTC


def calendar_of(calendar: api.Calendar) -> Calendar:
    """The calendar that the spec describes."""
    base: Calendar
    if calendar.sessions is not None:
        base = ExplicitCalendar.of(session.close.timestamp() for session in calendar.sessions)
    else:
        base = ExchangeCalendar(calendar.exchange or "")
    if not calendar.closed and not calendar.early_closes:
        return base
    moved = {one.date: one.time for one in calendar.early_closes}
    return AmendedCalendar(base, zone(calendar), frozenset(calendar.closed), moved)


def around(calendar: api.Calendar, now_s: float) -> tuple[tuple[float, ...], dict[float, tuple[str, float]]]:
    """Closes whose sessions are going on or will be soon, and what was announced for them: name and factor.

    Nothing when the calendar cannot be asked, which `window_of` tells.
    """
    try:
        closes_s = closes_between(calendar_of(calendar), now_s - EDGES_S[-1], now_s - EDGES_S[0])
    except UnknownExchangeError:
        return (), {}
    events = [Event(one.date, one.burst_factor, one.name) for one in calendar.events]
    if not events:
        return closes_s, {}
    found = ((close_s, event_at(events, close_s, zone(calendar))) for close_s in closes_s)
    return closes_s, {close_s: (event.name, event.factor) for close_s, event in found if event is not None}


def policy_of(stage: StageSpec, scaling: api.Scaling, *, start_s: float | None = None) -> StagePolicy:
    """The policy that the spec describes; a stage that consumes nothing has no lag to be sized by.

    Args:
        stage: its spec.
        scaling: how the operator decides.
        start_s: measured 95th percentile of a pod's start; None while it is not known.
    """
    return StagePolicy(
        min_replicas=stage.replicas.min,
        max_replicas=stage.replicas.max,
        burst_replicas=stage.replicas.burst,
        lag_per_replica=None if stage.effective_group is None else stage.target.lag_per_replica,
        stabilization_s=scaling.scale_down_stabilization_seconds,
        stale_after_s=scaling.stale_after_seconds,
        replica_per_s=stage.target.records_per_second,
        catch_up_s=scaling.catch_up_seconds,
        late_s=scaling.max_delay_seconds,
        utilization=scaling.utilization_percent / 100,
        start_s=scaling.pod_start_seconds if start_s is None else start_s,
        replica_hours_per_day=stage.target.replica_hours_per_day,
    )


def window_of(calendar: api.Calendar, now_s: float) -> tuple[BurstWindow, str | None]:
    """Where now lies relative to the closes of the spec's calendar, and why that cannot be told (or None)."""
    burst = calendar.burst
    try:
        closes = calendar_of(calendar)
        return burst_window(closes, now_s, lead_s=burst.lead_seconds, duration_s=burst.duration_seconds), None
    except UnknownExchangeError as error:
        return BurstWindow(), f"spec.calendar.exchange: {error}"


def runs_out(calendar: api.Calendar, now_s: float) -> str | None:
    """When the last close is that is known, in a sentence, if none is known from `SOON_S` on; else None."""
    closes = calendar_of(calendar)
    try:
        if closes.first_close(now_s + SOON_S) is not None:
            return None
    except CalendarNotLoadedError:
        return None  # it is asked again
    except UnknownExchangeError:
        pass
    try:
        last_s = max(closes_between(closes, now_s, now_s + SOON_S), default=None)
    except UnknownExchangeError:
        return None  # which `window_of` tells
    last = (
        "no close ahead"
        if last_s is None
        else f"no close after that at {datetime.fromtimestamp(last_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
    )
    if calendar.exchange is None:
        return f"spec.calendar.sessions has {last}: write further sessions out"
    return (
        f"of exchange {calendar.exchange} {last} is recorded: upgrade the operator (exchange_calendars), or write the "
        "closes out as spec.calendar.sessions"
    )


def load(calendar: api.Calendar, now_s: float) -> None:
    """Loads what sizing at this time asks of an exchange's calendar."""
    around(calendar, now_s)
    runs_out(calendar, now_s)


def at_hand(calendar: api.Calendar, now_s: float) -> bool:
    """Whether sizing at this time needs no loading of an exchange's calendar."""
    closes = calendar_of(calendar)
    if not isinstance(closes, (ExchangeCalendar, AmendedCalendar)):
        return True
    before_s = max(calendar.burst.duration_seconds, EDGES_S[-1])
    return all(closes.at_hand(at_s) for at_s in (now_s - before_s, now_s - EDGES_S[0], now_s + SOON_S))


def size(pipeline: PipelineSpec, inputs: Mapping[str, StageInput], now_s: float) -> Sizes:
    """Decide the replicas of every stage."""
    window, problem = window_of(pipeline.calendar, now_s)
    decisions, foreseen = {}, {}
    for stage in pipeline.stages:
        given = inputs.get(stage.name, StageInput())
        policy = policy_of(stage, pipeline.scaling, start_s=given.start_s)
        decided = decisions[stage.name] = decide(
            policy,
            given.signals if stage.effective_group is not None else Signals(),
            window,
            given.history,
            current=given.current,
            now_s=now_s,
            overrides=given.overrides,
            outlook=given.outlook,
        )
        if given.outlook is not None and (at := _foreseen(policy, given, decided, window, now_s)):
            foreseen[stage.name] = at
    notes = {name: given.note for name, given in inputs.items() if given.note is not None}
    starts_s = {name: given.start_s for name, given in inputs.items() if given.start_s is not None}
    return Sizes(window, decisions, problem, foreseen, notes, starts_s)


def _foreseen(
    policy: StagePolicy, given: StageInput, decided: Decision, window: BurstWindow, now_s: float
) -> Foreseen | None:
    """What the forecast asks for at the close; None where it does not size the stage."""
    close_s = window.close_s or window.next_close_s
    at = Situation(given.signals, window, decided.history, given.current, now_s, given.outlook)
    if close_s is None or given.outlook is None or not trusted(policy, at):
        return None
    wanted = expected(policy, at, close_s, close_s + HUMP_S)
    replicas = min(max(wanted, policy.min_replicas), policy.max_replicas)
    peak = given.outlook.peak(close_s, close_s + HUMP_S)
    return Foreseen(close_s - policy.horizon_s, replicas, peak)
