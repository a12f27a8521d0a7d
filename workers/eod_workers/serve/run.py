"""Runs all stages in one process behind a FIX port, until it is told to end; then reconciles."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from eod_contract.kinds import INGESTION
from eod_contract.streams import STREAMS
from rich.console import Console
from rich.live import Live

from eod_workers.adapters.embedded import embedded
from eod_workers.dead_letters import lookup
from eod_workers.ingestion.sessions import list_sessions
from eod_workers.ingestion.settings import IngestionSettings
from eod_workers.ingestion.stage import Ingestion
from eod_workers.pnl.published import Key, Published, read_position, stored, updates
from eod_workers.ports import TopicSpec, Unavailable
from eod_workers.process.fleet import Fleet
from eod_workers.reconcile.report import Report
from eod_workers.reconcile.run import Progress
from eod_workers.reconcile.whole import Letters, count_letters, reconcile_whole
from eod_workers.runtime.stages import Ports, load_stages
from eod_workers.runtime.variables import TopicNames, given
from eod_workers.serve.prices import PriceDoor, append_prices
from eod_workers.serve.view import Screen, SessionLine, render
from eod_workers.trades.contracts import HOUSE
from eod_workers.trades.prices import Price
from eod_workers.trades.reference import load_reference

PARTITIONS = 12
_LOOK_S = 0.5
_LINE_S = 5.0
_MAX_BREAKS = 100
_FLUSH_S = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line can say.

    Attributes:
        told: settings of the stages, before those of the environment.
        data: keeps everything there, and goes on from there; None: in memory, and gone at the end.
        prices: known from the beginning.
        seconds: ends after so long; None: when it is told to.
        screen: whether a terminal is drawn on.
    """

    told: Mapping[str, object]
    data: Path | None = None
    prices: tuple[Price, ...] = ()
    seconds: float | None = None
    screen: bool = True


@dataclass(slots=True)
class Result:
    """What came of it.

    Attributes:
        positions: as they are published.
        letters: reason and detail of each dead letter, with how often.
        sessions: name → the number that is expected next.
        gaps: session → the first and the last number that is missing, and how many messages waited behind them.
        currency: of the house.
        report: the reconciliation of the stores.
    """

    positions: dict[Key, Published] = field(default_factory=dict)
    letters: Letters = field(default_factory=Counter)
    sessions: dict[str, int] = field(default_factory=dict)
    gaps: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    currency: str = HOUSE
    report: Report = field(default_factory=lambda: Report(_MAX_BREAKS))


class Serve:
    """One run."""

    def __init__(self, options: Options, console: Console, progress: Progress) -> None:
        """Shows on the console what happens; `progress` is told how far the reconciliation is.

        Raises:
            SettingsError: the environment cannot be understood.
        """
        stages = load_stages()
        said = given(*[stage.settings for stage in stages.values()])
        self.port = 0
        self.screen = Screen()
        self._options = options
        self._console = console
        self._progress = progress
        self._told = {"flush_interval_s": _FLUSH_S, "fix_admit_anybody": True, **said, **options.told}
        self._ingestion = IngestionSettings.fitting(self._told)
        self._topics = TopicNames.fitting(self._told)
        self._stages = stages
        self._fleets: dict[str, Fleet] = {}
        self._ending = asyncio.Event()
        self._open = asyncio.Event()

    def end(self) -> None:
        """Everybody is logged out, what was taken is finished and reconciled, and `run` returns."""
        self._ending.set()

    async def listening(self) -> int:
        """The port, once counterparties can log on."""
        await self._open.wait()
        return self.port

    async def run(self) -> Result:
        """Serves until `end`, or until a stage fails.

        Raises:
            ValueError: the data folder, the reference data or the sessions file cannot be used.
            SettingsError: it cannot be listened on the port.
            NotComparable: a stage did not come to its end.
            OSError: the socket for prices cannot be opened.
        """
        reference = load_reference(self._ingestion.reference_file) if self._ingestion.reference_file else None
        async with AsyncExitStack() as stack:
            folder = self._options.data
            if folder is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eod-serve-")))
            else:
                folder.mkdir(parents=True, exist_ok=True)
            ports = await stack.enter_async_context(embedded(folder, durable=self._options.data is not None))
            specs = [TopicSpec(self._topics.topic(stream), PARTITIONS, stream.kept_ms) for stream in STREAMS.values()]
            await ports.log.ensure_topics(specs)
            background = [asyncio.create_task(self._listen(ports))]
            stack.callback(lambda: [task.cancel() for task in background])
            await self._start(stack, ports)
            await append_prices(ports.log, self._topics.prices_topic, self._options.prices)
            door = PriceDoor(self.port, ports.log, self._topics.prices_topic, self._symbols)
            stack.push_async_callback(door.close)
            await door.open()
            self._say_where(folder)
            self._open.set()
            background.append(asyncio.create_task(self._watch(ports)))
            await self._wait()
            self._check()
            result = Result(currency=self._ingestion.fix_currency, gaps=self._acceptor().gaps)
            await self._fleets[INGESTION.name].stop()
            result.report = await reconcile_whole(
                ports, self._topics, reference, self._progress, max_breaks=_MAX_BREAKS
            )
            self._check()
            result.positions = {key: read_position(value) for key, value in (await stored(ports.state)).items()}
            result.letters = await count_letters(ports)
            result.sessions = {one.session: one.inbound for one in await list_sessions(ports.state)}
            for fleet in self._fleets.values():
                await fleet.stop()
            return result

    async def _start(self, stack: AsyncExitStack, ports: Ports) -> None:
        """All stages, those that read before the one that writes."""
        for stage in sorted(self._stages.values(), key=lambda one: one.kind is INGESTION):
            fleet = self._fleets[stage.kind.name] = Fleet(stage, ports, self._told)
            stack.push_async_callback(fleet.abandon)
            await fleet.scale(1)
        self.port = await self._fleets[INGESTION.name].unless_failed(self._acceptor().listening())

    def _acceptor(self) -> Ingestion:
        return cast("Ingestion", self._fleets[INGESTION.name].services[0])

    def _check(self) -> None:
        """A failed stage ends it all."""
        for fleet in self._fleets.values():
            fleet.check()

    async def _wait(self) -> None:
        """Until it is to end, drawing meanwhile."""
        clock = asyncio.get_running_loop().time
        until = None if self._options.seconds is None else clock() + self._options.seconds
        live = Live(render(self.screen), console=self._console, auto_refresh=False, transient=True)
        drawn = self._options.screen and self._console.is_terminal
        said, said_at = "", clock()
        shown: AbstractContextManager[object] = live if drawn else nullcontext()
        with shown:
            while not self._ending.is_set() and (until is None or clock() < until):
                self._check()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), _LOOK_S)
                if drawn:
                    live.update(render(self.screen), refresh=True)
                elif (line := self.screen.line()) != said and clock() - said_at >= _LINE_S:
                    self._say(line)
                    said, said_at = line, clock()

    def _say_where(self, folder: Path) -> None:
        settings = self._ingestion
        kept = f"kept in {folder}" if self._options.data is not None else "in memory, gone at the end"
        self.screen.where = (
            f"FIX 4.2 and 4.4 at {settings.fix_host}:{self.port}, TargetCompID {settings.fix_comp_id} · {kept}"
        )
        named = "" if self.port == IngestionSettings.model_fields["fix_port"].default else f" --port {self.port}"
        self.screen.prices = f"prices: eod price{named} SYMBOL PRICE, or eod price{named} --csv FILE"
        if not (self._options.screen and self._console.is_terminal):
            self._say(self.screen.where)
            self._say(self.screen.prices)

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _symbols(self) -> set[str]:
        return {symbol for _, symbol in self.screen.positions}

    async def _listen(self, ports: Ports) -> None:
        """Hears of every position, as a trader's screen does; after a gap it reads what is stored."""
        while True:
            try:
                async for update in updates(ports.state):
                    for symbol, position in update.positions.items():
                        self.screen.positions[update.trader, symbol] = position
            except Unavailable:
                for key, value in (await stored(ports.state)).items():
                    self.screen.positions[key] = read_position(value)

    async def _watch(self, ports: Ports) -> None:
        """Keeps the numbers current."""
        screen, clock = self.screen, ports.clock
        then = clock.monotonic()
        while True:
            await clock.sleep(_LOOK_S)
            now, executions = clock.monotonic(), int(self._fleets[INGESTION.name].processed)
            screen.rate_per_s = (executions - screen.executions) / (now - then)
            screen.executions, then = executions, now
            screen.lag = sum([sum(await fleet.lag()) for fleet in self._fleets.values()])
            if await lookup.how_many(ports.state) != screen.letters:
                letters = await lookup.list_letters(ports.state)
                screen.letters, screen.last_letter = len(letters), str(letters[-1].summary["detail"])
            connected = self._acceptor().connected if self._fleets[INGESTION.name].size else frozenset()
            screen.sessions = [
                SessionLine(one.session, one.session in connected, one.inbound, one.stuck is not None)
                for one in await list_sessions(ports.state)
            ]
