"""Our own policy on a simulated day: the code that the operator decides by, fed with what the simulated world shows."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from eod_operator.scaling import ExplicitCalendar, History, Signals, StagePolicy, burst_window, decide
from eod_operator.scaling.foresight import Foresight, session_of
from eod_operator.simulate.scaler import Observation, Setting

_PERIOD_S = 5.0
"""The operator looks every second and decides sooner than its interval when lag calls for more: this is between."""
_LOOK_EVERY_S = 15.0
_DEFAULTS = StagePolicy(min_replicas=0, max_replicas=1)


@dataclass(frozen=True, slots=True)
class Eod:
    """The policy, with what a pipeline's spec may say; the defaults are those of the spec.

    Attributes:
        catch_up_s: spec.scaling.catchUpSeconds.
        utilization: spec.scaling.utilizationPercent as a share.
        late_s: spec.scaling.maxDelaySeconds.
        stabilization_s: spec.scaling.scaleDownStabilizationSeconds.
        lag_per_replica: spec.stages[].target.lagPerReplica.
        lead_s: spec.calendar.burst.leadSeconds, while no forecast is trusted.
        duration_s: spec.calendar.burst.durationSeconds, the same.
        forecast: spec.scaling.forecast: whether to learn from sessions.
    """

    catch_up_s: float = _DEFAULTS.catch_up_s
    utilization: float = _DEFAULTS.utilization
    late_s: float = _DEFAULTS.late_s
    stabilization_s: float = _DEFAULTS.stabilization_s
    lag_per_replica: int = 1_000
    lead_s: float = 300.0
    duration_s: float = 900.0
    forecast: bool = True
    name: str = "eod"

    def scaler(self, setting: Setting) -> Day:
        """One for this day."""
        return Day(self, setting)

    def tuned(self, **values: Any) -> Eod:
        """With other values.

        Raises:
            ValueError: there is no such setting.
        """
        known = {one.name for one in fields(self)} - {"name"}
        for name in values.keys() - known:
            raise ValueError(f"the policy has no setting {name!r}: it has {', '.join(sorted(known))}")
        return replace(self, **values)


class Day:
    """The policy's memory of one simulated day."""

    def __init__(self, policy: Eod, setting: Setting) -> None:
        self._setting = setting
        self._calendar = ExplicitCalendar.of(setting.closes_s)
        self._lead_s, self._duration_s = policy.lead_s, policy.duration_s
        self._policy = StagePolicy(
            min_replicas=setting.min_replicas,
            max_replicas=setting.max_replicas,
            burst_replicas=setting.burst_replicas,
            lag_per_replica=policy.lag_per_replica,
            stabilization_s=policy.stabilization_s,
            replica_per_s=setting.service_per_s,
            catch_up_s=policy.catch_up_s,
            utilization=policy.utilization,
            late_s=policy.late_s,
            start_s=setting.start_s,
            pause_s=setting.pause_s,
        )
        self._history = History()
        self._foresight = Foresight(setting.history) if policy.forecast else None
        self._looked_s = float("-inf")
        self._events = {close_s: ("event", factor) for close_s, factor in setting.events.items()}

    @property
    def period_s(self) -> float:
        """Seconds between two decisions."""
        return _PERIOD_S

    def replicas(self, seen: Observation) -> int:
        """Decide as the operator would."""
        now_s = seen.now_s
        lag = None if None in seen.lag else tuple(round(one) for one in seen.lag if one is not None)
        signals = Signals(
            lag=lag,
            age_s=now_s - seen.measured_at_s,
            partitions=self._setting.partitions,
            lag_s=seen.lag_s,
            arrival_per_s=seen.arrival_per_s,
            consumed_per_s=seen.consumed_per_s,
            ready=seen.ready,
        )
        window = burst_window(self._calendar, now_s, lead_s=self._lead_s, duration_s=self._duration_s)
        outlook = None
        if self._foresight is not None:
            if now_s - self._looked_s >= _LOOK_EVERY_S and seen.reachable:
                self._looked_s = now_s
                self._foresight.look(seen.measured_at_s, seen.ends, session_of(now_s, self._setting.closes_s))
            outlook = self._foresight.outlook(now_s, self._setting.closes_s, self._events)
        decision = decide(
            self._policy,
            signals,
            window,
            self._history,
            current=seen.current,
            now_s=now_s,
            outlook=outlook,
        )
        self._history = decision.history
        self.reason = decision.reason
        return decision.replicas


OURS = Eod()
