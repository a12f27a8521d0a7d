"""What a pipeline is doing and why, from the pipeline and its recorded decisions alone: pure, so that it can be tested.

`eod explain` shows it as text (`telling`) or as JSON. Its shape, in which times are RFC 3339 and None is unknown:

    at          when
    pipeline    namespace, name, phase, mode, ready {status, reason, message}, generation, observedGeneration
    orders      sentences: what annotations say, and what is wrong with them
    notes       sentences: what keeps this from being the whole truth
    close       next, local and timezone (for an exchange), prescaling (its start), burst {close, until} during one,
                problem, stages: name, now, atClose, atLeast (whether lag may ask for more), reason, hindrance; and
                last: how the last close was met, as status.lastClose has it
    stages      name, kind, paused, desired, current, ready, lag, lagSeconds, arrivalPerSecond, consumedPerSecond,
                reason
    attention   conditions that are not as they should be: type, status, reason, message, since
    decisions   as recorded (see `decisions.entry`), the latest first
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from eod_operator import conditions
from eod_operator.api import Condition, PipelineSpec, PipelineStatus, StageSpec, StageStatus
from eod_operator.api.spec import sentences, understood
from eod_operator.conditions import rfc3339
from eod_operator.decisions import Entry, entries_of
from eod_operator.orders import Orders, orders
from eod_operator.scaling import Overrides, Signals
from eod_operator.sizing import StageInput, size, window_of

Manifest = Mapping[str, Any]
Explanation = dict[str, Any]

NEVER_SEEN = (
    "no operator has looked at this pipeline yet: see that one runs and watches this namespace, with "
    "kubectl get pods -A -l app.kubernetes.io/name=eod-operator"
)
_WELL_WHEN_FALSE = {"Progressing", "Degraded", "ScalingLimited", "Paused"}
_SUMS = {"Ready", "Degraded"}
"""These repeat what other conditions say; the first line has Ready."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A pipeline, as far as it can be read."""

    meta: Mapping[str, Any]
    spec: PipelineSpec | None
    status: PipelineStatus | None
    orders: Orders
    log: Sequence[Entry]
    now_s: float

    def stage_status(self, name: str) -> StageStatus | None:
        """What the operator said last of a stage."""
        return next((one for one in self.status.stages if one.name == name), None) if self.status else None

    def last_decision(self, name: str) -> Entry | None:
        """The latest that is recorded of a stage."""
        return next((one for one in reversed(self.log) if one["stage"] == name), None)


def explain(
    pipeline: Manifest, decisions: Mapping[str, str] | None, now_s: float, *, last: int, stage: str | None = None
) -> Explanation:
    """Explain a pipeline.

    Args:
        pipeline: the EodPipeline.
        decisions: data of its ConfigMap of decisions; None when there is none.
        now_s: the time.
        last: how many decisions to tell.
        stage: tell decisions of this stage only.
    """
    meta, raw = pipeline["metadata"], pipeline.get("spec") or {}
    notes = []
    spec = None
    try:
        spec, newer = understood(raw)
        if newer:
            notes.append(f"the CRD is newer than this version, which leaves {', '.join(newer)} out of account")
    except ValidationError as error:
        notes.append(f"the spec cannot be read by this version: {'; '.join(sentences(error))}")
    status = conditions.read(conditions.pack(pipeline.get("status")))
    if not pipeline.get("status"):
        notes.append(NEVER_SEEN)
    elif status is None:
        notes.append("the status was written by another version and cannot be read by this one: use the operator's own")
    elif status.observed_generation < meta.get("generation", 0):
        notes.append(
            f"the status is about generation {status.observed_generation} of the spec, which is at "
            f"{meta['generation']} by now: the operator has not looked since"
        )
    named = spec.stages if spec else status.stages if status else ()
    said = orders(meta.get("annotations") or {}, frozenset(one.name for one in named), now_s) if named else Orders()
    seen = _Seen(meta, spec, status, said, entries_of(decisions or {}), now_s)
    recorded = [one for one in seen.log if stage is None or one["stage"] == stage]
    return {
        "at": rfc3339(now_s),
        "pipeline": _header(seen, raw),
        "orders": _told(said),
        "notes": notes,
        "close": _close(seen),
        "stages": _stages(seen),
        "attention": _attention(status.conditions if status else ()),
        "decisions": recorded[: -last - 1 : -1],
    }


def _header(seen: _Seen, raw: Manifest) -> Explanation:
    status = seen.status
    found = next((one for one in status.conditions if one.type == "Ready"), None) if status else None
    ready = None if found is None else {"status": found.status, "reason": found.reason, "message": found.message}
    return {
        "namespace": seen.meta.get("namespace", "default"),
        "name": seen.meta["name"],
        "phase": status.phase if status else None,
        "mode": seen.spec.mode if seen.spec else raw.get("mode", "Auto"),
        "ready": ready,
        "generation": seen.meta.get("generation"),
        "observedGeneration": status.observed_generation if status else None,
    }


def _told(said: Orders) -> list[str]:
    told = [f"frozen {said.frozen}"] if said.frozen else []
    told += [f"nothing is lowered: {said.hold_down}"] if said.hold_down else []
    told += [f"{stage} pinned to {count}" for stage, count in sorted(said.pinned.items())]
    return [*told, *said.problems]


def _close(seen: _Seen) -> Explanation:
    """What will happen at the next close."""
    made: Explanation = dict.fromkeys(("next", "local", "timezone", "prescaling", "burst", "problem"))
    made["stages"] = []
    made["last"] = None
    if seen.status is not None and seen.status.last_close is not None:
        made["last"] = seen.status.last_close.model_dump(by_alias=True, mode="json")
    if seen.spec is None:
        made["problem"] = "the spec cannot be read"
        return made
    calendar = seen.spec.calendar
    window, made["problem"] = window_of(calendar, seen.now_s)
    if window.close_s is not None:
        until = rfc3339(window.close_s + calendar.burst.duration_seconds)
        made["burst"] = {"close": rfc3339(window.close_s), "until": until}
    close_s = window.next_close_s
    if close_s is None:
        return made
    made["next"] = rfc3339(close_s)
    made["prescaling"] = rfc3339(close_s - calendar.burst.lead_seconds)
    if calendar.exchange is not None:
        zone = _zone(calendar.exchange, seen.now_s)
        made["timezone"], made["local"] = zone.key, datetime.fromtimestamp(close_s, tz=zone).isoformat()
    made["stages"] = [_at_close(seen, seen.spec, stage, close_s) for stage in seen.spec.stages]
    return made


def _zone(exchange: str, now_s: float) -> ZoneInfo:
    """Where an exchange is; the same calendar has just been loaded by the question for its close."""
    import exchange_calendars as xcals  # noqa: PLC0415 - slow (pandas), and only needed for exchange calendars

    year = datetime.fromtimestamp(now_s, tz=UTC).year
    zone: ZoneInfo = xcals.get_calendar(exchange, start=f"{year}-01-01", end=f"{year + 1}-01-31").tz
    return zone


def _at_close(seen: _Seen, spec: PipelineSpec, stage: StageSpec, close_s: float) -> Explanation:
    """The least that a stage will have: what calendar and orders ask for, while nobody knows the lag of then."""
    status, recorded = seen.stage_status(stage.name), seen.last_decision(stage.name)
    said = orders(seen.meta.get("annotations") or {}, frozenset(one.name for one in spec.stages), close_s)
    # What runs now counts at the close only where something keeps it until then.
    kept = status.current if status is not None and (said.frozen or said.hold_down) else 0
    overrides = Overrides(
        frozen=said.frozen if status is not None else None,
        pinned=said.pinned.get(stage.name),
        hold_down=said.hold_down,
    )
    partitions = ((recorded or {}).get("signals") or {}).get("partitions")
    given = StageInput(signals=Signals(partitions=partitions), current=kept, overrides=overrides)
    decision = size(spec, {stage.name: given}, close_s).decisions[stage.name]
    learned = status.forecast if status is not None and status.forecast and status.forecast.learned else None
    if learned is not None and decision.winner not in {"freeze", "pin"}:
        return {
            "name": stage.name,
            "now": status.current if status is not None else None,
            "atClose": max(learned.replicas, kept),
            "atLeast": learned.replicas < stage.replicas.max,
            "reason": f"{learned.replicas} replicas (forecast): asked for at {learned.at}, for up to "
            f"{learned.peak_per_second or 0:,.0f} records/s; {learned.note}",
            "hindrance": _hindrance(spec, stage, recorded),
        }
    exact = stage.effective_group is None or decision.winner in {"freeze", "pin"} or decision.capped_by is not None
    return {
        "name": stage.name,
        "now": status.current if status is not None else None,
        "atClose": decision.replicas,
        "atLeast": not exact and decision.replicas < stage.replicas.max,
        "reason": decision.reason,
        "hindrance": _hindrance(spec, stage, recorded),
    }


def _hindrance(spec: PipelineSpec, stage: StageSpec, recorded: Entry | None) -> str | None:
    """Why it will not be carried out; None when it will."""
    if spec.mode != "Auto":
        return f"spec.mode is {spec.mode}"
    if stage.paused:
        return "the stage is paused"
    outcome = str((recorded or {}).get("outcome", ""))
    was_prevented, _, why = outcome.partition(": ")
    if was_prevented != "not carried out" or why.startswith(("spec.mode", "the stage is paused")):
        return None
    return why


def _stages(seen: _Seen) -> list[Explanation]:
    kinds = {one.name: one for one in seen.spec.stages} if seen.spec else {}
    found = {one.name: one for one in seen.status.stages} if seen.status else {}
    return [_stage(name, kinds.get(name), found.get(name)) for name in kinds or found]


def _stage(name: str, spec: StageSpec | None, status: StageStatus | None) -> Explanation:
    return {
        "name": name,
        "kind": spec.kind if spec else None,
        "paused": spec.paused if spec else None,
        "desired": status.desired if status else None,
        "current": status.current if status else None,
        "ready": status.ready if status else None,
        "lag": status.lag if status else None,
        "lagSeconds": status.lag_seconds if status else None,
        "arrivalPerSecond": status.arrival_per_second if status else None,
        "consumedPerSecond": status.consumed_per_second if status else None,
        "reason": status.reason if status else None,
    }


def _attention(found: Sequence[Condition]) -> list[Explanation]:
    return [
        {
            "type": one.type,
            "status": one.status,
            "reason": one.reason,
            "message": one.message,
            "since": one.last_transition_time,
        }
        for one in found
        if one.type not in _SUMS and one.status != ("False" if one.type in _WELL_WHEN_FALSE else "True")
    ]
