"""One stream through two connections, one with the kernel and one without: everything that comes of it must be equal."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

from eod_workers.fix.dictionary import dictionary
from eod_workers.fix.frames import MAX_FRAME_BYTES
from eod_workers.fix.session import Room, SequenceNumbers, Session
from eod_workers.ingestion.connection import Connection
from eod_workers.ingestion.limits import FRAME_BYTES, LETTER_BYTES, Budget
from eod_workers.ingestion.metrics import IngestionMetrics
from eod_workers.ingestion.terms import Terms
from eod_workers.ingestion.writer import LogWriter, Topics
from eod_workers.trades import columns as pure
from eod_workers.trades.codec import decode_trades
from eod_workers.trades.columns import Columns
from eod_workers.trades.dates import TradeDates
from eod_workers.trades.model import Trade

_NOWHERE = cast("Any", None)
_PARTITIONS = 12
MAX_MESSAGE_BYTES = 65_536
_WITHIN_S = 86_400
_TOPICS = Topics("trades", _PARTITIONS, "sessions", 1, "letters", 1)
Read = tuple[float, bytes]
"""Seconds that pass, and what the socket then brings; nothing is a look at the clock."""


@dataclass
class _Clock:
    at_ns: int = 1_767_387_600_000_000_000

    def now_ns(self) -> int:
        return self.at_ns


class _Socket(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        raise AssertionError("nothing here is ever full")


@dataclass
class Outcome:
    """What a stream has come to."""

    trades: dict[int, list[Trade]]
    aside: dict[str, tuple[list[bytes], list[int]]]
    letters: list[bytes]
    said: list[bytes]
    numbers: tuple[object, ...]
    fed_bytes: int
    in_flight_bytes: int
    plain: int = field(compare=False, default=0)


class Disagreement(AssertionError):
    """The two connections differ, or one did what it must not; the message says in what."""


def play(reads: list[Read], columns: Columns, version: bytes = b"FIX.4.4") -> Outcome:
    """Feeds a connection whose session is about to begin, until it hangs up or nothing is left, and ends it."""
    clock, socket, terms = _Clock(), _Socket(), Terms(sending_time_within_s=_WITHIN_S)
    writer = LogWriter(
        _NOWHERE, _NOWHERE, _NOWHERE, _TOPICS, full=lambda _: None, superseded=lambda _: None, waits=lambda _: None,
        columns=columns, metrics=IngestionMetrics(), max_in_flight_bytes=1 << 40,
    )  # fmt: skip
    connection = Connection(
        writer, cast("Any", clock), max_message_bytes=MAX_MESSAGE_BYTES, opener=_NOWHERE, renewer=_NOWHERE,
        saver=_NOWHERE, is_named=lambda _: False, opened=lambda _: "", closed=lambda _: None,
        refusals=lambda _: None, strangers=Budget(1 << 40, 1), room=Room(),
    )  # fmt: skip
    connection.connection_made(socket)
    connection.agree(terms)
    connection.name = "ACME->EOD"
    connection._dictionary = dictionary(version)
    connection._buffer.limit = MAX_FRAME_BYTES
    connection.session = session = Session(
        begin_string=version, sender=b"EOD", target=b"ACME", sequence=SequenceNumbers(), now_ns=clock.now_ns,
        rules=terms.rules,
    )  # fmt: skip
    plain = _count_plain(connection)
    fed = 0
    for seconds, data in reads:
        if socket.closed:
            break
        clock.at_ns += round(seconds * 1e9)
        if data:
            fed += len(data)
            connection.data_received(data)
        else:
            connection.tick()
    numbers = (
        *(session.sequence.inbound, session.sequence.outbound, session.sequence.epoch, session.held, session.closed),
        *(session._highest, session._last_received_ns, session._progress_ns, session._tested, socket.closed),
    )
    connection.connection_lost(None)
    trades: dict[int, list[Trade]] = {}
    for partition, rows, value in columns.drain():
        record = decode_trades(value)
        if rows != len(record):
            raise Disagreement(f"a record of {len(record)} trades says that it has {rows}")
        trades.setdefault(partition, []).extend(record)
    letters = [letter.SerializeToString(deterministic=True) for letter in writer._open.letters]
    out = Outcome(trades, writer._open.aside, letters, socket.written, numbers, fed, writer.in_flight_bytes, sum(plain))
    _check(out, [letter.raw for letter in writer._open.letters])
    return out


def _count_plain(connection: Connection) -> list[int]:
    """Notes how many messages the short way takes: a fuzzer that never meets it proves nothing."""
    taken: list[int] = []
    read = connection._read_plain
    if read is not None:

        def counted(
            buffer: Any, session: Session, name: str, received_at_ns: int, dates: TradeDates
        ) -> tuple[int, int] | None:
            read_now = read(buffer, session, name, received_at_ns, dates)
            taken.append(read_now[1] if read_now else 0)
            return read_now

        connection._read_plain = counted
    return taken


def _check(out: Outcome, letters: list[bytes]) -> None:
    """Rules that hold whoever reads: no byte lost or doubled, and no trade of a frame whose sums are wrong."""
    frames = [trade.frame for trades in out.trades.values() for trade in trades]
    kept = sum(map(len, [*frames, *letters])) + sum(len(raw) for raws, _ in out.aside.values() for raw in raws)
    asides = sum(len(raws) for raws, _ in out.aside.values())
    counted = out.in_flight_bytes - asides * FRAME_BYTES - len(letters) * LETTER_BYTES
    if kept != out.fed_bytes or counted != out.fed_bytes:
        raise Disagreement(f"{out.fed_bytes} bytes were read, {kept} are kept, {counted} were counted")
    check_sound(frames)


def check_sound(frames: list[bytes]) -> None:
    """Length and checksum of the frames of trades.

    Raises:
        Disagreement: a trade was made of a frame in which either is wrong.
    """
    for raw in frames:
        head, _, rest = raw.partition(b"\x019=")
        length, _, body = rest.partition(b"\x01")
        if (
            not head.startswith(b"8=FIX")
            or int(length) != len(body) - len(b"10=000\x01")
            or raw[-7:] != b"10=%03d\x01" % (sum(raw[:-7]) % 256)
        ):
            raise Disagreement(f"a trade was made of a frame that is not sound: {raw!r}")


def agree(reads: list[Read], version: bytes = b"FIX.4.4") -> Outcome:
    """Plays the reads with and without the kernel; what they came to.

    Raises:
        Disagreement: they differ.
    """
    from eod_workers.trades.columns_kernel import TradeColumns  # noqa: PLC0415 - what has no kernel can say so first

    without = play(reads, pure.TradeColumns(_PARTITIONS), version)
    with_kernel = play(reads, TradeColumns(_PARTITIONS), version)
    for name in Outcome.__dataclass_fields__:
        ours, theirs = getattr(with_kernel, name), getattr(without, name)
        if name != "plain" and ours != theirs:
            raise Disagreement(f"{name} with the kernel: {ours!r}\n{name} without: {theirs!r}\nreads: {reads!r}")
    return with_kernel
