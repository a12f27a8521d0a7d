"""What the operator would make of a pipeline, told without a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from eod_operator.api import API_VERSION, KIND, PipelineSpec
from eod_operator.api.refusals import named, refusals, without_nulls
from eod_operator.conditions import rfc3339
from eod_operator.resources import Manifest, Owner, stage_objects
from eod_operator.scaling import UnknownExchangeError
from eod_operator.sizing import Sizes, calendar_of, size

Plan = dict[str, Any]


class PlanError(Exception):
    """The file holds something that the API server or the operator would refuse."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class _Loader(yaml.SafeLoader):
    """YAML as kubectl reads it: a time is text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own class attribute
        first: [one for one in resolvers if one[0] != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@dataclass(frozen=True, slots=True)
class _Named:
    name: str
    namespace: str
    spec: PipelineSpec


def plans(text: str, now_s: float) -> list[Plan]:
    """Plan every EodPipeline of a YAML text; other kinds of objects in it are passed over.

    A plan has name, namespace, mode, nextClose, stages (with their replicas now and at that close), the whole objects
    as they would be applied now, and in atClose each of their fields that differs at the close.

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
        documents = [one for one in yaml.load_all(text, _Loader) if isinstance(one, dict)]
    except yaml.YAMLError as error:
        problems.append(f"is not YAML: {error}")
        return
    for document in documents:
        if (document.get("apiVersion"), document.get("kind")) != (API_VERSION, KIND):
            continue
        name = named(document)
        wrong = refusals(document)
        problems.extend(f"{name}: {sentence}" if name else sentence for sentence in wrong)
        if not wrong:
            spec = PipelineSpec.model_validate(without_nulls(document["spec"]))
            yield _Named(name, str(document["metadata"].get("namespace") or "default"), spec)


def _plan(pipeline: _Named, now_s: float) -> Plan:
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
    objects = _objects(pipeline, now)
    return {
        "name": pipeline.name,
        "namespace": pipeline.namespace,
        "mode": spec.mode,
        "nextClose": None if next_close_s is None else rfc3339(next_close_s),
        "stages": stages,
        "objects": objects,
        "atClose": list(_changes(objects, _objects(pipeline, at_close))),
    }


def _objects(pipeline: _Named, sizes: Sizes) -> list[Manifest]:
    owner = Owner(pipeline.namespace, pipeline.name, uid="not-created-yet")
    return [
        made
        for stage in pipeline.spec.stages
        for made in stage_objects(owner, pipeline.spec, stage, sizes.decisions[stage.name].replicas)
    ]


def _changes(before: Sequence[Manifest], after: Sequence[Manifest]) -> Iterator[dict[str, Any]]:
    """Each field that differs, of the same objects at two moments."""
    for old, new in zip(before, after, strict=True):
        for field, value, later in _differences("", old, new):
            yield {
                "kind": old["kind"],
                "name": old["metadata"]["name"],
                "field": field,
                "now": value,
                "atClose": later,
            }


def _differences(path: str, old: object, new: object) -> Iterator[tuple[str, object, object]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old | new:
            yield from _differences(f"{path}.{key}".lstrip("."), old.get(key), new.get(key))
    elif old != new:
        yield path, old, new


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
    kinds = Counter(one["kind"] for one in plan["objects"])
    made = ", ".join(f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in kinds.items())
    changes = [
        f"  {one['kind']} {one['name']}: {one['field']} {one['now']} -> {one['atClose']}" for one in plan["atClose"]
    ]
    return "\n".join(
        [
            f"{plan['namespace']}/{plan['name']}  mode {plan['mode']}  next close {plan['nextClose'] or 'none'}",
            *lines,
            f"objects: {made}",
            *(["what differs at the close, at the least:", *changes] if changes else ["nothing differs at the close"]),
        ]
    )
