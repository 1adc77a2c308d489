"""Attempts from their place to their end: begun at once, ended once, and nothing left behind."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any, NoReturn, cast
from urllib.parse import unquote

import pytest

from router.delivery.target.sender import Sender, addressed
from router.model.event import OutboundEvent, Reason
from router.routing.target import BreakerPolicy, Rate, Target
from router.store.protocol import Pause, Store
from router.telemetry.metrics import Metrics
from router.transport.engine import Answer, TargetExchange
from tests.support.engines import Engine
from tests.support.hostile import hostile
from tests.support.sending import EVENT, send, sending
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


def places(sender: Sender, metrics: Metrics) -> tuple[int, int]:
    """How many are in flight to the target `one`, and how many wait for a place."""
    sender.measure()
    numbers = metrics.of("one")
    return numbers.in_flight, numbers.waiting


def test_a_key_comes_out_of_its_header_as_it_was() -> None:
    """Whatever character is in it, that of an escape included: what is no plain text is escaped."""
    for code in range(1, 256):
        key = f"a.{chr(code)}41"
        letter = addressed(OutboundEvent.of(EVENT.replace(event_key=key), "request"), "id")
        (said,) = re.findall("x-ebaas-event-key: ([A-Za-z0-9._~%-]+)\r\n", letter.head.decode())
        assert unquote(said) == key


async def test_a_place_is_given_back_once_an_attempt_has_ended(engine: Engine) -> None:
    """However many attempts have ended, each place is free again."""
    async with hostile("answers") as served:
        one = Target("one", served.url, max_in_flight=2)
        async with sending(engine, one) as (sender, metrics):
            for _ in range(3):
                ended = await asyncio.gather(*(send(sender, one) for _ in range(4)))
                assert {attempt.reason for attempt in ended} == {Reason.ACKNOWLEDGED}
                assert places(sender, metrics) == (0, 0)
    assert metrics.of("one").attempts[Reason.ACKNOWLEDGED] == 12


async def test_a_cancelled_attempt_closes_its_connection_and_gives_its_place_back(
    engine: Engine,
) -> None:
    """In flight or in line, cancelled it leaves nothing, and its place is the next one's."""
    async with hostile("says_nothing") as served:
        one = Target("one", served.url, max_in_flight=1)
        async with sending(engine, one) as (sender, metrics):
            first, second = send(sender, one), send(sender, one)
            await until(lambda: places(sender, metrics) == (1, 1) and len(served.requests) == 1)
            first.cancel()
            await until(lambda: len(served.requests) == 2)
            third = send(sender, one)
            await until(lambda: places(sender, metrics) == (1, 1))
            third.cancel()
            second.cancel()
            await until(lambda: places(sender, metrics) == (0, 0) and served.open == 0)
    assert isinstance(first.error, asyncio.CancelledError)
    assert len(served.requests) == 2


async def test_who_waits_in_line_leaves_with_its_caller(engine: Engine) -> None:
    """An attempt whose caller hangs up before its turn is not begun."""
    async with hostile("says_nothing") as served:
        one = Target("one", served.url, max_in_flight=1)
        async with sending(engine, one) as (sender, metrics):
            gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            first, second = send(sender, one), send(sender, one, gone)
            await until(lambda: places(sender, metrics) == (1, 1))
            gone.set_result(None)
            attempt = await second
            assert (attempt.reason, attempt.delivered) == (Reason.SATURATED, False)
            first.cancel()
    assert len(served.requests) <= 1


async def test_an_attempt_that_finds_no_place_costs_no_rate(engine: Engine) -> None:
    """The token of an attempt that is not begun is there for the next one."""
    async with hostile("says_nothing") as served:
        one = Target("one", served.url, max_in_flight=1, rate=Rate(0.001, burst=2))
        async with sending(engine, one) as (sender, metrics):
            gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            first, second = send(sender, one), send(sender, one, gone)
            await until(lambda: places(sender, metrics) == (1, 1))
            gone.set_result(None)
            assert (await second).reason is Reason.SATURATED
            first.cancel()
            await until(lambda: places(sender, metrics) == (0, 0))
            third = send(sender, one)
            assert places(sender, metrics) == (1, 0)
            third.cancel()


class Paused:
    """A store whose clock stands, in which one target is paused."""

    async def pauses(self, timeout: float) -> list[Pause]:
        return [Pause("one", 0.0, 1e9, "a move", "somebody")]

    def now(self) -> float:
        return 0.0


async def test_a_target_that_is_paused_gets_nothing_that_waits_in_its_line(engine: Engine) -> None:
    """Whoever waited for a place is not begun, and the place is free again."""
    async with hostile("says_nothing") as served:
        one = Target("one", served.url, max_in_flight=1)
        async with sending(engine, one) as (sender, metrics):
            first, second = send(sender, one), send(sender, one)
            await until(lambda: places(sender, metrics) == (1, 1) and len(served.requests) == 1)
            await sender.read_pauses(cast("Store", Paused()))
            first.cancel()
            attempt = await second
            assert (attempt.reason, attempt.delivered) == (Reason.PAUSED, False)
            await until(lambda: places(sender, metrics) == (0, 0))
    assert len(served.requests) == 1


async def test_a_breaker_that_opens_leaves_no_place_taken(engine: Engine) -> None:
    """Whoever waits in line while the attempt before opens the breaker is not begun, and each place
    is free for the probe."""
    async with hostile("code_500") as served:
        policy = BreakerPolicy(1.0, of_at_least=1, pause=60.0, refusals="count")
        one = Target("one", served.url, max_in_flight=1, breaker=policy)
        async with sending(engine, one) as (sender, metrics):
            ended = await asyncio.gather(*(send(sender, one) for _ in range(2)))
            assert [attempt.reason for attempt in ended] == [Reason.CODE, Reason.BREAKER_OPEN]
            assert places(sender, metrics) == (0, 0)
    assert len(served.requests) == 1


class Stub:
    """A pool whose `post` is a test's."""

    def __init__(self, post: Any) -> None:
        self.post = post

    async def close(self) -> None: ...


async def test_a_fault_of_our_own_is_how_that_attempt_ends() -> None:
    """It is raised where the attempt is waited for, not where it is begun, and costs no place."""
    one = Target("one", "http://127.0.0.1/", max_in_flight=1)

    def broken(*_: Any) -> NoReturn:
        raise ZeroDivisionError

    async with sending(lambda *_: Stub(broken), one) as (sender, metrics):
        for _ in range(3):
            flight = send(sender, one)
            with pytest.raises(ZeroDivisionError):
                await flight
        assert places(sender, metrics) == (0, 0)


async def test_the_wait_for_a_place_is_a_part_of_the_timeout() -> None:
    """Who waits for a place has so much less for its exchange; who does not has it all."""
    one, waited = Target("one", "http://127.0.0.1/", max_in_flight=1), 0.2
    #: The seconds that each was given, and the exchange.
    posts: list[tuple[float, TargetExchange[Any]]] = []

    def held(_lines: bytes, _body: bytes, timeout: float, read: Any) -> TargetExchange[Any]:
        exchange: TargetExchange[Any] = TargetExchange(read)
        posts.append((timeout, exchange))
        return exchange

    async with sending(lambda *_: Stub(held), one) as (sender, metrics):
        flight, waiting = send(sender, one), send(sender, one)
        await until(lambda: places(sender, metrics) == (1, 1))
        await asyncio.sleep(waited)
        posts[0][1].end(Answer(200, b'{"code":"000"}'))
        assert (await flight).acknowledged
        await until(lambda: len(posts) == 2)
        posts[1][1].end(Answer(200, b'{"code":"000"}'))
        assert (await waiting).acknowledged
    (first, _), (second, _) = posts
    assert one.timeout - waited < first <= one.timeout
    assert second <= one.timeout - waited


async def test_what_is_in_flight_counts_whatever_the_limit_was(engine: Engine) -> None:
    """An edit gives a target that hangs no new places: not one of its limit, nor one that takes it
    away and brings it back."""
    async with hostile("hangs") as served:
        one = Target("one", served.url, timeout=20.0, max_in_flight=4)
        async with sending(engine, one) as (sender, metrics):
            flights = [send(sender, one) for _ in range(4)]
            fewer = replace(one, max_in_flight=3)
            for targets in ([fewer], [], [one], [fewer], []):
                sender.adopt(targets)
                sender.measure()
            sender.adopt([replace(one, max_in_flight=5)])
            more = [send(sender, replace(one, max_in_flight=5)) for _ in range(2)]
            await until(lambda: places(sender, metrics) == (5, 1))
            sender.adopt([one])
            assert sender.room(one) == 0
            for flight in (*flights, *more):
                flight.cancel()


async def test_who_has_waited_for_longer_than_a_target_was_kept_still_gets_there(
    engine: Engine,
) -> None:
    """The queue, say, with what a slow store gave it; and what that opens is swept as well."""
    async with hostile("answers") as served:
        one = Target("one", served.url)
        async with sending(engine, one) as (sender, _):
            sender.adopt([])
            for _ in range(2):
                await sender.sweep()
            assert sender.room(one) > 0
            assert (await send(sender, one)).acknowledged
            for _ in range(2):
                await sender.sweep()
            await until(lambda: served.open == 0)
