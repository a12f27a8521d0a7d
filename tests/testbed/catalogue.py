"""The servers that the test bed knows, by the names that fixtures, markers and the command line use."""

from testbed.kafka import Kafka
from testbed.kubernetes import Kubernetes
from testbed.quickfixj import QuickFixJ
from testbed.redis import Redis
from testbed.s3 import S3
from testbed.server import Server

# The quickest to fetch come first, so that a failure shows early.
SERVERS: dict[str, type[Server]] = {server.key: server for server in (Redis, Kafka, S3, Kubernetes)}

# What tests need from the cache: the servers, and the FIX counterparty that a test runs by itself.
FETCHED: dict[str, type[Server | QuickFixJ]] = {**SERVERS, QuickFixJ.key: QuickFixJ}
