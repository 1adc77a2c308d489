"""Lane: per-target state, with the attempts in flight and those that wait for a slot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import count
from typing import Final, Protocol

from router import __version__
from router.contract.signing import Signer
from router.delivery.target.gate import BreakerState, Failing, Gate, Streak, Waiters
from router.model.event import Attempt, Reason
from router.net.egress import Egress
from router.net.loops import Gone
from router.net.tls import Tls
from router.routing.target import Target
from router.transport.engine import Engine, Pool, lines_of


class Places:
    """At most `limit` holders at a time; at most `most_waiting` more wait, first come first served.

    The invariant: while anybody waits, no place is free. A place that is given back goes straight
    to the first who waits, so that nobody can slip in between.
    """

    def __init__(self, limit: int, most_waiting: int) -> None:
        self._limit = limit
        self._most_waiting = most_waiting
        self._taken = 0
        self._waiters = Waiters()

    @property
    def taken(self) -> int:
        return self._taken

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    @property
    def free(self) -> int:
        return max(0, self._limit - self._taken)

    def resize(self, limit: int, most_waiting: int) -> None:
        """Have so many from now on. Who holds a place keeps it, also where there are fewer now."""
        self._limit, self._most_waiting = limit, most_waiting
        while self._taken < limit and self._waiters.admit():
            self._taken += 1

    def take_free(self) -> bool:
        """Take a place if one is free."""
        if self._taken >= self._limit:
            return False
        self._taken += 1
        return True

    async def take(self, timeout: float, gone: Gone | None = None) -> bool:
        """Take a place, waiting up to `timeout` seconds. False: too many waited, or it took
        too long, or `gone` is done, for whom it was to be."""
        if self.take_free():
            return True
        if len(self._waiters) >= self._most_waiting or timeout <= 0:
            return False
        return await self._waiters.wait(self.give_back, timeout, gone)

    def give_back(self) -> None:
        if self._taken > self._limit or not self._waiters.admit():
            self._taken -= 1


#: The longest that an attempt waits for a place, in seconds. Short, because whoever waits holds a
#: request in flight.
PLACE_WAIT: Final = 1.0

#: How many turns of the loop an attempt may take because of the router alone: to open a connection,
#: to send its request with the others of that turn, and to read the answer.
TURNS: Final = 4

#: What every target gets unless its `headers` say otherwise: the common rules of firewalls refuse a
#: request that is without.
_USUAL: Final = {"user-agent": f"ebaas-router/{__version__}", "accept": "application/json"}


class TargetWatcher(Protocol):
    """Is told what changes about a target, for logs and metrics."""

    def breaker(self, target: Target, state: BreakerState) -> None: ...

    def failing(self, target: Target, failing: Failing) -> None: ...


class Lane:
    """A target's connections, its gate and its places; `share` bounds who holds and who waits
    together.

    It keeps what it can of the lane that the target had before a reload.
    """

    def __init__(
        self,
        target: Target,
        engine: Engine,
        share: int,
        before: Lane | None,
        watcher: TargetWatcher,
    ) -> None:
        self.target = target
        self._share = share
        self._watcher = watcher
        gate = None if before is None else before.gate
        self.gate: Gate = Gate(target, gate, watcher.breaker, time.monotonic)
        self.streak: Streak = Streak() if before is None else before.streak
        self.signer = Signer(target.secret) if target.secret else None
        self.limit = min(target.max_in_flight, share)
        #: The target's, whatever its limit was and will be: what is in flight is counted once.
        self.places: Places = Places(*self._size) if before is None else before.places
        if before is not None and _way(before.target) == _way(target):
            self.pool: Pool = before.pool
        else:
            self.pool = engine(*_way(target))
        #: The header lines that are the same for all its attempts.
        self.lines = usual_lines(target)
        #: Attempts that have it in hand, waiting or in flight: its pool stays open for them.
        self.in_use = 0
        #: When each attempt in flight began, by its number; the oldest is first. They and those who
        #: wait belong to the target, as its places do.
        self._begun: dict[int, float] = {} if before is None else before._begun
        self._numbers: Iterator[int] = count() if before is None else before._numbers
        #: The tasks that wait for a place, or are about to.
        self.line: set[asyncio.Task[Attempt]] = set() if before is None else before.line
        #: Whether the last sweep found it idle, and nobody has used it since.
        self.was_idle = False

    @property
    def _size(self) -> tuple[int, int]:
        """How many places there are, and how many may wait for one."""
        return self.limit, min(self.limit, self._share - self.limit)

    def take_into_force(self) -> None:
        """Its limit is the one that holds."""
        self.places.resize(*self._size)

    def take_free(self) -> bool:
        """Take a place, where one is free and the gate is open."""
        if not self.places.take_free():
            return False
        gate = self.gate
        if gate.is_always_open or (gate.refusal is None and gate.take_free()):
            self.enter()
            return True
        self.places.give_back()
        return False

    async def pass_gate(self, patience: float, gone: Gone | None) -> bool:
        """Wait for the rate, for up to `patience` seconds."""
        most_waiting = self._share - self.places.taken - self.places.waiting
        return await self.gate.take(patience, most_waiting, gone)

    async def take(self, gone: Gone | None) -> Reason | None:
        """Wait for a place, once the gate is passed; why there is none, or None."""
        refusal: Reason | None = Reason.SATURATED
        if await self.places.take(min(PLACE_WAIT, self.target.timeout), gone):
            refusal = self.gate.refusal  # it may have shut meanwhile
            if refusal is None:
                self.enter()
                return None
            self.places.give_back()
        self.gate.give_back()
        return refusal

    def begin(self, now: float) -> int:
        """An attempt whose place is taken begins; return its number, which `give_back` takes."""
        number = next(self._numbers)
        self._begun[number] = now
        return number

    def give_back(self, number: int) -> None:
        """The place is another's now."""
        del self._begun[number]
        self.places.give_back()
        self.in_use -= 1

    def is_swamped(self, turn: float, now: float) -> bool:
        """Whether one more attempt would find no room, and the router is why: its loop, whose turns
        take so long, has not got round to the answers yet."""
        if self.places.taken < self.limit:
            return False
        _, most_waiting = self._size
        if len(self.line) < most_waiting or self.gate.refusal is not None:
            return False
        oldest = next(iter(self._begun.values()), now)
        # Those of a target with a rate wait for that, which is no want of places.
        return self.target.rate is None and now - oldest <= TURNS * turn

    def line_up(self, waiting: asyncio.Task[Attempt]) -> None:
        """A task waits for a place."""
        self.enter()
        self.line.add(waiting)
        waiting.add_done_callback(self._left)

    def step_out(self) -> None:
        """The running task waits no longer."""
        waiting = asyncio.current_task()
        assert waiting is not None
        self.line.discard(waiting)

    def _left(self, waiting: asyncio.Task[Attempt]) -> None:
        self.line.discard(waiting)
        self.in_use -= 1

    def room(self) -> int:
        """How many attempts of the queue could begin now, or after a short wait."""
        return min(self.places.free, self.gate.room(PLACE_WAIT))

    def heard(self, attempt: Attempt) -> None:
        """What came of an attempt."""
        failing = self.streak.look(attempt, attempt.at)
        if failing is not None:
            self._watcher.failing(self.target, failing)

    def enter(self) -> None:
        self.in_use += 1
        self.was_idle = False


def usual_lines(target: Target) -> bytes:
    """The header lines that all attempts at a target have alike, its own among them."""
    given = {name: value.reveal() for name, value in target.headers}
    headers = {"x-ebaas-target": target.name} | _USUAL | given
    return lines_of(
        [(name.encode("ascii"), each.encode("latin-1")) for name, each in headers.items()]
    )


def _way(target: Target) -> tuple[str, Tls, Egress]:
    """What its connections depend on: where one of these differs, none of them is kept."""
    return target.url, target.tls, target.egress


#: For how long the longest turn counts at least, and at most twice as long, in seconds. A process
#: that is limited to a part of a core is stopped once in each tenth of a second.
_LATELY: Final = 0.5


class Turns:
    """Measures the loop's turns in which somebody looks; the others cost nothing."""

    def __init__(self) -> None:
        self._began = 0.0
        self._is_measuring = False
        #: The longest turns of this period and of the one before, and when this period ends.
        self._longest = self._before = self._until = 0.0

    def look(self) -> float:
        """Return the longest turn of late, this one so far included, in seconds."""
        now = time.monotonic()
        if not self._is_measuring:
            self._is_measuring, self._began = True, now
            asyncio.get_running_loop().call_soon(self._end)
        return max(self._longest, self._before, now - self._began)

    def _end(self) -> None:
        now = time.monotonic()
        self._is_measuring = False
        if now >= self._until:
            # What was before a pause is long ago.
            self._before = self._longest if now < self._until + _LATELY else 0.0
            self._longest, self._until = 0.0, now + _LATELY
        self._longest = max(self._longest, now - self._began)
