"""What the archive stage can be told."""

from __future__ import annotations

from pydantic import Field

from eod_workers.runtime.variables import FlushSettings


class ArchiveSettings(FlushSettings):
    """When it stores a segment."""

    segment_bytes: int = Field(4 << 20, ge=1, description="Bytes that make a segment.")
