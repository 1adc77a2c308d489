"""What one POST to one target costs, by engine, and one event to three: python -m bench.engine

CPU of this process in microseconds, the system's part included; the target is another process. The
floor is what uvloop takes to write the same bytes and hand over the answer's, unread. An event is
all that is done for it between its plan and its reply, with no store. Rounds are interleaved; the
table has each one's median and its least.
"""

from __future__ import annotations

import asyncio
import io
import multiprocessing
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from typing import cast

import uvloop

from router.contract.schedule import PLATFORM, Terms
from router.delivery.forwarder import Forwarder
from router.delivery.happenings.noticed import Happenings
from router.delivery.memory import Memory
from router.delivery.observer import Observer
from router.delivery.target.sender import Sender
from router.model.event import Event, Letter
from router.net.client_tls import USUAL
from router.net.egress import ANYWHERE
from router.routing.table import Plan, Route
from router.routing.target import Target
from router.store.none import NoStore
from router.telemetry.log import Log
from router.telemetry.metrics import Metrics
from router.transport.engine import Answer, Engine, as_it_came, lines_of
from router.transport.httpx_engine import HttpxPool
from router.transport.native import NativePool

IN_FLIGHT, EVENTS_IN_FLIGHT, TARGETS = 32, 16, 3
ROUNDS = 9
#: How many a round has. httpx has a twentieth of them.
POSTS = 8_000

BODY = (
    b'{"event_source":"a","event_topic":"gs","event_type":"cert","event_status":"1",'
    b'"event_key":"a.gs.cert.1","changes":["id1","id2"]}'
)
HEADERS = [
    (b"content-type", b"application/json"),
    (b"x-request-id", b"b372be68-6fa6-4590-b927-a4096e6a05e6"),
    (b"x-ebaas-event-key", b"a.gs.cert.1"),
    (b"webhook-id", b"0b4f3a52-22a8-4c6e-9c3e-0d5a1c1f7a11"),
    (b"webhook-timestamp", b"1764080000"),
    (b"x-ebaas-target", b"certificates"),
]
LINES = lines_of(HEADERS)
YES = '{"code":"000","msg":"成功"}'.encode()
ANSWER = (
    b"HTTP/1.1 200 OK\r\ndate: Wed, 25 Nov 2026 14:25:34 GMT\r\nserver: uvicorn\r\n"
    b"content-length: %d\r\ncontent-type: application/json\r\n\r\n%b" % (len(YES), YES)
)
REQUEST = b"".join(
    [
        b"POST /callback HTTP/1.1\r\nhost: 127.0.0.1:40000\r\n",
        *(b"%b: %b\r\n" % header for header in HEADERS),
        b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY),
    ]
)

Post = Callable[[], Awaitable[object]]


class Answering(asyncio.Protocol):
    """Answers whatever comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, _: bytes) -> None:
        self._transport.write(ANSWER)


class Bare(asyncio.Protocol):
    """A client that reads nothing of what it is handed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._answer.set_result(data)

    async def post(self) -> bytes:
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._transport.write(REQUEST)
        return await self._answer


def serve(port: Connection) -> None:
    async def serving() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Answering, "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serving())


async def floor(port: int) -> float:
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(Bare, "127.0.0.1", port) for _ in range(IN_FLIGHT)]
    return await cost([bare.post for _, bare in made], POSTS)


async def engine(port: int, made_by: Engine, posts: int) -> float:
    pool = made_by(f"http://127.0.0.1:{port}/callback", USUAL, ANYWHERE)

    async def post() -> None:
        came = await pool.post(LINES, BODY, 5.0, as_it_came)
        assert isinstance(came, Answer), came

    try:
        return await cost([post] * IN_FLIGHT, posts)
    finally:
        await pool.close()


async def event(port: int, events: int) -> float:
    names = [f"t{number}" for number in range(TARGETS)]
    targets = tuple(Target(name, f"http://127.0.0.1:{port}/{name}") for name in names)
    metrics = Metrics()
    observer = Observer(Log(io.StringIO()), metrics, Happenings(lambda *_: None))
    sender = Sender(targets, NativePool, 1000, metrics, observer)
    forwarder = Forwarder(sender, Memory(NoStore()), time.time)
    letter = Letter.of(Event("a", "gs", "cert", "1", "a.gs.cert.1", BODY), "request")
    plan, terms = Plan(targets, (), (Route("all", {}),)), Terms(PLATFORM, 60.0, 8.0, PLATFORM)

    async def forward() -> None:
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        deadline = time.monotonic() + terms.reply_within
        outcome = await forwarder.forward(letter, plan, names, terms, deadline, gone)
        await forwarder.see_through(outcome)
        assert outcome.settled

    try:
        return await cost([forward] * EVENTS_IN_FLIGHT, events)
    finally:
        await sender.close()


async def cost(posts: list[Post], total: int) -> float:
    """Microseconds of CPU for each of `total` posts, once a few have been made."""

    async def run(post: Post, times: int) -> None:
        for _ in range(times):
            await post()

    await asyncio.gather(*(run(post, 5) for post in posts))
    before = time.process_time()
    await asyncio.gather(*(run(post, total // len(posts)) for post in posts))
    return (time.process_time() - before) / total * 1e6


def main() -> None:
    ours, theirs = multiprocessing.Pipe()
    target = multiprocessing.Process(target=serve, args=(theirs,), daemon=True)
    target.start()
    port: int = ours.recv()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1])
    os.sched_setaffinity(target.pid or 0, cores[-1:])
    runs: dict[str, Callable[[], float]] = {
        "floor": lambda: uvloop.run(floor(port)),
        "native": lambda: uvloop.run(engine(port, NativePool, POSTS)),
        "httpx": lambda: uvloop.run(engine(port, HttpxPool, POSTS // 20)),
        "event": lambda: uvloop.run(event(port, POSTS // TARGETS)),
    }
    rounds = [{name: run() for name, run in runs.items()} for _ in range(ROUNDS)]
    print(f"CPU in µs of one POST, or of one event\n{'':8}{'median':>8}{'least':>8}")
    for name in runs:
        costs = [each[name] for each in rounds]
        print(f"{name:8}{statistics.median(costs):8.1f}{min(costs):8.1f}")
    target.terminate()


if __name__ == "__main__":
    main()
