"""Specs to start from."""

from __future__ import annotations

from typing import Any

import pytest
from eod_operator.api import PipelineSpec
from eod_operator.resources import Owner


@pytest.fixture
def raw_spec() -> dict[str, Any]:
    """The least that a pipeline with two stages must say, as written in YAML."""
    return {
        "kafka": {"bootstrapServers": "kafka:9092"},
        "image": "eod:1",
        "calendar": {
            "sessions": [{"open": "2026-11-27T09:30:00-05:00", "close": "2026-11-27T13:00:00-05:00"}],
        },
        "stages": [
            {"name": "in", "kind": "ingestion", "replicas": {"min": 1, "max": 2, "burst": 2}},
            {"name": "pnl", "kind": "flash-pnl", "replicas": {"min": 1, "max": 12, "burst": 6}},
        ],
    }


@pytest.fixture
def spec(raw_spec: dict[str, Any]) -> PipelineSpec:
    """The same, validated."""
    return PipelineSpec.model_validate(raw_spec)


@pytest.fixture
def owner() -> Owner:
    """The pipeline that the objects belong to."""
    return Owner("trading", "close", "uid-1")
