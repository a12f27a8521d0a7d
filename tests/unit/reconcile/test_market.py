"""Random markets through the stages on embedded adapters reconcile, trade by trade and with their own tally."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from eod_workers.market.tally import BadTally, Execution, Tally, digest, read_tally, write_tally
from eod_workers.reconcile.report import BROKEN, EQUAL
from eod_workers.trades.model import SIDE_BUY, Trade
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.amounts import examples
from support.pnl_executions import histories
from support.stage_world import StageWorld
from unit.reconcile.close import mixed, play, process, reconciled

pytestmark = pytest.mark.timeout(120)


@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.too_slow])
@given(trades=histories(), batch=st.integers(1, 5))
async def test_any_history_of_trades_reconciles(trades: list[Trade], batch: int) -> None:
    """Resends, redrives, sequence resets, busts of busts, trades without a side: the log decides, the stores agree."""
    with TemporaryDirectory() as folder:
        world = await StageWorld(Path(folder)).open()
        try:
            await play(world, trades, batch=batch)
            await process(world, None)
            report = await reconciled(world)
            assert (report.exit_code, report.breaks) == (EQUAL, [])
        finally:
            await world.close()


# --- what was sent ------------------------------------------------------------------------------------------


def tally_of(trades: list[Trade]) -> Tally:
    """What a market that sent exactly these would say: its frames are those of the log, and four were garbled."""
    tally = Tally()
    for trade in trades:
        identity = trade.identity
        quantity = trade.last_qty_e8 if trade.side == SIDE_BUY else -trade.last_qty_e8
        if identity in tally.executions:
            tally.duplicates += 1
        else:
            tally.messages += 1
        tally.executions.setdefault(
            identity,
            Execution(
                *trade.identity, trade.exec_ref_id, trade.action, trade.symbol, trade.trader,
                trade.strategy, quantity, trade.last_px_e8, trade.transact_time_ns,
                trade.multiplier_e8,
            ),
        )  # fmt: skip
        tally.wrote(trade.frame)
    for number in range(3):
        tally.wrote(b"heartbeat %d" % number)
    for number in range(4):
        raw = b"8=FIX garbled %d" % number
        tally.wrote(raw)
        tally.garbled.add(digest(raw))
    return tally


async def sent_and_reconciled(tmp_path: Path, tally: Tally, trades: list[Trade]) -> tuple[int, list[str]]:
    world = await StageWorld(tmp_path).open()
    try:
        await play(world, trades)
        await process(world, None)
        report = await reconciled(world, sent=(tally, 0), checks=frozenset({"rows", "sent"}))
        return report.exit_code, [f"{found.kind}: {found.trade or found.found}" for found in report.breaks]
    finally:
        await world.close()


async def test_what_was_sent_is_what_the_log_has(tmp_path: Path) -> None:
    trades = mixed(120)
    assert await sent_and_reconciled(tmp_path, tally_of(trades), trades) == (EQUAL, [])


async def test_a_trade_that_never_arrived_is_named_with_its_frame(tmp_path: Path) -> None:
    trades = mixed(120)
    gone = next(one for one in trades if sum(one.exec_id == other.exec_id for other in trades) == 1)
    assert await sent_and_reconciled(tmp_path, tally_of(trades), [one for one in trades if one != gone]) == (
        BROKEN,
        [f"missing: {gone.exec_id} of {gone.session}", "missing: 1 frames that were sent are not there"],
    )


async def test_a_trade_that_was_never_sent_is_named_with_its_frame(tmp_path: Path) -> None:
    trades = mixed(60)
    _, named = await sent_and_reconciled(tmp_path, tally_of(trades[:-1]), trades)
    assert f"extra: {trades[-1].exec_id} of {trades[-1].session}" in named


async def test_a_trade_that_arrived_otherwise_is_named_with_what_differs(tmp_path: Path) -> None:
    trades = mixed(60)
    tally = tally_of(trades)
    identity = trades[5].identity
    tally.executions[identity] = tally.executions[identity]._replace(px_e8=1)
    code, named = await sent_and_reconciled(tmp_path, tally, trades)
    assert (code, named) == (BROKEN, [f"different: {trades[5].exec_id} of {trades[5].session}"])


async def test_a_garbled_frame_without_a_letter_is_named(tmp_path: Path) -> None:
    trades = mixed(60)
    tally = tally_of(trades)
    tally.garbled.add(digest(b"another"))
    code, named = await sent_and_reconciled(tmp_path, tally, trades)
    assert (code, named) == (BROKEN, ["different: 1 garbled or refused frames are not the dead letters there are"])


async def test_a_duplicate_that_nobody_sent_is_counted(tmp_path: Path) -> None:
    trades = mixed(60)
    tally = dataclasses.replace(tally_of(trades))
    tally.duplicates += 1
    code, named = await sent_and_reconciled(tmp_path, tally, trades)
    assert code == BROKEN
    assert named == [f"different: {tally.duplicates - 1} messages came twice"]


class _Meanwhile:
    """Progress that lets something happen when a phase begins, once."""

    def __init__(self, phase: str, happens: Callable[[], Awaitable[None]]) -> None:
        self._phase = phase
        self._happens: Callable[[], Awaitable[None]] | None = happens
        self.happening: asyncio.Task[None] | None = None

    def phase(self, text: str, total: int | None = None) -> None:
        del total
        if self._phase in text and self._happens is not None:
            self.happening = asyncio.ensure_future(self._happens())
            self._happens = None

    def advance(self, steps: int = 1) -> None:
        pass


async def test_what_is_on_its_way_from_the_socket_to_the_log_is_waited_for(tmp_path: Path) -> None:
    """A counterparty has its Logout answered before the log has acknowledged its last frames."""
    trades = mixed(60)
    world = await StageWorld(tmp_path).open()
    try:
        await play(world, trades[:-2])
        await process(world, None)

        async def arrives() -> None:
            await world.trade(trades[-2:])
            await process(world, None)

        meanwhile = _Meanwhile("differences to what was sent", arrives)
        checks = frozenset({"rows", "positions", "letters", "archive", "sent"})
        told: dict[str, Any] = {"sent": (tally_of(trades), 0), "checks": checks}
        assert (await reconciled(world, **told)).exit_code == BROKEN
        report = await reconciled(world, **told, wait_s=60, progress=meanwhile)
        assert (report.exit_code, report.breaks) == (EQUAL, [])
        assert meanwhile.happening is not None
        await meanwhile.happening
    finally:
        await world.close()


async def test_what_never_arrives_is_named_when_the_wait_is_over(tmp_path: Path) -> None:
    trades = mixed(20)
    world = await StageWorld(tmp_path).open()
    try:
        await play(world, trades[:-1])
        await process(world, None)
        report = await reconciled(world, sent=(tally_of(trades), 0), checks=frozenset({"rows", "sent"}), wait_s=0.7)
        assert {found.check for found in report.breaks} == {"sent"}
    finally:
        await world.close()


# --- the tally's file ---------------------------------------------------------------------------------------


def test_a_tally_is_read_as_it_was_written(tmp_path: Path) -> None:
    tally = tally_of(mixed(80))
    tally.unknown.add(next(iter(tally.executions)))
    tally.busts, tally.marks_e8 = 3, {"IBM": 5}
    file = tmp_path / "tally.jsonl"
    write_tally(tally, file, again_intact=7)
    assert read_tally(file) == (tally, 7)


SPOILT: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "cut off": (lambda lines: lines[:-1], "ends too early: it has"),
    "another form": (lambda lines: ["{}", *lines[1:]], "is no tally of this version: 'eod market play --tally"),
    "empty": (lambda _: [], "is no tally of this version"),
    "no JSON at all": (lambda _: ["nonsense"], "line 1 is no line of a tally"),
    "no JSON": (lambda lines: [*lines[:2], "nonsense"], "line 3 is no line of a tally"),
    "no digest": (lambda lines: [*lines[:2], '{"frame": "xy"}'], "line 3 is no line of a tally"),
    "half an execution": (lambda lines: [*lines[:2], '{"execution": [1]}'], "line 3 is no line of a tally"),
    "no object": (lambda lines: [*lines[:2], "[]"], "line 3 is no line of a tally"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_file_that_is_no_whole_tally_is_refused_with_its_line(tmp_path: Path, case: str) -> None:
    spoil, said = SPOILT[case]
    file = tmp_path / "tally.jsonl"
    write_tally(tally_of(mixed(20)), file, again_intact=0)
    file.write_text("\n".join(spoil(file.read_text().splitlines())), encoding="utf-8")
    with pytest.raises(BadTally, match=said):
        read_tally(file)


def test_a_tally_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadTally, match="cannot be read: No such file"):
        read_tally(tmp_path / "none")
