"""Places: a bound, a short line, nobody lost."""

from __future__ import annotations

import asyncio
import random

import pytest

from router.delivery.target.lane import Slots

pytestmark = pytest.mark.anyio


async def test_no_more_than_the_limit_hold_a_place() -> None:
    """Whoever comes when all places are taken and the line is full is told so at once."""
    places = Slots(limit=2, most_waiting=0)
    assert [await places.take(1.0) for _ in range(3)] == [True, True, False]


async def test_the_line_is_served_in_order() -> None:
    """A place that is given back goes to the one who has waited longest."""
    places = Slots(limit=1, most_waiting=2)
    await places.take(1.0)
    served: list[int] = []

    async def wait(number: int) -> None:
        assert await places.take(20.0)
        served.append(number)

    waiting = [asyncio.create_task(wait(number)) for number in range(2)]
    while places.waiting < 2:
        await asyncio.sleep(0)
    places.give_back()
    places.give_back()
    await asyncio.gather(*waiting)
    assert served == [0, 1]


async def test_waiting_ends_after_the_timeout() -> None:
    """A line that does not move is left after the time given, and nothing stays behind."""
    places = Slots(limit=1, most_waiting=1)
    await places.take(1.0)
    assert not await places.take(0.01)
    assert (places.taken, places.waiting) == (1, 0)


async def test_a_place_handed_to_one_who_is_just_cancelled_is_not_lost() -> None:
    """Cancelled in the moment its turn came, a waiter passes the place on."""
    places = Slots(limit=1, most_waiting=1)
    await places.take(1.0)
    waiting = asyncio.create_task(places.take(20.0))
    while not places.waiting:
        await asyncio.sleep(0)
    places.give_back()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (places.taken, places.waiting) == (0, 0)


async def test_fewer_places_are_fewer_once_they_are_given_back() -> None:
    """Who holds one keeps it; nobody gets one until fewer are taken than there are now."""
    places = Slots(limit=3, most_waiting=1)
    for _ in range(3):
        await places.take(1.0)
    waiting = asyncio.create_task(places.take(20.0))
    while not places.waiting:
        await asyncio.sleep(0)
    places.resize(1, most_waiting=1)
    assert places.free == 0
    for left in (2, 1):
        places.give_back()
        await asyncio.sleep(0)
        assert (places.taken, waiting.done()) == (left, False)
    places.give_back()
    assert await waiting
    assert (places.taken, places.waiting, places.free) == (1, 0, 0)


async def test_more_places_go_to_who_waits() -> None:
    """At once, and no more of them than there are."""
    places = Slots(limit=1, most_waiting=3)
    await places.take(1.0)
    waiting = [asyncio.create_task(places.take(20.0)) for _ in range(3)]
    while places.waiting < 3:
        await asyncio.sleep(0)
    places.resize(3, most_waiting=3)
    await asyncio.wait(waiting[:2])
    assert (places.taken, places.waiting) == (3, 1)
    places.resize(9, most_waiting=3)
    assert await asyncio.gather(*waiting) == [True] * 3
    assert (places.taken, places.free) == (4, 5)


async def test_no_place_is_ever_lost_or_made() -> None:
    """After any mix of takers, time-outs and cancellations every place is free again."""
    dice = random.Random(7)
    places = Slots(limit=3, most_waiting=4)
    most = 0

    async def one() -> None:
        nonlocal most
        if await places.take(dice.choice((0.0, 0.001, 0.01))):
            most = max(most, places.taken)
            try:
                await asyncio.sleep(dice.choice((0, 0.001)))
            finally:
                places.give_back()

    takers = [asyncio.create_task(one()) for _ in range(500)]
    for taker in takers:
        if dice.random() < 0.3:
            taker.cancel()
        await asyncio.sleep(dice.choice((0, 0, 0.001)))
    await asyncio.gather(*takers, return_exceptions=True)
    assert most == 3
    assert (places.taken, places.waiting) == (0, 0)
