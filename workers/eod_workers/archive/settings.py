"""What the archive stage can be told."""

from __future__ import annotations

from pydantic import Field

from eod_workers.runtime.variables import StageSettings


class ArchiveSettings(StageSettings):
    """When it stores a segment."""

    segment_bytes: int = Field(4 << 20, ge=1, description="Bytes that make a segment.")
    flush_interval_s: float = Field(5.0, gt=0, description="Longest that rows or archive bytes wait.")
