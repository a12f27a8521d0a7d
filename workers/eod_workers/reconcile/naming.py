"""A finding in words: looks the trade up in the log, where only its fingerprint was kept."""

from __future__ import annotations

from eod_workers.ports import ExceptionRow, Log, Record, TopicPartition, TradeRow, place
from eod_workers.reconcile.report import Break
from eod_workers.reconcile.trades import Finding, Occurrence, Scope, differences
from eod_workers.trades.codec import decode_trades
from eod_workers.trades.conflicts import FIELD, describe


class Names:
    """Turns findings into breaks. Findings of one record come together, so the last record read is kept."""

    def __init__(self, log: Log, scope: Scope) -> None:
        """Reads the log by offsets."""
        self._log = log
        self._scope = scope
        self._last: Record | None = None

    async def of(self, finding: Finding) -> Break:
        """The break, with what the log says of the trade."""
        expected = None if finding.occurrence is None else await self._row(finding.occurrence)
        return self._break(finding, expected)

    def briefly(self, finding: Finding) -> Break:
        """The break without a look at the log."""
        return self._break(finding, None)

    def _break(self, finding: Finding, expected: TradeRow | None) -> Break:
        row, occurrence = finding.row, finding.occurrence
        one = row or finding.exception or occurrence
        about = f"{one.exec_id} of {one.session}" if one is not None else ""
        where = "the regulatory store"
        if occurrence is not None:
            where = place(TopicPartition(self._scope.topic, occurrence.partition), occurrence.offset)
        elif row is not None:
            where = place(TopicPartition(row.topic, row.partition), row.offset)
        found, should = _words(finding, row, expected, self._scope)
        return Break(finding.check, finding.kind, where, about, found, should)

    async def _row(self, occurrence: Occurrence) -> TradeRow | None:
        """The row that the occurrence should have become; None if retention has deleted it meanwhile."""
        source = TopicPartition(self._scope.topic, occurrence.partition)
        if self._last is None or (self._last.source, self._last.offset) != (source, occurrence.offset):
            records = [record async for record in self._log.read(source, occurrence.offset, occurrence.offset + 1)]
            self._last = records[0] if records else None
        if self._last is None:
            return None
        return self._scope.expected(decode_trades(self._last.value)[occurrence.nth], self._last)[0]


def _words(finding: Finding, row: TradeRow | None, expected: TradeRow | None, scope: Scope) -> tuple[str, str]:
    """(what is there, what should be there)."""
    if finding.check == "exceptions":
        return _of_exception(finding.kind, finding.exception, finding.wanted)
    if row is None:
        return "no row", describe(expected) if expected is not None else "a row, as the log has the trade"
    if finding.kind == "conflict":
        other = "another trade" if expected is None else describe(expected)
        return (
            f"{other}, which is not stored and counts in flash P&L",
            f"the stored one of that ExecID ({describe(row)})",
        )
    if finding.kind == "extra":
        return f"a row ({describe(row)}) of a trade that the log does not have there", "nothing"
    if finding.kind == "twice":
        return f"a second row ({describe(row)})", "one row"
    if expected is None:
        return f"a row ({describe(row)})", "as the log has the trade"
    return differences(row, expected, scope)


def _of_exception(kind: str, exception: ExceptionRow | None, wanted: tuple[str, ...]) -> tuple[str, str]:
    names = f"an exception for {wanted[0]} {' or '.join(map(repr, wanted[1:]))}" if wanted else "nothing"
    if exception is None:
        return "no exception", names
    if kind == "extra" and exception.field == FIELD:
        return (
            f"an exception for {FIELD} {exception.value!r}",
            "nothing: the log has no other trade of that ExecID there",
        )
    found = f"an exception for {exception.field} {exception.value!r}"
    if kind == "extra":
        return found, "nothing: the reference data knows the name, or the log does not have the trade"
    return found, names
