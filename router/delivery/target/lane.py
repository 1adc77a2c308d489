"""Lane: per-target state, with the attempts in flight and those that wait for a slot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Final

from router import __version__
from router.contract.signing import Signer
from router.delivery.target.gate import BreakerState, Gate, Streak, Waiters
from router.model.event import Attempt, Reason
from router.net.egress import Egress
from router.net.loops import Gone
from router.net.tls import Tls
from router.routing.target import Target
from router.transport.engine import Engine, Pool, lines_of


class Slots:
    """At most `limit` holders at a time; at most `most_waiting` more wait, first come first served.

    The invariant: while anybody waits, no slot is free. A slot that is given back goes straight to
    the first waiter, so that nobody can slip in between.
    """

    def __init__(self, limit: int, most_waiting: int) -> None:
        self._limit = limit
        self._most_waiting = most_waiting
        self.taken = 0
        self._waiters = Waiters()
        #: When each attempt in flight began, by its number; the oldest is first.
        self.begun: dict[int, float] = {}
        self.numbers: Iterator[int] = count()
        #: The tasks that wait for a slot, or are about to.
        self.tasks: set[asyncio.Task[Attempt]] = set()

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    @property
    def free(self) -> int:
        return max(0, self._limit - self.taken)

    def resize(self, limit: int, most_waiting: int) -> None:
        """Change the limits. A holder keeps its slot even if there are fewer now."""
        self._limit, self._most_waiting = limit, most_waiting
        while self.taken < limit and self._waiters.admit():
            self.taken += 1

    def take_free(self) -> bool:
        """Take a slot if one is free."""
        if self.taken >= self._limit:
            return False
        self.taken += 1
        return True

    async def take(self, timeout: float, gone: Gone | None = None) -> bool:
        """Take a slot, waiting up to `timeout` seconds. False if too many wait, if it takes too
        long, or if the caller is `gone`."""
        if self.take_free():
            return True
        if len(self._waiters) >= self._most_waiting or timeout <= 0:
            return False
        return await self._waiters.wait(self.give_back, timeout, gone)

    def give_back(self) -> None:
        if self.taken > self._limit or not self._waiters.admit():
            self.taken -= 1


#: The longest that an attempt waits for a slot, in seconds. Short, because a waiting attempt holds
#: a request in flight.
SLOT_WAIT: Final = 1.0

#: How many turns of the loop an attempt may take because of the router alone: to open a connection,
#: to send its request with the others of that turn, and to read the answer.
TURNS: Final = 4

#: Sent to every target unless its `headers` differ: the common rules of firewalls refuse requests
#: without them.
_USUAL: Final = {"user-agent": f"ebaas-router/{__version__}", "accept": "application/json"}


class Lane:
    """A target's connections, its gate and its slots; `share` limits holders and waiters together.

    It keeps as much as it can of the lane that the target had before a reload.
    """

    def __init__(
        self,
        target: Target,
        engine: Engine,
        share: int,
        before: Lane | None,
        breaker_changed: Callable[[Target, BreakerState], None],
    ) -> None:
        self.target = target
        self._share = share
        gate = None if before is None else before.gate
        self.gate: Gate = Gate(target, gate, breaker_changed, time.monotonic)
        self.streak: Streak = Streak() if before is None else before.streak
        self.signer = Signer(target.secret) if target.secret else None
        self.limit = min(target.max_in_flight, share)
        #: They belong to the target, whatever its limit was: attempts in flight are counted once.
        self.slots: Slots = Slots(*self.size) if before is None else before.slots
        if before is not None and _way(before.target) == _way(target):
            self.pool: Pool = before.pool
        else:
            self.pool = engine(*_way(target))
        #: The header lines that are the same for all its attempts.
        self.header_lines = usual_header_lines(target)
        #: The number of attempts that use the lane, waiting or in flight: its pool stays open.
        self.in_use = 0
        #: It was idle at the last sweep, and has not been used since.
        self.was_idle = False

    @property
    def size(self) -> tuple[int, int]:
        """The number of slots, and how many attempts may wait for one."""
        return self.limit, min(self.limit, self._share - self.limit)

    def take_free(self) -> bool:
        """Take a slot if one is free and the gate is open."""
        if not self.slots.take_free():
            return False
        gate = self.gate
        pace = gate.pace
        if gate.is_always_open or (gate.refusal is None and (pace is None or pace.take_free())):
            self.enter()
            return True
        self.slots.give_back()
        return False

    async def pass_gate(self, patience: float, gone: Gone | None) -> bool:
        """Wait for the rate, for up to `patience` seconds."""
        most_waiting, pace = self._share - self.slots.taken - self.slots.waiting, self.gate.pace
        return pace is None or await pace.take(patience, most_waiting, gone)

    async def wait_for_slot(self, gone: Gone | None) -> Reason | None:
        """Wait for a slot, once the gate is passed; return the reason if there is none."""
        refusal: Reason | None = Reason.SATURATED
        if await self.slots.take(min(SLOT_WAIT, self.target.timeout), gone):
            refusal = self.gate.refusal  # it may have closed during the wait
            if refusal is None:
                self.enter()
                return None
            self.slots.give_back()
        if self.gate.pace is not None:
            self.gate.pace.give_back()
        return refusal

    def begin(self, now: float) -> int:
        """An attempt whose slot is taken begins; return its number, which `give_back` takes."""
        number = next(self.slots.numbers)
        self.slots.begun[number] = now
        return number

    def give_back(self, number: int) -> None:
        """Free the slot of this attempt."""
        del self.slots.begun[number]
        self.slots.give_back()
        self.in_use -= 1

    def is_swamped(self, turn: float, now: float) -> bool:
        """Return whether one more attempt would find no room because of the router: its loop, whose
        turns take so long, has not read the answers yet."""
        if self.slots.taken < self.limit:
            return False
        _, most_waiting = self.size
        if len(self.slots.tasks) < most_waiting or self.gate.refusal is not None:
            return False
        oldest = next(iter(self.slots.begun.values()), now)
        # With a rate they wait for that, not for a slot.
        return self.target.rate is None and now - oldest <= TURNS * turn

    def add_waiting(self, task: asyncio.Task[Attempt]) -> None:
        """A task waits for a slot."""
        self.enter()
        self.slots.tasks.add(task)
        task.add_done_callback(self._left)

    def stop_waiting(self) -> None:
        """The running task no longer waits."""
        task = asyncio.current_task()
        assert task is not None
        self.slots.tasks.discard(task)

    def _left(self, task: asyncio.Task[Attempt]) -> None:
        self.slots.tasks.discard(task)
        self.in_use -= 1

    def room(self, within: float, *, keeps_burst: bool = False) -> int:
        """Return how many attempts could begin within so many seconds; see `Pace.room`."""
        return min(self.slots.free, self.gate.room(within, keeps_burst=keeps_burst))

    def enter(self) -> None:
        self.in_use += 1
        self.was_idle = False


def usual_header_lines(target: Target) -> bytes:
    """Return the header lines that all attempts at a target have in common."""
    given = {name: value.reveal() for name, value in target.headers}
    headers = {"x-ebaas-target": target.name} | _USUAL | given
    return lines_of(
        [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]
    )


def _way(target: Target) -> tuple[str, Tls, Egress]:
    """The parts of a target that its connections depend on: if one differs, none is kept."""
    return target.url, target.tls, target.egress


#: How long the longest turn counts at least, and at most twice as long, in seconds. A process
#: that is limited to a part of a core is stopped once in each tenth of a second.
_LATELY: Final = 0.5


class Turns:
    """Measures the turns of the loop in which `look` is called; the others cost nothing."""

    def __init__(self) -> None:
        self._began = 0.0
        self._is_measuring = False
        #: The longest turns of this period and of the one before, and when this period ends.
        self._longest = self._before = self._until = 0.0

    def look(self) -> float:
        """Return the longest recent turn in seconds, this one so far included."""
        now = time.monotonic()
        if not self._is_measuring:
            self._is_measuring, self._began = True, now
            asyncio.get_running_loop().call_soon(self._end)
        return max(self._longest, self._before, now - self._began)

    def _end(self) -> None:
        now = time.monotonic()
        self._is_measuring = False
        if now >= self._until:
            # Turns before a long pause no longer count.
            self._before = self._longest if now < self._until + _LATELY else 0.0
            self._longest, self._until = 0.0, now + _LATELY
        self._longest = max(self._longest, now - self._began)
