"""What is sent at the end of the loop's turn."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from router.outbox import Outbox, outbox_of

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return "asyncio", {"use_uvloop": request.param}


async def test_all_goes_in_order_when_the_turn_is_over() -> None:
    """What is put while others are sent goes as well, after them."""
    outbox, sent = outbox_of(asyncio.get_running_loop()), list[str]()

    def first() -> None:
        sent.append("first")
        outbox.put(sent.append, "third")

    outbox.put(first)
    outbox.put(sent.append, "second")
    assert sent == []
    await asyncio.sleep(0)
    assert sent == ["first", "second", "third"]
    outbox.put(sent.append, "fourth")
    await asyncio.sleep(0)
    assert sent[3:] == ["fourth"]


async def test_who_can_not_wait_sends_what_came_before() -> None:
    outbox, sent = Outbox(), list[int]()
    outbox.put(sent.append, 1)
    outbox.flush()
    assert sent == [1]
    await asyncio.sleep(0)
    assert sent == [1]


async def test_who_can_not_wait_may_itself_be_sent() -> None:
    """A flush has sent all that was put before it, also in the middle of another."""
    outbox, sent = Outbox(), list[int]()

    def hasty() -> None:
        outbox.flush()
        sent.append(2)

    outbox.put(hasty)
    outbox.put(sent.append, 1)
    await asyncio.sleep(0)
    assert sent == [1, 2]


async def test_what_fails_costs_the_others_nothing() -> None:
    """A failure is told as that of any callback of the loop."""
    loop, sent, told = asyncio.get_running_loop(), list[int](), list[Any]()
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    outbox = outbox_of(loop)
    outbox.put(int, "no number")
    outbox.put(sent.append, 1)
    await asyncio.sleep(0)
    assert sent == [1]
    assert [type(error) for error in told] == [ValueError]


async def test_a_loop_has_one() -> None:
    """A loop that is forgotten takes its outbox with it."""
    loop = asyncio.get_running_loop()
    assert outbox_of(loop) is outbox_of(loop)
    other = asyncio.new_event_loop()
    outbox = weakref.ref(outbox_of(other))
    other.close()
    del other
    gc.collect()
    assert outbox() is None
