"""What the SQL Server store does when the server, the network or the driver's process fails; see tests/tds/README.md."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from eod_workers.adapters.sqlserver.address import Address, Encryption
from eod_workers.adapters.sqlserver.errors import meaning
from eod_workers.adapters.sqlserver.frames import CHUNK_ROWS, chunks
from eod_workers.adapters.sqlserver.schema import KINDS, LOCK, LOCKED, MIGRATIONS, SCHEMA, VERSION
from eod_workers.adapters.sqlserver.store import SqlServerRegulatoryStore
from eod_workers.ports import ExceptionRow, StaleEpoch, Stored, TopicPartition, TradeRow, Unavailable
from support.patience import limit_s, limited, soon
from support.regulatory_rows import TOPIC, trade, unresolved
from support.regulatory_stores import DATABASE, PASSWORD, USER, address_of, prepare
from tds.faults import DEADLOCK, LOGIN, Cut, Fail, Pause
from tds.server import Server, tls_context
from tds.tokens import ERROR, Said
from testbed.tls import Authority

GROUP = "regulatory"
P0, P1 = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)
ORPHAN = Path(__file__).with_name("sqlserver_orphan.py")
DYING = Path(__file__).with_name("sqlserver_dying.py")
ROWS = [trade(1), trade(2)]
NOTES = [unresolved(1)]
Make = Callable[..., Awaitable[SqlServerRegulatoryStore]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, user=USER, password=PASSWORD) as server:
        yield server


@pytest.fixture
async def make(server: Server) -> AsyncIterator[Make]:
    """Makes stores on the server with the schema applied, and closes them."""
    await prepare(server)
    made: list[SqlServerRegulatoryStore] = []

    async def make_(address: Address | None = None, *, answer_within_s: float = 20.0) -> SqlServerRegulatoryStore:
        made.append(
            SqlServerRegulatoryStore(
                address or address_of(server),
                login_within_s=round(limit_s(10)),
                answer_within_s=round(limit_s(answer_within_s)),
                call_within_s=limit_s(60),
            )
        )
        return made[-1]

    yield make_
    for store in made:
        await store.close()


@pytest.fixture
async def store(make: Make) -> SqlServerRegulatoryStore:
    """A store that owns both partitions, with epoch 1."""
    store = await make()
    await store.take_over(GROUP, [P0, P1])
    return store


async def contents(store: SqlServerRegulatoryStore) -> tuple[list[TradeRow], list[ExceptionRow]]:
    return sorted([row async for row in store.trades()]), sorted([row async for row in store.exceptions()])


async def expect_stored_once(store: SqlServerRegulatoryStore, stored: Stored) -> None:
    """ROWS and NOTES are there once, the offset with them, and the last call said how many were there before."""
    assert stored in {Stored(2, 0, 1), Stored(0, 2, 0)}
    assert await contents(store) == (ROWS, NOTES)
    assert (await store.take_over(GROUP, [P0]))[P0] == (2, 3, None)


async def put(store: SqlServerRegulatoryStore) -> Stored:
    return await store.store(GROUP, ROWS, NOTES, {P0: (1, 3)})


# --- a connection that is lost --------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_commit_whose_answer_is_lost_is_found_out_by_repeating_the_call(
    store: SqlServerRegulatoryStore, server: Server, *, after: bool
) -> None:
    """Lost before the commit nothing is there, lost after it everything is; both end with each row once."""
    server.faults.at("COMMIT", Cut(), after=after)
    with pytest.raises(Unavailable):
        await put(store)
    stored = await put(store)
    assert stored == (Stored(0, 2, 0) if after else Stored(2, 0, 1))
    await expect_stored_once(store, stored)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_an_owner_who_never_heard_of_his_epoch_takes_over_once_more(
    store: SqlServerRegulatoryStore, server: Server, *, after: bool
) -> None:
    server.faults.at("COMMIT", Cut(), after=after)
    with pytest.raises(Unavailable):
        await store.take_over(GROUP, [P0])
    ((epoch, *_),) = (await store.take_over(GROUP, [P0])).values()
    assert epoch == (3 if after else 2)
    with pytest.raises(StaleEpoch):
        await put(store)
    assert await store.store(GROUP, ROWS, NOTES, {P0: (epoch, 3)}) == Stored(2, 0, 1)


@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE",
        "INSERT INTO #EOD_OFFSETS",
        "INSERT BULK",
        "BULK LOAD",
        "BEGIN",
        "UPDATE O",
        "IF @MOVED",
        "SELECT @INS",
    ],
)
async def test_wherever_the_connection_is_lost_each_row_is_stored_once(
    store: SqlServerRegulatoryStore, server: Server, statement: str
) -> None:
    server.faults.at(statement, Cut())
    with pytest.raises(Unavailable):
        await put(store)
    await expect_stored_once(store, await put(store))


async def test_without_a_server_it_is_unavailable_until_the_server_is_back(
    store: SqlServerRegulatoryStore, server: Server
) -> None:
    """The same object goes on, and what was acknowledged is there."""
    await put(store)
    server.stop()
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
            await store.take_over(GROUP, [P0])
    server.start()
    await expect_stored_once(store, Stored(2, 0, 1))


@pytest.mark.parametrize(
    ("when", "statement", "stored"),
    [
        ("before", "BULK LOAD", Stored(2, 0, 1)),
        ("after", "UPDATE O", Stored(2, 0, 1)),
        ("after", "INSERT INTO EOD.TRADES", Stored(2, 0, 1)),
        ("before", "COMMIT", Stored(2, 0, 1)),
        ("after", "COMMIT", Stored(0, 2, 0)),
    ],
)
async def test_a_server_killed_in_the_middle_of_a_batch_has_each_row_once_when_it_is_back(
    store: SqlServerRegulatoryStore, server: Server, when: str, statement: str, stored: Stored
) -> None:
    """A process of its own dies by SIGKILL; what it had not committed is gone, what it had is found by the next call."""
    server.stop()
    arguments = (str(server.folder), str(server.port), when, statement)
    dying = await asyncio.create_subprocess_exec(sys.executable, DYING, *arguments, stdin=PIPE, stdout=PIPE)
    assert dying.stdout is not None
    async with limited(60):
        assert await dying.stdout.readline() == f"{server.port}\n".encode()
        for _ in range(2):  # the first only finds that its connection is gone
            with pytest.raises(Unavailable):
                await put(store)
        assert await dying.wait() == -signal.SIGKILL
    server.start()
    assert await put(store) == stored
    await expect_stored_once(store, stored)


async def test_connections_killed_again_and_again_lose_and_double_nothing(
    make: Make, store: SqlServerRegulatoryStore, server: Server
) -> None:
    """Thirty batches, each repeated until it is acknowledged, while every connection is cut every 40 ms."""
    done = asyncio.Event()

    async def kill() -> None:
        while not done.is_set():
            await asyncio.sleep(0.04)
            server.kill_connections()

    killing = asyncio.create_task(kill())
    lost, deadline = 0, time.monotonic() + limit_s(60)
    for start in range(0, 300, 10):
        rows = [trade(number) for number in range(start, start + 10)]
        while time.monotonic() < deadline:
            try:
                await store.store(GROUP, rows, [], {P0: (1, start + 10)})
                break
            except Unavailable:
                lost += 1
    done.set()
    await killing
    reader = await make()
    assert (await contents(reader))[0] == sorted(trade(number) for number in range(300))
    assert (await reader.take_over(GROUP, [P0]))[P0] == (2, 300, None)
    assert lost, "no connection was lost: the test has tested nothing"


# --- the driver's process -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [LOGIN, "TRUNCATE", "INSERT BULK", "BULK LOAD", "BEGIN", "INSERT INTO EOD.TRADES", "COMMIT", "SELECT @INSERTED"],
)
async def test_a_driver_killed_in_the_middle_of_a_batch_is_unavailable_and_replaced(
    make: Make, store: SqlServerRegulatoryStore, server: Server, statement: str
) -> None:
    """A transaction whose batch has arrived is finished by the server or not; each row is stored once."""
    if statement == LOGIN:
        server.kill_connections()
        with pytest.raises(Unavailable):
            await put(store)  # so that it must log in anew
    before = store._driver.pid
    assert before is not None
    server.faults.at(statement, lambda: os.kill(before, signal.SIGKILL))
    with pytest.raises(Unavailable, match=r"process has died \(exit code -9\)"):
        await put(store)
    await expect_stored_once(await make(), await put(store))
    assert store._driver.pid not in {None, before}


async def test_a_driver_that_hangs_is_killed_and_the_event_loop_runs_on(make: Make) -> None:
    store = await make()
    await store.take_over(GROUP, [P0])
    store._driver._call_within_s = 1.0
    stopped = store._driver.pid
    assert stopped is not None
    os.kill(stopped, signal.SIGSTOP)
    ticks = 0
    async with limited(30):
        storing = asyncio.create_task(put(store))
        while not storing.done():
            await asyncio.sleep(0.01)
            ticks += 1
    with pytest.raises(Unavailable, match="no answer within 1 s"):
        await storing
    assert ticks > 10, "the event loop was free meanwhile"
    with pytest.raises(ProcessLookupError):
        os.kill(stopped, 0)
    await expect_stored_once(await make(), await put(await make()))


async def test_a_server_that_is_silent_is_unavailable(make: Make, server: Server) -> None:
    """The driver asks it to stop, so nothing of the batch is stored behind our back."""
    store = await make(answer_within_s=2)
    await store.take_over(GROUP, [P0, P1])
    server.faults.at("INSERT INTO EOD.TRADES", Pause(limit_s(30)))
    with pytest.raises(Unavailable, match="timed out"):
        await put(store)
    assert await contents(store) == ([], [])
    await expect_stored_once(store, await put(store))


async def test_a_cancelled_call_leaves_nothing_for_the_next_one(
    store: SqlServerRegulatoryStore, server: Server
) -> None:
    """The next call gets its own answer, not the late one."""
    server.faults.at("COMMIT", Pause(0.3))
    storing = asyncio.create_task(put(store))
    await asyncio.sleep(0.15)
    storing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await storing
    await expect_stored_once(store, await put(store))


async def test_closing_ends_the_process_and_every_later_call(store: SqlServerRegulatoryStore, server: Server) -> None:
    pid = store._driver.pid
    assert pid is not None
    await store.close()
    await store.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(RuntimeError, match="closed"):
        await put(store)
    await soon(lambda: not server.connections)


async def test_a_driver_does_not_outlive_its_parent(make: Make, server: Server) -> None:
    """Not even one that waits for the server in the middle of a transaction, which is then undone."""
    store = await make()
    await store.take_over(GROUP, [P0])
    await store.close()
    server.faults.at("COMMIT", Pause(30))
    server.faults.statements.clear()
    parent = await asyncio.create_subprocess_exec(sys.executable, ORPHAN, str(server.port), stdout=PIPE)
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    await soon(lambda: "COMMIT TRANSACTION" in server.faults.statements)
    parent.kill()
    await parent.communicate()
    await soon(lambda: not server.connections and not _runs(child))
    assert await contents(await make()) == ([], [])


def _runs(pid: int) -> bool:
    """Whether there is such a process, other than one that has ended and that nobody has asked about yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("encryption", ["require", "request"])
@pytest.mark.parametrize(
    "said",
    [
        ("Connection to the database failed for an unknown reason.",),  # of a name that does not resolve
        ((20009, b"DB-Lib error message 20009, severity 9:\nUnable to connect: Adaptive Server is unavailable\n"),),
    ],
)
def test_a_server_that_cannot_be_found_is_told_with_the_settings_that_say_where_it_is(
    said: tuple[object, ...], encryption: Encryption
) -> None:
    address = Address("sql.nowhere", "eod", USER, PASSWORD, encryption=encryption)
    error = meaning(RuntimeError(*said), address)
    assert isinstance(error, Unavailable)
    assert "sql.nowhere:1433/eod" in str(error)
    assert "EOD_SQLSERVER_HOST or EOD_SQLSERVER_PORT is wrong" in str(error)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"password": "hunter2"}, f"Login failed for user '{USER}'.*EOD_SQLSERVER_USER.*EOD_SQLSERVER_PASSWORD"),
        ({"user": "nobody"}, "Login failed for user 'nobody'.*EOD_SQLSERVER_USER"),
        ({"database": "elsewhere"}, 'Cannot open database "elsewhere".*EOD_SQLSERVER_DATABASE'),
        ({"ca_file": "/nowhere/ca.pem"}, "EOD_SQLSERVER_CA_FILE=/nowhere/ca.pem is no file"),
    ],
)
async def test_a_wrong_setting_is_named_and_no_password_is_told(
    make: Make, server: Server, changes: dict[str, str], names: str
) -> None:
    store = await make(address_of(server, **changes))
    with pytest.raises(PermissionError, match=names) as refusal:
        await store.take_over(GROUP, [P0])
    told = f"{refusal.value!r} {refusal.value.__cause__!r}"
    assert "hunter2" not in told
    assert PASSWORD not in told


async def test_a_missing_right_is_told_and_nothing_is_stored(store: SqlServerRegulatoryStore, server: Server) -> None:
    server.faults.at("INSERT INTO EOD.TRADES", Fail(Said(229, "The INSERT permission was denied on 'trades'.", 14, 5)))
    with pytest.raises(PermissionError, match=r"permission was denied.*lacks a right that docs/sqlserver\.md lists"):
        await put(store)
    await expect_stored_once(store, await put(store))


@pytest.mark.parametrize("statement", ["UPDATE O", "INSERT INTO EOD.TRADES", "INSERT INTO EOD.EXCEPTIONS"])
async def test_the_victim_of_a_deadlock_stores_nothing_and_may_try_again(
    store: SqlServerRegulatoryStore, server: Server, statement: str
) -> None:
    server.faults.at(statement, Fail(DEADLOCK))
    with pytest.raises(Unavailable, match="1205"):
        await put(store)
    assert await contents(store) == ([], [])
    await expect_stored_once(store, await put(store))


async def test_a_row_that_another_writer_has_just_stored_is_looked_for_again(
    store: SqlServerRegulatoryStore, server: Server
) -> None:
    """Within the call; a server that goes on like this is unavailable."""
    quicker = Fail(Said(2627, "Violation of UNIQUE KEY constraint 'trades_once'.", 14))
    server.faults.at("INSERT INTO EOD.TRADES", quicker, times=2)
    assert await put(store) == Stored(2, 0, 1)
    server.faults.at("INSERT INTO EOD.TRADES", quicker, times=3)
    with pytest.raises(Unavailable, match="2627"):
        await put(store)
    await expect_stored_once(store, await put(store))


async def test_before_the_schema_is_there_it_waits_for_whoever_applies_it(make: Make, server: Server) -> None:
    server.create_database("fresh")
    store = await make(address_of(server, database="fresh"))
    with pytest.raises(Unavailable, match="eod db migrate"):
        await store.take_over(GROUP, [P0])
    await store.migrate()
    assert await store.take_over(GROUP, [P0]) == {P0: (1, None, None)}


async def test_a_schema_of_another_version_is_refused(make: Make, server: Server) -> None:
    server.create_database("newer")
    address = address_of(server, database="newer")
    maker = await make(address)
    await maker.migrate()
    engine = server.engine("newer")
    engine.run(f"INSERT INTO eod.schema_version (version) VALUES ({VERSION + 1})")  # noqa: S608 - our own number
    engine.close()
    with pytest.raises(RuntimeError, match=f"has schema version {VERSION + 1}, this program needs {VERSION}"):
        await (await make(address)).take_over(GROUP, [P0])
    with pytest.raises(ValueError, match=f"schema version {VERSION + 1}, of a later release than this: {VERSION}"):
        await maker.migrate()
    assert await maker.schema_version() == VERSION + 1


STEPS = 4 + sum(len(one.recorded) + 2 for one in MIGRATIONS)
"""Statements of a migration, about: enough to be cut at each."""


@pytest.mark.parametrize("at", range(0, STEPS, 3))
@pytest.mark.parametrize("after", [False, True])
async def test_a_migration_that_is_cut_off_anywhere_is_done_the_next_time(
    make: Make,
    server: Server,
    at: int,
    after: bool,  # noqa: FBT001
) -> None:
    server.create_database("cut")
    maker = await make(address_of(server, database="cut"))
    server.faults.at("", Cut(), skip=at, after=after)
    try:
        await maker.migrate()
    except Unavailable:
        server.faults.clear()
        assert await maker.schema_version() in {None, *range(1, VERSION + 1)}
        await maker.migrate()
    server.faults.clear()
    assert await maker.schema_version() == VERSION
    await maker.take_over(GROUP, [P0])
    await expect_stored_once(maker, await put(maker))


async def test_a_migration_is_whole_or_nothing(make: Make, server: Server) -> None:
    server.create_database("half")
    maker = await make(address_of(server, database="half"))
    server.faults.at("INSERT INTO EOD.SCHEMA_VERSION", Cut())
    with pytest.raises(Unavailable):
        await maker.migrate()
    engine = server.engine("half")
    found = engine.run("SELECT N'there' AS found WHERE OBJECT_ID(N'eod.trades', N'U') IS NOT NULL")
    engine.close()
    assert "there".encode("utf-16-le") not in found


async def test_of_many_that_migrate_at_once_one_does_it(make: Make, server: Server) -> None:
    server.create_database("many")
    makers = [await make(address_of(server, database="many")) for _ in range(4)]
    done = await asyncio.gather(*(maker.migrate() for maker in makers))
    everything = [one.version for one in MIGRATIONS]
    assert sorted(done, key=str) == [(VERSION, []), (VERSION, []), (VERSION, []), (None, everything)]


async def test_a_migration_of_somebody_else_is_waited_for_until_that_session_ends(make: Make, server: Server) -> None:
    server.create_database("held")
    maker = await make(address_of(server, database="held"))
    other = server.engine("held")
    assert other.run(LOCK)[0] != ERROR
    waiting = asyncio.create_task(maker.migrate())
    await soon(lambda: any("SP_GETAPPLOCK" in one.upper() for one in list(server.faults.statements)[-3:]), "it asks")
    assert not waiting.done()
    other.close()
    assert (await waiting)[0] is None
    server.faults.at("EXEC @GOT", Fail(Said(LOCKED, "somebody else migrates this database")))
    with pytest.raises(Unavailable, match="somebody else migrates this database"):
        await maker.migrate()


async def test_a_schema_of_version_1_waits_for_whoever_applies_this_one_and_keeps_its_rows(
    make: Make, server: Server
) -> None:
    """Rows get the day 0, as their records in the log have; their keys stay, so that they are told when they come again."""
    server.create_database("older")
    engine = server.engine("older")
    for batch in MIGRATIONS[0].recorded:
        engine.run(
            batch.replace("[trade_date] BIGINT NOT NULL,\n", "")
            .replace("[time_source] BIGINT NOT NULL,\n", "")
            .replace("[multiplier_e8] BIGINT NOT NULL,\n", "")
        )
    added = {"trade_date": 0, "time_source": 0, "multiplier_e8": 0}
    old = trade(1)._replace(**added)
    names = [name for name in KINDS["trades"] if name not in added]
    values = ", ".join(
        f"N'{one}'" if isinstance(one, str) else str(one) for one in (getattr(old, name) for name in names)
    )
    parts = [text.encode("utf-16-le") for text in (old.session, old.exec_id)]
    key = hashlib.sha256(b"".join(len(part).to_bytes(4, "little") + part for part in parts)).hexdigest()
    columns = ", ".join(f"[{name}]" for name in names)
    engine.run(f"INSERT INTO eod.trades ([row_key], {columns}) SELECT 0x{key}, {values}")
    engine.close()
    store = await make(address_of(server, database="older"))
    with pytest.raises(Unavailable, match=rf"has no schema version {VERSION}: run 'eod db migrate'"):
        await store.take_over(GROUP, [P0])
    assert await store.schema_version() == 1
    assert await store.migrate() == (1, list(range(2, VERSION + 1)))
    assert await store.migrate() == (VERSION, [])
    await store.take_over(GROUP, [P0])
    assert await store.store(GROUP, [old, trade(1)], [unresolved(1)], {P0: (1, 2)}) == Stored(1, 1, 1)
    assert [row async for row in store.trades()] == [old, trade(1)]
    await store.migrate()
    assert [row async for row in store.exceptions()] == [unresolved(1)]


async def test_applying_the_schema_again_changes_nothing(make: Make, store: SqlServerRegulatoryStore) -> None:
    stored = await put(store)
    await (await make()).migrate()
    await expect_stored_once(store, stored)
    assert len(SCHEMA) == len(set(SCHEMA))


async def test_nobody_changes_a_row(store: SqlServerRegulatoryStore, server: Server) -> None:
    stored = await put(store)
    engine = server.engine(DATABASE)
    for statement in (
        "UPDATE eod.trades SET last_px_e8 = 1",
        "DELETE FROM eod.trades",
        "UPDATE eod.exceptions SET detail = N''",
        "DELETE FROM eod.exceptions",
    ):
        answer = engine.run(statement)
        assert answer[0] == ERROR
        assert "is append-only".encode("utf-16-le") in answer
    engine.close()
    await expect_stored_once(store, stored)


# --- rows that a bulk copy would spoil ------------------------------------------------------------


async def test_what_a_refused_batch_has_staged_never_comes_with_the_next(store: SqlServerRegulatoryStore) -> None:
    """A stale epoch is found after the rows were copied; the connection and its staging tables live on."""
    await store.take_over(GROUP, [P0])
    with pytest.raises(StaleEpoch, match=f"{TOPIC}-0 has been taken over in group {GROUP} since epoch 1"):
        await store.store(GROUP, ROWS, NOTES, {P0: (1, 3), P1: (1, 9)})
    assert await store.store(GROUP, [trade(7)], [], {P0: (2, 8)}) == Stored(1, 0, 0)
    assert await contents(store) == ([trade(7)], [])
    assert await store.take_over(GROUP, [P0, P1]) == {P0: (3, 8, None), P1: (2, None, None)}


async def test_within_an_epoch_an_offset_never_goes_back(store: SqlServerRegulatoryStore) -> None:
    """The transaction of a driver that was given up may end after the call that took its place."""
    await store.store(GROUP, ROWS, [], {P0: (1, 3)})
    await store.store(GROUP, [trade(1)], [], {P0: (1, 2)})
    assert (await store.take_over(GROUP, [P0]))[P0] == (2, 3, None)


async def test_a_full_batch_with_an_exception_for_each_trade(
    store: SqlServerRegulatoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch of the close, on the way to the child in pieces: the event loop runs between any two of them."""
    rows = [trade(number) for number in range(5_000)]
    notes = [unresolved(number) for number in range(5_000)]
    turns, made_at = 0, []

    def noted(some: Sequence[tuple[Any, ...]]) -> Iterator[bytes]:
        for piece in chunks(some):
            made_at.append(turns)
            yield piece

    monkeypatch.setattr("eod_workers.adapters.sqlserver.store.chunks", noted)
    storing = asyncio.create_task(store.store(GROUP, rows, notes, {P0: (1, 5_000)}))
    while not storing.done():
        turns += 1
        await asyncio.sleep(0)
    assert await storing == Stored(5_000, 0, 5_000)
    assert await contents(store) == (sorted(rows), sorted(notes))
    assert len(made_at) == 2 * 5_000 / CHUNK_ROWS
    assert made_at == sorted(set(made_at)), "pieces were made without a turn of the event loop between them"


TEXTS = ("", " ", "  blanks at the end  ", "é 中 😀", "N'; DROP TABLE eod.trades; --", "%s %d %%", "a\x00b", "\x01|\x7f",
         "Ω" * 4_000, "tab\tline\r\n", "NULL", "\ufeffbom", "0")  # fmt: skip


async def test_every_text_comes_back_as_it_was(store: SqlServerRegulatoryStore) -> None:
    """Empty ones, blanks at the end, characters beyond 16 bits, and the longest that fits."""
    rows = [
        trade(number)._replace(symbol=text, trader=text, isin=text, exec_ref_id=text)
        for number, text in enumerate(TEXTS)
    ]
    notes = [ExceptionRow("S", 20260105, f"E{number}", "trader", text, text * 9) for number, text in enumerate(TEXTS)]
    assert await store.store(GROUP, rows, notes, {P0: (1, 1)}) == Stored(len(TEXTS), 0, len(TEXTS))
    assert await contents(store) == (sorted(rows), sorted(notes))


async def test_trades_whose_names_look_alike_are_different_trades(store: SqlServerRegulatoryStore) -> None:
    """A collation would take some of them for each other, and so would names that are put together without care."""
    names = [
        ("S", "E1"),
        ("S", "e1"),
        ("S", "E1 "),
        ("SE", "1"),
        ("s", "E1"),
        ("S ", "E1"),
        ("S", "É1"),
        ("S", "E\u03011"),
    ]
    rows = [trade(1)._replace(session=session, exec_id=exec_id) for session, exec_id in names]
    assert await store.store(GROUP, rows, [], {P0: (1, 1)}) == Stored(len(rows), 0, 0)
    assert await store.store(GROUP, rows, [], {P0: (1, 1)}) == Stored(0, len(rows), 0)
    assert (await contents(store))[0] == sorted(rows)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"symbol": "x" * 4_001}, "symbol has 4,001 characters, 4,000 are kept"),
        ({"symbol": "\ud800"}, "symbol is no Unicode"),
        ({"symbol": b"IBM"}, "symbol=b'IBM' is no text"),
        ({"last_px_e8": 2**63}, "last_px_e8=9223372036854775808 is no integer of 64 bits"),
        ({"last_px_e8": 1.5}, "last_px_e8=1.5 is no integer"),
        ({"side": True}, "side=True is no integer"),
        ({"offset": None}, "offset=None is no integer"),
    ],
)
async def test_what_the_bulk_copy_would_cut_off_is_refused(
    store: SqlServerRegulatoryStore, changes: dict[str, object], why: str
) -> None:
    with pytest.raises(ValueError, match=f"refuses the row: {why}"):
        await store.store(GROUP, [trade(1), trade(2)._replace(**changes)], NOTES, {P0: (1, 3)})  # type: ignore[arg-type]
    assert await contents(store) == ([], [])


@pytest.mark.parametrize("group", ["g" * 191, "blank at the end "])
async def test_a_group_that_sql_server_would_mistake_is_refused(store: SqlServerRegulatoryStore, group: str) -> None:
    with pytest.raises(ValueError, match="EOD_GROUP"):
        await store.take_over(group, [P0])


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority", "tests")


def certified(server: Server, authority: Authority, names: str = "IP:127.0.0.1") -> None:
    certificate, key = authority.issue("server", "/CN=tds", server_names=names)
    server.tls = tls_context(certificate, key)


async def test_with_a_certificate_of_a_known_authority_everything_is_encrypted(
    make: Make, server: Server, authority: Authority
) -> None:
    certified(server, authority)
    store = await make(address_of(server, encryption="require", ca_file=str(authority.certificate)))
    await store.take_over(GROUP, [P0])
    await expect_stored_once(store, await put(store))
    assert server.encrypted_logins == 1


async def test_without_tls_on_the_server_nothing_is_said_to_it(make: Make, server: Server) -> None:
    """The password least of all."""
    store = await make(address_of(server, encryption="require"))
    before = server.logins
    with pytest.raises(Unavailable, match="EOD_SQLSERVER_ENCRYPTION"):
        await store.take_over(GROUP, [P0])
    assert server.logins == before


@pytest.mark.parametrize("names", ["IP:127.0.0.2", "DNS:elsewhere"])
async def test_a_certificate_of_another_host_is_refused(
    make: Make, server: Server, authority: Authority, names: str
) -> None:
    certified(server, authority, names)
    store = await make(address_of(server, encryption="require", ca_file=str(authority.certificate)))
    before = server.logins
    with pytest.raises(Unavailable, match="EOD_SQLSERVER_CA_FILE"):
        await store.take_over(GROUP, [P0])
    assert server.logins == before


async def test_a_certificate_of_an_unknown_authority_is_refused(
    make: Make, server: Server, authority: Authority, tmp_path: Path
) -> None:
    certified(server, authority)
    other = Authority(tmp_path / "other", "other")
    store = await make(address_of(server, encryption="require", ca_file=str(other.certificate)))
    with pytest.raises(Unavailable, match="EOD_SQLSERVER_CA_FILE"):
        await store.take_over(GROUP, [P0])
