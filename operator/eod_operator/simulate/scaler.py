"""What an autoscaler sees and what it answers: the port between the simulated world and every policy.

Our own policy and the baselines implement the same two-method protocol, so that no result depends on who was asked how.
Rates are in records a second, lags in records, times in epoch seconds of the simulated day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from eod_operator.scaling.sessions import RecordedSession


@dataclass(frozen=True, slots=True)
class Observation:
    """What can be seen at one moment from outside the consumers.

    Attributes:
        now_s: the moment.
        measured_at_s: when the offsets were read that the rest is made of: before `now_s` by the scrape's delay, and
            longer ago while Kafka does not answer.
        reachable: whether Kafka answers now.
        current: replicas that the Deployment asks for.
        ready: pods that are Ready.
        lag: by partition, end offset less committed offset; None where the group has committed nothing.
        lag_s: by partition, age of the oldest record that is not committed; 0 without any.
        arrival_per_s: by partition, records appended a second over the last half minute of looks.
        consumed_per_s: by partition, records committed a second over the same time.
        ends: by partition, the end offset; empty where nobody has asked for it.
    """

    now_s: float
    measured_at_s: float
    reachable: bool
    current: int
    ready: int
    lag: tuple[float | None, ...]
    lag_s: tuple[float, ...]
    arrival_per_s: tuple[float, ...]
    consumed_per_s: tuple[float, ...]
    ends: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Setting:
    """What somebody who configures an autoscaler knows in the morning of the day.

    Attributes:
        partitions: of the consumed topic.
        min_replicas: never fewer.
        max_replicas: never more.
        burst_replicas: what they believe a close needs, or None when they have no idea.
        service_per_s: what they believe one replica consumes, or None when they have no idea.
        start_s: 95th percentile of a pod's start, from the decision until it consumes, as measured before.
        pause_s: how long a rebalance stops the group, as measured before.
        closes_s: closes of this day and the days around it as the exchange's calendar has them, in rising order.
        timetable_s: closes of this day as a daily cron entry has them: every weekday at the usual hour.
        events: close → factor of extra burst that is announced, such as an index rebalance.
        history: recorded sessions before this day, the oldest first.
    """

    partitions: int
    min_replicas: int
    max_replicas: int
    burst_replicas: int | None
    service_per_s: float | None
    start_s: float
    pause_s: float
    closes_s: tuple[float, ...]
    timetable_s: tuple[float, ...]
    events: Mapping[float, float] = field(default_factory=dict)
    history: tuple[RecordedSession, ...] = ()


class Scaler(Protocol):
    """One autoscaler on one simulated day; it may remember what it likes."""

    @property
    def period_s(self) -> float:
        """How often it is asked."""
        ...

    def replicas(self, seen: Observation) -> int:
        """How many replicas the Deployment shall ask for now."""
        ...


class Policy(Protocol):
    """Makes an autoscaler for a day, from tunable parameters that are its own."""

    @property
    def name(self) -> str:
        """As on the command line and in the tables."""
        ...

    def scaler(self, setting: Setting) -> Scaler:
        """One for this day."""
        ...
