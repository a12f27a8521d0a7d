"""`eod simulate`: play trading days with our scaler and with others, and show what each was late and what it cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from eod_operator.simulate.compare import Job, Study

_INTERRUPTED = 130
"""What a shell says of a command that SIGINT has ended."""

SEEDS = 20
QUICK_SEEDS = 4
QUICK_SCENARIOS = ("normal-close", "holiday", "flash-crash")


def simulate(
    scenario: Annotated[
        list[str] | None,
        typer.Option("--scenario", "-s", help="A scenario or a YAML file; may be repeated.", show_default="all"),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", "-p", help="A policy; may be repeated.", show_default="all"),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1, max=1000, help="Days to play of each scenario.", show_default=f"{SEEDS}, quick {QUICK_SEEDS}"
        ),
    ] = None,
    *,
    tune: Annotated[
        bool, typer.Option("--tune", help="Try all configurations of each baseline, and show its best for each day.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few scenarios and seeds, and with --tune few configurations.")
    ] = False,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of our policy, such as catchUpSeconds=10; may be repeated."),
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Replay a recorded day (JSON) instead; what happened is policy 'recorded'.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every seed's metrics there.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Write pictures and a page into this folder.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes.", show_default="one a core")] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List scenarios and policies, and end.")] = False,
) -> None:
    """Play trading days with our scaler and with others: how late were records, and what did it cost?"""
    from eod_operator.simulate.compare import Job  # noqa: PLC0415 - imports numpy; `eod --help` stays quick
    from eod_operator.simulate.policies import NAMES  # noqa: PLC0415 - as above
    from eod_operator.simulate.scenario import names  # noqa: PLC0415 - as above

    if list_all:
        _list()
        return
    if trace is not None and scenario:
        _fail("give --trace or --scenario, not both")
    chosen = [str(trace)] if trace is not None else scenario or (QUICK_SCENARIOS if quick else names())
    count = seeds or (QUICK_SEEDS if quick else SEEDS)
    jobs = [
        Job(
            one,
            tuple(policy or NAMES),
            tuple(range(1, count + 1)),
            tuned=tune,
            quick=quick,
            settings=tuple(setting or ()),
            recorded=trace is not None,
        )
        for one in chosen
    ]
    _check(jobs)
    _check_outputs(json_file, plots)
    try:
        studies = _play(jobs, workers)
    except KeyboardInterrupt:
        typer.echo("eod: interrupted: nothing was compared", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    _show(studies)
    if json_file is not None:
        _json(studies, json_file)
    if plots is not None:
        _pictures(studies, plots)


def _list() -> None:
    from eod_operator.simulate import policies, scenario  # noqa: PLC0415 - as above

    width = max(len(name) for name in scenario.names())
    typer.echo("Scenarios:")
    for name in scenario.names():
        typer.echo(f"  {name:{width}}  {scenario.find(name).about}")
    typer.echo(f"Policies: {', '.join(policies.NAMES)}")


def _check(jobs: list[Job]) -> None:
    """Find what is wrong before minutes are spent on the rest."""
    from eod_operator.simulate import policies, scenario, trace  # noqa: PLC0415 - as above

    try:
        for job in jobs:
            if job.recorded:
                trace.read(Path(job.scenario))
            else:
                scenario.find(job.scenario)
            for name in job.names:
                policies.find(name, job.settings)
    except (scenario.ScenarioError, policies.SettingError) as error:
        _fail(str(error))


def _check_outputs(json_file: Path | None, plots: Path | None) -> None:
    from eod_contract.outputs import unusable, unwritable  # noqa: PLC0415 - as above

    if json_file is not None and (why := unwritable(json_file)):
        _fail(f"--json {json_file}: {why}")
    if plots is not None and (why := unusable(plots)):
        _fail(f"--plots {plots}: {why}")


def _play(jobs: list[Job], workers: int | None) -> list[Study]:
    from rich.console import Console  # noqa: PLC0415 - as above
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415 - same

    from eod_operator.simulate.compare import size, studies  # noqa: PLC0415 - as above
    from eod_operator.simulate.engine import PolicyError  # noqa: PLC0415 - as above

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    found = {}
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("days", total=sum(size(job) for job in jobs))
        try:
            for study in studies(jobs, lambda count: progress.advance(task, count), workers=workers):
                found[study.scenario] = study
                progress.console.print(f"{study.scenario}: played ({len(found)} of {len(jobs)})", highlight=False)
        except PolicyError as error:
            _fail(str(error))
    # As they were asked for, not as they were ready; a file's scenario has a name of its own.
    return sorted(found.values(), key=lambda study: _place(study.scenario, jobs))


def _place(name: str, jobs: list[Job]) -> int:
    return next((index for index, job in enumerate(jobs) if job.scenario == name), len(jobs))


def _show(studies: list[Study]) -> None:
    from rich.console import Console  # noqa: PLC0415 - as above

    from eod_operator.simulate import report  # noqa: PLC0415 - as above

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(report.table(studies))
    if any(study.bars is not None for study in studies):
        console.print(report.bar_table(studies))
        console.print(report.legend(), style="dim")


def _json(studies: list[Study], file: Path) -> None:
    from eod_operator.simulate import report  # noqa: PLC0415 - as above

    try:
        file.write_text(json.dumps(report.as_json(studies), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        _fail(f"--json {file}: cannot be written: {error.strerror}")
    typer.echo(f"every seed: {file}")


def _pictures(studies: list[Study], folder: Path) -> None:
    from eod_operator.simulate import plots, report  # noqa: PLC0415 - as above

    try:
        pictures = {"": plots.pareto(studies)} | {study.scenario: plots.timeline(study) for study in studies}
        folder.mkdir(parents=True, exist_ok=True)
        for name, png in pictures.items():
            (folder / f"{name or 'pareto'}.png").write_bytes(png)
        (folder / "index.html").write_text(report.page(studies, pictures), encoding="utf-8")
    except plots.PlotsMissingError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"--plots {folder}: cannot be written: {error.strerror}")
    typer.echo(f"pictures: {folder / 'index.html'}")


def _fail(sentence: str) -> NoReturn:
    for line in sentence.splitlines():
        typer.echo(f"eod simulate: {line}", err=True)
    raise typer.Exit(1)
