"""Which part of the log is compared, and whether the stages have read that far.

The end is that of the moment at which the comparison begins: what comes later is left out on both sides. Nothing joins
a consumer group; where the groups are is asked of the log.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from eod_workers.ports import Clock, Log, TopicPartition
from eod_workers.reconcile.report import NotComparable
from eod_workers.runtime.variables import TopicNames

_STAGE_OF = {
    "archive": "archive",
    "rows": "regulatory",
    "exceptions": "regulatory",
    "positions": "flash-pnl",
    "letters": "dead-letters",
}
_POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class Span:
    """The compared part of one topic: partition → (first offset, end). A partition that begins at 0 is whole."""

    topic: str
    partitions: int
    """Of the topic; `offsets` may have fewer."""
    offsets: Mapping[int, tuple[int, int]]

    def whole(self, partition: int) -> bool:
        """Whether nothing of the partition is left out at its beginning."""
        return self.offsets[partition][0] == 0

    @property
    def records(self) -> int:
        """Offsets in it, which is about how many records there are."""
        return sum(max(0, end - start) for start, end in self.offsets.values())


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the caller leaves out of the log.

    Attributes:
        partitions: those to compare, of every topic; empty for all.
        since_ms: compare from the first record that is not older.
        starts: compare a partition from this offset.
    """

    partitions: frozenset[int] = frozenset()
    since_ms: int | None = None
    starts: Mapping[TopicPartition, int] = field(default_factory=dict)


def topics_of(check: str, topics: TopicNames) -> tuple[str, ...]:
    """The topics that a comparison reads."""
    received = (topics.trades_topic, topics.sessions_topic, topics.letters_topic)
    return {
        "archive": received,
        "sent": received,
        "positions": (topics.trades_topic, topics.prices_topic),
        "letters": (topics.letters_topic,),
    }.get(check, (topics.trades_topic,))


async def span_of(log: Log, topic: str, wanted: Wanted) -> Span:
    """The part of a topic to compare, as the log stands now.

    Raises:
        NotComparable: a partition or an offset that does not exist was asked for.
        UnknownTopic: no such topic.
    """
    starts = await log.start_offsets(topic, wanted.since_ms)
    oldest = starts if wanted.since_ms is None else await log.start_offsets(topic)
    ends = await log.end_offsets(topic)
    for source, offset in wanted.starts.items():
        if source.topic != topic:
            continue
        if not oldest.get(source.partition, 1) <= offset <= ends.get(source.partition, 0):
            raise NotComparable(
                f"{topic}[{source.partition}] has no offset {offset}: "
                + (
                    f"it has {oldest[source.partition]} to {ends[source.partition]}"
                    if source.partition in ends
                    else f"it has partitions 0 to {len(ends) - 1}"
                )
            )
        starts[source.partition] = offset
    chosen = wanted.partitions or ends.keys()
    if not wanted.partitions <= ends.keys():
        raise NotComparable(f"{topic} has partitions 0 to {len(ends) - 1}, not {max(wanted.partitions)}")
    return Span(topic, len(ends), {number: (min(starts[number], ends[number]), ends[number]) for number in chosen})


async def behind(
    log: Log, spans: Mapping[str, Span], checks: Iterable[str], groups: Mapping[str, str], topics: TopicNames
) -> dict[str, int]:
    """Stage → records of the spans that its group has not committed, for the stages that are not through.

    Args:
        log: whose groups they are.
        spans: topic → what is compared of it.
        checks: the comparisons to be made.
        groups: stage → its consumer group.
        topics: the names of the topics.
    """
    lags: dict[str, int] = {}
    for check in checks:
        stage = _STAGE_OF.get(check)
        if stage is None or stage in lags:
            continue
        lags[stage] = 0
        for topic in topics_of(check, topics):
            committed = await log.committed(groups[stage], topic)
            for number, (start, end) in spans[topic].offsets.items():
                lags[stage] += max(0, end - max(start, committed.get(number, 0)))
    return {stage: lag for stage, lag in lags.items() if lag}


async def wait_until_read(
    look: Callable[[], Awaitable[dict[str, int]]], clock: Clock, wait_s: float, told: Callable[[str], None]
) -> dict[str, int]:
    """Waits until nobody is behind; returns who still is after `wait_s`. `told` hears of the progress."""
    deadline = clock.monotonic() + wait_s
    while lags := await look():
        if clock.monotonic() >= deadline:
            return lags
        told(say(lags))
        await clock.sleep(min(_POLL_S, max(0.0, deadline - clock.monotonic())))
    return {}


def say(lags: Mapping[str, int]) -> str:
    """Who is behind, and by how much."""
    return ", ".join(f"{stage} is {lag:,} records behind" for stage, lag in lags.items())
