"""What all commands have in common, and those of the dead letters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from importlib.metadata import version
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from eod_workers.adapters.memory_log import MemoryLog
from eod_workers.adapters.memory_state import MemoryState
from eod_workers.cli import commands as cli
from eod_workers.dead_letters.index import REDRIVEN_KEY, UNLISTED_KEY, Unlisted, index_key, line_of
from eod_workers.letters import fix_letter
from eod_workers.ports import Record, StateWrites, TopicSpec
from eod_workers.process import bootstrap
from eod_workers.protos.dead_letter_pb2 import REASON_DESERIALIZATION, REASON_VALIDATION, DeadLetter
from eod_workers.trades.partitioner import partition_of
from support.commands import whole_command
from typer.testing import CliRunner, Result

_NOTHING_TO_PRINT = {
    "eod stage run",
    "eod fix echo",
    "operator run",
    "operator crd",
    "forecast train",
    "forecast trace",
}
"""They serve, print a YAML file, or write the file that they are told."""


def commands() -> Iterator[tuple[str, set[str]]]:
    """Every command there is, those of the operator included, with its options."""

    def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, set[str]]]:
        for name, one in getattr(command, "commands", {}).items():
            yield from walk(one, (*path, name))
        if not hasattr(command, "commands"):
            yield " ".join(path), {option for param in command.params for option in param.opts}

    yield from walk(typer.main.get_command(whole_command()), ())


def test_every_command_that_prints_prints_json_when_asked_to() -> None:
    found = dict(commands())
    assert len(found) > 20
    assert {name for name, options in found.items() if "--json" not in options} == _NOTHING_TO_PRINT


def test_it_says_its_version() -> None:
    told = CliRunner().invoke(cli.app, ["--version"])
    assert (told.exit_code, told.stdout) == (0, f"eod {version('eod')}\n")


# --- dead letters -------------------------------------------------------------------------------------------


def letter(number: int, reason: int, session: str) -> DeadLetter:
    """One that has an id of its own."""
    return fix_letter(
        b"8=FIX\x0155=%d\x01" % number,
        reason,  # type: ignore[arg-type]
        f"what is wrong\twith {number}",
        session=session,
        epoch=1,
        msg_seq_num=number,
        received_at_ns=number,
    )


LETTERS = [
    letter(number, REASON_VALIDATION if number % 2 else REASON_DESERIALIZATION, f"BROKER{number % 3}->EOD")
    for number in range(1, 13)
]


@pytest.fixture(autouse=True)
async def state(monkeypatch: pytest.MonkeyPatch) -> MemoryState:
    """A log with letters and a store that lists them, one of them redriven."""
    made, log = MemoryState(), MemoryLog()
    await log.ensure_topics([TopicSpec("trades.dlq", 3)])
    producer = await log.producer()
    for one in LETTERS:
        at = await (await producer.send("trades.dlq", partition_of(one.id, 3), one.SerializeToString()))
        line = json.dumps(line_of(one, Record(*at, None, b"", 1))).encode()
        await made.write(StateWrites({index_key(at.partition): {one.id: line}}))
    sent = {"topic": "trades.raw", "partition": 1, "offset": 7, "at_ms": 5}
    await made.write(StateWrites({REDRIVEN_KEY: {LETTERS[0].id: json.dumps(sent).encode()}}))

    async def make_context(*_: object) -> Any:
        return SimpleNamespace(state=made, log=log)

    monkeypatch.setattr(bootstrap, "make_context", make_context)
    return made


def eod(*words: str) -> Result:
    return CliRunner().invoke(cli.app, ["dlq", *words])


def listed(*words: str) -> list[str]:
    """The ids that a list has."""
    return [one["id"] for one in json.loads(eod("list", *words, "--json").stdout)]


def ids(*numbers: int) -> list[str]:
    return [LETTERS[number - 1].id for number in numbers]


def test_without_a_terminal_a_line_is_a_letter_and_ids_are_whole() -> None:
    head, *lines = eod("list").stdout.splitlines()
    assert head.split("\t") == ["id", "reason", "stage", "session", "detail", "redriven"]
    assert [line.split("\t")[0] for line in lines] == ids(*range(1, 13))
    assert lines[0].split("\t")[1:] == ["Validation", "ingestion", "BROKER1->EOD", "what is wrong with 1", "sent"]


def test_letters_are_chosen_by_what_they_are() -> None:
    assert listed("--reason", "validation") == ids(1, 3, 5, 7, 9, 11)
    assert listed("--session", "BROKER2") == ids(2, 5, 8, 11)
    assert listed("--stage", "regulatory") == []
    assert listed("--waiting") == ids(*range(2, 13))
    assert listed("--id", LETTERS[4].id[:8]) == ids(5)
    assert listed("--session", "BROKER1", "--reason", "Validation", "--waiting") == ids(7)


def test_the_newest_are_kept_and_it_is_said_that_there_are_more() -> None:
    ended = eod("list", "--limit", "2", "--json")
    assert [one["id"] for one in json.loads(ended.stdout)] == ids(11, 12)
    assert ended.stderr.strip() == "eod: the newest 2 of 12: --limit 0 shows all"


async def test_it_is_said_how_many_had_no_room(state: MemoryState) -> None:
    stored = {"0": Unlisted(1_200, 5).stored(), "2": Unlisted(34, 9).stored()}
    await state.write(StateWrites({UNLISTED_KEY: stored}))
    ended = await asyncio.to_thread(eod, "list", "--json")
    assert len(json.loads(ended.stdout)) == len(LETTERS)
    assert ended.stderr.strip().startswith("eod: 1,234 older letters are listed no more, for want of room (EOD_LISTED_")


def test_a_reason_that_there_is_not_is_refused_with_those_there_are() -> None:
    ended = eod("list", "--reason", "Nonsense")
    assert (ended.exit_code, "there are Unknown, Deserialization, Validation" in ended.stderr) == (2, True)


def test_a_letter_is_found_by_the_beginning_of_its_id() -> None:
    ended = eod("show", LETTERS[2].id[:10])
    assert ended.stdout.splitlines() == [r"what is wrong\twith 3", "8=FIX|55=3|"]
    assert json.loads(eod("show", LETTERS[2].id, "--json").stdout) == {
        "id": LETTERS[2].id, "reason": "Validation", "detail": "what is wrong\twith 3", "bytes": "8=FIX|55=3|",
    }  # fmt: skip


@pytest.mark.parametrize("command", ["show", "redrive"])
def test_a_beginning_that_several_have_or_none_is_refused(command: str) -> None:
    first = sorted(one.id for one in LETTERS)
    common = next(a[0] for a, b in pairwise(first) if a[0] == b[0])
    ended = eod(command, common)
    assert (ended.exit_code, f"dead letters begin with {common}: " in ended.stderr) == (2, True)
    for nobodys in ("nonsense", ""):
        ended = eod(command, nobodys)
        assert (ended.exit_code, f"there is no dead letter {nobodys}" in ended.stderr) == (2, True)
