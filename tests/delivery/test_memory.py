"""The memory on a real store that goes away and comes back, and what is written then."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from router.delivery import memory as memory_module
from router.delivery.memory import Memory, Outcome
from router.delivery.queue import LEASE_MARGIN
from router.model.build import COMPILED
from router.store.protocol import Kept, Record, Stage, State, Store, StoreFailed, StoreFull
from tests.support.queueing import NO, YES, Scene, T, key_of, opened
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


@dataclass
class Requests:
    """Requests to a router with two targets; events differ by their bodies."""

    scene: Scene
    path: Path

    async def post(self, body: bytes = b"{}", *, optional: bool = False, **given: Any) -> Outcome:
        plan = (["one"], ["two"]) if optional else (["one", "two"], [])
        return await self.scene.request(body, *plan, **given)

    async def fails(self, body: bytes = b"{}") -> None:
        """Leave a record: `one` has acknowledged, and `two` has not."""
        self.scene.answers |= {"one": YES, "two": NO}
        assert not (await self.post(body)).settled

    @contextmanager
    def away(self, table: str = "events") -> Iterator[None]:
        """Break the store while the block lasts."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute(f"ALTER TABLE {table} RENAME TO away")
            try:
                yield
            finally:
                other.execute(f"ALTER TABLE away RENAME TO {table}")

    async def left(self, body: bytes = b"{}") -> list[tuple[Record, dict[str, State]]]:
        records = await self.scene.store.find(hashlib.sha256(body).digest(), T)
        return [(kept.record, {row.target: row.state for row in kept.rows}) for kept in records]

    async def is_over(self) -> None:
        """Let every record expire, and the queue tidy up."""
        self.scene.time += 86400 * 30
        await self.scene.the_queue.tidy()


@pytest.fixture
async def requests(tmp_path: Path) -> AsyncIterator[Requests]:
    async with opened(tmp_path, "one", "two") as scene:
        yield Requests(scene, tmp_path / "store.db")


async def test_the_only_record_of_a_body_is_the_earlier_request(requests: Requests) -> None:
    """Also if it is too late to claim it; of two records nobody knows which one is retried."""
    await requests.fails()
    earlier = []
    for seconds in (2.0, 3600.0, 1.0):
        requests.scene.time += seconds
        before = requests.scene.time
        earlier.append((await requests.post()).recalled.earlier)
    first, late, ambiguous = earlier
    assert first is not None
    assert late is not None
    assert (first.requests, late.requests, ambiguous) == (1, 2, None)
    assert before - late.replied_at == 3601.0


async def test_a_000_given_blindly_leaves_no_dead_letter(requests: Requests) -> None:
    """The record that the retry could not see is superseded before it ends."""
    await requests.fails()
    requests.scene.answers["two"] = YES
    with requests.away():
        assert (await requests.post()).settled
    await requests.is_over()
    ((record, states),) = await requests.left()
    assert states == {"one": State.ACKNOWLEDGED, "two": State.SUPERSEDED}
    assert record.credit_revoked
    assert requests.scene.ends == []


async def test_a_record_made_after_a_blind_000_stays(requests: Requests) -> None:
    """It may be another event's: it awaits its own retry, and only the older one is superseded."""
    await requests.fails()
    requests.scene.answers["two"] = YES
    with requests.away():
        assert (await requests.post()).settled
    requests.scene.time += 1
    await requests.fails()
    await requests.scene.the_queue.tidy()
    before, after = sorted(await requests.left(), key=lambda left: left[0].first_at)
    assert before[1] == {"one": State.ACKNOWLEDGED, "two": State.SUPERSEDED}
    assert after[1] == {"one": State.ACKNOWLEDGED, "two": State.AWAITING}


@pytest.mark.parametrize("is_retried", [True, False])
async def test_a_claimed_record_learns_of_what_its_close_could_not_write(
    requests: Requests, is_retried: bool
) -> None:
    """The retry fails. Its acknowledgements are written later: the next retry does not call the
    targets again, and without one they are not dead letters."""
    await requests.fails()
    del requests.scene.answers["two"]
    retry = asyncio.create_task(requests.post())
    await until(lambda: len(requests.scene.sent) == 3)
    with requests.away("deliveries"):
        requests.scene.answers["two"] = YES
        requests.scene.released.set()
        outcome = await retry
        assert (outcome.settled, bool(outcome.unrecorded)) == (False, True)
    if is_retried:
        assert (await requests.post()).settled
    else:
        await requests.is_over()
    ((record, states),) = await requests.left()
    assert record.stage is (Stage.CLOSED if is_retried else Stage.ENDED)
    assert states == {"one": State.ACKNOWLEDGED, "two": State.ACKNOWLEDGED}
    assert len(requests.scene.sent) == 3


async def test_what_the_queue_has_delivered_is_not_sent_again(requests: Requests) -> None:
    """The store was away when the attempt ended, and is back when the lease is over."""
    scene = requests.scene
    await scene.queue("event", "one")
    await scene.begun()
    with requests.away("deliveries"):
        scene.answers["one"] = YES
        scene.released.set()
        await until(lambda: not scene.the_queue._in_flight)
    scene.time += scene.targets["one"].timeout + LEASE_MARGIN + 1
    await scene.until(2)
    ((_, states),) = await requests.left()
    assert (states, len(scene.sent)) == ({"one": State.ACKNOWLEDGED}, 1)


async def test_what_waits_for_the_store_is_bounded(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first are kept, of replies and of acknowledgements; those without room are counted."""
    monkeypatch.setattr(memory_module, "MAX_OWED", 2)
    bodies = [b"%d" % number for number in range(4)]
    for body in bodies:
        await requests.fails(body)
    requests.scene.answers["two"] = YES
    with requests.away():
        for body in (*bodies, bodies[0]):
            assert (await requests.post(body)).settled
    await requests.scene.the_queue.tidy()
    left = [(await requests.left(body))[0][1]["two"] for body in bodies]
    assert left == [State.SUPERSEDED] * 2 + [State.AWAITING] * 2
    memory = requests.scene.memory
    assert memory.left_out() == 2
    assert memory.written_late() == 2
    with requests.away("deliveries"):
        for number in (0, 1, 2, 0):
            with pytest.raises(StoreFailed):
                await memory.acknowledge(key_of(f"event {number}", "one"), YES, T)
    assert (len(memory._attempts), memory.left_out()) == (2, 1)


@pytest.mark.skipif(COMPILED, reason="nothing can be replaced in what is compiled")
async def test_a_full_share_costs_the_rows_of_its_target_alone(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event is recorded without them: its retry calls that target again, and no other."""
    add = requests.scene.store.add

    async def add_within(record: Record, letter: Any, rows: Any, timeout: float) -> None:
        if any(row.target == "two" for row in rows):
            raise StoreFull({"two"})
        await add(record, letter, rows, timeout)

    monkeypatch.setattr(requests.scene.store, "add", add_within)
    await requests.fails()
    assert [states for _, states in await requests.left()] == [{"one": State.ACKNOWLEDGED}]
    requests.scene.answers["two"] = YES
    assert (await requests.post()).settled
    assert [name for name, _ in requests.scene.sent] == ["one", "two", "two"]


async def test_a_hang_up_during_the_wait_for_optional_targets_leaves_a_record(
    requests: Requests,
) -> None:
    """The required target has acknowledged, but the caller gets no `000`: the retry continues the
    record, and does not call that target again."""
    requests.scene.answers["one"] = YES
    gone = asyncio.get_running_loop().create_future()
    first = asyncio.create_task(requests.post(optional=True, gone=gone))
    flights = requests.scene.busy
    await until(lambda: flights["two"] and not flights["one"])
    gone.set_result(None)
    outcome = await first
    assert outcome.deliveries[0].acknowledged
    assert not outcome.settled
    ((record, states),) = await requests.left()
    assert record.stage is Stage.OPEN
    assert states == {"one": State.ACKNOWLEDGED, "two": State.QUEUED}
    assert (await requests.post(optional=True)).settled
    assert [name for name, _ in requests.scene.sent].count("one") == 1


class Slow:
    """A store. A subclass lets one of its calls wait."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.has_begun, self.may_go_on = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def wait(self) -> None:
        self.has_begun.set()
        await self.may_go_on.wait()


class SlowSupersede(Slow):
    """A store that supersedes nothing before it may."""

    async def supersede(self, *about: Any, **named: Any) -> None:
        await self.wait()
        await self._store.supersede(*about, **named)


async def test_a_blind_000_given_while_another_is_written_is_written_too(
    requests: Requests,
) -> None:
    """The body fails again meanwhile, and the store goes away again: the second `000` supersedes
    the second record."""
    scene, slow = requests.scene, SlowSupersede(requests.scene.store)
    memory = scene.memory = Memory(cast(Store, slow))
    await requests.fails()
    scene.answers["two"] = YES
    with requests.away():
        assert (await requests.post()).settled
    writing = asyncio.create_task(memory.write_pending(T))
    await slow.has_begun.wait()
    scene.time += 1
    await requests.fails()
    scene.time += 1
    scene.answers["two"] = YES
    with requests.away():
        assert (await requests.post()).settled
    slow.may_go_on.set()
    await writing
    left = [states["two"] for _, states in await requests.left()]
    assert left == [State.SUPERSEDED, State.SUPERSEDED]


@pytest.mark.parametrize("is_late", [True, False])
async def test_an_attempt_at_a_target_that_has_become_required_is_kept_as_long_as_needed(
    requests: Requests, is_late: bool
) -> None:
    """A retry joins it while it is in flight; nothing is left of it once its result is stored."""
    scene = requests.scene
    scene.answers |= {"one": NO, "two": NO}
    assert not (await requests.post(optional=True)).settled
    scene.answers["one"] = YES
    if is_late:
        del scene.answers["two"]
        second = await requests.post(seconds=0.6)
        await asyncio.sleep(0)  # releases are due in the next turn of the loop
        third = asyncio.create_task(requests.post())
        await asyncio.sleep(0)
        scene.answers["two"] = YES
        scene.released.set()
        assert (await third).settled
        await scene.forwarder.wait_for_late_attempts(second)
    else:
        scene.answers["two"] = YES
        assert (await requests.post()).settled
    await until(lambda: not scene.memory._attempts)
    assert [name for name, _ in scene.sent].count("two") == 2


class SlowLookUp(Slow):
    """A store whose look-ups have read their rows but do not return yet."""

    async def find(self, digest: bytes, timeout: float) -> tuple[Kept, ...]:
        rows = await self._store.find(digest, timeout)
        await self.wait()
        return rows


async def test_a_look_up_that_overlaps_the_end_of_a_late_attempt_joins_it(
    requests: Requests,
) -> None:
    """Its rows may be older than the acknowledgement: the target is not called again."""
    scene, slow = requests.scene, SlowLookUp(requests.scene.store)
    scene.memory = Memory(cast(Store, slow))
    slow.may_go_on.set()
    scene.answers["one"] = YES
    gone = asyncio.get_running_loop().create_future()
    beginning = asyncio.create_task(requests.post(gone=gone))
    await until(lambda: scene.busy["two"] and not scene.busy["one"])
    gone.set_result(None)
    first = await beginning
    slow.may_go_on.clear()
    slow.has_begun.clear()
    late = asyncio.create_task(scene.forwarder.wait_for_late_attempts(first))
    again = asyncio.create_task(requests.post())
    await slow.has_begun.wait()
    scene.answers["two"] = YES
    scene.released.set()
    await late
    await until(lambda: not scene.memory._attempts)
    slow.may_go_on.set()
    assert (await again).settled
    assert [name for name, _ in scene.sent] == ["one", "two"]
