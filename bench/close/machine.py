"""What the numbers were made on: a number without its machine says nothing."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from close.built import built
from close.servers import Servers


def described(made: Servers) -> str:
    """One line: processor, cores, memory, system, versions, and where the servers keep their data."""
    memory = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    gib = int(memory[1]) / 2**20 if memory else 0
    load = os.getloadavg()[0]
    return (
        f"{_processor()}, {os.cpu_count()} cores, {gib:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, Kafka {made.kafka.version}, Redis {made.redis.version}, "
        f"{built().versions}; data on {_filesystem(made.kafka.home)}; load before the run {load:.1f}"
    )


def _processor() -> str:
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return model[1] if model else platform.machine()


def _filesystem(folder: Path) -> str:
    """The kind of filesystem that a folder is on: that of the longest mount point above it."""
    kinds = {}
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, point, kind, *_ = line.split()
        kinds[Path(point)] = kind
    home = folder.resolve()
    return kinds[max((point for point in kinds if home.is_relative_to(point)), key=lambda point: len(point.parts))]
