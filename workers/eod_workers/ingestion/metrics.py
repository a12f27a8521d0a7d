"""What ingestion counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from eod_workers.runtime.metrics import LATENCY_S, CountedHistogram, Metrics, dead_letters


class IngestionMetrics(Metrics):
    """All of it."""

    def __init__(self) -> None:
        self.ingested = Counter("eod_trades_ingested_total", "Trades appended to the log by ingestion", registry=None)
        self.in_flight_bytes = Gauge(
            "eod_ingestion_in_flight_bytes",
            "Bytes read from sockets and not yet acknowledged by the log",
            registry=None,
        )
        self.superseded = Counter(
            "eod_ingestion_superseded_total",
            "Sessions whose numbers were refused: another ingestion has taken them over",
            registry=None,
        )
        self.acknowledged_latency = CountedHistogram(
            "eod_ingestion_latency_seconds", "From reading the frame to the log's acknowledgement", LATENCY_S
        )
        self.dead_letters = dead_letters()
