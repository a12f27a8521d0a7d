"""A recorded day as a world: what arrived is replayed, and what the operator did then is one policy among others.

A recording has rates by bin and mean shares, so what happened within a bin, and whose partition was hot for a minute,
is lost. Starts and speeds of replicas vary by seed around the recorded values.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from eod_operator.scaling.sessions import BINS, RecordedSession
from eod_operator.simulate.scaler import Observation, Setting
from eod_operator.simulate.scenario import (
    USUAL_CLOSE,
    ZONE,
    Group,
    NotNegative,
    Pods,
    Positive,
    ScenarioError,
    Service,
    Sight,
    Steps,
    epoch_s,
    is_weekday,
    sentences,
)
from eod_operator.simulate.traffic import Floats
from eod_operator.simulate.world import World, batch, draw_replicas

MEDIAN_OF_P95 = 2 / 3
"""A recording has the 95th percentile of starts alone; the median is taken to be so much of it."""

Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)] | None


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, validate_by_name=True)


class PastSession(_Part):
    """A session before the recorded one, in the bins of `eod_operator.scaling.sessions`."""

    close: AwareDatetime
    arrival_per_second: Annotated[tuple[Rate, ...], Field(min_length=BINS, max_length=BINS)]
    event: str = ""


class Recording(_Part):
    """The file."""

    version: Literal[1]
    close: AwareDatetime
    event: str = ""
    edges: Annotated[tuple[float, ...], Field(min_length=2)]
    arrival_per_second: tuple[Rate, ...]
    shares: Annotated[tuple[NotNegative, ...], Field(min_length=1, max_length=1000)]
    service_per_second: Positive
    start_seconds: Positive
    pause_seconds: NotNegative
    min: Annotated[int, Field(ge=0)]
    max: Annotated[int, Field(ge=1)]
    replicas: Annotated[tuple[tuple[float, int], ...], Field(min_length=1)]
    burst_replicas: Annotated[int, Field(ge=1)] | None = None
    history: tuple[PastSession, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.arrival_per_second) != len(self.edges) - 1:
            raise ValueError(
                f"arrivalPerSecond has {len(self.arrival_per_second)} bins and edges {len(self.edges)} times: "
                "there must be one time more than bins"
            )
        if any(a >= b for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("edges must rise: each later than the one before")
        if all(rate is None for rate in self.arrival_per_second):
            raise ValueError("arrivalPerSecond is null throughout: nothing was watched, so nothing can be replayed")
        if sum(self.shares) <= 0:
            raise ValueError("shares are all 0: one number a partition, as it shared what arrived")
        if self.min > self.max:
            raise ValueError(f"min is {self.min} and max {self.max}: min must not be above max")
        return self


def read(file: Path) -> Recording:
    """Read a recording.

    Raises:
        ScenarioError: it cannot be read, or a field is wrong.
    """
    try:
        return Recording.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ScenarioError(f"{file}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise ScenarioError(sentences(str(file), error)) from error


def world(recording: Recording, name: str, seeds: Sequence[int], *, slo_s: float = 5) -> World:
    """The recorded day for some seeds."""
    close_s = recording.close.timestamp()
    times_s = _grid(recording, close_s)
    group = Group(
        partitions=len(recording.shares), min=recording.min, max=recording.max, pause_s=recording.pause_seconds
    )
    pods = Pods(start_median_s=recording.start_seconds * MEDIAN_OF_P95, start_p95_s=recording.start_seconds)
    share = np.asarray(recording.shares) / sum(recording.shares)
    arrived = _curve(recording, times_s - close_s)[:, None, None] * share
    drawn = [
        draw_replicas(
            pods,
            Service(per_s=recording.service_per_second),
            group,
            float(times_s[-1] - times_s[0]),
            *(np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2)),
        )
        for seed in seeds
    ]
    return World(
        name=name,
        seeds=tuple(seeds),
        times_s=times_s,
        arrived=np.repeat(arrived, len(seeds), axis=1),
        down=(),
        crawls=(),
        per_s=recording.service_per_second,
        group=group,
        pods=pods,
        sight=Sight(),
        settings=(_setting(recording, close_s),) * len(seeds),
        close_s=close_s,
        slo_s=slo_s,
        **batch(drawn),
    )


def _grid(recording: Recording, close_s: float) -> Floats:
    steps = Steps()
    first, last = recording.edges[0], recording.edges[-1]
    coarse = np.append(np.arange(first, last, steps.coarse_s), last)
    fine = np.arange(first, last, steps.fine_s)
    near = fine[(fine >= -steps.before_s) & (fine <= steps.after_s)]
    return np.asarray(close_s + np.unique(np.round(np.concatenate((coarse, near)), 3)), dtype=np.float64)


def _curve(recording: Recording, relative_s: Floats) -> Floats:
    """Records since the first edge; a bin that nobody watched is taken to be like the nearest ones that were."""
    edges = np.asarray(recording.edges)
    middle = (edges[:-1] + edges[1:]) / 2
    known = np.array([rate is not None for rate in recording.arrival_per_second])
    rates = np.array([rate or 0.0 for rate in recording.arrival_per_second])
    rates = np.interp(middle, middle[known], rates[known])
    total = np.concatenate(([0.0], np.cumsum(rates * np.diff(edges))))
    return np.interp(relative_s, edges, total)


def _setting(recording: Recording, close_s: float) -> Setting:
    day = datetime.fromtimestamp(close_s, tz=ZONE).date()
    return Setting(
        partitions=len(recording.shares),
        min_replicas=recording.min,
        max_replicas=recording.max,
        burst_replicas=recording.burst_replicas,
        service_per_s=recording.service_per_second,
        start_s=recording.start_seconds,
        pause_s=recording.pause_seconds,
        closes_s=(close_s,),
        timetable_s=(epoch_s(day, USUAL_CLOSE),) if is_weekday(day) else (),
        history=tuple(
            RecordedSession(past.close.timestamp(), past.arrival_per_second, past.event) for past in recording.history
        ),
    )


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was asked for on the recorded day, as a policy: epoch seconds and counts, in rising time."""

    at_s: tuple[float, ...]
    counts: tuple[int, ...]
    name: str = "recorded"

    @classmethod
    def of(cls, recording: Recording) -> Recorded:
        """From a recording."""
        close_s = recording.close.timestamp()
        points = sorted(recording.replicas)
        return cls(tuple(close_s + at for at, _ in points), tuple(count for _, count in points))

    @property
    def period_s(self) -> float:
        """As fine as the engine's steps."""
        return 1.0

    def scaler(self, setting: Setting) -> Recorded:  # noqa: ARG002 - the protocol's argument
        """Itself: it has no memory."""
        return self

    def replicas(self, seen: Observation) -> int:
        """What was asked for at that time; before the first entry, what it says."""
        return self.counts[max(0, bisect.bisect_right(self.at_s, seen.now_s) - 1)]
