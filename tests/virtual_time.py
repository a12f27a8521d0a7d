"""An event loop whose time jumps to the next thing that happens: minutes of waiting pass in milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Leaping(selectors.DefaultSelector):
    """Waits for nothing: what it was asked to wait is what the time leaps by."""

    leap: Callable[[float], None]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing will ever happen: every task waits for another")
        self.leap(timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """One that calls `look` whenever its callbacks of one moment have run."""

    def __init__(self, look: Callable[[], None]) -> None:
        selector = _Leaping()
        selector.leap = self._leap
        self._now_s = 1_000.0
        self._look = look
        super().__init__(selector)

    def time(self) -> float:
        return self._now_s

    def _leap(self, seconds: float) -> None:
        self._look()
        self._now_s += max(0.0, seconds)


def virtually(main: Coroutine[Any, Any, Result], look: Callable[[], None] = lambda: None) -> Result:
    """Run to the end in virtual time, with a look at the world between any two steps."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(look)) as runner:
        return runner.run(main)


def now() -> float:
    """The virtual time, in seconds; a clock for what is tested."""
    return asyncio.get_running_loop().time()
