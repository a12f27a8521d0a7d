"""A whole close on a clock that leaps: the same seed does the same, and whoever is killed, nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import virtual_close
from support.amounts import slow_but
from support.virtual_close import Closed, close, options_of

CRASHED = ("flash-pnl", "regulatory", "archive", "dead-letters")
SEEDS = range(1, 13)


def crash_at_s(seed: int) -> float:
    """A moment of its own for each seed, from the ramp to the tail."""
    return 1.3 + (seed * 0.618) % 1 * 1.5


def check(closed: Closed, how: str) -> None:
    """All that was sent is where it belongs, once."""
    found = closed.result.reconciliation
    said = "\n".join(
        [*closed.result.problems, *found.named, f"again: PYTHONPATH=tests python -m support.virtual_close {how}"]
    )
    assert closed.result.ok, said
    assert closed.replaced_after_s is not None, "the only worker was killed, and has no successor"
    assert found.sent == found.stored_rows == found.traded > 350
    assert min(found.garbled, found.duplicates, found.exceptions, found.dead_lettered) > 0, "nothing was injected"


@pytest.fixture(scope="module")
def first() -> Closed:
    return close(options_of(1), crash="flash-pnl", crash_at_s=1.8)


def test_the_same_seed_gives_the_same_bytes_in_every_store_and_log(first: Closed) -> None:
    check(first, "1 --crash flash-pnl")
    second = close(options_of(1), crash="flash-pnl", crash_at_s=1.8)
    for line, other in zip(first.transcript, second.transcript, strict=True):
        assert line == other
    assert any("'stage.assigned'" in line for line in first.transcript), "what was logged is part of it"


def test_another_seed_does_something_else(first: Closed) -> None:
    other_seed = close(options_of(2), crash="flash-pnl", crash_at_s=1.8)
    assert other_seed.digest != first.digest


@pytest.mark.slow
def test_the_hashes_of_a_process_change_nothing() -> None:
    """What is in no order must not decide the order of anything."""
    digests = {
        subprocess.run(
            [sys.executable, "-m", "support.virtual_close", "1", "--crash", "regulatory"],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(virtual_close.__file__).parents[1])},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(digests) == 1


@pytest.mark.parametrize("seed", slow_but([1], SEEDS))
@pytest.mark.parametrize("crash", CRASHED)
def test_whoever_is_killed_and_whenever_nothing_is_lost_and_nothing_counts_twice(crash: str, seed: int) -> None:
    at = crash_at_s(seed)
    closed = close(options_of(seed), crash=crash, crash_at_s=at)
    check(closed, f"{seed} --crash {crash} --at {at}")
