"""QuickFIX (C++) as counterparty in both roles: its fills are booked, and our orders come to it, each once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from eod_workers.adapters.tcp import TcpNetwork
from eod_workers.fix.fields import format_timestamp
from eod_workers.fix.initiator import Initiator, LogonRefused
from support.fix_wire import booked, listening
from support.patience import limited
from support.stage_world import StageWorld
from testbed.ports import free_port
from testbed.quickfix import QuickFix

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
VERSIONS = ("FIX.4.2", "FIX.4.4")


class Peer:
    """The program, and what it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._task = asyncio.create_task(self._hear())
        self.said: list[str] = []

    async def _hear(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.said.append(line.decode("latin-1").rstrip("\n"))

    def send(self, *bodies: str) -> None:
        """Hand it messages."""
        assert self._process.stdin is not None
        self._process.stdin.write("".join(f"send {body}\n" for body in bodies).encode("latin-1"))

    async def until(self, line: str, count: int = 1) -> None:
        """Wait until it has said so, so often."""
        async with limited(60):
            while sum(said.startswith(line) for said in self.said) < count:  # noqa: ASYNC110 - it tells by its lines
                await asyncio.sleep(0.01)

    async def end(self) -> None:
        """Log out."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with limited(60):
            await self._process.wait()
        await self._task


@asynccontextmanager
async def peer(
    quickfix: QuickFix, folder: Path, role: str, port: int, version: str, sender: str, target: str
) -> AsyncIterator[Peer]:
    """QuickFIX in a role; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *quickfix.command(role, port, version, sender, target, folder),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    made = Peer(process)
    try:
        await made.until("started")
        yield made
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def fill(version: str, number: int) -> str:
    """A fill as QuickFIX is given it; in FIX 4.4 its trader is a party."""
    kind = "150=F|39=1|" if version == "FIX.4.4" else "20=0|150=1|39=1|"
    party = "453=1|448=T001|447=D|452=12|" if version == "FIX.4.4" else ""
    return (
        f"35=8|37=O{number}|17=E{number}|{kind}{party}55=IBM|54=1|38=100|32={number}|31=12.5|151=0|14=1|6=1|"
        "60=20260102-21:00:00.123|354=9|355=x=31=99=1|"
    )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[StageWorld]:
    """Log, stores and archive of this test's own."""
    folder = tmp_path / "world"
    folder.mkdir()
    made = await StageWorld(folder).open()
    yield made
    await made.close()


@pytest.mark.parametrize("version", VERSIONS)
async def test_its_fills_are_booked_also_when_it_comes_again(
    quickfix: QuickFix, world: StageWorld, tmp_path: Path, version: str
) -> None:
    worker, port = await listening(world)
    for round_ in range(2):
        async with peer(quickfix, tmp_path, "initiator", port, version, "QF", "EOD") as other:
            await other.until("logon")
            other.send(*(fill(version, number) for number in range(round_ * 100 + 1, round_ * 100 + 101)))
            async with limited(60):
                while len(await booked(world)) < (round_ + 1) * 100:  # noqa: ASYNC110 - the log tells nobody
                    await asyncio.sleep(0.02)
            await other.end()
    trades = await booked(world)
    assert [(trade.exec_id, trade.last_qty_e8) for trade in trades] == [
        (f"E{number}", number * 10**8) for number in range(1, 201)
    ]
    assert {trade.last_px_e8 for trade in trades} == {1_250_000_000}
    assert {trade.trader for trade in trades} == ({"T001"} if version == "FIX.4.4" else {""})
    assert await world.records("trades.dlq") == []
    await worker.stop()


@pytest.mark.parametrize("version", VERSIONS)
async def test_our_orders_come_to_it_once_and_in_order_over_a_line_that_garbles(
    quickfix: QuickFix, tmp_path: Path, version: str
) -> None:
    random, port = Random(7), free_port()
    async with peer(quickfix, tmp_path, "acceptor", port, version, "QF", "EOD") as other:
        line = Initiator("EOD", "QF", network=TcpNetwork(), now_ns=time.time_ns, begin_string=version.encode())
        async with limited(30):
            while True:
                try:
                    await line.connect("127.0.0.1", port)
                    break
                except (OSError, LogonRefused):
                    await asyncio.sleep(0.05)
        for number in range(200):
            at = format_timestamp(time.time_ns())
            body = b"11=C%d\x0121=1\x0155=IBM\x0154=1\x0160=%b\x0138=100\x0140=1\x01" % (number, at)
            line.send(b"D", body, corrupt=random.random() < 0.05)
        await line.synchronize(timeout_s=30)
        await other.until("app", 200)
        orders = [said.partition("|11=")[2].partition("|")[0] for said in other.said if said.startswith("app")]
        assert orders == [f"C{number}" for number in range(200)]
        assert line.rejected == []
        await line.logout()
        await other.until("logout")
        await other.end()
