"""The machine's clock."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """The clock of this machine."""

    def now_ns(self) -> int:
        """Wall clock in nanoseconds since the Unix epoch."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Seconds of the running event loop, by which timeouts end, too; only differences mean anything."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Waits; other tasks run meanwhile."""
        await asyncio.sleep(seconds)
