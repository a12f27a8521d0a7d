"""What an earlier release has stored is read, and what a later one has written is refused by name."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from eod_workers.archive.segments import BrokenArchive, decode_segment
from eod_workers.kernel import available
from eod_workers.layouts import LAYOUTS, Layout, UndecodableBatch
from eod_workers.letters import decode_letter
from eod_workers.pnl.ledger import make_ledger
from eod_workers.pnl.snapshot import ReadTo, SnapshotRefused, load
from eod_workers.trades.codec import decode_frames, decode_trades
from eod_workers.trades.prices import decode_prices
from google.protobuf.message import Message
from support.samples import TOLD as TOLD_IN
from support.samples import read

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = ROOT / "tests" / "samples"
FIRST = SAMPLES / "first"
"""Of the first release, which knew less of a trade: what is missing there has a meaning, too."""
TOLD = json.loads((FIRST / TOLD_IN).read_text(encoding="utf-8"))
LATER = sorted(folder for folder in SAMPLES.iterdir() if folder != FIRST)


def sample(name: str) -> bytes:
    return (FIRST / f"{name}.bin").read_bytes()


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: str(layout.name))
def test_another_version_is_refused_with_both_versions_and_what_helps(layout: Layout[object]) -> None:  # type: ignore[type-var]
    later = layout.message(version=layout.version + 1).SerializeToString()  # type: ignore[call-arg,attr-defined]
    said = f"{layout.name} version {layout.version + 1}; this reader knows {layout.version}: {layout.otherwise}"
    with pytest.raises(UndecodableBatch, match=re.escape(said)):
        layout.parse(later)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: str(layout.name))
def test_bytes_that_are_no_such_message_are_refused_by_its_name(layout: Layout[object]) -> None:  # type: ignore[type-var]
    with pytest.raises(UndecodableBatch, match=f"not an? {layout.name}: "):
        layout.parse(b"\xff\xff")


def test_every_message_of_the_schema_that_has_a_version_is_a_layout() -> None:
    schema = "".join(file.read_text(encoding="utf-8") for file in sorted((ROOT / "protos").rglob("*.proto")))
    versions = {}
    for name, body in re.findall(r"^message (\w+) \{(.*?)^\}", schema, flags=re.MULTILINE | re.DOTALL):
        if found := re.search(r"Layout version: (\d+)\.", body):
            versions[name] = int(found[1])
    assert versions == {layout.name: layout.version for layout in LAYOUTS}


def test_stores_name_their_own_errors() -> None:
    with pytest.raises(BrokenArchive, match="not an ArchiveSegment"):
        decode_segment(b"\xff")
    with pytest.raises(SnapshotRefused, match=r"not a PnlSnapshot: .*; delete the snapshot to replay the log"):
        load(b"\xff")


# --- samples ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", LATER, ids=lambda folder: str(folder.name))
def test_what_later_releases_wrote_means_what_it_meant_to_them(folder: Path) -> None:
    assert read(folder) == json.loads((folder / TOLD_IN).read_text(encoding="utf-8"))


def _in_use(message: Message) -> set[str]:
    used = set()
    for field, value in message.ListFields():
        used.add(field.full_name)
        if field.message_type is not None:
            used |= {name for one in (value if isinstance(value, Sequence) else [value]) for name in _in_use(one)}
    return used


def _fields(described: Any) -> set[str]:
    return {
        name
        for one in described.fields
        for name in ({one.full_name} | (_fields(one.message_type) if one.message_type else set()))
    }


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: str(layout.name))
def test_every_field_that_is_written_has_a_sample(layout: Layout[Any]) -> None:
    """A new field wants a new folder: python -m support.samples."""
    used = set()
    for sample in (path for folder in LATER for path in folder.glob("*.bin")):
        with contextlib.suppress(UndecodableBatch):
            found = layout.parse(sample.read_bytes())
            if found.SerializeToString() == sample.read_bytes():
                used |= _in_use(found)
    assert used == _fields(layout.message.DESCRIPTOR)


def test_trades_of_an_earlier_release_are_read() -> None:
    assert [list(trade[:15]) for trade in decode_trades(sample("trade_batch"))] == TOLD["trades"]
    assert {(trade.trade_date, trade.time_source) for trade in decode_trades(sample("trade_batch"))} == {(0, 0)}
    assert [trade.frame.decode() for trade in decode_trades(sample("trade_batch"))] == TOLD["frames"]


def test_frames_and_prices_of_an_earlier_release_are_read() -> None:
    assert decode_frames(sample("frame_batch")) == ("A->EOD", [b"heartbeat", b"logout"])
    assert [list(price) for price in decode_prices(sample("price_batch"))] == TOLD["prices"]


@pytest.mark.parametrize("name", ["fix_letter", "trade_letter", "record_letter"])
def test_letters_of_an_earlier_release_are_read(name: str) -> None:
    letter = decode_letter(sample(name))
    assert [letter.id, letter.reason, letter.detail, letter.stage, letter.raw.hex()] == TOLD[name]


def test_segments_of_an_earlier_release_are_read() -> None:
    records = decode_segment(sample("archive_segment"))
    assert [[*record[:3], (record.key or b"").decode(), record.value.hex()] for record in records] == TOLD["segment"]


def test_snapshots_of_an_earlier_release_are_gone_on_from() -> None:
    book, offsets = load(sample("pnl_snapshot"))
    assert offsets == {topic: ReadTo(offset) for topic, offset in TOLD["offsets"].items()}
    positions = [[*key, p.quantity_e8, p.cost_e16, p.realized_e16, p.trades] for key, p in book.positions()]
    assert sorted(positions) == TOLD["positions"]


@pytest.mark.skipif(not available(), reason="the kernel is not built")
def test_the_kernel_goes_on_from_them_too() -> None:
    ledger = make_ledger(1.0)
    assert ledger.open(3, sample("pnl_snapshot"), 0.0) == {t: ReadTo(n) for t, n in TOLD["offsets"].items()}
    assert ledger.size == len(TOLD["positions"])
