"""The wait for a reply: attempts that end, deadlines, callers that hang up."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import pytest

from router.delivery.forwarder import Countdown
from router.model.event import Attempt, Reason
from router.transport.engine import Answer, Failure, TargetExchange

pytestmark = pytest.mark.anyio

#: Longer than anything here takes; and so long that the loop has had its turns.
LONG, SHORT = 30.0, 0.02


def flight() -> TargetExchange[Attempt]:
    def read(_: Answer | Failure) -> Attempt:
        return Attempt(Reason.ACKNOWLEDGED, True, 0.0)

    return TargetExchange(read)


ENDS: dict[str, Callable[[TargetExchange[Attempt]], object]] = {
    "answered": lambda flight: flight.end(Answer(200, b"")),
    "failed": lambda flight: flight.fail(ZeroDivisionError()),
    "cancelled": lambda flight: flight.cancel(),
}


@pytest.mark.parametrize("how", ENDS)
async def test_an_end_reaches_every_listener_at_once_and_once(how: str) -> None:
    """In their order, before the loop has had a turn, and a late listener immediately. One that
    fails is reported as any callback is; the others are called, and the exchange is stopped."""
    faults: list[BaseException] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))
    calls: list[str] = []
    one = flight()
    one.stop = lambda: calls.append("stopped")
    one.listen(lambda _: calls.append("first"))
    one.listen(lambda _: 1 // 0)
    one.listen(lambda _: calls.append("second"))
    ENDS[how](one)
    expected = ["first", "second", *(["stopped"] if how == "cancelled" else [])]
    assert calls == expected
    one.end(Answer(200, b""))
    one.listen(lambda _: 1 // 0)
    one.listen(lambda _: calls.append("late"))
    assert calls == [*expected, "late"]
    assert [type(error) for error in faults] == [ZeroDivisionError] * 2
    assert one.is_over
    assert one.error or one.result()


def nobody_gone() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


async def test_a_wait_that_is_over_is_freed_at_once(no_collections: None) -> None:
    """Without a cycle that the collector would have to find."""
    one = flight()
    countdown = Countdown([one])
    asyncio.get_running_loop().call_soon(one.end, Answer(200, b""))
    await countdown.wait(LONG, nobody_gone())
    del countdown
    assert not [thing for thing in gc.get_objects() if isinstance(thing, Countdown)]
