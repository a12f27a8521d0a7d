"""TLS and a token on the stages' own port: what pods, probes, Prometheus and the operator itself are told of them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from eod_operator.api import PipelineSpec
from eod_operator.api.sources import HTTP_FILES, RESERVED_ENV
from eod_operator.asking import Door
from eod_operator.resources import Owner, stage_objects
from eod_workers.process.settings import load_settings
from eod_workers.runtime.variables import names_of
from support.operator_fakes import Manifest, OperatorBench

TLS = {"tls": {"secretRef": {"name": "stages-tls"}, "serverName": "stages.example"}}
BEARER = {"token": {"secretKeyRef": {"name": "scrape", "key": "bearer"}}}
PAIR = {
    "secret": {
        "name": "stages-tls",
        "items": [{"key": "tls.crt", "path": "tls.crt"}, {"key": "tls.key", "path": "tls.key"}],
    }
}
TOKEN = {"secret": {"name": "scrape", "items": [{"key": "bearer", "path": "token"}]}}
CERT_FILES = {"EOD_HTTP_TLS_CERT_FILE": "/etc/eod/http/tls.crt", "EOD_HTTP_TLS_KEY_FILE": "/etc/eod/http/tls.key"}
TOKEN_FILE = {"EOD_HTTP_TOKEN_FILE": "/etc/eod/http/token"}
VERIFIED = {
    "scheme": "https",
    "tlsConfig": {"ca": {"secret": {"name": "stages-tls", "key": "tls.crt"}}, "serverName": "stages.example"},
}
AUTHORIZED = {"authorization": {"type": "Bearer", "credentials": {"name": "scrape", "key": "bearer"}}}


def objects(raw_spec: Manifest, owner: Owner, **spec: Any) -> dict[str, Manifest]:
    """The objects of the stage `pnl`, by kind."""
    made = PipelineSpec.model_validate({**raw_spec, "serviceMonitor": {"enabled": True}, **spec})
    return {one["kind"]: one for one in stage_objects(owner, made, made.stages[1], 1)}


def pod(made: dict[str, Manifest]) -> Manifest:
    found: Manifest = made["Deployment"]["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize(
    ("http", "told", "sources", "scraped", "scheme"),
    [
        pytest.param(TLS, CERT_FILES, [PAIR], VERIFIED, {"scheme": "HTTPS"}, id="TLS"),
        pytest.param(BEARER, TOKEN_FILE, [TOKEN], AUTHORIZED, {}, id="a token"),
        pytest.param(
            {**TLS, **BEARER},
            {**CERT_FILES, **TOKEN_FILE},
            [PAIR, TOKEN],
            {**VERIFIED, **AUTHORIZED},
            {"scheme": "HTTPS"},
            id="both",
        ),
    ],
)
def test_stages_probes_and_prometheus_agree(
    raw_spec: Manifest,
    owner: Owner,
    http: Manifest,
    told: dict[str, str],
    sources: list[Manifest],
    scraped: Manifest,
    scheme: dict[str, str],
) -> None:
    plain, made = objects(raw_spec, owner), objects(raw_spec, owner, http=http)
    assert made["ConfigMap"]["data"] == {**plain["ConfigMap"]["data"], **told}
    (container,) = pod(made)["containers"]
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        before = pod(plain)["containers"][0][probe]
        assert container[probe] == {**before, "httpGet": {**before["httpGet"], **scheme}}
    volume = {"name": "http", "projected": {"sources": sources, "defaultMode": 0o444}}
    assert pod(made)["volumes"] == [*pod(plain)["volumes"], volume]
    mount = {"name": "http", "mountPath": HTTP_FILES, "readOnly": True}
    assert container["volumeMounts"] == [*pod(plain)["containers"][0]["volumeMounts"], mount]
    assert made["ServiceMonitor"]["spec"]["endpoints"] == [
        {**one, **scraped} for one in plain["ServiceMonitor"]["spec"]["endpoints"]
    ]
    assert made["Service"]["spec"] == plain["Service"]["spec"]


def test_a_worker_reads_what_the_operator_says(
    raw_spec: Manifest, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = objects(raw_spec, owner, http={**TLS, **BEARER})["ConfigMap"]["data"]
    for name, value in data.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert {
        "EOD_" + name.upper(): value
        for name, value in settings.model_dump().items()
        if str(value).startswith(HTTP_FILES)
    } == {**CERT_FILES, **TOKEN_FILE}
    assert {*CERT_FILES, *TOKEN_FILE} <= names_of(type(settings)) & set(RESERVED_ENV)


# --- what the Secrets hold ----------------------------------------------------------------------------------


@pytest.fixture
def bench(raw_spec: Manifest) -> OperatorBench:
    return OperatorBench(raw_spec)


def secret(name: str, **keys: str) -> Manifest:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in keys.items()}
    return {"kind": "Secret", "metadata": {"name": name}, "data": data}


def put_unready_pod(bench: OperatorBench) -> None:
    running = {"phase": "Running", "podIP": "10.0.0.7", "conditions": [{"type": "Ready", "status": "False"}]}
    bench.api.put({"kind": "Pod", "metadata": {"name": "close-pnl-x", "labels": {}}, "status": running})


async def asked_by(bench: OperatorBench) -> Door:
    """How pods are asked, more than a minute later."""
    await bench.step(30)
    bench.doors.clear()
    await bench.step(61)
    (door,) = set(bench.doors)
    return door


async def test_pods_are_asked_by_what_the_secrets_hold_now(bench: OperatorBench) -> None:
    put_unready_pod(bench)
    assert await asked_by(bench) == Door()
    bench.change(http={**TLS, **BEARER})
    assert await asked_by(bench) == Door(tls=True), "nothing is known of what is not there"
    bench.api.put(secret("stages-tls", **{"tls.crt": "PEM", "tls.key": "KEY"}))
    bench.api.put(secret("scrape", bearer="one-token-of-sixteen\n"))
    assert await asked_by(bench) == Door(tls=True, certificate="PEM", token="one-token-of-sixteen")
    bench.api.put(secret("scrape", bearer="two"))
    assert await asked_by(bench) == Door(tls=True, certificate="PEM", token="two")


async def test_one_secret_may_hold_all_that_a_pipeline_wants(bench: OperatorBench) -> None:
    put_unready_pod(bench)
    all_in = {"secretRef": {"name": "kafka-client"}}
    bench.kafka.password = "right"
    bench.api.put(
        secret("kafka-client", username="eod", password="right", **{"tls.crt": "PEM", "tls.key": "KEY", "t": "x"})
    )
    bench.change(
        kafka={"bootstrapServers": "kafka:9092", "security": {"protocol": "SASL_PLAINTEXT", **all_in}},
        http={"tls": all_in, "token": {"secretKeyRef": {"name": "kafka-client", "key": "t"}}},
    )
    assert await asked_by(bench) == Door(tls=True, certificate="PEM", token="x")
    assert bench.condition("KafkaReachable")["status"] == "True"


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        pytest.param([], "Secret scrape, Secret stages-tls", id="nothing"),
        pytest.param([secret("stages-tls", **{"tls.crt": "PEM"}), secret("scrape", bearer="x")], "key tls.key of Secret stages-tls", id="no key"),
        pytest.param([secret("stages-tls", **{"tls.crt": "PEM", "tls.key": "KEY"}), secret("scrape", token="x")], "key bearer of Secret scrape", id="no token"),
    ],
)  # fmt: skip
async def test_what_is_missing_is_named(bench: OperatorBench, there: list[Manifest], missing: str) -> None:
    bench.change(http={**TLS, **BEARER})
    for one in there:
        bench.api.put(one)
    await bench.step()
    told = bench.condition("ReferencesFound")
    assert (told["status"], told["reason"]) == ("False", "ReferenceMissing")
    assert f": {missing}. Create it, or correct spec.config, spec.http or spec.kafka.security" in told["message"]


async def test_a_renewed_certificate_rolls_no_pods_and_nothing_of_it_is_told(
    bench: OperatorBench, caplog: pytest.LogCaptureFixture
) -> None:
    """The stages read it again by themselves."""
    put_unready_pod(bench)
    bench.change(http={**TLS, **BEARER})
    templates = []
    for turn in ("one", "two"):
        bench.api.put(secret("stages-tls", **{"tls.crt": f"crt-{turn}", "tls.key": f"key-{turn}"}))
        bench.api.put(secret("scrape", bearer=f"token-{turn}"))
        await bench.step(120)
        templates.append(json.dumps(bench.api.objects["Deployment", "close-pnl"]["spec"]["template"]))
    assert templates[0] == templates[1]
    assert bench.doors[-1].token == "token-two"
    made = [one for (kind, _), one in bench.api.objects.items() if kind != "Secret"]
    seen = f"{json.dumps([bench.api.statuses, bench.events, made])} {caplog.text} {bench.reconciler.last!r}"
    assert not any(f"{what}-{turn}" in seen for what in ("crt", "key", "token") for turn in ("one", "two"))
    references = bench.reconciler._around.references
    kept = [text for content in references._known.values() for text in content.texts.values()]
    assert sorted(kept) == ["crt-two", "token-two"], "the private key is none of the operator's"
