"""What a chart renders, and what its containers would run, run here: files under a folder, ports that are free."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from testbed.helm import Helm
from testbed.ports import free_port
from testbed.process import Process

_FOLDERS = re.compile(r"(?<![\w./])/(etc/eod|run/eod|var/lib/kafka|opt/kafka|data|tmp)\b")
_EOD = Path(sys.executable).with_name("eod")
_WITHIN_S = 90


@dataclass
class Rendered:
    """The objects of a chart, and a folder that stands for the root of its containers.

    Attributes:
        objects: as they were rendered.
        root: the folder.
        ports: port of a container → the one that stands for it here.
        ordinal: which pod of a StatefulSet this is: each has a loopback address of its own, the first 127.0.0.1.
    """

    objects: list[dict[str, Any]]
    root: Path
    ports: dict[int, int] = field(default_factory=dict)
    ordinal: int = 0

    @classmethod
    def of(cls, helm: Helm, chart: Path, root: Path, *words: str) -> Rendered:
        """Render a chart as release `desk`."""
        text = helm("template", "desk", chart, "--namespace=trading", *words)
        made = cls([one for one in yaml.safe_load_all(text) if one], root)
        made.ports = {port: free_port() for port in (9091, 9092, 9093, 6379, 7070, 1433)}
        return made

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """One object."""
        (found,) = (one for one in self.objects if (one["kind"], one["metadata"]["name"]) == (kind, name))
        return found

    def held(self, name: str) -> dict[str, str]:
        """What is in a Secret."""
        return {key: base64.b64decode(value).decode() for key, value in self.get("Secret", name)["data"].items()}

    def container(self, kind: str, name: str) -> dict[str, Any]:
        """The container of a StatefulSet, Job or Pod."""
        spec = self.get(kind, name)["spec"]
        found: dict[str, Any] = (spec["template"]["spec"] if "template" in spec else spec)["containers"][0]
        return found

    def here(self, text: str) -> str:
        """A text of a container, as it is to be here."""
        own = f"127.0.0.{self.ordinal + 1}"
        text = re.sub(r"\$\{env:POD_NAME\}\.[\w.-]+", own, text)
        text = re.sub(r"desk-eod-stores-kafka-(\d)\.[\w.-]+\.local", lambda pod: f"127.0.0.{int(pod[1]) + 1}", text)
        text = re.sub(r"desk-eod-stores-[\w.-]+\.cluster\.local", "127.0.0.1", text)
        text = re.sub(r"(?<=[A-Z])://:", f"://{own}:", text)  # Kafka's listeners, on all addresses
        for port, stand_in in self.ports.items():
            text = re.sub(rf"(?<=[: ]){port}\b", str(stand_in), text)
        return _FOLDERS.sub(lambda found: f"{self.root}{found[0]}", text)

    def write(self, folder: str, files: Mapping[str, str]) -> None:
        """Mount files."""
        target = Path(f"{self.root}{folder}")
        target.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            target.joinpath(name).write_text(text)

    def env(self, container: Mapping[str, Any]) -> dict[str, str]:
        """The environment of a container."""
        made: dict[str, str] = {}
        for source in container.get("envFrom", []):
            if "configMapRef" in source:
                made |= self.get("ConfigMap", source["configMapRef"]["name"])["data"]
            else:
                made |= self.held(source["secretRef"]["name"])
        for one in container.get("env", []):
            if "value" in one:
                made[one["name"]] = one["value"]
            elif "secretKeyRef" in one["valueFrom"]:
                source = one["valueFrom"]["secretKeyRef"]
                made[one["name"]] = self.held(source["name"])[source["key"]]
            else:
                assert one["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
                made[one["name"]] = f"desk-eod-stores-kafka-{self.ordinal}"
        made = {name: self.here(value) for name, value in made.items()}
        if "EOD_SQLSERVER_PORT" in made:
            made["EOD_SQLSERVER_PORT"] = str(self.ports[1433])
        return made

    def spawn(self, container: Mapping[str, Any], argv: Sequence[str | Path]) -> Process:
        """Start what a container would, with its environment; it ends with this test at the latest."""
        return Process.spawn("server", argv, log=self.root / "log", env=self.env(container), tethered=True)

    def eod(self, container: Mapping[str, Any], **changes: str) -> tuple[int, str]:
        """Run a container of eod to its end; its exit code and what it printed."""
        words = [self.here(word) for word in container["args"]]
        env = {**os.environ, **self.env(container), **changes}
        ended = subprocess.run([_EOD, *words], env=env, capture_output=True, text=True, check=False, timeout=_WITHIN_S)
        return ended.returncode, ended.stdout + ended.stderr
