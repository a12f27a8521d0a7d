"""Spans cross the log: a flush is linked to the appends of its records."""

from __future__ import annotations

from pathlib import Path

import pytest
from eod_workers.regulatory.stage import STAGE as REGULATORY
from eod_workers.runtime import tracing
from eod_workers.trades.codec import encode_trades
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support.stage_world import StageWorld
from support.trade_rows import row


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What would be sent, if spans were."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("eod"))
    return exporter


def test_a_flush_is_linked_to_the_spans_that_its_records_were_appended_in(spans: InMemorySpanExporter) -> None:
    """From the socket to the store: each trade's way can be followed, though a flush has trades of many appends."""
    origins = tracing.Origins()
    for _ in range(2):
        with tracing.span("ingestion.append") as headers:
            origins.add(headers)
            origins.add([*headers, ("other", b"\xff")])
    with tracing.span("regulatory.flush", origins):
        pass
    *appends, flush = spans.get_finished_spans()
    assert {link.context.span_id for link in flush.links} == {one.context.span_id for one in appends if one.context}
    assert len(flush.links) == 2
    origins.clear()
    assert origins.links() == []


@pytest.mark.usefixtures("spans")
def test_the_links_of_a_span_are_bounded_and_cost_nothing_while_none_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    origins = tracing.Origins()
    for number in range(1, 300):
        origins.add([("traceparent", f"00-{number:032x}-{number:016x}-01".encode())])
    assert len(origins.links()) == tracing.Origins.MAX
    monkeypatch.setattr(tracing, "_tracer", None)
    silent = tracing.Origins()
    silent.add([("traceparent", b"00-1-1-01")])
    assert silent.links() == []
    with tracing.span("ingestion.append", silent) as headers:
        assert headers == ()


async def test_a_stage_that_flushes_names_the_appends_it_makes_durable(
    spans: InMemorySpanExporter, tmp_path: Path
) -> None:
    world = await StageWorld(tmp_path).open()
    try:
        producer = await world.log.producer()
        with tracing.span("ingestion.append") as headers:
            await producer.send("trades.raw", 0, encode_trades([row(1)]), headers=headers)
        worker = world.start(REGULATORY)
        await world.drained(REGULATORY)
        await worker.stop()
    finally:
        await world.close()
    append, *flushes = spans.get_finished_spans()
    assert append.context is not None
    linked = [one.name for one in flushes if append.context.span_id in {link.context.span_id for link in one.links}]
    assert linked == ["regulatory.flush"]
