"""What a release writes to the log and to the stores, kept as bytes: whoever comes later must read it.

Run it when a layout has a new field, and commit the folder:

    PYTHONPATH=tests .venv/bin/python -m support.samples tests/samples/NAME

`read` says what such bytes mean; beside them it stands as `samples.json`, as the release that wrote them read them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eod_workers.archive.segments import decode_with_id, encode_segment
from eod_workers.letters import decode_letter, fix_letter, record_letter, trade_letter
from eod_workers.pnl.book import PartitionBook
from eod_workers.pnl.marks import Mark
from eod_workers.pnl.snapshot import ReadTo, dump, load
from eod_workers.ports import Record
from eod_workers.protos.dead_letter_pb2 import REASON_DESERIALIZATION, REASON_PROCESSING
from eod_workers.protos.prices_pb2 import PRICE_SOURCE_MID, PRICE_SOURCE_OFFICIAL_CLOSE
from eod_workers.trades.codec import decode_frames, decode_trades, encode_frames, encode_trades
from eod_workers.trades.model import ACTION_BUST, ACTION_CORRECT, SIDE_SELL, Trade
from eod_workers.trades.prices import Price, decode_prices, encode_prices
from google.protobuf.json_format import MessageToDict

from support.trade_rows import row

TOLD = "samples.json"
_DAY = 20261127
_AT_NS = 1_795_803_300_000_000_000
_E8 = 10**8
_REMEMBERED = 6


def write(folder: Path) -> None:
    """Writes a sample of each layout, with every field in use, and what they mean."""
    folder.mkdir(parents=True)
    for name, sample in _made().items():
        (folder / f"{name}.bin").write_bytes(sample)
    (folder / TOLD).write_text(json.dumps(read(folder), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(folder: Path) -> dict[str, Any]:
    """What the samples of a folder mean to this release, as JSON would have it."""
    held = {path.stem: path.read_bytes() for path in sorted(folder.glob("*.bin"))}
    book, read_to = load(held["pnl_snapshot"], _REMEMBERED)
    topic_id, records = decode_with_id(held["archive_segment"])
    meant = {
        "trade_batch": [_plain(trade._asdict()) for trade in decode_trades(held["trade_batch"])],
        "redriven_batch": [_plain(trade._asdict()) for trade in decode_trades(held["redriven_batch"])],
        "frame_batch": [
            decode_frames(held["frame_batch"])[0],
            [_text(one) for one in decode_frames(held["frame_batch"])[1]],
        ],
        "price_batch": [price._asdict() for price in decode_prices(held["price_batch"])],
        "letters": [
            MessageToDict(decode_letter(held[name])) for name in ("fix_letter", "trade_letter", "record_letter")
        ],
        "archive_segment": [
            [one.topic, one.partition, one.offset, _text(one.key or b""), one.value.hex(), one.timestamp_ms]
            + ([topic_id] if topic_id else [])
            for one in records
        ],
        "pnl_snapshot": {
            "offsets": {topic: to.offset if to == ReadTo(to.offset) else [*to] for topic, to in read_to.items()},
            "positions": [
                [*key, p.quantity_e8, p.cost_e16, p.realized_e16, p.trades, p.approximate]
                for key, p in book.positions()
            ],
            "incomplete": sorted(book.incomplete()),
            "marks": {symbol: mark._asdict() for symbol, mark in book.marks().items()},
            "multipliers": book.multipliers(),
            "forgotten": book.forgotten(),
            "remembered": [[*identity, *trade] for identity, trade in book.remembered()],
        },
    }
    told: dict[str, Any] = json.loads(json.dumps(meant))
    return told


def _made() -> Mapping[str, bytes]:
    trades = [
        _trade(1),
        _trade(2, symbol="ESZ6", side=SIDE_SELL, trader="", multiplier_e8=50 * _E8, time_source=1, account="ACC2"),
        _trade(3, action=ACTION_CORRECT, exec_ref_id="X1", last_px_e8=186 * _E8),
        _trade(4, session="BETA->EOD", epoch=3, strategy="", trader="TRÄGER"),
        _trade(5, action=ACTION_BUST, exec_ref_id="X4", session="BETA->EOD", epoch=3),
    ]
    record = Record("trades.raw", 3, 41, b"IBM", b"\xff\xff", _AT_NS // 1_000_000)
    letter = record_letter(record, "not a TradeBatch", stage="regulatory")
    letter.raw, letter.left_out = letter.raw[:1], 1  # as of a record that is half a megabyte longer
    return {
        "trade_batch": encode_trades(trades),
        "redriven_batch": encode_trades([_trade(6, redrive_of="463deb2b95a02986536d")]),
        "frame_batch": encode_frames("BETA->EOD", [b"heartbeat", b"logout"], [_AT_NS, _AT_NS + 1]),
        "price_batch": encode_prices(
            [
                Price("IBM", PRICE_SOURCE_OFFICIAL_CLOSE, 185 * _E8, _AT_NS, _DAY),
                Price("ESZ6", PRICE_SOURCE_MID, 6_000 * _E8, _AT_NS + 1, _DAY),
            ]
        ),
        "fix_letter": fix_letter(
            b"8=FIX garbled",
            REASON_DESERIALIZATION,
            "BodyLength(9) is wrong",
            session="BETA->EOD",
            epoch=3,
            msg_seq_num=7,
            received_at_ns=_AT_NS,
            zone="Europe/London",
            trader_tag=50,
        ).SerializeToString(),
        "trade_letter": trade_letter(
            trades[4], REASON_PROCESSING, "X4 is not known", stage="flash-pnl", record=record
        ).SerializeToString(),
        "record_letter": letter.SerializeToString(),
        "archive_segment": encode_segment([record, record._replace(offset=42, key=None, value=b"more")], "an id"),
        "pnl_snapshot": _snapshot(trades),
    }


def _snapshot(trades: list[Trade]) -> bytes:
    """Of a book that has forgotten, that knows what was corrected, and one of whose positions cannot be made anew."""
    book = PartitionBook(_REMEMBERED)
    old = [_trade(100 + number, session="OLD->EOD") for number in range(2)]
    odd = _trade(8, last_px_e8=184 * _E8 + 1, last_qty_e8=3)
    first, future, corrected, other = trades[:4]
    undone = _trade(9, action=ACTION_BUST, exec_ref_id="X8")
    for trade in (*old, future, first, corrected, other, odd, undone):
        book.apply(trade)
    book.apply_price("IBM", Mark(PRICE_SOURCE_OFFICIAL_CLOSE, 185 * _E8, _AT_NS, _DAY))
    return dump(book, 3, {"trades.raw": ReadTo(41, "an id", 2), "prices.updates": ReadTo(7)})


def _trade(number: int, **changes: Any) -> Trade:
    usual = {
        "last_px_e8": 185 * _E8,
        "transact_time_ns": _AT_NS + number,
        "received_at_ns": _AT_NS + 1_000_000 + number,
        "frame": b"8=FIX.4.4|34=%d|" % number,
        "trade_date": _DAY,
    }
    return row(number, **(usual | changes))


def _plain(trade: dict[str, Any]) -> dict[str, Any]:
    return trade | {"frame": _text(trade["frame"])}


def _text(raw: bytes) -> str:
    return raw.decode("latin-1")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
