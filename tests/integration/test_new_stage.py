"""A stage that is not ours, on the pipeline of the real servers."""

from __future__ import annotations

from pathlib import Path

import pytest
from eod_contract.kinds import KINDS
from support.madeup import VOLUME, install, noted
from support.patience import eventually_nothing
from support.pipeline import Pipeline, fresh_database
from testbed.kafka import Kafka
from testbed.redis import Redis
from testbed.s3 import S3

_MARKET = ("--seconds", "2", "--rate", "100", "--burst", "400", "--corrupt", "0", "--duplicates", "0")


def test_a_made_up_stage_works_beside_the_others(
    kafka: Kafka, redis_server: Redis, s3_server: S3, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read what the regulatory stage has stored, and drains like any other."""
    site = tmp_path / "site"
    site.mkdir()
    env = install(site)
    monkeypatch.setattr("support.pipeline.KINDS", {**KINDS, VOLUME.name: VOLUME})
    settings = {name: env[name] for name in ("PYTHONPATH", "VOLUME_FILE")}
    with fresh_database(redis_server) as url:
        pipeline = Pipeline(unique, kafka.bootstrap, url, s3_server, tmp_path / "run", settings=settings, forked=False)
        with pipeline.running():
            pipeline.eod("market", "play", "--port", str(pipeline.fix_port), *_MARKET)
            eventually_nothing(pipeline.lag, 60)
            assert pipeline.stages[VOLUME.name].terminate() == 0
            stored = {
                " ".join(map(str, row)) for row in pipeline.select("SELECT session, trade_date, exec_id FROM trades")
            }
            assert set(noted(site).read_text().splitlines()) == stored
            assert len(stored) > 100
