"""The callback endpoint under any ASGI server: one whose caller hangs up, whose replies fail, and
whose bodies come in pieces while the configuration changes."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from router.app import App
from router.config import loading
from router.config.loading import Config
from router.config.settings import Settings
from router.contract.intake import LARGE
from router.delivery.forwarder import Forwarder
from router.delivery.observer import Observer
from router.model.build import COMPILED
from router.telemetry.log import Log
from tests.support.house import SAMPLE, event, routes, stand_in
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


def configured(url: Any, **top: Any) -> Config:
    table: Mapping[str, Any] = routes({"one": url}, **top)
    return loading.parse(json.dumps(table).encode(), "routes.yaml", {}, None)


class Served:
    """The application, called as a server calls it."""

    def __init__(self, config: Config, **settings: Any) -> None:
        self._stream = io.StringIO()
        self.app = App(Settings(store=None, **settings), config, Log(self._stream, "json"))
        self.callbacks = self.app.callbacks

    def call(self, *pieces: bytes, **scope: Any) -> Caller:
        return Caller(self, pieces, scope)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]

    def happenings(self, *kinds: str) -> list[str]:
        return [line["happening"] for line in self.lines if line["happening"] in kinds]


class Caller:
    """A caller and its server: `say` brings the next piece of its body."""

    def __init__(self, served: Served, pieces: tuple[bytes, ...], scope: dict[str, Any]) -> None:
        self._news = asyncio.Queue[dict[str, Any]]()
        self._left = len(pieces)
        self._pieces = iter(pieces)
        self.sent: list[MutableMapping[str, Any]] = []
        #: Raised instead of sending.
        self.error: Exception | None = None
        usual = {"type": "http", "method": "POST", "path": "/callback", "query_string": b""}
        more = {"headers": [], "client": ("192.0.2.1", 1), "root_path": "", "http_version": "1.1"}
        self.task = asyncio.create_task(
            served.app({**usual, **more, **scope}, self._news.get, self._send)
        )

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append(message)

    def say(self) -> None:
        self._left -= 1
        body = next(self._pieces)
        self._news.put_nowait({"type": "http.request", "body": body, "more_body": self._left > 0})

    def hang_up(self) -> None:
        self._news.put_nowait({"type": "http.disconnect"})

    async def code(self) -> str:
        """Say all that is left, and return the code of the reply; `""` if none was sent."""
        while self._left:
            self.say()
        await asyncio.wait_for(self.task, 10.0)
        bodies = [message["body"] for message in self.sent if "body" in message]
        return str(json.loads(b"".join(bodies))["code"]) if bodies else ""


@asynccontextmanager
async def served(
    delay: float = 0.0, top: Mapping[str, Any] | None = None, **settings: Any
) -> AsyncIterator[tuple[Served, list[Any]]]:
    async with stand_in(delay=delay) as (url, seen):
        it = Served(configured(url, **(top or {})), **settings)
        async with it.app.lifespan():
            yield it, seen
            assert it.callbacks.in_flight == 0


async def test_a_refused_callback_is_not_in_flight_afterwards() -> None:
    """One that comes before the store is open, or that is not an event, holds no place."""
    async with served(max_requests=1) as (it, seen):
        forwarder, it.callbacks.forwarder = it.callbacks.forwarder, None
        assert [await it.call(SAMPLE).code() for _ in range(2)] == ["503", "503"]
        it.callbacks.forwarder = forwarder
        assert [await it.call(body).code() for body in (b"{", SAMPLE)] == ["400", "000"]
    assert len(seen) == 1


async def test_a_caller_that_hangs_up_is_noticed() -> None:
    """Before its body is whole, nothing is forwarded; after that, the event is logged as one
    without a reply, and none is sent."""
    async with served(delay=0.1) as (it, seen):
        early = it.call(SAMPLE, b"")
        early.say()
        early.hang_up()
        await early.task
        late = it.call(SAMPLE)
        late.say()
        await until(lambda: len(seen) == 1)
        late.hang_up()
        await late.task
    assert early.sent == late.sent == []
    assert it.happenings("hung_up", "event", "refused") == ["hung_up", "event"]
    line = next(line for line in it.lines if line["happening"] == "event")
    assert (line["code"], line["ms"] > 0) == ("", True)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("error", "code", "faults"), [(OSError(), "000", []), (ZeroDivisionError(), "", ["fault"])]
)
async def test_a_reply_that_cannot_be_sent(error: Exception, code: str, faults: list[str]) -> None:
    """Some servers raise an OSError if the caller has gone. Any other error is a fault, and then
    nobody knows whether the reply went out; the event is logged with its deliveries."""
    async with served() as (it, _):
        caller = it.call(SAMPLE)
        caller.error = error
        caller.say()
        await caller.task
    assert it.happenings("fault", "event") == [*faults, "event"]
    line = next(line for line in it.lines if line["happening"] == "event")
    assert line["code"] == code
    assert 0 <= line["ms"] < 60_000
    assert line["targets"]["one"]["reason"] == "acknowledged"


@pytest.mark.skipif(COMPILED, reason="nothing can be replaced in what is compiled")
@pytest.mark.parametrize(
    ("part", "step", "match", "lines"),
    [
        (Forwarder, "wait_for_late_attempts", "a.*", ["fault", "event"]),
        (Observer, "unmatched", "b.*", ["fault"]),
    ],
)
async def test_a_fault_after_the_reply_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, part: type, step: str, match: str, lines: list[str]
) -> None:
    """It is logged, and so is the event with its deliveries. The caller gets no second reply."""

    def faulty(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(part, step, faulty)
    async with served(top={"match": match, "unmatched": "accept"}) as (it, _):
        caller = it.call(SAMPLE)
        assert await caller.code() == "000"
    assert it.happenings("fault", "event") == lines
    assert [message["type"] for message in caller.sent].count("http.response.start") == 1


@pytest.mark.parametrize(
    "body", [SAMPLE, event(event_key="a.gs." + "x" * 2000), event(padding="x" * LARGE)]
)
async def test_a_request_keeps_its_configuration(body: bytes) -> None:
    """A reload while the body is coming is for later requests, also if the body takes so long to
    read that this is done in a thread."""
    async with served() as (it, seen), stand_in() as (other, seen_later):
        caller = it.call(body[:9], body[9:])
        caller.say()
        await asyncio.sleep(0)
        it.app.adopt(configured(other))
        assert await caller.code() == "000"
        assert (len(seen), len(seen_later)) == (1, 0)
        assert await it.call(body).code() == "000"
        assert (len(seen), len(seen_later)) == (1, 1)


async def test_a_callback_that_waits_to_be_read_is_refused_in_time() -> None:
    """At `reply_within`, not once its turn comes behind a burst of large bodies; no target gets
    it."""
    top = {"ebaas": {"reply_within": "200ms"}}
    async with served(top=top) as (it, seen):
        burst = asyncio.create_task(it.callbacks._reader.do(time.sleep, 2.0))
        await asyncio.sleep(0)
        assert await it.call(event(padding="x" * LARGE)).code() == "408"
        assert not burst.done()
        await burst
    assert seen == []


async def test_a_reload_shows_the_state_of_its_targets() -> None:
    """A target that a new routes.yaml pauses is paused in the metrics at once."""
    async with served() as (it, _):
        it.app.adopt(configured({"url": "http://127.0.0.1:9/", "paused": True}))
        it.app.sender.measure()
        assert it.app.metrics.of("one").paused == 1


@pytest.mark.parametrize(
    ("given", "code", "passed"),
    [
        ({}, "000", None),
        ({"x-ebaas-hops": "7"}, "000", None),
        ({"x-ebaas-target": "router"}, "000", "1"),
        ({"x-ebaas-target": "router", "x-ebaas-hops": "1"}, "000", "2"),
        ({"x-ebaas-target": "router", "x-ebaas-hops": "2"}, "000", "3"),
        *(
            ({"x-ebaas-target": "router", "x-ebaas-hops": hops}, "508", None)
            for hops in ("3", "99", "-1", "001", "x", "", "1, 1")
        ),
    ],
)
async def test_routers_are_counted(given: dict[str, str], code: str, passed: str | None) -> None:
    """Each router adds itself to the count of those that an event has come through, and the fifth
    refuses it, even if EBaaS wants 200 for everything. Only routers are asked for a count."""
    headers = [(name.encode(), value.encode()) for name, value in given.items()]
    async with served(top={"ebaas": {"http_status": "ok"}}) as (it, seen):
        caller = it.call(SAMPLE, headers=headers)
        assert await caller.code() == code
    assert caller.sent[0]["status"] == (200 if code == "000" else int(code))
    assert [request.headers.get("x-ebaas-hops") for request in seen] == (
        [passed] if code == "000" else []
    )


async def test_before_the_store_is_open_nothing_is_accepted() -> None:
    """Callbacks and `/readyz` get 503 until then. Once a stop has begun, only `/readyz` does."""
    async with stand_in() as (url, seen):
        it = Served(configured(url))
        replies: list[str] = []

        async def ask() -> None:
            probe = it.call(b"", method="GET", path="/readyz")
            for caller in (probe, it.call(SAMPLE)):
                await caller.code()
                replies.append(json.loads(caller.sent[-1]["body"])["msg"])

        await ask()
        async with it.app.lifespan():
            await ask()
            it.app.drain()
            await ask()
    not_open, busy = "存储尚未连接，请稍后再试", "服务繁忙，请稍后再试"
    assert replies == [not_open, not_open, "成功", "成功", busy, "成功"]
    assert len(seen) == 2
