"""What the kernel says of a process: CPU time and memory (proc(5))."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_UTIME, _STIME = 11, 12
"""Of the fields after the name, counted from 0."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used at one moment."""

    at_s: float
    cpu_s: float
    rss_bytes: int
    peak_bytes: int

    def cores_since(self, before: Usage) -> float:
        """Cores in use on average since then."""
        return (self.cpu_s - before.cpu_s) / (self.at_s - before.at_s)


def usage(pid: int) -> Usage:
    """CPU time and memory of a process, all of its threads included, its children not."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    memory = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines())
    return Usage(
        at_s=time.monotonic(),
        cpu_s=(int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS_PER_S,
        rss_bytes=_bytes(memory["VmRSS"]),
        peak_bytes=_bytes(memory["VmHWM"]),
    )


def _bytes(said: str) -> int:
    return int(said.split(maxsplit=1)[0]) * 1024
