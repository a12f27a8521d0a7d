"""The regulatory stage: trades in; rows, exceptions and offsets out, in one transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import structlog
from eod_contract.kinds import REGULATORY

from eod_workers.letters import trade_letter
from eod_workers.ports import ExceptionRow, Record, RegulatoryStore, TopicPartition, TradeRow
from eod_workers.protos.dead_letter_pb2 import REASON_DOWNSTREAM, DeadLetter
from eod_workers.regulatory.enrichment import enrich_all
from eod_workers.regulatory.metrics import RegulatoryMetrics
from eod_workers.regulatory.settings import RegulatorySettings
from eod_workers.runtime.batchloop import BatchLoop
from eod_workers.runtime.core import Core, FlushPolicy, Offsets, Refused, Starts
from eod_workers.runtime.stages import Service, Stage, StageContext
from eod_workers.trades.codec import read_trades
from eod_workers.trades.conflicts import FIELD
from eod_workers.trades.gone import gone
from eod_workers.trades.model import Identity, Trade
from eod_workers.trades.reference import ReferenceData, load_reference

logger = structlog.get_logger()


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
        self._records: defaultdict[TopicPartition, list[Record]] = defaultdict(list)
        self._gone: list[ExceptionRow] = []

    async def load(self, partitions: frozenset[TopicPartition], topic_ids: Mapping[str, str]) -> Starts:
        """Takes the partitions over in the store, which also says where to go on."""
        starts, outdated = {}, {}
        for source, claimed in (await self._store.take_over(self._group, partitions, topic_ids)).items():
            self._epochs[source] = claimed.epoch
            starts[source] = claimed.next_offset or 0
            if claimed.outdated is not None:
                outdated[source] = claimed.outdated
        return Starts(starts, outdated)

    def revoke(self, partitions: frozenset[TopicPartition]) -> None:
        """Drops what was not stored."""
        for source in partitions:
            self._epochs.pop(source, None)
            self._rows.pop(source, None)
            self._exceptions.pop(source, None)
            self._records.pop(source, None)

    def lost(self, source: TopicPartition, first: int, end: int) -> None:
        """Notes them beside the rows."""
        self._gone.append(gone(source, first, end))

    def due(self, now: float) -> bool:
        """Whether something is to be noted that no record brought."""
        del now
        return bool(self._gone)

    def apply(self, record: Record, letters: Callable[[DeadLetter], None]) -> int:
        """Decodes and enriches."""
        del letters
        rows, unknown = enrich_all(read_trades(record.value), self._reference, record)
        self._rows[record.source] += rows
        self._exceptions[record.source] += unknown
        self._records[record.source].append(record)
        return len(rows)

    async def make_durable(self, offsets: Offsets, *, final: bool) -> Mapping[TopicPartition, int]:
        """Stores rows and offsets in one transaction; where a row cannot be stored, all others without it."""
        del final
        if not offsets.fresh and not self._gone:
            return {}
        rows = [row for some in self._rows.values() for row in some]
        exceptions = [*self._gone, *(one for some in self._exceptions.values() for one in some)]
        owned = {source: (self._epochs[source], offset) for source, offset in offsets.fresh.items()}
        try:
            await self._put(rows, exceptions, owned)
        except ValueError as error:
            raise Refused(await self._set_apart(rows, exceptions, error)) from error
        self._records.clear()
        self._rows.clear()
        self._exceptions.clear()
        self._gone.clear()
        return offsets.fresh

    async def _put(
        self,
        rows: Sequence[TradeRow],
        exceptions: Sequence[ExceptionRow],
        owned: Mapping[TopicPartition, tuple[int, int]],
    ) -> None:
        """One transaction, counted."""
        stored = await self._store.store(self._group, rows, exceptions, owned)
        self._metrics.processed.labels(self.kind.name).inc(stored.inserted)
        self._metrics.duplicates.labels(self.kind.name).inc(stored.duplicates)
        for exception in exceptions:
            self._metrics.exceptions.labels(exception.field).inc()
        if stored.conflicts:
            self._metrics.exceptions.labels(FIELD).inc(stored.conflicts)
            logger.warning(
                "regulatory.conflicts",
                trades=stored.conflicts,
                why=f"an ExecID came again for another trade of its session and day; the exceptions of field {FIELD} "
                "say which, and the first to come is stored",
            )

    async def _set_apart(
        self, rows: Sequence[TradeRow], exceptions: Sequence[ExceptionRow], error: ValueError
    ) -> list[DeadLetter]:
        """Stores all rows that can be, by halves, and makes letters of the others; nothing is left to be stored then.

        The offsets stay before all of them meanwhile: whoever succeeds us reads the batch again.

        Raises:
            ValueError: `error`; nothing can be stored, so it is not about the rows.
        """
        if not rows:
            raise error
        before = {source: (self._epochs[source], some[0].offset) for source, some in self._records.items() if some}
        try:
            await self._put([], self._gone, before)
        except ValueError:
            raise error from None
        self._gone.clear()
        noted: defaultdict[Identity, list[ExceptionRow]] = defaultdict(list)
        for exception in exceptions:
            noted[exception[:3]].append(exception)
        letters = []
        trades: dict[tuple[TopicPartition, int], dict[TradeRow, Trade]] = {}
        waiting = [rows]
        while waiting:
            some = waiting.pop()
            try:
                await self._put(some, [one for row in some for one in noted[row[:3]]], before)
            except ValueError as why:
                if len(some) == 1:
                    letters.append(self._letter(some[0], str(why), trades))
                else:
                    middle = len(some) // 2
                    waiting += [some[middle:], some[:middle]]  # in their order, the first of a trade before the others
        self._rows.clear()
        self._exceptions.clear()
        logger.warning("regulatory.refused", trades=len(letters), why=letters[0].detail if letters else str(error))
        return letters

    def _letter(
        self, row: TradeRow, why: str, trades: dict[tuple[TopicPartition, int], dict[TradeRow, Trade]]
    ) -> DeadLetter:
        """Of one row; `trades` keeps what its record holds for those that come after it."""
        source = TopicPartition(row.topic, row.partition)
        record = next(one for one in self._records[source] if one.offset == row.offset)
        known = trades.get((source, row.offset))
        if known is None:
            held = read_trades(record.value)
            rows, _ = enrich_all(held, self._reference, record)  # by all they say: another trade may have the same name
            known = trades[source, row.offset] = dict(zip(rows, held.trades(), strict=True))
        return trade_letter(known[row], REASON_DOWNSTREAM, why, stage=self.kind.name, record=record)


def start(context: StageContext[RegulatoryMetrics], settings: RegulatorySettings) -> Service:
    """The stage over its trades topic.

    Raises:
        ValueError: the reference data cannot be read.
    """
    reference = load_reference(settings.reference_file) if settings.reference_file else ReferenceData()
    core = RegulatoryCore(context.regulatory, settings.group_of(REGULATORY), reference, context.metrics)
    return BatchLoop(core, context, settings, FlushPolicy(settings.flush_interval_s, rows=settings.flush_rows))


STAGE = Stage(REGULATORY, start, RegulatorySettings, RegulatoryMetrics)
