"""The regulatory stage: trades in; rows, exceptions and offsets out, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eod_contract.kinds import REGULATORY

from eod_workers.deadletters.letters import record_letter
from eod_workers.ports import ExceptionRow, Record, TopicPartition, TradeRow
from eod_workers.regulatory.enrichment import ReferenceData, enrich, load_reference
from eod_workers.regulatory.settings import RegulatorySettings
from eod_workers.runtime import telemetry
from eod_workers.runtime.batchloop import BatchLoop
from eod_workers.runtime.letterbox import Letterbox
from eod_workers.runtime.stages import Service, Stage, StageContext
from eod_workers.trades.codec import UndecodableBatch, decode_trades


class RegulatoryHandler:
    """Collects rows until there are enough or the oldest has waited long enough, whichever is first."""

    name = REGULATORY.name

    def __init__(self, context: StageContext, settings: RegulatorySettings, reference: ReferenceData) -> None:
        """Takes the regulatory store and the clock of the context."""
        self._context = context
        self._settings = settings
        self._group = settings.group_of(REGULATORY)
        self._reference = reference
        self._letters = Letterbox(context, self.name)
        self._epochs: dict[TopicPartition, int] = {}
        self._next: dict[TopicPartition, int] = {}
        self._rows: list[TradeRow] = []
        self._exceptions: list[ExceptionRow] = []
        self._waiting_since: float | None = None

    async def assigned(self, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Takes the partitions over in the store, which also says where to go on."""
        starts = {}
        for source, (epoch, offset) in (await self._context.regulatory.take_over(self._group, partitions)).items():
            self._epochs[source] = epoch
            starts[source] = offset or 0
        return starts

    async def revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Drops what was not stored: the next owner reads it again."""
        for source in partitions:
            self._epochs.pop(source, None)
            self._next.pop(source, None)
        self._rows.clear()
        self._exceptions.clear()
        self._waiting_since = None

    async def apply(self, records: Sequence[Record]) -> None:
        """Decodes and enriches."""
        for record in records:
            source = record.source
            if source not in self._epochs:
                continue
            try:
                trades = decode_trades(record.value)
            except UndecodableBatch as error:
                self._letters.add(record_letter(record, str(error), stage=self.name))
                trades = []
            for trade in trades:
                row, unknown = enrich(trade, self._reference, record)
                self._rows.append(row)
                self._exceptions.extend(unknown)
            self._next[source] = record.offset + 1
        if self._next and self._waiting_since is None:
            self._waiting_since = self._context.clock.monotonic()

    def due(self, now: float) -> bool:
        """Enough rows, or the oldest has waited long enough; a quiet log does not keep rows waiting."""
        settings = self._settings
        return self._waiting_since is not None and (
            len(self._rows) >= settings.flush_rows or now - self._waiting_since >= settings.flush_interval_s
        )

    async def flush(self, *, final: bool) -> Mapping[TopicPartition, int]:
        """Stores rows and offsets in one transaction."""
        del final
        if not self._next:
            return {}
        await self._letters.flush()
        offsets = {source: (self._epochs[source], offset) for source, offset in self._next.items()}
        stored = await self._context.regulatory.store(self._group, self._rows, self._exceptions, offsets)
        telemetry.PROCESSED.labels(self.name).inc(stored.inserted)
        telemetry.DUPLICATES.labels(self.name).inc(stored.duplicates)
        for exception in self._exceptions:
            telemetry.EXCEPTIONS.labels(exception.field).inc()
        committed = dict(self._next)
        self._next.clear()
        self._rows.clear()
        self._exceptions.clear()
        self._waiting_since = None
        return committed


def start(context: StageContext, settings: RegulatorySettings) -> Service:
    """The stage over its trades topic.

    Raises:
        ValueError: the reference data cannot be read.
    """
    reference = load_reference(settings.reference_file) if settings.reference_file else ReferenceData()
    handler = RegulatoryHandler(context, settings, reference)
    consumer = context.log.consumer(settings.consumed(REGULATORY), settings.group_of(REGULATORY))
    return BatchLoop(handler, consumer, context.clock, context.health)


STAGE = Stage(REGULATORY, start, RegulatorySettings)
