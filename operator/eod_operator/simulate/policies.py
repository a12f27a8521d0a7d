"""Policies by their names on the command line: ours, with the settings of a pipeline's spec, and the baselines."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eod_operator.simulate.baselines import BASELINES
from eod_operator.simulate.ours import OURS, Eod
from eod_operator.simulate.scaler import Policy

EOD = OURS.name
NAMES: tuple[str, ...] = (EOD, *BASELINES)


class SettingError(ValueError):
    """A policy or a setting of one is not known, or a value does not fit."""


@dataclass(frozen=True, slots=True)
class _Field:
    """What a field of a pipeline's spec is called in our policy, and what its number becomes there."""

    name: str
    convert: Callable[[float], object]


SETTINGS: Mapping[str, _Field] = {
    "catchUpSeconds": _Field("catch_up_s", float),
    "utilizationPercent": _Field("utilization", lambda percent: percent / 100),
    "scaleDownStabilizationSeconds": _Field("stabilization_s", float),
    "lagPerReplica": _Field("lag_per_replica", int),
    "leadSeconds": _Field("lead_s", float),
    "durationSeconds": _Field("duration_s", float),
    "forecast": _Field("forecast", bool),
}
"""Of `spec.scaling`, `spec.calendar.burst` and a stage's target."""


def ours(assignments: Sequence[str]) -> Eod:
    """Our policy with settings such as catchUpSeconds=10.

    Raises:
        SettingError: one is not known, or is no number.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or name not in SETTINGS:
            raise SettingError(
                f"--set {assignment}: write NAME=NUMBER with a name of a pipeline's spec: {', '.join(SETTINGS)}"
            )
        try:
            number = json.loads(text)
        except json.JSONDecodeError:
            number = None
        if not isinstance(number, int | float) or not 0 <= number < math.inf:
            raise SettingError(f"--set {assignment}: {text!r} must be a number from 0 on; for forecast true or false")
        field = SETTINGS[name]
        values[field.name] = field.convert(number)
    return OURS.tuned(**values)


def find(name: str, assignments: Sequence[str] = ()) -> Policy:
    """A policy by its name; baselines have their documented defaults.

    Raises:
        SettingError: there is none, or a setting of ours is wrong.
    """
    if name == EOD:
        return ours(assignments)
    if name not in BASELINES:
        raise SettingError(f"--policy {name}: there is no such policy: choose from {', '.join(NAMES)}")
    return BASELINES[name]()
