"""`eod db`: what a regulatory store says of its schema, and how it is brought to this release, on every store."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from eod_workers.adapters.sqlserver.schema import MIGRATIONS, VERSION
from eod_workers.cli.commands import app
from support.patience import eventually_nothing
from support.regulatory_stores import PASSWORD, USER
from tds.server import Server
from typer.testing import CliRunner

SetVersion = Callable[[int], None]


@pytest.fixture(params=["sqlite", "tds"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SetVersion]:
    """A store that is empty, in the environment; says another version of it."""
    file = tmp_path / "regulatory.db"
    if request.param == "sqlite":
        monkeypatch.setenv("EOD_REGULATORY_URL", f"sqlite://{file}")

        def set_version(version: int) -> None:
            with sqlite3.connect(file) as connection:
                connection.execute(f"PRAGMA user_version = {version}")
            connection.close()

        yield set_version
        return
    with Server(tmp_path, user=USER, password=PASSWORD) as server:
        server.create_database("regulatory")
        told = {"HOST": "127.0.0.1", "PORT": str(server.port), "DATABASE": "regulatory", "ENCRYPTION": "off"}
        for name, value in (told | {"USER": USER, "PASSWORD": PASSWORD}).items():
            monkeypatch.setenv(f"EOD_SQLSERVER_{name}", value)

        def set_version(version: int) -> None:
            engine = server.engine("regulatory")
            engine.run(f"DELETE FROM eod.schema_version WHERE version > {version}")  # noqa: S608 - our own number
            engine.run(f"INSERT INTO eod.schema_version (version) SELECT {version} WHERE {version} > {VERSION}")
            engine.close()

        yield set_version


def told(*arguments: str) -> tuple[int, str]:
    """Exit code and what was printed."""
    ended = CliRunner().invoke(app, ["db", *arguments])
    assert PASSWORD not in ended.output
    return ended.exit_code, ended.output


def test_an_empty_store_is_migrated_and_nothing_is_done_twice(store: SetVersion) -> None:
    del store
    code, said = told("status")
    assert (code, f"has no schema; this release has {VERSION}: run eod db migrate" in said) == (1, True), said
    assert said.count("pending") == len(MIGRATIONS)
    code, said = told("migrate")
    assert code == 0, said
    assert f"had no schema, and is at {VERSION}" in said
    assert [line for line in said.splitlines() if line.startswith("applied")] == [
        f"applied {one.version}: {one.what}" for one in MIGRATIONS
    ]
    code, said = told("migrate")
    assert (code, f"was at schema version {VERSION}, and is at {VERSION}" in said, "applied" in said) == (
        0,
        True,
        False,
    )
    code, said = told("status")
    assert (code, f"has schema version {VERSION}; this release has {VERSION}\n" in said) == (0, True)
    assert "pending" not in said


def test_what_a_script_reads_is_json(store: SetVersion) -> None:
    del store
    everything = [one.version for one in MIGRATIONS]
    status = json.loads(told("status", "--json")[1])
    assert (status["version"], status["wanted"], status["pending"]) == (None, VERSION, everything)
    done = json.loads(told("migrate", "--json")[1])
    assert (done["before"], done["version"], done["applied"], done["store"]) == (
        None,
        VERSION,
        everything,
        status["store"],
    )


def test_a_store_of_a_later_release_is_said_and_left_alone(store: SetVersion) -> None:
    assert told("migrate")[0] == 0
    store(VERSION + 1)
    code, said = told("status")
    assert (code, f"has schema version {VERSION + 1}, of a later release; this release has {VERSION}\n" in said) == (
        1,
        True,
    ), said
    code, said = told("migrate")
    assert (code, "later release" in said, "Traceback" in said) == (2, True, False), said
    assert told("status")[1].endswith(
        f"has schema version {VERSION + 1}, of a later release; this release has {VERSION}\n"
    )


REFERENCE = "traders: {T1: {name: Ada, desk: Equities}}\nsecurities: {AAPL: {isin: US0378331005, mic: XNAS}}\n"


def test_reference_data_is_put_into_tables(store: SetVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not in the file is gone from them, and each table says what changed."""
    del store
    told("migrate")
    file = tmp_path / "reference.yaml"
    file.write_text(REFERENCE, encoding="utf-8")
    code, said = told("reference", str(file))
    assert (code, f"holds what {file} says" in said) == (0, True), said
    assert [line.split("\t") for line in said.splitlines()[:5]] == [
        ["table", "rows", "added", "changed", "gone"],
        ["traders", "1", "1", "0", "0"],
        ["strategies", "0", "0", "0", "0"],
        ["securities", "1", "1", "0", "0"],
        ["mpids", "0", "0", "0", "0"],
    ]
    monkeypatch.setenv("EOD_REFERENCE_FILE", str(file))
    file.write_text(REFERENCE.replace("T1", "T2").replace("XNAS", "XNYS"), encoding="utf-8")
    tables = json.loads(told("reference", "--json")[1])["tables"]
    assert tables["traders"] == {"rows": 1, "added": 1, "changed": 0, "gone": 1}
    assert tables["securities"] == {"rows": 1, "added": 0, "changed": 1, "gone": 0}


def test_reference_data_that_is_wrong_changes_nothing(store: SetVersion, tmp_path: Path) -> None:
    del store
    told("migrate")
    file = tmp_path / "reference.yaml"
    file.write_text(REFERENCE, encoding="utf-8")
    assert told("reference", "--check", str(file)) == (
        0,
        f"{file} is in order: 1 traders, 0 strategies, 1 securities, 0 mpids\n",
    )
    assert json.loads(told("reference", str(file), "--json")[1])["tables"]["traders"]["added"] == 1
    file.write_text(REFERENCE.replace("US0378331005", "US0378331006").replace("XNAS", "nasdaq"), encoding="utf-8")
    for arguments in (("--check", str(file)), (str(file),)):
        code, said = told("reference", *arguments)
        assert (code, "securities, AAPL: isin 'US0378331006'" in said, "Traceback" in said) == (2, True, False), said
    code, said = told("reference")
    assert (code, "EOD_REFERENCE_FILE is not set" in said) == (2, True)
    file.write_text(REFERENCE, encoding="utf-8")
    tables = json.loads(told("reference", str(file), "--json")[1])["tables"]
    assert all(table["added"] == table["changed"] == table["gone"] == 0 for table in tables.values())


def test_reference_data_waits_for_the_schema_and_leaves_a_later_one_alone(store: SetVersion, tmp_path: Path) -> None:
    file = tmp_path / "reference.yaml"
    file.write_text(REFERENCE, encoding="utf-8")
    code, said = told("reference", str(file))
    assert (code, f"has no schema, this release has {VERSION}: see eod db status" in said) == (2, True), said
    assert told("migrate")[0] == 0
    store(VERSION + 1)
    code, said = told("reference", str(file))
    assert (code, f"has schema version {VERSION + 1}, this release" in said, "Traceback" in said) == (2, True, False), (
        said
    )


HEEDING = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from eod_workers.cli import main
main()
"""
"""The command; what a shell starts in the background is born deaf to interrupts."""


def test_an_interrupt_ends_the_reading_of_reference_data(tmp_path: Path) -> None:
    """The file is a pipe into which nothing is ever written.

    Python hears of an interrupt between two of its own instructions: one that comes just before it begins to wait is heard
    with the next, as by whoever presses Ctrl-C again.
    """
    pipe = tmp_path / "reference.yaml"
    os.mkfifo(pipe)
    command = [sys.executable, "-c", HEEDING, "db", "reference", str(pipe)]
    environment = {**os.environ, "EOD_REGULATORY_URL": f"sqlite://{tmp_path}/regulatory.db"}
    process = subprocess.Popen(command, env=environment)
    with pipe.open("wb"):  # which returns once it is read

        def reads_on() -> str:
            process.send_signal(signal.SIGINT)
            return "it still reads" if process.poll() is None else ""

        eventually_nothing(reads_on, 30, look_s=0.2)
    assert process.returncode != 0
    assert not (tmp_path / "regulatory.db").exists()


def test_without_a_store_it_says_what_to_set() -> None:
    sample = Path(__file__).parents[2] / "examples" / "reference.yaml"
    for command in (("status",), ("migrate",), ("reference", str(sample))):
        code, said = told(*command)
        assert (code, "neither EOD_SQLSERVER_HOST nor EOD_REGULATORY_URL is set" in said) == (2, True), said


def test_a_server_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = Server(tmp_path, user=USER, password=PASSWORD)
    server.start()
    server.create_database("regulatory")
    server.stop()
    known = {"HOST": "127.0.0.1", "PORT": str(server.port), "DATABASE": "regulatory", "ENCRYPTION": "off"}
    for name, value in (known | {"USER": USER, "PASSWORD": PASSWORD}).items():
        monkeypatch.setenv(f"EOD_SQLSERVER_{name}", value)
    code, said = told("migrate", "--wait-seconds=3")
    assert (code, said.count("waiting up to 3 s")) == (2, 1), said
    server.start()
    assert told("migrate", "--wait-seconds=3")[0] == 0
    server.stop()
