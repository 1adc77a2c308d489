"""The PostgreSQL store where it differs from SQLite's: its server, its connections, its nodes."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    closing,
)
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any, cast

import pytest

from router.model.errors import StartFailed
from router.routing.index import Glob, GlobInvalid
from router.store.admin import Action, Selection, Verb
from router.store.postgres.admin import KEY_TEXT, PostgresAdmin, regex
from router.store.postgres.connection import _LEAD, ServerConnection, _first, _located, login_of
from router.store.postgres.pool import ENOUGH, SIZE, Batch, Clock
from router.store.postgres.schema import SCHEMA_VERSION
from router.store.postgres.store import _FENCED, PostgresStore, escaped
from router.store.protocol import Stage, State, StoreFailed, StoreLimits
from router.store.url import parse_database
from tests.store.records import (
    LIMITS,
    NOW,
    T,
    acknowledged,
    add,
    awaiting,
    found,
    letter,
    queued,
    record,
    settlement,
    using,
)
from tests.support.command import PATIENCE
from tests.support.postgres import PASSWORD, Database, Server
from tests.support.proxy import Loss, proxy
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

SCHEMA = "ebaas_router"


def opened(dsn: str, limits: StoreLimits = LIMITS) -> AbstractAsyncContextManager[PostgresStore]:
    return using(PostgresStore.open(parse_database(dsn), limits))


async def soon(condition: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def answers(store: PostgresStore) -> bool:
    try:
        await store.find(os.urandom(32), 1.0)
    except StoreFailed:
        return False
    return True


@asynccontextmanager
async def locked(database: Database, table: str) -> AsyncIterator[None]:
    """Nobody can change the table while the block runs."""
    process = await asyncio.create_subprocess_exec(
        *("psql", "-X", "-q", "-A", "-t", database.dsn),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(
        f"BEGIN; LOCK TABLE {SCHEMA}.{table} IN EXCLUSIVE MODE; SELECT 'locked';\n".encode()
    )
    assert await process.stdout.readline() == b"locked\n"
    try:
        yield
    finally:
        await process.communicate(b"ROLLBACK;\n")


# Where it is.


@pytest.mark.parametrize(
    ("url", "parameters"),
    [
        (
            "postgresql://me:pass%40word@db.example:5433/router?sslmode=verify-full&schema=blue",
            {"password": "pass@word", "host": "db.example", "port": "5433"},
        ),
        ("postgresql:///db?host=/run/postgresql", {"host": "/run/postgresql", "dbname": "db"}),
        ("postgresql://a,b/router", {"target_session_attrs": "read-write", "port": None}),
        ("postgresql://a:1,b/router", {"port": "1,"}),
        ("postgresql://a,b/router?target_session_attrs=any", {"target_session_attrs": "any"}),
    ],
)
def test_an_address_is_libpqs(url: str, parameters: dict[str, str | None]) -> None:
    """With several servers the default is the one that accepts writes. Without any port, `PGPORT`
    applies."""
    login = login_of(parse_database(url))
    assert {name: login.get(name) for name in parameters} == parameters


# Calls.


async def test_a_call_that_ends_with_its_time_has_come_to_pass() -> None:
    """Its caller gets the result: a close that was carried out is no failure."""
    answers = asyncio.get_running_loop().create_future()

    async def send(calls: list[str], _: float) -> list[str]:
        await answers
        return calls

    batch = Batch(send, 9)
    asking = asyncio.create_task(batch.ask("settled", 0.2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    # The loop meets both at once: the answer, and the end of the time.
    answers.set_result(None)
    time.sleep(0.5)  # noqa: ASYNC251 - the loop is held on purpose
    assert await asking == "settled"


# Patterns of keys.

#: Characters that are special in a glob, a regular expression, SQL or a terminal.
ALPHABET = "ab.-]^!\\\\\0\0[*?{}()+|$\n\u00e9\U0001f600'\"%_0"

COUNT = 300


def case(random: Random) -> tuple[Glob, str]:
    """A pattern, and a value that has a chance to fit it."""
    while True:
        text = "".join(random.choices(ALPHABET + "**??[[]]--", k=random.randrange(9)))
        try:
            pattern = Glob(text)
        except GlobInvalid:
            continue
        if random.random() < 0.5:
            return pattern, text.replace("*", "ab").replace("?", random.choice(ALPHABET))
        return pattern, "".join(random.choices(ALPHABET, k=random.randrange(7)))


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def test_a_pattern_fits_the_same_keys_as_in_routes(postgresql: Server) -> None:
    """No pattern matches more or fewer keys than its route would, whatever characters it has."""
    random = Random(7)
    cases = [case(random) for _ in range(COUNT)]
    rows = ", ".join(f"({quoted(escaped(text))}, {quoted(regex(glob))})" for glob, text in cases)
    sql = f"SELECT {KEY_TEXT} ~ l.regex FROM (VALUES {rows}) AS l (event_key, regex)"
    fits = [word == "t" for (word,) in postgresql.rows(sql)]
    expected = [pattern.matches(value) for pattern, value in cases]
    assert COUNT / 5 < sum(expected) < COUNT * 4 / 5
    assert fits == expected


# The schema.


async def test_nodes_that_start_together_make_one_schema(database: Database) -> None:
    """One makes it, the others find it, and all of them work."""
    async with AsyncExitStack() as stack:
        nodes = await asyncio.gather(
            *(stack.enter_async_context(opened(database.dsn)) for _ in range(6))
        )
        await asyncio.gather(*(add(node, awaiting()) for node in nodes))
        assert len(await found(nodes[0])) == 6
    assert database.rows(f"SELECT version FROM {SCHEMA}.version") == [(str(SCHEMA_VERSION),)]


async def test_the_next_version_is_worked_with_and_no_later_one(database: Database) -> None:
    """Old nodes go on during a rolling upgrade; a schema further ahead is refused with one line."""
    async with opened(database.dsn):
        database.rows(f"UPDATE {SCHEMA}.version SET version = {SCHEMA_VERSION + 1}")
    async with opened(database.dsn) as store:
        await add(store, awaiting())
    database.rows(f"UPDATE {SCHEMA}.version SET version = {SCHEMA_VERSION + 2}")
    with pytest.raises(StartFailed, match=f"version of its schema is {SCHEMA_VERSION + 2}"):
        await PostgresStore.open(parse_database(database.dsn), LIMITS)


async def test_a_database_that_cant_be_used_is_refused_in_one_line(
    postgresql: Server, database: Database
) -> None:
    """The line has no password."""
    wrong = database.dsn.replace("/test_", "/absent_test_")
    for dsn in (wrong, database.dsn.replace(f"{database.dsn.split(':')[2].split('@')[0]}", "no")):
        with pytest.raises(StartFailed) as failed:
            await PostgresStore.open(parse_database(dsn), LIMITS)
        assert "\n" not in str(failed.value)
        assert PASSWORD not in str(failed.value)
    postgresql.rows("CREATE DATABASE latin1 OWNER router ENCODING 'LATIN1' TEMPLATE template0")
    try:
        with pytest.raises(StartFailed, match="LATIN1"):
            await PostgresStore.open(parse_database(Database(postgresql, "latin1").dsn), LIMITS)
    finally:
        postgresql.rows("DROP DATABASE latin1 WITH (FORCE)")


# Calls.


async def test_calls_of_one_moment_are_one_statement(
    postgresql: Server, database: Database
) -> None:
    """Look-ups, and writes of one kind. Each gets its own answer."""
    bodies = [os.urandom(8) for _ in range(60)]
    async with opened(database.dsn) as store:
        with postgresql.reloaded(log_statement="all"):
            added = await asyncio.gather(*(add(store, awaiting(), body=body) for body in bodies))
            looked_up = await asyncio.gather(*(found(store, body) for body in bodies))
    assert [list(each) for each in looked_up] == [[each.event_id] for each in added]
    assert len(re.findall(rf"{SCHEMA}\.add\(", postgresql.log)) == 1
    assert len(re.findall(rf"{SCHEMA}\.find_records\(", postgresql.log)) == 1


async def test_the_time_is_the_servers(database: Database) -> None:
    """Its error is at most the round trip of the query."""
    async with opened(database.dsn) as store:
        before = store.now()
        ((server,),) = database.rows("SELECT extract(epoch FROM clock_timestamp())")
        assert before - 0.5 < float(server) < store.now() + 0.5


def test_a_quick_answer_is_believed_before_a_slow_one() -> None:
    """Unless the slow one proves that the server's clock was changed."""
    clock, now = Clock(), time.monotonic()
    clock.set(1000.0, now - 0.001, now)
    assert 999.9 < clock.now() < 1001.0
    clock.set(999.7, now - 1.0, now)
    assert clock.now() < 1000.1
    assert clock.error < 0.1
    clock.set(5000.0, now - 1.0, now)
    assert 4999.0 < clock.now() < 5002.0


async def test_a_read_only_server_sets_no_clock() -> None:
    """Only the clock of the server that accepts writes counts."""

    class Standby:
        async def fetch(self, _: str) -> list[tuple[Any, ...]]:
            return [(5000.0, True)]

    clock = Clock()
    with pytest.raises(StoreFailed, match="read_only"):
        await clock.ask(cast("ServerConnection", Standby()))
    assert clock.error == float("inf")


async def test_a_name_is_looked_up_where_nobody_waits_for_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver that hangs delays neither the loop nor the end of the process. Of several names
    and addresses, one that reaches the server is enough."""
    asked: dict[object, bool] = {}
    port = database.server.port

    def getaddrinfo(name: object, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked[name] = threading.current_thread().daemon
        if name == "nobody.test":
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
            for address in ("127.0.0.2", "127.0.0.1")
        ]

    dsn = database.dsn.replace(f"127.0.0.1:{port}", f"nobody.test:{port},server.test:{port}")
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", getaddrinfo)
        async with opened(dsn) as store:
            assert len(store._pool._connections) == 1
    assert asked == {"nobody.test": True, "server.test": True}


async def refused(store: PostgresStore, word: str) -> bool:
    """Return whether calls fail with that word."""
    try:
        await found(store)
    except StoreFailed as error:
        return str(error) == word
    return False


async def test_an_addition_that_is_too_late_has_no_credit(
    postgresql: Server, database: Database
) -> None:
    """An addition commits after its deadline, since its server never gets the request to cancel it.
    No node ever sees it with credit."""
    with proxy(postgresql.port) as between, between.losing(_CANCEL, Loss.ASKING):
        async with opened(database.through(between.port).dsn) as one, opened(database.dsn) as other:
            async with locked(database, "letters"):
                with pytest.raises(StoreFailed, match="slow"):
                    await one.add(record(), letter(), [acknowledged("one"), awaiting("two")], 0.2)
                with pytest.raises(StoreFailed, match="slow"):
                    await one.add(record(), letter(b"behind"), [acknowledged("one")], 0.2)

            async def seen() -> bool:
                records = await found(other)
                assert all(each.credit_revoked for each in (await found(one)).values())
                return bool(records) and all(each.credit_revoked for each in records.values())

            await soon(seen)


#: The beginning of a request to cancel a call, behind its length.
_CANCEL = (80877102).to_bytes(4)


async def test_a_cancelled_call_loses_no_connection(
    database: Database,
) -> None:
    """The next call gets it."""
    store = await PostgresStore.open(parse_database(database.dsn), LIMITS)
    async with AsyncExitStack() as all_of_them:
        for _ in range(SIZE):
            await all_of_them.enter_async_context(store._pool.connection())
        waiting = asyncio.create_task(store.queue(T))
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await store.queue(T) == {}
    await store.close()


async def test_an_outage_fills_no_memory(postgresql: Server, database: Database) -> None:
    """While the server is unreachable nothing grows, but for the calls that were under way."""
    async with opened(database.dsn) as store:
        with postgresql.down():
            for _ in range(20):
                with pytest.raises(StoreFailed):
                    await add(store, awaiting())
            assert len(store._late) <= 1


async def test_an_addition_that_is_lost_for_good_has_no_credit(
    postgresql: Server, database: Database
) -> None:
    """It was carried out, but its answer did not arrive in time."""
    with proxy(postgresql.port) as between:
        async with opened(database.through(between.port).dsn) as store:
            with between.losing(b".add(", Loss.ANSWERING), pytest.raises(StoreFailed):
                await add(store, awaiting())
            (kept,) = (await found(store)).values()
            assert kept.credit_revoked


async def test_a_look_up_under_way_gives_no_revoked_credit(
    postgresql: Server, database: Database
) -> None:
    """It reads the record before the credit is revoked, and its answer arrives afterwards."""
    with proxy(postgresql.port) as between, ExitStack() as fence:
        async with opened(database.through(between.port).dsn) as store:
            fence.enter_context(between.holding(b".fence(", Loss.ASKING))
            with between.losing(b".add(", Loss.ANSWERING), pytest.raises(StoreFailed):
                await add(store, awaiting())
            with between.holding(b".find_records(", Loss.ANSWERING):
                looking = asyncio.create_task(found(store))
                await until(lambda: between.held)
                fence.close()
                await until(lambda: not store._unfenced)
            (kept,) = (await looking).values()
            assert kept.credit_revoked


async def test_credit_of_many_is_revoked_in_small_steps(database: Database) -> None:
    """One statement for thousands would miss its timeout."""
    count = 2 * _FENCED + 1
    async with opened(database.dsn) as store:
        for number in range(count):
            store._fence(f"late-{number}")

        async def spent() -> bool:
            return not store._unfenced

        await soon(spent)
    steps = database.rows("SELECT count(*), count(DISTINCT xmin::text) FROM events WHERE spent")
    assert steps == [(str(count), "3")]


async def test_large_bodies_are_written_one_by_one(database: Database) -> None:
    """Together in one statement they would block the loop for seconds."""
    async with opened(database.dsn, StoreLimits(100 * ENOUGH, share=1.0)) as store:
        bodies = [b"%d" % number * ENOUGH for number in range(4)]
        await asyncio.gather(*(add(store, awaiting(), body=body) for body in bodies))
    assert database.rows("SELECT count(DISTINCT xmin::text) FROM events") == [("4",)]


async def test_a_commit_is_durable_whatever_the_default_is(
    postgresql: Server, database: Database
) -> None:
    """A crash right after it loses nothing."""
    database.rows(f"ALTER DATABASE {database.name} SET synchronous_commit = off")
    with postgresql.configured(wal_writer_delay="10s"):
        async with opened(database.dsn) as store:
            await add(store, awaiting())
        postgresql.restart(immediately=True)
        async with opened(database.dsn) as store:
            assert len(await found(store)) == 1


# Connections.


async def test_a_server_that_hangs_holds_nobody(postgresql: Server, database: Database) -> None:
    """Every call ends by its timeout, and connections of cancelled calls are replaced, not added
    to."""
    async with opened(database.dsn) as store:
        with postgresql.hanging():
            for _ in range(3):
                with pytest.raises(StoreFailed):
                    await store.find(os.urandom(32), 0.1)
        await soon(lambda: answers(store))
        await soon(lambda: asyncio.sleep(0, backends(database) <= 1))


async def test_a_server_that_hangs_delays_no_other(postgresql: Server, database: Database) -> None:
    """Two servers accept connections and say nothing, as after a STOP. The third one is used, and
    no connection to the others is left."""
    with proxy(postgresql.port) as between, ExitStack() as hanging:
        hanging.enter_context(between.hanging())
        async with opened(at_ports(database, between.port, between.port, postgresql.port)) as store:
            assert await found(store) == {}
            hanging.close()
            await soon(lambda: asyncio.sleep(0, between.connections == 0))


async def test_a_server_that_was_replaced_is_used_no_more(
    postgresql: Server, database: Database
) -> None:
    """A standby is promoted while its primary still runs. Once a process has met the new primary,
    it uses no connection to the old one, and makes none."""
    with closing(Server(primary=postgresql)) as standby:
        standby.start()
        async with opened(at_ports(database, standby.port, postgresql.port)) as store:
            assert backends(database) == 1
            await soon(lambda: asyncio.sleep(0, bool(standby.rows(_THERE, database.name))))
            standby.rows("SELECT pg_promote()")
            async with store._pool.connection():
                await found(store)
            await soon(lambda: asyncio.sleep(0, backends(database) == 0))
            assert await found(store) == {}
            assert backends(database) == 0
            standby.stop()
            await soon(lambda: refused(store, "read_only"))


async def test_an_older_server_is_not_chosen_while_credit_is_revoked() -> None:
    """The revocation at a promoted server may take longer than its lead."""
    store = PostgresStore(parse_database("postgresql://router@127.0.0.1/x"), StoreLimits(10**9))
    ended: list[str] = []

    class At:
        def __init__(self, timeline: str, revoking: float = 0.0) -> None:
            self.timeline, self.revoking = timeline, revoking

        async def fetch(self, sql: str) -> list[tuple[Any, ...]]:
            await asyncio.sleep(self.revoking if "spend_all" in sql else 0.0)
            return [("one", self.timeline)] if "pg_control_system" in sql else [(NOW, False)]

        def end(self) -> None:
            ended.append(self.timeline)

    async def way(of: Any) -> Any:
        await store._greet(of)
        return of

    await way(At("00000001"))
    store._pool._connections.add(cast(Any, At("00000001")))
    promoted, older = cast(Any, At("00000002", 3 * _LEAD)), At("00000001")
    assert await _first([partial(way, promoted), partial(way, older)]) is promoted
    assert ended == ["00000001"]
    assert store._timeline == ("one", "00000002")


async def test_hosts_are_tried_in_any_order_if_the_url_says_so() -> None:
    login = login_of(parse_database("postgresql://r@10.0.0.1,10.0.0.2/x?load_balance_hosts=random"))
    firsts = {(await _located(login))[0]["hostaddr"] for _ in range(60)}
    assert firsts == {"10.0.0.1", "10.0.0.2"}


#: A standby has replayed the tables.
_THERE = "SELECT 1 FROM pg_tables WHERE tablename = 'version'"


def at_ports(database: Database, *ports: int) -> str:
    """Return the URL of a database at several ports."""
    one = f"127.0.0.1:{database.server.port}"
    return database.dsn.replace(one, ",".join(f"127.0.0.1:{port}" for port in ports))


async def test_a_call_that_is_given_up_ends_at_the_server_too(
    postgresql: Server, database: Database
) -> None:
    """Many commits wait for a synchronous standby that is away. If they kept their connections, the
    server would have none left."""
    async with opened(database.dsn) as store:
        with postgresql.reloaded(synchronous_standby_names="nobody"):
            for _ in range(20):
                with pytest.raises(StoreFailed, match="slow"):
                    await store.add(record(), letter(), [acknowledged("one")], 0.2)
            # Those of the pool, and what is under way to spend the late ones.
            await soon(lambda: asyncio.sleep(0, backends(database) <= SIZE + 2))
        assert all(each.credit_revoked for each in (await found(store)).values())


@pytest.mark.usefixtures("no_collections")
async def test_a_stop_leaves_no_half_of_a_connection(
    postgresql: Server, database: Database
) -> None:
    """A connection that is being made while the store closes is closed at once. Otherwise its
    server would wait a minute for the password, and the database could not be dropped."""
    with proxy(postgresql.port) as between:
        async with opened(database.through(between.port).dsn) as store:
            with between.hanging():
                with pytest.raises(StoreFailed):
                    await store.find(os.urandom(32), 0.1)
                # What was given up, the request to end it, and the one in its place.
                await soon(lambda: asyncio.sleep(0, between.connections == 3))
                await store.close()
        await soon(lambda: asyncio.sleep(0, between.connections == 0))


async def test_a_call_that_is_given_up_leaves_a_clean_connection(database: Database) -> None:
    """No call gets the answer to another one."""
    async with opened(database.dsn) as store:
        body = b"known"
        added = await add(store, awaiting(), body=body)
        for _ in range(30):
            call = asyncio.create_task(found(store, body))
            await asyncio.sleep(0)
            call.cancel()
            assert await found(store, b"unknown") == {}
            assert list(await found(store, body)) == [added.event_id]


async def test_too_many_connections_are_fewer(postgresql: Server, database: Database) -> None:
    """A process works with those that it has; a process without any gets the word for it."""
    database.rows(f"ALTER DATABASE {database.name} CONNECTION LIMIT 1")
    async with opened(database.dsn) as store:
        calls = (store.usage(T), store.queue(T), store.find(os.urandom(32), T), store.end(0, 1, T))
        await asyncio.gather(*calls)
        assert len(store._pool._connections) == 1
        with pytest.raises(StoreFailed, match="connections"):
            await PostgresStore.open(parse_database(database.dsn), LIMITS)


# Several nodes at once.


async def test_usage_is_right_whatever_is_done_at_once(database: Database) -> None:
    """Nodes change the same events in every way without a deadlock, and the counts are right."""
    async with opened(database.dsn) as one, opened(database.dsn) as two:
        stores = (one, two)
        for _ in range(5):
            added = await asyncio.gather(
                *(
                    add(stores[n % 2], awaiting("a"), queued("b"), ends_at=NOW + 9)
                    for n in range(20)
                )
            )
            ids = [each.event_id for each in added]
            due = await asyncio.gather(*(s.lease("b", NOW, NOW + 60, 5, T) for s in stores))
            closing = [settlement(each, acknowledged("a"), stage=Stage.CLOSED) for each in added]
            await asyncio.gather(
                *(store.settle(closing[n], T) for n in range(0, 20, 4) for store in stores),
                *(
                    store.acknowledge(ids[n], "b", NOW, T)
                    for n in range(19, 0, -3)
                    for store in stores
                ),
                *(
                    store.supersede(ids[n : n + 6], ["a", "b"], NOW, T)
                    for n in range(14)
                    for store in stores
                ),
                *(one.finish(d, d.row, NOW, T) for each in due for d in each),
                *(store.end(NOW + 9, 10, T) for store in stores),
                *(store.prune(NOW + 9999, 10, T) for store in stores),
            )
        usage = await one.usage(T)
        ((rows, size),) = database.rows(
            f"SELECT count(*), coalesce(sum(size), 0) FROM {SCHEMA}.events"
        )
        assert (usage.rows, usage.bytes) == (int(rows), int(size))
        counted = database.rows(
            f"SELECT target, state, count(*) FROM {SCHEMA}.deliveries "
            "WHERE state IN ('awaiting', 'queued') "
            "OR state = 'dead' AND acknowledged_later_at IS NULL GROUP BY target, state"
        )
        there = {(target, State(state)): int(number) for target, state, number in counted}
        assert {key: number for key, number in usage.deliveries.items() if number} == there


async def test_counts_of_ended_backends_are_summed_up(database: Database) -> None:
    """The cost of usage does not grow with the connections of the past."""
    for _ in range(3):
        async with opened(database.dsn) as store:
            await add(store, awaiting())
    left = f"SELECT DISTINCT backend FROM {SCHEMA}.usage"
    async with opened(database.dsn) as store, asyncio.timeout(PATIENCE):
        # The server takes a moment until a backend whose connection has ended is gone.
        while database.rows(left) != [("0",)]:
            await store._pool.call("fold_usage", [], T)
            await asyncio.sleep(0.01)
        assert (await store.usage(T)).rows == 3


def backends(database: Database) -> int:
    """Count the router's connections at the server."""
    ((number,),) = database.rows(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ebaas-router'"
    )
    return int(number)


@pytest.mark.parametrize("loss", Loss)
async def test_a_statement_whose_answer_is_lost_takes_effect_once(
    postgresql: Server, database: Database, loss: Loss
) -> None:
    """It is sent again on another connection, and recognised: an addition has credit, a close is a
    close, a dead letter gets its line in the log, an action counts a delivery once. Another
    request's is refused."""
    with proxy(postgresql.port) as between:
        address = parse_database(database.through(between.port).dsn)
        async with (
            using(PostgresStore.open(address, LIMITS)) as store,
            using(PostgresAdmin.open(address, LIMITS)) as admin,
        ):
            with between.losing(b".add(", loss, once=True):
                record_ = await add(store, queued(), awaiting("two"))
            (kept,) = (await found(store)).values()
            assert not kept.credit_revoked
            closing = settlement(record_, acknowledged("two"), stage=Stage.CLOSED)
            with between.losing(b".settle(", loss, once=True):
                assert await store.settle(closing, T)
            assert not await store.settle(closing, T)
            (due,) = await store.lease("one", NOW, NOW + 100, 1, T)
            row = replace(due.row, state=State.DEAD)
            with between.losing(b".finish(", loss, once=True):
                assert await store.finish(due, row, NOW + 1, T)
            assert not await store.finish(due, row, NOW + 2, T)
            (page,) = [each async for each in admin.pages(Selection(targets=("one",)), 9)]
            action = Action("action", Verb.DISCARD, "ops", "these", NOW)
            with between.losing(b".act(", loss, once=True):
                assert await admin.act(action, page) == 1
    assert database.rows("SELECT deliveries FROM actions") == [("1",)]
