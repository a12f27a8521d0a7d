"""`eod serve` fed by QuickFIX/J: the positions are those of plain arithmetic, and the stores are equal, also after a kill."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from support import known_close
from support.patience import eventually_nothing
from support.pipeline import TARGET
from testbed.process import Process
from testbed.quickfixj import QuickFixJ

REPORTS = 3_000
PER_S = 1_500
_EOD = [sys.executable, "-c", "from eod_workers.cli import main; main()"]


class Served:
    """`eod serve` in a folder, killed at the end if it still runs."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.log = folder / "serve.log"
        self.result = folder / "result.json"
        self.log.write_text("")
        words = ["serve", "--port", str(port), "--data", folder / "data", "--reference", folder / "reference.yaml"]
        self.process = Process.spawn(
            "eod serve",
            [*_EOD, *words, "--json", self.result],
            log=self.log,
            env={"XDG_RUNTIME_DIR": str(folder), "PYTHONUNBUFFERED": "1"},
            tethered=True,
        )
        eventually_nothing(lambda: "" if self._address() else f"it does not listen: {self.log.read_text()}", 30)
        self.port = int(self._address())

    def _address(self) -> str:
        found = re.search(r"127\.0\.0\.1:(\d+)", self.log.read_text())
        return found[1] if found else ""

    def end(self) -> dict[str, Any]:
        """Let it reconcile; what it says."""
        self.process.send_signal(signal.SIGINT)
        eventually_nothing(lambda: "it still runs" if self.process.alive else "", 60)
        assert self.process.exit_code == 0, self.log.read_text()
        told: dict[str, Any] = json.loads(self.result.read_text())
        return told


@pytest.mark.parametrize("killed", [False, True], ids=["whole", "killed"])
def test_quickfixj_feeds_it_and_the_positions_are_those_of_its_reports(
    quickfixj: QuickFixJ, tmp_path: Path, *, killed: bool
) -> None:
    reports = known_close.compose("S", REPORTS, 7)
    reference = json.dumps(known_close.reference("S"))  # JSON is YAML
    (tmp_path / "reference.yaml").write_text(reference)
    known_close.write_table(reports, tmp_path / "table")
    served = Served(tmp_path)
    words = ["127.0.0.1", str(served.port), TARGET, tmp_path / "table", tmp_path, str(PER_S)]
    peer = Process.spawn(
        "quickfixj", quickfixj.command(words), log=tmp_path / "counterparty.log", env={}, tethered=True
    )
    try:
        if killed:
            eventually_nothing(lambda: "" if _sent(tmp_path) > REPORTS / 3 else "too few reports are sent")
            served.process.kill()
            served = Served(tmp_path, served.port)
        eventually_nothing(lambda: "" if _sent(tmp_path) == REPORTS else f"{_sent(tmp_path)} reports sent")
        expected = {report.exec_id for report in known_close.trades(reports).values()}
        eventually_nothing(lambda: "" if expected <= _stored(tmp_path) else "trades are not stored")
        (tmp_path / "stop").touch()
        eventually_nothing(lambda: "the counterparty still runs" if peer.alive else "")
        told = served.end()
    finally:
        peer.kill()
        served.process.kill()
    assert told["reconciliation"]["result"] == "equal", told["reconciliation"]
    assert told["dead_letters"] == [] or killed  # of the frame that the kill has cut
    held = known_close.positions(reports)
    assert {(one["trader"], one["symbol"]) for one in told["positions"]} == held.keys()
    for one in told["positions"]:
        right = held[one["trader"], one["symbol"]]
        assert (Fraction(one["quantity"]), one["trades"]) == (right.quantity, right.standing)
        assert abs(Fraction(one["realized"]) - right.realized) <= Fraction(right.moves, 10**16)


def _sent(folder: Path) -> int:
    progress = folder / "sent"
    return progress.stat().st_size if progress.exists() else 0


def _stored(folder: Path) -> set[str]:
    """The ExecIDs in the regulatory store, which others may read at any time."""
    with sqlite3.connect(f"file:{folder}/data/regulatory.sqlite?mode=ro", uri=True) as store:
        found = {row[0] for row in store.execute("SELECT exec_id FROM trades")}
    store.close()
    return found
