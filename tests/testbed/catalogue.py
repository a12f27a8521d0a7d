"""The servers that the test bed knows, by the names that fixtures, markers and the command line use."""

from testbed.kafka import Kafka
from testbed.kubernetes import Kubernetes
from testbed.redis import Redis
from testbed.s3 import S3
from testbed.server import Server

# The quickest to fetch come first, so that a failure shows early.
SERVERS: dict[str, type[Server]] = {server.key: server for server in (Redis, Kafka, S3, Kubernetes)}
