"""The log's trades against the rows and exceptions of the regulatory store: one pass over three sorted streams.

A trade is (session, trade date, ExecID). Within a partition its first occurrence is the one that is stored; where it
occurs in several partitions any of those firsts may be, since nothing orders partitions. All other occurrences are
duplicates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from heapq import merge
from itertools import groupby
from typing import NamedTuple

from eod_workers.ports import ExceptionRow, Record, TopicPartition, TradeRow, place
from eod_workers.regulatory.enrichment import enrich
from eod_workers.trades import conflicts
from eod_workers.trades.model import Identity, Trade
from eod_workers.trades.reference import ReferenceData

_SENT = slice(TradeRow._fields.index("epoch"), TradeRow._fields.index("account") + 1)
_ENRICHED = slice(_SENT.start, TradeRow._fields.index("isin") + 1)
_FINGERPRINT_BYTES = 16
_PLACE = re.compile(r"(?P<topic>.*)\[(?P<partition>\d{1,9})\]@(?P<offset>\d{1,18})")


class Occurrence(NamedTuple):
    """A trade in the log: where it stands, what all of its fields add up to, and which of its names are unknown.

    `nth` counts the trades of a record. `substance` differs when it is another trade than one of the same identity
    (see `trades.conflicts`). `unknown` is a JSON object, field → value, or "" if every name is known or
    there is no reference data.
    """

    session: str
    trade_date: int
    exec_id: str
    partition: int
    offset: int
    nth: int
    fingerprint: bytes
    substance: bytes
    unknown: str


class Finding(NamedTuple):
    """A difference, before anybody has looked up what the log says of the trade.

    `occurrence` is where the log has the trade, `row` what the store has; `exception` is the stored or the wanted one.
    """

    check: str
    kind: str
    occurrence: Occurrence | None = None
    row: TradeRow | None = None
    exception: ExceptionRow | None = None
    wanted: tuple[str, ...] = ()


_Stream = Occurrence | TradeRow | ExceptionRow


@dataclass(frozen=True, slots=True)
class Scope:
    """What is compared.

    Attributes:
        topic: of trades.
        spans: partition → (first offset, end) of the part of the log that was read.
        reference: what rows are enriched with; None leaves enrichment and exceptions out.
        whole: whether the spans are all partitions, so that an exception without any trade can be told.
        log_ends: partition → where the log ended after the rows were read.
    """

    topic: str
    spans: Mapping[int, tuple[int, int]]
    reference: ReferenceData | None
    whole: bool
    log_ends: Mapping[int, int] = field(default_factory=dict)

    def has(self, where: str) -> bool:
        """Whether a place, as `ports.place` writes it, is in the part of the log that was read."""
        found = _PLACE.fullmatch(where)
        if found is None or found["topic"] != self.topic or int(found["partition"]) not in self.spans:
            return found is None
        start, end = self.spans[int(found["partition"])]
        return start <= int(found["offset"]) < end

    @property
    def columns(self) -> slice:
        """The columns of a row that are compared."""
        return _SENT if self.reference is None else _ENRICHED

    def fingerprint(self, row: TradeRow) -> bytes:
        """Sixteen bytes that differ when a compared column does."""
        return _digest(row[self.columns])

    def expected(self, trade: Trade, record: Record) -> tuple[TradeRow, list[ExceptionRow]]:
        """The row and the exceptions that a trade should have become."""
        return enrich(trade, self.reference or ReferenceData(), record)

    def occurrence(self, trade: Trade, record: Record, nth: int) -> Occurrence:
        """A trade as it is compared."""
        row, unknown = self.expected(trade, record)
        names = {one.field: one.value for one in unknown} if self.reference is not None else {}
        return Occurrence(
            *trade.identity,
            record.partition,
            record.offset,
            nth,
            self.fingerprint(row),
            _substance(row),
            json.dumps(names) if names else "",
        )


@dataclass(slots=True)
class Counts:
    """What was compared."""

    trades: int = 0
    duplicates: int = 0
    rows: int = 0
    rows_elsewhere: int = 0
    exceptions: int = 0


def compare(
    occurrences: Iterable[Occurrence],
    rows: Iterable[TradeRow],
    exceptions: Iterable[ExceptionRow],
    scope: Scope,
    counts: Counts,
) -> Iterator[Finding]:
    """Every difference, trade by trade. Each stream is sorted by identity, occurrences then by their place."""
    streams: tuple[Iterable[_Stream], ...] = (occurrences, rows, exceptions)
    for _, group in groupby(merge(*streams, key=_identity), key=_identity):
        seen: list[Occurrence] = []
        stored: list[TradeRow] = []
        noted: list[ExceptionRow] = []
        for one in group:
            if isinstance(one, Occurrence):
                seen.append(one)
            elif isinstance(one, TradeRow):
                stored.append(one)
            else:
                noted.append(one)
        inside = [row for row in stored if _in_span(row, scope)]
        counts.trades += bool(seen)
        counts.duplicates += max(0, len(seen) - 1)
        counts.rows += len(inside)
        counts.rows_elsewhere += len(stored) - len(inside)
        yield from _rows(seen, stored, inside, scope)
        if scope.reference is not None:
            counts.exceptions += len(noted)
            yield from _exceptions(seen, stored, inside, noted, scope)


def _digest(values: object) -> bytes:
    text = repr(values).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=_FINGERPRINT_BYTES).digest()


def _substance(row: TradeRow) -> bytes:
    return _digest(conflicts.substance(row))


def _identity(one: _Stream) -> Identity:
    return (one[0], one[1], one[2])


def _in_span(row: TradeRow, scope: Scope) -> bool:
    if row.topic != scope.topic or row.partition not in scope.spans:
        return False
    start, end = scope.spans[row.partition]
    return start <= row.offset < end


def _rows(seen: list[Occurrence], stored: list[TradeRow], inside: list[TradeRow], scope: Scope) -> Iterator[Finding]:
    firsts: dict[int, Occurrence] = {}
    for occurrence in seen:
        firsts.setdefault(occurrence.partition, occurrence)
    if len(stored) > 1:
        yield Finding("rows", "twice", seen[0] if seen else None, stored[1])
    elif seen and not stored:
        yield Finding("rows", "missing", seen[0])
    for row in inside[:1]:
        first = firsts.get(row.partition)
        if not seen:
            yield Finding("rows", "extra", None, row)
        elif first is None or row.offset != first.offset or scope.fingerprint(row) != first.fingerprint:
            yield Finding("rows", "different", first or seen[0], row)
    for row in stored[:1]:
        # A row from behind the span, though the span has the trade earlier in the same partition.
        if row.topic != scope.topic or row.partition not in scope.spans or row in inside:
            continue
        if row.partition in firsts and row.offset >= scope.spans[row.partition][1]:
            yield Finding("rows", "different", firsts[row.partition], row)
        elif row.offset >= scope.log_ends.get(row.partition, row.offset + 1):
            yield Finding("rows", "extra", None, row)
    yield from _conflicts(firsts, stored)


def _conflicts(firsts: Mapping[int, Occurrence], stored: list[TradeRow]) -> Iterator[Finding]:
    """Another trade under the ExecID of the stored one, in another partition: flash P&L counts both."""
    for row in stored[:1]:
        for partition, first in firsts.items():
            if partition != row.partition and first.substance != _substance(row):
                yield Finding("rows", "conflict", first, row)


def _exceptions(
    seen: list[Occurrence],
    stored: list[TradeRow],
    inside: list[TradeRow],
    noted: list[ExceptionRow],
    scope: Scope,
) -> Iterator[Finding]:
    """A name that any occurrence does not know must be noted once; which occurrence's value it has is left open."""
    judged = bool(inside) if stored else bool(seen) or scope.whole
    others = [one for one in noted if one.field == conflicts.FIELD]
    yield from _other_trades(seen, stored, _stored_substance(seen, stored, inside), others, scope, judged=judged)
    wanted: dict[str, set[str]] = {}
    for occurrence in seen:
        if occurrence.unknown:
            for name, value in json.loads(occurrence.unknown).items():
                wanted.setdefault(name, set()).add(value)
    found = {exception.field: exception for exception in noted if exception.field != conflicts.FIELD}
    for name in wanted.keys() - found.keys():
        yield Finding("exceptions", "missing", seen[0], wanted=(name, *sorted(wanted[name])))
    for name in sorted(found.keys() - wanted.keys()):
        if judged:
            yield Finding("exceptions", "extra", seen[0] if seen else None, exception=found[name])
    for name in sorted(found.keys() & wanted.keys()):
        if found[name].value not in wanted[name] and judged:
            values = (name, *sorted(wanted[name]))
            yield Finding("exceptions", "different", seen[0], exception=found[name], wanted=values)


def _other_trades(
    seen: list[Occurrence],
    stored: list[TradeRow],
    right: bytes,
    noted: list[ExceptionRow],
    scope: Scope,
    *,
    judged: bool,
) -> Iterator[Finding]:
    """Each trade that is another one than the row must be noted, at any place where it has come."""
    wanted: dict[bytes, set[str]] = {}
    for occurrence in seen if stored else ():
        if occurrence.substance != right:
            where = place(TopicPartition(scope.topic, occurrence.partition), occurrence.offset)
            wanted.setdefault(occurrence.substance, set()).add(where)
    notes = [one for one in noted if scope.has(one.value)]
    whole = len(notes) == len(
        noted
    )  # or there are some of occurrences that were not read, and nobody knows of which trade
    missing = []
    for places in wanted.values():
        of_it = next((one for one in notes if one.value in places), None)
        if of_it is None:
            missing.append((conflicts.FIELD, *sorted(places)))
        else:
            notes.remove(of_it)
    for named in missing if whole else ():
        if notes and judged:
            yield Finding("exceptions", "different", seen[0], exception=notes.pop(0), wanted=named)
        elif not notes:
            yield Finding("exceptions", "missing", seen[0], wanted=named)
    for one in notes if judged else ():
        yield Finding("exceptions", "extra", seen[0] if seen else None, exception=one)


def _stored_substance(seen: list[Occurrence], stored: list[TradeRow], inside: list[TradeRow]) -> bytes:
    """What the stored trade is about, or should be: the first occurrence of its partition has been stored."""
    of_partition = [one.substance for one in seen if inside and one.partition == inside[0].partition]
    return next(iter([*of_partition, *map(_substance, stored)]), b"")


# --- naming ---------------------------------------------------------------------------------------


def differences(found: TradeRow, expected: TradeRow, scope: Scope) -> tuple[str, str]:
    """The columns that differ, as they are and as they should be."""
    names = (*TradeRow._fields[scope.columns], "topic", "partition", "offset")
    odd = [name for name in names if getattr(found, name) != getattr(expected, name)]
    return (
        ", ".join(f"{name} is {getattr(found, name)!r}" for name in odd),
        ", ".join(f"{getattr(expected, name)!r}" for name in odd),
    )
