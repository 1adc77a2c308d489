"""The metrics of a whole router."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from router.app import App
from router.config.loading import Source
from router.config.settings import Settings
from router.telemetry.log import Log
from router.telemetry.metrics import REMOVED, Metrics
from tests.support.flaky import SOON, Flaky, served
from tests.support.hostile import hostile
from tests.support.house import House, event, house, routes
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@asynccontextmanager
async def running(
    required: str = "answers", optional: str = "", match: str = "*", **settings: Any
) -> AsyncIterator[House]:
    """Run a router whose targets `good`, required, and `bad`, optional, behave like that."""
    top = {key: settings.pop(key) for key in ("ebaas", "queue") if key in settings}
    async with AsyncExitStack() as stack:
        behaviours = {"good": required, "bad": optional}
        url = {
            name: (await stack.enter_async_context(hostile(behaviour))).url
            for name, behaviour in behaviours.items()
            if behaviour
        }
        good, bad = ({name: url[name]} if name in url else {} for name in behaviours)
        table = routes(good, bad, match, **top)
        yield await stack.enter_async_context(house(table, **settings))


def counted(router: House) -> Metrics:
    router.app.metrics.measure()
    return router.app.metrics


def some(counts: dict[str, float]) -> dict[str, float]:
    return {label: number for label, number in counts.items() if number}


async def test_an_event_is_counted_once_and_each_of_its_attempts() -> None:
    """Nothing stays in flight. An unmatched event is counted too."""
    async with running("answers", "code_500", match="a.*") as router:
        started = counted(router).last_event
        await router.post()
        await router.line("event")
        await router.post(event(event_key="b"))
        await until(lambda: sum(router.app.metrics.loop_lag.counts))
        metrics = counted(router)
    assert (some(metrics.events), metrics.unmatched) == ({"000": 1, "500": 1}, 1)
    assert metrics.last_event > started
    assert sum(metrics.event_seconds.counts) == 2
    assert some(metrics.of("good").attempts) == {"acknowledged": 1}
    assert some(metrics.of("bad").attempts) == {"code": 1}
    assert sum(metrics.of("bad").attempt_seconds.counts) == 1
    assert (metrics.requests_in_flight, metrics.of("good").in_flight) == (0, 0)


async def test_numbers_in_flight() -> None:
    """The request and the attempt are in flight while a target works on an event."""
    async with (
        hostile("answers_late", seconds=1.0) as slow,
        house(routes({"slow": slow.url})) as router,
    ):
        asking = asyncio.create_task(router.post())
        await until(lambda: counted(router).of("slow").in_flight == 1)
        metrics = counted(router)
        assert metrics.requests_in_flight == 1
        assert (metrics.requests_limit, metrics.of("slow").limit) == (1024, 64)
        await asking


async def test_refused_requests_are_counted() -> None:
    """Code and faulty field are counted; so is a caller that disconnects."""
    async with running() as router:
        _, writer = await asyncio.open_connection(*router.address)
        writer.write(b"POST /callback HTTP/1.1\r\nhost: a\r\ncontent-length: 99\r\n\r\n{")
        await writer.drain()
        writer.close()
        await until(lambda: router.app.metrics.hung_up)
        await router.post(event(event_topic=""))
        await router.post(b"[]")
        await router.post(path="/elsewhere")
        await router.http.get(router.url + "/callback")
        metrics = counted(router)
    assert some(metrics.refused) == {"400": 2, "404": 1, "405": 1}
    assert some(metrics.invalid) == {"event_topic": 1, "body": 1}
    assert some(metrics.events) == {}


async def test_avoided_duplicates_are_counted(store: Path) -> None:
    """A retry claims its record and avoids a duplicate at each target that has acknowledged."""
    flaky = Flaky(1)
    server, url = await served(flaky)
    async with server, hostile("answers") as steady:
        table = routes({"flaky": url, "steady": steady.url})
        async with house(table, store=store) as router:
            for _ in range(2):
                await router.post()
            await router.line("event", 2)
            metrics = counted(router)
    assert (metrics.claims, some(metrics.repeats)) == (1, {})
    assert (metrics.of("flaky").avoided, metrics.of("steady").avoided) == (0, 1)
    assert some(metrics.of("flaky").attempts) == {"code": 1, "acknowledged": 1}
    assert sum(metrics.store_commit.counts) >= 2


async def test_the_queue_is_counted_until_its_dead_letter(store: Path) -> None:
    """Queued deliveries, retries by their reason, and the dead letter are counted."""
    async with running("", "code_500", store=store, queue=SOON["queue"]) as router:
        await router.post()
        metrics = router.app.metrics
        await until(lambda: metrics.of("bad").unsettled["queued"] == 1)
        assert metrics.store_events == 1
        assert metrics.store_bytes > 0
        assert metrics.oldest_unsettled >= 0
        expires_at = metrics.of("bad").expires_at
        assert expires_at is not None
        failure = metrics.of("bad").failure
        assert failure is not None
        assert expires_at >= failure.at
        await router.line("dead_letter")
        assert some(metrics.of("bad").retries) == {"code": 3}
        assert some(metrics.of("bad").dead_letters) == {"code": 1}
        await until(lambda: some(metrics.of("bad").unsettled) == {"dead": 1})
        assert metrics.oldest_unsettled == 0
        assert metrics.of("bad").expires_at is None


async def test_a_record_that_nobody_claims_is_counted_when_it_ends(store: Path) -> None:
    """A metric shows a caller that does not retry with the same bytes."""
    ebaas = {"retries": 1, "waits": ["100ms"], "grace": "100ms", "reply_within": "1s"}
    async with running("code_500", ebaas=ebaas, store=store) as router:
        await router.post()
        await router.line("dead_letter")
        metrics = counted(router)
    assert metrics.never_claimed == 1
    assert some(metrics.of("good").dead_letters) == {"code": 1}


@pytest.mark.parametrize(
    ("optional", "room", "expected"),
    [
        ("", 2 * 1024, ({"500": 2}, {"full": 1}, 0)),
        ("code_500", 6 * 1024, ({"000": 1, "500": 1}, {}, 1)),
    ],
    ids=["no room for a record", "no room for an optional delivery"],
)
async def test_a_full_store_is_counted(
    store: Path, optional: str, room: int, expected: tuple[dict[str, int], dict[str, int], int]
) -> None:
    """By the reason why an event left no record, and by what cannot be queued."""
    required = "answers" if optional else "code_500"
    async with running(required, optional, store=store, store_max_bytes=room) as router:
        for key in ("a.gs.cert.1", "a.gs.cert.2"):
            await router.post(event(event_key=key))
        await router.line("event", 2)
        metrics = counted(router)
    assert (some(metrics.events), some(metrics.unrecorded), metrics.unqueued) == expected


async def test_a_repetition_is_counted_by_its_cause(store: Path) -> None:
    """One of two simultaneous requests with the same body cannot claim the record."""
    flaky, answered = Flaky(10), asyncio.Event()
    flaky.may_answer = answered
    server, url = await served(flaky)
    async with server, house(routes({"flaky": url}), store=store) as router:
        answered.set()
        await router.post()
        answered.clear()
        both = asyncio.gather(router.post(), router.post())
        await until(lambda: len(flaky.ids) == 3)
        answered.set()
        await both
        await router.line("event", 3)
        metrics = counted(router)
    assert metrics.claims == 1
    assert some(metrics.repeats) == {"overlap": 1}


async def test_a_fault_of_the_router_is_counted() -> None:
    """An unexpected exception is counted, and the caller gets 500."""
    async with running() as router:
        router.app.callbacks._intake._schemas = (object(),)  # type: ignore[assignment]
        assert (await router.post()).status_code == 500
        metrics = counted(router)
    assert metrics.faults == 1


async def test_reloads_are_counted(tmp_path: Path) -> None:
    """A refused file changes only result and status; a good one the targets with series."""
    file = tmp_path / "routes.yaml"
    old, new = ({"url": "http://127.0.0.1:9/", "owner": owner} for owner in ("payments", "audit"))
    file.write_text(json.dumps(routes({"old": old})))
    source = Source(file, {}, None)
    look = source.look()
    (config, _), log = source.load(look.files), Log(io.StringIO())
    app = App(Settings(store=None), config, log, watched=(source, look))
    metrics = app.metrics
    watching = asyncio.create_task(app.reload.run())
    seen = []
    for text, result in (
        (file.read_text(), "unchanged"),
        ("version: 1", "refused"),
        (json.dumps(routes(optional={"new": new})), "taken"),
    ):
        file.write_text(text)
        app.reload.ask()
        await until(lambda: metrics.reloads[result] == 1)  # noqa: B023 - called at once
        metrics.measure()
        abouts = {name: of.about for name, of in metrics.targets.items() if name != REMOVED}
        seen.append((metrics.configuration, metrics.reload_successful, abouts))
    watching.cancel()
    before, refused, after = seen
    assert before[1:] == (1, {"old": {"owner": "payments", "role": "required"}})
    assert refused == (before[0], 0, before[2])
    assert after[1:] == (1, {"new": {"owner": "audit", "role": "optional"}})
    assert after[0] != before[0]
