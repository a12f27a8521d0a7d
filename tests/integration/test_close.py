"""A close sent by QuickFIX/J through five processes on real servers equals plain arithmetic, trade by trade."""

from collections.abc import Iterator

import pytest
from support import known_close
from support.counterparty import MARKS_E8, Close
from support.pipeline import KINDS, Pipeline, fresh_database
from testbed.kafka import Kafka
from testbed.quickfixj import QuickFixJ
from testbed.redis import Redis
from testbed.s3 import S3

REPORTS = 20_000
PER_S = 5_000
SEED = 20241129


@pytest.fixture
def pipeline(
    kafka: Kafka, redis_server: Redis, s3_server: S3, unique: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    """A pipeline of this test's own, whose stages are started as people start them."""
    folder = tmp_path_factory.mktemp("close")
    with fresh_database(redis_server) as url:
        reference = known_close.reference("A")
        pipeline = Pipeline(unique, kafka.bootstrap, url, s3_server, folder, reference, forked=False)
        with pipeline.running():
            yield pipeline


def test_twenty_thousand_reports_of_quickfixj_reach_every_store_exactly(
    pipeline: Pipeline, quickfixj: QuickFixJ
) -> None:
    """Positions, rows, exceptions and archived bytes are those of the reports; then every stage ends in good order."""
    pipeline.mark(MARKS_E8)
    with Close(pipeline, quickfixj, tag="A", count=REPORTS, per_s=PER_S, seed=SEED) as close:
        close.finish()
    close.check()
    assert {kind: pipeline.stages[kind].terminate() for kind in KINDS} == dict.fromkeys(KINDS, 0)
    close.check()
