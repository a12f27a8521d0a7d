"""How often a member of a group tells that it lives, which is how soon it hears of a rebalance."""

from __future__ import annotations

from typing import Any

import pytest
from eod_workers.adapters import kafka_consumer
from eod_workers.adapters.kafka import KafkaLog


class _Made(Exception):
    """The client's consumer was about to be made."""


@pytest.mark.parametrize(("session_s", "beat_ms"), [(300.0, 1_000), (10.0, 1_000), (3.0, 1_000), (1.5, 500)])
async def test_a_member_hears_of_a_rebalance_within_a_second_or_a_third_of_its_session(
    monkeypatch: pytest.MonkeyPatch, session_s: float, beat_ms: int
) -> None:
    asked: dict[str, Any] = {}

    def make(**settings: Any) -> None:
        asked.update(settings)
        raise _Made

    async def nothing(*_: Any) -> None:
        """There is no broker to ask."""

    monkeypatch.setattr(kafka_consumer, "AIOKafkaConsumer", make)
    consumer = KafkaLog("127.0.0.1:1", session_timeout_s=session_s).consumer(["t"], "g")
    monkeypatch.setattr(consumer, "_require_topics", nothing)
    monkeypatch.setattr(consumer, "_may_join", nothing)
    with pytest.raises(_Made):
        await consumer.start(None)  # type: ignore[arg-type]  # it is never called
    assert (asked["heartbeat_interval_ms"], asked["session_timeout_ms"]) == (beat_ms, session_s * 1_000)
