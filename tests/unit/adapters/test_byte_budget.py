"""The limit of bytes in flight of the Kafka producer."""

from __future__ import annotations

import asyncio

from eod_workers.adapters.kafka_producer import ByteBudget


async def test_room_is_given_in_the_order_of_asking() -> None:
    """A small request does not overtake a large one; what is larger than the limit comes alone."""
    budget = ByteBudget(10)
    await budget.take(8)
    order: list[int] = []

    async def ask(size: int) -> None:
        await budget.take(size)
        order.append(size)

    asking = [asyncio.create_task(ask(size)) for size in (5, 1, 50, 2)]
    await asyncio.sleep(0)
    assert order == []
    budget.give_back(8)
    await asyncio.sleep(0)
    assert order == [5, 1]
    budget.give_back(5)
    await asyncio.sleep(0)
    assert order == [5, 1]
    budget.give_back(1)
    await asyncio.sleep(0)
    assert order == [5, 1, 50]
    budget.give_back(50)
    await asyncio.gather(*asking)
    assert order == [5, 1, 50, 2]


async def test_who_gives_up_waiting_takes_no_room() -> None:
    """Cancelled before or just after its turn came, it leaves the room to the next."""
    for turns_until_cancelled in (0, 1):
        budget = ByteBudget(10)
        await budget.take(10)
        first, second = (asyncio.create_task(budget.take(10)) for _ in range(2))
        await asyncio.sleep(0)
        if turns_until_cancelled:
            budget.give_back(10)
        first.cancel()
        if not turns_until_cancelled:
            budget.give_back(10)
        await asyncio.wait_for(second, 1)
        assert first.cancelled()
