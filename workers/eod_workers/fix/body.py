"""The body of a message: what its frame holds beside header and trailer."""

from __future__ import annotations

from collections.abc import Iterator

from eod_workers.fix.dictionary import Dictionary, Members
from eod_workers.fix.reading import Token, tokens


def body_of(raw: bytes, known: Dictionary) -> bytes:
    """The fields of a frame that are neither of its header nor of its trailer, byte for byte."""
    return b"".join(b"%b=%b\x01" % field for field, _ in _fields_of_body(raw, known))


def ascending_body_of(raw: bytes, known: Dictionary) -> bytes:
    """The same by ascending tags, each group whole and as it came."""
    blocks: list[tuple[int, list[bytes]]] = []
    for (tag, value), depth in _fields_of_body(raw, known):
        field = b"%b=%b\x01" % (tag, value)
        if depth and blocks:
            blocks[-1][1].append(field)
        else:
            blocks.append((int(tag) if tag.isdigit() else 0, [field]))
    blocks.sort(key=lambda block: block[0])
    return b"".join(field for _, fields in blocks for field in fields)


def _fields_of_body(raw: bytes, known: Dictionary) -> Iterator[tuple[Token, int]]:
    """Each with the number of groups that it is inside of."""
    beside = known.header.everywhere | known.trailer.everywhere
    found, _ = tokens(raw, known)
    level = known.level(dict(reversed(found)).get(b"35", b""))
    return ((field, depth) for field, depth in zip(found, depths(found, level), strict=True) if field[0] not in beside)


def depths(found: list[Token], level: Members) -> Iterator[int]:
    """How many groups each field is inside of, in a message of a type; the count of a group is outside of it."""
    inside: list[Members] = []
    for tag, _ in found:
        while inside and tag not in inside[-1].tags and tag in level.everywhere:
            inside.pop()
        yield len(inside)
        group = (inside[-1] if inside else level).groups.get(tag)
        if group is not None:
            inside.append(group)
