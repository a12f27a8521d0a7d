"""Who trades what in a played market, and the reference data that goes with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

import yaml

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DESKS = ("Equities", "ETF", "Program", "Delta One")
_STRATEGIES = ("VWAP", "TWAP", "CLOSE", "ARRIVAL", "PAIRS", "INDEX")


@dataclass(frozen=True, slots=True)
class Universe:
    """Symbols with their opening prices in 1e-8, traders and strategies."""

    symbols: tuple[str, ...]
    opening_px_e8: tuple[int, ...]
    traders: tuple[str, ...]
    strategies: tuple[str, ...]


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
            for i, trader in enumerate(universe.traders)
        },
        "strategies": {name: {"name": name.title()} for name in universe.strategies},
        "securities": {symbol: {"isin": isin(symbol)} for symbol in universe.symbols},
    }
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")


def isin(symbol: str) -> str:
    """An ISIN for a symbol, with its check digit (ISO 6166: Luhn over the letters as two-digit numbers)."""
    body = "US" + symbol.rjust(9, "0")
    digits = "".join(str(int(character, 36)) for character in body)
    total = 0
    for i, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 if i % 2 == 0 else 1)
        total += doubled // 10 + doubled % 10
    return body + str(-total % 10)
