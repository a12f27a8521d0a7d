"""Offsets of one Kafka: as one look read them, and over the last minutes.

Over time they answer what a single look cannot: how many records arrive a second, how many a group consumes, and how
old a record is that was appended between two looks.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import add, sub

COVERED_S = 600.0
"""Ages up to this are told apart; older records are at least this old."""
SAMPLES = 128
"""Most samples of a topic."""
RATE_WINDOW_S = 30.0
_LEAST_GAP_S = 1.0
_GAPS_IN_AGE = 10.0
"""Samples of age a are thinned to at most a/10 from one to the next: an age is known to a tenth of it."""
_LEAST_AGE_S = 1e-6
"""Of an unconsumed record: rounding must not make it look consumed."""
_COMMITS_FOR_S = 60.0
_COMMITS_APART_S = 2.0


@dataclass(frozen=True, slots=True)
class Offsets:
    """What one look at one Kafka read; arrays are by partition number.

    Attributes:
        partitions: of each topic that exists.
        first: of each partition, the oldest offset that retention has left.
        end: of each partition, the offset that its next record gets. A topic is in both of these or in `unreadable`.
        missing: topics that do not exist.
        unreadable: topics that cannot be read, with a sentence that says why.
        committed: of each group and topic, the offset that the group is to read next, -1 where it has committed none.
        refused: groups that cannot be read, with a sentence that says why.
        requests: what such a look costs Kafka once leaders and coordinators are known.
    """

    partitions: Mapping[str, int] = field(default_factory=dict)
    first: Mapping[str, array[int]] = field(default_factory=dict)
    end: Mapping[str, array[int]] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    committed: Mapping[str, Mapping[str, array[int]]] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    requests: int = 0


class TopicSeries:
    """End offsets of one topic over at least the last `COVERED_S`, in at most `SAMPLES` samples."""

    def __init__(self) -> None:
        self._times_s = array("d")
        self._rows: list[array[int]] = []

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def span_s(self) -> float:
        """From the oldest sample to the newest."""
        return self._times_s[-1] - self._times_s[0] if self._rows else 0.0

    def append(self, at_s: float, end: array[int]) -> None:
        """Add what was read at a time; a topic that was made anew starts over."""
        if self._rows:
            newest = self._rows[-1]
            if len(end) < len(newest) or any(now < before for before, now in zip(newest, end, strict=False)):
                self._times_s, self._rows = array("d"), []
            elif end == newest:
                end = newest  # one array for the whole of a quiet time
            elif len(end) > len(newest):
                more = array("q", bytes(8 * (len(end) - len(newest))))  # added partitions were empty before
                self._rows = [row + more for row in self._rows]
        while self._times_s and self._times_s[-1] >= at_s:
            self._times_s.pop()
            self._rows.pop()
        self._times_s.append(at_s)
        self._rows.append(end)
        if len(self._rows) > SAMPLES:
            self._thin()

    def arrivals_per_s(self, window_s: float = RATE_WINDOW_S) -> tuple[float, ...] | None:
        """Records appended a second to each partition, over the window or a bit more; None before the second sample."""
        return _rates(self._times_s, self._rows, window_s)

    def appended_at_s(self, partition: int, position: int) -> float | None:
        """When the record at a position (below the end) was appended; None when it is older than the series.

        Records are taken to arrive evenly between two samples, each in the middle of its share.
        """
        after = bisect_right(self._rows, position, key=lambda row: row[partition])
        if after == 0:
            return None
        if after == len(self._rows):
            return self._times_s[-1]
        before_s, low = self._times_s[after - 1], self._rows[after - 1][partition]
        share = (position - low + 0.5) / (self._rows[after][partition] - low)
        return before_s + share * (self._times_s[after] - before_s)

    def age_s(self, partition: int, position: int) -> float | None:
        """How old that record was at the newest sample: at least `span_s` if older than the series.

        None before the second sample.
        """
        if len(self._rows) < 2:  # noqa: PLR2004 - an interval has two ends
            return None
        appended_s = self.appended_at_s(partition, position)
        return self.span_s if appended_s is None else max(_LEAST_AGE_S, self._times_s[-1] - appended_s)

    def _thin(self) -> None:
        """Drop samples whose neighbours are close enough for their age, and what is older than `COVERED_S`.

        Afterwards the first and the last of three in a row are farther apart than that, which leaves about 100 at most.
        """
        now_s = kept_s = self._times_s[-1]
        kept = [len(self._rows) - 1]
        for number in range(len(self._rows) - 2, -1, -1):
            enough_s = max(_LEAST_GAP_S, (now_s - kept_s) / _GAPS_IN_AGE)
            if number > 0 and kept_s - self._times_s[number - 1] <= enough_s:
                continue
            kept.append(number)
            kept_s = self._times_s[number]
            if now_s - kept_s >= COVERED_S:
                break
        kept.reverse()
        self._times_s = array("d", (self._times_s[number] for number in kept))
        self._rows = [self._rows[number] for number in kept]


class CommitSeries:
    """How far one group has come in one topic over the last minute."""

    def __init__(self) -> None:
        self._times_s = array("d")
        self._rows: list[array[int]] = []
        self._newest: array[int] | None = None

    def append(self, at_s: float, committed: array[int]) -> None:
        """Add what was read at a time; a group that was set back starts over."""
        before, self._newest = self._newest, committed
        if before is None:
            came = array("q", bytes(8 * len(committed)))
        elif committed == before:
            came = self._rows[-1]  # one array for the whole of a quiet time
        elif len(committed) < len(before) or any(now < old for old, now in zip(before, committed, strict=False)):
            self._times_s, self._rows = array("d"), []
            came = array("q", bytes(8 * len(committed)))
        else:
            # The first commit of a partition says where the group is, not how far it has come.
            steps = [now - old if old >= 0 else 0 for old, now in zip(before, committed, strict=False)]
            came = array("q", map(add, self._rows[-1], steps))
            more = len(committed) - len(came)
            if more:
                none = array("q", bytes(8 * more))
                came += none
                self._rows = [row + none for row in self._rows]
        while self._times_s and self._times_s[-1] >= at_s:
            self._pop(-1)
        if len(self._times_s) > 1 and at_s - self._times_s[-2] < _COMMITS_APART_S:
            self._pop(-1)
        self._times_s.append(at_s)
        self._rows.append(came)
        while at_s - self._times_s[0] > _COMMITS_FOR_S:
            self._pop(0)

    def consumptions_per_s(self, window_s: float = RATE_WINDOW_S) -> tuple[float, ...] | None:
        """Records committed a second in each partition, over the window or a bit more; None before a second sample."""
        return _rates(self._times_s, self._rows, window_s)

    def _pop(self, number: int) -> None:
        self._times_s.pop(number)
        self._rows.pop(number)


def _rates(times_s: array[float], rows: list[array[int]], window_s: float) -> tuple[float, ...] | None:
    """From counts that only rise to their rates since the beginning of a window."""
    since = _window(times_s, window_s)
    if since is None:
        return None
    new, old = rows[-1], rows[since]
    if new is old:
        return (0.0,) * len(new)
    took_s = times_s[-1] - times_s[since]
    return tuple(count / took_s for count in map(sub, new, old))


def _window(times_s: array[float], window_s: float) -> int | None:
    """The sample that a window up to now begins with: the last that is old enough, else the oldest."""
    if len(times_s) < 2:  # noqa: PLR2004 - an interval has two ends
        return None
    return max(0, bisect_right(times_s, times_s[-1] - window_s) - 1)
