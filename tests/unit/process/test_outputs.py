"""What commands write for people: names from outside, and logs."""

from __future__ import annotations

import logging
from io import StringIO

import pytest
import structlog
from eod_contract.outputs import printable
from eod_workers.cli.shared import show_rows
from eod_workers.pnl.published import Published
from eod_workers.runtime.logs import log_to
from eod_workers.serve.view import positions_table
from rich.console import Console

NAME = "IBM\x1b[2J[red]\x07\x9b1m\n"
SHOWN = r"IBM\x1b[2J[red]\x07\x9b1m\n"


class _Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_what_a_terminal_would_obey_is_shown() -> None:
    assert printable(NAME) == SHOWN
    assert printable("Müller & Söhne 株") == "Müller & Söhne 株"


def test_a_table_says_names_as_they_are(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    show_rows(("name",), [(NAME,)])
    assert capsys.readouterr().out == f"name\n{SHOWN.removesuffix(chr(92) + 'n')}\n"
    terminal = _Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    show_rows(("name",), [(NAME,)])
    assert SHOWN in terminal.getvalue()


def test_so_does_the_screen_of_positions() -> None:
    file = StringIO()
    one = Published(0, None, 0, 0, 0, 0, None, None, 1)
    Console(file=file, width=200).print(positions_table({(NAME, NAME): one}, most=5))
    assert file.getvalue().count(SHOWN) == 2


def test_what_a_stranger_says_commands_no_terminal() -> None:
    file, before = _Terminal(), structlog.get_config()
    try:
        log_to(file, logging.INFO)
        structlog.get_logger().warning("fix.refused", session="X\x1b[31mY->EOD")
    finally:
        structlog.configure(**before)
    assert r"X\x1b[31mY->EOD" in file.getvalue()


@pytest.mark.parametrize("file", [StringIO(), _Terminal()])
def test_logs_have_colours_where_somebody_looks(file: StringIO) -> None:
    before = structlog.get_config()
    try:
        log_to(file, logging.INFO)
        structlog.get_logger().warning("fix.refused", why="because")
    finally:
        structlog.configure(**before)
    assert ("\x1b[" in file.getvalue(), "because" in file.getvalue()) == (file.isatty(), True)
