"""A real operator process, confined to the chart's own RBAC rules, in a namespace of the test's own."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from operator_world import World, eventually
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


@pytest.fixture(scope="session")
def operator_kubeconfig(kubernetes: Kubernetes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig of a ServiceAccount with the rules of the chart and no others."""
    kubernetes.kubectl("create", "serviceaccount", "eod-operator")
    for name, file in (("eod-operator", "rules"), ("eod-operator-discovery", "discovery-rules")):
        rules = yaml.safe_load((ROOT / f"charts/eod-operator/files/{file}.yaml").read_text())
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}}
        kubernetes.kubectl("apply", "-f", "-", input=json.dumps({**role, "rules": rules}))
        kubernetes.kubectl(
            "create", "clusterrolebinding", name, f"--clusterrole={name}", "--serviceaccount=default:eod-operator"
        )
    token = kubernetes.kubectl("create", "token", "eod-operator", "--duration=4h").strip()
    kubeconfig = yaml.safe_load(kubernetes.kubeconfig.read_text())
    for user in kubeconfig["users"]:
        user["user"] = {"token": token}
    file = tmp_path_factory.mktemp("operator") / "kubeconfig"
    file.write_text(yaml.safe_dump(kubeconfig))
    return file


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
            operator.kill()
            operator.wait()
        kubernetes.kubectl("delete", "namespace", unique, "--wait=false")
        if made.log.exists():
            sys.stdout.write(made.log.read_text())  # pytest shows it when the test has failed


@pytest.fixture
def operated(world: World) -> World:
    """The same, with the operator running."""
    world.start_operator()
    return world
