"""`make bench-scaler-real`: our operator, KEDA with cron, and KEDA alone on the same close; measured and predicted."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from operator_bars.stand import ROOT, say
from rich.console import Console
from rich.table import Table

from scaler_real import plot
from scaler_real.candidates import Candidate, Eod, Keda
from scaler_real.close import Close
from scaler_real.figures import NUMBERS, Curves, disagreement, pauses_s, seen, waits_s
from scaler_real.predict import Group, policy, simulate
from scaler_real.recording import Recording
from scaler_real.run import play, stand

_RESULTS = ROOT / "bench/results/scaler-real.json"
_NAMES = ("eod", "keda+cron", "keda")
_GOAL = 0.20
"""How far the simulated lag curve may be from the measured one, as a share of the latter."""
_WIDTH = 150
_TITLES = {
    "max_lag": "lag, max",
    "lag_integral": "lag, records x s",
    "max_lag_s": "oldest record, max s",
    "lateness_s2": "lag-seconds x s",
    "p99_age_s": "p99 of ages, s",
    "late_s": "above 5 s, s",
    "drain_s": "drained after the close, s",
    "replica_s": "replica-seconds",
    "changes": "changes",
    "rebalances": "rebalances",
    "unfinished": "unfinished",
}


def candidates(options: argparse.Namespace) -> list[Candidate]:
    """Those that were asked for, with their settings."""
    keda: dict[str, int] = {
        "lag_threshold": options.lag_threshold,
        "lead_min": options.cron_lead_minutes,
        "after_min": options.cron_after_minutes,
        "stabilization_s": options.stabilization_seconds,
        "beat_s": options.beat_seconds,
    }
    known: dict[str, Candidate] = {
        "eod": Eod(
            lead_s=options.lead_seconds,
            duration_s=options.duration_seconds,
            lag_per_replica=options.lag_threshold,
            stabilization_s=options.stabilization_seconds,
            scaling=options.eod_scaling,
        ),
        "keda+cron": Keda(cron=True, **keda),
        "keda": Keda(cron=False, **keda),
    }
    return [known[name] for name in options.only]


async def measured(options: argparse.Namespace, close: Close) -> list[Recording]:
    """Play the close to each candidate; what is done is written down at once."""
    found: list[Recording] = []
    chosen = candidates(options)
    async with stand(with_keda=not all(one.operator for one in chosen)) as made:
        for candidate in chosen:
            found.append(await play(made, candidate, close))
            written = {"close": asdict(close), "recordings": [one.as_dict() for one in found]}
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(written), encoding="utf-8")
    return found


def rebalance(recordings: Sequence[Recording]) -> Group:
    """What a rebalance cost in all of them."""
    pauses = [pause for one in recordings for pause in pauses_s(one)]
    waits = [wait for one in recordings for wait in waits_s(one)]
    if not pauses or not waits:
        raise ValueError("no rebalance was seen in any recording: play a close that makes a candidate scale")
    group = Group(fmean(pauses), fmean(waits), max(pod.get("beat_s", 0.0) for one in recordings for pod in one.pods))
    say(
        f"a rebalance: {len(pauses)} members stood still, {group.pause_s:.2f} s on average, {max(pauses):.2f} s at most"
    )
    say(f"rebalances: {len(waits)} new members waited, {group.wait_s:.2f} s on average, {max(waits):.2f} at most")
    return group


def compared(close: Close, recordings: Sequence[Recording], png: Path) -> list[dict[str, Any]]:
    """Numbers of every candidate, real and simulated, and how far they are apart; draws the curves."""
    group = rebalance(recordings)
    pairs: dict[str, tuple[Curves, Curves]] = {}
    rows = []
    for one in recordings:
        real = seen(one)
        made, simulated = simulate(close, real, one.close_s, group, policy(one.candidate, one.settings))
        pairs[one.candidate] = (real, simulated)
        rows.append(
            {
                "candidate": one.candidate,
                "settings": one.settings,
                "real": real.metrics(made),
                "simulated": simulated.metrics(made),
                "disagreement": disagreement(real, simulated, close.commit_s),
                "rebalance": asdict(group),
                "load_late_s": one.load_late_s,
                "looks_late_s": one.looks_late_s,
                "curves": {
                    "since_close_s": (real.times_s - one.close_s).tolist(),
                    "lag": real.lag.tolist(),
                    "lag_s": real.lag_s.tolist(),
                    "asked": real.asked.tolist(),
                    "simulated_lag": simulated.lag.tolist(),
                    "simulated_asked": simulated.asked.tolist(),
                },
            }
        )
    plot.draw(png, pairs, {one.candidate: one.close_s for one in recordings})
    return rows


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """The tables for people: the measured numbers with ratios to the first candidate, and the agreement."""
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    first = rows[0]
    table = Table(title=f"Measured. Python {platform.python_version()}, {platform.machine()}")
    table.add_column("")
    for row in rows:
        table.add_column(str(row["candidate"]), justify="right")
    for row in rows[1:]:
        table.add_column(f"{row['candidate']} / {first['candidate']}", justify="right")
    for name in NUMBERS:
        values = [row["real"][name] for row in rows]
        ratios = [f"{value / values[0]:.2f}" if values[0] else "-" for value in values[1:]]
        table.add_row(_TITLES[name], *(f"{value:,.1f}" for value in values), *ratios)
    console.print(table)
    table = Table(title="Simulated, and how far from what was measured (share of it)")
    for name in ("", "lag, max", "lag, records x s", "replica-seconds", "curve", "integral", "peak", f"≤ {_GOAL:.0%}"):
        table.add_column(name, justify="left" if not name else "right")
    for row in rows:
        said, off = row["simulated"], row["disagreement"]
        table.add_row(
            str(row["candidate"]),
            *(f"{said[name]:,.0f}" for name in ("max_lag", "lag_integral", "replica_s")),
            *(f"{off[name]:.1%}" for name in ("curve", "integral", "peak")),
            "yes" if max(off["curve"], off["peak"]) <= _GOAL else "no",
        )
    console.print(table)


def _only(text: str) -> list[str]:
    chosen = text.split(",")
    if unknown := set(chosen) - set(_NAMES):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(_NAMES)}")
    return chosen


def _parser() -> argparse.ArgumentParser:
    usual = Close()
    parser = argparse.ArgumentParser(prog="make bench-scaler-real", description=__doc__)
    parser.add_argument("--only", type=_only, default=list(_NAMES), help=f"some of {','.join(_NAMES)}")
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--before-seconds", type=float, default=usual.before_s, help="of quiet before the close")
    parser.add_argument("--after-seconds", type=float, default=usual.after_s, help="from the close to the end")
    parser.add_argument("--peak", type=float, default=usual.peak_per_s, help="records a second that the burst adds")
    parser.add_argument("--lag-threshold", type=int, default=300, help="records a replica, for every candidate")
    parser.add_argument("--stabilization-seconds", type=int, default=60, help="of scale-down, for every candidate")
    parser.add_argument("--lead-seconds", type=int, default=30, help="of eod's burst before the close")
    parser.add_argument("--duration-seconds", type=int, default=120, help="of eod's burst after it")
    parser.add_argument("--eod-scaling", default="{}", help="more fields of eod's spec.scaling, as JSON")
    parser.add_argument("--cron-lead-minutes", type=int, default=1)
    parser.add_argument("--cron-after-minutes", type=int, default=2)
    parser.add_argument("--beat-seconds", type=int, default=5, help="of joining, for KEDA's workers; eod has its own")
    parser.add_argument("--json", metavar="FILE", type=Path, default=_RESULTS, help="where the numbers go")
    parser.add_argument("--again", metavar="FILE", type=Path, help="measure nothing: predict a recorded run anew")
    parser.add_argument("--strict", action="store_true", help=f"exit with 1 when a prediction is over {_GOAL:.0%} off")
    return parser


def main() -> int:
    """Measure, predict, print, and write everything down."""
    options = _parser().parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # of topics that are a moment old
    if options.again is not None:
        written = json.loads(options.again.read_text(encoding="utf-8"))
        close = Close(**written["close"])
        recordings = [Recording(**one) for one in written["recordings"]]
    else:
        close = Close(
            seed=options.seed,
            before_s=options.before_seconds,
            after_s=options.after_seconds,
            peak_per_s=options.peak,
        )
        recordings = asyncio.run(measured(options, close))
    rows = compared(close, recordings, options.json.with_suffix(".png"))
    written = {"close": asdict(close), "results": rows, "recordings": [one.as_dict() for one in recordings]}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(written), encoding="utf-8")
    show(rows)
    say(f"numbers and curves: {options.json}, {options.json.with_suffix('.png')}")
    off = max(max(row["disagreement"]["curve"], row["disagreement"]["peak"]) for row in rows)
    return 1 if options.strict and off > _GOAL else 0


if __name__ == "__main__":
    sys.exit(main())
