"""What is listed of the dead letters: a line each, of so many as have room beside the positions.

The letters themselves stay on their topic, which a line says the offset of. A partition of the topic has a hash of its
own, id → line, and one writer, its owner. What has no room, or is no longer on the topic, goes from the list: first
what is oldest of the session that has most, so that nobody's garbage takes another's letter away.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from eod_workers.letters import REASONS, is_of_a_stranger, missed_by
from eod_workers.ports import Record
from eod_workers.protos.dead_letter_pb2 import REASON_UNKNOWN, DeadLetter

INDEX_PREFIX: Final = "dlq:index:"
"""Before a partition of the letters' topic, the key of the hash id → `line_of`."""
UNLISTED_KEY: Final = "dlq:unlisted"
"""Hash: partition → `Unlisted` as JSON."""
REDRIVEN_KEY: Final = "dlq:redriven"
"""Hash: letter id → where its content was put when it was last redriven, as JSON."""
TOPIC_KEY: Final = "dlq:topic"
"""Hash: partition → id of the topic whose letters are listed."""
MAX_DETAIL: Final = 500
"""Characters of a letter's detail in its line."""


def index_key(partition: int) -> str:
    """Where the lines of a partition are."""
    return f"{INDEX_PREFIX}{partition}"


def line_of(letter: DeadLetter, record: Record) -> dict[str, Any]:
    """What the list says of a letter, and where and since when it is on its partition."""
    detail = letter.detail
    return {
        "reason": REASONS.get(letter.reason, REASONS[REASON_UNKNOWN]),  # a later release may know more
        "detail": detail if len(detail) <= MAX_DETAIL else f"{detail[: MAX_DETAIL - 1]}…",
        "stage": letter.stage,
        "session": letter.session,
        "msg_seq_num": letter.msg_seq_num,
        "source": f"{letter.source_topic}[{letter.source_partition}]@{letter.source_offset}"
        if letter.source_topic
        else "",
        "bytes": len(letter.raw) + letter.left_out,
        "received_at_ns": letter.received_at_ns,
        "missed_by": missed_by(letter),
        "stranger": is_of_a_stranger(letter),
        "offset": record.offset,
        "written_at_ms": record.timestamp_ms,
    }


class Unlisted(NamedTuple):
    """What went from a partition's list: how many letters, and the offset of the latest of them."""

    letters: int = 0
    until: int = -1

    @classmethod
    def read(cls, value: bytes | None) -> Unlisted:
        """As it was stored; nothing if it never was."""
        return cls(**json.loads(value)) if value else cls()

    def stored(self) -> bytes:
        """For the store."""
        return json.dumps(self._asdict()).encode()

    def and_of(self, offset: int) -> Unlisted:
        """One more."""
        return Unlisted(self.letters + 1, max(self.until, offset))


NONE: Final = Unlisted()
"""Everything is listed."""


class PartitionList:
    """The lines of one partition, as its owner knows them: who has how many, and which are the oldest."""

    def __init__(self, lines: Mapping[str, bytes], unlisted: Unlisted = NONE) -> None:
        """Begins with what is stored."""
        self.unlisted = unlisted
        self._size = 0
        self._newest_ms = 0
        self.end = 0
        """Behind the latest letter that was added."""
        self._of: dict[str, OrderedDict[str, tuple[int, int]]] = {}
        """Whose → id → (offset, when it was written), in the order of the log."""
        stored = {name: json.loads(line) for name, line in lines.items()}
        for name, line in sorted(stored.items(), key=lambda one: int(one[1]["offset"])):
            self.add(name, line)

    def __len__(self) -> int:
        """How many lines there are."""
        return self._size

    def add(self, name: str, line: Mapping[str, Any]) -> None:
        """A letter that stands behind all others; it may have been written before."""
        whose = "" if line["stranger"] else f"{line['stage']} {line['session']}"
        theirs = self._of.setdefault(whose, OrderedDict())
        self._size += name not in theirs
        theirs[name] = (int(line["offset"]), int(line["written_at_ms"]))
        theirs.move_to_end(name)
        self._newest_ms = max(self._newest_ms, int(line["written_at_ms"]))
        self.end = max(self.end, int(line["offset"]) + 1)

    def take_out(self, most: int, kept_ms: int) -> Iterator[str]:
        """Takes out what is too much, and what is so much older than the newest that its topic has it no more."""
        for whose in list(self._of):
            while whose in self._of and self._oldest_ms(whose) < self._newest_ms - kept_ms:
                yield self._out(whose)
        while self._size > most:
            yield self._out(max(self._of, key=lambda whose: len(self._of[whose])))

    def _oldest_ms(self, whose: str) -> int:
        return next(iter(self._of[whose].values()))[1]

    def _out(self, whose: str) -> str:
        name, (offset, _) = self._of[whose].popitem(last=False)
        if not self._of[whose]:
            del self._of[whose]
        self._size -= 1
        self.unlisted = self.unlisted.and_of(offset)
        return name
