"""The queue on a real store: due deliveries are sent, by its waits, fairly among targets."""

from __future__ import annotations

import asyncio
import hashlib
import io
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from router.contract.schedule import PLATFORM, Schedule, Terms
from router.delivery.observer import Observer
from router.delivery.queue import (
    JITTER,
    LEASE_MARGIN,
    LEASE_OVER,
    MAX_IN_FLIGHT,
    MAX_PER_TARGET,
    REMOVED_AFTER,
)
from router.delivery.rules import TARGET_REMOVED, InForce
from router.delivery.target.sender import Flight
from router.model.event import Attempt
from router.routing.table import RouteTable
from router.store.protocol import DeliveryRow, Stage, State, StoreFailed, Usage
from router.telemetry.log import Log
from router.telemetry.metrics import Metrics
from router.transport.engine import TargetExchange, as_it_came
from tests.support.queueing import NO, YES, Scene, T, key_of, opened
from tests.support.sending import no_notifications
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with opened(tmp_path, "one", "two") as scene:
        yield scene


async def states(scene: Scene, body: bytes = b"{}") -> list[DeliveryRow]:
    records = await scene.store.find(hashlib.sha256(body).digest(), T)
    return [row for kept in records for row in kept.rows]


async def test_what_is_due_is_sent_as_it_was(scene: Scene) -> None:
    """Byte for byte, under the event's own id; then it is acknowledged."""
    scene.answers["one"] = YES
    await scene.queue("event", "one", b'{"body": 1}')
    await scene.until(1)
    ((name, letter),) = scene.sent
    assert (name, letter.event_id, letter.event.body) == ("one", "event", b'{"body": 1}')
    assert (letter.request_id, letter.traceparent) == ("request", "trace")
    (row,) = await states(scene, b'{"body": 1}')
    assert row.state is State.ACKNOWLEDGED


async def test_a_failure_is_due_again_after_its_wait(scene: Scene) -> None:
    """And not before; the waits are the queue's, with a little added."""
    scene.answers["one"] = NO
    await scene.queue("event", "one")
    await scene.until(1)
    (row,) = await states(scene)
    assert (row.state, row.reason, row.retries) == (State.QUEUED, "connect_refused", 1)
    assert scene.time + 20 <= row.due_at <= scene.time + 24
    scene.time = row.due_at - 0.1
    await scene.the_queue.send_due()
    assert len(scene.sent) == 1
    scene.time += 0.1
    await scene.until(2)


async def test_a_removed_targets_deliveries_are_dead_letters(scene: Scene) -> None:
    """Only after a while, since another process may know the target already. They are sent nowhere,
    and their reason says why."""
    await scene.queue("event", "gone")
    await scene.the_queue.send_due()
    scene.time += REMOVED_AFTER - 1
    await scene.the_queue.send_due()
    assert [row.state for row in await states(scene)] == [State.QUEUED]
    scene.time += 1
    await scene.until(1)
    (row,) = await states(scene)
    assert (row.state, row.reason) == (State.DEAD, TARGET_REMOVED)
    assert scene.sent == []


async def test_a_target_that_comes_later_gets_what_waits(scene: Scene) -> None:
    """Another process has queued it by a newer routes.yaml. The time of being unknown starts
    anew."""
    gone = scene.targets.pop("one")
    await scene.queue("event", "one")
    await scene.the_queue.send_due()
    scene.time += REMOVED_AFTER - 1
    scene.targets["one"], scene.answers["one"] = gone, NO
    await scene.until(1)
    del scene.targets["one"]
    scene.time += 100
    await scene.the_queue.send_due()
    (row,) = await states(scene)
    assert (row.state, row.retries, len(scene.sent)) == (State.QUEUED, 1, 1)


async def test_a_target_that_hangs_delays_nobody_else(tmp_path: Path) -> None:
    """Two thousand of its deliveries are due before those of the others, which are sent at once."""
    others = [f"other{n}" for n in range(5)]
    async with opened(tmp_path, "dead", *others) as scene:
        await asyncio.gather(*(scene.queue(f"dead-{n}", "dead") for n in range(2000)))
        for _ in range(5):
            await scene.the_queue.send_due()
        scene.answers |= dict.fromkeys(others, YES)
        scene.time += 1
        await asyncio.gather(*(scene.queue(f"{n}-{o}", o) for o in others for n in range(20)))
        await scene.until(100)
        assert scene.busiest["dead"] <= MAX_PER_TARGET
        assert {retry.row.target for retry in scene.retries} == set(others)


async def test_what_is_in_flight_is_bounded(tmp_path: Path) -> None:
    """However many targets hang."""
    names = [f"dead{n}" for n in range(30)]
    async with opened(tmp_path, *names) as scene:
        await asyncio.gather(*(scene.queue(f"{n}-{o}", o) for o in names for n in range(10)))
        for _ in range(10):
            await scene.the_queue.send_due()
            await asyncio.sleep(0.001)
        assert scene.busiest[""] == MAX_IN_FLIGHT
        assert set(scene.busy) == set(names)


async def test_a_lease_runs_out_with_its_process(tmp_path: Path) -> None:
    """Another process sends what a dead process had taken, once no attempt can be in flight."""
    async with opened(tmp_path, "one") as dead, opened(tmp_path, "one") as other:
        await dead.queue("event", "one")
        await dead.the_queue.send_due()
        other.answers["one"] = YES
        # Its own attempt may take so long, and to write what came of it takes time as well.
        other.time += dead.targets["one"].timeout + LEASE_MARGIN - 1
        await other.the_queue.send_due()
        assert not other.the_queue._in_flight
        other.time += 1
        await other.until(1)
        assert [row.state for row in await states(other)] == [State.ACKNOWLEDGED]


@pytest.mark.parametrize("attempt", [YES, NO])
async def test_an_unrecorded_attempt_is_reported(tmp_path: Path, attempt: Attempt) -> None:
    """Its target has seen the event, and the store's own error says why it is not recorded."""
    async with opened(tmp_path, "one") as scene:
        await scene.queue("event", "one")
        await scene.begun()
        with closing(sqlite3.connect(tmp_path / "store.db")) as other:
            other.execute("ALTER TABLE deliveries RENAME TO away")
        scene.answers["one"] = attempt
        scene.released.set()
        await until(lambda: not scene.the_queue._in_flight)
        (retry,) = scene.retries
        assert retry.attempt == attempt
        assert [retry.unrecorded] == [str(error) for error in scene.troubles]


async def test_an_attempt_that_outlives_its_lease_is_reported(tmp_path: Path) -> None:
    """It is not a dead letter, even after the last retry: another process has the delivery now."""
    async with opened(tmp_path, "one") as slow, opened(tmp_path, "one") as other:
        terms = Terms(PLATFORM, 60.0, 8.0, Schedule((10.0,), 1))
        slow.the_queue._in_force = lambda: InForce(RouteTable([], slow.targets), terms)
        await slow.queue("event", "one")
        await slow.begun()
        other.time += 60
        await other.begun()
        slow.answers["one"] = NO
        slow.released.set()
        await until(lambda: slow.retries)
        (retry,) = slow.retries
        assert (retry.row.state, retry.unrecorded) == (State.DEAD, LEASE_OVER)
        metrics = Metrics()
        log = io.StringIO()
        Observer(Log(log), metrics, no_notifications()).retried(retry)
        assert " retried event_id=event " in log.getvalue()
        assert f"unrecorded={LEASE_OVER}" in log.getvalue()
        assert sum(metrics.of("one").dead_letters.values()) == 0
        assert [row.state for row in await states(slow)] == [State.QUEUED]


@pytest.mark.parametrize(("attempt", "state"), [(YES, State.ACKNOWLEDGED), (NO, State.QUEUED)])
async def test_an_attempt_in_flight_is_joined(scene: Scene, attempt: Attempt, state: State) -> None:
    """The queue does not repeat an attempt that a request is making for the same event, nor record
    it as one of its own: the request does that."""
    flight: Flight = TargetExchange(as_it_came)
    scene.memory._attempts[key_of("event", "one")] = flight
    await scene.queue("event", "one")
    await scene.the_queue.send_due()
    await asyncio.sleep(0)
    flight.end(attempt)
    await until(lambda: len(scene.retries) == 1)
    assert scene.sent == []
    assert [row.state for row in await states(scene)] == [state]
    assert scene.retries[0].row.tried is None
    assert (
        scene.memory._attempts[key_of("event", "one")] is flight
    )  # until the request has written it too


@pytest.mark.parametrize(("attempt", "is_joined"), [(YES, True), (NO, False)])
async def test_an_acknowledgement_is_joined_until_it_is_in_the_store(
    tmp_path: Path, attempt: Attempt, is_joined: bool
) -> None:
    """A request that comes in the meantime does not call the target again. A failed attempt is not
    joined: the request makes its own."""
    async with opened(tmp_path, "one") as scene:
        await scene.queue("event", "one")
        await scene.begun()
        flight = scene.memory._attempts[key_of("event", "one")]
        with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            scene.answers["one"] = attempt
            scene.released.set()
            await flight
            for _ in range(10):
                await asyncio.sleep(0)
            assert (scene.memory.to_join(key_of("event", "one")) is flight) == is_joined
            other.execute("ROLLBACK")
        await until(lambda: not scene.the_queue._in_flight)
        assert scene.memory._attempts == {}


async def test_a_caller_gone_before_it_begins_releases_no_other_attempt(scene: Scene) -> None:
    """A target that was optional when its delivery was queued is required now: the queue's attempt
    goes on, and the next request joins it."""
    scene.planned.discard("one")
    await scene.queue("event", "one", stage=Stage.OPEN)
    await scene.begun()
    flight = scene.memory._attempts[key_of("event", "one")]
    gone = asyncio.get_running_loop().create_future()
    gone.set_result(None)
    await scene.request(gone=gone)
    for _ in range(3):
        await asyncio.sleep(0)
    assert scene.memory._attempts[key_of("event", "one")] is flight
    scene.answers["one"] = YES
    scene.released.set()
    assert (await scene.request()).settled
    assert [name for name, _ in scene.sent] == ["one"]


async def test_what_is_due_goes_at_its_targets_pace(scene: Scene) -> None:
    """However rarely an idle queue looks for work; a target that hangs does not delay the
    others."""
    scene.answers["one"] = YES
    await asyncio.gather(*(scene.queue(f"one-{n}", "one") for n in range(5 * MAX_PER_TARGET)))
    await scene.queue("two-0", "two")
    scene.the_queue.poll = 3600
    stopping = asyncio.Event()
    running = asyncio.create_task(scene.the_queue.run(stopping))
    await until(lambda: len(scene.retries) >= 5 * MAX_PER_TARGET)
    stopping.set()
    scene.answers["two"] = YES
    scene.released.set()
    await running


async def test_a_stop_finishes_what_is_in_flight(scene: Scene) -> None:
    """And takes nothing new."""
    await scene.queue("event", "one")
    stopping = asyncio.Event()
    running = asyncio.create_task(scene.the_queue.run(stopping))
    await until(lambda: scene.sent)
    stopping.set()
    await scene.queue("another", "one")
    await asyncio.sleep(0.05)
    assert not running.done()
    scene.answers["one"] = YES
    scene.released.set()
    await running
    assert [retry.row.state for retry in scene.retries] == [State.ACKNOWLEDGED]
    assert len(scene.sent) == 1


async def test_the_first_expiry_is_reported(scene: Scene) -> None:
    """By the store's clock and the waits in force, retry by retry until it is over."""
    scene.answers["one"] = NO
    await scene.queue("event", "one")
    await scene.the_queue.tidy()
    assert scene.expires_at == {"one": scene.time + 20.0}
    await scene.until(1)
    await scene.the_queue.tidy()
    due_at = scene.retries[0].row.due_at
    assert scene.expires_at == {"one": due_at}
    scene.time = due_at
    await scene.until(2)
    await scene.the_queue.tidy()
    assert scene.expires_at == {}


async def test_each_target_has_its_own_schedule(scene: Scene) -> None:
    """A target's `queue` counts for its retries; the other targets keep the schedule of all."""
    scene.targets["own"] = replace(scene.targets["one"], name="own", queue=Schedule((3.0,), 2))
    scene.answers["one"] = scene.answers["own"] = NO
    await scene.queue("event", "one")
    await scene.queue("event-2", "own")
    await scene.the_queue.tidy()
    assert scene.expires_at == {"one": scene.time + 20.0, "own": scene.time + 3.0}
    await scene.until(2)
    waits = {retry.row.target: retry.row.due_at - scene.time for retry in scene.retries}
    assert 20.0 <= waits["one"] <= 20.0 * (1 + JITTER)
    assert 3.0 <= waits["own"] <= 3.0 * (1 + JITTER)
    scene.time += 4
    await scene.until(3)
    assert (scene.retries[-1].row.target, scene.retries[-1].row.state) == ("own", State.DEAD)


def test_the_gauges_of_a_target_follow_the_store() -> None:
    """Once nothing waits for it, it has neither a number nor an expiry."""
    metrics = Metrics()
    observer = Observer(Log(io.StringIO()), metrics, no_notifications())
    waiting = Usage(1, 1, {("one", State.QUEUED): 3}, 0.1, oldest=90.0)
    observer.usage(waiting, {"one": 500.0}, 100.0)
    one = metrics.of("one")
    assert (one.unsettled[State.QUEUED], one.expires_at, metrics.oldest_unsettled) == (3, 500, 10)
    observer.usage(Usage(0, 1, {}, 0.0), {}, 100.0)
    assert (one.unsettled[State.QUEUED], one.expires_at, metrics.oldest_unsettled) == (0, None, 0)


async def test_an_outage_is_over_once_both_rounds_have_succeeded(scene: Scene) -> None:
    """One that only reads may succeed all along. It is reported once, and has lasted since the
    other one's last success."""

    def round_(name: str, error: StoreFailed | None = None) -> None:
        scene.time += 5.0
        with scene.the_queue._reported(name):
            if error is not None:
                raise error

    for _ in range(2):
        round_("tidying")
        for _ in range(3):
            round_("sending")
        round_("tidying", StoreFailed("io"))
        round_("sending")
        assert scene.outages == []
        round_("tidying")
        assert scene.outages == [30.0]
        round_("sending")
        assert scene.outages.pop() == 30.0


async def test_a_retry_joins_no_late_attempt_that_has_failed(tmp_path: Path) -> None:
    """Even if the store does not have the failure yet."""
    async with opened(tmp_path, "one") as scene:
        first = await scene.request(seconds=0.2)
        late = asyncio.create_task(scene.forwarder.wait_for_late_attempts(first))
        with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            scene.answers["one"] = NO
            scene.released.set()
            flight = first.deliveries[0].flight
            await until(lambda: flight is not None and flight.is_over)
            scene.answers["one"] = YES
            second = await scene.request(seconds=0.2)
            assert not late.done()
            other.execute("ROLLBACK")
        await late
        assert [delivery.joined for delivery in second.deliveries] == [False]
        assert [name for name, _ in scene.sent] == ["one", "one"]
