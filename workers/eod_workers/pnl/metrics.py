"""What flash P&L counts."""

from __future__ import annotations

from prometheus_client import Gauge

from eod_workers.runtime.metrics import DUPLICATES, LATENCY_S, OF_THE_LOOP, PROCESSED, CountedHistogram

APPLIED_LATENCY = CountedHistogram(
    "eod_pnl_applied_seconds", "From reading the frame to the position in memory", LATENCY_S
)
PUBLISHED_LATENCY = CountedHistogram(
    "eod_pnl_latency_seconds", "From reading the frame to publishing the position", LATENCY_S
)
POSITIONS = Gauge("eod_positions", "Positions held by this worker", registry=None)
METRICS = (*OF_THE_LOOP, PROCESSED, DUPLICATES, APPLIED_LATENCY, PUBLISHED_LATENCY, POSITIONS)
"""All of them."""
