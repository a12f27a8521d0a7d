"""The servers that the test bed knows, by the names that fixtures, markers and the command line use."""

from testbed.helm import Helm
from testbed.kafka import Kafka
from testbed.kubernetes import Kubernetes
from testbed.peers import Peers
from testbed.quickfix import QuickFix
from testbed.quickfixj import QuickFixJ
from testbed.redis import Redis
from testbed.s3 import S3
from testbed.server import Server

# The quickest to fetch come first, so that a failure shows early.
SERVERS: dict[str, type[Server]] = {server.key: server for server in (Redis, Kafka, S3, Kubernetes)}

# What tests need from the cache: the servers, and the programs that a test runs by itself.
Tool = QuickFixJ | QuickFix | Helm | Peers
FETCHED: dict[str, type[Server | Tool]] = {**SERVERS, QuickFixJ.key: QuickFixJ, Helm.key: Helm, Peers.key: Peers}
