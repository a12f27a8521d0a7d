"""The logs and the regulatory stores that the suites of the contract run on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from eod_workers.adapters.kafka import KafkaLog
from eod_workers.adapters.kafka_security import KafkaSecurity
from eod_workers.adapters.keeper import Keeper
from eod_workers.adapters.kept_log import SCHEMA, KeptLog
from eod_workers.adapters.memory_log import MemoryLog
from support.members import SESSION_TIMEOUT_S, Logs
from support.regulatory_stores import STORES, Open, stores
from testbed.kafka import SecuredKafka


@pytest.fixture(
    params=[
        "memory",
        "kept",
        pytest.param("kafka", marks=pytest.mark.kafka),
        pytest.param("kafka-sasl-ssl", marks=pytest.mark.kafka),
    ]
)
async def logs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Logs]:
    keeper = None
    if request.param == "memory":
        logs = Logs(MemoryLog())
    elif request.param == "kept":
        keeper = Keeper(tmp_path / "log.sqlite", SCHEMA)
        logs = Logs(KeptLog(keeper))
    elif request.param == "kafka":
        logs = Logs(KafkaLog(request.getfixturevalue("kafka").bootstrap, session_timeout_s=SESSION_TIMEOUT_S))
    else:
        server: SecuredKafka = request.getfixturevalue("secured_kafka")
        security = KafkaSecurity(
            protocol="SASL_SSL", username=server.user, password=server.password, ca_file=str(server.ca_file)
        )
        logs = Logs(KafkaLog(server.secured_bootstrap, security=security, session_timeout_s=SESSION_TIMEOUT_S))
    yield logs
    await logs.close()
    if keeper is not None:
        await keeper.close()


@pytest.fixture(params=STORES)
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    async for opening in stores(request.param, tmp_path):
        yield opening
