"""From the spec to the scaling code's own terms, and the decisions of all stages at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from eod_operator.api import PipelineSpec, StageSpec, spec
from eod_operator.scaling import (
    BurstWindow,
    Calendar,
    Decision,
    ExchangeCalendar,
    ExplicitCalendar,
    History,
    Signals,
    StagePolicy,
    UnknownExchangeError,
    burst_window,
    decide,
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What was decided at one moment.

    Attributes:
        window: where that moment lies relative to the closes.
        decisions: of each stage, by name.
        calendar_problem: why the calendar could not be asked; the stages are then sized without it.
    """

    window: BurstWindow
    decisions: Mapping[str, Decision]
    calendar_problem: str | None = None


@dataclass(frozen=True, slots=True)
class StageInput:
    """What a stage's decision depends on besides its spec."""

    signals: Signals = field(default_factory=Signals)
    history: History = field(default_factory=History)
    current: int = 0


def calendar_of(calendar: spec.Calendar) -> Calendar:
    """The calendar that the spec describes."""
    if calendar.sessions is not None:
        return ExplicitCalendar.of(session.close.timestamp() for session in calendar.sessions)
    return ExchangeCalendar(calendar.exchange or "")


def policy_of(stage: StageSpec, scaling: spec.Scaling) -> StagePolicy:
    """The policy that the spec describes; a stage that consumes nothing has no lag to be sized by."""
    return StagePolicy(
        min_replicas=stage.replicas.min,
        max_replicas=stage.replicas.max,
        burst_replicas=stage.replicas.burst,
        lag_per_replica=None if stage.effective_group is None else stage.target.lag_per_replica,
        stabilization_s=scaling.scale_down_stabilization_seconds,
        stale_after_s=scaling.stale_after_seconds,
    )


def window_of(calendar: spec.Calendar, now_s: float) -> BurstWindow:
    """Where now lies relative to the closes of the spec's calendar.

    Raises:
        UnknownExchangeError: the exchange is not known.
    """
    burst = calendar.burst
    return burst_window(calendar_of(calendar), now_s, lead_s=burst.lead_seconds, duration_s=burst.duration_seconds)


def size(pipeline: PipelineSpec, inputs: Mapping[str, StageInput], now_s: float) -> Sizes:
    """Decide the replicas of every stage."""
    problem = None
    try:
        window = window_of(pipeline.calendar, now_s)
    except UnknownExchangeError as error:
        window, problem = BurstWindow(), f"spec.calendar.exchange: {error}"
    decisions = {}
    for stage in pipeline.stages:
        given = inputs.get(stage.name, StageInput())
        signals = given.signals if stage.effective_group is not None else Signals()
        policy = policy_of(stage, pipeline.scaling)
        decisions[stage.name] = decide(policy, signals, window, given.history, current=given.current, now_s=now_s)
    return Sizes(window, decisions, problem)
