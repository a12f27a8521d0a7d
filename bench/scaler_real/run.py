"""One candidate after the other on the same servers, each with a topic, a group and pods of its own."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from operator_bars.cluster import Admin
from operator_bars.stand import ROOT, say, until
from testbed.kafka import Kafka
from testbed.keda import Keda as KedaServer
from testbed.kubernetes import Kubernetes
from testbed.process import Process, tail

from scaler_real import load
from scaler_real.candidates import NAMESPACE, Candidate, Place
from scaler_real.close import Close
from scaler_real.cluster import Cluster, Manifest
from scaler_real.pods import Job, Kubelet
from scaler_real.recording import Eyes, Recording, record

_MINUTE_S = 60
_READY_WITHIN_S = 75.0
"""From applying a candidate until its first pod consumes and its HPA has synced."""
_GONE_WITHIN_S = 60.0
_POLL_S = 0.5
_PATHS = {
    "EodPipeline": f"/apis/eod.markets/v1alpha1/namespaces/{NAMESPACE}/eodpipelines",
    "ScaledObject": f"/apis/keda.sh/v1alpha1/namespaces/{NAMESPACE}/scaledobjects",
    "Deployment": f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments",
}
_HPAS = f"/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers"


@dataclass(frozen=True, slots=True)
class Stand:
    """The servers, which all candidates share."""

    folder: Path
    kubernetes: Kubernetes
    kafka: Kafka
    cluster: Cluster
    kubelet: Kubelet


@contextlib.asynccontextmanager
async def stand(*, with_keda: bool) -> AsyncIterator[Stand]:
    """A control plane with the HPA controller, a Kafka, one node, and KEDA if it is wanted."""
    folder = Path(tempfile.mkdtemp(prefix="eod-scaler-real-"))
    say(f"starting Kubernetes{', KEDA' if with_keda else ''} and Kafka in {folder}")
    try:
        async with contextlib.AsyncExitStack() as servers:
            kubernetes = servers.enter_context(Kubernetes(folder / "kubernetes"))
            kafka = servers.enter_context(Kafka(folder / "kafka"))
            kubernetes.kubectl("apply", "--server-side", "-f", str(ROOT / "crds/eodpipeline.yaml"))
            kubernetes.kubectl("wait", "--for=condition=Established", "crd/eodpipelines.eod.markets")
            kubernetes.kubectl("create", "namespace", NAMESPACE)
            if with_keda:
                servers.enter_context(KedaServer(folder / "keda", kubernetes))
            cluster = Cluster(await servers.enter_async_context(Admin(kubernetes.kubeconfig)))
            kubelet = await servers.enter_async_context(Kubelet(cluster, NAMESPACE, folder))
            yield Stand(folder, kubernetes, kafka, cluster, kubelet)
    except BaseException:
        say(f"logs are kept in {folder}")
        raise
    shutil.rmtree(folder, ignore_errors=True)


async def play(made: Stand, candidate: Candidate, close: Close) -> Recording:
    """Play the close to one candidate, and clear up behind it."""
    # A cron entry is true to the minute, so the close is at a full one.
    earliest_s = time.time() + _READY_WITHIN_S + close.before_s
    close_s = float(math.ceil(earliest_s / _MINUTE_S) * _MINUTE_S)
    name = candidate.name.replace("+", "-")
    topic = await asyncio.to_thread(made.kafka.create_topic, f"close-{name}", close.partitions)
    place = Place(made.kafka.bootstrap, topic, f"pnl-{name}", close, close_s)
    made.kubelet.serve(Job(place.bootstrap, place.topic, place.group, close))
    recording = Recording(candidate.name, close_s - close.before_s, close_s, settings=candidate.settings())
    operator = _start_operator(made) if candidate.operator else None
    try:
        async with Eyes(place.bootstrap, place.topic, place.group, close.partitions) as eyes:
            objects = candidate.objects(place)
            for one in objects:
                await made.cluster.patch(_path(one), one, "apply")
            await _settle(made, candidate, eyes, close)
            await _observe(made, candidate, place, eyes, recording, operator)
            await _clear(made, objects, candidate)
    finally:
        if operator is not None:
            await asyncio.to_thread(operator.stop, 10.0)
    recording.pods = [
        {
            "number": pod.number,
            "created_s": pod.created_s,
            "start_s": pod.start_s,
            "beat_s": pod.beat_s,
            "events": pod.events,
        }
        for pod in made.kubelet.pods
    ]
    return recording


def _path(manifest: Manifest) -> str:
    return f"{_PATHS[manifest['kind']]}/{manifest['metadata']['name']}"


def _start_operator(made: Stand) -> Process:
    command = [sys.executable, "-m", "eod_operator", "run", "--namespace", NAMESPACE]
    env = {"KUBECONFIG": str(made.kubernetes.kubeconfig), "PYTHONPATH": os.pathsep.join(sys.path)}
    return Process.spawn("operator", command, log=made.folder / "operator.log", env=env, tethered=True)


async def _settle(made: Stand, candidate: Candidate, eyes: Eyes, close: Close) -> None:
    """Wait until the least replicas consume, and the HPA has made up its mind."""

    async def consuming() -> bool:
        _require(made, None)
        return await eyes.group() == ("Stable", close.least) and made.kubelet.pods[0].events[-1]["event"] == "assigned"

    async def synced() -> bool:
        found = await made.cluster.get(_HPAS)
        items = (found or {}).get("items", [])
        conditions = [one for item in items for one in item.get("status", {}).get("conditions", [])]
        return any(one["type"] == "ScalingActive" and one["status"] == "True" for one in conditions)

    waited_s = await until(f"{candidate.name}: {close.least} pods consume", consuming, _READY_WITHIN_S, _POLL_S)
    if not candidate.operator:
        waited_s += await until(
            f"{candidate.name}: its HPA reads its metrics", synced, _READY_WITHIN_S - waited_s, _POLL_S
        )
    say(f"{candidate.name}: ready after {waited_s:.0f} s")


async def _observe(
    made: Stand, candidate: Candidate, place: Place, eyes: Eyes, recording: Recording, operator: Process | None
) -> None:
    deployment = f"{_PATHS['Deployment']}/{candidate.deployment}"
    end_s = recording.begin_s + place.close.length_s
    say(
        f"{candidate.name}: the close is in {place.close_s - time.time():.0f} s, the end in {end_s - time.time():.0f} s"
    )
    playing = asyncio.create_task(load.play(place.bootstrap, place.topic, place.close, recording.begin_s))
    try:
        await asyncio.sleep(max(0.0, recording.begin_s - time.time()))

        def check() -> None:
            _require(made, operator)
            if playing.done():
                recording.load_late_s = playing.result()  # or its error

        await record(recording, eyes, made.cluster, deployment, end_s, check)
        recording.load_late_s = await playing
    finally:
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)


def _require(made: Stand, operator: Process | None) -> None:
    if made.kubelet.failure is not None:
        raise RuntimeError(f"the kubelet has failed; logs are in {made.folder}") from made.kubelet.failure
    if operator is not None and not operator.alive:
        raise RuntimeError(f"the operator has ended\n{tail(made.folder / 'operator.log')}")


async def _clear(made: Stand, objects: Sequence[Manifest], candidate: Candidate) -> None:
    """Delete what was applied, the last first, and wait for the end of the pods."""
    for one in reversed(objects):
        await made.cluster.delete(_path(one))
        await until(f"{_path(one)} is gone", _absent(made.cluster, _path(one)), _GONE_WITHIN_S, _POLL_S)
    await made.cluster.delete(f"{_PATHS['Deployment']}/{candidate.deployment}")

    async def idle() -> bool:
        return made.kubelet.idle

    await until(f"{candidate.name}: no pod is left", idle, _GONE_WITHIN_S, _POLL_S)


def _absent(cluster: Cluster, path: str) -> Callable[[], Awaitable[bool]]:
    async def gone() -> bool:
        return await cluster.get(path) is None

    return gone
