"""The roll call: whatever kopf has missed, the loops know of every pipeline that is there and of no other."""

from __future__ import annotations

from typing import Any

import pytest
from eod_operator.handlers import pipeline_of
from eod_operator.kube.api import METADATA_LIST, ClusterError
from eod_operator.passes import Pipeline
from eod_operator.watching import Watching

Manifest = dict[str, Any]


def body(name: str, generation: int = 1, uid: str = "") -> Manifest:
    meta = {"namespace": "trading", "name": name, "uid": uid or f"u-{name}", "generation": generation}
    return {"metadata": meta, "spec": {}}


class FakeApi:
    """Pipelines of an API server, in pages of two."""

    def __init__(self, *there: Manifest) -> None:
        self.there = list(there)
        self.calls: list[tuple[str, str | None, str]] = []

    async def call(self, verb: str, kind: str, namespace: str | None, name: str = "", **more: Any) -> Manifest:
        assert kind == "EodPipeline"
        self.calls.append((verb, namespace, name))
        if verb == "get":
            found = [one for one in self.there if one["metadata"]["name"] == name]
            if not found:
                raise ClusterError(404, "not found")
            return found[0]
        assert more["accept"] == METADATA_LIST
        start = int(more["query"].get("continue", 0))
        page = [{"metadata": one["metadata"]} for one in self.there[start : start + 2]]
        rest = {"continue": str(start + 2)} if start + 2 < len(self.there) else {}
        return {"items": page, "metadata": rest}


class FakeLoops:
    """What the loops know."""

    def __init__(self, *known: Manifest) -> None:
        self.known = {one["metadata"]["uid"]: pipeline_of(one) for one in known}

    def __iter__(self) -> Any:
        return iter([(pipeline, None) for pipeline in self.known.values()])

    def seen(self, pipeline: Pipeline) -> None:
        self.known[pipeline.owner.uid] = pipeline

    def gone(self, uid: str) -> None:
        del self.known[uid]


@pytest.mark.parametrize("namespaces", [(), ("trading",)])
async def test_what_was_missed_is_made_up_for(namespaces: tuple[str, ...]) -> None:
    """A new one, an edited one, a deleted one, one made anew under its name; those that we know cost nothing."""
    there = [body("same"), body("new"), body("edited", 2), body("anew", uid="u-2"), body("other")]
    api: Any = FakeApi(*there)
    loops: Any = FakeLoops(body("same"), body("edited"), body("deleted"), body("anew"), body("other"))
    await Watching(api, loops, namespaces).call_the_roll()
    assert {uid: one.generation for uid, one in loops.known.items()} == {
        "u-same": 1,
        "u-new": 1,
        "u-edited": 2,
        "u-2": 1,
        "u-other": 1,
    }
    assert {name for verb, _, name in api.calls if verb == "get"} == {"new", "edited", "anew"}
    assert {place for verb, place, _ in api.calls if verb == "list"} == {namespaces[0] if namespaces else None}


async def test_one_that_goes_in_the_middle_is_no_trouble() -> None:
    class Vanishing(FakeApi):
        async def call(self, verb: str, kind: str, namespace: str | None, name: str = "", **more: Any) -> Manifest:
            answer = await super().call(verb, kind, namespace, name, **more)
            if verb == "list":
                self.there = []
            return answer

    api: Any = Vanishing(body("new"))
    loops: Any = FakeLoops()
    await Watching(api, loops, ()).call_the_roll()
    assert loops.known == {}


async def test_an_api_server_that_does_not_answer_lets_nobody_go() -> None:
    class Silent(FakeApi):
        async def call(self, *_: Any, **__: Any) -> Manifest:
            raise ClusterError(0, "no answer")

    api: Any = Silent()
    loops: Any = FakeLoops(body("same"))
    with pytest.raises(ClusterError):
        await Watching(api, loops, ()).call_the_roll()
    assert set(loops.known) == {"u-same"}
