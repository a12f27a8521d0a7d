"""What flash P&L can be told."""

from __future__ import annotations

from pydantic import Field

from eod_workers.runtime.variables import StageSettings


class PnlSettings(StageSettings):
    """How often it publishes, and how often it keeps what it knows."""

    publish_interval_ms: float = Field(100.0, ge=0, description="Least time between two P&L updates of a trader.")
    snapshot_interval_s: float = Field(5.0, gt=0, description="The least time between two snapshots of a partition.")
