"""Every field and every check of the CRD as Markdown: `python -m eod_operator.api.reference FILE …` renews a page.

The page has a place for each, between `<!-- fields -->` and `<!-- /fields -->`, and between `<!-- rules -->` and
`<!-- /rules -->`; the rest of it is left alone. A test fails when docs/operator.md drifts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from eod_operator.api import model
from eod_operator.api.crd import Schema, crd

_RANGES = (
    ("minimum", "maximum", ""),
    ("minLength", "maxLength", " characters"),
    ("minItems", "maxItems", " entries"),
    ("minProperties", "maxProperties", " entries"),
)


def fields() -> str:
    """A table of every field of spec and status."""
    root = _root()["properties"]
    rows = [row for part in ("spec", "status") for row in _rows(part, root[part], required=part == "spec")]
    return "\n".join(["| Field | Type | Default | Allowed | Meaning |", "|---|---|---|---|---|", *rows])


def rules() -> str:
    """A list of the API server's checks: where, and in which words."""
    return "\n".join(f"- `{path}`: {message}" for path, message in _checks("", _root()))


def renewed(page: str) -> str:
    """The page with both parts made anew.

    Raises:
        ValueError: it has no place for one of them.
    """
    for name, text in (("fields", fields()), ("rules", rules())):
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, found, rest = page.partition(begin)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise ValueError(f"there is no {begin} with an {end} after it: write both where the part belongs")
        page = f"{before}{begin}\n{text}\n{end}{after}"
    return page


def _root() -> Schema:
    schema: Schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def _rows(path: str, node: Schema, *, required: bool) -> Iterator[str]:
    """A field and those below it; the entries of a list or map belong to the line of the field itself."""
    cells = (f"`{path}`", _type(node), _default(node, required=required), _allowed(node), node.get("description", ""))
    yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    place, inner = path, node
    while "items" in inner:
        place, inner = f"{place}[]", inner["items"]
    for name, child in inner.get("properties", {}).items():
        yield from _rows(f"{place}.{name}", child, required=name in inner.get("required", ()))


def _type(node: Schema) -> str:
    if node.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if "items" in node:
        return f"list of {_type(node['items'])}"
    if "additionalProperties" in node:
        return f"map of {_type(node['additionalProperties'])}"
    return "time" if node.get("format") == "date-time" else str(node["type"])


def _default(node: Schema, *, required: bool) -> str:
    if required:
        return "required"
    default = node.get("default")
    match default:
        case None | {} | []:
            return ""
        case bool():
            return f"`{str(default).lower()}`"
        case list():
            return ", ".join(f"`{one}`" for one in default)
        case _:
            return f"`{default}`"


def _allowed(node: Schema) -> str:
    said = [", ".join(f"`{one}`" for one in node["enum"])] if "enum" in node else []
    if "pattern" in node:
        said.append(model.IN_WORDS.get(node["pattern"], f"`{node['pattern']}`"))
    if "enum" not in node:
        said += [_range(node.get(low), node.get(high), unit) for low, high, unit in _RANGES]
    if node.get("x-kubernetes-list-type") == "set":
        said.append("no entry twice")
    said += [f"no {key} twice" for key in node.get("x-kubernetes-list-map-keys", ())]
    below = node.get("items") or node.get("additionalProperties")
    if below and "properties" not in below:
        each = _allowed(below)
        said.append(f"each {each}" if each else "")
    return "; ".join(filter(None, said))


def _range(low: int | None, high: int | None, unit: str) -> str:
    if high is None:
        return "" if not low else f"at least {low}{unit}"
    return f"{low} to {high}{unit}" if low is not None else f"at most {high}{unit}"


def _checks(path: str, node: Schema) -> Iterator[tuple[str, str]]:
    for check in node.get("x-kubernetes-validations", ()):
        place = f"{path}{check.get('fieldPath', '')}".lstrip(".") or "metadata.name"
        yield place, check["message"]
    for name, child in node.get("properties", {}).items():
        yield from _checks(f"{path}.{name}", child)
    if isinstance(node.get("items"), dict):
        yield from _checks(f"{path}[]", node["items"])


def main(files: list[str]) -> None:
    """Renew the pages given, or print both parts."""
    for file in files:
        page = Path(file)
        page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")
    if not files:
        sys.stdout.write(f"{fields()}\n\n{rules()}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
