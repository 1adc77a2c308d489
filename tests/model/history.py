"""One history: callers with their schedules, routers that die and come back, until all is over."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from router.delivery.forwarder import STORE_TIME
from router.model.event import Event
from tests.model.checks import credit, violations
from tests.model.loop import VirtualLoop
from tests.model.weather import Weather, weather
from tests.model.world import CALLER_TIMEOUT, TERMS, Process, Request, Source, World

#: How long after the last caller everything has to be settled, in seconds.
_PATIENCE = 1500.0


@dataclass(frozen=True, slots=True)
class Verdict:
    seed: int
    weather: Weather
    #: What was broken, in words.
    violations: tuple[str, ...]
    #: What a target saw again, by cause.
    duplicates: dict[str, int]
    attempts: int


def play(seed: int, given: Weather | None = None) -> Verdict:
    """The history of that seed, always the same."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    loop.set_task_factory(_task_factory)
    faults: list[str] = []
    loop.set_exception_handler(lambda _, context: faults.append(_fault(context)))
    world = World(seed, given or weather(seed), loop)
    try:
        loop.run_until_complete(_history(world))
        found = violations(world)
        for process in world.processes:
            process.alive = False
            for task in process.tasks:
                task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        world.connection.close()
        loop.close()
        asyncio.set_event_loop(None)
    broken = (*faults, *world.faults, *found.broken)
    return Verdict(seed, world.weather, broken, found.duplicates, len(world.sent))


def _task_factory(loop: asyncio.AbstractEventLoop, work, **options):  # type: ignore[no-untyped-def]
    from tests.model.world import _PROCESS

    task = asyncio.Task(work, loop=loop, **options)
    process = _PROCESS.get()
    if process is not None:
        process.tasks.add(task)
        task.add_done_callback(process.tasks.discard)
        if not process.alive:
            task.cancel()
    return task


def _fault(context: dict[str, object]) -> str:
    error = context.get("exception")
    return f"{context.get('message')}: {error!r}"


async def _history(world: World) -> None:
    given = world.weather
    for _ in range(given.processes):
        world.processes.append(Process(world))
        asyncio.create_task(_keep_up(world, len(world.processes) - 1))  # noqa: RUF006
    for at, step in given.steps:
        world.loop.call_later(at, _step, world, step)
    for at in given.changes:
        world.loop.call_later(at, _change, world)
    starts = given.starts or sorted(
        world.random.uniform(0.0, given.span) for _ in range(given.events)
    )
    callers = []
    for number, start in enumerate(starts):
        body = b"body %d" % world.random.randrange(given.bodies)
        source = Source(number, Event("a", "b", "c", "1", "a.b.c.1", body))
        world.sources.append(source)
        callers.append(asyncio.create_task(_caller(world, source, start)))
    await asyncio.gather(*callers)
    world.calm = True
    waited = 0.0
    while waited < _PATIENCE and not _settled(world):
        await asyncio.sleep(10.0)
        waited += 10.0


def _settled(world: World) -> bool:
    query = (
        "SELECT (SELECT count(*) FROM events WHERE stage = 'open') + "
        "(SELECT count(*) FROM deliveries WHERE state IN ('awaiting', 'queued'))"
    )
    (count,) = world.connection.execute(query).fetchone()
    return not count and not world.open_requests


def _step(world: World, seconds: float) -> None:
    world.step += seconds
    world.note("expired")
    world.unknowable |= {source.event.body for source in world.sources}


def _change(world: World) -> None:
    if len(world.targets) > 1:
        world.change_plan()
        world.changed = True


async def _keep_up(world: World, place: int) -> None:
    """Start a process again some time after it has died."""
    while True:
        await world.processes[place].down
        await asyncio.sleep(world.random.choice((0.1, 1.0, 20.0)))
        world.processes[place] = Process(world)


async def _caller(world: World, source: Source, start: float) -> None:
    await asyncio.sleep(start)
    for made in range(TERMS.ebaas.retries + 1):
        source.answered = await _request(world, source)
        wait = TERMS.ebaas.wait(made)
        if source.answered or wait is None or world.happens(world.weather.forgets):
            break
        await asyncio.sleep(wait + world.random.uniform(0.0, 0.3))
    source.over = True


async def _request(world: World, source: Source) -> bool:
    """Make one request; return whether the caller has read a `000`."""
    given = world.weather
    alive = [process for process in world.processes if process.alive]
    if world.happens(given.request_lost) or not alive:
        await world.takes(1.0)
        return False
    process = world.random.choice(alive)
    request = Request(source, world.loop.create_future(), world.loop.create_future(), process)
    _note_arrival(world, request)
    world.open_requests.append(request)
    handling = process.spawn(process.handle(request))
    handling.add_done_callback(lambda _: world.open_requests.remove(request))
    hang_up = world.happens(given.hangs_up)
    patience = world.random.uniform(0.0, given.patience) if hang_up else CALLER_TIMEOUT
    await asyncio.wait(
        {request.reply, process.down}, timeout=patience, return_when=asyncio.FIRST_COMPLETED
    )
    source.last_contact = world.loop.time()
    if not request.reply.done():
        _leave(world, request, process)
        return False
    if request.reply.result() and world.happens(given.reply_lost):
        world.note("reply_lost", source)
        return False
    return request.reply.result()


def _leave(world: World, request: Request, process: Process) -> None:
    """The caller has gone. A proxy may keep the request alive."""
    request.reply.add_done_callback(lambda reply: _unread(world, request))
    if world.happens(world.weather.unnoticed):
        world.note("overlap", request.source)
        if world.weather.processes > 1:
            world.unknowable.add(request.source.event.body)
    else:
        world.loop.call_later(world.random.choice((0.0, 0.05)), _notice, world, request)


def _notice(world: World, request: Request) -> None:
    request.gone_at = world.loop.time()
    request.gone.set_result(None)


def _unread(world: World, request: Request) -> None:
    """A reply that nobody reads; there is no excuse for a `000` once the router knows that."""
    # It is too late for the one whose decision was under way, or was made by the hang-up itself.
    at = request.gone_at
    known = at is not None and not 0.0 < world.loop.time() - at <= STORE_TIME
    if not request.reply.cancelled() and request.reply.result() and not known:
        world.note("reply_lost", request.source)


def _note_arrival(world: World, request: Request) -> None:
    """Note a retry that overlaps its request, or comes too late: a router cannot recognize it."""
    source, now = request.source, world.loop.time()
    if source.arrived is None:
        source.arrived = now
    elif now - source.last_contact > credit(source.requests) - 1.0:
        world.note("expired", source)
    source.requests += 1
    for other in world.open_requests:
        if other.source.event.body == source.event.body:
            if not (other.reply.done() or other.gone.done()):
                world.note("overlap", source)
            if other.process is not request.process:
                world.note("other_process", source)
