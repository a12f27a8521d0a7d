"""A kind cluster with every image that the charts need, and what tests do to the release in it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from support.patience import eventually_nothing
from testbed.docker import Docker
from testbed.errors import CommandFailed
from testbed.helm import Helm
from testbed.kind import Kind
from testbed.progress import Timed
from testbed.tls import Authority

from e2e import images

NAMESPACE = "eod"
RELEASE = "eod"
PIPELINE = "us-equities"
FIX_PORT = 9876
VALUES = Path(__file__).with_name("values.yaml")
CHARTS = images.ROOT / "charts"
EOD = images.ROOT / ".venv/bin/eod"
_FIX_NODE_PORT = 30876
_SQLSERVER = "eod-stores-sqlserver"
_WAIT_S = 180
_POLL_S = 0.5


eventually = partial(eventually_nothing, within_s=_WAIT_S, look_s=_POLL_S)
"""Wait until nothing is unmet; each look costs a kubectl."""


@dataclass
class ClusterWorld:
    """One cluster, and the release in it.

    Attributes:
        docker: runs the cluster's node, and has the images.
        kind: the cluster.
        helm_program: works on it.
        folder: for whatever a test writes.
    """

    docker: Docker
    kind: Kind
    helm_program: Helm
    folder: Path
    bare: set[str] = field(default_factory=set)
    """Every object before anything was installed."""

    @classmethod
    @contextlib.contextmanager
    def up(cls, folder: Path) -> Iterator[ClusterWorld]:
        """A cluster with the images, for as long as the context lasts; they are built while it starts, and after."""
        docker = Docker(folder / "docker")
        with docker:
            kind = Kind(folder / "kind", docker, {FIX_PORT: _FIX_NODE_PORT})
            scratch = folder / "images"
            scratch.mkdir()
            with ThreadPoolExecutor(1) as beside:
                stores = beside.submit(images.build_stores, docker, scratch)
                ours = beside.submit(images.build_ours, docker)
                with Timed("creating the cluster"):
                    kind.create()
                with Timed("loading the stores' images into the node"):
                    kind.load(*stores.result())
                with Timed("building our images, as far as they are not"):
                    ours.result()
            with Timed("loading our images into the node"):
                kind.load(*ours.result())
            try:
                yield cls(docker, kind, Helm(folder / "helm"), folder)
            finally:
                kind.save_logs(folder / "logs")
                kind.delete()
        docker.discard()

    # --- the cluster ----------------------------------------------------------------------------------------

    def kubectl(self, *args: str, input: str | None = None) -> str:  # noqa: A002 - as subprocess.run calls it
        """Run kubectl in the release's namespace."""
        return self.kind.kubectl("--namespace", NAMESPACE, *args, input=input)

    def get(self, *what: str) -> dict[str, Any]:
        """`kubectl get … -o json`."""
        got: dict[str, Any] = json.loads(self.kubectl("get", *what, "-o", "json"))
        return got

    def helm(self, *args: str | Path) -> str:
        """Run helm in the release's namespace."""
        return self.helm_program(*args, f"--namespace={NAMESPACE}", kubeconfig=self.kind.kubeconfig)

    def objects(self) -> set[str]:
        """Every object of the namespace, and of those kinds of the cluster that charts make."""
        kinds = self.kind.kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
        passing = {"events", "events.events.k8s.io", "pods.metrics.k8s.io", "leases.coordination.k8s.io"}
        listed = ",".join(kind for kind in kinds if kind not in passing)
        cluster = "clusterroles,clusterrolebindings,customresourcedefinitions,priorityclasses,namespaces"
        of_cluster = self.kind.kubectl("get", cluster, "-o", "name")
        return {*self.kubectl("get", listed, "-o", "name").split(), *of_cluster.split()}

    # --- the release ----------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """A namespace that admits restricted pods alone, and the certificate of the SQL Server."""
        self.kind.kubectl("create", "namespace", NAMESPACE)
        self.kind.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
        authority = Authority(self.folder / "pki", "e2e-ca")
        host = f"{_SQLSERVER}.{NAMESPACE}.svc.cluster.local"
        certificate, key = authority.issue("sqlserver", f"/CN={_SQLSERVER}", server_names=f"DNS:{host}")
        self.kubectl("create", "secret", "tls", "sqlserver-certificate", f"--cert={certificate}", f"--key={key}")
        own = {"configmap/kube-root-ca.crt", "serviceaccount/default"}  # every namespace gets them, a moment later
        self.bare = self.objects() | own

    def release(self, command: str, *args: str | Path) -> str:
        """`helm install` or `helm upgrade` of the umbrella chart with the values of the end-to-end run."""
        ca = self.folder / "pki/ca.crt"
        own = (f"--values={VALUES}", f"--set-file=eod-stores.sqlserver.tls.ca={ca}", "--timeout=5m")
        return self.helm(command, RELEASE, CHARTS / "eod", *own, *args)

    def status(self) -> dict[str, Any]:
        """Of the pipeline."""
        got: dict[str, Any] = self.get("eodp", PIPELINE).get("status", {})
        return got

    def why_not_ready(self, *, on_any_node: bool = False) -> str:
        """What keeps the pipeline's stages from working; "" when nothing does.

        Args:
            on_any_node: a stage also works when some of its replicas do, and no node has room for the others.
        """
        of_pipeline = f"eod.markets/pipeline={PIPELINE}"
        try:
            deployments = self.get("deploy", "-l", of_pipeline)["items"]
            pods = self.get("pods", "-l", of_pipeline)["items"] if on_any_node else []
        except CommandFailed as error:
            return str(error)
        roomless = Counter(one["metadata"]["labels"]["eod.markets/stage"] for one in pods if _has_no_room(one))
        waiting = []
        for one in deployments:
            status, wanted = one["status"], one["spec"]["replicas"]
            ready = status.get("readyReplicas", 0)
            without = roomless[one["metadata"]["labels"]["eod.markets/stage"]] if ready else 0
            if (
                status.get("observedGeneration") != one["metadata"]["generation"]
                or ready + without != wanted
                or status.get("updatedReplicas", 0) != wanted
                or status.get("replicas", 0) != wanted
            ):
                waiting.append(f"{one['metadata']['name']}: {ready} of {wanted} ready, {without} without room")
        return "; ".join(waiting) or ("" if deployments else "no Deployment of the pipeline")

    def explain(self) -> str:
        """What the pipeline is doing and why, or why that cannot be told."""
        where = (f"--namespace={NAMESPACE}", f"--kubeconfig={self.kind.kubeconfig}", "--last=40")
        told = subprocess.run([EOD, "explain", PIPELINE, *where], check=False, text=True, capture_output=True)
        return told.stdout + told.stderr

    # --- trading --------------------------------------------------------------------------------------------

    def play(self, name: str, *, seconds: float, rate: float, burst: float, seed: int, reconnect: bool = True) -> Play:
        """Start a FIX client outside of the cluster that plays a market."""
        return Play(self.folder / name, seconds=seconds, rate=rate, burst=burst, seed=seed, reconnect=reconnect)

    def reconcile(self, play: Play) -> dict[str, Any]:
        """Compare what the client sent with the log, and the log with every store; the result as `eod reconcile` prints it.

        It runs in a pod that is like those of the chart's CronJob, but for its command.
        """
        self._tools()
        self._in_tools("-i", "--", "/venv/bin/python", "-c", _WRITE, input=play.tally.read_text())
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(play.begun))
        words = ("reconcile", "--wait=120", "--sent=/tmp/sent.jsonl", f"--since={since}", "--json=-")
        try:
            printed = self._in_tools("--", "/venv/bin/eod", *words)
        except CommandFailed as error:
            raise AssertionError(f"{play.name}: {error}") from error
        result: dict[str, Any] = json.loads(printed[printed.index("{") :])
        return result

    def _in_tools(self, *words: str, input: str | None = None) -> str:  # noqa: A002 - as subprocess.run calls it
        return self.kubectl("exec", "tools", *words, input=input)

    def _tools(self) -> None:
        if "pod/tools" in self.kubectl("get", "pods", "-o", "name").split():
            return
        template = self.get("cronjob", "eod-reconcile")["spec"]["jobTemplate"]["spec"]["template"]
        template["spec"]["containers"][0] |= {"command": ["/venv/bin/python", "-c", _SLEEP], "args": []}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tools"} | template["metadata"]}
        self.kubectl("apply", "-f", "-", input=json.dumps(pod | {"spec": template["spec"]}))
        self.kubectl("wait", "--for=condition=Ready", "pod/tools", "--timeout=60s")

    def subscribe(self) -> Gaps:
        """Listen to every P&L publication, from now until `Gaps.stop`."""
        return Gaps(self.follow("published", _LISTEN))

    def watch_groups(self, *groups: str) -> Assigned:
        """See how many members of consumer groups hold partitions, from now until `Assigned.stop`."""
        return Assigned(self.follow("assigned", _GROUPS.read_text(), *groups))

    def follow(self, name: str, code: str, *args: str) -> Followed:
        """Run Python in the cluster and keep what it prints; it has begun when its first line is there."""
        self._tools()
        return Followed(self, self.folder / f"{name}.log", code, *args)


def _has_no_room(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any((one["type"], one.get("reason")) == ("PodScheduled", "Unschedulable") for one in conditions)


_SLEEP = "import time; time.sleep(86400)"
_GROUPS = Path(__file__).with_name("groups_watcher.py")
_WRITE = "import sys; open('/tmp/sent.jsonl', 'w').write(sys.stdin.read())"
_LISTEN = """
import os, sys, time, redis
subscriber = redis.Redis.from_url(os.environ["EOD_REDIS_URL"]).pubsub()
subscriber.psubscribe("pnl-updates:*")
print("listening", flush=True)
for message in subscriber.listen():
    if message["type"] == "pmessage":
        print(time.time(), message["channel"].decode(), flush=True)
"""


class Play:
    """A FIX client that plays a market, in a process of its own; it reconnects when its connection ends."""

    def __init__(self, base: Path, *, seconds: float, rate: float, burst: float, seed: int, reconnect: bool) -> None:
        self.name = base.name
        self.tally = base.with_suffix(".jsonl")
        self.begun = time.time() - 1
        self._log = base.with_suffix(".log")
        words = [
            *(EOD, "market", "play", "--host=127.0.0.1", f"--port={FIX_PORT}", f"--seconds={seconds}"),
            *(f"--rate={rate}", f"--burst={burst}", f"--seed={seed}", f"--tally={self.tally}"),
            f"--brokers={self.name.upper()}",
            *(["--reconnect=60"] if reconnect else []),
        ]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(list(map(str, words)), stdout=log, stderr=log)

    def finish(self) -> int:
        """Wait until all that was sent has been received, and return how many executions that were."""
        code = self._process.wait(timeout=300)
        said = self._log.read_text(errors="replace")
        assert code == 0, said
        return int(said.rpartition(" executions sent")[0].split()[-1].replace(",", ""))


class Followed:
    """A program in the tools pod, and what it has printed."""

    def __init__(self, world: ClusterWorld, log: Path, code: str, *args: str) -> None:
        self._log = log
        env = {**os.environ, "KUBECACHEDIR": str(world.folder / "kubectl-cache")}
        words = [*world.kind.kubectl_words(), "--namespace", NAMESPACE, "exec", "tools", "--"]
        self._troubles = log.with_suffix(".err")
        with log.open("wb") as out, self._troubles.open("wb") as err:
            self._process = subprocess.Popen(
                [*words, "/venv/bin/python", "-u", "-c", code, *args], stdout=out, stderr=err, env=env
            )
        eventually(lambda: "\n" not in log.read_text() and f"{log.stem}: {self._said()}", within_s=30)

    def stop(self) -> list[str]:
        """End it and return its whole lines."""
        assert self._process.poll() is None, f"{self._log.stem} has ended: {self._said()}"
        self._process.terminate()
        self._process.wait(10)
        return [line.rstrip() for line in self._log.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def _said(self) -> str:
        return self._troubles.read_text()[-2000:] or "nothing was printed yet"


class Gaps:
    """When P&L was published, as a subscriber of Redis sees it."""

    def __init__(self, published: Followed) -> None:
        self._published = published

    def stop(self) -> float:
        """Return the longest time in seconds between two updates of the same trader, over all traders."""
        last: dict[str, float] = {}
        longest = 0.0
        lines = self._published.stop()
        for line in lines:
            at, _, channel = line.partition(" ")
            if channel.startswith("pnl-updates:"):
                longest = max(longest, float(at) - last.get(channel, float(at)))
                last[channel] = float(at)
        assert last, f"nothing was published: {lines}"
        return longest


class Assigned:
    """How many members of consumer groups held partitions, as Kafka's coordinator says."""

    def __init__(self, printed: Followed) -> None:
        self._printed = printed
        self._seen: list[tuple[float, str, str, int]] = []

    def stop(self) -> None:
        """Look no longer."""
        for line in self._printed.stop():
            at, group, state, holding = line.split()
            self._seen.append((float(at), group, state, int(holding)))

    def first(self, group: str, count: int) -> float:
        """When so many members of a settled group first held partitions, in seconds since the epoch; once stopped."""
        found = (at for at, name, state, held in self._seen if (name, state) == (group, "Stable") and held >= count)
        at = next(found, None)
        assert at is not None, f"{group} never had {count} members with partitions: {self._seen[-3:]}"
        return at
