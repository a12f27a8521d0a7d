"""The letters of the dead-letter topic against the store that people look them up in, and the reverse."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from eod_workers.dead_letters.index import NONE, Unlisted, index_key, line_of
from eod_workers.layouts import UndecodableBatch
from eod_workers.letters import decode_letter
from eod_workers.ports import Record, place
from eod_workers.reconcile.report import Break


class Logged(NamedTuple):
    """Where a letter was written last, and what the list should say of it."""

    partition: int
    where: str
    line: Mapping[str, Any]


@dataclass(slots=True)
class LoggedLetters:
    """What the log says: letter's id → what was written last."""

    last: dict[str, Logged] = field(default_factory=dict)
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
        where = place(record.source, record.offset)
        self.last[letter.id] = Logged(record.partition, where, line_of(letter, record))


def compare(
    logged: LoggedLetters,
    listed: Mapping[str, bytes],
    unlisted: Mapping[int, Unlisted],
    *,
    beyond: Collection[str] = (),
) -> Iterator[Break]:
    """Every letter that is not where it should be.

    Args:
        logged: what the compared part of the log has.
        listed: what the store lists, id → line.
        unlisted: partition → what it lists no more, for want of room.
        beyond: ids that may be in the store without being in `logged`.
    """
    missing: defaultdict[int, list[str]] = defaultdict(list)
    for letter_id, (partition, where, wanted) in sorted(logged.last.items()):
        stored = listed.get(letter_id)
        if stored is None:
            missing[partition].append(letter_id)
        elif other := _other(stored, wanted):
            yield Break("letters", "different", where, letter_id, f"its line says {other}", "what the letter says")
    for partition, ids in sorted(missing.items()):
        without = unlisted.get(partition, NONE)
        ids.sort(key=lambda one: int(logged.last[one].line["offset"]))
        room = without.letters
        for letter_id in ids:
            _, where, line = logged.last[letter_id]
            if room and line["offset"] <= without.until:
                room -= 1
                continue
            yield Break("letters", "missing", where, letter_id, f"it is not in {index_key(partition)}", "listed")
    for letter_id in sorted(listed.keys() - logged.last.keys() - set(beyond)):
        yield Break("letters", "extra", "the list", letter_id, "a letter that the log does not have", "nothing")


def _other(stored: bytes, wanted: Mapping[str, Any]) -> str:
    """What a stored line says otherwise; a later release may say more."""
    try:
        line: Any = json.loads(stored)
    except ValueError:
        return f"{stored[:80]!r}"
    if not isinstance(line, dict) or "offset" not in line:
        return f"{stored[:80]!r}"
    return ", ".join(f"{name} {value!r}" for name, value in line.items() if name in wanted and wanted[name] != value)
