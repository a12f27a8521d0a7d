"""Ports that tests draw: no two processes draw the same one, though neither has bound it yet."""

from __future__ import annotations

import os
from itertools import combinations

import pytest
from testbed import ports

WORKERS = ["", *(f"gw{number}" for number in range(8))]


def test_processes_draw_from_ranges_of_their_own() -> None:
    ranges = [set(ports.own_range(worker)) for worker in WORKERS]
    assert all(len(one) > 2_000 for one in ranges)
    assert not any(one & other for one, other in combinations(ranges, 2))
    assert min(map(min, ranges)) >= 10_000
    assert max(map(max, ranges)) < 30_000, "where Kubernetes' NodePorts begin"


@pytest.mark.parametrize("worker", WORKERS)
def test_what_is_drawn_is_ours_and_not_drawn_again(worker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
    drawn = [ports.free_port() for _ in range(50)]
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(ports.own_range(worker))


def test_where_all_are_drawn_those_that_are_free_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_handed_out", set(range(10_000, 30_000)))
    monkeypatch.setattr(ports, "_ATTEMPTS", 5)
    assert ports.free_port() in ports.own_range(os.environ.get("PYTEST_XDIST_WORKER", ""))
