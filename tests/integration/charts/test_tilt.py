"""What the Tiltfile and 'make kind-up' name of the charts, held against what Helm renders with their values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from eod_operator.resources import LABEL_PIPELINE
from support.chart_release import API, ROOT
from support.tilt_api import Blob, TiltWorld, evaluate
from testbed.errors import CommandFailed
from testbed.helm import Helm
from testbed.kubernetes import Kubernetes

Run = Callable[[list[str]], str]


@pytest.fixture
def run(helm: Helm, charts: Path) -> Run:
    """Runs the Helm commands of the Tiltfile on charts that have what they depend on, without a cluster."""

    def ran(words: list[str], kubeconfig: Path | None = None) -> str:
        assert words[0] == "helm"
        if words[1] == "dependency":
            return ""  # the copy has them
        own = ("--kube-context", "--dry-run") if kubeconfig is None else ("--kube-context",)
        args = [
            str(charts / word.removeprefix("charts/")) if word.startswith("charts/") else word for word in words[1:]
        ]
        args = [arg.replace("=tools/", f"={ROOT}/tools/") for arg in args if not arg.startswith(own)]
        return helm(*args, kubeconfig=kubeconfig)

    return ran


def evaluated(run: Run, mode: Literal["up", "ci"] = "up") -> TiltWorld:
    text = (ROOT / "Tiltfile").read_text(encoding="utf-8")
    return evaluate(text, TiltWorld(mode, {"ACCEPT_EULA": "Y"}, lambda path: (ROOT / path).exists(), run))


def objects(world: TiltWorld) -> list[dict[str, Any]]:
    """All that Tilt would apply."""
    texts = [one.text for one in world.yaml if isinstance(one, Blob)]
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


def containers(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Of a workload, as Tilt finds them; none of what is no workload."""
    spec = found.get("spec", {})
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    listed: list[dict[str, Any]] = spec.get("template", {}).get("spec", {}).get("containers", [])
    return listed


@pytest.mark.parametrize("mode", ["up", "ci"])
def test_each_workload_is_a_resource_and_each_resource_a_workload(run: Run, mode: Literal["up", "ci"]) -> None:
    world = evaluated(run, mode)
    made = objects(world)
    workloads = {one["metadata"]["name"]: one for one in made if containers(one) or one["kind"] in world.kinds}
    resources = {resource.name for resource in world.resources.values() if not resource.cmd}
    assert workloads.keys() == resources
    for name, workload in workloads.items():
        listening = {port["containerPort"] for one in containers(workload) for port in one.get("ports") or ()}
        assert {one.container_port for one in world.resources[name].port_forwards} <= listening, name
    assert {one["kind"] for one in made} >= {"Namespace", "CustomResourceDefinition", "EodPipeline"}
    spaces = {one["metadata"].get("namespace", "eod") for one in made}
    assert spaces == {"eod"} == {one["metadata"]["name"] for one in made if one["kind"] == "Namespace"}


def test_the_built_image_is_where_tilt_looks_for_it(run: Run) -> None:
    world = evaluated(run)
    (image,) = world.images
    (pipeline,) = (one for one in objects(world) if one["kind"] == "EodPipeline")
    assert world.kinds == {"EodPipeline": "{.spec.image}"}
    assert pipeline["spec"]["image"].split(":")[0] == image.ref
    ours = [one for found in objects(world) for one in containers(found) if one["image"].split(":")[0] == image.ref]
    assert len(ours) == 4  # the operator, two Jobs, the reconciliation
    resource = world.resources[pipeline["metadata"]["name"]]
    assert resource.pod_selectors == [{LABEL_PIPELINE: pipeline["metadata"]["name"]}]


def test_pods_that_change_while_they_run_can_write_where_the_code_comes_to(run: Run) -> None:
    world = evaluated(run)
    (operator,) = (one for one in objects(world) if one["metadata"]["name"] == "eod-operator" and containers(one))
    (container,) = containers(operator)
    (pipeline,) = (one for one in objects(world) if one["kind"] == "EodPipeline")
    for env in (container["env"], pipeline["spec"]["config"]["env"]):
        told = {one["name"]: one.get("value") for one in env}
        assert (told["EOD_LIVE_PATH"], told["PYTHONPATH"]) == ("/tmp/live", "/tmp/live")
    assert {"name": "tmp", "mountPath": "/tmp"} in container[
        "volumeMounts"
    ]  # of the stages: a test of their Deployment


@pytest.mark.slow
@pytest.mark.kubernetes
def test_another_look_at_the_tiltfile_keeps_the_passwords(
    run: Callable[..., str], kubernetes: Kubernetes, crds: None
) -> None:
    """Made by chance at first, found in the cluster from then on: else the stores would refuse the stages."""
    del crds

    def secrets() -> dict[str, Any]:
        world = evaluated(lambda words: run(words, kubernetes.kubeconfig))
        return {one["metadata"]["name"]: one for one in objects(world) if one["kind"] == "Secret"}

    kubernetes.kubectl("create", "namespace", "eod")
    try:
        first = secrets()
        assert len(first) == 3
        kubernetes.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(first.values()))
        assert secrets() == first
        kubernetes.kubectl("--namespace=eod", "delete", "secret", *first)
        second = secrets()
        assert all(second[name]["data"] != one["data"] for name, one in first.items())
    finally:
        kubernetes.kubectl("delete", "namespace", "eod", "--wait=false")


def test_the_values_of_kind_up_are_taken_with_the_licence_and_refused_without(helm: Helm, charts: Path) -> None:
    words = ("template", "eod", charts / "eod", API, f"--values={ROOT}/tools/kind-values.yaml", "--namespace=eod")
    rendered = helm(
        *words, "--set=eod-stores.sqlserver.acceptEula=true", "--set=image.tag=dev-1,eod-operator.image.tag=dev-1"
    )
    assert "eod:dev-1" in rendered
    assert "volumeClaimTemplates" not in rendered
    (fix,) = (one for one in yaml.safe_load_all(rendered) if one and one["metadata"]["name"] == "eod-fix")
    assert fix["spec"]["ports"][0]["nodePort"] == 30876
    with pytest.raises(CommandFailed, match=r"sqlserver\.acceptEula is false"):
        helm(*words)
