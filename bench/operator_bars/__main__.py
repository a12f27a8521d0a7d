"""`make bench-operator`: measure the operator's bars and print them beside their goals."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from operator_bars import restarts, scale, thousand
from operator_bars.figures import Row, worst
from operator_bars.stand import ROOT, stand

_SCENARIOS = ("scale", "thousand", "peers", "restarts")
_RESULTS = ROOT / "bench/results/operator.json"
_WIDTH = 150


async def measured(options: argparse.Namespace) -> list[Row]:
    """Run what was asked for, each on servers of its own; what is done is written down at once."""
    rows: list[Row] = []

    def note(more: list[Row]) -> None:
        rows.extend(more)
        for file in {_RESULTS, *([options.json] if options.json else [])}:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps([row.plain() for row in rows], indent=2, ensure_ascii=False), encoding="utf-8")
        show(more)

    if "scale" in options.only:
        async with stand() as made:
            note(
                await scale.measure(made, pipelines=options.scale_pipelines, samples=options.samples, seed=options.seed)
            )
    if {"thousand", "peers"} & set(options.only):
        async with stand() as made:
            note(
                await thousand.measure(
                    made,
                    pipelines=options.pipelines,
                    seconds=options.seconds,
                    peer="peers" in options.only,
                    bars="thousand" in options.only,
                )
            )
    if "restarts" in options.only:
        async with stand() as made:
            note(
                await restarts.measure(
                    made, pipelines=options.restart_pipelines, kills=options.kills, seed=options.seed
                )
            )
    return rows


def show(rows: Sequence[Row]) -> None:
    """The table for people."""
    table = Table(title=f"Python {platform.python_version()}, {platform.machine()}")
    for name in ("bar", "measured", "goal", ""):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(row.bar, row.measured, row.goal, row.verdict)
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(table)


def _only(text: str) -> list[str]:
    chosen = text.split(",")
    if unknown := set(chosen) - set(_SCENARIOS):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(_SCENARIOS)}")
    return chosen


def main() -> int:
    """Measure, print, and write the numbers down."""
    parser = argparse.ArgumentParser(prog="make bench-operator", description=__doc__)
    parser.add_argument("--only", type=_only, default=list(_SCENARIOS), help=f"some of {','.join(_SCENARIOS)}")
    parser.add_argument("--scale-pipelines", type=int, default=100)
    parser.add_argument("--samples", type=int, default=200, help="of scale")
    parser.add_argument("--pipelines", type=int, default=1_000, help="of thousand and peers")
    parser.add_argument("--seconds", type=float, default=120.0, help="that each of those two is measured for")
    parser.add_argument("--restart-pipelines", type=int, default=20)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help=f"write the numbers here, too ({_RESULTS.name} has them)"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a bar is missed")
    options = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # of topics that are a moment old
    rows = asyncio.run(measured(options))
    return 1 if options.strict and worst(rows) else 0


if __name__ == "__main__":
    sys.exit(main())
