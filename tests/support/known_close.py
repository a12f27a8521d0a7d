"""A market close of known content, and what the stores must hold after it, by plain arithmetic.

Nothing here comes from the stages. The table is what the counterparty sends; `positions`, `rows` and `exceptions` are
worked out from it with fractions, average cost by the textbook.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

BROKERS = 2
TRADERS = 12
STRATEGIES = ("AUCTION", "VWAP", "HEDGE")
SYMBOLS = tuple(f"S{number:02}" for number in range(40))
STRANGER = "STRANGER"
_BELL = datetime(2024, 11, 29, 18, 0, tzinfo=UTC)  # a half day: 13:00 in New York
_SIDES = "1125"  # buy, buy, sell, sell short
_E8 = 10**8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Report(NamedTuple):
    """One ExecutionReport: the cells of the counterparty's table, as text."""

    sender: str
    exec_id: str
    exec_ref_id: str
    exec_type: str
    symbol: str
    side: str
    quantity: str
    price: str
    trader: str
    strategy: str
    transact_time: str

    @property
    def is_trade(self) -> bool:
        """Whether it is booked: a trade or a bust."""
        return self.exec_type in {"F", "H"}

    @property
    def signed(self) -> Fraction:
        """The quantity, negative for a sale."""
        return Fraction(self.quantity) * (1 if self.side == "1" else -1)

    @property
    def transact_time_ns(self) -> int:
        """Nanoseconds since 1970."""
        form = "%Y%m%d-%H:%M:%S.%f" if "." in self.transact_time else "%Y%m%d-%H:%M:%S"
        at = datetime.strptime(self.transact_time, form).replace(tzinfo=UTC)
        return (at - _EPOCH) // timedelta(microseconds=1) * 1_000


def traders(tag: str) -> list[str]:
    """The traders of the close that has this tag."""
    return [f"{tag}-T{number:02}" for number in range(TRADERS)]


def reference(tags: Iterable[str]) -> dict[str, Any]:
    """Reference data that knows everybody but `STRANGER`, every strategy but "" and every symbol but the last."""
    return {
        "traders": {name: {"name": f"Name of {name}", "desk": f"Desk {name[-1]}"} for t in tags for name in traders(t)},
        "strategies": {name: {"name": f"The {name} strategy"} for name in STRATEGIES},
        "securities": {name: {"isin": f"XS00000000{name[1:]}"} for name in SYMBOLS[:-1]},
    }


def compose(tag: str, count: int, seed: int) -> list[Report]:
    """Reports of `BROKERS` sessions: trades, busts, repeats under a new sequence number, and reports of no trade."""
    random = Random(seed)
    names = traders(tag)
    reports: list[Report] = []
    standing: list[Report] = []
    while len(reports) < count:
        number, luck = len(reports), random.random()
        at = _BELL + timedelta(milliseconds=number // 4)
        time = at.strftime("%Y%m%d-%H:%M:%S") + (f".{at.microsecond // 1000:03}" if number % 10 else "")
        exec_id = f"{tag}{number:06}"
        if luck < 0.02 and standing:
            busted = standing.pop(random.randrange(len(standing)))
            reports.append(
                busted._replace(exec_id=exec_id, exec_ref_id=busted.exec_id, exec_type="H", transact_time=time)
            )
            continue
        if luck < 0.03 and standing:
            reports.append(random.choice(standing))
            continue
        trader = random.randrange(TRADERS)
        broker = f"{tag}-BROKER{trader % BROKERS}"
        report = Report(
            broker,
            exec_id,
            "",
            "F",
            random.choice(SYMBOLS),
            random.choice(_SIDES),
            str(random.randint(1, 500) * (1 if random.random() < 0.2 else 100)),
            f"{random.randint(100, 99_999)}.{random.randint(0, 9_999):04}",
            names[trader],
            random.choice(STRATEGIES),
            time,
        )
        if luck < 0.06:  # an order that is acknowledged or canceled: quantities and prices, and yet no trade
            report = report._replace(exec_type=random.choice("04"))
        elif luck < 0.065:
            report = report._replace(trader=f"{STRANGER}-{broker}")
        elif luck < 0.07:
            report = report._replace(strategy="")
        else:
            standing.append(report)
        reports.append(report)
    return reports


def write_table(reports: Sequence[Report], file: Path) -> None:
    """The reports as the counterparty reads them."""
    file.write_text("".join("\t".join(report) + "\n" for report in reports), encoding="latin-1")


def trades(reports: Iterable[Report]) -> dict[tuple[str, str], Report]:
    """(SenderCompID, ExecID) → what must be booked, each once, in the order sent."""
    found: dict[tuple[str, str], Report] = {}
    for report in reports:
        if report.is_trade:
            found.setdefault((report.sender, report.exec_id), report)
    return found


@dataclass
class Holding:
    """What a trader has of a symbol."""

    quantity: Fraction = Fraction(0)
    cost: Fraction = Fraction(0)
    realized: Fraction = Fraction(0)
    cash: Fraction = Fraction(0)
    standing: int = 0
    moves: int = 0

    def move(self, quantity: Fraction, price: Fraction) -> None:
        """Buys (positive) or sells (negative)."""
        self.cash -= quantity * price
        self.moves += 1
        if self.quantity * quantity < 0:
            share = min(Fraction(1), abs(quantity / self.quantity))
            closed, cost = self.quantity * share, self.cost * share
            self.realized += closed * price - cost
            self.cost -= cost
            self.quantity -= closed
            quantity += closed
        self.quantity += quantity
        self.cost += quantity * price


def positions(reports: Iterable[Report]) -> dict[tuple[str, str], Holding]:
    """(trader, symbol) → holding, as if what was busted had never been."""
    booked = trades(reports)
    gone = {(sender, report.exec_ref_id) for (sender, _), report in booked.items() if report.exec_type != "F"}
    held: dict[tuple[str, str], Holding] = {}
    for identity, report in booked.items():
        if report.exec_type == "F":
            holding = held.setdefault((report.trader, report.symbol), Holding())
            if identity not in gone:
                holding.standing += 1
                holding.move(report.signed, Fraction(report.price))
    return held


def rows(reports: Sequence[Report], target: str) -> dict[tuple[str, str], tuple[Any, ...]]:
    """(session, ExecID) → columns from action to ISIN of the regulatory store."""
    known = reference({report.sender.split("-")[0] for report in reports})
    found = {}
    for (sender, exec_id), report in trades(reports).items():
        who = known["traders"].get(report.trader, {"name": "", "desk": ""})
        found[f"{sender}->{target}", exec_id] = (
            1 if report.exec_type == "F" else 2,
            report.exec_ref_id,
            report.symbol,
            1 if report.side == "1" else 2,
            _exact_e8(report.quantity),
            _exact_e8(report.price),
            report.transact_time_ns,
            report.trader,
            report.strategy,
            who["name"],
            who["desk"],
            known["strategies"].get(report.strategy, {"name": ""})["name"],
            known["securities"].get(report.symbol, {"isin": ""})["isin"],
            _day_in_new_york(report.transact_time_ns),
            0,
        )
    return found


def _day_in_new_york(at_ns: int) -> int:
    return int(datetime.fromtimestamp(at_ns // 10**9, ZoneInfo("America/New_York")).strftime("%Y%m%d"))


def exceptions(reports: Iterable[Report], target: str) -> set[tuple[str, str, str, str]]:
    """(session, ExecID, field, value) of every name that the reference data does not know."""
    found = set()
    for (sender, exec_id), report in trades(reports).items():
        session = f"{sender}->{target}"
        if report.trader.startswith(STRANGER):
            found.add((session, exec_id, "trader", report.trader))
        if not report.strategy:
            found.add((session, exec_id, "strategy", ""))
        if report.symbol == SYMBOLS[-1]:
            found.add((session, exec_id, "security", report.symbol))
    return found


def _exact_e8(text: str) -> int:
    value = Fraction(text) * _E8
    if value.denominator != 1:
        raise AssertionError(f"{text} is not a multiple of 1e-8")
    return int(value)
