"""`eod operator`: help, the CRD, plans without a cluster, and pipelines explained over HTTP."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import time_machine
import yaml
from eod_operator.api.crd import as_yaml, crd
from eod_operator.api.refusals import NAME_LENGTH
from eod_operator.cli import app, plugin
from typer.testing import CliRunner

Manifest = dict[str, Any]
Change = Callable[[Manifest], object]

EXAMPLE = Path(__file__).parents[3] / "examples/eodpipeline.yaml"

pytestmark = pytest.mark.filterwarnings(
    "ignore:Series.values returning:DeprecationWarning"
)  # see test_scaling_calendar


@pytest.fixture(autouse=True)
def _in_the_morning() -> Iterator[None]:
    """Of a trading day: close to the bell, now and the close are alike."""
    with time_machine.travel(datetime(2026, 10, 6, 14, tzinfo=UTC)):
        yield


def run(*args: str, text: str | None = None, of: Any = app) -> tuple[int, str, str]:
    result = CliRunner().invoke(of, args, input=text)
    return result.exit_code, result.stdout, result.stderr


def example() -> Manifest:
    """The example, to be spoilt."""
    manifest: Manifest = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    return manifest


def test_crd_prints_the_crd() -> None:
    assert run("crd") == (0, as_yaml(), "")


def test_plan_shows_replicas_now_and_at_the_close() -> None:
    code, out, _ = run("plan", "-f", str(EXAMPLE))
    assert code == 0
    assert "next close" in out
    (line,) = [line.split() for line in out.splitlines() if line.startswith("flash-pnl")]
    assert line[3:5] == ["6", "12"]


def test_plan_as_json_holds_whole_objects() -> None:
    code, out, _ = run("plan", "-f", str(EXAMPLE), "--json")
    (plan,) = json.loads(out)
    assert code == 0
    assert [one["kind"] for one in plan["objects"]].count("Deployment") == len(plan["stages"]) == 5


def test_plan_lists_what_differs_at_the_close() -> None:
    _, out, _ = run("plan", "-f", str(EXAMPLE))
    lines = out.splitlines()
    begin = lines.index("what differs at the close, at the least:") + 1
    assert lines[begin:] == [
        "  Deployment us-equities-ingestion: spec.replicas 1 -> 2",
        "  Deployment us-equities-flash-pnl: spec.replicas 1 -> 6",
        "  Deployment us-equities-regulatory: spec.replicas 1 -> 4",
        "  Deployment us-equities-archive: spec.replicas 1 -> 2",
    ]
    (plan,) = json.loads(run("plan", "-f", str(EXAMPLE), "--json")[1])
    assert plan["atClose"][1] == {
        "kind": "Deployment", "name": "us-equities-flash-pnl", "field": "spec.replicas", "now": 1, "atClose": 6,
    }  # fmt: skip


def test_plan_without_a_burst_says_that_nothing_differs() -> None:
    manifest = example()
    for stage in manifest["spec"]["stages"]:
        stage["replicas"].pop("burst", None)
    assert run("plan", "-f", "-", text=yaml.safe_dump(manifest))[1].endswith("\nnothing differs at the close\n")


def test_plan_reads_standard_input() -> None:
    assert run("plan", "-f", "-", text=EXAMPLE.read_text(encoding="utf-8"))[0] == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kafka": {}}, "us-equities: spec.kafka.bootstrapServers: Field required"),
        (
            {"kafka": {"bootstrapServers": "kafka:99999"}},
            "spec.kafka.bootstrapServers: 'kafka:99999' is not as it must be: host:port, several with commas",
        ),
        ({"calendar": {"exchange": "XNYZ"}}, "spec.calendar.exchange: 'XNYZ' is not an exchange"),
        ({"stages": []}, "us-equities: spec.stages"),
    ],
)
def test_plan_refuses_with_the_field_and_exit_code_1(change: dict[str, Any], sentence: str) -> None:
    manifest = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    manifest["spec"] |= change
    code, _, err = run("plan", "-f", "-", text=yaml.safe_dump(manifest))
    assert code == 1
    assert sentence in err


def test_plan_of_a_missing_file_says_so() -> None:
    code, _, err = run("plan", "-f", "/nowhere.yaml")
    assert (code, err.split(":")[0]) == (1, "/nowhere.yaml")


def stage(**fields: Any) -> Change:
    return lambda spec: spec["stages"][1].update(fields)


def env(*variables: Manifest) -> Change:
    return lambda spec: spec.update(config={"env": list(variables)})


def session(opens: str, closes: str) -> Change:
    return lambda spec: spec.update(calendar={"sessions": [{"open": opens, "close": closes}]})


def security(**fields: Any) -> Change:
    return lambda spec: spec["kafka"].update(security=fields)


def files(*mounted: Manifest) -> Change:
    return lambda spec: spec.update(config={"files": list(mounted)})


MORNING, NOON = "2026-11-27T09:30:00-05:00", "2026-11-27T13:00:00-05:00"
# a check of the CRD, by its first words -> a change that breaks it, and what plan says of it
CHECKS: dict[str, tuple[Change, str]] = {
    "replicas.max of a stage must not": (lambda spec: spec.update(topics=[{"name": name, "partitions": 3} for name in ("trades.raw", "prices.updates")]), "spec: stages: replicas.max (12) of flash-pnl is above its topics' partitions (3)"),
    "a topic to be created needs": (lambda spec: spec.update(topics=[{"name": "t", "create": True}]), "spec.topics.0: a topic to be created needs partitions"),
    "a variable takes exactly": (env({"name": "A"}), "spec.config.env.0: a variable takes exactly one of value and valueFrom"),
    "the operator itself sets": (env({"name": "EOD_GROUP", "value": "x"}), "spec.config.env.0.name: the operator itself sets EOD_KAFKA_BOOTSTRAP"),
    "valueFrom takes exactly": (env({"name": "A", "valueFrom": {}}), "spec.config.env.0.valueFrom: valueFrom takes exactly one"),
    "min must not be above max": (stage(replicas={"min": 5, "max": 4}), "spec.stages.1.replicas: min (5) must not be above max (4)"),
    "burst must not be above max": (stage(replicas={"max": 4, "burst": 5}), "spec.stages.1.replicas: burst (5) must lie between"),
    "burst must not be below min": (stage(replicas={"min": 2, "max": 4, "burst": 1}), "spec.stages.1.replicas: burst (1) must lie between"),
    "calendar takes exactly": (lambda spec: spec.update(calendar={}), "spec.calendar: calendar takes exactly one of exchange"),
    "exchange is not known": (lambda spec: spec.update(calendar={"exchange": "XNYZ"}), "spec.calendar.exchange: 'XNYZ' is not an exchange"),
    "close must be after open": (session(NOON, MORNING), "spec.calendar.sessions.0: close (2026-11-27T09:30:00-05:00) must be after open"),
    "scaleDownStabilizationSeconds must": (lambda spec: spec.update(scaling={"scaleDownStabilizationSeconds": 3601}), "spec.scaling: scaleDownStabilizationSeconds must lie between"),
    "SASL_PLAINTEXT and SASL_SSL need secretRef": (security(protocol="SASL_SSL"), "spec.kafka.security: SASL_PLAINTEXT and SASL_SSL need secretRef"),
    "protocol PLAINTEXT has no use": (security(protocol="PLAINTEXT", secretRef={"name": "k"}), "spec.kafka.security: protocol PLAINTEXT has no use for secretRef"),
    "mechanism goes with": (security(protocol="SSL", mechanism="PLAIN"), "spec.kafka.security: mechanism goes with protocol SASL_SSL"),
    "mechanism AWS_MSK_IAM needs": (security(protocol="SASL_SSL", mechanism="AWS_MSK_IAM"), "spec.kafka.security: mechanism AWS_MSK_IAM needs protocol SASL_SSL and awsRegion"),
    "awsRegion goes with": (security(protocol="SSL", awsRegion="eu-west-1"), "spec.kafka.security: awsRegion goes with mechanism AWS_MSK_IAM alone"),
    "files takes exactly": (files({"mountPath": "/reference"}), "spec.config.files.0: files takes exactly one of secretRef and configMapRef"),
    "mountPath must not be": (files({"mountPath": "/etc/eod", "secretRef": {"name": "s"}}), "spec.config.files.0: mountPath must not be, hold or lie below /tmp, /venv, /etc/eod/kafka, /etc/eod/http"),
    "no mountPath may lie": (files({"mountPath": "/a", "secretRef": {"name": "s"}}, {"mountPath": "/a/b", "secretRef": {"name": "s"}}), "spec.config: files: no mountPath may lie below another"),
    "http takes tls, token or both": (lambda spec: spec.update(http={}), "spec.http: http takes tls, token or both: an empty one protects nothing"),
    "http.tls needs serverName": (lambda spec: spec.update(http={"tls": {"secretRef": {"name": "t"}}}, serviceMonitor={"enabled": True}), "spec: http.tls needs serverName with serviceMonitor.enabled"),
    "annotations are of the accounts": (lambda spec: spec.update(serviceAccounts={"name": "a", "annotations": {"b": "c"}}), "spec.serviceAccounts: annotations are of the accounts that the operator makes"),
    "staleAfterSeconds must": (lambda spec: spec.update(scaling={"intervalSeconds": 61}), "spec.scaling: staleAfterSeconds must not be below"),
}  # fmt: skip


def checks_of_the_crd(node: Manifest) -> Iterator[Manifest]:
    """Every check below a schema node."""
    yield from node.get("x-kubernetes-validations", ())
    for child in [*node.get("properties", {}).values(), *filter(None, [node.get("items")])]:
        yield from checks_of_the_crd(child)


def test_every_check_of_the_crd_is_in_the_table() -> None:
    """But for those that need the pipeline's former self, and that of the name, which has a test of its own."""
    spec = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    messages = [check["message"] for check in checks_of_the_crd(spec) if "oldSelf" not in check["rule"]]
    assert len(messages) == len(CHECKS)
    assert [said for said in messages if not any(said.startswith(words) for words in CHECKS)] == []


STRUCTURE: list[tuple[Change, str]] = [
    (stage(replicas={"max": "4"}), "spec.stages.1.replicas.max: must be of type integer, not '4'"),
    (stage(replicas={"max": True}), "spec.stages.1.replicas.max: must be of type integer, not True"),
    (stage(replicas={"max": 0}), "spec.stages.1.replicas.max: Input should be greater than or equal to 1"),
    (stage(paused="yes"), "spec.stages.1.paused: must be of type boolean, not 'yes'"),
    (stage(kind="teleport"), "spec.stages.1: kind 'teleport' is unknown"),
    (stage(topics=["a", "a"]), "spec.stages.1.topics: 'a' is given 2 times"),
    (stage(resources={"requests": {"cpu": "lots"}}), "spec.stages.1.resources.requests.cpu: 'lots' does not match"),
    (stage(resources={"requests": {"cpu": True}}), "spec.stages.1.resources.requests.cpu"),
    (stage(name="ingestion"), "spec: stages: the name 'ingestion' is given 2 times"),
    (env({"name": "A", "value": "x"}, {"name": "A", "value": "y"}), "spec.config.env: 'A' is given 2 times"),
    (files({"mountPath": "reference", "secretRef": {"name": "s"}}), "spec.config.files.0.mountPath: "),
    (files(*[{"mountPath": "/a", "secretRef": {"name": name}} for name in "st"]), "spec.config: files: the mountPath '/a' is given 2 times"),
    (session("2026-11-27 09:30:00-05:00", NOON), "spec.calendar.sessions.0.open: '2026-11-27 09:30:00-05:00' is not a time"),
    (lambda spec: spec.update(image_pull_policy="Always"), "spec.image_pull_policy: there is no such field: did you mean imagePullPolicy?"),
    (lambda spec: spec.update(imagePullSecrets=[{"name": "a"}, {"name": "a"}]), "spec: imagePullSecrets: the name 'a' is given 2 times"),
    (lambda spec: spec.update(kafka=[]), "spec.kafka: "),
    (lambda spec: spec.update(networkPolicy={"egressPorts": [80, 80]}), "spec.networkPolicy.egressPorts: '80' is given 2 times"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "sentence"), [*CHECKS.values(), *STRUCTURE], ids=lambda one: one if isinstance(one, str) else ""
)
def test_plan_refuses_what_the_api_server_refuses(change: Change, sentence: str) -> None:
    """Once each, with the path first; `test_operator_admission` has the API server's own word on most of them."""
    manifest = example()
    change(manifest["spec"])
    code, out, err = run("plan", "-f", "-", text=yaml.safe_dump(manifest))
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert f"-: us-equities: {sentence}" in err


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(stage(replicas={"max": 4, "burst": None}), id="a null, which is dropped"),
        pytest.param(lambda spec: spec.update(mode=None), id="a null, for which the default comes in"),
        pytest.param(stage(resources={"requests": {"cpu": 1}}), id="a quantity that is a number"),
        pytest.param(stage(replicas={"max": 4.0}), id="a whole number with a point"),
    ],
)
def test_plan_accepts_what_the_api_server_accepts(change: Change) -> None:
    manifest = example()
    change(manifest["spec"])
    assert run("plan", "-f", "-", text=yaml.safe_dump(manifest))[::2] == (0, "")


def test_plan_takes_a_time_without_quotes() -> None:
    """YAML would make a time of it, kubectl a text."""
    text = EXAMPLE.read_text(encoding="utf-8").replace(
        "exchange: XNYS", f"sessions: [{{open: {MORNING}, close: {NOON}}}]"
    )
    assert run("plan", "-f", "-", text=text)[::2] == (0, "")


def test_plan_names_everything_that_is_wrong_at_once() -> None:
    manifest = example()
    manifest["metadata"]["name"] = "US"
    for change in (stage(replicas={"max": "4"}), env({"name": "A"}), lambda spec: spec.update(calendar={})):
        change(manifest["spec"])
    _, _, err = run("plan", "-f", "-", text=yaml.safe_dump(manifest))
    assert [line.split(": ")[2] for line in err.splitlines()] == [
        "metadata.name must start with a letter, hold only a-z, 0-9 and -, and have at most 38 characters",
        "spec.calendar",
        "spec.config.env.0",
        "spec.stages.1.replicas.max",
    ]


@pytest.mark.parametrize("name", ["9close", "close.day", "Close", "close-", "c" * (NAME_LENGTH + 1)])
def test_plan_refuses_a_name_that_cannot_name_a_service(name: str) -> None:
    code, _, err = run("plan", "-f", "-", text=yaml.safe_dump(example() | {"metadata": {"name": name}}))
    (rule,) = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"]
    assert (code, err) == (1, f"-: {name}: {rule['message']}\n")
    assert f"<= {NAME_LENGTH}" in rule["rule"]


@pytest.mark.parametrize("meta", [{}, None, "close", {"name": None}])
def test_plan_refuses_a_pipeline_without_a_name(meta: object) -> None:
    code, _, err = run("plan", "-f", "-", text=yaml.safe_dump(example() | {"metadata": meta}))
    assert (code, err) == (1, "-: metadata.name is missing\n")


def test_plan_takes_the_longest_name() -> None:
    manifest = example() | {"metadata": {"name": "c" * NAME_LENGTH, "namespace": "trading"}}
    code, out, _ = run("plan", "-f", "-", text=yaml.safe_dump(manifest))
    assert (code, out.split()[0]) == (0, f"trading/{'c' * NAME_LENGTH}")


@pytest.mark.parametrize(("text", "sentence"), [("a: [", "is not YAML"), ("kind: Pod", "holds no EodPipeline")])
def test_plan_of_something_else_says_so(text: str, sentence: str) -> None:
    code, _, err = run("plan", "-f", "-", text=text)
    assert code == 1
    assert sentence in err


def test_run_takes_one_or_all_namespaces() -> None:
    code, _, err = run("run", "-n", "a", "-A")
    assert code == 2
    assert "not both" in " ".join(err.replace("│", " ").split())


def test_help_and_plans_load_no_kubernetes_client() -> None:
    """`eod --help` mounts these commands: importing them must stay cheap."""
    modules = "eod_operator.cli, eod_operator.planning, eod_operator.explain, eod_operator.telling"
    code = f"import sys, {modules}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"kopf", "kubernetes", "aiokafka", "pandas"} & set(loaded)


# --- explain ------------------------------------------------------------------------------------------------

PIPELINES = "/apis/eod.markets/v1alpha1/namespaces/{}/eodpipelines"
DECISIONS = "/api/v1/namespaces/trading/configmaps/us-equities.decisions"


class Cluster:
    """An API server that says what it is told to, and a kubeconfig for it."""

    def __init__(self, folder: Path) -> None:
        self.answers: dict[str, tuple[int, Manifest]] = {}
        self.asked: list[str] = []
        self.texts: dict[str, bytes] = {}
        """Answers that are no objects, by path and query."""
        self.patched: list[Manifest] = []
        self.refuses_changes = 0
        """The status with which every change is refused."""
        self.hurried = 0
        """How often somebody else is quicker with a change."""
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                cluster.asked.append(f"{self.path} {self.headers['Authorization']}")
                missing: tuple[int, Manifest] = (404, {"message": "not found", "reason": "NotFound"})
                status, body = cluster.answers.get(self.path.partition("?")[0], missing)
                text = json.dumps(body).encode()
                if self.path in cluster.texts:
                    status, text = 200, cluster.texts[self.path]
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def do_PATCH(self) -> None:
                """A merge, if the version is the one that is there."""
                change = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                cluster.patched.append(change)
                status, there = cluster.answers[self.path]
                meta = there["metadata"]
                if cluster.refuses_changes:
                    status, there, change = cluster.refuses_changes, {"message": "no"}, {"metadata": meta, "spec": {}}
                if cluster.hurried:
                    meta["resourceVersion"] = str(int(meta["resourceVersion"]) + 1)
                    cluster.hurried -= 1
                if change["metadata"]["resourceVersion"] != meta["resourceVersion"]:
                    status, there = 409, {"message": "it has changed", "reason": "Conflict"}
                elif not cluster.refuses_changes:
                    there["spec"] |= change["spec"]
                text = json.dumps(there).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.kubeconfig = folder / "kubeconfig"
        self.write(namespace="trading")

    def write(self, **context: str) -> None:
        """A kubeconfig with two contexts; the current one has these fields."""
        place = f"http://127.0.0.1:{self.server.server_port}"
        common = {"cluster": "here", "user": "me"}
        written = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": {"server": place}}],
            "users": [{"name": "me", "user": {"token": "secret"}}],
            "contexts": [
                {"name": "current", "context": common | context},
                {"name": "other", "context": common | {"namespace": "elsewhere"}},
            ],
            "current-context": "current",
        }
        self.kubeconfig.write_text(yaml.safe_dump(written), encoding="utf-8")

    def has(self, *names: str, namespace: str = "trading") -> None:
        """Pipelines like the example."""
        listed = []
        for name in names:
            one = example() | {"metadata": {"name": name, "namespace": namespace, "uid": f"u-{name}", "generation": 1}}
            one["metadata"]["resourceVersion"] = "7"
            listed.append(one)
            self.answers[f"{PIPELINES.format(namespace)}/{name}"] = (200, one)
        self.answers[PIPELINES.format(namespace)] = (200, {"items": copy.deepcopy(listed)})

    def explain(self, *args: str) -> tuple[int, str, str]:
        """Run the command with the kubeconfig."""
        return run("explain", "--kubeconfig", str(self.kubeconfig), *args)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """With a pipeline that no operator has seen."""
    made = Cluster(tmp_path)
    made.has("us-equities")
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()


def test_explain_reads_the_pipeline_and_its_decisions_as_whoever_asks(cluster: Cluster) -> None:
    decision = {"at": "2026-11-27T16:00:00Z", "stage": "flash-pnl", "from": 1, "replicas": 2, "winner": "lag"}
    cluster.answers[DECISIONS] = (200, {"data": {"decisions.json": json.dumps([decision])}})
    code, out, err = cluster.explain("us-equities")
    assert (code, err) == (0, "")
    assert out.startswith("trading/us-equities  no phase yet  mode Auto  readiness unknown\n")
    assert "flash-pnl  1 → 2" in out
    assert cluster.asked == [f"{PIPELINES.format('trading')}/us-equities Bearer secret", f"{DECISIONS} Bearer secret"]


def test_explain_as_json(cluster: Cluster) -> None:
    code, out, _ = cluster.explain("us-equities", "--json", "--last", "0")
    assert (code, json.loads(out)["pipeline"]["name"]) == (0, "us-equities")


@pytest.mark.parametrize(
    ("context", "args", "namespace"),
    [
        ({"namespace": "trading"}, [], "trading"),
        ({}, [], "default"),
        ({"namespace": "trading"}, ["-n", "mine"], "mine"),
        ({"namespace": "trading"}, ["--context", "other"], "elsewhere"),
    ],
)
def test_explain_looks_in_the_namespace_of_the_context(
    cluster: Cluster, context: dict[str, str], args: list[str], namespace: str
) -> None:
    cluster.write(**context)
    cluster.has("us-equities", namespace=namespace)
    assert cluster.explain("us-equities", *args)[1].startswith(f"{namespace}/us-equities ")


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        (["us-equities", "japan"], "there is no EodPipeline us-equity in namespace trading: did you mean us-equities? There are: japan, us-equities"),
        (["japan"], "there is no EodPipeline us-equity in namespace trading. There are: japan"),
        ([], "there is no EodPipeline us-equity in namespace trading, nor any other: name its namespace with --namespace (kubectl get eodpipelines -A shows all)"),
        ([f"p{number:02}" for number in range(21)], "p18, p19, …"),
    ],
)  # fmt: skip
def test_explain_of_a_pipeline_that_is_not_there_names_those_that_are(
    cluster: Cluster, others: list[str], sentence: str
) -> None:
    cluster.has(*others)
    code, out, err = cluster.explain("us-equity")
    assert (code, out) == (1, "")
    assert err.startswith("eod explain: ")
    assert err.endswith(f"{sentence}\n")


def test_explain_where_the_others_may_not_be_listed(cluster: Cluster) -> None:
    cluster.answers[PIPELINES.format("trading")] = (403, {"message": "forbidden"})
    assert cluster.explain("x")[2] == "eod explain: there is no EodPipeline x in namespace trading\n"


def test_explain_where_the_crd_is_missing(cluster: Cluster) -> None:
    cluster.answers.clear()
    code, _, err = cluster.explain("us-equities")
    assert code == 1
    assert "this cluster knows no EodPipeline: install its CRD, eod operator crd | kubectl apply" in err


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (403, "eod explain: you lack the right to get eodpipelines.eod.markets in namespace trading: ask for a Role"),
        (401, "eod explain: the API server does not know who you are: renew your credentials"),
        (500, "check the address in the kubeconfig"),
    ],
)
def test_explain_that_is_refused_says_why(cluster: Cluster, status: int, sentence: str) -> None:
    cluster.answers[f"{PIPELINES.format('trading')}/us-equities"] = (status, {"message": "no"})
    code, _, err = cluster.explain("us-equities")
    assert code == 1
    assert sentence in err


def test_explain_without_the_right_to_decisions_explains_the_rest(cluster: Cluster) -> None:
    cluster.answers[DECISIONS] = (403, {"message": "no"})
    code, out, _ = cluster.explain("us-equities")
    assert code == 0
    assert "note: no decisions: you lack the right to get configmaps in namespace trading" in out


def test_explain_of_a_stage_that_is_not_there_names_those_that_are(cluster: Cluster) -> None:
    code, _, err = cluster.explain("us-equities", "--stage", "pnl")
    assert code == 1
    assert err == (
        "eod explain: us-equities has no stage 'pnl': it has ingestion, flash-pnl, regulatory, archive, dead-letters\n"
    )


def test_explain_without_a_cluster(cluster: Cluster, tmp_path: Path) -> None:
    assert "has no context 'nope': it has current, other" in cluster.explain("x", "--context", "nope")[2]
    cluster.server.shutdown()
    cluster.server.server_close()
    assert "the API server did not answer" in cluster.explain("us-equities")[2]
    nowhere = str(tmp_path / "nowhere")
    assert run("explain", "x", "--kubeconfig", nowhere)[::2] == (
        1,
        f"eod explain: there is no kubeconfig {nowhere}: name one with --kubeconfig\n",
    )
    cluster.kubeconfig.write_text("a: [", encoding="utf-8")
    assert "cannot be used" in cluster.explain("x")[2]


def test_a_kubeconfig_without_a_current_context_will_do_with_a_context(cluster: Cluster) -> None:
    written = yaml.safe_load(cluster.kubeconfig.read_text(encoding="utf-8"))
    del written["current-context"]
    cluster.kubeconfig.write_text(yaml.safe_dump(written), encoding="utf-8")
    assert cluster.explain("us-equities", "--context", "current")[0] == 0
    assert "cannot be used" in cluster.explain("us-equities")[2]


# --- where the commands are ---------------------------------------------------------------------------------


def test_the_plugin_of_kubectl_has_the_same_commands() -> None:
    own = {one.callback for one in app.registered_commands}
    assert {getattr(one.callback, "__name__", "") for one in plugin.registered_commands} == {
        "status",
        "explain",
        "pause",
        "resume",
        "report",
        "plan",
        "crd",
        "exchanges",
    }
    assert {one.callback for one in plugin.registered_commands} <= own
    assert run("plan", "-f", str(EXAMPLE), of=plugin) == run("plan", "-f", str(EXAMPLE))


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        pytest.param(("eod", "explain"), "eod explain [OPTIONS]", marks=pytest.mark.slow),
        pytest.param(("eod", "plan"), "eod plan [OPTIONS]", marks=pytest.mark.slow),
        (("eod", "operator", "explain"), "eod operator explain [OPTIONS]"),
        (("kubectl-eod", "explain"), "kubectl eod explain [OPTIONS]"),
    ],
)
def test_the_commands_are_installed(command: tuple[str, ...], usage: str) -> None:
    """`tools/bootstrap.sh` makes what pyproject.toml names."""
    program = Path(sys.executable).with_name(command[0])
    shown = subprocess.run([program, *command[1:], "--help"], capture_output=True, text=True, check=True).stdout
    assert f"Usage: {usage}" in shown


# --- pause, resume, status ----------------------------------------------------------------------------------


def spec_of(cluster: Cluster, name: str = "us-equities") -> Manifest:
    found: Manifest = cluster.answers[f"{PIPELINES.format('trading')}/{name}"][1]["spec"]
    return found


def steer(cluster: Cluster, *args: str) -> tuple[int, str, str]:
    return run(*args, "--kubeconfig", str(cluster.kubeconfig))


def test_a_pipeline_is_paused_and_goes_on(cluster: Cluster) -> None:
    assert steer(cluster, "pause", "us-equities") == (
        0,
        "us-equities is paused: every object stays as it is until 'kubectl eod resume us-equities'; its mode was Auto\n",
        "",
    )
    assert spec_of(cluster)["mode"] == "Paused"
    assert "(as it was)" in steer(cluster, "pause", "us-equities")[1]
    again = json.loads(steer(cluster, "pause", "us-equities", "--json")[1])
    assert (again["paused"], again["changed"], again["stage"]) == (True, False, None)
    assert len(cluster.patched) == 1, "nothing is written for nothing"
    code, out, _ = steer(cluster, "resume", "us-equities")
    assert (code, out) == (0, "us-equities goes on: the operator sizes its stages; its mode was Paused\n")
    assert spec_of(cluster)["mode"] == "Auto"


def test_one_stage_is_paused_and_the_others_are_as_they_were(cluster: Cluster) -> None:
    before = copy.deepcopy(spec_of(cluster)["stages"])
    assert steer(cluster, "pause", "us-equities", "--stage", "flash-pnl")[0] == 0
    after = [{**one, "paused": True} if one["name"] == "flash-pnl" else one for one in before]
    assert spec_of(cluster)["stages"] == after
    steer(cluster, "pause", "us-equities")
    told = steer(cluster, "resume", "us-equities", "--stage", "flash-pnl")[1]
    assert told == (
        "stage flash-pnl of us-equities goes on: the operator sizes it, once the pipeline itself does: its mode is "
        "Paused\n"
    )
    assert [one.get("paused", False) for one in spec_of(cluster)["stages"]] == [False] * len(before)


def test_nobody_elses_change_is_lost(cluster: Cluster) -> None:
    cluster.hurried = 2
    assert steer(cluster, "pause", "us-equities")[0] == 0
    assert len(cluster.patched) == 3
    assert spec_of(cluster)["mode"] == "Paused"
    cluster.hurried = 99
    code, _, err = steer(cluster, "resume", "us-equities")
    assert (code, "somebody else changes us-equities all the time: nothing was changed" in err) == (1, True)
    assert spec_of(cluster)["mode"] == "Paused"


def test_what_cannot_be_paused_is_told(cluster: Cluster) -> None:
    code, _, err = steer(cluster, "pause", "us-equities", "--stage", "pnl")
    assert (code, err.startswith("kubectl eod pause: us-equities has no stage 'pnl': it has ingestion, ")) == (1, True)
    code, _, err = steer(cluster, "resume", "nothing")
    assert (code, "there is no EodPipeline nothing in namespace trading" in err) == (1, True)
    assert cluster.patched == []


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (403, "in namespace trading: ask for a Role that grants it ("),
        (401, "the API server does not know who you are: renew your credentials"),
        (500, "check the address in the kubeconfig, or choose another --context"),
    ],
)
def test_who_is_refused_hears_why_and_what_to_do(cluster: Cluster, status: int, sentence: str) -> None:
    cluster.answers[PIPELINES.format("trading")] = (status, {"message": "no", "reason": "No"})
    code, _, err = steer(cluster, "status")
    assert (code, sentence in err) == (1, True), err
    cluster.refuses_changes = status
    code, _, err = steer(cluster, "pause", "us-equities")
    assert (code, sentence in err) == (1, True), err
    assert spec_of(cluster).get("mode", "Auto") == "Auto"


def test_a_cluster_without_the_kind_says_how_to_have_it(cluster: Cluster) -> None:
    del cluster.answers[PIPELINES.format("trading")]
    code, _, err = steer(cluster, "status")
    assert (code, "install its CRD, eod operator crd | kubectl apply --server-side -f -" in err) == (1, True)


def test_pipelines_at_a_glance(cluster: Cluster) -> None:
    cluster.has("us-equities", "japan")
    listed = cluster.answers[PIPELINES.format("trading")][1]["items"]
    listed[0]["status"] = {
        "observedGeneration": 1,
        "phase": "Running",
        "lag": 12_345,
        "lagSeconds": 2.5,
        "replicas": 7,
        "desired": 8,
        "nextClose": "2099-11-27T18:00:00Z",
        "lastClose": {
            "at": "2026-11-25T21:00:00Z",
            "stages": [
                {"name": "ingestion", "replicas": 2, "readySeconds": -290},
                {"name": "flash-pnl", "replicas": 6, "readySeconds": -200, "assignedSeconds": -36},
            ],
        },
        "conditions": [
            {
                "type": "Ready",
                "status": "False",
                "reason": "StagesNotReady",
                "message": "ready replicas are missing",
                "lastTransitionTime": "2026-11-25T21:00:00Z",
                "observedGeneration": 1,
            }
        ],
    }
    code, out, err = steer(cluster, "status")
    assert (code, err) == (0, "")
    head, japan, us = out.splitlines()
    assert head.split()[:4] == ["NAMESPACE", "NAME", "PHASE", "MODE"]
    assert japan.split() == ["trading", "japan", "-", "Auto", "-", "-", "-", "-", "-", "unknown"]
    assert us.split()[:7] == ["trading", "us-equities", "Running", "Auto", "12,345", "2.5", "s"]
    assert "7/8" in us
    assert "11-27 18:00 UTC, in " in us
    assert "36 s early" in us
    assert us.endswith("no: StagesNotReady: ready replicas are missing")
    code, out, _ = steer(cluster, "status", "--json")
    (japan_told, us_told) = json.loads(out)
    assert (japan_told["ready"], us_told["ready"], us_told["lastClose"]) == (None, False, "36 s early")
    listed[0]["status"]["lastClose"]["stages"][1] = {"name": "flash-pnl", "replicas": 6}
    assert "replicas were missing" in steer(cluster, "status")[1]
    assert steer(cluster, "status", "-n", "a", "-A")[0] == 1


def test_a_glance_is_repeated_until_it_is_interrupted(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = iter([None, None])

    def pause(_seconds: float) -> None:
        if next(pauses, KeyboardInterrupt) is KeyboardInterrupt:
            raise KeyboardInterrupt

    monkeypatch.setattr("eod_operator.cli.time.sleep", pause)
    code, out, err = steer(cluster, "status", "--watch", "--json")
    assert (code, err) == (130, "")
    assert [json.loads(line)[0]["name"] for line in out.splitlines()] == ["us-equities"] * 3
    pauses = iter([None])
    code, out, _ = steer(cluster, "status", "--watch")
    assert (code, "us-equities" in out) == (130, True)


def test_where_there_is_nothing_that_is_said(cluster: Cluster) -> None:
    cluster.has(namespace="elsewhere")
    assert "no pipelines here" in steer(cluster, "status", "-n", "elsewhere")[2]


# --- report -------------------------------------------------------------------------------------------------

_CORE, _APPS = "/api/v1/namespaces/trading", "/apis/apps/v1/namespaces/trading"


def _labelled(kind: str, name: str, **more: Any) -> Manifest:
    meta = {"name": name, "namespace": "trading", "managedFields": [{"manager": "noise"}]}
    return {"kind": kind, "metadata": meta, **more}


def test_a_report_has_what_is_needed_and_no_secret(cluster: Cluster, tmp_path: Path) -> None:
    env = [
        {"name": "SOME_PASSWORD", "value": "hunter2"},
        {"name": "OTHER", "valueFrom": {"secretKeyRef": {"key": "k"}}},
    ]
    spec = spec_of(cluster)
    spec["config"] = {**spec.get("config", {}), "env": [{"name": "TOKEN", "value": "hunter2"}]}
    deployment = _labelled(
        "Deployment", "us-equities-flash-pnl", spec={"template": {"spec": {"containers": [{"env": env}]}}}
    )
    statuses = [{"name": "stage", "restartCount": 2}]
    pod = _labelled(
        "Pod", "us-equities-flash-pnl-1", spec={"containers": [{"env": env}]}, status={"containerStatuses": statuses}
    )
    events = [
        {"involvedObject": {"name": "us-equities-flash-pnl-1"}, "message": "pulled"},
        {"involvedObject": {"name": "somebody-elses"}, "message": "theirs"},
    ]
    cluster.answers |= {
        f"{_APPS}/deployments": (200, {"items": [deployment]}),
        f"{_CORE}/pods": (200, {"items": [pod]}),
        f"{_CORE}/events": (200, {"items": events}),
        f"{_CORE}/services": (403, {"message": "services is forbidden", "reason": "Forbidden"}),
        DECISIONS: (200, {"data": {"decisions.json": "[]"}}),
    }
    log = f"{_CORE}/pods/us-equities-flash-pnl-1/log?container=stage&tailLines=1000"
    cluster.texts = {log: b"a line\n", f"{log}&previous=true": "früher\n".encode()}
    file = tmp_path / "report.zip"
    code, out, err = steer(cluster, "report", "us-equities", "-o", str(file))
    assert (code, out.startswith(f"{file}: ")) == (0, True), err
    assert "reading logs of us-equities-flash-pnl-1" in err
    with zipfile.ZipFile(file) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    assert not any("hunter2" in content for content in files.values())
    assert not any("/secrets" in asked for asked in cluster.asked)
    assert files["logs/us-equities-flash-pnl-1/stage.log"] == "a line\n"
    assert files["logs/us-equities-flash-pnl-1/stage-previous.log"] == "früher\n"
    assert [one["message"] for one in yaml.safe_load(files["events.yaml"])] == ["pulled"]
    (shown,) = yaml.safe_load(files["objects/deployment.yaml"])
    assert shown["spec"]["template"]["spec"]["containers"][0]["env"] == [
        {"name": "SOME_PASSWORD", "value": "(withheld)"},
        {"name": "OTHER", "valueFrom": {"secretKeyRef": {"key": "k"}}},
    ]
    assert "managedFields" not in shown["metadata"]
    assert yaml.safe_load(files["pipeline.yaml"])["metadata"]["name"] == "us-equities"
    assert files["explain.txt"].startswith("trading/us-equities ")
    assert json.loads(files["explain.json"])["pipeline"]["name"] == "us-equities"
    about = files["about.txt"]
    assert "No Secret was read" in about
    assert "services is forbidden" in about
    assert "us-equities.decisions.yaml" in files
    told = json.loads(steer(cluster, "report", "us-equities", "-o", str(file), "--json")[1])
    assert (told["file"], set(told["files"]), len(told["missing"]) > 0) == (str(file), set(files), True)


def test_a_report_that_cannot_be_written_or_read_is_told(cluster: Cluster, tmp_path: Path) -> None:
    code, _, err = steer(cluster, "report", "us-equities", "-o", str(tmp_path / "nowhere" / "r.zip"))
    assert (code, err.startswith(f"kubectl eod report: {tmp_path}/nowhere/r.zip: ")) == (1, True)
    assert cluster.asked == [], "nothing is asked for nothing"
    code, _, err = steer(cluster, "report", "nothing", "-o", str(tmp_path / "r.zip"))
    assert (code, "there is no EodPipeline nothing" in err, (tmp_path / "r.zip").exists()) == (1, True, False)
