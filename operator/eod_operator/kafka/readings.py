"""What is said of a stage: the arithmetic between the offsets of a Kafka and the lag of one group in its topics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from eod_operator.kafka.offsets import CommitSeries, Offsets, TopicSeries


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look at for one stage: its topics, and its group unless it consumes nothing."""

    topics: tuple[str, ...]
    group: str | None


class Lost(NamedTuple):
    """Records of a partition, first ≤ offset < end, that retention has deleted before a group had read them."""

    topic: str
    partition: int
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What was seen of one stage; as it is made, nothing yet.

    Attributes:
        missing: topics that do not exist.
        partitions: partitions that its replicas can share: those of its largest topic, because co-partitioned topics
            are assigned together. None while any topic is missing.
        lag: unconsumed records, by partition number, summed over the topics; of a group that has committed nothing all
            that there are. None while a topic is missing, and until it has been read.
        ages_s: by partition number, age of the oldest unconsumed record, told from when the partition grew past it;
            0.0 where nothing is. A record older than what has been watched counts as that old. None when unknown.
        ends: by partition number, the end offsets, summed over the topics. None when unknown.
        arrivals_per_s: by partition number, records appended a second, summed over the topics.
        consumptions_per_s: the same of records that the group commits.
        lost: what the group has still to read, and cannot any more.
        problem: why this stage alone cannot be read, and the remedy.
    """

    missing: tuple[str, ...] = ()
    partitions: int | None = None
    lag: tuple[int, ...] | None = None
    ages_s: tuple[float, ...] | None = None
    ends: tuple[int, ...] | None = None
    arrivals_per_s: tuple[float, ...] | None = None
    consumptions_per_s: tuple[float, ...] | None = None
    lost: tuple[Lost, ...] = ()
    problem: str | None = None

    @property
    def lag_s(self) -> float | None:
        """Age of the oldest unconsumed record of all."""
        return None if self.ages_s is None else max(self.ages_s, default=0.0)

    @property
    def arrival_per_s(self) -> float | None:
        """Records appended a second, to all partitions of all topics."""
        return None if self.arrivals_per_s is None else sum(self.arrivals_per_s)

    @property
    def consumed_per_s(self) -> float | None:
        """Records committed a second, by the group."""
        return None if self.consumptions_per_s is None else sum(self.consumptions_per_s)


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of the stages of one pipeline.

    Attributes:
        readings: by stage, of the last look that succeeded.
        at_s: when that was, by the wall clock; None if never.
        problem: why Kafka did not answer since, and the remedy.
        reason: the same in a word, as the condition KafkaReachable has it.
    """

    readings: Mapping[str, Reading] = field(default_factory=dict)
    at_s: float | None = None
    problem: str | None = None
    reason: str = ""


def seen(wanted: Wanted, offsets: Offsets) -> Reading:
    """What one look says of a stage: everything but ages and rates. Topics it did not ask about leave it unknown."""
    missing = tuple(topic for topic in wanted.topics if topic in offsets.missing)
    if missing:
        return Reading(missing=missing)
    counts = [offsets.partitions.get(topic) for topic in wanted.topics]
    known = [count for count in counts if count is not None]
    count = max(known) if known and len(known) == len(counts) else None
    for topic in wanted.topics:
        if topic in offsets.unreadable:
            return Reading(partitions=count, problem=offsets.unreadable[topic])
    if count is None or wanted.group is None:
        return Reading(partitions=count)
    if wanted.group in offsets.refused:
        return Reading(partitions=count, problem=offsets.refused[wanted.group])
    return Reading(partitions=count, lag=_lag(wanted, offsets, count), lost=tuple(_lost(wanted, offsets)))


def with_rates(
    reading: Reading,
    wanted: Wanted,
    offsets: Offsets,
    ends: Mapping[str, TopicSeries],
    commits: Mapping[tuple[str, str], CommitSeries],
) -> Reading:
    """The same reading with ages and rates, from the offsets that it was made of and those before."""
    if reading.partitions is None or any(topic not in offsets.end for topic in wanted.topics):
        return reading
    arrivals = [series.arrivals_per_s() for topic in wanted.topics if (series := ends.get(topic))]
    consumptions = [
        commit.consumptions_per_s()
        for topic in wanted.topics
        if reading.lag is not None and (commit := commits.get((wanted.group or "", topic)))
    ]
    return replace(
        reading,
        ends=_ends(wanted, offsets, reading.partitions),
        ages_s=_ages_s(reading, wanted, offsets, ends),
        arrivals_per_s=_sums(arrivals, reading.partitions),
        consumptions_per_s=_sums(consumptions, reading.partitions),
    )


def _lag(wanted: Wanted, offsets: Offsets, count: int) -> tuple[int, ...] | None:
    """Unconsumed records by partition number; None while nobody has read what the group has committed.

    Where it has committed nothing all is before it: our stages begin at the beginning (auto.offset.reset=earliest).
    """
    committed = offsets.committed.get(wanted.group or "", {})
    if any(topic not in committed for topic in wanted.topics):
        return None
    lag = [0] * count
    for topic in wanted.topics:
        positions = zip(offsets.first[topic], committed[topic], offsets.end[topic], strict=True)
        for number, (first, position, end) in enumerate(positions):
            # Records that retention has removed are no longer ahead of anybody. A group that is beyond the end
            # committed to a topic that was deleted and made anew.
            lag[number] += max(0, end - max(first, position))
    return tuple(lag)


def _lost(wanted: Wanted, offsets: Offsets) -> Iterator[Lost]:
    for topic, committed in offsets.committed.get(wanted.group or "", {}).items():
        if topic in wanted.topics:
            for number, (first, position) in enumerate(zip(offsets.first[topic], committed, strict=True)):
                if 0 <= position < first:
                    yield Lost(topic, number, position, first)


def _ages_s(
    reading: Reading, wanted: Wanted, offsets: Offsets, ends: Mapping[str, TopicSeries]
) -> tuple[float, ...] | None:
    """Age of the oldest record that is unconsumed, by partition number; None while one of them is unknown."""
    if reading.lag is None:
        return None
    oldest_s = [0.0] * len(reading.lag)
    if not any(reading.lag):
        return tuple(oldest_s)
    committed = offsets.committed[wanted.group or ""]
    for topic in wanted.topics:
        positions = zip(offsets.first[topic], committed[topic], offsets.end[topic], strict=True)
        for number, (first, position, end) in enumerate(positions):
            if max(first, position) < end and topic in ends:
                age_s = ends[topic].age_s(number, max(first, position))
                if age_s is None:
                    return None
                oldest_s[number] = max(oldest_s[number], age_s)
    return tuple(oldest_s)


def _ends(wanted: Wanted, offsets: Offsets, partitions: int) -> tuple[int, ...]:
    """Of all topics, by partition number."""
    rows = [offsets.end[topic] for topic in wanted.topics]
    if len(rows) == 1:
        return tuple(rows[0])
    return tuple(sum(row[number] for row in rows if number < len(row)) for number in range(partitions))


def _sums(rates: list[tuple[float, ...] | None], partitions: int) -> tuple[float, ...] | None:
    """Of all topics, by partition number; None while one of them is unknown."""
    known = [rate for rate in rates if rate is not None]
    if not known or len(known) != len(rates):
        return None
    if len(known) == 1 and len(known[0]) == partitions:
        return known[0]
    return tuple(sum(rate[number] for rate in known if number < len(rate)) for number in range(partitions))
