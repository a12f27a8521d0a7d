"""A small close through all stages on embedded adapters, for a reconciliation to be held against."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

import yaml
from eod_workers.archive.stage import STAGE as ARCHIVE
from eod_workers.dead_letters.stage import STAGE as DEAD_LETTERS
from eod_workers.letters import fix_letter
from eod_workers.market.tally import Tally
from eod_workers.pnl.stage import STAGE as FLASH_PNL
from eod_workers.protos.dead_letter_pb2 import REASON_DESERIALIZATION
from eod_workers.protos.prices_pb2 import PRICE_SOURCE_OFFICIAL_CLOSE
from eod_workers.reconcile.report import Report
from eod_workers.reconcile.run import Progress, Request, reconcile
from eod_workers.reconcile.span import Wanted
from eod_workers.regulatory.stage import STAGE as REGULATORY
from eod_workers.trades.codec import encode_frames
from eod_workers.trades.model import ACTION_BUST, ACTION_CORRECT, SIDE_BUY, Trade
from eod_workers.trades.partitioner import partition_of
from eod_workers.trades.prices import Price, encode_prices
from eod_workers.trades.reference import ReferenceData, load_reference
from support.flow import SYMBOLS, TRADERS, flow
from support.stage_world import StageWorld

STAGES = (FLASH_PNL, REGULATORY, ARCHIVE, DEAD_LETTERS)
GROUPS = {stage.kind.name: stage.kind.group for stage in STAGES}
STORES = frozenset({"archive", "rows", "exceptions", "positions", "letters"})
_UNKNOWN = TRADERS[-1]
_UNKNOWN_SYMBOL = SYMBOLS[-1]


class Silent:
    """Progress that nobody looks at."""

    def phase(self, text: str, total: int | None = None) -> None:
        """See `run.Progress`."""

    def advance(self, steps: int = 1) -> None:
        """See `run.Progress`."""


def write_reference(folder: Path) -> Path:
    """Reference data that knows all but one trader and one symbol."""
    file = folder / "reference.yaml"
    data = {
        "traders": {name: {"name": f"Name of {name}", "desk": "D"} for name in TRADERS if name != _UNKNOWN},
        "strategies": {"VWAP": {"name": "Vwap"}},
        "securities": {name: {"isin": f"XS{name}"} for name in SYMBOLS if name != _UNKNOWN_SYMBOL},
    }
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    return file


def mixed(count: int, seed: int = 1) -> list[Trade]:
    """Trades with busts, corrections, and trades that come again under another number."""
    random = Random(f"mixed-{seed}")
    made: list[Trade] = []
    for trade in flow(count, seed=seed):
        earlier = random.choice(made) if made else trade
        number = {"session": earlier.session, "msg_seq_num": trade.msg_seq_num}
        luck = random.random()
        if made and luck < 0.05:
            made.append(
                earlier._replace(exec_id=f"B{trade.exec_id}", exec_ref_id=earlier.exec_id, action=ACTION_BUST, **number)  # type: ignore[arg-type]
            )
        elif made and luck < 0.1:
            made.append(
                earlier._replace(
                    exec_id=f"C{trade.exec_id}",
                    exec_ref_id=earlier.exec_id,
                    action=ACTION_CORRECT,
                    last_px_e8=earlier.last_px_e8 + 10**6,
                    side=SIDE_BUY,
                    **number,
                )  # type: ignore[arg-type]
            )
        elif made and luck < 0.15:
            made.append(earlier._replace(**number))  # type: ignore[arg-type]
        else:
            made.append(trade)
    return made


async def play(world: StageWorld, trades: Iterable[Trade], *, batch: int = 4) -> None:
    """Puts a close on the log: trades, frames of no trade, dead letters, bytes that are no trades, and prices."""
    await world.trade(trades, batch=batch)
    await world.append("trades.raw", 5, b"\xff no batch")
    for number in range(3):
        await world.append("sessions.raw", 2, encode_frames("A->EOD", [b"heartbeat %d" % number], [1]))
    for number in range(4):
        letter = fix_letter(
            b"8=FIX garbled %d" % number,
            REASON_DESERIALIZATION,
            "garbled",
            session="A->EOD",
            epoch=1,
            msg_seq_num=number,
            received_at_ns=1,
        )
        await world.append("trades.dlq", partition_of(letter.id, world.partitions), letter.SerializeToString())
    for number, symbol in enumerate(SYMBOLS):
        price = Price(symbol, PRICE_SOURCE_OFFICIAL_CLOSE, (100 + number) * 10**8, 1, 20260102)
        await world.append("prices.updates", partition_of(symbol, world.partitions), encode_prices([price]))


async def process(world: StageWorld, reference: Path | None) -> None:
    """Lets every stage read all there is, and ends them."""
    world.told = {"reference_file": str(reference)} if reference else {}
    workers = [world.start(stage) for stage in STAGES]
    for _ in range(2):  # stages write letters, which others read
        for stage in STAGES:
            await world.drained(stage)
    await asyncio.gather(*(worker.stop() for worker in workers))


async def reconciled(
    world: StageWorld,
    reference: Path | None = None,
    *,
    checks: frozenset[str] = STORES,
    sent: tuple[Tally, int] | None = None,
    wanted: Wanted | None = None,
    max_breaks: int = 100,
    progress: Progress | None = None,
    **more: Any,
) -> Report:
    """Compares."""
    known: ReferenceData | None = load_reference(reference) if reference else None
    if known is None:
        checks -= {"exceptions"}
    request = Request(checks, GROUPS, wanted or Wanted(), reference=known, sent=sent, settle_s=0.1, **more)
    return await reconcile(world.context, request, max_breaks, progress or Silent())
