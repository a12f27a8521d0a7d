"""What the forecast knows and must not forget when the operator restarts, as a text that fits a ConfigMap.

Rates are kept on a logarithmic scale with a step of 0.18 %, so that quiet hours are as exact as the burst; what
differs from one bin to the next is small on it, and compresses. Whatever cannot be read, be it damaged or of a newer
version, is begun anew with a sentence that says so: without a forecast a stage is sized by its spec, without an
operator it is not sized at all.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import zlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from eod_operator.scaling.forecast import Score
from eod_operator.scaling.profile import KEPT, picked
from eod_operator.scaling.sessions import BINS, RecordedSession

VERSION = 1
KEPT_OF_EVENT = 5
MOST_EVENTS = 4
"""Kinds of event that are remembered: those that came last."""
KEPT_STARTS = 20
KEPT_SCORES = 20

_STEP = math.log1p(0.0018)
_LEAST_PER_S = 1e-3
"""Rates below are kept as 0."""
_UNKNOWN, _ZERO, _FIRST, _LAST = 0, 1, 2, 0xFFFF
"""Codes: not watched, no records, and the ends of the scale, which reaches far beyond any rate."""
_MOST_SESSIONS = KEPT + KEPT_OF_EVENT * MOST_EVENTS + 1
"""With the one that is being recorded."""
_MOST_BYTES = 2 * BINS * _MOST_SESSIONS
_LONGEST_NAME = 63
"""Characters of an event's name that are kept, as of a label's value in Kubernetes."""


@dataclass(frozen=True, slots=True)
class Memory:
    """All that is remembered of one stage.

    Attributes:
        sessions: recorded ones, the oldest first; `remember` keeps them bounded.
        today: the session that is being recorded, as it stood when it was saved.
        service_per_s: records a second that one replica consumes, as learned; None until it is.
        starts_s: measured times from a decision until the new replica consumed, the oldest first.
        pauses_s: measured times that a rebalance stopped the group, the oldest first.
        scores: how the forecast did, the oldest first.
        note: why it was begun anew, when it was; not saved.
    """

    sessions: tuple[RecordedSession, ...] = ()
    today: RecordedSession | None = None
    service_per_s: float | None = None
    starts_s: tuple[float, ...] = ()
    pauses_s: tuple[float, ...] = ()
    scores: tuple[Score, ...] = ()
    note: str = field(default="", compare=False)

    def events(self) -> tuple[str, ...]:
        """Kinds of event that sessions are remembered of, in alphabetical order."""
        return tuple(sorted({one.event for one in self.sessions} - {""}))


def remember(memory: Memory, session: RecordedSession, score: Score | None = None) -> Memory:
    """Add a session and how it was foreseen; another one with the same close is replaced, and the oldest forgotten."""
    session = replace(session, event=session.event[:_LONGEST_NAME])
    sessions = [*(one for one in memory.sessions if one.close_s != session.close_s), session]
    scores = [one for one in memory.scores if one.close_s != session.close_s] + ([score] if score else [])
    return replace(memory, sessions=bounded(sessions), scores=_last_scores(scores))


def bounded(sessions: Sequence[RecordedSession]) -> tuple[RecordedSession, ...]:
    """Those that are remembered of many: the last ordinary ones, and the last few of the last kinds of event."""
    last = {one.event: one.close_s for one in sorted(sessions, key=lambda one: one.close_s) if one.event}
    events = sorted(last, key=last.__getitem__)[-MOST_EVENTS:]
    kept = [*picked(sessions, kept=KEPT)]
    for event in events:
        kept += picked(sessions, event=event, kept=KEPT_OF_EVENT)
    return tuple(sorted(kept, key=lambda one: one.close_s))


def started(memory: Memory, took_s: float) -> Memory:
    """Add a measured start; a time that cannot be true is passed over."""
    return replace(memory, starts_s=_added(memory.starts_s, took_s))


def paused(memory: Memory, took_s: float) -> Memory:
    """Add a measured rebalance; a time that cannot be true is passed over."""
    return replace(memory, pauses_s=_added(memory.pauses_s, took_s))


def _added(known: tuple[float, ...], took_s: float) -> tuple[float, ...]:
    return (*known, took_s)[-KEPT_STARTS:] if 0 <= took_s < math.inf else known


def _last_scores(scores: Iterable[Score]) -> tuple[Score, ...]:
    return tuple(sorted(scores, key=lambda one: one.close_s)[-KEPT_SCORES:])


def dumps(memory: Memory) -> str:
    """As JSON: a summary for people, the small numbers as they are, the rates packed."""
    sessions = bounded(memory.sessions)
    packed = [*sessions, *([memory.today] if memory.today else [])]
    return json.dumps(
        {
            "version": VERSION,
            "summary": summary(memory),
            "closes": [one.close_s for one in packed],
            "events": {str(at): one.event for at, one in enumerate(packed) if one.event},
            "today": memory.today is not None,
            "servicePerSecond": _rounded(memory.service_per_s),
            "startSeconds": [_rounded(one) for one in memory.starts_s[-KEPT_STARTS:]],
            "pauseSeconds": [_rounded(one) for one in memory.pauses_s[-KEPT_STARTS:]],
            "scores": [[one.close_s, *map(_rounded, _numbers(one)), one.event] for one in _last_scores(memory.scores)],
            "rates": _packed(packed),
        },
        separators=(",", ":"),
        allow_nan=False,
    )


def summary(memory: Memory) -> str:
    """What is remembered, in one line."""
    ordinary = sum(not one.event for one in memory.sessions)
    kinds = [f"{sum(one.event == event for one in memory.sessions)} of {event}" for event in memory.events()]
    parts = [", ".join([f"{ordinary} ordinary session{'' if ordinary == 1 else 's'}", *kinds])]
    if memory.sessions:
        closes = [one.close_s for one in memory.sessions]
        parts.append(f"closes from {_day(min(closes))} to {_day(max(closes))}")
    if memory.service_per_s is not None:
        parts.append(f"{memory.service_per_s:.4g} records a second and replica")
    return "; ".join(parts)


def loads(text: str) -> Memory:
    """Read what `dumps` wrote; what cannot be read is an empty memory whose `note` says why."""
    try:
        found = json.loads(text)
        if not isinstance(found, dict):
            return _anew("it is no JSON object")
        version = found.get("version")
        if version != VERSION:
            return _anew(f"it is of version {version!r}, and this operator reads version {VERSION}")
        return _memory(found)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, binascii.Error, zlib.error) as error:
        return _anew(f"it is damaged ({type(error).__name__}: {error})")


def _anew(why: str) -> Memory:
    return Memory(note=f"the remembered sessions could not be read, because {why}: they are recorded anew")


def _memory(found: Mapping[str, Any]) -> Memory:
    closes = [_number(one) for one in found["closes"]]
    rates = _unpacked(found["rates"], len(closes))
    events = found["events"]
    if not isinstance(events, dict):
        raise TypeError("its events are no JSON object")
    sessions = [
        RecordedSession(close_s, rates[at], str(events.get(str(at), ""))[:_LONGEST_NAME])
        for at, close_s in enumerate(closes)
    ]
    today = sessions.pop() if found["today"] else None
    service = found["servicePerSecond"]
    return Memory(
        sessions=bounded(sessions),
        today=today,
        service_per_s=None if service is None else _positive(service),
        starts_s=tuple(_positive(one) for one in found["startSeconds"])[-KEPT_STARTS:],
        pauses_s=tuple(_positive(one) for one in found["pauseSeconds"])[-KEPT_STARTS:],
        scores=_last_scores(_score(*one) for one in found["scores"]),
    )


def _score(close_s: Any, foreseen: Any, came: Any, peak_error: Any, area_error: Any, event: Any) -> Score:
    numbers = (_number(close_s), _number(foreseen), _number(came), _number(peak_error), _number(area_error))
    return Score(*numbers, event=str(event)[:_LONGEST_NAME])


def _numbers(score: Score) -> tuple[float, float, float, float]:
    return score.foreseen_per_s, score.peak_per_s, score.peak_error, score.area_error


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not a number")
    return number


def _positive(value: Any) -> float:
    number = _number(value)
    if number < 0:
        raise ValueError(f"{value!r} is below 0")
    return number


def _rounded(value: float | None) -> float | None:
    """Five digits: a tenth of the promised precision."""
    return None if value is None else float(f"{value:.5g}")


def _day(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, tz=UTC):%Y-%m-%d}"


def _packed(sessions: Sequence[RecordedSession]) -> str:
    """Codes as differences of neighbours, the high bytes before the low ones, compressed."""
    codes = [_code(rate) for one in sessions for rate in one.rates_per_s]
    steps = [_folded(code - before) for before, code in zip([0, *codes], codes, strict=False)]
    planes = bytes(step >> 8 for step in steps) + bytes(step & 0xFF for step in steps)
    return base64.b64encode(zlib.compress(planes, level=9)).decode("ascii")


def _unpacked(text: str, sessions: int) -> list[tuple[float | None, ...]]:
    if sessions > _MOST_SESSIONS:
        raise ValueError(f"it holds {sessions} sessions, and {_MOST_SESSIONS} at most are ever written")
    stream = zlib.decompressobj()
    planes = stream.decompress(base64.b64decode(text, validate=True), _MOST_BYTES + 1)
    count = BINS * sessions
    if len(planes) != 2 * count or not stream.eof:
        raise ValueError(f"its rates are not {count} numbers")
    codes, code = array("H"), 0
    for high, low in zip(planes[:count], planes[count:], strict=True):
        code = (code + _unfolded(high << 8 | low)) & 0xFFFF
        codes.append(code)
    rates = [_rate(code) for code in codes]
    return [tuple(rates[at : at + BINS]) for at in range(0, count, BINS)]


def _code(rate: float | None) -> int:
    if rate is None or not 0 <= rate < math.inf:
        return _UNKNOWN
    if rate < _LEAST_PER_S:
        return _ZERO
    return min(_LAST, _FIRST + round(math.log(rate / _LEAST_PER_S) / _STEP))


def _rate(code: int) -> float | None:
    if code == _UNKNOWN:
        return None
    return 0.0 if code == _ZERO else _LEAST_PER_S * math.exp((code - _FIRST) * _STEP)


def _folded(step: int) -> int:
    """A difference modulo 2^16 as a number that is small when the difference is, whatever its sign."""
    step = (step + 0x8000 & 0xFFFF) - 0x8000
    return 2 * step if step >= 0 else -2 * step - 1


def _unfolded(folded: int) -> int:
    return folded >> 1 if folded % 2 == 0 else -(folded + 1 >> 1)
