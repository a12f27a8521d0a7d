"""The regulatory stage: trades in; rows, exceptions and offsets out, in one transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

import structlog
from eod_contract.kinds import REGULATORY

from eod_workers.ports import ExceptionRow, Record, RegulatoryStore, TopicPartition, TradeRow
from eod_workers.protos.dead_letter_pb2 import DeadLetter
from eod_workers.regulatory.enrichment import enrich_all
from eod_workers.regulatory.metrics import RegulatoryMetrics
from eod_workers.regulatory.settings import RegulatorySettings
from eod_workers.runtime.batchloop import BatchLoop
from eod_workers.runtime.core import Core, FlushPolicy, Offsets
from eod_workers.runtime.stages import Service, Stage, StageContext
from eod_workers.trades.codec import read_trades
from eod_workers.trades.conflicts import FIELD
from eod_workers.trades.reference import ReferenceData, load_reference

log = structlog.get_logger()


class RegulatoryCore(Core):
    """Rows and exceptions that are not stored yet, and the epochs under which they may be."""

    kind = REGULATORY

    def __init__(
        self, store: RegulatoryStore, group: str, reference: ReferenceData, metrics: RegulatoryMetrics
    ) -> None:
        """Stores under the name of a consumer group."""
        self._store = store
        self._group = group
        self._reference = reference
        self._metrics = metrics
        self._epochs: dict[TopicPartition, int] = {}
        self._rows: defaultdict[TopicPartition, list[TradeRow]] = defaultdict(list)
        self._exceptions: defaultdict[TopicPartition, list[ExceptionRow]] = defaultdict(list)

    async def load(self, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Takes the partitions over in the store, which also says where to go on."""
        starts = {}
        for source, (epoch, offset) in (await self._store.take_over(self._group, partitions)).items():
            self._epochs[source] = epoch
            starts[source] = offset or 0
        return starts

    def revoke(self, partitions: frozenset[TopicPartition]) -> None:
        """Drops what was not stored."""
        for source in partitions:
            self._epochs.pop(source, None)
            self._rows.pop(source, None)
            self._exceptions.pop(source, None)

    def apply(self, record: Record, letters: Callable[[DeadLetter], None]) -> int:
        """Decodes and enriches."""
        del letters
        rows, unknown = enrich_all(read_trades(record.value), self._reference, record)
        self._rows[record.source] += rows
        self._exceptions[record.source] += unknown
        return len(rows)

    async def make_durable(self, offsets: Offsets, *, final: bool) -> Mapping[TopicPartition, int]:
        """Stores rows and offsets in one transaction."""
        del final
        if not offsets.fresh:
            return {}
        rows = [row for some in self._rows.values() for row in some]
        exceptions = [one for some in self._exceptions.values() for one in some]
        owned = {source: (self._epochs[source], offset) for source, offset in offsets.fresh.items()}
        stored = await self._store.store(self._group, rows, exceptions, owned)
        self._metrics.processed.labels(self.kind.name).inc(stored.inserted)
        self._metrics.duplicates.labels(self.kind.name).inc(stored.duplicates)
        for exception in exceptions:
            self._metrics.exceptions.labels(exception.field).inc()
        if stored.conflicts:
            self._metrics.exceptions.labels(FIELD).inc(stored.conflicts)
            log.warning(
                "regulatory.conflicts",
                trades=stored.conflicts,
                why=f"an ExecID came again for another trade of its session and day; the exceptions of field {FIELD} "
                "say which, and the first to come is stored",
            )
        self._rows.clear()
        self._exceptions.clear()
        return offsets.fresh


def start(context: StageContext[RegulatoryMetrics], settings: RegulatorySettings) -> Service:
    """The stage over its trades topic.

    Raises:
        ValueError: the reference data cannot be read.
    """
    reference = load_reference(settings.reference_file) if settings.reference_file else ReferenceData()
    core = RegulatoryCore(context.regulatory, settings.group_of(REGULATORY), reference, context.metrics)
    return BatchLoop(core, context, settings, FlushPolicy(settings.flush_interval_s, rows=settings.flush_rows))


STAGE = Stage(REGULATORY, start, RegulatorySettings, RegulatoryMetrics)
