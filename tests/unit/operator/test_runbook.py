"""docs/operator.md has a row for each reason, Event and metric that the code can emit, and none for any other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import eod_operator
import pytest
from eod_operator.conditions import SUMMARIES, TOLD

SOURCES = Path(eod_operator.__file__).parent
PAGE = (Path(__file__).parents[3] / "docs/operator.md").read_text(encoding="utf-8")
TYPES = {*SUMMARIES, *TOLD, "LagKnown"}
_CAMEL = re.compile(r"[A-Z][a-z]+([A-Z][a-z]+)*")

Call = tuple[Path, ast.Call]


def part(title: str) -> str:
    """What is under a heading of the second level."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[str]:
    """The first cells of tables, where they are code."""
    return re.findall(r"^\| `([^`]+)` \|", text, flags=re.MULTILINE)


RUNBOOK = {one.split("\n")[0]: rows(one) for one in part("Runbook").split("\n### ")[1:]}


@cache
def every_call() -> list[tuple[str, Call]]:
    """Name, module and node of each call anywhere in the operator."""
    return [
        (node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", ""), (path, node))
        for path in sorted(SOURCES.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]


def calls(*names: str) -> Iterator[Call]:
    """Calls of these functions (or methods) anywhere in the operator."""
    return (call for called, call in every_call() if called in names)


def words(path: Path, node: ast.expr) -> set[str]:
    """The words that a reason may be: written out, from a table of the module, or passed on from another."""
    if isinstance(node, ast.Constant):
        return {node.value}
    if isinstance(node, ast.Attribute) and node.attr == "reason":
        return set()  # of a Problem, an Answer or a Condition that was made elsewhere
    module = import_module(".".join(["eod_operator", *path.relative_to(SOURCES).with_suffix("").parts]))
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        return set(getattr(module, node.value.id).values())
    if isinstance(node, ast.Name) and node.id == "reason":
        return set(module._ADVICE)  # which is asked for each reason
    pytest.fail(f"{path.name}:{node.lineno}: a reason that this test cannot follow: {ast.unparse(node)}")


def reasons() -> set[str]:
    """Every reason that a condition may have."""
    found = set()
    for path, call in calls("Problem"):
        found |= words(path, call.args[0])
    for path, call in calls("Answer"):
        found |= words(path, call.args[2])
    return found


def written_out() -> Iterator[tuple[str, str]]:
    """Condition type and reason, where both stand in one call."""
    for _, call in calls("Answer"):
        kind, reason = call.args[0], call.args[2]
        if isinstance(kind, ast.Constant) and isinstance(reason, ast.Constant):
            yield kind.value, reason.value
    for _, call in calls("answer"):
        kind, good = call.args[0], call.args[2]
        if isinstance(kind, ast.Constant) and isinstance(good, ast.Call) and isinstance(good.args[0], ast.Constant):
            yield kind.value, good.args[0].value


def test_the_runbook_has_every_condition() -> None:
    assert set(RUNBOOK) == TYPES


def test_the_runbook_has_every_reason_and_no_other() -> None:
    found = reasons()
    assert len(found) > 40
    assert [one for one in found if not _CAMEL.fullmatch(one)] == []
    assert {one for listed in RUNBOOK.values() for one in listed} == found


def test_a_reason_stands_under_its_condition() -> None:
    pairs = set(written_out())
    assert len(pairs) > 20
    assert [(kind, reason) for kind, reason in sorted(pairs) if reason not in RUNBOOK[kind]] == []


def test_no_reason_has_two_rows_under_one_condition() -> None:
    assert [kind for kind, listed in RUNBOOK.items() if len(listed) != len(set(listed))] == []


def test_every_row_says_what_to_do() -> None:
    """Four cells, none of them empty."""
    lines = [line for line in part("Runbook").splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert [row[0] for row in cells if len(row) != 4 or not all(row)] == []


def test_the_page_has_every_event_of_its_own_and_no_other() -> None:
    """Those that repeat a condition's reason are in the runbook."""
    found = set()
    for path, call in calls("emit", "_emit"):
        found |= words(path, call.args[2])
    assert set(rows(part("Events"))) == found


def metrics() -> set[str]:
    """Names of metrics, as Prometheus shows them."""
    return {
        node.value
        for name in ("metrics.py", "health.py")
        for node in ast.walk(ast.parse((SOURCES / name).read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("eod_operator_")
    }


def test_the_page_has_every_metric_and_no_other() -> None:
    found = metrics()
    assert len(found) > 10
    assert set(rows(part("Metrics"))) == found


def test_every_metric_is_made_in_the_two_modules_that_are_read() -> None:
    users = {path.name for path in SOURCES.rglob("*.py") if "prometheus_client" in path.read_text(encoding="utf-8")}
    assert users == {"metrics.py", "health.py"}


def test_the_page_links_to_its_own_sections() -> None:
    def slug(title: str) -> str:
        return re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")

    there = {slug(title) for title in re.findall(r"^#+ (.+)$", PAGE, flags=re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= there
