"""KEDA: a ScaledObject, and its Apache Kafka trigger alone.

Followed are KEDA's documentation (2.18: "Apache Kafka", "ScaledObject specification", "Scaling Deployments"), and where
that is short, kedacore/keda's kafka_scaler.go. Between one replica and many it is the HPA that scales: KEDA answers the
HPA's question at each sync with the lag of that moment (metrics are not cached by default). KEDA itself only scales
between none and one, every `pollingInterval`.

An observation has no offsets, so two settings work from what it has: `excludePersistentLag` takes a partition that
consumed nothing for half a minute for one whose offset stood still; `offsetResetPolicy: earliest` takes age times
arrival for the end offset of a partition without a commit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from eod_operator.simulate.baselines.hpa import SYNC_PERIOD_S, Behavior, Controller, Reading, least, records
from eod_operator.simulate.scaler import Observation, Setting

POLLING_INTERVAL_S = 30.0
COOLDOWN_PERIOD_S = 300.0


class Trigger(Protocol):
    """One entry of `spec.triggers` on one day."""

    def read(self, seen: Observation) -> tuple[Reading, bool]:
        """What the HPA is given, and whether the trigger is active."""
        ...


@dataclass(frozen=True, slots=True)
class KafkaMetadata:
    """The trigger's `metadata`, under KEDA's names and with its defaults.

    Attributes:
        lag_threshold: records a replica.
        lag_threshold_s: the same as seconds of one replica's believed rate; goes first where a rate is believed.
        activation_lag_threshold: the trigger is active above this.
        limit_to_partitions_with_lag: no more replicas than partitions that have lag.
        ensure_even_distribution: only replica counts that divide the partitions.
        allow_idle_consumers: replicas may exceed the partitions.
        exclude_persistent_lag: leave partitions out that do not move.
        offset_reset_policy: what a partition without a commit counts for.
        scale_to_zero_on_invalid_offset: it counts nothing.
        fallback_replicas: `fallback.replicas`: what to ask for when Kafka fails; None without a fallback.
        fallback_behavior: whether that also lowers.
        failure_threshold: `fallback.failureThreshold`: failures in a row that are borne before.
    """

    lag_threshold: float = 10.0
    lag_threshold_s: float | None = None
    activation_lag_threshold: float = 0.0
    limit_to_partitions_with_lag: bool = False
    ensure_even_distribution: bool = False
    allow_idle_consumers: bool = False
    exclude_persistent_lag: bool = False
    offset_reset_policy: Literal["latest", "earliest"] = "latest"
    scale_to_zero_on_invalid_offset: bool = False
    fallback_replicas: int | None = None
    fallback_behavior: Literal["static", "currentReplicasIfHigher"] = "static"
    failure_threshold: int = 3

    def __post_init__(self) -> None:
        if self.lag_threshold < 1 or (self.lag_threshold_s is not None and self.lag_threshold_s <= 0):
            raise ValueError(
                f"lagThreshold is {self.lag_threshold} records or {self.lag_threshold_s} s:"
                " KEDA refuses it; give at least one record, and seconds above 0"
            )
        if self.allow_idle_consumers and self.limit_to_partitions_with_lag:
            raise ValueError("allowIdleConsumers cannot be true with limitToPartitionsWithLag: choose one of them")


class KafkaTrigger:
    """The `kafka` trigger."""

    def __init__(self, metadata: KafkaMetadata, setting: Setting) -> None:
        self._metadata = metadata
        self._threshold = int(records(metadata.lag_threshold, metadata.lag_threshold_s, setting))
        self._most = setting.max_replicas
        self._failures = 0
        self._seen_before = False

    def read(self, seen: Observation) -> tuple[Reading, bool]:
        """The total lag, capped as the settings say; no value while Kafka fails, and no fallback is due."""
        if not seen.reachable:
            self._failures += 1
            return Reading(self._fallback(seen.current), self._threshold), False
        self._failures = 0
        counted, whole, partitions_with_lag = self._lags(seen)
        active = whole > self._metadata.activation_lag_threshold
        return Reading(self._capped(counted, len(seen.lag), partitions_with_lag), self._threshold), active

    def _fallback(self, current: int) -> float | None:
        """`target metric value * fallback replicas`, which the HPA turns into just these replicas."""
        replicas = self._metadata.fallback_replicas
        if replicas is None or self._failures <= self._metadata.failure_threshold:
            return None
        if self._metadata.fallback_behavior == "currentReplicasIfHigher":
            replicas = max(replicas, current)
        return float(self._threshold * min(replicas, self._most))

    def _lags(self, seen: Observation) -> tuple[int, int, int]:
        """Total lag that scales, total lag that activates, partitions with lag."""
        metadata = self._metadata
        if None not in seen.lag and not metadata.exclude_persistent_lag:
            known = [lag for lag in seen.lag if lag is not None]
            with_lag = sum(lag >= 1 for lag in known) if metadata.limit_to_partitions_with_lag else 0
            total = int(sum(known))
            return total, total, with_lag
        counted = whole = with_lag = 0
        for partition, lag in enumerate(seen.lag):
            behind = self._invalid_offset(seen, partition) if lag is None else int(lag)
            stuck = (
                metadata.exclude_persistent_lag
                and self._seen_before
                and lag is not None
                and seen.consumed_per_s[partition] == 0
            )
            whole += behind
            if not stuck:
                counted += behind
                with_lag += behind > 0
        self._seen_before = True
        return counted, whole, with_lag

    def _invalid_offset(self, seen: Observation, partition: int) -> int:
        """What a partition counts for that has no commit: "a single consumer", nothing, or all that is in it."""
        if self._metadata.scale_to_zero_on_invalid_offset:
            return 0
        if self._metadata.offset_reset_policy == "latest":
            return 1
        return int(seen.lag_s[partition] * seen.arrival_per_s[partition])

    def _capped(self, total: int, partitions: int, partitions_with_lag: int) -> int:
        metadata = self._metadata
        if metadata.allow_idle_consumers and not metadata.ensure_even_distribution:
            return total
        if metadata.ensure_even_distribution:
            total = even(total, partitions, self._threshold) * self._threshold
        most = partitions_with_lag if metadata.limit_to_partitions_with_lag else partitions
        return most * self._threshold if total // self._threshold > most else total


def even(total: int, partitions: int, threshold: int) -> int:
    """The smallest divisor of the partitions that takes the lag at so much a replica; all of them when none does."""
    for replicas in range(1, partitions + 1):
        if partitions % replicas == 0 and replicas * threshold >= total:
            return replicas
    return partitions


class ScaledObject:
    """A ScaledObject on one day: the HPA that KEDA writes for its triggers, and KEDA's own step from and to none."""

    period_s = SYNC_PERIOD_S

    def __init__(
        self,
        triggers: Sequence[Trigger],
        *,
        least: int,
        most: int,
        rules: Behavior,
        polling_interval_s: float = POLLING_INTERVAL_S,
        cooldown_period_s: float = COOLDOWN_PERIOD_S,
    ) -> None:
        self._triggers = tuple(triggers)
        self._least = least
        self._controller = Controller(least=least, most=most, rules=rules)
        self._polling_interval_s, self._cooldown_period_s = polling_interval_s, cooldown_period_s
        self._polled_s: float | None = None
        self._active_s: float | None = None

    def replicas(self, seen: Observation) -> int:
        """The HPA takes the largest that any trigger asks for."""
        answers = [trigger.read(seen) for trigger in self._triggers]
        readings = [reading for reading, _ in answers]
        if self._least == 0:
            active = any(active for _, active in answers)
            current = self._activated(seen, active=active, failed=any(reading.value is None for reading in readings))
            if current != seen.current:
                return current
        return self._controller.sync(seen.now_s, current=seen.current, ready=seen.ready, readings=readings)

    def _activated(self, seen: Observation, *, active: bool, failed: bool) -> int:
        """KEDA's own loop: one replica when a trigger is active, none a cooldown after the last was."""
        if self._polled_s is not None and seen.now_s - self._polled_s < self._polling_interval_s:
            return seen.current
        self._polled_s = seen.now_s
        if active:
            self._active_s = seen.now_s
            return max(seen.current, 1)
        if failed or (self._active_s is not None and seen.now_s - self._active_s < self._cooldown_period_s):
            return seen.current
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled(ABC):
    """A policy that is a ScaledObject; the triggers make the difference.

    Attributes:
        min_share: minReplicaCount as a share of the maximum.
        polling_interval_s: KEDA's own, between none and one.
        cooldown_period_s: from the last activity to none.
        rules: `advanced.horizontalPodAutoscalerConfig.behavior`.
    """

    min_share: float = 0.0
    polling_interval_s: float = POLLING_INTERVAL_S
    cooldown_period_s: float = COOLDOWN_PERIOD_S
    rules: Behavior = field(default_factory=Behavior)

    @abstractmethod
    def triggers(self, setting: Setting) -> tuple[Trigger, ...]:
        """Its triggers on this day."""

    def scaler(self, setting: Setting) -> ScaledObject:
        """One for this day."""
        return ScaledObject(
            self.triggers(setting),
            least=least(setting, self.min_share),
            most=setting.max_replicas,
            rules=self.rules,
            polling_interval_s=self.polling_interval_s,
            cooldown_period_s=self.cooldown_period_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Keda(Scaled):
    """One Kafka trigger."""

    kafka: KafkaMetadata = field(default_factory=KafkaMetadata)

    @property
    def name(self) -> str:
        """As in tables."""
        return "keda"

    def triggers(self, setting: Setting) -> tuple[Trigger, ...]:
        """The one."""
        return (KafkaTrigger(self.kafka, setting),)
