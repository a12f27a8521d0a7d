"""The CRD by its chart, charts with what they depend on, and releases in namespaces that admit restricted pods only."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from support.chart_release import CRD, CRDS, EOD, ROOT, STORES, Release
from support.patience import eventually
from testbed.helm import Helm
from testbed.kubernetes import Kubernetes


@pytest.fixture(scope="session")
def kubernetes(kept: Callable[..., Kubernetes]) -> Kubernetes:
    """A control plane for the charts: kinds that they bring would change what the operator's tests see."""
    return kept(Kubernetes, "charts")


@pytest.fixture(scope="session")
def crds(helm: Helm, kubernetes: Kubernetes, alone: Callable[[str], AbstractContextManager[None]]) -> None:
    """The CRD."""
    with alone("eod-crds"):  # Helm refuses two upgrades at once
        install_crds(helm, kubernetes)


def install_crds(helm: Helm, kubernetes: Kubernetes) -> None:
    """The CRD, by its chart; other tests may have applied it already."""
    words = ("upgrade", "--install", "--take-ownership", "eod-crds", CRDS, "--namespace=default")
    helm(*words, kubeconfig=kubernetes.kubeconfig)
    kubernetes.await_kinds(CRD)
    eventually(lambda: kubernetes.kubectl("get", "eodp", "-A") is not None)


@pytest.fixture(scope="session")
def charts(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the charts, in which eod has what its lock names."""
    copy = tmp_path_factory.mktemp("charts") / "charts"
    shutil.copytree(ROOT / "charts", copy, ignore=shutil.ignore_patterns("*.tgz"))
    helm("dependency", "build", copy / EOD.name)
    return copy


@pytest.fixture
def strict_namespace(kubernetes: Kubernetes, unique: str) -> Iterator[str]:
    """A namespace that admits restricted pods only."""
    make_strict(kubernetes, unique)
    yield unique
    kubernetes.kubectl("delete", "namespace", unique, "--wait=false")


def make_strict(kubernetes: Kubernetes, namespace: str) -> None:
    """A namespace that admits restricted pods only, and warns of templates that would make others."""
    kubernetes.kubectl("create", "namespace", namespace)
    levels = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn")]
    kubernetes.kubectl("label", "namespace", namespace, *levels)


@pytest.fixture
def release(helm: Helm, kubernetes: Kubernetes, crds: None, strict_namespace: str) -> Iterator[Release]:
    """Of the operator. Not installed yet; uninstalled at the end."""
    del crds
    made = Release(helm, kubernetes, strict_namespace, f"eod-operator-{strict_namespace[-8:]}")
    yield made
    made.run("uninstall", "--ignore-not-found")


@pytest.fixture
def lonely_release(helm: Helm, own_kubernetes: Kubernetes, unique: str) -> Release:
    """Of the operator, in a cluster without other tests, whose pipelines it would take for its own. Not installed yet."""
    install_crds(helm, own_kubernetes)
    make_strict(own_kubernetes, unique)
    return Release(helm, own_kubernetes, unique, f"eod-operator-{unique[-8:]}")


@pytest.fixture
def stores(helm: Helm, kubernetes: Kubernetes, strict_namespace: str) -> Iterator[Release]:
    """Of the stores. Not installed yet; uninstalled at the end, but for what it is to leave."""
    made = Release(helm, kubernetes, strict_namespace, "desk", STORES)
    yield made
    made.run("uninstall", "--ignore-not-found", "--no-hooks")


@pytest.fixture
def whole(helm: Helm, kubernetes: Kubernetes, crds: None, charts: Path, strict_namespace: str) -> Iterator[Release]:
    """Of eod. Not installed yet; uninstalled at the end."""
    del crds
    made = Release(helm, kubernetes, strict_namespace, "eod", charts / EOD.name)
    yield made
    made.run("uninstall", "--ignore-not-found", "--no-hooks")
