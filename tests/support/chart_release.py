"""A release of a chart: what tests do to it, and an operator that runs as its pods would."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from testbed.errors import CommandFailed
from testbed.helm import Helm
from testbed.kubernetes import Kubernetes
from testbed.ports import free_port

ROOT = Path(__file__).parents[2]
OPERATOR, CRDS, STORES, EOD, OBSERVABILITY = (
    ROOT / "charts" / name for name in ("eod-operator", "eod-crds", "eod-stores", "eod", "eod-observability")
)
API = "--api-versions=eod.markets/v1alpha1"
"""What `helm template`, which knows no cluster, must be told for the chart eod."""
CRD = "eodpipelines.eod.markets"
_KINDS = "deploy,service,serviceaccount,pdb,networkpolicy,role,rolebinding,clusterrole,clusterrolebinding"
_STOP_S = 20


@dataclass
class Release:
    """A chart, eod-operator unless another is named, under a name and in a namespace of its own."""

    helm: Helm
    kubernetes: Kubernetes
    namespace: str
    name: str
    chart: Path = OPERATOR

    def run(self, command: str, *args: str) -> str:
        """Run a helm command on the release."""
        chart = (str(self.chart),) if command in {"install", "upgrade"} else ()
        where = f"--namespace={self.namespace}"
        return self.helm(command, self.name, *chart, where, *args, kubeconfig=self.kubernetes.kubeconfig)

    def kubectl(self, *args: str, namespace: str | None = None, input: str | None = None) -> str:  # noqa: A002 - as subprocess.run calls it
        """Run kubectl in the release's namespace, or in another."""
        return self.kubernetes.kubectl("--namespace", namespace or self.namespace, *args, input=input)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """One object."""
        got: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return got

    def all(self, kinds: str = _KINDS) -> list[dict[str, Any]]:
        """All that bears the release's label, wherever it is."""
        label = f"app.kubernetes.io/instance={self.name}"
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", kinds, "-A", "-l", label, "-o", "json"))["items"]
        return items

    def objects(self) -> set[str]:
        """`Kind/name` of what Helm has made."""
        return {f"{one['kind']}/{one['metadata']['name']}" for one in self.all()}

    def can(self, verb: str, resource: str, namespace: str) -> bool:
        """Whether the release's ServiceAccount may do that."""
        account = f"--as=system:serviceaccount:{self.namespace}:{self.name}"
        try:
            return self.kubectl("auth", "can-i", verb, resource, account, namespace=namespace).strip() == "yes"
        except CommandFailed as refusal:
            if str(refusal).endswith(": "):  # "no" exits with 1 and has nothing to complain of
                return False
            raise

    @contextlib.contextmanager
    def operator(self, folder: Path) -> Iterator[Probes]:
        """Run what the pods would run, with their arguments, environment and token; it must end well at SIGTERM."""
        (container,) = self.get("deployment", self.name)["spec"]["template"]["spec"]["containers"]
        port = free_port()
        args = [f"--http-port={port}" if one == "--http-port=8080" else one for one in container["args"]]
        fields = {"metadata.namespace": self.namespace}
        env = {
            one["name"]: one["value"] if "value" in one else fields[one["valueFrom"]["fieldRef"]["fieldPath"]]
            for one in container["env"]
        }
        kubeconfig = self._kubeconfig(folder / "kubeconfig")
        with (folder / "operator.log").open("wb") as log:
            running = subprocess.Popen(
                [Path(sys.executable).with_name("eod"), *args],
                env={**os.environ, **env, "KUBECONFIG": str(kubeconfig)},
                stdout=log,
                stderr=log,
            )
        try:
            yield Probes(container, port)
            running.send_signal(signal.SIGTERM)
            assert running.wait(timeout=_STOP_S) == 0
        finally:
            running.kill()
            running.wait()
            sys.stdout.write((folder / "operator.log").read_text())  # pytest shows it when the test has failed

    def _kubeconfig(self, file: Path) -> Path:
        """A kubeconfig with a token of the release's ServiceAccount."""
        kubeconfig = yaml.safe_load(self.kubernetes.kubeconfig.read_text())
        token = self.kubectl("create", "token", self.name).strip()
        for user in kubeconfig["users"]:
            user["user"] = {"token": token}
        file.write_text(yaml.safe_dump(kubeconfig))
        return file


@dataclass
class Probes:
    """What the kubelet would ask of a container."""

    container: dict[str, Any]
    port: int

    def answer(self, probe: str) -> str:
        """Ask as a probe of that name does; an error is an OSError."""
        asked = self.container[f"{probe}Probe"]["httpGet"]
        assert {one["name"]: one["containerPort"] for one in self.container["ports"]}[asked["port"]] == 8080
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{asked['path']}", timeout=5) as page:
            return str(page.read().decode()).strip()
