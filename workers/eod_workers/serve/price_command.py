"""`eod price`: a price, or a file of them, for a pipeline that runs."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from eod_workers.serve.prices import Answer
    from eod_workers.trades.prices import Price

_STDIN = "-"
_NAMED = 5


def price(
    symbol: Annotated[
        str, typer.Argument(help="The instrument as positions show it: IBM, 'ES 202603', 'VOD (GBP)'.")
    ] = "",
    px: Annotated[str, typer.Argument(metavar="PRICE", help="Its price, below 0 if it is.")] = "",
    csv_file: Annotated[
        str, typer.Option("--csv", help="A CSV instead: symbol,price[,source][,time]; '-' for standard input.")
    ] = "",
    source: Annotated[
        str, typer.Option(help="previous_close, mid, last_trade or official_close: each goes before those to its left.")
    ] = "last_trade",
    zone: Annotated[str, typer.Option(help="Time zone of trading days.")] = "America/New_York",
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="FIX port of the 'eod serve' that is meant; 9876 without it.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell a running pipeline a price, and so what positions are worth.

    That is the 'eod serve' of --port, or else the pipeline of EOD_KAFKA_BOOTSTRAP, if that is set.
    """
    from eod_workers.ports import Unavailable, UnknownTopic  # noqa: PLC0415 - 'eod --help' stays quick
    from eod_workers.process.settings import SettingsError  # noqa: PLC0415

    if bool(csv_file) == bool(symbol) or bool(symbol) != bool(px):
        _fail("name a symbol and its price (eod price IBM 185.25), or --csv FILE")
    try:
        prices = _prices(symbol, px, csv_file, source, zone)
        answer = asyncio.run(_tell(prices, port))
    except (OSError, ValueError, Unavailable, UnknownTopic, SettingsError) as error:
        _fail(str(error))
    told = {"taken": answer.taken, "held": list(answer.held)}
    typer.echo(json.dumps(told) if as_json else f"{answer.taken:,} {'price' if answer.taken == 1 else 'prices'} taken")
    if answer.positions or port is not None:
        _warn(prices, answer)


# A price below 0 looks as an option does; what is neither is one argument too many, and refused as such.
price.context_settings = {"ignore_unknown_options": True}  # type: ignore[attr-defined]


def _prices(symbol: str, px: str, csv_file: str, source: str, zone: str) -> list[Price]:
    from eod_workers.serve.prices import make_price, read_csv  # noqa: PLC0415
    from eod_workers.trades.dates import TradeDates  # noqa: PLC0415

    now_ns, dates = time.time_ns(), TradeDates(zone)
    if symbol:
        return [make_price(symbol, px, source=source, at_ns=now_ns, dates=dates)]
    if csv_file == _STDIN:
        return list(read_csv(sys.stdin, source=source, now_ns=now_ns, dates=dates))
    try:
        with Path(csv_file).open(encoding="utf-8", newline="") as lines:
            return list(read_csv(lines, source=source, now_ns=now_ns, dates=dates))
    except (IsADirectoryError, UnicodeDecodeError) as error:
        raise ValueError(f"--csv {csv_file}: it is no text in UTF-8: a CSV is wanted") from error


async def _tell(prices: Sequence[Price], port: int | None) -> Answer:
    from eod_workers.process.bootstrap import make_log, make_state  # noqa: PLC0415
    from eod_workers.process.settings import load_settings  # noqa: PLC0415
    from eod_workers.serve.prices import Answer, append_prices, send_prices  # noqa: PLC0415
    from eod_workers.trades.spread import spread_of  # noqa: PLC0415

    settings = load_settings()
    if port is not None or not settings.kafka_bootstrap:
        return await send_prices(9876 if port is None else port, prices)
    async with AsyncExitStack() as stack:
        log = make_log(settings)
        stack.push_async_callback(log.close)
        spread = None
        if state := make_state(settings):
            stack.push_async_callback(state.close)
            spread = await spread_of(log, state, settings.trades_topic)
        return Answer(await append_prices(log, settings.prices_topic, prices, spread), (), ())


def _warn(prices: Sequence[Price], answer: Answer) -> None:
    """Says which prices value nothing yet: their names may be slips."""
    for symbol in list(dict.fromkeys(one.symbol for one in prices if one.symbol not in answer.held))[:_NAMED]:
        near = get_close_matches(symbol, answer.positions, 1, 0.5)
        meant = f"; is {near[0]!r} meant?" if near else ""
        typer.echo(f"eod: nobody has traded {symbol!r} yet{meant}", err=True)


def _fail(why: str) -> NoReturn:
    typer.echo(f"eod: {why}", err=True)
    raise typer.Exit(2)
