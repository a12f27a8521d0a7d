"""The chart, as far as it can be checked without Helm: its CRD (see test_crd), schema, rules and versions."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from eod_operator.apply import PATHS

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts/eod-operator"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
TYPES = {"string": str, "object": dict, "array": list, "number": (int, float), "boolean": bool}


def unfit(value: Any, schema: dict[str, Any], path: str = "values") -> list[str]:
    """Where a value does not fit the part of JSON Schema that the chart's schema uses."""
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{path} is not one of {schema['enum']}"]
    if not isinstance(value, TYPES[schema["type"]]):
        return [f"{path} is no {schema['type']}"]
    wrong = []
    if isinstance(value, dict):
        known = schema.get("properties", {})
        if schema.get("additionalProperties") is False:
            wrong += [f"{path}.{name} is unknown" for name in value if name not in known]
        for name, child in known.items():
            if name in value:
                wrong += unfit(value[name], child, f"{path}.{name}")
    return wrong


def test_default_values_fit_their_schema() -> None:
    assert unfit(VALUES, SCHEMA) == []


@pytest.mark.parametrize("value", [{"replicas": 2}, {"intervalSeconds": "soon"}, {"image": {"pullPolicy": "Maybe"}}])
def test_schema_refuses_what_the_chart_does_not_know(value: dict[str, Any]) -> None:
    assert unfit(value, SCHEMA)


def test_every_value_is_in_the_schema_and_every_template_value_in_the_values() -> None:
    """A value that a template reads must exist, or Helm renders nothing for it without a word."""
    templates = "".join(file.read_text(encoding="utf-8") for file in (CHART / "templates").iterdir())
    read = {word.split(".")[2].strip("})") for word in templates.split() if word.lstrip("(").startswith(".Values.")}
    assert read <= set(SCHEMA["properties"])
    assert read - set(VALUES) <= {"nameOverride", "fullnameOverride"}
    assert set(VALUES) <= read


def test_chart_has_the_version_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {chart["version"], chart["appVersion"]} == {project["version"]}


def test_rules_grant_what_the_code_writes_and_nothing_wild() -> None:
    """No wildcard, no secrets, no pods; every kind that apply.py touches is there."""
    rules = yaml.safe_load((CHART / "files/rules.yaml").read_text(encoding="utf-8"))
    granted = {resource: set(rule["verbs"]) for rule in rules for resource in rule["resources"]}
    assert not {"*", "secrets", "pods"} & set(granted)
    assert not any("*" in verbs for verbs in granted.values())
    touched = {path.rsplit("/", 1)[-1] for path in PATHS.values()}
    assert touched <= set(granted)
    assert granted["eodpipelines"] == {"get", "list", "watch"}
