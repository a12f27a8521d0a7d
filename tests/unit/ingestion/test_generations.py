"""Whose numbers may be saved: for any order of acknowledgements, and whichever partitions nobody leads meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from eod_workers.fix.session import SequenceNumbers
from eod_workers.ingestion.generations import Generation, Generations, Numbers, SentRecord
from eod_workers.ingestion.tenure import Tenure
from eod_workers.ports import Appended, TopicPartition, Unavailable
from eod_workers.protos.dead_letter_pb2 import DeadLetter
from eod_workers.trades.codec import encode_trades
from hypothesis import given
from hypothesis import strategies as st
from support.trade_rows import row

SESSIONS = ("A->EOD", "B->EOD", "C->EOD")
PLACES = [TopicPartition("t", number) for number in range(3)]


@dataclass
class Model:
    """Generations of which every record is known: whose it is, and where it goes to."""

    generations: Generations = field(default_factory=Generations)
    records: list[tuple[int, SentRecord]] = field(default_factory=list)
    saved: dict[str, int] = field(default_factory=dict)
    freed: int = 0
    letters: list[str] = field(default_factory=list)
    size: int = 0

    def cut(self, contents: list[tuple[frozenset[str], int]]) -> None:
        """One more generation, in which each session has come to the number of the generation."""
        number = len({at for at, _ in self.records}) + 1
        loop = asyncio.get_running_loop()
        sent = [SentRecord(loop.create_future(), PLACES[place], of, 10) for of, place in contents]
        numbers: Numbers = {name: (Tenure(name, 1, SequenceNumbers()), SequenceNumbers(1, number)) for name in SESSIONS}
        acknowledged = asyncio.gather(*(one.acknowledged for one in sent))
        size = 10 * len(sent) + 1
        self.generations.add(Generation(number, sent, acknowledged, numbers, [DeadLetter(id=str(number))], size))
        self.records += [(number, one) for one in sent]
        self.size += size

    def acknowledge(self, which: int) -> None:
        """Acknowledge the record at a place."""
        ack = self.records[which % len(self.records)][1].acknowledged
        if not ack.done():
            ack.set_result(Appended("t", 0, 0))

    def settle(self, without: frozenset[TopicPartition]) -> None:
        """Settle, and check that nothing is saved ahead of what it stands for."""
        settled = self.generations.settle(without)
        self.freed += settled.freed
        self.letters += [letter.id for letter in settled.letters]
        for name, (_, numbers) in settled.numbers.items():
            assert numbers.inbound >= self.saved.get(name, 0), "numbers never go back"
            self.saved[name] = numbers.inbound
            for at, one in self.records:
                assert at > numbers.inbound or name not in one.sessions() or one.acknowledged.done()
        waiting = {
            name
            for at, one in self.records
            for name in one.sessions()
            if at <= self.generations.settled_to and not one.acknowledged.done()
        }
        assert self.generations.waiting == waiting
        assert self.size - self.freed >= self.generations.waiting_bytes >= 0


@given(st.data())
async def test_a_session_waits_for_its_own_records_and_in_the_end_for_none(data: st.DataObject) -> None:
    model = Model()
    contents = st.lists(st.tuples(st.frozensets(st.sampled_from(SESSIONS), min_size=1), st.integers(0, 2)), min_size=1)
    for _ in range(data.draw(st.integers(1, 12))):
        model.cut(data.draw(contents))
        for which in data.draw(st.lists(st.integers(0, 50), max_size=6)):
            model.acknowledge(which)
        model.settle(data.draw(st.frozensets(st.sampled_from(PLACES))))
    for which in range(len(model.records)):
        model.acknowledge(which)
    model.settle(frozenset())
    cuts = model.records[-1][0]
    assert model.saved == dict.fromkeys(SESSIONS, cuts)
    assert (model.freed, bool(model.generations), model.generations.waiting) == (model.size, False, frozenset())
    assert sorted(map(int, model.letters)) == list(range(1, cuts + 1))


async def test_others_go_on_whole_generations_ahead_of_one_that_waits() -> None:
    model, without = Model(), frozenset({PLACES[0]})
    model.cut([(frozenset({"A->EOD"}), 0)])
    for number in range(2, 6):
        model.cut([(frozenset({"B->EOD"}), 1)])
        model.acknowledge(number - 1)
        model.settle(without)
        assert model.saved == {"B->EOD": number, "C->EOD": number}
    assert model.generations.waiting == {"A->EOD"}
    model.acknowledge(0)
    model.settle(frozenset())
    assert model.saved == dict.fromkeys(SESSIONS, 5)


async def test_a_record_of_trades_is_of_all_who_have_one_in_it() -> None:
    value = encode_trades([row(1, session="A->EOD"), row(1, session="C->EOD"), row(2, session="A->EOD")])
    ack: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
    assert SentRecord(ack, PLACES[0], value).sessions() == {"A->EOD", "C->EOD"}


async def test_a_record_that_will_never_be_acknowledged_is_raised() -> None:
    model = Model()
    model.cut([(frozenset({"A->EOD"}), 0), (frozenset({"B->EOD"}), 1)])
    model.records[1][1].acknowledged.set_exception(Unavailable("given up"))
    with pytest.raises(Unavailable, match="given up"):
        model.generations.settle(frozenset({PLACES[0]}))
    with pytest.raises(Unavailable):
        await model.generations.oldest.acknowledged
