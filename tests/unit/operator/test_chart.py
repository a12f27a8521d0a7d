"""The charts, as far as they can be checked without Helm: values, schemas, rights, versions; see test_crd for the CRD."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from eod_operator.kube.api import Api
from eod_operator.kube.rbac import files
from eod_workers.ingestion.terms import Terms
from kubernetes import client

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts/eod-operator"
CHARTS = sorted(file.parent for file in ROOT.glob("charts/*/Chart.yaml"))
CI_VALUES = sorted(ROOT.glob("charts/*/ci/*-values.yaml"))
TYPES = {"string": str, "object": dict, "array": list, "number": (int, float), "integer": int, "boolean": bool}
UNUSED = {"global"}  # Helm gives it to a chart that is part of another

each_chart = pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)


def values_of(chart: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((chart / "values.yaml").read_text(encoding="utf-8"))
    return read


def schema_of(chart: Path) -> dict[str, Any]:
    """The schema, with every reference to one of its definitions replaced by it."""
    read: dict[str, Any] = json.loads((chart / "values.schema.json").read_text(encoding="utf-8"))
    definitions = read.pop("definitions", {})

    def resolved(node: Any) -> Any:
        if isinstance(node, list):
            return [resolved(one) for one in node]
        if not isinstance(node, dict):
            return node
        name = str(node.get("$ref", "")).removeprefix("#/definitions/")
        meant = {**definitions[name], **node} if name else node
        return {key: resolved(one) for key, one in meant.items() if key != "$ref"}

    whole: dict[str, Any] = resolved(read)
    return whole


def dependencies_of(chart: Path) -> set[str]:
    """Names of values that other charts take, and of the conditions for having them."""
    needed = yaml.safe_load((chart / "Chart.yaml").read_text(encoding="utf-8")).get("dependencies", [])
    return {one["name"] for one in needed} | {one["condition"].split(".")[0] for one in needed}


def of_type(value: Any, kind: str) -> bool:
    """Whether JSON calls a value that; Python calls true an int."""
    return isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def unfit(value: Any, schema: dict[str, Any], path: str = "values") -> list[str]:
    """Where a value has a name or a type that the schema does not know; what Helm says of it is an integration test."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(of_type(value, kind) for kind in kinds):
        return [f"{path} is no {' or '.join(kinds)}"]
    if value not in schema.get("enum", [value]):
        return [f"{path} is not one of {schema['enum']}"]
    if isinstance(value, list):
        return [wrong for at, one in enumerate(value) for wrong in unfit(one, schema["items"], f"{path}[{at}]")]
    if not isinstance(value, dict):
        return []
    known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    wrong = [f"{path}.{name} is missing" for name in schema.get("required", []) if name not in value]
    for name, one in value.items():
        if name in known:
            wrong += unfit(one, known[name], f"{path}.{name}")
        elif others is False:
            wrong.append(f"{path}.{name} is unknown")
        elif others is not True:
            wrong += unfit(one, others, f"{path}.{name}")
    return wrong


def nodes(path: str, schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema below this one, with its path."""
    for name, child in schema.get("properties", {}).items():
        yield f"{path}{name}", child
        yield from nodes(f"{path}{name}.", child)
    if "items" in schema:
        yield f"{path}[]", schema["items"]
        yield from nodes(f"{path}[].", schema["items"])


def comments(chart: Path) -> dict[str, str]:
    """Path of a value → the comment above it, which helm-docs puts into the README."""
    found: dict[str, str] = {}
    above: list[str] = []
    parents: list[str] = []
    for line in (chart / "values.yaml").read_text(encoding="utf-8").splitlines():
        if comment := re.match(r"\s*# (-- )?(.*)", line):
            above = [comment[2]] if comment[1] else [*above, comment[2]]
        elif key := re.match(r"( *)([\w-]+):", line):
            parents = [*parents[: len(key[1]) // 2], key[2]]
            if above:
                found[".".join(parents)] = " ".join(above)
            above = []
        else:
            above = []
    return found


@each_chart
def test_default_values_fit_their_schema(chart: Path) -> None:
    assert unfit(values_of(chart), schema_of(chart)) == []


@pytest.mark.parametrize("file", CI_VALUES, ids=lambda file: f"{file.parts[-3]}-{file.stem}")
def test_values_of_common_cases_fit_their_schema(file: Path) -> None:
    assert unfit(yaml.safe_load(file.read_text(encoding="utf-8")), schema_of(file.parents[1])) == []


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"replicas": "two"}, "values.replicas is no integer"),
        ({"replicas": True}, "values.replicas is no integer"),
        ({"replica": 2}, "values.replica is unknown"),
        ({"image": {"repository": "eod", "pullPolicy": "Maybe"}}, "values.image.pullPolicy is not one of"),
        ({"image": {"tag": "1"}}, "values.image.repository is missing"),
        ({"watchNamespaces": [7]}, r"values.watchNamespaces\[0\] is no string"),
        ({"podLabels": {"team": 7}}, "values.podLabels.team is no string"),
    ],
)
def test_schema_refuses_what_the_chart_does_not_know(value: dict[str, Any], sentence: str) -> None:
    (wrong,) = unfit(value, schema_of(CHART))
    assert re.match(sentence, wrong)


@each_chart
def test_every_value_is_described_and_no_other_name_is_taken(chart: Path) -> None:
    """Where Kubernetes' own objects begin, or names are the user's, any name goes; elsewhere none but ours."""
    schema = schema_of(chart)
    assert schema["additionalProperties"] is False
    for path, node in nodes("", schema):
        assert node.get("description", "").endswith("."), path
        if "properties" in node:
            assert node["additionalProperties"] is False, path


@each_chart
def test_values_and_schema_describe_each_value_alike(chart: Path) -> None:
    """The README is made from the one, an editor shows the other."""
    described = dict(nodes("", schema_of(chart)))
    assert {path: described[path]["description"] for path in comments(chart)} == comments(chart)
    settled = [path for path, node in described.items() if "properties" not in node and path not in UNUSED]
    by_hand = ("[]", "resources.", "affinity.")
    assert {path for path in settled if not any(word in path for word in by_hand)} <= set(comments(chart))


@each_chart
def test_every_value_is_in_the_schema_and_every_template_value_in_the_values(chart: Path) -> None:
    """A value that a template reads must exist, or Helm renders nothing for it without a word."""
    files = [file for file in (chart / "templates").rglob("*") if file.is_file()]
    templates = "".join(file.read_text(encoding="utf-8") for file in files)
    read = set(re.findall(r"\.Values\.([\w.]+)", templates))
    described = {path for path, _ in nodes("", schema_of(chart))}
    assert read <= described
    assert {path.split(".")[0] for path in read} | dependencies_of(chart) == set(values_of(chart))
    assert set(values_of(chart)) == set(schema_of(chart)["properties"]) - UNUSED


@each_chart
def test_charts_have_the_version_of_the_package(chart: Path) -> None:
    said = yaml.safe_load((chart / "Chart.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {said["version"], said["appVersion"]} == {project["version"]}


@each_chart
def test_no_chart_has_a_folder_that_helm_installs_once_and_never_upgrades(chart: Path) -> None:
    assert not (chart / "crds").exists()


@pytest.mark.parametrize("name", files())
def test_committed_rights_are_the_generated_ones(name: str) -> None:
    """The chart grants what the code may call, and nothing else: `make crd` writes the files."""
    assert files()[name] == (CHART / "files" / name).read_text(encoding="utf-8")


def test_rights_are_named_one_by_one() -> None:
    """No wildcard; Secrets can be read by name and not listed; pods can be looked at and not touched."""
    rules = [rule for name in files() for rule in yaml.safe_load((CHART / "files" / name).read_text(encoding="utf-8"))]
    granted = {resource: set(rule["verbs"]) for rule in rules for resource in rule["resources"]}
    assert "*" not in granted
    assert not any("*" in verbs for verbs in granted.values())
    assert (granted["secrets"], granted["pods"]) == ({"get"}, {"list"})
    assert granted["eodpipelines"] == {"get", "list", "watch"}
    assert granted["leases"] == {"get", "create", "update"}


async def test_the_code_cannot_call_what_is_not_granted() -> None:
    api = Api(client.Configuration(host="http://127.0.0.1:9"))
    try:
        with pytest.raises(PermissionError, match=r"delete of secrets is not in kube/kinds\.py"):
            await api.call("delete", "Secret", "trading", "redis")
    finally:
        await api.close()


def test_the_terms_of_a_session_are_those_that_ingestion_reads() -> None:
    """Of equal names, types and bounds; test_fix_sessions has what a pattern stands for."""
    words = ("type", "minimum", "maximum", "exclusiveMinimum")
    fields = Terms.model_json_schema()["properties"]
    meant = {name: field.get("anyOf", [field])[0] for name, field in fields.items()}  # the other one is null
    schema = schema_of(ROOT / "charts/eod")["properties"]["fix"]["properties"]["sessions"]["additionalProperties"]
    assert schema["additionalProperties"] is False
    assert {name: {word: one[word] for word in words if word in one} for name, one in schema["properties"].items()} == {
        name: {word: one[word] for word in words if word in one} for name, one in meant.items()
    }
    assert all(one["description"].endswith(".") for one in schema["properties"].values())


def test_the_readme_shows_how_to_change_one_stage_with_the_charts_own_list() -> None:
    page = (ROOT / "charts/eod/README.md").read_text(encoding="utf-8").partition("## To change one stage\n")[2]
    shown = yaml.safe_load(page.split("```")[1].removeprefix("yaml\n"))["pipeline"]["stages"]
    own = values_of(ROOT / "charts/eod")["pipeline"]["stages"]
    assert [one["name"] for one in shown] == [one["name"] for one in own]
    (changed,) = (
        name for name, *pair in zip((one["name"] for one in own), shown, own, strict=True) if pair[0] != pair[1]
    )
    assert changed == "ingestion"
