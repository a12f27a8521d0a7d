"""The README's section for a cluster, word by word, on a cluster that has what it presupposes: images, and volumes."""

from __future__ import annotations

import os
import re
import subprocess
from functools import partial

import pytest
import yaml
from testbed.kubernetes import Kubernetes

from e2e.images import OLD, ROOT, STORES
from e2e.world import CHARTS, ClusterWorld, eventually

pytestmark = pytest.mark.timeout(600)

_CLAIMS = 4
_VOLUME_GIB = 100


def _commands() -> list[str]:
    section = (ROOT / "README.md").read_text().partition("## On a cluster")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    lines = block.replace("\\\n", " ").splitlines()
    return [line.partition("  #")[0].strip() for line in lines]


def _published() -> dict[str, str]:
    """The public image that each store's values name → what stands for it here, where nothing can be pulled."""
    values = yaml.safe_load((CHARTS / "eod-stores/values.yaml").read_text())
    return {
        f"{values[store]['image']['repository']}:{values[store]['image']['tag']}": own for store, own in STORES.items()
    }


def _volumes(world: ClusterWorld) -> str:
    """What a provisioner would make, as this cluster has none."""
    made = []
    for number in range(_CLAIMS):
        path = f"/var/volumes/{number}"
        world.docker("exec", f"{world.kind.name}-control-plane", "mkdir", "-p", "-m", "0777", path)
        made.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": f"volume-{number}"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "capacity": {"storage": f"{_VOLUME_GIB}Gi"},
                    "storageClassName": "standard",
                    "hostPath": {"path": path},
                },
            }
        )
    return yaml.safe_dump_all(made)


def test_its_commands_make_a_pipeline_that_works(world: ClusterWorld) -> None:
    """Only `make image charts` is left out: the image was built by the same Dockerfile, on bases that need no registry.

    At a real close the pipeline is scaled for it, and one small node has no room for all of that.
    """
    images = {"eod:dev": OLD, **_published()}
    for name, own in images.items():
        world.kind.tag(own, name)
    world.kind.kubectl("apply", "-f", "-", input=_volumes(world))
    made, *commands = _commands()
    assert made == "make image charts"
    path = f"{ROOT / '.venv/bin'}:{world.helm_program.fetch()}:{Kubernetes.fetch()}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "KUBECONFIG": str(world.kind.kubeconfig), "HOME": str(world.folder)}
    said = {}
    for command in commands:
        if command.startswith("kubectl --namespace eod get eodp"):
            eventually(partial(world.why_not_ready, on_any_node=True))
        run = subprocess.run(["bash", "-c", command], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert run.returncode == 0, f"{command}\n{run.stdout}\n{run.stderr}"
        said[command] = run.stdout
    assert "us-equities" in said["kubectl --namespace eod get eodp"]
    assert "flash-pnl" in next(out for command, out in said.items() if command.startswith("kubectl eod explain"))
    world.kubectl("wait", "--for=condition=Complete", "job/reconcile-now", "--timeout=120s")
    assert "equal: every store holds what the log says" in world.kubectl("logs", "job/reconcile-now")


def test_uninstalling_leaves_the_data_and_the_keys_to_it(world: ClusterWorld) -> None:
    """Volumes, the Secrets without which they cannot be opened, and the CRD: without it every pipeline would go."""
    world.helm("uninstall", "eod", "--wait")
    world.helm("uninstall", "eod-crds", "--wait")
    assert len(world.get("pvc")["items"]) == _CLAIMS
    kept = {one.partition("/")[2] for one in world.kubectl("get", "secrets", "-o", "name").split()}
    assert {"eod-stores", "eod-stores-servers", "eod-stores-kafka"} <= kept
    eventually(lambda: world.get("pods")["items"] and "pods are still there", within_s=120)
    assert world.kind.kubectl("get", "crd", "eodpipelines.eod.markets", "-o", "name")
