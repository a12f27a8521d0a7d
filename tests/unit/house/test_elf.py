"""tools/elf.py: gaps between the segments of a library go, and what is loaded stays as it was."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pymssql
import pytest
from support.loaded import module_of

PAGE = 4096
PACKAGE = Path(pymssql.__file__).parent
LIBRARIES = PACKAGE.with_name("pymssql.libs")
CONNECT = """
import pymssql
try:
    pymssql.connect("127.0.0.1", user="nobody", password="none", port="1", login_timeout=1)
except pymssql.OperationalError:
    print(*{line.split()[-1] for line in open("/proc/self/maps") if "pymssql.libs" in line})
"""

close_gaps = module_of("tools/elf.py").close_gaps


def loaded(library: Path) -> list[tuple[int, int, int, bytes]]:
    """Address, flags, size in memory and bytes of what is loaded; each at an offset that a loader can map."""
    data = library.read_bytes()
    (at,), (count,) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<H", data, 56)
    found = []
    for number in range(count):
        kind, flags, offset, address, _, in_file, in_memory, align = struct.unpack_from(
            "<IIQQQQQQ", data, at + 56 * number
        )
        if kind == 1:
            assert offset % align == address % align
            found.append((address, flags, in_memory, data[offset : offset + in_file]))
    return found


def without_headers(segments: list[tuple[int, int, int, bytes]]) -> list[tuple[int, int, int, bytes]]:
    """The first begins with the headers, which say where the segments are: they are another's by right."""
    (address, flags, size, data), *others = segments
    (at,), (count,) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<H", data, 56)
    return [(address, flags, size, data[at + 56 * count :]), *others]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with a copy of a package and of the libraries that its wheel brought along."""
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name)
    shutil.copytree(LIBRARIES, tmp_path / LIBRARIES.name)
    return tmp_path


def test_libraries_shrink_hold_what_is_loaded_and_load(copied: Path) -> None:
    libraries = sorted((copied / LIBRARIES.name).iterdir())
    for library in libraries:
        size, before = library.stat().st_size, loaded(library)
        saved = close_gaps(library)
        assert library.stat().st_size == size - saved
        assert without_headers(loaded(library)) == without_headers(before)
        assert close_gaps(library) == 0, "once is enough"
    assert libraries
    if struct.calcsize("P") == 8 and "x86_64" in next(iter(PACKAGE.glob("_mssql*.so"))).name:
        together = sum(library.stat().st_size for library in libraries)
        segments = sum(len(data) for library in libraries for *_, data in loaded(library))
        assert together < segments + PAGE * 4 * len(libraries)
    done = subprocess.run(
        [sys.executable, "-c", CONNECT], env={"PYTHONPATH": str(copied)}, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == {str(library) for library in libraries}


def changed(data: bytes, at: int, *values: int) -> bytes:
    return data[:at] + bytes(values) + data[at + len(values) :]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda _: b"", id="nothing"),
        pytest.param(lambda data: data[:40], id="half a header"),
        pytest.param(lambda data: b"#!/bin/sh\n" + data, id="no library"),
        pytest.param(lambda data: changed(data, 4, 1), id="of 32 bits"),
        pytest.param(lambda data: changed(data, 18, 183), id="of another machine"),
        pytest.param(lambda data: changed(data, 54, 32), id="headers of another size"),
        pytest.param(lambda data: changed(data, 56, 0, 0), id="no segments"),
        pytest.param(lambda data: changed(data, 32, 0, 0, 1), id="headers elsewhere"),
    ],
)
def test_what_is_none_of_these_is_left_alone(tmp_path: Path, spoil: object) -> None:
    file = tmp_path / "library.so"
    data = spoil(next(iter(sorted(LIBRARIES.iterdir()))).read_bytes())  # type: ignore[operator]
    file.write_bytes(data)
    assert close_gaps(file) == 0
    assert file.read_bytes() == data
