"""What ingestion can be told."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from eod_workers.fix.frames import MAX_FRAME_BYTES
from eod_workers.runtime.variables import NameSet, StageSettings
from eod_workers.trades.dates import NEW_YORK, zone_of


def _zone(name: str) -> str:
    zone_of(name)
    return name


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
    fix_zone: Annotated[str, AfterValidator(_zone)] = Field(
        NEW_YORK,
        description="Time zone of trading days: the day of a trade that names none in TradeDate(75).",
    )
    linger_ms: float = Field(4.0, ge=0, le=100, description="How long trades are collected for a record.")
