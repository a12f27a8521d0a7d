"""A second Kafka broker in the cluster of a first: with it away, some partitions have no leader, and others do."""

import json
import re
import shutil
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from testbed.kafka import Kafka, classpath, configure
from testbed.process import run

NODE_ID = 2


class KafkaPeer(Kafka):
    """A broker that controls nothing. The first runs for as long as this one does.

    What the first has made before this one started stays with the first alone: groups' offsets, too.

    Args:
        home: see `Server`.
        first: whose cluster it joins.
    """

    title: ClassVar[str] = "Kafka, a second broker"
    default_ports: ClassVar[Mapping[str, int]] = {"broker": 19096}

    def __init__(self, home: Path, first: Kafka) -> None:
        super().__init__(home)
        self._first = first

    def _prepare(self, programs: Path) -> None:
        file = configure(self.home, self.data, self.ports["broker"], self._first.ports["controller"])
        listener = f"PLAINTEXT://127.0.0.1:{self.ports['broker']}"
        own = {"process.roles": "broker", "node.id": str(NODE_ID), "listeners": listener}
        file.write_text(_changed(file.read_text(), own))
        meta = self.data / "meta.properties"
        if not meta.exists():
            shutil.copytree(programs / "formatted", self.data, dirs_exist_ok=True)
            theirs = (self._first.data / "meta.properties").read_text()
            (cluster_id,) = re.findall(r"(?m)^cluster\.id=(.*)$", theirs)
            directory = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            of_peer = {"node.id": str(NODE_ID), "cluster.id": cluster_id, "directory.id": directory}
            meta.write_text(_changed(meta.read_text(), of_peer))

    def give(self, topic: str, partition: int, node: int) -> None:
        """Have one broker alone keep a partition, from now on.

        Args:
            topic: of it.
            partition: its number.
            node: 1 is the first broker, `NODE_ID` this one.
        """
        plan = self.home / "reassignment.json"
        moved = {"topic": topic, "partition": partition, "replicas": [node]}
        plan.write_text(json.dumps({"version": 1, "partitions": [moved]}))
        run(
            [
                *("java", *self.jvm, "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"),
                *("--bootstrap-server", self._first.bootstrap, "--reassignment-json-file", plan, "--execute"),
            ],
            env={"CLASSPATH": classpath(self.jars())},
        )


def _changed(properties: str, values: Mapping[str, str]) -> str:
    """Properties with some values in place of those that stand there."""
    for name, value in values.items():
        properties, times = re.subn(rf"(?m)^{re.escape(name)}=.*$", f"{name}={value}", properties)
        if times != 1:
            raise ValueError(f"{name} stands {times} times in the properties, not once")
    return properties
