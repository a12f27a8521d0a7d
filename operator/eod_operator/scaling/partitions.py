"""Partition alignment: replica counts that share the partitions out evenly."""

from __future__ import annotations


def align(replicas: int, partitions: int) -> int:
    """Round up to the smallest count whose busiest replica owns no more than floor(partitions / replicas).

    A group of 5 on 12 partitions has a member with 3 of them, like a group of 4: the fifth buys nothing. To give
    everybody at most floor(12 / 5) = 2 takes ceil(12 / 2) = 6. The result never falls as `replicas` rises.

    Args:
        replicas: how many are needed by load alone; more than `partitions` counts as `partitions`.
        partitions: partitions of the consumed topic, at least 1.

    Returns:
        0 for 0 replicas, else a count in [replicas, partitions].

    Raises:
        ValueError: when `partitions` is below 1.
    """
    if partitions < 1:
        raise ValueError(f"partitions is {partitions}: a topic has at least one partition")
    if replicas <= 0:
        return 0
    share = partitions // min(replicas, partitions)
    return -(-partitions // share)
