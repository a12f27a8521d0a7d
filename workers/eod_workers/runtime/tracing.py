"""Spans that cross the log in W3C `traceparent` headers.

Ingestion appends in a span, which the records name in their headers; the span of a stage's flush links to those of all
records that it makes durable.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry import trace

_tracer: trace.Tracer | None = None
"""Makes spans; None while none are sent, as in most processes, which start sooner without the library."""


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
    global _tracer  # noqa: PLW0603 - a process sends its spans or does not
    _tracer = provider.get_tracer("eod")


class Origins:
    """The spans in which some records were appended, as their headers say; nothing is kept while no spans are sent."""

    MAX = 128
    """Of more only the first are kept, as many as an OpenTelemetry span has links."""

    def __init__(self) -> None:
        self._traceparents: set[bytes] = set()

    def add(self, headers: Sequence[tuple[str, bytes]]) -> None:
        """Notes the span of a record."""
        if _tracer is not None and len(self._traceparents) < self.MAX:
            self._traceparents |= {value for key, value in headers if key == "traceparent"}

    def clear(self) -> None:
        """Forgets all."""
        self._traceparents.clear()

    def links(self) -> list[trace.Link]:
        """One for each span."""
        if not self._traceparents:
            return []
        from opentelemetry import propagate, trace  # noqa: PLC0415 - only while spans are sent

        contexts = (propagate.extract({"traceparent": one.decode()}) for one in sorted(self._traceparents))
        return [trace.Link(trace.get_current_span(context).get_span_context()) for context in contexts]


@contextmanager
def span(name: str, origins: Origins | None = None) -> Iterator[tuple[tuple[str, bytes], ...]]:
    """A span, linked to those of the records it is about; yields the headers that carry it on."""
    if _tracer is None:
        yield ()
        return
    from opentelemetry import propagate  # noqa: PLC0415 - only while spans are sent

    with _tracer.start_as_current_span(name, links=origins.links() if origins else None):
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        yield tuple((key, value.encode()) for key, value in carrier.items())
