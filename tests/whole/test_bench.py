"""The bench tells what happened: the load it makes, and what it makes of what it sees."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from bench.arrivals import Answered, apart, arrivals, percentile, read
from bench.spans import Span, Threads, collections, met, rotations, told
from bench.tables import beside, waits_table
from tests.support.waiting import wait_until

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
    """While nothing is answered events go on arriving, and each has waited since it was due."""
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
    assert found.worst[0].latency == found.most


def test_percentiles_are_of_all_events() -> None:
    """From what the generator prints, in seconds, to milliseconds."""
    lines = [f"{1000 + number}.5 0.000{number:03} 0.{number:03}" for number in range(100)]
    found = read("\n".join(["7 0.25", *lines]))
    assert (found.events, found.failures, found.cpu) == (100, 7, 0.25)
    assert [found.median, found.p90, found.p99, found.most] == pytest.approx([50, 90, 99, 99])
    assert [found.late_p99, found.late_most] == pytest.approx([0.099, 0.099])
    assert [event.due for event in found.worst[:2]] == [1099.5, 1098.5]
    assert percentile(0.99, []) == 0.0


def test_the_slowest_have_not_waited_for_the_same() -> None:
    """Of events that were in hand at a time the slowest stands for all."""
    long, within, beside_it = Answered(10, 0, 500), Answered(10.2, 0, 300), Answered(11, 0, 200)
    assert apart([long, within, beside_it], 10) == [long, beside_it]
    assert apart([long, within, beside_it], 1) == [long]


def test_what_an_event_met_is_told_by_kind() -> None:
    """What took longest is first; what was over before, or came after, is left out."""
    event = Answered(100.0, 0.0, 50.0)
    spans = [
        Span("scrape", 99.0, 99.9, 0.9),
        Span("garbage collection 1", 100.010, 100.012, 0.002),
        Span("thread archive ran", 99.990, 100.0, 0.005),
        Span("thread archive ran", 100.0, 100.010, 0.008),
        Span("log: reload", 100.02, 100.02, 0.0),
        Span("prune", 100.06, 100.07, 0.01),
    ]
    assert met(event, spans) == [
        "thread archive ran from 10 ms before, 2 times, 13.0 ms",
        "garbage collection 1 from 10 ms after, 2.0 ms",
        "log: reload from 20 ms after",
    ]


def test_spans_are_read_from_what_the_router_leaves(tmp_path: Path) -> None:
    """Its log, its collections, and its archive's names."""
    assert collections("5.5 0.25 2\n") == [Span("garbage collection 2", 5.5, 5.75, 0.25)]
    lines = [
        b'{"time":"1970-01-01T00:00:09.500Z","happening":"reload"}\n',
        b'{"time":"1970-01-01T00:00:09.600Z","level":"info","happening":"event"}\n',
    ]
    assert told(lines) == [Span("log: reload", 9.5, 9.5, 0.0)]
    name = "20260101T000000000Z-20260101T000001250Z-0123abcd.jsonl.zst"
    (tmp_path / name).touch()
    (rotation,) = rotations(tmp_path)
    assert rotation.began == 1767225601.25
    assert rotation.ended == (tmp_path / name).stat().st_ctime


_BUSY = """
from threading import Thread
def run():
    while True: pass
Thread(target=run).start()
"""


def test_a_thread_that_runs_is_seen() -> None:
    """One of another process, beside its first one, which does nothing."""
    busy = subprocess.Popen([sys.executable, "-c", _BUSY])
    threads = Threads(busy.pid)
    try:
        wait_until(lambda: any("thread " in span.what for span in threads.spans))
    finally:
        threads.stop()
        busy.kill()
        busy.wait()
    assert max(span.seconds for span in threads.spans) < 1


@pytest.mark.parametrize(
    ("cost", "of", "said"),
    [(130, 100, "1.30 of it"), (65, 100, "0.65 of it"), (100, 4_000, "1/40 of it")],
)
def test_a_cost_beside_another(cost: float, of: float, said: str) -> None:
    """As a part of it, in the words of the tables."""
    assert beside(cost, of) == said


def test_figures_that_are_the_generators_own_are_marked() -> None:
    """Where it noticed events late; how late it was else is told below."""

    def run(late: float) -> dict[str, float]:
        return {"part": 0.5, "median": 1.0, "p99": 2.0, "late_p99": late}

    said = waits_table({"one": [run(0.06)], "other": [run(4.0)]}).splitlines()
    assert said[2:4] == ["| one | 1.0 / 2.0 |", "| other | 1.0 / 2.0* |"]
    assert "within 0.06 ms" in said[5]
