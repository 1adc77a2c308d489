"""The bench tells what happened: the load it makes, and what it makes of what it sees."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from bench.arrivals import arrivals

Answer = Callable[[int, asyncio.StreamWriter], Awaitable[None]]

needs_compiler = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler here")


async def reply(writer: asyncio.StreamWriter, code: str) -> None:
    body = f'{{"code":"{code}"}}'
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """A server on a loop of its own, which is given the number of each request; its URL."""
    numbers, loop = count(), asyncio.new_event_loop()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(size)
                await answer(next(numbers), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    serving = asyncio.start_server(converse, "127.0.0.1", 0)
    server = asyncio.run_coroutine_threadsafe(serving, loop).result()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/callback"
    finally:
        asyncio.run_coroutine_threadsafe(_closed(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _closed(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), 5)


@needs_compiler
def test_good_is_what_was_answered_000() -> None:
    """Another code is a failure, and so is a connection that ends without an answer."""
    seen = []

    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        seen.append(number)
        if number % 3 == 2:
            writer.close()
        else:
            await reply(writer, "500" if number % 3 else "000")

    with answering(answer) as url:
        found = arrivals(url, 300, 0.3, 0, warm=0)
    assert found.events == len(range(0, len(seen), 3))
    assert found.events + found.failures == len(seen)
    assert found.events > 10


@needs_compiler
def test_latency_begins_when_an_event_is_due() -> None:
    """Events go on arriving while nothing is answered, and have waited since they were due."""
    held = 0.1

    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        if number == 30:
            time.sleep(held)  # noqa: ASYNC251 - the server stands still
        await reply(writer, "000")

    with answering(answer) as url:
        found = arrivals(url, 500, 0.3, 0, warm=0)
    assert found.failures == 0
    assert found.most >= held * 1000
    # A closed loop would have one that waited: here it is a third of all of them.
    assert found.p90 > held * 1000 / 4
