"""Any ASGI application behind our connection: its response arrives, framed as HTTP."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Any

import pytest

from router.net.http.connection import Limits
from router.net.listening import listen
from router.net.loops import COMPANY
from router.process.server import Server
from tests.support.engines import LONG
from tests.support.loops import BOTH
from tests.support.servers import served
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

Answer = Callable[[Any, Any], Awaitable[None]]

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\n\r\n"


class Application:
    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.scopes: list[Any] = []
        self.errors: list[BaseException] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        try:
            await self._answer(receive, send)
        except Exception as error:
            self.errors.append(error)
            raise


@asynccontextmanager
async def reached(
    application: Any, limits: Limits | None = None
) -> AsyncIterator[tuple[Server, asyncio.StreamReader, asyncio.StreamWriter]]:
    server = Server(application, listen("127.0.0.1", 0), limits=limits, drain_timeout=0.2)
    async with served(server):
        reader, writer = await asyncio.open_connection(*server.listener.getsockname())
        with closing(writer):
            yield server, reader, writer


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def saying(*messages: dict[str, Any]) -> Answer:
    async def answer(_: Any, send: Any) -> None:
        for message in messages:
            await send(dict(message))

    return answer


LENGTH = (b"content-length", b"6")
PARTS = (body(b"abc", more=True), body(b"", more=True), body(b"def"))

#: The request, the application's messages, the bytes after the head, and whether the connection
#: stays.
ROWS = {
    "in one": (GET, (start(LENGTH), body(b"abcdef")), b"abcdef", True),
    "in parts": (GET, (start(LENGTH), *PARTS), b"abcdef", True),
    "of no known length": (GET, (start(), *PARTS), b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n", True),
    "chunked by its own word": (
        GET,
        (start((b"Transfer-Encoding", b"chunked")), body(b"abc")),
        b"3\r\nabc\r\n0\r\n\r\n",
        True,
    ),
    "to HEAD": (HEAD, (start(LENGTH), body(b"abcdef")), b"", True),
    "none at all": (GET, (start(status=204), body()), b"", True),
    "to HTTP/1.0": (OLD, (start(LENGTH), body(b"abcdef")), b"abcdef", False),
    "to HTTP/1.0, of no known length": (OLD, (start(), *PARTS), b"abcdef", False),
    "with connection: close": (
        GET,
        (start(LENGTH, (b"Connection", b"close")), body(b"abcdef")),
        b"abcdef",
        False,
    ),
}


@pytest.mark.parametrize("name", ROWS)
async def test_a_body(name: str) -> None:
    """The peer can tell where a body ends, however it was sent."""
    asked, messages, output, stays = ROWS[name]
    async with reached(Application(saying(*messages))) as (_, reader, writer):
        for _ in range(2 if stays else 1):
            writer.write(asked)
            top = await reader.readuntil(b"\r\n\r\n")
            assert top.startswith(b"HTTP/1.1 %d " % messages[0]["status"])
            assert (b"connection: close" in top) is not stays
            if output.endswith(b"0\r\n\r\n"):
                assert top.count(b"\r\ntransfer-encoding: chunked\r\n") == 1
            assert top.count(b"\r\ndate: ") == 1
            assert await reader.readexactly(len(output)) == output
        if not stays:
            assert await reader.read() == b""


async def test_a_stream_arrives_part_by_part() -> None:
    """The head leaves before the first part, and each part by itself. The application gets
    `http.disconnect` if the peer goes."""
    over = asyncio.Event()
    answer_on: list[Any] = []

    async def answer(receive: Any, send: Any) -> None:
        answer_on.append(await receive())
        await send(start((b"content-type", b"text/event-stream")))
        await over.wait()
        await send(body(b"data: 1\n\n", more=True))
        answer_on.append(await receive())

    async with reached(Application(answer)) as (_, reader, writer):
        writer.write(GET)
        assert b"text/event-stream" in await reader.readuntil(b"\r\n\r\n")
        over.set()
        assert await reader.readuntil(b"\n\n\r\n") == b"9\r\ndata: 1\n\n\r\n"
        writer.close()
        await until(lambda: len(answer_on) == 2)
    assert answer_on == [
        {"type": "http.request", "body": b"", "more_body": False},
        {"type": "http.disconnect"},
    ]


@pytest.mark.parametrize("apart", [False, True])
async def test_a_hang_up_behind_a_surplus_is_noticed(apart: bool) -> None:
    """With pipelined bytes in the request or after it, the application gets `http.disconnect` at
    once."""
    answer_on: list[dict[str, Any]] = []
    begun = asyncio.Event()

    async def answer(receive: Any, _: Any) -> None:
        begun.set()
        answer_on.extend([await receive(), await receive()])

    async with reached(Application(answer)) as (server, _, writer):
        writer.write(GET if apart else GET * 9)
        await begun.wait()
        if apart:
            writer.write(GET * 9)
        writer.close()
        await until(lambda: len(answer_on) == 2)
        assert answer_on[1] == {"type": "http.disconnect"}
        await until(lambda: not server.tally.connections)


async def test_a_surplus_is_read_up_to_a_bound() -> None:
    """A caller that never stops sending fills only the network's buffers."""
    over = asyncio.Event()

    async def answer(_: Any, send: Any) -> None:
        await over.wait()
        await saying(start(LENGTH), body(b"abcdef"))(None, send)

    async with reached(Application(answer), Limits(head=1000)) as (server, reader, writer):
        writer.write(GET + b"x" * 20_000_000)
        await until(lambda: bool(server.tally.connections))
        (connection,) = server.tally.connections
        await until(lambda: not connection.transport.is_reading())
        assert writer.transport.get_write_buffer_size() > 10_000_000
        over.set()
        assert (await reader.readuntil(b"abcdef")).startswith(b"HTTP/1.1 200 ")


async def test_a_stream_waits_for_a_slow_reader() -> None:
    """A stream holds little of the data that its peer has not read."""
    sent = 0

    async def answer(_: Any, send: Any) -> None:
        nonlocal sent
        await send(start())
        for _ in range(300):
            await send(body(b"x" * 10_000, more=True))
            sent += 10_000
        await send(body())

    async with reached(Application(answer)) as (_, reader, writer):
        writer.write(GET)
        await until(lambda: sent > 0)
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.1)
        assert sent < 2_000_000
        while not (await reader.read(1_000_000)).endswith(b"0\r\n\r\n"):
            pass
    assert sent == 3_000_000


# Replies of a busy router wait for the end of the loop's turn.

ASKED = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: "

#: The caller's act, or its server's, while a reply waits; the last bytes then, and the statuses.
ACTS: dict[str, tuple[Callable[[socket.socket, Server], object], bytes, list[str]]] = {
    "a half-close": (lambda caller, _: caller.shutdown(socket.SHUT_WR), b"\r\n\r\n{}", []),
    "the router's end": (
        lambda _, server: [each.end() for each in server.tally.connections],
        b"\r\n\r\n{}",
        [],
    ),
    "an interim reply": (
        lambda caller, _: caller.send(ASKED + b"5\r\nExpect: 100-continue\r\n\r\n"),
        b"100 Continue\r\n\r\n",
        ["100 Continue"],
    ),
    "a refusal": (lambda caller, _: caller.send(b"\0\r\n\r\n"), b'"400"', ["400 Bad Request"]),
}


@pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {"use_uvloop": uv}) for uv in BOTH.values()], ids=BOTH
)
@pytest.mark.parametrize("act", ACTS)
async def test_nothing_overtakes_a_reply_that_waits(act: str) -> None:
    """Neither the end of the connection nor a later reply does, and none is lost."""
    asked, may_end = asyncio.get_running_loop().create_future(), asyncio.Event()

    async def answer(receive: Any, send: Any) -> None:
        await receive()
        asked.set_result(send)
        await may_end.wait()

    acts, last, then = ACTS[act]
    async with reached(Application(answer)) as (server, _, _):
        with socket.create_connection(server.listener.getsockname()) as caller, busy(server):
            caller.setblocking(False)
            caller.send(ASKED + b"0\r\n\r\n")
            reply = saying(start((b"content-length", b"2")), body(b"{}"))(None, await asked)
            # asyncio looks at its sockets before it runs due callbacks, and uvloop afterwards.
            looks_first = isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop)
            if looks_first and act != "the router's end":
                acts(caller, server)
                await asyncio.sleep(0)
                await reply
            else:
                await reply
                acts(caller, server)
            may_end.set()
            assert await statuses(caller, last) == ["200 OK", *then]


@contextmanager
def busy(server: Server) -> Iterator[None]:
    """Give the server so many tasks that its replies wait."""
    others = {asyncio.create_task(asyncio.sleep(LONG)) for _ in range(COMPANY + 1)}
    server.tally.tasks.update(others)
    yield
    for other in others:
        other.cancel()
    server.tally.tasks.difference_update(others)


async def statuses(caller: socket.socket, last: bytes) -> list[str]:
    """Return the status of each reply that arrives, up to `last` or the end."""
    loop, come, more = asyncio.get_running_loop(), b"", b"."
    while last not in come and more:
        more = await asyncio.wait_for(loop.sock_recv(caller, 65536), LONG)
        come += more
    return [part.partition("\r\n")[0] for part in come.decode().split("HTTP/1.1 ")[1:]]


async def raising(*_: Any) -> None:
    """Raise the error of a task group, which is not an Exception."""
    raise BaseExceptionGroup("group", [GeneratorExit()])


@pytest.mark.parametrize(
    "answer",
    [
        saying(),
        saying(body()),
        saying(start((b"a", b"b\r\nc: d")), body()),
        saying(start((b"a\n", b"b")), body()),
        saying(start(LENGTH), body(b"abc")),
        saying(start(LENGTH), body(b"abcdefg")),
        saying(start(LENGTH), start(LENGTH)),
        raising,
    ],
    ids=range(8),
)
async def test_an_application_without_a_response_gets_a_500(
    answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    """An application that raises, says nothing, or sends an invalid response is logged."""
    with caplog.at_level(logging.ERROR):
        async with reached(Application(answer)) as (_, reader, writer):
            writer.write(GET)
            reply = await reader.read()
    assert reply.startswith(b"HTTP/1.1 500 ")
    assert reply.count(b"HTTP/1.1") == 1
    assert b'"code":"500"' in reply
    assert len(caplog.records) == 1


async def test_half_a_response_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    """The caller sees that the rest is missing."""

    async def answer(_: Any, send: Any) -> None:
        await send(start())
        await send(body(b"abc", more=True))
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR):
        async with reached(Application(answer)) as (_, reader, writer):
            writer.write(GET)
            assert (await rest_of(reader)).endswith(b"\r\n\r\n3\r\nabc\r\n")
    assert len(caplog.records) == 1


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    come = b""
    try:
        while more := await reader.read(1_000):
            come += more
    except ConnectionError:
        pass
    return come


async def test_a_call_may_outlive_its_response() -> None:
    """The next request is served meanwhile, and messages after the end are dropped."""
    over = asyncio.Event()
    after: list[Any] = []

    async def answer(receive: Any, send: Any) -> None:
        await saying(start(LENGTH), body(b"abcdef"))(receive, send)
        await over.wait()
        await send(body(b"more"))
        after.append(await receive())

    async with reached(Application(answer)) as (server, reader, writer):
        for _ in range(3):
            writer.write(GET)
            await reader.readuntil(b"abcdef")
        assert len(server.tally.tasks) == 3
        over.set()
        await until(lambda: not server.tally.tasks)
        writer.write(GET)
        assert (await reader.readuntil(b"abcdef")).startswith(b"HTTP/1.1 200 ")
    assert after == [{"type": "http.disconnect"}] * 4


async def test_a_body_is_read_as_the_application_receives_it() -> None:
    """A slow application holds little of a body, and gets all of it in the end."""
    may = asyncio.Event()
    got = bytearray()

    async def answer(receive: Any, send: Any) -> None:
        await may.wait()
        more = True
        while more:
            message = await receive()
            got.extend(message["body"])
            more = message["more_body"]
        await saying(start(LENGTH), body(b"abcdef"))(receive, send)

    size = 20_000_000
    async with reached(Application(answer)) as (server, reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        writer.write(b"x" * size)
        before = -1
        while before != server.tally.unfinished or before <= 0:
            before = server.tally.unfinished
            await asyncio.sleep(0.1)
        assert before < 2_000_000
        may.set()
        await reader.readuntil(b"abcdef")
    assert len(got) == size
