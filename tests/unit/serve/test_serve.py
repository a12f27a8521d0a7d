"""The whole pipeline behind a FIX port: what an engine sends is in every store, and there again the next time."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from eod_workers.adapters.tcp import TcpNetwork
from eod_workers.cli.commands import app
from eod_workers.fix.initiator import Initiator
from eod_workers.fix.session import SequenceNumbers
from eod_workers.pnl.published import Published
from eod_workers.runtime.variables import SettingsError
from eod_workers.serve.command import as_json, show
from eod_workers.serve.prices import make_price, send_prices
from eod_workers.serve.run import Options, Result, Serve
from eod_workers.serve.view import Screen, SessionLine, render
from eod_workers.trades.dates import TradeDates
from rich.console import Console
from support.fix_messages import SIDES, message, soh, trade_body
from support.patience import limited, soon
from typer.testing import CliRunner

pytestmark = pytest.mark.timeout(90)
E8, E16 = 10**8, 10**16


class Quiet:
    """Nobody looks."""

    def phase(self, text: str, total: int | None = None) -> None:
        del text, total

    def advance(self, steps: int = 1) -> None:
        del steps


@pytest.fixture(autouse=True)
def own_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@asynccontextmanager
async def serving(**options: object) -> AsyncIterator[tuple[Serve, asyncio.Task[Result]]]:
    """One that takes a free port, and its result once it was ended."""
    console = Console(file=io.StringIO(), width=200)
    told = {"fix_port": 0, **options.pop("told", {})}  # type: ignore[dict-item]
    serve = Serve(Options(told, **options), console, Quiet())  # type: ignore[arg-type]
    running = asyncio.create_task(serve.run())
    opened = asyncio.create_task(serve.listening())
    await asyncio.wait({running, opened}, return_when=asyncio.FIRST_COMPLETED)
    opened.cancel()
    yield serve, running
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def engine(port: int, sequence: SequenceNumbers | None = None) -> AsyncIterator[Initiator]:
    """A counterparty that is logged on."""
    line = Initiator("ACME", "EOD", network=TcpNetwork(), now_ns=time.time_ns)
    line.sequence = sequence or line.sequence
    await line.connect("127.0.0.1", port)
    yield line
    await line.synchronize(timeout_s=20)
    await line.logout()
    await line.close()


async def ended(serve: Serve, running: asyncio.Task[Result]) -> Result:
    """What came of it."""
    serve.end()
    async with limited(60):
        return await running


def fill(exec_id: str, quantity: str = "100", px: str = "12.5") -> bytes:
    """The body of an ExecutionReport."""
    return soh(trade_body(exec_id, quantity=quantity, px=px))


async def test_what_an_engine_sends_is_booked_valued_and_reconciled() -> None:
    async with serving() as (serve, running):
        async with engine(serve.port) as line:
            line.send(b"8", fill("E1"))
            line.send(b"8", fill("E2").replace(b"31=12.5\x01", b""))
            line.send(b"AE", soh(f"571=R1|570=N|55=IBM|32=5|31=12|75=20260102|552=2|{''.join(SIDES)}"))
        await soon(lambda: ("T002", "IBM") in serve.screen.positions, "the position is on the screen")
        price = make_price("IBM", "13", at_ns=1, dates=TradeDates())
        assert (await send_prices(serve.port, [price])).held == ("IBM",)
        await soon(lambda: serve.screen.positions["T001", "IBM"].mark_e8 == 13 * E8, "the mark is on the screen")
        await soon(lambda: serve.screen.letters == 1, "the dead letter is on the screen")
        result = await ended(serve, running)
    assert (result.report.exit_code, result.report.breaks) == (0, [])
    assert {key: (one.quantity_e8, one.total_e16) for key, one in result.positions.items()} == {
        ("T001", "IBM"): (105 * E8, 55 * E16),
        ("T002", "IBM"): (-5 * E8, -5 * E16),
    }
    assert sum(result.letters.values()) == 1
    assert result.sessions.keys() == {"ACME->EOD"}


async def test_a_folder_survives_and_the_session_goes_on_where_it_was(tmp_path: Path) -> None:
    data = tmp_path / "data"
    results = []
    sequence = None
    for exec_id in ("E1", "E2"):
        async with serving(data=data) as (serve, running):
            if results:
                await soon(lambda: ("T001", "IBM") in serve.screen.positions, "the position is there again")
            async with engine(serve.port, sequence) as line:
                line.send(b"8", fill(exec_id))
            sequence = line.sequence
            results.append(await ended(serve, running))
    assert [result.report.exit_code for result in results] == [0, 0]
    assert [result.positions["T001", "IBM"].trades for result in results] == [1, 2]
    assert results[1].sessions["ACME->EOD"] > results[0].sessions["ACME->EOD"]


async def test_what_a_folder_holds_can_be_looked_into_and_mended_before_it_is_served_again(tmp_path: Path) -> None:
    data = tmp_path / "data"

    async def told(*words: str) -> tuple[int, str]:
        def run() -> tuple[int, str]:
            done = CliRunner().invoke(app, [*words, "--data", str(data)])
            return (
                done.exit_code,
                done.stderr if done.exit_code else done.stdout,
            )  # what is served logs to stdout meanwhile

        return await asyncio.to_thread(run)

    async with serving(data=data) as (serve, running):
        async with engine(serve.port) as line:
            line.send(b"8", fill("E1", px="12,5"))
        sequence = line.sequence
        code, said = await told("fix", "sessions")
        assert (code, "is in use by another process" in said) == (2, True), said
        await ended(serve, running)
    code, said = await told("fix", "sessions", "--json")
    assert (code, [one["session"] for one in json.loads(said)]) == (0, ["ACME->EOD"])
    (letter,) = json.loads((await told("dlq", "list", "--json"))[1])
    assert "31=12,5" in (await told("dlq", "show", letter["id"]))[1]
    code, said = await told("dlq", "redrive", letter["id"], "--set", "31=12.5")
    assert (code, said.startswith("sent to trades.raw[")) == (0, True), said
    code, said = await told("fix", "reset", "ACME->EOD", "--why", "a new day")
    assert (code, "ACME->EOD expects 1 next" in said) == (0, True), said
    async with serving(data=data) as (serve, running):
        await soon(lambda: ("T001", "IBM") in serve.screen.positions, "what was mended is booked")
        async with engine(serve.port, SequenceNumbers(epoch=sequence.epoch + 1)) as line:
            line.send(b"8", fill("E2"))
        result = await ended(serve, running)
    assert (result.report.exit_code, result.positions["T001", "IBM"].trades) == (0, 2)


def test_a_folder_that_none_served_from_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["fix", "sessions", "--data", str(tmp_path)])
    said = f"eod: --data {tmp_path}: there is no log.sqlite in it: name the folder of an 'eod serve --data'"
    assert (done.exit_code, done.stderr.strip()) == (2, said)
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_serves_one_at_a_time(tmp_path: Path) -> None:
    async with serving(data=tmp_path / "data") as (first, running), serving(data=tmp_path / "data") as (_, second):
        with pytest.raises(ValueError, match=r"log.sqlite is in use by another process"):
            await second
        assert (await ended(first, running)).report.exit_code == 0


async def test_prices_that_are_known_are_there_from_the_beginning() -> None:
    price = make_price("IBM", "13", at_ns=1, dates=TradeDates())
    async with serving(prices=(price,)) as (serve, running):
        async with engine(serve.port) as line:
            line.send(b"8", fill("E1"))
        result = await ended(serve, running)
    assert result.positions["T001", "IBM"].total_e16 == 50 * E16


async def test_it_ends_by_itself_when_its_time_is_over() -> None:
    async with serving(seconds=0.1) as (_, running), limited(60):
        assert (await running).report.exit_code == 0


async def test_a_port_that_is_taken_is_said() -> None:
    async with serving() as (serve, running), serving(told={"fix_port": serve.port}) as (_, second):
        with pytest.raises(SettingsError, match="EOD_FIX_PORT"):
            await second
        await ended(serve, running)


def test_the_environment_says_what_the_command_line_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EOD_FIX_COMP_ID", "DESK")
    monkeypatch.setenv("EOD_FIX_PORT", "1")
    serve = Serve(Options({"fix_port": 0}), Console(), Quiet())
    assert (serve._ingestion.fix_comp_id, serve._ingestion.fix_port) == ("DESK", 0)
    monkeypatch.setenv("EOD_FLUSH_ROWS", "x")
    with pytest.raises(SettingsError, match="EOD_FLUSH_ROWS"):
        Serve(Options({}), Console(), Quiet())


def test_the_screen_shows_sessions_positions_letters_and_what_was_logged() -> None:
    one = Published(-2 * E8, 10 * E8, -20 * E16, E16 // 2, None, None, None, None, 2)
    screen = Screen("FIX at 1.2.3.4:9", "prices: eod price", 1_234, 56.7, 3, 2, "LastPx(31) is missing")
    screen.sessions = [SessionLine(f"S{n}->EOD", n == 5, n) for n in range(10)] + [SessionLine("Z->EOD", True, 7, True)]
    screen.positions = {("ann", f"[S{n}]"): one for n in range(20)}
    print("fix.refused  why=no such session", file=screen.notes)
    console = Console(file=io.StringIO(), width=120)
    console.print(render(screen))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for words in (
        "FIX at 1.2.3.4:9", "1,234 executions", "lag 3", "2 dead letters", "LastPx(31) is missing", "S5->EOD", "logged on",
        "stuck", "and 3 more", "[S0]", "10.00", "+0.50", "and 6 more", "fix.refused  why=no such session", "Ctrl-C",
    ):  # fmt: skip
        assert words in shown
    assert screen.line() == ("2 of 11 sessions logged on, 1,234 executions (57/s), 20 positions, lag 3, 2 dead letters")


EOD = [sys.executable, "-c", "from eod_workers.cli import main; main()"]


async def test_the_command_reconciles_on_sigint_and_says_so_in_its_exit_code(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *EOD, "serve", "--port", "0", "--data", "data", "--json", "result.json", cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    async with limited(60):
        where = (await process.stdout.readline()).decode()
        assert "kept in data" in where
        port = int(where.split("127.0.0.1:")[1].split(",")[0])
        async with engine(port) as line:
            line.send(b"8", fill("E1", quantity="9000000", px="12345.67"))
        priced = await asyncio.create_subprocess_exec(
            *EOD, "price", "IBM", "-1.5", "--port", str(port), "--json", stdout=asyncio.subprocess.PIPE
        )
        assert json.loads((await priced.communicate())[0])["taken"] == 1
        process.send_signal(signal.SIGINT)
        out, _ = await process.communicate()
    assert process.returncode == 0, out
    assert b"equal" in out
    assert b"-111,124,530,000.00" in out, "no digit is cut off where no terminal is"
    told = json.loads((tmp_path / "result.json").read_text())
    assert (told["reconciliation"]["result"], told["sessions"].keys()) == ("equal", {"ACME->EOD"})
    (position,) = told["positions"]
    assert (position["quantity"], position["mark"], position["total"]) == ("9000000", "-1.5", "-111124530000")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["serve", "--prices", "nothing.csv"], "nothing.csv"),
        (["serve", "--reference", "nothing.yaml"], "nothing.yaml"),
        (["serve", "--json", "nowhere/result.json"], "--json nowhere/result.json"),
        (["serve", "--data", "file"], "file"),
        (["price"], "name a symbol and its price"),
        (["price", "IBM"], "name a symbol and its price"),
        (["price", "IBM", "1", "--csv", "x.csv"], "name a symbol and its price"),
        (["price", "IBM", "1", "--zone", "Moon"], "'Moon' is no time zone"),
        (["price", "IBM", "twelve"], "'twelve' is not a decimal number"),
        (["price", "IBM", "12", "--port", "1"], "no 'eod serve' of this user runs on port 1"),
        (["price", "--csv", "bad.csv"], "line 1"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path: Path, arguments: list[str], says: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "bad.csv").write_text("IBM,1\n")
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "EOD_KAFKA_BOOTSTRAP": ""}
    done = subprocess.run(
        [*EOD, *arguments], cwd=tmp_path, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("eod: ")
    assert says in line


async def test_a_session_whose_messages_wait_behind_a_gap_is_named_at_the_end() -> None:
    async with serving(told={"fix_sending_time_within_s": 0}) as (serve, running):
        reader, writer = await asyncio.open_connection("127.0.0.1", serve.port)
        writer.write(message("A", 1, "98=0|108=30|"))
        for number in (2, 5, 6, 9):
            writer.write(message("8", number, trade_body(f"E{number}")))
        waiting = {"ACME->EOD": (3, 4, 3)}
        await soon(lambda: serve._acceptor().gaps == waiting, "it waits")
        result = await ended(serve, running)
        writer.close()
        del reader
    assert result.gaps == waiting
    assert as_json(result)["gaps"] == {"ACME->EOD": {"first": 3, "last": 4, "held": 3}}
    console = Console(file=io.StringIO(), width=200)
    show(result, console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "ACME->EOD has not sent MsgSeqNum 3 to 4: 3 messages behind that are not booked" in said


def test_a_port_that_is_taken_is_said_in_terms_of_the_command(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "EOD_KAFKA_BOOTSTRAP": ""}
        command = [*EOD, "serve", "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    said = done.stderr.splitlines()[-1]
    assert said.startswith("eod: 127.0.0.1:")
    assert "name another in --port; port 0 is any free one" in said


def test_a_folder_whose_regulatory_store_is_none_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "regulatory.sqlite").write_bytes(b"something else entirely, and long enough to be looked at" * 100)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "EOD_KAFKA_BOOTSTRAP": ""}
    command = [*EOD, "serve", "--port", "0", "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    said = done.stderr.splitlines()[-1]
    assert said.startswith(f"eod: {tmp_path / 'regulatory.sqlite'} is no regulatory store, or a damaged one")
    assert said.endswith("move it away, or name another")
