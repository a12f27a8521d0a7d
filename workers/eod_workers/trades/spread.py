"""Over how many partitions the trades are spread: what a symbol's place in the log, and its book, follow from.

A partition that is added would move symbols: a sale would be in another partition than the position it closes, and a
bust than its trade. So the number is kept in the state store beside the snapshots, by whoever needs it first, and holds
from then on. Partitions that a topic is given later stay empty.
"""

from __future__ import annotations

import structlog

from eod_workers.ports import Log, StateStore, Unavailable

logger = structlog.get_logger()


def spread_key(topic: str) -> str:
    """Where the number of a topic is kept, in decimal."""
    return f"spread:{topic}"


async def spread_of(log: Log, state: StateStore, topic: str, *, warn: bool = False) -> int:
    """The number of partitions, the first so many, over which the records of a topic are spread.

    With `warn`, partitions that are not used are said in the log.

    Raises:
        UnknownTopic: no such topic.
        Unavailable: the log or the store is away, or the topic has fewer partitions now.
    """
    count = await log.partition_count(topic)
    await state.put_if_absent(spread_key(topic), str(count).encode())
    spread = int(await state.get(spread_key(topic)) or count)
    if count < spread:
        raise Unavailable(
            f"topic {topic} has {count} partitions, and trades, snapshots and prices are spread over {spread}: give it "
            f"{spread} again (kafka-topics --alter --topic {topic} --partitions {spread})"
        )
    if warn and count > spread:
        logger.warning(
            "partitions.unused",
            topic=topic,
            partitions=count,
            used=spread,
            why="positions and busts are found by the partition of their symbol, so those that were added stay empty",
        )
    return spread
