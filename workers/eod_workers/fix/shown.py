"""Messages as people read them: a line a field, with its name and what its value means."""

from __future__ import annotations

from typing import NamedTuple

from eod_workers.fix.body import depths
from eod_workers.fix.dictionary import VERSIONS, Dictionary, dictionary
from eod_workers.fix.fields import text_of
from eod_workers.fix.reading import tokens

_ENCODING = b"347"
# MessageEncoding(347) as Python calls them (FIX 4.4 vol. 1, "MessageEncoding").
_CODECS = {b"ISO-2022-JP": "iso2022_jp", b"EUC-JP": "euc_jp", b"Shift_JIS": "shift_jis", b"UTF-8": "utf-8"}


class Shown(NamedTuple):
    """One field.

    Attributes:
        tag: as it stands.
        name: of the dictionary; "" if it has none.
        value: as text.
        meaning: of the value, if the dictionary lists it.
        depth: how many groups it is inside of.
    """

    tag: str
    name: str
    value: str
    meaning: str
    depth: int


def dictionary_of(raw: bytes) -> Dictionary:
    """The dictionary of a message's version; of the latest there is, if there is none of its own."""
    version = raw[2 : raw.find(b"\x01")]
    return dictionary(version if version in VERSIONS else VERSIONS[-1])


def shown(raw: bytes) -> list[Shown]:
    """The fields of a message, in the order in which they stand."""
    known = dictionary_of(raw)
    found, _ = tokens(raw, known)
    first = dict(reversed(found))
    level = known.level(first.get(b"35", b""))
    codec = _CODECS.get(first.get(_ENCODING, b""), "")
    return [
        Shown(
            text_of(tag),
            field.name if (field := known.fields.get(tag)) else "",
            _text(tag, value, known, codec),
            field.values.get(value, "") if field else "",
            depth,
        )
        for (tag, value), depth in zip(found, depths(found, level), strict=True)
    ]


def title(raw: bytes) -> str:
    """What a message is: its type, number and sides."""
    known = dictionary_of(raw)
    found, _ = tokens(raw, known)
    first = dict(reversed(found))
    kind = first.get(b"35", b"")
    name = known.messages[kind].name if kind in known.messages else "unknown"
    sides = f"{text_of(first.get(b'49', b'?'))}->{text_of(first.get(b'56', b'?'))}"
    return (
        f"{name}({text_of(kind)}) {text_of(first.get(b'34', b'?'))} {sides} {text_of(first.get(b'52', b''))}".rstrip()
    )


def readable(raw: bytes) -> str:
    """The bytes of a message on one line, with `|` between fields."""
    return text_of(raw.replace(b"\x01", b"|"))


def _text(tag: bytes, value: bytes, known: Dictionary, codec: str) -> str:
    """The text of a value; that of an encoded field by MessageEncoding(347). Bytes that are no text stay visible."""
    if codec and tag in known.data and known.fields[tag].name.startswith("Encoded"):
        return value.decode(codec, "backslashreplace")
    return text_of(value)
