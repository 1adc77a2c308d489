"""Recovery: a target that works again gets what waits for it, at its own pace, each once."""

from __future__ import annotations

import asyncio
import sqlite3
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from router.delivery.memory import Outcome
from router.delivery.recovery import MOST_AT_ONCE, Recovery
from router.model.event import Attempt, Event, OutboundEvent, Reason, digest_of
from router.routing.target import Rate, Target
from router.store.protocol import DeliveryRow, Early, Record, Stage, State
from tests.support.queueing import NO, TERMS, YES, Scene, T, key_of, opened
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

HOUR = 3600.0


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with opened(tmp_path, "one", "two") as scene:
        yield scene


def body(number: int) -> bytes:
    return b'{"n":%d}' % number


async def keep(
    scene: Scene,
    number: int,
    state: State = State.AWAITING,
    target: str = "one",
    due: float = HOUR,
    stage: Stage | None = None,
) -> str:
    """Record an event that waits for a target, and return its id. Its time comes in an hour."""
    event_id, now = f"event-{number}", scene.time
    stage = stage or (Stage.OPEN if state is State.AWAITING else Stage.CLOSED)
    record = Record(event_id, stage, now, 8, now, now + due, now + 9 * HOUR, now + 9 * HOUR)
    event = Event("a", "b", "c", "1", "a.b.c.1", body(number))
    letter = OutboundEvent(event, digest_of(event.body), "request")
    row = DeliveryRow(target, state, "timeout", now + due if state is State.QUEUED else 0.0)
    await scene.store.add(record, letter, [replace(row, attempts=8)], T)
    return event_id


async def rows(scene: Scene, number: int) -> tuple[DeliveryRow, ...]:
    (kept,) = await scene.store.find(digest_of(body(number)), T)
    return kept.rows


async def look(scene: Scene) -> None:
    """Count what waits, as the queue does once a second, and send what may be sent."""
    await scene.the_queue.tidy()
    await scene.the_queue.send_due()


async def recovered(scene: Scene, count: int) -> None:
    """Go on until so many attempts have ended."""
    await scene.the_queue.tidy()
    await scene.until(count)
    await until(lambda: not scene.the_queue._in_flight)


async def request(scene: Scene, number: int, seconds: float = 5.0) -> Outcome:
    """Make EBaaS's next request for an event, and wait for its late attempts."""
    outcome = await scene.request(body(number), seconds=seconds)
    await scene.forwarder.wait_for_late_attempts(outcome)
    return outcome


async def test_an_event_costs_nothing_more_where_nothing_waits(scene: Scene) -> None:
    """Neither a query nor a commit, whatever targets have proved, and the queue takes nothing."""
    asked, commits = list[str](), list[float]()
    scene.answers["one"], scene.signs["one"] = YES, "acknowledged"
    scene.store.watch_commits(commits.append)
    assert scene.store._reader is not None
    for number in range(3):
        scene.store._reader.set_trace_callback(asked.append)
        assert (await request(scene, number)).settled
        scene.store._reader.set_trace_callback(None)
        await scene.the_queue.send_due()
    assert (asked, commits, len(scene.sent)) == ([], [], 3)


async def test_nothing_is_sent_to_a_target_without_a_sign_that_it_works(scene: Scene) -> None:
    await keep(scene, 1)
    scene.answers["one"] = YES
    await look(scene)
    assert scene.sent == []


async def test_a_failure_ends_it_and_costs_no_retry(scene: Scene) -> None:
    """The delivery keeps its schedule, and is left alone until that has tried it."""
    await keep(scene, 1, State.QUEUED)
    await keep(scene, 2)
    before = {number: (await rows(scene, number))[0] for number in (1, 2)}
    scene.answers["one"], scene.signs["one"] = Attempt(Reason.CODE, True, 0.1), "acknowledged"
    await recovered(scene, 1)
    scene.signs["one"] = ""
    await look(scene)
    assert len(scene.sent) == 1
    (after,) = await rows(scene, 1)
    same = replace(before[1], reason="code", attempts=9, recover_at=before[1].due_at)
    assert after == same
    assert scene.recoveries == [("one", "acknowledged", 0, True)]
    # The next sign: the one that failed is left alone, and the other is sent.
    scene.signs["one"] = "acknowledged"
    await recovered(scene, 2)
    assert [letter.event_id for _, letter in scene.sent] == ["event-1", "event-2"]
    scene.signs["one"] = "acknowledged"
    await look(scene)
    assert len(scene.sent) == 2
    assert scene.numbers == [9, 9]


async def test_an_event_that_ebaas_has_dropped_is_sent_ever_more_rarely(scene: Scene) -> None:
    """Its target refuses it, and acknowledges others."""
    await keep(scene, 1, due=0.0)
    scene.answers["one"], scene.signs["one"] = Attempt(Reason.CODE, True, 0.1), "acknowledged"
    sent: list[float] = []
    for _ in range(2 * 3600):
        scene.time += 1.0
        await look(scene)
        await until(lambda: not scene.the_queue._in_flight)
        if len(scene.sent) > len(sent):
            sent.append(scene.time)
    assert 8 < len(sent) < 14


async def test_an_attempt_that_did_not_begin_changes_nothing(scene: Scene) -> None:
    """It is tried again after a second."""
    await keep(scene, 1)
    scene.answers["one"] = Attempt(Reason.RATE_LIMITED, False, 0.1)
    scene.signs["one"] = "acknowledged"
    await recovered(scene, 1)
    (row,) = await rows(scene, 1)
    assert (row.state, row.reason, row.attempts) == (State.AWAITING, "timeout", 8)
    scene.answers["one"] = YES
    scene.time += 1.0
    await recovered(scene, 2)
    assert (await rows(scene, 1))[0].state is State.ACKNOWLEDGED


async def test_a_backlog_takes_little_memory_and_few_commits(scene: Scene) -> None:
    """`make backlog` measures it beside live events. Half of it is left to EBaaS, and is in the
    way of each look."""
    count, commits = 2_000, list[float]()
    adds = (keep(scene, n, due=0.0 if n % 2 else HOUR) for n in range(2 * count))
    await asyncio.gather(*adds)
    scene.answers["one"], scene.signs["one"] = YES, "acknowledged"
    scene.store.watch_commits(commits.append)
    await scene.the_queue.tidy()
    sent = 0
    tracemalloc.start()
    try:
        while sent < count:
            await scene.the_queue.send_due()
            await until(lambda: not scene.the_queue._in_flight)
            sent += len(scene.sent)
            scene.sent.clear()
            scene.retries.clear()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sent == count
    assert most < 500_000
    assert len(commits) < count / 4


def test_the_window_doubles_with_each_round_up_to_its_bound() -> None:
    recovery, windows = Recovery("acknowledged", 0.0), [1]
    for _ in range(100):
        recovery.acknowledge()
        windows.append(recovery.window)
    assert sorted(set(windows)) == [1, 2, 4, 8, 16]
    assert [windows.index(n) for n in (2, 4, 8, 16)] == [1, 3, 7, 15]
    wide, narrow = (Target("t", "http://127.0.0.1/", max_in_flight=n) for n in (64, 8))
    assert (recovery.room(wide), recovery.room(narrow)) == (MOST_AT_ONCE, 4)
    assert recovery.room(replace(narrow, max_in_flight=1, rate=Rate(1.0, 1))) == 1


async def test_what_a_request_has_claimed_is_left_to_it(scene: Scene) -> None:
    """Its own attempt is in flight, or it waits for a target that the plan has too."""
    event_id = await keep(scene, 1)
    asking = asyncio.create_task(request(scene, 1))
    await until(lambda: scene.sent)
    scene.memory._attempts.clear()
    scene.signs["one"] = "acknowledged"
    await look(scene)
    await until(lambda: not scene.the_queue._in_flight)
    assert len(scene.sent) == 1
    assert scene.memory.is_claimed(event_id, digest_of(body(1)))
    scene.answers["one"] = YES
    scene.released.set()
    assert (await asking).settled


@pytest.mark.parametrize("answer", [YES, NO])
@pytest.mark.parametrize("state", [State.AWAITING, State.QUEUED])
async def test_a_request_waits_for_an_attempt_of_another_process(
    scene: Scene, state: State, answer: Attempt
) -> None:
    """It gets the result of that attempt, and does not call the target itself: also if the target
    was optional when its delivery was queued."""
    event_id = await keep(scene, 1, state, stage=Stage.OPEN)
    now = scene.time
    (due,) = await scene.store.lease("one", now, now + 60, 9, T, Early((0.0, 0.0)))
    asking = asyncio.create_task(request(scene, 1))
    await asyncio.sleep(0.15)
    assert not asking.done()
    if answer.acknowledged:
        await scene.store.acknowledge(event_id, "one", now, T)
    else:
        await scene.store.finish(due, replace(due.row, reason=answer.reason), now, T)
    outcome = await asking
    assert scene.sent == []
    assert outcome.settled == answer.acknowledged
    assert outcome.deliveries[0].attempt is not None
    assert outcome.deliveries[0].attempt.reason == answer.reason
    (row,) = await rows(scene, 1)
    assert row.state is (State.ACKNOWLEDGED if answer.acknowledged else state)


async def test_a_delivery_that_a_person_discards_meanwhile_is_no_fault(
    tmp_path: Path, scene: Scene
) -> None:
    """The request gets no result of the attempt, and fails like any other."""
    await keep(scene, 1)
    now = scene.time
    await scene.store.lease("one", now, now + 60, 9, T, Early((0.0, 0.0)))
    asking = asyncio.create_task(request(scene, 1))
    await asyncio.sleep(0.05)
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as person:
        person.execute(
            "UPDATE deliveries SET state = 'superseded', reason = 'discarded', lease = ''"
        )
    outcome = await asking
    assert (outcome.settled, outcome.fault) == (False, None)
    assert outcome.deliveries[0].attempt is not None
    assert outcome.deliveries[0].attempt.reason is Reason.ELSEWHERE
    assert scene.sent == []


@pytest.mark.parametrize("state", [State.AWAITING, State.QUEUED])
async def test_a_request_does_not_wait_longer_than_its_reply(scene: Scene, state: State) -> None:
    """The lease stays with the process that has it."""
    await keep(scene, 1, state, stage=Stage.OPEN)
    now = scene.time
    await scene.store.lease("one", now, now + 60, 9, T, Early((0.0, 0.0)))
    outcome = await request(scene, 1, seconds=0.4)
    assert not outcome.settled
    assert scene.sent == []
    assert (await rows(scene, 1))[0].is_being_sent(now)


async def test_what_is_due_at_ebaas_is_left_to_ebaas(scene: Scene) -> None:
    """A request that is about to come, or may be in progress at another process."""
    await keep(scene, 1, due=0.5)
    scene.answers["one"], scene.signs["one"] = YES, "acknowledged"
    await look(scene)
    scene.time += TERMS.reply_within
    await look(scene)
    assert scene.sent == []
    scene.time += 6.0
    await recovered(scene, 1)
    assert len(scene.sent) == 1


async def test_what_is_queued_for_a_target_that_is_required_now_is_left_to_ebaas(
    scene: Scene,
) -> None:
    """A request at another process may be calling it; a while later the queue goes on."""
    await keep(scene, 1, State.QUEUED, due=0.0, stage=Stage.OPEN)
    await keep(scene, 2, State.QUEUED, due=0.0)
    scene.answers["one"] = YES
    await recovered(scene, 1)
    assert [letter.event_id for _, letter in scene.sent] == ["event-2"]
    (row,) = await rows(scene, 1)
    assert (row.state, row.due_at, row.retries) == (State.QUEUED, scene.time + 1.0, 0)
    scene.time += TERMS.reply_within + 6.0
    await recovered(scene, 2)
    assert (await rows(scene, 1))[0].state is State.ACKNOWLEDGED


async def test_a_target_that_left_the_plan_gets_nothing(scene: Scene) -> None:
    """EBaaS's next request decides on it."""
    await keep(scene, 1)
    scene.answers["one"], scene.signs["one"] = YES, "acknowledged"
    scene.planned.discard("one")
    await look(scene)
    await until(lambda: not scene.the_queue._in_flight)
    assert scene.sent == []
    assert (await rows(scene, 1))[0].state is State.AWAITING


async def test_a_target_that_routes_yaml_no_longer_has_is_no_dead_letter(scene: Scene) -> None:
    """Not before it has been missing for a while: another node may know it already."""
    for number in range(4):
        await keep(scene, number)
    scene.signs["one"] = "acknowledged"
    await look(scene)
    await until(lambda: scene.sent)
    del scene.targets["one"]
    scene.released.set()
    scene.answers["one"] = YES
    for _ in range(3):
        await until(lambda: not scene.the_queue._in_flight)
        await look(scene)
    assert [(await rows(scene, n))[0].state for n in (1, 2, 3)] == [State.AWAITING] * 3
    assert scene.the_queue.recoveries.active == {}


async def test_after_a_kill_ebaass_request_is_sent_at_once(tmp_path: Path) -> None:
    """The attempt of the process that was killed is nobody's any more."""
    async with opened(tmp_path, "one") as killed:
        await keep(killed, 1)
        now = killed.time
        await killed.store.lease("one", now, now + 60, 9, T, Early((0.0, 0.0)))
    async with opened(tmp_path, "one") as scene:
        scene.answers["one"] = YES
        assert (await request(scene, 1)).settled
        assert [letter.cause for _, letter in scene.sent] == ["retry"]


async def test_targets_recover_side_by_side(scene: Scene) -> None:
    """One that hangs does not hold the others back."""
    await keep(scene, 1)
    await keep(scene, 2, target="two")
    scene.signs |= dict.fromkeys(("one", "two"), "acknowledged")
    scene.answers["two"] = YES
    await recovered_of(scene, 1)
    assert [row.state for row in await rows(scene, 2)] == [State.ACKNOWLEDGED]
    scene.answers["one"] = YES
    scene.released.set()
    await scene.until(2)


async def recovered_of(scene: Scene, count: int) -> None:
    await scene.the_queue.tidy()
    await scene.until(count)


async def test_the_schedule_goes_on_beside_it(scene: Scene) -> None:
    """A due delivery is sent as such, and costs a retry."""
    await keep(scene, 1, State.QUEUED, due=0.0)
    scene.answers["one"], scene.signs["one"] = NO, "acknowledged"
    await recovered(scene, 1)
    (row,) = await rows(scene, 1)
    assert (row.retries, row.attempts, scene.sent[0][1].cause) == (1, 9, "queue")
    assert key_of("event-1", "one", body(1)) not in scene.memory._attempts
