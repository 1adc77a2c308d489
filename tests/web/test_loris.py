"""Slow callers by the hundred, and honest ones among them.

`LORIS=2000 make test ARGS=tests/web/test_loris.py` is the full size; it takes half a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import multiprocessing
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from router.app import App
from router.config import loading
from router.config.settings import Settings
from router.net.http.connection import Limits
from router.net.listening import listen
from router.process.running import run
from router.process.server import Server
from router.telemetry.log import Log
from tests.support.house import PATIENCE, routes
from tests.support.load import Load
from tests.support.wire import PROBE, chunk, chunked, post

#: The number of connections that are slow at a time, and the test's length in seconds.
LORIS = int(os.environ.get("LORIS", "300"))
SECONDS = 4.0 if LORIS < 1000 else 25.0

#: Deadlines that pass several times within the test.
LIMITS = Limits(first_byte=SECONDS / 4, receive=SECONDS / 4, reply=SECONDS / 4)

#: The most memory that one slow connection, and all of them, may cost the router, in bytes.
EACH = 40_000
ALL = LIMITS.unfinished + 40_000_000


def serve(ready: Connection) -> None:
    """Run a router in a process of its own; it accepts every event and forwards none, so that no
    target keeps requests in its memory."""
    table = routes({"nobody": "http://127.0.0.1:9/"}, match="no.such.event.key", unmatched="accept")
    loaded = loading.parse(json.dumps(table).encode(), "routes.yaml", {}, None)
    app = App(Settings(store=None), loaded, Log(io.StringIO(), "json"))
    listener = listen("127.0.0.1", 0)
    # Small, so that unread replies soon fill it.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    server = Server(app.entry, listener, lifespan=app.lifespan, drain_timeout=1, limits=LIMITS)

    async def announce() -> None:
        ready.send(listener.getsockname()[1])
        loop = asyncio.get_running_loop()
        loop.add_reader(ready.fileno(), stop, loop)

    def stop(loop: asyncio.AbstractEventLoop) -> None:
        """The test has closed its end, or has died."""
        loop.remove_reader(ready.fileno())
        server.stop()

    run(server, then=announce)


@contextmanager
def router() -> Iterator[tuple[int, int]]:
    """Run a router; yield its port and process id."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(theirs,))
    process.start()
    theirs.close()
    try:
        assert ours.poll(PATIENCE)
        assert process.pid is not None
        yield ours.recv(), process.pid
    finally:
        ours.close()
        process.join(PATIENCE)
        assert process.exitcode == 0


def slowly(*beginning: bytes, then: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: itertools.chain(beginning, itertools.repeat(then))


#: Most of the largest body that is allowed.
MUCH = post(body=b" " * 1_000_000)

#: The bytes of each kind of slow connection, piece by piece.
KINDS = {
    "silent": slowly(then=b""),
    "a head that trickles": slowly(post()[:25], then=b"A: b\r\n"),
    "a body that trickles": slowly(post(body=b" " * 9_000)[:200], then=b" "),
    "chunks that trickle": slowly(chunked(), then=chunk(b" ")),
    "a large body whose end trickles": slowly(
        *(MUCH[at : at + 100_000] for at in range(0, 900_000, 100_000)), then=b" "
    ),
    "never reads": slowly(then=PROBE),
}


class Slow:
    """A series of slow connections."""

    def __init__(self, port: int, kind: int) -> None:
        self._port = port
        self._kind = [*KINDS][kind % len(KINDS)]
        #: The number of times that the router has ended the connection.
        self.ended = 0
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self._socket.connect(("127.0.0.1", self._port))
        self._says = KINDS[self._kind]()

    def go_on(self) -> None:
        """Send the next piece; connect again if the connection has ended."""
        try:
            with contextlib.suppress(BlockingIOError):
                self._socket.send(next(self._says))
            if self._kind != "never reads":
                with contextlib.suppress(BlockingIOError):
                    while self._socket.recv(4096):
                        pass
                    raise ConnectionResetError
        except OSError:
            self.close()
            self.ended += 1
            self._connect()

    def close(self) -> None:
        self._socket.close()


def memory_of(process: int) -> int:
    """Return the memory of the process, in bytes."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_slow_callers_cost_honest_ones_nothing() -> None:
    """At least 999 of 1,000 honest requests succeed; slow connections end, in bounded memory."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < LORIS + 200:
        pytest.skip("too few open files are allowed here")
    with router() as (port, process):
        before = most = memory_of(process)
        until = time.monotonic() + SECONDS
        slow = [Slow(port, number) for number in range(LORIS)]
        honest = Load(port)
        with honest.running(callers=4):
            while time.monotonic() < until:
                for connection in slow:
                    connection.go_on()
                most = max(most, memory_of(process))
                time.sleep(SECONDS / 200)
        for connection in slow:
            connection.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    answers = honest.replies
    assert answers["000"] > 20  # enough for the share below to mean something
    assert answers["000"] >= 0.999 * answers.total()
    assert most - before < ALL + EACH * LORIS
    for number, kind in enumerate(KINDS):
        assert all(connection.ended for connection in slow[number :: len(KINDS)]), kind
