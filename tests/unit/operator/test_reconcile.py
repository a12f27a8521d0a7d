"""The loop around a pipeline: what survives failures, and what is written only when it is news."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from eod_operator.apply import ClusterError
from eod_operator.handlers import Pipelines
from eod_operator.lag import KafkaUnreachableError, Reading, Wanted
from eod_operator.reconcile import Reconciler
from eod_operator.resources import Owner

Manifest = dict[str, Any]


class FakeCluster:
    """An API server in a dict: enough of it for one pipeline's objects."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Manifest] = {}
        self.statuses: list[Manifest] = []
        self.writes = 0
        self.down = False

    def owned_by(self, kind: str, owner: Owner) -> list[Manifest]:
        """Everything of a kind."""
        del owner
        if self.down:
            raise ClusterError(0, "no answer")
        return [found for (of_kind, _), found in self.objects.items() if of_kind == kind]

    def find(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """One object."""
        del namespace
        return self.objects.get((kind, name))

    def apply(self, manifest: Manifest) -> Manifest:
        """Store it under a new generation."""
        self.writes += 1
        key = (manifest["kind"], manifest["metadata"]["name"])
        generation = self.objects.get(key, {}).get("metadata", {}).get("generation", 0) + 1
        meta = manifest["metadata"] | {"generation": generation, "uid": "u"}
        self.objects[key] = manifest | {"metadata": meta}
        return self.objects[key]

    def apply_status(self, owner: Owner, api_version: str, kind: str, status: Manifest) -> None:
        """Remember it."""
        del owner, api_version, kind
        self.statuses.append(status)

    def delete(self, manifest: Manifest, kind: str) -> None:
        """Forget an object."""
        del self.objects[kind, manifest["metadata"]["name"]]


class FakeReader:
    """A Kafka that says what it is told to, or nothing."""

    def __init__(self) -> None:
        self.lag: tuple[int, ...] | None = (0,) * 12
        self.down = False

    async def read(self, wanted: Mapping[str, Wanted]) -> dict[str, Reading]:
        """Read the same of every stage."""
        if self.down:
            raise KafkaUnreachableError("nobody answers")
        return {name: Reading(partitions=12, lag=self.lag) for name in wanted}

    async def close(self) -> None:
        """Nothing is open."""


class Bench:
    """A reconciler over fakes, with a clock that is set by hand."""

    def __init__(self, raw_spec: Manifest) -> None:
        self.cluster, self.reader, self.now_s = FakeCluster(), FakeReader(), 1_000_000.0
        self.events: list[tuple[str, str, str]] = []
        self.body: Manifest = {
            "metadata": {"namespace": "trading", "name": "close", "uid": "u-1", "generation": 1},
            "spec": raw_spec,
        }
        self.restart()

    def restart(self) -> None:
        """Lose the reconciler's memory; the cluster keeps what it has."""
        if self.cluster.statuses:
            self.body["status"] = self.cluster.statuses[-1]
        self.reconciler = Reconciler(
            self.cluster,  # type: ignore[arg-type] # the part of it that is used
            lambda *event: self.events.append(event),
            clock=lambda: self.now_s,
            reader=lambda _: self.reader,  # type: ignore[arg-type,return-value] # the same
        )

    async def step(self, seconds: float = 15) -> None:
        """Make one pass, some time later."""
        self.now_s += seconds
        await self.reconciler.reconcile(self.body)

    def replicas(self, stage: str = "pnl") -> int:
        """Replicas that a stage's Deployment asks for."""
        return int(self.cluster.objects["Deployment", f"close-{stage}"]["spec"]["replicas"])


@pytest.fixture
def bench(raw_spec: Manifest) -> Bench:
    return Bench(raw_spec)


async def test_steady_state_writes_nothing(bench: Bench) -> None:
    await bench.step()
    writes, statuses = bench.cluster.writes, len(bench.cluster.statuses)
    for _ in range(50):
        await bench.step()
    assert (bench.cluster.writes, len(bench.cluster.statuses)) == (writes, statuses)


async def test_a_restart_writes_no_status_and_tells_no_old_trouble(bench: Bench) -> None:
    """It re-applies once (the same, which the API server drops) and otherwise only reads."""
    bench.reader.down = True
    await bench.step()
    await bench.step()
    assert [reason for _, reason, _ in bench.events] == ["Scaled", "Scaled", "KafkaUnreachable"]
    statuses = len(bench.cluster.statuses)
    bench.restart()
    await bench.step()
    assert len(bench.cluster.statuses) == statuses
    assert len(bench.events) == 3


async def test_lag_is_believed_for_a_while_after_kafka_went_down(bench: Bench) -> None:
    """The last lag sizes the stage until it is stale; then the count is held, in either direction."""
    bench.reader.lag = (500,) * 12
    await bench.step()
    assert bench.replicas() == 6
    bench.reader.down = True
    for _ in range(100):
        await bench.step()
        assert bench.replicas() == 6
    (stage,) = [one for one in bench.cluster.statuses[-1]["stages"] if one["name"] == "pnl"]
    assert "lag" not in stage
    assert "(stale)" in stage["reason"]


async def test_a_scale_down_waits_for_the_stabilization_window(bench: Bench) -> None:
    bench.reader.lag = (500,) * 12
    await bench.step()
    bench.reader.lag = (0,) * 12
    counts = []
    for _ in range(22):
        await bench.step()
        counts.append(bench.replicas())
    assert counts == [6] * 20 + [1] * 2


async def test_a_pipeline_being_deleted_is_left_alone(bench: Bench) -> None:
    bench.body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    await bench.step()
    assert (bench.cluster.writes, bench.cluster.statuses) == (0, [])


async def test_a_spec_that_cannot_be_read_is_told_and_nothing_is_touched(bench: Bench) -> None:
    """It may have been stored by another version of the CRD."""
    await bench.step()
    bench.body["spec"] = bench.body["spec"] | {"stages": [{"name": "x", "kind": "teleport", "replicas": {"max": 1}}]}
    bench.body["metadata"]["generation"] = 2
    await bench.step()
    status = bench.cluster.statuses[-1]
    ready = next(one for one in status["conditions"] if one["type"] == "Ready")
    assert (ready["reason"], status["phase"], status["observedGeneration"]) == ("InvalidSpec", "Degraded", 2)
    assert "spec.stages.0: kind 'teleport' is unknown" in ready["message"]
    assert bench.replicas() == 1


async def test_an_object_made_by_hand_under_our_name_is_refused(bench: Bench) -> None:
    bench.cluster.objects["Deployment", "close-pnl"] = {"metadata": {"name": "close-pnl", "labels": {}}, "spec": {}}
    await bench.step()
    applied = next(one for one in bench.cluster.statuses[-1]["conditions"] if one["type"] == "ObjectsApplied")
    assert (applied["status"], applied["reason"]) == ("False", "NotOwned")
    assert bench.cluster.objects["Deployment", "close-pnl"]["spec"] == {}
    assert bench.replicas("in") == 1


async def test_the_loop_survives_failures_and_recovers(bench: Bench) -> None:
    """Neither an API server that is away nor an error nobody foresaw ends a pipeline's loop."""
    passes = 0

    class Failing:
        async def reconcile(self, body: Mapping[str, Any]) -> None:
            nonlocal passes
            del body
            passes += 1
            if passes < 3:
                raise ClusterError(0, "no answer") if passes == 1 else ZeroDivisionError

        async def close(self) -> None:
            """Nothing is open."""

    pipelines = Pipelines(lambda _: Failing(), interval_s=0.01)  # type: ignore[arg-type,return-value]
    pipelines.seen(bench.body)
    for _ in range(500):
        await asyncio.sleep(0.01)
        if passes >= 5:
            break
    assert passes >= 5
    pipelines.gone(bench.body)
    await asyncio.sleep(0.05)
    settled = passes
    await asyncio.sleep(0.05)
    assert passes == settled
    await pipelines.stop()


async def test_a_changed_spec_hurries_the_loop_and_a_changed_status_does_not(bench: Bench) -> None:
    passes: list[int] = []

    class Counting:
        async def reconcile(self, body: Mapping[str, Any]) -> None:
            passes.append(body["metadata"]["generation"])

        async def close(self) -> None:
            """Nothing is open."""

    pipelines = Pipelines(lambda _: Counting(), interval_s=60)  # type: ignore[arg-type,return-value]
    for generation in (1, 1, 2):
        body = bench.body | {"metadata": bench.body["metadata"] | {"generation": generation}, "status": {"x": 1}}
        pipelines.seen(body)
        await asyncio.sleep(0.02)
    assert passes == [1, 2]
    await pipelines.stop()
