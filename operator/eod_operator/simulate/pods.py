"""Pods of one Deployment for a batch of days: asked for, starting, ready, gone.

A pod lives in a slot. Which pods a scale-down ends follows the ReplicaSet controller: those that are not ready before
those that are, and of those the ones that have been ready for the shortest time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eod_operator.simulate.traffic import Floats

Bools = NDArray[np.bool_]


class Pods:
    """State of all rows; a row is one policy's day of one seed."""

    def __init__(
        self, start_s: Floats, speed: Floats, slots: int, initial: int, now_s: float, beat_s: float = 0
    ) -> None:
        """The day begins with `initial` pods that are ready and consume.

        Args:
            start_s: [rows, draws], how long each next pod takes.
            speed: [rows, draws], how fast it is.
            slots: most pods at a time.
            initial: at the beginning.
            now_s: when the day begins.
            beat_s: pods join a group that others are in when the time is a multiple of this; 0 is at once.
        """
        rows = len(start_s)
        self._beat_s = beat_s
        self._start_s, self._speed = start_s, speed
        self.asked: Bools = np.zeros((rows, slots), dtype=bool)
        self.member: Bools = np.zeros((rows, slots), dtype=bool)
        self.ready_at_s = np.full((rows, slots), np.inf)
        self.speed = np.zeros((rows, slots))
        self.drawn = [0] * rows
        self.ended = [0] * rows
        self.next_s = np.inf
        for row in range(rows):
            self.add(row, initial, now_s)
        self.ready_at_s[self.asked] = now_s
        self.member |= self.asked
        self.next_s = np.inf

    def add(self, row: int, count: int, now_s: float) -> None:
        """Start pods in free slots, the lowest first."""
        free = np.flatnonzero(~self.asked[row])[:count]
        draws = (self.drawn[row] + np.arange(len(free))) % self._start_s.shape[1]
        self.drawn[row] += len(free)
        self.asked[row, free] = True
        come_s = now_s + self._start_s[row, draws]
        if self._beat_s > 0 and self.member[row].any():
            come_s = np.ceil(come_s / self._beat_s) * self._beat_s
        self.ready_at_s[row, free] = come_s
        self.speed[row, free] = self._speed[row, draws]
        if len(free):
            self.next_s = min(self.next_s, float(self.ready_at_s[row, free].min()))

    def end(self, row: int, count: int) -> bool:
        """End pods; returns whether any of them was in the group."""
        slots = np.flatnonzero(self.asked[row])
        # Pods that are not ready have their readiness in the future, so one order serves for both rules.
        order = slots[np.lexsort((-slots, -self.ready_at_s[row, slots]))][:count]
        was_in = bool(self.member[row, order].any())
        self.asked[row, order] = False
        self.member[row, order] = False
        self.ready_at_s[row, order] = np.inf
        self.speed[row, order] = 0
        self.ended[row] += len(order)
        return was_in

    def join(self, now_s: float) -> list[int]:
        """Pods that are ready by now become members; returns the rows that have new ones."""
        if now_s < self.next_s:
            return []
        come = self.asked & ~self.member & (self.ready_at_s <= now_s)
        self.member |= come
        waiting = self.asked & ~self.member
        self.next_s = float(self.ready_at_s[waiting].min()) if waiting.any() else np.inf
        return [int(row) for row in np.flatnonzero(come.any(axis=1))]
