"""An event loop whose time jumps to the next thing that happens: minutes of waiting pass in milliseconds.

Nothing runs beside it: what is handed to a thread is done at once, and answered a moment later. So whatever a run does,
it does again.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

Result = TypeVar("Result")
_BEGIN_S = 1_000.0
_ANSWER_S = 0.002
"""From what a thread was handed to its answer: meanwhile its caller may be gone."""


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
        self._now_s = _BEGIN_S
        self._look = look
        super().__init__(selector)

    def time(self) -> float:
        return self._now_s

    def run_in_executor(self, executor: Any, func: Callable[..., Result], *args: Any) -> asyncio.Future[Result]:  # type: ignore[override]
        del executor
        done: asyncio.Future[Result] = self.create_future()
        answer: Callable[[], None]
        try:
            answer = partial(done.set_result, func(*args))
        except Exception as error:  # noqa: BLE001 - it is the caller's
            answer = partial(done.set_exception, error)
        self.call_later(_ANSWER_S, lambda: done.cancelled() or answer())
        return done

    def _leap(self, seconds: float) -> None:
        self._look()
        self._now_s += max(0.0, seconds)


class VirtualClock:
    """The loop's time as a `ports.Clock`, which also says the time of day."""

    def __init__(self, start_ns: int) -> None:
        self._start_ns = start_ns

    def now_ns(self) -> int:
        """Wall clock in nanoseconds since the Unix epoch: `start_ns` when the loop begins."""
        return self._start_ns + round((now() - _BEGIN_S) * 1e9)

    def monotonic(self) -> float:
        """Seconds of the loop."""
        return now()

    async def sleep(self, seconds: float) -> None:
        """Wait; other tasks run meanwhile."""
        await asyncio.sleep(seconds)


def virtually(main: Coroutine[Any, Any, Result], look: Callable[[], None] = lambda: None) -> Result:
    """Run to the end in virtual time, with a look at the world between any two steps."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(look)) as runner:
        return runner.run(main)


def now() -> float:
    """The virtual time, in seconds; a clock for what is tested."""
    return asyncio.get_running_loop().time()
