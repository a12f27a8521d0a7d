"""A FIX session that moves between two ingestions in the midst of a close leaves the stores as if it had stayed.

The counterparty is QuickFIX/J; a switch decides which of two ingestion processes it finds behind its one address.
"""

import asyncio
import json
import signal
import string
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from eod_workers.fix.fields import format_timestamp
from support import known_close
from support.counterparty import MARKS_E8, Close
from support.fix_messages import message
from support.fix_wire import Wire
from support.patience import eventually_nothing
from support.pipeline import Pipeline, Stage, fresh_database
from support.switch import Switch
from testbed import ports
from testbed.kafka import Kafka
from testbed.quickfixj import QuickFixJ
from testbed.redis import Redis
from testbed.s3 import S3

REPORTS = 9_000
PER_S = 1_500
TAGS = string.ascii_uppercase


@dataclass
class Pair:
    """A pipeline with two ingestions behind a switch."""

    pipeline: Pipeline
    switch: Switch
    stages: tuple[Stage, Stage]
    ports: tuple[int, int]

    def move(self, which: int, sessions: set[str], *, hang_up: bool = True) -> None:
        """Let the counterparty find this one, and return once all its sessions have logged on there."""
        before = len(self.said(which, "fix.logon"))
        self.switch.move(self.ports[which], hang_up=hang_up)
        eventually_nothing(lambda: sessions - {line["session"] for line in self.said(which, "fix.logon")[before:]})

    def said(self, which: int, event: str) -> list[dict[str, object]]:
        """The log lines of one ingestion that name an event."""
        lines = self.stages[which].log.read_text().splitlines()
        return [json.loads(line) for line in lines if f'"{event}"' in line]


@pytest.fixture(scope="module")
def pair(kafka: Kafka, redis_server: Redis, s3_server: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """As long as this module."""
    folder = tmp_path_factory.mktemp("moves")
    here, there = ports.free_port(), ports.free_port()
    with Switch() as switch, fresh_database(redis_server) as url:
        pipeline = Pipeline(
            folder.name,
            kafka.bootstrap,
            url,
            s3_server,
            folder,
            known_close.reference(TAGS),
            {"EOD_FIX_PORT": str(here)},
            switch.port,
        )
        with pipeline.running(), pipeline.helper("ingestion", {"EOD_FIX_PORT": str(there)}) as second:
            pipeline.mark(MARKS_E8)
            yield Pair(pipeline, switch, (pipeline.stages["ingestion"], second), (here, there))


@pytest.fixture(scope="module")
def tags() -> Iterator[str]:
    """Tags of closes, each used once."""
    return iter(TAGS)


@pytest.fixture
def close(pair: Pair, quickfixj: QuickFixJ, tags: Iterator[str]) -> Iterator[Close]:
    """A close that has just begun, at the first of two ingestions that both run."""
    for stage in pair.stages:
        if not stage.alive:
            stage.start()
        stage.await_ready()
    pair.switch.to(pair.ports[0])
    tag = next(tags)
    with Close(pair.pipeline, quickfixj, tag=tag, count=REPORTS, per_s=PER_S, seed=ord(tag)) as close:
        yield close


@pytest.mark.slow
@pytest.mark.parametrize("hang_up", [True, False], ids=["cleanly", "unnoticed"])
def test_a_session_that_moves_back_and_forth_changes_nothing(pair: Pair, close: Close, hang_up: bool) -> None:  # noqa: FBT001
    """Unnoticed: the ingestion that is left believes that it is still connected, and has bytes to read."""
    for turn in range(1, 5):
        close.await_sent(0.15 * turn)
        pair.move(turn % 2, close.sessions, hang_up=hang_up)
    close.finish()
    close.check(disturbed=True)


def test_whoever_says_to_be_a_counterparty_that_is_connected_to_the_other_is_refused(pair: Pair, close: Close) -> None:
    """With and without ResetSeqNumFlag; the close goes on as if nobody had come. What they wrote is kept as well."""
    close.await_sent(0.2)

    async def refusal(logon: bytes) -> str:
        wire = await Wire.to(pair.ports[1])
        await wire.write(logon)
        logout = await wire.hear(b"5")
        await wire.close()
        return logout[b"58"].decode()

    now = format_timestamp(time.time_ns()).decode()
    logons = [
        message("A", 1, f"98=0|108=30|{reset}", sender=sender, sent=now)
        for sender in close.senders
        for reset in ("", "141=Y|")
    ]
    told = {asyncio.run(refusal(logon)) for logon in logons}
    assert all("the session is live on another connection" in why for why in told), told
    close.finish()
    close.check(others=logons)


@pytest.mark.slow
def test_an_ingestion_that_is_frozen_and_wakes_when_its_sessions_are_elsewhere_changes_nothing(
    pair: Pair, close: Close
) -> None:
    """It goes on reading, appending and saving where it stood, until it hears that it has been superseded."""
    frozen = pair.stages[0]
    before = len(pair.said(0, "fix.superseded"))
    close.await_sent(0.2)
    frozen.signal(signal.SIGSTOP)
    try:
        close.await_sent(0.3)
        pair.move(1, close.sessions, hang_up=False)
        close.await_sent(0.6)
    finally:
        frozen.signal(signal.SIGCONT)
    eventually_nothing(lambda: len(pair.said(0, "fix.superseded")) == before and "it has not found out", 20)
    close.await_sent(0.8)
    pair.move(0, close.sessions)
    close.finish()
    close.check(disturbed=True)
    assert {line["session"] for line in pair.said(0, "fix.superseded")[before:]} <= close.sessions


@pytest.mark.slow
def test_a_rolling_restart_in_the_midst_of_a_burst_changes_nothing(pair: Pair, close: Close) -> None:
    """SIGTERM to one and then to the other: each drains, ends by itself, and is started again."""
    for turn in range(1, 4):
        close.await_sent(0.2 * turn)
        leaving = pair.stages[(turn + 1) % 2]
        pair.switch.to(pair.ports[turn % 2])
        assert leaving.terminate() == 0
        leaving.restart()
    close.finish()
    close.check(disturbed=True)


def test_kill_minus_nine_of_one_while_its_sessions_move_to_the_other_changes_nothing(pair: Pair, close: Close) -> None:
    for turn in range(1, 4):
        close.await_sent(0.2 * turn)
        killed = pair.stages[(turn + 1) % 2]
        pair.switch.to(pair.ports[turn % 2])
        killed.kill()
        killed.restart()
    close.finish()
    close.check(disturbed=True)
