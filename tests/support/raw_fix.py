"""A FIX 4.4 counterparty made of a socket and string formatting, for sending what no engine would send."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from typing import Self

from eod_workers.fix.fields import format_timestamp

from support.patience import limit_s

SOH = b"\x01"
PATIENCE_S = limit_s(15.0)
Fields = dict[bytes, bytes]
TRADE = {
    b"37": b"O1",
    b"17": b"E1",
    b"150": b"F",
    b"39": b"2",
    b"55": b"S00",
    b"54": b"1",
    b"32": b"100",
    b"31": b"10.25",
    b"151": b"0",
    b"14": b"100",
    b"6": b"10.25",
    b"60": b"20241129-18:00:00.125",
    b"453": b"1",
    b"448": b"A-T00",
    b"447": b"D",
    b"452": b"12",
    b"6061": b"VWAP",
}
"""The fields of a good report; a test changes some."""


def checksum(data: bytes) -> bytes:
    """CheckSum(10)."""
    return b"%03d" % (sum(data) % 256)


def framed(body: bytes, *, length: int | None = None) -> bytes:
    """A frame around a body, with a BodyLength that may be wrong; the CheckSum is right for what it says."""
    head = b"8=FIX.4.4\x019=%d\x01%b" % (len(body) if length is None else length, body)
    return head + b"10=%b\x01" % checksum(head)


class RawFix:
    """One session. Nothing is answered by itself."""

    def __init__(self, port: int, sender: str, target: str = "EOD") -> None:
        self.session = f"{sender}->{target}"
        self.number = 0
        self.received: list[Fields] = []
        self._ids = (sender.encode(), target.encode())
        self._port = port
        self._socket: socket.socket | None = None
        self._rest = b""

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self) -> Self:
        """Open a connection; sequence numbers go on."""
        self.close()
        self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE_S)
        self._rest = b""
        return self

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def message(self, kind: bytes, fields: Mapping[bytes, bytes], number: int, *, again: bool = False) -> bytes:
        """The body of a message: its header and its fields."""
        duplicate = b"43=Y\x01122=20241129-18:00:01\x01" if again else b""
        head = b"35=%b\x0149=%b\x0156=%b\x0134=%d\x0152=%b\x01" % (
            kind, *self._ids, number, format_timestamp(time.time_ns())
        )  # fmt: skip
        return head + duplicate + b"".join(b"%b=%b\x01" % field for field in fields.items())

    def write(self, raw: bytes) -> bytes:
        """Write bytes as they are, and return them."""
        assert self._socket is not None
        self._socket.sendall(raw)
        return raw

    def send(self, kind: bytes, fields: Mapping[bytes, bytes]) -> bytes:
        """Send a message under the next number, and return its bytes."""
        self.number += 1
        return self.write(framed(self.message(kind, fields, self.number)))

    def logon(self) -> Self:
        """Log on and wait for the answer."""
        self.send(b"A", {b"98": b"0", b"108": b"30"})
        self.await_message(b"A")
        return self

    def trade(self, exec_id: str, **changes: str | None) -> bytes:
        """Send a good report with some fields changed (`t31="9"`) or left out (`t31=None`)."""
        return self.send(b"8", report(exec_id, **changes))

    def synchronize(self) -> None:
        """Return once everything sent so far was taken in its turn."""
        self.send(b"1", {b"112": b"sync-%d" % self.number})
        wanted = b"sync-%d" % (self.number - 1)
        self.await_message(b"0", lambda fields: fields.get(b"112") == wanted)

    def await_message(self, kind: bytes, condition: Callable[[Fields], bool] = lambda _fields: True) -> Fields:
        """The next message of a kind for which the condition holds; others are kept in `received`.

        Raises:
            AssertionError: none came in time.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            fields = self._next(deadline)
            assert fields is not None, f"the acceptor hung up; it had said {self.received}"
            if fields[b"35"] == kind and condition(fields):
                return fields

    def await_end(self) -> list[Fields]:
        """Everything said until the acceptor hangs up."""
        deadline = time.monotonic() + PATIENCE_S
        said = []
        while (fields := self._next(deadline)) is not None:
            said.append(fields)
        return said

    def _next(self, deadline: float) -> Fields | None:
        assert self._socket is not None
        while b"\x0110=" not in self._rest or not self._rest.endswith(SOH):
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                data = self._socket.recv(65_536)
            except TimeoutError:
                raise AssertionError(f"silence; the acceptor had said {self.received}") from None
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._rest += data
        end = self._rest.index(SOH, self._rest.index(b"\x0110=") + 1) + 1
        raw, self._rest = self._rest[:end], self._rest[end:]
        fields = dict(pair.split(b"=", 1) for pair in raw[:-1].split(SOH))
        self.received.append(fields)
        return fields


def report(exec_id: str, **changes: str | None) -> dict[bytes, bytes]:
    """`TRADE` with another ExecID and further changes."""
    fields = {**TRADE, b"17": exec_id.encode()}
    for name, value in changes.items():
        tag = name.removeprefix("t").encode()
        if value is None:
            del fields[tag]
        else:
            fields[tag] = value.encode()
    return fields
