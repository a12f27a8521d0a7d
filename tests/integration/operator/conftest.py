"""A real operator process, confined to the chart's own RBAC rules, in a namespace of the test's own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from operator_world import World
from patience import eventually
from testbed.kafka import Kafka
from testbed.kubernetes import Kubernetes

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def crd(kubernetes: Kubernetes) -> None:
    """The CRD as committed, established and served."""
    kubernetes.kubectl("apply", "--server-side", "-f", str(ROOT / "crds/eodpipeline.yaml"))
    kubernetes.kubectl("wait", "--for=condition=Established", "crd/eodpipelines.eod.markets")
    eventually(lambda: kubernetes.kubectl("get", "eodp", "-A") is not None)
    time.sleep(1)  # the storage of a new CRD answers 429 for a moment


RULES = {"eod-operator": "rules", "eod-operator-home": "home-rules", "eod-operator-discovery": "discovery-rules"}
"""ClusterRoles, and the files of the chart that hold their rules."""


@pytest.fixture(scope="session")
def roles(kubernetes: Kubernetes) -> None:
    """The chart's rules as ClusterRoles, bound to nobody."""
    for name, file in RULES.items():
        rules = yaml.safe_load((ROOT / f"charts/eod-operator/files/{file}.yaml").read_text())
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}}
        kubernetes.kubectl("apply", "-f", "-", input=json.dumps({**role, "rules": rules}))


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
    """A kubeconfig of a ServiceAccount with the rules of the chart, in all namespaces, and no others."""
    del roles
    kubernetes.kubectl("create", "serviceaccount", "eod-operator")
    for name in RULES:
        kubernetes.kubectl(
            "create", "clusterrolebinding", name, f"--clusterrole={name}", "--serviceaccount=default:eod-operator"
        )
    file = tmp_path_factory.mktemp("operator") / "kubeconfig"
    return kubeconfig_of(kubernetes, "eod-operator", "default", file)


@pytest.fixture
def confined_kubeconfig(kubernetes: Kubernetes, roles: None, world: World, tmp_path: Path) -> Path:
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
) -> Iterator[World]:
    """A namespace of this test's own; no operator runs in it yet."""
    del crd
    kubernetes.kubectl("create", "namespace", unique)
    made = World(kubernetes, kafka, unique, operator_kubeconfig, tmp_path / "operator.log")
    try:
        yield made
    finally:
        for operator in made.operators:
            operator.kill()  # a stopped one, too
        kubernetes.kubectl("delete", "namespace", unique, "--wait=false")


@pytest.fixture
def topic(world: World) -> str:
    """Twelve partitions that nobody has consumed."""
    return world.topic("trades")


@pytest.fixture
def consumed_topic(world: World, topic: str) -> str:
    """The same, whose end the group of `World.stage` has reached."""
    world.commit(topic, f"{world.namespace}-pnl", at="end")
    return topic


@pytest.fixture
def operated(world: World) -> World:
    """The same, with the operator running."""
    world.start_operator()
    return world
