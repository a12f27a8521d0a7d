"""What is learned of a pipeline's stages, kept in a ConfigMap beside it: one key a stage, see `scaling.memory`."""

from __future__ import annotations

from collections.abc import Mapping

from eod_operator.api import PipelineSpec
from eod_operator.learning import Learning
from eod_operator.passes import Memory, Pass
from eod_operator.resources import LABEL_MANAGER, LABEL_PIPELINE, MANAGER, Manifest, Owner, forecast_name
from eod_operator.scaling import History
from eod_operator.scaling.foresight import session_of
from eod_operator.scaling.recorder import Circumstances
from eod_operator.scaling.service_rate import KNOWN_AFTER, ServiceRate
from eod_operator.sizing import around, policy_of

SAVED_EVERY_S = 1_800.0
"""What a session has brought so far is written no more often; a whole session is written at once."""
SUFFIX = ".json"
TRACE = ".trace"
"""Of the key with a stage's last day, to be replayed by `eod simulate --trace`."""


def recalled(work: Pass) -> dict[str, Learning]:
    """What was remembered of each stage that consumes."""
    live = work.live.get(("ConfigMap", forecast_name(work.owner.name)))
    ours = live is not None and live.owner_uid == work.owner.uid
    data: Mapping[str, str] = (live.content().get("data") or {}) if live is not None and ours else {}
    return {
        stage.name: Learning(data.get(stage.name + SUFFIX, ""), data.get(stage.name + TRACE, ""))
        for stage in work.spec.stages
        if stage.effective_group is not None
    }


def watch(work: Pass, memory: Memory) -> None:
    """Learn from what is seen now: what arrives, and what serves."""
    learnings = memory.learnings
    if learnings is None:
        return
    consuming = {stage.name for stage in work.spec.stages if stage.effective_group is not None}
    for gone in learnings.keys() - consuming:
        del learnings[gone]
    closes_s, events = around(work.spec.calendar, work.now_s) if work.look.at_s is not None else ((), {})
    for stage in work.spec.stages:
        if stage.name not in consuming:
            continue
        learning = learnings.setdefault(stage.name, Learning())
        learning.serving(work.now_s, work.ready(stage))
        ends = work.reading(stage).ends
        if work.look.at_s is None or ends is None:
            continue
        close_s = session_of(work.look.at_s, closes_s)
        event = events.get(close_s, ("", 1.0))[0] if close_s is not None else ""
        learning.look(work.look.at_s, ends, close_s, event=event, replicas=work.current(stage))


def restored(history: History | None, learning: Learning | None) -> History:
    """A stage's history; at first with the service rate that was remembered."""
    if history is not None:
        return history
    per_s = None if learning is None else learning.restored_per_s
    return History() if per_s is None else History(service=ServiceRate(per_s=per_s, observations=KNOWN_AFTER))


def due(work: Pass, memory: Memory) -> bool:
    """Whether there is something to be written now."""
    learnings = (memory.learnings or {}).values()
    if any(one.urgent for one in learnings):
        return True
    return work.now_s - memory.learned_at_s >= SAVED_EVERY_S and any(one.unsaved for one in learnings)


def config_map(owner: Owner, spec: PipelineSpec, memory: Memory) -> Manifest:
    """The ConfigMap that holds it."""
    data = {}
    for stage in spec.stages:
        learning = (memory.learnings or {}).get(stage.name)
        if learning is None:
            continue
        policy = policy_of(stage, spec.scaling, start_s=learning.start_s)
        service = memory.histories.get(stage.name, History()).service
        around_it = Circumstances(
            policy.min_replicas,
            policy.max_replicas,
            service.believed(policy.replica_per_s),
            policy.start_s,
            policy.pause_s,
        )
        data[stage.name + SUFFIX] = learning.text(service)
        last_day = learning.last_day(around_it)
        if last_day:
            data[stage.name + TRACE] = last_day
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": forecast_name(owner.name),
            "namespace": owner.namespace,
            "labels": {LABEL_PIPELINE: owner.name, LABEL_MANAGER: MANAGER},
            "ownerReferences": [owner.reference],
        },
        "data": data,
    }
