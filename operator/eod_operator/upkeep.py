"""The objects of a pipeline, brought about: applied where they differ, removed where the spec no longer wants them."""

from __future__ import annotations

from collections.abc import Mapping

from eod_operator.api import StageSpec
from eod_operator.cluster import Cluster, NotOwnedError
from eod_operator.conditions import Problem
from eod_operator.index import OPTIONAL
from eod_operator.kube.api import ClusterError, Manifest
from eod_operator.live import Live
from eod_operator.passes import Memory, Pass
from eod_operator.resources import ANNOTATION_APPLIED, LABEL_STAGE, decisions_name, forecast_name, stage_objects
from eod_operator.scaling import Decision

_REMEDIES = {
    "ServiceMonitor": "this cluster has no kind ServiceMonitor: install the Prometheus operator, or set "
    "spec.serviceMonitor.enabled to false",
}


class Upkeep:
    """Applies and removes the objects of pipelines."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def stage(self, work: Pass, memory: Memory, stage: StageSpec, decision: Decision, references: str) -> bool:
        """Bring about the objects of one stage; False when one of them could not be.

        A stage that somebody else scales keeps the count that it has.
        """
        before = work.deployment(stage)
        replicas = decision.replicas
        if stage.name in work.autoscalers and before is not None:
            replicas = before.replicas
        well = True
        made: dict[tuple[str, str], Manifest] = {}
        for kind, name, signature in self._plan(work, memory, stage, references):
            if self._as_left(work, memory, (kind, name), signature, replicas):
                continue
            if not made:
                objects = stage_objects(work.owner, work.spec, stage, replicas, references=references)
                made = {(one["kind"], one["metadata"]["name"]): one for one in objects}
            if not await self._keep(work, memory, made[kind, name], signature):
                well = False
                if kind not in OPTIONAL:
                    break  # pods without what they need would only fail
        after = work.deployment(stage)
        if after is not None and (before is None or after.replicas != before.replicas):
            work.scaled[stage.name] = before.replicas if before is not None else 0
        return well

    async def remove_others(self, work: Pass, memory: Memory, wanted: set[tuple[str, str]]) -> list[Live]:
        """Remove what the pipeline owns and the spec does not want (any more); return what was removed."""
        removed = []
        for key, live in list(work.live.items()):
            if key in wanted or live.owner_uid != work.owner.uid or live.deleting:
                continue
            try:
                await self._cluster.delete(live)
            except ClusterError as error:
                if error.transient:
                    raise
                work.problems.append(Problem("DeleteFailed", str(error)))
                continue
            memory.applied.pop(key, None)
            del work.live[key]
            removed.append(live)
        return removed

    def wanted(self, work: Pass, memory: Memory) -> set[tuple[str, str]]:
        """Kind and name of every object that the spec asks for; a paused stage's stay whatever they are."""
        keys = {("ConfigMap", decisions_name(work.owner)), ("ConfigMap", forecast_name(work.owner.name))}
        for stage in work.spec.stages:
            if stage.paused:
                keys |= {key for key, live in work.live.items() if live.stage == stage.name}
            _, plan = memory.plans.get(stage.name, (None, ()))
            keys |= {(kind, name) for kind, name, _ in plan}
        return keys

    @staticmethod
    def _plan(work: Pass, memory: Memory, stage: StageSpec, references: str) -> tuple[tuple[str, str, str], ...]:
        """Kind, name and digest of the stage's objects; manifests themselves are made only when they are needed."""
        basis = (work.pipeline.generation, references)
        known, plan = memory.plans.get(stage.name, (None, ()))
        if known != basis:
            objects = stage_objects(work.owner, work.spec, stage, 0, references=references)
            plan = tuple(
                (one["kind"], one["metadata"]["name"], one["metadata"]["annotations"][ANNOTATION_APPLIED])
                for one in objects
            )
            memory.plans[stage.name] = (basis, plan)
        return plan

    async def _keep(self, work: Pass, memory: Memory, manifest: Manifest, signature: str) -> bool:
        """Bring about one object that may not be as it should; False when it could not be."""
        kind, key = manifest["kind"], (manifest["kind"], manifest["metadata"]["name"])
        name, stage = " ".join(key), manifest["metadata"]["labels"][LABEL_STAGE]
        live = work.live.get(key)
        if live is not None and live.owner_uid == work.owner.uid and live.fits(manifest):
            memory.applied[key] = (signature, live.state)
            return True
        try:
            applied = await self._cluster.apply(work.owner, manifest, live, met=work.met)
            work.met = work.met or live is None
        except NotOwnedError as error:
            work.problems.append(Problem("NotOwned", str(error)))
            return False
        except ClusterError as error:
            if error.transient:
                raise
            absent = kind in OPTIONAL and error.missing
            told = f"{name}: {error}"
            if error.invalid:
                told += f". Correct what that is made from: spec.stages[] ({stage}), spec.scheduling or spec.config"
            problem = Problem("KindMissing", _REMEDIES[kind]) if absent else Problem("ApplyFailed", told)
            work.problems.append(problem)
            return False
        memory.applied[key] = (signature, applied.state)
        work.live[key] = applied
        return True

    @staticmethod
    def _as_left(work: Pass, memory: Memory, key: tuple[str, str], signature: str, replicas: int) -> bool:
        """Whether an object is as we left it."""
        live = work.live.get(key)
        if live is None or live.owner_uid != work.owner.uid or live.deleting:
            return False
        if live.kind == "Deployment" and live.replicas != replicas:
            return False
        return memory.applied.get(key) == (signature, live.state)


def quotas(live: Mapping[tuple[str, str], Live], stages: tuple[StageSpec, ...], prefix: str) -> list[Problem]:
    """Stages whose replicas could not be created, in the controller's own words."""
    problems = []
    for stage in stages:
        found = live.get(("Deployment", f"{prefix}-{stage.name}"))
        if found is not None and found.failure:
            problems.append(
                Problem(
                    "ReplicasRefused",
                    f"stage {stage.name}: {found.failure[:500]}. To mend it, raise the namespace's quota or limits, or "
                    "lower the stage's resources or replicas.max",
                )
            )
    return problems
