"""Releases of the charts on a real API server: installed under Pod Security, run, upgraded, removed.

No kubelet runs, so pods are admitted and stay Pending; what would run in them is run here, with the arguments, the
environment and the rights that the release has given it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.chart_release import CRD, CRDS, OPERATOR, ROOT, Release
from support.patience import eventually, steadily
from testbed.errors import CommandFailed
from testbed.helm import Helm
from testbed.kubernetes import Kubernetes

pytestmark = pytest.mark.slow

PIPELINE = {
    "apiVersion": "eod.markets/v1alpha1",
    "kind": "EodPipeline",
    "metadata": {"name": "close"},
    "spec": {
        "kafka": {"bootstrapServers": "127.0.0.1:9"},
        "image": "eod:test",
        "calendar": {"sessions": [{"open": "2099-01-01T00:00:00Z", "close": "2099-01-02T00:00:00Z"}]},
        "stages": [
            {"name": "pnl", "kind": "flash-pnl", "topics": ["trades"], "group": "pnl", "replicas": {"min": 1, "max": 2}}
        ],
    },
}


def test_a_release_is_installed_under_pod_security_upgraded_and_removed_without_a_trace(release: Release) -> None:
    namespace, name = release.namespace, release.name
    with pytest.raises(CommandFailed, match='violates PodSecurity "restricted'):  # the namespace is strict indeed
        release.kubectl("run", "careless", "--image=eod:test")

    told = release.run("install")
    assert "2 replicas, and watches every namespace" in told
    assert "MISSING" not in told
    made = {
        *(f"{kind}/{name}" for kind in ("Deployment", "Service", "ServiceAccount", "PodDisruptionBudget")),
        *(f"{kind}/{name}-lease" for kind in ("Role", "RoleBinding")),
        *(f"{kind}/{namespace}-{name}" for kind in ("ClusterRole", "ClusterRoleBinding")),
        *(f"{kind}/{namespace}-{name}-discovery" for kind in ("ClusterRole", "ClusterRoleBinding")),
    }
    assert release.objects() == made
    eventually(lambda: len(release.all("pods")) == 2)
    (first,) = release.all("replicasets")
    assert first["status"].get("conditions", []) == []
    assert release.kubectl("get", "events", "--field-selector=reason=FailedCreate", "-o", "name") == ""

    release.run(
        *("upgrade", "--set", f"watchNamespaces={{{namespace}}}", "--set", "requestsPerSecond=50"),
        *("--set", "replicas=1", "--set", "podLabels.team=markets"),
    )
    eventually(lambda: len(release.all("replicasets")) == 2)
    (second,) = (one for one in release.all("replicasets") if one["metadata"]["name"] != first["metadata"]["name"])
    assert second["metadata"]["labels"]["team"] == "markets"
    assert "--requests-per-second=50" in second["spec"]["template"]["spec"]["containers"][0]["args"]
    gone = {f"ClusterRoleBinding/{namespace}-{name}", f"PodDisruptionBudget/{name}"}
    assert release.objects() == made - gone | {f"RoleBinding/{name}"}

    release.run("uninstall")
    eventually(lambda: release.objects() == set() and release.all("replicasets,pods") == [])
    assert release.kubectl("get", "crd", CRD, "-o", "name").strip().endswith(CRD)


def two_namespaces(release: Release) -> tuple[str, str]:
    """Each with a pipeline in it."""
    made = f"{release.namespace}-a", f"{release.namespace}-b"
    for namespace in made:
        release.kubectl("create", "namespace", namespace)
        release.kubectl("apply", "-f", "-", namespace=namespace, input=json.dumps(PIPELINE))
    return made


def test_the_operator_works_with_the_arguments_and_rights_of_its_release(
    lonely_release: Release, tmp_path: Path
) -> None:
    """It makes the Deployment of a pipeline in every namespace."""
    release = lonely_release
    namespaces = two_namespaces(release)
    release.run("install", "--set", "intervalSeconds=1")
    with at_work(release, tmp_path, may_write_in=namespaces):
        for namespace in namespaces:
            eventually(lambda where=namespace: deployments(release, where) == ["deployment.apps/close-pnl"])


def test_an_operator_of_some_namespaces_does_and_may_do_nothing_elsewhere(release: Release, tmp_path: Path) -> None:
    watched, elsewhere = two_namespaces(release)
    try:
        release.run("install", "--set", "intervalSeconds=1", "--set", f"watchNamespaces={{{watched}}}")
        assert not release.can("create", "deployments.apps", elsewhere)
        with at_work(release, tmp_path, may_write_in=(watched,)):
            eventually(lambda: deployments(release, watched) == ["deployment.apps/close-pnl"])
            steadily(lambda: deployments(release, elsewhere) == [], for_s=2.5)
    finally:
        release.kubectl("delete", "namespace", watched, elsewhere, "--wait=false")


@contextmanager
def at_work(release: Release, folder: Path, *, may_write_in: Iterable[str]) -> Iterator[None]:
    """The operator of a release, leading, with the rights that it needs and no others."""
    for namespace in may_write_in:
        assert release.can("create", "deployments.apps", namespace)
        assert not release.can("list", "secrets", namespace)
    with release.operator(folder) as probes:
        eventually(lambda: probes.answer("readiness") == "ready, leading")
        assert [probes.answer(probe) for probe in ("startup", "liveness")] == ["alive", "alive"]
        assert release.get("lease", release.name)["spec"]["holderIdentity"]
        yield


def deployments(release: Release, namespace: str) -> list[str]:
    return release.kubectl("get", "deployments", "-o", "name", namespace=namespace).split()


def test_the_crd_is_taken_over_upgraded_and_kept_until_it_is_told_to_go(helm: Helm, own_kubernetes: Kubernetes) -> None:
    """On a cluster of its own: deleting the CRD deletes every pipeline."""

    def run(*words: str | Path) -> str:
        return helm(*words, kubeconfig=own_kubernetes.kubeconfig)

    def names(kind: str) -> list[str]:
        return own_kubernetes.kubectl("get", kind, "-o", "name").split()

    assert "kind is MISSING" in run("install", "eod-operator", OPERATOR, "--dry-run=server")
    before = (ROOT / "crds/eodpipeline.yaml").read_text().replace("The pipeline in one word.", "As it was.")
    own_kubernetes.kubectl("apply", "--server-side", "-f", "-", input=before)
    own_kubernetes.await_kinds(CRD)
    eventually(lambda: own_kubernetes.kubectl("apply", "-f", "-", input=json.dumps(PIPELINE)))
    assert "MISSING" not in run("install", "eod-operator", OPERATOR, "--dry-run=server")

    with pytest.raises(CommandFailed, match="cannot be imported into the current release"):
        run("install", "eod-crds", CRDS)
    assert "Uninstalling this release keeps it" in run("install", "eod-crds", CRDS, "--take-ownership")
    assert columns(own_kubernetes)["Phase"] == "The pipeline in one word."

    run("uninstall", "eod-crds")
    assert names("eodp") == ["eodpipeline.eod.markets/close"]
    assert "DELETES it" in run("install", "eod-crds", CRDS, "--set", "keep=false")
    run("uninstall", "eod-crds")
    eventually(lambda: CRD not in " ".join(names("crd")))


def columns(kubernetes: Kubernetes) -> dict[str, Any]:
    """Name and description of what `kubectl get` shows."""
    crd = json.loads(kubernetes.kubectl("get", "crd", CRD, "-o", "json"))
    return {one["name"]: one.get("description") for one in crd["spec"]["versions"][0]["additionalPrinterColumns"]}
