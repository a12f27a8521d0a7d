"""Commands that are forked, not started: processes like any other."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.patience import eventually
from testbed.nursery import nursery

NOWHERE = {"EOD_KAFKA_BOOTSTRAP": "127.0.0.1:1", "EOD_REDIS_URL": "redis://127.0.0.1:1", "EOD_HTTP_PORT": "0"}


@pytest.mark.parametrize(
    ("words", "code", "said", "complained"),
    [
        (["stage", "list"], 0, "flash-pnl", ""),
        (["stage", "run", "nonsense"], 2, "", "there is no stage 'nonsense'"),
        (["nonsense"], 2, "", "No such command"),
    ],
)
def test_a_command_says_and_ends_as_it_does_by_itself(
    tmp_path: Path, words: list[str], code: int, said: str, complained: str
) -> None:
    log, errors = tmp_path / "said", tmp_path / "complained"
    child = nursery().start("eod", words, log=log, errors=errors, env={})
    eventually(lambda: not child.alive)
    assert child.exit_code == code
    assert said in log.read_text()
    assert complained in errors.read_text()


def test_it_has_an_environment_a_log_and_an_end_of_its_own(tmp_path: Path) -> None:
    """Two of them run side by side; one is killed and the other ended, and each is told of by itself."""
    logs = [tmp_path / "one", tmp_path / "two"]
    one, two = (
        nursery().start("eod", ["stage", "run", "flash-pnl"], log=log, env={**NOWHERE, "EOD_STAGE_NAME": log.name})
        for log in logs
    )
    for log in logs:
        eventually(lambda log=log: f'"stage": "{log.name}"' in log.read_text())
    assert one.pid != two.pid
    assert [os.getpgid(child.pid) for child in (one, two)] == [one.pid, two.pid]
    one.kill()
    eventually(lambda: not one.alive)
    assert (one.exit_code, two.alive) == (-signal.SIGKILL, True)
    two.send_signal(signal.SIGTERM)
    eventually(lambda: not two.alive)
    assert two.exit_code == 0
