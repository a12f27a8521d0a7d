"""Plays the arrivals of a close into a topic, each in its time."""

from __future__ import annotations

import asyncio
import time

from aiokafka import AIOKafkaProducer

from scaler_real.close import Close

_RECORD = b"8=FIX.4.4|35=8|150=F|39=2|38=100|44=187.25|6=187.25"


async def play(bootstrap: str, topic: str, close: Close, begin_s: float) -> float:
    """Append every record of a close; returns by how many seconds the latest was late.

    Args:
        bootstrap: the Kafka.
        topic: it must have the close's partitions.
        close: what to play.
        begin_s: when it begins, epoch seconds.
    """
    worst_s = 0.0
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=0, acks=1) as producer:
        for at_s, partitions in close.arrivals():
            wait_s = begin_s + at_s - time.time()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            for partition in partitions:
                await producer.send(topic, _RECORD, partition=partition)
            worst_s = max(worst_s, time.time() - begin_s - at_s)
        await producer.flush()
    return worst_s
