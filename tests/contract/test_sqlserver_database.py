"""`eod db create`: the database, its tables and the workers' login, made by another login; see tests/tds/README.md."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from eod_workers.adapters.sqlserver import database
from eod_workers.adapters.sqlserver.schema import VERSION
from eod_workers.adapters.sqlserver.store import SqlServerRegulatoryStore
from eod_workers.cli import commands as cli
from eod_workers.ports import Stored, TopicPartition
from support.regulatory_rows import TOPIC, trade
from support.regulatory_stores import address_of
from tds.faults import Fail
from tds.server import Server
from tds.tokens import Said
from typer.testing import CliRunner

ADMIN, ADMIN_PASSWORD = "sa", "Adm1n's %s ]word"
WORKER, PASSWORD = "eod_writer", "Wr1ter's %s ]word"
P0 = TopicPartition(TOPIC, 0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server on which nothing has been made."""
    with Server(tmp_path, user=ADMIN, password=ADMIN_PASSWORD) as server:
        yield server


@pytest.fixture(autouse=True)
def environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    variables = {"HOST": "127.0.0.1", "PORT": str(server.port), "DATABASE": "eod", "ENCRYPTION": "off"}
    variables |= {"USER": WORKER, "PASSWORD": PASSWORD, "ADMIN_USER": ADMIN, "ADMIN_PASSWORD": ADMIN_PASSWORD}
    for name, value in variables.items():
        monkeypatch.setenv(f"EOD_SQLSERVER_{name}", value)
    return monkeypatch


def run(*args: str) -> tuple[int, str]:
    """Exit code and all that was printed, in which no password may stand."""
    ended = CliRunner().invoke(cli.app, ["db", "create", *args])
    assert PASSWORD not in ended.output
    assert ADMIN_PASSWORD not in ended.output
    return ended.exit_code, ended.output


async def test_workers_log_in_and_store_where_nothing_was_before(server: Server) -> None:
    made = await database.make(
        address_of(server, user=ADMIN, password=ADMIN_PASSWORD, database="ignored"),
        address_of(server, user=WORKER, password=PASSWORD, database="eod"),
    )
    assert made[:2] == ["database eod made", "login eod_writer made"]
    store = SqlServerRegulatoryStore(address_of(server, user=WORKER, password=PASSWORD, database="eod"))
    assert await store.take_over("regulatory", [P0]) == {P0: (1, None, None)}
    assert await store.store("regulatory", [trade(1)], [], {P0: (1, 2)}) == Stored(1, 0, 0)
    await store.close()


def test_it_may_be_applied_any_number_of_times_and_says_what_it_found(server: Server) -> None:
    code, told = run("--apply")
    assert (code, "database eod made\nlogin eod_writer made\n" in told) == (0, True)
    code, told = run("--apply")
    assert (code, "database eod was there\nlogin eod_writer was there\n" in told) == (0, True)
    assert "password" not in told
    assert told.endswith("eod_writer works on 127.0.0.1/eod\n")
    assert server.engine("eod")._catalogue.grants() == {
        (WORKER, table, right) for table, rights in database.RIGHTS.items() for right in rights.split(", ")
    }


def test_the_schema_of_a_later_release_is_left_alone(server: Server) -> None:
    assert run("--apply")[0] == 0
    engine = server.engine("eod")
    engine.run(f"INSERT INTO eod.schema_version (version) SELECT {VERSION + 1}")
    engine.run("CREATE OR ALTER VIEW eod.vw_HourlyVolume AS SELECT 7 AS later")
    code, told = run("--apply")
    assert (code, "has the schema of a later release" in told, "Traceback" in told) == (2, True, False), told
    assert "later" in str(engine.run("SELECT v.later FROM eod.vw_HourlyVolume AS v").decode("utf-16-le", "replace"))
    engine.close()


def test_a_changed_password_is_set_and_only_then(server: Server, environment: pytest.MonkeyPatch) -> None:
    run("--apply")
    assert not [one for one in server.faults.statements if one.startswith("ALTER LOGIN")]
    environment.setenv("EOD_SQLSERVER_PASSWORD", "An0ther one")
    assert run("--check")[0] == 2
    code, told = run("--apply")
    assert (code, "password of eod_writer set to EOD_SQLSERVER_PASSWORD" in told) == (0, True)
    assert run("--check")[0] == 0


def test_check_changes_nothing(server: Server) -> None:
    code, told = run("--check")
    assert (code, "Login failed for user 'eod_writer'" in told) == (2, True), told
    assert not server.has_database("eod")
    run("--apply")
    server.faults.statements.clear()
    assert run("--check") == (0, "eod_writer works on 127.0.0.1/eod\n")
    assert not [one for one in server.faults.statements if one.startswith(("INSERT", "ALTER", "GRANT"))]


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("ADMIN_PASSWORD", "wrong", "mend EOD_SQLSERVER_ADMIN_USER (sa) or EOD_SQLSERVER_ADMIN_PASSWORD"),
        ("ADMIN_PASSWORD", "", "EOD_SQLSERVER_ADMIN_PASSWORD not set: a login that may make databases"),
        ("USER", "SA", "are both sa: give the workers a login of their own"),
        ("DATABASE", "", "EOD_SQLSERVER_DATABASE not set"),
    ],
)
def test_what_cannot_be_done_is_told_with_the_variable_to_mend(
    environment: pytest.MonkeyPatch, variable: str, value: str, sentence: str
) -> None:
    environment.setenv(f"EOD_SQLSERVER_{variable}", value)
    code, told = run("--apply")
    assert (code, sentence in told) == (2, True), told


def test_a_right_that_is_lacking_is_told_as_the_makers(server: Server) -> None:
    server.faults.at("CREATE DATABASE", Fail(Said(262, "CREATE DATABASE permission denied in database 'master'.", 14)))
    code, told = run("--apply")
    assert (code, "permission denied" in told, "EOD_SQLSERVER_ADMIN_USER (sa) lacks a right" in told) == (2, True, True)


def test_it_waits_for_a_server_that_is_not_up_yet(server: Server) -> None:
    """The hook of the chart runs as soon as the pod is made."""
    server.stop()
    code, told = run("--apply", "--wait-seconds=4")
    assert (code, told.count("waiting up to 4 s")) == (2, 1), told
    server.start()
    assert run("--apply", "--wait-seconds=4")[0] == 0


def test_the_script_for_a_dba_has_every_statement_and_a_variable_for_the_password(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("EOD_SQLSERVER_USER", "o'neill]")
    code, script = run()
    assert code == 0
    assert "IF DB_ID(N'eod') IS NULL CREATE DATABASE [eod];\nGO\n" in script
    assert "CREATE LOGIN [o'neill]]] WITH PASSWORD = N'$(EOD_SQLSERVER_PASSWORD)';\nGO\n" in script
    assert "IF SUSER_ID(N'o''neill]') IS NULL" in script
    assert "GRANT SELECT, INSERT ON eod.trades TO [o'neill]]];\nGO\n" in script
    assert script.count("\nGO\n") == len(script.split(";\nGO\n")) - 1
