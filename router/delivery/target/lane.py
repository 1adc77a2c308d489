"""What one target has for itself."""

from __future__ import annotations

import time
from typing import Final, Protocol

from router import __version__
from router.contract.signing import Signer
from router.delivery.target.breaker import BreakerState
from router.delivery.target.gate import Failing, Gate, Streak
from router.delivery.target.waiting import Places
from router.model.event import Attempt, Reason
from router.net.client_tls import Tls
from router.net.egress import Egress
from router.net.gone import Gone
from router.routing.target import Target
from router.transport.engine import Engine, Pool, lines_of

#: The longest that an attempt waits for a place, in seconds. Short, because whoever waits holds a
#: request in flight.
PLACE_WAIT: Final = 1.0

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

    def give_back(self) -> None:
        """The place is another's now."""
        self.places.give_back()
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

    def leave(self, _: object = None) -> None:
        self.in_use -= 1


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
