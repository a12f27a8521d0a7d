"""*profile*: where the microseconds of a trade go. Linux' perf looks at both stages while a blast goes through them.

`make bench ARGS="--only profile"`; not part of a whole run. What perf counts are samples of CPU time, so each library's
share of them, times the CPU seconds that /proc says the process has used, is its share of a trade.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from close import whole
from close.figures import Row
from close.flow import make_flow
from close.options import Options
from close.servers import Servers

_REMEDY: Final = "install it, on Debian with `apt-get install linux-perf`, and run this as root"
_SAMPLES_PER_S: Final = 1_999
_LEAST_US: Final = 0.01
_OURS: Final = re.compile(r"(columns_kernel|hashes|ledger_kernel|plain_kernel)\.cpython")
_NAMES: Final = {
    "[kernel.kallsyms]": "Linux: sockets, scheduling, memory",
    "[unknown]": "not known to perf",
}
_LIBRARIES: Final = (
    (re.compile(r"^(python|libpython)"), "Python itself"),
    (re.compile(r"cramjam"), "cramjam: zstd"),
    (re.compile(r"^(libc|ld-linux|libm|libpthread)[.-]"), "the C library: copying, memory"),
    (re.compile(r"(default_records|memory_records|legacy_records|cutil)\.cpython"), "aiokafka's records"),
)


def place_of(dso: str, symbol: str) -> str:
    """What people call the place where a sample was taken."""
    if _OURS.search(dso):
        return f"our kernel: {dso.partition('.')[0].removesuffix('_kernel')}, {symbol}"
    for pattern, name in _LIBRARIES:
        if pattern.search(dso):
            return name
    return _NAMES.get(dso, dso.partition(".cpython")[0])


def shares(report: Iterable[str]) -> dict[str, float]:
    """Place → share of the samples, from the lines of `perf report -t ';' -F overhead,dso,sym`."""
    found: dict[str, float] = {}
    for line in report:
        parts = [part.strip() for part in line.split(";")]
        if line.startswith("#") or len(parts) != 3 or not parts[0].endswith("%"):  # noqa: PLR2004 - the three fields
            continue
        symbol = re.sub(r"^\[[.k]\]\s*", "", parts[2])
        place = place_of(parts[1], symbol)
        found[place] = found.get(place, 0.0) + float(parts[0][:-1]) / 100
    return found


@contextmanager
def recording(pid: int, file: Path) -> Iterator[None]:
    """Samples of a process, as long as the context lasts.

    Raises:
        RuntimeError: there is no perf, or it may not look.
    """
    perf = shutil.which("perf")
    if perf is None:
        raise RuntimeError(f"there is no perf to profile with: {_REMEDY}")
    command = [perf, "record", "-q", "-F", str(_SAMPLES_PER_S), "-p", str(pid), "-o", str(file)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=60)[1]
    if not file.exists():
        raise RuntimeError(f"perf has recorded nothing ({said.strip()[-300:]}): {_REMEDY}")


def report_of(file: Path) -> list[str]:
    """The lines of perf's report."""
    command = [
        "perf",
        "report",
        "-i",
        str(file),
        "--stdio",
        "-t",
        ";",
        "-F",
        "overhead,dso,sym",
        "--percent-limit",
        "0",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"perf cannot report: {done.stderr.strip()[-300:]}")
    return done.stdout.splitlines()


def measure(made: Servers, folder: Path, options: Options) -> list[Row]:
    """One blast behind one that warms up; rows by process, the dearest first."""
    frames = folder / "profile"
    rows: list[Row] = []
    with whole.ours(made, options.intervals_ms[0]) as route:
        route.run(make_flow("W", options.blast, options.shape), frames)
        files = {name: folder / f"{name}.perf" for name in ("ingestion", "flash-pnl")}
        with (
            recording(route.pids["ingestion"], files["ingestion"]),
            recording(route.pids["flash-pnl"], files["flash-pnl"]),
        ):
            flow = make_flow("B", options.blast, options.shape)
            ran = route.run(flow, frames)
    for name, file in files.items():
        us = ran.cpu_s[name] * 1e6 / len(flow)
        rows.append(Row("profile", f"{name}: all of it", "µs/trade", [us], more_is_better=False))
        for place, share in sorted(shares(report_of(file)).items(), key=lambda item: -item[1]):
            if share * us >= _LEAST_US:
                rows.append(Row("profile", f"{name}: {place}", "µs/trade", [share * us], more_is_better=False))
    rows[0].note = f"{len(flow):,} trades at once, published every {options.intervals_ms[0]} ms"
    return rows
