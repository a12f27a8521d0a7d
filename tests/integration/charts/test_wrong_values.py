"""Values of the stores, of observability and of the whole that make no sense: Helm refuses them with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.chart_release import API, EOD, OBSERVABILITY, ROOT, STORES
from testbed.errors import CommandFailed
from testbed.helm import Helm


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            ["sqlserver.acceptEula=false"],
            "sqlserver.acceptEula is false: SQL Server runs only for those who accept its",
        ),
        (["kafka.enabled=false"], "kafka.external.bootstrapServers is needed when kafka.enabled is false"),
        (
            ["kafka.enabled=false", "kafka.external.bootstrapServers=k:9092", "kafka.external.protocol=SASL_SSL"],
            "kafka.auth.existingSecret is needed with kafka.external.protocol SASL_SSL",
        ),
        (
            [
                *("kafka.enabled=false", "kafka.external.bootstrapServers=k:9092"),
                *("kafka.external.protocol=SASL_SSL", "kafka.external.mechanism=AWS_MSK_IAM"),
            ],
            "AWS_MSK_IAM wants kafka.external.protocol SASL_SSL and kafka.external.awsRegion",
        ),
        (
            ["kafka.enabled=false", "kafka.external.bootstrapServers=k:9092", "kafka.strimzi.enabled=true"],
            "kafka.strimzi.enabled wants kafka.enabled",
        ),
        (
            ["kafka.strimzi.enabled=true", "kafka.nodeSelector.disk=fast"],
            "kafka.nodeSelector means nothing to Strimzi: say it as kafka.affinity.nodeAffinity",
        ),
        (["kafka.tls.existingSecret=certificate"], "kafka.tls.ca is needed with kafka.tls.existingSecret"),
        (["redis.tls.existingSecret=certificate"], "redis.tls.ca is needed with redis.tls.existingSecret"),
        (["sqlserver.tls.existingSecret=certificate"], "sqlserver.tls.ca is needed with sqlserver.tls.existingSecret"),
        (["redis.enabled=false"], "redis.existingSecret or redis.external.url is needed when redis.enabled is false"),
        (["sqlserver.enabled=false"], "sqlserver.external.host and sqlserver.existingSecret are needed"),
        (
            ["redis.maxMemoryMebibytes=1024"],
            "redis.maxMemoryMebibytes 1024 does not fit in redis.resources.limits.memory, which is 1024 MiB",
        ),
        (
            ["kafka.resources.limits.memory=700Mi"],
            "kafka.heapMebibytes 768 does not fit in kafka.resources.limits.memory, which is 700 MiB",
        ),
        (["kafka.replicas=2"], "at '/kafka/replicas': value must be one of 1, 3"),
        (["kafka.persistence.size=much"], "at '/kafka/persistence/size': 'much' does not match pattern"),
        (["kafka.external.bootstrapServers=kafka"], "at '/kafka/external/bootstrapServers': 'kafka' does not match"),
        (["kafka.auth.username=eod-broker"], "at '/kafka/auth/username': 'not' failed"),
        (["kafka.tls.ca=certificate"], "at '/kafka/tls/ca': 'certificate' does not match pattern"),
        (["redis.external.url=redis://:hunter2@host:6379/0"], "at '/redis/external/url':"),
        (
            ["sqlserver.encryption=maybe"],
            "at '/sqlserver/encryption': value must be one of 'require', 'request', 'off'",
        ),
        (["sqlserver.username=sa"], "at '/sqlserver/username': 'not' failed"),
        (["s3.bucket=Archive"], "at '/s3/bucket': 'Archive' does not match pattern"),
        (["s3.retentionDays=-1"], "at '/s3/retentionDays': minimum: got -1, want 0"),
        (["volumesWhenDeleted=Perhaps"], "at '/volumesWhenDeleted': value must be one of 'Retain', 'Delete'"),
        (["mysql.enabled=true"], "additional properties 'mysql' not allowed"),
        (["redis.runAsUser=0"], "at '/redis/runAsUser': minimum: got 0, want 1"),
    ],
)
def test_a_wrong_value_of_the_stores_is_refused_with_a_sentence(helm: Helm, values: list[str], sentence: str) -> None:
    words = [word for value in values for word in ("--set", value)]
    with pytest.raises(CommandFailed) as refused:
        helm("template", "desk", STORES, "--set", "sqlserver.acceptEula=true", *words)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (["pipeline.name=US"], "at '/pipeline/name': 'US' does not match pattern"),
        (["pipeline.topics.partitions=0"], "at '/pipeline/topics/partitions': minimum: got 0, want 1"),
        (["fix.type=Ingress"], "at '/fix/type': value must be one of 'ClusterIP', 'NodePort', 'LoadBalancer'"),
        (["eod-stores.kafka.replicas=2"], "at '/kafka/replicas': value must be one of 1, 3"),
        (["fix.sessions.BROKER.zone=Europe/London"], "'BROKER' does not match pattern '->'"),
        (["fix.tls.secret=x"], "additional properties 'secret' not allowed"),
        (["eod-operator.replica=2"], "additional properties 'replica' not allowed"),
        (
            ["install.stores=false", "reconcile.enabled=false"],
            "pipeline.spec.kafka is needed when install.stores is false",
        ),
        (["install.stores=false"], "reconcile.enabled wants install.stores"),
        (["fix.stage=entrance"], 'fix.stage "entrance" is no ingestion stage of the pipeline, which has ingestion'),
        (["fix.stage=regulatory"], 'fix.stage "regulatory" is no ingestion stage of the pipeline, which has ingestion'),
        (["fix.tls.clientCertificates=true"], "fix.tls.clientCertificates wants fix.tls.existingSecret"),
        (
            ["fix.existingConfigMap=ours", "fix.sessions.BROKER->EOD.zone=Europe/London"],
            "fix.sessions and fix.existingConfigMap are both set, and only one can say who may log on",
        ),
        (
            ["fix.sessions.BROKER->EOD.certificate=broker.example"],
            'fix.sessions "BROKER->EOD" names a certificate, and nobody is asked for any',
        ),
        (["fix.sourceRanges={10.0.0.0/8}"], "fix.sourceRanges restricts nobody with fix.type ClusterIP"),
        (
            ["fix.sourceRanges={10.0.0.0/8}", "fix.type=NodePort"],
            "fix.sourceRanges restricts nobody with fix.type NodePort",
        ),
        (["fix.nodePort=30876"], "fix.nodePort 30876 is a port of the nodes, and fix.type ClusterIP opens none"),
        (
            ["reference.data=traders: {}", "reference.existingConfigMap=ours"],
            "reference.data and reference.existingConfigMap are both set, and only one can be read",
        ),
        (["reference.data=reference.yaml"], 'reference.data is no YAML mapping, such as "traders: {}"'),
        (["reference.data=traders: ["], 'reference.data is no YAML mapping, such as "traders: {}"'),
        (
            ["eod-operator.watchNamespaces={trading,settlement}"],
            "eod-operator.watchNamespaces is trading, settlement, without default, where this release makes its pipeline",
        ),
        (
            ["pipeline.topics.replicationFactor=3"],
            "pipeline.topics.replicationFactor 3 is more than eod-stores.kafka.replicas, which is 1",
        ),
        (
            ["pipeline.stages[0].replicas.min=50"],
            "pipeline.stages[0] has no name and no kind: a list given by --set or in a values file replaces the chart's",
        ),
        (["pipeline.stages[1].name=flash-pnl"], "pipeline.stages[0] has no name and no kind"),
        (["pipeline.stages[0].name=ingestion"], "pipeline.stages[0] has no kind"),
        (["pipeline.spec.stages[0].kind=ingestion"], "pipeline.spec.stages[0] has no name"),
        (
            ["pipeline.spec.http.tls.secretRef.name=tls", "eod-observability.serviceMonitor.enabled=true"],
            "eod-observability.serviceMonitor scrapes plain HTTP without a token, which pipeline.spec.http refuses",
        ),
    ],
)
def test_a_wrong_value_of_the_whole_is_refused_with_a_sentence(
    helm: Helm, charts: Path, values: list[str], sentence: str
) -> None:
    words = [word for value in values for word in ("--set", value)]
    with pytest.raises(CommandFailed) as refused:
        helm("template", "eod", charts / EOD.name, API, "--set", "eod-stores.sqlserver.acceptEula=true", *words)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    "values",
    [
        ["fix.nodePort=30876", "fix.type=LoadBalancer", "fix.sourceRanges={10.0.0.0/8}"],
        ["eod-operator.watchNamespaces={settlement,default}"],
        ["eod-operator.watchNamespaces={trading}", "pipeline.enabled=false"],
        ["eod-operator.watchNamespaces={trading}", "install.operator=false"],
        ["pipeline.topics.replicationFactor=3", "eod-stores.kafka.replicas=3"],
        ["pipeline.topics.replicationFactor=3", "pipeline.topics.create=false"],
        ["pipeline.topics.replicationFactor=3", "pipeline.spec.kafka.bootstrapServers=elsewhere:9092"],
        ["pipeline.stages[0].name=ingestion", "pipeline.stages[0].kind=ingestion"],
    ],
)
def test_values_that_go_together_are_taken(helm: Helm, charts: Path, values: list[str]) -> None:
    words = [word for value in values for word in ("--set", value)]
    helm("template", "eod", charts / EOD.name, API, "--set", "eod-stores.sqlserver.acceptEula=true", *words)


def test_the_values_of_the_test_in_a_cluster_are_taken(helm: Helm, charts: Path) -> None:
    authority = "eod-stores.sqlserver.tls.ca=-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
    helm("template", "eod", charts / EOD.name, API, "--values", ROOT / "tests/e2e/values.yaml", "--set", authority)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("otlp.endpoint=collector", "at '/otlp/endpoint': 'collector' does not match pattern"),
        ("otlp.sampleRatio=2", "at '/otlp/sampleRatio': maximum: got 2, want 1"),
        ("serviceMonitor.interval=often", "at '/serviceMonitor/interval': 'often' does not match pattern"),
    ],
)
def test_a_wrong_value_of_observability_is_refused_with_a_sentence(helm: Helm, value: str, sentence: str) -> None:
    with pytest.raises(CommandFailed) as refused:
        helm("template", "eod", OBSERVABILITY, "--set", value)
    assert sentence in str(refused.value)


def test_without_the_crd_the_whole_says_what_to_install_first(helm: Helm, charts: Path) -> None:
    with pytest.raises(CommandFailed, match=r"has no EodPipeline kind.*helm install eod-crds charts/eod-crds"):
        helm("template", "eod", charts / EOD.name, "--set", "eod-stores.sqlserver.acceptEula=true")
