"""Several brokers, of which some no longer lead or keep what they did: what one real broker cannot show."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.errors import GroupAuthorizationFailedError, GroupCoordinatorNotAvailableError, NodeNotReadyError
from eod_operator.kafka.groups import Groups
from eod_operator.kafka.topics import FACTS_PER_LOOK, Topics
from eod_operator.kafka.wire import (
    EARLIEST,
    GroupOffsets,
    Packed,
    PartitionOffsets,
    _fetched,
    _listed,
    fetch_offsets,
    fetched_topic,
)

NOT_LEADER, LEADERLESS, NOT_COORDINATOR, NO_COORDINATOR, DENIED = 6, 5, 16, 15, 30


class Cluster:
    """Brokers as a client of aiokafka sees them: leaders of each topic's partitions, and keepers of groups."""

    def __init__(self) -> None:
        self.leaders: dict[str, list[int]] = {"trades": [1, 2, 1]}
        self.believed: dict[str, list[int]] = {}
        self.ends: dict[str, list[int]] = {"trades": [10, 20, 30]}
        self.keepers: dict[str, int] = {"pnl": 1, "archive": 2}
        self.said: dict[str, int] = {}
        self.denied: set[str] = set()
        self.dead: set[int] = set()
        self.asked: list[tuple[int, str]] = []

    def get_random_node(self) -> int:
        return 1

    async def coordinator_lookup(self, _kind: int, group: str) -> int:
        self.asked.append((0, group))
        if group in self.denied:
            raise GroupAuthorizationFailedError
        keeper = self.said.get(group, self.keepers[group])
        if keeper < 0:
            raise GroupCoordinatorNotAvailableError
        return keeper

    async def send(self, node: int, request: Any) -> Any:
        if node in self.dead:
            raise NodeNotReadyError
        if not isinstance(request, Packed):
            topics = request.prepare({3: (5, 5)}).topics
            self.asked.append((node, f"metadata {len(topics)}"))
            return SimpleNamespace(topics=[self._metadata(topic) for topic in topics])
        self.asked.append((node, {2: "list", 9: "fetch"}[request.API_KEY]))
        return tuple(self._list(node, request) if request.API_KEY == 2 else self._fetch(node, request))

    def _metadata(self, topic: str) -> tuple[int, str, bool, list[tuple[int, int, int]]]:
        leaders = self.believed.get(topic, self.leaders.get(topic, []))
        partitions = [(0, number, leader) for number, leader in enumerate(leaders)]
        return 0 if leaders else 3, topic, False, partitions

    def _list(self, node: int, request: Packed) -> Iterator[PartitionOffsets]:
        body = request.encode()
        first = struct.pack(">q", EARLIEST) in body
        for topic, leaders in self.leaders.items():
            at = body.find(topic.encode())
            if at >= 0:
                (count,) = struct.unpack_from(">i", body, at + len(topic))
                numbers = [struct.unpack_from(">i", body, at + len(topic) + 4 + 12 * one)[0] for one in range(count)]
                codes = [0 if leaders[number] == node else NOT_LEADER for number in numbers]
                offsets = [0 if first else self.ends[topic][number] for number in numbers]
                yield PartitionOffsets(topic, tuple(numbers), tuple(codes), tuple(offsets))

    def _fetch(self, node: int, request: Packed) -> Iterator[GroupOffsets]:
        for group, keeper in self.keepers.items():
            if group.encode() in request.encode():
                found = PartitionOffsets("trades", (0, 1, 2), (0, 0, 0), (7, 8, -1))
                yield GroupOffsets(group, 0, (found,)) if keeper == node else GroupOffsets(group, NOT_COORDINATOR, ())


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("topics", "groups"):
        monkeypatch.setattr(f"eod_operator.kafka.{module}._RETRY_AFTER_S", 0.0)


@pytest.fixture
def topics(cluster: Cluster) -> Topics:
    return Topics(cast("Any", cluster))


@pytest.fixture
def groups(cluster: Cluster) -> Groups:
    return Groups(cast("Any", cluster))


async def test_partitions_of_several_leaders_become_one_row(cluster: Cluster, topics: Topics) -> None:
    ends = await topics.read({"trades", "nowhere"})
    assert list(ends.end["trades"]) == [10, 20, 30]
    assert list(ends.first["trades"]) == [0, 0, 0]
    assert (ends.missing, ends.codes, ends.requests) == ({"nowhere"}, {}, 2)
    cluster.asked.clear()
    await topics.read({"trades"})
    assert cluster.asked == [(1, "list"), (2, "list")]


async def test_a_leader_that_moved_is_asked_for_at_once(cluster: Cluster, topics: Topics) -> None:
    await topics.read({"trades"})
    cluster.leaders["trades"] = [2, 2, 3]
    ends = await topics.read({"trades"})
    assert (list(ends.end["trades"]), ends.codes) == ([10, 20, 30], {})


async def test_a_topic_without_a_leader_is_waited_for_once_and_fails_no_other(cluster: Cluster, topics: Topics) -> None:
    cluster.leaders["prices"] = [1, -1]
    cluster.ends["prices"] = [1, 1]
    ends = await topics.read({"trades", "prices"})
    assert (ends.codes, ends.partitions["prices"], list(ends.end)) == ({"prices": LEADERLESS}, 2, ["trades"])
    first = len(cluster.asked)
    await topics.read({"trades", "prices"})
    assert len(cluster.asked) - first <= 4 < first
    cluster.leaders["prices"] = [1, 2]
    ends = await topics.read({"trades", "prices"})
    assert (ends.codes, list(ends.end["prices"])) == ({}, [1, 1])


async def test_a_broker_that_never_learns_leaves_the_topic_unread(cluster: Cluster, topics: Topics) -> None:
    cluster.believed["trades"] = [1, 1, 1]
    ends = await topics.read({"trades"})
    assert (ends.codes, ends.end, ends.first) == ({"trades": NOT_LEADER}, {}, {})


async def test_old_facts_are_asked_again_a_few_at_a_time(
    cluster: Cluster, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {f"topic-{number:04d}" for number in range(FACTS_PER_LOOK + 50)}
    cluster.leaders = {name: [1] for name in names}
    cluster.ends = {name: [5] for name in names}
    await topics.read(names)
    monkeypatch.setattr("eod_operator.kafka.topics.FACTS_FOR_S", -1.0)
    cluster.asked.clear()
    await topics.read(names)
    asked = [int(what.split()[1]) for _node, what in cluster.asked if what.startswith("metadata")]
    assert sum(asked) == FACTS_PER_LOOK
    assert max(asked) <= 100


async def test_a_keeper_is_asked_for_once(cluster: Cluster, groups: Groups) -> None:
    found = await groups.read({"pnl": {"trades": 3}, "archive": {"trades": 3}})
    assert {group: list(rows["trades"]) for group, rows in found.committed.items()} == {
        "pnl": [7, 8, -1],
        "archive": [7, 8, -1],
    }
    cluster.asked.clear()
    await groups.read({"pnl": {"trades": 3}, "archive": {"trades": 3}})
    assert sorted(cluster.asked) == [(1, "fetch"), (2, "fetch")]


async def test_a_group_that_moved_is_followed(cluster: Cluster, groups: Groups) -> None:
    await groups.read({"pnl": {"trades": 3}})
    cluster.keepers["pnl"] = 2
    cluster.asked.clear()
    found = await groups.read({"pnl": {"trades": 3}})
    assert (list(found.committed["pnl"]["trades"]), found.codes) == ([7, 8, -1], {})
    assert cluster.asked == [(1, "fetch"), (0, "pnl"), (2, "fetch")]


async def test_a_group_without_a_keeper_is_waited_for_once_and_fails_no_other(cluster: Cluster, groups: Groups) -> None:
    wanted = {"pnl": {"trades": 3}, "archive": {"trades": 3}}
    cluster.said["pnl"] = -1
    found = await groups.read(wanted)
    assert (found.codes, list(found.committed)) == ({"pnl": NO_COORDINATOR}, ["archive"])
    first = len(cluster.asked)
    await groups.read(wanted)
    assert len(cluster.asked) - first <= 3 < first
    del cluster.said["pnl"]
    assert (await groups.read(wanted)).codes == {}


async def test_a_group_that_may_not_be_read_is_not_waited_for(cluster: Cluster, groups: Groups) -> None:
    cluster.denied.add("pnl")
    found = await groups.read({"pnl": {"trades": 3}, "archive": {"trades": 3}})
    assert (found.codes, list(found.committed)) == ({"pnl": DENIED}, ["archive"])
    assert cluster.asked.count((0, "pnl")) == 1


async def test_a_dead_broker_is_no_matter_of_one_group(cluster: Cluster, groups: Groups) -> None:
    cluster.dead.add(2)
    with pytest.raises(NodeNotReadyError):
        await groups.read({"archive": {"trades": 3}})


def test_an_answer_of_any_length_is_unpacked() -> None:
    """Metadata of commits and tagged fields are skipped wherever they are, also past 127 bytes."""
    commits = b"".join(
        struct.pack(">iqi", number, 100 + number, -1) + metadata + struct.pack(">h", 0) + tags
        for number, (metadata, tags) in enumerate(
            [(b"\1", b"\0"), (b"\0", b"\0"), (b"\xad\2" + b"x" * 300, b"\1\5\2zz"), (b"\1", b"\0")]
        )
    )
    topic = b"\7trades" + b"\5" + commits + b"\0"
    answer = b"\0\0\0\0" + b"\3" + (b"\4pnl\2" + topic + b"\0\0\0") + (b"\4bad\1" + b"\0\x1e\0") + b"\0"
    found = PartitionOffsets("trades", (0, 1, 2, 3), (0, 0, 0, 0), (100, 101, 102, 103))
    assert _fetched(answer) == (GroupOffsets("pnl", 0, (found,)), GroupOffsets("bad", DENIED, ()))
    listed = b"\0\0\0\0" + b"\0\0\0\1" + b"\0\6trades" + b"\0\0\0\2" + struct.pack(">ihqq", 0, 0, -1, 5)
    listed += struct.pack(">ihqq", 1, NOT_LEADER, -1, -1)
    assert _listed(listed) == (PartitionOffsets("trades", (0, 1), (0, NOT_LEADER), (5, -1)),)


def test_long_names_and_many_partitions_are_packed() -> None:
    """A compact length above 127 takes two bytes."""
    body = fetch_offsets({"g" * 200: [fetched_topic("t" * 130, 150)]}).encode()
    assert body.startswith(b"\2\xc9\1" + b"g" * 200 + b"\2" + b"\x83\1" + b"t" * 130 + b"\x97\1" + struct.pack(">i", 0))
    assert body.endswith(struct.pack(">i", 149) + b"\0" * 4)
