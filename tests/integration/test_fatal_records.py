"""A record that ends the process of whoever takes it in hand: three workers in turn, then it is a letter."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import known_close
from support.patience import eventually_nothing
from support.pipeline import Pipeline, Stage, fresh_database
from support.raw_fix import RawFix
from testbed.kafka import Kafka
from testbed.redis import Redis
from testbed.s3 import S3

pytestmark = pytest.mark.timeout(180)
REFERENCE = known_close.reference("A")
STAGES = ("flash-pnl", "regulatory")
_PROGRAM = f'''#!{sys.executable}
"""`eod` with a fault in the code of two stages: the trade called FATAL ends the process at once, as kill -9 would."""
import os
import signal

from eod_workers.cli import main
from eod_workers.pnl.stage import PnlCore
from eod_workers.regulatory.stage import RegulatoryCore

for core in (PnlCore, RegulatoryCore):
    def apply(self, record, letters, apply=core.apply):
        if b"FATAL" in record.value:
            os.kill(os.getpid(), signal.SIGKILL)
        return apply(self, record, letters)

    core.apply = apply
main()
'''


@pytest.fixture
def pipeline(
    kafka: Kafka, redis_server: Redis, s3_server: S3, unique: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pipeline]:
    """One whose P&L and regulatory stages have the fault."""
    folder = tmp_path_factory.mktemp("fatal")
    program = folder / "eod"
    program.write_text(_PROGRAM)
    program.chmod(0o755)
    with fresh_database(redis_server) as url:
        pipeline = Pipeline(unique, kafka.bootstrap, url, s3_server, folder, REFERENCE)
        for kind in STAGES:
            whole = pipeline.stages[kind]
            pipeline.stages[kind] = Stage(kind, whole.log, whole._env, forked=False, program=program)
        with pipeline.running():
            yield pipeline


def _live(pipeline: Pipeline) -> dict[str, int]:
    """Start stages again whenever they have ended, as a kubelet does, until each has a letter; how often they ended."""
    ended = dict.fromkeys(STAGES, 0)

    def unmet() -> object:
        for kind in STAGES:
            if not pipeline.stages[kind].alive:
                ended[kind] += 1
                pipeline.stages[kind].start()
        without = set(STAGES) - {one["stage"] for one in pipeline.letters()}
        return without and f"no letter of {without}; they have ended so often: {ended}"

    eventually_nothing(unmet, 60)
    for kind in STAGES:
        pipeline.stages[kind].await_ready()
    return ended


def test_a_record_that_ends_its_process_ends_three_and_is_a_letter(pipeline: Pipeline, unique: str) -> None:
    """What comes in front of it, behind it and in other partitions is booked once; the letter says what has happened."""
    trader = f"A-{unique}"

    def booked(session: str) -> tuple[set[str], dict[str, str]]:
        rows = {exec_id for (exec_id,) in pipeline.select("SELECT exec_id FROM trades WHERE session = ?", session)}
        return rows, {symbol: found["quantity"] for symbol, found in pipeline.positions(trader).items()}

    with RawFix(pipeline.fix_port, unique) as fix:
        fix.logon().trade("before", t448=trader)
        eventually_nothing(lambda: booked(fix.session) != ({"before"}, {"S00": "100"}) and "not booked", 30)
        fix.trade("FATAL", t448=trader)
        eventually_nothing(lambda: all(pipeline.stages[kind].alive for kind in STAGES) and "both live", 30)
        fix.trade("behind", t448=trader)
        fix.trade("elsewhere", t55="S01", t448=trader)
        fix.synchronize()
        session = fix.session
        ended = _live(pipeline)

    wanted = ({"before", "behind", "elsewhere"}, {"S00": "200", "S01": "100"})
    eventually_nothing(lambda: (found := booked(session)) != wanted and f"{found}", 30)
    letters = [one for one in pipeline.letters() if one["stage"] in STAGES]
    assert {one["stage"] for one in letters} == set(STAGES)
    assert len(letters) == len(STAGES)
    for one in letters:
        assert one["detail"].startswith(f"3 workers of {one['stage']} in turn have ended over this record"), one
    assert set(ended.values()) <= {3, 4}, "three that began in front of it, and who met it while it worked"
    for kind in STAGES:
        log = Path(pipeline.stages[kind].log).read_text()
        assert "stage.record_set_apart" in log
        assert pipeline.stages[kind].terminate() == 0
