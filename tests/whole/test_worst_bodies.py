"""The JSON that takes a parser the most, from everyone who may send some, as fast as they can.

`make torture` runs it: it measures, and needs the machine to itself.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import quantiles

import pytest

from router.contract.strictjson import ANSWER, CALLBACK, REQUEST, Bounds
from router.transport.engine import MAX_ANSWER
from tests.support.command import PATIENCE
from tests.support.effort import TORTURE
from tests.support.house import event, routes
from tests.support.serving import Serving, target
from tests.support.sockets import HOST, free_port

pytestmark = pytest.mark.skipif(not TORTURE, reason="it measures: make torture")

MIB = 1024 * 1024

#: How many send at a time, and for how many seconds.
SENDERS, SECONDS = 16, 4.0


def lists_of(number: int, one: bytes, size: int) -> bytes:
    """A list with so many of one thing, or as many as there is room for, of exactly that size."""
    inside = b",".join([one] * min(number, (size - 2) // (len(one) + 1)))
    return (b"[%b]" % inside).ljust(size)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def worst(bounds: Bounds, size: int) -> dict[str, bytes]:
    """Return the bodies that take the most work, on both sides of a bound."""
    room = bounds.depth - 4  # what is around it is deep as well
    return {
        "400 deep": lists_of(size, nested(400), size),
        "as deep as may be": lists_of((bounds.lists - 10) // room, nested(room), size),
        "as many lists as may be": lists_of(bounds.lists - 10, b"[]", size),
        "as many objects as may be": lists_of(bounds.lists - 10, b'{"a":1}', size),
        "as many values as may be": lists_of(bounds.values - 20, b"1e1", size),
        "lists without end": lists_of(size, b"[]", size),
        "brackets in strings": lists_of(size, b'"["', size),
        "a string of quotes": lists_of(size, b'"' + b'\\"' * 400 + b'"', size),
    }


def callback(worst: bytes) -> bytes:
    return event(changes=...)[:-1] + b',"changes":' + worst.rstrip() + b"}"


def sent_and_answered(place: str, name: str) -> tuple[bytes, bytes]:
    """Return the body to send, and the answer of the target of `bad.*`."""
    if place == "answer":
        inside = worst(ANSWER, MAX_ANSWER - 100)[name].rstrip()
        return event(event_key="bad.x.y.1"), b'{"code":"500","data":' + inside + b"}"
    if place == "request":
        return b'{"event":' + callback(worst(REQUEST, MIB - 400)[name]) + b"}", b""
    return callback(worst(CALLBACK, MIB - 400)[name]), b""


class Attack:
    """The senders, and the target that answers them, in a process of their own."""

    def __init__(self, port: int, path: str, body: bytes, answering: int, answer: bytes) -> None:
        self._port, self._answering, self._over = port, answering, False
        head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._request = head.encode() + body
        self._answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer)
        self._statuses: Counter[str] = Counter()

    def run(self, parent: Connection) -> None:
        asyncio.run(self._run(parent))

    async def _run(self, parent: Connection) -> None:
        server = await asyncio.start_server(self._answers, HOST, self._answering)
        senders = [asyncio.create_task(self._sends()) for _ in range(SENDERS)]
        parent.send("begun")
        await asyncio.get_running_loop().run_in_executor(None, parent.recv)
        self._over = True
        await asyncio.wait_for(asyncio.gather(*senders), PATIENCE)
        server.close()
        parent.send(self._statuses)

    async def _answers(self, reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                await _message(reader)
                writer.write(self._answer)
                await writer.drain()

    async def _sends(self) -> None:
        while not self._over:
            reader, writer = await asyncio.open_connection(HOST, self._port)
            with suppress(asyncio.IncompleteReadError, OSError):
                while not self._over:
                    writer.write(self._request)
                    self._statuses[(await _message(reader)).split()[1].decode()] += 1
            writer.close()


async def _message(reader: StreamReader) -> bytes:
    """Reads one, and gives its head."""
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
    return head


@contextmanager
def attacked(attack: Attack) -> Iterator[None]:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=attack.run, args=(theirs,))
    process.start()
    try:
        assert ours.recv() == "begun"
        yield
        ours.send("over")
        statuses = ours.recv()
    finally:
        process.kill()
        process.join()
    print(dict(statuses), end=" ")
    assert statuses


def seconds_of(ask: Callable[[], object], expected: object) -> list[float]:
    """Ask one after the other, and return the seconds of each."""
    taken, end = [], time.monotonic() + SECONDS
    while (began := time.monotonic()) < end:
        assert ask() == expected
        taken.append(time.monotonic() - began)
    return taken


@pytest.mark.parametrize("name", worst(ANSWER, 999))
@pytest.mark.parametrize("place", ["callback", "answer", "request"])
def test_the_worst_json_holds_up_nobody(tmp_path: Path, place: str, name: str) -> None:
    """While 16 send it as fast as they can, 99 of 100 probes are answered within 100 ms, and 95 of
    100 events within 250 ms. Others' work on the machine is in both."""
    body, answer = sent_and_answered(place, name)
    bad, ops, config = free_port(), free_port(), tmp_path / "routes.yaml"
    with target() as good:
        table = routes({"good": good.url, "bad": f"http://{HOST}:{bad}/"})
        table["routes"] = [
            {"name": "bad", "match": "bad.*", "required": ["bad"]},
            {"name": "good", "match": "good.*", "required": ["good"]},
        ]
        config.write_text(json.dumps({**table, "unmatched": "accept"}))
        router = Serving(config, tmp_path / "store.db", ("--ops-port", str(ops)), {})
        with closing(router):
            port, path = (
                (ops, "/api/v1/explain") if place == "request" else (router.port, "/callback")
            )
            honest = event(event_key="good.x.y.1")
            with attacked(Attack(port, path, body, bad, answer)), ThreadPoolExecutor(1) as beside:
                probing = beside.submit(seconds_of, lambda: router.ask("GET", "/livez")[0], 200)
                events = seconds_of(lambda: router.ask("POST", "/callback", honest)[1], "000")
                probes = probing.result()
    slow_probe, slow_event = quantiles(probes, n=100)[-1], quantiles(events, n=20)[-1]
    print(f"/livez p99 {slow_probe:.3f} s, events p95 {slow_event:.3f} s, {len(events)} of them")
    assert slow_probe < 0.1
    assert slow_event < 0.25
