"""`eod operator`: run it, print its CRD, see what a pipeline would become, and why it is as it is.

`explain` and `plan` are commands of `eod` itself as well, and with `crd` and `exchanges` of kubectl's plugin `kubectl
eod`. Kopf and the Kubernetes client are imported by `run` and `explain` alone: `eod --help` and `plan` stay quick.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from eod_contract.bearer import Token
from eod_contract.extras import missing_said
from eod_contract.tls import Tls
from eod_contract.watched import Reread

from eod_operator.api.spec import DEFAULT_INTERVAL_S

_INTERRUPTED = 130
"""Exit code of what SIGINT ended, as shells have it."""
_WATCH_S = 2.0
LAST = 5
"""Decisions that `explain` shows unless told otherwise."""
_HTTP_FILES = {
    "cert": "EOD_HTTP_TLS_CERT_FILE",
    "key": "EOD_HTTP_TLS_KEY_FILE",
    "token": "EOD_HTTP_TOKEN_FILE",
}
"""Files that protect the port, by the variables that name them; each is an option, too."""
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Its namespace.", show_default="that of the context")
]
Kubeconfig = Annotated[Path | None, typer.Option(help="A kubeconfig.", show_default="KUBECONFIG, or ~/.kube/config")]
Context = Annotated[str | None, typer.Option(help="One of its contexts.", show_default="the current one")]
Named = Annotated[str, typer.Argument(help="Name of an EodPipeline.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a sentence.")]
OneStage = Annotated[str | None, typer.Option("--stage", help="Only this stage.", show_default="the whole pipeline")]

app = typer.Typer(
    name="operator",
    help="Run the Kubernetes operator of EodPipeline, print its CRD, plan a pipeline offline, or explain one.",
    no_args_is_help=True,
)
plugin = typer.Typer(
    name="kubectl eod",
    help="Show EodPipelines, explain one, pause it and let it go on, report it to support, plan one offline.",
    no_args_is_help=True,
    add_completion=False,
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
    http_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Serve /healthz, /readyz and /metrics on this port.", show_default="off"),
    ] = None,
    http_tls_cert_file: Annotated[
        str,
        typer.Option(envvar=_HTTP_FILES["cert"], help="Certificate of that port, in PEM; it may be renewed."),
    ] = "",
    http_tls_key_file: Annotated[
        str, typer.Option(envvar=_HTTP_FILES["key"], help="Its key, in PEM and without a password.")
    ] = "",
    http_token_file: Annotated[
        str,
        typer.Option(envvar=_HTTP_FILES["token"], help="File with a token without which /metrics is refused."),
    ] = "",
    lease: Annotated[
        bool, typer.Option(help="Act only while holding the Lease, so that several replicas may run.")
    ] = True,
    lease_namespace: Annotated[
        str | None,
        typer.Option(
            envvar="EOD_NAMESPACE",
            help="Namespace of the Lease.",
            show_default="the first --namespace, else that of the pod, else default",
        ),
    ] = None,
    lease_name: Annotated[str, typer.Option(help="Name of the Lease; one for each set of pipelines.")] = "eod-operator",
    requests_per_second: Annotated[
        float, typer.Option(min=1, help="Most requests a second to the API server; leases come on top.")
    ] = 100.0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is read and decided, too.")] = False,
) -> None:
    """Watch EodPipelines and size their stages, until SIGTERM."""
    if namespace and all_namespaces:
        raise typer.BadParameter("give --namespace or --all-namespaces, not both", param_hint="--namespace")
    from eod_operator.kube.api import ClusterError  # noqa: PLC0415 - slow to import, and only `run` needs it
    from eod_operator.kube.lease import identity  # noqa: PLC0415 - the same
    from eod_operator.memory import be_thrifty  # noqa: PLC0415 - the same
    from eod_operator.service import Settings, serve  # noqa: PLC0415 - the same

    be_thrifty()
    form = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, format=form)
    # A Kafka that is down is told by a condition, once, and not by aiokafka at every look.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    if not verbose:  # a line for each watched change
        logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    http_files = {"cert": http_tls_cert_file, "key": http_tls_key_file}
    if http_port is None and any((*http_files.values(), http_token_file)):
        raise typer.BadParameter("there is no port to be protected: give --http-port, too", param_hint="--http-port")
    try:
        tls = Tls(http_files, _HTTP_FILES, _log_reread)
        token = Token(http_token_file, _HTTP_FILES["token"], _log_reread)
    except ValueError as error:
        typer.echo(f"eod operator: {error}", err=True)
        raise typer.Exit(2) from None
    settings = Settings(
        namespaces=tuple(namespace or ()),
        interval_s=interval_seconds,
        lease_namespace=(lease_namespace or (namespace or [_own_namespace()])[0]) if lease else None,
        lease_name=lease_name,
        identity=identity(),
        http_port=http_port,
        http_tls=tls,
        http_token=token,
        requests_per_s=requests_per_second,
    )
    try:
        asyncio.run(serve(settings))
    except ClusterError as error:
        typer.echo(f"eod operator: {error}", err=True)
        raise typer.Exit(1) from error


def _log_reread(reread: Reread) -> None:
    if reread.error:
        logging.getLogger(__name__).error("%s; %s", reread.error, reread.meanwhile)
    else:
        logging.getLogger(__name__).info("%s has changed, and holds from now on", reread.file)


def _own_namespace() -> str:
    """The namespace of the pod that this runs in."""
    try:
        return _NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    except OSError:
        return "default"


@plugin.command()
@app.command()
def crd() -> None:
    """Print the CustomResourceDefinition of EodPipeline, to be applied by kubectl."""
    from eod_operator.api.crd import as_yaml  # noqa: PLC0415 - builds the schemas, which no other command needs

    sys.stdout.write(as_yaml())


@plugin.command()
@app.command()
def exchanges(as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False) -> None:  # noqa: FBT002 - a flag
    """List the exchanges that spec.calendar.exchange may name."""
    from eod_operator.api.exchanges import EXCHANGES  # noqa: PLC0415 - as above

    typer.echo(json.dumps(list(EXCHANGES)) if as_json else "\n".join(EXCHANGES))


@plugin.command()
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
    except UnicodeDecodeError as error:
        typer.echo(f"{file}: cannot be read: it is no text in UTF-8 ({error.reason} at byte {error.start})", err=True)
        raise typer.Exit(1) from error
    except PlanError as error:
        for problem in error.problems:
            typer.echo(f"{file}: {problem}", err=True)
        raise typer.Exit(1) from error
    typer.echo(json.dumps(made, indent=2) if as_json else "\n\n".join(table(one) for one in made))


@plugin.command()
@app.command()
def explain(
    pipeline: Named,
    namespace: Namespace = None,
    stage: Annotated[
        str | None, typer.Option(help="Show the decisions of this stage only.", show_default="of all stages")
    ] = None,
    last: Annotated[int, typer.Option(min=0, help="How many decisions to show.")] = LAST,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the explanation as JSON.")] = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Say what a pipeline is doing and why: the next close, its stages, what needs attention, the last decisions."""
    from eod_operator.explain import explain as explained  # noqa: PLC0415 - as above
    from eod_operator.lookup import LookupFailedError, access, ask  # noqa: PLC0415 - imports the Kubernetes client
    from eod_operator.telling import show  # noqa: PLC0415 - as above

    try:
        who = access(kubeconfig, context)
        found = asyncio.run(ask(who, namespace or who.namespace, pipeline))
    except LookupFailedError as error:
        _fail("eod explain", str(error))
    told = explained(found.pipeline, found.decisions, time.time(), last=last, stage=stage)
    names = [one["name"] for one in told["stages"]]
    if stage is not None and stage not in names:
        _fail("eod explain", f"{pipeline} has no stage {stage!r}: it has {', '.join(names)}")
    if found.problem is not None:
        told["notes"].append(found.problem)
    if as_json:
        typer.echo(json.dumps(told, indent=2))
    else:
        show(told, sys.stdout)


@plugin.command()
@app.command()
def pause(
    pipeline: Named,
    namespace: Namespace = None,
    stage: OneStage = None,
    *,
    as_json: AsJson = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Leave a pipeline, or one stage of it, as it is: the operator changes nothing until 'resume'."""
    _steer("pause", pipeline, namespace, stage, kubeconfig, context, paused=True, as_json=as_json)


@plugin.command()
@app.command()
def resume(
    pipeline: Named,
    namespace: Namespace = None,
    stage: OneStage = None,
    *,
    as_json: AsJson = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Have the operator size a pipeline, or one stage of it, again."""
    _steer("resume", pipeline, namespace, stage, kubeconfig, context, paused=False, as_json=as_json)


@plugin.command()
@app.command()
def report(
    pipeline: Named,
    namespace: Namespace = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The ZIP to write.", show_default="PIPELINE-TIME.zip")
    ] = None,
    *,
    as_json: AsJson = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Pack what support needs into a ZIP: the pipeline, its explanation, objects, events and logs; no secret."""
    from eod_contract.outputs import unwritable  # noqa: PLC0415 - as above

    from eod_operator.dossier import collect  # noqa: PLC0415 - imports the Kubernetes client
    from eod_operator.lookup import LookupFailedError, access  # noqa: PLC0415 - the same

    now_s = time.time()
    file = output or Path(f"{pipeline}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now_s))}.zip")
    if why := unwritable(file):
        _fail("kubectl eod report", f"{file}: {why}")
    try:
        who = access(kubeconfig, context)
        where = namespace or who.namespace
        made = asyncio.run(collect(who, where, pipeline, now_s, lambda what: typer.echo(f"reading {what}", err=True)))
    except LookupFailedError as error:
        _fail("kubectl eod report", str(error))
    file.write_bytes(made.packed())
    if as_json:
        typer.echo(json.dumps({"file": str(file), "files": sorted(made.files), "missing": made.missing}))
        return
    left_out = f"; what could not be read is named in its about.txt ({len(made.missing)})" if made.missing else ""
    typer.echo(f"{file}: {len(made.files)} files{left_out}")


def _steer(
    command: str,
    pipeline: str,
    namespace: str | None,
    stage: str | None,
    kubeconfig: Path | None,
    context: str | None,
    *,
    paused: bool,
    as_json: bool,
) -> None:
    from eod_operator.lookup import LookupFailedError, access  # noqa: PLC0415 - imports the Kubernetes client
    from eod_operator.steering import steer  # noqa: PLC0415 - the same

    try:
        who = access(kubeconfig, context)
        where = namespace or who.namespace
        changed, said = asyncio.run(steer(who, where, pipeline, stage=stage, paused=paused))
    except LookupFailedError as error:
        _fail(f"kubectl eod {command}", str(error))
    told = {
        "namespace": where,
        "pipeline": pipeline,
        "stage": stage,
        "paused": paused,
        "changed": changed,
        "said": said,
    }
    typer.echo(json.dumps(told) if as_json else said)


@plugin.command()
@app.command()
def status(
    namespace: Namespace = None,
    *,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Again every two seconds, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; with --watch, a line each time.")] = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show pipelines at a glance: phase, lag, replicas, the next close, and how the last one was met."""
    from datetime import UTC, datetime  # noqa: PLC0415 - as above

    from rich.console import Console  # noqa: PLC0415 - as above
    from rich.live import Live  # noqa: PLC0415 - as above

    from eod_operator.lookup import LookupFailedError, access  # noqa: PLC0415 - imports the Kubernetes client
    from eod_operator.overview import facts, pipelines, table  # noqa: PLC0415 - the same

    if all_namespaces and namespace is not None:
        _fail("kubectl eod status", "name a namespace or --all-namespaces, not both")

    def rows() -> list[dict[str, Any]]:
        who = access(kubeconfig, context)
        return [
            facts(one) for one in asyncio.run(pipelines(who, None if all_namespaces else namespace or who.namespace))
        ]

    console = Console(width=None if sys.stdout.isatty() else 200, markup=False, highlight=False, emoji=False)
    try:
        if as_json:
            while True:
                typer.echo(json.dumps(rows(), indent=None if watch else 2))
                if not watch:
                    return
                time.sleep(_WATCH_S)
        found = rows()
        if not found and not watch:
            typer.echo("no pipelines here: kubectl get eodpipelines -A shows all", err=True)
            return
        if not watch:
            console.print(table(found, datetime.now(UTC)))
            return
        with Live(table(found, datetime.now(UTC)), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(_WATCH_S)
                live.update(table(rows(), datetime.now(UTC)), refresh=True)
    except LookupFailedError as error:
        _fail("kubectl eod status", str(error))
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None


def _fail(command: str, sentence: str) -> NoReturn:
    typer.echo(f"{command}: {sentence}", err=True)
    raise typer.Exit(1)


def kubectl() -> None:
    """Entry point of kubectl's plugin."""
    with missing_said("kubectl eod"):
        plugin(prog_name="kubectl eod")
