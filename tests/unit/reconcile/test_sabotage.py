"""Whatever one thing is changed in one store, exactly that is named; and nothing is, when nothing was changed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
from eod_workers.archive.segments import decode_segment, encode_segment, segment_key
from eod_workers.dead_letters.index import UNLISTED_KEY, Unlisted
from eod_workers.letters import REDRIVE_FOR_HEADER
from eod_workers.pnl.published import positions_key
from eod_workers.ports import Record, TopicPartition
from eod_workers.reconcile.report import BROKEN, EQUAL, UNDONE, NotComparable
from eod_workers.reconcile.span import Wanted
from eod_workers.trades.codec import decode_trades, encode_trades
from eod_workers.trades.conflicts import FIELD
from eod_workers.trades.gone import gone
from eod_workers.trades.partitioner import partition_of
from structlog.testing import capture_logs
from support.flow import SYMBOLS, flow
from support.sampled import sampled
from support.stage_world import PARTITIONS, StageWorld
from support.trade_rows import row
from unit.reconcile.close import STORES, mixed, play, process, reconciled, write_reference

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[StageWorld]:
    """A close that every stage has read."""
    made = await StageWorld(tmp_path).open()
    await play(made, mixed(400))
    await process(made, write_reference(tmp_path))
    yield made
    await made.close()


async def test_a_close_that_nobody_has_touched_is_equal(world: StageWorld) -> None:
    report = await reconciled(world, world.folder / "reference.yaml")
    assert (report.exit_code, report.breaks, report.undone, report.notes) == (EQUAL, [], [], [])
    numbers = report.numbers
    assert set(numbers) == STORES
    assert numbers["rows"]["trades"] == numbers["rows"]["rows"] == len(await world.rows()) > 300
    assert numbers["rows"]["duplicates"] > 5
    assert numbers["rows"]["undecodable_records"] == 1
    assert numbers["exceptions"]["exceptions"] > 50
    assert numbers["positions"]["positions"] == numbers["positions"]["expected"] > 50
    assert numbers["letters"]["letters"] == numbers["letters"]["stored"] > 4
    partitions = numbers["archive"]["partitions"].values()
    assert numbers["archive"]["log_records"] == numbers["archive"]["archived_records"] > 100
    assert all(one["log_sha256"] == one["archive_sha256"] for one in partitions)
    assert json.loads(json.dumps(report.as_json()))["result"] == "equal"


async def test_what_was_deleted_from_the_log_before_it_was_read_is_no_break(world: StageWorld) -> None:
    """It is noted for review in the regulatory store, and there is nothing to compare it with."""
    await world.regulatory.port.store("regulatory", [], [gone(TopicPartition("trades.raw", 0), 3, 9)], {})
    report = await reconciled(world, world.folder / "reference.yaml")
    assert (report.exit_code, report.breaks) == (EQUAL, [])


# --- sabotage: each returns what must be named ----------------------------------------------------


TRADES_ID = "trades.raw-0"


def _segments(world: StageWorld) -> list[Path]:
    """The objects of the topic of trades that hold several records, largest first."""
    found = sorted((world.folder / "archive" / "trades.raw").rglob("*.segment"), key=lambda file: -file.stat().st_size)
    return [file for file in found if len(decode_segment(file.read_bytes())) > 2]


def _rewrite(world: StageWorld, file: Path, body: bytes | None) -> None:
    """Replaces an object with its hash, or deletes both: what a thief would do."""
    key = file.relative_to(world.folder / "archive")
    hash_file = world.folder / "archive" / ".eod" / "sha256" / key
    for one in (file, hash_file):
        one.unlink()
    if body is not None:
        file.write_bytes(body)


async def _object_deleted(world: StageWorld) -> tuple[str, str, str]:
    file = _segments(world)[0]
    first = decode_segment(file.read_bytes())[0]
    _rewrite(world, file, None)
    return "archive", "missing", f"trades.raw[{first.partition}]@{first.offset}"


async def _object_corrupted(world: StageWorld) -> tuple[str, str, str]:
    file = _segments(world)[0]
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 1
    file.write_bytes(body)
    return "archive", "unreadable", file.relative_to(world.folder / "archive").as_posix()


async def _record_changed(world: StageWorld) -> tuple[str, str, str]:
    file = _segments(world)[0]
    records = decode_segment(file.read_bytes())
    records[1] = records[1]._replace(value=records[1].value + b"\x00")
    _rewrite(world, file, encode_segment(records, TRADES_ID))
    return "archive", "different", f"trades.raw[{records[1].partition}]@{records[1].offset}"


async def _trade_changed(world: StageWorld) -> tuple[str, str, str]:
    """The object and its hash fit together, and only a price in it is another."""
    file = _segments(world)[0]
    records = decode_segment(file.read_bytes())
    trades = decode_trades(records[1].value)
    changed = trades[-1]._replace(last_px_e8=trades[-1].last_px_e8 + 1)
    records[1] = records[1]._replace(value=encode_trades([*trades[:-1], changed]))
    _rewrite(world, file, encode_segment(records, TRADES_ID))
    return "archive", "different", f"@{records[1].offset}, {changed.exec_id} of {changed.session}: "


async def _record_rekeyed(world: StageWorld) -> tuple[str, str, str]:
    file = _segments(world)[0]
    records = decode_segment(file.read_bytes())
    records[1] = records[1]._replace(key=b"another")
    _rewrite(world, file, encode_segment(records, TRADES_ID))
    return "archive", "different", f"trades.raw[{records[1].partition}]@{records[1].offset}"


async def _record_dropped(world: StageWorld) -> tuple[str, str, str]:
    file = _segments(world)[0]
    records = decode_segment(file.read_bytes())
    gone = records.pop(1)
    _rewrite(world, file, encode_segment(records, TRADES_ID))
    return "archive", "missing", f"trades.raw[{gone.partition}]@{gone.offset}"


async def _record_invented(world: StageWorld) -> tuple[str, str, str]:
    """An offset in the midst that the log does not have."""
    original = world.log.read

    async def read(source: TopicPartition, start: int, end: int) -> AsyncIterator[Record]:
        async for record in original(source, start, end):
            if (source.topic, source.partition, record.offset) != ("sessions.raw", 2, 1):
                yield record

    world.log.read = read  # type: ignore[method-assign]
    return "archive", "extra", "sessions.raw[2]@1"


async def _records_lost_by_the_log(world: StageWorld) -> tuple[str, str, str]:
    """The archive reaches further than the log."""
    partition = world.log._topics["sessions.raw"].partitions[2]
    del partition.records[-1:]
    return "archive", "extra", "sessions.raw[2]@2: the archive has records from behind the end"


async def _record_archived_twice(world: StageWorld) -> tuple[str, str, str]:
    file = _segments(world)[0]
    last = decode_segment(file.read_bytes())[-2:]
    key = segment_key(last[0].topic, last[0].partition, last[0].offset, TRADES_ID)
    await world.archive.port.put_once(key, encode_segment(last, TRADES_ID))
    return "archive", "twice", f"trades.raw[{last[0].partition}]@{last[0].offset}"


async def _stranger_in_the_archive(world: StageWorld) -> tuple[str, str, str]:
    await world.archive.port.put_once(f"trades.raw/{TRADES_ID}/0003/readme", b"hello")
    return "archive", "extra", f"trades.raw/{TRADES_ID}/0003/readme"


def _sql(world: StageWorld, statement: str, *values: object) -> None:
    """Changes the regulatory store behind its triggers."""
    with closing(sqlite3.connect(world.folder / "regulatory.sqlite")) as connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        assert connection.execute(statement, values).rowcount == 1
        connection.commit()


async def _row_deleted(world: StageWorld) -> tuple[str, str, str]:
    row = (await world.rows())[7]
    _sql(world, "DELETE FROM trades WHERE session = ? AND exec_id = ?", row.session, row.exec_id)
    return "rows", "missing", f"{row.exec_id} of {row.session}"


async def _row_changed(world: StageWorld) -> tuple[str, str, str]:
    row = (await world.rows())[7]
    _sql(world, "UPDATE trades SET last_px_e8 = last_px_e8 + 1 WHERE exec_id = ?", row.exec_id)
    return "rows", "different", f"last_px_e8 is {row.last_px_e8 + 1}; should be {row.last_px_e8}"


async def _row_enriched_otherwise(world: StageWorld) -> tuple[str, str, str]:
    row = next(row for row in await world.rows() if row.desk)
    _sql(world, "UPDATE trades SET desk = 'another' WHERE exec_id = ?", row.exec_id)
    return "rows", "different", "desk is 'another'; should be 'D'"


async def _row_moved(world: StageWorld) -> tuple[str, str, str]:
    row = (await world.rows())[7]
    _sql(world, 'UPDATE trades SET "offset" = "offset" + 1 WHERE exec_id = ?', row.exec_id)
    return "rows", "different", f"offset is {row.offset + 1}; should be {row.offset}"


async def _row_invented(world: StageWorld) -> tuple[str, str, str]:
    row = (await world.rows())[7]
    names = ", ".join(f'"{name}"' for name in row._fields if name != "exec_id")
    copied = f"INSERT INTO trades (exec_id, {names}) SELECT 'NOBODY', {names} FROM trades WHERE exec_id = ?"  # noqa: S608 - our own names
    _sql(world, copied, row.exec_id)
    return "rows", "extra", "NOBODY of "


async def _row_of_a_lost_record(world: StageWorld) -> tuple[str, str, str]:
    """A row of a record behind the end of the log."""
    row = (await world.rows())[7]
    names = ", ".join(f'"{name}"' for name in row._fields if name not in {"exec_id", "offset"})
    copied = (
        f"INSERT INTO trades (exec_id, \"offset\", {names}) SELECT 'LOST', 9999, {names} FROM trades WHERE exec_id = ?"  # noqa: S608 - our own names
    )
    _sql(world, copied, row.exec_id)
    return "rows", "extra", "@9999, LOST of "


async def _exception_deleted(world: StageWorld) -> tuple[str, str, str]:
    noted = [one async for one in world.regulatory.exceptions()][3]
    _sql(world, "DELETE FROM exceptions WHERE session = ? AND trade_date = ? AND exec_id = ? AND field = ?", *noted[:4])
    return "exceptions", "missing", f"an exception for {noted.field} '{noted.value}'"


async def _exception_invented(world: StageWorld) -> tuple[str, str, str]:
    row = (await world.rows())[7]
    _sql(world, "INSERT INTO exceptions VALUES (?, ?, ?, 'strategy', 'VWAP', '')", *row[:3])
    return "exceptions", "extra", "an exception for strategy 'VWAP'"


async def _exception_of_nothing(world: StageWorld) -> tuple[str, str, str]:
    _sql(world, "INSERT INTO exceptions VALUES ('A->EOD', 20260102, 'NOBODY', 'trader', 'x', '')")
    return "exceptions", "extra", "NOBODY of A->EOD"


async def _exception_changed(world: StageWorld) -> tuple[str, str, str]:
    noted = [one async for one in world.regulatory.exceptions()][3]
    _sql(
        world,
        "UPDATE exceptions SET value = 'other' WHERE session = ? AND trade_date = ? AND exec_id = ? AND field = ?",
        *noted[:4],
    )
    return "exceptions", "different", f"an exception for {noted.field} 'other'"


def _position(world: StageWorld) -> tuple[str, str, dict[str, bytes]]:
    """A trader, a symbol of theirs, and the hash that holds it."""
    hashes = world.state.port._entries
    key = min(key for key in hashes if key.startswith("positions:"))
    fields = hashes[key]
    return key.removeprefix("positions:"), sorted(fields)[2], fields


async def _position_deleted(world: StageWorld) -> tuple[str, str, str]:
    trader, symbol, fields = _position(world)
    del fields[symbol]
    return "positions", "missing", f"{trader} {symbol}"


async def _position_changed(world: StageWorld) -> tuple[str, str, str]:
    trader, symbol, fields = _position(world)
    told = json.loads(fields[symbol])
    fields[symbol] = json.dumps(told | {"quantity": "1"}).encode()
    return "positions", "different", f"{trader} {symbol}: quantity is 1; should be {told['quantity']}"


async def _mark_changed(world: StageWorld) -> tuple[str, str, str]:
    trader, symbol, fields = _position(world)
    told = json.loads(fields[symbol])
    fields[symbol] = json.dumps(told | {"mark_source": "mid"}).encode()
    return "positions", "different", f"{trader} {symbol}: mark_source is mid; should be official_close"


async def _position_garbled(world: StageWorld) -> tuple[str, str, str]:
    trader, symbol, fields = _position(world)
    fields[symbol] = b"[]"
    return "positions", "different", f"{trader} {symbol}: []; should be a position"


async def _position_invented(world: StageWorld) -> tuple[str, str, str]:
    _, symbol, fields = _position(world)
    world.state.port._entries[positions_key("NOBODY")] = {symbol: fields[symbol]}
    return "positions", "extra", f"NOBODY {symbol}"


def _letter(world: StageWorld) -> tuple[str, str, dict[str, bytes]]:
    """The key of a list, an id in it, and what it lists."""
    key = next(key for key in sorted(world.state.port._entries) if key.startswith("dlq:index:"))
    lines: dict[str, bytes] = world.state.port._entries[key]
    return key, min(lines), lines


async def _letter_deleted(world: StageWorld) -> tuple[str, str, str]:
    key, letter, lines = _letter(world)
    del lines[letter]
    return "letters", "missing", f"{letter}: it is not in {key}"


async def _letter_deleted_where_others_had_no_room(world: StageWorld) -> tuple[str, str, str]:
    """What is said to have had no room stands before it."""
    key, letter, lines = _letter(world)
    before = json.loads(lines[letter])["offset"] - 1
    del lines[letter]
    world.state.port._entries[UNLISTED_KEY] = {key.rsplit(":")[-1]: Unlisted(5, before).stored()}
    return "letters", "missing", letter


async def _letter_changed(world: StageWorld) -> tuple[str, str, str]:
    _, letter, lines = _letter(world)
    line = json.loads(lines[letter])
    lines[letter] = json.dumps({**line, "offset": line["offset"] + 1}).encode()
    return "letters", "different", f"{letter}: its line says offset {line['offset'] + 1}"


async def _letter_garbled(world: StageWorld) -> tuple[str, str, str]:
    _, letter, lines = _letter(world)
    lines[letter] = lines[letter][:-1]
    return "letters", "different", letter


async def _letter_invented(world: StageWorld) -> tuple[str, str, str]:
    _, letter, lines = _letter(world)
    lines["f" * 20] = lines[letter]
    return "letters", "extra", "f" * 20


SABOTAGE: list[Callable[[StageWorld], Awaitable[tuple[str, str, str]]]] = [
    _object_deleted, _object_corrupted, _record_changed, _trade_changed, _record_rekeyed, _record_dropped, _record_invented, _records_lost_by_the_log,
    _record_archived_twice, _stranger_in_the_archive, _row_deleted, _row_changed, _row_enriched_otherwise, _row_moved,
    _row_invented, _row_of_a_lost_record, _exception_deleted, _exception_invented, _exception_of_nothing, _exception_changed,
    _position_deleted, _position_changed, _mark_changed, _position_garbled, _position_invented, _letter_deleted,
    _letter_deleted_where_others_had_no_room, _letter_changed, _letter_garbled, _letter_invented,
]  # fmt: skip


async def test_what_is_redriven_for_the_regulatory_store_alone_is_in_no_position(tmp_path: Path) -> None:
    """Flash P&L passes it over, and so do the books that its positions are held against."""
    world = await StageWorld(tmp_path).open()
    try:
        await play(world, mixed(100))
        trade = row(1, exec_id="alone", trader="NOBODY-ELSE", symbol=SYMBOLS[0], redrive_of="x" * 20)
        producer = await world.log.producer()
        headers = [(REDRIVE_FOR_HEADER, b"regulatory")]
        number = partition_of(trade.symbol, PARTITIONS)
        await (await producer.send("trades.raw", number, encode_trades([trade]), headers=headers))
        await process(world, None)
        report = await reconciled(world, checks=frozenset({"rows", "positions"}))
        assert (report.exit_code, report.breaks) == (EQUAL, [])
        assert "alone" in {one.exec_id async for one in world.regulatory.trades()}
        assert await world.state.hash_get_all(positions_key("NOBODY-ELSE")) == {}
    finally:
        await world.close()


async def test_a_letter_that_had_no_room_in_the_list_is_where_it_should_be(world: StageWorld) -> None:
    key, letter, lines = _letter(world)
    line = json.loads(lines.pop(letter))
    world.state.port._entries[UNLISTED_KEY] = {key.rsplit(":")[-1]: Unlisted(1, line["offset"]).stored()}
    report = await reconciled(world)
    assert (report.exit_code, report.numbers["letters"]["unlisted"]) == (EQUAL, 1)


@pytest.mark.parametrize("spoil", SABOTAGE, ids=lambda spoil: spoil.__name__.strip("_"))
async def test_one_thing_changed_in_one_store_is_named_and_nothing_else(
    world: StageWorld, spoil: Callable[[StageWorld], Awaitable[tuple[str, str, str]]]
) -> None:
    check, kind, said = await spoil(world)
    report = await reconciled(world, world.folder / "reference.yaml")
    assert report.exit_code == BROKEN
    (found,) = report.breaks
    assert (found.check, found.kind) == (check, kind)
    assert said in str(found)
    assert report.counts == {check: 1}
    if check == "archive" and said.startswith("trades.raw") and kind != "extra":
        assert " of " in found.trade, "a trade is named wherever there is one"


async def test_an_exec_id_of_two_trades_is_noted_and_named_where_both_are_counted(tmp_path: Path) -> None:
    """In one partition the first is the trade everywhere; in two, flash P&L cannot see that there is another."""
    world = await StageWorld(tmp_path).open()
    first, second, *rest = flow(40)
    apart = next(
        symbol for symbol in SYMBOLS if partition_of(symbol, PARTITIONS) != partition_of(first.symbol, PARTITIONS)
    )
    elsewhere, beside = first._replace(symbol=apart), second._replace(last_px_e8=second.last_px_e8 + 1)
    await play(world, [first, second, *rest])
    reference = write_reference(tmp_path)
    await process(world, reference)
    await play(world, [elsewhere, beside], batch=1)
    with capture_logs() as logs:
        await process(world, reference)
    report = await reconciled(world, reference)
    (found,) = report.breaks
    assert (found.check, found.kind, found.trade) == ("rows", "conflict", f"{first.exec_id} of {first.session}")
    assert f"{apart} at" in found.found
    assert "which is not stored and counts in flash P&L" in found.found
    assert f"{first.symbol} at" in found.expected
    noted = {
        row.exec_id: row.detail
        for row in [one async for one in world.regulatory.port.exceptions()]
        if row.field == FIELD
    }
    assert noted.keys() == {first.exec_id, second.exec_id}
    assert f"{apart} at" in noted[first.exec_id]
    assert sum(line["trades"] for line in logs if line["event"] == "regulatory.conflicts") == 2
    counted = [one for worker in world.workers if (one := getattr(worker.metrics, "exceptions", None)) is not None]
    assert sum(sampled(one, "eod_regulatory_exceptions_total", field=FIELD) for one in counted) == 2
    await world.close()


# --- what is compared -----------------------------------------------------------------------------


async def test_breaks_beyond_the_limit_are_counted_and_not_named(world: StageWorld) -> None:
    for _ in range(5):
        await _row_deleted(world)
    report = await reconciled(world, world.folder / "reference.yaml", max_breaks=2)
    assert [found.kind for found in report.breaks] == ["missing", "missing"]
    assert report.counts == {"rows": 5}


async def test_a_stage_that_is_behind_is_named_and_nothing_is_compared(world: StageWorld) -> None:
    await world.trade(flow(10, start=2_000, seed=5))
    with pytest.raises(NotComparable, match=r"regulatory is \d+ records behind.*--wait.*--group"):
        await reconciled(world, checks=frozenset({"rows"}))
    report = await reconciled(world, checks=frozenset({"rows"}), anyway=True)
    assert report.counts == {"rows": 10}
    assert "counts as missing" in report.notes[0]


async def test_it_waits_for_a_stage_that_is_behind(world: StageWorld) -> None:
    await world.trade(flow(10, start=2_000, seed=5))
    await process(world, world.folder / "reference.yaml")
    assert (await reconciled(world, world.folder / "reference.yaml", wait_s=5)).exit_code == EQUAL


async def test_only_the_chosen_partition_is_compared(world: StageWorld) -> None:
    row = (await world.rows())[0]
    partition = row.partition
    other = next(row for row in await world.rows() if row.partition != partition)
    _sql(world, "UPDATE trades SET trader = 'x' WHERE session = ? AND exec_id = ?", other.session, other.exec_id)
    chosen = Wanted(frozenset({partition}))
    assert (await reconciled(world, world.folder / "reference.yaml", wanted=chosen)).exit_code == EQUAL
    _sql(world, "UPDATE trades SET trader = 'x' WHERE session = ? AND exec_id = ?", row.session, row.exec_id)
    report = await reconciled(world, world.folder / "reference.yaml", wanted=chosen)
    assert (report.exit_code, report.counts["rows"]) == (BROKEN, 1)


async def test_what_the_log_no_longer_has_is_left_out_and_books_are_made_of_the_rows(world: StageWorld) -> None:
    """As after retention: the store's rows stand in for the beginning, and a changed position is still found."""
    ends = await world.log.end_offsets("trades.raw")
    starts = {TopicPartition("trades.raw", number): end // 2 for number, end in ends.items()}
    report = await reconciled(world, world.folder / "reference.yaml", wanted=Wanted(starts=starts))
    assert (report.exit_code, report.breaks) == (EQUAL, [])
    assert report.numbers["rows"]["rows_outside"] > 50
    await _position_changed(world)
    report = await reconciled(world, world.folder / "reference.yaml", wanted=Wanted(starts=starts))
    assert report.counts == {"positions": 1}


async def test_a_time_is_a_beginning_too(world: StageWorld) -> None:
    report = await reconciled(world, wanted=Wanted(since_ms=4_000_000_000_000))
    assert report.exit_code == EQUAL
    assert report.numbers["rows"]["trades"] == 0
    assert report.numbers["archive"]["log_records"] == 0


async def test_positions_that_change_meanwhile_are_not_called_breaks(world: StageWorld) -> None:
    """Trades come in after the end was taken and before the positions are read: nobody can tell then."""
    original = world.state.port.keys

    async def keys(prefix: str) -> list[str]:
        if prefix == "positions:":
            world.state.port.keys = original
            await world.trade(flow(30, start=3_000, seed=8))
            await process(world, world.folder / "reference.yaml")
        return await original(prefix)  # type: ignore[no-any-return]

    world.state.port.keys = keys
    report = await reconciled(world, world.folder / "reference.yaml")
    assert (report.exit_code, report.breaks) == (UNDONE, [])
    assert "still come in" in report.undone[0]


async def test_positions_that_are_published_late_are_waited_for(world: StageWorld) -> None:
    """As long as the caller said, where that is longer than positions usually take."""
    original, looks = world.state.port.hash_get_all, 0
    stale = {key: await original(key) for key in await world.state.port.keys("positions:")}
    await world.trade(flow(30, start=3_000, seed=8))
    await process(world, world.folder / "reference.yaml")

    async def late(key: str) -> dict[str, bytes]:
        nonlocal looks
        looks += key in stale
        return stale[key] if key in stale and looks < 4 * len(stale) else await original(key)

    world.state.port.hash_get_all = late
    assert (await reconciled(world)).counts.keys() == {"positions"}
    report = await reconciled(world, wait_s=60)
    assert (report.exit_code, report.breaks) == (EQUAL, [])


async def test_what_does_not_exist_is_said(world: StageWorld) -> None:
    with pytest.raises(NotComparable, match=r"has partitions 0 to 11, not 12"):
        await reconciled(world, wanted=Wanted(frozenset({12})))
    with pytest.raises(NotComparable, match=r"trades.raw\[1\] has no offset 99999: it has 0 to"):
        await reconciled(world, wanted=Wanted(starts={TopicPartition("trades.raw", 1): 99_999}))


async def test_nothing_is_written_and_no_group_is_joined(world: StageWorld) -> None:
    """Every call that went to a store only read; the log's groups are those of the stages."""
    groups = set(world.log._groups)
    for port in (world.state, world.regulatory, world.archive):
        port.calls.clear()
    ends = {topic: await world.log.end_offsets(topic) for topic in ("trades.raw", "trades.dlq")}
    await reconciled(world, world.folder / "reference.yaml")
    called = {name for port in (world.state, world.regulatory, world.archive) for name, _ in port.calls}
    assert called <= {"hash_get_all", "keys", "get", "get_versioned"}
    assert set(world.log._groups) == groups
    assert {topic: await world.log.end_offsets(topic) for topic in ends} == ends
