"""What the archive in a folder does beyond the contract: crashes half way, broken disks, keys that are folders."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest
from eod_workers.adapters.directory import DirectoryArchive
from eod_workers.ports import ArchivedObject, Unavailable

BODY = b"content"
DESCRIBED = ArchivedObject("a/b", len(BODY), hashlib.sha256(BODY).hexdigest())


@pytest.fixture
def archive(tmp_path: Path) -> DirectoryArchive:
    return DirectoryArchive(tmp_path)


async def listed(archive: DirectoryArchive) -> list[ArchivedObject]:
    return [archived async for archived in archive.objects()]


async def test_what_a_crash_left_behind_is_no_object(archive: DirectoryArchive, tmp_path: Path) -> None:
    """Temporary files are not listed, and nothing of ours stays behind after a put."""
    await archive.put_once("a/b", BODY)
    assert list((tmp_path / ".eod" / "tmp").iterdir()) == []
    (tmp_path / ".eod" / "tmp" / "stale").write_bytes(b"half")
    assert await listed(archive) == [DESCRIBED]


async def test_a_crash_before_the_hash_was_written_is_mended(archive: DirectoryArchive, tmp_path: Path) -> None:
    """The object is whole and listed with the hash of its content; putting it again completes it."""
    await archive.put_once("a/b", BODY)
    sidecar = tmp_path / ".eod" / "sha256" / "a" / "b"
    sidecar.unlink()
    assert await listed(archive) == [DESCRIBED]
    assert await archive.get("a/b") == BODY
    assert await archive.put_once("a/b", BODY) == DESCRIBED
    assert sidecar.read_text() == DESCRIBED.sha256


@pytest.mark.parametrize("broken", ["fsync", "link"])
async def test_a_broken_disk_is_unavailable_and_leaves_no_object(
    archive: DirectoryArchive, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Nothing appears under the key, and the same call succeeds when the disk works again."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail)
        with pytest.raises(Unavailable, match="No space"):
            await archive.put_once("a/b", BODY)
    assert await archive.get("a/b") is None
    assert await listed(archive) == []
    assert await archive.put_once("a/b", BODY) == DESCRIBED


async def test_everything_is_durable_before_the_put_returns(
    archive: DirectoryArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The content before it gets its name, then the folder of the name and every folder that was new."""
    synced: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    await archive.put_once("a/b/c", BODY)
    folders = {str(tmp_path / name) for name in ("", "a", "a/b", ".eod", ".eod/sha256/a/b")}
    assert folders <= {name.rstrip("/") for name in synced}
    contents = [index for index, name in enumerate(synced) if "/tmp/" in name.removeprefix(str(tmp_path))]
    assert len(contents) == 2, "the object and its hash"
    assert contents[0] < synced.index(str(tmp_path / "a" / "b"))


async def test_a_key_cannot_be_the_folder_of_another(archive: DirectoryArchive) -> None:
    """Said at once and for good, not as something that may pass."""
    await archive.put_once("a/b", BODY)
    for key in ("a", "a/b/c"):
        with pytest.raises(ValueError, match="folder"):
            await archive.put_once(key, BODY)
        assert await archive.get(key) is None
    assert await listed(archive) == [DESCRIBED]
