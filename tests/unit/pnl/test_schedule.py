"""When snapshots are due."""

from __future__ import annotations

import pytest
from eod_workers.pnl.schedule import PATIENCE, SMALL_BYTES, TIMES, SnapshotSchedule
from hypothesis import given
from hypothesis import strategies as st

INTERVAL_S = 5.0
LARGE = SMALL_BYTES + 1


@pytest.mark.parametrize(
    ("size", "read", "elapsed_s", "due"),  # due: how many times
    [
        (0, 0, 1e9, 0),  # nothing is new
        (LARGE, 0, 1e9, 0),
        (0, 1, INTERVAL_S - 0.001, 0),
        (0, 1, INTERVAL_S, 1),
        (SMALL_BYTES, 1, INTERVAL_S, 1),
        (LARGE, 1, INTERVAL_S, 0),
        (LARGE, TIMES * LARGE - 1, INTERVAL_S, 0),
        (LARGE, TIMES * LARGE, INTERVAL_S, 1),
        (LARGE, TIMES * LARGE, INTERVAL_S - 0.001, 0),
        (LARGE, 1, PATIENCE * INTERVAL_S - 0.001, 0),
        (LARGE, 1, PATIENCE * INTERVAL_S, 1),
    ],
)
def test_a_snapshot_is_due_when_it_is_worth_it_or_has_waited_long(
    size: int, read: int, elapsed_s: float, due: int
) -> None:
    schedule = SnapshotSchedule(INTERVAL_S)
    schedule.opened(3, size, 100.0)
    if read:
        schedule.read(3, read)
    assert schedule.due(100.0 + elapsed_s) == [3] * due
    assert schedule.changed() == [3] * bool(read)


def test_the_oldest_snapshot_is_due_first() -> None:
    schedule = SnapshotSchedule(INTERVAL_S)
    for partition, at in ((1, 30.0), (2, 10.0), (0, 20.0)):
        schedule.opened(partition, 0, at)
        schedule.read(partition, 1)
    assert schedule.due(100.0) == [2, 0, 1]
    schedule.taken(2, 10, 100.0)
    assert schedule.due(100.0) == [0, 1]
    assert schedule.changed() == [0, 1]


def test_a_snapshot_that_was_lost_is_due_at_once_even_if_nothing_has_come_since() -> None:
    schedule = SnapshotSchedule(INTERVAL_S)
    schedule.opened(0, LARGE, 0.0)
    schedule.read(0, 1)
    schedule.taken(0, LARGE, 1.0)
    assert not schedule.changed()
    schedule.failed(0)
    assert schedule.due(1.0) == schedule.changed() == [0]
    schedule.taken(0, LARGE, 1.0)
    schedule.read(0, 1)
    assert schedule.due(1.0) == []


def test_a_record_without_bytes_is_a_change_too_and_a_partition_that_is_gone_is_never_due() -> None:
    schedule = SnapshotSchedule(INTERVAL_S)
    schedule.opened(0, 0, 0.0)
    schedule.read(0, 0)
    assert schedule.changed() == [0]
    schedule.closed(0)
    schedule.closed(0)
    schedule.failed(0)
    assert schedule.due(1e9) == schedule.changed() == []


@given(size=st.integers(LARGE, 50_000_000), record=st.integers(300, 400_000), every_s=st.floats(0.001, 1.0))
def test_what_is_written_stays_in_proportion_to_what_is_read(size: int, record: int, every_s: float) -> None:
    """A full book at any rate: within an hour at most an eighth of what was read, and one every sixty intervals."""
    schedule = SnapshotSchedule(INTERVAL_S)
    schedule.opened(0, size, 0.0)
    steps = min(int(3600 / every_s), 5_000)
    taken = 0
    for step in range(1, steps + 1):
        schedule.read(0, record)
        if schedule.due(step * every_s):
            schedule.taken(0, size, step * every_s)
            taken += 1
    assert taken * size <= steps * record / TIMES + steps * every_s / (PATIENCE * INTERVAL_S) * size
    assert taken >= int(steps * every_s / (PATIENCE * INTERVAL_S + every_s))
