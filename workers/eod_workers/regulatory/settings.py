"""What the regulatory stage can be told."""

from __future__ import annotations

from pydantic import Field

from eod_workers.runtime.variables import FlushSettings, ReferenceSettings


class RegulatorySettings(FlushSettings, ReferenceSettings):
    """When it stores, and what it enriches with."""

    flush_rows: int = Field(5_000, ge=1, description="Rows that make a batch.")
