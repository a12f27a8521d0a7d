"""Waiting for what must come: every wait is for a condition, ends as soon as it holds, and has a generous limit.

How fast a machine is decides nothing here: all limits grow by the factor in `EOD_PATIENCE` (1 if it is not set; `.ci/run`
sets 3). A limit that runs out means that the condition will not come.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable

FACTOR = float(os.environ.get("EOD_PATIENCE") or 1)
USUAL_S = 45.0
_LOOK_S = 0.1
_SOON_LOOK_S = 0.01


def limit_s(seconds: float) -> float:
    """A limit for a machine of this run's patience, in seconds."""
    return seconds * FACTOR


def limited(seconds: float) -> asyncio.Timeout:
    """`asyncio.timeout` with a limit that this run's patience scales."""
    return asyncio.timeout(limit_s(seconds))


async def within(seconds: float, awaited: Awaitable[object]) -> None:
    """Wait for something of one's own that must end, at most `seconds` of a machine of this run's patience."""
    async with limited(seconds):
        await awaited


def eventually(
    holds: Callable[[], object], within_s: float = USUAL_S, *, why: Callable[[], object] | None = None
) -> None:
    """Ask again until the answer is truthy; when it never is, the failure is what `why` says, or the last answer or error.

    Raises:
        AssertionError: it was not so within the limit.
    """
    deadline = time.monotonic() + limit_s(within_s)
    while True:
        try:
            answer: object = holds()
        except Exception as error:  # noqa: BLE001 - an object that is not there yet is one more "not yet"
            answer = error
        if answer and not isinstance(answer, Exception):
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit_s(within_s):g} s: {why() if why else repr(answer)}")
        time.sleep(_LOOK_S)


def eventually_nothing(unmet: Callable[[], object], within_s: float = USUAL_S, *, look_s: float = _LOOK_S) -> None:
    """Ask again what is still unmet, every `look_s`, until it is nothing; what it was last is the failure.

    Raises:
        AssertionError: something was left at the limit.
    """
    deadline = time.monotonic() + limit_s(within_s)
    while what := unmet():
        assert time.monotonic() < deadline, f"still so after {limit_s(within_s):g} s: {what}"
        time.sleep(look_s)


async def soon(holds: Callable[[], object], what: str = "", within_s: float = USUAL_S) -> None:
    """`eventually` for a condition that tasks of this event loop bring about; an error in `holds` is an error.

    Raises:
        AssertionError: it was not so within the limit.
    """
    try:
        async with limited(within_s):
            while not holds():  # noqa: ASYNC110 - there is no event for what tests look at
                await asyncio.sleep(_SOON_LOOK_S)
    except TimeoutError:
        raise AssertionError(f"not within {limit_s(within_s):g} s: {what or holds()!r}") from None


def steadily(holds: Callable[[], object], for_s: float = 3.0) -> None:
    """Ask again for a while, and fail at the first falsy answer: for what must *not* come.

    The while is not scaled: a slow machine sees less of what would go wrong, and never fails what is right.
    """
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        assert holds()
        time.sleep(_LOOK_S)
