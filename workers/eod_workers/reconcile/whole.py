"""The reconciliation of a pipeline that runs in this process, and what it comes to as plain values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from eod_contract.kinds import KINDS

from eod_workers.dead_letters.lookup import list_letters
from eod_workers.pnl.published import Key, Published
from eod_workers.pnl.publishing import format_e16
from eod_workers.reconcile.report import CHECKS, Report
from eod_workers.reconcile.run import Progress, Request, reconcile
from eod_workers.runtime.stages import Context, Ports
from eod_workers.runtime.variables import TopicNames
from eod_workers.trades.contracts import HOUSE, currency_of
from eod_workers.trades.numbers import format_e8
from eod_workers.trades.reference import ReferenceData

WAIT_S = 60.0
"""How long what is on its way to the stores may take."""
Letters = Counter[tuple[str, str]]
"""(reason, detail) → how many dead letters."""


async def reconcile_whole(
    ports: Ports, topics: TopicNames, reference: ReferenceData | None, progress: Progress, *, max_breaks: int
) -> Report:
    """Compares all that there is, but for what was sent.

    Raises:
        NotComparable: a stage did not come to its end.
    """
    context = Context(
        log=ports.log,
        state=ports.state,
        regulatory=ports.regulatory,
        archive=ports.archive,
        clock=ports.clock,
        network=ports.network,
        topics=topics,
    )
    request = Request(
        checks=frozenset(CHECKS) - {"sent"} - (set() if reference else {"exceptions"}),
        groups={kind.name: kind.group for kind in KINDS.values() if kind.group},
        wait_s=WAIT_S,
        reference=reference,
    )
    return await reconcile(context, request, max_breaks, progress)


async def count_letters(ports: Ports) -> Letters:
    """The dead letters that are listed."""
    listed = await list_letters(ports.state)
    return Counter((one.summary["reason"], one.summary["detail"]) for one in listed)


def position_rows(positions: Mapping[Key, Published], house: str = HOUSE) -> list[dict[str, Any]]:
    """Positions as plain values, in the order of traders and symbols; quantities, prices and money as exact text."""
    return [
        {
            "trader": trader,
            "symbol": symbol,
            "quantity": format_e8(one.quantity_e8),
            "average_price": _or_none(one.average_price_e8),
            "mark": _or_none(one.mark_e8),
            "realized": format_e16(one.realized_e16),
            "unrealized": None if one.unrealized_e16 is None else format_e16(one.unrealized_e16),
            "total": None if one.total_e16 is None else format_e16(one.total_e16),
            "trades": one.trades,
            "multiplier": format_e8(one.multiplier_e8),
            "currency": currency_of(symbol) or house,
            "approximate": one.approximate,
        }
        for (trader, symbol), one in sorted(positions.items())
    ]


def letter_rows(letters: Letters) -> list[dict[str, Any]]:
    """Dead letters as plain values, the most frequent first."""
    return [{"reason": reason, "detail": detail, "letters": count} for (reason, detail), count in letters.most_common()]


def _or_none(price_e8: int | None) -> str | None:
    return None if price_e8 is None else format_e8(price_e8)
