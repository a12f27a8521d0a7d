"""The `eod` command.

What a pod of a stage runs, `eod stage run KIND`, is told apart here and started without the library of the command line
(`worker`): a worker starts so much sooner. Everything else, a word of that command that is wrong included, is in
`commands`.
"""

from __future__ import annotations

import gc
import os
import sys

from eod_workers.lean import without

_RUN = ["stage", "run"]


def main() -> None:
    """Runs what the command line says."""
    *words, kind = sys.argv[1:] or [""]
    if words == _RUN and not kind.startswith("-"):
        gc.disable()  # what is loaded is no garbage; to look for some takes a tenth of a start
        with without("rich"):  # a worker writes no tracebacks for people
            import structlog  # noqa: F401, PLC0415 - only what is run is loaded

        from eod_workers.cli.worker import run_worker as work  # noqa: PLC0415 - the same
        from eod_workers.process.live import VARIABLE, restarting  # noqa: PLC0415 - the same

        with restarting(os.environ.get(VARIABLE)):
            work(kind)
    else:
        from eod_workers.cli.commands import main as commands  # noqa: PLC0415 - the same

        commands()
