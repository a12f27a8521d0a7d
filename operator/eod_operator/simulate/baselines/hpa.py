"""The HorizontalPodAutoscaler (autoscaling/v2), and alone on the group's lag.

KEDA scales by writing one of these, so every limit of it is a limit of KEDA's too. Followed are the Kubernetes
documentation ("Horizontal Pod Autoscaling": Algorithm details, Scaling on multiple metrics, Configurable scaling
behavior), KEP-853 (scale velocity), KEP-4951 (tolerance), and where those leave something open, what the controller
does (kubernetes/kubernetes, pkg/controller/podautoscaler).

What bites at a close: after the tolerance check it stops up to a tenth short of what a metric asks for
(kubernetes/kubernetes#116984), its default policies reach a large number in steps with a rebalance each, and it never
acts before the metric moves.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from eod_operator.simulate.scaler import Observation, Setting

SYNC_PERIOD_S = 15.0
"""--horizontal-pod-autoscaler-sync-period, the default."""
TOLERANCE = 0.1
"""--horizontal-pod-autoscaler-tolerance, the default; by direction since Kubernetes 1.33 (KEP-4951)."""
_LONGEST_PERIOD_S, _LONGEST_WINDOW_S = 1800, 3600
"""The API server's own limits of `periodSeconds` and `stabilizationWindowSeconds`."""


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """How much may change within a period.

    Attributes:
        type: whether `value` counts pods or percents of the replicas at the period's begin.
        value: at most this much.
        period_s: within these seconds.
    """

    type: Literal["Pods", "Percent"]
    value: int
    period_s: float = 15.0

    def __post_init__(self) -> None:
        if self.value <= 0 or not 0 < self.period_s <= _LONGEST_PERIOD_S:
            raise ValueError(
                f"a scaling policy of {self.value} {self.type} in {self.period_s} s is refused by the API server:"
                f" give a value above 0 and a period above 0 and up to {_LONGEST_PERIOD_S} s"
            )


@dataclass(frozen=True, slots=True)
class Rules:
    """`behavior.scaleUp` or `behavior.scaleDown`.

    Attributes:
        policies: of which `select` picks one.
        select: the policy that allows most, or least, or no change at all.
        stabilization_s: the most careful recommendation of so many past seconds wins.
        tolerance: no change while the metric is within this share of its target.
    """

    policies: tuple[ScalingPolicy, ...]
    select: Literal["Max", "Min", "Disabled"] = "Max"
    stabilization_s: float = 0.0
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        if not self.policies or not 0 <= self.stabilization_s <= _LONGEST_WINDOW_S or self.tolerance < 0:
            raise ValueError(
                f"{self} is refused by the API server: give a policy, a stabilization of 0 to {_LONGEST_WINDOW_S} s,"
                " and a tolerance of 0 or more"
            )


DEFAULT_UP = Rules((ScalingPolicy("Percent", 100), ScalingPolicy("Pods", 4)))
"""Documented under "Default Behavior". An HPA without `behavior` is a little slower: max(4, twice as many)."""
DEFAULT_DOWN = Rules((ScalingPolicy("Percent", 100),), stabilization_s=300)


@dataclass(frozen=True, slots=True)
class Behavior:
    """`behavior`, both directions."""

    up: Rules = DEFAULT_UP
    down: Rules = DEFAULT_DOWN


def behavior(
    *,
    up_pods: int | None = None,
    up_percent: int | None = None,
    up_period_s: float = 15.0,
    up_stabilization_s: float = 0.0,
    down_pods: int | None = None,
    down_percent: int | None = None,
    down_period_s: float = 15.0,
    down_stabilization_s: float = 300.0,
    tolerance: float = TOLERANCE,
) -> Behavior:
    """A behavior from flat numbers, as a grid has them; a direction without numbers keeps its default policies."""
    up = _rules(DEFAULT_UP, up_pods, up_percent, up_period_s)
    down = _rules(DEFAULT_DOWN, down_pods, down_percent, down_period_s)
    return Behavior(
        replace(up, stabilization_s=up_stabilization_s, tolerance=tolerance),
        replace(down, stabilization_s=down_stabilization_s, tolerance=tolerance),
    )


def _rules(default: Rules, pods: int | None, percent: int | None, period_s: float) -> Rules:
    policies = (
        *(() if percent is None else (ScalingPolicy("Percent", percent, period_s),)),
        *(() if pods is None else (ScalingPolicy("Pods", pods, period_s),)),
    )
    return Rules(policies or tuple(replace(one, period_s=period_s) for one in default.policies))


@dataclass(frozen=True, slots=True)
class Reading:
    """One External metric at one sync.

    Attributes:
        value: what was fetched; None when fetching failed.
        target: `target.averageValue` or `target.value`.
        average: which of both.
    """

    value: float | None
    target: float
    average: bool = True


def proposed(readings: Sequence[Reading], *, current: int, ready: int, rules: Behavior) -> int | None:
    """What the metrics ask for, the largest of them; None to hold ("scaling is skipped").

    An average is compared with all current replicas, ready or not; a total scales the ready ones.
    """
    most, failed = 0, 0
    lower, upper = 1.0 - rules.down.tolerance, 1.0 + rules.up.tolerance
    for reading in readings:
        if reading.value is None:
            failed += 1
            continue
        ratio = reading.value / (reading.target * current) if reading.average else reading.value / reading.target
        if lower <= ratio <= upper:
            asked = current
        elif reading.average:
            asked = math.ceil(reading.value / reading.target)
        else:
            asked = math.ceil(ratio * ready)
        most = max(most, asked)
    if failed == len(readings) or (failed and most < current):
        return None
    return most


class Controller:
    """The controller's memory of one HPA: recommendations and changes that still count."""

    def __init__(self, *, least: int, most: int, rules: Behavior) -> None:
        self._least, self._most, self._rules = max(least, 1), most, rules
        self._window_s = max(rules.up.stabilization_s, rules.down.stabilization_s)
        self._recommended: deque[tuple[float, int]] = deque()
        self._added: deque[tuple[float, int]] = deque()
        self._removed: deque[tuple[float, int]] = deque()

    def sync(self, now_s: float, *, current: int, ready: int, readings: Sequence[Reading]) -> int:
        """One pass: how many replicas it writes into the scale subresource.

        At zero replicas it is switched off (whoever made it zero shall undo it). Outside of its bounds it goes to the
        bound without asking any metric.
        """
        if current == 0:
            return 0
        if not self._recommended:
            # The controller counts what it finds at its first sync as a recommendation.
            self._recommended.append((now_s, current))
        if self._least <= current <= self._most:
            asked = proposed(readings, current=current, ready=ready, rules=self._rules)
            if asked is None:
                return current
            wanted = self._limited(now_s, current, self._stabilized(now_s, current, asked))
        else:
            wanted = min(max(current, self._least), self._most)
        if wanted > current:
            _remember(self._added, now_s, wanted - current, self._rules.up)
        elif wanted < current:
            _remember(self._removed, now_s, current - wanted, self._rules.down)
        return wanted

    def _stabilized(self, now_s: float, current: int, asked: int) -> int:
        """The safest recommendation of the window: the smallest going up, the largest going down."""
        recommended = self._recommended
        while recommended and recommended[0][0] <= now_s - self._window_s:
            recommended.popleft()
        safest = asked
        if asked < current:
            since_s = now_s - self._rules.down.stabilization_s
            for at_s, before in recommended:
                if before > safest and at_s > since_s:
                    safest = before
        elif self._rules.up.stabilization_s:
            since_s = now_s - self._rules.up.stabilization_s
            for at_s, before in recommended:
                if before < safest and at_s > since_s:
                    safest = before
        recommended.append((now_s, asked))
        return safest

    def _limited(self, now_s: float, current: int, wanted: int) -> int:
        """Within the rate of change, and within the bounds."""
        if wanted > current:
            return min(wanted, self._most, max(current, _up_limit(now_s, current, self._added, self._rules.up)))
        if wanted < current:
            return max(wanted, self._least, min(current, _down_limit(now_s, current, self._removed, self._rules.down)))
        return wanted


def _remember(changes: deque[tuple[float, int]], now_s: float, change: int, rules: Rules) -> None:
    longest_s = max(policy.period_s for policy in rules.policies)
    while changes and changes[0][0] <= now_s - longest_s:
        changes.popleft()
    changes.append((now_s, change))


def _within(now_s: float, changes: deque[tuple[float, int]], period_s: float) -> int:
    return sum(change for at_s, change in changes if at_s > now_s - period_s)


def _up_limit(now_s: float, current: int, added: deque[tuple[float, int]], rules: Rules) -> int:
    """How many the policies allow now; each counts from the replicas at the begin of its period."""
    if rules.select == "Disabled":
        return current
    limits = []
    for policy in rules.policies:
        start = current - _within(now_s, added, policy.period_s)
        # Rounded up, else a percentage of few pods would never allow one more.
        more = start + policy.value if policy.type == "Pods" else math.ceil(start * (1 + policy.value / 100))
        limits.append(more)
    return min(limits) if rules.select == "Min" else max(limits)


def _down_limit(now_s: float, current: int, removed: deque[tuple[float, int]], rules: Rules) -> int:
    """How few the policies allow now."""
    if rules.select == "Disabled":
        return current
    limits = []
    for policy in rules.policies:
        start = current + _within(now_s, removed, policy.period_s)
        limits.append(start - policy.value if policy.type == "Pods" else int(start * (1 - policy.value / 100)))
    return max(limits) if rules.select == "Min" else min(limits)


def records(count: float, seconds: float | None, setting: Setting) -> float:
    """A lag threshold in records: `seconds` of what one replica is believed to consume, else `count` of them."""
    if seconds is None or setting.service_per_s is None:
        return count
    return float(max(1, round(seconds * setting.service_per_s)))


def least(setting: Setting, share: float) -> int:
    """The bound below: the setting's, or a share of the maximum where that is more."""
    return min(setting.max_replicas, max(setting.min_replicas, math.ceil(share * setting.max_replicas)))


@dataclass(frozen=True, slots=True)
class Hpa:
    """An HPA on the group's total lag as an External metric (from an exporter and a metrics adapter).

    Attributes:
        target_lag: records; a replica's share for AverageValue, the whole group's for Value.
        target_lag_s: the same as seconds of one replica's believed rate; goes first where a rate is believed.
        target_type: which of both.
        min_share: minReplicas as a share of the maximum.
        rules: `behavior`.
    """

    target_lag: float = 1000.0
    target_lag_s: float | None = None
    target_type: Literal["AverageValue", "Value"] = "AverageValue"
    min_share: float = 0.0
    rules: Behavior = field(default_factory=Behavior)

    def __post_init__(self) -> None:
        if self.target_lag <= 0 or (self.target_lag_s is not None and self.target_lag_s <= 0):
            raise ValueError(f"a target lag of {self.target_lag} records or {self.target_lag_s} s: give more than 0")

    @property
    def name(self) -> str:
        """As in tables."""
        return "hpa"

    def scaler(self, setting: Setting) -> HpaScaler:
        """One for this day."""
        return HpaScaler(self, setting)


class HpaScaler:
    """An HPA on lag, alone, on one day."""

    period_s = SYNC_PERIOD_S

    def __init__(self, policy: Hpa, setting: Setting) -> None:
        self._target = records(policy.target_lag, policy.target_lag_s, setting)
        self._average = policy.target_type == "AverageValue"
        self._controller = Controller(
            least=least(setting, policy.min_share), most=setting.max_replicas, rules=policy.rules
        )

    def replicas(self, seen: Observation) -> int:
        """An exporter has no series for partitions without a commit, so those count nothing."""
        value = sum(filter(None, seen.lag)) if seen.reachable else None
        reading = Reading(value, self._target, self._average)
        return self._controller.sync(seen.now_s, current=seen.current, ready=seen.ready, readings=(reading,))
