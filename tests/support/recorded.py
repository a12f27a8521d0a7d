"""Recorded sessions of a made-up market: a quiet day, and a burst at the close that falls off over minutes."""

from __future__ import annotations

import itertools
import math
import random

from eod_operator.scaling.sessions import EDGES_S, RecordedSession

FIRST_CLOSE_S = 1_780_000_000.0
DAY_S = 86_400.0
BASE_PER_S, BURST_PER_S, DECAY_S = 40.0, 510.0, 120.0


def session(
    day: int = 0,
    *,
    scale: float = 1.0,
    burst: float = 1.0,
    early_s: float = 0.0,
    noise: float = 0.0,
    event: str = "",
) -> RecordedSession:
    """One session; its day is the seed of its noise.

    Args:
        day: days after the first close.
        scale: how many times the usual volume, the whole day.
        burst: the same of the burst alone.
        early_s: how long before the close the burst begins.
        noise: standard deviation of each bin's logarithm.
        event: its kind.
    """
    chance = random.Random(day)
    rates = []
    for begin_s, end_s in itertools.pairwise(EDGES_S):
        since_s = (begin_s + end_s) / 2 + early_s
        burst_per_s = BURST_PER_S * burst * math.exp(-since_s / DECAY_S) if since_s > 0 else 0.0
        rates.append((BASE_PER_S + burst_per_s) * scale * math.exp(chance.gauss(0.0, noise)))
    return RecordedSession(FIRST_CLOSE_S + day * DAY_S, tuple(rates), event)


def sessions(count: int, *, spread: float = 0.0, noise: float = 0.0, seed: int = 0) -> list[RecordedSession]:
    """Many, whose volumes differ by `spread` (standard deviation of the logarithm)."""
    chance = random.Random(seed)
    return [session(day, scale=math.exp(chance.gauss(0.0, spread)), noise=noise) for day in range(count)]
