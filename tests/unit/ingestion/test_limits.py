"""What one connection can cost the others: who says nothing, reads nothing or is slow is bounded, and delays nobody."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from eod_workers.ingestion import limits
from support.fix_messages import message, report
from support.fix_wire import Wire, booked, listening
from support.patience import limited, soon
from support.stage_world import StageWorld, Worker
from unit.ingestion.test_counterparties import trades
from unit.ingestion.test_terms import Standing

pytestmark = pytest.mark.timeout(90)
SESSIONS = 200
MIB = 1 << 20


@pytest.fixture
async def standing(tmp_path: Path) -> AsyncIterator[tuple[StageWorld, Standing]]:
    clock = Standing("2026-01-05T21:00:00")
    world = await StageWorld(tmp_path, clock=clock).open()
    yield world, clock
    await world.close()


def logon(sender: str = "ACME") -> bytes:
    return message("A", 1, "98=0|108=30|", sender=sender)


def connections(worker: Worker) -> list[Any]:
    return list(worker.service._admission.connections)


class Deaf:
    """A counterparty that writes and does not read; its buffers are small."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        self.socket.setblocking(False)
        self.port = port
        self.sent = 0

    async def begin(self, sender: str) -> None:
        await asyncio.get_running_loop().sock_connect(self.socket, ("127.0.0.1", self.port))
        await asyncio.get_running_loop().sock_sendall(self.socket, logon(sender))

    async def flood(self, sender: str) -> int:
        """TestRequests until nobody takes any more; how many went out whole."""
        number, text = 1, "x" * 2_000
        while True:
            number += 1
            data = message("1", number, f"112={text}|", sender=sender)
            try:
                await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(self.socket, data), 1)
            except TimeoutError:
                return number - 1
            self.sent += len(data)
            assert self.sent < 200 * MIB, "somebody reads on and on, and keeps the answers"


async def test_who_does_not_log_on_is_hung_up_on(standing: tuple[StageWorld, Standing]) -> None:
    world, clock = standing
    worker, port = await listening(world)
    silent, half = await Wire.to(port), await Wire.to(port)
    await half.write(logon()[:30])
    good = await Wire.to(port)
    await good.write(logon())
    await good.hear(b"A")
    clock.move(seconds=limits.LOGON_WITHIN_S - 1)
    late = await Wire.to(port)
    await asyncio.sleep(0.6)
    assert len(connections(worker)) == 4
    clock.move(seconds=2)
    await silent.closed()
    await half.closed()
    await late.write(logon("OTHER"))
    await late.hear(b"A")
    await good.write(report(2, "X2"))
    await trades(world, 1)
    assert silent.heard == half.heard == []
    await worker.stop()


async def test_who_reads_nothing_is_not_read_either_and_in_the_end_hung_up_on(
    standing: tuple[StageWorld, Standing],
) -> None:
    world, clock = standing
    worker, port = await listening(world)
    deaf = Deaf(port)
    await deaf.begin("DEAF")
    await soon(lambda: bool(connections(worker)) and connections(worker)[0].session is not None)
    (connection,) = connections(worker)
    await deaf.flood("DEAF")
    assert connection._transport.get_write_buffer_size() < MIB
    good = await Wire.to(port)
    await good.write(logon(), report(2, "X2"), message("1", 3, "112=here|"))
    assert (await good.hear(b"0"))[b"112"] == b"here"
    clock.move(seconds=limits.READS_NOTHING_S - 1)
    await good.write(message("1", 4, "112=still|"))
    await good.hear(b"0", 2)
    assert connection in connections(worker)
    clock.move(seconds=2)
    await soon(lambda: connection not in connections(worker))
    deaf.socket.close()
    await worker.stop()
    assert [trade.exec_id for trade in await booked(world)] == ["X2"]


async def test_who_reads_again_is_answered_to_the_last(world: StageWorld) -> None:
    worker, port = await listening(world)
    deaf = Deaf(port)
    await deaf.begin("DEAF")
    last = await deaf.flood("DEAF")
    loop, heard = asyncio.get_running_loop(), b""
    wanted = b"\x0134=%d\x01" % last  # of the Heartbeat that answers it: each message is answered by one
    async with limited(30):
        while wanted not in heard:
            heard = heard[-100:] + await loop.sock_recv(deaf.socket, 1 << 16)
    deaf.socket.close()
    await worker.stop()


async def test_two_hundred_sessions_are_served_beside_one_that_is_silent_and_one_that_reads_nothing(
    world: StageWorld,
) -> None:
    worker, port = await listening(world)
    silent, deaf = await Wire.to(port), Deaf(port)
    await deaf.begin("DEAF")
    await deaf.flood("DEAF")
    wires = {f"S{number:03}": await Wire.to(port) for number in range(SESSIONS)}
    for sender, wire in wires.items():
        fills = [
            message(
                "8",
                number,
                f"37=O|17={sender}-{number}|150=F|55=IBM|54=1|32=1|31=10|60=20260102-21:00:00|",
                sender=sender,
            )
            for number in (2, 3, 4)
        ]
        await wire.write(logon(sender), *fills, message("1", 5, f"112={sender}|", sender=sender))
    for sender, wire in wires.items():
        assert (await wire.hear(b"0"))[b"112"] == sender.encode()
    found = await trades(world, 3 * SESSIONS)
    assert {trade.exec_id for trade in found} == {f"{sender}-{n}" for sender in wires for n in (2, 3, 4)}
    assert silent.heard == []
    for wire in (silent, *wires.values()):
        await wire.close()
    deaf.socket.close()
    await worker.stop()
