"""The queue on a real store, with targets and a clock that a test controls."""

from __future__ import annotations

import asyncio
import hashlib
import io
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from router.contract.schedule import PLATFORM, Schedule, Terms
from router.delivery.forwarder import Forwarder
from router.delivery.memory import DeliveryKey, Memory, Outcome
from router.delivery.notifications import Notifications
from router.delivery.queue import MAX_IN_FLIGHT, Queue, Retry
from router.delivery.recovery import Recovery
from router.delivery.rules import InForce
from router.delivery.target.sender import Flight
from router.model.event import Attempt, Event, OutboundEvent, Reason
from router.net.loops import Gone
from router.routing.table import Plan, Route, RouteTable
from router.routing.target import Target
from router.store.protocol import (
    DeliveryRow,
    Ended,
    Record,
    Stage,
    State,
    StoreFailed,
    StoreLimits,
    Usage,
)
from router.store.sqlite.store import SqliteStore
from router.telemetry.log import Log
from router.telemetry.metrics import Metrics
from router.transport.engine import TargetExchange, as_it_came
from tests.support.waiting import until

T = 20.0
TERMS = Terms(PLATFORM, 60.0, 8.0, Schedule((10.0, 20.0), 2))


YES = Attempt(Reason.ACKNOWLEDGED, True, 0.1, 200)
NO = Attempt(Reason.CONNECT_REFUSED, False, 0.1)


def key_of(event_id: str, target: str, body: bytes = b"{}") -> DeliveryKey:
    """Return the key by which an attempt of this delivery is joined."""
    return DeliveryKey(event_id, target, hashlib.sha256(body).digest())


@dataclass
class Scene:
    """A queue, its store, its targets, and a clock that the test moves."""

    store: SqliteStore = field(init=False)
    memory: Memory = field(init=False)
    the_queue: Queue = field(init=False)
    time: float = 1_000_000.0
    targets: dict[str, Target] = field(default_factory=dict)
    #: The answer of each target; one without an answer hangs until `released`.
    answers: dict[str, Attempt] = field(default_factory=dict)
    #: The number of attempts that a target may still have; unlimited if missing.
    rooms: dict[str, int] = field(default_factory=dict)
    terms: Terms = TERMS
    #: The targets of every event.
    planned: set[str] = field(default_factory=set)
    #: The last sign that a target works.
    signs: dict[str, str] = field(default_factory=dict)
    #: The number of each attempt among those of its delivery.
    numbers: list[int] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    sent: list[tuple[str, OutboundEvent]] = field(default_factory=list)
    busy: Counter[str] = field(default_factory=Counter)
    busiest: Counter[str] = field(default_factory=Counter)
    retries: list[Retry] = field(default_factory=list)
    #: Of each recovery that has ended: its target, trigger and deliveries, and whether it failed.
    recoveries: list[tuple[str, str, int, bool]] = field(default_factory=list)
    ends: list[Ended] = field(default_factory=list)
    troubles: list[StoreFailed] = field(default_factory=list)
    #: The length of each outage that is over, in seconds.
    outages: list[float] = field(default_factory=list)

    def in_force(self) -> InForce:
        route = Route("all", {}, tuple(sorted(self.planned & self.targets.keys())))
        return InForce(RouteTable([route] if self.planned else [], self.targets), self.terms)

    def now(self) -> float:
        return self.time

    def send(
        self,
        target: Target,
        letter: OutboundEvent,
        patience: float,
        gone: Gone | None = None,
        attempt: int = 1,
    ) -> Flight:
        self.numbers.append(attempt)
        return TargetExchange.by(asyncio.create_task(self._send(target, letter)), as_it_came)

    def is_swamped(self, targets: Iterable[Target]) -> bool:
        return False

    def sign_of_life(self, target: Target) -> str:
        return self.signs.get(target.name, "")

    def room(self, target: Target, within: float, *, keeps_burst: bool = False) -> int:
        return self.rooms.get(target.name, MAX_IN_FLIGHT)

    async def _send(self, target: Target, letter: OutboundEvent) -> Attempt:
        self.sent.append((target.name, letter))
        self.busy[target.name] += 1
        self.busiest[target.name] = max(self.busiest[target.name], self.busy[target.name])
        self.busiest[""] = max(self.busiest[""], self.busy.total())
        try:
            await asyncio.sleep(0)
            if target.name not in self.answers:
                await self.released.wait()
            return self.answers[target.name]
        finally:
            self.busy[target.name] -= 1

    def retried(self, retry: Retry) -> None:
        self.retries.append(retry)

    def recovered(self, target: str, recovery: Recovery, seconds: float, *, failed: bool) -> None:
        self.recoveries.append((target, recovery.trigger, recovery.delivered, failed))

    def ended(self, ended: Ended) -> None:
        self.ends.append(ended)

    def fault(self, request_id: str, error: BaseException) -> None:
        raise error

    def failed(self, error: StoreFailed) -> None:
        self.troubles.append(error)

    def back(self, seconds: float, written_late: int) -> None:
        self.outages.append(seconds)

    def left_out(self, count: int) -> None:
        """The count is tested in test_memory.py."""

    def usage(self, usage: Usage, expires_at: Mapping[str, float], now: float) -> None:
        self.used, self.expires_at = usage, expires_at

    async def queue(
        self, event_id: str, target: str, body: bytes = b"{}", stage: Stage = Stage.CLOSED
    ) -> None:
        soon = self.time + 60.0
        record = Record(event_id, stage, self.time, 1, self.time, self.time, soon, soon)
        event = Event("a", "b", "c", "1", "a.b.c.1", body)
        letter = OutboundEvent(event, hashlib.sha256(body).digest(), "request", "trace")
        row = DeliveryRow(target, State.QUEUED, "timeout", self.time)
        await self.store.add(record, letter, [row], T)

    async def request(
        self,
        body: bytes = b"{}",
        required: Sequence[str] = ("one",),
        optional: Sequence[str] = (),
        seconds: float = 20.0,
        gone: asyncio.Future[None] | None = None,
    ) -> Outcome:
        """Make EBaaS's next request for an event, which has so many seconds."""
        needed, others = (tuple(self.targets[n] for n in names) for names in (required, optional))
        return await self.forwarder.forward(
            OutboundEvent.of(Event("a", "b", "c", "1", "a.b.c.1", body), "request"),
            Plan(needed, others, ()),
            {*required, *optional},
            TERMS,
            time.monotonic() + seconds,
            gone or asyncio.get_running_loop().create_future(),
        )

    @property
    def forwarder(self) -> Forwarder:
        return Forwarder(self, self.memory)

    async def begun(self) -> None:
        await self.the_queue.send_due()
        await until(lambda: self.sent)

    async def until(self, count: int) -> None:
        """Send due retries until so many have ended."""
        async with asyncio.timeout(T):
            while len(self.retries) < count:
                await self.the_queue.send_due()
                await asyncio.sleep(0.001)


@asynccontextmanager
async def opened(path: Path, *targets: str) -> AsyncIterator[Scene]:
    scene = Scene()
    scene.targets = {name: Target(name, "http://127.0.0.1/") for name in targets}
    limits = StoreLimits(1 << 30, share=1.0)
    scene.store = await SqliteStore.open(path / "store.db", limits, now=scene.now)
    scene.memory = Memory(scene.store)
    scene.planned = set(targets)
    in_force = scene.in_force
    notifications = Notifications(in_force, Metrics(), Log(io.StringIO()))
    scene.the_queue = Queue(
        scene.store, scene.memory, scene, in_force, scene, notifications, Random(1), scene.now
    )
    scene.the_queue.poll = 0.01
    try:
        yield scene
    finally:
        for task in list(scene.the_queue._in_flight):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await scene.store.close()
