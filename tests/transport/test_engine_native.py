"""Promises of the native engine alone."""

from __future__ import annotations

import asyncio
import gc
import socket
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest

from router.model.event import Reason
from router.net.egress import Egress
from router.net.loops import COMPANY
from router.transport import native
from router.transport.answer import MAX_HEAD, Incoming, Unfit
from router.transport.engine import (
    MAX_ANSWER,
    MAX_PIECES,
    Answer,
    Failure,
    Pool,
    TargetExchange,
    as_it_came,
)
from router.transport.native import NativePool, Posted, TargetConnection
from tests.support.engines import (
    BODY,
    ENGINES,
    LONG,
    SHORT,
    Engine,
    certified,
    opened,
    post,
    trusting,
)
from tests.support.hostile import CHUNKED, HEAD, YES, answer, hostile
from tests.support.loops import BOTH, on
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


anyio_backend = on(BOTH)


async def test_idle_connections_close_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """After KEEP_ALIVE they are closed, even if no other request comes."""
    monkeypatch.setattr(native, "KEEP_ALIVE", 0.05)
    async with hostile("answers") as target, opened(NativePool, target.url) as opening:
        await asyncio.gather(*(post(opening) for _ in range(4)))
        await until(lambda: target.open == 0)
        await asyncio.gather(*(post(opening) for _ in range(4)))
        await until(lambda: target.open == 0)


async def test_no_connection_gets_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection older than MAX_AGE takes no further request, however busy it was."""
    monkeypatch.setattr(native, "MAX_AGE", 0.05)
    async with hostile("answers") as target, opened(NativePool, target.url) as opening:
        async with asyncio.timeout(LONG):
            while target.accepted < 2:
                assert isinstance(await post(opening), Answer)
        await until(lambda: target.open == 1)


async def test_the_memory_of_a_body_that_is_not_read_is_bounded() -> None:
    """Targets that do not read cost no copy of the body."""
    body = b" " * 20_000_000
    async with hostile("hangs") as target, opened(NativePool, target.url) as opening:
        tracemalloc.start()
        try:
            result = await asyncio.gather(*(post(opening, SHORT, body) for _ in range(4)))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert result == [Failure(Reason.TIMEOUT, delivered=True)] * 4
    assert peak < 10_000_000


async def test_an_early_acknowledgement_waits_for_the_last_byte_of_a_short_request() -> None:
    """A request so short that it was handed over at once still arrives whole."""
    loop = asyncio.get_running_loop()
    connection = TargetConnection(lambda _: None, lambda _: None)
    with narrow_pair() as (ours, target):
        await loop.create_connection(lambda: connection, sock=ours)
        coming = Posted(as_it_came, b"", b" " * 60_000, loop.time() + LONG)
        connection.begin(coming)
        await loop.sock_sendall(target, answer(YES))
        await until(lambda: connection._incoming is not None)
        assert not coming.is_over
        size = 0
        while size < 60_000:
            size += len(await loop.sock_recv(target, 65536))
        assert await asyncio.wait_for(coming, LONG) == Answer(200, YES)
        assert connection.is_idle
        connection.close()


async def test_a_refusal_before_the_last_byte_ends_the_connection() -> None:
    """A target that has not read the request would take the next one for the rest of it."""
    loop = asyncio.get_running_loop()
    connection = TargetConnection(lambda _: None, lambda _: None)
    with narrow_pair() as (ours, target):
        await loop.create_connection(lambda: connection, sock=ours)
        coming = Posted(as_it_came, b"", b" " * 200_000, loop.time() + LONG)
        connection.begin(coming)
        await loop.sock_sendall(target, answer(b"", status="413 Content Too Large"))
        assert (await asyncio.wait_for(coming, LONG)).status == 413
        assert not connection.is_idle


@contextmanager
def narrow_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Make a TCP connection that buffers little of unread data."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ours = socket.socket()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        ours.connect(listener.getsockname())
        ours.setblocking(False)
        target, _ = listener.accept()
        target.setblocking(False)
        with ours, target:
            yield ours, target


async def test_a_request_cancelled_before_its_turn_is_never_sent() -> None:
    """In company a request waits for the end of the turn: cancelled by then, it costs nothing."""
    results: list[Answer | Failure] = []
    async with hostile("answers") as target, opened(NativePool, target.url) as opening:
        company = await in_company(opening)
        opening.post(b"", BODY, LONG, results.append).cancel()
        assert await asyncio.gather(*company) == [Answer(200, YES)] * COMPANY
        assert len(target.requests) == 2 * COMPANY
    assert results == [Failure(Reason.STOPPED, delivered=False)]


async def test_a_closed_pool_fails_waiting_requests() -> None:
    """A request that has not begun was certainly not delivered."""
    async with hostile("answers") as target, opened(NativePool, target.url) as opening:
        company = await in_company(opening)
        waiting = opening.post(b"", BODY, LONG, as_it_came)
        await opening.close()
        assert waiting.is_over
        stopped = [Failure(Reason.STOPPED, delivered=True)] * COMPANY
        assert await asyncio.gather(*company) == stopped
        assert await waiting == Failure(Reason.STOPPED, delivered=False)


async def test_a_fault_of_our_own_ends_its_request() -> None:
    """The caller gets it and the slot is free, before and while a connection is opened."""
    loop, results = asyncio.get_running_loop(), list[Answer | Failure]()
    async with hostile("answers") as target, opened(NativePool, target.url) as opening:
        company = await in_company(opening)
        waiting = opening.post(b"", BODY, LONG, results.append)
        loop.set_task_factory(no_task)
        await asyncio.sleep(0)
        loop.set_task_factory(None)
        with pytest.raises(RuntimeError, match="no task"):
            await asyncio.wait_for(waiting, LONG)
        assert await asyncio.gather(*company) == [Answer(200, YES)] * COMPANY
        faulty = NativePool(target.url, egress=Faulty())
        with pytest.raises(RuntimeError, match="faulty"):
            await asyncio.wait_for(faulty.post(b"", BODY, LONG, results.append), LONG)
        await faulty.close()
    assert results == [Failure(Reason.STOPPED, delivered=False)] * 2


class Faulty(Egress):
    def refusal(self, address: str) -> str:
        raise RuntimeError("faulty")


def no_task(_: asyncio.AbstractEventLoop, work: Any, **__: Any) -> Any:
    work.close()
    raise RuntimeError("no task")


async def in_company(opening: Pool) -> list[TargetExchange[Answer | Failure]]:
    """Post so many requests that the next one waits for the end of the loop's turn."""
    await asyncio.gather(*(post(opening) for _ in range(COMPANY)))
    return [opening.post(b"", BODY, LONG, as_it_came) for _ in range(COMPANY)]


async def test_deadlines_are_each_their_own() -> None:
    """A short deadline after a long one on its connection is kept, and a long one after that."""
    async with (
        hostile("answers_late", seconds=SHORT) as target,
        opened(NativePool, target.url) as opening,
    ):
        assert isinstance(await post(opening, LONG), Answer)
        assert await post(opening, SHORT / 3) == Failure(Reason.TIMEOUT, delivered=True)
        assert isinstance(await post(opening, LONG), Answer)
        assert isinstance(await post(opening, LONG), Answer)


@pytest.mark.parametrize(
    "behaviour", ["answers", "closes_after", "resets_after", "goes_beyond", "says_close"]
)
async def test_a_connection_that_is_over_is_no_cycle(no_collections: None, behaviour: str) -> None:
    """Nothing is left for the garbage collector."""
    async with hostile(behaviour) as target, opened(NativePool, target.url) as opening:
        for _ in range(3):
            await post(opening)
    await until(lambda: not any(isinstance(o, TargetConnection) for o in gc.get_objects()))


INTERIM = b"HTTP/1.1 103 Early Hints\r\nlink: %b\r\n\r\n" % (b"x" * 988)


@pytest.mark.parametrize(
    ("first", "more", "count"),
    [
        (b"HTTP/1.1 200 OK\r\nx: ", b"y", MAX_PIECES),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n", b"y", MAX_PIECES),
        (INTERIM, INTERIM, MAX_HEAD // len(INTERIM)),
    ],
    ids=["a header", "a body", "interim answers"],
)
def test_all_reads_of_an_answer_have_a_common_bound(first: bytes, more: bytes, count: int) -> None:
    """An answer that comes in too many reads is too large; so are interim answers together."""
    incoming = Incoming()
    incoming.feed(first)
    for _ in range(count - 1):
        incoming.feed(more)
    with pytest.raises(Unfit) as unfit:
        incoming.feed(more)
    assert unfit.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    "body", [b"content-length: 2\r\n\r\n{}", CHUNKED + b"2\r\n{}\r\n0\r\n\r\n"]
)
@pytest.mark.parametrize("apart", [True, False])
def test_data_behind_an_answer_ends_its_connection(body: bytes, apart: bool) -> None:
    """It could pass for the answer to the next request. It may come while ours is still sent."""
    incoming, pieces = Incoming(), [HEAD + body, b"HTTP/1.1 200 OK\r\n"]
    for piece in pieces if apart else [b"".join(pieces)]:
        incoming.feed(piece)
    assert incoming.whole == (Answer(200, b"{}"), False)


def test_the_reason_is_kept_while_another_error_is_handled() -> None:
    """The parser's error then has that one as its context, not ours."""
    incoming = Incoming()
    incoming.feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    try:
        raise RuntimeError
    except RuntimeError:
        chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
        with pytest.raises(Unfit) as unfit:
            incoming.feed(chunk * (MAX_ANSWER // 4096 + 1))
    assert unfit.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize("leave", [True, False])
@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
async def test_an_answer_that_ends_with_its_tls_connection(engine: Engine, leave: bool) -> None:
    """It is whole with TLS's closing alert or without: a truncated yes is not a yes."""
    async with (
        target_over_tls(b"HTTP/1.1 200 OK\r\n\r\n" + YES, leave) as url,
        opened(engine, url, tls=trusting()) as opening,
    ):
        assert await post(opening) == Answer(200, YES)


@asynccontextmanager
async def target_over_tls(answer: bytes, leave: bool) -> AsyncIterator[str]:
    """Serve one request over TLS, and end the connection with the closing alert or without."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as connected:
                connected.settimeout(LONG)
                session = certified().wrap_socket(connected, server_side=True)
                received = b""
                while not received.endswith(BODY):
                    received += session.recv(65536)
                session.sendall(answer)
                if leave:
                    with suppress(OSError):
                        session.unwrap()
                session.close()

        serving = asyncio.create_task(asyncio.to_thread(serve))
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/"
        await serving
