"""What the regulatory stage can be told."""

from __future__ import annotations

from pydantic import Field

from eod_workers.runtime.variables import StageSettings


class RegulatorySettings(StageSettings):
    """When it stores, and what it enriches with."""

    flush_rows: int = Field(5_000, ge=1, description="Rows that make a batch.")
    flush_interval_s: float = Field(5.0, gt=0, description="Longest that rows or archive bytes wait.")
    reference_file: str = Field("", description="YAML reference data: traders, strategies, securities.")
