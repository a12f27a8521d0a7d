"""A session that moves between ingestions, in the midst of everything: no trade is lost, none counts twice.

The simulation in `moving` interleaves two ingestions at will; a failing seed fails again.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import structlog
from eod_workers.adapters.sqlite import SqliteRegulatoryStore
from eod_workers.pnl.book import Outcome, PartitionBook
from eod_workers.ports import Record, TopicPartition
from eod_workers.regulatory.enrichment import enrich
from eod_workers.trades.codec import decode_trades
from eod_workers.trades.reference import ReferenceData
from support.amounts import seeds
from unit.ingestion.moving import PARTITIONS, Moving

pytestmark = pytest.mark.timeout(120)
SEEDS = seeds(60, quick=8)
STEPS = 700


def _flash(moving: Moving, remember: int) -> list[str]:
    """The ExecIDs that flash P&L applies, in its order; nothing may be refused."""
    books = [PartitionBook(remember) for _ in range(PARTITIONS)]
    applied = []
    for partition, value in moving.log:
        for trade in decode_trades(value):
            outcome, why, _ = books[partition].apply(trade)
            assert not outcome.refused, why
            if outcome is Outcome.APPLIED:
                applied.append(trade.exec_id)
    assert sum(position.trades for book in books for _, position in book.positions()) == len(applied)
    return applied


async def _regulatory(moving: Moving, file: Path) -> list[str]:
    """The ExecIDs of the regulatory store's rows."""
    store = SqliteRegulatoryStore(file)
    partitions = [TopicPartition("trades", number) for number in range(PARTITIONS)]
    owned = await store.take_over("g", partitions)
    for offset, (partition, value) in enumerate(moving.log):
        source = partitions[partition]
        record = Record(*source, offset, None, value, 0)
        rows = [enrich(trade, ReferenceData(), record)[0] for trade in decode_trades(value)]
        await store.store("g", rows, [], {source: (owned[source][0], offset + 1)})
    stored = [row.exec_id async for row in store.trades()]
    await store.close()
    return stored


async def _moved(seed: int, *, holes: bool) -> Moving:
    """A simulation that has come to rest."""
    moving = Moving(seed, holes=holes)
    try:
        await moving.play(STEPS)
        await moving.settle()
    finally:
        await moving.close()
    return moving


@pytest.mark.parametrize("seed", SEEDS)
async def test_what_counts_is_what_was_sent_whatever_the_interleaving(seed: int, tmp_path: Path) -> None:
    """Applied set = sent set in flash P&L, also with hardly any memory, and in the regulatory store."""
    moving = await _moved(seed, holes=False)
    sent = sorted(moving.broker.sent)
    names: dict[str, set[tuple[int, int]]] = {}
    for trade in moving.trades():
        names.setdefault(trade.exec_id, set()).add((trade.epoch, trade.msg_seq_num))
    assert sorted(names) == sent, "the log has all of them and nothing else"
    # A Logon that resets may be read long after the counterparty has gone elsewhere: then everything comes again, in
    # another epoch, and only a memory that reaches back tells. Without it each trade has one number and that suffices.
    assert moving.resets or all(len(ones) == 1 for ones in names.values()), "what comes again keeps its number"
    for remember in (100_000,) if moving.resets else (100_000, 1):
        assert sorted(_flash(moving, remember)) == sent, f"remembering {remember}"
    assert sorted(await _regulatory(moving, tmp_path / "regulatory.db")) == sent


@pytest.mark.parametrize("seed", SEEDS)
async def test_what_was_refused_can_be_refused_again_whoever_serves_the_session_next(seed: int) -> None:
    """Each message that nobody handles, since the numbers last began, has its BusinessMessageReject in the store."""
    moving = await _moved(seed, holes=bool(seed % 2))
    wanted = {number for number, (kind, _) in moving.broker.history.items() if kind == b"B"}
    assert (await moving.kept()).keys() == wanted


@pytest.mark.parametrize("seed", SEEDS)
async def test_an_append_that_overtakes_a_lost_one_hides_nothing(seed: int) -> None:
    """A log that drops some of a dead ingestion's appends and takes later ones: what fills the hole counts."""
    moving = await _moved(seed, holes=True)
    assert sorted(_flash(moving, 100_000)) == sorted(moving.broker.sent)


@pytest.mark.slow
async def test_the_simulations_meet_what_they_are_about() -> None:
    """Moves, deaths, resets, ingestions that find themselves fenced, and trades that come again: each many times."""
    met: Counter[str] = Counter()
    with structlog.testing.capture_logs() as said:
        for seed in range(40):
            moving = await _moved(seed, holes=bool(seed % 2))
            again = len(moving.trades()) - len(moving.broker.sent)
            met.update({"deaths": moving.deaths, "moves": moving.moves, "resets": moving.resets, "again": again})
    met["fenced"] = sum(one["event"] == "fix.superseded" for one in said)
    assert all(met[what] >= 10 for what in ("deaths", "moves", "resets", "fenced")), met
    assert met["again"] >= 500, met
