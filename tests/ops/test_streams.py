"""Live streams: a client of the API gets the log lines that it may see."""

from __future__ import annotations

import asyncio
import io
import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from router.config.holders import TokenHolder
from router.ops import streams as module
from router.ops.api.application import api_routes
from router.ops.api.events import stream
from router.ops.problems import Rejected
from router.ops.streams import STREAM_BOUND, STREAMS, TEAM_STREAMS, Stream, StreamFilter, Streams
from router.routing.index import Glob
from router.telemetry.log import Log
from tests.support.house import PATIENCE
from tests.support.serving import Serving, serving, target
from tests.support.sockets import free_port

pytestmark = pytest.mark.anyio

OPS = TokenHolder("ops", frozenset({"read", "bodies"}))
LEDGER = TokenHolder("ledger", frozenset({"read"}), owner="team ledger")
OWNERS = {"ledger": "team ledger", "audit": "team audit"}

#: The fields of an event's line, as the observer logs them.
EVENT: dict[str, Any] = {
    "code": "500",
    "ms": 1.5,
    "request_id": "r-1",
    "event_id": "e-1",
    "event_key": "a.gs.cert.1",
    "routes": ["for the auditors"],
    "targets": {
        "ledger": {"as": "required", "reason": "acknowledged", "ms": 1.0},
        "audit": {"as": "required", "reason": "code", "code": "700", "ms": 1.0},
    },
}


class Listened:
    """A log, and the streams of its lines."""

    def __init__(self) -> None:
        self.log = Log(io.StringIO(), "json")
        self.streams = Streams(self.log, OWNERS.__getitem__)

    @contextmanager
    def opened(self, filter_: StreamFilter) -> Iterator[Stream]:
        stream = self.streams.open(filter_)
        try:
            yield stream
        finally:
            stream.close()

    def event(self, **more: Any) -> None:
        self.log.write("warning", "event", {**EVENT, **more}, b'{"event_key": "a.gs.cert.1"}')


@pytest.fixture
async def listened(monkeypatch: pytest.MonkeyPatch) -> Listened:
    monkeypatch.setattr(module, "FETCH_EVERY", 0.01)
    return Listened()


class Reader:
    """Reads a stream event by event."""

    def __init__(self, stream: Stream) -> None:
        self._chunks = stream.chunks()
        self._read: list[tuple[str, dict[str, Any]]] = []

    async def next(self) -> tuple[str, Mapping[str, Any]]:
        async with asyncio.timeout(PATIENCE):
            while not self._read:
                chunk = await anext(self._chunks)
                for each in chunk.decode().split("\n\n")[:-1]:
                    name, data = each.split("\n")
                    fields = json.loads(data.removeprefix("data: "))
                    self._read.append((name.removeprefix("event: "), fields))
        return self._read.pop(0)

    async def begin(self) -> None:
        """Wait until no line is missed any more."""
        assert (await self.next())[0] == "beat"


@pytest.mark.parametrize("bodies", [False, True])
async def test_an_event_arrives_as_it_is_handled(listened: Listened, bodies: bool) -> None:
    """With each target's answer, and with its body if the client asks for bodies."""
    with listened.opened(StreamFilter(OPS, bodies=bodies)) as stream:
        reader = Reader(stream)
        await reader.begin()
        listened.event()
        name, event = await reader.next()
    assert name == "event"
    assert [event[each] for each in ("event_id", "code", "routes")] == [
        *("e-1", "500", EVENT["routes"])
    ]
    assert {each["target"] for each in event["targets"]} == set(OWNERS)
    assert event.get("body") == ('{"event_key": "a.gs.cert.1"}' if bodies else None)


async def test_a_team_gets_only_lines_about_its_targets(listened: Listened) -> None:
    """An event has only the part about them, and no line has counts of all teams."""
    with listened.opened(StreamFilter(LEDGER)) as stream:
        reader = Reader(stream)
        await reader.begin()
        listened.log.info("config", hash="abc")
        listened.log.warning("failing", target="audit", owner="team audit")
        listened.event(targets={"audit": EVENT["targets"]["audit"]})
        listened.event(unqueued=True, routes=["to-audit"])
        listened.log.warning("store_fuller", target="ledger", mark=0.5, events=7654, bytes=7654)
        listened.log.warning("failing", target="ledger", owner="team ledger")
        lines = [await reader.next() for _ in range(3)]
    assert [name for name, _ in lines] == ["event", "store_fuller", "failing"]
    assert not lines[0][1]["unqueued"]
    assert not [word for word in ("audit", "7654") if word in json.dumps(lines)]


@pytest.mark.parametrize(
    ("chosen", "arrives"),
    [
        (StreamFilter(OPS, targets=("audit",)), True),
        (StreamFilter(OPS, targets=("mail",)), False),
        (StreamFilter(OPS, keys=(Glob("a.gs.*"),)), True),
        (StreamFilter(OPS, keys=(Glob("b.*"),)), False),
        (StreamFilter(OPS, failed=True), True),
        (StreamFilter(LEDGER, targets=("audit",)), False),
    ],
)
async def test_every_filter_has_to_fit(
    listened: Listened, chosen: StreamFilter, arrives: bool
) -> None:
    """A team can't ask for another team's target."""
    with listened.opened(StreamFilter(OPS)) as whole, listened.opened(chosen) as part:
        reader, everything = Reader(part), Reader(whole)
        await everything.begin()
        await reader.begin()
        listened.event()
        assert (await everything.next())[0] == "event"
        assert bool(part._waiting) == arrives


async def test_a_team_leaves_streams_for_others(listened: Listened) -> None:
    """Even if it has opened as many as it may."""
    with ExitStack() as opened:
        for holder, count in ((LEDGER, TEAM_STREAMS), (OPS, STREAMS - TEAM_STREAMS)):
            for _ in range(count):
                opened.enter_context(listened.opened(StreamFilter(holder)))
            with pytest.raises(Rejected, match="streams are open already"):
                listened.streams.open(StreamFilter(holder))


async def test_a_client_that_is_gone_before_the_first_chunk_frees_its_place(
    listened: Listened,
) -> None:
    """Its reply was not even begun."""

    async def gone(*_: object) -> Any:
        raise OSError

    parts: Any = SimpleNamespace(insight=SimpleNamespace(streams=listened.streams))
    [route] = api_routes(parts, [stream])
    scope = {
        "type": "http", "method": "GET", "path": "/api/v1/stream", "query_string": b"",
        "headers": [], "state": {"holder": OPS}, "asgi": {"spec_version": "2.4"},
    }  # fmt: skip
    for _ in range(STREAMS + 1):
        with pytest.raises(ClientDisconnect):
            await route.app(scope, gone, gone)
    assert not listened.streams._open


async def test_only_what_waits_is_bounded() -> None:
    """A client that keeps up gets everything. One that is too slow loses lines, and gets their
    number."""
    stream, chunk = Stream(StreamFilter(OPS), lambda _: None), b"x" * (STREAM_BOUND // 2)
    chunks = stream.chunks()
    await anext(chunks)
    for _ in range(4):
        stream.put(chunk)
        assert await anext(chunks) == chunk
    for _ in range(3):
        stream.put(chunk)
    assert await anext(chunks) == 2 * chunk + b'event: dropped\ndata: {"count": 1}\n\n'


async def test_an_idle_stream_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that its client, and proxies, can tell it from a broken connection."""
    monkeypatch.setattr(module, "BEAT_EVERY", 0.01)
    stream = Stream(StreamFilter(OPS), lambda _: None)
    reader = Reader(stream)
    assert [(await reader.next())[0] for _ in range(3)] == ["beat"] * 3


async def test_a_fault_of_ours_ends_the_streams(listened: Listened) -> None:
    """A stream with beats alone would look as if nothing happened."""
    with listened.opened(StreamFilter(LEDGER)) as stream:
        chunks = stream.chunks()
        async with asyncio.timeout(PATIENCE):
            await anext(chunks)
            listened.log.warning("failing", target="nobody's")
            assert [chunk async for chunk in chunks]
    assert isinstance(listened.streams._fetching, asyncio.Task)
    assert isinstance(listened.streams._fetching.exception(), KeyError)
    assert listened.log.tap is None


# Of a real router.


@contextmanager
def router(folder: Path) -> Iterator[tuple[Serving, int]]:
    """A router with one target, and its ops port."""
    port = free_port()
    options = ("--ops-port", str(port))
    with target() as ledger, serving(folder, {"ledger": ledger}, options=options) as started:
        yield started, port


@contextmanager
def connected(port: int, query: str = "") -> Iterator[HTTPResponse]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", f"/api/v1/stream{query}")
    answer = connection.getresponse()
    try:
        yield answer
    finally:
        answer.close()
        connection.close()


def next_of(answer: HTTPResponse, chosen: str) -> dict[str, Any]:
    """Return the data of the next server-sent event of that name."""
    while line := answer.readline():
        name = line.decode().removeprefix("event: ").strip()
        data = answer.readline().decode().removeprefix("data: ")
        answer.readline()
        if name == chosen:
            found: dict[str, Any] = json.loads(data)
            return found
    raise AssertionError("the stream has ended")


def test_a_client_that_disconnects_frees_its_place(tmp_path: Path) -> None:
    with router(tmp_path) as (_, port):
        for _ in range(STREAMS + 4):
            with connected(port) as answer:
                if answer.status == 200:
                    next_of(answer, "beat")
        with connected(port) as opened:
            assert opened.status == 200


def test_a_stop_does_not_wait_for_streams(tmp_path: Path) -> None:
    """The streams end, and the process exits."""
    with router(tmp_path) as (started, port), connected(port) as answer:
        next_of(answer, "beat")
        started.process.send_signal(signal.SIGTERM)
        while answer.readline():
            pass
        assert started.process.wait(20) == 0
