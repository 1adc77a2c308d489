"""Slots: a limit, a short line, nothing lost."""

from __future__ import annotations

import asyncio
import random

import pytest

from router.delivery.target.lane import Slots

pytestmark = pytest.mark.anyio


async def test_a_slot_handed_to_a_cancelled_waiter_is_not_lost() -> None:
    """Cancelled at the moment of its turn, a waiter passes the slot on."""
    slots = Slots(limit=1, most_waiting=1)
    await slots.take(1.0)
    waiting = asyncio.create_task(slots.take(20.0))
    while not slots.waiting:
        await asyncio.sleep(0)
    slots.give_back()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (slots.taken, slots.waiting) == (0, 0)


async def test_a_lower_limit_holds_once_slots_are_given_back() -> None:
    """A holder keeps its slot; the next one is free once fewer are taken than the new limit."""
    slots = Slots(limit=3, most_waiting=1)
    for _ in range(3):
        await slots.take(1.0)
    waiting = asyncio.create_task(slots.take(20.0))
    while not slots.waiting:
        await asyncio.sleep(0)
    slots.resize(1, most_waiting=1)
    assert slots.free == 0
    for left in (2, 1):
        slots.give_back()
        await asyncio.sleep(0)
        assert (slots.taken, waiting.done()) == (left, False)
    slots.give_back()
    assert await waiting
    assert (slots.taken, slots.waiting, slots.free) == (1, 0, 0)


async def test_no_slot_is_ever_lost_or_made() -> None:
    """After any mix of takers, timeouts and cancellations every slot is free again."""
    dice = random.Random(7)
    slots = Slots(limit=3, most_waiting=4)
    most = 0

    async def one() -> None:
        nonlocal most
        if await slots.take(dice.choice((0.0, 0.001, 0.01))):
            most = max(most, slots.taken)
            try:
                await asyncio.sleep(dice.choice((0, 0.001)))
            finally:
                slots.give_back()

    takers = [asyncio.create_task(one()) for _ in range(500)]
    for taker in takers:
        if dice.random() < 0.3:
            taker.cancel()
        await asyncio.sleep(dice.choice((0, 0, 0.001)))
    await asyncio.gather(*takers, return_exceptions=True)
    assert most == 3
    assert (slots.taken, slots.waiting) == (0, 0)
