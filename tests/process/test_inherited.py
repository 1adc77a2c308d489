"""A socket that outlives the router, as systemd's does. Real processes under load."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from router.process.server import Server
from tests.support.certificates import issued, trusting
from tests.support.command import start_failure
from tests.support.effort import LONG
from tests.support.load import Load
from tests.support.serving import Serving, Target, serving, target
from tests.support.wire import PROBE

#: How often it is restarted under load, by how it runs; in full with LONG=1: `make test-long`.
RESTARTS = {"plain": 50, "with TLS": 10} if LONG else {"plain": 1, "with TLS": 1}


@pytest.fixture
def held() -> Iterator[socket.socket]:
    """A listening socket of the test, which is the parent here."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        yield listener


@pytest.fixture
def endpoint() -> Iterator[Target]:
    with target() as endpoint:
        yield endpoint


@pytest.mark.parametrize("kind", RESTARTS)
def test_restarts_under_load_fail_no_request(
    tmp_path: Path, held: socket.socket, endpoint: Target, kind: str
) -> None:
    """Each request is answered 000, on new connections and kept ones: none is lost."""
    options: list[str] = []
    if kind == "with TLS":
        pair = issued(tmp_path)
        options = ["--tls-cert", str(pair.cert), "--tls-key", str(pair.key)]
    load = Load(held.getsockname()[1], trusting(tmp_path) if options else None)
    with ExitStack() as stack:

        def started() -> Serving:
            at = serving(tmp_path, {"one": endpoint}, options=options, how={"handed": {"": held}})
            return stack.enter_context(at)

        router = started()
        with load.running():
            for _ in range(RESTARTS[kind]):
                load.go_on()
                assert router.interrupt(signal.SIGTERM) == 0
                router = started()
            load.go_on()
    assert set(load.replies) == {"000"}
    assert load.kept > 0
    assert set(load.acknowledged) <= {got.event for got in endpoint.got}


@pytest.mark.parametrize("turns", range(12))
def test_a_connection_accepted_during_a_stop_is_served(turns: int) -> None:
    """It gets its reply before the lifespan ends, or waits for the next process."""
    with (
        socket.create_server(("127.0.0.1", 0)) as held,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        held.settimeout(0)
        with runner.run(asked_in_a_stop(held, turns)) as caller:
            caller.settimeout(0)
            try:
                assert caller.recv(100).startswith(b"HTTP/1.1 204 ")
            except BlockingIOError:
                held.accept()[0].close()


async def asked_in_a_stop(held: socket.socket, turns: int) -> socket.socket:
    """Send a request so many turns of the loop after a server began to stop."""
    lives = True

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        nonlocal lives
        yield
        lives = False

    async def application(scope: Any, receive: Any, send: Any) -> None:
        status = 204 if lives else 500
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body"})

    server = Server(application, held.dup(), lifespan=lifespan, inherited=True)
    serving = asyncio.create_task(server.serve())
    await server.up()
    server.stop()
    for _ in range(turns):
        await asyncio.sleep(0)
    caller = socket.create_connection(held.getsockname())
    caller.sendall(PROBE)
    await serving
    return caller


def test_an_unusable_socket_is_one_line() -> None:
    """In one line, with exit code 3."""
    with socket.socket() as deaf, socket.create_server(("127.0.0.1", 0)) as one:
        assert start_failure(handed={"callbacks": deaf}) == (
            "ebaas-router: LISTEN_FDS: the socket is no TCP socket that listens"
        )
        assert start_failure(handed={"one": one, "two": one}) == (
            "ebaas-router: LISTEN_FDS is '2'; there may be one socket"
        )
