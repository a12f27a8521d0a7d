"""What the specification says of each field and message, by version: read from `dictionaries/`, made by a tool.

The files come from the dictionaries that QuickFIX/J ships (`tools/fix_dictionaries.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

VERSIONS = (b"FIX.4.2", b"FIX.4.4")
"""The BeginStrings (8) that there are dictionaries of."""

USER_DEFINED = 5000
"""Tags from here on are for whoever agrees on them (FIX 4.4 vol. 1, "User Defined Fields")."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field: `type` as the specification calls it, and what each value means; no values admit any."""

    tag: bytes
    name: str
    type: str
    values: Mapping[bytes, str]


@dataclass(frozen=True, eq=False)
class Members:
    """What may stand on one level: in a header, a body, a trailer, or an entry of a repeating group.

    Attributes:
        order: the tags, as the specification lists them; the first of a group begins each entry.
        required: those that must be there.
        groups: NumInGroup field → what an entry is made of.
    """

    order: tuple[bytes, ...]
    required: tuple[bytes, ...]
    groups: Mapping[bytes, Members]

    @cached_property
    def tags(self) -> frozenset[bytes]:
        """All of `order`."""
        return frozenset(self.order)

    @cached_property
    def everywhere(self) -> frozenset[bytes]:
        """The tags of this level and of all groups in it."""
        return self.tags.union(*(group.everywhere for group in self.groups.values()))


@dataclass(frozen=True, eq=False)
class MessageType:
    """One MsgType(35). `admin`: it is of the session, not of the application."""

    name: str
    admin: bool
    body: Members


@dataclass(frozen=True, eq=False)
class Dictionary:
    """One version of FIX.

    Attributes:
        begin_string: BeginString(8).
        source: where it comes from.
        fields: by tag.
        lengths: field that announces a length → the data field behind it.
        header: of every message.
        trailer: of every message.
        messages: by MsgType(35).
    """

    begin_string: bytes
    source: str
    fields: Mapping[bytes, Field]
    lengths: Mapping[bytes, bytes]
    header: Members
    trailer: Members
    messages: Mapping[bytes, MessageType]

    @cached_property
    def data(self) -> Mapping[bytes, bytes]:
        """Data field → the field that announces its length."""
        return {data: length for length, data in self.lengths.items()}

    def level(self, msg_type: bytes) -> Members:
        """Header, body and trailer of a message as one level; of an unknown one without a body."""
        level = self._levels.get(msg_type)
        return self._unknown if level is None else level

    @cached_property
    def _levels(self) -> Mapping[bytes, Members]:
        return {name: _together(self.header, one.body, self.trailer) for name, one in self.messages.items()}

    @cached_property
    def _unknown(self) -> Members:
        return _together(self.header, self.trailer)


@cache
def dictionary(begin_string: bytes) -> Dictionary:
    """The dictionary of a version.

    Raises:
        KeyError: there is none.
    """
    if begin_string not in VERSIONS:
        raise KeyError(f"no dictionary of {begin_string[:16]!r}")
    made = json.loads((files("eod_workers.fix") / "dictionaries" / f"{begin_string.decode()}.json").read_text())
    components = made["components"]

    def members(listed: Sequence[Sequence[Any]]) -> Members:
        order: list[bytes] = []
        required: list[bytes] = []
        groups: dict[bytes, Members] = {}

        def add(listed: Sequence[Sequence[Any]], *, needed: bool) -> None:
            for name, wanted, *inner in listed:
                if isinstance(name, str):
                    add(components[name], needed=needed and bool(wanted))
                    continue
                tag = b"%d" % name
                order.append(tag)
                if needed and wanted:
                    required.append(tag)
                if inner:
                    groups[tag] = members(inner[0])

        add(listed, needed=True)
        return Members(tuple(order), tuple(required), groups)

    return Dictionary(
        begin_string=begin_string,
        source=made["source"],
        fields={
            tag.encode(): Field(
                tag.encode(), name, kind, {v.encode(): m for v, m in (values[0] if values else {}).items()}
            )
            for tag, (name, kind, *values) in made["fields"].items()
        },
        lengths={b"%d" % length: data.encode() for data, length in made["data"].items()},
        header=members(made["header"]),
        trailer=members(made["trailer"]),
        messages={
            kind.encode(): MessageType(name, category == "admin", members(body))
            for kind, (name, category, body) in made["messages"].items()
        },
    )


def _encoded(values: Mapping[str, str] | None = None) -> Mapping[bytes, str]:
    return {value.encode(): meaning for value, meaning in (values or {}).items()}


def _together(*parts: Members) -> Members:
    groups: dict[bytes, Members] = {}
    for part in parts:
        groups |= part.groups
    return Members(sum((part.order for part in parts), ()), sum((part.required for part in parts), ()), groups)
