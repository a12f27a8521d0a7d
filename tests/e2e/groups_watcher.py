"""Runs in a pod of the cluster: prints, twice a second, how many members of each consumer group hold partitions.

    TIME GROUP STATE MEMBERS_WITH_PARTITIONS

The groups are its arguments. It reaches Kafka by the settings that every stage has.
"""

from __future__ import annotations

import asyncio
import sys
import time

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from eod_workers.process.bootstrap import make_kafka_security
from eod_workers.process.settings import load_settings

_LOOK_S = 0.5


def _holding(assignment: bytes) -> bool:
    return bool(assignment) and any(
        partitions for _, partitions in ConsumerProtocolMemberAssignment.decode(assignment).assignment
    )


async def _watch(groups: list[str]) -> None:
    settings = load_settings()
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap, **make_kafka_security(settings).arguments())
    await admin.start()
    while True:
        # One at a time: aiokafka reads the answer of version 3 as one of version 2, and so stumbles over a second group.
        answers = [one for group in groups for one in await admin.describe_consumer_groups([group])]
        now = time.time()
        for described in (one for answer in answers for one in answer.groups):
            _, group, state, _, _, members, *_ = described
            sys.stdout.write(f"{now} {group} {state or '-'} {sum(_holding(member[4]) for member in members)}\n")
        await asyncio.sleep(_LOOK_S)


if __name__ == "__main__":
    asyncio.run(_watch(sys.argv[1:]))
