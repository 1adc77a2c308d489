"""Running services on one loop: signals, limits of the process, files that are watched."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

import uvloop

from router.config.reload import LOOK_EVERY
from router.config.settings import Settings
from router.model.errors import RouterError
from router.net.http.connection import Limits
from router.net.listening import files_allowed
from router.net.loops import happens
from router.telemetry.log import Log
from router.telemetry.log.foreign import place_of

#: How long the loop waits for the interpreter while another thread has it, in seconds, such as one
#: that reads a configuration or renders metrics. Python's default of 0.005 is more than an event
#: takes in all, and each step of the loop might wait for it.
_TURN = 0.0005

#: The signals that stop services.
STOPS = (signal.SIGINT, signal.SIGTERM)


class Service:
    """A service that `run` runs. This one is up at once, does nothing, and stops at once."""

    def __init__(self) -> None:
        self._stopped = asyncio.Event()

    async def serve(self) -> None:
        """Serve until stopped. Raises StartFailed if it can't start."""
        await self._stopped.wait()

    async def up(self) -> None:
        """Return once it serves, or has failed to."""

    def stop(self) -> None:
        """Take no more, finish the work in flight, and return from `serve`."""
        self._stopped.set()

    def hurry(self) -> None:
        """Stop, and don't wait for the work in flight."""
        self.stop()


def run(*services: Service, then: Callable[[], Awaitable[Any]] | None = None) -> None:
    """Start the services one after the other; stop them in reverse order, each once the one after
    it is done.

    They are stopped by SIGINT or SIGTERM, a second of which hurries, and when one of them ends.
    `then` runs once all are up; if it raises, they are stopped and the error is raised. Raises
    StartFailed if one of them does not start.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if (allowed := files_allowed()) > soft != resource.RLIM_INFINITY:  # services often get 1,024
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    os.umask(0o077)  # files are for this user alone
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold secrets
    _tune_collector()
    sys.setswitchinterval(_TURN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(services, then))
    for number in STOPS:  # a signal after the stop does not make it a failure
        signal.signal(number, signal.SIG_IGN)


def _tune_collector() -> None:
    """Exclude the objects of the start from collections, and collect every 5,000 new objects, not
    every 700: an event makes some 150, of which hardly any is garbage in a cycle. Together this
    saves some 5 % of an event's CPU time, in alternating runs of `make profile`."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 10, 10)


async def _run(services: Sequence[Service], then: Callable[[], Awaitable[Any]] | None) -> None:
    over = asyncio.Event()
    #: The services that were started, in that order.
    serving: list[tuple[Service, asyncio.Task[None]]] = []

    def on_signal() -> None:
        if over.is_set():
            for service, _ in serving:
                service.hurry()
        over.set()

    async def start() -> None:
        try:
            for service in services:
                task = asyncio.create_task(service.serve())
                task.add_done_callback(lambda _: over.set())
                serving.append((service, task))
                await service.up()
                if task.done():
                    return
            if then is not None:
                await then()
        except BaseException:
            over.set()
            raise

    for number in STOPS:
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    starting = asyncio.create_task(start())
    await over.wait()
    starting.cancel()
    for service, task in reversed(serving):
        service.stop()
        await asyncio.wait({task})
    for _, task in serving:
        task.result()
    with contextlib.suppress(asyncio.CancelledError):
        await starting


def caller_limits(settings: Settings) -> Limits:
    """Return the limits of the callback port: callers that keep connections open, as balancers
    do, have room for more of them than there may be requests."""
    return Limits(connections=4 * settings.max_requests)


T = TypeVar("T")


class Watch(Service, Generic[T]):
    """A Service that takes the contents of files once they have changed and can be used; until then
    the last good ones stay in force.

    Two looks in a row have to agree: a file that is being written is often valid up to the point
    its writer has reached, and a certificate is written beside its key.
    """

    def __init__(
        self,
        option: str,
        known: T,
        read: Callable[[], T],
        take: Callable[[T], None],
        log: Log,
        every: float = LOOK_EVERY,
    ) -> None:
        """`known` is in force. `read` is called in a thread, and raises RouterError for contents
        that can't be used; equal results mean the same contents."""
        super().__init__()
        self._option = option
        self._read = read
        self._take = take
        self._log = log
        self._every = every
        #: The contents that were last taken, or why they were refused.
        self._seen: T | str = known

    async def serve(self) -> None:
        before = self._seen
        while not await happens(self._stopped, self._every):
            contents = await asyncio.to_thread(self._look)
            if contents == before != self._seen:
                self._handle(contents)
            before = contents

    def _look(self) -> T | str:
        """Return the contents, or why they can't be used."""
        try:
            return self._read()
        except RouterError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - a service that ends stops all others
            return f"a fault of the router: {place_of(error)}"

    def _handle(self, contents: T | str) -> None:
        self._seen = contents
        if isinstance(contents, str):
            problems = contents.split("\n")
            self._log.error("reread", what=self._option, result="refused", problems=problems)
        else:
            self._take(contents)
            self._log.info("reread", what=self._option, result="taken")
