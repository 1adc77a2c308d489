"""One bad target is contained: breaker, rate and pause, the whole router on real sockets."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from router.config import loading
from router.contract.signing import Signer
from router.delivery.recovery import MOST_AT_ONCE
from router.model.build import COMPILED
from router.model.secret import Secret
from router.ops.status import status_of
from router.store.admin import pause, resume
from router.store.protocol import StoreLimits
from router.store.sqlite.admin import SqliteAdmin
from router.store.sqlite.store import SqliteStore
from router.telemetry.log.lines import utc
from router.telemetry.metrics import TargetMetrics
from tests.support.house import PATIENCE, House, event, house, routes
from tests.support.rows import query
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

#: The queue retries soon, and never gives up.
SOON = {"queue": {"retries": 1000, "waits": ["50ms"]}}

#: It opens at the third failure of three, for longer than a test takes.
BREAKER = {"failures": "100%", "of_at_least": 3, "within": "10m", "pause": "1h"}


class Endpoint:
    """A target that answers with `status`, and acknowledges if that is 200."""

    def __init__(self) -> None:
        self.status = 200
        #: Its requests: when they came, their headers and their bodies.
        self.times: list[float] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        #: Requests in hand, and the most at a time; it answers once this is set.
        self.open = self.most = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.url = ""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        self.bodies.append(await reader.readexactly(int(fields["content-length"])))
        self.times.append(time.monotonic())
        self.headers.append(fields)
        self.open += 1
        self.most = max(self.most, self.open)
        await self.may_answer.wait()
        self.open -= 1
        body = b'{"code":"000"}'
        head = f"HTTP/1.1 {self.status} X\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
        writer.write(head.encode() + b"\r\n" + body)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def endpoint() -> AsyncIterator[Endpoint]:
    target = Endpoint()
    async with await asyncio.start_server(target, "127.0.0.1", 0) as server:
        target.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        yield target


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def rows(store: Path) -> list[tuple[str, str, int]]:
    """Return the deliveries in the store: state, reason and number of retries."""
    with closing(sqlite3.connect(store)) as connection:
        return connection.execute("SELECT state, reason, retries FROM deliveries").fetchall()


@asynccontextmanager
async def people(store: Path) -> AsyncIterator[SqliteAdmin]:
    """Open the store as people do beside the router."""
    ops = await SqliteAdmin.open(store, StoreLimits(1 << 30))
    try:
        yield ops
    finally:
        await ops.close()


async def post(router: House, name: object) -> str:
    """Send an event of its own; return the code of the reply."""
    return str((await router.post(event(changes=[name]))).json()["code"])


async def reason(router: House, count: int, target: str = "one") -> str:
    """Return the reason of the attempt at the target in the `count`-th event."""
    return str((await router.line("event", count))["targets"][target]["reason"])


def take(router: House, table: Mapping[str, Any]) -> None:
    """Take another routes.yaml into force."""
    router.app.adopt(loading.parse(json.dumps(table).encode(), "routes.yaml", {}, None))


def numbers(router: House, target: str = "one") -> TargetMetrics:
    return router.app.insight.report().metrics.targets[target]


# The breaker.


async def test_a_required_target_that_fails_is_left_in_peace(store: Path) -> None:
    """After three failures the fourth event fails without a request; log, metrics and status say
    why."""
    async with endpoint() as one:
        one.status = 503
        table = routes({"one": {"url": one.url, "breaker": BREAKER}})
        async with house(table, store=store) as router:
            for n in range(4):
                assert await post(router, n) == "500"
            assert await reason(router, 4) == "breaker_open"
            assert len(one.bodies) == 3
            assert (await router.line("breaker"))["state"] == "open"
            assert numbers(router).breaker == {"closed": 0, "open": 1, "half_open": 0}
            assert numbers(router).breaker_opened == 1
            status = status_of(router.app.insight.report(), time.time())
            assert status["targets"]["each"]["one"]["breaker"] == {"open": 1}
            assert status["targets"]["each"]["one"]["state"] == "failing"
            assert status["targets"]["each"]["one"]["last_failure"]["reason"] == "status"


async def test_a_probe_lets_everything_through_again(store: Path) -> None:
    """Once the pause is over and the target works."""
    async with endpoint() as one:
        one.status = 503
        breaker = {**BREAKER, "pause": "100ms"}
        async with house(
            routes({"one": {"url": one.url, "breaker": breaker}}), store=store
        ) as router:
            for n in range(3):
                await post(router, n)
            one.status = 200
            async with asyncio.timeout(PATIENCE):
                while await post(router, "again") != "000":
                    await asyncio.sleep(0.01)
            states = [line["state"] for line in router.lines if line["happening"] == "breaker"]
            assert states == ["open", "half_open", "closed"]
            assert await post(router, "and again") == "000"


async def test_an_optional_targets_deliveries_wait_for_its_breaker(store: Path) -> None:
    """Deliveries that come while it is open cost no retry, and are made once a probe succeeds."""
    async with endpoint() as good, endpoint() as one, endpoint() as two:
        one.status = two.status = 503
        both = {"one": {"url": one.url, "breaker": BREAKER}, "two": two.url}
        table = routes({"good": good.url}, both, **SOON)
        async with house(table, store=store) as router:
            await post(router, "first")
            await router.line("breaker")  # the queue alone opens it
            for n in range(5):
                assert await post(router, n) == "000"
            assert await reason(router, 6) == "breaker_open"
            enough = len(two.bodies) + 20
            await until(lambda: len(two.bodies) > enough)  # the queue has had its turns
            assert [row for row in rows(store) if row[1] == "breaker_open"] == [
                ("queued", "breaker_open", 0)
            ] * 5
            assert len(one.bodies) == 3
            one.status = two.status = 200
            take(router, routes({"good": good.url}, {**both, "one": one.url}, **SOON))
            await until(lambda: {row[0] for row in rows(store)} == {"acknowledged"})
            assert len(one.bodies) == 3 + 6


async def test_a_breaker_and_a_rate_survive_a_reload_of_something_else(store: Path) -> None:
    """It stays open when the target's timeout changes, and is new when its own policy changes. A
    used-up rate stays used up."""
    async with endpoint() as one:
        one.status = 503
        table = routes({"one": {"url": one.url, "breaker": BREAKER}})
        async with house(table, store=store) as router:
            for n in range(3):
                await post(router, n)
            take(router, routes({"one": {"url": one.url, "breaker": BREAKER, "timeout": "4s"}}))
            await post(router, "still open")
            assert len(one.bodies) == 3
            other = {**BREAKER, "pause": "30m"}
            take(router, routes({"one": {"url": one.url, "breaker": other, "timeout": "4s"}}))
            await post(router, "another breaker")
            assert len(one.bodies) == 4
            one.status, rate = 200, {"per_second": 0.01, "burst": 1}
            take(router, routes({"one": {"url": one.url, "rate": rate}}))
            assert await post(router, 1) == "000"
            take(router, routes({"one": {"url": one.url, "rate": rate, "timeout": "4s"}}))
            assert await post(router, 2) == "500"


# The rate.


async def test_a_required_delivery_waits_for_its_turn(store: Path) -> None:
    """Six events come at once at five a second and a burst of one: all get their 000, after a
    second."""
    async with endpoint() as one:
        limited = {"url": one.url, "rate": {"per_second": 5, "burst": 1}}
        async with house(routes({"one": limited}), store=store) as router:
            started = time.monotonic()
            codes = await asyncio.gather(*(post(router, n) for n in range(6)))
        assert codes == ["000"] * 6
        assert one.times[-1] - started >= 1.0


async def test_a_required_delivery_whose_turn_comes_too_late_fails(store: Path) -> None:
    """It fails at once, and waits for EBaaS's retry."""
    async with endpoint() as one:
        limited = {"url": one.url, "rate": {"per_second": 0.01, "burst": 1}}
        async with house(routes({"one": limited}), store=store) as router:
            assert [await post(router, n) for n in range(2)] == ["000", "500"]
            assert await reason(router, 2) == "rate_limited"
            assert rows(store) == [("awaiting", "rate_limited", 0)]
        assert len(one.bodies) == 1


async def test_an_attempt_that_waited_for_its_turn_may_last_as_long_as_any(store: Path) -> None:
    """Until it is over no other process sends the event because the target recovers."""
    async with endpoint() as one:
        one.may_answer.clear()
        limited = {"url": one.url, "timeout": "1s", "rate": {"per_second": 2, "burst": 1}}
        table = routes({"one": limited}, ebaas={"reply_within": "1500ms"})
        async with house(table, store=store) as router:
            codes = await asyncio.gather(*(post(router, n) for n in range(2)))
            ((held_until,),) = query(store, "SELECT max(recover_at) FROM deliveries")
            left = one.times[1] + 1.0 - time.monotonic()
            assert held_until - time.time() >= left > 0.0
            one.may_answer.set()
        assert codes == ["500"] * 2


# The pause.


async def test_a_paused_targets_deliveries_wait_without_an_attempt(store: Path) -> None:
    """They are not even taken from the store. After it all are delivered, the first alone."""
    async with endpoint() as good, endpoint() as one, endpoint() as two:
        two.status = 503
        both = {"one": {"url": one.url, "paused": True}, "two": two.url}
        async with house(routes({"good": good.url}, both, **SOON), store=store) as router:
            for n in range(40):
                assert await post(router, n) == "000"
            assert await reason(router, 1) == "paused"
            enough = len(two.bodies) + 100
            await until(lambda: len(two.bodies) > enough)  # the queue has had its turns
            assert [row for row in rows(store) if row[1] == "paused"] == [
                ("queued", "paused", 0)
            ] * 40
            assert sum(numbers(router).retries.values()) == 0
            assert numbers(router).paused == 1
            one.may_answer.clear()
            take(router, routes({"good": good.url}, {**both, "one": one.url}, **SOON))
            await until(lambda: one.open == 1)
            one.may_answer.set()
            two.status = 200
            await until(lambda: {row[0] for row in rows(store)} == {"acknowledged"})
        assert len(one.bodies) == 40
        assert one.most <= MOST_AT_ONCE


async def test_a_persons_pause_holds_a_target_back_until_it_is_over(store: Path) -> None:
    """Optional deliveries wait and lose no retry, required ones fail at once; log, metrics and
    status say who and why. Resumed, the waiting deliveries are made."""
    async with endpoint() as one, endpoint() as two:
        table = routes({"one": one.url}, {"two": two.url}, **SOON)
        async with house(table, store=store) as router, people(store) as ops:
            made = await pause(ops, "two", "10m", "a move", "ops")
            line = await router.line("target_paused")
            expected = ("two", "a move", "ops", utc(made.until))
            assert (line["target"], line["because"], line["who"], line["until"]) == expected
            assert await post(router, 1) == "000"
            assert rows(store) == [("queued", "paused", 0)]
            # A reload does not end it.
            take(
                router, routes({"one": one.url}, {"two": {"url": two.url, "timeout": "4s"}}, **SOON)
            )
            assert await post(router, 2) == "000"
            assert (numbers(router, "two").paused, len(two.bodies)) == (1, 0)
            status = status_of(router.app.insight.report(), time.time())
            paused = f"two is paused until {utc(made.until)} by ops: a move"
            assert paused in [cause["text"] for cause in status["causes"]]
            assert status["targets"]["each"]["two"]["pause"] == {
                "since": utc(made.since),
                "until": utc(made.until),
                "because": "a move",
                "who": "ops",
            }
            await pause(ops, "one", "10m", "a move", "ops")
            await router.line("target_paused", 2)
            assert (await post(router, 3), await reason(router, 3)) == ("500", "paused")
            for name in ("one", "two"):
                await resume(ops, name, "night")
            ended = await router.line("target_resumed", 2)
            assert (ended["who"], ended["resumed_by"]) == ("ops", "night")
            await until(lambda: len(two.bodies) == 3)
            assert await post(router, 3) == "000"
            assert numbers(router, "two").paused == 0
        assert len([e for e in router.lines if e["happening"] == "target_paused"]) == 2


@pytest.mark.skipif(COMPILED, reason="nothing can be replaced in what is compiled")
async def test_a_pause_is_in_force_before_the_first_event(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart does not end a pause, however slow the store is."""
    read = SqliteStore.pauses

    async def read_slowly(*arguments: Any) -> Any:
        await asyncio.sleep(0.5)
        return await read(*arguments)

    monkeypatch.setattr(SqliteStore, "pauses", read_slowly)
    async with endpoint() as one:
        async with house(routes({"one": one.url}), store=store), people(store) as ops:
            await pause(ops, "one", "10m", "a move", "ops")
        async with house(routes({"one": one.url}), store=store) as router:
            assert (await post(router, 1), len(one.bodies)) == ("500", 0)


async def test_without_a_store_deliveries_held_back_are_lost() -> None:
    """Nobody tries it again, so each is an error in the log. It waits for its rate all the same,
    but the 000 does not wait for it."""
    async with endpoint() as good, endpoint() as one, endpoint() as two:
        paused = {"url": one.url, "paused": True}
        limited = {"url": two.url, "rate": {"per_second": 10, "burst": 1}}
        table = routes({"good": good.url}, {"one": paused, "two": limited})
        async with house(table) as router:
            assert [await post(router, n) for n in range(3)] == ["000"] * 3
            assert (await router.line("lost", 3))["target"] == "one"
            assert len(two.bodies) == 3
            kinds = [(line["happening"], line["level"]) for line in router.lines]
            assert kinds.count(("event", "error")) == kinds.count(("lost", "error")) == 3
            assert "two" not in {line.get("target") for line in router.lines}


# Signatures, and a target that is not there.


async def test_every_attempt_is_signed_anew_under_one_id(store: Path) -> None:
    """By both secrets; a retry has the same id, its own time, and a signature for that. Without a
    secret there is no such header."""
    async with endpoint() as one, endpoint() as two:
        one.status = 503
        secrets = ["the old secret of this target", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
        table = routes({"one": {"url": one.url, "secret": secrets}, "two": two.url})
        async with house(table, store=store) as router:
            assert await post(router, "成功") == "500"
            one.status = 200
            assert await post(router, "成功") == "000"
    assert "webhook-signature" not in two.headers[0]
    assert len({headers["webhook-id"] for headers in one.headers}) == 1
    for headers, body in zip(one.headers, one.bodies, strict=True):
        assert len(headers["webhook-signature"].split(" ")) == 2
        for secret in secrets:
            why = Signer([Secret(secret)]).why_not(headers, body, time.time())
            assert why == ""


async def test_a_target_that_is_gone_is_reported_at_once(store: Path) -> None:
    """A 410 is logged at once; the target is still called, and its return is logged as well."""
    async with endpoint() as one:
        one.status = 410
        table = routes({"one": {"url": one.url, "owner": "ledger team"}})
        async with house(table, store=store) as router:
            await post(router, 1)
            failing = await router.line("failing")
            assert (failing["target"], failing["owner"]) == ("one", "ledger team")
            assert (failing["reason"], failing["status"]) == ("status", 410)
            take(router, routes({"one": {"url": one.url, "owner": "ledger team", "timeout": "4s"}}))
            await post(router, 2)
            assert len(one.bodies) == 2
            one.status = 200
            assert await post(router, 3) == "000"
            recovered = await router.line("recovered")
            assert (recovered["since"], recovered["attempts"]) == (failing["since"], 2)
            assert len([line for line in router.lines if line["happening"] == "failing"]) == 1
