"""The test server does with T-SQL what the store's tests rely on, and refuses what it does not know."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pymssql
import pytest
from tds import tokens
from tds.faults import Cut, Fail, Pause
from tds.packets import ATTENTION, BULK_LOAD, RPC, SQL_BATCH, TRANSACTION
from tds.reading import Reader
from tds.server import Server
from tds.tokens import Column, Said
from tds.types import Type, Value, type_named
from unit.tds.raw import HEADERS, Client

Connect = Callable[[], Client]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, user="u", password="p") as server:
        server.create_database("db")
        yield server


@pytest.fixture
def connect(server: Server) -> Iterator[Connect]:
    clients: list[Client] = []

    def connect_() -> Client:
        clients.append(Client(server.port, "u", "p", "db"))
        return clients[-1]

    yield connect_
    for client in clients:
        client.close()


@pytest.fixture
def client(connect: Connect) -> Client:
    return connect()


def errors(answer: bytes) -> list[int]:
    """The numbers of the errors of an answer without rows."""
    found, reader = [], Reader(answer)
    while reader.left:
        token = reader.u8()
        if token == tokens.DONE:
            reader.take(12)
            continue
        body = Reader(reader.take(reader.u16()))
        if token == tokens.ERROR:
            found.append(body.u32())
    return found


def rows(answer: bytes) -> list[list[Value]]:
    """The rows of an answer that has one result, and before it only statements without."""
    while answer[0] != tokens.COLUMNS:
        answer = answer[13:] if answer[0] == tokens.DONE else answer[3 + int.from_bytes(answer[1:3], "little") :]
    return list(tokens.read_rows(Reader(answer))[1])


@pytest.mark.parametrize(
    ("user", "password", "database", "refusals"),
    [("u", "P", "db", [18456]), ("U", "p", "db", [18456]), ("u", "p", "nope", [4060]), ("u", "p", "../db", [4060]),
     ("u", "p", "db", []), ("u", "p", "", [])],
)  # fmt: skip
def test_login_and_database_are_checked(
    server: Server, user: str, password: str, database: str, refusals: list[int]
) -> None:
    client = Client(server.port, user, password, database)
    assert errors(client.greeting) == refusals
    client.close()


def test_a_script_has_variables_conditions_and_counts(client: Client) -> None:
    client.run("CREATE TABLE #t ([a] INT NOT NULL, [b] NVARCHAR(10) NULL)")
    answer = client.run(
        """
        DECLARE @n INT = 40 + 2;
        DECLARE @m INT;
        INSERT INTO #t (a, b) VALUES (@n, N'x;''y'), (1, NULL);
        SET @m = @@ROWCOUNT;
        IF @m = 2 INSERT INTO #t (a) SELECT @m WHERE NOT EXISTS (SELECT 1 FROM #t WHERE a = 2);
        IF @m > 2 INSERT INTO #t (a) VALUES (99);
        SELECT TOP (5) a, b, @m AS m FROM #t ORDER BY a
        """
    )
    assert rows(answer) == [[1, None, 2], [2, None, 2], [42, "x;'y", 2]]


def test_an_update_takes_its_values_from_another_table(client: Client) -> None:
    client.run("CREATE TABLE dbo.t (k INT NOT NULL, v INT); CREATE TABLE #s (k INT, v INT)")
    client.run("INSERT INTO dbo.t (k, v) VALUES (1, 10), (2, 20), (3, 30); INSERT INTO #s (k, v) VALUES (1, 5), (3, 6)")
    client.run("UPDATE t SET t.v = t.v + s.v FROM dbo.t AS t JOIN #s AS s ON s.k = t.k WHERE t.k > 1")
    assert rows(client.run("SELECT k, v FROM dbo.t ORDER BY k")) == [[1, 10], [2, 20], [3, 36]]


def test_a_transaction_is_whole_and_others_wait_for_it(client: Client, connect: Connect) -> None:
    other = connect()
    client.run("CREATE TABLE dbo.t (a INT)")
    client.run("BEGIN TRANSACTION; INSERT INTO dbo.t (a) VALUES (1)")
    assert rows(other.run("SELECT COUNT(*) AS n FROM dbo.t")) == [[0]]
    waiting = threading.Thread(target=other.run, args=("BEGIN TRAN; INSERT INTO dbo.t (a) VALUES (2); COMMIT TRAN",))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive(), "two transactions do not write at the same time"
    client.run("ROLLBACK TRANSACTION")
    waiting.join(10)
    assert rows(client.run("SELECT a FROM dbo.t")) == [[2]]


def test_an_inner_commit_commits_nothing_and_counts_are_told(client: Client) -> None:
    client.run("CREATE TABLE dbo.t (a INT)")
    inner = client.run("BEGIN TRAN; BEGIN TRAN; INSERT INTO dbo.t (a) VALUES (1); COMMIT TRAN; SELECT @@TRANCOUNT AS n")
    assert rows(inner) == [[1]]
    assert errors(client.run("ROLLBACK TRAN")) == []
    assert rows(client.run("SELECT COUNT(*) AS n FROM dbo.t")) == [[0]]
    assert errors(client.run("COMMIT TRAN")) == [3902]
    assert errors(client.run("ROLLBACK TRAN")) == [3903]


def test_transactions_may_also_be_asked_for_without_t_sql(client: Client, connect: Connect) -> None:
    """Transaction manager requests: begin (5), commit (7), roll back (8)."""

    def request(number: int) -> bytes:
        return client.ask(TRANSACTION, HEADERS + number.to_bytes(2, "little") + b"\0\0")

    client.run("CREATE TABLE dbo.t (a INT)")
    assert request(5)[:4] == bytes((tokens.ENV_CHANGE, 11, 0, tokens.BEGUN))
    client.run("INSERT INTO dbo.t (a) VALUES (1)")
    assert request(8)[3] == tokens.ROLLED_BACK
    request(5)
    client.run("INSERT INTO dbo.t (a) VALUES (2)")
    assert request(7)[3] == tokens.COMMITTED
    assert rows(connect().run("SELECT a FROM dbo.t")) == [[2]]
    assert errors(request(7)) == [3902]
    assert errors(request(99)) == [50_000]


@pytest.mark.parametrize(("abort", "left"), [("ON", 0), ("OFF", 1)])
def test_an_error_ends_the_batch_and_with_xact_abort_the_transaction(client: Client, abort: str, left: int) -> None:
    client.run(f"SET XACT_ABORT {abort}; CREATE TABLE dbo.t (a INT)")
    answer = client.run("BEGIN TRAN; INSERT INTO dbo.t (a) VALUES (1); THROW 51000, N'stop', 1; DELETE FROM dbo.t")
    assert errors(answer) == [51_000]
    assert rows(client.run("SELECT @@TRANCOUNT AS depth, COUNT(*) AS n FROM dbo.t")) == [[left, left]]


@pytest.mark.parametrize(
    ("statement", "number"),
    [
        ("INSERT INTO dbo.t (k, v, s) VALUES (1, 1, N'twice')", 2627),
        ("INSERT INTO dbo.t (k, v) VALUES (2, 1)", 515),
        ("INSERT INTO dbo.t (k, v, s) VALUES (2, 1, N'elevenletters')", 2628),
        ("INSERT INTO dbo.t (k, v, s) VALUES (2147483648, 1, N's')", 8115),
        ("INSERT INTO dbo.t (k, v, s) VALUES (N'x', 1, N's')", 245),
        ("SELECT a FROM dbo.nope", 208),
        ("SELECT nope FROM dbo.t", 207),
        ("CREATE TABLE dbo.t (a INT)", 2714),
        ("CREATE TABLE nope.t (a INT)", 2760),
        ("CREATE TABLE dbo.u (a GEOGRAPHY)", 2715),
        ("DROP TABLE dbo.nope", 3701),
        ("MERGE INTO dbo.t AS t USING dbo.t AS s ON 1 = 1 WHEN MATCHED THEN DELETE", 102),
        ("SELECT 'open", 105),
        ("CREATE TABLE dbo.u (a INT DEFAULT 5)", 102),
        ("SET STATISTICS IO ON", 195),
        ("FROB THE KNOB", 102),
    ],
)
def test_what_is_wrong_or_unknown_is_an_error_with_sql_servers_number(
    client: Client, statement: str, number: int
) -> None:
    client.run("CREATE TABLE dbo.t (k INT NOT NULL CONSTRAINT once PRIMARY KEY, v INT NULL, s NVARCHAR(10) NOT NULL)")
    client.run("INSERT INTO dbo.t (k, v, s) VALUES (1, 1, N's')")
    assert errors(client.run(statement)) == [number]
    assert rows(client.run("SELECT k, v, s FROM dbo.t")) == [[1, 1, "s"]]


def test_temporary_tables_are_a_sessions_own_and_tables_survive_a_restart(
    server: Server, client: Client, connect: Connect
) -> None:
    client.run("CREATE TABLE #t (a INT); CREATE TABLE dbo.t (a INT); INSERT INTO dbo.t (a) VALUES (7)")
    assert errors(connect().run("SELECT a FROM #t")) == [208]
    server.stop()
    assert client.is_cut_off()
    server.start()
    assert rows(connect().run("SELECT a FROM dbo.t")) == [[7]]


def test_a_bulk_load_is_whole_and_needs_to_be_announced(client: Client) -> None:
    client.run("CREATE TABLE dbo.t (a INT NOT NULL, b NVARCHAR(3) NULL)")
    described = [Column("a", Type(0x26, 4)), Column("b", type_named("nvarchar", "3"))]

    def load(*values: list[Value]) -> bytes:
        body = tokens.columns(described) + b"".join(tokens.row(described, row) for row in values)
        return client.ask(BULK_LOAD, body + tokens.done())

    assert errors(load([1, "x"])) == [4002]
    announced = "INSERT BULK dbo.t ([a] INT, [b] NVARCHAR(3)) WITH (TABLOCK)"
    client.run(announced)
    assert load([1, "x"], [2, None]) == tokens.done(0, 2)
    client.run(announced)
    assert errors(load([3, "y"], [None, "z"])) == [515]
    assert rows(client.run("SELECT a, b FROM dbo.t ORDER BY a")) == [[1, "x"], [2, None]]
    assert errors(client.run("INSERT BULK dbo.nope ([a] INT)")) == [208]


def test_a_cancel_ends_what_is_slow_and_undoes_it(server: Server, client: Client) -> None:
    client.run("CREATE TABLE dbo.t (a INT)")
    server.faults.at("SELECT", Pause(3_600))
    client.send(SQL_BATCH, HEADERS + "BEGIN TRAN; INSERT INTO dbo.t (a) VALUES (1); SELECT 1".encode("utf-16-le"))
    time.sleep(0.05)
    assert client.ask(ATTENTION, b"") == tokens.done(tokens.CANCELLED)
    assert rows(client.run("SELECT COUNT(*) AS n, @@TRANCOUNT AS depth FROM dbo.t")) == [[0, 0]]


def test_faults_strike_when_and_as_often_as_they_are_told(server: Server, client: Client, connect: Connect) -> None:
    client.run("CREATE TABLE dbo.t (a INT)")
    server.faults.at("INSERT INTO DBO.T", Fail(Said(1205, "deadlock", 13)), skip=1, times=2)
    inserts = [errors(client.run("insert  into dbo.t (a) VALUES (1)")) for _ in range(4)]
    assert inserts == [[], [1205], [1205], []]
    server.faults.at("INSERT", Cut(), after=True)
    client.send(SQL_BATCH, HEADERS + "INSERT INTO dbo.t (a) VALUES (2)".encode("utf-16-le"))
    assert client.is_cut_off()
    server.faults.at("SELECT", Cut())
    server.faults.clear()
    assert rows(connect().run("SELECT a FROM dbo.t")) == [[1], [1], [2]]
    assert server.faults.statements[-1] == "SELECT a FROM dbo.t"


VIEW = (
    "CREATE OR ALTER VIEW dbo.vw AS WITH big AS (SELECT x.a FROM t AS x WHERE x.a > 1) "
    "SELECT big.a, CAST(big.a AS DECIMAL(9, 2)) AS d FROM big"
)
PROCEDURE = (
    "CREATE OR ALTER PROCEDURE dbo.sp @From INT, @To INT = 99 AS "
    "SELECT v.a FROM vw AS v WHERE v.a >= @From AND v.a <= @To"
)


def test_views_and_procedures_are_made_anew_and_shared(client: Client, connect: Connect) -> None:
    for batch in ("CREATE TABLE t (a INT NOT NULL)", "INSERT INTO t (a) VALUES (1), (2), (3)", VIEW, VIEW, PROCEDURE):
        assert errors(client.run(batch)) == []
    other = connect()
    assert [row[0] for row in rows(other.run("SELECT v.a FROM vw AS v"))] == [2, 3]
    for call, found in {"sp 3": [3], "dbo.sp @To = 2, @From = 1": [2], "sp @From = 0": [2, 3], "sp 2, 2": [2]}.items():
        assert [row[0] for row in rows(other.run(f"EXEC {call}"))] == found, call
    assert errors(client.run(VIEW.replace("x.a > 1", "x.a > 2"))) == []
    assert [row[0] for row in rows(other.run("EXEC sp 0"))] == [3]
    assert errors(client.run("INSERT INTO t (a) VALUES (99999999)")) == []
    assert errors(client.run("SELECT v.d FROM vw AS v")) == [8115], "the view's own error, with its number"


@pytest.mark.parametrize(
    ("batch", "number"),
    [
        ("EXEC dbo.nothing 1", 2812),
        ("EXEC dbo.sp", 201),
        ("EXEC dbo.sp 1, 2, 3", 8144),
        ("EXEC dbo.sp @Other = 1", 8144),
        ("CREATE OR ALTER VIEW dbo.t AS SELECT 1 AS a", 2714),
        ("CREATE OR ALTER VIEW dbo.w AS SELECT x FRM y GROUP", 102),
        ("CREATE OR ALTER PROCEDURE dbo.sq @a AS SELECT 1 AS a", 102),
    ],
)
def test_a_view_or_procedure_that_is_wrong_is_an_error(client: Client, batch: str, number: int) -> None:
    for good in ("CREATE TABLE t (a INT NOT NULL)", VIEW, PROCEDURE):
        assert errors(client.run(good)) == []
    assert errors(client.run(batch)) == [number]


def test_a_procedure_may_be_called_by_the_driver(server: Server, client: Client) -> None:
    """As pymssql's callproc does: an RPC, with parameters by name or by place."""
    for good in ("CREATE TABLE t (a INT NOT NULL)", "INSERT INTO t (a) VALUES (1), (2), (3)", VIEW, PROCEDURE):
        assert errors(client.run(good)) == []
    with (
        pymssql.connect(
            server="127.0.0.1", port=str(server.port), user="u", password="p", database="db", encryption="off",
            tds_version="7.4", autocommit=True,
        ) as connection,
        connection.cursor() as cursor,
    ):  # fmt: skip
        for given, found in (((2,), [2, 3]), ((2, 2), [2]), ((7,), [])):
            cursor.callproc("dbo.sp", given)
            assert [row[0] for row in cursor] == found, given
        with pytest.raises(pymssql.Error, match=r"Could not find stored procedure 'dbo.nothing'"):
            cursor.callproc("dbo.nothing", (1,))
        cursor.execute("SELECT 1 AS one")
        assert cursor.fetchall() == [(1,)]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        (b"\xff\xff\x0a\x00", b""),
        (b"\x02\x00s\x00p\x00", b"\x00\x01\x26\x04\x04\x01\x00\x00\x00"),
        (b"\x02\x00s\x00p\x00", b"\x00\x00\xf0"),
    ],
    ids=["by-number", "by-reference", "of-an-unknown-type"],
)
def test_a_call_that_is_not_known_is_an_error_and_the_session_goes_on(
    client: Client, name: bytes, parameters: bytes
) -> None:
    assert errors(client.ask(RPC, HEADERS + name + b"\x00\x00" + parameters)) == [50_000]
    assert rows(client.run("SELECT 1 AS one")) == [[1]]
