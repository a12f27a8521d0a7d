"""Flink's autoscaler, for a source that reads Kafka: capacity from the rate that a busy replica would reach.

Followed are the documentation of the Flink Kubernetes operator ("Autoscaler", its options under "Configuration") and
its flink-autoscaler module; the idea is Kalavri et al., "Three steps is all you need" (OSDI 2018):

    true rate = consumed / busy share
    wanted    = lag / catch-up + arrival x restart / catch-up + arrival / target utilization
    replicas  = ceil(current x wanted / true rate), raised to a divisor of the partitions

Flink measures how busy its tasks are; an observation from outside cannot. The busiest replica (Flink's default
aggregator is MAX) is taken for fully busy while its records wait for seconds, else for as busy as its share of what it
is believed, or has been seen, to consume. While there is backlog this is also Flink's "observed true processing rate".
A rescale is what the simulator makes of it, a rebalance, not Flink's restart from a checkpoint: that is kinder to it.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from eod_operator.simulate.scaler import Observation, Setting

_WAITING_S = 5.0
"""Records that wait this long are waiting for a busy replica, not for the next poll or commit."""


@dataclass(frozen=True, slots=True)
class Flink:
    """Options under `job.autoscaler`, with their defaults.

    Attributes:
        interval_s: the operator's reconcile interval: each pass takes one sample.
        window_s: metrics.window.
        stabilization_s: stabilization.interval: nothing is sampled so long after the job runs.
        utilization_target: utilization.target.
        utilization_boundary: no scaling while utilization is within target ± boundary.
        catch_up_s: catch-up.duration.
        restart_s: restart.time.
        scale_down_interval_s: scale-down.interval: the largest wish of this time is taken when going down.
        scale_down_max_factor: at most this share goes at once.
        scale_up_max_factor: at most this share comes at once.
        backlog_lag_s: backlog-processing.lag-threshold: with more lag, utilization may be full and nothing goes down.
        detect_ineffective: scaling.effectiveness.detection.enabled: block a step up after one that brought nothing.
        effectiveness_threshold: what share of the expected increase is nothing.
    """

    interval_s: float = 60.0
    window_s: float = 900.0
    stabilization_s: float = 300.0
    utilization_target: float = 0.7
    utilization_boundary: float = 0.3
    catch_up_s: float = 1800.0
    restart_s: float = 300.0
    scale_down_interval_s: float = 3600.0
    scale_down_max_factor: float = 0.6
    scale_up_max_factor: float = 100_000.0
    backlog_lag_s: float = 300.0
    detect_ineffective: bool = False
    effectiveness_threshold: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.utilization_target <= 1 or self.interval_s <= 0:
            raise ValueError(
                f"a target utilization of {self.utilization_target} every {self.interval_s} s:"
                " give a share above 0 and up to 1, and an interval above 0"
            )
        if self.window_s < self.interval_s:
            raise ValueError(
                f"a window of {self.window_s} s holds no two samples {self.interval_s} s apart: widen window_s"
            )

    @property
    def name(self) -> str:
        """As in tables."""
        return "flink"

    def scaler(self, setting: Setting) -> FlinkScaler:
        """One for this day."""
        return FlinkScaler(self, setting)


class Sample(NamedTuple):
    """One pass's metrics: records that wait, records a second, and how busy the busiest replica is, 0 to 1."""

    at_s: float
    lag: float
    consumed_per_s: float
    busy: float


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A window's metrics, rates in records a second.

    Attributes:
        true_rate: what the replicas would take if they were busy all the time; infinite when nothing came.
        arrival: what came in.
        consumed: what was taken.
        lag: records that wait at the window's end.
    """

    true_rate: float
    arrival: float
    consumed: float
    lag: float


def evaluate(samples: deque[Sample]) -> Evaluated:
    """Averages over the window; what came is what was taken and what the lag grew."""
    first, last = samples[0], samples[-1]
    consumed = sum(sample.consumed_per_s for sample in samples) / len(samples)
    busy = sum(sample.busy for sample in samples) / len(samples)
    growth = (last.lag - first.lag) / (last.at_s - first.at_s)
    true_rate = consumed / busy if consumed and busy else math.inf
    return Evaluated(true_rate, max(0.0, consumed + growth), consumed, last.lag)


def capacity(seen: Evaluated, policy: Flink, utilization: float, *, restart: bool) -> float:
    """Records a second to be able to take, at this utilization; with or without what a restart leaves behind."""
    utilization = min(max(utilization, 0.0), 1.0)
    if utilization == 0:
        return math.inf
    catch_up = seen.lag / policy.catch_up_s if policy.catch_up_s else 0.0
    restarting = seen.arrival * policy.restart_s / policy.catch_up_s if restart and policy.catch_up_s else 0.0
    return math.floor(catch_up + restarting + seen.arrival / utilization + 0.5)


def within(seen: Evaluated, policy: Flink) -> bool:
    """Whether utilization is within its boundaries, so that nothing is done."""
    if seen.consumed and seen.lag / seen.consumed > policy.backlog_lag_s:
        upper, lower = 1.0, 0.0
    else:
        upper = policy.utilization_target + policy.utilization_boundary
        lower = policy.utilization_target - policy.utilization_boundary
    too_low = capacity(seen, policy, upper, restart=False)
    too_high = capacity(seen, policy, lower, restart=True)
    return too_low <= seen.true_rate <= too_high


def aligned(replicas: int, partitions: int, *, least: int, most: int) -> int:
    """The next divisor of the partitions; when none is allowed, the fewest replicas with as few at the busiest."""
    for more in range(replicas, min(partitions, most) + 1):
        if partitions % more == 0:
            return more
    fewer = replicas
    while fewer > 0 and partitions // fewer <= partitions // replicas:
        fewer -= 1
    if fewer > 0 and partitions % fewer:
        fewer += 1
    return max(fewer, least)


class FlinkScaler:
    """The autoscaler's memory of one job on one day."""

    def __init__(self, policy: Flink, setting: Setting) -> None:
        self._policy, self._setting = policy, setting
        self._most = max(setting.min_replicas, min(setting.max_replicas, setting.partitions))
        self._service_per_s = setting.service_per_s
        self._replicas = 0
        self._running_s: float | None = None
        self._samples: deque[Sample] = deque()
        self._going_down: tuple[float, int] | None = None
        self._last_up: tuple[int, float, float] | None = None

    @property
    def period_s(self) -> float:
        """A reconcile of the operator."""
        return self._policy.interval_s

    def replicas(self, seen: Observation) -> int:
        """The parallelism of the source; unchanged until a whole window has been sampled since the last change."""
        current = seen.current
        if current != self._replicas or seen.ready < current:
            # A changed or restarted job begins anew: its metrics say nothing about the one before.
            self._replicas, self._running_s = current, None
            self._samples.clear()
            if seen.ready < current:
                return current
        if self._running_s is None:
            self._running_s = seen.now_s
        if seen.now_s < self._running_s + self._policy.stabilization_s or not (seen.reachable and current):
            return current
        self._sample(seen)
        collected = seen.now_s >= self._running_s + self._policy.stabilization_s + self._policy.window_s
        if not collected or len(self._samples) <= 1:
            return current
        return self._decide(seen.now_s, current)

    def _sample(self, seen: Observation) -> None:
        busy = self._busy(seen)
        if busy is None:
            return
        lag = sum(lag for lag in seen.lag if lag is not None)
        self._samples.append(Sample(seen.now_s, lag, sum(seen.consumed_per_s), busy))
        while self._samples[0].at_s < seen.now_s - self._policy.window_s:
            self._samples.popleft()

    def _busy(self, seen: Observation) -> float | None:
        """How busy the busiest replica is; None while nobody knows what a replica can take."""
        share, rest = divmod(len(seen.consumed_per_s), max(seen.ready, 1))
        taken, begin = [], 0
        for replica in range(min(seen.ready, len(seen.consumed_per_s))):
            end = begin + share + (replica < rest)
            taken.append(sum(seen.consumed_per_s[begin:end]))
            begin = end
        most = max(taken, default=0.0)
        if max(seen.lag_s, default=0.0) >= _WAITING_S:
            if self._setting.service_per_s is None and most:
                self._service_per_s = most
            return 1.0
        return min(1.0, most / self._service_per_s) if self._service_per_s else None

    def _decide(self, now_s: float, current: int) -> int:
        policy, seen = self._policy, evaluate(self._samples)
        factor = capacity(seen, policy, policy.utilization_target, restart=True) / seen.true_rate
        factor = min(max(factor, 1 - policy.scale_down_max_factor), 1 + policy.scale_up_max_factor)
        least = self._setting.min_replicas
        wanted = min(max(math.ceil(factor * current), least), self._most)
        wanted = min(aligned(wanted, self._setting.partitions, least=max(1, least), most=self._most), self._most)
        if wanted == current:
            self._going_down = None
            return current
        if wanted > current:
            self._going_down = None
            if self._ineffective(seen, current):
                return current
        else:
            wanted = self._delayed(now_s, current, wanted)
        if wanted == current or within(seen, policy):
            return current
        self._last_up = (wanted, seen.true_rate, factor * seen.true_rate) if wanted > current else None
        self._going_down = None
        return wanted

    def _delayed(self, now_s: float, current: int, wanted: int) -> int:
        """Down only when it has been wished for so long, and then to the largest wish."""
        since_s, largest = self._going_down or (now_s, wanted)
        largest = max(largest, wanted)
        self._going_down = (since_s, largest)
        return largest if now_s >= since_s + self._policy.scale_down_interval_s else current

    def _ineffective(self, seen: Evaluated, current: int) -> bool:
        """Whether the last step up, which brought us here, gave less than its share of what it promised."""
        if not self._policy.detect_ineffective or self._last_up is None or self._last_up[0] != current:
            return False
        _, before, expected = self._last_up
        return seen.true_rate - before < self._policy.effectiveness_threshold * (expected - before)
