"""Plays a market session: initiators that send a seeded stream of executions at a profile's rate, and a price feed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from zoneinfo import ZoneInfo

from eod_workers.fix.fields import format_timestamp, parse_timestamp_ns
from eod_workers.fix.initiator import Initiator, LogonRefused
from eod_workers.market.oddities import ODDITIES, Maker, Odd
from eod_workers.market.profile import Profile
from eod_workers.market.tally import Execution, Tally, digest
from eod_workers.market.universe import Universe
from eod_workers.ports import Clock, Log, Network, Producer
from eod_workers.protos.prices_pb2 import (
    PRICE_SOURCE_LAST_TRADE,
    PRICE_SOURCE_MID,
    PRICE_SOURCE_OFFICIAL_CLOSE,
    PRICE_SOURCE_PREVIOUS_CLOSE,
)
from eod_workers.trades.model import ACTION_BUST, ACTION_TRADE
from eod_workers.trades.numbers import E8, format_e8
from eod_workers.trades.partitioner import partition_of
from eod_workers.trades.prices import Price, encode_prices

_ZONE = ZoneInfo("America/New_York")
_TICK_S = 0.01
_FEED_S = 0.25
_RECONNECT_PAUSE_S = 0.2
_CHUNK = 100  # messages between two turns of the other tasks
_TICK_SIZE_E8 = 1_000_000
_RECENT = 256
_UNKNOWN_TRADER = "GHOST"
_HELD = 3  # fills behind a Heartbeat that is lost

TURNS = ("heartbeat lost", "logon twice", "numbers begin again")
"""What becomes of a session beside what its messages say.

- A Heartbeat(0) is lost, the fills behind it wait for it, and a GapFill(4) runs over them: they have been received.
- A second connection logs on in the name of the live session: it is refused, and the first goes on.
- The live session's numbers begin again, by a Logon(A) with ResetSeqNumFlag(141)=Y.
"""


@dataclass(frozen=True, slots=True)
class Mischief:
    """Shares of messages, 0 to 1, that go wrong on purpose."""

    corrupt: float = 0.0
    duplicates: float = 0.0
    busts: float = 0.0
    unknown: float = 0.0
    odd: float = 0.0

    def __post_init__(self) -> None:
        """Refuses shares outside 0 to 1."""
        for name in ("corrupt", "duplicates", "busts", "unknown", "odd"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}: a share between 0 and 1 is meant, 0.01 for one in a hundred")


@dataclass(slots=True)
class _Line:
    """One initiator with the traders it sends for, and what it may bust or repeat."""

    initiator: Initiator
    number: int
    traders: tuple[str, ...]
    sent: int = 0
    recent: list[tuple[int, bytes, Execution]] = field(default_factory=list)

    @property
    def sender(self) -> str:
        """Its CompID."""
        return self.initiator.name.partition("->")[0]


class Market:
    """A session over several FIX connections; the same seed sends the same executions in the same order on each."""

    def __init__(
        self,
        universe: Universe,
        profile: Profile,
        clock: Clock,
        *,
        network: Network,
        seed: int,
        mischief: Mischief | None = None,
        lines: int = 4,
        target: str = "EOD",
        brokers: str = "BROKER",
        reconnect_s: float = 0.0,
        run: str = "",
    ) -> None:
        """`lines` FIX connections share the traders, and `brokers` and a number are their CompIDs.

        One that ends is made anew for `reconnect_s`. `run` tells this play from earlier ones to the same pipeline: it
        is part of every ExecID, and its sessions begin at MsgSeqNum 1 again.
        """
        self.tally = Tally()
        self.profile = profile
        self.elapsed_s = 0.0
        self._universe = universe
        self._clock = clock
        self._reconnect_s = reconnect_s
        self._address = ("", 0)
        self._mischief = mischief or Mischief()
        self._run = run and f"{run}-"
        self._random = Random(f"market-{seed}")
        self._px = dict(zip(universe.symbols, universe.opening_px_e8, strict=True))
        self._px |= {one.key: one.opening_px_e8 for one in universe.instruments}
        self._network, self._brokers, self._target = network, brokers, target
        self._lines = [_Line(self._initiator(i + 1), i + 1, universe.traders[i::lines]) for i in range(lines)]
        self._turns: list[tuple[str, _Line]] = []

    def _initiator(self, number: int) -> Initiator:
        return Initiator(
            f"{self._brokers}{number}",
            self._target,
            network=self._network,
            now_ns=self._clock.now_ns,
            on_bytes=self.tally.wrote,
        )

    @property
    def sent(self) -> int:
        """Distinct executions sent so far."""
        return len(self.tally.executions)

    @property
    def again_intact(self) -> int:
        """Messages that were resent on request although they had arrived whole: they count as duplicates."""
        return sum(line.initiator.again_intact for line in self._lines)

    async def connect(self, host: str, port: int) -> None:
        """Logs all lines on."""
        self._address = (host, port)
        await asyncio.gather(*(line.initiator.connect(host, port, reset=bool(self._run)) for line in self._lines))

    async def play(self) -> None:
        """Sends the whole session, then waits until everything sent has been received, and logs out.

        Raises:
            ConnectionError: a connection ended before its time, and could not be made again; or a second one was let in
                beside a live one.
            TimeoutError: the acceptor does not answer a TestRequest(1), or a Logon(A) that begins the numbers again.
        """
        start = self._clock.monotonic()
        while self.elapsed_s < self.profile.seconds:
            await self._clock.sleep(_TICK_S)
            self.elapsed_s = min(self._clock.monotonic() - start, self.profile.seconds)
            due = int(self.profile.sent_by(self.elapsed_s))
            await self._keep_connected()
            while self.sent < due:
                for _ in range(min(due - self.sent, _CHUNK)):
                    self._one()
                for line in self._lines:
                    await line.initiator.drain()
                await asyncio.sleep(0)
                await self._keep_connected()
                while self._turns:
                    await self._turn(*self._turns.pop(0))
        for line in self._lines:
            await self._synchronize(line)
        for line in self._lines:
            await line.initiator.logout()

    async def close(self) -> None:
        """Cuts all lines that are still there."""
        for line in self._lines:
            await line.initiator.close()

    async def _keep_connected(self) -> None:
        """Makes lines that were lost anew: what was sent and not received is asked for at the Logon."""
        if not self._reconnect_s:
            return  # the next message finds out
        while lost := [line.initiator for line in self._lines if not line.initiator.connected]:
            for initiator in lost:  # meanwhile others may be lost
                await self._connect_again(initiator)

    async def _connect_again(self, initiator: Initiator) -> None:
        self.tally.reconnects += 1
        give_up_at = self._clock.monotonic() + self._reconnect_s
        while True:
            await initiator.close()
            try:
                await initiator.connect(*self._address)
            except (OSError, LogonRefused) as error:
                if self._clock.monotonic() > give_up_at:
                    raise ConnectionError(
                        f"{initiator.name}: no new connection in {self._reconnect_s:g} s: {error}"
                    ) from error
                await self._clock.sleep(_RECONNECT_PAUSE_S)
            else:
                return

    async def _synchronize(self, line: _Line) -> None:
        while True:
            try:
                await line.initiator.synchronize(timeout_s=60)
            except ConnectionError:
                if not self._reconnect_s:
                    raise
                await self._connect_again(line.initiator)
            else:
                return

    def _one(self) -> None:
        """The next execution, with whatever mischief the dice say."""
        random, mischief = self._random, self._mischief
        line = self._lines[self.sent % len(self._lines)]
        if mischief.odd and random.random() < mischief.odd:
            at = random.randrange(len(ODDITIES) + len(TURNS)) - len(ODDITIES)
            if at < 0:
                for odd in ODDITIES[at](self._maker(line)):
                    self._odd(line, odd)
            elif (kind := TURNS[at]) == "heartbeat lost":
                self._lose_heartbeat(line)
            else:
                self._turns.append((kind, line))
            return
        if line.recent and random.random() < mischief.busts:
            execution, body = self._bust(line)
        else:
            execution, body = self._trade(line)
        corrupt = random.random() < mischief.corrupt
        self.tally.executions[execution.identity] = execution
        self.tally.messages += 1
        number = line.initiator.send(b"8", body, corrupt=corrupt)
        if corrupt:
            self.tally.garbled.add(digest(line.initiator.last_wire))
            return
        if random.random() < mischief.duplicates:
            self.tally.duplicates += 1
            if random.random() < 0.5:  # noqa: PLR2004 - a coin
                line.initiator.send(b"8", body)
            else:
                line.initiator.repeat(number)

    def _trade(self, line: _Line) -> tuple[Execution, bytes]:
        random, universe = self._random, self._universe
        symbol = random.choice(universe.symbols)
        px = max(_TICK_SIZE_E8, self._px[symbol] + random.randrange(-3, 4) * _TICK_SIZE_E8)
        self._px[symbol] = px
        line.sent += 1
        unknown = random.random() < self._mischief.unknown
        at_ns = self._clock.now_ns() // 1_000_000 * 1_000_000
        quantity = random.randrange(1, 50) * 100 * E8 if random.random() < 0.9 else random.randrange(1, 10_000) * E8  # noqa: PLR2004 - odd lots
        execution = Execution(
            session=line.initiator.name,
            trade_date=_trade_date(at_ns),
            exec_id=self._exec_id(line),
            exec_ref_id="",
            action=ACTION_TRADE,
            symbol=symbol,
            trader=_UNKNOWN_TRADER + line.traders[0] if unknown else random.choice(line.traders),
            strategy=random.choice(universe.strategies),
            quantity_e8=quantity if random.random() < 0.5 else -quantity,  # noqa: PLR2004 - a coin
            px_e8=px,
            transact_time_ns=at_ns,
        )
        if unknown:
            self.tally.unknown.add(execution.identity)
        body = report(execution)
        line.recent.append((line.sent, body, execution))
        if len(line.recent) > _RECENT:
            del line.recent[: _RECENT // 2]
        return execution, body

    def _exec_id(self, line: _Line) -> str:
        return f"{line.sender}-{self._run}{line.sent:08d}"

    def _maker(self, line: _Line) -> Maker:
        """What makes odd messages of a line; its ExecIDs go on with those of the others."""

        def new_id() -> str:
            line.sent += 1
            return self._exec_id(line)

        at_ns = self._clock.now_ns() // 1_000_000 * 1_000_000
        return Maker(
            self._random, self._universe, line.number, line.initiator.name, line.traders, new_id, at_ns, _trade_date
        )

    def _odd(self, line: _Line, odd: Odd) -> None:
        """Sends an odd message, and writes down what must come of it."""
        line.initiator.send(odd.msg_type, odd.body)
        raw = line.initiator.last_wire
        self.tally.odd += 1
        if odd.refused:
            self.tally.refused.add(digest(raw))
        else:
            self.tally.messages += 1
        for execution in odd.executions:
            if odd.undated:
                start = raw.index(b"\x0152=") + 4
                at_ns = parse_timestamp_ns(raw[start : raw.index(b"\x01", start)])
                execution = execution._replace(transact_time_ns=at_ns, trade_date=_trade_date(at_ns))  # noqa: PLW2901
            self.tally.executions[execution.identity] = execution

    # --- turns of a session -----------------------------------------------------------------------------------

    def _lose_heartbeat(self, line: _Line) -> None:
        lost = line.initiator.lose_heartbeat()
        for _ in range(_HELD):
            execution, body = self._trade(line)
            self.tally.executions[execution.identity] = execution
            self.tally.messages += 1
            line.initiator.send(b"8", body)
        line.initiator.fill_gap(lost)
        self.tally.turns["heartbeat lost"] += 1

    async def _turn(self, kind: str, line: _Line) -> None:
        if kind == "logon twice":
            await self._log_on_twice(line)
        elif self._reconnect_s:
            return  # who loses the answer to a reset with the connection cannot tell which numbers count
        else:
            await self._synchronize(line)
            await line.initiator.reset()
        self.tally.turns[kind] += 1

    async def _log_on_twice(self, line: _Line) -> None:
        """A second engine that knows nothing of the first: should it be let in after all, its number is too low."""
        other = self._initiator(line.number)
        try:
            await other.connect(*self._address)
        except LogonRefused:
            return
        except OSError:
            if not self._reconnect_s:
                raise
            return  # nobody listens at the moment
        finally:
            await other.close()
        raise ConnectionError(f"{other.name}: a second connection was let in beside the live one")

    def _bust(self, line: _Line) -> tuple[Execution, bytes]:
        _, _, busted = line.recent.pop(self._random.randrange(len(line.recent)))
        line.sent += 1
        at_ns = self._clock.now_ns() // 1_000_000 * 1_000_000
        execution = busted._replace(
            trade_date=_trade_date(at_ns),
            exec_id=self._exec_id(line),
            exec_ref_id=busted.exec_id,
            action=ACTION_BUST,
            transact_time_ns=at_ns,
        )
        if busted.trader.startswith(_UNKNOWN_TRADER):
            self.tally.unknown.add(execution.identity)
        self.tally.busts += 1
        return execution, report(execution)

    # --- prices ---------------------------------------------------------------------------------------------

    async def feed(self, log: Log, topic: str, spread: int | None = None) -> None:
        """Publishes prices until the burst ends: the previous close, mids and last trades, then the official close.

        `spread` is over how many partitions the trades are; all that the topic has if it is not given.
        """
        partitions = spread or await log.partition_count(topic)
        producer = await log.producer()
        try:
            date = int(datetime.fromtimestamp(self._clock.now_ns() / 1e9, UTC).strftime("%Y%m%d"))
            opening = dict(zip(self._universe.symbols, self._universe.opening_px_e8, strict=True))
            opening |= {one.key: one.opening_px_e8 for one in self._universe.instruments}
            await self._quote(producer, topic, partitions, opening, PRICE_SOURCE_PREVIOUS_CLOSE, date)
            turn = 0
            while self.elapsed_s < self.profile.burst_end_s:
                await self._clock.sleep(_FEED_S)
                turn += 1
                source = PRICE_SOURCE_LAST_TRADE if turn % 2 else PRICE_SOURCE_MID
                await self._quote(producer, topic, partitions, self._px, source, date)
            official = dict(self._px)
            self.tally.marks_e8 = official
            await self._quote(producer, topic, partitions, official, PRICE_SOURCE_OFFICIAL_CLOSE, date)
            # Quotes go on after the close and must not move the official mark.
            await self._quote(producer, topic, partitions, self._px, PRICE_SOURCE_MID, date)
            await producer.flush()
        finally:
            await producer.close()

    async def _quote(
        self, producer: Producer, topic: str, partitions: int, px: Mapping[str, int], source: int, date: int
    ) -> None:
        now = self._clock.now_ns()
        by_partition: dict[int, list[Price]] = {}
        for symbol, px_e8 in px.items():
            price = Price(symbol, source, px_e8, now, date)
            by_partition.setdefault(partition_of(symbol, partitions), []).append(price)
        for partition, prices in by_partition.items():
            await producer.send(topic, partition, encode_prices(prices))


def _trade_date(at_ns: int) -> int:
    """The day in New York, which is what an ingestion takes that was told of no other zone."""
    return int(datetime.fromtimestamp(at_ns // 1_000_000_000, _ZONE).strftime("%Y%m%d"))


def report(execution: Execution) -> bytes:
    """The body of the ExecutionReport(8) that reports an execution."""
    bust = execution.action == ACTION_BUST
    quantity = format_e8(abs(execution.quantity_e8)).encode()
    px = format_e8(execution.px_e8).encode()
    exec_id = execution.exec_id.encode()
    return (
        b"37=O%b\x0111=C%b\x0117=%b\x01%b150=%b\x0139=2\x011=ACC%b\x01453=1\x01448=%b\x01447=D\x01452=12\x01"
        b"55=%b\x0154=%b\x0138=%b\x0132=%b\x0131=%b\x01151=0\x0114=%b\x016=%b\x0160=%b\x016061=%b\x01"
    ) % (
        exec_id,
        exec_id,
        exec_id,
        b"19=%b\x01" % execution.exec_ref_id.encode() if bust else b"",
        b"H" if bust else b"F",
        execution.trader[-2:].encode(),
        execution.trader.encode(),
        execution.symbol.encode(),
        b"1" if execution.quantity_e8 > 0 else b"2",
        quantity,
        quantity,
        px,
        quantity,
        px,
        format_timestamp(execution.transact_time_ns),
        execution.strategy.encode(),
    )
