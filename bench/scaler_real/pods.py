"""A small kubelet: pods that the real ReplicaSet controller makes become real processes on this machine.

It binds a pod to its one node, starts the pod's process at once, lets it join the group after a drawn time and then
calls the pod Ready; when the pod is deleted it ends the process with SIGTERM, and lets the API server forget the pod
when the process has ended. There is no image, no container and no probe: nothing of those decides a replica count.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from scaler_real.close import Close
from scaler_real.cluster import Cluster, Manifest, Refused

BEAT_VARIABLE = "EOD_JOIN_BEAT_S"
_NODE = "bench"
_HEARTBEAT_S = 10.0
_STOP_WITHIN_S = 10.0
_READY = ("PodScheduled", "Initialized", "ContainersReady", "Ready")


@dataclass(frozen=True, slots=True)
class Job:
    """What the pods of one candidate do."""

    bootstrap: str
    topic: str
    group: str
    close: Close


@dataclass(slots=True)
class Pod:
    """One pod and its process.

    Attributes:
        name: as in the API server.
        number: in the order of creation.
        created_s: when the kubelet saw it, epoch seconds.
        start_s: drawn: from then until it may join.
        beat_s: it joins others when the time of day is a multiple of it, as its Deployment says; 0 is at once.
        events: what its process has told, as it was told.
    """

    name: str
    number: int
    created_s: float
    start_s: float
    beat_s: float = 0.0
    events: list[dict[str, Any]] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None
    spawned: asyncio.Event = field(default_factory=asyncio.Event)


class Kubelet:
    """Serves the pods of a namespace, one candidate at a time."""

    def __init__(self, cluster: Cluster, namespace: str, logs: Path) -> None:
        self._cluster = cluster
        self._pods_path = f"/api/v1/namespaces/{namespace}/pods"
        self._config_maps = f"/api/v1/namespaces/{namespace}/configmaps"
        self._logs = logs
        self._job: Job | None = None
        self._starts: Iterator[float] = iter(())
        self._live: dict[str, Pod] = {}
        self._ending: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.pods: list[Pod] = []
        self.failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        await self._cluster.create("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": _NODE}})
        await self._beat()
        self._spawn(self._heartbeats())
        self._spawn(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pod in self._live.values():
            await _end(pod)

    def serve(self, job: Job) -> None:
        """From now on new pods do this; all draws begin anew."""
        if self._live:
            raise RuntimeError(f"{len(self._live)} pods of the last candidate still run: delete its Deployment first")
        self._job, self._starts, self.pods = job, job.close.starts_s(), []

    @property
    def idle(self) -> bool:
        """Whether no pod is left."""
        return not self._live

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failure = self.failure or task.exception()

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            await self._beat()

    async def _beat(self) -> None:
        """Without it the node controller would evict everything after a minute."""
        now = _now()
        ready = {"type": "Ready", "status": "True", "reason": "Bench", "lastHeartbeatTime": now}
        room = {"cpu": "64", "memory": "64Gi", "pods": "110"}
        status = {"conditions": [ready], "capacity": room, "allocatable": room}
        await self._cluster.patch(f"/api/v1/nodes/{_NODE}/status", {"status": status}, "strategic")

    async def _watch(self) -> None:
        async for kind, found in self._cluster.watch(self._pods_path):
            meta = found["metadata"]
            known = self._live.get(meta["uid"])
            if kind == "DELETED" or "deletionTimestamp" in meta:
                if known is not None and meta["uid"] not in self._ending:
                    self._ending.add(meta["uid"])
                    self._spawn(self._stop(known, meta["uid"]))
            elif known is None:
                pod = Pod(meta["name"], len(self.pods), time.time(), next(self._starts))
                self._live[meta["uid"]] = pod
                self.pods.append(pod)
                self._spawn(self._start(pod, found))

    async def _start(self, pod: Pod, manifest: Manifest) -> None:
        if self._job is None:
            raise RuntimeError(f"pod {pod.name} came before anybody said what pods do: call serve() first")
        job = self._job
        target = {"apiVersion": "v1", "kind": "Node", "name": _NODE}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod.name}, "target": target}
        with contextlib.suppress(Refused):  # it was deleted in the meantime: the watch says so
            await self._cluster.create(f"{self._pods_path}/{pod.name}/binding", binding)
        pod.beat_s = float((await self._environment(manifest)).get(BEAT_VARIABLE, 0))
        with (self._logs / f"{job.group}-{pod.number:02d}.log").open("wb") as log:
            pod.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "scaler_real.consumer"),
                *("--bootstrap", job.bootstrap, "--topic", job.topic, "--group", job.group),
                *("--name", f"pod-{pod.number:03d}", "--per-s", str(job.close.replica_per_s)),
                *("--commit-s", str(job.close.commit_s), "--beat-s", str(pod.beat_s)),
                *("--join-at", str(pod.created_s + pod.start_s)),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        pod.spawned.set()
        if pod.process.stdout is None:
            raise AssertionError("standard output is a pipe")
        async for line in pod.process.stdout:
            event = json.loads(line)
            pod.events.append(event)
            if event["event"] == "joining":
                with contextlib.suppress(Refused):
                    await self._cluster.patch(f"{self._pods_path}/{pod.name}/status", _running(), "strategic")
        code = await pod.process.wait()
        if code not in {0, -signal.SIGTERM}:  # the latter: it was told to end before it had begun
            raise RuntimeError(f"the process of pod {pod.name} ended with {code}: see {log.name}")

    async def _environment(self, manifest: Manifest) -> dict[str, str]:
        """What the pod's first container is told, by itself and by ConfigMaps."""
        container = manifest["spec"]["containers"][0]
        found: dict[str, str] = {}
        for source in container.get("envFrom", []):
            if name := source.get("configMapRef", {}).get("name"):
                found |= (await self._cluster.get(f"{self._config_maps}/{name}") or {}).get("data", {})
        return found | {one["name"]: one["value"] for one in container.get("env", []) if "value" in one}

    async def _stop(self, pod: Pod, uid: str) -> None:
        await pod.spawned.wait()  # it may be deleted while it is being started
        await _end(pod)
        await self._cluster.delete(f"{self._pods_path}/{pod.name}", grace_s=0)
        del self._live[uid]
        self._ending.discard(uid)


async def _end(pod: Pod) -> None:
    """SIGTERM, and after a while SIGKILL."""
    process = pod.process
    if process is None or process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_WITHIN_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def _running() -> Manifest:
    now = _now()
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in _READY]
    return {"status": {"phase": "Running", "startTime": now, "conditions": conditions}}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
