"""How much a run plays of what could be played for ever: a share in `make test`, all of it in `make test-slow`."""

from __future__ import annotations

import os
from typing import Any

import pytest

EXAMPLES = int(os.environ.get("EOD_EXAMPLES") or 100)
"""Of each property that does not name a number itself, and per cent of those that do."""
_QUICK_SHARE = 4


def examples(full: int) -> int:
    """How many examples of a property are drawn, where `make test-slow` draws `full`."""
    return max(1, full * EXAMPLES // 100)


def seeds(full: int) -> list[Any]:
    """The seeds 0, 1, … to parametrize a test with: `full` of them, of which a quarter is not slow."""
    return [pytest.param(seed, marks=[pytest.mark.slow] * (seed >= full // _QUICK_SHARE)) for seed in range(full)]
