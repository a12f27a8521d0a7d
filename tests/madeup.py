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
from eod_workers.runtime.stages import Stage
from eod_workers.trades.codec import decode_trades


class Volume:
    name = VOLUME.name

    def __init__(self):
        self._lines, self._next = [], {}

    async def assigned(self, partitions):
        return {}

    async def revoked(self, partitions):
        self._lines, self._next = [], {}

    async def apply(self, records):
        for record in records:
            self._lines += [f"{trade.session} {trade.exec_id}\\n" for trade in decode_trades(record.value)]
            self._next[record.source] = record.offset + 1

    def due(self, now):
        return bool(self._next)

    async def flush(self, *, final):
        with open(os.environ["VOLUME_FILE"], "a") as file:
            file.writelines(self._lines)
        self._lines, offsets, self._next = [], self._next, {}
        return offsets


def start(context, settings):
    consumer = context.log.consumer(settings.consumed(VOLUME), settings.group_of(VOLUME))
    return BatchLoop(Volume(), consumer, context.clock, context.health)


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
