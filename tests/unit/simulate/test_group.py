"""Assignments as Kafka's assignors make them, and which changes of membership share a rebalance."""

from __future__ import annotations

from collections import Counter

import pytest
from eod_operator.simulate.group import NOBODY, Rebalance, by_range, sticky
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("members", "partitions", "owners"),
    [
        ([], 3, [NOBODY] * 3),
        ([4], 3, [4, 4, 4]),
        ([0, 1], 5, [0, 0, 0, 1, 1]),
        ([0, 1, 2], 8, [0, 0, 0, 1, 1, 1, 2, 2]),
        ([0, 1, 2, 3], 3, [0, 1, 2, NOBODY]),
    ],
)
def test_ranges(members: list[int], partitions: int, owners: list[int]) -> None:
    """The first members have one more; a member too many has none, and a partition never two."""
    expected = owners[:partitions]
    assert by_range(members, partitions) == expected


@pytest.mark.parametrize(
    ("members", "before", "after"),
    [
        ([0, 1], [0, 0, 0, 0], [0, 0, 1, 1]),
        ([0, 1, 2], [0, 0, 0, 1, 1, 1], [0, 0, 2, 1, 1, 2]),
        ([1], [0, 0, 1, 1], [1, 1, 1, 1]),
        ([0, 2], [0, 1, 2, 0, 1, 2], [0, 0, 2, 0, 2, 2]),
        ([0, 1], [0, 0, 0, 1, 1], [0, 0, 0, 1, 1]),
        ([0, 1], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0]),
        ([], [0, 1], [NOBODY, NOBODY]),
        ([3], [NOBODY, NOBODY], [3, 3]),
    ],
)
def test_sticky(members: list[int], before: list[int], after: list[int]) -> None:
    assert sticky(members, before) == after


@given(
    st.sets(st.integers(0, 9)).map(sorted),
    st.sets(st.integers(0, 9), min_size=1).map(sorted),
    st.integers(1, 30),
)
def test_sticky_is_balanced_and_moves_no_more_than_that_takes(was: list[int], now: list[int], partitions: int) -> None:
    before = by_range(was, partitions)
    after = sticky(now, before)
    counts = Counter(after)
    sizes = [counts[member] for member in now]
    assert sum(sizes) == partitions
    assert max(sizes) - min(sizes) <= 1
    moved = sum(old != new for old, new in zip(before, after, strict=True))
    # What nobody owns any more must move, and what the members hold above a balanced share.
    held = sorted((Counter(before)[member] for member in now), reverse=True)
    each, more = divmod(partitions, len(now))
    kept = sum(min(have, each + (rank < more)) for rank, have in enumerate(held))
    assert moved == partitions - kept


def test_changes_close_together_share_a_rebalance_and_later_ones_begin_the_next() -> None:
    change = Rebalance()
    change.change(100, 4, [0, 0, 0, 0], [0, 0, 1, 1])
    assert (change.count, change.end_s, change.moved) == (1, 104, 2)
    change.change(102, 4, [0, 0, 1, 1], [0, 0, 1, 2])
    assert (change.count, change.end_s, change.moved) == (1, 104, 2)  # compared with before the whole rebalance
    change.change(103.75, 4, [0, 0, 1, 2], [0, 1, 2, 3])
    assert (change.count, change.end_s, change.moved) == (2, 107.75, 5)
    change.change(200, 4, [0, 1, 2, 3], [0, 0, 1, 1])
    assert (change.count, change.end_s, change.moved) == (3, 204, 8)
