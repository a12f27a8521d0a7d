"""What people scale consumers with today, each as its own documentation describes it.

`BASELINES` makes one from flat parameters, as a grid or a report has them: `BASELINES["keda+cron"](lag_threshold_s=30,
lead_min=5, down_stabilization_s=60)`. What is not given keeps the documented default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from inspect import signature
from types import MappingProxyType
from typing import Any

from eod_operator.simulate.baselines.combined import KedaCron
from eod_operator.simulate.baselines.cron import Cron, CronMetadata
from eod_operator.simulate.baselines.flink import Flink
from eod_operator.simulate.baselines.hpa import Hpa, behavior
from eod_operator.simulate.baselines.keda import KafkaMetadata, Keda
from eod_operator.simulate.baselines.static import Static
from eod_operator.simulate.scaler import Policy

_PARTS: Mapping[str, tuple[Callable[..., Any], frozenset[str]]] = MappingProxyType(
    {
        "kafka": (KafkaMetadata, frozenset(field.name for field in fields(KafkaMetadata))),
        "cron": (CronMetadata, frozenset(field.name for field in fields(CronMetadata))),
        "rules": (behavior, frozenset(signature(behavior).parameters)),
    }
)
"""Fields that are made of parameters of their own."""


def _factory(policy: Callable[..., Policy], own: Iterable[str]) -> Callable[..., Policy]:
    """Makes a policy from its own parameters and, flat beside them, those of its parts."""
    names = frozenset(own)
    plain, parts = names - _PARTS.keys(), names & _PARTS.keys()
    known = plain.union(*(_PARTS[part][1] for part in parts))

    def make(**params: object) -> Policy:
        if unknown := params.keys() - known:
            raise ValueError(f"no such parameters: {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
        made: dict[str, object] = {key: params[key] for key in params.keys() & plain}
        for part in parts:
            make_part, takes = _PARTS[part]
            made[part] = make_part(**{key: params[key] for key in params.keys() & takes})
        return policy(**made)

    return make


BASELINES: Mapping[str, Callable[..., Policy]] = MappingProxyType(
    {
        "hpa": _factory(Hpa, (field.name for field in fields(Hpa))),
        "keda": _factory(Keda, (field.name for field in fields(Keda))),
        "cron": _factory(Cron, (field.name for field in fields(Cron))),
        "keda+cron": _factory(KedaCron, (field.name for field in fields(KedaCron))),
        "static": _factory(Static, (field.name for field in fields(Static))),
        "flink": _factory(Flink, (field.name for field in fields(Flink))),
    }
)

__all__ = ["BASELINES", "Cron", "Flink", "Hpa", "Keda", "KedaCron", "Static"]
