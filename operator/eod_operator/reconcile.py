"""One pipeline, brought from what is to what should be: look, decide, act, report.

Level-based: every pass reads the present state (the pipeline, the indexes that watches keep, the last look at Kafka)
and never asks what has changed. What is remembered between passes only spares work or smooths decisions; a restart
loses it safely, since an empty history holds what is running for one stabilization window.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from eod_operator import conditions, metrics, punctuality, remembering, report, sight
from eod_operator.api import PipelineSpec, PipelineStatus, Topic
from eod_operator.asking import Ask
from eod_operator.cluster import Cluster, NotOwnedError
from eod_operator.conditions import Answer, Problem
from eod_operator.decisions import DecisionLog, entry
from eod_operator.index import Index
from eod_operator.kafka.errors import KafkaUnreachableError, TopicRefusedError
from eod_operator.kafka.readings import Look
from eod_operator.kafka.security import Endpoint
from eod_operator.kafka.watch import KafkaWatches
from eod_operator.kube.api import ClusterError
from eod_operator.orders import orders
from eod_operator.passes import Memory, Outcome, Pass, Pipeline
from eod_operator.pods import diagnose
from eod_operator.references import References, Referred
from eod_operator.resources import LABEL_PIPELINE, LABEL_STAGE, Manifest, Owner, decisions_name, object_name
from eod_operator.sizing import Sizes, StageInput, around, at_hand, load, size
from eod_operator.upkeep import Upkeep, quotas

logger = logging.getLogger(__name__)

NUMBERS_EVERY_S = 30.0
"""A status that differs only in lag and rates is written no more often."""
DECISIONS_EVERY_S = 30.0
"""Recorded decisions that changed no count are written no more often."""
LACKING_FOR_S = 15.0
"""Replicas may take so long to become ready before their pods are asked why."""
ASK_PODS_EVERY_S = 30.0
FIRST_LOOK_WITHIN_S = 7.0
"""A little more than a Kafka has to answer."""
_POLL_S = 0.05


class Emit(Protocol):
    """Posts an Event about a pipeline."""

    def __call__(self, owner: Owner, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Post one."""


class View(Protocol):
    """How well the operator sees: what `kube.api.Api` knows of its own clock."""

    @property
    def skew_s(self) -> float:
        """How far our clock is ahead of the API server's."""
        ...

    @property
    def outage(self) -> tuple[float, float] | None:
        """When the API server last was away, from and until; None if never."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the reconcilers of all pipelines share."""

    view: View
    index: Index
    cluster: Cluster
    kafka: KafkaWatches
    references: References
    emit: Emit
    ask: Ask
    clock: Callable[[], float] = time.time


class Reconciler:
    """Reconciles one pipeline, pass after pass; passes must not overlap."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._upkeep = Upkeep(around.cluster)
        self._memory = Memory()
        self._told_until_s = around.clock()
        self._endpoint: Endpoint | None = None
        self.last: Outcome | None = None
        """What the last pass saw and decided."""

    def close(self, pipeline: Pipeline) -> None:
        """Stop looking at Kafka for the pipeline."""
        self._around.kafka.unsubscribe(pipeline.owner.uid)

    async def reconcile(self, pipeline: Pipeline) -> None:
        """Make one pass over the pipeline as last seen.

        Raises:
            ClusterError: the API server did not answer; the next pass tries again.
            NotLeadingError: the lease was lost on the way.
        """
        if pipeline.deleting:
            return  # the garbage collector is at work: making anything now would be against it
        await self._pass(pipeline)
        self._tell_of_outage(pipeline.owner)

    def wants_more(self, pipeline: Pipeline) -> bool:
        """Whether, by what Kafka says now, a stage shall have more replicas than it has: worth a pass of its own."""
        spec = pipeline.spec
        if self.last is None or spec is None or pipeline.deleting or spec.mode != "Auto":
            return False
        if not at_hand(spec.calendar, self._around.clock()):
            return True
        work = self._seen(pipeline, spec)
        remembering.watch(work, self._memory)
        sizes = size(spec, self._inputs(work), work.now_s)
        return any(
            sizes.decisions[stage.name].replicas > work.current(stage)
            for stage in spec.stages
            if not stage.paused and stage.name not in work.autoscalers
        )

    def look(self, pipeline: Pipeline) -> Look:
        """What Kafka says now."""
        return self._around.kafka.look(pipeline.owner.uid)

    def age_s(self, look: Look) -> float:
        """Age of a look at Kafka; infinite when there has been none."""
        return float("inf") if look.at_s is None else max(0.0, self._around.clock() - look.at_s)

    async def _pass(self, pipeline: Pipeline) -> None:
        if pipeline.spec is None:
            await self._report_invalid(pipeline)
            return
        spec = pipeline.spec
        edited = self.last is not None and self.last.generation != pipeline.generation
        refused = self.look(pipeline).reason not in {"", "KafkaUnreachable"}
        referred = await self._around.references.look(pipeline.owner.namespace, spec, anew=edited, refused=refused)
        rotated = self._subscribe(pipeline, spec, referred)
        if rotated or (self.last is None and pipeline.status):
            await self._first_look(pipeline)
        work = self._seen(pipeline, spec)
        work.referred = referred
        if self._memory.decisions is None:
            self._memory.decisions = _recorded(work)
        if self._memory.learnings is None:
            self._memory.learnings = remembering.recalled(work)
            self._memory.learned_at_s = work.now_s
        await self._look_at_topics(work)
        if not at_hand(spec.calendar, work.now_s):
            # An exchange's calendar takes a second to load, and the other pipelines do not wait for it.
            await asyncio.to_thread(load, spec.calendar, work.now_s)
        remembering.watch(work, self._memory)
        sizes = size(spec, self._inputs(work), work.now_s)
        for name, decision in sizes.decisions.items():
            self._memory.histories[name] = decision.history
            metrics.DECISIONS.labels(decision.winner).inc()
        if spec.mode == "Auto":
            await self._act(work, sizes)
        await self._record(work, sizes)
        await self._remember(work)
        self.last = Outcome(
            pipeline.generation,
            work.referred,
            tuple(
                (stage.name, sizes.decisions[stage.name].replicas, work.current(stage), work.ready(stage))
                for stage in spec.stages
            ),
        )
        await self._report(work, sizes)

    # Look

    def _subscribe(self, pipeline: Pipeline, spec: PipelineSpec, referred: Referred) -> bool:
        """Have Kafka looked at with the credentials of now; whether these, or its address, are others than before."""
        before, self._endpoint = self._endpoint, None
        if isinstance(referred.security, Problem):
            self._around.kafka.withhold(pipeline.owner.uid, referred.security)
            return False
        self._endpoint = Endpoint(spec.kafka.bootstrap_servers, referred.security)
        self._around.kafka.subscribe(pipeline.owner.uid, self._endpoint, sight.wanted(spec))
        return before is not None and before != self._endpoint

    def _seen(self, pipeline: Pipeline, spec: PipelineSpec) -> Pass:
        """All that can be seen without a request."""
        around, owner = self._around, pipeline.owner
        now_s = around.clock()
        autoscalers = {}
        for stage in spec.stages:
            other = around.index.autoscaler(owner.namespace, object_name(owner, stage.name))
            if other is not None:
                autoscalers[stage.name] = other
        work = Pass(
            pipeline=pipeline,
            spec=spec,
            live=dict(around.index.of(owner)),
            look=around.kafka.look(owner.uid),
            orders=orders(pipeline.annotations, frozenset(stage.name for stage in spec.stages), now_s),
            referred=self.last.referred if self.last is not None else Referred(),
            autoscalers=autoscalers,
            now_s=now_s,
        )
        index = around.index
        work.surroundings += sight.surroundings(around.view.skew_s, index.fresh_s, index.problem)
        return work

    def _inputs(self, work: Pass) -> dict[str, StageInput]:
        learnings = self._memory.learnings or {}
        closes_s, events = around(work.spec.calendar, work.now_s) if learnings else ((), {})
        made = {}
        for stage in work.spec.stages:
            learning = learnings.get(stage.name)
            forecasting = learning is not None and work.spec.scaling.forecast == "Auto"
            made[stage.name] = StageInput(
                signals=work.signals(stage),
                history=remembering.restored(self._memory.histories.get(stage.name), learning),
                current=work.current(stage),
                overrides=sight.overrides(work, stage),
                outlook=learning.outlook(work.now_s, closes_s, events) if forecasting and learning else None,
                start_s=learning.start_s if learning else None,
                note=(learning.note or learning.verdict.reason) if learning else None,
            )
        return made

    async def _first_look(self, pipeline: Pipeline) -> None:
        """A restarted operator waits for what Kafka says before it says anything new of the pipeline."""
        deadline_s = time.monotonic() + FIRST_LOOK_WITHIN_S
        while time.monotonic() < deadline_s:
            look = self._around.kafka.look(pipeline.owner.uid)
            if look.at_s is not None or look.problem is not None:
                return
            await asyncio.sleep(_POLL_S)

    async def _look_at_topics(self, work: Pass) -> None:
        """Compare topics with what the spec says of them, and create those that it asks for."""
        if not work.spec.topics or work.look.problem or work.look.at_s is None or self._endpoint is None:
            return
        try:
            there = [topic.name for topic in work.spec.topics if not sight.absent(work, topic)]
            retention = await self._around.kafka.retention(self._endpoint, there)
            for topic in work.spec.topics:
                if topic.create and sight.absent(work, topic) and work.spec.mode == "Auto":
                    await self._create(work, topic, self._endpoint)
        except TopicRefusedError as error:
            work.topics.append(Problem("TopicRefused", str(error)))
            return
        except KafkaUnreachableError:
            return  # told by the look at offsets
        for topic in work.spec.topics:
            work.topics += sight.unlike(work, topic, retention.get(topic.name))

    async def _create(self, work: Pass, topic: Topic, endpoint: Endpoint) -> None:
        await self._around.kafka.create_topic(
            endpoint,
            topic.name,
            partitions=topic.partitions or 1,
            replication_factor=topic.replication_factor,
            retention_ms=None if topic.retention_hours is None else topic.retention_hours * 3_600_000,
        )
        message = f"topic {topic.name} created with {topic.partitions} partitions at {endpoint}"
        self._around.emit(work.owner, "Normal", "TopicCreated", message)

    # Act

    async def _act(self, work: Pass, sizes: Sizes) -> None:
        for stage in work.spec.stages:
            if stage.paused:
                continue
            decision, before = sizes.decisions[stage.name], work.deployment(stage)
            references = sight.references(work, stage, bursting=sizes.window.active)
            await self._upkeep.stage(work, self._memory, stage, decision, references)
            after = work.deployment(stage)
            if stage.name in work.scaled and after is not None:
                old = work.scaled[stage.name]
                metrics.SCALED.labels("up" if after.replicas > old else "down").inc()
                learning = (self._memory.learnings or {}).get(stage.name)
                if learning is not None and after.replicas > old and before is not None:
                    learning.scaled(work.now_s, after.replicas)
                change = "created with" if before is None else f"scaled from {old} to"
                message = f"{stage.name} {change} {decision.reason}"
                logger.info("%s/%s: %s", work.owner.namespace, work.owner.name, message)
                self._around.emit(work.owner, "Normal", "Scaled", message)
        for gone in await self._upkeep.remove_others(work, self._memory, self._upkeep.wanted(work, self._memory)):
            if gone.kind == "Deployment":
                message = f"{gone.kind} {gone.name}: the spec has no stage {gone.stage} for it"
                self._around.emit(work.owner, "Normal", "Removed", message)
        for stale in set(self._memory.histories) - {stage.name for stage in work.spec.stages}:
            del self._memory.histories[stale]

    # Report

    async def _record(self, work: Pass, sizes: Sizes) -> None:
        """Record what was decided, when it is news."""
        decisions = self._memory.decisions
        if decisions is None:
            return
        at = conditions.rfc3339(work.now_s)
        for stage in work.spec.stages:
            decision = sizes.decisions[stage.name]
            outcome = sight.outcome(work, stage, decision.replicas)
            current = work.scaled.get(stage.name, work.current(stage))
            decisions.add(entry(stage.name, decision, work.signals(stage), at=at, current=current, outcome=outcome))
        decisions.keep_only(stage.name for stage in work.spec.stages)
        due = work.now_s - self._memory.decisions_at_s >= DECISIONS_EVERY_S and self._around.cluster.plenty
        if decisions.unsaved and (work.scaled or due) and await self._keep(work, decisions.config_map(work.owner)):
            decisions.unsaved = False
            self._memory.decisions_at_s = work.now_s

    async def _remember(self, work: Pass) -> None:
        """Write what was learned, when a session is over or it is time."""
        if not remembering.due(work, self._memory):
            return
        self._memory.learned_at_s = work.now_s
        await self._keep(work, remembering.config_map(work.owner, work.spec, self._memory))

    async def _keep(self, work: Pass, manifest: Manifest) -> bool:
        """Write a ConfigMap beside the pipeline; False, and a problem, when it cannot be."""
        name = manifest["metadata"]["name"]
        try:
            live = work.live.get(("ConfigMap", name))
            await self._around.cluster.apply(work.owner, manifest, live, met=work.met)
        except NotOwnedError as error:
            work.problems.append(Problem("NotOwned", str(error)))
            return False
        except ClusterError as error:
            if error.transient:
                raise
            work.problems.append(Problem("ApplyFailed", f"ConfigMap {name}: {error}"))
            return False
        return True

    async def _pods(self, work: Pass) -> list[Problem]:
        """What the pods of stages that lack some tell of themselves."""
        memory = self._memory
        problems = quotas(work.live, work.spec.stages, work.owner.name)
        lacking = []
        for stage in work.spec.stages:
            if not work.lacking(stage):
                memory.lacking_since_s.pop(stage.name, None)
                memory.diagnosed.pop(stage.name, None)
            elif work.now_s - memory.lacking_since_s.setdefault(stage.name, work.now_s) >= LACKING_FOR_S:
                lacking.append(stage.name)
        found = await asyncio.gather(*(self._diagnosed(work, stage) for stage in lacking))
        return problems + [one for one in found if one is not None]

    async def _diagnosed(self, work: Pass, stage: str) -> Problem | None:
        """What ails the pods of a stage, as last asked; asked anew when that was a while ago."""
        asked_s, found = self._memory.diagnosed.get(stage, (float("-inf"), None))
        if work.now_s - asked_s >= ASK_PODS_EVERY_S and self._around.cluster.plenty:
            labels = {LABEL_PIPELINE: work.owner.name, LABEL_STAGE: stage}
            pods = await self._around.cluster.pods(work.owner.namespace, labels)
            found = await diagnose(stage, pods, self._around.ask, work.referred.door)
            self._memory.diagnosed[stage] = (work.now_s, found)
        return found

    async def _report(self, work: Pass, sizes: Sizes) -> None:
        previous = self._previous(work.pipeline)
        status = await self._meet_close(work, sizes, report.status_of(work, sizes, previous, await self._pods(work)))
        if previous is not None and report.same_but_for_numbers(status, previous):
            early = work.now_s - self._memory.written_at_s < NUMBERS_EVERY_S
            if early or not self._around.cluster.plenty:
                return
        await self._write(work.pipeline, previous, status)

    async def _meet_close(self, work: Pass, sizes: Sizes, status: PipelineStatus) -> PipelineStatus:
        """Has Kafka say who has partitions, while that is waited for, and tells how it stood at the bell."""
        told, close_s = status.last_close, sizes.window.close_s
        if told is None or close_s is None:
            return status
        asked = punctuality.to_be_asked(work.spec, sizes.window, told)
        if asked and self._endpoint is not None:
            with contextlib.suppress(KafkaUnreachableError):  # told by the look at offsets
                members = await self._around.kafka.members(self._endpoint, asked.values())
                held = {stage: members[group] for stage, group in asked.items() if group in members}
                told = punctuality.with_members(told, work.now_s, held)
        if work.now_s >= close_s and self._memory.close_told != told.at:
            self._memory.close_told = told.at
            consuming = frozenset(one.name for one in work.spec.stages if one.effective_group is not None)
            late, message = punctuality.at_the_bell(told, consuming)
            if late:
                self._around.emit(work.owner, "Warning", "LateForClose", message)
            else:
                self._around.emit(work.owner, "Normal", "ReadyForClose", message)
        return status.model_copy(update={"last_close": told})

    def _previous(self, pipeline: Pipeline) -> PipelineStatus | None:
        """The status as last written, by us or by who led before."""
        return conditions.read(pipeline.status if self._memory.status is None else self._memory.status)

    async def _write(self, pipeline: Pipeline, previous: PipelineStatus | None, status: PipelineStatus) -> None:
        """Write the status if it says something new, and tell of what has gone wrong since."""
        if status == previous:
            return
        content = conditions.dump(status)
        version = max(pipeline.version, self._memory.version)
        try:
            self._memory.version = await self._around.cluster.apply_status(pipeline.owner, version, content)
        except ClusterError as error:
            if error.conflict or error.missing:
                return  # it was edited or deleted meanwhile; kopf is about to say so, and the next pass writes
            raise
        self._memory.status = conditions.pack(content)
        self._memory.written_at_s = self._around.clock()
        for one in conditions.worsened(status.conditions, previous.conditions if previous else ()):
            self._around.emit(pipeline.owner, "Warning", one.reason, one.message)

    async def _report_invalid(self, pipeline: Pipeline) -> None:
        """Say which field is wrong; the objects stay as they are."""
        previous = self._previous(pipeline)
        answers = [
            Answer("Ready", "False", "InvalidSpec", pipeline.wrong),
            Answer("Degraded", "True", "InvalidSpec", pipeline.wrong),
            Answer("SpecValid", "False", "InvalidSpec", pipeline.wrong),
        ]
        now = conditions.rfc3339(self._around.clock())
        old = previous or PipelineStatus(observed_generation=pipeline.generation, phase="Degraded", replicas=0)
        status = old.model_copy(
            update={
                "observed_generation": pipeline.generation,
                "phase": "Degraded",
                "conditions": conditions.transition(answers, old.conditions, generation=pipeline.generation, now=now),
            }
        )
        await self._write(pipeline, previous, status)

    def _tell_of_outage(self, owner: Owner) -> None:
        """The API server was away: say how long, since that could not be said at the time."""
        outage = self._around.view.outage
        if outage is None or outage[1] <= self._told_until_s:
            return
        since_s, self._told_until_s = outage
        message = (
            f"the API server did not answer from {conditions.rfc3339(since_s)} on for {outage[1] - since_s:.0f} s; "
            "replicas were held meanwhile"
        )
        self._around.emit(owner, "Warning", "ClusterUnreachable", message)


def _recorded(work: Pass) -> DecisionLog:
    """The decisions that were recorded before this process began."""
    live = work.live.get(("ConfigMap", decisions_name(work.owner)))
    return DecisionLog() if live is None else DecisionLog.load(live.content().get("data") or {})
