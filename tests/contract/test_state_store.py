"""The promises of `ports.StateStore` and `Subscription`, for every store."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from eod_workers.adapters.keeper import Keeper
from eod_workers.adapters.kept_state import SCHEMA, KeptState
from eod_workers.adapters.memory_state import MemoryState
from eod_workers.adapters.redis import RedisState
from eod_workers.ports import StateStore, StateWrites, Subscription, Taken
from support.patience import limit_s, limited

PATIENCE_S = 10


@pytest.fixture(params=["memory", "kept", pytest.param("redis", marks=pytest.mark.redis)])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[StateStore, StateStore]]:
    """Two clients of one store; those in memory have one."""
    if request.param == "memory":
        memory = MemoryState()
        yield memory, memory
        await memory.close()
    elif request.param == "kept":
        keeper = Keeper(tmp_path / "state.sqlite", SCHEMA)
        kept = KeptState(keeper)
        yield kept, kept
        await kept.close()
        await keeper.close()
    else:
        url = request.getfixturevalue("redis_server").url
        first, second = (RedisState(url, timeout_s=limit_s(10)) for _ in range(2))
        yield first, second
        await first.close()
        await second.close()


@pytest.fixture
def store(stores: tuple[StateStore, StateStore]) -> StateStore:
    return stores[0]


async def take(subscription: Subscription, count: int) -> list[tuple[str, bytes]]:
    messages: list[tuple[str, bytes]] = []
    async with limited(PATIENCE_S):
        async for message in subscription:
            messages.append(message)
            if len(messages) == count:
                break
    return messages


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"", b"text", bytes(range(256)), b"\0" * 1_000_000])
async def test_a_value_comes_back_as_it_was_put(store: StateStore, unique: str, value: bytes) -> None:
    assert await store.get(unique) is None
    await store.put(unique, b"before")
    await store.put(unique, value)
    assert await store.get(unique) == value


async def test_an_older_version_never_replaces_a_newer_one(store: StateStore, unique: str) -> None:
    """Higher and equal versions are set, lower ones are not, and the answer says which happened."""
    assert await store.get_versioned(unique) is None
    assert await store.put_if_newer(unique, 5, b"five")
    assert not await store.put_if_newer(unique, 4, b"four")
    assert await store.get_versioned(unique) == (5, b"five")
    assert await store.put_if_newer(unique, 5, b"five again")
    assert await store.get_versioned(unique) == (5, b"five again")
    assert await store.put_if_newer(unique, 10, b"\0ten")
    assert not await store.put_if_newer(unique, 9, b"nine")
    assert await store.get_versioned(unique) == (10, b"\0ten")


async def test_versions_are_compared_exactly(store: StateStore, unique: str) -> None:
    """Neighbours beyond 2⁵³, which a double cannot tell apart; what could not be compared is refused."""
    for lower in (0, 9, 2**53, 1_700_000_000_000_000_000, 2**63 - 2):
        key = f"{unique}-{lower}"
        assert await store.put_if_newer(key, lower + 1, b"newer")
        assert not await store.put_if_newer(key, lower, b"older")
        assert await store.get_versioned(key) == (lower + 1, b"newer")
    for version in (-1, 2**63):
        with pytest.raises(ValueError, match="version"):
            await store.put_if_newer(unique, version, b"")
    assert await store.get_versioned(unique) is None


async def test_a_race_of_writers_ends_at_the_highest_version(
    stores: tuple[StateStore, StateStore], unique: str
) -> None:
    """However they interleave; each that was set was not older than any that was set before it."""
    versions = [*range(1, 101)] * 2
    random.Random(7).shuffle(versions)
    await asyncio.gather(*(stores[index % 2].put_if_newer(unique, v, b"%d" % v) for index, v in enumerate(versions)))
    assert await stores[1].get_versioned(unique) == (100, b"100")


async def test_taking_over_raises_the_version_and_keeps_the_value(store: StateStore, unique: str) -> None:
    """To what the caller asks for at least, or to the next; what earlier owners write is refused from then on."""
    assert await store.take_over(unique, 7) == Taken(7, 0, b"")
    assert await store.get_versioned(unique) == (7, b"")
    assert await store.put_if_newer(unique, 7, b"\0first")
    assert await store.take_over(unique, 3) == Taken(8, 7, b"\0first")
    assert not await store.put_if_newer(unique, 7, b"the older one")
    assert await store.put_if_newer(unique, 8, b"second")
    assert await store.put_if_newer(unique, 8, b"second again"), "an owner may write as often as it likes"
    assert await store.take_over(unique, 8) == Taken(9, 8, b"second again")
    later = 1_700_000_000_000_000_000
    assert await store.take_over(unique, later) == Taken(later, 9, b"second again")
    assert await store.take_over(f"{unique}-0", 0) == Taken(0, 0, b"")


@pytest.mark.parametrize("stored", [0, 9, 10**9 - 1, 10**9, 2**53, 10**18 - 1, 1_700_000_000_999_999_999, 2**63 - 2])
async def test_the_next_version_is_exact(store: StateStore, unique: str, stored: int) -> None:
    """Also where a double is too coarse, and where halves of the number carry over."""
    assert await store.put_if_newer(unique, stored, b"v")
    assert await store.take_over(unique, 0) == Taken(stored + 1, stored, b"v")


async def test_the_last_version_cannot_be_raised_and_impossible_ones_are_refused(
    store: StateStore, unique: str
) -> None:
    for at_least in (-1, 2**63):
        with pytest.raises(ValueError, match="version"):
            await store.take_over(unique, at_least)
    assert await store.get_versioned(unique) is None
    assert await store.put_if_newer(unique, 2**63 - 1, b"v")
    with pytest.raises(ValueError, match="version"):
        await store.take_over(unique, 5)
    assert await store.get_versioned(unique) == (2**63 - 1, b"v")


async def test_no_two_owners_are_given_the_same_version(stores: tuple[StateStore, StateStore], unique: str) -> None:
    """However they race, and whoever has it last writes last."""
    taken = await asyncio.gather(*(stores[i % 2].take_over(unique, 1_000) for i in range(50)))
    assert sorted(one.version for one in taken) == [*range(1_000, 1_050)]
    assert sorted(one.previous for one in taken) == [0, *range(1_000, 1_049)]
    random.Random(11).shuffle(taken)
    written = await asyncio.gather(
        *(stores[i % 2].put_if_newer(unique, one.version, b"%d" % one.version) for i, one in enumerate(taken))
    )
    assert [one.version for one, was in zip(taken, written, strict=True) if was] == [1_049]
    assert await stores[0].get_versioned(unique) == (1_049, b"1049")


async def test_one_of_many_creators_wins(stores: tuple[StateStore, StateStore], unique: str) -> None:
    """`put_if_absent` says True to one, and its value is the one that is stored; any kind of key counts as present."""
    answers = await asyncio.gather(*(stores[i % 2].put_if_absent(unique, b"%d" % i) for i in range(20)))
    assert sum(answers) == 1
    assert await stores[0].get(unique) == b"%d" % answers.index(True)
    await stores[0].write(StateWrites(fields={f"{unique}-hash": {"f": b"v"}}))
    assert not await stores[0].put_if_absent(f"{unique}-hash", b"value")
    assert await stores[0].hash_get_all(f"{unique}-hash") == {"f": b"v"}


async def test_delete_removes_whatever_is_there(store: StateStore, unique: str) -> None:
    await store.delete(unique)
    await store.put(f"{unique}-value", b"v")
    await store.put_if_newer(f"{unique}-versioned", 1, b"v")
    await store.write(StateWrites(fields={f"{unique}-hash": {"f": b"v"}}))
    kinds = [f"{unique}-hash", f"{unique}-value", f"{unique}-versioned"]
    assert await store.keys(unique) == kinds
    for kind in kinds:
        await store.delete(kind)
    assert await store.keys(unique) == []
    assert await store.get_versioned(f"{unique}-versioned") is None
    assert await store.put_if_newer(f"{unique}-versioned", 0, b"a version can start over after a deletion")


async def test_keys_are_found_by_their_beginning(store: StateStore, unique: str) -> None:
    """Sorted, and nothing in a prefix is special."""
    for name in ("b", "a:1", "a:2", "a*", "a[1]", "a?", "ä", "a\\x"):
        await store.put(f"{unique}:{name}", b"")
    await store.put(f"x{unique}:a:1", b"")
    assert await store.keys(f"{unique}:a:") == [f"{unique}:a:1", f"{unique}:a:2"]
    assert await store.keys(f"{unique}:a*") == [f"{unique}:a*"]
    assert await store.keys(f"{unique}:a[1]") == [f"{unique}:a[1]"]
    assert await store.keys(f"{unique}:a?") == [f"{unique}:a?"]
    assert await store.keys(f"{unique}:a\\") == [f"{unique}:a\\x"]
    everything = [f"{unique}:{n}" for n in ("a*", "a:1", "a:2", "a?", "a[1]", "a\\x", "b", "ä")]
    assert await store.keys(unique) == everything == sorted(everything)


async def test_a_key_of_another_kind_is_refused(store: StateStore, unique: str) -> None:
    await store.put(f"{unique}-value", b"v")
    await store.write(StateWrites(fields={f"{unique}-hash": {"f": b"v"}}))
    with pytest.raises(TypeError):
        await store.hash_get_all(f"{unique}-value")
    with pytest.raises(TypeError):
        await store.hash_get(f"{unique}-value", "f")
    with pytest.raises(TypeError):
        await store.hash_fields(f"{unique}-value")
    with pytest.raises(TypeError):
        await store.get(f"{unique}-hash")
    with pytest.raises(TypeError):
        await store.put_if_newer(f"{unique}-value", 1, b"v")
    with pytest.raises(TypeError):
        await store.get_versioned(f"{unique}-value")
    with pytest.raises(TypeError):
        await store.take_over(f"{unique}-value", 1)
    with pytest.raises(TypeError):
        await store.write(StateWrites(fields={f"{unique}-value": {"f": b"v"}}))
    with pytest.raises(TypeError):
        await store.write(StateWrites(gone={f"{unique}-value": ["f"]}))


# --- writes ---------------------------------------------------------------------------------------


async def test_fields_are_merged_into_their_hashes(store: StateStore, unique: str) -> None:
    """Fields that are not written stay; an empty write does nothing."""
    assert await store.hash_get_all(unique) == {}
    await store.write(StateWrites(fields={unique: {"AAPL": b"1", "MSFT": b"\0\xff"}, f"{unique}-2": {"é": b""}}))
    await store.write(StateWrites(fields={unique: {"AAPL": b"2"}, f"{unique}-3": {}}))
    await store.write(StateWrites())
    assert await store.hash_get_all(unique) == {"AAPL": b"2", "MSFT": b"\0\xff"}
    assert await store.hash_get_all(f"{unique}-2") == {"é": b""}
    assert await store.keys(unique) == [unique, f"{unique}-2"]


async def test_one_field_of_a_hash_is_read_without_the_others(store: StateStore, unique: str) -> None:
    assert (await store.hash_get(unique, "AAPL"), await store.hash_fields(unique)) == (None, [])
    await store.write(StateWrites(fields={unique: {"MSFT": b"\0\xff", "AAPL": b"", "é": b"1"}}))
    assert [await store.hash_get(unique, name) for name in ("AAPL", "MSFT", "é", "IBM")] == [b"", b"\0\xff", b"1", None]
    assert await store.hash_fields(unique) == ["AAPL", "MSFT", "é"]


async def test_fields_that_go_are_gone_and_with_the_last_of_them_their_hash(store: StateStore, unique: str) -> None:
    """In the same write as those that come, and after them; what is not there may go as well."""
    other = f"{unique}-2"
    await store.write(StateWrites(fields={unique: {"a": b"1", "b": b"2", "é": b"3"}, other: {"x": b"9"}}))
    await store.write(StateWrites(fields={unique: {"c": b"4", "d": b"5"}}, gone={unique: ["é", "a", "d", "z"]}))
    assert await store.hash_get_all(unique) == {"b": b"2", "c": b"4"}
    await store.write(StateWrites(gone={other: ["x"], unique: [], f"{unique}-3": ["none"]}))
    assert await store.keys(unique) == [unique]


async def test_any_number_of_fields_goes_at_once(store: StateStore, unique: str) -> None:
    names = [f"f{number}" for number in range(12_345)]
    await store.write(StateWrites(fields={unique: dict.fromkeys(names, b"v")}))
    await store.write(StateWrites(gone={unique: names[5:]}, publications=[(unique, b"told")]))
    assert await store.hash_fields(unique) == names[:5]


async def test_a_hash_of_any_size_is_written_at_once(store: StateStore, unique: str) -> None:
    """Beside small ones, and more than a server's script could take as arguments of one call."""
    sizes = {f"{unique}-{size}": size for size in (1, 999, 1_000, 1_001, 12_345)}
    wanted = {key: {f"f{number}": b"%d" % number for number in range(size)} for key, size in sizes.items()}
    await store.write(StateWrites(fields=wanted, publications=[(unique, b"told")] * 3_000))
    assert {key: await store.hash_get_all(key) for key in wanted} == wanted


async def test_nobody_sees_half_a_write(stores: tuple[StateStore, StateStore], unique: str) -> None:
    """Fields of one write, in one hash or in two, change together."""
    names = [f"{number:03}" for number in range(500)]
    keys = [f"{unique}-1", f"{unique}-2"]

    async def write() -> None:
        for number in range(1, 61):
            fields = dict.fromkeys(names, b"%d" % number)
            await stores[0].write(StateWrites(fields=dict.fromkeys(keys, fields)))

    writing = asyncio.create_task(write())
    seen: list[tuple[set[bytes], ...]] = []
    while not writing.done():
        seen.append(tuple([set((await stores[1].hash_get_all(key)).values()) for key in keys]))
        await asyncio.sleep(0.001)  # with none, a store that writes in a thread waits for the interpreter at each step
    await writing
    for first, second in seen:
        assert len(first) <= 1
        assert len(second) <= 1
        assert max(map(int, second), default=0) >= max(map(int, first), default=0), "the first was read before it"
    assert [await stores[1].hash_get_all(key) for key in keys] == [dict.fromkeys(names, b"60")] * 2


async def test_a_message_never_arrives_before_the_fields_written_with_it(
    stores: tuple[StateStore, StateStore], unique: str
) -> None:
    """Whoever hears of a change and then reads, reads it."""
    subscription = await stores[1].subscribe(f"{unique}:*")

    async def write() -> None:
        for number in range(200):
            value = b"%d" % number
            await stores[0].write(
                StateWrites(
                    fields={unique: {"n": value}}, publications=[(f"{unique}:n", value), (f"{unique}:m", value)]
                )
            )

    writing = asyncio.create_task(write())
    heard: list[tuple[str, bytes]] = []
    async with limited(PATIENCE_S):
        async for channel, message in subscription:
            heard.append((channel, message))
            assert int((await stores[1].hash_get_all(unique))["n"]) >= int(message)
            if len(heard) == 400:
                break
    await writing
    assert heard == [(f"{unique}:{channel}", b"%d" % number) for number in range(200) for channel in "nm"]
    await subscription.close()


# --- subscriptions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "heard"),
    [
        ("pnl:*", ["pnl:a", "pnl:a:b", "pnl:", "pnl:[a]"]),
        ("*:b", ["pnl:a:b"]),
        ("pnl:*b", ["pnl:a:b"]),
        ("pnl:a", ["pnl:a"]),
        ("pnl:[a]", ["pnl:[a]"]),
        ("pnl:?", []),
        ("p*l:*:*", ["pnl:a:b"]),
    ],
)
async def test_a_pattern_selects_channels(
    stores: tuple[StateStore, StateStore], unique: str, pattern: str, heard: list[str]
) -> None:
    """`*` matches any run of characters, nothing else is special; a subscription hears only what comes after it."""
    channels = ["pnl:a", "pnl:a:b", "pnl:", "pnl:[a]", "pn:a", "xpnl:a"]

    def all_of(message: bytes) -> StateWrites:
        return StateWrites(publications=[(f"{channel}@{unique}", message) for channel in channels])

    await stores[0].write(all_of(b"before"))
    subscription = await stores[1].subscribe(f"{pattern}@{unique}")
    await stores[0].write(all_of(b"after"))
    await stores[0].write(StateWrites(publications=[(f"{pattern.replace('*', ':')}@{unique}", b"end")]))
    messages = await take(subscription, len(heard) + 1)
    assert messages[:-1] == [(f"{channel}@{unique}", b"after") for channel in heard]
    await subscription.close()


async def test_every_subscriber_hears_every_message(stores: tuple[StateStore, StateStore], unique: str) -> None:
    subscriptions = [await store.subscribe(f"{unique}*") for store in (*stores, stores[0])]
    expected = [(f"{unique}-{number % 3}", b"%d" % number) for number in range(100)]
    for publication in expected:
        await stores[0].write(StateWrites(publications=[publication]))
    for subscription in subscriptions:
        assert await take(subscription, 100) == expected
        await subscription.close()


async def test_who_publishes_is_told_how_many_subscriptions_heard_it(
    stores: tuple[StateStore, StateStore], unique: str
) -> None:
    """Of any client; those of other channels do not count, nor those that have been closed."""
    assert await stores[0].publish(unique, b"to nobody") == 0
    subscriptions = [await store.subscribe(pattern) for store in stores for pattern in (unique, f"{unique}*")]
    other = await stores[1].subscribe(f"{unique}:other")
    assert await stores[0].publish(unique, b"\0\xff") == 4
    for subscription in subscriptions:
        assert await take(subscription, 1) == [(unique, b"\0\xff")]
    for subscription in (*subscriptions[:3], other):
        await subscription.close()
    async with limited(PATIENCE_S):
        while await stores[0].publish(unique, b"again") != 1:  # noqa: ASYNC110 - the server hears of it a moment later
            await asyncio.sleep(0.01)
    await subscriptions[3].close()


async def test_closing_ends_the_iteration(stores: tuple[StateStore, StateStore], unique: str) -> None:
    """A subscription that waits for messages ends soon after it, or its store, is closed."""
    first = await stores[1].subscribe(f"{unique}*")
    second = await stores[1].subscribe(f"{unique}*")
    waiting = [asyncio.create_task(take(subscription, 1)) for subscription in (first, second)]
    await asyncio.sleep(0.1)
    await first.close()
    await first.close()
    assert await asyncio.wait_for(waiting[0], 2) == []
    await stores[1].close()
    assert await asyncio.wait_for(waiting[1], 2) == []
