"""`python -m testbed stages-up`: all stages of a pipeline on the servers that `up` has started, and a market played to them.

They go on running, as the servers do: each with a port for probes and metrics and a log of its own, on topics, a bucket,
a file of rows and reference data that are made for them.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eod_contract.kinds import KINDS
from eod_workers.market.universe import make_universe, write_reference

from testbed.errors import StartFailed
from testbed.ports import free_port, is_free
from testbed.probes import Probes
from testbed.process import Process, tail
from testbed.progress import say
from testbed.state import ProcessRecord, State, write_private

NEEDED = ("kafka", "redis", "s3")
"""The servers that they work on."""
EOD = Path(sys.executable).with_name("eod")
_TOOL = os.path.relpath(EOD)
_FIX_PORT = 9876
_SEED = "1"
_MARKET = ("--seconds", "5", "--rate", "200", "--burst", "2000", "--corrupt", "0.01", "--duplicates", "0.01")
_READY_S = 60.0
_DRAIN_S = 30.0
_POLL_S = 0.1


@dataclass(frozen=True)
class StageRecord:
    """A stage that was started and left running."""

    kind: str
    http_port: int
    log: str
    process: ProcessRecord

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.process().alive

    @property
    def probes(self) -> Probes:
        """Its HTTP port; TLS and a token are in the environment that it was started from, which is ours."""
        return Probes(self.http_port, {})

    def why_not_ready(self) -> str:
        """What its probe says; "" once it works."""
        return self.probes.why_not_ready()


class Stages:
    """The stages in a folder beside the servers'."""

    def __init__(self, state: State) -> None:
        self.folder = state.folder / "stages"
        self.environment_file = self.folder / "env"
        self.tally = self.folder / "sent.jsonl"
        self._servers = state
        self._file = self.folder / "state.json"

    def load(self) -> dict[str, StageRecord]:
        """What was started, by kind."""
        if not self._file.exists():
            return {}
        records: list[dict[str, Any]] = json.loads(self._file.read_text())
        return {one["kind"]: StageRecord(**{**one, "process": ProcessRecord(**one["process"])}) for one in records}

    def up(self) -> list[StageRecord]:
        """Start those that do not run, play a market to them, and return them all.

        Raises:
            StartFailed: a command or a stage has failed; the message has the end of its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        records = {kind: record for kind, record in self.load().items() if record.alive}
        environment = self._environment(records)
        self._eod(environment, "archive", "init", "--no-object-lock")
        self._eod(environment, "topics", "ensure")
        for kind in KINDS:
            if kind in records:
                say(f"{kind} is already running")
                continue
            records[kind] = self._start(kind, environment)
            self._save(records.values())
        for record in records.values():
            self._await_ready(record)
        if self.tally.exists():
            say("a market was played already: 'eod market play' plays another")
            return [records[kind] for kind in KINDS]
        say("playing a market: a calm of seconds, and a close")
        play = ("market", "play", "--port", environment["EOD_FIX_PORT"], "--seed", _SEED, *_MARKET)
        self._eod(environment, *play, "--tally", str(self.tally))
        return [records[kind] for kind in KINDS]

    def down(self) -> None:
        """End them, each with time to drain. Their folder goes with that of the servers."""
        for kind, record in self.load().items():
            record.process.process().stop(_DRAIN_S)
            say(f"{kind} ended")
        self._file.unlink(missing_ok=True)

    def lost(self) -> bool:
        """Whether a server that stages were started on has gone, or is another now: its data have gone with it."""
        told, servers = self._told(), self._servers.load()
        return bool(told) and (
            any(key not in servers or not servers[key].alive for key in NEEDED) or told != told | self._addresses()
        )

    def forget(self) -> None:
        """End them, and delete what they have kept."""
        self.down()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _environment(self, running: Mapping[str, StageRecord]) -> dict[str, str]:
        """The variables of all stages, also as a shell script; those of stages that run already stay as they are."""
        reference = self.folder / "reference.yaml"
        if running and self.environment_file.exists():
            return self._told()
        write_reference(make_universe(int(_SEED)), reference)
        told = self._addresses() | {
            "EOD_REGULATORY_URL": f"sqlite://{self.folder / 'regulatory.db'}",
            "EOD_ARCHIVE_URL": "s3://archive/eod",
            "EOD_REFERENCE_FILE": str(reference),
            "EOD_FIX_ADMIT_ANYBODY": "true",
            "EOD_FIX_PORT": str(_FIX_PORT if is_free(_FIX_PORT) else free_port()),
        }
        script = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in told.items())
        write_private(self.environment_file, script)
        return told

    def _told(self) -> dict[str, str]:
        """What the stages were started with, {} before that."""
        if not self.environment_file.exists():
            return {}
        lines = shlex.split(self.environment_file.read_text())
        return dict(word.partition("=")[::2] for word in lines if "=" in word)

    def _addresses(self) -> dict[str, str]:
        """Where the servers are now, with their passwords."""
        servers = self._servers.load()
        return {name: value for key in NEEDED for name, value in servers[key].environment.items()}

    def _start(self, kind: str, environment: Mapping[str, str]) -> StageRecord:
        log, port = self.folder / f"{kind}.log", free_port()
        env = {**environment, "EOD_HTTP_PORT": str(port)}
        process = Process.spawn(kind, [EOD, "stage", "run", kind], log=log, env=env, tethered=False)
        return StageRecord(kind, port, str(log), ProcessRecord(process.name, process.pid, process.birth))

    @staticmethod
    def _await_ready(record: StageRecord) -> None:
        deadline = time.monotonic() + _READY_S
        while why := record.why_not_ready():
            if not record.alive or time.monotonic() > deadline:
                raise StartFailed(f"{record.kind} does not work: {why}\n{tail(Path(record.log))}")
            time.sleep(_POLL_S)

    @staticmethod
    def _eod(environment: Mapping[str, str], *words: str) -> None:
        env = {**os.environ, **environment}
        done = subprocess.run([EOD, *words], env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StartFailed(f"eod {' '.join(words)} has failed: {done.stderr.strip() or done.stdout.strip()}")

    def _save(self, records: Iterable[StageRecord]) -> None:
        write_private(self._file, json.dumps([asdict(record) for record in records], indent=1))


def where_to_look(stages: Stages, records: Iterable[StageRecord]) -> str:
    """What people are told."""
    lines = [
        f"{one.kind:14} {'up' if one.alive else 'DEAD':5} {one.probes.address}/metrics  {one.log}" for one in records
    ]
    return "\n".join(
        (
            *lines,
            "",
            f"In this shell:  . {stages.environment_file}",
            "Then:",
            f"  {_TOOL} reconcile --wait 60 --sent {stages.tally}   # every store against the log and what was sent",
            f"  {_TOOL} dlq list                                    # what was garbled on purpose",
            f"  {_TOOL} market play --port $EOD_FIX_PORT            # another market, as often as you like",
            "To end the stages and the servers:  make testbed-down",
        )
    )
