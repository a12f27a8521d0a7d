"""When to join a consumer group: replicas that were started together come together.

Every member that joins stops the whole group for a rebalance. Pods that one scale-up has started become ready seconds
apart, so each of them would stop the group once more. Clocks agree well enough for a meeting point: members join when
the time of day is a multiple of the beat. Nobody waits for a group that has no members: it would stand still meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import Any

_STATE = 2
_NOBODY = {"", "Empty", "Dead"}
"""States of a group without members (GroupState of Kafka's group coordinator)."""


async def has_members(admin: Any, group: str) -> bool:
    """Whether anybody is in the group.

    Args:
        admin: a started `AIOKafkaAdminClient`.
        group: its id.
    """
    (answer,) = await admin.describe_consumer_groups([group])
    return any(described[_STATE] not in _NOBODY for described in answer.groups)


async def await_beat(beat_s: float, now_s: float) -> None:
    """Return at the next multiple of `beat_s` seconds of the clock that says `now_s`; at once without a beat."""
    if beat_s > 0:
        await asyncio.sleep(beat_s - now_s % beat_s)
