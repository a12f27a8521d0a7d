"""The ids of topics, which tell one that was deleted and made anew from the earlier one (KIP-516, Kafka 2.8).

aiokafka asks for metadata in a version that has none, and commits say nothing of them. So there is a request of our
own, and the id travels with each commit as its metadata, where Kafka keeps whatever text a client likes.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from aiokafka.errors import (
    IncompatibleBrokerVersion,
    InvalidTopicError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from eod_workers.ports import Attempt, UnknownTopic

_NONE = bytes(16)
_NOTE = "eod topic id "
_TRYING = "eod trying "
_NOTED = re.compile(
    rf"(?:{_NOTE}(?P<id>[^ ,]+))?(?:, )?"
    rf"(?:{_TRYING}(?P<first>[0-9]{{1,19}}):(?P<end>[0-9]{{0,19}}) times (?P<times>[0-9]{{1,9}}))?"
)
_MISSING = {UnknownTopicOrPartitionError.errno, InvalidTopicError.errno}


class _Uuid(AbstractType[bytes]):  # type: ignore[misc]  # aiokafka has no types
    """Sixteen bytes."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        value = data.read(len(_NONE))
        if len(value) != len(_NONE):
            raise ValueError("the answer ends in the midst of an id")
        return value


class _IdsAnswer(Response):  # type: ignore[misc]  # aiokafka has no types
    """Kafka's MetadataResponse, version 10."""

    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _IdsQuestion(RequestStruct):  # type: ignore[misc]  # aiokafka has no types
    """Kafka's MetadataRequest, version 10."""

    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _IdsAnswer
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _Ids(Request[_IdsQuestion]):  # type: ignore[misc]  # aiokafka has no types
    """Asks for the ids of topics."""

    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_IdsQuestion]) -> _IdsQuestion:
        asked: list[Any] = [(_NONE, topic, {}) for topic in self._topics]
        return request_struct_class(asked, False, False, False, {})


async def topic_ids(admin: Any, topics: Sequence[str]) -> dict[str, str]:
    """Topic → its id as Kafka's tools show it; "" of all where the broker is too old to have any.

    Args:
        admin: a started `AIOKafkaAdminClient`.
        topics: which.

    Raises:
        UnknownTopic: one does not exist.
        KafkaError: the broker's, of the first topic that it says nothing good about.
    """
    try:
        answer = await admin._send_request(_Ids(topics))  # noqa: SLF001 - aiokafka has no public way to
    except (IncompatibleBrokerVersion, NotImplementedError):  # what aiokafka says of a version that the broker has not
        return dict.fromkeys(topics, "")
    found = {}
    for code, name, identity, *_ in answer.topics:
        if code in _MISSING:
            raise UnknownTopic(f"topic {name} does not exist: 'eod topics ensure' creates it")
        if code:
            raise for_code(code)(name)
        found[name] = "" if identity == _NONE else base64.urlsafe_b64encode(identity).decode().rstrip("=")
    return found


def note(topic_id: str, attempt: Attempt | None = None) -> str:
    """What a commit says beside the offset: which topic it is of, and what its owner has in hand."""
    said = [f"{_NOTE}{topic_id}"] if topic_id else []
    if attempt is not None:
        end = "" if attempt.end is None else attempt.end
        said.append(f"{_TRYING}{attempt.first}:{end} times {attempt.times}")
    return ", ".join(said)


def noted(metadata: str) -> str:
    """The topic's id that a commit says; "" where it is another client's, or of an earlier release."""
    found = _NOTED.fullmatch(metadata)
    return (found["id"] or "") if found else ""


def attempted(metadata: str) -> Attempt | None:
    """What a commit says that its owner had in hand."""
    found = _NOTED.fullmatch(metadata)
    if not found or not found["first"]:
        return None
    return Attempt(int(found["first"]), int(found["end"]) if found["end"] else None, int(found["times"]))
