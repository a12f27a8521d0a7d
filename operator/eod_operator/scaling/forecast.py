"""What is expected to arrive, in absolute time: a profile laid on the closes ahead, and whether it deserves belief.

A forecast is judged like any other claim. Each session is compared with the profile that was learned before it; one
that has been wrong is dropped, with the reason, and the burst size of the spec stands until it is right again. It is
judged in either case, so it can come back.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from eod_operator.scaling.profile import KEPT, QUANTILE, Profile, learn, picked
from eod_operator.scaling.sessions import EDGES_S, RecordedSession

BURST_BEGIN_S = -60.0
"""Where the burst begins at the earliest, relative to the close: what comes before it tells today's volume, and an
announced event multiplies what comes after."""
BEFORE_S, AFTER_S = -EDGES_S[0], EDGES_S[-1]
"""How long before a close its profile begins, and how long after it that ends."""

LEVEL_WINDOW_S = 1_800.0
LOWEST_LEVEL, HIGHEST_LEVEL = 0.5, 2.0
LEVEL_WEIGHT = 0.5
"""How much of today's deviation the burst is expected to share: the closing auction follows the day's volume, but only
in part. On a logarithmic scale, so that half the volume and twice the volume weigh the same."""

_JUDGED_FROM_S, _JUDGED_TO_S = -600.0, 1_200.0
"""The area around the close that is compared: all of it in bins of ten seconds."""
_LEAST_WATCHED = 0.5
"""Share of those bins, and of those in the minute around the close, that a judgement needs."""
MOST_ERROR = 10.0
"""Errors end here: of a burst that did not come at all, it would be infinite."""

TOLERATED_ERROR = 0.6
LAST_SCORES = 5
LEAST_SESSIONS = 2
_NEVER_CAME = 3.0
"""Error of a burst of which no more than a quarter came."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected at any time.

    Attributes:
        profile: of a session.
        closes_s: closes, in rising order.
        factors: close → how many times the usual burst is announced for it; 1 where nothing is.
        level: today's volume against the profile, from `level`.
    """

    profile: Profile
    closes_s: tuple[float, ...]
    factors: Mapping[float, float] = field(default_factory=dict)
    level: float = 1.0

    def __post_init__(self) -> None:
        if any(later <= earlier for earlier, later in itertools.pairwise(self.closes_s)):
            raise ValueError("closes_s is not in rising order: sort it, each close once")
        if not 0 < self.level < math.inf:
            raise ValueError(f"level is {self.level}: it must be a positive number")

    def rate(self, at_s: float) -> float:
        """Records a second expected at a time; 0 when no close is near."""
        return self.peak(at_s, at_s)

    def peak(self, from_s: float, to_s: float) -> float:
        """Highest rate expected in [from_s, to_s].

        The nearest close decides, so one that is a few minutes after another begins in the middle between them.

        Raises:
            ValueError: `to_s` lies before `from_s`, or one of them is not a number.
        """
        if not from_s <= to_s:
            raise ValueError(f"peak({from_s}, {to_s}): the end lies before the beginning")
        highest = 0.0
        first = bisect.bisect_left(self.closes_s, from_s - AFTER_S)
        for at in range(first, bisect.bisect_right(self.closes_s, to_s + BEFORE_S)):
            begin_s = max(from_s, self._begin_s(at))
            end_s = min(to_s, self._begin_s(at + 1))
            if begin_s <= end_s:
                highest = max(highest, self._peak_of(self.closes_s[at], begin_s, end_s))
        return highest * self.level

    def _begin_s(self, at: int) -> float:
        """When the close at this place begins to decide."""
        if at == len(self.closes_s):
            return math.inf
        close_s = self.closes_s[at]
        if at == 0:
            return close_s - BEFORE_S
        before_s = self.closes_s[at - 1]
        return max(close_s - BEFORE_S, min((before_s + close_s) / 2, before_s + AFTER_S))

    def _peak_of(self, close_s: float, from_s: float, to_s: float) -> float:
        factor = self.factors.get(close_s, 1.0)
        from_s, to_s = from_s - close_s, to_s - close_s
        if factor == 1.0 or to_s < BURST_BEGIN_S:
            return self.profile.peak(from_s, to_s)
        burst = factor * self.profile.peak(max(from_s, BURST_BEGIN_S), to_s)
        if from_s >= BURST_BEGIN_S:
            return burst
        return max(burst, self.profile.peak(from_s, math.nextafter(BURST_BEGIN_S, -math.inf)))


def level(profile: Profile, today: Sequence[tuple[float, float]], *, weight: float = LEVEL_WEIGHT) -> float:
    """How today's volume compares with the profile's median, as a factor for the burst in [0.5, 2].

    The median of the ratios, because one block trade must not double the burst; against the profile's median and not
    its high quantile, because an ordinary day is at 1 only there. Drawn towards 1, because the half hour before says
    only in part what the auction brings, and less the less of it has been seen.

    Args:
        profile: of a session.
        today: (relative_s, observed rate) of today; only the last half hour before the burst counts.
        weight: how much of the deviation counts after a whole half hour; 1 is all of it.
    """
    known = [(at, rate) for at, rate in today if at < BURST_BEGIN_S and 0 <= rate < math.inf]
    if not known:
        return 1.0
    last_s = max(at for at, _ in known)
    recent = [(at, rate) for at, rate in known if at > last_s - LEVEL_WINDOW_S]
    ratios = [rate / usual for at, rate in recent if (usual := profile.median(at)) > 0]
    if not ratios:
        return 1.0
    seen = min(1.0, (last_s - min(at for at, _ in recent)) / (LEVEL_WINDOW_S / 2))
    ratio = min(HIGHEST_LEVEL, max(LOWEST_LEVEL, median(ratios)))
    return math.exp(weight * seen * math.log(ratio))


@dataclass(frozen=True, slots=True)
class Score:
    """How a profile learned before a session compares with it; errors above 0 are forecasts that were too high.

    Attributes:
        close_s: close of the session.
        foreseen_per_s: highest rate of the burst that was foreseen.
        peak_per_s: highest that came.
        peak_error: (foreseen - came) / came.
        area_error: the same of the records from ten minutes before to twenty after the close. It is above 0 for a
            perfect forecast, by some hundredths: each rate of a profile is the highest of its neighbourhood.
        event: kind of the session.
    """

    close_s: float
    foreseen_per_s: float
    peak_per_s: float
    peak_error: float
    area_error: float
    event: str = ""


def judge(profile: Profile, session: RecordedSession, *, factor: float = 1.0) -> Score | None:
    """Compare a profile with a session that it was not learned from; None when too little of the burst was watched.

    Args:
        profile: learned before the session.
        session: what came.
        factor: of the event that was announced for it.
    """
    if not burst_watched(session):
        return None
    came = _burst(session.rates_per_s, session.rates_per_s)
    foreseen = _burst(profile.rates_per_s, session.rates_per_s)
    peak, foreseen_peak = max(rate for _, rate in came), factor * max(rate for _, rate in foreseen)
    area = sum(width_s * rate for width_s, rate in came)
    foreseen_area = factor * sum(width_s * rate for width_s, rate in foreseen)
    return Score(
        session.close_s, foreseen_peak, peak, _error(foreseen_peak, peak), _error(foreseen_area, area), session.event
    )


def burst_watched(session: RecordedSession) -> bool:
    """Whether enough of the burst was watched to judge by it, or to learn from it."""
    for from_s, to_s in ((_JUDGED_FROM_S, _JUDGED_TO_S), (BURST_BEGIN_S, -BURST_BEGIN_S)):
        bins = session.rates_per_s[bisect.bisect_left(EDGES_S, from_s) : bisect.bisect_left(EDGES_S, to_s)]
        if sum(_is_rate(rate) for rate in bins) < _LEAST_WATCHED * len(bins):
            return False
    return True


def _burst(rates: Sequence[float | None], where: Sequence[float | None]) -> list[tuple[float, float]]:
    """Width and rate of the bins around the close, those only in which `where` was watched."""
    first, end = bisect.bisect_left(EDGES_S, _JUDGED_FROM_S), bisect.bisect_left(EDGES_S, _JUDGED_TO_S)
    return [
        (EDGES_S[at + 1] - EDGES_S[at], rate)
        for at in range(first, end)
        if _is_rate(where[at]) and (rate := rates[at]) is not None
    ]


def _is_rate(rate: float | None) -> bool:
    return rate is not None and 0 <= rate < math.inf


def _error(foreseen: float, came: float) -> float:
    if foreseen == came:
        return 0.0
    return min(MOST_ERROR, (foreseen - came) / came) if came > 0 else MOST_ERROR


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a forecast is believed, and why: a sentence without ticking numbers."""

    trusted: bool
    reason: str


def trusted(
    scores: Sequence[Score], *, sessions: int, tolerated: float = TOLERATED_ERROR, last: int = LAST_SCORES
) -> Verdict:
    """Whether to size by a forecast.

    Args:
        scores: of the sessions before, in any order.
        sessions: how many the profile was learned from.
        tolerated: relative error of the peak up to which it is believed, in the median of the last scores.
        last: how many scores count at most.
    """
    if sessions < LEAST_SESSIONS:
        return Verdict(
            trusted=False,
            reason=f"fewer than {LEAST_SESSIONS} sessions have been recorded, so the burst size of the spec stands",
        )
    if not scores:
        return Verdict(
            trusted=False, reason="it has not met a session that was watched yet, so the burst size of the spec stands"
        )
    recent = sorted(scores, key=lambda one: one.close_s)[-last:]
    if min(one.peak_error for one in recent) >= _NEVER_CAME:
        return Verdict(
            trusted=False,
            reason="the burst that it foresees did not come in any of the last sessions, so the burst size of the spec "
            "stands",
        )
    if median(abs(one.peak_error) for one in recent) > tolerated:
        direction = "low" if median(one.peak_error for one in recent) < 0 else "high"
        return Verdict(
            trusted=False,
            reason=f"its peak was too {direction} by more than {tolerated:.0%} in the last sessions, so the burst size "
            "of the spec stands",
        )
    return Verdict(trusted=True, reason=f"its peak was within {tolerated:.0%} of what came in the last sessions")


@dataclass(frozen=True, slots=True)
class Scored:
    """One session of a backtest.

    Attributes:
        session: what came.
        profile: learned from the sessions of its kind before it.
        score: how they compare; None when nothing was learned yet, or too little of the burst was watched.
        verdict: whether the forecast would have been believed that day.
    """

    session: RecordedSession
    profile: Profile
    score: Score | None
    verdict: Verdict


def backtest(
    sessions: Sequence[RecordedSession], *, quantile: float = QUANTILE, kept: int = KEPT, event: str = ""
) -> list[Scored]:
    """Each session of one kind against the profile learned from those before it, the oldest first."""
    ordered = picked(sessions, event=event, kept=len(sessions))
    made: list[Scored] = []
    for at, session in enumerate(ordered):
        profile = learn(ordered[:at], quantile=quantile, kept=kept, event=event)
        verdict = trusted([one.score for one in made if one.score is not None], sessions=at)
        made.append(Scored(session, profile, judge(profile, session) if at else None, verdict))
    return made
