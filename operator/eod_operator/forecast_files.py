"""Recorded sessions as files: the operator's memory, traces of single days, and tables that somebody else exported.

What cannot be used is left out and named, so that nobody wonders why a profile knows three sessions of twenty.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from statistics import fmean, median
from typing import Any

from eod_operator.conditions import rfc3339
from eod_operator.scaling.forecast import backtest, burst_watched
from eod_operator.scaling.memory import Memory, bounded, loads, remember, started
from eod_operator.scaling.sessions import BINS, EDGES_S, RecordedSession, bin_of

TRACE = ".trace"
"""Ends the keys of a ConfigMap that hold the last day of a stage."""
COLUMNS = ("close", "relative_s", "rate")
_SHOWN = 5
"""Faults of one file that are named one by one."""
_KINDS = (
    "a memory of the operator, its ConfigMap (kubectl get configmap NAME.forecast -o json), recorded traces or a CSV"
)


class UnreadableError(Exception):
    """A file holds nothing that a forecast can use; the message says what it should hold."""


@dataclass(slots=True)
class Found:
    """Sessions that files hold, and what was left out of them, a sentence each."""

    sessions: list[RecordedSession] = field(default_factory=list)
    services_per_s: list[float] = field(default_factory=list)
    starts_s: list[float] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def memories(text: str, name: str) -> dict[str, Memory]:
    """Memories by what they are about: the entries of a ConfigMap, or one file's own under its name.

    Raises:
        UnreadableError: it is no memory, or cannot be read.
    """
    found = _json(text, name)
    if not isinstance(found, dict) or not (found.get("kind") == "ConfigMap" or "rates" in found):
        raise UnreadableError(f"{name}: is no memory: give {_KINDS}")
    if "rates" in found:
        return {name: _loaded(text, name)}
    data = found.get("data") or {}
    kept = {
        key.removesuffix(".json"): _loaded(value, f"{name}: {key}")
        for key, value in sorted(data.items())
        if key.endswith(".json")
    }
    if not kept:
        raise UnreadableError(f"{name}: the ConfigMap is empty: the operator writes it after the first session")
    return kept


def last_day(text: str, name: str, stage: str | None) -> dict[str, Any]:
    """The trace of the last session of a pipeline's ConfigMap, with the sessions before it as its history.

    Args:
        text: the ConfigMap as JSON.
        name: where it is from.
        stage: whose; None when there is only one.

    Raises:
        UnreadableError: it is no such ConfigMap, or has no such trace.
    """
    known = memories(text, name)
    data = _json(text, name).get("data") or {}
    traced = sorted(key.removesuffix(TRACE) for key in data if key.endswith(TRACE))
    if stage is None and len(traced) == 1:
        (stage,) = traced
    if stage is None or stage not in traced:
        there = f"choose one of {', '.join(traced)} with --stage" if traced else "the operator writes it after one"
        raise UnreadableError(f"{name}: has no trace{f' of {stage!r}' if stage else ''}: {there}")
    found: dict[str, Any] = _json(data[stage + TRACE], f"{name}: {stage}{TRACE}")
    close_s = _epoch_s(str(found["close"]))
    found["history"] = [
        {"close": rfc3339(one.close_s), "arrivalPerSecond": list(one.rates_per_s), "event": one.event}
        for one in known[stage].sessions
        if one.close_s < close_s
    ]
    return found


def _loaded(text: str, name: str) -> Memory:
    memory = loads(text)
    if memory.note:
        raise UnreadableError(f"{name}: {memory.note}")
    return memory


def is_memory(text: str) -> bool:
    """Whether a text is a memory or its ConfigMap, rather than exported sessions."""
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, dict) and (found.get("kind") == "ConfigMap" or "rates" in found)


def read_sessions(text: str, name: str, found: Found) -> None:
    """Add the sessions of one file: a trace, a list of traces, or a CSV with the columns of `COLUMNS`.

    Raises:
        UnreadableError: it is none of these.
    """
    if text.lstrip()[:1] in ("{", "["):
        parsed = _json(text, name)
        for at, one in enumerate(parsed if isinstance(parsed, list) else [parsed], start=1):
            _trace(one, f"{name}: trace {at}", found)
    else:
        _table(text, name, found)


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{name}: is not JSON ({error}): give {_KINDS}") from error


def _trace(one: Any, name: str, found: Found) -> None:
    """A day as the operator records it."""
    if not isinstance(one, dict) or "arrivalPerSecond" not in one:
        found.left_out.append(f"{name}: is no trace: it has no arrivalPerSecond")
        return
    if one.get("version") != 1 or len(one.get("edges", ())) != len(EDGES_S) or list(one["edges"]) != list(EDGES_S):
        found.left_out.append(f"{name}: was recorded in other bins than this version's: record it anew")
        return
    try:
        rates = tuple(None if rate is None else float(rate) for rate in one["arrivalPerSecond"])
        session = RecordedSession(_epoch_s(str(one["close"])), rates, str(one.get("event", "")))
        service, start = one.get("servicePerSecond"), one.get("startSeconds")
        found.services_per_s += [] if service is None else [float(service)]
        found.starts_s += [] if start is None else [float(start)]
    except (ValueError, TypeError, KeyError) as error:
        found.left_out.append(f"{name}: {error}")
        return
    found.sessions.append(session)


def _table(text: str, name: str, found: Found) -> None:
    """Rates as somebody exported them: one row a moment, the mean of those in a bin is its rate."""
    reader = csv.DictReader(io.StringIO(text))
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise UnreadableError(
            f"{name}: lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}: a CSV has "
            f"{', '.join(COLUMNS)} and, if need be, event"
        )
    sums: dict[tuple[float, str], list[list[float]]] = {}
    faults = []
    for row in reader:
        try:
            close_s, at_bin, rate, event = _row(row)
        except ValueError as error:
            faults.append(f"{name}: line {reader.line_num}: {error}")
            continue
        sums.setdefault((close_s, event), [[] for _ in range(BINS)])[at_bin].append(rate)
    found.left_out += faults[:_SHOWN]
    if len(faults) > _SHOWN:
        found.left_out.append(f"{name}: {len(faults) - _SHOWN:,} more lines like these")
    for (close_s, event), bins in sums.items():
        rates = tuple(fmean(one) if one else None for one in bins)
        found.sessions.append(RecordedSession(close_s, rates, event))


def _row(row: Mapping[str, str | None]) -> tuple[float, int, float, str]:
    close_s = _epoch_s(row["close"] or "")
    relative_s, rate = float(row["relative_s"] or "nan"), float(row["rate"] or "nan")
    if not 0 <= rate < math.inf:
        raise ValueError(f"rate {row['rate']!r} is no number of records a second")
    at_bin = bin_of(relative_s)
    if at_bin is None or math.isnan(relative_s):
        raise ValueError(
            f"relative_s {row['relative_s']!r} lies outside a session, which is {EDGES_S[0]:g} to {EDGES_S[-1]:g} s "
            "from its close"
        )
    return close_s, at_bin, rate, (row.get("event") or "").strip()


def _epoch_s(text: str) -> float:
    """A time as RFC 3339 with its offset, or as epoch seconds."""
    try:
        at_s = float(text)
    except ValueError:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise ValueError(f"close {text!r} has no offset: write it as 2026-11-27T13:00:00-05:00") from None
        return at.timestamp()
    if not math.isfinite(at_s):
        raise ValueError(f"close {text!r} is no time: write it as 2026-11-27T13:00:00-05:00")
    return at_s


def train(found: Found, *, service_per_s: float | None = None) -> tuple[Memory, list[str]]:
    """A memory learned from sessions, and what was left out of them.

    Args:
        found: from `read_sessions`.
        service_per_s: what one replica consumes; else the median of what the traces say.
    """
    left_out = list(found.left_out)
    usable: dict[float, RecordedSession] = {}
    for one in found.sessions:
        when = _when(one)
        if not burst_watched(one):
            left_out.append(f"the session of {when}: less than half of its burst was watched")
            continue
        if one.close_s in usable:
            left_out.append(f"the session of {when}: is there twice, and the last one counts")
        usable[one.close_s] = one
    kept = bounded(tuple(usable.values()))
    left_out += [
        f"the session of {_when(one)}: is older than those that are kept" for one in usable.values() if one not in kept
    ]
    scores = {one.session.close_s: one.score for event in kinds(kept) for one in backtest(kept, event=event)}
    known = [one for one in found.services_per_s if 0 < one < math.inf]
    memory = Memory(service_per_s=service_per_s or (median(known) if known else None))
    for start_s in found.starts_s:
        memory = started(memory, start_s)
    for session in kept:
        memory = remember(memory, session, scores[session.close_s])
    return memory, left_out


def kinds(sessions: Iterable[RecordedSession]) -> list[str]:
    """The kinds of session there are, ordinary ones first."""
    return sorted({one.event for one in sessions})


def as_memory(text: str, name: str) -> dict[str, Memory]:
    """Memories of any file: those that it holds, or one that is learned from its sessions.

    Raises:
        UnreadableError: it holds neither.
    """
    if is_memory(text):
        return memories(text, name)
    found = Found()
    read_sessions(text, name, found)
    memory, _ = train(found)
    if not memory.sessions:
        raise UnreadableError("; ".join([f"{name}: holds no session whose burst was watched", *found.left_out]))
    # Unlike in a memory, old sessions are welcome here: they are not to be stored but looked at.
    watched = {one.close_s: one for one in found.sessions if burst_watched(one)}
    ordered = tuple(sorted(watched.values(), key=lambda one: one.close_s))
    return {name: replace(memory, sessions=ordered)}


def _when(one: RecordedSession) -> str:
    return rfc3339(one.close_s)
