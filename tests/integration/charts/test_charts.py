"""What the charts render: Helm has nothing to say against it, the API server takes it, wrong values are refused.

It is held against the API server itself, which knows more than a schema: CEL rules, names, what else it has.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from integration.charts.others_kinds import OTHERS
from kubernetes.utils.quantity import parse_quantity
from support.chart_release import API, CRDS, EOD, OBSERVABILITY, OPERATOR, ROOT, STORES
from support.patience import eventually
from testbed.errors import CommandFailed
from testbed.helm import Helm
from testbed.kubernetes import Kubernetes

FAST_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
CI_VALUES = [*sorted(ROOT.glob("charts/*/ci/*-values.yaml")), EOD / "values-aws.yaml"]
NAMED_NAMESPACES = ("trading", "settlement")
"""Those of ci/namespaced-values.yaml."""


@pytest.fixture(scope="module")
def others_kinds(kubernetes: Kubernetes) -> Iterator[None]:
    """What the values for common cases expect of a cluster: kinds of other projects, and namespaces."""
    kubernetes.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": OTHERS}))
    names = [one["metadata"]["name"] for one in OTHERS]
    kubernetes.await_kinds(*names)
    for name in names:
        eventually(lambda name=name: kubernetes.kubectl("get", name, "-A") is not None)
    for name in NAMED_NAMESPACES:  # which may still be going, if this process has been here before
        eventually(lambda name=name: kubernetes.kubectl("create", "namespace", name))
    yield
    kubernetes.kubectl("delete", "crd", *names)
    kubernetes.kubectl("delete", "namespace", *NAMED_NAMESPACES, "--wait=false")


def chart_of(file: Path) -> str:
    """Name of the chart that a file of values is for."""
    return file.relative_to(ROOT / "charts").parts[0]


def test_helm_is_the_version_that_was_asked_for(helm: Helm) -> None:
    assert helm.version == "v3.19.5"


@pytest.mark.parametrize("chart", [OPERATOR, CRDS, STORES, OBSERVABILITY, EOD], ids=lambda chart: chart.name)
def test_the_readme_is_what_helm_docs_makes_of_the_values(helm: Helm, chart: Path) -> None:
    """`make chart-docs` writes it."""
    assert helm.docs(chart) == (chart / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("file", CI_VALUES, ids=lambda file: f"{chart_of(file)}-{file.stem}")
def test_helm_lint_has_nothing_to_say(helm: Helm, charts: Path, file: Path) -> None:
    assert "1 chart(s) linted, 0 chart(s) failed" in helm("lint", "--strict", charts / chart_of(file), "-f", file)


@pytest.mark.parametrize("chart", sorted({chart_of(file) for file in CI_VALUES}))
def test_the_api_server_takes_what_each_values_file_renders(
    helm: Helm, kubernetes: Kubernetes, crds: None, others_kinds: None, charts: Path, strict_namespace: str, chart: str
) -> None:
    """Without a warning: the namespace warns of pods that are not restricted."""
    del crds, others_kinds
    rendered: dict[Path, str] = {}
    made: list[dict[str, Any]] = []
    for file in (one for one in CI_VALUES if chart_of(one) == chart):
        words = (f"--namespace={strict_namespace}", API, "-f", file)
        rendered[file] = helm("template", "eod-operator", charts / chart, *words)
        some = [one for one in yaml.load_all(rendered[file], FAST_LOADER) if one]
        assert some, file
        for one in some:
            labels = one["metadata"]["labels"]
            assert labels["app.kubernetes.io/instance"] == "eod-operator", (file, one["metadata"]["name"])
            assert labels["app.kubernetes.io/managed-by"] == "Helm", (file, one["metadata"]["name"])
        made += some
    accounts = [one for one in made if one["kind"] == "ServiceAccount"]
    if accounts:  # a Pod is refused before its account is there
        kubernetes.kubectl("apply", "-f", "-", input="\n---\n".join(map(json.dumps, accounts)))
    try:
        assert len(dry_run(kubernetes, "\n---\n".join(rendered.values())).splitlines()) == len(made) > 0
    except CommandFailed:
        for file, text in rendered.items():  # which of them is it?
            try:
                dry_run(kubernetes, text)
            except CommandFailed as refusal:
                pytest.fail(f"{file}: {refusal}")
        raise


def test_a_template_of_pods_that_are_not_restricted_would_be_refused(
    helm: Helm, kubernetes: Kubernetes, strict_namespace: str
) -> None:
    """The warning that the test above relies on."""
    rendered = helm("template", "eod-operator", OPERATOR, f"--namespace={strict_namespace}")
    with pytest.raises(CommandFailed, match="would violate PodSecurity"):
        dry_run(kubernetes, rendered.replace("runAsNonRoot: true", "runAsNonRoot: false"))


def test_the_api_server_would_refuse_a_misspelt_field(helm: Helm, kubernetes: Kubernetes) -> None:
    rendered = helm("template", "eod-operator", OPERATOR, "--namespace=default")
    wrong = rendered.replace("unhealthyPodEvictionPolicy", "unhealthyPodEvictionPolice")
    with pytest.raises(CommandFailed, match=r'unknown field "spec\.unhealthyPodEvictionPolice"'):
        dry_run(kubernetes, wrong)


def dry_run(kubernetes: Kubernetes, rendered: str) -> str:
    """Have the API server check objects without keeping them."""
    words = ("apply", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f", "-")
    return kubernetes.kubectl(*words, input=rendered)


def test_labels_of_the_chart_cannot_be_replaced_by_those_of_a_user(helm: Helm) -> None:
    rendered = helm("template", "eod-operator", OPERATOR, "-f", OPERATOR / "ci/hardened-values.yaml")
    (deployment,) = (one for one in yaml.safe_load_all(rendered) if one and one["kind"] == "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert (labels["app.kubernetes.io/name"], labels["example.com/team"]) == ("eod-operator", "markets")


def operator_of(helm: Helm, *words: str | Path) -> dict[str, Any]:
    """What the chart renders, by its kinds."""
    rendered = helm("template", "eod-operator", OPERATOR, *words)
    return {one["kind"]: one for one in yaml.safe_load_all(rendered) if one}


def test_the_operators_port_is_plain_unless_secrets_protect_it_and_who_asks_follows(helm: Helm) -> None:
    for words, scheme in (((), "HTTP"), (("-f", OPERATOR / "ci/hardened-values.yaml"), "HTTPS")):
        kinds = operator_of(helm, *words)
        pod = kinds["Deployment"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        asked = [container[f"{one}Probe"]["httpGet"]["scheme"] for one in ("startup", "readiness", "liveness")]
        assert asked == [scheme] * 3
        files = {one["name"]: one["value"] for one in container["env"] if one["name"].startswith("EOD_HTTP_")}
        mounted = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
        if scheme == "HTTP":
            assert (files, mounted) == ({}, {"tmp": "/tmp"})
            continue
        kept = "/etc/eod/http"
        assert files == {
            "EOD_HTTP_TLS_CERT_FILE": f"{kept}/tls.crt",
            "EOD_HTTP_TLS_KEY_FILE": f"{kept}/tls.key",
            "EOD_HTTP_TOKEN_FILE": f"{kept}/token",
        }
        assert mounted == {"tmp": "/tmp", "http": kept}
        (volume,) = (one["projected"] for one in pod["volumes"] if one["name"] == "http")
        paths = {item["path"]: one["secret"]["name"] for one in volume["sources"] for item in one["secret"]["items"]}
        assert paths == {"tls.crt": "operator-tls", "tls.key": "operator-tls", "token": "operator-token"}
        (endpoint,) = kinds["ServiceMonitor"]["spec"]["endpoints"]
        assert endpoint["scheme"] == "https"
        assert endpoint["tlsConfig"] == {
            "ca": {"secret": {"name": "operator-tls", "key": "tls.crt"}},
            "serverName": "eod-operator.example",
        }
        assert endpoint["authorization"]["credentials"] == {"name": "operator-token", "key": "metrics"}


def test_a_token_alone_leaves_probes_and_scraping_plain(helm: Helm) -> None:
    kinds = operator_of(helm, "--set", "http.token.existingSecret=t,serviceMonitor.enabled=true")
    (container,) = kinds["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"]["scheme"] == "HTTP"
    (endpoint,) = kinds["ServiceMonitor"]["spec"]["endpoints"]
    assert "scheme" not in endpoint
    assert endpoint["authorization"] == {"type": "Bearer", "credentials": {"name": "t", "key": "token"}}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("replicas=two", "at '/replicas': got string, want integer"),
        ("replicas=0", "at '/replicas': minimum: got 0, want 1"),
        ("replicas=6", "at '/replicas': maximum: got 6, want 5"),
        ("replica=2", "additional properties 'replica' not allowed"),
        ("image.repository=", "at '/image/repository': minLength: got 0, want 1"),
        ("image.pullPolicy=Maybe", "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"),
        ("watchNamespaces={Trading}", "at '/watchNamespaces/0': 'Trading' does not match pattern"),
        ("watchNamespaces={a,a}", "at '/watchNamespaces': items at 0 and 1 are equal"),
        ("watchNamespaces=trading", "at '/watchNamespaces': got string, want array"),
        ("intervalSeconds=0", "at '/intervalSeconds': minimum: got 0, want 1"),
        ("requestsPerSecond=0", "at '/requestsPerSecond': minimum: got 0, want 1"),
        ("terminationGracePeriodSeconds=1", "at '/terminationGracePeriodSeconds': minimum: got 1, want 5"),
        ("serviceMonitor.interval=often", "at '/serviceMonitor/interval': 'often' does not match pattern"),
        ("http.tls.secret=x", "additional properties 'secret' not allowed"),
        ("http.token.key=", "at '/http/token/key': minLength: got 0, want 1"),
        (
            "http.tls.existingSecret=x,serviceMonitor.enabled=true",
            "http.tls.serverName is needed with http.tls.existingSecret and serviceMonitor.enabled",
        ),
        ("networkPolicy.enabled=maybe", "at '/networkPolicy/enabled': got string, want boolean"),
        ("extraEnv[0].name=EOD_NAMESPACE", "at '/extraEnv/0/name': 'not' failed"),
        ("extraEnv[0].value=x", "at '/extraEnv/0': missing property 'name'"),
        ("tolerations[0].effect=Never", "at '/tolerations/0/effect': value must be one of 'NoSchedule'"),
        ("fullnameOverride=Eod", "at '/fullnameOverride': 'Eod' does not match pattern"),
        ("serviceAccount.create=false", "serviceAccount.name is needed when serviceAccount.create is false"),
    ],
)
def test_a_wrong_value_is_refused_with_a_sentence(helm: Helm, value: str, sentence: str) -> None:
    with pytest.raises(CommandFailed) as refused:
        helm("template", "eod-operator", OPERATOR, "--set", value)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    "words", [(), ("--set=eod-observability.otlp.endpoint=http://collector:4318",)], ids=["stores", "traces"]
)
def test_stages_are_let_out_to_every_address_that_they_are_told_and_nowhere_else(
    helm: Helm, charts: Path, words: tuple[str, ...]
) -> None:
    """A NetworkPolicy that forgets one would look like a store that is away."""
    objects = _rendered(helm, charts, *words)
    (spec,) = (one["spec"] for one in objects if one["kind"] == "EodPipeline")
    told = [spec["kafka"]["bootstrapServers"]]
    for one in objects:
        if one["kind"] == "ConfigMap" and one["metadata"]["name"] in {"eod-stores", "eod-observability"}:
            told += [value for key, value in one["data"].items() if value and key.endswith("ENDPOINT")]
            told += [f":{value}" for key, value in one["data"].items() if key.endswith("_PORT")]
        if one["kind"] == "Secret" and one["metadata"]["name"] == "eod-stores":
            told.append(base64.b64decode(one["data"]["EOD_REDIS_URL"]).decode())
    ports = [int(found.group(1)) for address in told if (found := re.search(r":(\d+)(/\d+)?$", address))]
    assert len(ports) == len(told) == 4 + len(words)
    assert sorted(spec["networkPolicy"]["egressPorts"]) == sorted(ports)


@pytest.mark.parametrize(
    "values",
    [
        "eod-stores.redis.enabled=false,eod-stores.redis.existingSecret=ours",
        "pipeline.env[0].name=EOD_S3_ENDPOINT,pipeline.env[0].value=http://elsewhere:9000",
        "pipeline.spec.config.secretRef.name=ours",
        "pipeline.spec.kafka.bootstrapServers=elsewhere:9092",
    ],
)
def test_stages_are_let_out_anywhere_where_a_store_is_the_users_own(helm: Helm, charts: Path, values: str) -> None:
    objects = _rendered(helm, charts, f"--set={values}")
    (spec,) = (one["spec"] for one in objects if one["kind"] == "EodPipeline")
    assert spec["networkPolicy"] == {"enabled": True}


def test_every_pod_of_eod_runs_where_it_is_told(helm: Helm, charts: Path) -> None:
    """Also those that run once, and the tests: on a cluster whose nodes are tainted they would wait for ever."""
    place: dict[str, Any] = {
        "nodeSelector": {"pool": "markets"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    }
    stores = dict.fromkeys(("kafka", "redis", "sqlserver", "s3", "jobs"), place)
    values = {**place, "eod-operator": place, "eod-stores": stores}
    file = charts.parent / "placed.yaml"
    file.write_text(yaml.safe_dump(values))
    objects = _rendered(helm, charts, f"--values={file}")
    pods = {f"{one['kind']} {one['metadata']['name']}": pod for one in objects if (pod := _pod(one)) is not None}
    assert len(pods) == 13
    assert {name for name, pod in pods.items() if {key: pod.get(key) for key in place} != place} == set()
    (spec,) = (one["spec"] for one in objects if one["kind"] == "EodPipeline")
    assert spec["scheduling"] == place


@pytest.mark.parametrize(("row", "replicas"), [("`min`", "min"), ("`burst`", "burst")])
def test_the_page_says_what_all_pods_request(helm: Helm, charts: Path, row: str, replicas: str) -> None:
    """So that nobody learns it from a pipeline that is Degraded at the close."""
    objects = _rendered(helm, charts)
    pods = [
        (one["spec"]["replicas"], _pod(one)["containers"])  # type: ignore[index]
        for one in objects
        if one["kind"] in {"Deployment", "StatefulSet"}
    ]
    (spec,) = (one["spec"] for one in objects if one["kind"] == "EodPipeline")
    pods += [(stage["replicas"].get(replicas, stage["replicas"]["min"]), [stage]) for stage in spec["stages"]]
    requested = {
        of: sum(
            count * parse_quantity(one.get("resources", {}).get("requests", {}).get(of, 0))
            for count, some in pods
            for one in some
        )
        for of in ("cpu", "memory")
    }
    (line,) = (
        line
        for line in (charts / "eod/README.md").read_text().splitlines()
        if line.startswith(f"| with the stages at their {row}")
    )
    said = [parse_quantity(cell) for cell in line.strip("| ").split(" | ")[1:]]
    assert said == list(requested.values())


def _rendered(helm: Helm, charts: Path, *words: str) -> list[dict[str, Any]]:
    """What the whole chart renders as release `eod`."""
    accepted = "--set=eod-stores.sqlserver.acceptEula=true"
    text = helm("template", "eod", charts / EOD.name, "--namespace=trading", API, accepted, *words)
    return [one for one in yaml.load_all(text, FAST_LOADER) if one]


def _pod(one: dict[str, Any]) -> dict[str, Any] | None:
    """The spec of a pod that an object is, or makes."""
    if one["kind"] == "Pod":
        return dict(one["spec"])
    spec = one.get("spec", {}).get("jobTemplate", one).get("spec", {})
    return spec.get("template", {}).get("spec") if isinstance(spec, dict) else None
