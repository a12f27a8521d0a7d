"""A control plane, a Kafka, and an operator as a process of its own, confined to the rules of the chart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import aiohttp
import yaml
from testbed.kafka import Kafka
from testbed.kubernetes import Kubernetes
from testbed.ports import free_port
from testbed.process import Process, tail

from operator_bars.cluster import Admin
from operator_bars.figures import Scrape
from operator_bars.lags import PARTITIONS, TOPICS, Lags, topic
from operator_bars.pipelines import NAMESPACE
from operator_bars.processes import Usage, usage

ROOT = Path(__file__).parents[2]
_CHART = ROOT / "charts/eod-operator/files"
_HOME = "default"
"""Namespace of the operator and of its Lease."""
_RBAC = "rbac.authorization.k8s.io/v1"
_POLL_S = 0.2
_CRD_WITHIN_S = 30.0
_PAGE_WITHIN_S = 30.0


def say(text: str) -> None:
    """A line of progress, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


async def until(what: str, holds: Callable[[], Awaitable[bool]], within_s: float, every_s: float = _POLL_S) -> float:
    """Wait until something holds, and return how many seconds that took.

    Raises:
        TimeoutError: it never did.
    """
    started_s = time.monotonic()
    while not await holds():
        if time.monotonic() - started_s > within_s:
            raise TimeoutError(f"not within {within_s:.0f} s: {what}")
        await asyncio.sleep(every_s)
    return time.monotonic() - started_s


@dataclass(frozen=True, slots=True)
class Running:
    """An operator that runs."""

    process: Process
    log: Path
    port: int
    session: aiohttp.ClientSession

    @property
    def usage(self) -> Usage:
        """CPU time and memory so far."""
        self.require_alive()
        return usage(self.process.pid)

    def require_alive(self) -> None:
        """Raise with the end of its log if it has ended."""
        if not self.process.alive:
            raise RuntimeError(f"the operator has ended\n{tail(self.log)}")

    async def scrape(self) -> Scrape | None:
        """Its /metrics; None while it does not listen."""
        self.require_alive()
        try:
            async with self.session.get(f"http://127.0.0.1:{self.port}/metrics") as answer:
                return Scrape(await answer.text())
        except (aiohttp.ClientError, OSError):
            return None

    async def metrics(self) -> Scrape:
        """Its /metrics, once it serves them."""
        found: list[Scrape] = []

        async def served() -> bool:
            found.extend(one for one in [await self.scrape()] if one is not None)
            return bool(found)

        await until("the operator serves /metrics", served, _PAGE_WITHIN_S)
        return found[0]


class Stand:
    """The servers of one scenario, started for it and gone after it."""

    def __init__(self, folder: Path, kubernetes: Kubernetes, kafka: Kafka, admin: Admin, lags: Lags) -> None:
        self.folder = folder
        self.kubernetes = kubernetes
        self.kafka = kafka
        self.admin = admin
        self.lags = lags
        self._session = aiohttp.ClientSession()
        self._processes: list[Process] = []

    async def prepare(self) -> None:
        """CRD, namespace, rights, and topics full of records."""
        kubectl = self.kubernetes.kubectl
        kubectl("apply", "--server-side", "-f", str(ROOT / "crds/eodpipeline.yaml"))
        kubectl("wait", "--for=condition=Established", "crd/eodpipelines.eod.markets")
        kubectl("create", "namespace", NAMESPACE)
        self._grant()

        async def served() -> bool:
            try:
                await self.admin.text("/apis/eod.markets/v1alpha1/eodpipelines")
            except aiohttp.ClientResponseError:
                return False
            return True

        await until("the API server serves the CRD", served, _CRD_WITHIN_S)
        for number in range(TOPICS):
            await asyncio.to_thread(self.kafka.create_topic, topic(number), PARTITIONS)
        await self.lags.fill(topic(number) for number in range(TOPICS))

    def _grant(self) -> None:
        """The chart's three sets of rules for the operator, and all rights for a peer."""
        kubectl = self.kubernetes.kubectl
        for account in ("eod-operator", "peer"):
            kubectl("create", "serviceaccount", account, "--namespace", _HOME)
        for file, kind in (("rules", "ClusterRole"), ("discovery-rules", "ClusterRole"), ("home-rules", "Role")):
            rules = yaml.safe_load((_CHART / f"{file}.yaml").read_text(encoding="utf-8"))
            meta = {"name": f"eod-operator-{file}", **({"namespace": _HOME} if kind == "Role" else {})}
            role = {"apiVersion": _RBAC, "kind": kind, "metadata": meta, "rules": rules}
            binding = {
                "apiVersion": _RBAC,
                "kind": f"{kind}Binding",
                "metadata": meta,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": meta["name"]},
                "subjects": [{"kind": "ServiceAccount", "name": "eod-operator", "namespace": _HOME}],
            }
            kubectl("apply", "-f", "-", input=f"{json.dumps(role)}\n---\n{json.dumps(binding)}")
        kubectl("create", "clusterrolebinding", "peer", "--clusterrole=cluster-admin", f"--serviceaccount={_HOME}:peer")

    def kubeconfig(self, account: str) -> Path:
        """A kubeconfig of a ServiceAccount."""
        token = self.kubernetes.kubectl("create", "token", account, "--duration=12h", "--namespace", _HOME).strip()
        made = yaml.safe_load(self.kubernetes.kubeconfig.read_text(encoding="utf-8"))
        for user in made["users"]:
            user["user"] = {"token": token}
        file = self.folder / f"{account}.kubeconfig"
        file.touch(mode=0o600)
        file.write_text(yaml.safe_dump(made), encoding="utf-8")
        return file

    def start_operator(self, *flags: str) -> Running:
        """`eod operator run -A`, as the chart runs it, but for the flags given."""
        port = free_port()
        command = [sys.executable, "-m", "eod_operator", "run", "-A", "--http-port", str(port), *flags]
        env = {"PYTHONMALLOC": "malloc"}  # as the chart has it
        process, log = self._spawn("operator", command, self.kubeconfig("eod-operator"), env)
        return Running(process, log, port, self._session)

    def start_peer(self, file: Path) -> Process:
        """A kopf operator of one file, run as kopf's own command runs it."""
        command = [sys.executable, "-m", "kopf", "run", "--standalone", "-A", str(file)]
        return self._spawn("peer", command, self.kubeconfig("peer"))[0]

    def _spawn(
        self, name: str, command: Sequence[str], kubeconfig: Path, env: Mapping[str, str] = MappingProxyType({})
    ) -> tuple[Process, Path]:
        log = self.folder / f"{name}.log"
        process = Process.spawn(name, command, log=log, env={"KUBECONFIG": str(kubeconfig), **env}, tethered=True)
        self._processes.append(process)
        return process, log

    async def requests_of_accounts(self) -> float:
        """Requests of ServiceAccounts outside kube-system, by the API server's own count: those of the operator."""
        page = await self.admin.text("/metrics")
        name = "apiserver_flowcontrol_dispatched_requests_total"
        lines = "\n".join(line for line in page.splitlines() if line.startswith(name))
        return Scrape(f"{lines}\n").total(name, flow_schema="service-accounts")

    @property
    def control_plane_cpu_s(self) -> float:
        """CPU time of etcd, API server and controllers so far."""
        return sum(usage(process.pid).cpu_s for process in self.kubernetes.processes)

    async def close(self) -> None:
        """End what runs."""
        for process in self._processes:
            process.kill()
        await self._session.close()


@contextlib.asynccontextmanager
async def stand() -> AsyncIterator[Stand]:
    """Servers on free ports in a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="eod-bench-"))
    say(f"starting Kubernetes and Kafka in {folder}")
    try:
        with Kubernetes(folder / "kubernetes") as kubernetes, Kafka(folder / "kafka") as kafka:
            async with Admin(kubernetes.kubeconfig) as admin, Lags(kafka.bootstrap) as lags:
                made = Stand(folder, kubernetes, kafka, admin, lags)
                try:
                    await made.prepare()
                    yield made
                finally:
                    await made.close()
    except BaseException:
        say(f"logs are kept in {folder}")
        raise
    shutil.rmtree(folder, ignore_errors=True)
