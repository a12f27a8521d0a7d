"""Settings of topics that tests change."""

from __future__ import annotations

import asyncio

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from support.patience import limited


async def set_on_topic(bootstrap: str, topic: str, name: str, value: str) -> None:
    """Change a setting of a topic, and wait until its broker goes by it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {name: value})])
        async with limited(20):
            while True:
                (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {name: ""})])
                if [entry[:2] for one in answer.resources for entry in one[4]] == [(name, value)]:
                    return
                await asyncio.sleep(0.02)
    finally:
        await admin.close()
