"""The CustomResourceDefinition, generated from the models: `python -m eod_operator.api.crd FILE …` writes it.

It is kept twice, in crds/ for kubectl and as a template in charts/eod-crds/templates/ for Helm, which never upgrades
what is in a chart's own crds/ folder; a test fails when either drifts.

Kubernetes wants a structural schema: no $ref, no anyOf for "or null", no exclusive bounds, defaults as plain
values. Pydantic's JSON schema is one rewrite away from that.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from eod_operator.api import API_VERSION, GROUP, KIND, PLURAL, VERSION, PipelineSpec, PipelineStatus
from eod_operator.api.model import rule

SHORT_NAME = "eodp"
_DROPPED = ("title", "examples", "additionalProperties")
HEADER = """# Generated from operator/eod_operator/api, which is where to edit it:
# make crd
"""
_TEMPLATE_METADATA = """  labels:
    app.kubernetes.io/name: {{ .Chart.Name }}
    app.kubernetes.io/instance: {{ .Release.Name }}
    app.kubernetes.io/component: crd
    app.kubernetes.io/part-of: eod
    app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
    app.kubernetes.io/managed-by: {{ .Release.Service }}
    helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
  {{- if .Values.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
"""

Schema = dict[str, Any]


def crd() -> Schema:
    """The whole CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": [SHORT_NAME],
                "categories": ["eod"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": _columns(),
                    "schema": {"openAPIV3Schema": _root()},
                }
            ],
        },
    }


def as_yaml() -> str:
    """The same as the text of crds/eodpipeline.yaml."""
    return HEADER + yaml.safe_dump(crd(), sort_keys=False, width=110, allow_unicode=True)


def as_template() -> str:
    """The same as a template of the chart, which adds labels and, unless told otherwise, keeps it for ever."""
    before, name, after = as_yaml().partition(f"  name: {PLURAL}.{GROUP}\n")
    if "{{" in after:
        raise ValueError("a description or rule holds {{, which Helm would take for its own")
    return before + name + _TEMPLATE_METADATA + after


def _root() -> Schema:
    return {
        "type": "object",
        "description": "A trading day's pipeline: stages over one Kafka, sized before each close.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{API_VERSION}."},
            "kind": {"type": "string", "description": f"{KIND}."},
            "metadata": {"type": "object"},
            "spec": structural(PipelineSpec.model_json_schema(by_alias=True)),
            "status": structural(PipelineStatus.model_json_schema(by_alias=True, mode="serialization")),
        },
        "x-kubernetes-validations": [
            rule(
                "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 38",
                "metadata.name must start with a letter, hold only a-z, 0-9 and -, and have at most 38 characters: "
                "Deployments and Services are named after it",
            )
        ],
    }


def _columns() -> list[Schema]:
    def column(name: str, kind: str, path: str, **more: Any) -> Schema:
        return {"name": name, "type": kind, "jsonPath": path, **more}

    return [
        column("Phase", "string", ".status.phase", description="The pipeline in one word."),
        column("Mode", "string", ".spec.mode", description="Auto, Preview or Paused."),
        column("Lag", "integer", ".status.lag", description="Unconsumed records of all stages."),
        column("Replicas", "integer", ".status.replicas", description="Replicas of all stages."),
        column("Next Close", "string", ".status.nextClose", description="The next close of the calendar."),
        column("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', description="Whether all is well."),
        column("Age", "date", ".metadata.creationTimestamp"),
        column("Desired", "integer", ".status.desired", priority=1, description="Replicas that were decided."),
        column(
            "Behind", "number", ".status.lagSeconds", priority=1, description="Age of the oldest unconsumed record."
        ),
        column("Limited", "string", '.status.conditions[?(@.type=="ScalingLimited")].reason', priority=1),
        column("Message", "string", '.status.conditions[?(@.type=="Ready")].message', priority=1),
    ]


def structural(schema: Schema) -> Schema:
    """Rewrite one of pydantic's JSON schemas as a structural schema."""
    return _rewrite(schema, schema.get("$defs", {}))


def _rewrite(node: Schema, defs: Schema) -> Schema:
    node = {key: value for key, value in node.items() if key != "$defs"}
    if "$ref" in node:
        target = defs[node.pop("$ref").rsplit("/", 1)[-1]]
        node = {**target, **node}  # the field's own description wins over that of its class
    if node.get("x-kubernetes-int-or-string"):
        return {key: node[key] for key in ("pattern", "x-kubernetes-int-or-string")}
    if "anyOf" in node:
        node = _without_null(node)
        return _rewrite(node, defs)
    if "const" in node:
        node["enum"] = [node.pop("const")]
    return _shape(node, defs)


def _without_null(node: Schema) -> Schema:
    """Kubernetes has absent fields where pydantic has `X | None = None`."""
    (choice,) = [option for option in node["anyOf"] if option != {"type": "null"}]
    rest = {key: value for key, value in node.items() if key != "anyOf"}
    if rest.get("default", ...) is None:
        del rest["default"]
    return {**choice, **rest}


def _shape(node: Schema, defs: Schema) -> Schema:
    shaped: Schema = {}
    for key in ("type", "description", "format", "enum", "pattern", "default"):
        if key in node and node[key] != []:
            shaped[key] = node[key]
    if isinstance(shaped.get("default"), dict):
        shaped["default"] = {}  # the API server then fills in the defaults of its fields
    if "properties" in node:
        shaped["required"] = list(node.get("required", []))
        shaped["properties"] = {name: _rewrite(child, defs) for name, child in node["properties"].items()}
        if not shaped["required"]:
            del shaped["required"]
    elif isinstance(node.get("additionalProperties"), dict):
        shaped["additionalProperties"] = _rewrite(node["additionalProperties"], defs)
    if "items" in node:
        shaped["items"] = _rewrite(node["items"], defs)
    known = {"required", "properties", "additionalProperties", "items", *_DROPPED}
    shaped.update({key: value for key, value in node.items() if key not in (*known, *shaped, "default")})
    return shaped


def main(files: list[str]) -> None:
    """Write the CRD to the files given, as a template to those in a folder templates/, or to standard output."""
    for file in map(Path, files):
        file.write_text(as_template() if file.parent.name == "templates" else as_yaml(), encoding="utf-8")
    if not files:
        sys.stdout.write(as_yaml())


if __name__ == "__main__":
    main(sys.argv[1:])
