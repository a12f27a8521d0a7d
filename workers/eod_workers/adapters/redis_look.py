"""What a Redis is like, for whoever asks whether it may be relied on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RedisSeen:
    """A server, as it says of itself.

    Attributes:
        version: of it.
        used: bytes that it holds.
        limit: bytes that it may hold at most; 0 if nobody has said.
        policy: what it does when it is full.
        log: it writes each change to an append-only file.
        snapshots: when it writes all to disk, as its setting `save`; None if it does not tell.
        replica: it follows another, and takes no writes.
        cluster: keys are spread over several servers.
    """

    version: str
    used: int
    limit: int
    policy: str
    log: bool
    snapshots: str | None
    replica: bool
    cluster: bool


async def look(redis: Any) -> RedisSeen:
    """Looks at the server of a client; changes nothing."""
    from redis import exceptions  # noqa: PLC0415 - `adapters.redis` loads the library, and how

    said: Mapping[str, Any] = await redis.info("everything")
    try:
        snapshots = (await redis.config_get("save")).get("save")
    except exceptions.ResponseError:  # hosted servers refuse CONFIG
        snapshots = None
    return RedisSeen(
        version=str(said.get("redis_version", "")),
        used=int(said.get("used_memory", 0)),
        limit=int(said.get("maxmemory", 0)),
        policy=str(said.get("maxmemory_policy", "")),
        log=bool(int(said.get("aof_enabled", 0))),
        snapshots=None if snapshots is None else str(snapshots),
        replica=said.get("role") in {"slave", "replica"},
        cluster=bool(int(said.get("cluster_enabled", 0))),
    )
