"""What is foreseen for one log: the profile learned from its sessions, whether it is trusted, and the session of now.

The operator has one for each stage, the simulator one for each simulated day.
"""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from eod_operator.scaling.forecast import BURST_BEGIN_S, Forecast, Verdict, backtest, level, trusted
from eod_operator.scaling.profile import KEPT, Profile, learn
from eod_operator.scaling.recorder import Recorder
from eod_operator.scaling.sessions import EDGES_S, RecordedSession

LEVEL_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Learned:
    """What sessions of one kind teach; made when they change, for it takes milliseconds.

    Attributes:
        profile: learned from all of them.
        verdict: whether it is trusted, by how each was forecast from those before it.
    """

    profile: Profile
    verdict: Verdict

    @classmethod
    def of(cls, sessions: Sequence[RecordedSession], *, event: str = "") -> Learned:
        """Learn, and judge what was learned."""
        scored = backtest(sessions, event=event)
        scores = [one.score for one in scored if one.score is not None]
        profile = learn(sessions, event=event)
        # Of a tuple every number is an object; there are hundreds, and the operator has thousands of stages.
        rates, medians = array("f", profile.rates_per_s), array("f", profile.medians_per_s)
        profile = replace(profile, rates_per_s=rates, medians_per_s=medians)
        return cls(profile, trusted(scores, sessions=min(len(scored), KEPT)))


_NOTHING = Learned.of(())


class Foresight:
    """What is foreseen at a moment; it is told what arrives."""

    def __init__(self, sessions: Sequence[RecordedSession] = ()) -> None:
        self.learned = _NOTHING
        """From ordinary sessions."""
        self.by_event: dict[str, Learned] = {}
        """From those of each event that are trusted by themselves."""
        self.recorder: Recorder | None = None
        """Of the session that is going on; None between sessions."""
        self.ended: Recorder | None = None
        """Of the last session that was over."""
        self._level = (0.0, 1.0)
        self._total = float("inf")
        self.learn(sessions)

    def learn(self, sessions: Sequence[RecordedSession]) -> None:
        """Learn from these sessions, of all kinds, instead of those before; they are not kept."""
        self.learned = Learned.of(sessions) if sessions else _NOTHING
        kinds = {one.event for one in sessions} - {""}
        found = {kind: Learned.of(sessions, event=kind) for kind in kinds}
        self.by_event = {kind: learned for kind, learned in found.items() if learned.verdict.trusted}

    def resume(self, today: RecordedSession) -> None:
        """Go on with a session that was being recorded."""
        self.recorder = Recorder.resumed(today)

    def look(
        self, at_s: float, ends: Sequence[float], close_s: float | None, *, event: str = "", replicas: int = 0
    ) -> RecordedSession | None:
        """Take a look at the log; returns the session that is over by now, if its burst was watched.

        Args:
            at_s: when it was.
            ends: of each partition, how many records were ever appended.
            close_s: the close whose session it is, which is the last one for an hour and then the next; None for none.
            event: what was announced for it.
            replicas: that the stage has.
        """
        over = None
        if self.recorder is not None and (self.recorder.over(at_s) or self.recorder.close_s != close_s):
            over = self.recorder.session() if self.recorder.worth_learning() else None
            self.ended, self.recorder = self.recorder, None
        # A log to which nothing comes needs no recorder, of which there would be thousands.
        before, self._total = self._total, sum(ends)
        if self.recorder is None and close_s is not None and self._total > before:
            fresh = Recorder(close_s, event=event)
            self.recorder = fresh if fresh.covers(at_s) else None
            self._level = (at_s, 1.0)
        if self.recorder is not None:
            self.recorder.totals(at_s, ends)
            self.recorder.replicas(at_s, replicas)
        return over

    def outlook(
        self, now_s: float, closes_s: tuple[float, ...], events: Mapping[float, tuple[str, float]]
    ) -> Forecast | None:
        """The forecast, when it is trusted.

        Args:
            now_s: the time.
            closes_s: those around now, in rising order.
            events: close → name and factor of what was announced for it.
        """
        learned, factors = self.learned, {close_s: factor for close_s, (_, factor) in events.items()}
        at = bisect.bisect_left(closes_s, now_s - EDGES_S[-1])
        close_s = closes_s[at] if at < len(closes_s) else None
        if close_s is not None and close_s in events and events[close_s][0] in self.by_event:
            learned, factors = self.by_event[events[close_s][0]], {}
        if not learned.verdict.trusted:
            return None
        return Forecast(learned.profile, closes_s, factors, self._today(now_s, learned.profile))

    def _today(self, now_s: float, profile: Profile) -> float:
        """Today's volume against the profile, until the burst begins."""
        recorder = self.recorder
        if recorder is None:
            return 1.0
        at_s, known = self._level
        if now_s - recorder.close_s < BURST_BEGIN_S and now_s - at_s >= LEVEL_EVERY_S:
            rates = recorder.session().rates_per_s
            known = level(profile, [(at, rate) for at, rate in zip(EDGES_S, rates, strict=False) if rate is not None])
            self._level = (now_s, known)
        return known


def session_of(now_s: float, closes_s: Sequence[float]) -> float | None:
    """The close whose session it is: the last one until an hour after it, then the next; None without either."""
    at = bisect.bisect_right(closes_s, now_s - EDGES_S[-1])
    return closes_s[at] if at < len(closes_s) else None
