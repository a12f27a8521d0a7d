"""An archive in a folder: one file an object, put there in one step and never replaced.

A body is written to a temporary file, made durable and then linked to its name; a link fails if the name is taken, so
of two writers one wins. The hash goes into a sidecar file. A crash between the two leaves an object that nobody was
told of: the next `put_once` of it completes the sidecar, and until then its hash is computed.
Files: `<root>/<key>`, `<root>/.eod/sha256/<key>` and `<root>/.eod/tmp/*`. Because keys are paths, no key can be the
folder of another.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import uuid
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from eod_workers.adapters.object_keys import MOST_KEYS, OWN_FOLDER, check_key, check_most
from eod_workers.ports import ArchiveConflict, ArchivedObject, Unavailable

Answer = TypeVar("Answer")


class DirectoryArchive:
    """Objects as files below `root`, which is created when the first object comes; see `ports.ObjectArchive`."""

    def __init__(self, root: Path | str) -> None:
        self._root = Path(root)
        self._hashes = self._root / OWN_FOLDER / "sha256"
        self._temporary = self._root / OWN_FOLDER / "tmp"

    async def check(self) -> None:
        """Returns if the folder is there, or could be made, and can be written to."""
        await _in_thread(self._check)

    async def put_once(self, key: str, body: bytes) -> ArchivedObject:
        """Stores an object that does not exist yet."""
        path = self._path(self._root, key)
        return await _in_thread(partial(self._put_once, key, path, body))

    async def get(self, key: str) -> bytes | None:
        """The content, or None if there is no such object."""
        path = self._path(self._root, key)
        return await _in_thread(partial(self._get, key, path))

    async def objects(self, prefix: str = "") -> AsyncIterator[ArchivedObject]:
        """The objects whose keys begin with `prefix`, in the order of their keys."""
        for key in await _in_thread(partial(self._keys, prefix)):
            yield await _in_thread(partial(self._describe, key))

    async def keys(self, prefix: str, *, after: str = "", most: int = MOST_KEYS) -> list[str]:
        """Up to `most` keys that begin with `prefix` and come after `after`, in their order."""
        check_most(most)
        found = await _in_thread(partial(self._keys, prefix))
        return [key for key in found if key > after][:most]

    async def close(self) -> None:
        """Does nothing: no file is open between calls."""

    def _check(self) -> None:
        try:
            _make_folder(self._temporary)
            writable = os.access(self._temporary, os.W_OK)
        except OSError as error:
            raise PermissionError(f"archive {self._root}: {error.strerror}: name another in EOD_ARCHIVE_URL") from error
        if not writable:
            raise PermissionError(f"archive {self._root}: not ours to write to: name another in EOD_ARCHIVE_URL")

    def _put_once(self, key: str, path: Path, body: bytes) -> ArchivedObject:
        sha256 = hashlib.sha256(body).hexdigest()
        if not self._create(path, body):
            stored = path.read_bytes()
            if stored != body:
                raise ArchiveConflict(f"{key} exists with other content: {path} has {len(stored)} bytes")
            _sync_folder(path.parent)  # the winner may not have come so far
        self._create(self._path(self._hashes, key), sha256.encode())
        return ArchivedObject(key, len(body), sha256)

    def _create(self, path: Path, body: bytes) -> bool:
        """Creates a durable file whole, or returns False if the name is taken."""
        _make_folder(path.parent)
        _make_folder(self._temporary)
        temporary = self._temporary / uuid.uuid4().hex
        try:
            with temporary.open("xb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
        return True

    def _get(self, key: str, path: Path) -> bytes | None:
        if not path.is_file():
            return None
        body = path.read_bytes()
        sidecar = self._path(self._hashes, key)
        computed = hashlib.sha256(body).hexdigest()
        if sidecar.exists() and (recorded := sidecar.read_text("ascii", errors="replace")) != computed:
            raise ValueError(f"{key} does not match its recorded hash: SHA-256 is {computed}, recorded was {recorded}")
        return body

    def _keys(self, prefix: str) -> list[str]:
        keys = []
        for folder, names, files in os.walk(self._root, onerror=_raise):
            if Path(folder) == self._root and OWN_FOLDER in names:
                names.remove(OWN_FOLDER)
            keys += [Path(folder, file).relative_to(self._root).as_posix() for file in files]
        return sorted(key for key in keys if key.startswith(prefix))

    def _describe(self, key: str) -> ArchivedObject:
        path = self._path(self._root, key)
        sidecar = self._path(self._hashes, key)
        if sidecar.exists():
            return ArchivedObject(key, path.stat().st_size, sidecar.read_text("ascii"))
        body = path.read_bytes()
        return ArchivedObject(key, len(body), hashlib.sha256(body).hexdigest())

    @staticmethod
    def _path(root: Path, key: str) -> Path:
        check_key(key)
        return root.joinpath(*key.split("/"))


async def _in_thread(call: Callable[[], Answer]) -> Answer:
    try:
        return await asyncio.to_thread(call)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ValueError(f"a key cannot be the folder of another: {error}") from error
    except OSError as error:
        raise Unavailable(f"the archive's folder: {error}") from error


def _make_folder(folder: Path) -> None:
    """Creates a folder and those above it, each one durable in the one above."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # nothing was archived yet
        raise error
