"""What can be seen of the group: offsets as they were at the last look, which is some time ago.

Only committed offsets are seen. While the broker does not answer, the last look before it stays the newest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from eod_operator.simulate.scaler import Observation
from eod_operator.simulate.traffic import Floats
from eod_operator.simulate.world import World

RATES_S = 30.0
"""Rates are over so many seconds before a look."""

_TINY = 1e-9


class Sight:
    """Makes observations at the edges of steps."""

    def __init__(self, world: World, arrived: Floats) -> None:
        """Work out which look is known at each edge.

        Args:
            world: of the day.
            arrived: [edges, rows, partitions].
        """
        self._times_s, self._arrived = world.times_s, arrived
        times, sight = world.times_s, world.sight
        looked = np.floor((times - sight.delay_s - times[0]) / sight.scrape_s + 1e-9) * sight.scrape_s
        tried_s = times[0] + np.maximum(looked, 0)
        self._reachable = np.ones(len(times), dtype=bool)
        seen_s = tried_s.copy()
        for from_s, to_s in sorted(world.down, reverse=True):  # the latest first, so that joined ones fall through
            hidden = (seen_s >= from_s) & (seen_s < to_s)
            self._reachable &= ~((tried_s >= from_s) & (tried_s < to_s))
            before = np.ceil((from_s - times[0]) / sight.scrape_s - 1e-9) - 1
            seen_s[hidden] = times[0] + max(before, 0) * sight.scrape_s
        since_s = np.maximum(seen_s - RATES_S, times[0])
        self._seen_s, self._over_s = seen_s, seen_s - since_s
        self._step, self._part = _place(times, seen_s)
        self._since_step, self._since_part = _place(times, since_s)
        self._oldest = np.zeros(arrived.shape[1:], dtype=np.intp)
        self._rows = np.arange(arrived.shape[1])[:, None]
        self._partitions = np.arange(arrived.shape[2])[None, :]

    def look(
        self, edge: int, now_s: float, committed: Floats, current: Sequence[int], ready: NDArray[np.intp]
    ) -> Callable[[int], Observation]:
        """What each row's autoscaler may know at an edge: a function of the row.

        Args:
            edge: number of the edge.
            now_s: its time.
            committed: [edges, rows, partitions], filled up to this edge.
            current: replicas asked for, by row.
            ready: pods ready, by row.
        """
        end = self._at(self._arrived, edge)
        known = np.minimum(self._at(committed, edge), end)
        over_s = self._over_s[edge] or 1.0
        since = self._since_step[edge], self._since_part[edge]
        arrival = ((end - _between(self._arrived, *since)) / over_s).tolist()
        consumed = (np.maximum(known - _between(committed, *since), 0) / over_s).tolist()
        lags = (end - known).tolist()
        ends = end.tolist()
        ages = self._ages(known, end, float(self._seen_s[edge])).tolist()
        measured_at_s, reachable = float(self._seen_s[edge]), bool(self._reachable[edge])
        in_group = ready.tolist()

        def of(row: int) -> Observation:
            return Observation(
                now_s,
                measured_at_s,
                reachable,
                current[row],
                in_group[row],
                tuple(lags[row]),
                tuple(ages[row]),
                tuple(arrival[row]),
                tuple(consumed[row]),
                tuple(ends[row]),
            )

        return of

    def _at(self, curve: Floats, edge: int) -> Floats:
        return _between(curve, self._step[edge], self._part[edge])

    def _ages(self, known: Floats, end: Floats, at_s: float) -> Floats:
        """Age of the first record that is not committed; the search goes on where the last one ended."""
        arrived, rows, partitions = self._arrived, self._rows, self._partitions
        last = len(self._times_s) - 2
        while True:
            next_edge = np.minimum(self._oldest + 1, last)
            on = (arrived[next_edge, rows, partitions] <= known) & (self._oldest < last)
            if not on.any():
                break
            self._oldest += on
        below = arrived[self._oldest, rows, partitions]
        above = arrived[self._oldest + 1, rows, partitions]
        part = (known - below) / np.where(above > below, above - below, 1.0)
        begun_s = self._times_s[self._oldest] + np.clip(part, 0, 1) * (
            self._times_s[self._oldest + 1] - self._times_s[self._oldest]
        )
        return np.where(end - known > _TINY, np.maximum(at_s - begun_s, 0.0), 0.0)


def _place(times: Floats, at_s: Floats) -> tuple[list[int], list[float]]:
    """Step that each time lies in, and how far into it."""
    step = np.clip(np.searchsorted(times, at_s + 1e-9, side="right") - 1, 0, len(times) - 2)
    part = np.clip((at_s - times[step]) / (times[step + 1] - times[step]), 0, 1)
    return step.tolist(), part.tolist()


def _between(curve: Floats, step: int, part: float) -> Floats:
    if part == 0:
        low: Floats = curve[step]
        return low
    mixed: Floats = curve[step] + part * (curve[step + 1] - curve[step])
    return mixed
