"""The Tiltfile is evaluated by a Starlark interpreter against stand-ins that take what Tilt's API reference documents."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import starlark as sl
import yaml

ROOT = Path(__file__).resolve().parents[3]

# Parameter names of docs.tilt.dev/api.html, for the functions that the Tiltfile may use.
API = {
    "allow_k8s_contexts": {"contexts"},
    "docker_build": {"ref", "context", "build_args", "dockerfile", "live_update", "ignore", "only", "target", "platform"},
    "k8s_yaml": {"yaml", "allow_duplicates"},
    "helm": {"pathToChartDir", "name", "namespace", "values", "set", "kube_version", "skip_crds"},
    "k8s_kind": {"kind", "api_version", "image_json_path", "image_object", "pod_readiness"},
    "k8s_resource": {
        "workload", "new_name", "port_forwards", "extra_pod_selectors", "trigger_mode", "resource_deps", "objects",
        "auto_init", "pod_readiness", "links", "labels", "discovery_strategy",
    },
    "local_resource": {
        "name", "cmd", "deps", "trigger_mode", "resource_deps", "ignore", "auto_init", "serve_cmd", "labels", "env",
        "dir", "allow_parallel", "links", "readiness_probe",
    },
}  # fmt: skip


def evaluate(text: str) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """The calls that a Tiltfile makes, in order."""
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    module = sl.Module()

    def stand_in(name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> str:
            unknown = kwargs.keys() - API[name]
            if unknown:
                raise TypeError(f"{name} has no parameter {sorted(unknown)}")
            calls.append((name, args, kwargs))
            return f"{name}:{args[0]}"

        return call

    for name in API:
        module.add_callable(name, stand_in(name))
    module["TRIGGER_MODE_MANUAL"] = "manual"
    sl.eval(module, sl.parse("Tiltfile", text), sl.Globals.standard())
    return calls


def test_it_uses_only_documented_functions_and_parameters_and_names_files_that_exist() -> None:
    calls = evaluate((ROOT / "Tiltfile").read_text())
    by_name = {name for name, _, _ in calls}
    assert {"docker_build", "k8s_yaml", "helm", "k8s_kind"} <= by_name
    for name, args, kwargs in calls:
        paths = [args[0]] if name in {"k8s_yaml", "helm"} else kwargs.get("only", []) if name == "docker_build" else []
        for path in paths:
            if not str(path).startswith("helm:"):
                assert (ROOT / path).exists(), f"{name} names {path}, which does not exist"


def test_the_resources_it_configures_are_those_that_the_yaml_makes() -> None:
    calls = evaluate((ROOT / "Tiltfile").read_text())
    example = yaml.safe_load((ROOT / "examples/eodpipeline.yaml").read_text())
    image = next(args[0] for name, args, _ in calls if name == "docker_build")
    assert example["spec"]["image"].split(":")[0] == image
    helpers = (ROOT / "charts/eod-operator/templates/_helpers.tpl").read_text()
    release = next(kwargs["name"] for name, _, kwargs in calls if name == "helm")
    assert re.search(r'printf "%s-%s" \.Release\.Name \$name', helpers)
    known = {example["metadata"]["name"], f"{release}-eod-operator"}
    assert {args[0] for name, args, _ in calls if name == "k8s_resource"} == known


def test_an_undocumented_parameter_is_refused() -> None:
    with pytest.raises(sl.StarlarkError, match="k8s_resource has no parameter"):
        evaluate("k8s_resource('x', ports=1)")
