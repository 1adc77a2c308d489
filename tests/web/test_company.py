"""Replies of a busy router wait for the end of the loop's turn; none is lost or overtaken."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from router.net.http.connection import Tally
from router.net.listening import listen
from router.net.loops import COMPANY
from router.process.server import Server
from tests.support.engines import LONG
from tests.support.loops import BOTH, on
from tests.support.waiting import until
from tests.support.wire import head

pytestmark = pytest.mark.anyio

_POST = (b"POST / HTTP/1.1", b"Host: x", b"X-Request-Id: 1")
REQUEST = head(*_POST, b"Content-Length: 0")
WAITING = head(*_POST, b"Content-Length: 5", b"Expect: 100-continue")
BROKEN = b"\0\r\n\r\n"


anyio_backend = on(BOTH)


ACTS: dict[str, tuple[Callable[[socket.socket], object], bytes, list[str]]] = {
    "a half-close": (lambda caller: caller.shutdown(socket.SHUT_WR), b"\r\n\r\n{", []),
    "an interim reply": (
        lambda caller: caller.send(WAITING),
        b"100 Continue\r\n\r\n",
        ["100 Continue"],
    ),
    "a refusal": (lambda caller: caller.send(BROKEN), b'"400"', ["400 Bad Request"]),
}


@pytest.mark.parametrize("act", ACTS)
async def test_nothing_overtakes_a_reply_that_waits(act: str) -> None:
    """Neither the end of the connection nor a later reply does."""
    does, last, then = ACTS[act]
    async with asked() as (caller, call):
        await answer_while(call, lambda: does(caller))
        assert await received(caller, last) == ["200 OK", *then]


async def test_a_connection_that_is_ended_sends_waiting_replies() -> None:
    async with asked() as (caller, call):
        await call.answer()
        for connection in call.tally.connections:
            connection.end()
        assert await received(caller, b"\r\n\r\n{") == ["200 OK"]


class Held:
    """An application whose requests are answered by the test."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.send: Any = None
        self._over = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["type"] == "http":
            self.send = send
            await self._over.wait()

    async def answer(self) -> None:
        """Reply within one turn of the loop."""
        headers = [(b"content-length", b"2")]
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        await self.send({"type": "http.response.body", "body": b"{}"})
        self._over.set()


@asynccontextmanager
async def asked() -> AsyncIterator[tuple[socket.socket, Held]]:
    """Yield a caller and its unanswered request, at a busy router."""
    held = Held()
    server = Server(held, listen("127.0.0.1", 0))
    held.tally = server.tally
    serving = asyncio.create_task(server.serve())
    await server.up()
    with company(server.tally), socket.create_connection(server.listener.getsockname()) as caller:
        caller.setblocking(False)
        caller.send(REQUEST)
        try:
            await until(lambda: held.send is not None)
            yield caller, held
        finally:
            for connection in list(server.tally.connections):
                connection.transport.abort()
            await until(lambda: not server.tally.connections)
    server.stop()
    server.hurry()
    await serving


@contextmanager
def company(tally: Tally) -> Iterator[None]:
    others = [asyncio.create_task(asyncio.sleep(LONG)) for _ in range(COMPANY + 1)]
    tally.tasks.update(others)
    yield
    for other in others:
        other.cancel()
    tally.tasks.difference_update(others)


async def answer_while(call: Held, act: Callable[[], object]) -> None:
    """Reply so that the reply is still waiting when the loop sees the caller's act.

    asyncio looks at its sockets before it runs due callbacks, and uvloop afterwards.
    """
    if isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop):
        act()
        await asyncio.sleep(0)
        await call.answer()
    else:
        await call.answer()
        act()


async def received(caller: socket.socket, last: bytes) -> list[str]:
    """Return the status of each reply that arrives, up to `last` or the end."""
    loop, received, more = asyncio.get_running_loop(), b"", b"."
    while last not in received and more:
        more = await asyncio.wait_for(loop.sock_recv(caller, 65536), LONG)
        received += more
    parts = received.decode().split("HTTP/1.1 ")[1:]
    return [part.partition("\r\n")[0] for part in parts]
