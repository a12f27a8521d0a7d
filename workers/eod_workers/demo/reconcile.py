"""What was sent against what every store holds, trade by trade and byte by byte.

The left side is the market's own tally; the right side is read back through the ports, from the stores alone. `eod
reconcile` compares the stores with the log, and shares the comparisons with a tally (`eod_workers.reconcile.sent`).
Positions are held against the tally's own arithmetic here, which shares nothing with the books.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction

from eod_workers.archive.segments import decode_segment, received_frames
from eod_workers.dead_letters.lookup import find_letter, list_letters
from eod_workers.market.tally import Tally
from eod_workers.pnl.published import Key, Published, Unreadable, read_position, stored
from eod_workers.ports import Log, ObjectArchive, RegulatoryStore, StateStore
from eod_workers.protos.prices_pb2 import PRICE_SOURCE_OFFICIAL_CLOSE
from eod_workers.reconcile.report import Break
from eod_workers.reconcile.sent import Arrived
from eod_workers.runtime.variables import TopicNames

MAX_NAMED = 20
"""Mismatches named one by one; the rest is counted."""
_E16 = 10**16


@dataclass(slots=True)
class Reconciliation:
    """The numbers of the final table. `mismatches` counts every difference found; `named` says what the first are."""

    sent: int = 0
    garbled: int = 0
    refused: int = 0
    duplicates: int = 0
    traded: int = 0
    archived_bytes: int = 0
    stored_rows: int = 0
    exceptions: int = 0
    dead_lettered: int = 0
    positions_checked: int = 0
    mismatches: int = 0
    expected: dict[str, int] = field(default_factory=dict)
    named: list[str] = field(default_factory=list)

    def differ(self, what: str) -> None:
        """Counts a difference, and names it while there is room."""
        self.mismatches += 1
        if len(self.named) < MAX_NAMED:
            self.named.append(what)

    def extend(self, breaks: Iterable[Break]) -> None:
        """Counts breaks that a comparison has found."""
        for one in breaks:
            self.differ(str(one))

    def check(self, name: str, expected: int) -> None:
        """Compares one of the numbers with what it should be."""
        self.expected[name] = expected
        if getattr(self, name) != expected:
            self.differ(f"{name}: {getattr(self, name):,} found, {expected:,} expected")

    def numbers(self) -> dict[str, int]:
        """The table's rows."""
        return {name: value for name, value in asdict(self).items() if isinstance(value, int)}


async def reconcile(
    tally: Tally,
    *,
    again_intact: int,
    regulatory: RegulatoryStore,
    archive: ObjectArchive,
    state: StateStore,
    log: Log,
    topics: TopicNames,
    heard: Mapping[Key, Published],
) -> Reconciliation:
    """Compares everything.

    Args:
        tally: what was sent.
        again_intact: messages resent on request although they had arrived whole.
        regulatory: rows and exceptions.
        archive: received bytes.
        state: positions, and the list of dead letters.
        log: the letters themselves.
        topics: their names.
        heard: the last position of each that was published to subscribers.
    """
    result = Reconciliation(sent=len(tally.executions))
    arrived = Arrived(tally)
    await _rows(result, arrived, regulatory)
    await _exceptions(result, tally, regulatory)
    await _bytes(result, arrived, archive, topics)
    await _letters(result, arrived, state, log, topics.letters_topic)
    await _positions(result, tally, state, heard)
    result.check("garbled", len(tally.garbled))
    result.check("refused", len(tally.refused))
    result.check("duplicates", tally.duplicates + again_intact)
    result.check("traded", len(tally.executions))
    result.check("stored_rows", len(tally.executions))
    result.check("archived_bytes", tally.bytes_sent)
    result.check("exceptions", len(tally.unknown))
    result.check("dead_lettered", len(tally.garbled | tally.refused))
    return result


async def _rows(result: Reconciliation, arrived: Arrived, regulatory: RegulatoryStore) -> None:
    async for row in regulatory.trades():
        result.stored_rows += 1
        result.extend(arrived.execution(row, "the regulatory store"))
    result.extend(arrived.missing("the regulatory store"))
    result.traded = len(arrived.found & arrived.tally.executions.keys())


async def _exceptions(result: Reconciliation, tally: Tally, regulatory: RegulatoryStore) -> None:
    found = set()
    async for row in regulatory.exceptions():
        result.exceptions += 1
        found.add((row.session, row.trade_date, row.exec_id))
    for identity in found ^ tally.unknown:
        result.differ(f"exception {'missing' if identity in tally.unknown else 'unfounded'}: {identity[2]}")


async def _bytes(result: Reconciliation, arrived: Arrived, archive: ObjectArchive, topics: TopicNames) -> None:
    async for item in archive.objects():
        for record in decode_segment(await archive.get(item.key) or b""):
            received = received_frames(record, sessions_topic=topics.sessions_topic, letters_topic=topics.letters_topic)
            for raw in received:
                arrived.frame(raw, whole=record.topic != topics.letters_topic)
    result.archived_bytes = arrived.bytes_received
    result.duplicates = arrived.duplicates
    result.extend(arrived.frames("the archive"))


async def _letters(result: Reconciliation, arrived: Arrived, state: StateStore, log: Log, topic: str) -> None:
    for listed in await list_letters(state):
        arrived.letter(await find_letter(state, log, topic, listed.id))
        result.dead_lettered += 1
    result.garbled = len(arrived.garbled - arrived.tally.refused)
    result.refused = len(arrived.garbled & arrived.tally.refused)
    result.extend(arrived.letters("the dead letters"))


async def _positions(result: Reconciliation, tally: Tally, state: StateStore, heard: Mapping[Key, Published]) -> None:
    expected = tally.positions()
    found = await stored(state)
    for at in expected.keys() ^ found.keys():
        result.differ(f"position {at} is {'missing' if at in expected else 'unfounded'}")
    for at in expected.keys() & found.keys():
        result.positions_checked += 1
        try:
            position = read_position(found[at])
        except Unreadable as error:
            result.differ(f"position {at}: {error}")
            continue
        holding, mark = expected[at], Fraction(tally.marks_e8[at[1]], 10**8)
        if position.mark_source != PRICE_SOURCE_OFFICIAL_CLOSE:
            result.differ(f"position {at} is not marked by the official close: {position}")
        exact: dict[str, tuple[Fraction | None, Fraction]] = {
            "quantity": (Fraction(position.quantity_e8, 10**8), holding.quantity),
            "mark": (_fraction(position.mark_e8, 10**8), mark),
            "total": (_fraction(position.total_e16, _E16), holding.cash + holding.quantity * mark * holding.multiplier),
        }
        for name, (is_, right) in exact.items():
            if is_ != right:
                shown = None if is_ is None else float(is_)
                result.differ(f"position {at}: {name} is {shown}, should be {float(right)}")
        realized = Fraction(position.realized_e16, _E16)
        if abs(realized - holding.realized) > (1 + holding.multiplier) * Fraction(holding.trades, _E16):  # rounding
            result.differ(f"position {at}: realized is {float(realized)}, should be {float(holding.realized)}")
        if heard.get(at) != position:
            result.differ(f"position {at}: the last update that subscribers heard is not the stored position")


def _fraction(units: int | None, unit: int) -> Fraction | None:
    return None if units is None else Fraction(units, unit)
