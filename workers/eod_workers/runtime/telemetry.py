"""Metrics and traces: Prometheus names, and spans that cross the log in W3C `traceparent` headers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import propagate, trace
from prometheus_client import Counter, Gauge, Histogram

_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

INGESTED = Counter("eod_trades_ingested_total", "Trades appended to the log by ingestion")
IN_FLIGHT_BYTES = Gauge("eod_ingestion_in_flight_bytes", "Bytes read from sockets and not yet acknowledged by the log")
PROCESSED = Counter("eod_trades_processed_total", "Trades a stage has applied", ["stage"])
DUPLICATES = Counter("eod_trades_duplicate_total", "Deliveries a stage has recognized as duplicates", ["stage"])
DEAD_LETTERS = Counter("eod_dead_letters_total", "Dead letters written", ["stage", "reason"])
EXCEPTIONS = Counter("eod_regulatory_exceptions_total", "References that could not be resolved", ["field"])
FLUSH_SECONDS = Histogram("eod_flush_seconds", "Time to make a batch durable", ["stage"], buckets=_LATENCY_S)
PNL_LATENCY = Histogram(
    "eod_pnl_latency_seconds", "From reading the frame to publishing the position", buckets=_LATENCY_S
)
POSITIONS = Gauge("eod_positions", "Positions held by this worker")

_tracer = trace.get_tracer("eod")


def configure_tracing(service: str) -> None:
    """Sends spans to the OTLP endpoint named by OTEL_EXPORTER_OTLP_ENDPOINT; without it, tracing costs nothing."""
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - optional
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - only with an endpoint
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - only with an endpoint
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - only with an endpoint

    provider = TracerProvider(resource=Resource.create({"service.name": f"eod-{service}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


@contextmanager
def span(name: str, parent: Sequence[tuple[str, bytes]] = ()) -> Iterator[tuple[tuple[str, bytes], ...]]:
    """A span below the one named in a record's headers; yields the headers that carry it on."""
    context = propagate.extract({key: value.decode() for key, value in parent}) if parent else None
    with _tracer.start_as_current_span(name, context=context):
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        yield tuple((key, value.encode()) for key, value in carrier.items())
