"""Attempts from their slot to their end: begun at once, ended once, nothing left behind."""

from __future__ import annotations

import asyncio
import io
import json
import re
import time
from dataclasses import replace
from typing import Any, NoReturn, cast
from urllib.parse import unquote

import pytest

from router.delivery.target.sender import Sender, addressed
from router.model.event import OutboundEvent, Reason
from router.routing.target import BreakerPolicy, Rate, Target
from router.store.protocol import Pause, Store, StoreFailed
from router.telemetry.metrics import Metrics
from router.transport.engine import Answer, TargetExchange
from tests.support.engines import Engine
from tests.support.hostile import hostile
from tests.support.sending import EVENT, send, sending
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


def slots(sender: Sender, metrics: Metrics) -> tuple[int, int]:
    """Return how many attempts at the target `one` are in flight, and how many wait for a slot."""
    sender.measure()
    numbers = metrics.of("one")
    return numbers.in_flight, numbers.waiting


def test_a_key_comes_out_of_its_header_as_it_was() -> None:
    """With any character, that of an escape included: all but plain text is escaped."""
    for code in range(1, 256):
        key = f"a.{chr(code)}41"
        letter = addressed(OutboundEvent.of(EVENT.replace(event_key=key), "request"), "id", 0.0)
        (value,) = re.findall("x-ebaas-event-key: ([A-Za-z0-9._~%-]+)\r\n", letter.head.decode())
        assert unquote(value) == key


async def test_a_cancelled_attempt_closes_its_connection_and_frees_its_slot(
    engine: Engine,
) -> None:
    """In flight or waiting, a cancelled attempt leaves nothing, and its slot is free."""
    async with hostile("says_nothing") as served:
        one = Target("one", served.url, max_in_flight=1)
        async with sending(engine, one) as (sender, metrics):
            first, second = send(sender, one), send(sender, one)
            await until(lambda: slots(sender, metrics) == (1, 1) and len(served.requests) == 1)
            first.cancel()
            await until(lambda: len(served.requests) == 2)
            third = send(sender, one)
            await until(lambda: slots(sender, metrics) == (1, 1))
            third.cancel()
            second.cancel()
            await until(lambda: slots(sender, metrics) == (0, 0) and served.open == 0)
    assert isinstance(first.error, asyncio.CancelledError)
    assert len(served.requests) == 2


async def test_a_waiting_attempt_ends_with_its_caller(engine: Engine) -> None:
    """An attempt whose caller hangs up before its turn is not begun."""
    async with hostile("says_nothing") as served:
        one = Target("one", served.url, max_in_flight=1)
        async with sending(engine, one) as (sender, metrics):
            gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            first, second = send(sender, one), send(sender, one, gone)
            await until(lambda: slots(sender, metrics) == (1, 1))
            gone.set_result(None)
            attempt = await second
            assert (attempt.reason, attempt.delivered) == (Reason.SATURATED, False)
            first.cancel()
    assert len(served.requests) <= 1


async def test_an_attempt_without_a_slot_costs_no_rate(engine: Engine) -> None:
    """The token of an attempt that is not begun is free for the next one."""
    async with hostile("says_nothing") as served:
        one = Target("one", served.url, max_in_flight=1, rate=Rate(0.001, burst=2))
        async with sending(engine, one) as (sender, metrics):
            gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            first, second = send(sender, one), send(sender, one, gone)
            await until(lambda: slots(sender, metrics) == (1, 1))
            gone.set_result(None)
            assert (await second).reason is Reason.SATURATED
            first.cancel()
            await until(lambda: slots(sender, metrics) == (0, 0))
            third = send(sender, one)
            assert slots(sender, metrics) == (1, 0)
            third.cancel()
            await until(lambda: slots(sender, metrics) == (0, 0))
            assert (await send(sender, one, patience=0.0)).reason is Reason.RATE_LIMITED
            assert slots(sender, metrics) == (0, 0)


class Paused:
    """A store in which a target is paused for ten minutes. The test moves its clock, and breaks
    it."""

    time, is_away = 1_000_000.0, False

    async def pauses(self, timeout: float) -> tuple[Pause, ...]:
        if self.is_away:
            raise StoreFailed("io")
        return (Pause("one", 1_000_000.0, 1_000_600.0, "a move", "ops"),)

    def now(self) -> float:
        return self.time


async def test_a_known_pause_outlives_the_store(engine: Engine) -> None:
    """A target is not called because the store is away. The pause ends at its time, and an attempt
    that waits for a slot when it begins is not begun."""
    paused = Paused()
    store = cast("Store", paused)
    async with hostile("says_nothing") as served:
        one = Target("one", served.url, max_in_flight=1)
        async with sending(engine, one) as (sender, metrics):
            first, second = send(sender, one), send(sender, one)
            await until(lambda: slots(sender, metrics) == (1, 1) and len(served.requests) == 1)
            await sender.read_pauses(store)
            first.cancel()
            assert (await second).reason is Reason.PAUSED
            await until(lambda: slots(sender, metrics) == (0, 0))
            paused.is_away = True
            for seconds, room in ((599.0, 0), (1.0, 1)):
                paused.time += seconds
                await sender.read_pauses(store)
                assert sender.room(one, 0.0) == room


async def test_a_breaker_that_opens_leaves_no_slot_taken(engine: Engine) -> None:
    """An attempt that waits while the one before opens the breaker is not begun, and every slot is
    free for the probe."""
    async with hostile("code_500") as served:
        policy = BreakerPolicy(1.0, of_at_least=1, pause=60.0, refusals="count")
        one = Target("one", served.url, max_in_flight=1, breaker=policy)
        async with sending(engine, one) as (sender, metrics):
            ended = await asyncio.gather(*(send(sender, one) for _ in range(2)))
            assert [attempt.reason for attempt in ended] == [Reason.CODE, Reason.BREAKER_OPEN]
            assert slots(sender, metrics) == (0, 0)
    assert len(served.requests) == 1


class Stub:
    """A pool whose `post` is a test's."""

    def __init__(self, post: Any) -> None:
        self.post = post

    async def close(self) -> None: ...


async def test_a_fault_of_our_own_is_how_that_attempt_ends() -> None:
    """It is raised by waiting for the attempt, not by its beginning, and costs no slot."""
    one = Target("one", "http://127.0.0.1/", max_in_flight=1)

    def broken(*_: Any) -> NoReturn:
        raise ZeroDivisionError

    async with sending(lambda *_: Stub(broken), one) as (sender, metrics):
        for _ in range(3):
            flight = send(sender, one)
            with pytest.raises(ZeroDivisionError):
                await flight
        assert slots(sender, metrics) == (0, 0)


async def test_the_wait_for_a_slot_is_a_part_of_the_timeout() -> None:
    """An attempt that waits for a slot has so much less time for its exchange."""
    one, waited = Target("one", "http://127.0.0.1/", max_in_flight=1), 0.2
    #: The seconds that each was given, and the exchange.
    posts: list[tuple[float, TargetExchange[Any]]] = []

    def held(_lines: bytes, _body: bytes, timeout: float, read: Any) -> TargetExchange[Any]:
        exchange: TargetExchange[Any] = TargetExchange(read)
        posts.append((timeout, exchange))
        return exchange

    async with sending(lambda *_: Stub(held), one) as (sender, metrics):
        flight, waiting = send(sender, one), send(sender, one)
        await until(lambda: slots(sender, metrics) == (1, 1))
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
    """A reload gives a hanging target no new slots: neither one of its limit, nor one that removes
    it and brings it back."""
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
            await until(lambda: slots(sender, metrics) == (5, 1))
            sender.adopt([one])
            assert sender.room(one, 0.0) == 0
            for flight in (*flights, *more):
                flight.cancel()


async def test_an_attempt_at_a_target_that_was_swept_is_made(
    engine: Engine,
) -> None:
    """For example the queue, after a slow answer of the store; and the new lane is swept as
    well."""
    async with hostile("answers") as served:
        one = Target("one", served.url)
        async with sending(engine, one) as (sender, _):
            sender.adopt([])
            for _ in range(2):
                await sender.sweep()
            assert sender.room(one, 0.0) > 0
            assert (await send(sender, one)).acknowledged
            for _ in range(2):
                await sender.sweep()
            await until(lambda: served.open == 0)


async def test_a_reload_of_something_else_keeps_the_connections(engine: Engine) -> None:
    """They are not closed with the target as it was before."""
    async with hostile("answers") as served:
        one = Target("one", served.url)
        patient = replace(one, timeout=9.0)
        async with sending(engine, one) as (sender, _):
            assert (await send(sender, one)).acknowledged
            sender.adopt([patient])
            for _ in range(3):
                await sender.sweep()
            assert (await send(sender, patient)).acknowledged
    assert served.accepted == 1


async def test_a_target_that_may_not_be_called_swamps_no_router(engine: Engine) -> None:
    """Its events are refused by the gate, whether or not the loop is too slow for its line."""
    async with hostile("says_nothing") as served:
        one = Target("one", served.url, max_in_flight=1)
        paused = replace(one, paused=True)
        async with sending(engine, one) as (sender, _):
            assert not sender.is_swamped([one])
            flights = [send(sender, one) for _ in range(2)]
            time.sleep(0.01)  # noqa: ASYNC251 - a turn that takes long
            assert sender.is_swamped([one])
            sender.adopt([paused])
            assert not sender.is_swamped([paused])
            for flight in flights:
                flight.cancel()


async def test_a_reload_back_and_forth_before_the_sweep_knows_the_last_signs(
    engine: Engine,
) -> None:
    """The lane of before is taken again, with what has happened since: `paused: true` put in and
    taken out is a sign that the target works, a failure in between ends the sign of before, and the
    breaker that both share reports the target in force."""
    async with hostile("answers") as served, hostile("code_500") as broken:
        one = Target("one", served.url)
        async with sending(engine, one) as (sender, _):
            assert sender.sign_of_life(one) == ""
            for target in (replace(one, paused=True), one):
                sender.adopt([target])
            assert sender.sign_of_life(one) == "pause_ended"
            moved = replace(one, url=broken.url)
            sender.adopt([moved])
            assert not (await send(sender, moved)).acknowledged
            sender.adopt([one])
            assert sender.sign_of_life(one) == ""


async def test_a_breaker_reports_the_target_in_force() -> None:
    """Also one that two configurations of the target share, when the earlier one comes back."""
    policy, log = BreakerPolicy(1.0, of_at_least=1, pause=0.01), io.StringIO()
    answers = [Answer(500, b""), Answer(200, b'{"code":"000"}')]

    def answer(_lines: bytes, _body: bytes, _timeout: float, read: Any) -> TargetExchange[Any]:
        exchange: TargetExchange[Any] = TargetExchange(read)
        exchange.end(answers.pop(0))
        return exchange

    one = Target("one", "http://127.0.0.1/", owner="a", breaker=policy)
    async with sending(lambda *_: Stub(answer), one, log) as (sender, _):
        for target in (replace(one, owner="b"), one):
            sender.adopt([target])
        assert not (await send(sender, one)).acknowledged
        await asyncio.sleep(0.02)
        assert (await send(sender, one)).acknowledged
        assert sender.sign_of_life(one) == "breaker_closed"
    reports = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(line["owner"], line["state"]) for line in reports] == [
        ("a", "open"), ("a", "half_open"), ("a", "closed"),
    ]  # fmt: skip
