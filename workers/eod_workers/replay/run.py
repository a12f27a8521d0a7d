"""Sends the reports of recorded FIX logs through the whole pipeline in one process, and reconciles what came of them.

Each session of the logs that reports executions logs on anew, under its own CompIDs, and sends its application messages
again in their order: bodies byte for byte, under new numbers, for those of the log may have holes. What a log holds
beside them, session messages and the other direction, is counted and left alone.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from eod_contract.kinds import INGESTION
from eod_contract.streams import STREAMS

from eod_workers.adapters.embedded import embedded
from eod_workers.adapters.memory_network import MemoryNetwork
from eod_workers.fix.body import body_of
from eod_workers.fix.dictionary import VERSIONS, Dictionary, dictionary
from eod_workers.fix.fields import format_timestamp, parse_timestamp_ns, text_of
from eod_workers.fix.initiator import Initiator
from eod_workers.fix.logs import Logged, messages_of, open_log, repaired
from eod_workers.fix.reading import Message, read
from eod_workers.fix.writing import NOTHING_MORE
from eod_workers.ingestion.settings import IngestionSettings
from eod_workers.ingestion.stage import Ingestion
from eod_workers.pnl.published import Key, Published, read_position, stored
from eod_workers.ports import Clock, ExceptionRow, TopicPartition, TopicSpec
from eod_workers.process.fleet import Fleet
from eod_workers.reconcile.report import Report
from eod_workers.reconcile.run import Progress
from eod_workers.reconcile.whole import Letters, count_letters, reconcile_whole
from eod_workers.runtime.stages import Ports, load_stages
from eod_workers.runtime.variables import TopicNames, given
from eod_workers.trades.captures import CAPTURE, trades_of
from eod_workers.trades.codec import decode_trades
from eod_workers.trades.contracts import HOUSE
from eod_workers.trades.dates import TradeDates
from eod_workers.trades.executions import Invalid
from eod_workers.trades.model import Identity
from eod_workers.trades.reference import load_reference

PARTITIONS = 12
_CHUNK = 200
_ACCEPTED_S = 60.0
_LONGEST_PAUSE_S = 5.0
_NS_PER_S = 1_000_000_000
_REPORTS = frozenset((b"8", CAPTURE))
_MAX_BREAKS = 100
_TOLD = frozenset(
    ("fix_zone", "fix_currency", "fix_trader_tag", "fix_trade_captures", "fix_max_message_bytes", "reference_file")
)
"""Settings of the environment that a replay goes by: how messages are read and booked, not who may connect."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to replay, and how.

    Attributes:
        files: the logs, one after the other.
        speed: 0 is as fast as it goes, 1 as fast as it was, 2 twice as fast.
        reference: reference data of traders, strategies and securities.
        repair: give a frame that the log has changed the length and checksum that it has.
        folder: keeps the stores there instead of a temporary one.
    """

    files: Sequence[Path]
    speed: float = 0.0
    reference: Path | None = None
    repair: bool = False
    folder: Path | None = None


@dataclass(slots=True)
class Result:
    """What came of it.

    Attributes:
        sent: messages sent, by session.
        left: what was not sent, and how often.
        broken: file, line and what is wrong with a frame there; the first of them.
        positions: as they were published.
        exceptions: of the regulatory store.
        letters: reason and detail of each dead letter, with how often.
        currency: of the house.
        report: the reconciliation of the stores.
        missing: trades in the logs that are not on the log of the pipeline.
        seconds: how long it took.
    """

    sent: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[str, int, str]] = field(default_factory=list)
    positions: dict[Key, Published] = field(default_factory=dict)
    exceptions: list[ExceptionRow] = field(default_factory=list)
    letters: Letters = field(default_factory=Counter)
    currency: str = HOUSE
    report: Report = field(default_factory=lambda: Report(_MAX_BREAKS))
    missing: list[Identity] = field(default_factory=list)
    seconds: float = 0.0


class Replay:
    """One run."""

    def __init__(self, options: Options, progress: Progress) -> None:
        """Tells `progress` how far it is.

        Raises:
            SettingsError: the environment cannot be understood.
            ValueError: the reference data cannot be read.
        """
        self.result = Result()
        self._options = options
        self._progress = progress
        self._lines: dict[tuple[bytes, bytes, bytes], Initiator] = {}
        self._expected: set[Identity] = set()
        stages = [stage.settings for stage in load_stages().values()]
        self._said = {name: value for name, value in given(*stages).items() if name in _TOLD}
        if options.reference:
            self._said["reference_file"] = str(options.reference)
        settings = IngestionSettings.fitting(self._said)
        self.result.currency = settings.fix_currency
        self._dates = TradeDates(settings.fix_zone)
        self._trader_tag = b"%d" % settings.fix_trader_tag if settings.fix_trader_tag else b""
        self._captures = settings.fix_trade_captures
        self._reference = load_reference(settings.reference_file) if settings.reference_file else None
        self._contracts = settings.contracts()
        self._fleets: list[Fleet] = []
        self._ports: Ports | None = None
        self._acceptors: dict[bytes, Fleet] = {}
        self._began_ns = self._first_ns = 0

    async def run(self) -> Result:
        """Replays, drains, reconciles.

        Raises:
            OSError: a log cannot be read, or the folder is not empty.
            NotComparable: a stage did not come to its end.
        """
        async with AsyncExitStack() as stack:
            folder = self._options.folder
            if folder is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eod-replay-")))
            else:
                folder.mkdir(parents=True, exist_ok=True)
                if any(folder.iterdir()):
                    raise FileExistsError(
                        f"{folder} is not empty: a replay begins with nothing, so name another folder"
                    )
            ports = await stack.enter_async_context(embedded(folder, network=MemoryNetwork()))
            self._ports = ports
            await ports.log.ensure_topics(TopicSpec(name, PARTITIONS) for name in STREAMS)
            started = ports.clock.monotonic()
            for stage in load_stages().values():
                if stage.kind is not INGESTION:
                    await self._start(stack, Fleet(stage, ports, self._told()))
            await self._send_all(stack, ports)
            await self._reconcile(ports)
            self.result.seconds = ports.clock.monotonic() - started
        return self.result

    def _told(self, **more: object) -> Mapping[str, object]:
        told: dict[str, object] = {
            "fix_port": 0,
            "fix_admit_anybody": True,
            "flush_interval_s": 0.5,
            "flush_rows": 5_000,
        }
        return told | self._said | more

    async def _start(self, stack: AsyncExitStack, fleet: Fleet) -> None:
        stack.push_async_callback(fleet.abandon)
        self._fleets.append(fleet)
        await fleet.scale(1)

    # --- sending --------------------------------------------------------------------------------------------

    async def _send_all(self, stack: AsyncExitStack, ports: Ports) -> None:
        for number, file in enumerate(self._options.files, 1):
            self._progress.phase(f"{file.name} ({number} of {len(self._options.files)})")
            sent = 0
            for logged in _logged(file):
                if await self._one(stack, ports, str(file), logged):
                    sent += 1
                    self._progress.advance()
                    if sent % _CHUNK == 0:
                        await self._breathe()
        self._progress.phase("waiting until the sessions have been heard to their end")
        for line in self._lines.values():
            await line.synchronize(timeout_s=_ACCEPTED_S)
            await line.logout()
        for fleet in self._acceptors.values():
            await fleet.stop()

    async def _breathe(self) -> None:
        """Lets the stages work; a failed one ends the replay."""
        await asyncio.sleep(0)
        for line in self._lines.values():
            await line.drain()
        for fleet in self._fleets:
            fleet.check()

    async def _one(self, stack: AsyncExitStack, ports: Ports, source: str, logged: Logged) -> bool:
        """Sends one message of a log, if it is to be sent."""
        result, raw = self.result, logged.raw
        if logged.why and self._options.repair:
            try:
                raw = repaired(raw)
            except ValueError:
                result.left["not a whole frame"] += 1
                return False
        elif logged.why:
            result.left["not a sound frame"] += 1
            if len(result.broken) < _MAX_BREAKS:
                result.broken.append((source, logged.line, logged.why))
            return False
        version = raw[2 : raw.index(b"\x01")]
        if version not in VERSIONS:
            result.left[f"of {text_of(version)[:16]}, of which there is no dictionary"] += 1
            return False
        known = dictionary(version)
        message = read(raw, known)
        kind = message.fields.get(b"35", b"")
        if kind in known.messages and known.messages[kind].admin:
            result.left["of the session itself"] += 1
            return False
        line = await self._line(stack, ports, version, message, opens=kind in _REPORTS)
        if line is None:
            result.left["of a side that reports nothing"] += 1
            return False
        await self._keep_pace(ports.clock, message)
        dated = _dated(kind, message)
        line.send(
            kind,
            b"".join(b"%b=%b\x01" % one for one in dated.items()) + body_of(raw, known),
            self._named(message, known),
        )
        result.sent[line.name] += 1
        if kind in _REPORTS:
            message.fields.update(dated | {b"52": format_timestamp(ports.clock.now_ns())})
            self._expect(line.name, message, raw)
        return True

    def _named(self, message: Message, known: Dictionary) -> Mapping[int, bytes]:
        """What names the trader, where that is a field of the header."""
        tag = self._trader_tag
        named = message.fields.get(tag, b"") if tag in known.header.tags else b""
        return {int(tag): named} if named else NOTHING_MORE

    def _expect(self, session: str, message: Message, raw: bytes) -> None:
        if message.fields.get(b"35") == CAPTURE and not self._captures:
            return
        try:
            trades = trades_of(
                message,
                raw,
                session=session,
                epoch=1,
                msg_seq_num=1,
                received_at_ns=0,
                dates=self._dates,
                contracts=self._contracts,
                trader_tag=self._trader_tag,
            )
        except Invalid:
            return  # it becomes a dead letter
        self._expected |= {trade.identity for trade in trades}

    async def _line(
        self, stack: AsyncExitStack, ports: Ports, version: bytes, message: Message, *, opens: bool
    ) -> Initiator | None:
        """The session of a message, which its first report opens."""
        sender, target = message.fields.get(b"49", b""), message.fields.get(b"56", b"")
        key = (version, sender, target)
        if key not in self._lines and opens:
            line = Initiator(
                text_of(sender),
                text_of(target),
                network=ports.network,
                now_ns=ports.clock.now_ns,
                begin_string=version,
            )
            stack.push_async_callback(line.close)
            await line.connect("127.0.0.1", await self._port(stack, ports, target))
            self._lines[key] = line
        return self._lines.get(key)

    async def _port(self, stack: AsyncExitStack, ports: Ports, target: bytes) -> int:
        """Where the acceptor of a TargetCompID listens, which is started when it is asked for first."""
        if target not in self._acceptors:
            fleet = Fleet(load_stages()[INGESTION.name], ports, self._told(fix_comp_id=text_of(target)))
            await self._start(stack, fleet)
            self._acceptors[target] = fleet
        fleet = self._acceptors[target]
        return await fleet.unless_failed(cast("Ingestion", fleet.services[0]).listening())

    async def _keep_pace(self, clock: Clock, message: Message) -> None:
        """Waits until it is time for a message, by its SendingTime; a pause of the log is cut short."""
        if not self._options.speed:
            return
        try:
            sent_ns = parse_timestamp_ns(message.fields.get(b"52", b""))
        except ValueError:
            return
        if not self._began_ns:
            self._began_ns, self._first_ns = clock.now_ns(), sent_ns
        due_ns = self._began_ns + round((sent_ns - self._first_ns) / self._options.speed)
        pause_s = (due_ns - clock.now_ns()) / _NS_PER_S
        if pause_s > _LONGEST_PAUSE_S:
            self._first_ns += round((pause_s - _LONGEST_PAUSE_S) * _NS_PER_S * self._options.speed)
        if pause_s > 0:
            await clock.sleep(min(pause_s, _LONGEST_PAUSE_S))

    # --- what came of it ------------------------------------------------------------------------------------

    async def _reconcile(self, ports: Ports) -> None:
        result, topics = self.result, TopicNames()
        result.report = await reconcile_whole(ports, topics, self._reference, self._progress, max_breaks=_MAX_BREAKS)
        result.positions = {key: read_position(value) for key, value in (await stored(ports.state)).items()}
        result.exceptions = [row async for row in ports.regulatory.exceptions()] if self._reference else []
        result.letters = await count_letters(ports)
        result.missing = sorted(self._expected - {identity async for identity in _booked(ports, topics)})
        for fleet in self._fleets:
            await fleet.stop()


def _dated(kind: bytes, message: Message) -> dict[bytes, bytes]:
    """The fields that keep a report that has no TransactTime(60) at the time that it was recorded with."""
    fields = message.fields
    if kind not in _REPORTS or b"60" in fields:
        return {}
    again = fields.get(b"43") == b"Y" and b"122" in fields
    return {b"43": b"Y", b"122": fields.get(b"122" if again else b"52", b"")}


async def _booked(ports: Ports, topics: TopicNames) -> AsyncIterator[Identity]:
    """All trades on the log."""
    ends = await ports.log.end_offsets(topics.trades_topic)
    for partition, end in ends.items():
        async for record in ports.log.read(TopicPartition(topics.trades_topic, partition), 0, end):
            for trade in decode_trades(record.value):
                yield trade.identity


def _logged(file: Path) -> Iterator[Logged]:
    with open_log(file) as lines:
        yield from messages_of(lines)
