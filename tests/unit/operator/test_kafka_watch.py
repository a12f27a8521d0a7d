"""When each Kafka is looked at and who is told, with a Kafka of numbers in memory."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from itertools import pairwise
from typing import cast

import pytest
from eod_operator.conditions import Problem
from eod_operator.kafka import (
    Endpoint,
    KafkaUnreachableError,
    KafkaWatches,
    Look,
    Reading,
    Security,
    TopicRefusedError,
    Wanted,
)
from eod_operator.kafka.client import KafkaReader
from eod_operator.kafka.offsets import Offsets
from eod_operator.kafka.watch import COALESCE_S, RETENTION_FOR_S
from support.patience import soon
from support.virtual_time import virtually

TRADES = Wanted(("trades",), "pnl")


class FakeKafka:
    """One Kafka: topics of one partition by their ends, and what groups have committed in all of them."""

    def __init__(self) -> None:
        self.ends: dict[str, int] = {"trades": 10}
        self.committed: dict[str, int] = {"pnl": 4}
        self.kept_ms: dict[str, int] = {}
        self.refused: dict[str, str] = {}
        self.dead: str | None = None
        self.hangs = False
        self.broken: Exception | None = None
        self.requests = 2
        self.took_s = 0.0
        self.looks: list[tuple[set[str], dict[str, frozenset[str]]]] = []
        self.looked_s: list[float] = []
        self.opened = 0
        self.closed = 0
        self.retention_asked: list[set[str]] = []
        self.created: list[tuple[str, int, int, Mapping[str, str]]] = []


class FakeReader:
    """The connections to it."""

    def __init__(self, kafka: FakeKafka) -> None:
        self._kafka = kafka
        kafka.opened += 1

    async def read(self, topics: set[str], groups: Mapping[str, frozenset[str]]) -> Offsets:
        kafka = self._kafka
        kafka.looks.append((set(topics), dict(groups)))
        kafka.looked_s.append(asyncio.get_running_loop().time())
        await asyncio.sleep(kafka.took_s)
        if kafka.hangs:
            await asyncio.Event().wait()
        if kafka.broken:
            raise kafka.broken
        if kafka.dead:
            raise KafkaUnreachableError(kafka.dead)
        there = topics & kafka.ends.keys()
        return Offsets(
            partitions=dict.fromkeys(there, 1),
            first={topic: array("q", [0]) for topic in there},
            end={topic: array("q", [kafka.ends[topic]]) for topic in there},
            missing=frozenset(topics - there),
            committed={
                group: {topic: array("q", [kafka.committed.get(group, -1)]) for topic in theirs & there}
                for group, theirs in groups.items()
                if group not in kafka.refused
            },
            refused={group: why for group, why in kafka.refused.items() if group in groups},
            requests=kafka.requests,
        )

    async def retention(self, topics: Collection[str]) -> dict[str, int | None]:
        self._kafka.retention_asked.append(set(topics))
        return {topic: self._kafka.kept_ms.get(topic) for topic in topics}

    async def create(self, name: str, partitions: int, replication_factor: int, configs: Mapping[str, str]) -> None:
        if replication_factor > 3:
            raise TopicRefusedError("too many copies")
        self._kafka.created.append((name, partitions, replication_factor, configs))
        self._kafka.ends[name] = 0

    async def close(self) -> None:
        self._kafka.closed += 1


class WatchedKafka:
    """Several Kafkas and the watches of them."""

    def __init__(self) -> None:
        self.kafkas: dict[object, FakeKafka] = {"a:9092": FakeKafka(), "b:9092": FakeKafka()}
        self.changed: list[str] = []
        self.now_s = 5_000.0
        self.watches = self.watch()

    @property
    def a(self) -> FakeKafka:
        """The Kafka at a:9092."""
        return self.kafkas["a:9092"]

    def watch(self, *, fastest_s: float = 0.06, requests_per_s: float = 400.0) -> KafkaWatches:
        return KafkaWatches(
            wall=lambda: 1_700_000_000.0,
            clock=lambda: self.now_s,
            fastest_s=fastest_s,
            requests_per_s=requests_per_s,
            changed=self.changed.append,
            reader=lambda address: cast("KafkaReader", FakeReader(self.kafkas[address])),
        )

    async def until(self, holds: Callable[[], object], within_s: float = 20.0) -> None:
        await soon(holds, within_s=within_s)

    async def looks(self, more: int = 2, address: str = "a:9092") -> None:
        """Wait until so many more looks have begun; those that take no time have also ended."""
        kafka = self.kafkas[address]
        goal = len(kafka.looks) + more
        await self.until(lambda: len(kafka.looks) >= goal)
        await asyncio.sleep(0.01)

    def seen(self, key: str = "one", stage: str = "pnl") -> Reading:
        return self.watches.look(key).readings[stage]


@pytest.fixture
async def world() -> AsyncIterator[WatchedKafka]:
    made = WatchedKafka()
    yield made
    await made.watches.close()


async def test_a_subscription_is_looked_at_and_told(world: WatchedKafka) -> None:
    world.watches.subscribe("one", "a:9092", {"pnl": TRADES})
    assert world.watches.look("one") == Look({"pnl": Reading()})
    await world.until(lambda: world.changed)
    look = world.watches.look("one")
    assert look.readings["pnl"].lag == (6,)
    assert look.readings["pnl"].partitions == 1
    assert (look.at_s, look.problem) == (1_700_000_000.0, None)


async def test_a_burst_of_subscriptions_is_one_look(world: WatchedKafka) -> None:
    """Also one that comes while nothing is due; and a group of several pipelines is asked for once."""
    world.watches = world.watch(fastest_s=3_600.0)
    for number in range(100):
        world.watches.subscribe(f"first-{number}", "a:9092", {"pnl": TRADES})
    await world.until(lambda: len(world.changed) == 100)
    for number in range(100):
        world.watches.subscribe(f"then-{number}", "a:9092", {"pnl": Wanted(("trades", "prices"), "pnl")})
    await world.until(lambda: len(world.changed) == 200)
    assert world.a.looks == [
        ({"trades"}, {"pnl": frozenset({"trades"})}),
        ({"trades", "prices"}, {"pnl": frozenset({"trades", "prices"})}),
    ]


async def test_the_same_wish_again_changes_nothing(world: WatchedKafka) -> None:
    world.watches = world.watch(fastest_s=3_600.0)
    for _ in range(2):
        world.watches.subscribe("one", "a:9092", {"pnl": TRADES})
        await world.until(lambda: world.changed)
        await asyncio.sleep(3 * COALESCE_S)
    assert len(world.a.looks) == 1
    assert world.changed == ["one"]


async def test_another_wish_replaces_what_was_wanted(world: WatchedKafka) -> None:
    """What both have in common stays known meanwhile."""
    world.watches = world.watch(fastest_s=3_600.0)
    world.watches.subscribe("one", "a:9092", {"pnl": TRADES, "archive": Wanted(("trades",), "archive")})
    await world.until(lambda: world.changed)
    world.watches.subscribe("one", "a:9092", {"pnl": TRADES, "regulatory": Wanted(("reports",), "regulatory")})
    assert world.watches.look("one").readings.keys() == {"pnl", "regulatory"}
    assert world.seen().lag == (6,)
    assert world.seen(stage="regulatory") == Reading()
    await world.until(lambda: len(world.changed) == 2)
    assert world.seen(stage="regulatory") == Reading(missing=("reports",))
    assert world.a.looks[-1] == (
        {"trades", "reports"},
        {"pnl": frozenset({"trades"}), "regulatory": frozenset({"reports"})},
    )


async def test_a_wish_during_a_look_waits_for_the_next(world: WatchedKafka) -> None:
    world.watches = world.watch(fastest_s=3_600.0)
    world.a.took_s = 0.1
    world.watches.subscribe("one", "a:9092", {"pnl": TRADES})
    await world.looks(1)
    world.watches.subscribe("two", "a:9092", {"archive": Wanted(("trades",), "archive")})
    await world.until(lambda: world.changed)
    assert world.changed == ["one"]
    assert world.watches.look("two") == Look({"archive": Reading()})
    await world.until(lambda: "two" in world.changed)
    assert world.seen("two", "archive").partitions == 1


async def test_only_pipelines_with_news_are_told(world: WatchedKafka) -> None:
    """Growth that a group keeps pace with is none: its lag is the same."""
    world.a.ends["prices"] = 7
    world.watches.subscribe("one", "a:9092", {"pnl": TRADES})
    world.watches.subscribe("two", "a:9092", {"marks": Wanted(("prices",), "marks")})
    world.watches.subscribe("source", "a:9092", {"in": Wanted(("trades",), None)})
    await world.until(lambda: len(world.changed) == 3)
    world.changed.clear()
    await world.looks(3)
    assert world.changed == []
    world.a.ends["trades"], world.a.committed["pnl"] = 12, 6
    await world.looks(3)
    assert world.changed == []
    world.a.ends["trades"] = 13
    await world.looks(3)
    assert world.changed == ["one"]
    assert world.seen().lag == (7,)
    world.a.committed["marks"] = 7
    await world.looks(3)
    assert world.changed == ["one", "two"]
    assert world.seen("two", "marks").lag == (0,)


async def test_topics_that_come_and_go_and_groups_that_are_refused_are_news(world: WatchedKafka) -> None:
    world.watches.subscribe("one", "a:9092", {"pnl": TRADES})
    await world.until(lambda: world.changed)
    end = world.a.ends.pop("trades")
    await world.until(lambda: len(world.changed) == 2)
    assert world.seen() == Reading(missing=("trades",))
    world.a.ends["trades"] = end
    await world.until(lambda: len(world.changed) == 3)
    assert world.seen().lag == (6,)
    world.a.refused["pnl"] = "grant it Describe"
    await world.until(lambda: len(world.changed) == 4)
    assert world.seen().problem == "grant it Describe"
    world.a.refused.clear()
    await world.until(lambda: len(world.changed) == 5)
    assert (world.seen().lag, world.seen().problem) == ((6,), None)


async def test_rates_and_ages_come_from_several_looks(world: WatchedKafka) -> None:
    world.watches.subscribe("one", "a:9092", {"pnl": TRADES})
    await world.until(lambda: world.changed)
    assert (world.seen().arrival_per_s, world.seen().lag_s) == (None, None)
    await world.looks(2)
    world.now_s += 10
    world.a.ends["trades"], world.a.committed["pnl"] = 30, 24
    await world.looks(2)
    reading = world.seen()
    assert (reading.arrival_per_s, reading.consumed_per_s) == (2.0, 2.0)
    assert reading.lag_s == pytest.approx(10 - 10 * 14.5 / 20)


async def test_a_dead_kafka_holds_no_other_up(world: WatchedKafka) -> None:
    """Neither one that hangs nor one that fails at once; what was known of it stays, with its time."""
    world.watches.subscribe("one", "a:9092", {"pnl": TRADES})
    world.watches.subscribe("two", "b:9092", {"pnl": TRADES})
    await world.until(lambda: len(world.changed) == 2)
    world.a.hangs = True
    await world.looks(1)
    await world.looks(4, "b:9092")
    world.kafkas["b:9092"].ends["trades"] = 11
    await world.until(lambda: world.changed[2:] == ["two"])
    assert world.seen("one").lag == (6,)


async def test_a_kafka_that_does_not_answer_is_a_problem_told_once(world: WatchedKafka) -> None:
    world.watches.subscribe("one", "a:9092", {"pnl": TRADES})
    world.watches.subscribe("two", "a:9092", {"in": Wanted(("trades",), None)})
    await world.until(lambda: len(world.changed) == 2)
    world.a.dead = "Kafka is dead"
    await world.until(lambda: sorted(world.changed[2:]) == ["one", "two"])
    await world.looks(2)
    assert len(world.changed) == 4
    look = world.watches.look("one")
    assert (look.problem, look.at_s) == ("Kafka is dead", 1_700_000_000.0)
    assert look.readings["pnl"].lag == (6,)
    world.a.dead = None
    await world.until(lambda: sorted(world.changed[4:]) == ["one", "two"])
    assert world.watches.look("one").problem is None


async def test_a_pipeline_that_comes_to_a_dead_kafka_is_told_too(world: WatchedKafka) -> None:
    world.a.dead = "Kafka is dead"
    world.watches.subscribe("one", "a:9092", {"pnl": TRADES})
    await world.until(lambda: world.changed == ["one"])
    world.watches.subscribe("two", "a:9092", {"pnl": TRADES})
    assert world.watches.look("two") == Look({"pnl": Reading()}, None, "Kafka is dead", "KafkaUnreachable")
    await world.until(lambda: world.changed == ["one", "two"])


async def test_the_same_kafka_with_other_credentials_is_looked_at_by_itself(world: WatchedKafka) -> None:
    """A wrong password, even one that is never answered, delays nobody whose is right; equal ones share a look."""
    right, wrong = (Endpoint("a:9092", Security("SASL_SSL", "PLAIN", "eod", word)) for word in ("right", "wrong"))
    world.kafkas |= {right: world.a, wrong: FakeKafka()}
    world.kafkas[wrong].hangs = True
    world.watches.subscribe("broken", wrong, {"pnl": TRADES})
    world.watches.subscribe("one", right, {"pnl": TRADES})
    world.watches.subscribe("two", Endpoint("a:9092", Security("SASL_SSL", "PLAIN", "eod", "right")), {"pnl": TRADES})
    await world.until(lambda: world.changed)
    assert sorted(world.changed) == ["one", "two"]
    assert world.a.opened == 1
    assert world.seen("two").lag == (6,)
    assert world.watches.look("broken") == Look({"pnl": Reading()})
    world.watches.subscribe("broken", right, {"pnl": TRADES})  # mended
    await world.until(lambda: "broken" in world.changed)
    assert world.kafkas[wrong].closed == 1


async def test_a_pipeline_without_credentials_is_not_looked_at_and_says_why(world: WatchedKafka) -> None:
    missing = Problem("CredentialsMissing", "there is no Secret")
    world.watches.withhold("one", missing)
    assert world.watches.look("one") == Look(problem="there is no Secret", reason="CredentialsMissing")
    world.watches.subscribe("one", "a:9092", {"pnl": TRADES})
    await world.until(lambda: world.changed)
    assert world.seen().lag == (6,)
    world.watches.withhold("one", missing)
    assert world.watches.look("one").reason == "CredentialsMissing"
    await world.until(lambda: world.a.closed == 1)
    world.watches.unsubscribe("one")
    assert world.watches.look("one") == Look()


async def test_retries_back_off(world: WatchedKafka) -> None:
    world.a.dead = "Kafka is dead"
    world.watches.subscribe("one", "a:9092", {"pnl": TRADES})
    await world.looks(5)
    pauses_s = [after - before for before, after in zip(world.a.looked_s, world.a.looked_s[1:], strict=False)]
    assert all(pause_s >= 0.06 * 2**number - 0.01 for number, pause_s in enumerate(pauses_s))


async def test_a_fault_of_ours_is_a_problem_and_not_the_end(
    world: WatchedKafka, caplog: pytest.LogCaptureFixture
) -> None:
    world.a.broken = ValueError("no such field")
    world.watches.subscribe("one", "a:9092", {"pnl": TRADES})
    await world.until(lambda: world.changed)
    assert "ValueError('no such field')" in str(world.watches.look("one").problem)
    assert "the look at Kafka at a:9092 failed" in caplog.text
    world.a.broken = None
    await world.until(lambda: world.watches.look("one").problem is None)


@pytest.mark.parametrize(("requests", "period_s"), [(2, 0.1), (80, 0.2), (160, 0.4)])
def test_many_requests_are_made_less_often(requests: int, period_s: float) -> None:
    """So many a second at most, and never more often than the fastest."""

    async def looked_s() -> list[float]:
        world = WatchedKafka()
        world.watches = world.watch(fastest_s=0.1, requests_per_s=400.0)
        world.a.requests = requests
        world.watches.subscribe("one", "a:9092", {"pnl": TRADES})
        await world.looks(4)
        await world.watches.close()
        return world.a.looked_s

    times_s = virtually(looked_s())
    pauses_s = [after - before for before, after in pairwise(times_s)]
    assert period_s - 0.01 <= min(pauses_s) < 2 * period_s


async def test_a_stream_of_wishes_leaves_pauses_as_long_as_the_looks(world: WatchedKafka) -> None:
    world.watches = world.watch(fastest_s=3_600.0)
    world.a.took_s = 0.1
    begun_s = time.monotonic()
    for number in range(100):
        world.watches.subscribe(f"{number}", "a:9092", {"pnl": TRADES})
        await asyncio.sleep(0.01)
    assert 3 <= len(world.a.looks) <= 1 + (time.monotonic() - begun_s) / (2 * world.a.took_s)


async def test_the_last_unsubscription_closes_the_connections(world: WatchedKafka) -> None:
    for key in ("one", "two"):
        world.watches.subscribe(key, "a:9092", {"pnl": TRADES})
    await world.until(lambda: len(world.changed) == 2)
    world.watches.unsubscribe("one")
    await world.looks(2)
    assert world.a.closed == 0
    world.watches.unsubscribe("two")
    await world.until(lambda: world.a.closed)
    looks = len(world.a.looks)
    await asyncio.sleep(0.2)
    assert len(world.a.looks) == looks
    assert world.watches.look("two") == Look()
    world.watches.unsubscribe("two")
    world.watches.subscribe("two", "a:9092", {"pnl": TRADES})
    await world.until(lambda: len(world.changed) == 3)
    assert (world.a.opened, world.a.closed) == (2, 1)


async def test_an_unsubscription_during_a_look_leaves_the_others_theirs(world: WatchedKafka) -> None:
    world.a.took_s = 0.1
    for key in ("one", "two"):
        world.watches.subscribe(key, "a:9092", {"pnl": TRADES})
    await world.looks(1)
    world.watches.unsubscribe("one")
    await world.until(lambda: world.changed)
    assert world.changed == ["two"]


async def test_another_address_moves_the_pipeline(world: WatchedKafka) -> None:
    world.kafkas["b:9092"].ends["trades"] = 100
    world.watches.subscribe("one", "a:9092", {"pnl": TRADES})
    await world.until(lambda: world.changed)
    world.watches.subscribe("one", "b:9092", {"pnl": TRADES})
    assert world.watches.look("one") == Look({"pnl": Reading()})
    await world.until(lambda: len(world.changed) == 2)
    assert world.seen().lag == (96,)
    assert world.a.closed == 1


async def test_closing_ends_every_look(world: WatchedKafka) -> None:
    world.a.hangs = True
    world.watches.subscribe("one", "a:9092", {"pnl": TRADES})
    world.watches.subscribe("two", "b:9092", {"pnl": TRADES})
    await world.until(lambda: world.changed == ["two"])
    await world.watches.close()
    assert [one.closed for one in world.kafkas.values()] == [1, 1]


async def test_retention_is_asked_once_a_minute_and_topic(world: WatchedKafka) -> None:
    world.a.kept_ms["trades"] = 86_400_000
    for _ in range(2):
        assert await world.watches.retention("a:9092", ["trades", "nowhere"]) == {"trades": 86_400_000, "nowhere": None}
    assert await world.watches.retention("a:9092", ["trades", "prices"]) == {"trades": 86_400_000, "prices": None}
    assert world.a.retention_asked == [{"trades", "nowhere"}, {"prices"}]
    world.now_s += RETENTION_FOR_S + 1
    await world.watches.retention("a:9092", ["trades"])
    assert world.a.retention_asked[2:] == [{"trades"}]
    assert world.a.opened == world.a.closed == 3


async def test_one_off_requests_use_the_connections_of_the_watch(world: WatchedKafka) -> None:
    world.watches.subscribe("one", "a:9092", {"pnl": TRADES})
    await world.until(lambda: world.changed)
    await world.watches.retention("a:9092", ["trades"])
    assert (world.a.opened, world.a.closed) == (1, 0)


async def test_a_created_topic_is_looked_at_at_once_and_its_retention_asked_anew(world: WatchedKafka) -> None:
    world.watches = world.watch(fastest_s=3_600.0)
    world.watches.subscribe("one", "a:9092", {"marks": Wanted(("prices",), "marks")})
    await world.until(lambda: world.changed)
    assert world.seen(stage="marks").missing == ("prices",)
    await world.watches.retention("a:9092", ["prices"])
    await world.watches.create_topic("a:9092", "prices", partitions=12, replication_factor=None, retention_ms=3_600_000)
    await world.watches.create_topic("a:9092", "marks", partitions=1, replication_factor=3, retention_ms=None)
    assert world.a.created == [("prices", 12, -1, {"retention.ms": "3600000"}), ("marks", 1, 3, {})]
    await world.until(lambda: len(world.changed) == 2)
    assert world.seen(stage="marks").missing == ()
    await world.watches.retention("a:9092", ["prices"])
    assert len(world.a.retention_asked) == 2


async def test_a_refusal_reaches_whoever_asked(world: WatchedKafka) -> None:
    with pytest.raises(TopicRefusedError, match="too many copies"):
        await world.watches.create_topic("a:9092", "prices", partitions=1, replication_factor=4, retention_ms=None)
    assert world.a.closed == 1
