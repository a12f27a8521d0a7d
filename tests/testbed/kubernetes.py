"""A real Kubernetes control plane: etcd, kube-apiserver and kube-controller-manager from one binary.

There is no scheduler and no node: a Deployment makes its ReplicaSet and its Pods, and the Pods stay Pending. That is
all an operator's tests need, it starts in seconds and it needs no privilege. The binary also holds the scheduler,
kubelet, kube-proxy and kubeadm.
"""

import json
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import yaml
from support.patience import eventually

from testbed import cache, go
from testbed.debian import program
from testbed.errors import CommandFailed
from testbed.process import run
from testbed.resources import Resources
from testbed.server import NotYet, Server
from testbed.tls import Authority, embed

_VERSION = "v1.34.4"
_MODULE = "kubernetes"
_BINARY = "kube-allinone"
_PARTS = (
    *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
    *("kube-proxy", "kubelet", "kubeadm", "kubectl"),
)
_VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
_SERVICES = "10.96.0.0/16"
_SERVER_NAMES = ",".join(
    [
        *("DNS:localhost", "DNS:kubernetes", "DNS:kubernetes.default", "DNS:kubernetes.default.svc"),
        *("DNS:kubernetes.default.svc.cluster.local", "IP:127.0.0.1", "IP:10.96.0.1"),
    ]
)
_PROBE_TIMEOUT_S = 2.0


class Kubernetes(Server):
    """One control plane; its data is etcd's."""

    key: ClassVar[str] = "kubernetes"
    title: ClassVar[str] = "Kubernetes"
    default_ports: ClassVar[Mapping[str, int]] = {
        "apiserver": 16443,
        "controllers": 16444,
        "etcd": 12379,
        "etcd-peer": 12380,
    }
    fetch_s: ClassVar[float] = 420
    ready_within_s: ClassVar[float] = 120
    patience_s: ClassVar[float] = 2  # the API server would drain its watches for eight seconds

    @classmethod
    def fetch(cls) -> Path:
        """The folder of the programs, which are one binary built from Go modules."""
        program("openssl", package="openssl")
        return go.cached(cls.key, _VERSION, _build, module=_MODULE, expected_s=cls.fetch_s)

    @property
    def server(self) -> str:
        """The API server's address."""
        return f"https://127.0.0.1:{self.ports['apiserver']}"

    @property
    def ca(self) -> Path:
        """The certificate of the authority that signed the API server's."""
        return self._pki / "ca.crt"

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig with all rights."""
        return self._pki / "admin.kubeconfig"

    @property
    def version(self) -> str:
        """What the API server says."""
        return str(json.loads(self.kubectl("get", "--raw", "/version"))["gitVersion"])

    @property
    def environment(self) -> Mapping[str, str]:
        """KUBECONFIG."""
        return {"KUBECONFIG": str(self.kubeconfig)}

    def kubectl(self, *args: str, input: str | None = None) -> str:  # noqa: A002 - as subprocess.run calls it
        """Run kubectl with all rights and return what it printed.

        Raises:
            CommandFailed: it exited with an error, which the message holds.
        """
        env = {"KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(self.home / "kubectl-cache")}
        try:
            return run([self.fetch() / "kubectl", *args], env=env, stdin=input)
        except subprocess.CalledProcessError as error:
            raise CommandFailed(f"kubectl {' '.join(args)}: {error.stderr.strip()}") from error

    def await_kinds(self, *names: str) -> None:
        """Return once CRDs that were applied are established.

        A CRD that was made this moment has no status yet; `kubectl wait` calls that an error, so it is asked again.
        """
        crds = [f"crd/{name}" for name in names]
        eventually(lambda: self.kubectl("wait", "--for=condition=Established", "--timeout=30s", *crds))

    @cached_property
    def resources(self) -> Resources:
        """The objects that are there, read with all rights."""
        return Resources(self.server, self.ca, self._pki / "admin.crt", self._pki / "admin.key")

    @property
    def _pki(self) -> Path:
        return self.home / "pki"

    def _prepare(self, programs: Path) -> None:
        del programs
        if not self.kubeconfig.exists():
            authority = Authority(self._pki, "testbed-ca")
            authority.issue("apiserver", "/CN=kube-apiserver", server_names=_SERVER_NAMES)
            authority.issue("admin", "/O=system:masters/CN=admin")
            authority.issue("controller-manager", "/CN=system:kube-controller-manager")
            authority.issue("front-proxy", "/CN=front-proxy")
            authority.public_key(authority.new_key("service-accounts"))
        for user in ("admin", "controller-manager"):
            self._write_kubeconfig(user)

    def _write_kubeconfig(self, user: str) -> None:
        cluster = {"server": self.server, "certificate-authority-data": embed(self.ca)}
        identity = {
            "client-certificate-data": embed(self._pki / f"{user}.crt"),
            "client-key-data": embed(self._pki / f"{user}.key"),
        }
        file = self._pki / f"{user}.kubeconfig"
        file.touch(mode=0o600)
        file.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "testbed", "cluster": cluster}],
                    "users": [{"name": user, "user": identity}],
                    "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": user}}],
                    "current-context": "testbed",
                }
            )
        )

    def _launch(self, programs: Path) -> None:
        self._spawn("etcd", [programs / "etcd", *self._etcd_flags()])
        self._spawn("kube-apiserver", [programs / "kube-apiserver", *self._apiserver_flags()])
        self._await(self._require_ready, OSError)
        self._spawn("kube-controller-manager", [programs / "kube-controller-manager", *self._controllers_flags()])
        # The controllers work once one of them has made the default ServiceAccount.
        self._await(lambda: self.kubectl("get", "serviceaccount", "default"), CommandFailed)

    def _require_ready(self) -> None:
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self._pki / "admin.crt", self._pki / "admin.key")
        try:
            with urllib.request.urlopen(f"{self.server}/readyz", timeout=_PROBE_TIMEOUT_S, context=context):  # noqa: S310 - https
                return
        except urllib.error.HTTPError as refusal:
            with refusal:
                raise NotYet(f"/readyz: {refusal.read().decode(errors='replace')}") from refusal

    def _etcd_flags(self) -> list[str]:
        clients = f"http://127.0.0.1:{self.ports['etcd']}"
        peers = f"http://127.0.0.1:{self.ports['etcd-peer']}"
        return [
            f"--data-dir={self.data / 'etcd'}",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",  # survives kill -9, not a power cut
            "--log-level=warn",
        ]

    def _apiserver_flags(self) -> list[str]:
        pki = self._pki
        return [
            f"--etcd-servers=http://127.0.0.1:{self.ports['etcd']}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.ports['apiserver']}",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--client-ca-file={self.ca}",
            f"--service-account-key-file={pki / 'service-accounts.pub'}",
            f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--service-cluster-ip-range={_SERVICES}",
            "--endpoint-reconciler-type=none",  # Endpoints may not be loopback addresses
            f"--requestheader-client-ca-file={self.ca}",
            "--requestheader-allowed-names=front-proxy",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={pki / 'front-proxy.crt'}",
            f"--proxy-client-key-file={pki / 'front-proxy.key'}",
            "--profiling=false",
        ]

    def _controllers_flags(self) -> list[str]:
        kubeconfig = self._pki / "controller-manager.kubeconfig"
        return [
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.ports['controllers']}",
            "--leader-elect=false",
            "--use-service-account-credentials",  # without it RBAC forbids Deployments their Pods, silently
            "--kube-api-qps=500",  # at the default of 20 the first ServiceAccount takes six seconds
            "--kube-api-burst=1000",
            f"--service-account-private-key-file={self._pki / 'service-accounts.key'}",
            f"--root-ca-file={self.ca}",
            f"--cluster-signing-cert-file={self.ca}",
            f"--cluster-signing-key-file={self._pki / 'ca.key'}",
            f"--service-cluster-ip-range={_SERVICES}",
        ]


def _build(shop: cache.Workshop) -> None:
    major, minor, _ = _VERSION.removeprefix("v").split(".")
    facts = {
        "gitVersion": _VERSION,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
        "gitCommit": "testbed",
        "buildDate": "1970-01-01T00:00:00Z",
    }
    variables = {f"{package}.{name}": value for package in _VERSION_PACKAGES for name, value in facts.items()}
    go.build(shop, _MODULE, ".", _BINARY, variables)
    for part in _PARTS:
        (shop.folder / part).symlink_to(_BINARY)
