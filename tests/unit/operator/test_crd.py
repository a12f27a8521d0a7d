"""The CRD is generated from the models, described throughout, and kept in two places that must not drift."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from eod_contract.kinds import KINDS
from eod_operator.api import crd as crd_module
from eod_operator.api.crd import as_template, as_yaml, crd
from eod_operator.api.exchanges import EXCHANGES
from exchange_calendars import get_calendar_names

ROOT = Path(__file__).parents[3]
SCHEMA = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def walk(path: str, node: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema node under this one, with its path."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from walk(f"{path}.{name}", child)
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from walk(f"{path}[]", node[key])


NODES = dict(walk("", SCHEMA))


@pytest.mark.parametrize(
    ("file", "made"),
    [("crds/eodpipeline.yaml", as_yaml), ("charts/eod-crds/templates/eodpipeline.yaml", as_template)],
)
def test_committed_crd_is_the_generated_one(file: str, made: Callable[[], str]) -> None:
    """Regenerate with the command in the file's first lines."""
    assert made() == (ROOT / file).read_text(encoding="utf-8")


def test_a_description_that_helm_would_take_for_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text = as_yaml().replace("The pipeline in one word.", "{{ one word }}")
    monkeypatch.setattr(crd_module, "as_yaml", lambda: text)
    with pytest.raises(ValueError, match="Helm would take for its own"):
        as_template()


def test_every_field_is_described() -> None:
    """`kubectl explain` has a sentence for each field of ours."""
    bare = [path for path, node in NODES.items() if not path.endswith("[]") and "description" not in node]
    assert bare == [".metadata"]


def test_schema_is_structural() -> None:
    """Nothing that Kubernetes refuses in a structural schema: references, unions, nulls, types left out."""
    refused = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "const", "title", "exclusiveMinimum"}
    assert [path for path, node in NODES.items() if refused & set(node)] == []
    assert [
        path for path, node in NODES.items() if "type" not in node and not node.get("x-kubernetes-int-or-string")
    ] == []
    assert "null" not in as_yaml().split()


def test_every_check_has_a_sentence() -> None:
    """CEL rules speak to people, and most name the field by a path as well."""
    checks = [check for node in NODES.values() for check in node.get("x-kubernetes-validations", [])]
    assert len(checks) == 27
    assert all(len(check["message"].split()) > 4 for check in checks)


def test_kinds_come_from_the_registry() -> None:
    assert list(KINDS) == NODES[".spec.stages[].kind"]["enum"]


def test_the_exchanges_of_the_check_are_those_whose_sessions_are_known() -> None:
    """An upgrade of exchange_calendars that adds or drops one shows here: `make crd` mends it."""
    assert set(EXCHANGES) == set(get_calendar_names())


def test_lists_are_bounded_so_that_checks_have_a_bounded_cost() -> None:
    unbounded = [
        path
        for path, node in NODES.items()
        if path.startswith(".spec") and node.get("type") == "array" and "maxItems" not in node
    ]
    assert unbounded == []


def test_columns_answer_the_first_questions() -> None:
    columns = crd()["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [column["name"] for column in columns if not column.get("priority")] == [
        "Phase",
        "Mode",
        "Lag",
        "Replicas",
        "Next Close",
        "Ready",
        "Age",
    ]
    assert [column["name"] for column in columns if column.get("priority")] == [
        "Desired",
        "Behind",
        "Limited",
        "Message",
    ]


def test_the_example_is_a_valid_pipeline() -> None:
    from eod_operator.api import PipelineSpec  # noqa: PLC0415 - only here

    example = yaml.safe_load((ROOT / "examples/eodpipeline.yaml").read_text(encoding="utf-8"))
    spec = PipelineSpec.model_validate(example["spec"])
    assert list(KINDS) == [stage.kind for stage in spec.stages]
