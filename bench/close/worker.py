"""What is measured, ours and the peers', as processes that are started, warmed, frozen and ended alike."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from operator_bars.processes import usage
from support.patience import eventually_nothing
from support.pipeline import EOD, Stage
from testbed.ports import free_port
from testbed.process import Process, tail

from close.built import built
from close.flow import TARGET
from close.servers import Servers

_START_S: Final = 180.0
_POLL_S: Final = 0.05
_SENDING_TIME_WITHIN: Final = "EOD_FIX_SENDING_TIME_WITHIN_S"


class Worker(Protocol):
    """A process that works until it is ended."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...


class Peer:
    """One Java program; it says READY once it works."""

    def __init__(self, main: str, command: list[str], log: Path) -> None:
        self._log = log
        log.unlink(missing_ok=True)
        self._process = Process.spawn(main, command, log=log, env={}, tethered=True)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def await_ready(self) -> None:
        """Return once it has said so.

        Raises:
            RuntimeError: it has ended, or has not said so in three minutes.
        """
        deadline = time.monotonic() + _START_S
        while "READY" not in self._log.read_text(encoding="utf-8", errors="replace"):
            if not self._process.alive or time.monotonic() > deadline:
                raise RuntimeError(f"the peer {self._process.name} does not work\n{tail(self._log)}")
            time.sleep(_POLL_S)

    def kill(self) -> None:
        """Kill -9."""
        self._process.kill()


def _knows(program: Path, setting: str) -> bool:
    """Whether a release has a setting of ingestion: one that has not refuses to start with it."""
    words = [program, "settings", "ingestion", "--json"]
    return setting in subprocess.run(words, check=True, capture_output=True, text=True).stdout  # noqa: S603


@contextmanager
def our_ingestion(made: Servers, topic: str, program: Path = EOD) -> Iterator[tuple[Stage, int]]:
    """`eod stage run ingestion` and its FIX port, ready."""
    port = free_port()
    env = {
        "EOD_TRADES_TOPIC": topic,
        "EOD_SESSIONS_TOPIC": made.topic("sessions"),
        "EOD_LETTERS_TOPIC": made.topic("letters"),
        "EOD_FIX_HOST": "127.0.0.1",
        "EOD_FIX_PORT": str(port),
        "EOD_FIX_COMP_ID": TARGET,
        "EOD_FIX_ADMIT_ANYBODY": "true",
    }
    if _knows(program, _SENDING_TIME_WITHIN):  # SendingTime(52) is the same in all runs
        env[_SENDING_TIME_WITHIN] = "0"
    with _stage(made, "ingestion", env, program) as stage:
        eventually_nothing(stage.why_not_ready, _START_S)
        yield stage, port


@contextmanager
def our_positions(
    made: Servers, topic: str, interval_ms: float, program: Path = EOD, *, wait: bool = True
) -> Iterator[Stage]:
    """`eod stage run flash-pnl`, ready, on a Redis that holds nothing."""
    with made.client() as client:
        client.flushall()
    env = {
        "EOD_TRADES_TOPIC": topic,
        "EOD_PRICES_TOPIC": made.topic("prices"),
        "EOD_LETTERS_TOPIC": made.topic("letters"),
        "EOD_GROUP": made.unique("flash-pnl"),
        "EOD_PUBLISH_INTERVAL_MS": str(interval_ms),
        "EOD_SESSION_TIMEOUT_S": "300",  # it is frozen while its topic is filled
    }
    with _stage(made, "flash-pnl", env, program) as stage:
        if wait:
            eventually_nothing(stage.why_not_ready, _START_S)
        yield stage


@contextmanager
def _stage(made: Servers, kind: str, env: Mapping[str, str], program: Path) -> Iterator[Stage]:
    addresses = {
        "EOD_KAFKA_BOOTSTRAP": made.kafka.bootstrap,
        "EOD_REDIS_URL": made.redis.url,
        "EOD_HTTP_HOST": "127.0.0.1",
        "EOD_LOG_LEVEL": "warning",
    }
    log = made.kafka.home.parent / f"{made.unique(kind)}.log"
    stage = Stage(kind, log, {**addresses, **env}, forked=False, program=program)
    stage.start()
    try:
        yield stage
    finally:
        stage.kill()


@contextmanager
def peer_ingestion(
    made: Servers, topic: str, senders: tuple[str, ...], linger_ms: int = 5
) -> Iterator[tuple[Peer, int]]:
    """QuickFIX/J with a Kafka producer and its FIX port, ready."""
    port = free_port()
    arguments = (made.kafka.bootstrap, topic, port, TARGET, ",".join(senders), linger_ms)
    with _peer(made, "Acceptor", arguments) as peer:
        peer.await_ready()
        yield peer, port


@contextmanager
def peer_positions(
    made: Servers, topic: str, positions: str, interval_ms: int, threads: int, *, wait: bool = True
) -> Iterator[Peer]:
    """Kafka Streams, ready."""
    state = made.kafka.home.parent / made.unique("streams")
    arguments = (made.kafka.bootstrap, made.unique("positions"), topic, positions, threads, interval_ms, state)
    with _peer(made, "Positions", arguments) as peer:
        if wait:
            peer.await_ready()
        yield peer


@contextmanager
def _peer(made: Servers, main: str, arguments: tuple[object, ...]) -> Iterator[Peer]:
    command = built().command(main, arguments)
    peer = Peer(main, command, made.kafka.home.parent / f"{made.unique(main.lower())}.log")
    try:
        yield peer
    finally:
        peer.kill()


@contextmanager
def frozen(worker: Worker) -> Iterator[None]:
    """Stops a process (SIGSTOP), and lets it go on afterwards."""
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker.pid, signal.SIGCONT)


class Meter:
    """CPU seconds that processes have used since this was made, all their threads included."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._before = {name: usage(pid).cpu_s for name, pid in pids.items()}

    def spent(self) -> dict[str, float]:
        """By name."""
        return {name: usage(pid).cpu_s - self._before[name] for name, pid in self._pids.items()}
