"""What Prometheus is told of the operator itself; what it is told of pipelines is collected when it asks (`health`)."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

RECONCILES = Counter("eod_operator_reconcile_total", "Passes over pipelines", ["result"])
RECONCILE_SECONDS = Histogram("eod_operator_reconcile_seconds", "Duration of a pass", buckets=_SECONDS)
LATE_SECONDS = Histogram(
    "eod_operator_reconcile_late_seconds", "How late a timed pass began", buckets=(*_SECONDS, 15, 30, 60)
)
DECISIONS = Counter("eod_operator_decisions_total", "Decisions, by the term that won", ["winner"])
SCALED = Counter("eod_operator_scaled_total", "Replica counts changed", ["direction"])
API_REQUESTS = Counter("eod_operator_api_requests_total", "Requests to the API server", ["verb", "kind", "code"])
API_SECONDS = Histogram(
    "eod_operator_api_request_seconds", "Duration of a request to the API server", ["verb"], buckets=_SECONDS
)
LEASE_HELD = Gauge("eod_operator_lease_held", "Whether this replica holds the lease and acts")
LEASE_TRANSITIONS = Gauge("eod_operator_lease_transitions", "How often the lease has changed hands")


def observe_request(verb: str, kind: str, status: int, seconds: float) -> None:
    """Count a request to the API server; `status` is 0 when there was no answer."""
    API_REQUESTS.labels(verb, kind, str(status)).inc()
    if verb != "watch":
        API_SECONDS.labels(verb).observe(seconds)
