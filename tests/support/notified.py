"""One process as far as notifications go, beside a store."""

from __future__ import annotations

import io
import json
import time
from typing import Any

from router.contract.schedule import PLATFORM, Terms
from router.delivery.notifications import Notifications
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
    """Send all notifications to these targets."""
    ours = Route("ours", {"event_key": ("ebaas-router.*",)}, optional=optional)
    theirs = Route("theirs", {"event_key": ("*",)}, required=("ledger",))
    return RouteTable([ours, theirs], TARGETS)


class Faulty:
    """A store, one of whose calls fails."""

    def __init__(self, store: Any, name: str, error: Exception) -> None:
        self._store, self._name, self._error = store, name, error

    def __getattr__(self, name: str) -> Any:
        return self._fail if name == self._name else getattr(self._store, name)

    async def _fail(self, *_: object) -> None:
        raise self._error


class Process:
    """One of several processes that share a store. The test moves its clock."""

    ahead = 0.0

    def __init__(self, store: Store, table: RouteTable, silent_after: float | None = None) -> None:
        self.store = store
        self.metrics = Metrics()
        self.metrics.adopt(TARGETS)
        self.in_force = InForce(table, Terms(PLATFORM, 60.0, 8.0, PLATFORM, silent_after))
        log = Log(io.StringIO())
        self.notifications = Notifications(lambda: self.in_force, self.metrics, log, self.seconds)
        #: The events that were sent at once, by target.
        self.sent: list[tuple[str, OutboundEvent]] = []
        self.answer = YES

    @staticmethod
    def seconds() -> float:
        """The monotonic clock."""
        return time.monotonic()

    @classmethod
    def now(cls) -> float:
        return time.time() + cls.ahead

    def send(self, target: Target, letter: OutboundEvent, patience: float) -> Flight:
        self.sent.append((target.name, letter))
        flight: Flight = TargetExchange(as_it_came)
        flight.end(self.answer)
        return flight

    def fails(self, name: str = "ledger", last: Attempt = NO) -> None:
        self.notifications.failing(TARGETS[name], Failing(1_000_000.0, 12, last))

    async def sends(self, target: str = "bot") -> list[dict[str, Any]]:
        """Return the bodies that a round of the queue queues for that target."""
        await self.notifications.hand_over(self.store, self.send)
        now = self.now()
        taken = await self.store.lease(target, now, now + 1e6, 10_000, T)
        return [json.loads(due.letter.event.body) for due in taken]
