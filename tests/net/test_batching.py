"""What is sent at the end of the loop's turn."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from router.net.loops import Batching, batching_of
from tests.support.loops import BOTH, on

pytestmark = pytest.mark.anyio


anyio_backend = on(BOTH)


async def test_all_goes_in_order_when_the_turn_is_over() -> None:
    """What is put while others are sent goes as well, after them."""
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


async def test_who_can_not_wait_sends_what_came_before() -> None:
    batching, sent = Batching(), list[int]()
    batching.put(sent.append, 1)
    batching.flush()
    assert sent == [1]
    await asyncio.sleep(0)
    assert sent == [1]


async def test_who_can_not_wait_may_itself_be_sent() -> None:
    """A flush has sent all that was put before it, also in the middle of another."""
    batching, sent = Batching(), list[int]()

    def hasty(_: object) -> None:
        batching.flush()
        sent.append(2)

    batching.put(hasty, None)
    batching.put(sent.append, 1)
    await asyncio.sleep(0)
    assert sent == [1, 2]


async def test_what_fails_costs_the_others_nothing() -> None:
    """A failure is told as that of any callback of the loop."""
    loop, sent, told = asyncio.get_running_loop(), list[int](), list[Any]()
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    batching = batching_of(loop)
    batching.put(int, "no number")
    batching.put(sent.append, 1)
    await asyncio.sleep(0)
    assert sent == [1]
    assert [type(error) for error in told] == [ValueError]


async def test_a_loop_has_one() -> None:
    """Its batching does not keep a loop that is forgotten, and goes with it."""
    loop = asyncio.get_running_loop()
    assert batching_of(loop) is batching_of(loop)
    other = asyncio.new_event_loop()
    forgotten = weakref.ref(other)
    batching_of(other)
    other.close()
    del other
    gc.collect()
    assert forgotten() is None
