"""What `up` leaves in a folder for later commands: the servers' processes, and the variables that lead to them."""

import json
import shlex
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from testbed.process import Process
from testbed.server import Server

_PRIVATE = 0o600  # the variables hold passwords


@dataclass(frozen=True)
class ProcessRecord:
    """One process; its birth tells it from a later one with the same id."""

    name: str
    pid: int
    birth: int

    def process(self) -> Process:
        """Return the process, which need not run any more."""
        return Process(self.name, self.pid, self.birth)


@dataclass(frozen=True)
class ServerRecord:
    """One server that was started and left running."""

    key: str
    title: str
    version: str
    startup_s: float
    ports: dict[str, int]
    environment: dict[str, str]
    processes: list[ProcessRecord]

    @classmethod
    def of(cls, server: Server) -> "ServerRecord":
        """Record a running server."""
        return cls(
            key=server.key,
            title=server.title,
            version=server.version,
            startup_s=round(server.startup_s, 2),
            ports=server.ports,
            environment=dict(server.environment),
            processes=[ProcessRecord(process.name, process.pid, process.birth) for process in server.processes],
        )

    @property
    def alive(self) -> bool:
        """Whether all of its processes run."""
        return all(record.process().alive for record in self.processes)

    def stop(self, patience_s: float) -> None:
        """End its processes, the last first."""
        for record in reversed(self.processes):
            record.process().stop(patience_s)


class State:
    """The records in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment_file = folder / "env"
        self._file = folder / "state.json"

    def load(self) -> dict[str, ServerRecord]:
        """Return the recorded servers by key; none if nothing was started."""
        if not self._file.exists():
            return {}
        records = [
            ServerRecord(**{**raw, "processes": [ProcessRecord(**process) for process in raw["processes"]]})
            for raw in json.loads(self._file.read_text())
        ]
        return {record.key: record for record in records}

    def save(self, records: Iterable[ServerRecord]) -> None:
        """Write the records, and the variables of all servers as a shell script."""
        records = list(records)
        variables = [
            f"export {name}={shlex.quote(value)}" for record in records for name, value in record.environment.items()
        ]
        write_private(self._file, json.dumps([asdict(record) for record in records], indent=1))
        write_private(self.environment_file, "".join(f"{line}\n" for line in variables))


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=_PRIVATE)
    file.chmod(_PRIVATE)
    file.write_text(text)
