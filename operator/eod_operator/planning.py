"""What the operator would make of a pipeline, told without a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

from eod_operator.api import API_VERSION, KIND, PipelineSpec
from eod_operator.api.spec import sentences
from eod_operator.conditions import rfc3339
from eod_operator.resources import Owner, deployment, service
from eod_operator.scaling import UnknownExchangeError
from eod_operator.sizing import calendar_of, size

Plan = dict[str, Any]


class PlanError(Exception):
    """The file holds something that the API server or the operator would refuse."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class _Named:
    name: str
    namespace: str
    spec: PipelineSpec


def plans(text: str, now_s: float) -> list[Plan]:
    """Plan every EodPipeline of a YAML text; other kinds of objects in it are passed over.

    Raises:
        PlanError: with a sentence for each thing that is wrong.
    """
    problems: list[str] = []
    made = []
    for pipeline in _read(text, problems):
        try:
            made.append(_plan(pipeline, now_s))
        except UnknownExchangeError as error:
            problems.append(f"{pipeline.name}: spec.calendar.exchange: {error}")
    if not made and not problems:
        problems.append(f"holds no {KIND} of {API_VERSION}")
    if problems:
        raise PlanError(problems)
    return made


def _read(text: str, problems: list[str]) -> Iterator[_Named]:
    try:
        documents = [one for one in yaml.safe_load_all(text) if isinstance(one, dict)]
    except yaml.YAMLError as error:
        problems.append(f"is not YAML: {error}")
        return
    for document in documents:
        if (document.get("apiVersion"), document.get("kind")) != (API_VERSION, KIND):
            continue
        meta = document.get("metadata") or {}
        name = str(meta.get("name", ""))
        if not name:
            problems.append("metadata.name is missing")
            continue
        try:
            spec = PipelineSpec.model_validate(document.get("spec") or {})
        except ValidationError as error:
            problems.extend(f"{name}: {sentence}" for sentence in sentences(error))
        else:
            yield _Named(name, str(meta.get("namespace", "default")), spec)


def _plan(pipeline: _Named, now_s: float) -> Plan:
    owner = Owner(pipeline.namespace, pipeline.name, uid="not-created-yet")
    spec = pipeline.spec
    next_close_s = calendar_of(spec.calendar).first_close(now_s)
    now = size(spec, {}, now_s)
    at_close = now if next_close_s is None else size(spec, {}, next_close_s)
    stages = [
        {
            "name": stage.name,
            "kind": stage.kind,
            "topics": list(stage.effective_topics),
            "group": stage.effective_group,
            "now": now.decisions[stage.name].replicas,
            "atClose": at_close.decisions[stage.name].replicas,
            "max": stage.replicas.max,
            "reason": now.decisions[stage.name].reason,
        }
        for stage in spec.stages
    ]
    objects = [
        made
        for stage in spec.stages
        for made in (deployment(owner, spec, stage, now.decisions[stage.name].replicas), service(owner, stage))
        if made is not None
    ]
    return {
        "name": pipeline.name,
        "namespace": pipeline.namespace,
        "mode": spec.mode,
        "nextClose": None if next_close_s is None else rfc3339(next_close_s),
        "stages": stages,
        "objects": objects,
    }


def table(plan: Plan) -> str:
    """A plan for people."""
    heads = ("STAGE", "KIND", "NOW", "AT CLOSE", "MAX", "GROUP", "TOPICS")
    rows = [
        (one["name"], one["kind"], one["now"], one["atClose"], one["max"], one["group"] or "-", ",".join(one["topics"]))
        for one in plan["stages"]
    ]
    cells = [heads, *(tuple(map(str, row)) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    made = ", ".join(f"{one['kind']} {one['metadata']['name']}" for one in plan["objects"])
    return "\n".join(
        [
            f"{plan['namespace']}/{plan['name']}  mode {plan['mode']}  next close {plan['nextClose'] or 'none'}",
            *lines,
            f"objects: {made}",
        ]
    )
