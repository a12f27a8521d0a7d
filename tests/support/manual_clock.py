"""A clock that moves only when a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools

_NS_PER_S = 1_000_000_000
_TURNS_PER_STEP = 25  # event-loop turns given to what a step woke, before time moves on


class ManualClock:
    """Stands still until `advance` moves it; whoever sleeps wakes when its time has come."""

    def __init__(self, start_ns: int = 0) -> None:
        self._start_ns = start_ns
        self._elapsed_ns = 0
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap: deadline, order of arrival, sleeper

    def now_ns(self) -> int:
        """Wall clock in nanoseconds since the Unix epoch."""
        return self._start_ns + self._elapsed_ns

    def monotonic(self) -> float:
        """Seconds since this clock was made."""
        return self._elapsed_ns / _NS_PER_S

    @property
    def sleepers(self) -> int:
        """How many tasks are asleep."""
        return sum(not sleeper.done() for _, _, sleeper in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Waits until the clock has been advanced by `seconds`; without any to wait, other tasks get one turn."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        sleeper = asyncio.get_running_loop().create_future()
        deadline_ns = self._elapsed_ns + round(seconds * _NS_PER_S)
        heapq.heappush(self._sleepers, (deadline_ns, next(self._order), sleeper))
        await sleeper

    async def advance(self, seconds: float) -> None:
        """Moves time on, stopping at every deadline on the way so that what it wakes runs at that time.

        A task that sleeps again within the span is woken again. What a woken task waits for besides this clock is
        not waited for.

        Raises:
            ValueError: time does not go backwards.
        """
        if seconds < 0:
            raise ValueError(f"cannot advance by {seconds} s: time does not go backwards")
        end_ns = self._elapsed_ns + round(seconds * _NS_PER_S)
        await _give_turns()  # tasks that are about to sleep fall asleep at the present time
        while self._sleepers and self._sleepers[0][0] <= end_ns:
            deadline_ns, _, sleeper = heapq.heappop(self._sleepers)
            if sleeper.done():  # cancelled
                continue
            self._elapsed_ns = max(self._elapsed_ns, deadline_ns)
            sleeper.set_result(None)
            await _give_turns()
        self._elapsed_ns = max(self._elapsed_ns, end_ns)


async def _give_turns() -> None:
    for _ in range(_TURNS_PER_STEP):
        await asyncio.sleep(0)
