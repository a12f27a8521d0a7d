"""The field reference of docs/operator.md is generated from the CRD, and must not drift."""

from __future__ import annotations

from pathlib import Path

import pytest
from eod_operator.api.crd import crd
from eod_operator.api.reference import fields, main, renewed, rules

PAGE = Path(__file__).parents[3] / "docs/operator.md"
SCHEMA = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
EMPTY = "# Title\n<!-- fields -->\nold\n<!-- /fields -->\nbetween\n<!-- rules -->\n<!-- /rules -->\nend\n"


def test_the_page_is_the_generated_one() -> None:
    """Regenerate with `make crd`."""
    text = PAGE.read_text(encoding="utf-8")
    assert renewed(text) == text


@pytest.mark.parametrize(
    "row",
    [
        "| `spec.stages[].replicas.min` | integer | `1` | 0 to 1000 | Never fewer than this. |",
        "| `spec.image` | string | required | 1 to 512 characters | Container image of the stages. |",
        "| `spec.scheduling.nodeSelector` | map of string |  | at most 16 entries | Labels that a node must have. |",
        "| `spec.calendar.sessions[].open` | time | required |  | Start of the session,",
        "| `spec.mode` | string | `Auto` | `Auto`, `Preview`, `Paused` | Auto sizes the stages;",
        "| `spec.networkPolicy.egressPorts` | list of integer |  | at most 32 entries; no entry twice; each 1 to 65535 |",
        "| `spec.stages[].paused` | boolean | `false` |  |",
        "| `status.stages[].lag` | integer |  |  | Unconsumed records of its group; absent when unknown. |",
    ],
)
def test_a_field_says_type_default_and_what_is_allowed(row: str) -> None:
    assert any(line.startswith(row) for line in fields().splitlines())


def test_every_property_of_the_schema_has_a_line() -> None:
    def count(node: dict[str, object]) -> int:
        below = [*dict(node.get("properties", {})).values(), node.get("items")]  # type: ignore[call-overload]
        return sum(1 for _ in node.get("properties", {})) + sum(count(one) for one in below if isinstance(one, dict))  # type: ignore[call-overload]

    wanted = sum(1 + count(SCHEMA["properties"][part]) for part in ("spec", "status"))
    lines = fields().splitlines()[2:]
    assert len(lines) == len(set(lines)) == wanted


def test_every_check_has_a_line_with_its_place() -> None:
    listed = rules().splitlines()
    assert (
        "- `spec.stages[].replicas.min`: min must not be above max: lower replicas.min or raise replicas.max" in listed
    )
    assert any(line.startswith("- `metadata.name`: metadata.name must start with a letter") for line in listed)


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    """Each line of the table has five cells."""
    assert {line.replace("\\|", "").count("|") for line in fields().splitlines()} == {6}


def test_only_what_is_between_the_marks_is_renewed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(EMPTY, encoding="utf-8")
    main([str(page)])
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# Title\n<!-- fields -->\n{fields()}\n<!-- /fields -->\nbetween\n")
    assert text.endswith(f"<!-- rules -->\n{rules()}\n<!-- /rules -->\nend\n")


@pytest.mark.parametrize("mark", ["<!-- fields -->", "<!-- /fields -->", "<!-- rules -->", "<!-- /rules -->"])
def test_a_page_without_a_place_for_it_is_refused(mark: str) -> None:
    with pytest.raises(ValueError, match="write both where the part belongs"):
        renewed(EMPTY.replace(mark, ""))
