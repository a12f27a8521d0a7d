"""Metrics and traces: Prometheus names, and spans that cross the log in W3C `traceparent` headers.

Ingestion appends in a span, which the records name in their headers; the span of a stage's flush links to those of all
records that it makes durable.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Final

from opentelemetry import propagate, trace
from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector

_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class CountedHistogram(Collector):
    """A histogram that is fed with counts by bucket, for what happens too often to be observed one by one."""

    def __init__(self, name: str, documentation: str, bounds_s: Sequence[float]) -> None:
        """Nothing has been counted. `bounds_s` rise; beyond the last there is one bucket more."""
        self.bounds_ns: Final = tuple(round(bound_s * 1e9) for bound_s in bounds_s)
        self._name = name
        self._documentation = documentation
        self._labels = (*(str(float(bound_s)) for bound_s in bounds_s), "+Inf")
        self._counts = [0] * len(self._labels)
        self._sum_ns = 0

    def count(self, runs: Iterable[tuple[int, int]], until_ns: int) -> None:
        """Counts what took from a moment until `until_ns`: (that moment, how often) each."""
        counts, sum_ns = [0] * len(self._counts), 0
        for since_ns, times in runs:
            counts[bisect_left(self.bounds_ns, until_ns - since_ns)] += times
            sum_ns += (until_ns - since_ns) * times
        self.add(counts, sum_ns)

    def add(self, counts: Sequence[int], sum_ns: int) -> None:
        """Adds what was counted within each bound, and beyond the last, and the sum of all times."""
        # One assignment each: another thread that collects sees a list that belongs together.
        self._counts = [had + more for had, more in zip(self._counts, counts, strict=True)]
        self._sum_ns += sum_ns

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What a scrape gets."""
        buckets = list(zip(self._labels, map(float, accumulate(self._counts)), strict=True))
        yield HistogramMetricFamily(self._name, self._documentation, buckets=buckets, sum_value=self._sum_ns / 1e9)


INGESTED = Counter("eod_trades_ingested_total", "Trades appended to the log by ingestion")
IN_FLIGHT_BYTES = Gauge("eod_ingestion_in_flight_bytes", "Bytes read from sockets and not yet acknowledged by the log")
SUPERSEDED = Counter(
    "eod_ingestion_superseded_total", "Sessions whose numbers were refused: another ingestion has taken them over"
)
PROCESSED = Counter("eod_trades_processed_total", "Trades a stage has applied", ["stage"])
DUPLICATES = Counter("eod_trades_duplicate_total", "Deliveries a stage has recognized as duplicates", ["stage"])
DEAD_LETTERS = Counter("eod_dead_letters_total", "Dead letters written", ["stage", "reason"])
EXCEPTIONS = Counter("eod_regulatory_exceptions_total", "References that could not be resolved", ["field"])
FLUSH_SECONDS = Histogram("eod_flush_seconds", "Time to make a batch durable", ["stage"], buckets=_LATENCY_S)
ACKNOWLEDGED_LATENCY = CountedHistogram(
    "eod_ingestion_latency_seconds", "From reading the frame to the log's acknowledgement", _LATENCY_S
)
APPLIED_LATENCY = CountedHistogram(
    "eod_pnl_applied_seconds", "From reading the frame to the position in memory", _LATENCY_S
)
PNL_LATENCY = CountedHistogram(
    "eod_pnl_latency_seconds", "From reading the frame to publishing the position", _LATENCY_S
)
for _histogram in (ACKNOWLEDGED_LATENCY, APPLIED_LATENCY, PNL_LATENCY):
    REGISTRY.register(_histogram)
POSITIONS = Gauge("eod_positions", "Positions held by this worker")

_tracer = trace.get_tracer("eod")
_sending = False


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
    global _sending  # noqa: PLW0603 - a process sends its spans or does not
    _sending = True


class Origins:
    """The spans in which some records were appended, as their headers say; nothing is kept while no spans are sent."""

    MAX = 128
    """Of more only the first are kept, as many as an OpenTelemetry span has links."""

    def __init__(self) -> None:
        self._traceparents: set[bytes] = set()

    def add(self, headers: Sequence[tuple[str, bytes]]) -> None:
        """Notes the span of a record."""
        if _sending and len(self._traceparents) < self.MAX:
            self._traceparents |= {value for key, value in headers if key == "traceparent"}

    def clear(self) -> None:
        """Forgets all."""
        self._traceparents.clear()

    def links(self) -> list[trace.Link]:
        """One for each span."""
        contexts = (propagate.extract({"traceparent": one.decode()}) for one in sorted(self._traceparents))
        return [trace.Link(trace.get_current_span(context).get_span_context()) for context in contexts]


@contextmanager
def span(name: str, origins: Origins | None = None) -> Iterator[tuple[tuple[str, bytes], ...]]:
    """A span, linked to those of the records it is about; yields the headers that carry it on."""
    with _tracer.start_as_current_span(name, links=origins.links() if origins else None):
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        yield tuple((key, value.encode()) for key, value in carrier.items())
