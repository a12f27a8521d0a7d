"""What Helm says after an install: what comes next, what to know of the charts below, who else acts on the pipelines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from support.chart_release import CRDS, Release
from testbed.helm import Helm
from testbed.kubernetes import Kubernetes

ACCEPTED = "--set=eod-stores.sqlserver.acceptEula=true"

pytestmark = pytest.mark.slow


@pytest.fixture
def neighbour(helm: Helm, kubernetes: Kubernetes, unique: str) -> Iterator[Callable[..., Release]]:
    """Installs an operator in a namespace of its own, where `--create-namespace` makes it."""
    with ExitStack() as ends:

        def install(*words: str) -> Release:
            made = Release(helm, kubernetes, f"{unique}-other", "neighbour")
            ends.callback(kubernetes.kubectl, "delete", "namespace", made.namespace, "--wait=false")
            ends.callback(made.run, "uninstall", "--ignore-not-found")
            made.run("install", "--create-namespace", *words)
            return made

        yield install


def notes(release: Release, *words: str) -> str:
    """What Helm would say after an install, or an upgrade of what is there."""
    there = release.helm(
        "list", "--short", f"--namespace={release.namespace}", kubeconfig=release.kubernetes.kubeconfig
    )
    command = "upgrade" if release.name in there.split() else "install"
    return release.run(command, "--dry-run=server", *words).partition("\nNOTES:\n")[2]


def warned_of(release: Release, told: str) -> list[str]:
    """What the notes say of another release's operator."""
    said = re.findall(r"WARNING: two operators act.*?\n\n", told + "\n\n", re.DOTALL)
    whose = f"release {release.name} in namespace {release.namespace}, which"
    return [line for one in said if whose in (line := " ".join(one.split()))]


def test_after_the_crd_comes_the_whole_or_the_operator_and_not_both(helm: Helm, kubernetes: Kubernetes) -> None:
    crds = Release(helm, kubernetes, "default", "eod-crds-again", CRDS)
    told = notes(crds, "--take-ownership")
    whole, alone = (told.index(f"helm install {name} charts/{name} ") for name in ("eod", "eod-operator"))
    assert whole < alone < told.index("Not both in one cluster") < told.index("--set image.tag=")


def test_the_notes_of_the_whole_have_the_warnings_of_the_stores_and_what_uninstalling_leaves(whole: Release) -> None:
    told = notes(whole, ACCEPTED, "--set=eod-stores.redis.persistence.enabled=false")
    assert "WARNING: one broker" in told
    assert "WARNING: eod-stores.redis.persistence.enabled is false: what redis holds is LOST with its pod." in told
    labels = "app.kubernetes.io/name=eod-stores,app.kubernetes.io/instance=eod"
    assert f"kubectl -n {whole.namespace} delete pvc,secret -l {labels}\n" in told
    assert f"The operator runs as eod-operator in namespace {whole.namespace}, 2 replicas, and watches every" in told
    assert "\n\n\n" not in told


def test_the_notes_of_the_whole_are_silent_of_charts_that_are_not_installed(whole: Release) -> None:
    off = [f"--set={name}=false" for name in ("install.operator", "install.stores", "reconcile.enabled")]
    told = notes(whole, *off, "--set=pipeline.spec.kafka.bootstrapServers=kafka:9092")
    assert "The pipeline us-equities is in namespace" in told
    assert not [word for word in ("one broker", "Uninstalling", "The operator runs", "two operators") if word in told]


def test_who_installs_a_second_operator_of_every_namespace_is_warned_of_the_first(
    release: Release, whole: Release, neighbour: Callable[..., Release]
) -> None:
    """Other tests install operators meanwhile: what is said of them is not looked at."""
    assert release.namespace == whole.namespace
    first = neighbour()
    (said,) = warned_of(first, notes(release))
    binding = f"ClusterRoleBinding {first.namespace}-neighbour-eod-operator"
    assert f"which watches every namespace ({binding}). Name other namespaces in watchNamespaces of each" in said
    (said,) = warned_of(first, notes(whole, ACCEPTED))
    assert "Name other namespaces in eod-operator.watchNamespaces of each" in said
    assert "install.operator=false in the second release" in said
    assert warned_of(first, notes(release, f"--set=watchNamespaces={{{release.namespace}}}")) != []
    assert warned_of(first, notes(first)) == []


def test_who_shares_a_namespace_with_another_operator_is_warned_and_who_shares_none_is_not(
    release: Release, neighbour: Callable[..., Release]
) -> None:
    mine = release.namespace
    first = neighbour(f"--set=watchNamespaces={{{mine}}}")
    (said,) = warned_of(first, notes(release))
    assert "which watches some of the namespaces (ClusterRoleBinding" in said
    (said,) = warned_of(first, notes(release, f"--set=watchNamespaces={{{mine},default}}"))
    assert f"which watches namespace {mine} (RoleBinding neighbour-eod-operator)" in said
    assert warned_of(first, notes(release, "--set=watchNamespaces={default}")) == []
    assert warned_of(first, notes(first, f"--set=watchNamespaces={{{mine}}}")) == []
