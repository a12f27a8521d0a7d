"""What arrives at the topic on one day: a rate by second, and how partitions share it.

Pure functions of a scenario and a random generator, so that today and the sessions before it come from the same model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eod_operator.scaling.sessions import EDGES_S
from eod_operator.simulate.scenario import Base, Burst, Hot, Outage, Scenario

Floats = NDArray[np.float64]

_NOISE_S = 20.0
"""Seconds over which the slow half of the noise changes."""
_U_POWER = 6
"""How flat noon is: the rate is x**6 between its edges."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Where a day lies in time."""

    open_s: float
    close_s: float | None
    until_s: float

    @property
    def seconds(self) -> int:
        """Whole seconds of the day; the last one may reach beyond its end."""
        return int(np.ceil(self.until_s - self.open_s))


@dataclass(frozen=True, slots=True)
class Print:
    """A burst with its place in time."""

    at_s: float
    burst: Burst
    factor: float = 1.0


def prints(scenario: Scenario, *, factor: float) -> list[Print]:
    """Today's bursts; `factor` applies to those that recur, which is what history can be wrong about."""
    return [Print(scenario.place(burst), burst, factor if burst.recurs else 1.0) for burst in scenario.traffic.bursts]


def base_rate(base: Base, clock: Clock, at_s: Floats) -> Floats:
    """The U: `edges` times the level at the open and at the close, `after` times from then on.

    On a day without a session everything is `after`, which is then the trickle of a closed market.
    """
    if clock.close_s is None:
        return np.full(at_s.shape, base.level * base.after)
    place = np.clip((at_s - clock.open_s) / (clock.close_s - clock.open_s), 0, 1)
    shape: Floats = 1 + (base.edges - 1) * (2 * place - 1) ** _U_POWER
    return base.level * np.where(at_s < clock.close_s, shape, base.after)


def burst_shape(since_s: Floats, rise_s: float, decay_s: float) -> Floats:
    """0 before the print, rising to 1 within `rise_s`, then an exponential with time constant `decay_s`."""
    rising = np.clip(since_s / rise_s, 0, 1)
    return np.where(since_s < rise_s, rising, np.exp(-np.maximum(since_s - rise_s, 0) / decay_s))


def produced(base: Base, bursts: list[Print], clock: Clock, random: np.random.Generator) -> Floats:
    """Records produced until each second of one day: `clock.seconds` + 1 numbers, beginning with 0."""
    middle_s: Floats = clock.open_s + np.arange(clock.seconds, dtype=np.float64) + 0.5
    rate = base_rate(base, clock, middle_s)
    for one in bursts:
        peak = one.burst.peak * one.factor * random.lognormal(0, one.burst.spread)
        decay_s = one.burst.decay_s * random.lognormal(0, one.burst.spread / 2)
        start_s = one.at_s + random.uniform(0, one.burst.late_s)
        rate += peak * burst_shape(middle_s - start_s, one.burst.rise_s, decay_s)
    rate *= _noise(base.noise, clock.seconds, random)
    return np.concatenate(([0.0], np.cumsum(rate)))


def _noise(sigma: float, seconds: int, random: np.random.Generator) -> Floats:
    """Lognormal noise of mean 1; half of its variance is new each second, half changes over some seconds."""
    if sigma == 0:
        return np.ones(seconds)
    knots = random.standard_normal(int(seconds / _NOISE_S) + 2)
    slow = np.interp(np.arange(seconds) / _NOISE_S, np.arange(len(knots)), knots)
    quick = random.standard_normal(seconds)
    noise: Floats = np.exp(sigma / np.sqrt(2) * (slow + quick) - sigma**2 / 2)
    return noise


def shares(scenario: Scenario, random: np.random.Generator) -> Floats:
    """The share of each partition: symbols with Zipf weights, hashed."""
    weights = np.arange(1, scenario.traffic.symbols + 1, dtype=np.float64) ** -scenario.traffic.zipf
    places = random.integers(scenario.group.partitions, size=scenario.traffic.symbols)
    by_partition = np.bincount(places, weights / weights.sum(), scenario.group.partitions)
    return np.asarray(by_partition, dtype=np.float64)


def appended(total: Floats, clock: Clock, outages: tuple[tuple[float, Outage], ...]) -> Floats:
    """The log's curve: nothing is appended while the broker is away, then the buffers empty evenly over `flush_s`."""
    at_s = clock.open_s + np.arange(len(total))
    for from_s, outage in outages:
        back_s = from_s + outage.for_s
        level = np.interp(from_s, at_s, total)
        flushed = np.interp(back_s + outage.flush_s, at_s, total)
        caught_up = level + (flushed - level) * np.clip((at_s - back_s) / outage.flush_s, 0, 1)
        total = np.where((at_s > from_s) & (at_s < back_s + outage.flush_s), caught_up, total)
    return total


def by_partition(total: Floats, share: Floats, clock: Clock, hot: list[tuple[float, Hot, int]]) -> Floats:
    """Split a cumulative curve among partitions: [seconds + 1, partitions]; hot symbols draw from all."""
    rate = np.diff(total)
    split = np.repeat(share[None, :], len(rate), axis=0)
    middle_s = clock.open_s + np.arange(len(rate)) + 0.5
    for from_s, one, partition in hot:
        within = (middle_s >= from_s) & (middle_s < from_s + one.for_s)
        split[within] *= 1 - one.share
        split[within, partition] += one.share
    arrived = np.zeros((len(total), len(share)))
    np.cumsum(rate[:, None] * split, axis=0, out=arrived[1:])
    return arrived


def recorded_rates(total: Floats, open_s: float, close_s: float) -> tuple[float | None, ...]:
    """Mean rates in the bins of a recorded session; None for bins that the day does not reach."""
    edges_s = close_s + np.asarray(EDGES_S)
    at_s = open_s + np.arange(len(total))
    rates = np.diff(np.interp(edges_s, at_s, total)) / np.diff(edges_s)
    watched = (edges_s[:-1] >= at_s[0]) & (edges_s[1:] <= at_s[-1])
    return tuple(float(rate) if seen else None for rate, seen in zip(rates, watched, strict=True))


def outlying(bursts: list[Print], factor: float) -> list[Print]:
    """The same prints, each so many times as large."""
    return [replace(one, factor=one.factor * factor) for one in bursts]
