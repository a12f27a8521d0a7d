"""What is remembered of one Kafka for all pipelines on it: their wishes, the last look, and the minutes before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from eod_operator.kafka.offsets import CommitSeries, Offsets, TopicSeries
from eod_operator.kafka.readings import Look, Reading, Wanted, seen, with_rates


@dataclass(slots=True)
class _Pipeline:
    """One key.

    Attributes:
        wanted: by stage.
        seen: by stage, what the last look said; ages and rates are added when somebody asks.
        asked: whether the look that is going on (or the last one) asks for all that is wanted.
        at_s: when it was last looked at.
        problem: what was last told of Kafka as a whole.
    """

    wanted: dict[str, Wanted]
    seen: dict[str, Reading] = field(default_factory=dict)
    asked: bool = False
    at_s: float | None = None
    problem: str | None = None


class Watched:
    """Memory of one Kafka; knows no I/O and no clock."""

    def __init__(self) -> None:
        self._pipelines: dict[str, _Pipeline] = {}
        self._offsets = Offsets()
        self._ends: dict[str, TopicSeries] = {}
        self._commits: dict[tuple[str, str], CommitSeries] = {}
        self._problem: str | None = None
        self._reason = ""
        self._wishes: tuple[set[str], dict[str, frozenset[str]]] | None = None

    def __len__(self) -> int:
        return len(self._pipelines)

    def want(self, key: str, wanted: Mapping[str, Wanted]) -> bool:
        """Look at this for a pipeline from now on, instead of what it wanted before; False when it is the same."""
        before = self._pipelines.get(key)
        if before is None:
            self._pipelines[key] = _Pipeline(dict(wanted))
        elif before.wanted == wanted:
            return False
        else:
            before.seen = {
                stage: reading for stage, reading in before.seen.items() if wanted.get(stage) == before.wanted[stage]
            }
            before.wanted = dict(wanted)
            before.asked = False
        self._wishes = None
        return True

    def drop(self, key: str) -> None:
        """Forget a pipeline."""
        self._pipelines.pop(key, None)
        self._wishes = None

    def wishes(self) -> tuple[set[str], dict[str, frozenset[str]]]:
        """What the next look shall ask for: topics, and groups with their topics; shared ones once."""
        if self._wishes is None:
            topics: set[str] = set()
            groups: dict[str, set[str]] = defaultdict(set)
            for pipeline in self._pipelines.values():
                for wanted in pipeline.wanted.values():
                    topics.update(wanted.topics)
                    if wanted.group is not None:
                        groups[wanted.group].update(wanted.topics)
                pipeline.asked = True
            self._wishes = topics, {group: frozenset(theirs) for group, theirs in groups.items()}
            self._ends = {topic: series for topic, series in self._ends.items() if topic in topics}
            self._commits = {
                (group, topic): series
                for (group, topic), series in self._commits.items()
                if topic in self._wishes[1].get(group, ())
            }
        return self._wishes

    def took(self, offsets: Offsets, *, clock_s: float, wall_s: float) -> list[str]:
        """A look succeeded; the keys whose readings (but for ages and rates) or whose problem it changed."""
        before, self._offsets = self._offsets, offsets
        self._problem, self._reason = None, ""
        for topic, end in offsets.end.items():
            self._ends.setdefault(topic, TopicSeries()).append(clock_s, end)
        for group, topics in offsets.committed.items():
            for topic, committed in topics.items():
                self._commits.setdefault((group, topic), CommitSeries()).append(clock_s, committed)
        # Nearly all pipelines are quiet nearly always: only what moved is worked out anew.
        moved_topics, moved_groups = _moved_topics(before, offsets), _moved_groups(before, offsets)
        return [
            key
            for key, pipeline in self._pipelines.items()
            if self._update(pipeline, moved_topics, moved_groups, wall_s)
        ]

    def failed(self, problem: str, reason: str) -> list[str]:
        """A look failed; the keys that have not been told this problem yet."""
        self._problem, self._reason = problem, reason
        told = [key for key, pipeline in self._pipelines.items() if pipeline.problem != problem]
        for key in told:
            self._pipelines[key].problem = problem
        return told

    def look(self, key: str) -> Look:
        """What is known of a pipeline."""
        pipeline = self._pipelines[key]
        readings = {
            stage: with_rates(pipeline.seen[stage], wanted, self._offsets, self._ends, self._commits)
            if stage in pipeline.seen
            else Reading()
            for stage, wanted in pipeline.wanted.items()
        }
        return Look(readings, pipeline.at_s, self._problem, self._reason)

    def _update(self, pipeline: _Pipeline, topics: set[str], groups: set[str], wall_s: float) -> bool:
        changed = pipeline.problem is not None
        pipeline.problem = None
        if pipeline.asked:
            pipeline.at_s = wall_s
        for stage, wanted in pipeline.wanted.items():
            before = pipeline.seen.get(stage)
            if before is None and not pipeline.asked:
                continue  # wished for after this look began
            if before is not None and wanted.group not in groups and topics.isdisjoint(wanted.topics):
                continue
            now = seen(wanted, self._offsets)
            if now != before:
                pipeline.seen[stage] = now
                changed = True
        return changed


def _moved_topics(before: Offsets, now: Offsets) -> set[str]:
    """Topics of which two looks do not say the same."""
    return {
        topic
        for topic in before.partitions.keys() | now.partitions.keys()
        if before.end.get(topic) != now.end.get(topic)
        or before.first.get(topic) != now.first.get(topic)
        or before.partitions.get(topic) != now.partitions.get(topic)
    } | ({topic for topic, _why in before.unreadable.items() ^ now.unreadable.items()} | (before.missing ^ now.missing))


def _moved_groups(before: Offsets, now: Offsets) -> set[str]:
    """Groups of which two looks do not say the same."""
    return {
        group
        for group in before.committed.keys() | now.committed.keys()
        if before.committed.get(group) != now.committed.get(group)
    } | {group for group, _why in before.refused.items() ^ now.refused.items()}
