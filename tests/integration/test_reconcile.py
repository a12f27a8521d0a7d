"""`eod reconcile` over real stores: equal after a close, and whatever is changed in one of them is named."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from eod_workers.adapters.sqlserver.store import SqlServerRegulatoryStore
from eod_workers.market.universe import make_universe, write_reference
from support.pipeline import EOD, KINDS, Pipeline, fresh_database
from support.regulatory_stores import DATABASE, PASSWORD, USER, address_of
from tds.server import Server
from testbed.kafka import Kafka
from testbed.redis import Redis
from testbed.s3 import S3

SEED = "11"
_MARKET = ("--seconds", "3", "--rate", "300", "--burst", "1500", "--seed", SEED)
_MISCHIEF = ("--corrupt", "0.01", "--duplicates", "0.03", "--odd", "0.02")

pytestmark = pytest.mark.timeout(300)


class Reconciled:
    """How the command ended, and what it said."""

    def __init__(self, pipeline: Pipeline, *arguments: str) -> None:
        groups = [f"{kind}={pipeline.group(kind)}" for kind in KINDS if pipeline.consumes(kind)]
        given = [part for group in groups for part in ("--group", group)]
        done = subprocess.run(
            [EOD, "reconcile", *given, "--json", "-", *arguments],
            env={**os.environ, **pipeline.env},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        self.code = done.returncode
        self.said = done.stderr
        self.told: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}

    @property
    def breaks(self) -> list[tuple[str, str]]:
        """(check, kind) of each."""
        return [(one["check"], one["kind"]) for one in self.told["breaks"]]


def play(pipeline: Pipeline) -> tuple[Path, Path]:
    """A market with mischief; returns reference data and tally."""
    reference, tally = pipeline.folder / "reference.yaml", pipeline.folder / "tally.jsonl"
    pipeline.eod(
        "market", "play", "--port", str(pipeline.fix_port), *_MARKET, *_MISCHIEF, "--reference", str(reference),
        "--tally", str(tally),
    )  # fmt: skip
    return reference, tally


def universe(folder: Path) -> dict[str, Any]:
    """The reference data of the market that will be played: the regulatory stage reads it when it starts."""
    write_reference(make_universe(int(SEED)), folder / "universe.yaml")
    data: dict[str, Any] = yaml.safe_load((folder / "universe.yaml").read_text(encoding="utf-8"))
    return data


@pytest.fixture(scope="module")
def played(
    kafka: Kafka, redis_server: Redis, s3_server: S3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Pipeline, Path]]:
    """A pipeline after a close, and the tally of what was sent."""
    folder = tmp_path_factory.mktemp("reconcile")
    with fresh_database(redis_server) as url:
        pipeline = Pipeline(folder.name, kafka.bootstrap, url, s3_server, folder, universe(folder))
        with pipeline.running():
            _, tally = play(pipeline)
            done = Reconciled(pipeline, "--wait", "60", "--sent", str(tally))
            assert done.code == 0, f"{done.told.get('breaks')}, {done.told.get('undone')}: {done.said}"
            yield pipeline, tally


def test_a_close_reconciles_from_the_socket_to_every_store(played: tuple[Pipeline, Path]) -> None:
    pipeline, tally = played
    done = Reconciled(pipeline, "--wait", "60", "--sent", str(tally))
    assert (done.code, done.told["result"], done.told["breaks_total"], done.told["undone"]) == (0, "equal", 0, [])
    numbers = done.told["numbers"]
    assert set(numbers) == {"archive", "rows", "exceptions", "positions", "letters", "sent"}
    sent = numbers["sent"]
    assert sent["executions"] == sent["arrived"] == numbers["rows"]["rows"] > 1_500
    assert min(sent["garbled"], sent["duplicates"], numbers["rows"]["duplicates"]) > 0
    assert numbers["letters"]["letters"] == sent["garbled"]
    assert "equal: every store holds what the log says" in done.said


@pytest.mark.slow
def test_an_object_that_is_gone_is_named(played: tuple[Pipeline, Path]) -> None:
    pipeline, _ = played
    with closing(pipeline.s3.client()) as client:
        keys = [item["Key"] for item in client.list_objects_v2(Bucket=pipeline.name)["Contents"]]
        key = next(key for key in keys if f"{pipeline.topics['trades']}/" in key)
        kept = client.get_object(Bucket=pipeline.name, Key=key)
        body, metadata = kept["Body"].read(), kept["Metadata"]
        client.delete_object(Bucket=pipeline.name, Key=key)
        done = Reconciled(pipeline)
        client.put_object(Bucket=pipeline.name, Key=key, Body=body[:-1] + b"\0", Metadata=metadata)
        corrupted = Reconciled(pipeline)
        client.put_object(Bucket=pipeline.name, Key=key, Body=body, Metadata=metadata)
    assert (done.code, done.breaks) == (1, [("archive", "missing")])
    assert (corrupted.code, corrupted.breaks) == (1, [("archive", "unreadable")])
    assert key.endswith(corrupted.told["breaks"][0]["where"])
    (gone,), (broken,) = done.told["breaks"], corrupted.told["breaks"]
    assert gone["trade"] == broken["trade"] != "", "the trades of its first record"
    assert Reconciled(pipeline).code == 0


@pytest.mark.slow
def test_a_position_that_was_changed_is_named(played: tuple[Pipeline, Path]) -> None:
    pipeline, _ = played
    key = min(pipeline.state.keys("positions:*"))  # type: ignore[type-var]
    fields: dict[bytes, bytes] = pipeline.state.hgetall(key)  # type: ignore[assignment]
    symbol, kept = next(iter(fields.items()))
    pipeline.state.hset(key, symbol, kept.replace(b'"quantity":"', b'"quantity":"9'))  # type: ignore[arg-type]
    done = Reconciled(pipeline)
    pipeline.state.hset(key, symbol, kept)  # type: ignore[arg-type]
    assert (done.code, done.breaks) == (1, [("positions", "different")])
    assert done.told["breaks"][0]["trade"] == f"{key.decode().removeprefix('positions:')} {symbol.decode()}"


@pytest.mark.slow
def test_a_letter_that_is_gone_is_named(played: tuple[Pipeline, Path]) -> None:
    pipeline, _ = played
    at = min(pipeline.state.keys("dlq:index:*"))  # type: ignore[type-var]
    letters: dict[bytes, bytes] = pipeline.state.hgetall(at)  # type: ignore[assignment]
    letter, kept = next(iter(letters.items()))
    pipeline.state.hdel(at, letter)  # type: ignore[arg-type]
    done = Reconciled(pipeline)
    pipeline.state.hset(at, letter, kept)  # type: ignore[arg-type]
    assert (done.code, done.breaks) == (1, [("letters", "missing")])
    assert done.told["breaks"][0]["trade"] == letter.decode()


@pytest.mark.slow
def test_a_trade_that_was_never_sent_is_named(played: tuple[Pipeline, Path], tmp_path: Path) -> None:
    """The tally is the one thing here that a test may rewrite: a trade less in it is a trade too many in the log."""
    pipeline, tally = played
    lines = tally.read_text(encoding="utf-8").splitlines()
    head = json.loads(lines[0])
    head["executions"] -= 1
    lost = json.loads(lines.pop(1))["execution"]
    shorter = tmp_path / "tally.jsonl"
    shorter.write_text("\n".join([json.dumps(head), *lines[1:]]), encoding="utf-8")
    done = Reconciled(pipeline, "--sent", str(shorter), "--only", "sent")
    assert done.code == 1
    session, _, exec_id = lost[:3]
    assert done.told["breaks"][0]["trade"] == f"{exec_id} of {session}"


def test_a_row_that_is_gone_or_changed_is_named(played: tuple[Pipeline, Path]) -> None:
    """Last: what the triggers protect cannot be put back as it was."""
    pipeline, _ = played
    with closing(sqlite3.connect(pipeline.sql, timeout=30)) as connection:
        for trigger in ("trades_no_update", "trades_no_delete"):
            connection.execute(f"DROP TRIGGER {trigger}")
        (gone,) = connection.execute("SELECT exec_id FROM trades LIMIT 1").fetchone()
        connection.execute("DELETE FROM trades WHERE exec_id = ?", (gone,))
        (changed,) = connection.execute("SELECT exec_id FROM trades LIMIT 1").fetchone()
        connection.execute("UPDATE trades SET trader = 'T999' WHERE exec_id = ?", (changed,))
        connection.commit()
    done = Reconciled(pipeline)
    assert (done.code, sorted(done.breaks)) == (1, [("rows", "different"), ("rows", "missing")])
    assert {one["trade"].split()[0] for one in done.told["breaks"]} == {gone, changed}


@pytest.mark.slow
def test_what_cannot_be_compared_is_said_with_its_remedy(played: tuple[Pipeline, Path]) -> None:
    pipeline, _ = played
    usual = dict(pipeline.env)
    cases = {
        "EOD_ARCHIVE_URL": ("", "EOD_ARCHIVE_URL is not set: set it, or leave the comparison out with --skip archive"),
        "EOD_TRADES_TOPIC": ("nowhere", "topic nowhere does not exist: 'eod topics ensure' creates it"),
        "EOD_REDIS_URL": ("redis://127.0.0.1:1/0", "redis: "),
        "EOD_REGULATORY_URL": ("sqlite:///nowhere/file", "/nowhere/file is no file with rows"),
        "EOD_KAFKA_BOOTSTRAP": ("127.0.0.1:1", "127.0.0.1:1"),
    }
    for variable, (value, said) in cases.items():
        pipeline.env[variable] = value
        done = Reconciled(pipeline)
        pipeline.env[variable] = usual[variable]
        assert done.code == 2, variable
        assert said in done.said
        assert "Traceback" not in done.said


@pytest.mark.slow
def test_it_reconciles_with_sql_server(
    kafka: Kafka, redis_server: Redis, s3_server: S3, tmp_path: Path, unique: str
) -> None:
    """The same through the driver's process and the server's protocol; what was altered by hand is named."""
    with Server(tmp_path, user=USER, password=PASSWORD) as server, fresh_database(redis_server) as url:
        server.create_database(DATABASE)
        store = SqlServerRegulatoryStore(address_of(server))
        asyncio.run(_prepare(store))
        settings = {
            "EOD_REGULATORY_URL": "",
            "EOD_SQLSERVER_HOST": "127.0.0.1",
            "EOD_SQLSERVER_PORT": str(server.port),
            "EOD_SQLSERVER_DATABASE": DATABASE,
            "EOD_SQLSERVER_USER": USER,
            "EOD_SQLSERVER_PASSWORD": PASSWORD,
            "EOD_SQLSERVER_ENCRYPTION": "off",
        }
        pipeline = Pipeline(unique, kafka.bootstrap, url, s3_server, tmp_path / "pipeline", settings=settings)
        with pipeline.running():
            _, tally = play(pipeline)
            done = Reconciled(pipeline, "--wait", "60", "--sent", str(tally))
            assert (done.code, done.told["breaks_total"]) == (0, 0)
            assert done.told["numbers"]["rows"]["rows"] > 1_500
            with closing(sqlite3.connect(server.folder / f"{DATABASE}.sqlite", timeout=30)) as connection:
                for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                    connection.execute(f'DROP TRIGGER "{name}"')
                tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
                table = next(name for name in tables if name.endswith("trades"))
                (gone,) = connection.execute(f'SELECT exec_id FROM "{table}" LIMIT 1').fetchone()  # noqa: S608 - a name of the server's
                connection.execute(f'DELETE FROM "{table}" WHERE exec_id = ?', (gone,))  # noqa: S608 - likewise
                (altered,) = connection.execute(f'SELECT exec_id FROM "{table}" LIMIT 1').fetchone()  # noqa: S608 - likewise
                price = f'UPDATE "{table}" SET last_px_e8 = last_px_e8 + 1 WHERE exec_id = ?'  # noqa: S608 - likewise
                connection.execute(price, (altered,))
                connection.commit()
            key = min(pipeline.state.keys("positions:*"))  # type: ignore[type-var]
            fields: dict[bytes, bytes] = pipeline.state.hgetall(key)  # type: ignore[assignment]
            symbol, kept = next(iter(fields.items()))
            pipeline.state.hset(key, symbol, kept.replace(b'"quantity":"', b'"quantity":"9'))  # type: ignore[arg-type]
            done = Reconciled(pipeline)
            assert done.code == 1
            named = {(one["check"], one["kind"], one["trade"].split(" of ")[0]) for one in done.told["breaks"]}
            assert named == {
                ("rows", "missing", gone),
                ("rows", "different", altered),
                ("positions", "different", f"{key.decode().removeprefix('positions:')} {symbol.decode()}"),
            }


async def _prepare(store: SqlServerRegulatoryStore) -> None:
    await store.migrate()
    await store.close()
