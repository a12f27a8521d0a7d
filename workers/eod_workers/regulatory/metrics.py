"""What the regulatory stage counts."""

from __future__ import annotations

from prometheus_client import Counter

from eod_workers.runtime.metrics import TradeMetrics


class RegulatoryMetrics(TradeMetrics):
    """All of it."""

    def __init__(self) -> None:
        super().__init__()
        self.exceptions = Counter(
            "eod_regulatory_exceptions_total",
            "References that could not be resolved, and ExecIDs of two trades",
            ["field"],
            registry=None,
        )
