"""What happens, as it happens, for who has a stream open."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from router.config.holders import TokenHolder
from router.ops import streams as module
from router.ops.api.application import api_routes
from router.ops.api.endpoint import ApiCall
from router.ops.api.events import stream
from router.ops.problems import Rejected
from router.ops.streams import STREAM_BOUND, STREAMS, TEAM_STREAMS, Stream, StreamFilter, Streams
from router.routing.index import Glob
from router.telemetry.log import Log
from tests.support.house import PATIENCE

pytestmark = pytest.mark.anyio

OPS = TokenHolder("ops", frozenset({"read", "bodies"}))
LEDGER = TokenHolder("ledger", frozenset({"read"}), owner="team ledger")
OWNERS = {"ledger": "team ledger", "audit": "team audit"}

#: An event's line, as the observer has it told.
EVENT = {
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
    """A log that is listened to."""

    def __init__(self) -> None:
        self.log = Log(io.StringIO(), "json")
        insight: Any = SimpleNamespace(owner_of=lambda name: OWNERS.get(name, ""), log=self.log)
        self.streams = Streams(insight)

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
                    what, data = each.split("\n")
                    said = json.loads(data.removeprefix("data: "))
                    self._read.append((what.removeprefix("event: "), said))
        return self._read.pop(0)


async def begun(reader: Reader) -> None:
    """Once it misses nothing any more."""
    assert (await reader.next())[0] == "beat"


async def test_an_event_comes_as_it_is_handled(listened: Listened) -> None:
    """With what each target said, as `trace` has it."""
    with listened.streams.open(StreamFilter(OPS)) as stream:
        reader = Reader(stream)
        await begun(reader)
        listened.event()
        what, said = await reader.next()

    assert what == "event"
    assert (said["event_id"], said["code"], said["routes"]) == ("e-1", "500", EVENT["routes"])
    assert {each["target"] for each in said["targets"]} == set(OWNERS)
    assert "body" not in said


async def test_bodies_come_where_they_are_asked_for(listened: Listened) -> None:
    """As text, byte for byte."""
    with listened.streams.open(StreamFilter(OPS, bodies=True)) as stream:
        reader = Reader(stream)
        await begun(reader)
        listened.event()
        _, said = await reader.next()

    assert said["body"] == '{"event_key": "a.gs.cert.1"}'


async def test_a_team_hears_only_what_concerns_its_targets(listened: Listened) -> None:
    """Of an event its own part; of what is about no target of its own, nothing."""
    with listened.streams.open(StreamFilter(LEDGER)) as stream:
        reader = Reader(stream)
        await begun(reader)
        listened.log.info("config", hash="abc")
        listened.log.warning("failing", target="audit", owner="team audit")
        listened.event(targets={"audit": EVENT["targets"]["audit"]})  # type: ignore[index]
        listened.event()
        listened.log.warning("failing", target="ledger", owner="team ledger")
        said = [await reader.next(), await reader.next()]

    assert [what for what, _ in said] == ["event", "failing"]
    assert "audit" not in json.dumps(said)


@pytest.mark.parametrize(
    ("wanted", "comes"),
    [
        (StreamFilter(OPS, targets=("audit",)), True),
        (StreamFilter(OPS, targets=("mail",)), False),
        (StreamFilter(OPS, keys=(Glob("a.gs.*"),)), True),
        (StreamFilter(OPS, keys=(Glob("b.*"),)), False),
        (StreamFilter(OPS, failed=True), True),
        (StreamFilter(LEDGER, targets=("audit",)), False),
    ],
)
async def test_filters_choose(listened: Listened, wanted: StreamFilter, comes: bool) -> None:
    """An event comes where every filter fits; a team can't ask for another's target."""
    with (
        listened.streams.open(StreamFilter(OPS)) as all_of_it,
        listened.streams.open(wanted) as stream,
    ):
        reader, everything = Reader(stream), Reader(all_of_it)
        await begun(everything)
        assert (await reader.next())[0] == "beat"
        listened.event()
        assert (await everything.next())[0] == "event"
        assert bool(stream._waiting) == comes


async def test_a_team_leaves_streams_for_others(listened: Listened) -> None:
    """Whatever of them it has opened."""
    with ExitStack() as opened:
        for _ in range(TEAM_STREAMS):
            assert not listened.streams.full_for(LEDGER)
            opened.enter_context(listened.streams.open(StreamFilter(LEDGER)))
        assert listened.streams.full_for(LEDGER) == TEAM_STREAMS
        for _ in range(STREAMS - TEAM_STREAMS):
            assert not listened.streams.full_for(OPS)
            opened.enter_context(listened.streams.open(StreamFilter(OPS)))
        assert listened.streams.full_for(OPS) == STREAMS


async def test_those_who_ask_at_once_are_bounded_too(listened: Listened) -> None:
    """A place is taken with the answer, not with the first chunk; and given back by whoever goes
    away before that."""
    parts: Any = SimpleNamespace(streams=listened.streams)
    query = {"target": (), "match": (), "failed": None, "bodies": None}
    asked = ApiCall(parts, OPS, {}, query, {})
    answers = [asyncio.create_task(stream.answer(asked)) for _ in range(STREAMS + 1)]
    await asyncio.wait(answers)
    with pytest.raises(Rejected, match=f"{STREAMS} streams are open already"):
        answers.pop().result()

    async def gone(*_: object) -> Any:
        raise OSError

    [route] = api_routes([stream], "", parts)
    for each in answers:
        await each.result().aclose()
    assert not listened.streams.full_for(OPS)
    scope = {
        "type": "http", "method": "GET", "path": "/stream", "query_string": b"", "headers": [],
        "state": {"holder": OPS}, "asgi": {"spec_version": "2.4"},
    }  # fmt: skip
    for _ in range(STREAMS + 1):
        with pytest.raises(ClientDisconnect):
            await route.app(scope, gone, gone)
    assert not listened.streams._open


async def test_a_slow_reader_loses_and_is_told(listened: Listened) -> None:
    """What finds no room is dropped and counted; nobody waits for it."""
    stream = Stream(StreamFilter(OPS))
    for _ in range(3):
        stream.put(b"x" * (STREAM_BOUND // 2))
    stream.begin()
    chunks = stream.chunks()
    await anext(chunks)

    assert (await anext(chunks)).endswith(b'event: dropped\ndata: {"count": 1}\n\n')


async def test_a_reader_that_keeps_up_loses_nothing(listened: Listened) -> None:
    """However much has come in all: the bound is for what waits."""
    stream = Stream(StreamFilter(OPS))
    stream.begin()
    chunks = stream.chunks()
    await anext(chunks)
    for _ in range(4):
        stream.put(b"x" * (STREAM_BOUND // 2))
        assert await anext(chunks) == b"x" * (STREAM_BOUND // 2)


async def test_a_stream_that_nothing_happens_on_says_that_it_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that its reader, and what stands between, know it from one that is cut off."""
    monkeypatch.setattr(module, "BEAT_EVERY", 0.01)
    stream = Stream(StreamFilter(OPS))
    stream.begin()
    reader = Reader(stream)

    assert [(await reader.next())[0] for _ in range(3)] == ["beat"] * 3


async def test_a_stop_ends_every_stream(listened: Listened) -> None:
    """At once, whatever its reader does."""

    async def read(chunks: AsyncIterator[bytes]) -> None:
        async for _ in chunks:
            pass

    with listened.streams.open(StreamFilter(OPS)) as stream:
        reading = asyncio.create_task(read(stream.chunks()))
        listened.streams.end()
        async with asyncio.timeout(PATIENCE):
            await reading


async def test_a_fault_of_ours_ends_the_streams() -> None:
    """One that only beats would look as if nothing happened."""

    def owner_of(_: str) -> str:
        raise ValueError

    log = Log(io.StringIO(), "json")
    insight: Any = SimpleNamespace(owner_of=owner_of, log=log)
    streams = Streams(insight)
    with streams.open(StreamFilter(LEDGER)) as stream:
        chunks = stream.chunks()
        async with asyncio.timeout(PATIENCE):
            await anext(chunks)
            log.write("warning", "event", EVENT)
            assert [chunk async for chunk in chunks]
    assert isinstance(streams._fetching, asyncio.Task)
    assert isinstance(streams._fetching.exception(), ValueError)
    assert log.tap is None
