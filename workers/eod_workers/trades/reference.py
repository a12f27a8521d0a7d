"""Reference data: who and what we know beside what a report says.

Stages read what they need of it (`load_reference`) and take what is there; whoever puts it into tables reads all of it
(`reference_rows`), and every number that is none is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eod_workers.ports import REFERENCE, MpidRow, ReferenceRows, SecurityRow, StrategyRow, TraderRow
from eod_workers.trades.contracts import CURRENCY, Contract, currency_of
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
    `multiplier` and `currency`, and needs no `isin` then. One that has a currency is known in it as well, as trades
    name it where it is not that of the house: `X (EUR)`.

    Raises:
        ValueError: the file is missing or not of that form; the message names the file and the entry.
    """
    data = _read(path)
    try:
        traders = {str(k): (str(v["name"]), str(v["desk"])) for k, v in data["traders"].items()}
        strategies = {str(k): str(v["name"]) for k, v in data["strategies"].items()}
        securities = _in_their_currencies({str(k): v for k, v in data["securities"].items()})
        return ReferenceData(
            traders=traders,
            strategies=strategies,
            securities={k: str(v["isin"]) for k, v in securities.items() if "isin" in v or not _has_terms(v)},
            contracts={k: _terms(f"{path}, securities, {k}", v) for k, v in securities.items() if _has_terms(v)},
        )
    except KeyError as error:
        raise ValueError(f"reference data {path} {_NEEDS}: {error} is missing") from None
    except (TypeError, AttributeError):
        raise ValueError(f"reference data {path} {_NEEDS}: an entry is of another form") from None


_NEEDS = "needs traders (name, desk), strategies (name) and securities (isin)"


def _read(path: str | Path, *, once: bool = False) -> Any:
    """Every scalar as it is written: ON, 001 and 1:30 are names, not what YAML takes them for.

    `once` refuses a name that comes twice in a mapping; the last counts otherwise.
    """
    import yaml  # noqa: PLC0415 - a worker without reference data starts sooner without it

    quickest = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, where it is there

    class AsWritten(quickest):  # type: ignore[misc,valid-type]
        yaml_implicit_resolvers = {"<": quickest.yaml_implicit_resolvers["<"]}  # noqa: RUF012 - `<<` alone

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - the library's
            names = [key.value for key, _ in node.value if isinstance(key.value, str)]
            if once and len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise yaml.constructor.ConstructorError(None, None, f"{twice} comes twice", node.start_mark)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), Loader=AsWritten)  # noqa: S506 - it is a safe one
    except OSError as error:
        raise ValueError(
            f"reference data {path} cannot be read: {error}; set EOD_REFERENCE_FILE to a YAML file"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"reference data {path} is not YAML: {error}") from None


def _in_their_currencies(securities: Mapping[str, Any]) -> dict[str, Any]:
    """Each security, and each that has a currency also under the key that says it."""
    named = {_in_currency(key, said["currency"]): said for key, said in securities.items() if "currency" in said}
    return {**securities, **{key: said for key, said in named.items() if key not in securities}}


def _in_currency(symbol: str, currency: str) -> str:
    """The key of an instrument in a currency that is not that of the house; see `Contracts.terms`."""
    return symbol if currency_of(symbol) else f"{symbol} ({currency})"


def _has_terms(said: Mapping[str, Any]) -> bool:
    return "multiplier" in said or "currency" in said


def _terms(where: str, said: Mapping[str, Any]) -> Contract:
    try:
        return _contract(said)
    except ValueError as error:
        raise ValueError(f"reference data {where}: {error}") from None


def _contract(said: Mapping[str, Any]) -> Contract:
    multiplier_e8, currency = 0, str(said.get("currency", ""))
    if "multiplier" in said:
        try:
            multiplier_e8 = parse_e8(str(said["multiplier"]).encode())
        except ValueError as error:
            raise ValueError(f"multiplier: {error}") from None
        if multiplier_e8 <= 0:
            raise ValueError(f"multiplier {said['multiplier']} must be above 0")
    if currency and not CURRENCY.match(currency):
        raise ValueError(f"currency {currency!r} is none such as USD (ISO 4217)")
    return Contract(multiplier_e8, currency)


# --- all of it, for tables ------------------------------------------------------------------------

NAME_UNITS = 400
"""Longest name of a trader, strategy, security or session, in characters."""
_MIC = re.compile(r"[A-Z0-9]{4}\Z")
_MPID = re.compile(r"[A-Z]{4}\Z")
_TOLD = 20
"""How many problems an error lists."""


def reference_rows(path: str | Path) -> ReferenceRows:
    """Reads reference data from YAML as rows, and looks at every number in it.

    Its form is that of `load_reference`. A security may have `cusip`, `sedol` and `mic` (its market) as well; the
    section `mpids: {SENDER->TARGET: {mpid, name}}` says who is at the other end of a session. A section that is not
    there is empty.

    Raises:
        ValueError: the file is missing or not of that form, or a number is none; the message lists what is wrong.
    """
    data = _read(path, once=True)
    problems: list[str] = []
    rows: dict[str, list[Any]] = {}
    if not isinstance(data, dict):
        raise ValueError(f"reference data {path} has no sections: {', '.join(REFERENCE)}")  # noqa: TRY004 - a bad file
    problems += [f"{name}: no such section; there are {', '.join(REFERENCE)}" for name in data if name not in REFERENCE]
    for table, make in _MAKERS.items():
        section = {} if data.get(table, "") == "" else data[table]
        if not isinstance(section, dict):
            problems.append(f"{table} is no mapping of names")
            continue
        rows[table] = []
        for key, said in section.items():
            name = str(key)
            try:
                rows[table].append(make(_named(name), _Entry(said)))
            except ValueError as error:
                problems.append(f"{table}, {name}: {error}")
    known = {row.symbol for row in rows.get("securities", ())}
    more = [
        row._replace(symbol=_in_currency(row.symbol, row.currency))
        for row in rows.get("securities", ())
        if row.currency
    ]
    rows.setdefault("securities", []).extend(row for row in more if row.symbol not in known)
    if problems:
        listed = [*problems[:_TOLD], *([f"and {len(problems) - _TOLD} more"] if len(problems) > _TOLD else [])]
        raise ValueError(f"reference data {path}: " + "; ".join(listed))
    return {table: sorted(some) for table, some in rows.items()}


def _named(name: str) -> str:
    if not name or name != name.strip() or len(name) > NAME_UNITS:
        raise ValueError(f"a name has 1 to {NAME_UNITS} characters, and no blank at either end")
    return name


class _Entry:
    """What is said of one name; fields are taken out, and what is left over is too much."""

    def __init__(self, said: object) -> None:
        if not isinstance(said, dict):
            raise ValueError("needs fields")  # noqa: TRY004 - see reference_rows
        self._left = {str(name): value for name, value in said.items()}
        self._known: list[str] = []

    def take(self, name: str, *, needed: bool = False) -> str:
        """A field as text; "" if it is not there."""
        self._known.append(name)
        value = self._left.pop(name, None)
        if value is None or value == "":
            if needed:
                raise ValueError(f"{name} is missing")
            return ""
        if isinstance(value, dict | list):
            raise ValueError(f"{name} is no text")  # noqa: TRY004 - see reference_rows
        return str(value)

    def end(self) -> None:
        """Raises ValueError for what nobody has taken."""
        if self._left:
            raise ValueError(f"no such field: {', '.join(self._left)}; there are {', '.join(self._known)}")


def _trader(name: str, said: _Entry) -> TraderRow:
    row = TraderRow(name, said.take("name", needed=True), said.take("desk", needed=True))
    said.end()
    return row


def _strategy(name: str, said: _Entry) -> StrategyRow:
    row = StrategyRow(name, said.take("name", needed=True))
    said.end()
    return row


def _mpid(name: str, said: _Entry) -> MpidRow:
    if "->" not in name:
        raise ValueError("is no session, which rows name SENDER->TARGET")
    mpid = said.take("mpid", needed=True)
    if not _MPID.match(mpid):
        raise ValueError(f"mpid {mpid!r} is not four capital letters")
    row = MpidRow(name, mpid, said.take("name"))
    said.end()
    return row


def _security(name: str, said: _Entry) -> SecurityRow:
    from stdnum import cusip, isin  # noqa: PLC0415 - only whoever fills tables needs it
    from stdnum.gb import sedol  # noqa: PLC0415

    numbers = {
        kind: _number(said, kind, check)
        for kind, check in (("isin", isin.validate), ("cusip", cusip.validate), ("sedol", sedol.validate))
    }
    mic = said.take("mic")
    if mic and not _MIC.match(mic):
        raise ValueError(f"mic {mic!r} is no market identifier such as XNYS (ISO 10383)")
    terms = {kind: text for kind in ("currency", "multiplier") if (text := said.take(kind))}
    said.end()
    contract = _contract(terms)
    if currency_of(name) not in {"", contract.currency} and contract.currency:
        raise ValueError(f"currency {contract.currency!r} is not that of the name")
    return SecurityRow(name, **numbers, mic=mic, currency=contract.currency, multiplier_e8=contract.multiplier_e8)


def _number(said: _Entry, kind: str, validate: Callable[[str], str]) -> str:
    from stdnum.exceptions import ValidationError  # noqa: PLC0415

    text = said.take(kind)
    if text:
        try:
            number = validate(text)
        except ValidationError as error:
            raise ValueError(f"{kind} {text!r}: {error}") from None
        if number != text:
            raise ValueError(f"{kind} {text!r} is written {number}")
    return text


_MAKERS: Mapping[str, Callable[[str, _Entry], Any]] = {
    "traders": _trader,
    "strategies": _strategy,
    "securities": _security,
    "mpids": _mpid,
}
