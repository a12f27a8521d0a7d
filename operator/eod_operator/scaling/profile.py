"""The shape of a session, learned from those before it: for each moment, a rate that is rarely exceeded.

Three things make it fit for sizing a stage. It is a high quantile and not the mean, because too few replicas at the
bell cost more than one too many. Each rate first becomes the highest of its neighbourhood, because a burst that comes
a few seconds early in one session and late in another would be averaged away. And it is winsorised: of five sessions
or more, the highest rate of each moment counts as the second highest, and the lowest as the second lowest (Dixon and
Tukey, "Approximate behavior of the distribution of Winsorized t", Technometrics 10, 1968). So no single session,
however wild, leads out of what the others have seen. Limits by the median absolute deviation (Hampel) would do that
too, but under them a session with more volume could lower the profile.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from eod_operator.scaling.sessions import BINS, EDGES_S, RecordedSession

KEPT = 20
"""Sessions that are learned from: four weeks; older ones say less about today than they cost."""
QUANTILE = 0.8
MEDIAN = 0.5
SMEAR_S = 10.0
"""How early or late a burst may be and still be foreseen whole."""
WINSORISED_FROM = 5
"""From so many sessions on, the highest and the lowest count as their neighbours: of fewer, none is known as wild."""

Rates = tuple[float | None, ...]


def _neighbourhoods() -> tuple[tuple[int, int], ...]:
    """Of each bin, the first and the last but one of the bins within `SMEAR_S`; wide bins stand for themselves."""
    found = []
    for at, (begin_s, end_s) in enumerate(itertools.pairwise(EDGES_S)):
        if end_s - begin_s > 2 * SMEAR_S:
            found.append((at, at + 1))
            continue
        first = bisect.bisect_right(EDGES_S, begin_s - SMEAR_S) - 1
        last = bisect.bisect_left(EDGES_S, end_s + SMEAR_S)
        found.append((max(0, first), min(BINS, last)))
    return tuple(found)


_AROUND = _neighbourhoods()


@dataclass(frozen=True, slots=True)
class Profile:
    """What a session is expected to bring, by time relative to its close.

    Attributes:
        rates_per_s: of each bin, the high quantile in records a second.
        medians_per_s: of each bin, the median: what half of the sessions exceed.
        sessions: how many it was learned from; 0 is a profile of zeros.
        quantile: which one `rates_per_s` is.
        event: kind of the sessions; empty for ordinary ones.
        spread: how far the high quantile lies above the median where it is highest, as a share of that median: 0.1 is
            a burst that hardly differs from day to day. Infinite when there is nothing to tell it from.
    """

    rates_per_s: Sequence[float]
    medians_per_s: Sequence[float]
    sessions: int
    quantile: float
    event: str
    spread: float

    def __post_init__(self) -> None:
        for name, values in (("rates_per_s", self.rates_per_s), ("medians_per_s", self.medians_per_s)):
            if len(values) != BINS:
                raise ValueError(f"{name} has {len(values)} bins: a profile has {BINS}")

    def rate(self, relative_s: float) -> float:
        """Rate expected at a time relative to the close; 0 before the first bin and after the last."""
        at = bisect.bisect_right(EDGES_S, relative_s) - 1
        return self.rates_per_s[at] if 0 <= at < BINS else 0.0

    def median(self, relative_s: float) -> float:
        """The same, of the median."""
        at = bisect.bisect_right(EDGES_S, relative_s) - 1
        return self.medians_per_s[at] if 0 <= at < BINS else 0.0

    def peak(self, from_s: float, to_s: float) -> float:
        """Highest rate expected in [from_s, to_s], both relative to the close.

        Raises:
            ValueError: `to_s` lies before `from_s`, or one of them is not a number.
        """
        if not from_s <= to_s:
            raise ValueError(f"peak({from_s}, {to_s}): the end lies before the beginning")
        first = max(0, bisect.bisect_right(EDGES_S, from_s) - 1)
        return max(self.rates_per_s[first : max(0, bisect.bisect_right(EDGES_S, to_s))], default=0.0)

    @property
    def peak_at_s(self) -> float:
        """Where the highest rate begins, relative to the close."""
        return EDGES_S[max(range(BINS), key=self.rates_per_s.__getitem__)]


def picked(sessions: Sequence[RecordedSession], *, event: str = "", kept: int = KEPT) -> tuple[RecordedSession, ...]:
    """The last `kept` sessions of one kind, the oldest first, in whatever order they are given."""
    ordered = sorted((one for one in sessions if one.event == event), key=lambda one: one.close_s)
    return tuple(ordered[-kept:]) if kept > 0 else ()


def learn(
    sessions: Sequence[RecordedSession], *, quantile: float = QUANTILE, kept: int = KEPT, event: str = ""
) -> Profile:
    """Learn from the last `kept` sessions of one kind; sessions of other kinds are passed over.

    Args:
        sessions: in any order.
        quantile: in [0.5, 1]; the profile is this one of each moment.
        kept: how many at most.
        event: the kind; empty for ordinary sessions.

    Raises:
        ValueError: when the quantile is not in [0.5, 1].
    """
    if not MEDIAN <= quantile <= 1.0:
        raise ValueError(f"quantile is {quantile}: a profile to size by needs one from 0.5 to 1, such as {QUANTILE}")
    chosen = picked(sessions, event=event, kept=kept)
    medians, rates = bands(chosen, (MEDIAN, quantile))
    at = max(range(BINS), key=rates.__getitem__)
    spread = (rates[at] - medians[at]) / medians[at] if medians[at] > 0 else math.inf
    return Profile(rates, medians, len(chosen), quantile, event, spread)


def bands(sessions: Sequence[RecordedSession], quantiles: Sequence[float]) -> tuple[tuple[float, ...], ...]:
    """Quantiles of the given sessions in every bin: one row of rates a second for each of `quantiles`.

    A bin that no session watched has the higher one of the nearest that some did, so a gap foresees no calm.
    """
    seen = [_highest_around(one.rates_per_s) for one in sessions]
    rows: list[list[float | None]] = [[] for _ in quantiles]
    for column in zip(*seen, strict=True) if seen else ():
        values = _winsorised(sorted(rate for rate in column if rate is not None))
        for row, quantile in zip(rows, quantiles, strict=True):
            row.append(quantile_of(values, quantile) if values else None)
    return tuple(_filled(row) if row else (0.0,) * BINS for row in rows)


def quantile_of(values: Sequence[float], quantile: float) -> float:
    """A quantile of sorted values, between two of them in proportion.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("a quantile of no values is asked for")
    place = quantile * (len(values) - 1)
    below = math.floor(place)
    above = min(below + 1, len(values) - 1)
    # Not below x (1 - share) + above x share: of two equal values, that may be less than either.
    return values[below] + (place - below) * (values[above] - values[below])


def _highest_around(rates: Rates) -> list[float | None]:
    """Each watched rate, or the highest one of its neighbourhood; what is no rate at all counts as not watched."""
    clean = [one if one is not None and 0 <= one < math.inf else None for one in rates]
    return [
        None if clean[at] is None else max(one for one in clean[first:end] if one is not None)
        for at, (first, end) in enumerate(_AROUND)
    ]


def _winsorised(values: list[float]) -> list[float]:
    """Sorted values with the lowest and the highest drawn in to their neighbours, when there are enough."""
    if len(values) < WINSORISED_FROM:
        return values
    return [values[1], *values[1:-1], values[-2]]


def _filled(values: Sequence[float | None]) -> tuple[float, ...]:
    """Gaps take the higher one of the known values on either side."""
    before = _carried(values)
    after = _carried(values[::-1])[::-1]
    return tuple(
        max(left, right) if value is None else value for left, value, right in zip(before, values, after, strict=True)
    )


def _carried(values: Sequence[float | None]) -> list[float]:
    """The last known value at each place; 0 before the first."""
    carried, last = [], 0.0
    for value in values:
        last = last if value is None else value
        carried.append(last)
    return carried
