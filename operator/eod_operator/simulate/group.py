"""Who consumes what: assignments as Kafka's own assignors make them, and what a rebalance stops.

Eager (range): everybody gives up everything, the coordinator waits, and contiguous ranges are handed out; the whole
group stands still meanwhile and begins again at the committed offsets. Cooperative (sticky): only partitions that
move stand still. A member that comes while the coordinator still waits for others joins that rebalance; one that
comes after that begins the next, as in Kafka (PreparingRebalance and CompletingRebalance of its group coordinator).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.intp]

NOBODY = -1
WAITING = 0.9
"""The part of a rebalance's pause in which the coordinator still lets members join.

Members learn of a rebalance with their next heartbeat (heartbeat.interval.ms, 3 s unless said), and the coordinator
waits for all of them; handing out the assignment afterwards (SyncGroup) is a round trip or two.
"""


def by_range(members: list[int], partitions: int) -> list[int]:
    """Contiguous ranges in the order of the members; the first ones get one more when it does not divide."""
    if not members:
        return [NOBODY] * partitions
    each, more = divmod(partitions, len(members))
    owners: list[int] = []
    for index, member in enumerate(members):
        owners += [member] * (each + (index < more))
    return owners


def sticky(members: list[int], owners: list[int]) -> list[int]:
    """As balanced as ranges, with as few partitions moved as that takes."""
    if not members:
        return [NOBODY] * len(owners)
    each, more = divmod(len(owners), len(members))
    held: dict[int, list[int]] = {member: [] for member in members}
    free = []
    for partition, owner in enumerate(owners):
        if owner in held:
            held[owner].append(partition)
        else:
            free.append(partition)
    # Those who hold most keep one more, so that the odd partitions move least.
    ranked = sorted(members, key=lambda member: -len(held[member]))
    quota = {member: each + (rank < more) for rank, member in enumerate(ranked)}
    for member, mine in held.items():
        free += mine[quota[member] :]
        del mine[quota[member] :]
    waiting = iter(sorted(free))
    for member in members:
        while len(held[member]) < quota[member]:
            held[member].append(next(waiting))
    result = [NOBODY] * len(owners)
    for member, mine in held.items():
        for partition in mine:
            result[partition] = member
    return result


@dataclass(slots=True)
class Rebalance:
    """The last rebalance of one group, and the sums over all."""

    begun_s: float = -np.inf
    end_s: float = -np.inf
    before: tuple[int, ...] = ()
    moving: int = 0
    count: int = 0
    moved: int = 0

    def change(self, now_s: float, pause_s: float, before: list[int], after: list[int]) -> None:
        """Membership changed: join the rebalance that runs, or begin one."""
        if not (now_s < self.end_s and now_s <= self.begun_s + WAITING * (self.end_s - self.begun_s)):
            self.begun_s, self.end_s, self.before, self.moving = now_s, now_s + pause_s, tuple(before), 0
            self.count += 1
        self.moved -= self.moving
        self.moving = sum(
            old not in (new, NOBODY) or (old == NOBODY and new != NOBODY)
            for old, new in zip(self.before, after, strict=True)
        )
        self.moved += self.moving
