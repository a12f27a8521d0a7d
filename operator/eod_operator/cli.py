"""`eod operator`: run it, print its CRD, and see what a pipeline would become.

Kopf and the Kubernetes client are imported by `run` alone, so that `eod --help` and `plan` stay quick.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from eod_operator.api.spec import DEFAULT_INTERVAL_S

app = typer.Typer(
    name="operator",
    help="Run the Kubernetes operator of EodPipeline, print its CRD, or plan a pipeline offline.",
    no_args_is_help=True,
)


@app.command()
def run(
    namespace: Annotated[
        list[str] | None,
        typer.Option(
            "--namespace", "-n", help="Watch this namespace only; may be given more than once.", show_default="all"
        ),
    ] = None,
    *,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Watch every namespace; the default.")
    ] = False,
    interval_seconds: Annotated[
        float,
        typer.Option(
            min=0.1,
            envvar="EOD_OPERATOR_INTERVAL_SECONDS",
            help="Seconds between two decisions, for pipelines that do not say spec.scaling.intervalSeconds.",
        ),
    ] = DEFAULT_INTERVAL_S,
    liveness_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Answer GET /healthz on this port.", show_default="off")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is read and decided, too.")] = False,
) -> None:
    """Watch EodPipelines and size their stages, until SIGTERM."""
    if namespace and all_namespaces:
        raise typer.BadParameter("give --namespace or --all-namespaces, not both", param_hint="--namespace")
    import kopf  # noqa: PLC0415 - slow to import, and only `run` needs it

    from eod_operator.apply import ClusterError  # noqa: PLC0415 - the same
    from eod_operator.handlers import registry  # noqa: PLC0415 - the same

    kopf.configure(verbose=verbose)
    # A Kafka that is down is told by a condition, once, and not by aiokafka at every look.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    if not verbose:  # a line for each watched change and each probe
        for noisy in ("kopf.objects", "aiohttp.access"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        kopf.run(
            registry=registry(interval_s=interval_seconds),
            standalone=True,
            clusterwide=not namespace,
            namespaces=namespace or [],
            liveness_endpoint=None if liveness_port is None else f"http://0.0.0.0:{liveness_port}/healthz",
        )
    except ClusterError as error:
        typer.echo(f"eod operator: {error}", err=True)
        raise typer.Exit(1) from error


@app.command()
def crd() -> None:
    """Print the CustomResourceDefinition of EodPipeline, to be applied by kubectl."""
    from eod_operator.api.crd import as_yaml  # noqa: PLC0415 - builds the schemas, which no other command needs

    sys.stdout.write(as_yaml())


@app.command()
def plan(
    file: Annotated[
        Path, typer.Option("--file", "-f", help="A YAML file of pipelines; - reads standard input.", show_default=False)
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print decisions and whole objects as JSON.")] = False,
) -> None:
    """Check pipelines without a cluster, and show what the operator would make of them now and at the close."""
    from eod_operator.planning import PlanError, plans, table  # noqa: PLC0415 - as above

    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        made = plans(text, time.time())
    except OSError as error:
        typer.echo(f"{file}: cannot be read: {error.strerror}", err=True)
        raise typer.Exit(1) from error
    except PlanError as error:
        for problem in error.problems:
            typer.echo(f"{file}: {problem}", err=True)
        raise typer.Exit(1) from error
    typer.echo(json.dumps(made, indent=2) if as_json else "\n\n".join(table(one) for one in made))
