"""Replica counts that share the partitions out evenly, by number and by load."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import sub

HOT = 0.8
"""A partition that would fill a replica alone counts as this much of one: its neighbours may take the rest. More
replicas cannot help it, and giving it a replica of its own may take as many replicas as there are partitions."""


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


def busiest(rates_per_s: Sequence[float], replicas: int) -> float:
    """Load of the busiest replica, as Kafka's range assignor packs partitions: in order, by number and not by load.

    The first `partitions mod replicas` members get one partition more than the others (RangeAssignor, which
    co-partitioned topics need). No assignor of Kafka packs by load, so packing better than this would be a wish.
    """
    sums = [0.0, *accumulate(rates_per_s)]
    share, longer = divmod(len(rates_per_s), replicas)
    cut = longer * (share + 1)
    heads = sums[: cut + 1 : share + 1]
    tails = sums[cut::share] if share else []
    return max((*map(sub, heads[1:], heads), *map(sub, tails[1:], tails)), default=0.0)


def fewest(rates_per_s: Sequence[float], capacity_per_s: float) -> int:
    """The smallest aligned count of replicas none of which has more than its capacity to do.

    Args:
        rates_per_s: of each partition, at least one; a partition above `HOT` of the capacity counts as that.
        capacity_per_s: of one replica, above 0.

    Returns:
        At most the number of partitions; 0 when there is nothing to do. It never falls as a rate rises.

    Raises:
        ValueError: without partitions, or a capacity that is not above 0.
    """
    if not rates_per_s or not capacity_per_s > 0:
        raise ValueError(f"{len(rates_per_s)} partitions at {capacity_per_s} records/s: both must be above 0")
    clipped = [min(rate, HOT * capacity_per_s) for rate in rates_per_s]
    total, partitions = sum(clipped), len(rates_per_s)
    if total <= 0:
        return 0
    least = max(1, -(-total // capacity_per_s))
    count = 0
    for share in range(partitions, 0, -1):
        aligned = -(-partitions // share)
        if aligned == count or aligned < least:
            continue
        count = aligned
        if busiest(clipped, count) <= capacity_per_s:
            return count
    return partitions


def delay_s(share: float, rates_per_s: Sequence[float], step_s: float, service_per_s: float) -> float:
    """Longest wait in front of a replica that gets a share of what arrives (Lindley's recursion).

    Args:
        share: of all that arrives.
        rates_per_s: what arrives in all, in steps.
        step_s: length of a step.
        service_per_s: what the replica does.
    """
    longest = waits_s = 0.0
    for rate in rates_per_s:
        waits_s = max(0.0, waits_s + step_s * (share * rate / service_per_s - 1))
        longest = max(longest, waits_s)
    return longest


def fewest_for(
    shares: Sequence[float], rates_per_s: Sequence[float], step_s: float, service_per_s: float, late_s: float
) -> int:
    """The smallest aligned count of replicas in front of which nothing waits for longer than `late_s`.

    What the hottest partition waits for even with a replica of its own does not count: no replica helps it.

    Args:
        shares: of each partition in what arrives, at least one partition.
        rates_per_s: what arrives in all, in steps.
        step_s: length of a step.
        service_per_s: what a replica does, above 0.
        late_s: how long is too long.

    Returns:
        From 1 to the number of partitions, or 0 when nothing arrives; it never falls as the rates rise.
    """
    if not any(rates_per_s):
        return 0
    partitions = len(shares)
    bound_s = late_s + delay_s(max(shares), rates_per_s, step_s, service_per_s)
    count = 0
    for share in range(partitions, 0, -1):
        aligned = -(-partitions // share)
        if aligned == count:
            continue
        count = aligned
        if delay_s(busiest(shares, count), rates_per_s, step_s, service_per_s) <= bound_s:
            return count
    return partitions
