"""Who trades what in a played market, and the reference data that goes with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

import yaml

from eod_workers.trades.numbers import E8

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DESKS = ("Equities", "ETF", "Program", "Delta One")
_LINES = 16
"""FIX lines whose accented traders the reference data knows."""
_STRATEGIES = ("VWAP", "TWAP", "CLOSE", "ARRIVAL", "PAIRS", "INDEX")


class Instrument(NamedTuple):
    """What is more than a symbol: its key (see `trades.instruments`), the fields that say so, price and multiplier."""

    key: str
    fields: bytes
    opening_px_e8: int
    multiplier_e8: int = 0


INSTRUMENTS = (
    Instrument(
        "ZIBM  260116C00150000",
        b"55=ZIBM\x01167=OPT\x01200=20260116\x01201=1\x01202=150\x01231=100\x01",
        12 * E8,
        100 * E8,
    ),
    Instrument("ZES 202603", b"55=ZES\x01167=FUT\x01200=202603\x01231=50\x01", 5_000 * E8, 50 * E8),
    Instrument("ZCLM0-ZCLN0", b"55=ZCLM0-ZCLN0\x01", -3_763_000_000),
    Instrument("ZVOD@XLON (GBP)", b"55=ZVOD\x01207=XLON\x0115=GBP\x01", 71 * E8),
    Instrument("ZBRK/B", b"55=ZBRK\x0165=B\x0115=USD\x01", 490 * E8),
    Instrument(
        "ZBUND 202603 (EUR)", b"55=ZBUND\x01167=FUT\x01200=202603\x01231=0.01\x0115=EUR\x01", 131 * E8, 1_000_000
    ),
)
"""An option, a future, a spread below 0, a share in pounds, one of another class, a future with a fraction in euro."""


@dataclass(frozen=True, slots=True)
class Universe:
    """Symbols with their opening prices in 1e-8, traders, strategies, and instruments that are more than a symbol."""

    symbols: tuple[str, ...]
    opening_px_e8: tuple[int, ...]
    traders: tuple[str, ...]
    strategies: tuple[str, ...]
    instruments: tuple[Instrument, ...] = INSTRUMENTS


def accented(line: int) -> str:
    """A trader of the line of that number (from 1) whose name needs UTF-8."""
    return f"Zoë Müller {line}"


def make_universe(seed: int, *, symbols: int = 60, traders: int = 20) -> Universe:
    """A universe that is the same for the same seed."""
    random = Random(f"universe-{seed}")
    names: dict[str, int] = {}
    while len(names) < symbols:
        name = "".join(random.choices(_LETTERS, k=random.choice((3, 4))))
        names.setdefault(name, random.randrange(500, 50_000) * 1_000_000)
    return Universe(
        symbols=tuple(names),
        opening_px_e8=tuple(names.values()),
        traders=tuple(f"T{number:03d}" for number in range(1, traders + 1)),
        strategies=_STRATEGIES,
    )


def write_reference(universe: Universe, path: Path) -> None:
    """The universe as the reference data of the regulatory stage."""
    data = {
        "traders": {
            trader: {"name": f"Trader {trader[1:]}", "desk": _DESKS[i % len(_DESKS)]}
            for i, trader in enumerate((*universe.traders, *map(accented, range(1, _LINES + 1))))
        },
        "strategies": {name: {"name": name.title()} for name in universe.strategies},
        "securities": {
            symbol: {"isin": isin(symbol)} for symbol in (*universe.symbols, *(one.key for one in universe.instruments))
        },
    }
    path.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")


def isin(symbol: str) -> str:
    """An ISIN for a symbol, with its check digit (ISO 6166: Luhn over the letters as two-digit numbers)."""
    letters = "".join(character for character in symbol.upper() if character.isascii() and character.isalnum())
    body = "US" + letters[-9:].rjust(9, "0")
    digits = "".join(str(int(character, 36)) for character in body)
    total = 0
    for i, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 if i % 2 == 0 else 1)
        total += doubled // 10 + doubled % 10
    return body + str(-total % 10)
