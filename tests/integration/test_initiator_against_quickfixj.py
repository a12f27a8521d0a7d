"""Our initiator against an acceptor of QuickFIX/J: what a bad line has garbled is asked for, sent again, and comes once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from random import Random

import pytest
from eod_workers.adapters.tcp import TcpNetwork
from eod_workers.fix.fields import Fields, format_timestamp
from eod_workers.fix.frames import FrameBuffer
from eod_workers.fix.initiator import Initiator, LogonRefused
from support.fix_messages import parsed
from support.patience import limited
from support.quickfixj_echo import quickfixj_echo
from testbed.quickfixj import QuickFixJ

pytestmark = pytest.mark.quickfixj
VERSIONS = ("FIX.4.2", "FIX.4.4")


@pytest.fixture(scope="module")
def acceptor(quickfixj: QuickFixJ) -> Iterator[int]:
    """Its port."""
    with quickfixj_echo(quickfixj, [f"{version}:ISLD->TW" for version in VERSIONS]) as port:
        yield port


class Listening(Initiator):
    """Keeps what it is told."""

    def __init__(self, version: str) -> None:
        super().__init__(
            "TW", "ISLD", network=TcpNetwork(), now_ns=time.time_ns, begin_string=version.encode(), heartbeat_s=5
        )
        self.heard: list[Fields] = []
        self._frames = FrameBuffer()

    def data_received(self, data: bytes) -> None:
        for raw in self._frames.feed(data):
            assert isinstance(raw, bytes)
            self.heard.append(parsed(raw).fields)
        super().data_received(data)

    def order(self, number: int, *, corrupt: bool = False) -> None:
        """Sends an order that the acceptor returns."""
        at = format_timestamp(time.time_ns())
        body = b"11=C%d\x0121=1\x0155=IBM\x0154=1\x0160=%b\x0138=100\x0140=1\x01" % (number, at)
        self.send(b"D", body, corrupt=corrupt)

    @property
    def returned(self) -> list[bytes]:
        """ClOrdID(11) of the orders that came back, in order."""
        return [fields[b"11"] for fields in self.heard if fields[b"35"] == b"D"]


async def connected(port: int, version: str) -> Listening:
    """A line that is logged on. QuickFIX/J refuses a session until it has noticed that its last connection is gone."""
    async with limited(30):
        while True:
            line = Listening(version)
            try:
                await line.connect("127.0.0.1", port, reset=True)
            except LogonRefused:
                await line.close()
                await asyncio.sleep(0.05)
            else:
                return line


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_order_arrives_once_and_in_order_over_a_line_that_garbles(acceptor: int, version: str) -> None:
    random, line = Random(7), await connected(acceptor, version)
    for number in range(300):
        line.order(number, corrupt=random.random() < 0.05)
    await line.synchronize(timeout_s=30)
    assert line.returned == [b"C%d" % number for number in range(300)]
    asked = [fields for fields in line.heard if fields[b"35"] == b"2"]
    assert asked, "it has asked for what was garbled"
    assert line.rejected == []
    await line.logout()
    assert line.heard[-1][b"35"] == b"5"


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_begins_anew_on_the_next_connection(acceptor: int, version: str) -> None:
    for round_ in range(2):
        line = await connected(acceptor, version)
        line.order(round_)
        await line.synchronize(timeout_s=30)
        assert line.returned == [b"C%d" % round_]
        assert line.heard[0][b"34"] == b"1"
        await line.logout()
