"""KEDA beside a control plane of the test bed: its operator and its metrics adapter, as plain processes on loopback.

The HPA controller asks the API server for external metrics, which passes the question on to the adapter, which asks the
operator. The API server refuses loopback addresses as endpoints of a Service, so the adapter's is of the type ExternalName.
"""

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from support.patience import eventually

from testbed import cache, go
from testbed.errors import CommandFailed
from testbed.kubernetes import Kubernetes
from testbed.server import NotYet, Server
from testbed.tls import Authority, embed

_VERSION = "v2.21.0"
_MODULE = "keda"
_PACKAGE = "github.com/kedacore/keda/v2"
_CRDS = "config/crd/bases"
_NAMESPACE = "keda"
_SERVICE = "keda-metrics-apiserver"
_API = "v1beta1.external.metrics.k8s.io"
_SERVER_NAMES = f"DNS:localhost,IP:127.0.0.1,DNS:{_SERVICE}.{_NAMESPACE}.svc"
_PROBE_TIMEOUT_S = 2.0
_RBAC = "rbac.authorization.k8s.io"


class Keda(Server):
    """One KEDA for one control plane, which must run before it and outlive it.

    Args:
        home: the folder of its certificates and logs.
        kubernetes: where its ScaledObjects are.
    """

    key: ClassVar[str] = "keda"
    title: ClassVar[str] = "KEDA"
    default_ports: ClassVar[Mapping[str, int]] = dict.fromkeys(
        ("operator-metrics", "operator-health", "operator-grpc", "adapter", "adapter-metrics"), 0
    )
    fetch_s: ClassVar[float] = 600
    ready_within_s: ClassVar[float] = 90

    def __init__(self, home: Path, kubernetes: Kubernetes) -> None:
        super().__init__(home)
        self._kubernetes = kubernetes

    @classmethod
    def fetch(cls) -> Path:
        """The folder of its two programs and its CRDs, built from its Go module."""
        return go.cached(_MODULE, _VERSION, _build, module=_MODULE, expected_s=cls.fetch_s)

    @property
    def version(self) -> str:
        """The version that it was built as."""
        return _VERSION

    @property
    def environment(self) -> Mapping[str, str]:
        """KUBECONFIG, of its cluster."""
        return self._kubernetes.environment

    @property
    def _pki(self) -> Path:
        return self.home / "pki"

    def _prepare(self, programs: Path) -> None:
        if not self._pki.exists():
            authority = Authority(self._pki, "testbed-keda-ca")
            authority.issue("server", "/CN=keda", server_names=_SERVER_NAMES)
            authority.issue("client", "/CN=keda-adapter")
            for role in ("server", "client"):  # KEDA wants a folder with these names, and checks both ends
                folder = self._pki / role
                folder.mkdir(mode=0o700)
                shutil.copy(authority.certificate, folder / "ca.crt")
                for kind in ("crt", "key"):
                    shutil.copy(self._pki / f"{role}.{kind}", folder / f"tls.{kind}")
        kubectl = self._kubernetes.kubectl
        kubectl("apply", "--server-side", "--force-conflicts", "-f", str(programs / "crds"))
        eventually(
            lambda: kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(programs / "crds"))
        )
        kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": self._objects()}))

    def _objects(self) -> list[dict[str, Any]]:
        """Where the API server finds the adapter, and the HPA controller's right to ask it."""
        role = f"{_NAMESPACE}-external-metrics-reader"
        account = {"kind": "ServiceAccount", "name": "horizontal-pod-autoscaler", "namespace": "kube-system"}
        return [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}},
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": _SERVICE, "namespace": _NAMESPACE},
                "spec": {"type": "ExternalName", "externalName": "localhost"},
            },
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": _API},
                "spec": {
                    "service": {"name": _SERVICE, "namespace": _NAMESPACE, "port": self.ports["adapter"]},
                    "group": "external.metrics.k8s.io",
                    "version": "v1beta1",
                    "caBundle": embed(self._pki / "ca.crt"),
                    "groupPriorityMinimum": 100,
                    "versionPriority": 100,
                },
            },
            {
                "apiVersion": f"{_RBAC}/v1",
                "kind": "ClusterRole",
                "metadata": {"name": role},
                "rules": [{"apiGroups": ["external.metrics.k8s.io"], "resources": ["*"], "verbs": ["get", "list"]}],
            },
            {
                "apiVersion": f"{_RBAC}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": role},
                "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
                "subjects": [account],
            },
        ]

    def _launch(self, programs: Path) -> None:
        kubeconfig = self._kubernetes.kubeconfig
        env = {
            "KUBECONFIG": str(kubeconfig),
            "POD_NAMESPACE": _NAMESPACE,
            "KEDA_CLUSTER_OBJECT_NAMESPACE": _NAMESPACE,
            "WATCH_NAMESPACE": "",
        }
        at = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        operator = [
            f"--metrics-bind-address={at['operator-metrics']}",
            f"--health-probe-bind-address={at['operator-health']}",
            f"--metrics-service-bind-address={at['operator-grpc']}",
            f"--cert-dir={self._pki / 'server'}",
            "--zap-log-level=info",
            "--zap-encoder=console",
            "--zap-time-encoding=rfc3339",
        ]
        self._spawn("keda-operator", [programs / "keda-operator", *operator], env)
        self._await(self._require_healthy, OSError)
        adapter = [
            "--bind-address=127.0.0.1",
            f"--secure-port={self.ports['adapter']}",
            f"--port={self.ports['adapter-metrics']}",  # its /metrics listens on every address: it has no flag for that
            f"--metrics-service-address={at['operator-grpc']}",
            f"--cert-dir={self._pki / 'client'}",
            f"--tls-cert-file={self._pki / 'server' / 'tls.crt'}",
            f"--tls-private-key-file={self._pki / 'server' / 'tls.key'}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--lister-kubeconfig={kubeconfig}",
        ]
        self._spawn("keda-adapter", [programs / "keda-adapter", *adapter], env)
        self._await(self._require_metrics, CommandFailed)

    def _require_healthy(self) -> None:
        url = f"http://127.0.0.1:{self.ports['operator-health']}/readyz"
        try:
            with urllib.request.urlopen(url, timeout=_PROBE_TIMEOUT_S):
                return
        except urllib.error.HTTPError as refusal:
            with refusal:
                raise NotYet(f"/readyz: {refusal.read().decode(errors='replace')}") from refusal

    def _require_metrics(self) -> None:
        """The API server passes questions on to the adapter."""
        self._kubernetes.kubectl("get", "--raw", "/apis/external.metrics.k8s.io/v1beta1")


def _build(shop: cache.Workshop) -> None:
    for name in ("operator", "adapter"):  # the second finds most packages compiled
        go.build(shop, _MODULE, f"{_PACKAGE}/cmd/{name}", f"keda-{name}", {f"{_PACKAGE}/version.Version": _VERSION})
    crds = go.folder(_MODULE, _PACKAGE) / _CRDS
    (shop.folder / "crds").mkdir()
    for file in sorted(crds.glob("*.yaml")):
        (shop.folder / "crds" / file.name).write_bytes(file.read_bytes())


if __name__ == "__main__":
    Keda.fetch()
