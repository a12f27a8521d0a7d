"""The whole path of a close, socket to subscriber, by this checkout and by an earlier one, in turns in one run.

Both run ingestion and flash P&L as people start them, on the same Kafka and Redis; every position is checked after
every flow. A blast says the most that is sustained and what of a processor a trade costs; an open-loop flow at a rate
that both sustain says how late a trade becomes visible (see `whole`).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from rich.console import Console
from rich.table import Table
from support.pipeline import EOD
from testbed.progress import say

from close.figures import quantiles, shown
from close.flow import Shape, make_flow
from close.machine import described
from close.servers import Servers, servers
from close.whole import ours

RESULT = Path("bench/results/before.json")
_INTERVAL_MS: Final = 100
_STAGES: Final = ("ingestion", "flash-pnl")
_RATIO_BAR: Final = 1.5
_ENOUGH: Final = 0.95
"""Of the earlier speed, so that two runs of the same code are not called a loss."""


@dataclass(slots=True)
class Found:
    """What one side has shown, a number a run."""

    rates: list[float] = field(default_factory=list)
    per_cpu_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)


def play(made: Servers, folder: Path, program: Path, options: argparse.Namespace, tag: str, found: Found) -> None:
    """Starts a side's stages, warms them up, and measures one blast and one flow at the rate."""
    shape = Shape()
    with ours(made, _INTERVAL_MS, program) as route:
        route.run(make_flow(f"W{tag}", options.trades // 4, shape), folder)
        flow = make_flow(f"B{tag}", options.trades, shape)
        ran = route.run(flow, folder)
        found.rates.append(len(flow) / ran.took_s)
        for stage in _STAGES:
            found.per_cpu_s[stage].append(len(flow) / ran.cpu_s[stage])
        before, flow = route.counted(), make_flow(f"S{tag}", int(options.rate * options.seconds), shape)
        late = quantiles(route.latencies_ms(flow, route.run(flow, folder, options.rate), options.rate, before))
        found.p50_ms.append(late["p50"])
        found.p99_ms.append(late["p99"])


def rows_of(before: Found, now: Found) -> list[tuple[str, float, float, float, str]]:
    """(what, before, now, how many times better now is, verdict)."""
    least = f"at least {_ENOUGH:.0%}"
    rows = [_row("trades/s, all at once", before.rates, now.rates, _ENOUGH, least)]
    rows += [
        _row(f"trades a CPU second of {stage}", before.per_cpu_s[stage], now.per_cpu_s[stage], _RATIO_BAR, "1.5 times")
        for stage in _STAGES
    ]
    for name in ("p50_ms", "p99_ms"):
        was, is_ = median(getattr(before, name)), median(getattr(now, name))
        rows.append((f"{name[:3]} in ms, open loop", was, is_, was / is_, ""))
    return rows


def _row(
    what: str, before: list[float], now: list[float], bar: float, said: str
) -> tuple[str, float, float, float, str]:
    was, is_ = median(before), median(now)
    return what, was, is_, is_ / was, f"{said}: {'held' if is_ >= bar * was else 'MISSED'}"


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="another checkout that 'make setup' was run in")
    parser.add_argument("--runs", type=int, default=3, help="of each side (default %(default)s)")
    parser.add_argument("--trades", type=int, default=200_000, help="of a blast (default %(default)s)")
    parser.add_argument("--rate", type=float, default=2_000.0, help="of the open-loop flow (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of it (default %(default)s)")
    parser.add_argument("--json", type=Path, default=RESULT, help="where the result goes (default %(default)s)")
    options = parser.parse_args()
    programs = {"before": options.before / ".venv/bin/eod", "now": EOD}
    if not programs["before"].exists():
        sys.exit(f"--before {options.before}: there is no {programs['before']}: run 'make setup' there")
    found = {name: Found() for name in programs}
    with servers(None) as made, tempfile.TemporaryDirectory(prefix="eod-bench-") as scratch:
        machine = described(made)
        for run in range(options.runs):
            for name, program in programs.items():
                say(f"run {run + 1} of {options.runs}: {name}")
                play(made, Path(scratch), program, options, f"{name[0]}{run}", found[name])
    rows = rows_of(found["before"], found["now"])
    table = Table(title=f"medians of {options.runs}; {options.trades:,} trades at once, then {options.rate:,.0f}/s")
    for heading in ("what", "before", "now", "times better", "bar"):
        table.add_column(heading, justify="left" if heading in {"what", "bar"} else "right")
    for what, was, is_, ratio, verdict in rows:
        table.add_row(what, shown(was), shown(is_), f"{ratio:.2f}", verdict)
    Console().print(machine, highlight=False)
    Console().print(table)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    names = ("what", "before", "now", "times_better", "verdict")
    told = {"machine": machine, "rows": [dict(zip(names, row, strict=True)) for row in rows]}
    options.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
