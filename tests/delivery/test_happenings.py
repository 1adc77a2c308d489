"""What happens to the router becomes events of its own: once, to the right ones, at no cost."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from router.contract.schema import Schema
from router.delivery.happenings import (
    GATHERED,
    LAST_CHANCE,
    MAX_TOLD,
    MAX_UNTOLD,
    QUIET_FOR,
    STORE_TOLD_AFTER,
    TARGET_FAILING,
    Happenings,
)
from router.delivery.target.gate import Failing
from router.routing.table import Route, RouteTable
from router.routing.target import Target
from router.store.opening import NoStore
from router.store.postgres.connection import DatabaseAddress
from router.store.postgres.store import PostgresStore
from router.store.protocol import State, Store, StoreFailed, StoreLimits
from router.store.sqlite.store import SqliteStore
from tests.support.effort import LONG
from tests.support.happened import NO, TARGETS, YES, Faulty, Process, T, to
from tests.support.hostile import hostile
from tests.support.house import House, event, house, routes
from tests.support.postgres import Database
from tests.support.receivers import GOOD, Right
from tests.support.receivers import serving as receiving
from tests.support.serving import Serving
from tests.support.waiting import until, wait_until

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
            address = DatabaseAddress.parse(f"{database.dsn}?schema=test_{next(_schemas)}")
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
    """As any receiver takes it; the target's owner, its own words and what waits are in it."""
    one = Process(store, to("bot"))
    one.metrics.of("ledger").unsettled.update({State.AWAITING: 30, State.QUEUED: 7, State.DEAD: 5})
    one.metrics.of("ledger").gives_up = 1_003_600.0
    one.fails()
    (told,) = await one.told()
    assert not list(SCHEMA.faults(told))
    assert told == {
        "event_source": "ebaas-router",
        "event_topic": "target",
        "event_type": "failing",
        "event_status": "1",
        "event_key": "ebaas-router.target.failing.ledger",
        "changes": ["ledger"],
        "detail": {
            "owner": "team ledger",
            "waiting": 37,
            "gives_up": "1970-01-12T14:46:40Z",
            "since": "1970-01-12T13:46:40Z",
            "attempts": 12,
            "reason": "code",
            "status": 200,
            "said": "700 库存不足",
        },
    }


async def test_nobody_hears_of_itself(store: Store) -> None:
    """A bot that fails is told to others, never to the bot."""
    one = Process(store, to("bot", "other"))
    one.fails("bot")
    assert await one.told("bot") == []
    assert [told["changes"] for told in await one.told("other")] == [["bot"]]


async def test_without_a_route_nothing_is_made(store: Store) -> None:
    """A route for all keys is none for these: nothing waits, nothing is asked of the store."""
    one = Process(store, RouteTable([Route("all", {}, optional=("bot",))], TARGETS), 1.0)
    Process.ahead = 3600.0
    one.fails()
    one.happenings.dead("ledger", "timeout", "id", "a.b.c.1")
    one.happenings.reloaded("hash", ["route all: added"], ())
    assert not one.own._waiting
    one.store = cast("Store", Faulty(store, "notice", AssertionError()))
    assert await one.told() == []


async def test_a_storm_of_dead_letters_is_a_count(store: Store) -> None:
    """One is told at once, the rest a minute later: nobody gets ten thousand messages."""
    one = Process(store, to("bot"))
    told = []
    for number in range(10_000):
        one.happenings.dead("ledger", "timeout", f"id-{number}", "a.b.c.1")
        if number in (0, 5_000):
            told += await one.told()
    Process.ahead = GATHERED
    told += await one.told()
    assert [each["detail"]["count"] for each in told] == [1, 9_999]
    assert {each["event_key"] for each in told} == {"ebaas-router.delivery.dead.ledger"}
    Process.ahead = 3 * GATHERED
    assert await one.told() == []


async def test_a_dead_letter_of_its_own_makes_no_other(store: Store) -> None:
    """Else a dead bot would never come to an end."""
    one = Process(store, to("bot", "other"))
    one.happenings.dead("bot", "timeout", "id", "ebaas-router.target.failing.ledger")
    assert await one.told("other") == []


async def test_the_last_chance_is_told_once_an_hour_before(store: Store) -> None:
    """Though the store says every second when the first event is given up."""
    one = Process(store, to("bot"))
    end = Process.now() + LAST_CHANCE
    told = []
    for ahead in (-60.0, -1.0, 1.0, 2.0, 1800.0):
        Process.ahead = ahead
        one.happenings.gives_up({"ledger": end}, Process.now())
        told.append(len(await one.told()))
    assert told == [0, 0, 1, 0, 0]


async def test_of_two_processes_one_tells(two: list[Store]) -> None:
    """Both see a target fail and recover, one more than once and one later; then it fails anew."""
    one, other = (Process(store, to("bot")) for store in two)
    told: list[str] = []

    async def hear() -> None:
        both = await asyncio.gather(one.told(), other.told())
        told.extend(each["event_type"] for each in itertools.chain(*both))

    for last in (NO, YES, NO):
        one.fails(last=last)
        other.fails(last=last)
        await hear()
        Process.ahead += 30.0
        other.fails(last=last)
        await hear()
    assert told == ["failing", "recovered", "failing"]
    Process.ahead += QUIET_FOR
    one.fails()
    other.fails()
    await hear()
    assert told[3:] == ["failing"]


async def test_two_processes_dead_letters_are_all_counted(two: list[Store]) -> None:
    """Each is told by who has seen it, and together they tell once a minute at most."""
    one, other = (Process(store, to("bot")) for store in two)
    for _ in range(3):
        one.happenings.dead("ledger", "timeout", "id", "a.b.c.1")
        other.happenings.dead("ledger", "timeout", "id", "a.b.c.1")
    counts = []
    for _ in range(4):
        told = [each for process in (one, other) for each in await process.told()]
        assert len(told) <= 1
        counts += [each["detail"]["count"] for each in told]
        Process.ahead += GATHERED
    assert counts == [3, 3]


async def test_one_configuration_is_told_once(two: list[Store]) -> None:
    """Each process takes it or refuses it by itself; the next one is told again."""
    one, other = (Process(store, to("bot")) for store in two)
    told = []
    for config, problems in (("a", ()), ("", ("routes.yaml:1:1: no",)), ("b", ()), ("a", ())):
        for process in (one, other):
            process.happenings.reloaded(config, ["route all: changed"], problems)
            told += [each["event_key"] for each in await process.told()]
    assert told == [
        "ebaas-router.config.changed",
        "ebaas-router.config.refused",
        "ebaas-router.config.changed",
        "ebaas-router.config.changed",
    ]


async def test_without_a_store_there_is_one_attempt() -> None:
    """It goes out at once, and nobody waits for it; what is lost is counted."""
    one = Process(NoStore(), to("bot"))
    one.fails()
    one.answer = NO
    await one.told()
    await one.told()
    await asyncio.sleep(0)  # the turn in which the attempt's end is heard of
    ((name, letter),) = one.sent
    assert (name, json.loads(letter.event.body)["event_type"]) == ("bot", "failing")
    assert f"webhook-id: {letter.event_id}".encode() in letter.head
    assert one.metrics.of("bot").lost == 1


async def test_a_store_that_is_away_is_told_past_it(store: Store) -> None:
    """Once it has failed for a while, and once it is back; a short fault is no matter."""
    clock = 1000.0
    one = Process(store, to("bot"))
    one.happenings = Happenings(one.own.tell, lambda: clock)
    one.happenings.store_failed(StoreFailed("lost"))
    one.happenings.store_back(1.0)
    one.happenings.store_failed(StoreFailed("lost"))
    full = cast("Store", Faulty(store, "add", StoreFailed("lost")))
    for _ in range(3):
        await one.own.hand_over(full, one.send)
        clock += STORE_TOLD_AFTER
        one.happenings.store_failed(StoreFailed("lost"))
    await one.own.hand_over(full, one.send)
    assert [letter.event.event_key for _, letter in one.sent] == ["ebaas-router.store.failing"]
    one.happenings.store_back(93.04)
    (told,) = await one.told()
    assert (told["event_key"], told["detail"]) == ("ebaas-router.store.back", {"seconds": 93.0})


async def test_what_the_store_cannot_be_asked_about_is_told_all_the_same(store: Store) -> None:
    """Rather by several processes than by none; by each of them once."""
    one = Process(store, to("bot"))
    slow = StoreFailed("slow")
    away = cast("Store", Faulty(Faulty(store, "notice", slow), "add", slow))
    for _ in range(3):
        one.fails()
        await one.own.hand_over(away, one.send)
    assert [letter.event.event_key for _, letter in one.sent] == [
        "ebaas-router.target.failing.ledger"
    ]


async def test_what_waits_is_bounded_and_what_is_dropped_is_counted(store: Store) -> None:
    """However much happens at once, and a round takes a part of it."""
    targets = {f"t{n}": Target(f"t{n}", "http://127.0.0.1/") for n in range(MAX_UNTOLD + 9)}
    ours = Route("ours", {"event_key": ("ebaas-router.*",)}, optional=("bot",))
    one = Process(store, RouteTable([ours], {**TARGETS, **targets}))
    for target in targets.values():
        one.happenings.failing(target, Failing(0.0, 1, NO))
    told = await one.told()
    assert len(told) == MAX_TOLD
    assert sum(each["detail"].get("dropped", 0) for each in told) == 9


async def test_a_route_that_is_gone_meanwhile_leaves_nothing(store: Store) -> None:
    """What waits is told by the routes that are in force then."""
    one = Process(store, to("bot"))
    one.fails()
    one.in_force = replace(one.in_force, table=to())
    assert await one.told() == []
    assert (await store.usage(T)).rows == 0


async def test_silence_is_what_no_process_hears(two: list[Store]) -> None:
    """As long as one hears events the other is no matter; then one tells it, and one its end."""
    one, other = (Process(store, to("bot"), 600.0) for store in two)

    async def told_in(seconds: float, *hear: Process) -> list[str]:
        """While events come to these; it is looked at every half minute."""
        told = []
        for _ in range(round(seconds / 30)):
            Process.ahead += 30.0
            # The test moves the store's clock alone: as if the last event were so much older.
            for process in (one, other):
                process.metrics.last_event -= 30.0
                process.own._silence._began -= 30.0
            for process in hear:
                process.metrics.event("000", 0.1)
            both = await asyncio.gather(one.told(), other.told())
            told += [each["event_type"] for each in itertools.chain(*both)]
        return told

    assert await told_in(1800.0, one) == []
    assert await told_in(540.0) == []
    assert await told_in(7200.0) == ["silent"]
    assert await told_in(1200.0, one, other) == ["back"]


async def test_a_router_that_has_just_started_is_no_silence(store: Store) -> None:
    """It has not listened for long enough."""
    one = Process(store, to("bot"), 600.0)
    told = []
    for seconds in (500.0, 200.0):
        one.metrics.last_event -= seconds
        one.own._silence._began -= seconds
        told.append([each["event_type"] for each in await one.told()])
    assert told == [[], ["silent"]]


@pytest.mark.parametrize(
    "bot", ["hangs", "closes_at_once", "moved", "code_number"], ids=lambda name: name
)
@pytest.mark.parametrize("kept", [True, False], ids=["sqlite", "none"])
async def test_a_bot_costs_events_nothing(tmp_path: Path, bot: str, kept: bool) -> None:
    """One that hangs, refuses, redirects or never acknowledges: events go on meanwhile, and what
    it is owed is tried once, or waits in the queue."""
    async with hostile("answers") as ledger, hostile(bot) as served:
        table = routes({"ledger": ledger.url}, {})
        table["targets"]["bot"] = {"url": served.url, "timeout": "60s"}
        ours = {"name": "ours", "match": "ebaas-router.*", "optional": ["bot"]}
        table["routes"].append(ours)
        async with house(table, store=tmp_path / "store.db" if kept else None) as router:
            router.app.parts.own_events.tell(TARGET_FAILING, {"since": "now"}, "ledger")
            await router.line("own_event")
            if bot == "hangs":
                await until(lambda: _in_flight(router))
            else:
                await router.line("retried" if kept else "own_event")
            replies = [await router.post(event(changes=[n])) for n in range(20)]
            assert {reply.json()["code"] for reply in replies} == {"000"}
            assert router.app.metrics.event_seconds.sum < 2.0


def _in_flight(router: House) -> int:
    router.app.parts.sender.measure()
    return router.app.metrics.of("bot").in_flight


@pytest.mark.skipif(not LONG, reason="seconds: make test-long")
@pytest.mark.postgresql
def test_nodes_tell_it_once(tmp_path: Path, database: Database) -> None:
    """Two real nodes on one store: both find a target that is not there, both refuse a
    routes.yaml and take another; a bot hears of each once, under the contract."""
    heard: list[dict[str, Any]] = []

    class Bot(Right):
        def judge(self, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
            heard.append({**json.loads(body), "key": headers["x-ebaas-event-key"]})
            return 200, GOOD

    def keys() -> Counter[str]:
        return Counter(each["event_key"] for each in heard)

    class Gone(Right):
        def judge(self, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
            return 404, b""

    with receiving(Gone) as ledger, receiving(Bot) as bot:
        table = routes(None, {"ledger": {"url": ledger, "acknowledge": "status"}})
        table["targets"]["bot"] = {"url": bot}
        ours = {"name": "ours", "match": "ebaas-router.*", "optional": ["bot"]}
        table["routes"].append(ours)
        file = tmp_path / "routes.yaml"
        file.write_text(json.dumps(table))

        def reload(text: str, result: str, count: int) -> None:
            file.write_text(text)
            for node in (one, other):
                node.process.send_signal(signal.SIGHUP)
                node.wait_for(partial(have, node, result, count))

        def have(node: Serving, result: str, count: int) -> bool:
            return [each["result"] for each in node.lines("reload")].count(result) == count

        one, other = (Serving(file, database, (), {}) for _ in range(2))
        with closing(one), closing(other):
            for name in range(10):
                assert one.post(f"{name}") == other.post(f"other {name}") == "000"
            wait_until(lambda: keys()["ebaas-router.target.failing.ledger"])
            reload("{}", "refused", 1)
            wait_until(lambda: keys()["ebaas-router.config.refused"])
            reload(json.dumps({**table, "ebaas": {"grace": "61s"}}), "taken", 1)
            wait_until(lambda: keys()["ebaas-router.config.changed"] == 1)
            # Whoever had told anything else a second time has done so by the end of this.
            reload(json.dumps({**table, "ebaas": {"grace": "62s"}}), "taken", 2)
            wait_until(lambda: keys()["ebaas-router.config.changed"] == 2)
    assert keys() == {
        "ebaas-router.target.failing.ledger": 1,
        "ebaas-router.config.refused": 1,
        "ebaas-router.config.changed": 2,
    }
    assert all(each["key"] == each["event_key"] for each in heard)
