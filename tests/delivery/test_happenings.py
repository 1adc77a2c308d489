"""The router's own events: sent once, to the right targets, at no cost to other events."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from router.contract.schema import Schema
from router.delivery.notifications import (
    GATHERED,
    LAST_CHANCE,
    MAX_PER_ROUND,
    QUIET_FOR,
    REPORT_STORE_AFTER,
    TARGET_FAILING,
)
from router.delivery.target.gate import Failing
from router.routing.table import Route, RouteTable
from router.routing.target import Target
from router.store.opening import NoStore
from router.store.postgres.store import PostgresStore
from router.store.protocol import State, Store, StoreFailed, StoreLimits
from router.store.sqlite.store import SqliteStore
from router.store.url import parse_database
from tests.support.hostile import hostile
from tests.support.house import House, event, house, routes
from tests.support.notified import NO, TARGETS, YES, Faulty, Process, T, to
from tests.support.postgres import Database
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

LIMITS = StoreLimits(1 << 30)

SCHEMA = Schema.shipped()


@pytest.fixture(autouse=True)
def _clock() -> None:
    Process.ahead = 0.0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await SqliteStore.open(tmp_path / "store.db", LIMITS, now=Process.now)
    yield store
    await store.close()


_schemas = itertools.count()


@asynccontextmanager
async def _two(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[Store]]:
    async with AsyncExitStack() as closing:
        stores: list[Store] = []
        if request.param == "postgresql":
            database: Database = request.getfixturevalue("database")
            address = parse_database(f"{database.dsn}?schema=test_{next(_schemas)}")
        for _ in range(2):
            opened: Any
            if request.param == "postgresql":
                opened = await PostgresStore.open(address, LIMITS)
                opened.now = Process.now
            else:
                opened = await SqliteStore.open(tmp_path / "store.db", LIMITS, now=Process.now)
            closing.push_async_callback(opened.close)
            stores.append(opened)
        yield stores


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
async def two(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[Store]]:
    """One store, opened by two processes."""
    async with _two(request, tmp_path) as stores:
        yield stores


async def test_it_has_the_contracts_own_form(store: Store) -> None:
    """Any receiver accepts it; it has the target's owner, its answer and what waits for it."""
    one = Process(store, to("bot"))
    one.metrics.of("ledger").unsettled.update({State.AWAITING: 30, State.QUEUED: 7, State.DEAD: 5})
    one.metrics.of("ledger").expires_at = 1_003_600.0
    one.fails()
    (body,) = await one.sends()
    assert not list(SCHEMA.faults(body))
    assert body == {
        "event_source": "ebaas-router",
        "event_topic": "target",
        "event_type": "failing",
        "event_status": "1",
        "event_key": "ebaas-router.target.failing.ledger",
        "changes": ["ledger"],
        "detail": {
            "owner": "team ledger",
            "waiting": 37,
            "expires_at": "1970-01-12T14:46:40Z",
            "since": "1970-01-12T13:46:40Z",
            "attempts": 12,
            "reason": "code",
            "status": 200,
            "said": "700 库存不足",
        },
    }


async def test_no_target_receives_notifications_about_itself(store: Store) -> None:
    one = Process(store, to("bot", "other"))
    one.fails("bot")
    assert await one.sends("bot") == []
    assert [body["changes"] for body in await one.sends("other")] == [["bot"]]


async def test_without_a_route_nothing_is_made(store: Store) -> None:
    """A route for all keys does not count: nothing waits, nothing is asked of the store."""
    one = Process(store, RouteTable([Route("all", {}, optional=("bot",))], TARGETS), 1.0)
    Process.ahead = 3600.0
    one.fails()
    one.notifications.dead("ledger", "timeout", "id", "a.b.c.1")
    one.notifications.reloaded("hash", ["route all: added"], (), "")
    assert not one.notifications._waiting
    one.store = cast("Store", Faulty(store, "notice", AssertionError()))
    assert await one.sends() == []


async def test_a_storm_of_dead_letters_is_a_count(store: Store) -> None:
    """One is sent at once, the rest as one a minute later."""
    one = Process(store, to("bot"))
    bodies = []
    for number in range(10_000):
        one.notifications.dead("ledger", "timeout", f"id-{number}", "a.b.c.1")
        if number in (0, 5_000):
            bodies += await one.sends()
    Process.ahead = GATHERED
    bodies += await one.sends()
    assert [body["detail"]["count"] for body in bodies] == [1, 9_999]
    assert {body["event_key"] for body in bodies} == {"ebaas-router.delivery.dead.ledger"}
    Process.ahead = 3 * GATHERED
    assert await one.sends() == []


async def test_a_dead_letter_of_its_own_makes_no_other(store: Store) -> None:
    """Otherwise a dead bot would cause notifications without end."""
    one = Process(store, to("bot", "other"))
    one.notifications.dead("bot", "timeout", "id", "ebaas-router.target.failing.ledger")
    assert await one.sends("other") == []


async def test_the_last_chance_is_sent_once_an_hour_before(store: Store) -> None:
    """The store says every second when the first event expires."""
    one = Process(store, to("bot"))
    end = Process.now() + LAST_CHANCE
    counts = []
    for ahead in (-60.0, -1.0, 1.0, 2.0, 1800.0):
        Process.ahead = ahead
        one.notifications.expires_at({"ledger": end}, Process.now())
        counts.append(len(await one.sends()))
    assert counts == [0, 0, 1, 0, 0]


async def test_of_two_processes_one_tells(two: list[Store]) -> None:
    """Both see a target fail and recover, one more than once and one later; then it fails anew."""
    one, other = (Process(store, to("bot")) for store in two)
    types: list[str] = []

    async def send() -> None:
        both = await asyncio.gather(one.sends(), other.sends())
        types.extend(body["event_type"] for body in itertools.chain(*both))

    for last in (NO, YES, NO):
        one.fails(last=last)
        other.fails(last=last)
        await send()
        Process.ahead += 30.0
        other.fails(last=last)
        await send()
    assert types == ["failing", "recovered", "failing"]
    Process.ahead += QUIET_FOR
    one.fails()
    other.fails()
    await send()
    assert types[3:] == ["failing"]


async def test_a_recovery_is_reported_once_its_backlog_is_sent(store: Store) -> None:
    """One event, not two: how many deliveries the target had missed, and how long they took. A
    target that fails anew meanwhile has not recovered."""
    one = Process(store, to("bot"))
    unsettled = one.metrics.of("ledger").unsettled
    for ends in (one.notifications.backlog_sent, lambda _: one.notifications.waiting({"other"})):
        unsettled.update({State.AWAITING: 30, State.QUEUED: 7})
        one.fails()
        one.fails(last=YES)
        one.notifications.waiting({"ledger"})
        assert [body["event_type"] for body in await one.sends()] == ["failing"]
        unsettled.clear()
        ends("ledger")
        (body,) = await one.sends()
        detail = body["detail"]
        assert (body["event_type"], detail["missed"], detail["waiting"]) == ("recovered", 37, 0)
        assert 0 <= detail["backlog_seconds"] < T
    unsettled.update({State.AWAITING: 1})
    for last in (NO, YES, NO):
        one.fails(last=last)
    one.notifications.backlog_sent("ledger")
    assert [body["event_type"] for body in await one.sends()] == ["failing"]


async def test_without_a_recovery_the_next_acknowledgement_is_reported(store: Store) -> None:
    """With `recovery: manual` what waits is nobody's backlog."""
    one = Process(store, to("bot"))
    one.in_force = replace(one.in_force, terms=replace(one.in_force.terms, recovers=False))
    one.metrics.of("ledger").unsettled.update({State.AWAITING: 30})
    one.fails()
    await one.sends()
    one.fails(last=YES)
    (body,) = await one.sends()
    assert (body["event_type"], body["detail"]["waiting"]) == ("recovered", 30)
    assert "missed" not in body["detail"]


async def test_two_processes_dead_letters_are_all_counted(two: list[Store]) -> None:
    """Each process reports its own, and together they send one a minute at most."""
    one, other = (Process(store, to("bot")) for store in two)
    for _ in range(3):
        one.notifications.dead("ledger", "timeout", "id", "a.b.c.1")
        other.notifications.dead("ledger", "timeout", "id", "a.b.c.1")
    counts = []
    for _ in range(4):
        bodies = [body for process in (one, other) for body in await process.sends()]
        assert len(bodies) <= 1
        counts += [body["detail"]["count"] for body in bodies]
        Process.ahead += GATHERED
    assert counts == [3, 3]


async def test_one_configuration_is_reported_once(two: list[Store]) -> None:
    """Each process takes or refuses it by itself; the next one is reported again."""
    one, other = (Process(store, to("bot")) for store in two)
    keys = []
    for config, problems in (("a", ()), ("", ("routes.yaml:1:1: no",)), ("b", ()), ("a", ())):
        for process in (one, other):
            process.notifications.reloaded(config, ["route all: changed"], problems, "")
            keys += [body["event_key"] for body in await process.sends()]
    topics = [key.removeprefix("ebaas-router.config.") for key in keys]
    assert topics == ["changed", "refused", "changed", "changed"]


async def test_each_owner_of_refused_files_is_told_apart(store: Store) -> None:
    """The key and the detail have the owner, so that a route can be for one team. A target with the
    owner's name gets it too."""
    process = Process(store, to("bot"))
    for owner in ("", "bot", "team ledger"):
        process.notifications.reloaded("", (), (f"routes.yaml: {owner}",), owner)
    bodies = await process.sends()
    assert [body["event_key"].removeprefix("ebaas-router.config.") for body in bodies] == [
        "refused",
        "refused.bot",
        "refused.team ledger",
    ]
    assert bodies[2]["detail"] == {"problems": ["routes.yaml: team ledger"], "owner": "team ledger"}


async def test_without_a_store_there_is_one_attempt() -> None:
    """It leaves at once, and nobody waits for it; a lost one is counted."""
    one = Process(NoStore(), to("bot"))
    one.fails()
    one.answer = NO
    await one.sends()
    await one.sends()
    await asyncio.sleep(0)  # for the end of the attempt
    ((name, letter),) = one.sent
    assert (name, json.loads(letter.event.body)["event_type"]) == ("bot", "failing")
    assert f"webhook-id: {letter.event_id}".encode() in letter.head
    assert one.metrics.of("bot").lost == 1


async def test_an_outage_of_the_store_is_reported_without_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it has lasted for a while, and once it is over; a short fault is not reported."""
    clock = 1000.0
    monkeypatch.setattr(Process, "seconds", staticmethod(lambda: clock))
    one = Process(store, to("bot"))
    notifications = one.notifications
    notifications.store_failed(StoreFailed("lost"))
    notifications.store_back(1.0)
    notifications.store_failed(StoreFailed("lost"))
    full = cast("Store", Faulty(store, "add", StoreFailed("lost")))
    for _ in range(3):
        await notifications.hand_over(full, one.send)
        clock += REPORT_STORE_AFTER
        notifications.store_failed(StoreFailed("lost"))
    await notifications.hand_over(full, one.send)
    assert [letter.event.event_key for _, letter in one.sent] == ["ebaas-router.store.failing"]
    notifications.store_back(93.04)
    (body,) = await one.sends()
    assert (body["event_key"], body["detail"]) == ("ebaas-router.store.back", {"seconds": 93.0})


async def test_without_an_answer_of_the_store_it_is_sent_all_the_same(store: Store) -> None:
    """Better by several processes than by none; by each of them once."""
    one = Process(store, to("bot"))
    slow = StoreFailed("slow")
    away = cast("Store", Faulty(Faulty(store, "notice", slow), "add", slow))
    for _ in range(3):
        one.fails()
        await one.notifications.hand_over(away, one.send)
    assert [letter.event.event_key for _, letter in one.sent] == [
        "ebaas-router.target.failing.ledger"
    ]


async def test_a_round_sends_some_of_many(store: Store) -> None:
    """The rest waits for the next round."""
    count = MAX_PER_ROUND + 9
    targets = {f"t{n}": Target(f"t{n}", "http://127.0.0.1/") for n in range(count)}
    ours = Route("ours", {"event_key": ("ebaas-router.*",)}, optional=("bot",))
    one = Process(store, RouteTable([ours], {**TARGETS, **targets}))
    for target in targets.values():
        one.notifications.failing(target, Failing(0.0, 1, NO))
    assert [len(await one.sends()) for _ in range(3)] == [MAX_PER_ROUND, 9, 0]


async def test_silence_means_that_no_process_gets_events(two: list[Store]) -> None:
    """One process reports it, and one reports its end."""
    one, other = (Process(store, to("bot"), 600.0) for store in two)

    async def sent_in(seconds: float, *busy: Process) -> list[str]:
        """Let time pass, in steps of half a minute, while these get events."""
        types = []
        for _ in range(round(seconds / 30)):
            Process.ahead += 30.0
            # The test moves the store's clock alone: as if the last event were so much older.
            for process in (one, other):
                process.metrics.last_event -= 30.0
                process.notifications._silence._began -= 30.0
            for process in busy:
                process.metrics.event("000", 0.1)
            both = await asyncio.gather(one.sends(), other.sends())
            types += [body["event_type"] for body in itertools.chain(*both)]
        return types

    assert await sent_in(1800.0, one) == []
    assert await sent_in(540.0) == []
    assert await sent_in(7200.0) == ["silent"]
    assert await sent_in(1200.0, one, other) == ["back"]


@pytest.mark.parametrize(
    "bot", ["hangs", "closes_at_once", "moved", "code_number"], ids=lambda name: name
)
@pytest.mark.parametrize("kept", [True, False], ids=["sqlite", "none"])
async def test_a_bot_costs_events_nothing(tmp_path: Path, bot: str, kept: bool) -> None:
    """Events go on while it hangs, refuses, redirects or never acknowledges; its notification is
    tried once, or waits in the queue."""
    async with hostile("answers") as ledger, hostile(bot) as served:
        table = routes({"ledger": ledger.url}, {})
        table["targets"]["bot"] = {"url": served.url, "timeout": "60s"}
        ours = {"name": "ours", "match": "ebaas-router.*", "optional": ["bot"]}
        table["routes"].append(ours)
        async with house(table, store=tmp_path / "store.db" if kept else None) as router:
            router.app.notifications.notify(TARGET_FAILING, {"since": "now"}, "ledger")
            await router.line("own_event")
            if bot == "hangs":
                await until(lambda: _in_flight(router))
            else:
                await router.line("retried" if kept else "own_event")
            replies = [await router.post(event(changes=[n])) for n in range(20)]
            assert {reply.json()["code"] for reply in replies} == {"000"}
            assert router.app.metrics.event_seconds.sum < 2.0


def _in_flight(router: House) -> int:
    router.app.sender.measure()
    return router.app.metrics.of("bot").in_flight
