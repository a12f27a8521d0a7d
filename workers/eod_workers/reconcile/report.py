"""What a reconciliation has found: breaks, numbers, and what could not be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

CHECKS = ("archive", "rows", "exceptions", "positions", "letters", "sent")
"""Every comparison there is."""
MAX_BREAKS = 100
"""Breaks that are named unless told otherwise; the rest is counted."""
EQUAL, BROKEN, UNDONE = 0, 1, 2
"""Exit codes. A break outweighs what could not be compared."""


class NotComparable(Exception):
    """The comparison cannot be made as things are; the message says why and what to do."""


class Break(NamedTuple):
    """One difference.

    Attributes:
        check: which comparison found it, of `CHECKS`.
        kind: "missing", "extra", "different", "unreadable", "twice" or "conflict" (see `trades.conflicts`).
        where: the place in the log or in the store, as topic[partition]@offset or a key.
        trade: what it is about: "ExecID of session" (and how many more of its record), "trader symbol", a letter's id;
            "" when it is no such thing.
        found: what is there.
        expected: what should be there.
    """

    check: str
    kind: str
    where: str
    trade: str
    found: str
    expected: str

    def __str__(self) -> str:
        """One line."""
        about = f", {self.trade}" if self.trade else ""
        return f"{self.check}: {self.kind} at {self.where}{about}: {self.found}; should be {self.expected}"


@dataclass(slots=True)
class Report:
    """Everything that a reconciliation has to say.

    Attributes:
        max_breaks: how many breaks are kept by name.
        numbers: check → name of a number → the number, or a hash.
        breaks: the first breaks.
        counts: check → how many breaks it found in all.
        notes: what was left out of the comparison for a good reason.
        undone: what should have been compared and could not be; each with its remedy.
    """

    max_breaks: int = MAX_BREAKS
    numbers: dict[str, dict[str, Any]] = field(default_factory=dict)
    breaks: list[Break] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Whether a further break is only counted."""
        return len(self.breaks) >= self.max_breaks

    def add(self, found: Break) -> None:
        """Counts a break, and names it while there is room."""
        self.counts[found.check] += 1
        if not self.full:
            self.breaks.append(found)

    def extend(self, found: Iterable[Break]) -> None:
        """Adds each."""
        for one in found:
            self.add(one)

    @property
    def exit_code(self) -> int:
        """EQUAL, BROKEN or UNDONE."""
        if self.counts:
            return BROKEN
        return UNDONE if self.undone else EQUAL

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "result": {EQUAL: "equal", BROKEN: "broken", UNDONE: "undone"}[self.exit_code],
            "breaks_total": self.counts.total(),
            "breaks_by_check": {check: self.counts[check] for check in self.numbers},
            "breaks": [found._asdict() for found in self.breaks],
            "numbers": self.numbers,
            "notes": self.notes,
            "undone": self.undone,
        }
