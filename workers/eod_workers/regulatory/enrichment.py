"""Reference data, and what it adds to a trade. A name it does not know becomes an exception, never a silent blank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from eod_workers.ports import ExceptionRow, Record, TradeRow
from eod_workers.trades.model import Trade


@dataclass(frozen=True, slots=True)
class ReferenceData:
    """Who and what we know: trader → (name, desk), strategy → name, symbol → ISIN."""

    traders: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    strategies: Mapping[str, str] = field(default_factory=dict)
    securities: Mapping[str, str] = field(default_factory=dict)


def load_reference(path: str | Path) -> ReferenceData:
    """Reads reference data from YAML.

    Its form: `traders: {T1: {name, desk}}`, `strategies: {S1: {name}}`, `securities: {X: {isin}}`.

    Raises:
        ValueError: the file is missing or not of that form; the message names the file and the entry.
    """
    import yaml  # noqa: PLC0415 - a worker without reference data starts sooner without it

    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"reference data {path} cannot be read: {error}; set EOD_REFERENCE_FILE to a YAML file"
        ) from None
    except yaml.YAMLError as error:
        raise ValueError(f"reference data {path} is not YAML: {error}") from None
    try:
        return ReferenceData(
            traders={str(k): (str(v["name"]), str(v["desk"])) for k, v in data["traders"].items()},
            strategies={str(k): str(v["name"]) for k, v in data["strategies"].items()},
            securities={str(k): str(v["isin"]) for k, v in data["securities"].items()},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"reference data {path} needs traders (name, desk), strategies (name) and securities (isin): {error!r}"
        ) from None


def enrich(trade: Trade, reference: ReferenceData, record: Record) -> tuple[TradeRow, list[ExceptionRow]]:
    """The row of a trade and an exception for each name that reference data does not know."""
    trader = reference.traders.get(trade.trader)
    strategy = reference.strategies.get(trade.strategy)
    isin = reference.securities.get(trade.symbol)
    row = TradeRow(
        trade.session,
        trade.exec_id,
        trade.epoch,
        trade.msg_seq_num,
        trade.action,
        trade.exec_ref_id,
        trade.symbol,
        trade.side,
        trade.last_qty_e8,
        trade.last_px_e8,
        trade.transact_time_ns,
        trade.trader,
        trade.strategy,
        trade.account,
        trader[0] if trader else "",
        trader[1] if trader else "",
        strategy or "",
        isin or "",
        record.topic,
        record.partition,
        record.offset,
    )
    unknown = []
    for name, value, found in (
        ("trader", trade.trader, trader),
        ("strategy", trade.strategy, strategy),
        ("security", trade.symbol, isin),
    ):
        if found is None:
            said = f"{name} {value!r} is not in the reference data" if value else f"the report names no {name}"
            detail = f"{said}: add it, or have the counterparty correct it, then review this trade"
            unknown.append(ExceptionRow(trade.session, trade.exec_id, name, value, detail))
    return row, unknown
