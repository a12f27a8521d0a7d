"""What is wrong with how a command was called, or with where it is told to look, is one line that names what to mend."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import structlog
from eod_contract.outputs import unwritable, write_json
from support.commands import called, whole_command
from support.patience import eventually, limit_s
from typer.testing import CliRunner

EOD = Path(sys.executable).with_name("eod")
BINARY = b"\x00\xff\xfe\x00not text"


def said(words: Sequence[str | Path], **env: str) -> tuple[int, str]:
    """Exit code, and the one line of standard error; nothing is on standard output."""
    bare: dict[str, str | None] = {name: None for name in os.environ if name.startswith("EOD_")}
    before = structlog.get_config()
    try:
        done = CliRunner().invoke(whole_command(), called(list(map(str, words))), env=bare | env)
    finally:
        structlog.configure(**before)
    lines = done.stderr.strip().splitlines()
    assert (done.stdout, len(lines)) == ("", 1), done.stdout + done.stderr
    return done.exit_code, lines[0]


# --- files that commands write --------------------------------------------------------------------------------


def test_a_file_that_may_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    new, old = tmp_path / "new.json", tmp_path / "old.json"
    old.write_text("as it was")
    assert unwritable(new) == unwritable(old) == ""
    assert not new.exists()
    assert old.read_text() == "as it was"


def test_a_link_to_nowhere_stays_one(tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    assert unwritable(link) == ""
    assert link.is_symlink()
    assert not target.exists()


def test_a_pipe_is_not_opened_to_see(tmp_path: Path) -> None:
    """Opened, it would wait for a reader, who is not there yet; closed again, it would tell the reader that this was all."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert unwritable(pipe) == ""
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        write_json(str(pipe), {"trades": 7})
        assert json.loads(os.read(reader, 100)) == {"trades": 7}
        os.close(writer)
    finally:
        os.close(reader)


def test_a_file_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    """Whoever is root may write anywhere by the rights of files, and not everywhere all the same."""
    assert unwritable(tmp_path) == "it is a folder: name a file"
    assert unwritable(tmp_path / "none/x") == f"there is no folder {tmp_path / 'none'}: make it, or name another"
    assert unwritable(Path("/proc/x")) == "it may not be written to (No such file or directory): name another"


def test_a_result_that_cannot_be_written_in_the_end_is_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    write_json("/dev/full", {"trades": 7})
    told = capsys.readouterr()
    assert json.loads(told.out) == {"trades": 7}
    assert told.err == "eod: /dev/full could not be written (No space left on device): here is what was to be in it\n"


# --- settings -------------------------------------------------------------------------------------------------

_KAFKA = {"EOD_KAFKA_BOOTSTRAP": "127.0.0.1:1"}


@pytest.mark.parametrize(
    ("words", "env", "told"),
    [
        (["topics", "ensure"], {"EOD_KAFKA_BOOTSTRAP": "127.0.0.1:99999"}, "'99999' of '127.0.0.1:99999' is no port"),
        (
            ["topics", "ensure"],
            {"EOD_KAFKA_BOOTSTRAP": "a:9092, b:kafka"},
            "'kafka' of 'b:kafka' is no port: give 1 to 65535",
        ),
        (
            ["db", "status"],
            {"EOD_REGULATORY_URL": "sqlite://tmp/x.db"},
            "EOD_REGULATORY_URL: 'tmp' stands where a host",
        ),
        (
            ["db", "status"],
            {"EOD_REGULATORY_URL": "sqlite:///none/x.db"},
            "there is no folder /none: make it, or name",
        ),
        (["archive", "verify"], {"EOD_ARCHIVE_URL": "file://tmp/x"}, "file:///folder (three slashes)"),
        (["archive", "verify"], {"EOD_ARCHIVE_URL": "file:///none/x"}, "there is no folder /none/x: the archive stage"),
        (
            ["reconcile", "--only", "archive"],
            _KAFKA | {"EOD_ARCHIVE_URL": "file:///none/x"},
            "there is no folder /none/x: the archive stage",
        ),
        (["dlq", "list"], _KAFKA | {"EOD_REDIS_URL": "bogus:sekret"}, "EOD_REDIS_URL: "),
        (
            ["dlq", "list", "--stage", "ingest"],
            _KAFKA,
            "there is no stage 'ingest'; registered are archive, dead-letters",
        ),
    ],
)
def test_a_wrong_address_is_refused_with_the_setting(words: list[str], env: dict[str, str], told: str) -> None:
    code, line = said(words, **env)
    assert code == 2
    assert told in line
    assert "sekret" not in line


def test_a_redis_that_is_away_or_refuses_is_named_by_its_setting() -> None:
    code, line = said(["dlq", "list"], **_KAFKA, EOD_REDIS_URL="redis://127.0.0.1:1/0")
    assert (code, line.endswith("(its address is in EOD_REDIS_URL)")) == (2, True)


@pytest.mark.parametrize(
    "words",
    [
        ["archive", "verify"],
        ["db", "status"],
        ["dlq", "list"],
        ["fix", "sessions"],
        ["market", "play", "--port", "1"],
        ["price", "IBM", "1"],
        ["reconcile"],
        ["replay", os.devnull],
        ["serve", "--for", "1", "--port", "0"],
        ["stage", "run", "archive"],
        ["topics", "ensure"],
    ],
    ids=" ".join,
)
def test_the_slip_of_a_setting_is_refused_by_whatever_reads_settings(words: list[str]) -> None:
    code, line = said(words, EOD_LOG_LEVLE="info")
    assert code == 2
    assert "EOD_LOG_LEVLE is no setting: EOD_LOG_LEVEL is one" in line


# --- files that commands read ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["plan", "-f"], "it is no text in UTF-8"),
        (["explain", "x", "--kubeconfig"], "cannot be used: "),
        (["price", "--csv"], "it is no text in UTF-8: a CSV is wanted"),
        (["serve", "--for", "1", "--port", "0", "--prices"], "it is no text in UTF-8: a CSV is wanted"),
    ],
)
def test_a_file_that_is_no_text_is_named(tmp_path: Path, words: list[str], told: str) -> None:
    file = tmp_path / "binary"
    file.write_bytes(BINARY)
    code, line = said([*words, file])
    assert code in {1, 2}
    assert str(file) in line
    assert told in line


@pytest.mark.parametrize("words", [["price", "--csv"], ["serve", "--for", "1", "--port", "0", "--prices"]])
def test_a_folder_where_a_file_is_wanted_is_named(tmp_path: Path, words: list[str]) -> None:
    code, line = said([*words, tmp_path])
    assert code == 2
    assert str(tmp_path) in line


# --- Ctrl-C ---------------------------------------------------------------------------------------------------


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_interrupted_simulation_says_so_and_leaves_nobody_behind(tmp_path: Path) -> None:
    """As a terminal interrupts: every process of the group, in the midst of their work."""
    with (tmp_path / "said").open("wb") as out:
        process = subprocess.Popen(
            [EOD, "simulate", "--quick", "--workers", "2"],
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - a background job ignores it
        )
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        eventually(lambda: len(children.read_text().split()) >= 2, within_s=30)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(limit_s(30)) == 130
        eventually(lambda: not _alive(process.pid), within_s=10)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    text = (tmp_path / "said").read_text()
    assert text.strip().splitlines()[-1] == "eod: interrupted: nothing was compared"
    assert "Traceback" not in text
