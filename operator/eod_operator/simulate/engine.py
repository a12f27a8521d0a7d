"""Plays days: all seeds, and several policies, at once, each row alone with its own autoscaler.

State is in arrays [rows, partitions], a row being one policy's day of one seed. Within a step records flow evenly; a
pod joins, offsets are looked at and decisions are made at the edges of steps, while commits, pauses and outages keep
their own times inside them. A row's numbers do not depend on the rows beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eod_operator.simulate.flow import fair
from eod_operator.simulate.group import NOBODY, Rebalance, by_range, sticky
from eod_operator.simulate.pods import Pods
from eod_operator.simulate.scaler import Policy
from eod_operator.simulate.sight import Sight
from eod_operator.simulate.traffic import Floats
from eod_operator.simulate.world import DRIFT_S, World

_TINY = 1e-9
"""Records, or parts of a step: less than this is a rounding error."""
_TINY_S = 1e-6
"""The same for epoch seconds, which have fewer digits to spare."""


class PolicyError(ValueError):
    """An autoscaler answered something that is not a number of replicas."""


@dataclass(frozen=True, slots=True)
class Day:
    """What happened to one seed under one policy.

    Attributes:
        policy: its name.
        seed: of the day.
        times_s: edges of the steps.
        arrived: [edges, partitions], records in the log.
        done: [edges, partitions], records processed at least once: every record before this one.
        asked: [steps], replicas that the Deployment asked for.
        members: [steps], replicas in the group.
        owners: [steps, partitions], slot of the replica that owns it, -1 for nobody.
        hidden_s: longest pause of a rebalance that began and was caught up within one (coarse) step, so that the curves
            do not show it.
        hidden_s2: integral of the lag-seconds of all such pauses.
        changes: how often the asked-for replicas changed.
        ended: pods that were ended.
        rebalances: how many began.
        moved: partitions that changed hands in them.
    """

    policy: str
    seed: int
    times_s: Floats
    arrived: Floats
    done: Floats
    asked: NDArray[np.int32]
    members: NDArray[np.int32]
    owners: NDArray[np.int32]
    hidden_s: float
    hidden_s2: float
    changes: int
    ended: int
    rebalances: int
    moved: int


def play(world: World, policies: Sequence[Policy]) -> list[list[Day]]:
    """Play the day of each seed with each policy: one list of days for each policy, in the order of the seeds.

    Raises:
        PolicyError: an autoscaler answered nonsense.
    """
    return _Run(world, policies).go()


class _Run:
    def __init__(self, world: World, policies: Sequence[Policy]) -> None:
        self.world, self.policies = world, policies
        self.seeds, copies = len(world.seeds), len(policies)
        self.rows = self.seeds * copies
        self.scalers = [policy.scaler(setting) for policy in policies for setting in world.settings]
        group = world.group
        self.partitions, self.slots = group.partitions, max(group.max, 1)
        self.arrived = np.tile(world.arrived, (1, copies, 1)) if copies > 1 else world.arrived
        self.drift = np.tile(world.drift, (copies, 1, 1))
        self.pods = Pods(
            np.tile(world.start_s, (copies, 1)),
            np.tile(world.speed, (copies, 1)),
            self.slots,
            group.min,
            float(world.times_s[0]),
            group.beat_s,
        )
        shape = (self.rows, self.partitions)
        self.at = np.zeros(shape)  # where consumers read on
        self.done = np.zeros(shape)
        self.committed = np.zeros(shape)
        self.blocked_s = np.full(shape, -np.inf)
        self.last_block_s = -math.inf
        self.owner = np.array(
            [by_range([int(slot) for slot in np.flatnonzero(row)], self.partitions) for row in self.pods.member]
        )
        self.rebalances = [Rebalance() for _ in range(self.rows)]
        self.asked_s = [float(world.times_s[0])] * self.rows  # when each scaler is asked next
        self.asked = [group.min] * self.rows
        self.changes = [0] * self.rows
        self.sight = Sight(world, self.arrived)
        self.span = -1
        self.hidden_s, self.hidden_s2 = np.zeros(self.rows), np.zeros(self.rows)
        self.crawls = [
            (crawl.from_s, crawl.to_s, crawl.per_s, np.tile(crawl.partition, copies)) for crawl in world.crawls
        ]

    def go(self) -> list[list[Day]]:
        times = self.world.times_s
        steps = len(times) - 1
        done = np.zeros((steps + 1, self.rows, self.partitions))
        committed = np.zeros_like(done)
        asked = np.zeros((steps, self.rows), dtype=np.int32)
        members = np.zeros((steps, self.rows), dtype=np.int32)
        owners = np.zeros((steps, self.rows, self.partitions), dtype=np.int32)
        edges = times.tolist()
        up = self._up().tolist()
        commits = self._commits()
        self._refresh(edges[0])
        in_group = self.pods.member.sum(axis=1)
        for step in range(steps):
            now = edges[step]
            changed = self._join(now)
            changed |= self._decide(step, now, committed)
            if changed or int((now - edges[0]) // DRIFT_S) != self.span:
                self._refresh(now)
                in_group = self.pods.member.sum(axis=1)
            asked[step], members[step], owners[step] = self.asked, in_group, self.owner
            self._flow(step, now, edges[step + 1], up[step], commits[step])
            done[step + 1], committed[step + 1] = self.done, self.committed
        return self._days(done, asked, members, owners)

    def _up(self) -> Floats:
        """The part of each step in which the broker answers."""
        times, down = self.world.times_s, np.zeros(len(self.world.times_s) - 1)
        for from_s, to_s in self.world.down:
            down += np.maximum(np.minimum(times[1:], to_s) - np.maximum(times[:-1], from_s), 0)
        part: Floats = 1 - down / np.diff(times)
        return part

    def _commits(self) -> Floats:
        """[steps, rows, 1]: which part of a step lies before its last commit; negative without a commit."""
        times, every_s = self.world.times_s, self.world.group.commit_s
        phase = np.tile(self.world.phase_s, len(self.policies))[None, :]
        since = times[1:, None] - times[0] - phase
        last_s = times[0] + phase + np.floor(since / every_s + 1e-9) * every_s
        part: Floats = (last_s - times[:-1, None]) / np.diff(times)[:, None]
        return np.where(part > 0, np.minimum(part, 1.0), -1.0)[:, :, None]

    def _join(self, now: float) -> bool:
        rows = self.pods.join(now)
        for row in rows:
            self._reassign(row, now)
        return bool(rows)

    def _decide(self, step: int, now: float, committed: Floats) -> bool:
        due = [row for row, at in enumerate(self.asked_s) if at <= now + _TINY_S]
        if not due:
            return False
        seen = self.sight.look(step, now, committed, self.asked, (self.pods.asked & self.pods.member).sum(axis=1))
        changed = False
        for row in due:
            scaler = self.scalers[row]
            wish = scaler.replicas(seen(row))
            if type(wish) is not int or wish < 0:
                raise PolicyError(self._nonsense(row, now, wish))
            period_s = scaler.period_s
            self.asked_s[row] += period_s * max(1, math.floor((now - self.asked_s[row]) / period_s) + 1)
            wish = min(max(wish, self.world.group.min), self.world.group.max)
            if wish != self.asked[row]:
                self._resize(row, wish, now)
                changed = True
        return changed

    def _nonsense(self, row: int, now: float, wish: object) -> str:
        policy, seed = self.policies[row // self.seeds].name, self.world.seeds[row % self.seeds]
        after_s = now - self.world.times_s[0]
        return (
            f"policy {policy!r} answered {wish!r} {after_s:g} s after the day began (scenario {self.world.name}, seed "
            f"{seed}): a scaler's replicas() must return an int that is not negative"
        )

    def _resize(self, row: int, wish: int, now: float) -> None:
        more = wish - self.asked[row]
        self.asked[row] = wish
        self.changes[row] += 1
        if more > 0:
            self.pods.add(row, more, now)
        elif self.pods.end(row, -more):
            self._reassign(row, now)

    def _reassign(self, row: int, now: float) -> None:
        """Members changed: a rebalance. What begins anew begins at its committed offset."""
        group, change = self.world.group, self.rebalances[row]
        members = [int(slot) for slot in np.flatnonzero(self.pods.member[row])]
        before = self.owner[row].tolist()
        after = by_range(members, self.partitions) if group.protocol == "eager" else sticky(members, before)
        change.change(now, group.pause_s, before, after)
        stopped = np.ones(self.partitions, dtype=bool)
        if group.protocol == "cooperative":
            stopped = np.array(after) != self.owner[row]
        self.owner[row] = after
        self.at[row, stopped] = self.committed[row, stopped]
        self.blocked_s[row, stopped] = change.end_s
        self.last_block_s = max(self.last_block_s, change.end_s)

    def _refresh(self, now: float) -> None:
        """Speeds by slot and by partition, after a change of pods, owners or minute."""
        self.span = int((now - self.world.times_s[0]) // DRIFT_S)
        span = min(self.span, self.drift.shape[1] - 1)
        per_s = self.world.per_s * self.pods.speed * self.drift[:, span, :] * self.pods.member
        self.slot_per_s = per_s.ravel()
        rows = np.arange(self.rows)[:, None]
        self.key = (rows * self.slots + np.maximum(self.owner, 0)).ravel()
        self.per_s = np.where(self.owner == NOBODY, 0.0, self.slot_per_s[self.key].reshape(self.owner.shape))

    def _flow(self, step: int, now: float, end: float, up: float, commit: Floats) -> None:
        span = (end - now) * up
        can = self.per_s * span
        capacity = self.slot_per_s * span
        if now < self.last_block_s:
            active = np.clip((end - self.blocked_s) / (end - now), 0.0, 1.0)
            can *= active
            most = np.zeros_like(capacity)
            np.maximum.at(most, self.key, active.ravel())
            capacity = capacity * most
        for from_s, to_s, per_s, partition in self.crawls:
            within = min(end, to_s) - max(now, from_s)
            if within > 0:
                rows = np.arange(self.rows)
                usual = self.per_s[rows, partition] * (end - now - within)
                can[rows, partition] = np.minimum(can[rows, partition], usual + per_s * within)
        want = np.minimum(self.arrived[step + 1] - self.at, can)
        taken = fair(want.ravel(), self.key, capacity).reshape(want.shape)
        if now < self.last_block_s:
            self._hide(step, now, end, self.at + taken)
        self.committed = np.where(commit >= 0, self.at + taken * commit, self.committed)
        self.at += taken
        # The log's own number, so that what is drained is drained to the last bit.
        self.at = np.where(self.arrived[step + 1] - self.at < _TINY, self.arrived[step + 1], self.at)
        self.done = np.maximum(self.done, self.at)

    def _hide(self, step: int, now: float, end: float, then: Floats) -> None:
        """Account for pauses that begin and are caught up within a step.

        Lag-seconds rise to the pause's length and then fall as the replica works off what came in meanwhile: with rates
        of arrival a and service s, a triangle of pause * s / (s - a) seconds.
        """
        pause_s = np.clip(self.blocked_s - now, 0.0, end - now)
        caught_up = (self.arrived[step] - self.done < _TINY) & (self.arrived[step + 1] - then < _TINY)
        pause_s = np.where(caught_up & (pause_s < end - now), pause_s, 0.0)
        came = (self.arrived[step + 1] - self.arrived[step]).ravel() / (end - now)
        arrival = np.bincount(self.key, came, len(self.slot_per_s))[self.key].reshape(pause_s.shape)
        spare = np.maximum(self.per_s - arrival, _TINY)
        # No longer than the step, in which it was caught up.
        length_s = np.minimum(pause_s * self.per_s / spare, end - now)
        self.hidden_s = np.maximum(self.hidden_s, pause_s.max(axis=1))
        self.hidden_s2 += (pause_s * length_s / 2).max(axis=1)

    def _days(
        self, done: Floats, asked: NDArray[np.int32], members: NDArray[np.int32], owners: NDArray[np.int32]
    ) -> list[list[Day]]:
        return [
            [
                Day(
                    policy=policy.name,
                    seed=seed,
                    times_s=self.world.times_s,
                    arrived=self.world.arrived[:, place],
                    done=done[:, row],
                    asked=asked[:, row],
                    members=members[:, row],
                    owners=owners[:, row],
                    hidden_s=float(self.hidden_s[row]),
                    hidden_s2=float(self.hidden_s2[row]),
                    changes=self.changes[row],
                    ended=self.pods.ended[row],
                    rebalances=self.rebalances[row].count,
                    moved=self.rebalances[row].moved,
                )
                for place, seed in enumerate(self.world.seeds)
                for row in (index * self.seeds + place,)
            ]
            for index, policy in enumerate(self.policies)
        ]
