"""What the API server would refuse of a pipeline, told without one.

The models say most of it, in the sentences that the operator uses too. They are more generous than the API server,
though: "3" passes for 3, a snake_case name for its field. So the manifest is held against the CRD's own schema as well,
and what only that finds is added. Checks that compare a pipeline with its former self need that self, and are left out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import ValidationError

from eod_operator.api import PipelineSpec
from eod_operator.api.crd import crd
from eod_operator.api.exchanges import EXCHANGES
from eod_operator.api.model import DNS_LABEL
from eod_operator.api.spec import findings
from eod_operator.scaling.calendar import unknown_exchange

Path = tuple[str | int, ...]
Finding = tuple[Path, str]
Schema = Mapping[str, Any]

NAME_LENGTH = 38
"""Of metadata.name: the longest stage's name and a dash still fit into a DNS label with it."""
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_ONE_OF_TWO = re.compile(r"has\(self\.(\w+)\) != has\(self\.(\w+)\)")
_NONE_OF = re.compile(r"!\(self\.(\w+) in \[(.*)\]\)")
_QUOTED = re.compile(r"'([^']*)'")
_KINDS = {"object": dict, "array": list, "string": str, "boolean": bool}


def refusals(manifest: Mapping[str, Any]) -> list[str]:
    """A sentence for each thing that is wrong with a pipeline's manifest, its path first; none when it is fine."""
    schema = _schema()
    name = named(manifest)
    told = []
    if not name:
        told.append("metadata.name is missing")
    elif len(name) > NAME_LENGTH or not re.fullmatch(DNS_LABEL, name):
        told.append(str(schema["x-kubernetes-validations"][0]["message"]))
    spec = without_nulls(manifest.get("spec") or {})
    known: list[Finding] = []
    try:
        PipelineSpec.model_validate(spec)
    except ValidationError as error:
        known = list(findings(error))
        told += [sentence for _, sentence in known]
    for path, sentence in _findings((), spec, schema["properties"]["spec"]):
        if not any(_same(path, place, words) for place, words in known):
            told.append(f"{'.'.join(['spec', *map(str, path)])}: {sentence}")
    return told


def named(manifest: Mapping[str, Any]) -> str:
    """metadata.name; empty without one."""
    meta = manifest.get("metadata")
    return str(meta.get("name") or "") if isinstance(meta, dict) else ""


def without_nulls(value: Any) -> Any:
    """The value without fields that are null, which the API server drops before it looks at anything."""
    if isinstance(value, dict):
        return {key: without_nulls(one) for key, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


@cache
def _schema() -> Schema:
    schema: Schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def _same(path: Path, place: Path, words: str) -> bool:
    """Whether the models have said this already: at the same place, or above it and by name."""
    return path[: len(place)] == place and (len(path) == len(place) or str(path[len(place)]) in words)


def _findings(path: Path, value: object, node: Schema) -> Iterator[Finding]:
    """What the structural schema refuses at a place and below it."""
    wrong = _wrong_type(value, node)
    if wrong:
        yield path, wrong
        return
    if isinstance(value, dict):
        yield from _of_object(path, value, node)
    elif isinstance(value, list):
        yield from _of_list(path, value, node)
    elif isinstance(value, str):
        yield from ((path, sentence) for sentence in _of_text(value, node))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if value < node.get("minimum", value):
            yield path, f"must not be below {node['minimum']}"
        if value > node.get("maximum", value):
            yield path, f"must not be above {node['maximum']}"
    if "enum" in node and value not in node["enum"]:
        yield path, f"must be one of {', '.join(map(str, node['enum']))}"


def _wrong_type(value: object, node: Schema) -> str | None:
    if node.get("x-kubernetes-int-or-string"):
        fits, wanted = isinstance(value, str | int) and not isinstance(value, bool), "integer or string"
    elif node["type"] in _KINDS:
        wanted = node["type"]
        fits = isinstance(value, _KINDS[wanted])
    else:
        wanted = node["type"]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = number and (wanted == "number" or float(str(value)).is_integer())
    return None if fits else f"must be of type {wanted}, not {value!r}"


def _of_object(path: Path, value: Mapping[str, Any], node: Schema) -> Iterator[Finding]:
    fields: Mapping[str, Schema] = node.get("properties", {})
    for name in node.get("required", ()):
        if name not in value:
            yield (*path, name), "is required"
    if len(value) > node.get("maxProperties", len(value)):
        yield path, f"must have at most {node['maxProperties']} entries"
    for name, one in value.items():
        below = fields.get(name, node.get("additionalProperties"))
        if below is None:
            near = difflib.get_close_matches(str(name), fields, n=1)
            yield (*path, name), f"there is no such field{f': did you mean {near[0]}?' if near else ''}"
        else:
            yield from _findings((*path, name), one, below)
    if path == ("calendar",) and value.get("exchange", EXCHANGES[0]) not in EXCHANGES:
        yield (*path, "exchange"), unknown_exchange(str(value["exchange"]), EXCHANGES)
    for check in node.get("x-kubernetes-validations", ()):
        if not _holds(check["rule"], value):
            yield (*path, *filter(None, [check.get("fieldPath", "").lstrip(".")])), check["message"]


def _holds(rule: str, value: Mapping[str, Any]) -> bool:
    """Whether a CEL check holds; those of other forms than these two are the models' own."""
    if two := _ONE_OF_TWO.fullmatch(rule):
        return (two[1] in value) != (two[2] in value)
    if none := _NONE_OF.fullmatch(rule):
        return value.get(none[1]) not in _QUOTED.findall(none[2])
    return True


def _of_list(path: Path, value: Sequence[Any], node: Schema) -> Iterator[Finding]:
    if len(value) < node.get("minItems", 0):
        yield path, f"must have at least {node['minItems']} entries"
    if len(value) > node.get("maxItems", len(value)):
        yield path, f"must have at most {node['maxItems']} entries"
    for number, one in enumerate(value):
        yield from _findings((*path, number), one, node["items"])
    match node.get("x-kubernetes-list-type"):
        case "set":
            keys = [str(one) for one in value]
        case "map":
            names = node["x-kubernetes-list-map-keys"]
            keys = [", ".join(str(one.get(name)) for name in names) for one in value if isinstance(one, dict)]
        case _:
            return
    for twice in dict.fromkeys(key for key in keys if keys.count(key) > 1):
        yield path, f"{twice!r} is given {keys.count(twice)} times"


def _of_text(value: str, node: Schema) -> Iterator[str]:
    if len(value) < node.get("minLength", 0):
        yield f"must have at least {node['minLength']} characters"
    if len(value) > node.get("maxLength", len(value)):
        yield f"must have at most {node['maxLength']} characters"
    if "pattern" in node and not re.search(node["pattern"], value):
        yield f"{value!r} does not match {node['pattern']}"
    if node.get("format") == "date-time" and not _TIME.fullmatch(value):
        yield f"{value!r} is not a time of RFC 3339, such as 2026-11-27T13:00:00-05:00"
