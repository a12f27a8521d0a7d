"""The two requests of every look, as bytes.

aiokafka decodes an answer field by field, some microseconds each; at a thousand pipelines that alone would fill a
core. Its older OffsetFetch also asks for one group at a time. So these two are packed and unpacked here, a topic at a
time, and travel over aiokafka's connections like its own (which ask a request for its header, bytes and decoder only).

The layouts are those of https://kafka.apache.org/protocol: ListOffsets 3 and OffsetFetch 8 (KIP-709: many groups).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from struct import Struct
from typing import Any

from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import RequestHeader_v1, RequestHeader_v2, ResponseHeader_v0, ResponseHeader_v1

EARLIEST, LATEST = -2, -1
_ANY_REPLICA = -1
_READ_UNCOMMITTED = 0
_SHAPES = 1024
"""Layouts kept, one a number of partitions."""
_TOPICS = 8192
"""Encoded topics kept."""

_INT16, _INT32 = Struct(">h"), Struct(">i")
_COMMIT_HEAD = Struct(">iqi")  # partition, offset, leader epoch
_EMPTY_STRING = 1  # a compact length is one more than the length
_BYTE = 0x80


@dataclass(frozen=True, slots=True)
class PartitionOffsets:
    """Offsets of some partitions of one topic; `codes` are Kafka's error codes, 0 for none."""

    topic: str
    numbers: tuple[int, ...]
    codes: tuple[int, ...]
    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GroupOffsets:
    """Committed offsets of one group, -1 where it has committed none; `code` is Kafka's error code, 0 for none."""

    group: str
    code: int
    topics: tuple[PartitionOffsets, ...]


class Packed:
    """A request with its bytes and its decoder, shaped as aiokafka's connection expects both request and answer."""

    def __init__(
        self, api_key: int, api_version: int, body: bytes, unpack: Callable[[bytes], Any], *, flexible: bool
    ) -> None:
        self.API_KEY = api_key
        self.API_VERSION = api_version
        self.RESPONSE_TYPE = self
        self._body = body
        self._unpack = unpack
        self._flexible = flexible

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> Packed:
        """The request itself.

        Raises:
            IncompatibleBrokerVersion: the broker does not speak this version of it.
        """
        low, high = versions.get(self.API_KEY, (0, -1))
        if not low <= self.API_VERSION <= high:
            raise IncompatibleBrokerVersion(f"the broker speaks {low} to {high} of request {self.API_KEY}")
        return self

    def build_request_header(self, correlation_id: int, client_id: str) -> Any:
        """What goes before the body."""
        header = RequestHeader_v2 if self._flexible else RequestHeader_v1
        return header(self, correlation_id=correlation_id, client_id=client_id)

    def encode(self) -> bytes:
        """The body."""
        return self._body

    def parse_response_header(self, answer: BytesIO) -> Any:
        """What comes before the answer's body."""
        return (ResponseHeader_v1 if self._flexible else ResponseHeader_v0).decode(answer)

    def decode(self, answer: BytesIO) -> Any:
        """The answer."""
        return self._unpack(answer.read())


@lru_cache(_TOPICS)
def listed_topic(topic: str, numbers: tuple[int, ...], when: int) -> bytes:
    """One topic of `list_offsets`; `when` is `EARLIEST` or `LATEST`."""
    name = topic.encode()
    asked = (value for number in numbers for value in (number, when))
    return _INT16.pack(len(name)) + name + _INT32.pack(len(numbers)) + _shape("iq", len(numbers)).pack(*asked)


def list_offsets(topics: Sequence[bytes]) -> Packed:
    """Ask a broker for offsets of partitions that it leads; it answers a tuple of `PartitionOffsets`."""
    head = Struct(">ibi").pack(_ANY_REPLICA, _READ_UNCOMMITTED, len(topics))
    return Packed(2, 3, head + b"".join(topics), _listed, flexible=False)


def _listed(answer: bytes) -> tuple[PartitionOffsets, ...]:
    found = []
    (count,) = _INT32.unpack_from(answer, 4)  # after the throttle time
    at = 8
    for _ in range(count):
        (size,) = _INT16.unpack_from(answer, at)
        topic = answer[at + 2 : at + 2 + size].decode()
        at += 2 + size
        (partitions,) = _INT32.unpack_from(answer, at)
        shape = _shape("ihqq", partitions)
        values = shape.unpack_from(answer, at + 4)
        at += 4 + shape.size
        found.append(PartitionOffsets(topic, values[0::4], values[1::4], values[3::4]))
    return tuple(found)


@lru_cache(_TOPICS)
def fetched_topic(topic: str, partitions: int) -> bytes:
    """One topic of `fetch_offsets`, all of its partitions."""
    return _string(topic) + _length(partitions) + _shape("i", partitions).pack(*range(partitions)) + b"\0"


def fetch_offsets(groups: Mapping[str, Sequence[bytes]]) -> Packed:
    """Ask the coordinator of groups for what they committed; it answers a tuple of `GroupOffsets`."""
    asked = (
        b"".join((_string(group), _length(len(topics)), *topics, b"\0"))  # no tagged fields
        for group, topics in groups.items()
    )
    # Unstable offsets (of open transactions) are not waited for: nobody here commits in transactions.
    return Packed(9, 8, b"".join((_length(len(groups)), *asked, b"\0\0")), _fetched, flexible=True)


def _fetched(answer: bytes) -> tuple[GroupOffsets, ...]:
    groups = []
    count, at = _unsigned(answer, 4)  # after the throttle time
    for _ in range(count - 1):
        group, at = _text(answer, at)
        topics = []
        topic_count, at = _unsigned(answer, at)
        for _ in range(topic_count - 1):
            name, at = _text(answer, at)
            partitions, at = _unsigned(answer, at)
            found, at = _committed(name, answer, at, partitions - 1)
            topics.append(found)
            at = _skip_tags(answer, at)
        (code,) = _INT16.unpack_from(answer, at)
        at = _skip_tags(answer, at + 2)
        groups.append(GroupOffsets(group, code, tuple(topics)))
    return tuple(groups)


def _committed(topic: str, answer: bytes, at: int, partitions: int) -> tuple[PartitionOffsets, int]:
    """Partitions of one topic: at once where none has metadata, as is usual, else one by one."""
    shape = _shape("iqiBhB", partitions)  # the last two: error code, number of tagged fields
    if at + shape.size <= len(answer):
        values = shape.unpack_from(answer, at)
        # Until the first that differs every field is where it should be, so a difference cannot hide.
        if values[3::6].count(_EMPTY_STRING) == partitions and not any(values[5::6]):
            return PartitionOffsets(topic, values[0::6], values[4::6], values[1::6]), at + shape.size
    numbers, codes, offsets = [], [], []
    for _ in range(partitions):
        number, offset, _epoch = _COMMIT_HEAD.unpack_from(answer, at)
        size, at = _unsigned(answer, at + _COMMIT_HEAD.size)
        at += max(0, size - 1)
        (code,) = _INT16.unpack_from(answer, at)
        at = _skip_tags(answer, at + 2)
        numbers.append(number)
        codes.append(code)
        offsets.append(offset)
    return PartitionOffsets(topic, tuple(numbers), tuple(codes), tuple(offsets)), at


@lru_cache(_SHAPES)
def _shape(fields: str, times: int) -> Struct:
    return Struct(">" + fields * times)


def _length(length: int) -> bytes:
    """A compact length: one more than it, seven bits a byte, the lowest first."""
    value, packed = length + 1, bytearray()
    while value >= _BYTE:
        packed.append(value % _BYTE | _BYTE)
        value //= _BYTE
    packed.append(value)
    return bytes(packed)


def _string(text: str) -> bytes:
    encoded = text.encode()
    return _length(len(encoded)) + encoded


def _unsigned(answer: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = shift = 0
    while answer[at] >= _BYTE:
        value |= answer[at] % _BYTE << shift
        shift += 7
        at += 1
    return value | answer[at] << shift, at + 1


def _text(answer: bytes, at: int) -> tuple[str, int]:
    size, at = _unsigned(answer, at)
    end = at + size - 1
    return answer[at:end].decode(), end


def _skip_tags(answer: bytes, at: int) -> int:
    """Where the tagged fields end; we know none of them."""
    count, at = _unsigned(answer, at)
    for _ in range(count):
        _tag, at = _unsigned(answer, at)
        size, at = _unsigned(answer, at)
        at += size
    return at
