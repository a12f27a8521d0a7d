"""The letters of the dead-letter topic against the store that people look them up in, and the reverse."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from eod_workers.dead_letters.stage import INDEX_KEY, LETTERS_KEY
from eod_workers.layouts import UndecodableBatch
from eod_workers.letters import decode_letter
from eod_workers.ports import Record, place
from eod_workers.reconcile.report import Break


@dataclass(slots=True)
class LoggedLetters:
    """What the log says: letter's id → where it was written last, and the digest of what was written there."""

    last: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    records: int = 0
    undecodable: int = 0

    def record(self, record: Record) -> None:
        """The next record of a partition of the topic; a letter's id keeps it to one partition."""
        self.records += 1
        try:
            letter = decode_letter(record.value)
        except UndecodableBatch:
            self.undecodable += 1  # the stage has nothing to show of it either
            return
        self.last[letter.id] = (place(record.source, record.offset), _digest(record.value))


def compare(
    logged: LoggedLetters,
    letters: Mapping[str, bytes],
    index: Collection[str],
    *,
    beyond: Collection[str] = (),
) -> Iterator[Break]:
    """Every letter that is not where it should be.

    Args:
        logged: what the compared part of the log has.
        letters: what the store has, id → `DeadLetter`.
        index: ids that the store lists.
        beyond: ids that may be in the store without being in `logged`.
    """
    for letter_id, (where, wanted) in sorted(logged.last.items()):
        stored = letters.get(letter_id)
        if stored is None:
            yield Break(
                "letters", "missing", where, letter_id, f"it is not in {LETTERS_KEY}", "stored as the log has it"
            )
        elif _digest(stored) != wanted:
            found = f"{LETTERS_KEY} has other content ({len(stored):,} bytes)"
            yield Break("letters", "different", where, letter_id, found, "the letter that the log has")
        elif letter_id not in index:
            yield Break("letters", "missing", where, letter_id, f"it is not in {INDEX_KEY}", "listed")
    for letter_id in sorted((letters.keys() | set(index)) - logged.last.keys() - set(beyond)):
        where = LETTERS_KEY if letter_id in letters else INDEX_KEY
        yield Break("letters", "extra", where, letter_id, "a letter that the log does not have", "nothing")


def _digest(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=16).digest()
