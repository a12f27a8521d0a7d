"""What the operator knows of Kafka: topics, lag, rates and ages, by one shared look at each Kafka."""

from eod_operator.kafka.errors import KafkaUnreachableError, TopicRefusedError
from eod_operator.kafka.readings import Look, Reading, Wanted
from eod_operator.kafka.security import Endpoint, Security, security_of
from eod_operator.kafka.watch import KafkaWatches

__all__ = [
    "Endpoint",
    "KafkaUnreachableError",
    "KafkaWatches",
    "Look",
    "Reading",
    "Security",
    "TopicRefusedError",
    "Wanted",
    "security_of",
]
