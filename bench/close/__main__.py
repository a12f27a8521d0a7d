"""`make bench`: measure, print beside the peers and the bars, write the numbers down."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from testbed.progress import Timed

from close import clients, fix, ingest, pnl, profile, rebuild, remark, scaling, whole
from close.figures import Row, listed, missed, shown
from close.flow import Shape
from close.machine import described
from close.options import QUICK, Options
from close.servers import Servers, servers

ROOT = Path(__file__).resolve().parents[2]
_RESULTS = ROOT / "bench/results"
_QUICK_RESULTS = ROOT / "build/bench-quick"
"""Numbers that mean little must not take the place of those that were measured."""

_WIDTH = 170
Bench = Callable[[Servers, Path, Options], list[Row]]
BENCHES: dict[str, Bench] = {
    "fix": fix.measure,
    "clients": clients.measure,
    "ingest": ingest.measure,
    "pnl": pnl.measure,
    "close": whole.measure,
    "rebuild": rebuild.measure,
    "remark": remark.measure,
    "scaling": scaling.measure,
}
ASKED_FOR: dict[str, Bench] = {"profile": profile.measure}
"""Not part of a whole run."""

KNOWN = BENCHES | ASKED_FOR


def show(rows: Sequence[Row], options: Options) -> None:
    """The table for people, and below it what must be known to read it."""
    how = "measured once: it works, the numbers mean little" if options.runs == 1 else f"medians of {options.runs}"
    table = Table(title=f"{how}; ratio: how many times better ours is")
    for name in ("bench", "what", "ours", "peer", "ratio", "bar", ""):
        table.add_column(name, justify="left" if name in {"bench", "what", ""} else "right", overflow="fold")
    for row in rows:
        ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
        what = f"{row.what} ({row.unit})"
        table.add_row(row.bench, what, shown(row.our_median), shown(row.peer_median), ratio, row.bars, row.verdict)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    console.print(table)
    for row in rows:
        if row.note:
            console.print(f"[bold]{row.bench}, {row.what}[/]: {row.note}", highlight=False)
        if row.cpu:
            console.print(f"  CPU seconds a million trades: {listed(row.cpu)}", highlight=False)


def run(chosen: Sequence[str], options: Options, data: Path | None, results: Path) -> list[Row]:
    """Runs what was asked for; what is done is written down at once, in the folder `results`."""
    rows: list[Row] = []
    results.mkdir(parents=True, exist_ok=True)
    with servers(data) as made, tempfile.TemporaryDirectory(prefix="eod-bench-", dir=data) as scratch:
        machine = described(made)
        Console(width=_WIDTH).print(machine, highlight=False)
        for name in chosen:
            with Timed(f"measuring {name}"):
                found = KNOWN[name](made, Path(scratch), options)
            plain = {"machine": machine, "rows": [row.plain() for row in found]}
            (results / f"{name}.json").write_text(json.dumps(plain, indent=2, ensure_ascii=False), encoding="utf-8")
            show(found, options)
            rows += found
    return rows


def _only(text: str) -> list[str]:
    chosen = text.split(",")
    if unknown := set(chosen) - set(KNOWN):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(KNOWN)}")
    return chosen


def main() -> int:
    """Measure, print, and write the numbers down."""
    default = QUICK if "--quick" in sys.argv else Options()
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", type=_only, default=list(BENCHES), help=f"some of {','.join(KNOWN)}")
    parser.add_argument("--trades", type=int, default=default.trades, help="of one run")
    parser.add_argument(
        "--blast", type=int, default=default.blast, help="trades of a blast of close; fewest of scaling"
    )
    parser.add_argument("--runs", type=int, default=default.runs, help="after one that warms up")
    parser.add_argument("--seconds", type=float, default=default.seconds, help="of each latency")
    parser.add_argument("--rebuild", type=int, default=default.rebuild, help="trades of a cold start")
    parser.add_argument("--positions", type=int, default=default.positions, help="that one price values anew")
    parser.add_argument("--threads", type=int, default=default.threads, help="of Kafka Streams")
    parser.add_argument("--traders", type=int, default=default.shape.traders)
    parser.add_argument("--symbols", type=int, default=default.shape.symbols)
    parser.add_argument("--sessions", type=int, default=default.shape.sessions)
    parser.add_argument("--seed", type=int, default=default.shape.seed)
    parser.add_argument(
        "--data", type=Path, help="folder for the servers' data, of both sides alike (default: temporary files)"
    )
    parser.add_argument("--quick", action="store_true", help="small and once: shows that all of it works")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a bar is missed")
    given = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # of topics that are a moment old
    options = replace(
        default,
        trades=given.trades,
        blast=given.blast,
        runs=given.runs,
        seconds=given.seconds,
        rebuild=given.rebuild,
        positions=given.positions,
        threads=given.threads,
        shape=Shape(given.symbols, given.traders, given.sessions, given.seed),
    )
    rows = run(given.only, options, given.data, _QUICK_RESULTS if given.quick else _RESULTS)
    if len(given.only) > 1:
        show(rows, options)
    return 1 if given.strict and missed(rows) else 0


if __name__ == "__main__":
    sys.exit(main())
