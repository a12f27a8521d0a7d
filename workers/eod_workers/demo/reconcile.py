"""What was sent against what every store holds, trade by trade and byte by byte.

The left side is the market's own tally; the right side is read back through the ports, from the stores alone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from fractions import Fraction

from eod_workers.archive.segments import decode_segment, received_frames
from eod_workers.deadletters.letters import decode_letter, is_first_hand
from eod_workers.deadletters.stage import LETTERS_KEY
from eod_workers.market.tally import Tally, digest
from eod_workers.pnl.stage import UNASSIGNED, positions_key
from eod_workers.ports import ObjectArchive, RegulatoryStore, StateStore
from eod_workers.runtime.stages import StageOptions
from eod_workers.trades.model import SIDE_BUY

MAX_NAMED = 20
"""Mismatches named one by one; the rest is counted."""
_E16 = 10**16


@dataclass(slots=True)
class Reconciliation:
    """The numbers of the final table. `mismatches` counts every difference found; `named` says what the first are."""

    sent: int = 0
    garbled: int = 0
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
    options: StageOptions,
    heard: Mapping[tuple[str, str], str],
) -> Reconciliation:
    """Compares everything.

    Args:
        tally: what was sent.
        again_intact: messages resent on request although they had arrived whole.
        regulatory: rows and exceptions.
        archive: received bytes.
        state: positions and dead letters.
        options: topic names.
        heard: (trader, symbol) → the last position published to subscribers, as JSON text.
    """
    result = Reconciliation(sent=len(tally.executions))
    await _rows(result, tally, regulatory)
    await _exceptions(result, tally, regulatory)
    reports = await _bytes(result, tally, archive, options)
    await _letters(result, tally, state)
    await _positions(result, tally, state, heard)
    result.duplicates = reports - result.sent
    result.check("garbled", len(tally.garbled))
    result.check("duplicates", tally.duplicates + again_intact)
    result.check("traded", len(tally.executions))
    result.check("stored_rows", len(tally.executions))
    result.check("archived_bytes", tally.bytes_sent)
    result.check("exceptions", len(tally.unknown))
    result.check("dead_lettered", len(tally.garbled))
    return result


async def _rows(result: Reconciliation, tally: Tally, regulatory: RegulatoryStore) -> None:
    seen = set()
    async for row in regulatory.trades():
        result.stored_rows += 1
        identity = (row.session, row.exec_id)
        seen.add(identity)
        sent = tally.executions.get(identity)
        if sent is None:
            result.differ(f"stored but never sent: {row.exec_id}")
            continue
        stored = (
            row.exec_ref_id,
            row.action,
            row.symbol,
            row.trader,
            row.strategy,
            row.last_qty_e8 if row.side == SIDE_BUY else -row.last_qty_e8,
            row.last_px_e8,
            row.transact_time_ns,
        )
        if stored != sent[2:]:
            result.differ(f"row of {row.exec_id} is {stored}, sent was {sent[2:]}")
    for session, exec_id in tally.executions.keys() - seen:
        result.differ(f"sent but not stored: {exec_id} of {session}")
    result.traded = len(seen & tally.executions.keys())


async def _exceptions(result: Reconciliation, tally: Tally, regulatory: RegulatoryStore) -> None:
    found = set()
    async for row in regulatory.exceptions():
        result.exceptions += 1
        found.add((row.session, row.exec_id))
    for session, exec_id in found ^ tally.unknown:
        result.differ(f"exception {'missing' if (session, exec_id) in tally.unknown else 'unfounded'}: {exec_id}")


async def _bytes(result: Reconciliation, tally: Tally, archive: ObjectArchive, options: StageOptions) -> int:
    """Compares frames as multisets; returns how many whole execution reports the archive holds."""
    frames: Counter[bytes] = Counter()
    reports = 0
    async for item in archive.objects():
        for record in decode_segment(await archive.get(item.key) or b""):
            received = received_frames(
                record, sessions_topic=options.sessions_topic, letters_topic=options.letters_topic
            )
            for raw in received:
                name = digest(raw)
                frames[name] += 1
                result.archived_bytes += len(raw)
                reports += record.topic != options.letters_topic and b"\x0135=8\x01" in raw[:24]
    missing, extra = tally.frames - frames, frames - tally.frames
    for what, difference in (("missing from", missing), ("never sent but in", extra)):
        if difference:
            result.differ(f"{difference.total()} frames {what} the archive")
    return reports


async def _letters(result: Reconciliation, tally: Tally, state: StateStore) -> None:
    letters = [decode_letter(value) for value in (await state.hash_get_all(LETTERS_KEY)).values()]
    result.dead_lettered = len(letters)
    found = {digest(letter.raw) for letter in letters if is_first_hand(letter)}
    result.garbled = len(found)
    if found != tally.garbled:
        result.differ(f"{len(found ^ tally.garbled)} garbled frames are not the dead letters there are")


async def _positions(
    result: Reconciliation, tally: Tally, state: StateStore, heard: Mapping[tuple[str, str], str]
) -> None:
    expected = tally.positions()
    published: dict[tuple[str, str], str] = {}
    for key in await state.keys(positions_key("")[: -len(UNASSIGNED)]):
        trader = key.split(":", 1)[1]
        for symbol, value in (await state.hash_get_all(key)).items():
            published[trader, symbol] = value.decode()
    for at in expected.keys() ^ published.keys():
        result.differ(f"position {at} is {'missing' if at in expected else 'unfounded'}")
    for at in expected.keys() & published.keys():
        result.positions_checked += 1
        position = json.loads(published[at])
        holding, mark = expected[at], Fraction(tally.marks_e8[at[1]], 10**8)
        found = {
            name: None if position[name] is None else Fraction(Decimal(position[name]))
            for name in ("quantity", "cost", "realized", "total", "mark")
        }
        if position["mark_source"] != "official_close":
            result.differ(f"position {at} is marked by {position['mark_source']}, not by the official close")
        exact = {
            "quantity": holding.quantity,
            "mark": mark,
            "total": holding.cash + holding.quantity * mark,
        }
        for name, right in exact.items():
            if found[name] != right:
                result.differ(f"position {at}: {name} is {position[name]}, should be {float(right)}")
        rounding = Fraction(holding.trades, _E16)
        realized = found["realized"]
        if realized is None or abs(realized - holding.realized) > rounding:
            result.differ(f"position {at}: realized is {position['realized']}, should be {float(holding.realized)}")
        if json.loads(heard.get(at, "null")) != position:
            result.differ(f"position {at}: the last update that subscribers heard is not the stored position")
