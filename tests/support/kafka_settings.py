"""Settings of topics that tests change."""

from __future__ import annotations

import asyncio

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from support.patience import limited


async def set_on_topic(bootstrap: str, topic: str, **settings: str) -> None:
    """Give a topic these settings (with underscores for dots) and no others; wait until its broker goes by them."""
    wanted = {name.replace("_", "."): value for name, value in settings.items()}
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, wanted)])
        async with limited(20):
            while True:
                asked = ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys(wanted, ""))
                (answer,) = await admin.describe_configs([asked])
                if {entry[0]: entry[1] for one in answer.resources for entry in one[4]} == wanted:
                    return
                await asyncio.sleep(0.02)
    finally:
        await admin.close()
