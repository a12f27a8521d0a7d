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
            "Memory for what was read from sockets and is not yet acknowledged by the log",
            registry=None,
        )
        self.connections = Gauge("eod_fix_connections", "FIX connections that are open", registry=None)
        self.refused = Counter(
            "eod_fix_refused_total",
            "FIX connections that were hung up on: who may not, began otherwise, was late, too many or reads nothing",
            ["reason"],
            registry=None,
        )
        self.sessions_file_refused = Gauge(
            "eod_fix_sessions_file_refused",
            "1 while the sessions file is wrong: the terms of before go on, and a worker that starts now ends",
            registry=None,
        )
        self.waiting = Gauge(
            "eod_fix_sessions_waiting",
            "FIX sessions that are not read: something that they have sent is for a partition that no broker leads",
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
