"""The index of one kind: what a scripted API server lists and tells, and what is then known of it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from eod_operator.kube import informer as module
from eod_operator.kube.api import Api, ClusterError, Manifest
from eod_operator.kube.informer import Informer
from support.patience import soon

GONE = ClusterError(410, "too old resource version", reason="Expired")
AWAY = ClusterError(0, "the API server did not answer")
FORBIDDEN = ClusterError(403, 'configmaps is forbidden: User "eod-operator" cannot list it', reason="Forbidden")
ABSENT = ClusterError(404, "the server could not find the requested resource", reason="NotFound")


@dataclass(frozen=True, slots=True)
class Thing:
    """What is kept of an object here; its group is its owner."""

    namespace: str
    name: str
    uid: str
    version: int
    owner: str | None


def slim(manifest: Manifest) -> Thing:
    metadata = manifest["metadata"]
    return Thing(
        metadata["namespace"],
        metadata["name"],
        metadata["uid"],
        int(metadata["resourceVersion"]),
        metadata.get("labels", {}).get("owner"),
    )


def thing(name: str, version: int, owner: str | None = "a", *, uid: str = "", namespace: str = "ns") -> Manifest:
    labels = {} if owner is None else {"owner": owner}
    metadata = {"namespace": namespace, "name": name, "uid": uid or f"uid-{name}", "labels": labels}
    return {"metadata": metadata | {"resourceVersion": str(version)}}


def listed(version: int, *things: Manifest, then: str = "") -> Manifest:
    return {"metadata": {"resourceVersion": str(version), "continue": then}, "items": list(things)}


def added(manifest: Manifest) -> Manifest:
    return {"type": "ADDED", "object": manifest}


def modified(manifest: Manifest) -> Manifest:
    return {"type": "MODIFIED", "object": manifest}


def deleted(manifest: Manifest) -> Manifest:
    return {"type": "DELETED", "object": manifest}


def bookmark(version: int) -> Manifest:
    return {"type": "BOOKMARK", "object": {"kind": "ConfigMap", "metadata": {"resourceVersion": str(version)}}}


@dataclass
class Opened:
    """One watch that was opened; what is said to it goes to the informer, None ends it."""

    namespace: str | None
    query: dict[str, str]
    within_s: float
    words: asyncio.Queue[Manifest | ClusterError | None] = field(default_factory=asyncio.Queue)

    def say(self, *words: Manifest | ClusterError | None) -> None:
        for word in words:
            self.words.put_nowait(word)


class ScriptedApi:
    """Answers lists as told, refuses watches from `refusals`; without an answer it keeps the informer waiting."""

    def __init__(self, *answers: Manifest | ClusterError, refusals: Sequence[ClusterError] = ()) -> None:
        self._answers: asyncio.Queue[Manifest | ClusterError] = asyncio.Queue()
        self.answer(*answers)
        self.refusals = deque(refusals)
        self.lists: list[tuple[str | None, dict[str, str]]] = []
        self.watches: list[Opened] = []

    def answer(self, *answers: Manifest | ClusterError) -> None:
        """Answer the next lists so."""
        for one in answers:
            self._answers.put_nowait(one)

    async def call(self, verb: str, kind: str, namespace: str | None, *, query: Mapping[str, str]) -> Manifest:
        assert (verb, kind) == ("list", "ConfigMap")
        self.lists.append((namespace, dict(query)))
        answer = await self._answers.get()
        await asyncio.sleep(0)
        if isinstance(answer, ClusterError):
            raise answer
        return answer

    async def watch(
        self, kind: str, namespace: str | None, *, query: Mapping[str, str], within_s: float
    ) -> AsyncIterator[Manifest]:
        assert kind == "ConfigMap"
        opened = Opened(namespace, dict(query), within_s)
        self.watches.append(opened)
        if self.refusals:
            raise self.refusals.popleft()
        while (word := await opened.words.get()) is not None:
            if isinstance(word, ClusterError):
                raise word
            yield word

    @property
    def last(self) -> Opened:
        """The watch that was opened last."""
        return self.watches[-1]

    @property
    def watched_from(self) -> list[str]:
        return [opened.query["resourceVersion"] for opened in self.watches]


class NoJitter(random.Random):
    """Always the lower bound, so that nothing waits; the bounds are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.bounds: list[tuple[float, float]] = []

    def uniform(self, a: float, b: float) -> float:
        self.bounds.append((a, b))
        return a


async def quiet() -> None:
    """Give the informer every chance to do what it must not do."""
    for _ in range(20):
        await asyncio.sleep(0.0005)


class WatchedApi:
    """An informer on a scripted API server, and what it called out."""

    def __init__(self, api: Any, **more: Any) -> None:
        self.api = api
        self.changed: list[Any] = []
        self.now_s = 1000.0
        self.rng = NoJitter()
        settings: dict[str, Any] = {"namespaces": [None], "selector": "owner", "page": 2, "rng": self.rng, **more}
        self.informer: Informer[Thing] = Informer(
            cast("Api", api),
            "ConfigMap",
            slim=slim,
            group=lambda record: record.owner,
            changed=self.changed.append,
            clock=lambda: self.now_s,
            **settings,
        )

    @contextlib.asynccontextmanager
    async def running(self, *, watching: int = 1) -> AsyncIterator[ScriptedApi]:
        """Run it, once it has opened so many watches."""
        task = asyncio.create_task(self.informer.run())
        try:
            await soon(lambda: len(self.api.watches) >= watching or task.done())
            self.changed.clear()
            yield self.api
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def heard(self) -> list[Any]:
        """What was called out since the last look."""
        heard, self.changed[:] = list(self.changed), []
        return heard

    def version(self, name: str, namespace: str = "ns") -> int | None:
        record = self.informer.get(namespace, name)
        return None if record is None else record.version

    def names(self, group: str) -> dict[str, int]:
        return {name: record.version for (_namespace, name), record in self.informer.of(group).items()}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENDED_AT_ONCE_S", 0.0)
    monkeypatch.setattr(module, "ABSENT_AGAIN_S", 0.002)


# --- lists --------------------------------------------------------------------------------------------------


async def test_a_list_comes_in_pages_and_the_watch_goes_on_from_it() -> None:
    """The first page asks for no resource version, so that what it says is current."""
    api = ScriptedApi(listed(9, thing("x", 3), thing("y", 4, "b"), then="t1"))
    world = WatchedApi(api)
    task = asyncio.create_task(world.informer.run())
    await soon(lambda: len(api.lists) == 2)
    assert world.names("a") == {"x": 3}
    assert not world.informer.synced
    api.answer(listed(9, thing("z", 5), thing("loose", 6, None)))
    await soon(lambda: api.watches)
    task.cancel()

    assert world.informer.synced
    assert api.lists == [
        (None, {"labelSelector": "owner", "limit": "2"}),
        (None, {"labelSelector": "owner", "limit": "2", "continue": "t1"}),
    ]
    assert api.last.query == {"labelSelector": "owner", "resourceVersion": "9", "allowWatchBookmarks": "true"}
    assert world.rng.bounds[0] == (240.0, 360.0)
    assert (world.names("a"), world.names("b"), world.version("loose")) == ({"x": 3, "z": 5}, {"y": 4}, 6)
    assert sorted(world.heard()) == ["a", "a", "b"]


async def test_a_list_that_expires_between_pages_starts_over() -> None:
    api = ScriptedApi(listed(9, thing("x", 3), then="t1"), GONE, listed(12, thing("x", 3), then="t2"))
    api.answer(listed(12, thing("y", 11)))
    async with WatchedApi(api).running() as api:
        assert [query.get("continue", "") for _, query in api.lists] == ["", "t1", "", "t2"]
        assert api.watched_from == ["12"]


async def test_what_went_while_nobody_watched_is_noticed_by_the_next_list() -> None:
    world = WatchedApi(ScriptedApi(listed(9, thing("x", 3), thing("y", 4, "b"), thing("z", 5, "c"))))
    async with world.running() as api:
        api.answer(listed(20, thing("x", 3), thing("y", 15, "d"), thing("w", 16, "e")))
        api.last.say(GONE)
        await soon(lambda: api.watched_from == ["9", "20"])
        assert sorted(world.heard()) == ["b", "c", "d", "e"]
        assert (world.version("x"), world.version("y"), world.version("z")) == (3, 15, None)
        assert (world.names("b"), world.names("c"), world.names("d")) == ({}, {}, {"y": 15})
        assert world.informer.problem is None


async def test_a_list_that_goes_back_in_time_is_believed() -> None:
    """Where etcd was restored from a backup, waiting for higher versions would show the old world for hours."""
    world = WatchedApi(ScriptedApi(listed(900, thing("x", 800), thing("y", 850))))
    async with world.running() as api:
        api.answer(listed(500, thing("x", 300)))
        api.last.say(GONE)
        await soon(lambda: len(api.watches) == 2)
        assert world.names("a") == {"x": 300}
        assert api.last.query["resourceVersion"] == "500"
        world.informer.put(thing("y", 510))
        assert world.version("y") == 510


async def test_an_answer_that_is_no_list_is_waited_out() -> None:
    """Such as a proxy's page of apology with status 200."""
    world = WatchedApi(ScriptedApi({"message": "<html>"}))
    task = asyncio.create_task(world.informer.run())
    await soon(lambda: world.informer.problem)
    assert "the answer is no list" in str(world.informer.problem)
    world.api.answer(listed(9, thing("x", 3)))
    await soon(lambda: world.api.watches)
    assert world.informer.problem is None
    task.cancel()


# --- events -------------------------------------------------------------------------------------------------


async def test_events_change_the_index_and_call_out_the_groups() -> None:
    world = WatchedApi(ScriptedApi(listed(9, thing("x", 3))))
    async with world.running() as api:
        api.last.say(added(thing("y", 10, "b")))
        await soon(lambda: world.names("b") == {"y": 10})
        assert world.heard() == ["b"]

        api.last.say(modified(thing("x", 11)))
        await soon(lambda: world.names("a") == {"x": 11})
        assert world.heard() == ["a"]

        api.last.say(modified(thing("x", 12, "b")))
        await soon(lambda: world.names("b") == {"x": 12, "y": 10})
        assert world.names("a") == {}
        assert world.heard() == ["a", "b"]

        api.last.say(deleted(thing("y", 13, "b")))
        await soon(lambda: world.names("b") == {"x": 12})
        assert world.heard() == ["b"]

        api.last.say(modified(thing("x", 14, None)))
        await soon(lambda: world.names("b") == {})
        assert world.heard() == ["b"]
        assert world.version("x") == 14
        assert world.informer._groups == {}  # groups that are over take no memory


async def test_an_object_that_regains_its_label_is_back() -> None:
    """To a watch with a selector, the loss of a label is a delete of an object that still exists."""
    world = WatchedApi(ScriptedApi(listed(9, thing("x", 3))))
    async with world.running() as api:
        api.last.say(deleted(thing("x", 10)), added(thing("x", 11)))
        await soon(lambda: world.version("x") == 11)
        assert world.heard() == ["a", "a"]


async def test_the_answer_of_of_is_the_callers_own() -> None:
    world = WatchedApi(ScriptedApi(listed(9, thing("x", 3))))
    async with world.running() as api:
        before = world.informer.of("a")
        api.last.say(deleted(thing("x", 10)))
        await soon(lambda: world.version("x") is None)
        assert [name for _, name in before] == ["x"]


# --- watches that end ---------------------------------------------------------------------------------------


async def test_a_watch_goes_on_where_the_last_one_ended() -> None:
    """Of events and bookmarks alike; the server's end and a broken connection are no problem."""
    world = WatchedApi(ScriptedApi(listed(9)))
    async with world.running() as api:
        api.last.say(added(thing("x", 12)), None)
        await soon(lambda: len(api.watches) == 2)
        api.last.say(bookmark(40), AWAY)
        await soon(lambda: len(api.watches) == 3)
        api.last.say(deleted(thing("x", 41)), None)
        await soon(lambda: len(api.watches) == 4)
        assert api.watched_from == ["9", "12", "40", "41"]
        assert len(api.lists) == 1
        assert world.informer.problem is None


async def test_three_failures_in_a_row_lead_to_a_list() -> None:
    world = WatchedApi(ScriptedApi(listed(9), listed(30), refusals=[AWAY, AWAY, AWAY]))
    async with world.running(watching=4) as api:
        assert api.watched_from == ["9", "9", "9", "30"]


async def test_an_event_between_failures_starts_the_count_anew() -> None:
    world = WatchedApi(ScriptedApi(listed(9), refusals=[AWAY, AWAY]))
    async with world.running(watching=3) as api:
        api.last.say(bookmark(10), AWAY)
        await soon(lambda: len(api.watches) == 4)
        assert len(api.lists) == 1


async def test_the_wait_doubles_to_its_limit_with_full_jitter() -> None:
    """A list that succeeds between watches that are refused must not start it anew: it would be asked for forever."""
    world = WatchedApi(ScriptedApi(*[listed(9)] * 3, refusals=[FORBIDDEN] * 8))
    async with world.running(watching=9) as api:
        waits = [bounds for bounds in world.rng.bounds if bounds != module.WATCH_WITHIN_S]
        assert waits == [(0, 0.5), (0, 1), (0, 2), (0, 4), (0, 8), (0, 15), (0, 15), (0, 15)]
        api.last.say(bookmark(10), AWAY)
        await soon(lambda: len(api.watches) == 10)
        assert world.rng.bounds[-2] == (0, 0.5)


async def test_a_watch_that_ends_at_once_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a proxy that closes watches at once would make the informer spin."""
    monkeypatch.setattr(module, "ENDED_AT_ONCE_S", 1.0)
    world = WatchedApi(ScriptedApi(listed(9)))
    async with world.running() as api:
        api.last.say(None)
        await soon(lambda: len(api.watches) == 2)
        assert world.rng.bounds[1] == (0, 0.5)
        world.now_s += 1
        api.last.say(None)
        await soon(lambda: len(api.watches) == 3)
        assert world.rng.bounds[3:] == [module.WATCH_WITHIN_S]


async def test_a_silent_watch_is_broken_and_events_keep_one_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENT_FOR_S", 0.2)
    world = WatchedApi(ScriptedApi(listed(9)))
    async with world.running() as api:
        for version in range(10, 16):
            await asyncio.sleep(0.08)
            api.last.say(bookmark(version))
        assert len(api.watches) == 1
        await soon(lambda: len(api.watches) == 2)
        assert api.watched_from == ["9", "15"]


async def test_an_event_of_no_known_type_breaks_the_watch() -> None:
    world = WatchedApi(ScriptedApi(listed(9)))
    async with world.running() as api:
        api.last.say({"type": "SURPRISE"})
        await soon(lambda: len(api.watches) == 2)
        assert api.watched_from == ["9", "9"]


# --- trouble ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (FORBIDDEN, "grant the operator's ServiceAccount list and watch of configmaps in namespace ns"),
        (ClusterError(401, "Unauthorized"), "give the operator a valid token"),
        (ABSENT, "install the CRD configmaps"),
        (AWAY, "check that the API server runs"),
        (ClusterError(503, "starting"), "check that the API server runs"),
        (ClusterError(400, "unable to parse"), "do not fit"),
    ],
)
async def test_a_list_that_fails_is_a_problem_with_a_remedy_until_one_succeeds(
    error: ClusterError, remedy: str
) -> None:
    world = WatchedApi(ScriptedApi(error), namespaces=["ns"])
    task = asyncio.create_task(world.informer.run())
    await soon(lambda: world.informer.problem)
    told = str(world.informer.problem)
    assert told.startswith("ConfigMap objects cannot be read in namespace ns")
    assert str(error) in told
    assert remedy in told
    assert not world.informer.synced
    world.api.answer(listed(9, thing("x", 3)))
    await soon(lambda: world.api.watches)
    assert world.informer.problem is None
    assert world.version("x") == 3
    task.cancel()


@pytest.mark.parametrize("word", [bookmark(10), None])
async def test_a_watch_that_is_refused_is_a_problem_until_one_speaks_or_ends_well(word: Manifest | None) -> None:
    """The records stay: they are the best that is known."""
    world = WatchedApi(ScriptedApi(listed(9, thing("x", 3)), refusals=[FORBIDDEN]))
    async with world.running(watching=2) as api:
        assert "grant the operator's ServiceAccount list and watch of configmaps in all namespaces" in str(
            world.informer.problem
        )
        assert world.names("a") == {"x": 3}
        api.last.say(word)
        await soon(lambda: world.informer.problem is None)


async def test_a_watch_that_stands_for_a_while_ends_the_problem_although_nothing_happens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a kind that nobody edits the first bookmark may take two minutes."""
    monkeypatch.setattr(module, "STANDS_AFTER_S", 0.05)
    world = WatchedApi(ScriptedApi(listed(9, thing("x", 3)), refusals=[FORBIDDEN]))
    async with world.running(watching=2) as api:
        assert world.informer.problem
        await soon(lambda: world.informer.problem is None)
        assert len(api.watches) == 2


async def test_lists_that_expire_again_and_again_become_a_problem() -> None:
    world = WatchedApi(ScriptedApi(GONE, GONE))
    task = asyncio.create_task(world.informer.run())
    await soon(lambda: len(world.api.lists) == 3)
    assert world.informer.problem is None
    world.api.answer(GONE)
    await soon(lambda: "compaction" in (world.informer.problem or ""))
    task.cancel()


async def test_an_optional_kind_may_come_and_go() -> None:
    world = WatchedApi(ScriptedApi(ABSENT), optional=True)
    task = asyncio.create_task(world.informer.run())
    await soon(lambda: len(world.api.lists) == 2)
    assert world.informer.synced
    assert world.informer.problem is None
    assert world.informer.fresh_s == 0
    assert world.rng.bounds == [(0.8, 1.2)]
    world.api.answer(listed(9, thing("x", 3)))
    await soon(lambda: world.names("a") == {"x": 3})
    await soon(lambda: world.api.watches)
    world.heard()
    world.api.last.say(ABSENT)
    await soon(lambda: world.names("a") == {})
    assert world.heard() == ["a"]
    world.api.answer(listed(90, thing("x", 3)))
    await soon(lambda: world.names("a") == {"x": 3})
    task.cancel()


async def test_an_optional_kind_that_is_forbidden_is_a_problem() -> None:
    world = WatchedApi(ScriptedApi(FORBIDDEN), optional=True)
    task = asyncio.create_task(world.informer.run())
    await soon(lambda: world.informer.problem)
    assert not world.informer.synced
    task.cancel()


async def test_freshness_is_that_of_the_namespace_silent_for_longest() -> None:
    world = WatchedApi(ScriptedApi(), namespaces=["one", "two"])
    assert world.informer.fresh_s == math.inf
    world.api.answer(listed(9), listed(9))
    async with world.running(watching=2) as api:
        assert world.informer.fresh_s == 0
        world.now_s += 50
        api.watches[0].say(bookmark(10))
        await quiet()
        assert world.informer.fresh_s == 50
        world.now_s += 5
        api.watches[1].say(bookmark(11))
        await soon(lambda: world.informer.fresh_s == 5)


async def test_every_namespace_has_a_list_and_a_watch_of_its_own() -> None:
    world = WatchedApi(ScriptedApi(), namespaces=["one", "two"])
    world.api.answer(listed(9, thing("x", 3, namespace="one")))
    task = asyncio.create_task(world.informer.run())
    await soon(lambda: world.api.watches)
    assert not world.informer.synced
    world.api.answer(listed(9, thing("x", 4, namespace="two")))
    await soon(lambda: len(world.api.watches) == 2)
    assert world.informer.synced
    assert {(*key, record.version) for key, record in world.informer.of("a").items()} == {
        ("one", "x", 3),
        ("two", "x", 4),
    }
    world.api.answer(listed(20))
    world.api.watches[0].say(GONE)
    await soon(lambda: len(world.api.watches) == 3)
    assert [opened.namespace for opened in world.api.watches] == ["one", "two", "one"]
    assert list(world.informer.of("a")) == [("two", "x")]
    world.informer.put(thing("x", 99, namespace="three"))
    assert world.informer.get("three", "x") is None
    task.cancel()


@pytest.mark.parametrize("namespaces", [[], [None, "one"]])
def test_namespaces_that_make_no_sense_are_refused(namespaces: Sequence[str | None]) -> None:
    with pytest.raises(ValueError, match="name at least one, or give \\[None\\] alone"):
        WatchedApi(ScriptedApi(), namespaces=namespaces)


# --- read your writes ---------------------------------------------------------------------------------------


async def test_what_we_wrote_is_known_at_once_and_its_late_event_is_no_news() -> None:
    world = WatchedApi(ScriptedApi(listed(9, thing("x", 3))))
    async with world.running() as api:
        world.informer.put(thing("x", 12))
        world.informer.put(thing("y", 13))
        assert world.names("a") == {"x": 12, "y": 13}
        assert world.heard() == ["a", "a"]
        api.last.say(modified(thing("x", 11)), modified(thing("x", 12)), added(thing("y", 13)), bookmark(14))
        await quiet()
        assert world.names("a") == {"x": 12, "y": 13}
        assert world.heard() == []


async def test_an_answer_that_comes_late_does_not_undo_what_came_since() -> None:
    world = WatchedApi(ScriptedApi(listed(9, thing("x", 3))))
    async with world.running() as api:
        api.last.say(modified(thing("x", 15)), added(thing("y", 16)), deleted(thing("y", 17)))
        await soon(lambda: world.version("x") == 15)
        await quiet()
        world.heard()
        world.informer.put(thing("x", 12))
        world.informer.put(thing("y", 16))
        assert world.names("a") == {"x": 15}
        assert world.heard() == []


async def test_an_answer_later_than_a_list_without_its_object_is_ignored() -> None:
    """We made it, somebody deleted it, and a list came before our answer: no event would ever remove it."""
    world = WatchedApi(ScriptedApi(listed(9)))
    async with world.running() as api:
        api.answer(listed(30))
        api.last.say(GONE)
        await soon(lambda: len(api.watches) == 2)
        world.informer.put(thing("x", 20))
        assert world.version("x") is None


async def test_a_delete_of_the_object_before_does_not_remove_the_one_we_made_since() -> None:
    world = WatchedApi(ScriptedApi(listed(9, thing("x", 3, uid="first"))))
    async with world.running() as api:
        world.informer.put(thing("x", 12, uid="second"))
        api.last.say(deleted(thing("x", 11, uid="first")), bookmark(12))
        await quiet()
        assert world.version("x") == 12


async def test_what_we_deleted_is_gone_at_once_and_stays_so() -> None:
    world = WatchedApi(ScriptedApi(listed(9, thing("x", 3))))
    async with world.running() as api:
        world.informer.forget("ns", "x", "another uid")
        assert world.version("x") == 3
        world.informer.forget("ns", "x", "uid-x")
        assert world.version("x") is None
        assert world.heard() == ["a"]
        api.last.say(modified(thing("x", 10)), deleted(thing("x", 12)))
        await quiet()
        world.informer.put(thing("x", 11))
        assert world.version("x") is None
        assert world.heard() == []
        api.last.say(added(thing("x", 13, uid="new")))
        await soon(lambda: world.version("x") == 13)


async def test_what_we_write_while_a_list_runs_is_newer_than_the_list() -> None:
    """Its pages show the moment at which it began."""
    world = WatchedApi(ScriptedApi(listed(9, thing("x", 3), thing("y", 4), thing("z", 5))))
    async with world.running() as api:
        api.last.say(GONE)
        await soon(lambda: len(api.lists) == 2)
        world.informer.put(thing("x", 22))
        world.informer.put(thing("new", 23))
        world.informer.forget("ns", "y", "uid-y")
        api.answer(listed(20, thing("x", 3), thing("y", 4), then="t"))
        await soon(lambda: len(api.lists) == 3)
        world.informer.put(thing("z", 24))
        world.informer.put(thing("came and went", 18))
        api.answer(listed(20, thing("z", 5)))
        await soon(lambda: len(api.watches) == 2)
        assert world.names("a") == {"x": 22, "new": 23, "z": 24}
        assert world.informer._places[None].touched is None  # between lists nothing is noted


async def test_a_list_brings_back_what_was_forgotten_in_error() -> None:
    """Such as an object that a finalizer still holds."""
    world = WatchedApi(ScriptedApi(listed(9, thing("x", 3))))
    async with world.running() as api:
        world.informer.forget("ns", "x", "uid-x")
        api.answer(listed(20, thing("x", 10)))
        api.last.say(GONE)
        await soon(lambda: world.version("x") == 10)
        api.last.say(modified(thing("x", 21)))
        await soon(lambda: world.version("x") == 21)


async def test_late_events_of_an_object_before_the_one_we_made_and_deleted_do_not_bring_it_back() -> None:
    world = WatchedApi(ScriptedApi(listed(9, thing("x", 3, uid="first"))))
    async with world.running() as api:
        world.informer.put(thing("x", 12, uid="second"))
        world.informer.forget("ns", "x", "second")
        api.last.say(modified(thing("x", 10, uid="first")))
        await quiet()
        assert world.version("x") is None


async def test_only_so_many_deletes_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOMBSTONES", 3)
    world = WatchedApi(ScriptedApi(listed(9)))
    async with world.running():
        for number in range(5):
            world.informer.forget("ns", f"x{number}", f"uid-x{number}")
        for number in range(5):
            world.informer.put(thing(f"x{number}", 20))
        assert set(world.names("a")) == {"x0", "x1"}


# --- everything at once -------------------------------------------------------------------------------------


class LivingApi:
    """A small API server: history, snapshots in pages, watches with a selector, and trouble from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(f"informer-{seed}")
        self.version = 100
        self.objects: dict[str, Manifest] = {}  # labelled or not
        self.history: list[tuple[int, Manifest]] = []  # events as a watch for labelled objects sees them
        self.compacted = 0
        self.snapshots: dict[str, tuple[int, list[Manifest]]] = {}
        self.trouble = 0.1
        self.watches: list[int] = []

    def write(self, name: str, owner: str | None) -> Manifest:
        """Make or change an object; None takes its label away."""
        self.version += 1
        before = self.objects.get(name)
        uid = before["metadata"]["uid"] if before else f"{name}-{self.version}"
        after = self.objects[name] = thing(name, self.version, owner, uid=uid)
        had = before is not None and "owner" in before["metadata"]["labels"]
        if owner is not None:
            self.history.append((self.version, modified(after) if had else added(after)))
        elif had and before is not None:
            gone = thing(name, self.version, before["metadata"]["labels"]["owner"], uid=uid)
            self.history.append((self.version, deleted(gone)))
        return after

    def delete(self, name: str) -> Manifest:
        self.version += 1
        before = self.objects.pop(name)
        metadata = before["metadata"]
        if "owner" in metadata["labels"]:
            gone = thing(name, self.version, metadata["labels"]["owner"], uid=metadata["uid"])
            self.history.append((self.version, deleted(gone)))
        return before

    def labelled(self) -> list[Manifest]:
        return [one for one in self.objects.values() if "owner" in one["metadata"]["labels"]]

    async def call(self, _verb: str, _kind: str, _namespace: str | None, *, query: Mapping[str, str]) -> Manifest:
        await self._pause()
        if self.random.random() < self.trouble:
            raise self.random.choice([AWAY, FORBIDDEN])
        token = query.get("continue", "")
        if token and self.random.random() < self.trouble:
            raise GONE
        if not token:
            token = f"s{self.version}-0"
            self.snapshots[token.split("-")[0]] = (self.version, self.labelled())
        snapshot, start = token.split("-")
        version, items = self.snapshots[snapshot]
        end = int(start) + int(query["limit"])
        answer = listed(version, *items[int(start) : end], then=f"{snapshot}-{end}" if end < len(items) else "")
        await self._pause()
        return answer

    async def watch(
        self, _kind: str, _namespace: str | None, *, query: Mapping[str, str], within_s: float
    ) -> AsyncIterator[Manifest]:
        del within_s
        at = int(query["resourceVersion"])
        self.watches.append(at)
        while True:
            await self._pause()
            if self.random.random() < self.trouble / 4:
                raise self.random.choice([AWAY, GONE, FORBIDDEN])
            if self.random.random() < self.trouble / 4:
                return
            if at < self.compacted:
                raise GONE
            later = [(version, event) for version, event in self.history if version > at]
            if later:
                at, event = later[0]
                yield event
            elif self.random.random() < 0.1:
                at = self.version
                yield bookmark(at)

    async def _pause(self) -> None:
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_happens_the_index_ends_as_the_server_is(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our writes answer late or early, others write too, labels come and go, watches break and history is compacted.

    At every moment, what we have read of our own write does not go back.
    """
    monkeypatch.setattr(module, "ABSENT_AGAIN_S", 0.0)
    api = LivingApi(seed)
    world = WatchedApi(api)
    late: list[Callable[[], None]] = []
    seen: dict[str, set[str]] = {}  # group → names when it was last called out
    world.informer._changed = lambda group: seen.__setitem__(str(group), set(world.names(str(group))))

    def act() -> None:
        name = f"n{api.random.randrange(12)}"
        mine = api.random.random() < 0.5
        if name in api.objects and api.random.random() < 0.35:
            uid = api.delete(name)["metadata"]["uid"]
            if mine:
                late.append(lambda: world.informer.forget("ns", name, uid))
        else:
            labelled = mine or api.random.random() < 0.7
            answer = api.write(name, api.random.choice("abc") if labelled else None)
            if mine:
                late.append(lambda: put(answer))

    def put(answer: Manifest) -> None:
        world.informer.put(answer)
        record = world.informer.get("ns", answer["metadata"]["name"])
        if record is None:  # then it is really gone, or without its label, or was made anew
            now = api.objects.get(answer["metadata"]["name"])
            assert now is None or now["metadata"]["resourceVersion"] != answer["metadata"]["resourceVersion"]
        else:
            assert (
                record.version >= int(answer["metadata"]["resourceVersion"]) or record.uid != answer["metadata"]["uid"]
            )

    async with world.running():
        for _ in range(300):
            act()
            while late and api.random.random() < 0.6:
                late.pop(api.random.randrange(len(late)))()
            if api.random.random() < 0.02:
                api.compacted = api.version
            for _ in range(api.random.randrange(5)):
                await asyncio.sleep(0)
        for answer in late:
            answer()
        api.trouble = 0.0

        def truth() -> set[tuple[str, int]]:
            return {(one["metadata"]["name"], int(one["metadata"]["resourceVersion"])) for one in api.labelled()}

        def known() -> set[tuple[str, int]]:
            return {(one.name, one.version) for group in "abc" for one in world.informer.of(group).values()}

        await soon(lambda: known() == truth() and world.informer.problem is None)
        await quiet()
        assert known() == truth()
        assert {(one.name, one.version) for one in world.informer._records.values()} == truth()
        assert {group: names for group, names in seen.items() if names} == {
            group: set(world.names(group)) for group in "abc" if world.names(group)
        }
