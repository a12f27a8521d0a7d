"""The status that a pass leads to: pure, once the pass is over."""

from __future__ import annotations

import re
from collections.abc import Iterable

from eod_operator import conditions
from eod_operator.api import Condition, Forecast, LastClose, PipelineStatus, StageSpec, StageStatus
from eod_operator.conditions import FALSE, TRUE, UNKNOWN, Answer, Problem
from eod_operator.passes import Pass
from eod_operator.punctuality import last_close
from eod_operator.scaling import Decision
from eod_operator.scaling.service_rate import KNOWN_AFTER
from eod_operator.sight import absent
from eod_operator.sizing import Sizes, runs_out


def status_of(work: Pass, sizes: Sizes, previous: PipelineStatus | None, pods: list[Problem]) -> PipelineStatus:
    """The status after a pass.

    Args:
        work: the pass.
        sizes: what it decided.
        previous: the status before it.
        pods: what the pods tell of themselves.
    """
    now = conditions.rfc3339(work.now_s)
    stages = tuple(_stage(work, sizes, previous, stage, now) for stage in work.spec.stages)
    details = _details(work, sizes, pods)
    kept = records_kept(work, previous.conditions if previous else ())
    answers = [
        conditions.ready(details, stages),
        _progressing(work, stages),
        conditions.degraded(details),
        _forecast_ready(work, sizes),
        _scaling_limited(work, sizes),
        *_within_budget(work, sizes),
        _paused(work),
        *details,
        kept,
        _calendar_reaches(work),
    ]
    next_close_s = sizes.window.next_close_s
    generation = work.pipeline.generation
    return PipelineStatus(
        observed_generation=generation,
        phase=conditions.phase(work.spec.mode, details, stages, bursting=sizes.window.active),
        next_close=None if next_close_s is None else conditions.rfc3339(next_close_s),
        last_close=last_close(
            sizes.window, work.now_s, stages, _partitions(work), previous.last_close if previous else None
        ),
        lag=conditions.total(stage.lag for stage in stages),
        lag_seconds=max((stage.lag_seconds for stage in stages if stage.lag_seconds is not None), default=None),
        replicas=sum(stage.current for stage in stages),
        desired=sum(stage.desired for stage in stages),
        conditions=conditions.transition(
            answers, previous.conditions if previous else (), generation=generation, now=now
        ),
        stages=stages,
    )


def same_but_for_numbers(one: PipelineStatus, other: PipelineStatus) -> bool:
    """Whether two statuses differ at most in what changes with every look at Kafka: lags, rates, and their wording."""
    return _without_numbers(one) == _without_numbers(other)


def _without_numbers(status: PipelineStatus) -> tuple[object, ...]:
    return (
        status.observed_generation,
        status.phase,
        status.next_close,
        _milestones(status.last_close),
        [(one.type, one.status, one.reason) for one in status.conditions],
        [(one.name, one.desired, one.current, one.ready, one.forecast, one.lag is None) for one in status.stages],
    )


def _partitions(work: Pass) -> dict[str, int]:
    return {one.name: count for one in work.spec.stages if (count := work.reading(one).partitions) is not None}


def _milestones(told: LastClose | None) -> object:
    """What of a close is worth writing at once; the worst lag may wait."""
    return told and (
        told.at,
        [(one.name, one.replicas, one.ready_seconds, one.assigned_seconds) for one in told.stages],
    )


def _stage(work: Pass, sizes: Sizes, previous: PipelineStatus | None, stage: StageSpec, now: str) -> StageStatus:
    decision, reading = sizes.decisions[stage.name], work.reading(stage)
    old = next((one for one in previous.stages if one.name == stage.name), None) if previous else None
    believed = work.believed
    last = old.last_scale_time if old is not None else None
    return StageStatus(
        name=stage.name,
        desired=decision.replicas,
        current=work.current(stage),
        ready=work.ready(stage),
        lag=sum(reading.lag) if believed and reading.lag is not None else None,
        lag_seconds=_rounded(reading.lag_s) if believed else None,
        arrival_per_second=_rounded(reading.arrival_per_s) if believed else None,
        consumed_per_second=_rounded(reading.consumed_per_s) if believed else None,
        service_per_second=_rounded(_service(decision)),
        start_seconds=_rounded(sizes.start_s.get(stage.name)),
        replica_hours=_rounded(decision.replica_hours) if stage.target.replica_hours_per_day else None,
        forecast=_forecast(work, sizes, stage),
        reason=f"paused; otherwise {decision.reason}" if stage.paused else decision.reason,
        last_scale_time=now if stage.name in work.scaled else last,
    )


def _forecast(work: Pass, sizes: Sizes, stage: StageSpec) -> Forecast | None:
    """What will be asked for at the next close, or is asked for during this one."""
    close_s = sizes.window.close_s or sizes.window.next_close_s
    if close_s is None:
        return None
    foreseen, note = sizes.foreseen.get(stage.name), sizes.notes.get(stage.name)
    if foreseen is not None:
        return Forecast(
            at=conditions.rfc3339(round(foreseen.at_s)),
            replicas=foreseen.replicas,
            learned=True,
            peak_per_second=_rounded(foreseen.peak_per_s),
            note=note,
        )
    if stage.replicas.burst is None:
        return None
    at_s = close_s - work.spec.calendar.burst.lead_seconds
    return Forecast(at=conditions.rfc3339(at_s), replicas=min(stage.replicas.burst, stage.replicas.max), note=note)


def _service(decision: Decision) -> float | None:
    service = decision.history.service
    return service.per_s if service.observations >= KNOWN_AFTER else None


def _rounded(value: float | None) -> float | None:
    """Two significant digits: enough to see what goes on, and no news at every look."""
    return None if value is None else float(f"{value:.2g}")


def _progressing(work: Pass, stages: Iterable[StageStatus]) -> Answer:
    if work.deferred:
        return Answer(
            "Progressing",
            TRUE,
            "RolloutDeferred",
            "settings have changed during the burst of a close; rolled after it: " + ", ".join(sorted(work.deferred)),
        )
    rolling = []
    for stage, status in zip(work.spec.stages, stages, strict=True):
        found = work.deployment(stage)
        if found is None:
            continue
        if not found.settled or found.updated < found.replicas:
            rolling.append(f"{stage.name} has {found.updated} of {found.replicas} replicas on its newest settings")
        elif found.outdated:
            rolling.append(f"{stage.name} has {found.outdated} older pods, which go when newer ones are ready")
        elif status.ready < status.current:
            rolling.append(f"{stage.name} has {status.ready} of {status.current} replicas ready")
    if not rolling:
        return Answer("Progressing", FALSE, "Settled", "every stage has what was asked for")
    return Answer("Progressing", TRUE, "RollingOut", "; ".join(rolling))


def _forecast_ready(work: Pass, sizes: Sizes) -> Answer:
    if sizes.calendar_problem:
        return Answer("ForecastReady", FALSE, "InvalidCalendar", sizes.calendar_problem)
    close_s = sizes.window.close_s or sizes.window.next_close_s
    if close_s is None:
        return Answer(
            "ForecastReady",
            FALSE,
            "NoMoreCloses",
            "the calendar has no close ahead, so nothing is scaled before one: add sessions to spec.calendar.sessions",
        )
    learned = [f"{name} {one.replicas}" for name, one in sizes.foreseen.items()]
    asked = [
        f"{one.name} {one.replicas.burst}"
        for one in work.spec.stages
        if one.replicas.burst is not None and one.name not in sizes.foreseen
    ]
    if learned:
        message = f"for the close at {conditions.rfc3339(close_s)}, by what was learned: {', '.join(learned)}"
        message += f"; by replicas.burst: {', '.join(asked)}" if asked else ""
        return Answer("ForecastReady", TRUE, "Learned", message)
    if not asked:
        return Answer(
            "ForecastReady",
            FALSE,
            "NoBurst",
            "no stage has replicas.burst, so lag alone sizes them, which is late at a close: set replicas.burst",
        )
    at = conditions.rfc3339(close_s - work.spec.calendar.burst.lead_seconds)
    message = f"for the close at {conditions.rfc3339(close_s)}, from {at} on at least: {', '.join(asked)}"
    reasons = {note for name, note in sizes.notes.items() if name not in sizes.foreseen}
    if reasons and work.spec.scaling.forecast == "Auto":
        message += f". What was learned is not used yet: {'; '.join(sorted(reasons))}"
    return Answer("ForecastReady", TRUE, "CalendarKnown", message)


_PLACES = 8
"""Partitions of a stage that are named."""
_LOST_FOR_S = 86_400.0
_LOST = (
    ". Their topics have deleted them (retention.ms, retention.bytes) before they had been read: keep records longer "
    "(kafka-configs), and find out why the stage was behind; what was in them the archive or the counterparties have"
)
_SAID = re.compile(r"stage (?P<stage>\S+) has lost .* \(seen (?P<at>\S+)\)")
_LIMITS = {"freeze": "Frozen", "pin": "Pinned", "hold": "Held", "stale": "SignalsStale"}
_CAPS = {"max": "CappedByMax", "partitions": "CappedByPartitions"}


def _scaling_limited(work: Pass, sizes: Sizes) -> Answer:
    """What keeps a stage from what its signals call for."""
    limits = []
    for stage in work.spec.stages:
        decision = sizes.decisions[stage.name]
        other = work.autoscalers.get(stage.name)
        if other is not None:
            limits.append(
                Problem(
                    "OtherAutoscaler",
                    f"{other.kind} {other.name} scales stage {stage.name} too, so its count is left to it: delete "
                    "it, or pause the stage (spec.stages[].paused)",
                )
            )
        elif decision.winner in _LIMITS:
            limits.append(Problem(_LIMITS[decision.winner], f"stage {stage.name}: {decision.reason}"))
        elif decision.history.raised is not None and decision.history.raised.ineffective_s is not None:
            limits.append(
                Problem(
                    "RaiseIneffective",
                    f"stage {stage.name}: the raise to {decision.history.raised.after} replicas brought no throughput, "
                    "so lag raises it no further for ten minutes: see in its logs what the replicas wait for, "
                    "such as a store at its limit or a record that cannot be processed",
                )
            )
        elif decision.capped_by is not None:
            limits.append(Problem(_CAPS[decision.capped_by], f"stage {stage.name}: {decision.reason}"))
    if not limits:
        return Answer("ScalingLimited", FALSE, "Unlimited", "every stage may have what its signals call for")
    return Answer("ScalingLimited", TRUE, limits[0].reason, "; ".join(one.message for one in limits))


def _within_budget(work: Pass, sizes: Sizes) -> list[Answer]:
    """Whether the stages keep to their budgets of replica-hours; nothing where there are none."""
    budgets = [(one, one.target.replica_hours_per_day) for one in work.spec.stages if one.target.replica_hours_per_day]
    over = [
        f"stage {stage.name} has more than its {budget:g} replica-hours of this day (UTC)"
        for stage, budget in budgets
        if sizes.decisions[stage.name].replica_hours > budget
    ]
    if not budgets:
        return []
    if not over:
        return [Answer("WithinBudget", TRUE, "Kept", "every stage keeps to its replica-hours of this day")]
    message = f"{'; '.join(over)}. Nothing is capped by it: lower replicas.max or replicas.burst, or raise the budget"
    return [Answer("WithinBudget", FALSE, "Exceeded", message)]


def _calendar_reaches(work: Pass) -> Answer:
    if (end := runs_out(work.spec.calendar, work.now_s)) is not None:
        return Answer("CalendarReaches", FALSE, "EndsSoon", end)
    return Answer("CalendarReaches", TRUE, "Reaches", "closes are known for a month and more")


def _paused(work: Pass) -> Answer:
    if work.spec.mode == "Paused":
        return Answer("Paused", TRUE, "ModePaused", "spec.mode is Paused: every object is left as it is")
    if work.spec.mode == "Preview":
        return Answer("Paused", TRUE, "ModePreview", "spec.mode is Preview: decisions are recorded and not carried out")
    stages = [stage.name for stage in work.spec.stages if stage.paused]
    if stages:
        return Answer("Paused", TRUE, "StagesPaused", f"spec.stages[].paused: {', '.join(stages)} left as they are")
    return Answer("Paused", FALSE, "Active", "the pipeline is carried out")


def _details(work: Pass, sizes: Sizes, pods: list[Problem]) -> list[Answer]:
    """The conditions that Degraded is summed up from, and LagKnown."""
    return [
        _spec_valid(work, sizes),
        conditions.answer("ReferencesFound", _referred(work), Problem("Found", "what the spec refers to is there")),
        conditions.answer("ObjectsApplied", work.problems, Problem("Applied", "every object is as it should be")),
        *_kafka(work),
        conditions.answer("PodsHealthy", pods, Problem("Healthy", "no pod tells of trouble")),
        conditions.answer(
            "ClusterInView",
            work.surroundings,
            Problem("InView", "watches are alive and clocks agree with the API server"),
        ),
    ]


def _spec_valid(work: Pass, sizes: Sizes) -> Answer:
    problems = [Problem("InvalidCalendar", sizes.calendar_problem)] if sizes.calendar_problem else []
    problems += [Problem("InvalidAnnotation", problem) for problem in work.orders.problems]
    if work.pipeline.newer and not problems:
        message = (
            f"{', '.join(work.pipeline.newer)}: this operator does not know what the CRD has there, and goes by the "
            "rest of the spec: upgrade it to the version of the CRD"
        )
        return Answer("SpecValid", UNKNOWN, "NewerFields", message)
    return conditions.answer("SpecValid", problems, Problem("Valid", "the spec is valid and its calendar is known"))


def _referred(work: Pass) -> list[Problem]:
    problems = []
    if work.referred.missing:
        missing = ", ".join(work.referred.missing)
        problems.append(
            Problem(
                "ReferenceMissing",
                f"the spec names what is not in namespace {work.owner.namespace}: {missing}. Create it, or correct "
                "spec.config, spec.http or spec.kafka.security; pods cannot work without it",
            )
        )
    if work.referred.problem:
        problems.append(Problem("ReferenceUnreadable", work.referred.problem))
    return problems


def _kafka(work: Pass) -> list[Answer]:
    """What Kafka says of the stages' topics and groups."""
    if work.look.problem:
        kafka = Answer("KafkaReachable", FALSE, work.look.reason, work.look.problem)
    elif work.look.at_s is None:
        kafka = Answer("KafkaReachable", UNKNOWN, "NotAskedYet", "Kafka has not answered yet")
    else:
        kafka = Answer("KafkaReachable", TRUE, "Reachable", "Kafka answers")
    if kafka.status != TRUE:
        message = "unknown until Kafka answers"
        return [kafka, *(Answer(kind, UNKNOWN, kafka.reason, message) for kind in ("TopicsReady", "LagKnown"))]
    missing, unreadable, waiting = [], [], []
    for stage in work.spec.stages:
        seen, group = work.reading(stage), stage.effective_group
        if seen.problem:
            unreadable.append(Problem("GroupUnreadable", f"stage {stage.name}: {seen.problem}"))
        elif seen.missing:
            missing.append(f"topic {', '.join(seen.missing)} of stage {stage.name}")
        elif group is not None and seen.lag is None:
            waiting.append(f"group {group} of stage {stage.name}")
    topics = list(work.topics)
    consumed = {topic for stage in work.spec.stages for topic in stage.effective_topics}
    missing += [
        f"planned topic {one.name}" for one in work.spec.topics if one.name not in consumed and absent(work, one)
    ]
    if missing:
        topics.insert(0, _missing(missing, work.spec.kafka.bootstrap_servers))
    good = Problem("Present", "every topic exists and is as planned")
    return [kafka, conditions.answer("TopicsReady", topics, good), _lag_known(waiting, unreadable)]


def records_kept(work: Pass, previous: Iterable[Condition]) -> Answer:
    """Whether retention has deleted what a stage had still to read; that is said for a day.

    The stage goes on at the first record that there is, and then nothing in Kafka tells of it any more. So what was
    said before is in the condition itself, a line a stage, with its time.
    """
    before = next((one.message for one in previous if one.type == "RecordsKept" and one.status == FALSE), "")
    lines = {}
    for line in before.removesuffix(_LOST).split("; "):
        if (said := _SAID.fullmatch(line)) and work.now_s - conditions.seconds(said["at"]) < _LOST_FOR_S:
            lines[said["stage"]] = line
    for stage in work.spec.stages:
        if lost := work.reading(stage).lost:
            places = [f"{one.topic}[{one.partition}]@{one.first}-{one.end - 1}" for one in lost]
            more = f" and of {len(places) - _PLACES} partitions more" if len(places) > _PLACES else ""
            count = sum(one.end - one.first for one in lost)
            told = f"stage {stage.name} has lost {count} records: {', '.join(places[:_PLACES])}{more}"
            if not lines.get(stage.name, "").startswith(f"{told} ("):
                lines[stage.name] = f"{told} (seen {conditions.rfc3339(work.now_s)})"
    if not lines:
        return Answer("RecordsKept", TRUE, "Kept", "no topic has deleted what a stage of it had still to read")
    return Answer("RecordsKept", FALSE, "RetentionOvertook", "; ".join(lines.values()) + _LOST)


def _missing(missing: list[str], address: str) -> Problem:
    return Problem(
        "TopicMissing",
        f"not found at {address}: {'; '.join(missing)}. Create it (or set spec.topics[].create), or "
        "correct the stage's topics; replicas are held until then",
    )


def _lag_known(waiting: list[str], unreadable: list[Problem]) -> Answer:
    if unreadable:
        return conditions.answer("LagKnown", unreadable, unreadable[0])
    if not waiting:
        return Answer("LagKnown", TRUE, "Known", "every group's lag is known")
    return Answer(
        "LagKnown",
        FALSE,
        "GroupUnknown",
        f"nobody has looked yet at {'; '.join(waiting)}: replicas are held until then",
    )
