"""How records flow in one step: replicas share their capacity among partitions, fluidly.

A consumer fetches its partitions in turn, so each that has records gets an equal part of it, and what one does not need
goes to the others: max-min fairness.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eod_operator.simulate.traffic import Floats


def fair(want: Floats, owner: NDArray[np.intp], capacity: Floats) -> Floats:
    """What each partition is given.

    Args:
        want: by partition, how much it could take.
        owner: by partition, index into `capacity`.
        capacity: by replica.
    """
    size = len(capacity)
    crowded = np.bincount(owner, want, size) > capacity
    if not crowded.any():
        return want
    wanting = crowded[owner]
    given = np.where(wanting, 0.0, want)
    rest = np.where(crowded, capacity, 0.0)
    # Each round satisfies at least one partition of each crowded replica, or spends what is left.
    for _ in range(len(want)):
        sharing = np.bincount(owner[wanting], minlength=size)
        level = rest / np.maximum(sharing, 1)
        left = want - given
        small = wanting & (left <= level[owner])
        if not small.any():
            return np.where(wanting, given + level[owner], given)
        given = np.where(small, want, given)
        rest = np.maximum(rest - np.bincount(owner[small], left[small], size), 0.0)
        wanting &= ~small
    return given
