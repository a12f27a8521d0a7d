"""One pipeline, brought from what is to what should be: look, decide, act, report.

Level-based: every pass reads the present state (the watched resource, its objects in the cluster, Kafka) and never
asks what has changed. What is remembered between passes only spares work or smooths decisions; a restart loses it
safely, since an empty history holds what is running for one stabilization window.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pydantic import ValidationError

from eod_operator import conditions, report
from eod_operator.api import API_VERSION, KIND, PipelineSpec, PipelineStatus
from eod_operator.api.spec import sentences
from eod_operator.apply import Cluster, ClusterError
from eod_operator.conditions import Answer, Problem
from eod_operator.lag import KafkaUnreachableError, LagReader, Reading, Wanted
from eod_operator.report import Manifest, Memory, Objects, Pass
from eod_operator.resources import LABEL_STAGE, Owner, deployment, object_name, service
from eod_operator.scaling import History, Signals
from eod_operator.sizing import Sizes, StageInput, size

log = logging.getLogger(__name__)


class Emit(Protocol):
    """Posts an Event about the pipeline."""

    def __call__(self, kind: str, reason: str, message: str) -> None:
        """Post one; `kind` is Normal or Warning."""


class Reconciler:
    """Reconciles one pipeline, pass after pass; passes must not overlap."""

    def __init__(
        self,
        cluster: Cluster,
        emit: Emit,
        *,
        clock: Callable[[], float] = time.time,
        reader: Callable[[str], LagReader] = LagReader,
    ) -> None:
        self._cluster = cluster
        self._emit = emit
        self._clock = clock
        self._make_reader = reader
        self._reader: tuple[str, LagReader] | None = None
        self._memory = Memory()

    async def close(self) -> None:
        """Close the connections to Kafka."""
        if self._reader is not None:
            await self._reader[1].close()
            self._reader = None

    async def reconcile(self, body: Mapping[str, Any]) -> None:
        """Make one pass over the pipeline as last seen.

        Raises:
            ClusterError: the API server could not be read or the status not written; the next pass tries again.
        """
        meta = body["metadata"]
        if meta.get("deletionTimestamp"):
            return  # the garbage collector is at work: making anything now would be against it
        owner = Owner(meta["namespace"], meta["name"], meta["uid"])
        generation = int(meta.get("generation", 0))
        previous = self._memory.status or conditions.read(body.get("status"))
        try:
            spec = PipelineSpec.model_validate(body["spec"])
        except ValidationError as error:
            await self._report_invalid(owner, generation, previous, error)
            return
        work = Pass(owner, generation, spec, previous, await asyncio.to_thread(self._look, owner), self._clock())
        await self._look_at_kafka(work)
        sizes = await asyncio.to_thread(size, spec, self._inputs(work), work.now_s)
        for name, decision in sizes.decisions.items():
            self._memory.histories[name] = decision.history
        if spec.mode == "Auto":
            await asyncio.to_thread(self._act, work, sizes)
        await self._report(owner, previous, report.status_of(work, sizes, self._memory))

    # Look

    def _look(self, owner: Owner) -> Objects:
        return {
            (kind, found["metadata"]["name"]): found
            for kind in ("Deployment", "Service")
            for found in self._cluster.owned_by(kind, owner)
        }

    async def _look_at_kafka(self, work: Pass) -> None:
        address = work.spec.kafka.bootstrap_servers
        if self._reader is None or self._reader[0] != address:
            await self.close()
            self._reader = (address, self._make_reader(address))
        wanted = {stage.name: Wanted(stage.effective_topics, stage.effective_group) for stage in work.spec.stages}
        try:
            self._memory.readings = await self._reader[1].read(wanted)
            self._memory.read_at_s = self._clock()
        except KafkaUnreachableError as error:
            work.kafka_problem = Problem("KafkaUnreachable", str(error))

    def _inputs(self, work: Pass) -> dict[str, StageInput]:
        age_s = work.now_s - self._memory.read_at_s
        inputs = {}
        for stage in work.spec.stages:
            seen = self._memory.readings.get(stage.name, Reading())
            inputs[stage.name] = StageInput(
                signals=Signals(lag=seen.lag, age_s=age_s, partitions=seen.partitions),
                history=self._memory.histories.get(stage.name, History()),
                current=work.replicas(stage),
            )
        return inputs

    # Act

    def _act(self, work: Pass, sizes: Sizes) -> None:
        wanted: set[tuple[str, str]] = set()
        for stage in work.spec.stages:
            replicas = sizes.decisions[stage.name].replicas
            made = [deployment(work.owner, work.spec, stage, replicas), service(work.owner, stage)]
            manifests = [manifest for manifest in made if manifest is not None]
            wanted.update((one["kind"], one["metadata"]["name"]) for one in manifests)
            if stage.paused:
                continue
            before = work.replicas(stage)
            created = ("Deployment", object_name(work.owner, stage.name)) not in work.live
            if self._apply_all(work, manifests) and (created or replicas != before):
                work.scaled.add(stage.name)
                change = "created with" if created else f"scaled from {before} to"
                self._emit("Normal", "Scaled", f"{stage.name} {change} {sizes.decisions[stage.name].reason}")
        for key, found in work.live.items():
            if key not in wanted and work.owner.owns(found):
                self._remove(work, key[0], found)

    def _apply_all(self, work: Pass, manifests: list[Manifest]) -> bool:
        """Apply a stage's objects; False when one of them could not be."""
        for manifest in manifests:
            key = (manifest["kind"], manifest["metadata"]["name"])
            try:
                self._apply(work, key, manifest)
            except ClusterError as error:
                work.problems.append(Problem("ApplyFailed", str(error)))
                return False
            except NotOwnedError as error:
                work.problems.append(Problem("NotOwned", str(error)))
                return False
        return True

    def _apply(self, work: Pass, key: tuple[str, str], manifest: Manifest) -> None:
        live = work.live.get(key) or self._cluster.find(key[0], work.owner.namespace, key[1])
        if live is not None and not work.owner.owns(live):
            raise NotOwnedError(
                f"{key[0]} {key[1]} exists and does not belong to this pipeline, so it is left alone: "
                "delete or rename it, or rename the stage"
            )
        digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
        if live is not None and self._memory.applied.get(key) == (digest, _version(live)):
            return  # as we left it
        applied = self._cluster.apply(manifest)
        self._memory.applied[key] = (digest, _version(applied))
        work.live[key] = applied

    def _remove(self, work: Pass, kind: str, found: Manifest) -> None:
        stage = found["metadata"]["labels"].get(LABEL_STAGE, "?")
        try:
            self._cluster.delete(found, kind)
        except ClusterError as error:
            work.problems.append(Problem("DeleteFailed", str(error)))
            return
        self._memory.applied.pop((kind, found["metadata"]["name"]), None)
        self._memory.histories.pop(stage, None)
        self._emit("Normal", "Removed", f"{kind} {found['metadata']['name']}: the spec has no stage {stage} for it")

    # Report

    async def _report(self, owner: Owner, previous: PipelineStatus | None, status: PipelineStatus) -> None:
        """Write the status if it says something new, and tell of what has gone wrong since."""
        if status == previous:
            return
        await asyncio.to_thread(self._cluster.apply_status, owner, API_VERSION, KIND, conditions.dump(status))
        self._memory.status = status
        for one in conditions.worsened(status.conditions, previous.conditions if previous else ()):
            self._emit("Warning", one.reason, one.message)

    async def _report_invalid(
        self, owner: Owner, generation: int, previous: PipelineStatus | None, error: ValidationError
    ) -> None:
        """Say which field is wrong; the objects stay as they are."""
        message = "; ".join(sentences(error))
        answers = [
            Answer("SpecValid", "False", "InvalidSpec", message),
            Answer("Ready", "False", "InvalidSpec", message),
        ]
        now = conditions.rfc3339(self._clock())
        old = previous or PipelineStatus(observed_generation=generation, phase="Degraded", replicas=0)
        status = old.model_copy(
            update={
                "observed_generation": generation,
                "phase": "Degraded",
                "conditions": conditions.transition(answers, old.conditions, generation=generation, now=now),
            }
        )
        await self._report(owner, previous, status)


class NotOwnedError(Exception):
    """An object of our name belongs to somebody else."""


def _version(live: Mapping[str, Any]) -> str:
    """Changes with every change that somebody could make to what we applied: status alone does not count."""
    meta = live["metadata"]
    described = json.dumps([meta.get("labels"), meta.get("ownerReferences")], sort_keys=True)
    return f"{meta.get('uid')}/{meta.get('generation') or meta.get('resourceVersion')}/{described}"
