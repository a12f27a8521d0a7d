"""A session while it is recorded: looks at the log come in, the mean of each bin and the day's trace come out.

What was seen is never stretched over what was not. A bin that was watched for less than half of its time is unknown, a
look that comes after a long silence says nothing of the silence, and a number that cannot be true is passed over.
"""

from __future__ import annotations

import bisect
import itertools
import json
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from eod_operator.scaling.forecast import burst_watched
from eod_operator.scaling.sessions import BINS, EDGES_S, RecordedSession

LONGEST_S = 60.0
"""The longest time between two looks that the second one speaks for."""
LEAST_WATCHED = 0.5
MOST_CHANGES = 256
"""Changes of the replica count that a trace holds; of more, the briefest counts are forgotten."""


class Recorder:
    """One session, fed every few seconds.

    A look that goes back in time, or lies outside the session, changes nothing. A rate that is negative or not a number
    leaves its time unwatched, and so does a total below the last one: the topic was made anew.

    Attributes:
        close_s: the close that the session is recorded around.
        event: kind of the session; empty for an ordinary one.
    """

    def __init__(self, close_s: float, *, event: str = "") -> None:
        self.close_s = close_s
        self.event = event
        self._records = array("d", bytes(8 * BINS))
        self._watched_s = array("d", bytes(8 * BINS))
        self._by_partition: list[float] = []
        self._last_s: float | None = None
        self._last_ends: tuple[float, ...] | None = None
        self._replicas: list[tuple[float, int]] = []

    @classmethod
    def resumed(cls, so_far: RecordedSession) -> Recorder:
        """Go on with a session that was interrupted: its bins count as watched whole."""
        made = cls(so_far.close_s, event=so_far.event)
        for at, rate in enumerate(so_far.rates_per_s):
            if rate is not None:
                made._watched_s[at] = EDGES_S[at + 1] - EDGES_S[at]
                made._records[at] = rate * made._watched_s[at]
        return made

    def covers(self, now_s: float) -> bool:
        """Whether a time belongs to this session."""
        return EDGES_S[0] <= now_s - self.close_s < EDGES_S[-1]

    def over(self, now_s: float) -> bool:
        """Whether nothing of this session can come any more."""
        return now_s - self.close_s >= EDGES_S[-1]

    def totals(self, now_s: float, ends: Sequence[float]) -> None:
        """Take a look at the log: of each partition, how many records were ever appended (its end offset).

        The first look, and the first after a silence, only say where to count from.
        """
        if not all(map(math.isfinite, ends)) or (self._last_s is not None and now_s <= self._last_s):
            return
        before, self._last_ends = self._last_ends, tuple(ends)
        since_s, self._last_s = self._last_s, now_s
        if since_s is None or before is None or len(ends) != len(before):
            return
        came = [end - old for end, old in zip(ends, before, strict=True)]
        if min(came, default=0.0) >= 0:
            self._spread(since_s, now_s, math.fsum(came) / (now_s - since_s), came)

    def rates(self, now_s: float, arrival_per_s: Sequence[float]) -> None:
        """Take the mean rates of the partitions since the last look, where offsets are not at hand.

        A mean over longer than that blurs the burst: prefer `totals`.
        """
        if self._last_s is not None and now_s <= self._last_s:
            return
        since_s, self._last_s = self._last_s, now_s
        self._last_ends = None
        if since_s is None or not all(0 <= rate < math.inf for rate in arrival_per_s):
            return
        took_s = now_s - since_s
        self._spread(since_s, now_s, math.fsum(arrival_per_s), [rate * took_s for rate in arrival_per_s])

    def replicas(self, now_s: float, count: int) -> None:
        """Note how many replicas the stage has; only changes are kept."""
        known = self._replicas
        if not self.covers(now_s) or (known and (count == known[-1][1] or now_s <= known[-1][0])):
            return
        known.append((now_s, count))
        if len(known) > MOST_CHANGES:
            lasted = [later[0] - earlier[0] for earlier, later in itertools.pairwise(known[1:])]
            briefest = 1 + lasted.index(min(lasted))
            del known[briefest]
            if known[briefest][1] == known[briefest - 1][1]:
                del known[briefest]

    def session(self) -> RecordedSession:
        """The session as it stands."""
        rates = (
            records / watched_s if watched_s > LEAST_WATCHED * (EDGES_S[at + 1] - EDGES_S[at]) else None
            for at, (records, watched_s) in enumerate(zip(self._records, self._watched_s, strict=True))
        )
        return RecordedSession(self.close_s, tuple(rates), self.event)

    def worth_learning(self) -> bool:
        """Whether the burst was watched, without which a session teaches nothing about the next."""
        return burst_watched(self.session())

    def shares(self) -> tuple[float, ...]:
        """Of each partition, its share of the records that came; empty when none did."""
        total = math.fsum(self._by_partition)
        return tuple(records / total for records in self._by_partition) if total > 0 else ()

    def changes(self) -> tuple[tuple[float, int], ...]:
        """Replica counts with the time since the close at which each began."""
        return tuple((at_s - self.close_s, count) for at_s, count in self._replicas)

    def _spread(self, from_s: float, to_s: float, rate: float, by_partition: Sequence[float]) -> None:
        """Lay a rate that held from one time to another on the bins."""
        if to_s - from_s > LONGEST_S:
            return
        begin_s, end_s = max(from_s - self.close_s, EDGES_S[0]), min(to_s - self.close_s, EDGES_S[-1])
        if begin_s >= end_s:
            return
        if len(by_partition) > len(self._by_partition):
            self._by_partition += [0.0] * (len(by_partition) - len(self._by_partition))
        for partition, records in enumerate(by_partition):
            self._by_partition[partition] += records * (end_s - begin_s) / (to_s - from_s)
        at = bisect.bisect_right(EDGES_S, begin_s) - 1
        while begin_s < end_s:
            until_s = min(end_s, EDGES_S[at + 1])
            self._records[at] += rate * (until_s - begin_s)
            self._watched_s[at] += until_s - begin_s
            begin_s, at = until_s, at + 1


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a trace tells besides the traffic; None where it was not measured.

    Attributes:
        min_replicas: the least that the stage may have.
        max_replicas: the most.
        service_per_s: records a second that one replica consumes.
        start_s: how long a replica takes to start.
        pause_s: how long a rebalance stops the group.
    """

    min_replicas: int
    max_replicas: int
    service_per_s: float | None = None
    start_s: float | None = None
    pause_s: float | None = None


def trace(recorder: Recorder, around: Circumstances) -> str:
    """A recorded day as JSON, to be replayed by the simulator under other policies."""
    session = recorder.session()
    return json.dumps(
        {
            "version": 1,
            "close": datetime.fromtimestamp(session.close_s, tz=UTC).isoformat().replace("+00:00", "Z"),
            "event": session.event,
            "edges": EDGES_S,
            "arrivalPerSecond": [None if rate is None else round(rate, 3) for rate in session.rates_per_s],
            "shares": [round(share, 6) for share in recorder.shares()],
            "servicePerSecond": around.service_per_s,
            "startSeconds": around.start_s,
            "pauseSeconds": around.pause_s,
            "min": around.min_replicas,
            "max": around.max_replicas,
            "replicas": [[round(at_s, 1), count] for at_s, count in recorder.changes()],
        },
        separators=(",", ":"),
        allow_nan=False,
    )
