"""What ingestion counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from eod_workers.runtime.metrics import DEAD_LETTERS, LATENCY_S, CountedHistogram

INGESTED = Counter("eod_trades_ingested_total", "Trades appended to the log by ingestion", registry=None)
IN_FLIGHT_BYTES = Gauge(
    "eod_ingestion_in_flight_bytes", "Bytes read from sockets and not yet acknowledged by the log", registry=None
)
SUPERSEDED = Counter(
    "eod_ingestion_superseded_total",
    "Sessions whose numbers were refused: another ingestion has taken them over",
    registry=None,
)
ACKNOWLEDGED_LATENCY = CountedHistogram(
    "eod_ingestion_latency_seconds", "From reading the frame to the log's acknowledgement", LATENCY_S
)
METRICS = (INGESTED, IN_FLIGHT_BYTES, SUPERSEDED, ACKNOWLEDGED_LATENCY, DEAD_LETTERS)
"""All of them."""
