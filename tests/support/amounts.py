"""How much a run plays of what could be played for ever: a share in `make test`, all of it in `make test-slow`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pytest

EXAMPLES = int(os.environ.get("EOD_EXAMPLES") or 100)
"""Of each property that does not name a number itself, and per cent of those that do."""
_QUICK_SHARE = 4


def examples(full: int) -> int:
    """How many examples of a property are drawn, where `make test-slow` draws `full`."""
    return max(1, full * EXAMPLES // 100)


def seeds(full: int, *, quick: int | None = None) -> list[Any]:
    """The seeds 0, 1, … to parametrize a test with: `full` of them, of which `quick` (a quarter) are not slow."""
    return slow_but(range(full // _QUICK_SHARE if quick is None else quick), range(full))


def slow_but(quick: Iterable[Any], values: Iterable[Any]) -> list[Any]:
    """What to parametrize a test with that is the same for each value: `quick` in `make test`, the rest is slow."""
    chosen, given = list(quick), list(values)
    if unknown := [one for one in chosen if one not in given]:
        raise ValueError(f"{unknown} are not among {given}")
    return [pytest.param(one, marks=[pytest.mark.slow] * (one not in chosen)) for one in given]
