"""The sender of `make bench`, as the process that it is: what it writes to a socket, and when."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.bench.loading import loaded


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """The package's modules."""
    with loaded("close", "flow", "sender", "sending") as modules:
        yield modules


class Acceptor(socketserver.ThreadingTCPServer):
    """Answers whatever comes first, then only listens, and hangs up when a session says goodbye."""

    allow_reuse_address = True

    def __init__(self, answer: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Reading)
        self.answer = answer
        self.heard: list[bytes] = []


class Reading(socketserver.BaseRequestHandler):
    """One session."""

    def handle(self) -> None:
        """Keeps every byte."""
        assert isinstance(self.server, Acceptor)
        heard = self.request.recv(65_536)
        self.request.sendall(self.server.answer)
        while b"\x0135=5\x01" not in heard[-200:] and (data := self.request.recv(65_536)):
            heard += data
        self.server.heard.append(heard)


@pytest.fixture
def acceptor() -> Iterator[Acceptor]:
    """One that accepts logons."""
    with Acceptor(b"8=FIX.4.4\x019=5\x0135=A\x0110=000\x01") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("per_s", [0, 2_000])
def test_each_session_sends_its_frames_once_between_logon_and_logout(
    bench: Any, acceptor: Acceptor, tmp_path: Path, per_s: float
) -> None:
    flow = bench.flow.make_flow("T", 1_000, bench.flow.Shape(sessions=3))
    total = bench.sender.write_frames(flow, tmp_path)
    with bench.sending.sender(tmp_path, acceptor.server_address[1], per_s) as sender:
        sent = sender.send()
    expected = {name: [bench.flow.logon(name)] for name in flow.senders}
    for execution, _, raw in flow.executions():
        expected[execution.session.partition("->")[0]].append(raw)
    for name, frames in expected.items():
        frames.append(bench.flow.logout(name, len(frames) + 1))
    assert sorted(acceptor.heard) == sorted(b"".join(frames) for frames in expected.values())
    assert total == sum(len(raw) for _, _, raw in flow.executions())
    assert sent.took_s >= (0.45 if per_s else 0)  # 1,000 at 2,000 a second; what was due is never sent early


def test_a_refused_logon_ends_the_run_with_what_was_said(bench: Any, tmp_path: Path, capfd: Any) -> None:
    bench.sender.write_frames(bench.flow.make_flow("T", 10, bench.flow.Shape(sessions=1)), tmp_path)
    with Acceptor(b"8=FIX.4.4\x0135=5\x0158=who are you\x01") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with (
            pytest.raises(RuntimeError, match="ended with code 1"),
            bench.sending.sender(tmp_path, server.server_address[1]),
        ):
            pass
        server.shutdown()
    assert "who are you" in capfd.readouterr().err
