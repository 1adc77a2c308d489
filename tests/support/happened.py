"""Notifications of one process: what it notices, and the events that it makes."""

from __future__ import annotations

import io
import json
import time
from typing import Any

from router.contract.schedule import PLATFORM, Terms
from router.delivery.happenings import MAX_UNTOLD, Happenings, OwnEvents
from router.delivery.rules import InForce
from router.delivery.target.gate import Failing
from router.delivery.target.sender import Flight
from router.model.event import Attempt, OutboundEvent, Reason
from router.routing.table import Route, RouteTable
from router.routing.target import Target
from router.store.protocol import Store
from router.telemetry.log import Log
from router.telemetry.metrics import Metrics
from router.transport.engine import TargetExchange, as_it_came

T = 20.0

TARGETS = {
    name: Target(name, "http://127.0.0.1/", owner=f"team {name}")
    for name in ("ledger", "bot", "other")
}

NO = Attempt(Reason.CODE, True, 0.1, 200, "code 700", at=1_000_600.0, code="700", msg="库存不足")
YES = Attempt(Reason.ACKNOWLEDGED, True, 0.1, 200, at=1_000_600.0)


def to(*optional: str) -> RouteTable:
    """Return routes that send all own events to these targets."""
    ours = Route("ours", {"event_key": ("ebaas-router.*",)}, optional=optional)
    theirs = Route("theirs", {"event_key": ("*",)}, required=("ledger",))
    return RouteTable([ours, theirs], TARGETS)


class Faulty:
    """A store whose call of one name fails."""

    def __init__(self, store: Any, name: str, error: Exception) -> None:
        self._store, self._name, self._error = store, name, error

    def __getattr__(self, name: str) -> Any:
        return self._fail if name == self._name else getattr(self._store, name)

    async def _fail(self, *_: object) -> None:
        raise self._error


class Process:
    """A process that shares a store, reduced to its notifications. The test moves its clock."""

    ahead = 0.0

    def __init__(self, store: Store, table: RouteTable, silent_after: float | None = None) -> None:
        self.store = store
        self.metrics = Metrics()
        self.metrics.adopt(TARGETS)
        self.in_force = InForce(table, Terms(PLATFORM, 60.0, 8.0, PLATFORM, silent_after))
        self.own = OwnEvents(lambda: self.in_force, self.metrics, Log(io.StringIO()))
        self.happenings = Happenings(self.own.tell)
        #: Events sent at once, with their targets.
        self.sent: list[tuple[str, OutboundEvent]] = []
        self.answer = YES

    @classmethod
    def now(cls) -> float:
        return time.time() + cls.ahead

    def send(self, target: Target, letter: OutboundEvent, patience: float) -> Flight:
        self.sent.append((target.name, letter))
        flight: Flight = TargetExchange(as_it_came)
        flight.end(self.answer)
        return flight

    def fails(self, name: str = "ledger", last: Attempt = NO) -> None:
        self.happenings.failing(TARGETS[name], Failing(1_000_000.0, 12, last))

    async def told(self, target: str = "bot") -> list[dict[str, Any]]:
        """Run a round of the queue, and return the events for a target."""
        await self.own.hand_over(self.store, self.send)
        now = self.now()
        taken = await self.store.take(target, now, now + 1e6, MAX_UNTOLD, T)
        return [json.loads(due.letter.event.body) for due in taken]
