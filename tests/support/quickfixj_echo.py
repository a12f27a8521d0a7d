"""An acceptor of QuickFIX/J that returns orders to their sender."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from testbed.quickfixj import QuickFixJ


@contextmanager
def quickfixj_echo(quickfixj: QuickFixJ, sessions: Sequence[str]) -> Iterator[int]:
    """Its port, while it runs; `sessions` as FIX.4.4:OURS->THEIRS."""
    command = quickfixj.java("eod.peers.Echo", sessions)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.communicate("")
