"""Tools for the event loop: batched writes, and a thread that rests."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from itertools import pairwise
from typing import Any

import pytest

from router.net.loops import Batching, RestingReader, batching_of, happens
from tests.support.loops import BOTH, on

pytestmark = pytest.mark.anyio


anyio_backend = on(BOTH)


async def test_writes_leave_in_order_when_the_turn_is_over() -> None:
    """A write that is added while others are sent follows them."""
    batching, sent = batching_of(asyncio.get_running_loop()), list[str]()

    def first(_: object) -> None:
        sent.append("first")
        batching.put(sent.append, "third")

    batching.put(first, None)
    batching.put(sent.append, "second")
    assert sent == []
    await asyncio.sleep(0)
    assert sent == ["first", "second", "third"]
    batching.put(sent.append, "fourth")
    await asyncio.sleep(0)
    assert sent[3:] == ["fourth"]


async def test_a_batched_write_may_flush() -> None:
    """A flush sends all that was added before it, even within another flush."""
    batching, sent = Batching(), list[int]()

    def hasty(_: object) -> None:
        batching.flush()
        sent.append(2)

    batching.put(hasty, None)
    batching.put(sent.append, 1)
    await asyncio.sleep(0)
    assert sent == [1, 2]


async def test_a_failed_write_does_not_affect_the_others() -> None:
    """An error is handled like that of any callback of the loop."""
    loop, sent, errors = asyncio.get_running_loop(), list[int](), list[Any]()
    loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))
    batching = batching_of(loop)
    batching.put(int, "no number")
    batching.put(sent.append, 1)
    await asyncio.sleep(0)
    assert sent == [1]
    assert [type(error) for error in errors] == [ValueError]


async def test_a_loop_has_one_batching() -> None:
    """The batching does not keep a closed loop alive, and is freed with it."""
    loop = asyncio.get_running_loop()
    assert batching_of(loop) is batching_of(loop)
    other = asyncio.new_event_loop()
    forgotten = weakref.ref(other)
    batching_of(other)
    other.close()
    del other
    gc.collect()
    assert forgotten() is None


async def test_an_event_counts_until_the_last_moment() -> None:
    """An event that is set in the very turn in which the time is over has happened."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    assert not await happens(event, 0.001)
    asking = asyncio.create_task(happens(event, 0.01))
    await asyncio.sleep(0)
    loop.call_later(0.02, event.set)
    time.sleep(0.05)  # noqa: ASYNC251 - both timers come in one turn
    assert await asking
    assert await happens(event, 0.0)


async def test_it_rests_as_long_as_it_worked() -> None:
    """The loop has at least half of the time to itself, however many ask at once."""
    spans: list[tuple[float, float]] = []

    def work(seconds: float) -> float:
        began = time.monotonic()
        time.sleep(seconds)
        spans.append((began, time.monotonic()))
        return seconds

    reader = RestingReader()
    assert await asyncio.gather(*(reader.do(work, 0.01) for _ in range(5))) == [0.01] * 5
    for (began, ended), (following, _) in pairwise(spans):
        assert following - ended >= min(ended - began, 0.05) * 0.9


async def test_short_work_is_done_without_a_rest() -> None:
    """A rest is as short as the work before it."""
    ends: list[float] = []
    reader = RestingReader()
    for _ in range(20):
        await reader.do(lambda given: ends.append(given()), time.monotonic)
    assert min(after - before for before, after in pairwise(ends)) < 0.04


async def test_work_whose_time_is_over_is_not_done() -> None:
    """Its caller hears of it in time, not once its turn comes; the work behind it goes on."""
    reader, done = RestingReader(), list[str]()

    def work(name: str, seconds: float = 0.0) -> None:
        time.sleep(seconds)
        done.append(name)

    long = asyncio.create_task(reader.do(work, "long", 0.3))
    await asyncio.sleep(0)
    began = time.monotonic()
    late = asyncio.create_task(reader.do(work, "late", within=0.05))
    behind = asyncio.create_task(reader.do(work, "behind", within=20.0))
    with pytest.raises(TimeoutError):
        await late
    assert time.monotonic() - began < 0.3
    await asyncio.gather(long, behind)
    assert done == ["long", "behind"]


async def test_failed_work_does_not_block_the_next() -> None:
    """The caller gets the exception, and the next work is done."""
    reader = RestingReader()
    with pytest.raises(ValueError, match="x"):
        await reader.do(int, "x")
    assert await reader.do(int, "1") == 1
