"""The world of one history: what really happened, and the processes, targets and store in it."""

from __future__ import annotations

import asyncio
import io
import sqlite3
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, TypeVar

from router.contract.schedule import Schedule, Terms
from router.delivery.forwarder import Forwarder
from router.delivery.memory import Memory, Outcome
from router.delivery.notifications import Notifications
from router.delivery.queue import Queue
from router.delivery.rules import InForce
from router.delivery.target.sender import Flight
from router.model.event import SELF_INFLICTED, Attempt, Event, OutboundEvent, Reason
from router.net.loops import Gone
from router.routing.table import Plan, Route, RouteTable
from router.routing.target import Target
from router.store.protocol import (
    DeliveryRow,
    Due,
    Early,
    Kept,
    Nodes,
    Record,
    StoreFailed,
    StoreLimits,
    Tried,
    Usage,
)
from router.store.sqlite import statements
from router.store.sqlite.schema import migration
from router.store.sqlite.statements import Statements
from router.telemetry.log import Log
from router.telemetry.metrics import Metrics
from router.transport.engine import TargetExchange, as_it_came
from tests.model.weather import Weather

T = TypeVar("T")

TERMS = Terms(
    ebaas=Schedule((1.0, 3.0, 7.0, 30.0), 5),
    grace=10.0,
    reply_within=8.0,
    queue=Schedule((1.0, 3.0, 7.0, 30.0), 4),
)

#: How long a caller waits for its reply.
CALLER_TIMEOUT = 10.0

#: Why an attempt is not begun by the router's own doing, while it serves.
SHUT = sorted(SELF_INFLICTED - {Reason.STOPPED})

#: How long a process stands still: longer than any lease.
_STALL = 50.0

#: Notes each record whose credit was spent and counts again.
_CREDIT_COMES_BACK = """
CREATE TEMP TABLE regained (event_id TEXT);
CREATE TEMP TRIGGER note_regained AFTER UPDATE OF spent ON events
WHEN old.spent AND NOT new.spent
BEGIN INSERT INTO regained VALUES (old.event_id); END;
"""

_LIMITS = StoreLimits(10**9, share=1.0, keep_settled=1e9, keep_dead=1e9)


@dataclass(eq=False)
class Source:
    """An event as its caller knows it."""

    number: int
    event: Event
    #: When its first request came to a router.
    arrived: float | None = None
    #: How many of its requests have come to a router, and when its caller last left one.
    requests: int = 0
    last_contact: float = 0.0
    #: Its caller has read a `000`.
    answered: bool = False
    over: bool = False


@dataclass(eq=False)
class Request:
    source: Source
    gone: asyncio.Future[None]
    reply: asyncio.Future[bool]
    process: Process
    #: When the router came to know that its caller has gone.
    gone_at: float | None = None


@dataclass(eq=False)
class Sent:
    """One attempt, as its target knows it."""

    source: Source
    event_id: str
    target: str
    began: float
    #: `callback`, `retry`, `queue` or `recovery`.
    cause: str
    acted: bool = False
    #: Its acknowledgement has reached a living router.
    acknowledged: bool = False


@dataclass(eq=False)
class Answered:
    """A `000` that a router gave."""

    source: Source
    required: frozenset[str]
    optional: frozenset[str]


_PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)
_REQUEST: ContextVar[Request | None] = ContextVar("request", default=None)


@dataclass
class World:
    seed: int
    weather: Weather
    loop: asyncio.AbstractEventLoop
    random: Random = field(init=False)
    calm: bool = False
    step: float = 0.0
    effects: int = 0
    sent: list[Sent] = field(default_factory=list)
    answers: list[Answered] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    #: Which events an id has stood for.
    ids: dict[str, set[Source]] = field(default_factory=dict)
    #: (body, cause) that really happened.
    causes: set[tuple[bytes, str]] = field(default_factory=set)
    #: Bodies whose record was written when their request failed.
    recorded: set[Source] = field(default_factory=set)
    #: Bodies that got a `000` blindly, by the process that gave it.
    blind: set[tuple[Process, bytes]] = field(default_factory=set)
    #: Bodies for which what the memory can't know is true: see checks.py.
    unknowable: set[bytes] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    open_requests: list[Request] = field(default_factory=list)
    changed: bool = False

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        for statement in migration(0):
            self.connection.execute(statement)
        self.connection.executescript(_CREDIT_COMES_BACK)
        self.rows = Statements(self.connection, _LIMITS)
        names = [f"r{n}" for n in range(self.weather.required)]
        names += [f"o{n}" for n in range(self.weather.optional)]
        self.targets = {
            name: Target(name, "http://127.0.0.1/", self.random.choice((3.0, 5.0, 12.0)))
            for name in names
        }
        self.dead = self.random.choice(names) if self.weather.dead else ""
        self._route = Route("none", {})
        self._table = RouteTable([], {})
        self.required = {name for name in names if name[0] == "r"}
        self.optional = {name for name in names if name[0] == "o"}

    def plan(self) -> Plan:
        sides = (self.required, self.optional)
        required, optional = (tuple(self.targets[n] for n in sorted(side)) for side in sides)
        return Plan(required, optional, (Route("all", {}),))

    def in_force(self) -> InForce:
        route = Route("all", {}, tuple(sorted(self.required)), tuple(sorted(self.optional)))
        if route != self._route or self._table.targets != self.targets:
            self._route, self._table = route, RouteTable([route], self.targets)
        return InForce(self._table, TERMS)

    def now(self) -> float:
        return 1e9 + self.loop.time() + self.step

    def happens(self, chance: float) -> bool:
        return not self.calm and self.random.random() < chance

    async def takes(self, longest: float) -> None:
        await asyncio.sleep(self.random.uniform(0.0, longest))

    def boundary(self, process: Process) -> None:
        """A point between two effects, at which a process may die."""
        if not process.alive:
            raise asyncio.CancelledError
        self.effects += 1
        if not self.calm and self.effects in self.weather.crashes:
            process.crash()
            raise asyncio.CancelledError

    def change_plan(self) -> None:
        name = self.random.choice(sorted(self.targets))
        move = self.random.choice(("required", "optional", "out", "gone"))
        self.required.discard(name)
        self.optional.discard(name)
        if move == "required" or not self.required:
            self.required.add(name)
        elif move == "optional":
            self.optional.add(name)
        elif move == "gone":
            del self.targets[name]
            # Should nothing be left, nothing would match.
            self.required = self.required or {min(self.targets)} if self.targets else set()

    def note(self, cause: str, source: Source | None = None) -> None:
        """Note a cause for duplicates of this body, or of all events in flight."""
        concerned = [source] if source else [s for s in self.sources if s.arrived is not None]
        self.causes |= {(each.event.body, cause) for each in concerned}


class Process:
    """One run of the router, from its start to its crash."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.alive = True
        self.tasks: set[asyncio.Task[Any]] = set()
        self.down = world.loop.create_future()
        store = SimulatedStore(world, self)
        sender = SimulatedSender(world, self)
        self.memory = Memory(store)
        self.forwarder = Forwarder(sender, self.memory, world.loop.time)
        notifications = Notifications(world.in_force, Metrics(), Log(io.StringIO()))
        self.worker = Queue(
            *(store, self.memory, sender, world.in_force, self, notifications, world.random),
            monotonic=world.loop.time,
        )
        self.worker.poll = 5.0
        self.spawn(self.worker.run(asyncio.Event()))

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task of this process, and so are all that it makes."""
        token = _PROCESS.set(self)
        try:
            return asyncio.get_running_loop().create_task(work)
        finally:
            _PROCESS.reset(token)

    def crash(self) -> None:
        self.alive = False
        self.world.note("crash")
        self.world.unknowable |= {body for process, body in self.world.blind if process is self}
        for task in self.tasks:
            task.cancel()
        self.down.set_result(None)

    async def handle(self, request: Request) -> None:
        """The callback path for one event."""
        world, source = self.world, request.source
        _REQUEST.set(request)
        plan = world.plan()
        letter = OutboundEvent.of(source.event, "request")
        deadline = world.loop.time() + TERMS.reply_within
        outcome = await self.forwarder.forward(
            letter, plan, tuple(world.targets), TERMS, deadline, request.gone
        )
        self.noted(request, outcome, plan, world.loop.time() - deadline)
        world.boundary(self)
        if not request.reply.done():
            request.reply.set_result(outcome.settled)
        world.boundary(self)
        await self.forwarder.wait_for_late_attempts(outcome)

    def noted(self, request: Request, outcome: Outcome, plan: Plan, late: float) -> None:
        world, source = self.world, request.source
        if late > 0.001:
            world.faults.append(f"a reply {late} s after its deadline")
        if outcome.unrecorded or outcome.recalled.blind:
            world.note("store", source)
        if outcome.settled:
            names = [frozenset(t.name for t in side) for side in (plan.required, plan.optional)]
            world.answers.append(Answered(source, *names))
            if outcome.recalled.blind:
                world.blind.add((self, source.event.body))
                if world.weather.processes > 1:
                    world.unknowable.add(source.event.body)
        elif outcome.acknowledged and not request.gone.done() and not outcome.unrecorded:
            self.refused(outcome)
        elif not outcome.unrecorded and outcome.recalled.may_be_stored:
            world.recorded.add(source)

    def refused(self, outcome: Outcome) -> None:
        """A request that had what its `000` needs: only another process may have taken it."""
        query = "SELECT stage FROM events WHERE event_id = ?"
        (stage,) = self.world.connection.execute(query, (outcome.letter.event_id,)).fetchone()
        alone = self.world.weather.processes == 1 and not self.world.weather.store_slow
        if alone and stage == "closed":
            self.world.faults.append("two requests were melted into one")

    def fault(self, request_id: str, error: BaseException) -> None:
        raise error

    def _ignore(self, *_: Any, **__: Any) -> None: ...

    retried = recovered = ended = failed = back = left_out = usage = _ignore


class SimulatedSender:
    """Targets: they act or not, and answer or not, each at its own time."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process
        #: The targets whose last attempt was acknowledged.
        self._proven: set[str] = set()

    def send(
        self,
        target: Target,
        letter: OutboundEvent,
        patience: float,
        gone: Gone | None = None,
        attempt: int = 1,
    ) -> Flight:
        sending = asyncio.get_running_loop().create_task(self._send(target, letter))
        return TargetExchange.by(sending, as_it_came)

    def room(self, target: Target, within: float, *, keeps_burst: bool = False) -> int:
        return 0 if self._shut() else 8

    def sign_of_life(self, target: Target) -> str:
        return "acknowledged" if target.name in self._proven else ""

    def is_swamped(self, targets: Iterable[Target]) -> bool:
        return False

    def _shut(self) -> bool:
        """Now the router itself lets no attempt begin: a breaker, a rate, a pause, no place."""
        shut = self._world.weather.shut
        return shut > 0.0 and self._world.happens(shut)

    async def _send(self, target: Target, letter: OutboundEvent) -> Attempt:
        world = self._world
        world.boundary(self._process)
        if self._shut():
            return Attempt(world.random.choice(SHUT), False, 0.0)
        request = _REQUEST.get()
        sources = world.ids.setdefault(letter.event_id, set())
        if request is not None:
            sources.add(request.source)
        if not sources:
            # Its caller had hung up before anything was sent.
            sources |= {s for s in world.sources if s.event.body == letter.event.body}
        source = request.source if request else min(sources, key=lambda s: s.number)
        sent = Sent(source, letter.event_id, target.name, world.loop.time(), letter.cause)
        world.sent.append(sent)
        if request is None and world.weather.stalls and world.happens(world.weather.stalls):
            world.note("other_process", source)
            await asyncio.sleep(_STALL)
        try:
            async with asyncio.timeout(target.timeout):
                attempt = await self._answer(sent)
        except TimeoutError:
            if sent.acted:
                world.note("late", source)
            attempt = Attempt(Reason.TIMEOUT, True, target.timeout)
        self._proven.discard(target.name)
        if attempt.acknowledged:
            self._proven.add(target.name)
        return attempt

    async def _answer(self, sent: Sent) -> Attempt:
        world, weather = self._world, self._world.weather
        if world.happens(weather.slow):
            sent.acted = world.random.random() < 0.5
            await asyncio.sleep(1000.0)
        await world.takes(weather.pace)
        if sent.target == world.dead or world.happens(weather.fails):
            return Attempt(Reason.CODE, True, 0.1)
        sent.acted = True
        if world.happens(weather.lies):
            world.note("late", sent.source)
            return Attempt(
                Reason.STATUS, True, 0.1, 500, retry_after=world.random.choice((None, 9))
            )
        await world.takes(weather.pace)
        world.boundary(self._process)
        sent.acknowledged = True
        return Attempt(Reason.ACKNOWLEDGED, True, 0.1)


def _writes(name: str) -> Any:
    """Return the store's method of this name, whose last argument is its timeout."""

    async def write(self: SimulatedStore, *given: Any) -> Any:
        return await self._write(lambda sql: getattr(sql, name)(*given[:-1]), given[-1])

    return write


def _returns(value: Any) -> Any:
    async def method(*_: Any) -> Any:
        return value

    return method


class SimulatedStore:
    """The Store's contract, effect by effect: the real rows, but any call may fail, take its time,
    or come to pass after its caller was told that it failed."""

    remembers = True
    nodes: Nodes | None = None

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process
        self.now = world.now

    async def find(self, digest: bytes, timeout: float) -> tuple[Kept, ...]:
        connection = self._world.connection
        return await self._call(lambda: statements.find(connection, digest), timeout)

    async def add(
        self, record: Record, letter: OutboundEvent, rows: Sequence[DeliveryRow], timeout: float
    ) -> None:
        late = lambda r: r.add(self.too_late(record), letter, rows)  # noqa: E731
        await self._write(lambda r: r.add(record, letter, rows), timeout, late)

    def too_late(self, record: Record) -> Record:
        """The fate of a record whose write missed its timeout."""
        return replace(record, credit_revoked=True)

    settle, acknowledge, finish, end = map(_writes, ("settle", "acknowledge", "finish", "end"))
    prune, pauses, notice, notify, close = map(_returns, (0, (), None, True, None))

    async def supersede(
        self,
        event_ids: Collection[str],
        reached: Collection[str],
        now: float,
        timeout: float,
        by: str = "",
    ) -> None:
        await self._write(lambda sql: sql.supersede(event_ids, reached, now, by), timeout)

    async def missed(
        self, event_id: str, target: str, tried: Tried, ends_by: float, timeout: float
    ) -> None:
        """Note an effect that no rule asks for."""
        self._world.rows.missed(event_id, target, tried, ends_by)

    async def revoke_all_credit(self, timeout: float) -> None:
        await self._write(lambda sql: sql.revoke_all_credit(), timeout)
        await self._world.takes(self._world.weather.lag)

    async def queue(self, timeout: float) -> Mapping[str, float]:
        return await self._call(lambda: statements.queue(self._world.connection), timeout)

    async def lease(
        self,
        target: str,
        now: float,
        until: float,
        limit: int,
        timeout: float,
        early: Early | None = None,
    ) -> tuple[Due, ...]:
        if early is not None and self._world.weather.processes == 1:
            early = early._replace(request_window=(0.0, 0.0))  # its own memory is enough
        return await self._write(lambda sql: sql.lease(target, now, until, limit, early), timeout)

    async def usage(self, timeout: float) -> Usage:
        return statements.usage(self._world.connection, _LIMITS)

    async def _write(
        self,
        work: Callable[[Statements], T],
        timeout: float,
        late: Callable[[Statements], object] | None = None,
    ) -> T:
        rows = self._world.rows
        late = late or work
        return await self._call(lambda: work(rows), timeout, lambda: late(rows))

    async def _call(
        self, work: Callable[[], T], timeout: float, late: Callable[[], object] | None = None
    ) -> T:
        world = self._world
        world.boundary(self._process)
        begins, ends = world.weather.away
        if begins <= world.loop.time() < ends or world.happens(world.weather.store_fails):
            world.note("store")
            raise StoreFailed("io")
        if world.happens(world.weather.store_slow):
            too_late = timeout + world.weather.late_by
            seconds = world.random.choice((0.02, 0.3, too_late, too_late))
            if seconds >= timeout:
                world.note("store")
                if late is not None and world.random.random() < 0.5:
                    world.loop.call_later(seconds, late)
                await asyncio.sleep(timeout)
                raise StoreFailed("slow")
            await asyncio.sleep(seconds)
        world.boundary(self._process)
        result = work()
        world.boundary(self._process)
        if world.weather.store_slow:
            await world.takes(0.01)
        return result
