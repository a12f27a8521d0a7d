"""What the SQLite store does beyond the contract: kill -9, locks, a full disk, and rows that nobody can change."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from eod_workers.adapters.sqlite import SqliteRegulatoryStore
from eod_workers.adapters.sqlite_reports import VIEWS
from eod_workers.ports import REFERENCE, Stored, TopicPartition, TradeRow, TraderRow, Unavailable
from eod_workers.runtime.variables import SettingsError
from eod_workers.trades.conflicts import conflict
from eod_workers.trades.model import ACTION_CORRECT, ACTION_TRADE
from support.patience import limit_s
from support.regulatory_rows import TOPIC, trade, unresolved

WRITER = Path(__file__).with_name("sqlite_writer.py")
SOURCE = TopicPartition(TOPIC, 0)
BATCH = 50


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "regulatory.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteRegulatoryStore]:
    store = SqliteRegulatoryStore(path, busy_timeout_s=0.2)
    yield store
    await store.close()


def write_until(statement: str, path: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a writer that kills itself in its third batch, before a statement that begins so."""
    return subprocess.run(
        [sys.executable, WRITER, path, statement], capture_output=True, check=False, timeout=limit_s(60)
    )


def write_and_kill(path: Path, after_s: float) -> list[int]:
    """Run a writer, kill it a moment after its first batch, and return what the store acknowledged to it."""
    with subprocess.Popen([sys.executable, WRITER, path], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(after_s)
        writer.kill()
        return [int(line) for line in (first + writer.stdout.read()).split(b"\n")[:-1]]


async def expect_only_whole_batches(path: Path, acknowledged: int) -> int:
    """Rows, exceptions and the stored offset agree; whatever was acknowledged is there. Returns the offset."""
    store = SqliteRegulatoryStore(path)
    ((_, next_offset, _),) = (await store.take_over("regulatory", [SOURCE])).values()
    stored = next_offset or 0
    assert {row async for row in store.trades()} == {trade(number) for number in range(stored)}
    assert {row async for row in store.exceptions()} == {unresolved(start) for start in range(0, stored, BATCH)}
    assert stored >= acknowledged
    await store.close()
    return stored


@pytest.mark.parametrize("statement", ["BEGIN", "UPDATE offsets", "INSERT INTO trades", "INSERT INTO exc", "COMMIT"])
async def test_a_writer_killed_within_a_transaction_leaves_nothing_of_it(path: Path, statement: str) -> None:
    """Wherever in the third batch the process dies, up to the moment before the commit."""
    writer = write_until(statement, path)
    assert writer.returncode == -9, writer.stderr
    assert [int(line) for line in writer.stdout.split()] == [50, 100]
    assert await expect_only_whole_batches(path, 100) == 100


async def test_writers_killed_at_any_moment_lose_and_double_nothing(path: Path) -> None:
    """Five writers, one after the other on the same file, each killed while it stores as fast as it can."""
    begun = 0
    for attempt in range(5):
        acknowledged = write_and_kill(path, 0.013 * attempt)
        begun = await expect_only_whole_batches(path, max([begun, *acknowledged]))
    assert begun >= 5 * BATCH


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE trades SET last_px_e8 = 1",
        "DELETE FROM trades",
        "UPDATE exceptions SET detail = ''",
        "DELETE FROM exceptions",
        "INSERT OR REPLACE INTO trades SELECT session, trade_date, exec_id, 9, 9, 9, '', '', 9, 9, 9, 9, 9, 9, '', '', '', '', '', '', '', '', 9, 9 FROM trades",
        "REPLACE INTO exceptions SELECT session, trade_date, exec_id, field, 'changed', '' FROM exceptions",
        "INSERT INTO trades SELECT * FROM trades WHERE true ON CONFLICT DO UPDATE SET last_px_e8 = 1",
    ],
)
async def test_nobody_changes_a_row(path: Path, store: SqliteRegulatoryStore, statement: str) -> None:
    """Not even with SQL of their own and a plain connection: the rows stay as they were stored."""
    await store.take_over("regulatory", [SOURCE])
    await store.store("regulatory", [trade(1), trade(2)], [unresolved(1)], {SOURCE: (1, 3)})
    with sqlite3.connect(path, isolation_level=None) as plain:
        try:
            plain.execute(statement)
        except sqlite3.IntegrityError as refusal:
            assert "append-only" in str(refusal)  # noqa: PT017  both outcomes are fine, silence about a change is not
    plain.close()
    assert {row async for row in store.trades()} == {trade(1), trade(2)}
    assert {row async for row in store.exceptions()} == {unresolved(1)}


async def test_a_lock_held_for_too_long_is_unavailable(path: Path, store: SqliteRegulatoryStore) -> None:
    """And nothing was lost: the same call succeeds when the lock is gone."""
    await store.take_over("regulatory", [SOURCE])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    storing = asyncio.create_task(store.store("regulatory", [trade(1)], [], {SOURCE: (1, 2)}))
    ticks = 0
    while not storing.done():
        await asyncio.sleep(0.01)
        ticks += 1
    with pytest.raises(Unavailable, match="locked"):
        await storing
    assert ticks > 5, "the event loop was free meanwhile"
    other.execute("ROLLBACK")
    other.close()
    assert await store.store("regulatory", [trade(1)], [], {SOURCE: (1, 2)}) == Stored(1, 0, 0)


async def test_a_full_disk_is_unavailable(store: SqliteRegulatoryStore) -> None:
    """Nothing of the batch is stored, and the same call succeeds when there is room again."""
    await store.take_over("regulatory", [SOURCE])
    await store._call(lambda: store._connected().execute("PRAGMA max_page_count = 20").fetchall())
    rows = [trade(number) for number in range(2_000)]
    with pytest.raises(Unavailable, match="full"):
        await store.store("regulatory", rows, [], {SOURCE: (1, 2_000)})
    assert [row async for row in store.trades()] == []
    assert await store.store("regulatory", rows, [], {SOURCE: (1, 2_000)}) == Stored(2_000, 0, 0)


async def test_a_missing_folder_is_unavailable_until_it_is_there(tmp_path: Path) -> None:
    store = SqliteRegulatoryStore(tmp_path / "later" / "regulatory.db")
    with pytest.raises(Unavailable, match=r"there is no folder .*later: make it, or name another file"):
        await store.take_over("regulatory", [SOURCE])
    (tmp_path / "later").mkdir()
    assert await store.take_over("regulatory", [SOURCE]) == {SOURCE: (1, None, None)}
    await store.close()


async def test_a_file_that_is_no_database_is_not_tried_again(path: Path) -> None:
    await asyncio.to_thread(path.write_bytes, b"something else entirely, and long enough to be looked at" * 100)
    store = SqliteRegulatoryStore(path)
    with pytest.raises(SettingsError, match=r"is no regulatory store.*not a database.*: move it away"):
        await store.take_over("regulatory", [SOURCE])
    await store.close()
    with pytest.raises(RuntimeError, match="closed"):
        await store.take_over("regulatory", [SOURCE])


@pytest.mark.parametrize("version", [0, 3, 5])
async def test_a_file_of_another_program_is_left_as_it_is(path: Path, version: int) -> None:
    with sqlite3.connect(path) as plain:
        plain.executescript(f"CREATE TABLE songs (title TEXT); PRAGMA user_version = {version};")
    plain.close()
    before = await asyncio.to_thread(path.read_bytes)
    store = SqliteRegulatoryStore(path)
    for call in (store.schema_version(), store.migrate(), store.take_over("regulatory", [SOURCE])):
        with pytest.raises(SettingsError, match=r"is a database of another program: name another file"):
            await call
    await store.close()
    assert await asyncio.to_thread(path.read_bytes) == before
    assert await asyncio.to_thread(os.listdir, path.parent) == [path.name]


async def test_looking_at_the_version_leaves_no_file_behind(path: Path) -> None:
    store = SqliteRegulatoryStore(path)
    assert await store.schema_version() is None
    assert await asyncio.to_thread(os.listdir, path.parent) == []
    await store.migrate()
    await store.close()
    store = SqliteRegulatoryStore(path)
    assert await store.schema_version() == max(store.migrations)
    assert await asyncio.to_thread(os.listdir, path.parent) == [path.name]
    await store.close()


async def test_a_folder_is_told_to_be_one(tmp_path: Path) -> None:
    store = SqliteRegulatoryStore(tmp_path)
    for call in (store.schema_version(), store.take_over("regulatory", [SOURCE])):
        with pytest.raises(Unavailable, match="it is a folder: name a file in it"):
            await call
    await store.close()


async def test_a_file_of_another_version_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as plain:
        plain.execute("PRAGMA user_version = 8")
    plain.close()
    store = SqliteRegulatoryStore(path)
    with pytest.raises(SettingsError, match=r"version 8, this program needs \d+: it is of a later release"):
        await store.take_over("regulatory", [SOURCE])
    await store.close()


# --- files of earlier releases ----------------------------------------------------------------------------------

VERSION_1 = """
CREATE TABLE trades (
    session TEXT NOT NULL, exec_id TEXT NOT NULL, epoch INTEGER NOT NULL, msg_seq_num INTEGER NOT NULL,
    action INTEGER NOT NULL, exec_ref_id TEXT NOT NULL, symbol TEXT NOT NULL, side INTEGER NOT NULL,
    last_qty_e8 INTEGER NOT NULL, last_px_e8 INTEGER NOT NULL, transact_time_ns INTEGER NOT NULL,
    trader TEXT NOT NULL, strategy TEXT NOT NULL, account TEXT NOT NULL,
    trader_name TEXT NOT NULL, desk TEXT NOT NULL, strategy_name TEXT NOT NULL, isin TEXT NOT NULL,
    topic TEXT NOT NULL, "partition" INTEGER NOT NULL, "offset" INTEGER NOT NULL, PRIMARY KEY (session, exec_id)
) STRICT;
CREATE TABLE exceptions (
    session TEXT NOT NULL, exec_id TEXT NOT NULL, field TEXT NOT NULL, value TEXT NOT NULL, detail TEXT NOT NULL,
    PRIMARY KEY (session, exec_id, field)
) STRICT;
CREATE TABLE offsets (
    grp TEXT NOT NULL, topic TEXT NOT NULL, part INTEGER NOT NULL, next_offset INTEGER, epoch INTEGER NOT NULL,
    PRIMARY KEY (grp, topic, part)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER trades_no_update BEFORE UPDATE ON trades BEGIN SELECT RAISE(ABORT, 'trades is append-only'); END;
CREATE TRIGGER trades_no_delete BEFORE DELETE ON trades BEGIN SELECT RAISE(ABORT, 'trades is append-only'); END;
CREATE TRIGGER trades_keep_first BEFORE INSERT ON trades
WHEN EXISTS (SELECT 1 FROM trades WHERE session = NEW.session AND exec_id = NEW.exec_id)
BEGIN SELECT RAISE(IGNORE); END;
CREATE TRIGGER exceptions_no_update BEFORE UPDATE ON exceptions
BEGIN SELECT RAISE(ABORT, 'exceptions is append-only'); END;
CREATE TRIGGER exceptions_no_delete BEFORE DELETE ON exceptions
BEGIN SELECT RAISE(ABORT, 'exceptions is append-only'); END;
CREATE TRIGGER exceptions_keep_first BEFORE INSERT ON exceptions
WHEN EXISTS (SELECT 1 FROM exceptions WHERE session = NEW.session AND exec_id = NEW.exec_id AND field = NEW.field)
BEGIN SELECT RAISE(IGNORE); END;
INSERT INTO offsets VALUES ('regulatory', 'trades.raw', 0, 5, 3);
PRAGMA user_version = 1;
"""


WITHOUT_IDS = "ALTER TABLE offsets DROP COLUMN topic_id;"
WITHOUT_VIEWS = "".join(f"DROP VIEW {view};" for view in VIEWS)
WITHOUT_REFERENCE = WITHOUT_VIEWS + "".join(f"DROP TABLE {table};" for table in REFERENCE)


OLD_EXCEPTIONS = """
CREATE TABLE older (
    session TEXT NOT NULL, trade_date INTEGER NOT NULL, exec_id TEXT NOT NULL, field TEXT NOT NULL,
    value TEXT NOT NULL, detail TEXT NOT NULL, PRIMARY KEY (session, trade_date, exec_id, field)
) STRICT;
INSERT INTO older SELECT * FROM exceptions;
DROP TABLE exceptions;
ALTER TABLE older RENAME TO exceptions;
CREATE TRIGGER exceptions_no_update BEFORE UPDATE ON exceptions BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER exceptions_no_delete BEFORE DELETE ON exceptions BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER exceptions_keep_first BEFORE INSERT ON exceptions BEGIN SELECT 1; END;
"""
"""As it was until version 5, with one exception of a field."""


@pytest.mark.parametrize(
    ("version", "drops", "made"),
    [(3, WITHOUT_REFERENCE, [4, 5, 6, 7]), (4, WITHOUT_VIEWS, [5, 6, 7]), (5, "", [6, 7]), (6, "", [7])],
)
async def test_a_file_gets_what_a_later_version_added(path: Path, version: int, drops: str, made: list[int]) -> None:
    store = SqliteRegulatoryStore(path)
    ((epoch, *_),) = (await store.take_over("regulatory", [SOURCE])).values()
    await store.store("regulatory", [trade(2)._replace(action=1)], [unresolved(2)], {SOURCE: (epoch, 5)})
    await store.close()
    with sqlite3.connect(path) as plain:
        plain.executescript(
            f"{drops}{OLD_EXCEPTIONS if version < 6 else ''}{WITHOUT_IDS}PRAGMA user_version = {version};"
        )
    plain.close()
    store = SqliteRegulatoryStore(path)
    assert await store.migrate() == (version, made)
    await store.put_reference({"traders": [TraderRow("T1", "Ada", "Equities")]})
    assert (await store.reference())["traders"] == [TraderRow("T1", "Ada", "Equities")]
    assert [row async for row in store.trades()] == [trade(2)._replace(action=1)]
    assert [row async for row in store.exceptions()] == [unresolved(2)]
    others = [conflict(trade(2)._replace(last_qty_e8=quantity)) for quantity in (1, 2)]
    ((epoch, *_),) = (await store.take_over("regulatory", [SOURCE])).values()
    stored = await store.store("regulatory", [], [*others, unresolved(2)], {SOURCE: (epoch, 5)})
    assert stored == Stored(inserted=0, duplicates=0, exceptions=2)
    await store.close()
    with sqlite3.connect(path) as plain:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            plain.execute("DELETE FROM exceptions")
        views = {name for (name,) in plain.execute("SELECT name FROM sqlite_master WHERE type = 'view'")}
        assert views == set(VIEWS)
        assert plain.execute("SELECT trader, quantity FROM vw_DailyPositions").fetchall() == [("T1", "3.00000000")]
    plain.close()


ADDED = {"trade_date": 0, "time_source": 0, "multiplier_e8": 0}


async def test_a_file_of_version_2_is_carried_over_with_all_its_rows(path: Path) -> None:
    """It is one of this version without the multiplier."""
    old = [trade(number)._replace(multiplier_e8=0) for number in (4, 2, 3)]
    store = SqliteRegulatoryStore(path)
    ((epoch, *_),) = (await store.take_over("regulatory", [SOURCE])).values()
    await store.store("regulatory", old, [unresolved(2)], {SOURCE: (epoch, 5)})
    await store.close()
    with sqlite3.connect(path) as plain:
        plain.executescript(
            WITHOUT_REFERENCE + WITHOUT_IDS + "ALTER TABLE trades DROP COLUMN multiplier_e8; PRAGMA user_version = 2;"
        )
    plain.close()
    store = SqliteRegulatoryStore(path)
    assert [row async for row in store.trades()] == old
    assert [row async for row in store.exceptions()] == [unresolved(2)]
    ((epoch, offset, _),) = (await store.take_over("regulatory", [SOURCE])).values()
    stored = await store.store("regulatory", [old[0], trade(5)], [unresolved(2)], {SOURCE: (epoch, 6)})
    assert (offset, stored) == (5, Stored(inserted=1, duplicates=1, exceptions=0))
    assert [row async for row in store.trades()] == [*old, trade(5)]
    await store.close()


async def test_a_file_of_version_1_is_carried_over_with_all_its_rows(path: Path) -> None:
    """They get the day 0, which their records in the log have, so that they are told when they come again."""
    old = [trade(number)._replace(**ADDED) for number in (4, 2, 3)]
    note = unresolved(2)._replace(trade_date=0)
    with sqlite3.connect(path) as plain:
        plain.executescript(VERSION_1)
        plain.executemany(
            f"INSERT INTO trades VALUES ({', '.join('?' * (len(TradeRow._fields) - len(ADDED)))})",  # noqa: S608  only question marks
            [[value for name, value in row._asdict().items() if name not in ADDED] for row in old],
        )
        plain.execute("INSERT INTO exceptions VALUES (?, ?, ?, ?, ?)", (note[0], *note[2:]))
    plain.close()
    for _ in range(2):
        store = SqliteRegulatoryStore(path)
        assert [row async for row in store.trades()] == old
        assert [row async for row in store.exceptions()] == [note]
        await store.close()
    store = SqliteRegulatoryStore(path)
    ((epoch, offset, _),) = (await store.take_over("regulatory", [SOURCE])).values()
    assert (epoch, offset) == (4, 5)
    stored = await store.store("regulatory", [*old, trade(2)], [note, unresolved(2)], {SOURCE: (4, 6)})
    assert stored == Stored(inserted=1, duplicates=3, exceptions=1)
    assert {row async for row in store.trades()} == {*old, trade(2)}
    await store.close()
    with sqlite3.connect(path) as plain, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        plain.execute("DELETE FROM trades")
    plain.close()


async def steps_of(path: Path, rows: list[TradeRow]) -> int:
    """Hundreds of steps that SQLite's machine takes to store the rows, a batch at a time, and to tell what stands."""
    store, ticks = SqliteRegulatoryStore(path), [0]

    def tick() -> None:
        ticks[0] += 1

    ((epoch, *_),) = (await store.take_over("regulatory", [SOURCE])).values()
    await store._call(lambda: store._connected().set_progress_handler(tick, 100))
    for start in range(0, len(rows), BATCH):
        await store.store("regulatory", rows[start : start + BATCH], [], {SOURCE: (epoch, start + BATCH)})
    query = "SELECT status FROM vw_Trades WHERE status = 'stands'"
    assert await store._call(lambda: store._connected().execute(query).fetchall()) == [("stands",)]
    await store.close()
    return ticks[0]


async def test_corrections_of_one_trade_cost_what_they_are_many(tmp_path: Path) -> None:
    """Twice as many take twice the steps, not four times."""
    first = trade(0)._replace(action=ACTION_TRADE, exec_ref_id="")

    def fan(count: int) -> list[TradeRow]:
        numbers = range(1, count)
        return [first, *(trade(n)._replace(action=ACTION_CORRECT, exec_ref_id=first.exec_id) for n in numbers)]

    some, more = [await steps_of(tmp_path / f"{count}.db", fan(count)) for count in (1_000, 2_000)]
    assert 1.8 * some < more < 2.5 * some


async def test_a_file_whose_tables_are_being_made_is_no_other_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process makes them between two looks of ours."""
    path, read, others = tmp_path / "regulatory.db", SqliteRegulatoryStore._schema_version, []

    def read_and_be_overtaken(connection: sqlite3.Connection) -> int:
        version = read(connection)
        if not others:
            others.append(SqliteRegulatoryStore(path, busy_timeout_s=0.05))
            with contextlib.suppress(sqlite3.OperationalError):  # it waits for us, as long as it may
                others[0]._connected()
            others[0]._disconnect()
        return version

    monkeypatch.setattr(SqliteRegulatoryStore, "_schema_version", staticmethod(read_and_be_overtaken))
    store = SqliteRegulatoryStore(path)
    source = TopicPartition("trades.raw", 0)
    assert await store.take_over("regulatory", [source]) == {source: (1, None, None)}
    assert len(others) == 1
    await store.close()
