"""Looking dead letters up: in the list that the stage keeps, and one of them on its topic."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eod_contract.kinds import REGULATORY

from eod_workers.dead_letters.index import INDEX_PREFIX, REDRIVEN_KEY, UNLISTED_KEY, Unlisted, index_key
from eod_workers.layouts import UndecodableBatch
from eod_workers.letters import OUTCOMES_KEY, REFUSED, Outcome, decode_letter
from eod_workers.ports import Appended, Log, StateStore, TopicPartition, place
from eod_workers.protos.dead_letter_pb2 import DeadLetter
from eod_workers.trades.partitioner import partition_of

SENT = "sent"
"""On the log; flash P&L has not come to it, or it is a letter of the regulatory stage, which tells nobody."""
_NAMED = 5
"""Letters that are named when an id could be any of them."""


class NoSuchLetter(Exception):
    """It cannot be looked up; the message says why and what would help."""


@dataclass(frozen=True, slots=True)
class ListedLetter:
    """One line of the list.

    Attributes:
        id: the letter's.
        summary: what the stage wrote about it.
        redriven: "" if it never was; `SENT` until flash P&L has come to it, which the words of `letters` tell then.
    """

    id: str
    summary: Mapping[str, Any]
    redriven: str

    @property
    def waiting(self) -> bool:
        """Whether somebody has to do something about it."""
        return self.redriven in {"", REFUSED}


async def list_letters(state: StateStore) -> list[ListedLetter]:
    """All letters that are listed, oldest first. It asks the store alone, once for each partition of their topic."""
    sent, outcomes = await state.hash_get_all(REDRIVEN_KEY), await state.hash_get_all(OUTCOMES_KEY)
    letters = []
    for key in await state.keys(INDEX_PREFIX):
        for name, line in (await state.hash_get_all(key)).items():
            summary = json.loads(line)
            letters.append(ListedLetter(name, summary, _redriven(summary, sent.get(name), outcomes.get(name))))
    return sorted(letters, key=lambda letter: (letter.summary["received_at_ns"], letter.id))


def _redriven(summary: Mapping[str, Any], sent: bytes | None, outcome: bytes | None) -> str:
    if sent is None:
        return ""
    at = json.loads(sent)
    if summary["missed_by"] == REGULATORY.name:  # flash P&L has had it all along
        return REFUSED if summary["written_at_ms"] > at["at_ms"] else SENT
    found = Outcome.read(outcome)
    done = found and found.of(Appended(at["topic"], at["partition"], at["offset"]))
    return found.what if found and done else SENT


async def how_many(state: StateStore) -> int:
    """How many letters are listed."""
    return sum([len(await state.hash_fields(key)) for key in await state.keys(INDEX_PREFIX)])


async def how_many_unlisted(state: StateStore) -> int:
    """How many letters had no room in the list any more."""
    return sum(Unlisted.read(value).letters for value in (await state.hash_get_all(UNLISTED_KEY)).values())


async def find_letter(state: StateStore, log: Log, topic: str, prefix: str) -> DeadLetter:
    """The letter whose id begins so.

    Raises:
        NoSuchLetter: there is none, or several, or its topic has it no more.
    """
    partitions = await log.partition_count(topic)
    likely = partition_of(prefix, partitions)
    line = await state.hash_get(index_key(likely), prefix)
    if line is not None:
        return await _read(log, TopicPartition(topic, likely), prefix, line)
    found = [
        (name, number)
        for number in range(partitions)
        for name in await state.hash_fields(index_key(number))
        if prefix and name.startswith(prefix)
    ]
    if not found:
        raise NoSuchLetter(f"there is no dead letter {prefix}: 'eod dlq list' shows those there are")
    if len(found) > 1:
        some = ", ".join(name for name, _ in found[:_NAMED]) + (", …" if len(found) > _NAMED else "")
        raise NoSuchLetter(f"{len(found):,} dead letters begin with {prefix}: {some}")
    ((name, number),) = found
    line = await state.hash_get(index_key(number), name)
    if line is None:
        raise NoSuchLetter(f"dead letter {name} has just gone")
    return await _read(log, TopicPartition(topic, number), name, line)


async def _read(log: Log, source: TopicPartition, name: str, line: bytes) -> DeadLetter:
    offset = int(json.loads(line)["offset"])
    async for record in log.read(source, offset, offset + 1):
        try:
            letter = decode_letter(record.value)
        except UndecodableBatch:
            break
        if letter.id == name:
            return letter
    raise NoSuchLetter(
        f"dead letter {name} is listed and is not at {place(source, offset)} any more: the topic keeps its records "
        "for its retention.ms; the archive keeps them if there is one"
    )
