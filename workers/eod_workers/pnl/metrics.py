"""What flash P&L counts."""

from __future__ import annotations

from prometheus_client import Gauge

from eod_workers.runtime.metrics import LATENCY_S, CountedHistogram, TradeMetrics


class PnlMetrics(TradeMetrics):
    """All of it."""

    def __init__(self) -> None:
        super().__init__()
        self.applied_latency = CountedHistogram(
            "eod_pnl_applied_seconds", "From reading the frame to the position in memory", LATENCY_S
        )
        self.published_latency = CountedHistogram(
            "eod_pnl_latency_seconds", "From reading the frame to publishing the position", LATENCY_S
        )
        self.positions = Gauge("eod_positions", "Positions held by this worker", registry=None)
