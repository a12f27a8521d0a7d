"""What the Redis state store does when the server is away, slow, full, or somebody else's."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator

import pytest
import redis.asyncio
import structlog
from eod_workers.adapters import redis as adapter
from eod_workers.adapters.redis import RedisState
from eod_workers.ports import StateWrites, Unavailable
from support.patience import limit_s, limited
from testbed.redis import Redis

TIMEOUT_S = limit_s(0.25)


@pytest.fixture(scope="module")
def server(redis_server: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A server of this module's own, which its tests may stop."""
    del redis_server  # asked for so that this machine's lack of a Redis is told in one place
    with Redis(tmp_path_factory.mktemp("own-redis")) as own:
        yield own
    own.discard()


@pytest.fixture
async def store(server: Redis) -> AsyncIterator[RedisState]:
    if not server.alive:
        await asyncio.to_thread(server.start)
    store = RedisState(server.url, timeout_s=TIMEOUT_S)
    yield store
    await store.close()


async def configure(server: Redis, **settings: str) -> None:
    client = redis.asyncio.Redis.from_url(server.url)
    for name, value in settings.items():
        await client.config_set(name.replace("_", "-"), value)
    await client.aclose()


async def expect_unavailable(store: RedisState) -> None:
    """Every call says so, and soon."""
    calls = [
        lambda: store.get("k"),
        lambda: store.put("k", b""),
        lambda: store.put_if_newer("k", 1, b""),
        lambda: store.get_versioned("k"),
        lambda: store.put_if_absent("k", b""),
        lambda: store.delete("k"),
        lambda: store.hash_get_all("k"),
        lambda: store.hash_get("k", "f"),
        lambda: store.hash_fields("k"),
        lambda: store.keys(""),
        lambda: store.write(StateWrites(fields={"k": {"f": b""}}, publications=[("c", b"")])),
        lambda: store.subscribe("*"),
    ]
    for call in calls:
        async with limited(3 * TIMEOUT_S):
            with pytest.raises(Unavailable, match=r"redis.*:\d+"):  # which one it is
                await call()  # type: ignore[no-untyped-call]


async def test_without_a_server_every_call_is_unavailable_until_it_is_back(store: RedisState, server: Redis) -> None:
    """The same object works again after a restart, and what was acknowledged is still there."""
    await store.put("kept", b"value")
    await store.put_if_newer("versioned", 7, b"seven")
    await asyncio.to_thread(server.kill)
    await expect_unavailable(store)
    await asyncio.to_thread(server.start)
    assert await store.get("kept") == b"value"
    assert not await store.put_if_newer("versioned", 6, b"six"), "the script is sent again to a server without it"
    assert await store.get_versioned("versioned") == (7, b"seven")


async def test_a_server_that_does_not_answer_is_unavailable(store: RedisState, server: Redis) -> None:
    await store.put("k", b"")
    (process,) = server.processes
    process._signal(signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable, match="confirmation"):
            await store.subscribe("*")
        await expect_unavailable(store)
    finally:
        process._signal(signal.SIGCONT)
    await store.put("k", b"again")
    assert await store.get("k") == b"again"


@pytest.mark.parametrize("trouble", ["kill", "silence"])
async def test_a_broken_subscription_says_so(
    store: RedisState, server: Redis, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """Messages may be lost with the connection: the iteration ends in Unavailable, it does not quietly go on."""
    monkeypatch.setattr(adapter, "_QUIET_S", 0.2)
    subscription = await store.subscribe("*")
    messages = aiter(subscription)
    await store.write(StateWrites(publications=[("c", b"before")]))
    assert await anext(messages) == ("c", b"before")
    waiting = asyncio.ensure_future(anext(messages))
    await asyncio.sleep(1.0)
    assert not waiting.done(), "silence alone is no trouble"
    if trouble == "kill":
        await asyncio.to_thread(server.restart)
    else:
        server.processes[0]._signal(signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable, match="lost"):
            await asyncio.wait_for(waiting, 5)
    finally:
        server.processes[0]._signal(signal.SIGCONT)
    await subscription.close()


async def test_a_full_server_is_unavailable_and_takes_no_part_of_a_write(store: RedisState, server: Redis) -> None:
    """Under noeviction a write that does not fit is refused whole, and nothing else is thrown away for it."""
    await store.put("position", b"kept")
    await configure(server, maxmemory="1")
    try:
        with pytest.raises(Unavailable, match=r"^redis at .* is full: .*maxmemory.*Give it more memory"):
            await store.write(StateWrites(fields={"a": {"f": b"v"}, "b": {"f": b"v"}}))
        with pytest.raises(Unavailable):
            await store.put("c", b"v")
        with pytest.raises(Unavailable):
            await store.put_if_newer("d", 1, b"v")
        assert await store.get("position") == b"kept"
    finally:
        await configure(server, maxmemory="0")
    assert [key for key in await store.keys("") if key in {"a", "b", "c", "d"}] == []


@pytest.mark.parametrize(("policy", "warnings"), [("allkeys-lru", ["allkeys-lru"]), ("noeviction", [])])
async def test_a_server_that_may_evict_positions_is_warned_of(
    store: RedisState, server: Redis, policy: str, warnings: list[str]
) -> None:
    """Once, at the first call."""
    await configure(server, maxmemory_policy=policy)
    with structlog.testing.capture_logs() as logged:
        await store.put("k", b"")
        await store.put("k", b"")
    await configure(server, maxmemory_policy="noeviction")
    assert [entry["maxmemory_policy"] for entry in logged] == warnings


async def test_a_wrong_password_is_not_tried_again(server: Redis, store: RedisState) -> None:
    await store.put("k", b"")
    stranger = RedisState(server.url.replace(server.password, "wrong"), timeout_s=TIMEOUT_S)
    with pytest.raises(PermissionError):
        await stranger.get("k")
    await stranger.close()
    with pytest.raises(RuntimeError, match="closed"):
        await stranger.get("k")


async def test_a_user_without_config_needs_none(server: Redis, store: RedisState) -> None:
    """Hosted servers refuse CONFIG: the policy is then not looked at, and everything works."""
    client = redis.asyncio.Redis.from_url(server.url)
    await client.acl_setuser(
        "hosted", enabled=True, passwords=["+pw"], commands=["+@all", "-config"], keys=["*"], channels=["*"]
    )
    hosted = RedisState(server.url.replace(f":{server.password}", "hosted:pw"), timeout_s=TIMEOUT_S)
    await hosted.put("k", b"v")
    assert await hosted.get("k") == b"v"
    await hosted.close()
    await client.aclose()
    await store.close()


async def test_a_write_that_is_refused_in_part_is_refused_whole(server: Redis, store: RedisState) -> None:
    """The user may write one of the two keys: neither is written, and nothing is published."""
    client = redis.asyncio.Redis.from_url(server.url)
    await client.acl_setuser(
        "some", enabled=True, passwords=["+pw"], commands=["+@all"], keys=["mine:*"], channels=["*"]
    )
    limited = RedisState(server.url.replace(f":{server.password}", "some:pw"), timeout_s=TIMEOUT_S)
    subscription = await store.subscribe("*")
    fields = {"mine:1": {"f": b"v"}, "theirs:1": {"f": b"v"}}
    with pytest.raises(PermissionError):
        await limited.write(StateWrites(fields=fields, publications=[("c", b"refused")]))
    await limited.write(StateWrites(fields={"mine:2": {"f": b"v"}}, publications=[("c", b"allowed")]))
    assert await anext(aiter(subscription)) == ("c", b"allowed")
    assert await store.keys("mine:") == ["mine:2"]
    await subscription.close()
    await limited.close()
    await client.aclose()
