"""Random histories of a worker's books, in C and in Python, with spoilt bytes among them: they must agree on everything."""

from __future__ import annotations

import time
from random import Random
from typing import Any, NamedTuple

from eod_workers.layouts import UndecodableBatch
from eod_workers.pnl.ledger import Ledger, PureLedger
from eod_workers.pnl.snapshot import ReadTo, load
from eod_workers.trades.codec import encode_trades
from eod_workers.trades.model import Trade
from eod_workers.trades.partitioner import partition_of
from eod_workers.trades.prices import Price, encode_prices

from fuzz.agreement import Disagreement

_PARTITIONS = 3
_SYMBOLS = ("IBM", "AIG", "MSFT", "GE", 'q"\\é', "")
_TRADERS = ("ann", "bob", "cy", "")
_LARGEST = 2**63 - 1


class Run(NamedTuple):
    """What a run has seen."""

    histories: int
    batches: int
    rows: int
    duplicates: int
    refused: int
    undecodable: int
    told: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.histories:,} histories, {self.batches:,} batches at {self.batches / self.seconds:,.0f}/s: {self.rows:,} rows, "
            f"{self.duplicates:,} of them repeats, {self.refused:,} refused; {self.undecodable:,} batches were spoilt, "
            f"{self.told:,} positions told; all agreed"
        )


class Both:
    """Two ledgers that are told the same, and what they said."""

    def __init__(self, random: Random) -> None:
        from eod_workers.pnl.ledger_kernel import Ledger as InC  # noqa: PLC0415 - what has no kernel can say so first

        self.random = random
        remember = random.choice((1, 2, 7, 40, 1_000))
        self.pure, self.in_c = PureLedger(1.0, remember), InC(1.0, remember)
        self.now = 0.0
        self.numbers = {"A->E": 0, "B->E": 0, "C" * 70: 0}
        self.large = random.random() < 0.2
        self.resets = random.choice((0, 3, 60))
        self.counts: dict[str, int] = {}
        for partition in range(_PARTITIONS):
            self.say("open", partition, None, 0.0)

    def count(self, name: str, more: int) -> None:
        """Adds to what the run reports."""
        self.counts[name] = self.counts.get(name, 0) + more

    def say(self, method: str, *args: Any) -> Any:
        """Calls both; what both answered, refusals of a batch included.

        Raises:
            Disagreement: they answered differently.
        """
        answers = [_answer(ledger, method, args) for ledger in (self.pure, self.in_c)]
        if answers[0] != answers[1]:
            raise Disagreement(f"{method}{args!r}\nwithout the kernel: {answers[0]!r}\nwith it: {answers[1]!r}")
        return answers[1]

    def row(self, symbol: str) -> Trade:
        """A row that goes on, repeats, refers to something, or makes no sense."""
        random = self.random
        session = random.choice(list(self.numbers))
        self.numbers[session] += 1
        newest = self.numbers[session]
        seq = newest if random.random() < 0.8 else random.randint(0, newest)
        ref = random.randint(max(newest - 30, 0), newest)
        amount = (
            random.choice((1, _LARGEST, -_LARGEST, 7)) if self.large else random.randint(1, 10 ** random.randint(1, 14))
        )
        return Trade(
            session=session,
            epoch=random.randint(0, self.resets),
            msg_seq_num=seq,
            exec_id=f"{seq:x}" * (1 + seq % 9),
            exec_ref_id=f"{ref:x}" * (1 + ref % 9),
            action=random.choice((1, 1, 1, 1, 2, 3)),
            side=random.choice((1, 2)),
            symbol=symbol,
            trader=random.choice(_TRADERS),
            strategy="s",
            account="",
            last_qty_e8=amount,
            last_px_e8=random.choice((amount, 5, -3, 10**10)),
            transact_time_ns=1,
            received_at_ns=random.choice((0, 5, -9)),
            frame=b"f" * random.randint(0, 3),
            trade_date=random.choice((0, 20260102, 20260102, 20260105)),
            time_source=random.choice((0, 0, 0, 1)),
            multiplier_e8=random.choice((0,) * 9 + (5 * 10**9, 10**6, 10**8 // 3, 2**63 - 1)),
        )

    def trade(self) -> None:
        """A batch of one partition, now and then with spoilt bytes."""
        random = self.random
        symbol = random.choice(_SYMBOLS)
        partition = partition_of(symbol, _PARTITIONS) if random.random() < 0.95 else random.randrange(_PARTITIONS)
        rows = [self.row(symbol) for _ in range(random.choice((1, 3, 20)))]
        if random.random() < 0.1:
            rows = [row._replace(redrive_of="letter") for row in rows]
        applied = self.say("apply_trades", partition, spoilt(random, encode_trades(rows)), self.now)
        if not isinstance(applied, str):
            self.say("applied_lateness", random.randint(-10, 10), [-5, 0, 5])
        self.count("batches", 1)
        if isinstance(applied, str):
            self.count("undecodable", 1)
        else:
            self.count("rows", applied.rows)
            self.count("duplicates", applied.duplicates)
            self.count("refused", len(applied.refused))

    def price(self) -> None:
        """Prices of one symbol, now and then with spoilt bytes."""
        random = self.random
        symbol = random.choice(_SYMBOLS)
        prices = [
            Price(
                symbol,
                random.randint(1, 4),
                random.choice((-1, 10**9, _LARGEST)),
                random.randint(-2, 2),
                random.randint(1, 2),
            )
            for _ in range(random.randint(0, 3))
        ]
        self.say("apply_prices", partition_of(symbol, _PARTITIONS), spoilt(random, encode_prices(prices)), self.now)

    def publish(self) -> None:
        """Whoever is due, or everybody; sometimes it fails."""
        self.now += self.random.choice((0.0, 0.25, 2.0))
        until = self.random.choice((self.now, self.now, float("inf")))
        publications = [ledger.due(until, as_of_ns=3, partitions=_PARTITIONS) for ledger in (self.pure, self.in_c)]
        if _told(publications[0]) != _told(publications[1]):
            raise Disagreement(f"due({until})\nwithout the kernel: {publications[0]!r}\nwith it: {publications[1]!r}")
        self.count("told", sum(len(part.fields) for said in publications[1] for part in said.parts))
        if self.random.random() < 0.2:
            self.pure.announce_again(publications[0], self.now)
            self.in_c.announce_again(publications[1], self.now)

    def snapshot(self) -> None:
        """Each goes on from what the other has written."""
        partition = self.random.randrange(_PARTITIONS)
        read = {"t": ReadTo(self.random.randint(0, 2**62), self.random.choice(("", "id")), self.random.randrange(3))}
        dumps = [ledger.dump(partition, read) for ledger in (self.pure, self.in_c)]
        books = [_content(data) for data in dumps]
        if books[0] != books[1]:
            raise Disagreement(f"dump({partition})\nwithout the kernel: {books[0]!r}\nwith it: {books[1]!r}")
        self.pure.open(partition, dumps[1], self.now)
        self.in_c.open(partition, dumps[0], self.now)

    def compare(self) -> None:
        """All that can be seen from outside."""
        for partition in range(_PARTITIONS):
            self.say("remembers", partition)
            for symbol in _SYMBOLS:
                self.say("mark", partition, symbol)
                self.say("value", partition, symbol)
            if list(self.pure.positions(partition)) != list(self.in_c.positions(partition)):
                raise Disagreement(f"the positions of partition {partition} differ")
        if self.pure.next_due() != self.in_c.next_due():
            raise Disagreement(f"next_due: {self.pure.next_due()} without the kernel, {self.in_c.next_due()} with it")


def _answer(ledger: Ledger, method: str, args: tuple[Any, ...]) -> Any:
    try:
        return getattr(ledger, method)(*args)
    except UndecodableBatch as error:
        return str(error)


def _told(publications: list[Any]) -> dict[str, object]:
    """What is told, without an order of the traders that are due at the same time, or of a message's symbols."""
    return {
        said.trader: ({part.partition: part.fields for part in said.parts}, list(said.received_at_ns))
        for said in publications
    }


def _content(data: bytes) -> tuple[object, ...]:
    book, offsets = load(data)
    forgotten = {session: dict(epochs) for session, epochs in book.forgotten().items() if epochs}
    return offsets, list(book.positions()), dict(book.marks()), forgotten, list(book.remembered())


def spoilt(random: Random, value: bytes) -> bytes:
    """The bytes, seldom with some of them changed, left out or put in."""
    out = bytearray(value)
    while out and random.random() < 0.15:
        at = random.randrange(len(out))
        match random.randrange(4):
            case 0:
                out[at] ^= 1 << random.randrange(8)
            case 1:
                out[at] = random.choice((0, 0x7F, 0x80, 0xFF))
            case 2:
                del out[at : at + random.choice((1, 1, 8, 1_000))]
            case _:
                out[at:at] = random.randbytes(random.choice((1, 2, 9)))
    return bytes(out)


def case(seed: str) -> dict[str, int]:
    """Plays one history; what it has seen.

    Raises:
        Disagreement: the two ledgers differ.
    """
    random = Random(seed)
    both = Both(random)
    for _ in range(random.choice((10, 60, 200))):
        random.choices((both.trade, both.price, both.publish, both.snapshot), (10, 3, 3, 1))[0]()
        if random.random() < 0.3:
            both.compare()
    both.compare()
    return both.counts


def run(seconds: float, seed: int) -> Run:
    """Plays histories for so long, at least one.

    Raises:
        Disagreement: with the seed of the history that shows it.
    """
    began = time.monotonic()
    histories, counts = 0, dict.fromkeys(Run._fields[1:-1], 0)
    while not histories or time.monotonic() - began < seconds:
        try:
            seen = case(f"{seed}.{histories}")
        except Exception as error:
            raise Disagreement(f"history {seed}.{histories} (fuzz.ledger.case repeats it): {error}") from error
        histories += 1
        for name, more in seen.items():
            counts[name] += more
    return Run(histories, **counts, seconds=time.monotonic() - began)
