"""The logs that the suites of `ports.Log` run on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from contract.members import SESSION_TIMEOUT_S, Logs
from eod_workers.adapters.kafka import KafkaLog
from eod_workers.adapters.memory_log import MemoryLog


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.kafka)])
async def logs(request: pytest.FixtureRequest) -> AsyncIterator[Logs]:
    if request.param == "memory":
        logs = Logs(MemoryLog())
    else:
        logs = Logs(KafkaLog(request.getfixturevalue("kafka").bootstrap, session_timeout_s=SESSION_TIMEOUT_S))
    yield logs
    await logs.close()
