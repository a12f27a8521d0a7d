"""The list of dead letters: as much as has room, nobody's letters for another's, and the letters themselves on the log."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from itertools import count

import pytest
from eod_workers.dead_letters.index import MAX_DETAIL, UNLISTED_KEY, PartitionList, Unlisted, index_key, line_of
from eod_workers.dead_letters.lookup import NoSuchLetter, find_letter, how_many, how_many_unlisted, list_letters
from eod_workers.dead_letters.stage import STAGE
from eod_workers.letters import fix_letter, record_letter, summary_letter, trade_letter
from eod_workers.ports import Record, StateWrites, TopicPartition, Unavailable
from eod_workers.protos.dead_letter_pb2 import REASON_PROCESSING, REASON_VALIDATION, DeadLetter
from eod_workers.trades.partitioner import partition_of
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from support.patience import limited, soon
from support.stage_world import PARTITIONS, StageWorld
from support.trade_rows import row

pytestmark = pytest.mark.timeout(60)
_DAY_MS = 86_400_000
_AT = count(1)


def letter_of(session: str = "ACME->EOD", *, epoch: int = 1, detail: str = "why") -> DeadLetter:
    """One that nobody else has; without an epoch it is a stranger's."""
    number = next(_AT)
    return fix_letter(
        b"%d" % number, REASON_VALIDATION, detail,
        session=session, epoch=epoch, msg_seq_num=number, received_at_ns=number,
    )  # fmt: skip


def in_partition(number: int, count: int, session: str = "ACME->EOD", *, epoch: int = 1) -> list[DeadLetter]:
    """So many whose ids are of one partition."""
    made: list[DeadLetter] = []
    while len(made) < count:
        one = letter_of(session, epoch=epoch)
        if partition_of(one.id, PARTITIONS) == number:
            made.append(one)
    return made


async def append(world: StageWorld, letters: Sequence[DeadLetter]) -> None:
    for one in letters:
        await world.append("trades.dlq", partition_of(one.id, PARTITIONS), one.SerializeToString())


async def index(world: StageWorld, letters: Sequence[DeadLetter], *, listed: int) -> None:
    """Let a stage list letters that has room for so many."""
    worker = world.start(STAGE, listed_letters=listed)
    await append(world, letters)
    await world.drained(STAGE)
    await worker.stop()


async def ids(world: StageWorld) -> list[str]:
    return [one.id for one in await list_letters(world.state)]  # type: ignore[arg-type]


async def test_of_more_than_have_room_the_oldest_are_listed_no_more_and_it_is_said_how_many(world: StageWorld) -> None:
    letters = in_partition(3, 9)
    await index(world, letters, listed=4 * PARTITIONS)
    assert await ids(world) == [one.id for one in letters[5:]]
    assert await how_many(world.state) == 4  # type: ignore[arg-type]
    assert await how_many_unlisted(world.state) == 5  # type: ignore[arg-type]


async def test_letters_of_a_topic_that_was_deleted_are_listed_no_more_and_those_of_the_new_one_are(
    world: StageWorld,
) -> None:
    """They are nowhere to be read. What had no room is counted anew, too."""
    await index(world, in_partition(3, 9), listed=4 * PARTITIONS)
    world.make_anew("trades.dlq")
    letters = in_partition(3, 3)
    for some in (letters, []):
        await index(world, some, listed=4 * PARTITIONS)
        assert await ids(world) == [one.id for one in letters]
        assert await how_many_unlisted(world.state) == 0  # type: ignore[arg-type]
    assert (await find_letter(world.state, world.log, "trades.dlq", letters[2].id)) == letters[2]  # type: ignore[arg-type]


async def test_an_offset_that_somebody_has_set_forward_is_said_to_skip_letters_and_set_back_lists_them(
    world: StageWorld,
) -> None:
    letters = in_partition(3, 6)
    await index(world, letters[:2], listed=4 * PARTITIONS)
    await append(world, letters[2:5])
    world.log.commit_by_hand("dead-letters", "trades.dlq", {3: 5})
    with capture_logs() as logs:
        await index(world, letters[5:], listed=4 * PARTITIONS)
    assert await ids(world) == [one.id for one in [*letters[:2], letters[5]]]
    told = [(one["first"], one["records"]) for one in logs if one["event"] == "stage.records_skipped"]
    assert told == [("trades.dlq[3]@2", 3)]
    world.log.commit_by_hand("dead-letters", "trades.dlq", {3: 2})
    await index(world, [], listed=6 * PARTITIONS)
    assert await ids(world) == [one.id for one in letters]


async def test_the_limit_holds_across_workers_and_counts_go_on(world: StageWorld) -> None:
    letters = in_partition(3, 12)
    for part in (letters[:5], letters[5:7], letters[7:]):
        await index(world, part, listed=4 * PARTITIONS)
    assert await ids(world) == [one.id for one in letters[8:]]
    assert await how_many_unlisted(world.state) == 8  # type: ignore[arg-type]


async def test_who_has_most_makes_room_and_strangers_are_one_whatever_they_call_themselves(world: StageWorld) -> None:
    """A thousand names of a stranger would else outlast the letters of those who trade."""
    ours = in_partition(3, 3, "ACME->EOD") + in_partition(3, 1, "BANK->EOD")
    theirs = [one for number in range(20) for one in in_partition(3, 1, f"N{number}->EOD", epoch=0)]
    await index(world, [*ours, *theirs], listed=7 * PARTITIONS)
    assert await ids(world) == [one.id for one in [*ours, *theirs[-3:]]]


async def test_a_letter_that_could_not_be_taken_out_is_when_the_store_is_back(world: StageWorld) -> None:
    letters = in_partition(3, 9)
    worker = world.start(STAGE, listed_letters=4 * PARTITIONS)
    await append(world, letters[:4])
    await world.drained(STAGE)
    world.state.down_for.add("write")
    await append(world, letters[4:])
    await soon(lambda: world.state.refused > 1, "it is tried again")
    assert "state store is down" in worker.health.why_not
    world.state.down_for.clear()
    await world.drained(STAGE)
    await worker.stop()
    assert await ids(world) == [one.id for one in letters[5:]]
    assert await how_many_unlisted(world.state) == 5  # type: ignore[arg-type]


async def test_a_list_that_is_lost_is_made_anew_of_the_topic(world: StageWorld) -> None:
    """Also that of an earlier release, which kept whole letters elsewhere: those go."""
    letters = [letter_of() for _ in range(30)]
    await index(world, letters, listed=1_000)
    for number in range(PARTITIONS):
        await world.state.delete(index_key(number))
    await world.state.put("dlq:letters", b"")
    await world.state.write(StateWrites({UNLISTED_KEY: {"3": Unlisted(9, 9).stored()}}))
    worker = world.start(STAGE)
    async with limited(20):
        while await ids(world) != [one.id for one in letters]:  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.01)
    await worker.stop()
    assert await world.state.keys("dlq:letters") == []
    assert await how_many_unlisted(world.state) == 0  # type: ignore[arg-type]


async def test_a_letter_is_read_where_it_stands_and_one_that_is_gone_is_said_to_be(world: StageWorld) -> None:
    one = letter_of()
    await index(world, [one], listed=100)
    assert await find_letter(world.state, world.log, "trades.dlq", one.id) == one  # type: ignore[arg-type]
    number = partition_of(one.id, PARTITIONS)
    (line,) = (await world.state.hash_get_all(index_key(number))).values()
    await world.state.write(_with(index_key(number), one.id, {**json.loads(line), "offset": 7}))
    with pytest.raises(NoSuchLetter, match=rf"is not at trades.dlq\[{number}\]@7 any more: the topic keeps"):
        await find_letter(world.state, world.log, "trades.dlq", one.id)  # type: ignore[arg-type]
    await append(world, [letter_of("another", detail="under that offset")])
    with pytest.raises(NoSuchLetter, match="any more"):
        await find_letter(world.state, world.log, "trades.dlq", one.id)  # type: ignore[arg-type]


async def test_one_that_stands_in_another_partition_than_its_id_says_is_found(world: StageWorld) -> None:
    """As after a topic has been given more of them."""
    one = letter_of()
    elsewhere = (partition_of(one.id, PARTITIONS) + 1) % PARTITIONS
    worker = world.start(STAGE)
    await world.append("trades.dlq", elsewhere, one.SerializeToString())
    await world.drained(STAGE)
    await worker.stop()
    assert await find_letter(world.state, world.log, "trades.dlq", one.id) == one  # type: ignore[arg-type]


def _with(key: str, name: str, line: object) -> StateWrites:
    return StateWrites({key: {name: json.dumps(line).encode()}})


# --- the pure part ------------------------------------------------------------------------------------------


def _record(offset: int = 0, at_ms: int = 1) -> Record:
    return Record("trades.dlq", 0, offset, None, b"", at_ms)


def test_a_line_is_short_whatever_its_letter_is() -> None:
    long = letter_of("S" * 64 + "->" + "T" * 64, detail="é" * 100_000)
    record = Record("trades.raw", 3, 17, None, b"\xff" * 5_000_000, 9)
    for letter in (long, record_letter(record, "w" * 9_000, stage="flash-pnl")):
        line = line_of(letter, _record(2**40, 2**41))
        assert len(json.dumps(line).encode()) < 6 * MAX_DETAIL + 600
        assert len(line["detail"]) == MAX_DETAIL


@pytest.mark.parametrize(
    ("letter", "stranger"),
    [
        (letter_of(epoch=0), True),
        (letter_of(epoch=1), False),
        (summary_letter("many", session="S", received_at_ns=1), False),
        (record_letter(Record("trades.raw", 0, 0, None, b"x", 1), "why", stage="flash-pnl"), False),
        (trade_letter(row(1)._replace(epoch=0), REASON_PROCESSING, "why", stage="regulatory",
                      record=Record("trades.raw", 0, 0, None, b"x", 1)), False),
    ],
    ids=["stranger", "session", "summary", "record", "trade"],
)  # fmt: skip
def test_whose_a_letter_is(letter: DeadLetter, stranger: bool) -> None:  # noqa: FBT001 - a parameter
    assert line_of(letter, _record())["stranger"] is stranger


def _line(whose: str, offset: int, at_ms: int = 0) -> dict[str, object]:
    return {
        "stage": "ingestion", "session": whose, "stranger": whose == "?", "offset": offset, "written_at_ms": at_ms
    }  # fmt: skip


def test_what_is_older_than_its_topic_keeps_is_listed_no_more() -> None:
    """By when it was written: what a replay reads was received long ago."""
    known = PartitionList({})
    for offset, (name, days) in enumerate((("a", 1), ("b", 5), ("c", 31), ("d", 32))):
        known.add(name, _line("S", offset, days * _DAY_MS))
    assert list(known.take_out(100, 30 * _DAY_MS)) == ["a"]
    assert (len(known), known.unlisted) == (3, Unlisted(1, 0))
    assert list(known.take_out(100, 30 * _DAY_MS)) == []


_NAMES = [f"{whose}{number}" for whose in "AB?C" for number in range(12)]


@settings(max_examples=200)
@given(
    letters=st.lists(st.sampled_from(_NAMES), max_size=80),
    most=st.integers(1, 20),
    again=st.integers(0, 80),
)
def test_what_goes_is_the_oldest_of_whom_most_are(letters: list[str], most: int, again: int) -> None:
    """However they came, whichever were read from the store: against the same said in a slow way.

    A letter that was written twice is where it was written last.
    """
    lines = {name: _line(name[0], offset) for offset, name in enumerate(letters)}
    stored = {name: _line(name[0], offset) for offset, name in enumerate(letters[:again])}
    known = PartitionList({name: json.dumps(line).encode() for name, line in sorted(stored.items())})
    for offset, name in enumerate(letters[again:], again):
        known.add(name, _line(name[0], offset))
    gone = list(known.take_out(most, _DAY_MS))
    left = dict(lines)
    for name in gone:
        theirs = {other: line for other, line in left.items() if other[0] == name[0]}
        assert len(theirs) == max(Counter(other[0] for other in left).values())
        assert left[name]["offset"] == min(int(str(line["offset"])) for line in theirs.values())
        del left[name]
    assert len(left) == min(len(lines), most) == len(known)
    assert known.unlisted == Unlisted(len(gone), max((int(str(lines[name]["offset"])) for name in gone), default=-1))
    assert Unlisted.read(known.unlisted.stored()) == known.unlisted


async def test_a_store_that_is_full_is_said_to_be_and_nothing_is_given_up(world: StageWorld) -> None:
    """The stage is not ready and says why, for as long as it lasts; what it has read is written then."""
    letters = [letter_of() for _ in range(5)]
    worker = world.start(STAGE)
    await soon(lambda: not worker.health.why_not, "it has begun")

    def full(name: str) -> None:
        if name == "write":
            raise Unavailable("redis at x:1 is full: OOM. Give it more memory")

    world.state.after = full
    await append(world, letters)
    await soon(lambda: worker.health.why_not.startswith("flushing: redis at x:1 is full"), "it is said")
    assert not any((await world.log.committed("dead-letters", "trades.dlq")).values())
    world.state.after = lambda _name: None
    await world.drained(STAGE)
    await soon(lambda: not worker.health.why_not, "it is over")
    await worker.stop()
    assert await ids(world) == [one.id for one in letters]


async def test_offsets_are_those_of_the_letters(world: StageWorld) -> None:
    letters = [letter_of() for _ in range(20)]
    await index(world, letters, listed=100)
    for one in await list_letters(world.state):  # type: ignore[arg-type]
        source, offset = TopicPartition("trades.dlq", partition_of(one.id, PARTITIONS)), one.summary["offset"]
        (record,) = [found async for found in world.log.read(source, offset, offset + 1)]
        assert DeadLetter.FromString(record.value).id == one.id
