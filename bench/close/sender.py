"""The counterparties, as a process of their own: rendered frames, as fast as TCP takes them, or evenly.

`python -m close.sender FOLDER PORT PER_S`: logs all sessions on, says `ready`, waits for a line, sends everything, says
when (JSON), waits for another line, logs out. PER_S 0 sends without a pause. Sending costs little, so that on two cores
what is measured is the receiver.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from pathlib import Path
from typing import Final

import numpy as np

from close.flow import FIRST_SEQ, Flow, logon, logout
from close.matching import spread

_CHUNK_BYTES: Final = 256 * 1024
_READ_BYTES: Final = 64 * 1024
_PATIENCE_S: Final = 60.0
_NAP_S: Final = 0.0004
"""A paced sender's pause: late by less than that, which counts as latency."""


def write_frames(flow: Flow, folder: Path) -> int:
    """Puts into the folder all that the process needs; returns the bytes of all frames."""
    folder.mkdir(parents=True, exist_ok=True)
    wires = [bytearray() for _ in flow.senders]
    lengths = []
    for (_, _, raw), session in zip(flow.executions(), flow.session.tolist(), strict=True):
        wires[session] += raw
        lengths.append(len(raw))
    for sender, wire in zip(flow.senders, wires, strict=True):
        (folder / f"{sender}.frames").write_bytes(wire)
    np.save(folder / "spread.npy", spread(flow, lengths))
    counts = np.bincount(flow.session, minlength=flow.shape.sessions).tolist()
    (folder / "sessions.json").write_text(json.dumps(dict(zip(flow.senders, counts, strict=True))), encoding="utf-8")
    return sum(lengths)


class Line:
    """One session's connection and the bytes that it still has to send."""

    def __init__(self, port: int, sender: str, wire: bytes) -> None:
        self.wire = memoryview(wire)
        self.sent = 0
        self.heard = 0
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(_PATIENCE_S)
        self.socket.sendall(logon(sender))
        answer = self.socket.recv(_READ_BYTES)
        if b"\x0135=A\x01" not in answer:
            raise SystemExit(f"{sender}: the Logon was answered by {answer[:200]!r}")
        self.socket.setblocking(False)

    def push(self, until: int) -> None:
        """Sends what the kernel takes at once of the bytes up to `until`."""
        while self.sent < until:
            try:
                self.sent += self.socket.send(self.wire[self.sent : min(until, self.sent + _CHUNK_BYTES)])
            except BlockingIOError:
                return

    def hear(self) -> None:
        """Throws away what the other side says; its hanging up ends the run."""
        try:
            said = self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        self.heard += len(said)
        if not said:
            raise SystemExit("the acceptor has hung up in the midst of the run: see its log")


def blast(lines: list[Line]) -> None:
    """Sends everything as fast as the other side reads."""
    with selectors.DefaultSelector() as selector:
        for line in lines:
            selector.register(line.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, line)
        left = len(lines)
        while left:
            for key, events in selector.select(_PATIENCE_S):
                line: Line = key.data
                if events & selectors.EVENT_READ:
                    line.hear()
                if events & selectors.EVENT_WRITE:
                    line.push(len(line.wire))
                    if line.sent == len(line.wire):
                        selector.unregister(line.socket)
                        left -= 1


def pace(lines: list[Line], due_bytes: np.ndarray, per_s: float) -> None:
    """Sends execution i at i / per_s, or as soon as the other side reads."""
    total = len(due_bytes) - 1
    began = time.monotonic()
    due = 0
    while due < total or any(line.sent < len(line.wire) for line in lines):
        due = min(total, int((time.monotonic() - began) * per_s) + 1)
        for line, until in zip(lines, due_bytes[due].tolist(), strict=True):
            line.push(until)
            line.hear()
        time.sleep(_NAP_S)


def main() -> None:
    """Runs the protocol of the module's docstring on standard input and output."""
    folder, port, per_s = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    counts: dict[str, int] = json.loads((folder / "sessions.json").read_text(encoding="utf-8"))
    due_bytes = np.load(folder / "spread.npy")
    lines = [Line(port, sender, (folder / f"{sender}.frames").read_bytes()) for sender in counts]
    print("ready", flush=True)
    sys.stdin.readline()
    began = {"mono_ns": time.monotonic_ns(), "wall_ns": time.time_ns()}
    if per_s:
        pace(lines, due_bytes, per_s)
    else:
        blast(lines)
    print(json.dumps({**began, "took_s": (time.monotonic_ns() - began["mono_ns"]) / 1e9}), flush=True)
    sys.stdin.readline()
    for line, (sender, count) in zip(lines, counts.items(), strict=True):
        line.socket.setblocking(True)
        line.socket.sendall(logout(sender, FIRST_SEQ + count))
        line.socket.settimeout(5)
        while line.socket.recv(_READ_BYTES):
            pass
        line.socket.close()


if __name__ == "__main__":
    main()
