"""The last decisions of a pipeline, kept in a ConfigMap beside it, so that `eod explain` outlives the operator.

Only what differs from the last record of its stage is recorded: the count, the term that won, what capped it, whether
it was carried out. A pipeline at rest records nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from eod_operator.resources import LABEL_MANAGER, LABEL_PIPELINE, MANAGER, Manifest, Owner, decisions_name
from eod_operator.scaling import Decision, Signals

KEPT = 20
"""Decisions of each stage: 16 stages of them stay far below a ConfigMap's limit of 1 MiB."""
KEY = "decisions.json"

Entry = dict[str, Any]


def entry(stage: str, decision: Decision, signals: Signals, *, at: str, current: int, outcome: str) -> Entry:
    """One decision as it is recorded.

    Args:
        stage: name of the stage.
        decision: what was decided.
        signals: what it was decided by.
        at: RFC 3339 time.
        current: replicas before it.
        outcome: "applied" when the stage has the count now, else why it was not carried out.
    """
    return {
        "at": at,
        "stage": stage,
        "from": current,
        "replicas": decision.replicas,
        "winner": decision.winner,
        "cappedBy": decision.capped_by,
        "outcome": outcome,
        "reason": decision.reason,
        "terms": [{"name": one.name, "replicas": one.replicas, "detail": one.detail} for one in decision.terms],
        "signals": {
            "lag": signals.total_lag,
            "ageSeconds": None if signals.lag is None else round(signals.age_s, 1),
            "partitions": signals.partitions,
        },
    }


@dataclass(frozen=True, slots=True)
class _Kept:
    """A decision as text, which takes a fifth of the room, and what it is compared and sorted by."""

    at: str
    news: tuple[object, ...]
    text: str

    @classmethod
    def of(cls, one: Entry) -> _Kept:
        return cls(str(one.get("at")), _news(one), json.dumps(one, separators=(",", ":")))


class DecisionLog:
    """The last `KEPT` decisions of each stage."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._by_stage: dict[str, list[_Kept]] = {}
        self.unsaved = False
        for one in entries:
            self._by_stage.setdefault(str(one["stage"]), []).append(_Kept.of(one))

    @classmethod
    def load(cls, data: Mapping[str, str]) -> DecisionLog:
        """Read the data of the ConfigMap; what cannot be read is started anew."""
        return cls(entries_of(data))

    def text(self) -> str:
        """All of them as JSON, the oldest first."""
        kept = sorted((one for stage in self._by_stage.values() for one in stage), key=lambda one: one.at)
        return f"[{','.join(one.text for one in kept)}]"

    def add(self, new: Entry) -> None:
        """Record a decision, unless it is the same as the last one of its stage."""
        kept = self._by_stage.setdefault(new["stage"], [])
        if kept and kept[-1].news == _news(new):
            return
        kept.append(_Kept.of(new))
        del kept[:-KEPT]
        self.unsaved = True

    def keep_only(self, stages: Iterable[str]) -> None:
        """Forget the stages that the spec no longer has."""
        for gone in set(self._by_stage) - set(stages):
            del self._by_stage[gone]
            self.unsaved = True

    def config_map(self, owner: Owner) -> Manifest:
        """The ConfigMap that holds them."""
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": decisions_name(owner),
                "namespace": owner.namespace,
                "labels": {LABEL_PIPELINE: owner.name, LABEL_MANAGER: MANAGER},
                "ownerReferences": [owner.reference],
            },
            "data": {KEY: self.text()},
        }


def entries_of(data: Mapping[str, str]) -> list[Entry]:
    """The decisions in the data of the ConfigMap, the oldest first; none when it cannot be read."""
    try:
        entries = [one for one in json.loads(data.get(KEY, "[]")) if isinstance(one, dict) and "stage" in one]
    except (ValueError, TypeError):
        return []
    return sorted(entries, key=lambda one: str(one.get("at")))


def _news(one: Entry) -> tuple[object, ...]:
    return one.get("replicas"), one.get("winner"), one.get("cappedBy"), one.get("outcome")
