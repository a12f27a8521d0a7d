"""The rights of the operator, written from the table of what it calls: `python -m eod_operator.kube.rbac FOLDER`.

Three files, because three scopes are bound differently: the watched namespaces, the operator's own namespace, and what
kopf reads of the whole cluster. A test fails when the chart's copies drift, and the integration tests run under them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from eod_operator.kube.kinds import RESOURCES, Resource

_ORDER = ("get", "list", "watch", "create", "update", "patch", "delete")
_HEAD = "# Generated from operator/eod_operator/kube/kinds.py, which is where to edit it: make crd\n"

DISCOVERY: tuple[tuple[str, str, frozenset[str], str], ...] = (
    (
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        frozenset({"list", "watch"}),
        "kopf notices the CRD when it comes and goes",
    ),
    ("", "namespaces", frozenset({"list", "watch"}), "kopf notices namespaces that match a pattern"),
)
"""What kopf itself reads of the whole cluster: group, plural, verbs, why."""


def rule(group: str, plural: str, verbs: frozenset[str]) -> dict[str, Any]:
    """One rule of a Role."""
    return {"apiGroups": [group], "resources": [plural], "verbs": [verb for verb in _ORDER if verb in verbs]}


def rules_of(resource: Resource) -> list[dict[str, Any]]:
    """The rules of one kind and of its subresources."""
    made = [rule(resource.group, resource.plural, resource.verbs)] if resource.verbs else []
    parts = resource.subresources.items()
    return [*made, *(rule(resource.group, f"{resource.plural}/{part}", verbs) for part, verbs in parts)]


def files() -> dict[str, str]:
    """The files' texts, by their names."""
    watched = [one for one in RESOURCES.values() if not one.home]
    home = [one for one in RESOURCES.values() if one.home]
    return {
        "rules.yaml": _HEAD
        + "# What the operator does in the namespaces that it watches.\n"
        + "".join(_text(one.why, rules_of(one)) for one in watched),
        "home-rules.yaml": _HEAD
        + "# What the operator does in its own namespace.\n"
        + "".join(_text(one.why, rules_of(one)) for one in home),
        "discovery-rules.yaml": _HEAD
        + "# What kopf reads of the whole cluster.\n"
        + "".join(_text(why, [rule(group, plural, verbs)]) for group, plural, verbs, why in DISCOVERY),
    }


def _text(why: str, rules: list[dict[str, Any]]) -> str:
    """Rules as YAML, below a comment."""
    lines = [f"# {why}\n"]
    for one in rules:
        group = one["apiGroups"][0] or '""'
        lines += [
            f"- apiGroups: [{group}]\n",
            f"  resources: [{one['resources'][0]}]\n",
            f"  verbs: [{', '.join(one['verbs'])}]\n",
        ]
    return "".join(lines)


def main(folders: list[str]) -> None:
    """Write the files into the folders given, or print them."""
    for name, text in files().items():
        for folder in folders:
            Path(folder, name).write_text(text, encoding="utf-8")
        if not folders:
            sys.stdout.write(f"# {name}\n{text}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
