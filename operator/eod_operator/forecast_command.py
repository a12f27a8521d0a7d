"""`eod forecast`: what the scaler expects of the next close, learned from files or tested against them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from eod_operator.scaling.memory import Memory, dumps, summary
from eod_operator.scaling.profile import QUANTILE

app = typer.Typer(
    name="forecast",
    help="Show what is expected of the next close, learn it from recorded sessions, or test it against them.",
    no_args_is_help=True,
)

Source = Annotated[
    str,
    typer.Argument(
        help="A file (a memory, its ConfigMap as JSON, recorded traces, a CSV; - reads standard input), or the name of "
        "an EodPipeline in the cluster.",
        show_default=False,
    ),
]
Stage = Annotated[str | None, typer.Option(help="Tell of this one only.", show_default="all that it holds")]
Quantile = Annotated[float, typer.Option(min=0.5, max=1.0, help="Quantile of the sessions that stages are sized by.")]
Service = Annotated[
    float | None,
    typer.Option(
        "--service-per-second", min=1e-3, help="Records a second that one replica consumes.", show_default="as learned"
    ),
]
Partitions = Annotated[
    int | None, typer.Option(min=1, help="Partitions of the consumed topic, to share out evenly.", show_default="any")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]
Plot = Annotated[Path | None, typer.Option(help="Draw it as a PNG, too.", show_default=False)]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Of the pipeline.", show_default="that of the context")
]
Kubeconfig = Annotated[Path | None, typer.Option(help="A kubeconfig.", show_default="KUBECONFIG, or ~/.kube/config")]
Context = Annotated[str | None, typer.Option(help="One of its contexts.", show_default="the current one")]


@app.command()
def show(
    source: Source,
    *,
    stage: Stage = None,
    quantile: Quantile = QUANTILE,
    service_per_s: Service = None,
    partitions: Partitions = None,
    as_json: AsJson = False,
    plot: Plot = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show what is expected around the close: peak, when, how sure, and the rates that are rarely exceeded."""
    from eod_operator.forecast_plots import fan  # noqa: PLC0415 - no other command needs it
    from eod_operator.forecast_telling import Sizing, profiles  # noqa: PLC0415 - the same

    sizing = Sizing(quantile, service_per_s, partitions)
    known = _known("eod forecast show", source, stage, (namespace, kubeconfig, context))
    told = [profiles(name, memory, sizing) for name, memory in known.items()]
    _tell("eod forecast show", told, plot, fan, as_json=as_json)


@app.command()
def backtest(
    source: Source,
    *,
    stage: Stage = None,
    quantile: Quantile = QUANTILE,
    service_per_s: Service = None,
    partitions: Partitions = None,
    as_json: AsJson = False,
    plot: Plot = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Forecast each session from those before it: how wrong, how many replicas, and whether it would be trusted."""
    from eod_operator.forecast_plots import tests as draw  # noqa: PLC0415 - no other command needs it
    from eod_operator.forecast_telling import Sizing, tests  # noqa: PLC0415 - the same

    sizing = Sizing(quantile, service_per_s, partitions)
    known = _known("eod forecast backtest", source, stage, (namespace, kubeconfig, context))
    told = [tests(name, memory, sizing) for name, memory in known.items()]
    _tell("eod forecast backtest", told, plot, draw, as_json=as_json)


@app.command()
def train(
    sessions: Annotated[
        list[Path],
        typer.Argument(help="Recorded traces (JSON), or CSV files: close,relative_s,rate[,event].", show_default=False),
    ],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The memory to write.", show_default=False)],
    service_per_s: Service = None,
) -> None:
    """Learn from exported sessions, and say what was left out and why."""
    from eod_operator.forecast_files import Found, UnreadableError, read_sessions  # noqa: PLC0415 - as above
    from eod_operator.forecast_files import train as learned  # noqa: PLC0415 - as above

    found = Found()
    try:
        for file in sessions:
            read_sessions(_read("eod forecast train", str(file)), str(file), found)
    except UnreadableError as error:
        _fail("eod forecast train", str(error))
    memory, left_out = learned(found, service_per_s=service_per_s)
    for sentence in left_out:
        typer.echo(f"left out: {sentence}", err=True)
    if not memory.sessions:
        _fail("eod forecast train", "no session is left to learn from; nothing was written")
    written = dumps(memory)
    try:
        output.write_text(written, encoding="utf-8")
    except OSError as error:
        _fail("eod forecast train", f"{output}: cannot be written: {error.strerror}")
    typer.echo(f"{output}: {summary(memory)} ({len(written.encode()):,} bytes)")


@app.command()
def trace(
    source: Source,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The recording to write.", show_default=False)],
    stage: Stage = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Write the last recorded day of a stage as a file, to be played again: eod simulate --trace FILE."""
    from eod_operator.forecast_files import UnreadableError, last_day  # noqa: PLC0415 - as above

    text = _text("eod forecast trace", source, (namespace, kubeconfig, context))
    try:
        found = last_day(text, source, stage)
    except UnreadableError as error:
        _fail("eod forecast trace", str(error))
    try:
        output.write_text(json.dumps(found, allow_nan=False), encoding="utf-8")
    except OSError as error:
        _fail("eod forecast trace", f"{output}: cannot be written: {error.strerror}")
    typer.echo(f"{output}: the close of {found['close']}, after {len(found['history'])} sessions")


def _known(
    command: str, source: str, stage: str | None, cluster: tuple[str | None, Path | None, str | None]
) -> dict[str, Memory]:
    """Memories of a file or a pipeline, by what they are about."""
    from eod_operator.forecast_files import UnreadableError, as_memory  # noqa: PLC0415 - as above

    text = _text(command, source, cluster)
    try:
        known = as_memory(text, source)
    except UnreadableError as error:
        _fail(command, str(error))
    if stage is None:
        return known
    if stage not in known:
        _fail(command, f"{source} tells nothing of {stage!r}: it has {', '.join(known)}")
    return {stage: known[stage]}


def _text(command: str, source: str, cluster: tuple[str | None, Path | None, str | None]) -> str:
    """Of a file, standard input, or the ConfigMap of a pipeline."""
    of_cluster = source != "-" and not Path(source).exists() and os.sep not in source and "." not in source
    return _fetched(command, source, *cluster) if of_cluster else _read(command, source)


def _read(command: str, source: str) -> str:
    try:
        return sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except OSError as error:
        _fail(command, f"{source}: cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        _fail(command, f"{source}: is not text in UTF-8")


def _fetched(command: str, pipeline: str, namespace: str | None, kubeconfig: Path | None, context: str | None) -> str:
    from eod_operator.forecast_lookup import fetch  # noqa: PLC0415 - imports the Kubernetes client
    from eod_operator.lookup import LookupFailedError, access  # noqa: PLC0415 - the same

    try:
        who = access(kubeconfig, context)
        return json.dumps(asyncio.run(fetch(who, namespace or who.namespace, pipeline)))
    except LookupFailedError as error:
        _fail(command, f"{pipeline} is no file, and as a pipeline it cannot be read: {error}")


def _tell(
    command: str,
    told: list[dict[str, Any]],
    plot: Path | None,
    draw: Callable[[dict[str, Any], Path], None],
    *,
    as_json: bool,
) -> None:
    from eod_operator.forecast_plots import NoPlotsError  # noqa: PLC0415 - as above
    from eod_operator.forecast_telling import show as written  # noqa: PLC0415 - as above

    if plot is not None and len(told) > 1:
        _fail(command, f"a picture is of one: choose with --stage among {', '.join(one['name'] for one in told)}")
    if as_json:
        typer.echo(json.dumps(told, indent=2, allow_nan=False))
    else:
        for one in told:
            written(one, sys.stdout)
    if plot is None:
        return
    try:
        draw(told[0], plot)
    except NoPlotsError as error:
        _fail(command, str(error))
    except OSError as error:
        _fail(command, f"{plot}: cannot be written: {error.strerror}")


def _fail(command: str, sentence: str) -> NoReturn:
    typer.echo(f"{command}: {sentence}", err=True)
    raise typer.Exit(1)
