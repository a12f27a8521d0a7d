"""A stage that is not ours, added as whoever adds one would: a folder, one entry point, and one row of the table.

The row is in a copy of `eod_contract` that is found before our own; nothing else is touched.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import eod_contract
from eod_contract.kinds import KINDS, StageKind
from eod_contract.streams import TRADES

VOLUME = StageKind("volume", reads=(TRADES,))
_ROW = 'VOLUME = StageKind("volume", reads=(TRADES,))\n'
_STAGE = '''"""Notes the trades that went by, a line each, in the file that VOLUME_FILE names."""

import os

from eod_contract.kinds import VOLUME
from eod_workers.runtime.batchloop import BatchLoop
from eod_workers.runtime.core import Core, FlushPolicy
from eod_workers.runtime.stages import Stage
from eod_workers.trades.codec import decode_trades


class Volume(Core):
    kind = VOLUME

    def __init__(self):
        self._lines = []

    def revoke(self, partitions):
        self._lines = []

    def apply(self, record, letters):
        trades = decode_trades(record.value)
        self._lines += [f"{trade.session} {trade.trade_date} {trade.exec_id}\\n" for trade in trades]
        return len(trades)

    async def make_durable(self, offsets, *, final):
        with open(os.environ["VOLUME_FILE"], "a") as file:
            file.writelines(self._lines)
        self._lines = []
        return offsets.fresh


def start(context, settings):
    return BatchLoop(Volume(), context, settings, FlushPolicy(seconds=0.1))


STAGE = Stage(VOLUME, start)
'''


def install(folder: Path) -> dict[str, str]:
    """Puts the stage into a folder; the environment of a process that shall have it, which notes trades in `noted`."""
    contract = folder / "eod_contract"
    shutil.copytree(
        Path(eod_contract.__file__).parent, contract, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
    )
    table = contract / "kinds.py"
    text = table.read_text(encoding="utf-8")
    before, head, after = text.partition("KINDS: Mapping")
    rows = after.replace("DEAD_LETTERS)", "DEAD_LETTERS, VOLUME)")
    assert rows != after, "the table of kinds is written differently now"
    table.write_text(before + _ROW + head + rows, encoding="utf-8")
    package = folder / "volume"
    package.mkdir()
    (package / "stage.py").write_text(_STAGE, encoding="utf-8")
    information = folder / "volume-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: volume\nVersion: 1\n", encoding="utf-8")
    (information / "entry_points.txt").write_text("[eod.stages]\nvolume = volume.stage:STAGE\n", encoding="utf-8")
    return {**os.environ, "PYTHONPATH": str(folder), "VOLUME_FILE": str(noted(folder))}


def noted(folder: Path) -> Path:
    """Where the stage notes trades."""
    return folder / "noted"


def known() -> Sequence[str]:
    """The kinds that a process which has the stage knows, in order."""
    return [*KINDS, VOLUME.name]
