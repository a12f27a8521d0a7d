"""The demo ends well only if everything is well: it counts what was injected, and notices any one thing that is lost."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from eod_workers.cli.commands import app
from eod_workers.demo import run as demo_run
from eod_workers.demo.run import Demo, DemoOptions, DemoResult, show
from eod_workers.ingestion.connection import Connection
from eod_workers.ingestion.stage import Ingestion
from eod_workers.ingestion.writer import LogWriter
from eod_workers.market.play import TURNS
from eod_workers.ports import Record
from eod_workers.protos.dead_letter_pb2 import DeadLetter
from eod_workers.runtime.core import Offsets
from eod_workers.runtime.stages import Service, Stage, StageContext, load_stages
from eod_workers.trades.codec import decode_trades, encode_trades
from rich.console import Console
from support.amounts import slow_but
from support.patience import eventually, limit_s, limited
from typer.testing import CliRunner

pytestmark = pytest.mark.timeout(120)
ISSUE_KEYS = {
    "sent", "garbled", "duplicates", "traded", "archived_bytes", "stored_rows", "exceptions", "dead_lettered",
    "positions_checked", "mismatches",
}  # fmt: skip
SHORT = DemoOptions(seconds=1.2, rate=100, burst=800, seed=7, corrupt=0.02, duplicates=0.05, busts=0.02, unknown=0.02)


async def played(options: DemoOptions, stages: dict[str, Stage] | None = None) -> DemoResult:
    """Run the demo without a screen."""
    async with limited(100):
        return await Demo(options, Console(file=StringIO()), stages).run()


# --- a good end ---------------------------------------------------------------------------------------------


async def test_a_short_close_ends_well_with_exactly_what_was_injected() -> None:
    options = DemoOptions(
        seconds=2, rate=100, burst=800, seed=7, corrupt=0.02, duplicates=0.05, busts=0.02, unknown=0.02, odd=0.1
    )
    made: list[Any] = []
    original = demo_run.Market

    class _Kept(original):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_run, "Market", _Kept)
        result = await played(options)
    (market,) = made
    tally, found = market.tally, result.reconciliation
    assert (result.ok, result.problems, found.mismatches, found.named) == (True, [], 0, [])
    injected = (len(tally.garbled), tally.duplicates, tally.busts, len(tally.unknown), len(tally.refused), tally.odd)
    assert min(injected) > 0, "nothing was injected"
    assert tally.turns.keys() == set(TURNS)
    resets = sum(line.initiator.sequence.epoch - 1 for line in market._lines)
    assert resets == tally.turns["numbers begin again"]
    assert found.numbers() == {
        "sent": market.sent,
        "garbled": len(tally.garbled),
        "refused": len(tally.refused),
        "duplicates": tally.duplicates + market.again_intact,
        "traded": market.sent,
        "archived_bytes": tally.bytes_sent,
        "stored_rows": market.sent,
        "exceptions": len(tally.unknown),
        "dead_lettered": len(tally.garbled | tally.refused),
        "positions_checked": len(tally.positions()),
        "mismatches": 0,
    }
    assert set(result.latency_ms) == {"p50", "p99"}
    assert set(result.replicas_seen) == set(load_stages())


def test_the_command_writes_json_keeps_the_data_and_exits_with_0(tmp_path: Path) -> None:
    file, data = tmp_path / "result.json", tmp_path / "data"
    arguments = ["demo", "--seconds", "2", "--rate", "100", "--burst", "400", "--seed", "3", "--corrupt", "0"]
    ended = CliRunner().invoke(app, [*arguments, "--json", str(file), "--data-dir", str(data)])
    assert ended.exit_code == 0, ended.output
    assert "mismatches 0" in ended.output
    told = json.loads(file.read_text(encoding="utf-8"))
    assert told.keys() >= ISSUE_KEYS
    assert all(isinstance(told[key], int) for key in ISSUE_KEYS)
    assert (told["mismatches"], told["garbled"], told["problems"]) == (0, 0, [])
    assert told["sent"] == told["traded"] == told["stored_rows"] > 100
    (folder,) = data.iterdir()
    assert {"regulatory.sqlite", "archive", "reference.yaml"} <= {path.name for path in folder.iterdir()}


def test_where_it_is_to_write_is_looked_at_before_it_plays(tmp_path: Path) -> None:
    for words, why in (
        (["--json", str(tmp_path / "none" / "result.json")], f"there is no folder {tmp_path / 'none'}"),
        (["--json", str(tmp_path)], "it is a folder: name a file"),
        (["--data-dir", str(Path(__file__) / "data")], "Not a directory: name another"),
    ):
        ended = CliRunner().invoke(app, ["demo", *words])
        assert (ended.exit_code, why in ended.stderr) == (2, True), ended.stderr


def test_an_interrupted_demo_says_so_in_one_line(tmp_path: Path) -> None:
    eod = Path(sys.executable).with_name("eod")
    with (tmp_path / "said").open("w") as said:
        playing = subprocess.Popen(
            [eod, "demo", "--data-dir", tmp_path / "data"],
            stdout=said,
            stderr=said,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - a background job ignores it
        )
        try:
            eventually(lambda: list((tmp_path / "data").glob("*/reference.yaml")))
            playing.send_signal(signal.SIGINT)
            assert playing.wait(limit_s(30)) == 130
        finally:
            playing.kill()
    assert (tmp_path / "said").read_text().strip().splitlines()[-1] == "eod: interrupted: nothing was reconciled"
    assert "Traceback" not in (tmp_path / "said").read_text()


# --- sabotage -----------------------------------------------------------------------------------------------

Refuse = Callable[[DeadLetter], None]


def _without(record: Record, dropped: int) -> Record:
    """The record without some of its trades."""
    trades = decode_trades(record.value)
    kept = trades[dropped:]
    empty = b"\x08\x01"  # a TradeBatch of version 1 that holds nothing
    return record._replace(value=encode_trades(kept) if kept else empty)


def _thin(core: Any, done: list[str], dropped: int) -> None:
    """One record of trades reaches the core without some of them."""
    apply = core.apply

    def less(record: Record, letters: Refuse) -> Any:
        if not done and record.topic == "trades.raw":
            done.append("record")
            record = _without(record, dropped)
        return apply(record, letters)

    core.apply = less


def _one_record(core: Any, done: list[str]) -> None:
    """Flash P&L books nothing of one record."""
    _thin(core, done, 1_000)


def _one_row(core: Any, done: list[str]) -> None:
    """The regulatory stage stores one row less."""
    apply = core.apply

    def less(record: Record, letters: Refuse) -> Any:
        applied = apply(record, letters)
        if applied and not done:
            done.append("row")
            del core._rows[record.source][0]
        return applied

    core.apply = less


def _one_frame(core: Any, done: list[str]) -> None:
    """The archive holds one frame less."""
    _thin(core, done, 1)


def _one_letter(core: Any, done: list[str]) -> None:
    """The index of dead letters lacks one."""
    apply = core.apply

    def less(record: Record, letters: Refuse) -> Any:
        applied = apply(record, letters)
        if applied and not done:
            done.append("letter")
            core._fresh[record.source].popitem()
        return applied

    core.apply = less


def _one_trade(service: Ingestion, done: list[str]) -> None:
    """Ingestion forgets one trade."""
    admission = service._admission
    connected = admission.connected

    def less(writer: LogWriter) -> Connection:
        trade = writer.trade

        def maybe(one: Any) -> None:
            if done:
                trade(one)
            else:
                done.append("trade")

        writer.trade = maybe  # type: ignore[method-assign]
        return connected(writer)

    admission.connected = less  # type: ignore[method-assign]


SABOTAGE: Mapping[str, Callable[[Any, list[str]], None]] = {
    "ingestion": _one_trade,
    "flash-pnl": _one_record,
    "regulatory": _one_row,
    "archive": _one_frame,
    "dead-letters": _one_letter,
}


def sabotaged(name: str, done: list[str]) -> dict[str, Stage]:
    """The registered stages, one of them with a worker that loses one thing, once."""
    kinds = load_stages()
    start = kinds[name].start

    def worse(context: StageContext, settings: Any) -> Service:
        service: Any = start(context, settings)
        SABOTAGE[name](getattr(service, "core", None) or getattr(service, "_core", None) or service, done)
        return service  # type: ignore[no-any-return]

    kinds[name] = dataclasses.replace(kinds[name], start=worse)
    return kinds


def test_every_registered_stage_is_sabotaged_here() -> None:
    """Whoever registers a stage adds a way to break it: a demo that cannot fail shows nothing."""
    assert set(SABOTAGE) == set(load_stages())


@pytest.mark.parametrize("name", slow_but(["ingestion", "flash-pnl", "archive"], SABOTAGE))
async def test_one_thing_lost_in_one_stage_is_a_mismatch(name: str) -> None:
    done: list[str] = []
    result = await played(SHORT, sabotaged(name, done))
    assert len(done) == 1, "the sabotage took place"
    assert not result.ok
    assert result.reconciliation.mismatches > 0
    assert result.reconciliation.named


def test_a_sabotaged_stage_makes_the_command_exit_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(demo_run, "load_stages", lambda: sabotaged("regulatory", done))
    ended = CliRunner().invoke(
        app, ["demo", "--seconds", "2", "--rate", "100", "--burst", "300", "--json", "-", "--corrupt", "0"]
    )
    assert done
    assert ended.exit_code == 1
    told = json.loads(ended.stdout)
    assert told["mismatches"] > 0
    assert told["stored_rows"] == told["sent"] - 1


# --- workers that fail --------------------------------------------------------------------------------------


def _failing_at_once(kind: Stage) -> Stage:
    """The kind, with workers that fail as soon as they run."""

    def start(context: StageContext, settings: Any) -> Service:
        service: Any = kind.start(context, settings)

        async def run() -> None:
            raise ValueError("out of order")

        service.run = run
        return service  # type: ignore[no-any-return]

    return dataclasses.replace(kind, start=start)


@pytest.mark.parametrize("name", slow_but(["ingestion", "flash-pnl"], SABOTAGE))
async def test_a_worker_that_fails_at_once_is_reported_and_does_not_hang(name: str) -> None:
    kinds = load_stages()
    kinds[name] = _failing_at_once(kinds[name])
    result = await played(SHORT, kinds)
    assert not result.ok
    assert any(f"a worker of {name} failed" in problem and "out of order" in problem for problem in result.problems)


async def test_a_worker_that_fails_in_the_midst_is_reported_and_does_not_hang() -> None:
    kinds = load_stages()
    start = kinds["regulatory"].start

    def fragile(context: StageContext, settings: Any) -> Service:
        service: Any = start(context, settings)

        async def make_durable(_offsets: Offsets, *, final: bool) -> None:
            del final
            raise ValueError("out of order")

        service._core.make_durable = make_durable
        return service  # type: ignore[no-any-return]

    kinds["regulatory"] = dataclasses.replace(kinds["regulatory"], start=fragile)
    result = await played(SHORT, kinds)
    assert not result.ok
    assert any("a worker of regulatory failed" in problem for problem in result.problems)
    console = Console(record=True, file=StringIO(), width=120)
    show(result, console)
    assert "a worker of regulatory failed" in console.export_text()


async def test_a_record_that_a_worker_stumbles_over_is_a_mismatch_and_ends_nothing() -> None:
    done: list[str] = []
    kinds = load_stages()
    start = kinds["regulatory"].start

    def fragile(context: StageContext, settings: Any) -> Service:
        service: Any = start(context, settings)
        apply = service._core.apply

        def stumbling(record: Record, letters: Refuse) -> Any:
            if not done:
                done.append("record")
                raise ZeroDivisionError("a bug")
            return apply(record, letters)

        service._core.apply = stumbling
        return service  # type: ignore[no-any-return]

    kinds["regulatory"] = dataclasses.replace(kinds["regulatory"], start=fragile)
    result = await played(SHORT, kinds)
    assert (done, result.problems) == (["record"], [])
    assert result.reconciliation.mismatches > 0
