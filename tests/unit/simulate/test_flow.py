"""Replicas share their capacity fairly."""

from __future__ import annotations

import numpy as np
import pytest
from eod_operator.simulate.flow import fair
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("want", "owner", "capacity", "given_"),
    [
        ([5, 5], [0, 0], [20], [5, 5]),
        ([50, 50], [0, 0], [20], [10, 10]),
        ([2, 50, 50], [0, 0, 0], [20], [2, 9, 9]),
        ([1, 4, 50, 50], [0, 0, 0, 0], [21], [1, 4, 8, 8]),
        ([50, 50, 3], [0, 1, 1], [10, 20], [10, 17, 3]),
        ([5], [0], [0], [0]),
    ],
)
def test_max_min(want: list[float], owner: list[int], capacity: list[float], given_: list[float]) -> None:
    assert fair(np.array(want, float), np.array(owner), np.array(capacity, float)).tolist() == pytest.approx(given_)


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 3)), min_size=1, max_size=40),
    st.lists(st.floats(0, 1e6), min_size=4, max_size=4),
)
def test_nobody_gets_more_than_wanted_and_no_capacity_is_exceeded_or_wasted(
    wants: list[tuple[float, int]], capacity: list[float]
) -> None:
    want, owner = np.array([w for w, _ in wants]), np.array([o for _, o in wants])
    got = fair(want, owner, np.array(capacity))
    assert (got <= want + 1e-6).all()
    assert (got >= 0).all()
    for replica, limit in enumerate(capacity):
        mine = owner == replica
        assert got[mine].sum() == pytest.approx(min(want[mine].sum(), limit), rel=1e-9, abs=1e-6)
        if mine.any():  # whoever got less than they wanted got no less than anybody else
            short = got[mine] < want[mine] - 1e-6
            assert (got[mine][short] >= got[mine].max() - 1e-6 * max(1, got[mine].max())).all()
