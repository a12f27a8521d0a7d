"""The operator's table of stage kinds and the workers' own agree, although neither imports the other."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
from eod_operator.api import KINDS

STAGES = {point.name: point for point in entry_points(group="eod.stages")}


def test_every_stage_of_the_workers_is_a_kind_and_the_other_way_round() -> None:
    assert set(STAGES) == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_defaults_are_those_of_the_workers(name: str) -> None:
    """The operator passes its defaults on as EOD_TOPICS and EOD_GROUP: a wrong one would starve a stage."""
    stage, kind = STAGES[name].load(), KINDS[name]
    assert (kind.group or "") == stage.group
    if kind.group is not None:
        assert kind.topics == stage.topics
