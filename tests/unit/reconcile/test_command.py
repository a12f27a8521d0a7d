"""The command's arguments, refusals and output."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
import typer
from eod_workers.reconcile.command import reconcile
from eod_workers.reconcile.report import BROKEN, CHECKS, EQUAL, UNDONE, Break, Report
from eod_workers.reconcile.view import Shown, show
from rich.console import Console
from typer.testing import CliRunner

app = typer.Typer()
app.command()(reconcile)

ENV = {
    "EOD_KAFKA_BOOTSTRAP": "127.0.0.1:1",
    "EOD_REDIS_URL": "redis://127.0.0.1:1/0",
    "EOD_ARCHIVE_URL": "file:///nowhere",
    "EOD_REGULATORY_URL": "sqlite:///nowhere/file",
    "EOD_SQLSERVER_HOST": "",
    "EOD_REFERENCE_FILE": "",
}
REFUSED: dict[str, tuple[list[str], dict[str, str], str]] = {
    "no such comparison": (["--only", "all"], {}, f"there is no comparison 'all': there are {', '.join(CHECKS)}"),
    "exceptions without reference": (["--only", "exceptions"], {}, "--only exceptions needs --reference FILE"),
    "sent without tally": (["--only", "sent"], {}, "--only sent needs --sent FILE"),
    "nothing left": (["--only", "rows", "--skip", "rows"], {}, "no comparison is left"),
    "no time": (["--since", "yesterday"], {}, "a time like 2024-11-29T18:00:00Z is wanted"),
    "no offset": (["--from", "trades.raw"], {}, "TOPIC[PARTITION]@OFFSET is wanted, for example trades.raw[3]@1200"),
    "no group": (["--group", "flash-pnl"], {}, "STAGE=NAME is wanted, with a stage of archive, dead-letters"),
    "no such stage": (["--group", "x=y"], {}, "STAGE=NAME is wanted"),
    "no tally": (["--sent", "/nowhere"], {}, "the tally /nowhere cannot be read"),
    "no reference data": (["--reference", "/nowhere"], {}, "reference data /nowhere cannot be read"),
    "no archive": ([], {"EOD_ARCHIVE_URL": ""}, "EOD_ARCHIVE_URL is not set: set it, or leave the comparison out with --skip archive"),
    "no state store": ([], {"EOD_REDIS_URL": ""}, "EOD_REDIS_URL is not set"),
    "no regulatory store": ([], {"EOD_REGULATORY_URL": ""}, "EOD_REGULATORY_URL (or EOD_SQLSERVER_HOST) is not set"),
    "no rows": ([], {}, "/nowhere/file is no file with rows: the regulatory stage makes it"),
    "no folder": (["--only", "archive"], {}, "there is no folder /nowhere: the archive stage makes it"),
    "no log": (["--only", "letters"], {"EOD_KAFKA_BOOTSTRAP": ""}, "EOD_KAFKA_BOOTSTRAP is not set"),
    "no number": ([], {"EOD_HTTP_PORT": "many"}, "EOD_HTTP_PORT: "),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_ends_with_2_and_says_what_helps(case: str) -> None:
    arguments, env, said = REFUSED[case]
    ended = CliRunner().invoke(app, arguments, env=ENV | env)
    assert ended.exit_code == UNDONE
    assert said in ended.stderr
    assert ended.stdout == ""


def test_a_partition_and_a_tally_exclude_each_other(tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, ["--sent", str(tmp_path), "--partition", "1"], env=ENV)
    assert ended.exit_code == UNDONE
    assert "leave --partition out, or --skip sent" in ended.stderr


def test_opening_sqlite_never_makes_the_file(tmp_path: Path) -> None:
    file = tmp_path / "regulatory.db"
    ended = CliRunner().invoke(app, [], env=ENV | {"EOD_REGULATORY_URL": f"sqlite://{file}"})
    assert ended.exit_code == UNDONE
    assert not file.exists()


BREAK = Break("rows", "missing", "trades.raw[3]@1", "X1 of A->EOD", "no row", "sell 1 [IBM] at 2 by T1")


def test_a_break_is_one_line_however_long_and_is_not_taken_for_markup() -> None:
    report = Report(max_breaks=1, numbers={"rows": {"trades": 1_234, "hash": "x"}})
    report.extend([BREAK._replace(found="no row" * 50), BREAK])
    report.notes.append("a [note]")
    console = Console(file=StringIO(), width=60)
    show(report, console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    (line,) = [line for line in lines if "sell 1 [IBM] at 2 by T1" in line]
    assert line.startswith("✗ rows: missing at trades.raw[3]@1, X1 of A->EOD: no row")
    assert lines[-3:] == ["and 1 more: --max-breaks names more of them", "note: a [note]", "broken: 2 breaks"]


def test_the_exit_code_says_equal_broken_or_undone() -> None:
    report = Report()
    assert report.exit_code == EQUAL
    report.undone.append("positions")
    assert (report.exit_code, report.as_json()["result"]) == (UNDONE, "undone")
    report.add(BREAK)
    assert (report.exit_code, report.as_json()["result"]) == (BROKEN, "broken")


def test_progress_is_a_bar_on_a_terminal_and_plain_lines_elsewhere() -> None:
    for terminal in (False, True):
        file = StringIO()
        with Shown(Console(file=file, force_terminal=terminal, width=80)) as shown:
            shown.phase("reading trades.raw", 1_200)
            shown.advance()
            shown.phase("comparing")
            shown.phase("comparing")
        if terminal:
            assert "\x1b[" in file.getvalue()
        else:
            assert file.getvalue().splitlines() == ["reading trades.raw (1,200)", "comparing"]
