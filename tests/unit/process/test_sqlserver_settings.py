"""How a deployment says that its regulatory store is SQL Server, and how it gets the schema there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from eod_workers.adapters.sqlserver.schema import IN_ONE_PIECE, KINDS, SCHEMA, VERSION
from eod_workers.adapters.sqlserver.store import SqlServerRegulatoryStore
from eod_workers.ports import ExceptionRow, TradeRow
from eod_workers.process.bootstrap import make_regulatory
from eod_workers.process.settings import SettingsError, load_settings
from tds.server import Server

EOD = Path(sys.executable).with_name("eod")
COMPLETE = {
    "EOD_SQLSERVER_HOST": "sql.example",
    "EOD_SQLSERVER_DATABASE": "regulatory",
    "EOD_SQLSERVER_USER": "eod_writer",
    "EOD_SQLSERVER_PASSWORD": "hunter2",
}


@pytest.fixture(autouse=True)
def complete_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No EOD_ variable of this machine reaches a test; those of a SQL Server are there."""
    for name in [name for name in os.environ if name.startswith("EOD_")]:
        monkeypatch.delenv(name)
    for name, value in COMPLETE.items():
        monkeypatch.setenv(name, value)


def test_a_host_chooses_sql_server_with_tls_at_its_usual_port(monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_regulatory(load_settings())
    assert isinstance(store, SqlServerRegulatoryStore)
    address = store._driver._address
    assert str(address) == "SQL Server sql.example:1433/regulatory"
    assert (address.user, address.password, address.encryption, address.ca_file) == (
        "eod_writer",
        "hunter2",
        "require",
        "",
    )
    for name, value in {"PORT": "1444", "ENCRYPTION": "off", "CA_FILE": "/etc/ca.pem"}.items():
        monkeypatch.setenv(f"EOD_SQLSERVER_{name}", value)
    store = make_regulatory(load_settings())
    assert isinstance(store, SqlServerRegulatoryStore)
    address = store._driver._address
    assert (address.port, address.encryption, address.ca_file) == (1444, "off", "/etc/ca.pem")


@pytest.mark.parametrize("missing", ["EOD_SQLSERVER_DATABASE", "EOD_SQLSERVER_USER", "EOD_SQLSERVER_PASSWORD"])
def test_half_an_address_is_refused_with_the_missing_variable(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.delenv(missing)
    with pytest.raises(SettingsError, match=f"^{missing} not set"):
        make_regulatory(load_settings())


def test_two_stores_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EOD_REGULATORY_URL", "sqlite:///tmp/x.db")
    with pytest.raises(SettingsError, match="EOD_REGULATORY_URL and EOD_SQLSERVER_HOST are both set"):
        make_regulatory(load_settings())


@pytest.mark.parametrize(("name", "value"), [("PORT", "0"), ("PORT", "x"), ("ENCRYPTION", "maybe")])
def test_an_impossible_value_is_refused_with_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"EOD_SQLSERVER_{name}", value)
    with pytest.raises(SettingsError, match=f"^EOD_SQLSERVER_{name}: "):
        load_settings()


def test_the_password_does_not_show() -> None:
    settings = load_settings()
    store = make_regulatory(settings)
    assert isinstance(store, SqlServerRegulatoryStore)
    assert "hunter2" not in f"{settings!r} {store._driver._address!r} {store._driver._address}"


# --- the schema -----------------------------------------------------------------------------------


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [EOD, "db", "migrate", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, user="eod_owner", password="s3cret") as server:
        server.create_database("regulatory")
        yield server


def test_the_schema_has_every_column_of_the_rows() -> None:
    """In their order, which is that of the staging tables and of the reading."""
    assert list(KINDS["trades"]) == list(TradeRow._fields)
    assert list(KINDS["exceptions"]) == list(ExceptionRow._fields)
    assert {kind for kinds in KINDS.values() for kind in kinds.values()} == {str, int}


def test_the_schema_is_printed_as_batches_without_a_server() -> None:
    ended = run("--print")
    assert ended.returncode == 0, ended.stderr
    first, script = ended.stdout.split("\n", 1)
    assert first == ":on error exit", "sqlcmd goes on after an error otherwise"
    assert script.split(";\nGO\n") == ["SET XACT_ABORT ON", *IN_ONE_PIECE, ""]
    assert [one for one in IN_ONE_PIECE if one not in {"BEGIN TRANSACTION", "COMMIT TRANSACTION"}] == list(SCHEMA)


@pytest.mark.slow
def test_the_schema_is_applied_by_whom_the_variables_name(server: Server) -> None:
    known = {
        "EOD_SQLSERVER_HOST": "127.0.0.1",
        "EOD_SQLSERVER_PORT": str(server.port),
        "EOD_SQLSERVER_ENCRYPTION": "off",
        "EOD_SQLSERVER_USER": "eod_owner",
        "EOD_SQLSERVER_PASSWORD": "s3cret",
    }
    for was in ("had no schema", f"was at schema version {VERSION}"):
        ended = run(**known)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.splitlines()[-1] == f"127.0.0.1/regulatory {was}, and is at {VERSION}"
    engine = server.engine("regulatory")
    answer = engine.run("SELECT MAX(version) AS version FROM eod.schema_version")
    engine.close()
    assert b"\xd1\x08" + bytes([VERSION]) in answer

    refused = run(**known | {"EOD_SQLSERVER_PASSWORD": "wr0ng"})
    assert refused.returncode == 2
    assert "EOD_SQLSERVER_PASSWORD" in refused.stderr
    assert "wr0ng" not in refused.stderr
