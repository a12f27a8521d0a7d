"""What aiokafka's errors mean to the callers of a log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka import errors

from eod_workers.ports import CommitRefused, Unavailable, UnknownTopic

_NOT_ALLOWED = (
    errors.AuthenticationFailedError,
    errors.AuthenticationMethodNotSupported,
    errors.TopicAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.UnsupportedSaslMechanismError,
)
_MISTAKES = (
    errors.IllegalArgumentError,
    errors.InvalidConfigurationError,
    errors.InvalidPartitionsError,
    errors.InvalidReplicationFactorError,
    errors.InvalidRequestError,
    errors.MessageSizeTooLargeError,
    errors.PolicyViolationError,
    errors.UnsupportedVersionError,
)
_UNKNOWN_TOPIC = (errors.UnknownTopicOrPartitionError, errors.InvalidTopicError)
_GROUP_MOVED_ON = (
    errors.CommitFailedError,
    errors.IllegalGenerationError,
    errors.IllegalStateError,  # aiokafka: the partition is not assigned
    errors.RebalanceInProgressError,
    errors.UnknownMemberIdError,
)
NOBODY_COORDINATES = (
    "nobody coordinates the group now, for the partition of __consumer_offsets that keeps its offsets has no leader "
    "('kafka-topics --describe --topic __consumer_offsets' says which brokers are missing)"
)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raises the errors of `ports` for aiokafka's; `doing` says what was being done."""
    try:
        yield
    except _NOT_ALLOWED as error:
        raise PermissionError(f"{doing}: {error}") from error
    except _UNKNOWN_TOPIC as error:
        raise UnknownTopic(f"{doing}: the topic does not exist ('eod topics ensure' creates it)") from error
    except _GROUP_MOVED_ON as error:
        raise CommitRefused(f"{doing}: {error}") from error
    except _MISTAKES as error:
        raise ValueError(f"{doing}: {error}") from error
    except errors.GroupCoordinatorNotAvailableError as error:
        raise Unavailable(f"{doing}: {NOBODY_COORDINATES}") from error
    except (errors.KafkaError, TimeoutError, OSError) as error:
        raise Unavailable(f"{doing}: {error!r}") from error
