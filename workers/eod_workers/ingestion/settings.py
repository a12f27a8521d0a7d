"""What ingestion can be told."""

from __future__ import annotations

from pydantic import Field

from eod_workers.runtime.variables import NameSet, StageSettings


class IngestionSettings(StageSettings):
    """Where it listens, to whom, and how long it collects."""

    fix_host: str = Field("127.0.0.1", description="Where the FIX acceptor listens; in a container all addresses.")
    fix_port: int = Field(9876, ge=0, le=65_535, description="Its port; 0 takes a free one.")
    fix_comp_id: str = Field("EOD", description="Our CompID.")
    fix_counterparties: NameSet = Field(
        frozenset(), description="Comma-separated SenderCompIDs that may log on; empty admits any."
    )
    linger_ms: float = Field(4.0, ge=0, le=100, description="How long trades are collected for a record.")
