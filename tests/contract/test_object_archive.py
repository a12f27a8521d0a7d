"""The promises of `ports.ObjectArchive`, for every archive."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from eod_workers.adapters import s3
from eod_workers.adapters.directory import DirectoryArchive
from eod_workers.adapters.s3 import S3Archive
from eod_workers.ports import ArchiveConflict, ArchivedObject, ObjectArchive

Open = Callable[[], ObjectArchive]


@pytest.fixture(params=["directory", pytest.param("s3", marks=pytest.mark.s3)])
async def open_archive(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the same archive, each time anew."""
    opened: list[ObjectArchive] = []
    if request.param == "directory":
        make: Open = lambda: DirectoryArchive(tmp_path / "archive")  # noqa: E731
    else:
        server, bucket = request.getfixturevalue("s3_server"), request.getfixturevalue("s3_bucket")
        make = lambda: S3Archive(  # noqa: E731
            bucket,
            endpoint=server.endpoint,
            prefix="trades/",
            access_key=server.access_key,
            secret_key=server.secret_key,
            region=server.region,
        )

    def open_() -> ObjectArchive:
        opened.append(make())
        return opened[-1]

    yield open_
    for archive in opened:
        await archive.close()


@pytest.fixture
def archive(open_archive: Open) -> ObjectArchive:
    return open_archive()


def described(key: str, body: bytes) -> ArchivedObject:
    return ArchivedObject(key, len(body), hashlib.sha256(body).hexdigest())


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


async def listed(archive: ObjectArchive, prefix: str = "") -> list[ArchivedObject]:
    return [archived async for archived in archive.objects(prefix)]


@pytest.mark.parametrize("body", [b"", b"frames", bytes(range(256)) * 5_000])
async def test_an_object_comes_back_as_it_was_put(open_archive: Open, body: bytes) -> None:
    """Also to somebody who opens the archive later."""
    key = "raw/2026-01-05/trades.raw-3/00000000000000000042.zst"
    assert await open_archive().get(key) is None
    assert await open_archive().put_once(key, body) == described(key, body)
    assert await open_archive().get(key) == body
    assert await listed(open_archive()) == [described(key, body)]


async def test_an_archive_that_is_there_is_found_sound_and_left_as_it_is(archive: ObjectArchive) -> None:
    await archive.check()
    assert await listed(archive) == []
    await archive.put_once("a/b", b"content")
    await archive.check()


async def test_an_object_is_never_replaced(archive: ObjectArchive) -> None:
    """The same content again is success, other content is a conflict, and neither changes anything."""
    first = await archive.put_once("a/b", b"content")
    assert await archive.put_once("a/b", b"content") == first
    for other in (b"contenT", b"", b"content and more"):
        with pytest.raises(ArchiveConflict, match="a/b"):
            await archive.put_once("a/b", other)
    assert await archive.get("a/b") == b"content"
    assert await listed(archive) == [first]


async def test_one_of_eight_writers_of_a_key_wins(open_archive: Open) -> None:
    """The losers are told, and the content is the winner's, whole."""
    bodies = [bytes([65 + number]) * (10_000 + number) for number in range(8)]
    archives = [open_archive() for _ in bodies]
    for attempt in range(5):
        puts = [archive.put_once(f"race-{attempt}", body) for archive, body in zip(archives, bodies, strict=True)]
        results = await asyncio.gather(*puts, return_exceptions=True)
        won = [number for number, result in enumerate(results) if isinstance(result, ArchivedObject)]
        assert len(won) == 1
        assert [type(result) for number, result in enumerate(results) if number not in won] == [ArchiveConflict] * 7
        assert await archives[0].get(f"race-{attempt}") == bodies[won[0]]


async def test_eight_writers_of_the_same_content_all_succeed(open_archive: Open) -> None:
    results = await asyncio.gather(*(open_archive().put_once("same", b"content") for _ in range(8)))
    assert set(results) == {described("same", b"content")}


async def test_objects_are_listed_in_the_order_of_their_keys(
    archive: ObjectArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them, over several pages, by the bytes of the keys and not folder by folder; a prefix may end anywhere."""
    monkeypatch.setattr(s3, "_PAGE_KEYS", 4)
    keys = ["a-b", "a.b", "a/b", "a/b-c", "a/bc/d", "a0", "b", "é", "B", "raw/10", "raw/9", "raw-x/1"]
    for key in keys:
        await archive.put_once(key, key.encode())
    expected = [described(key, key.encode()) for key in sorted(keys, key=str.encode)]
    assert await listed(archive) == expected
    for prefix in ("a", "a/", "a/b", "raw/", "r", "zz", "a/bc/d"):
        assert await listed(archive, prefix) == [a for a in expected if a.key.startswith(prefix)], prefix


async def test_keys_are_listed_from_any_place_on_and_no_more_than_wanted(archive: ObjectArchive) -> None:
    keys = ["a-b", "a/00", "a/01", "a/01x", "a/02", "a/10", "b", "a/99/x"]
    for key in keys:
        await archive.put_once(key, b"")
    ordered = sorted(keys)
    assert await archive.keys("") == ordered
    within = ["a/00", "a/01", "a/01x", "a/02", "a/10", "a/99/x"]
    assert await archive.keys("a/") == within
    for after in ("a/", "a/00", "a/01", "a/011", "a/5", "a/99/x", "zz"):
        expected = [key for key in within if key > after]
        assert await archive.keys("a/", after=after) == expected, after
        assert await archive.keys("a/", after=after, most=2) == expected[:2], after
    assert await archive.keys("c") == []
    for most in (0, 1_001):
        with pytest.raises(ValueError, match="can be listed at once"):
            await archive.keys("", most=most)


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../escape", "a/../../b", "a//b", "a/", "./a", "a/.", ".eod/tmp/x", "a\0b", "a\\b"]
)
async def test_a_key_that_is_no_plain_path_is_refused(archive: ObjectArchive, tmp_path: Path, key: str) -> None:
    before = files(tmp_path)
    with pytest.raises(ValueError, match="key"):
        await archive.put_once(key, b"content")
    with pytest.raises(ValueError, match="key"):
        await archive.get(key)
    assert await listed(archive) == []
    assert files(tmp_path) == before


async def test_changed_content_is_noticed(
    archive: ObjectArchive, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Somebody with access to the disk or the bucket changes a byte: `get` raises instead of returning it."""
    archived = await archive.put_once("a/b", b"content")
    if isinstance(archive, DirectoryArchive):
        (tmp_path / "archive" / "a" / "b").write_bytes(b"contenT")
    else:
        client, bucket = request.getfixturevalue("s3_server").client(), request.getfixturevalue("s3_bucket")
        client.put_object(Bucket=bucket, Key="trades/a/b", Body=b"contenT", Metadata={"sha256": archived.sha256})
        client.close()
    with pytest.raises(ValueError, match=archived.sha256):
        await archive.get("a/b")


async def test_a_closed_archive_closes_twice(archive: ObjectArchive) -> None:
    await archive.put_once("a", b"")
    await archive.close()
    await archive.close()
