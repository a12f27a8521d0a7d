"""What ingestion can be told."""

from __future__ import annotations

from pydantic import Field

from eod_workers.fix.frames import MAX_FRAME_BYTES
from eod_workers.runtime.variables import NameSet, StageSettings


class IngestionSettings(StageSettings):
    """Where it listens, to whom, and how long it collects."""

    fix_host: str = Field("127.0.0.1", description="Where the FIX acceptor listens; in a container all addresses.")
    fix_port: int = Field(9876, ge=0, le=65_535, description="Its port; 0 takes a free one.")
    fix_comp_id: str = Field("EOD", description="Our CompID.")
    fix_counterparties: NameSet = Field(
        frozenset(), description="Comma-separated SenderCompIDs that may log on; empty admits any."
    )
    fix_max_message_bytes: int = Field(
        65_536,
        ge=65_536,
        le=MAX_FRAME_BYTES,
        description="Longest FIX message; a longer one is rejected, takes its number and becomes a dead letter.",
    )
    linger_ms: float = Field(4.0, ge=0, le=100, description="How long trades are collected for a record.")
