"""Helm, and helm-docs, which writes the README of a chart from the comments of its values.

What a chart renders is held against the API server itself (`kubectl apply --dry-run=server`), which also runs the
checks that no schema can say: CEL rules, admission, names that clash. So no offline schema checker is fetched.
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from testbed import cache, go
from testbed.errors import CommandFailed
from testbed.process import run

_VERSION = "v3.19.5"
_DOCS_VERSION = "v1.14.2"
_KUBERNETES_MINOR = "34"  # of the Kubernetes libraries in the go.mod: what `helm template` takes the cluster to be
_MODULE = "kubernetes"  # most of Helm is Kubernetes' client libraries, which are then compiled once for both
_PACKAGE = "helm.sh/helm/v3"
_DOCS_PACKAGE = "github.com/norwoodj/helm-docs/cmd/helm-docs"


class Helm:
    """The two programs. They are no servers: a test runs `helm` with a kubeconfig, or without one.

    Attributes:
        home: the folder of Helm's own settings and caches, so that the user's play no part.
    """

    key: ClassVar[str] = "helm"
    title: ClassVar[str] = "Helm"
    fetch_s: ClassVar[float] = 25  # after Kubernetes

    def __init__(self, home: Path) -> None:
        self.home = home

    @classmethod
    def fetch(cls) -> Path:
        """Return the folder of the programs, built first from their Go modules if need be.

        Raises:
            Missing: there is no Go, or too old a one.
            BuildFailed: fetching or building failed.
        """
        return go.cached(cls.key, _VERSION, _build, module=_MODULE, expected_s=cls.fetch_s)

    @property
    def version(self) -> str:
        """What the binary says."""
        return self("version", "--template={{.Version}}")

    def __call__(self, *args: str | Path, kubeconfig: Path | None = None) -> str:
        """Run helm and return what it printed; without a kubeconfig it reaches no cluster.

        Raises:
            CommandFailed: it exited with an error, which the message holds.
        """
        return self._run("helm", *args, env={"KUBECONFIG": str(kubeconfig or self.home / "none")})

    def docs(self, chart: Path) -> str:
        """Return the README that helm-docs makes of a chart.

        Raises:
            CommandFailed: the chart cannot be read, or its template is wrong.
        """
        words = ("--sort-values-order=file", "--skip-version-footer", "--log-level=warning", "--dry-run")
        text = self._run("helm-docs", f"--chart-search-root={chart}", *words, env={}).strip()
        if not text:  # it skips what it cannot read, and exits with 0
            raise CommandFailed(f"helm-docs made nothing of {chart}: run it there by hand to see why")
        return f"{text}\n"

    def _run(self, program: str, *args: str | Path, env: Mapping[str, str]) -> str:
        homes = {f"HELM_{kind}_HOME": str(self.home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        try:
            return run([self.fetch() / program, *args], env={**homes, **env})
        except subprocess.CalledProcessError as error:
            words = " ".join(str(word) for word in args)
            raise CommandFailed(f"{program} {words}: {error.stdout.strip()}\n{error.stderr.strip()}") from error


def _build(shop: cache.Workshop) -> None:
    variables = {f"{_PACKAGE}/internal/version.version": _VERSION}
    for package in ("chartutil", "lint/rules"):
        variables[f"{_PACKAGE}/pkg/{package}.k8sVersionMajor"] = "1"
        variables[f"{_PACKAGE}/pkg/{package}.k8sVersionMinor"] = _KUBERNETES_MINOR
    go.build(shop, _MODULE, f"{_PACKAGE}/cmd/helm", "helm", variables)
    go.build(shop, _MODULE, _DOCS_PACKAGE, "helm-docs", {"main.version": _DOCS_VERSION})
