"""Takes out of a shared library what lies in its file between its segments, and is never loaded.

Makers of wheels patch libraries for pages of 2 MiB, which leaves megabytes of zeros between segments of some kilobytes.
For pages of 4 KiB, which is all that x86-64 needs, segments may lie close together: the loader wants an offset in the
file and an address in memory to agree modulo the size of a page (System V ABI, "Program Header", p_align).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

PAGE = 4096
_X86_64 = 62
_LOAD = 1
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")


class _Segment(NamedTuple):
    """A program header, field by field."""

    type: int
    flags: int
    offset: int
    address: int
    physical: int
    in_file: int
    in_memory: int
    align: int


def close_gaps(library: Path) -> int:
    """Rewrites a library for x86-64 without the gaps between its segments; returns the bytes that are saved.

    What is in no segment goes, too: names of sections and symbols that no loader looks at. Anything else than a 64-bit
    library for x86-64 is left as it is, as is one that would not become smaller.
    """
    before = library.read_bytes()
    after = _closed(before)
    if after is None or len(after) >= len(before):
        return 0
    library.write_bytes(after)
    return len(before) - len(after)


def _is_in(one: _Segment, other: _Segment) -> bool:
    return other.offset <= one.offset and one.offset + one.in_file <= other.offset + other.in_file


def _closed(data: bytes) -> bytes | None:
    if len(data) < _HEADER.size or data[:6] != b"\x7fELF\x02\x01":
        return None
    ident, kind, machine, version, entry, at, _, flags, size, step, count, _, _, _ = _HEADER.unpack_from(data)
    if machine != _X86_64 or step != _SEGMENT.size:
        return None
    segments = [_Segment(*_SEGMENT.unpack_from(data, at + number * step)) for number in range(count)]
    loaded = sorted((one for one in segments if one.type == _LOAD), key=lambda one: one.offset)
    if not loaded or loaded[0].offset or at + count * step > loaded[0].in_file:
        return None  # the headers must be in the first of them, as they are loaded with it
    if any(one.offset % PAGE != one.address % PAGE for one in loaded):
        return None
    out = bytearray()
    moved: dict[int, int] = {}  # where a loaded segment was, where it is
    for one in loaded:
        out += bytes((one.offset - len(out)) % PAGE)
        moved[one.offset] = len(out)
        out += data[one.offset : one.offset + one.in_file]
    for number, one in enumerate(segments):
        if not one.in_file:
            continue
        home = next((some for some in loaded if _is_in(one, some)), None)
        if home is None:
            return None
        align = min(one.align, PAGE) if one.type == _LOAD else one.align
        offset = one.offset - home.offset + moved[home.offset]
        _SEGMENT.pack_into(out, at + number * step, *one._replace(offset=offset, align=align))
    _HEADER.pack_into(out, 0, ident, kind, machine, version, entry, at, 0, flags, size, step, count, 0, 0, 0)
    return bytes(out)
