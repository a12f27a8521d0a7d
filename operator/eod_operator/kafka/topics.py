"""Where topics begin and end, over one connection.

Ends are asked for at each look. What seldom changes (partitions, leaders, first offsets) is kept for `FACTS_FOR_S` and
asked again at once when a broker's answer contradicts it; a topic that does not exist is asked about at each look.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import LeaderNotAvailableError, TopicAuthorizationFailedError
from aiokafka.protocol.metadata import MetadataRequest

from eod_operator.kafka.wire import EARLIEST, LATEST, PartitionOffsets, list_offsets, listed_topic

FACTS_FOR_S = 10.0
"""A partition that is added, and records that retention removes, are noticed within this."""
FACTS_PER_LOOK = 400
"""Most known topics that one look asks about again, so that a look at thousands does not hold up the event loop."""
_ATTEMPTS = 10
_RETRY_AFTER_S = 0.1
"""A new partition needs a moment to get a leader; ten attempts are one second."""
_TOPICS_PER_REQUEST = 100
_PARTITIONS_PER_REQUEST = 2_000


@dataclass(slots=True)
class _Facts:
    """Of one topic that exists.

    Attributes:
        count: its partitions.
        leaders: numbers of the partitions that each broker leads.
        code: Kafka's error code while it cannot be read.
        first: first offsets.
        at_s: when this was asked.
    """

    count: int
    leaders: dict[int, tuple[int, ...]]
    code: int = 0
    first: array[int] = field(default_factory=lambda: array("q"))
    at_s: float = 0.0


@dataclass(slots=True)
class Ends:
    """What was read: see `Offsets`; `codes` are the errors of topics that exist and cannot be read."""

    partitions: dict[str, int] = field(default_factory=dict)
    first: dict[str, array[int]] = field(default_factory=dict)
    end: dict[str, array[int]] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    requests: int = 0


class Topics:
    """The topics of one Kafka."""

    def __init__(self, client: AIOKafkaClient) -> None:
        self._client = client
        self._facts: dict[str, _Facts] = {}
        self._forbidden: set[str] = set()
        self._ends: dict[str, array[int]] = {}
        self._unsettled: set[str] = set()

    async def read(self, topics: set[str]) -> Ends:
        """Where the topics begin and end now.

        One that has no leader for a moment is waited for, but not a second time: it must not hold every look up.

        Raises:
            KafkaError: a broker did not answer.
        """
        self._facts = {topic: facts for topic, facts in self._facts.items() if topic in topics}
        self._forbidden &= topics
        await self._learn([*(topic for topic in topics if topic not in self._facts), *self._old()])
        readable = [topic for topic, facts in self._facts.items() if not facts.code]
        ends, codes, requests = await self._list(readable, LATEST)
        contradicting = {topic for topic, end in ends.items() if self._contradicts(topic, end)}
        doubtful = contradicting | codes.keys() | self._unled()
        for attempt in range(_ATTEMPTS):
            if not doubtful or (attempt > 0 and doubtful <= self._unsettled):
                break
            if attempt > 0:
                await asyncio.sleep(_RETRY_AFTER_S)
            await self._learn(doubtful)
            known = [topic for topic in doubtful if topic in self._facts and not self._facts[topic].code]
            again, codes, _requests = await self._list(known, LATEST)
            ends = {topic: end for topic, end in ends.items() if topic not in doubtful} | again
            doubtful = codes.keys() | self._unled()
        self._unsettled = doubtful
        self._ends = ends
        unread = {topic: facts.code for topic, facts in self._facts.items() if facts.code}
        unread |= dict.fromkeys(self._forbidden, int(TopicAuthorizationFailedError.errno))
        return Ends(
            partitions={topic: facts.count for topic, facts in self._facts.items()},
            first={topic: self._facts[topic].first for topic in ends},
            end=ends,
            codes=unread | codes,
            missing=topics - self._facts.keys() - self._forbidden,
            requests=requests,
        )

    def _old(self) -> list[str]:
        """Topics to ask about again, the longest unasked first."""
        since_s = time.monotonic() - FACTS_FOR_S
        old = [topic for topic, facts in self._facts.items() if facts.at_s < since_s]
        return sorted(old, key=lambda topic: self._facts[topic].at_s)[:FACTS_PER_LOOK]

    def _unled(self) -> set[str]:
        """Topics that exist and cannot be read."""
        return {topic for topic, facts in self._facts.items() if facts.code}

    def _contradicts(self, topic: str, end: array[int]) -> bool:
        """Whether a topic ends where it cannot: it was deleted and made anew."""
        before = self._ends.get(topic, end)
        floors = zip(end, before, self._facts[topic].first, strict=False)
        return len(before) > len(end) or any(now < max(was, first) for now, was, first in floors)

    async def _learn(self, topics: Collection[str]) -> None:
        """Ask which of the topics exist, who leads them and where they begin."""
        asked = sorted(topics)
        for start in range(0, len(asked), _TOPICS_PER_REQUEST):
            some = asked[start : start + _TOPICS_PER_REQUEST]
            request = MetadataRequest(some, allow_auto_topic_creation=False)
            response = await self._client.send(self._client.get_random_node(), request)
            for code, topic, _internal, partitions in response.topics:
                self._facts.pop(topic, None)
                self._forbidden.discard(topic)
                if code == TopicAuthorizationFailedError.errno:
                    self._forbidden.add(topic)
                elif code == 0:
                    self._facts[topic] = _facts({number: leader for _error, number, leader, *_rest in partitions})
            known = [topic for topic in some if topic in self._facts and not self._facts[topic].code]
            first, codes, _requests = await self._list(known, EARLIEST)
            for topic in known:
                self._facts[topic].first = first.get(topic, self._facts[topic].first)
                self._facts[topic].code = codes.get(topic, 0)

    async def _list(self, topics: Iterable[str], when: int) -> tuple[dict[str, array[int]], dict[str, int], int]:
        """Offsets by topic, error codes of the topics that have none, and the number of requests it took."""
        asked: dict[int, list[list[bytes]]] = defaultdict(list)
        sizes: dict[int, int] = defaultdict(int)
        for topic in topics:
            for leader, numbers in self._facts[topic].leaders.items():
                if not asked[leader] or sizes[leader] >= _PARTITIONS_PER_REQUEST:
                    asked[leader].append([])
                    sizes[leader] = 0
                asked[leader][-1].append(listed_topic(topic, numbers, when))
                sizes[leader] += len(numbers)
        rows: dict[str, array[int]] = {}
        codes: dict[str, int] = {}
        requests = 0
        for leader, batches in asked.items():
            for batch in batches:
                requests += 1
                for answer in await self._client.send(leader, list_offsets(batch)):
                    self._enter(answer, rows, codes)
        for topic in codes:
            rows.pop(topic, None)
        return rows, codes, requests

    def _enter(self, answer: PartitionOffsets, rows: dict[str, array[int]], codes: dict[str, int]) -> None:
        count = self._facts[answer.topic].count
        if any(answer.codes):
            codes[answer.topic] = next(code for code in answer.codes if code)
        elif answer.numbers == tuple(range(count)):
            rows[answer.topic] = array("q", answer.offsets)
        else:
            row = rows.setdefault(answer.topic, array("q", [0]) * count)
            for number, offset in zip(answer.numbers, answer.offsets, strict=True):
                row[number] = offset


def _facts(leader_of: dict[int, int]) -> _Facts:
    leaders: dict[int, list[int]] = defaultdict(list)
    for number, leader in sorted(leader_of.items()):
        leaders[leader].append(number)
    by_leader = {leader: tuple(numbers) for leader, numbers in leaders.items()}
    code = int(LeaderNotAvailableError.errno) if min(by_leader, default=-1) < 0 else 0
    return _Facts(len(leader_of), by_leader, code, at_s=time.monotonic())
