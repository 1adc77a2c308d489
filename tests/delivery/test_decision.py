"""When a reply is decided: attempts that end, deadlines, callers that are gone."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable

import pytest

from router.delivery.forwarder import Decision
from router.model.event import Attempt, Reason
from router.transport.engine import Answer, Failure, TargetExchange

pytestmark = pytest.mark.anyio

#: Longer than anything here takes; and so long that the loop has had its turns.
LONG, SHORT = 30.0, 0.02


def flight() -> TargetExchange[Attempt]:
    def read(_: Answer | Failure) -> Attempt:
        return Attempt(Reason.ACKNOWLEDGED, True, 0.0)

    return TargetExchange(read)


def decision(patience: float = LONG, worth: bool = True) -> Decision:
    return Decision(patience, lambda: worth)


async def made(
    one: Decision, gone: asyncio.Future[None] | None = None, within: float = LONG
) -> None:
    gone = gone or asyncio.get_running_loop().create_future()
    async with asyncio.timeout(LONG):
        await one.made(time.monotonic() + within, gone)


ENDS: dict[str, Callable[[TargetExchange[Attempt]], object]] = {
    "answered": lambda flight: flight.end(Answer(200, b"")),
    "failed": lambda flight: flight.fail(ZeroDivisionError()),
    "cancelled": lambda flight: flight.cancel(),
}


@pytest.mark.parametrize("how", ENDS)
async def test_an_exchange_is_heard_of_in_the_moment_it_ends(how: str) -> None:
    """However it ends, once, and before the loop has had a turn."""
    heard: list[TargetExchange[Attempt]] = []
    one = flight()
    one.listen(heard.append)
    ENDS[how](one)
    assert heard == [one]
    one.end(Answer(200, b""))
    assert heard == [one]
    assert one.is_over
    assert one.error or one.result()


async def test_everybody_who_listens_hears_it() -> None:
    """In the order in which they came, and who comes late at once."""
    heard: list[str] = []
    one = flight()
    one.listen(lambda _: heard.append("first"))
    one.listen(lambda _: heard.append("second"))
    one.end(Answer(200, b""))
    assert heard == ["first", "second"]
    one.listen(lambda _: heard.append("late"))
    assert heard == ["first", "second", "late"]


@pytest.mark.parametrize("how", ENDS)
async def test_a_listener_that_fails_costs_nobody_else_anything(how: str) -> None:
    """It is told as any callback's failure; the others hear, and what it has come to is stopped."""
    told: list[BaseException] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    heard: list[str] = []
    one = flight()
    one.stop = lambda: heard.append("stopped")
    one.listen(lambda _: 1 // 0)
    one.listen(lambda _: heard.append("heard"))
    ENDS[how](one)
    one.listen(lambda _: 1 // 0)
    assert heard == ["heard", *(["stopped"] if how == "cancelled" else [])]
    assert [type(error) for error in told] == [ZeroDivisionError] * 2


@pytest.mark.parametrize("how", ENDS)
async def test_who_waits_for_an_exchange_hears_what_came_of_it(how: str) -> None:
    """Be it a value, a fault or that it was cancelled; before its end as well as after."""
    one = flight()
    waiting = asyncio.gather(one, return_exceptions=True)
    await asyncio.sleep(0)
    assert not one.is_over
    ENDS[how](one)
    expected = {"failed": ZeroDivisionError, "cancelled": asyncio.CancelledError}.get(how, Attempt)
    (came,) = await waiting
    (later,) = await asyncio.gather(one, return_exceptions=True)
    assert (type(came), type(later)) == (expected, expected)


async def test_who_is_cancelled_while_waiting_cancels_the_exchange() -> None:
    """As of any future; what it has come to is broken off."""
    stopped: list[str] = []
    one = flight()
    one.stop = lambda: stopped.append("stopped")

    async def wait() -> None:
        await one

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert one.is_over
    assert stopped == ["stopped"]


async def test_it_is_made_when_every_required_attempt_has_ended() -> None:
    """Not at the first."""
    first, second, one = flight(), flight(), decision()
    for each in (first, second):
        one.watch(each, required=True)
    waiting = asyncio.create_task(made(one))
    first.end(Answer(200, b""))
    await asyncio.sleep(SHORT)
    assert not waiting.done()
    second.end(Answer(200, b""))
    await waiting


async def test_what_had_ended_before_is_not_waited_for() -> None:
    """A target whose attempt ended as it began holds nobody up."""
    ended, one = flight(), decision()
    ended.end(Answer(200, b""))
    one.watch(ended, required=True)
    await made(one)


@pytest.mark.parametrize("late", ["required", "optional"])
async def test_optional_attempts_are_waited_for_as_well(late: str) -> None:
    """For a while, in which the last of all attempts makes it, required or not."""
    required, optional, one = flight(), flight(), decision()
    one.watch(required, required=True)
    one.watch(optional, required=False)
    waiting = asyncio.create_task(made(one))
    await asyncio.sleep(0)
    first, last = (optional, required) if late == "required" else (required, optional)
    first.end(Answer(200, b""))
    await asyncio.sleep(SHORT)
    assert not waiting.done()
    last.end(Answer(200, b""))
    await waiting


@pytest.mark.parametrize(("patience", "worth"), [(LONG, False), (0.0, True), (SHORT, True)])
async def test_optional_attempts_are_not_waited_for_in_vain(patience: float, worth: bool) -> None:
    """Not for a reply that fails anyhow, not without a memory, and not beyond the patience."""
    hung = flight()
    for all_required in ([flight()], []):
        one = decision(patience=patience, worth=worth)
        one.watch(hung, required=False)
        for each in all_required:
            one.watch(each, required=True)
            asyncio.get_running_loop().call_soon(each.end, Answer(200, b""))
        await made(one)


async def test_it_is_made_at_its_deadline() -> None:
    """Each at its own."""
    hung = flight()
    ended: list[str] = []

    async def wait(name: str, seconds: float) -> None:
        one = decision()
        one.watch(hung, required=True)
        await made(one, within=seconds)
        ended.append(name)

    await asyncio.gather(wait("late", 0.2), wait("early", SHORT), wait("past", -1.0))
    assert ended == ["past", "early", "late"]


async def test_it_is_made_once_its_caller_is_gone() -> None:
    """Whatever is still in flight."""
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    hung, one = flight(), decision()
    one.watch(hung, required=True)
    asyncio.get_running_loop().call_later(SHORT, gone.set_result, None)
    await made(one, gone)


async def test_nothing_is_kept_of_one_that_is_made(no_collections: None) -> None:
    """And nobody has to look for a cycle to find that."""
    one, its = flight(), decision()
    its.watch(one, required=True)
    asyncio.get_running_loop().call_soon(one.end, Answer(200, b""))
    await made(its)
    remains = weakref.ref(its._is_worth_waiting)
    del its
    assert remains() is None
