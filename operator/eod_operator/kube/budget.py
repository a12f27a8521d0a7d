"""A budget of requests: so many a second, with a reserve to burst from (the scheme of client-go's flow control)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PER_SECOND = 100.0
BURST = 300.0


class Budget:
    """A token bucket: `take` waits for a token; whoever can wait for later asks `plenty` first."""

    def __init__(
        self, per_s: float = PER_SECOND, burst: float = BURST, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._tokens = burst
        self._at_s = clock()

    @property
    def plenty(self) -> bool:
        """Whether more than half of the reserve is left."""
        self._refill()
        return self._tokens > self._burst / 2

    async def take(self) -> None:
        """Take one token; wait for it when there is none."""
        self._refill()
        self._tokens -= 1
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._per_s)

    def _refill(self) -> None:
        now_s = self._clock()
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
