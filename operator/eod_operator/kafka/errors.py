"""What can go wrong with a Kafka, with the sentences that owners of pipelines read in conditions and Events."""

from __future__ import annotations

import ssl
from asyncio import IncompleteReadError

from aiokafka.errors import (
    AuthenticationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    InvalidConfigurationError,
    InvalidPartitionsError,
    InvalidReplicationFactorError,
    KafkaConnectionError,
    PolicyViolationError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnknownError,
    UnsupportedSaslMechanismError,
    for_code,
)

from eod_operator.api.sources import MSK_IAM
from eod_operator.conditions import Problem
from eod_operator.kafka.security import Endpoint, Security

_UNKNOWN = "see the broker's log for why"
_HELD = "replicas are held until then"
_CREDENTIALS = "the Secret of spec.kafka.security.secretRef"
_TLS_ALERT = 0x15
"""First byte of a TLS alert (RFC 8446, section 5.1): what a TLS server answers to plain text."""
_OTHER_NAME = {62, 64}
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL."""


class KafkaUnreachableError(Exception):
    """No broker answered in time, or none lets us in; the message names the address and the remedy.

    Attributes:
        reason: of the condition KafkaReachable.
        hung_up: a broker closed a connection that was there.
    """

    def __init__(self, message: str, reason: str = "KafkaUnreachable", *, hung_up: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.hung_up = hung_up


class TopicRefusedError(Exception):
    """Kafka refused to create a topic; the message says why and names the remedy."""


def unreachable(address: str, cause: BaseException, within_s: float) -> KafkaUnreachableError:
    """Nothing was read from a Kafka at all."""
    said = "timed out" if isinstance(cause, TimeoutError) else type(cause).__name__
    problem = Problem(
        "KafkaUnreachable",
        f"Kafka at {address} (spec.kafka.bootstrapServers) gave no answer within {within_s:.0f} s ({said}): check the "
        f"address, that the brokers run, and that the operator's pod may reach them; {_HELD}",
    )
    return KafkaUnreachableError(problem.message, problem.reason, hung_up=isinstance(cause, KafkaConnectionError))


def unusable(cause: Exception) -> KafkaUnreachableError:
    """No connection can be made with what the Secret holds."""
    return raised(Problem("CredentialsInvalid", f"Kafka is not asked, because of {_CREDENTIALS}: {cause}; {_HELD}"))


def raised(problem: Problem) -> KafkaUnreachableError:
    """The error for a problem."""
    return KafkaUnreachableError(problem.message, problem.reason)


def turned_away(endpoint: Endpoint, broker: str, error: BaseException) -> Problem | None:
    """What a connection that a broker did not let in means; None when it says nothing of TLS or credentials."""
    security, cause = endpoint.security, error.__cause__
    protocol = f"spec.kafka.security.protocol is {security.protocol}"
    match error:
        case ssl.SSLCertVerificationError():
            return _untrusted(broker, error)
        case UnsupportedSaslMechanismError():
            told = f"it does not offer {security.mechanism}: set spec.kafka.security.mechanism to what it offers"
            return _refused(broker, told)
        case SaslAuthenticationFailed() | AuthenticationFailedError():
            said = str(error.args[0]).rstrip(".") if error.args and error.args[0] else type(error).__name__
            return _refused(broker, f"{said}: {_remedy(security)}")
        case ssl.SSLError() | KafkaConnectionError() if "ALERT" in f"{error} {cause}":
            return _refused(
                broker,
                "it ends the TLS handshake, perhaps for want of a certificate that its authority has signed: put one "
                f"into {_CREDENTIALS}, as tls.crt and tls.key",
            )
        case IllegalSaslStateError():
            return _mismatch(f"{broker} logs nobody in, and {protocol}: choose one without SASL_")
        case KafkaConnectionError() if isinstance(cause, IncompleteReadError):
            if not security.tls and (cause.expected or 0) >> 24 == _TLS_ALERT:
                return _mismatch(f"{broker} speaks TLS, and {protocol}: choose SASL_SSL or SSL")
            if not security.mechanism:
                return _mismatch(f"{broker} hangs up: it may want a login, and {protocol}")
        case ssl.SSLError() | ConnectionResetError() | EOFError() if security.tls:
            return _mismatch(f"{broker} hangs up during the TLS handshake: it may not speak TLS, and {protocol}")
    return None


def _untrusted(broker: str, error: ssl.SSLCertVerificationError) -> Problem:
    mend = (
        "name the brokers in spec.kafka.bootstrapServers as their certificates do"
        if error.verify_code in _OTHER_NAME
        else f"put the authority that signed it, in PEM, under ca.crt into {_CREDENTIALS}"
    )
    told = f"TLS verification failed: the certificate of Kafka at {broker} is not trusted ({error.verify_message})"
    return Problem("CertificateUntrusted", f"{told}: {mend}; {_HELD}")


def _refused(broker: str, told: str) -> Problem:
    return Problem("AuthenticationFailed", f"authentication failed at Kafka at {broker}: {told}; {_HELD}")


def _mismatch(told: str) -> Problem:
    return Problem("ProtocolMismatch", f"Kafka at {told}; {_HELD}")


def _remedy(security: Security) -> str:
    if security.mechanism == MSK_IAM:
        return (
            "give the operator's ServiceAccount an AWS role that allows kafka-cluster:Connect on this cluster, and "
            "check spec.kafka.security.awsRegion"
        )
    return f"correct username and password in {_CREDENTIALS}, or spec.kafka.security.mechanism"


def unreadable_topic(address: str, topic: str, code: int) -> str:
    """One topic cannot be read, others can."""
    if for_code(code) is TopicAuthorizationFailedError:
        return f"Kafka at {address} does not let the operator read the topic {topic}: grant it Describe on the topic"
    return (
        f"Kafka at {address} cannot say where the topic {topic} ends ({_name(code)}): check that each of its "
        "partitions has a leader; replicas are held until then"
    )


def unreadable_group(address: str, group: str, code: int) -> str:
    """One group cannot be read, others can."""
    name = for_code(code)
    if name is GroupAuthorizationFailedError:
        return f"Kafka at {address} does not let the operator read the group {group}: grant it Describe on the group"
    if name is TopicAuthorizationFailedError:
        return (
            f"Kafka at {address} does not let the operator read what the group {group} committed: grant it Describe "
            "on the group's topics"
        )
    if name.retriable:
        return (
            f"Kafka at {address} has no broker that keeps the offsets of the group {group} at the moment "
            f"({_name(code)}): if this lasts, check that each partition of __consumer_offsets has a leader; replicas "
            "are held until then"
        )
    return f"Kafka at {address} cannot read the group {group} ({_name(code)}): {_UNKNOWN}; replicas are held until then"


def refused_topic(address: str, topic: str, code: int, message: str | None) -> TopicRefusedError:
    """A topic was not created."""
    remedies = {
        InvalidReplicationFactorError: "ask for no more copies (replicationFactor) than there are brokers",
        InvalidPartitionsError: "ask for another number of partitions",
        InvalidConfigurationError: "ask for another retention",
        PolicyViolationError: "ask for what the cluster's policy allows, or have its owners create the topic",
        TopicAuthorizationFailedError: "grant the operator Create on the topic, or create it yourself",
    }
    said = f"{_name(code)}: {message.rstrip('.')}" if message else _name(code)
    return TopicRefusedError(
        f"Kafka at {address} refused to create the topic {topic} ({said}): {remedies.get(for_code(code), _UNKNOWN)}"
    )


def _name(code: int) -> str:
    name = for_code(code)
    return f"error {code}" if name is UnknownError else name.__name__
