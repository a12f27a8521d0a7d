"""A real operator process, confined to the chart's own RBAC rules, in a namespace of the test's own."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from support.operator_world import OperatorWorld
from support.patience import eventually
from testbed.kafka import Kafka
from testbed.kubernetes import Kubernetes

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def crd(kubernetes: Kubernetes) -> None:
    """The CRD."""
    install_crd(kubernetes)


def install_crd(kubernetes: Kubernetes) -> None:
    """The CRD as committed, established and served."""
    kubernetes.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds/eodpipeline.yaml"))
    kubernetes.await_kinds("eodpipelines.eod.markets")
    eventually(lambda: kubernetes.kubectl("get", "eodp", "-A") is not None)
    time.sleep(1)  # the storage of a new CRD answers 429 for a moment


RULES = {"eod-operator": "rules", "eod-operator-home": "home-rules", "eod-operator-discovery": "discovery-rules"}
"""ClusterRoles, and the files of the chart that hold their rules."""


@pytest.fixture(scope="session")
def roles(kubernetes: Kubernetes) -> None:
    """The chart's rules."""
    install_roles(kubernetes)


def install_roles(kubernetes: Kubernetes) -> None:
    """The chart's rules as ClusterRoles, bound to nobody."""
    for name, file in RULES.items():
        rules = yaml.safe_load((ROOT / f"charts/eod-operator/files/{file}.yaml").read_text())
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}}
        kubernetes.kubectl(
            "apply", "--server-side", "--force-conflicts", "-f", "-", input=json.dumps({**role, "rules": rules})
        )


def kubeconfig_of(kubernetes: Kubernetes, account: str, namespace: str, file: Path) -> Path:
    """A kubeconfig with a token of a ServiceAccount."""
    token = kubernetes.kubectl("create", "token", account, "-n", namespace, "--duration=4h").strip()
    kubeconfig = yaml.safe_load(kubernetes.kubeconfig.read_text())
    for user in kubeconfig["users"]:
        user["user"] = {"token": token}
    file.write_text(yaml.safe_dump(kubeconfig))
    return file


@pytest.fixture(scope="session")
def operator_kubeconfig(kubernetes: Kubernetes, roles: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig of the operator's."""
    del roles
    return operator_of(kubernetes, tmp_path_factory.mktemp("operator"))


def operator_of(kubernetes: Kubernetes, folder: Path) -> Path:
    """A kubeconfig of a ServiceAccount with the rules of the chart, in all namespaces, and no others."""
    account = f"eod-operator-{secrets.token_hex(4)}"  # another test process has another
    kubernetes.kubectl("create", "serviceaccount", account)
    for name in RULES:
        binding = f"{account}{name.removeprefix('eod-operator')}"
        kubernetes.kubectl(
            "create", "clusterrolebinding", binding, f"--clusterrole={name}", f"--serviceaccount=default:{account}"
        )
    return kubeconfig_of(kubernetes, account, "default", folder / "kubeconfig")


@pytest.fixture
def confined_kubeconfig(kubernetes: Kubernetes, roles: None, world: OperatorWorld, tmp_path: Path) -> Path:
    """The same, with rights in the test's namespace alone (and kopf's discovery): the chart's watchNamespaces."""
    del roles
    account = f"{world.namespace}:confined"
    world.kubectl("create", "serviceaccount", "confined")
    for name in ("eod-operator", "eod-operator-home"):
        world.kubectl("create", "rolebinding", name, f"--clusterrole={name}", f"--serviceaccount={account}")
    binding = f"{world.namespace}-discovery"
    kubernetes.kubectl(
        "create",
        "clusterrolebinding",
        binding,
        "--clusterrole=eod-operator-discovery",
        f"--serviceaccount={account}",
    )
    return kubeconfig_of(kubernetes, "confined", world.namespace, tmp_path / "confined")


@pytest.fixture
def world(
    kubernetes: Kubernetes, kafka: Kafka, crd: None, operator_kubeconfig: Path, unique: str, tmp_path: Path
) -> Iterator[OperatorWorld]:
    """A namespace of this test's own; no operator runs in it yet."""
    del crd
    with in_namespace(kubernetes, kafka, operator_kubeconfig, unique, tmp_path) as made:
        yield made


@pytest.fixture
def lonely_world(own_kubernetes: Kubernetes, kafka: Kafka, unique: str, tmp_path: Path) -> Iterator[OperatorWorld]:
    """The same in a cluster without other tests, where an operator may see all namespaces."""
    install_crd(own_kubernetes)
    install_roles(own_kubernetes)
    with in_namespace(own_kubernetes, kafka, operator_of(own_kubernetes, tmp_path), unique, tmp_path) as made:
        yield made


@contextmanager
def in_namespace(
    kubernetes: Kubernetes, kafka: Kafka, kubeconfig: Path, namespace: str, folder: Path
) -> Iterator[OperatorWorld]:
    """A world in a new namespace."""
    kubernetes.kubectl("create", "namespace", namespace)
    made = OperatorWorld(kubernetes, kafka, namespace, kubeconfig, folder / "operator.log")
    try:
        yield made
    finally:
        for operator in made.operators:
            operator.kill()  # a stopped one, too
        kubernetes.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def topic(world: OperatorWorld) -> str:
    """Twelve partitions that nobody has consumed."""
    return world.topic("trades")


@pytest.fixture
def consumed_topic(world: OperatorWorld, topic: str) -> str:
    """The same, whose end the group of `OperatorWorld.stage` has reached."""
    world.commit(topic, f"{world.namespace}-pnl", at="end")
    return topic


@pytest.fixture
def operated(world: OperatorWorld) -> OperatorWorld:
    """The same, with the operator running."""
    world.start_operator()
    return world
