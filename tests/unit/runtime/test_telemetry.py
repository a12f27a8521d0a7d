"""A histogram that is fed with counts shows what one that observes each value would; spans cross the log."""

from __future__ import annotations

from pathlib import Path

import pytest
from eod_workers.pnl.ledger import Publication, PureLedger
from eod_workers.regulatory.stage import STAGE as REGULATORY
from eod_workers.runtime import telemetry
from eod_workers.runtime.telemetry import CountedHistogram
from eod_workers.trades.codec import encode_trades
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from unit.runtime.world import World
from unit.trades.rows import row

_BOUNDS_S = (0.001, 0.0025, 0.1, 5, 10)


@pytest.mark.parametrize("at_once", [False, True])
@given(times_ns=st.lists(st.lists(st.integers(-5, 20_000_000_000) | st.sampled_from([1_000_000, 2_500_000]))))
def test_it_shows_what_a_histogram_shows(at_once: bool, times_ns: list[list[int]]) -> None:  # noqa: FBT001 - a parameter
    counted, observing = CollectorRegistry(), CollectorRegistry()
    ours = CountedHistogram("late_seconds", "How late", _BOUNDS_S)
    counted.register(ours)
    theirs = Histogram("late_seconds", "How late", buckets=_BOUNDS_S, registry=observing)
    for some in times_ns:
        publication = Publication("ann", [], [-time_ns for time_ns in some])
        if at_once:
            ours.count([(-time_ns, some.count(time_ns)) for time_ns in set(some)], 0)
        else:
            ours.add(*PureLedger(1.0).lateness([publication], 0, ours.bounds_ns))
        for time_ns in some:
            theirs.observe(time_ns / 1e9)

    def lines(registry: CollectorRegistry) -> dict[str, float]:
        text = generate_latest(registry).decode().splitlines()
        samples = dict(line.rsplit(" ", 1) for line in text if not line.startswith("#") and "_created" not in line)
        return {name: float(value) for name, value in samples.items()}

    assert lines(counted) == pytest.approx(lines(observing), abs=1e-6)


# --- spans across the log -----------------------------------------------------------------------------------


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What would be sent, if spans were."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "_tracer", provider.get_tracer("eod"))
    monkeypatch.setattr(telemetry, "_sending", True)
    return exporter


def test_a_flush_is_linked_to_the_spans_that_its_records_were_appended_in(spans: InMemorySpanExporter) -> None:
    """From the socket to the store: each trade's way can be followed, though a flush has trades of many appends."""
    origins = telemetry.Origins()
    for _ in range(2):
        with telemetry.span("ingestion.append") as headers:
            origins.add(headers)
            origins.add([*headers, ("other", b"\xff")])
    with telemetry.span("regulatory.flush", origins):
        pass
    *appends, flush = spans.get_finished_spans()
    assert {link.context.span_id for link in flush.links} == {one.context.span_id for one in appends if one.context}
    assert len(flush.links) == 2
    origins.clear()
    assert origins.links() == []


def test_the_links_of_a_span_are_bounded_and_cost_nothing_while_none_are_sent(spans: InMemorySpanExporter) -> None:
    del spans
    origins = telemetry.Origins()
    for number in range(1, 300):
        origins.add([("traceparent", f"00-{number:032x}-{number:016x}-01".encode())])
    assert len(origins.links()) == telemetry.Origins.MAX
    telemetry._sending = False
    silent = telemetry.Origins()
    silent.add([("traceparent", b"00-1-1-01")])
    assert silent.links() == []


async def test_a_stage_that_flushes_names_the_appends_it_makes_durable(
    spans: InMemorySpanExporter, tmp_path: Path
) -> None:
    world = await World(tmp_path).open()
    try:
        producer = await world.log.producer()
        with telemetry.span("ingestion.append") as headers:
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
