"""The queue: sends again what is due, and what waits for a target that recovers; ends records, and
deletes old rows."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import Final, Protocol

from router.contract.schedule import Schedule
from router.delivery.memory import DeliveryKey, Memory
from router.delivery.notifications import Notifications
from router.delivery.recovery import (
    OPERATOR,
    Recoveries,
    Recovery,
    is_early,
    left_alone,
    request_window,
    row_after_recovery,
)
from router.delivery.rules import TARGET_REMOVED, InForce, expires_at, row_after_retry
from router.delivery.target.lane import SLOT_WAIT
from router.delivery.target.sender import AnySender, addressed
from router.model.event import SELF_INFLICTED, Attempt
from router.routing.target import Target
from router.store.protocol import (
    DeliveryRow,
    Due,
    Early,
    Ended,
    State,
    Store,
    StoreFailed,
    Tried,
    Usage,
)

#: The shortest time between two looks for due work, in seconds.
PAUSE: Final = 0.02

#: The longest time while a target recovers: its rate makes room for more all the time.
RECOVERING: Final = 0.05

#: The most attempts of the queue in flight, in all and to one target.
MAX_IN_FLIGHT, MAX_PER_TARGET = 64, 8

#: How long a target has to be unknown here before its queued deliveries are given up, in seconds:
#: while a routes.yaml is rolled out, another node knows it already.
REMOVED_AFTER: Final = 600.0

#: How much longer than any attempt a lease lasts, in seconds.
LEASE_MARGIN = 30.0

#: Why an attempt is not recorded: its delivery was taken over, settled or acted on meanwhile.
LEASE_OVER: Final = "lease_over"

#: The most records that are ended or deleted in one step, so that no commit takes long.
END_STEP: Final = 200

#: How far retries are spread: up to this part of a wait is added to it.
JITTER: Final = 0.2

#: The time limit of each call of the store, in seconds. Nobody waits for the queue.
CALL_TIMEOUT: Final = 10.0

#: The two rounds.
_SENDING, _TIDYING = "sending", "tidying"


@dataclass(frozen=True, slots=True)
class Retry:
    """An attempt of the queue that has ended, and its result."""

    due: Due
    #: None if the target is no longer configured.
    attempt: Attempt | None
    #: The delivery from now on, unless `unrecorded`.
    row: DeliveryRow
    #: Why it was sent now: `queue`, `recovery` or `replay`.
    by: str
    #: The number of the attempt among all at this delivery; 0 if there was none.
    number: int = 0
    #: Why the store does not have it: the store's own error, or LEASE_OVER.
    unrecorded: str = ""


class QueueWatcher(Protocol):
    """Receives all that the queue does, for logs and metrics."""

    def retried(self, retry: Retry) -> None: ...
    def ended(self, ended: Ended) -> None: ...
    def failed(self, error: StoreFailed) -> None: ...
    def fault(self, request_id: str, error: BaseException) -> None: ...

    #: A recovery has ended after so many seconds: nothing waits any more, or an attempt has failed.
    def recovered(
        self, target: str, recovery: Recovery, seconds: float, *, failed: bool
    ) -> None: ...

    #: The store works again after so many seconds; so many pending acknowledgements were written.
    def back(self, seconds: float, written_late: int) -> None: ...

    #: So many acknowledgements are not kept for the store, which has too many pending.
    def left_out(self, count: int) -> None: ...

    #: The store's contents, and by target when its first event expires.
    def usage(self, usage: Usage, expires_at: Mapping[str, float], now: float) -> None: ...


class Queue:
    """Every process has one; leases keep them apart."""

    #: How often to look for due work if there is none, in seconds.
    poll = 1.0

    def __init__(
        self,
        store: Store,
        memory: Memory,
        sender: AnySender,
        in_force: Callable[[], InForce],
        watcher: QueueWatcher,
        notifications: Notifications,
        random: Random,
        monotonic: Callable[[], float] = time.monotonic,
        recoveries: Recoveries | None = None,
    ) -> None:
        self._store = store
        self._memory = memory
        self._sender = sender
        self._in_force = in_force
        self._watcher = watcher
        self._notifications = notifications
        self._random = random
        self._monotonic = monotonic
        self._in_flight: dict[asyncio.Task[None], str] = {}
        self.recoveries = recoveries or Recoveries()
        #: Unknown targets that have something due, and since when.
        self._unknown: dict[str, float] = {}
        #: When each round last succeeded, outside of an outage of the store.
        self._succeeded = dict.fromkeys((_SENDING, _TIDYING), monotonic())
        #: The rounds that have to succeed until the outage is over: one that only reads may succeed
        #: all along.
        self._missing: set[str] = set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until `stopping` is set; then finish the attempts in flight."""
        stop = asyncio.create_task(stopping.wait())
        try:
            await asyncio.gather(self._keep_sending(stop), self._keep_tidy(stop))
        finally:
            stop.cancel()
        while self._in_flight:
            await asyncio.wait(list(self._in_flight))

    async def _keep_sending(self, stop: asyncio.Task[bool]) -> None:
        while not stop.done():
            with self._reported(_SENDING):
                await self.send_due()
            # An attempt that ends within the pause has made room for more, so it counts.
            waiting = {stop, *self._in_flight}
            await asyncio.wait({stop}, timeout=PAUSE)
            poll = RECOVERING if self.recoveries.active else self.poll
            await asyncio.wait(waiting, timeout=poll, return_when=asyncio.FIRST_COMPLETED)

    async def _keep_tidy(self, stop: asyncio.Task[bool]) -> None:
        while not stop.done():
            more = False
            with self._reported(_TIDYING):
                more = await self.tidy()
            with self._reported():
                await self._notifications.hand_over(self._store, self._sender.send)
            if left_out := self._memory.left_out():
                self._watcher.left_out(left_out)
            await asyncio.wait({stop}, timeout=PAUSE if more else self.poll)

    @contextmanager
    def _reported(self, name: str = "") -> Iterator[None]:
        """`name` is a round's; work between rounds can begin an outage, but not end one."""
        try:
            yield
        except StoreFailed as error:
            self._missing = set(self._succeeded)
            self._watcher.failed(error)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not end the queue
            self._watcher.fault("", error)
        else:
            if name:
                self._succeed(name)

    def _succeed(self, name: str) -> None:
        now = self._monotonic()
        if not self._missing:
            self._succeeded[name] = now
        elif not self._missing - {name}:
            away = now - min(self._succeeded.values())
            self._succeeded = dict.fromkeys(self._succeeded, now)
            self._watcher.back(away, self._memory.written_late())
        self._missing.discard(name)

    async def tidy(self) -> bool:
        """End expired records and delete old rows in a small step; return whether there is more."""
        await self._memory.write_pending(CALL_TIMEOUT)
        now = self._store.now()
        ended = await self._store.end(now, END_STEP, CALL_TIMEOUT)
        for record in ended:
            self._watcher.ended(record)
        usage = await self._store.usage(CALL_TIMEOUT)
        self._watcher.usage(usage, expires_at(usage, self._in_force(), now), now)
        self.recoveries.count(usage.waiting())
        return END_STEP in (len(ended), await self._store.prune(now, END_STEP, CALL_TIMEOUT))

    async def send_due(self) -> None:
        """Start due deliveries as far as there is room."""
        now = self._store.now()
        queued = await self._store.queue(CALL_TIMEOUT)
        in_force = self._in_force()
        self.recoveries.begin(in_force, self._sender.sign_of_life, now)
        in_flight = Counter(self._in_flight.values())
        recovering = self.recoveries.active
        due = {name for name, due_at in queued.items() if due_at <= now} | recovering.keys()
        waits = self._unknown_for_now(name for name in due if name not in in_force.targets)
        most = {
            name: self._most(in_force.targets.get(name), in_flight[name])
            for name in due
            if name not in waits
        }
        for target, room in shares(most, in_flight).items():
            await self._take(target, room, in_force)

    def _unknown_for_now(self, names: Iterable[str]) -> set[str]:
        """Return the unknown targets that a routes.yaml may still bring."""
        now = self._monotonic()
        self._unknown = {name: self._unknown.get(name, now) for name in names}
        return {name for name, since in self._unknown.items() if now - since < REMOVED_AFTER}

    def _most(self, target: Target | None, in_flight: int) -> int:
        """Return the most attempts of the queue that a target may have now. If it is full or paused
        or its breaker is open, nothing more is even taken from the store."""
        if target is None:
            return MAX_PER_TARGET
        recovery = self.recoveries.active.get(target.name)
        if recovery is not None:
            # Live events keep the burst of the target's rate.
            room = self._sender.room(target, 0.0, keeps_burst=True)
            return min(recovery.room(target), in_flight + room)
        room = in_flight + self._sender.room(target, SLOT_WAIT)
        return min(MAX_PER_TARGET, target.max_in_flight, room)

    async def _take(self, name: str, room: int, in_force: InForce) -> None:
        now = self._store.now()
        longest = max((target.timeout for target in in_force.targets.values()), default=0.0)
        until = now + longest + LEASE_MARGIN
        recovery, early = self.recoveries.active.get(name), None
        if recovery is not None:
            early = Early(request_window(now, in_force.terms), recovery.trigger == OPERATOR)
        taken = await self._store.lease(name, now, until, room, CALL_TIMEOUT, early)
        if recovery is not None and not taken and name not in self._in_flight.values():
            self._end_recovery(name, recovery, failed=False)
        for due in taken:
            is_before_its_time = recovery is not None and is_early(due, now)
            task = asyncio.create_task(self._retry(due, in_force, recovery, is_before_its_time))
            self._in_flight[task] = name
            task.add_done_callback(self._in_flight.pop)

    async def _retry(
        self, due: Due, in_force: InForce, recovery: Recovery | None, early: bool
    ) -> None:
        target = in_force.targets.get(due.row.target)
        # If the store fails, the lease expires and the delivery is taken again.
        with self._reported():
            if target is None:
                row = replace(due.row, state=State.DEAD, reason=TARGET_REMOVED)
                await self._finish(Retry(due, None, row, "queue"))
            elif self._is_left(due, in_force):
                now = self._store.now()
                await self._store.finish(due, left_alone(due, due.row, now), now, CALL_TIMEOUT)
            else:
                await self._attempt(due, target, in_force.queue_of(target.name), recovery, early)

    def _is_left(self, due: Due, in_force: InForce) -> bool:
        """Return whether a delivery is left to the caller's requests: one of them is at it, or
        routes.yaml no longer has it. If the target of a queued one has become required, a request
        may be at it in another process."""
        begin, end = request_window(self._store.now(), in_force.terms)
        is_queued = due.row.state is State.QUEUED
        if is_queued and not begin <= due.request_due_at <= end:
            return False
        plan = in_force.table.match(due.letter.event)
        if is_queued:
            return any(due.row.target == target.name for target in plan.required)
        names = {target.name for target in (*plan.required, *plan.optional)}
        is_claimed = self._memory.is_claimed(due.event_id, due.letter.digest)
        return is_claimed or due.row.target not in names

    async def _attempt(
        self,
        due: Due,
        target: Target,
        schedule: Schedule,
        recovery: Recovery | None,
        early: bool,
    ) -> None:
        key = DeliveryKey(due.event_id, target.name, due.letter.digest)
        by = "replay" if due.replayed else "recovery" if early else "queue"
        flight = self._memory.to_join(key)
        joined = flight is not None
        number = due.row.attempts + (0 if joined else 1)
        if flight is None:
            letter = addressed(due.letter, due.event_id, due.first_at, by)
            flight = self._sender.send(target, letter, SLOT_WAIT, None, number)
            self._memory.hold(key, flight)
        try:
            attempt = await flight
            row = self._row_after_attempt(due, attempt, joined, schedule, early)
            if recovery is not None:
                self._count(target.name, recovery, attempt)
            await self._finish(Retry(due, attempt, row, by, number))
        finally:
            # An acknowledgement that is not in the store yet stays, and a request releases its own.
            if not joined:
                self._memory.release(key, flight)

    def _row_after_attempt(
        self, due: Due, attempt: Attempt, joined: bool, schedule: Schedule, early: bool
    ) -> DeliveryRow:
        now, made = self._store.now(), due.row
        begun = attempt.reason not in SELF_INFLICTED
        if early:
            row = row_after_recovery(due, attempt, now)
        else:
            if begun:
                made = replace(made, retries=made.retries + 1, attempts=made.attempts + 1)
            jitter = self._random.uniform(0.0, JITTER)
            row = row_after_retry(made, attempt, now, schedule, jitter)
        # An attempt that was not begun costs no retry; a joined one is recorded by its request.
        if begun and not (attempt.acknowledged or joined):
            row = replace(row, tried=Tried(attempt, retry=0 if early else made.retries))
        return row

    def _count(self, name: str, recovery: Recovery, attempt: Attempt) -> None:
        """Count an attempt of a recovery, which a failure of the target ends."""
        if attempt.acknowledged:
            recovery.acknowledge()
        elif attempt.reason not in SELF_INFLICTED:
            self._end_recovery(name, recovery, failed=True)

    def _end_recovery(self, name: str, recovery: Recovery, *, failed: bool) -> None:
        if self.recoveries.active.get(name) is recovery:
            del self.recoveries.active[name]
            seconds = self._store.now() - recovery.since
            self._watcher.recovered(name, recovery, seconds, failed=failed)

    async def _finish(self, retry: Retry) -> None:
        """Record the attempt, and report it in any case: its target may have seen it."""
        failed: StoreFailed | None = None
        try:
            unrecorded = "" if await self._recorded(retry) else LEASE_OVER
        except StoreFailed as error:
            failed, unrecorded = error, str(error)
        if retry.attempt is not None or not unrecorded:
            self._watcher.retried(replace(retry, unrecorded=unrecorded))
        if failed is not None:
            raise failed

    async def _recorded(self, retry: Retry) -> bool:
        due, row, attempt = retry.due, retry.row, retry.attempt
        if attempt is not None and attempt.acknowledged:
            # It counts whatever state the delivery has by now, even if the lease is lost.
            key = DeliveryKey(due.event_id, row.target, due.letter.digest)
            await self._memory.acknowledge(key, attempt, CALL_TIMEOUT)
            return True
        return await self._store.finish(due, row, self._store.now(), CALL_TIMEOUT)


def shares(most: Mapping[str, int], in_flight: Mapping[str, int]) -> dict[str, int]:
    """Return how many more attempts each target gets now; `most` has the most that each may have.

    The next attempt goes to the target that has fewest. So a target that hangs holds its own few,
    and does not delay the others.
    """
    has = {name: in_flight.get(name, 0) for name in sorted(most)}
    rooms: dict[str, int] = {}
    free = MAX_IN_FLIGHT - sum(in_flight.values())
    while free > 0 and (able := [name for name in has if has[name] < most[name]]):
        name = min(able, key=has.__getitem__)
        has[name] += 1
        rooms[name] = rooms.get(name, 0) + 1
        free -= 1
    return rooms
