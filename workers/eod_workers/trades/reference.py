"""Reference data: who and what we know beside what a report says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eod_workers.trades.contracts import CURRENCY, Contract
from eod_workers.trades.numbers import parse_e8


@dataclass(frozen=True, slots=True)
class ReferenceData:
    """Who and what we know: trader → (name, desk), strategy → name, instrument → ISIN, and the terms of contracts.

    `contracts` is by instrument (see `trades.instruments`) or by Symbol(55) alone.
    """

    traders: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    strategies: Mapping[str, str] = field(default_factory=dict)
    securities: Mapping[str, str] = field(default_factory=dict)
    contracts: Mapping[str, Contract] = field(default_factory=dict)


def load_reference(path: str | Path) -> ReferenceData:
    """Reads reference data from YAML.

    Its form: `traders: {T1: {name, desk}}`, `strategies: {S1: {name}}`, `securities: {X: {isin}}`. A security may have
    `multiplier` and `currency`, and needs no `isin` then.

    Raises:
        ValueError: the file is missing or not of that form; the message names the file and the entry.
    """
    import yaml  # noqa: PLC0415 - a worker without reference data starts sooner without it

    quickest = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, where it is there
    try:
        data = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=quickest)  # noqa: S506 - both are safe
    except OSError as error:
        raise ValueError(
            f"reference data {path} cannot be read: {error}; set EOD_REFERENCE_FILE to a YAML file"
        ) from None
    except yaml.YAMLError as error:
        raise ValueError(f"reference data {path} is not YAML: {error}") from None
    try:
        traders = {str(k): (str(v["name"]), str(v["desk"])) for k, v in data["traders"].items()}
        strategies = {str(k): str(v["name"]) for k, v in data["strategies"].items()}
        securities = {str(k): v for k, v in data["securities"].items()}
        return ReferenceData(
            traders=traders,
            strategies=strategies,
            securities={k: str(v["isin"]) for k, v in securities.items() if "isin" in v or not _has_terms(v)},
            contracts={k: _contract(f"{path}, securities, {k}", v) for k, v in securities.items() if _has_terms(v)},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"reference data {path} needs traders (name, desk), strategies (name) and securities (isin): {error!r}"
        ) from None


def _has_terms(said: Mapping[str, Any]) -> bool:
    return "multiplier" in said or "currency" in said


def _contract(where: str, said: Mapping[str, Any]) -> Contract:
    multiplier_e8, currency = 0, str(said.get("currency", ""))
    if "multiplier" in said:
        try:
            multiplier_e8 = parse_e8(str(said["multiplier"]).encode())
        except ValueError as error:
            raise ValueError(f"reference data {where}: multiplier: {error}") from None
        if multiplier_e8 <= 0:
            raise ValueError(f"reference data {where}: multiplier {said['multiplier']} must be above 0")
    if currency and not CURRENCY.match(currency):
        raise ValueError(f"reference data {where}: currency {currency!r} is none such as USD (ISO 4217)")
    return Contract(multiplier_e8, currency)
