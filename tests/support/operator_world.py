"""What the operator's integration tests do to a cluster and a Kafka, and how they wait for its answer."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from testbed.kafka import Kafka
from testbed.kubernetes import Kubernetes
from testbed.nursery import nursery
from testbed.process import Process

from support.patience import eventually

Manifest = dict[str, Any]


@dataclass
class OperatorWorld:
    """One namespace of one cluster, with topics of its own in one Kafka."""

    kubernetes: Kubernetes
    kafka: Kafka
    namespace: str
    kubeconfig: Path
    log: Path
    operators: list[Process] = field(default_factory=list)

    def kubectl(self, *args: str, input: str | None = None) -> str:  # noqa: A002 - as subprocess.run calls it
        """Run kubectl in the namespace."""
        return self.kubernetes.kubectl("--namespace", self.namespace, *args, input=input)

    def topic(self, name: str, partitions: int = 12) -> str:
        """Make a topic of this name in the test's own name space."""
        return self.kafka.create_topic(f"{self.namespace}.{name}", partitions)

    def pipeline(self, *stages: Manifest, name: str = "close", **spec: Any) -> Manifest:
        """A pipeline on this Kafka with a close far away, a short stabilization, and whatever else is said."""
        return {
            "apiVersion": "eod.markets/v1alpha1",
            "kind": "EodPipeline",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "kafka": {"bootstrapServers": self.kafka.bootstrap},
                "image": "eod:test",
                "calendar": {"sessions": [{"open": "2099-01-01T00:00:00Z", "close": "2099-01-02T00:00:00Z"}]},
                "scaling": {"scaleDownStabilizationSeconds": 2},
                "stages": list(stages),
                **spec,
            },
        }

    def stage(self, topic: str, name: str = "pnl", **more: Any) -> Manifest:
        """A consuming stage with a group of its own and 10 records a replica."""
        return {
            "name": name,
            "kind": "flash-pnl",
            "topics": [topic],
            "group": f"{self.namespace}-{name}",
            "replicas": {"min": 1, "max": 12},
            "target": {"lagPerReplica": 10},
            **more,
        }

    def apply(self, manifest: Manifest) -> None:
        """Apply by kubectl, as a user would."""
        self.kubectl("apply", "-f", "-", input=json.dumps(manifest))

    def get(self, kind: str, name: str) -> Manifest:
        """One object."""
        return self.kubernetes.resources.get(kind, self.namespace, name)

    def names(self, kind: str) -> set[str]:
        """Names of all objects of a kind."""
        return {one["metadata"]["name"] for one in self.kubernetes.resources.items(kind, self.namespace)}

    def replicas(self, name: str = "close-pnl") -> int:
        """Replicas that a Deployment asks for."""
        return int(self.get("deployment", name)["spec"]["replicas"])

    def status(self, name: str = "close") -> Manifest:
        """Status of a pipeline, as written."""
        status: Manifest = self.get("eodp", name).get("status", {})
        return status

    def condition(self, kind: str, name: str = "close") -> Manifest:
        """One condition of a pipeline; empty when it is not there."""
        found = {one["type"]: one for one in self.status(name).get("conditions", [])}
        return dict(found.get(kind, {}))

    def events(self, reason: str) -> list[str]:
        """Messages of the operator's Events of a reason."""
        listed = self.kubernetes.resources.items("events", self.namespace)
        return [
            one["message"] for one in listed if one["reason"] == reason and one["source"]["component"] == "eod-operator"
        ]

    def start_operator(
        self, *more: str, kubeconfig: Path | None = None, everywhere: bool = False, forked: bool = True
    ) -> Process:
        """Run `eod operator run` on this namespace (or on all), deciding every half second.

        `forked`: from a process that has loaded its modules; otherwise as people start it.
        """
        where = ["-A", "--lease-namespace", self.namespace] if everywhere else ["-n", self.namespace]
        words = ["run", *where, "--interval-seconds", "0.5", *more]
        env = {"KUBECONFIG": str(kubeconfig or self.kubeconfig)}
        operator: Process
        if forked:
            operator = nursery().start("eod_operator", words, log=self.log, env=env)
        else:
            command = [sys.executable, "-m", "eod_operator", *words]
            operator = Process.spawn("operator", command, log=self.log, env=env, tethered=True)
        self.operators.append(operator)
        return operator

    def stop_operator(self, operator: Process, how: signal.Signals = signal.SIGTERM) -> int:
        """Signal an operator and return its exit code."""
        operator.send_signal(how)
        self.operators.remove(operator)
        eventually(lambda: not operator.alive, 20)
        assert operator.exit_code is not None
        return operator.exit_code

    def produce(self, topic: str, records: int) -> None:
        """Append records, spread evenly over the partitions."""
        asyncio.run(_produce(self.kafka.bootstrap, topic, records))

    def commit(self, topic: str, group: str, *, at: str) -> None:
        """Commit the `first` or the `end` offset of every partition."""
        asyncio.run(_commit(self.kafka.bootstrap, topic, group, at))


async def _produce(bootstrap: str, topic: str, records: int) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        partitions = sorted(await producer.partitions_for(topic))
        for number in range(records):
            await producer.send(topic, b"record", partition=partitions[number % len(partitions)])
        await producer.flush()


async def _commit(bootstrap: str, topic: str, group: str, at: str) -> None:
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False
    ) as consumer:
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        offsets = consumer.beginning_offsets if at == "first" else consumer.end_offsets
        while not consumer.assignment():
            await consumer.getmany(timeout_ms=50)
        await consumer.commit(dict(await offsets(partitions)))
