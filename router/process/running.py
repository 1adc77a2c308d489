"""Running services on one loop: signals, limits of the process, files that are watched."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

import uvloop

from router.config.reload import LOOK_EVERY
from router.config.settings import Settings
from router.model.errors import RouterError
from router.net.http.lifetime import Limits
from router.net.listening import files_allowed
from router.net.loops import happens
from router.telemetry.log import Log
from router.telemetry.log.foreign import place_of

#: How long the loop waits for the interpreter while another thread has it, in seconds: one that
#: reads a configuration, renders metrics or makes rows ready. Python's own 0.005 is more than all
#: of an event takes, and it may be waited for at each of the loop's steps.
_TURN = 0.0005

#: The signals that stop services.
STOPS = (signal.SIGINT, signal.SIGTERM)


class Service(Protocol):
    """What `run` runs."""

    async def serve(self) -> None:
        """Serve until stopped. Raises StartFailed when it could not start."""

    async def up(self) -> None:
        """Return once it serves, or has failed to."""

    def stop(self) -> None:
        """Take no more, finish what is in flight, and return from `serve`."""

    def hurry(self) -> None:
        """Stop, and don't wait for what is in flight."""


def run(*services: Service, then: Callable[[], Awaitable[Any]] | None = None) -> None:
    """Start the services one after the other; stop them in the reverse order, each once the one
    after it is done.

    They are stopped by SIGINT or SIGTERM, a second of which hurries, and when one of them ends.
    `then` runs once all are up; when it raises, they are stopped and it is raised on. Raises
    StartFailed when one of them does not start.
    """
    _allow_files()
    _keep_to_itself()
    _spare_the_collector()
    sys.setswitchinterval(_TURN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_Run(services).run(then))
    for number in STOPS:  # it has stopped: no further signal makes that a failure
        signal.signal(number, signal.SIG_IGN)


def _allow_files() -> None:
    """Go to the limit of open files that the system allows; many start a service with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = files_allowed()
    if allowed > soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _keep_to_itself() -> None:
    """What it writes is for its own user alone; and a crash leaves no memory, which holds secrets,
    in a file."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _spare_the_collector() -> None:
    """What the start has made stays: it is not looked through again and again. And an event makes
    some 150 objects, of which hardly any is garbage in a cycle, so that looking each 5,000 and not
    each 700 is enough. Together some 5 % of an event's CPU, in runs of `make profile` by turns."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 10, 10)


class _Run:
    """One run of services on one loop."""

    def __init__(self, services: tuple[Service, ...]) -> None:
        self._services = services
        #: Those that were started, in that order.
        self._serving: list[tuple[Service, asyncio.Task[None]]] = []
        self._over = asyncio.Event()

    async def run(self, then: Callable[[], Awaitable[Any]] | None) -> None:
        for number in STOPS:
            asyncio.get_running_loop().add_signal_handler(number, self._heed)
        starting = asyncio.create_task(self._start(then))
        await self._over.wait()
        starting.cancel()
        for service, task in reversed(self._serving):
            service.stop()
            await asyncio.wait({task})
        for _, task in self._serving:
            task.result()
        with contextlib.suppress(asyncio.CancelledError):
            await starting

    def _heed(self) -> None:
        if self._over.is_set():
            for service, _ in self._serving:
                service.hurry()
        self._over.set()

    async def _start(self, then: Callable[[], Awaitable[Any]] | None) -> None:
        try:
            for service in self._services:
                task = asyncio.create_task(service.serve())
                task.add_done_callback(lambda _: self._over.set())
                self._serving.append((service, task))
                await service.up()
                if task.done():
                    return
            if then is not None:
                await then()
        except BaseException:
            self._over.set()
            raise


def caller_limits(settings: Settings) -> Limits:
    """Return the limits of the callback port: callers that keep connections open, as balancers
    do, have room for more of them than there may be requests."""
    return Limits(connections=4 * settings.max_requests)


T = TypeVar("T")

#: Seconds after which what can't be used is complained of again.
REMIND_EVERY = 300.0


class Watch(Generic[T]):
    """A Service: what files say is taken once it has changed and can be used; until then the last
    that could stays in force. Two looks in a row have to agree: a file that is being written is
    often valid up to where its writer has come, and a certificate is written beside its key."""

    def __init__(
        self,
        option: str,
        known: T,
        read: Callable[[], T],
        take: Callable[[T], None],
        log: Log,
        every: float = LOOK_EVERY,
    ) -> None:
        """`known` is in force. `read` is called in a thread, and raises RouterError for what can't
        be used; two results that are equal say the same."""
        self._option = option
        self._read = read
        self._take = take
        self._log = log
        self._every = every
        self._stopped = asyncio.Event()
        #: What was last taken, or why it was refused.
        self._seen: T | str = known
        self._complained = float("-inf")

    async def serve(self) -> None:
        before = self._seen
        while not await happens(self._stopped, self._every):
            found = await asyncio.to_thread(self._look)
            if found == before:
                self._heed(found)
            before = found

    async def up(self) -> None:
        """At once."""

    def stop(self) -> None:
        self._stopped.set()

    def hurry(self) -> None:
        self.stop()

    def _look(self) -> T | str:
        """What they say, or in words why that can't be used."""
        try:
            return self._read()
        except RouterError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - a service that ends stops all others
            return f"a fault of the router: {place_of(error)}"

    def _heed(self, found: T | str) -> None:
        is_new = found != self._seen
        self._seen = found
        if isinstance(found, str):
            if is_new or time.monotonic() - self._complained > REMIND_EVERY:
                self._complained = time.monotonic()
                self._log.error(
                    "reread", what=self._option, result="refused", problems=found.split("\n")
                )
        elif is_new:
            self._take(found)
            self._log.info("reread", what=self._option, result="taken")
