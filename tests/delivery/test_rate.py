"""The rate of a target: a burst, a fair line, nothing lost. In virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from router.delivery.target.gate import Pace
from router.routing.target import Rate
from tests.model.loop import VirtualLoop


def play(rate: Rate, scene: Callable[[Pace], Awaitable[None]]) -> None:
    """Run a scene on a loop with virtual time."""
    loop = VirtualLoop()
    try:
        loop.run_until_complete(_within(scene, rate, loop))
    finally:
        loop.close()


async def _within(scene: Callable[[Pace], Awaitable[None]], rate: Rate, loop: VirtualLoop) -> None:
    await scene(Pace(rate, loop.time))


@given(
    waits=st.lists(st.floats(0.0, 3.0), max_size=60),
    per_second=st.sampled_from([0.5, 2.0, 10.0]),
    burst=st.integers(1, 5),
)
def test_no_span_of_time_gives_more_than_its_rate(
    waits: list[float], per_second: float, burst: int
) -> None:
    """Between any two taken tokens there are at most the burst and the rate's tokens of that
    time."""
    time = 1000.0
    pace = Pace(Rate(per_second, burst), lambda: time)
    taken: list[float] = []
    for wait in waits:
        time += wait
        if pace.take_free():
            taken.append(time)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            allowed = burst + per_second * (taken[last] - taken[first])
            assert last - first + 1 <= allowed + 1e-6


def test_the_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    """Two of six at once, then one each half second, in their order."""
    began: list[tuple[int, float]] = []

    async def scene(pace: Pace) -> None:
        async def one(number: int) -> None:
            assert await pace.take(10.0, most_waiting=10)
            began.append((number, round(asyncio.get_running_loop().time(), 3)))

        await asyncio.gather(*(one(number) for number in range(6)))

    play(Rate(2.0, burst=2), scene)
    assert began == [(0, 0.0), (1, 0.0), (2, 0.5), (3, 1.0), (4, 1.5), (5, 2.0)]


def test_waiters_come_first() -> None:
    """A token that has come, or will come, for the first waiter is not for a later caller."""

    async def scene(pace: Pace) -> None:
        loop = asyncio.get_running_loop()
        assert await pace.take(0.0, most_waiting=1)
        waiting = asyncio.create_task(pace.take(5.0, most_waiting=1))
        await asyncio.sleep(0)
        assert (pace.room(1.5), pace.room(2.5)) == (0, 1)
        assert isinstance(loop, VirtualLoop)
        loop.jump(1.0)
        assert not await pace.take(0.0, most_waiting=5)
        assert await waiting

    play(Rate(1.0, burst=1), scene)


def test_no_token_is_lost_or_made() -> None:
    """After any mix of takers, cancellations and hang-ups, the rate is still the rate."""
    dice = Random(7)
    began: list[float] = []

    async def scene(pace: Pace) -> None:
        loop = asyncio.get_running_loop()

        async def one() -> None:
            gone = loop.create_future()
            if dice.random() < 0.3:
                loop.call_later(dice.uniform(0.0, 2.0), gone.cancel)
            if await pace.take(dice.choice((0.0, 0.5, 3.0)), most_waiting=8, gone=gone):
                began.append(loop.time())

        takers = []
        for _ in range(2000):
            takers.append(asyncio.create_task(one()))
            if dice.random() < 0.2:
                loop.call_later(dice.uniform(0.0, 1.0), takers[-1].cancel)
            await asyncio.sleep(dice.choice((0.0, 0.01, 0.1)))
            assert pace.waiting <= 8
        await asyncio.gather(*takers, return_exceptions=True)
        assert pace.waiting == 0
        await asyncio.sleep(10.0)
        assert pace.room(0.0) == 3

    play(Rate(10.0, burst=3), scene)
    span = began[-1] - began[0]
    assert 0.9 * 10 * span <= len(began) <= 10 * span + 4
