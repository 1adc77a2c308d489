"""The PostgreSQL store where it is not like SQLite's: its server, its connections, its nodes."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import trustme

from router.model.errors import StartFailed
from router.store.admin import Action, Selection, Verb
from router.store.postgres.admin import PostgresAdmin
from router.store.postgres.connection import DatabaseAddress, ServerConnection
from router.store.postgres.encoding import escaped, unescaped
from router.store.postgres.pool import ENOUGH, SIZE, Clock
from router.store.postgres.schema import SCHEMA_VERSION
from router.store.postgres.store import _FENCED, PostgresStore
from router.store.protocol import Stage, State, StoreFailed, StoreLimits
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
)
from tests.support.command import PATIENCE
from tests.support.postgres import PASSWORD, Database, Server, pgbouncer
from tests.support.proxy import Loss, proxy
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

SCHEMA = "ebaas_router"


@asynccontextmanager
async def opened(dsn: str, limits: StoreLimits = LIMITS) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(DatabaseAddress.parse(dsn), limits)
    try:
        yield store
    finally:
        await store.close()


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


def test_an_address_is_libpqs() -> None:
    """With its parameters, of which the schema is our own."""
    address = DatabaseAddress.parse(
        "postgresql://me:pass%40word@db.example:5433/router?sslmode=verify-full&schema=blue"
    )
    parameters = address.parameters
    assert parameters["password"] == "pass@word"
    assert (parameters["host"], parameters["port"]) == ("db.example", "5433")
    assert (parameters["sslmode"], address.schema) == ("verify-full", "blue")


def test_an_address_may_name_no_server_but_its_host() -> None:
    """A socket's folder, say."""
    parameters = DatabaseAddress.parse("postgresql:///db?host=/run/postgresql").parameters
    assert (parameters["host"], parameters["dbname"]) == ("/run/postgresql", "db")


def test_of_several_servers_the_one_that_takes_writes() -> None:
    """Unless the address asks for another."""
    several = DatabaseAddress.parse("postgresql://a,b/router").parameters
    assert several["target_session_attrs"] == "read-write"
    asked = DatabaseAddress.parse("postgresql://a,b/router?target_session_attrs=any").parameters
    assert asked["target_session_attrs"] == "any"


@pytest.mark.parametrize("text", ["", "plain", "\0", "\\", "\\0", "a\0\\0\\\\\0b"])
def test_an_escaped_text_comes_back(text: str) -> None:
    """And has no NUL meanwhile."""
    assert "\0" not in escaped(text)
    assert unescaped(escaped(text)) == text


# The schema.


async def test_nodes_that_start_together_make_one_schema(database: Database) -> None:
    """One makes it, the others see it made, and all of them work."""
    async with AsyncExitStack() as stack:
        nodes = await asyncio.gather(
            *(stack.enter_async_context(opened(database.dsn)) for _ in range(6))
        )
        await asyncio.gather(*(add(node, awaiting()) for node in nodes))
        assert len(await found(nodes[0])) == 6
    assert database.rows(f"SELECT version FROM {SCHEMA}.version") == [(str(SCHEMA_VERSION),)]


async def test_the_next_version_is_worked_with_and_no_later_one(database: Database) -> None:
    """Old nodes go on while new ones come; a store from further ahead is refused in one line."""
    async with opened(database.dsn):
        database.rows(f"UPDATE {SCHEMA}.version SET version = {SCHEMA_VERSION + 1}")
    async with opened(database.dsn) as store:
        await add(store, awaiting())
    database.rows(f"UPDATE {SCHEMA}.version SET version = {SCHEMA_VERSION + 2}")
    with pytest.raises(StartFailed, match=f"version of its schema is {SCHEMA_VERSION + 2}"):
        await PostgresStore.open(DatabaseAddress.parse(database.dsn), LIMITS)


async def test_two_schemas_are_two_stores(database: Database) -> None:
    """In one database."""
    async with opened(database.dsn) as one, opened(f"{database.dsn}?schema=other") as other:
        await add(one, awaiting())
        assert await found(other) == {}


async def test_a_database_that_cant_be_used_is_refused_in_one_line(
    postgresql: Server, database: Database
) -> None:
    """And no password is in it."""
    wrong = database.dsn.replace("/test_", "/absent_test_")
    for dsn in (wrong, database.dsn.replace(f"{database.dsn.split(':')[2].split('@')[0]}", "no")):
        with pytest.raises(StartFailed) as failed:
            await PostgresStore.open(DatabaseAddress.parse(dsn), LIMITS)
        assert "\n" not in str(failed.value)
        assert PASSWORD not in str(failed.value)
    postgresql.rows("CREATE DATABASE latin1 OWNER router ENCODING 'LATIN1' TEMPLATE template0")
    try:
        with pytest.raises(StartFailed, match="LATIN1"):
            await PostgresStore.open(
                DatabaseAddress.parse(Database(postgresql, "latin1").dsn), LIMITS
            )
    finally:
        postgresql.rows("DROP DATABASE latin1 WITH (FORCE)")


async def test_a_server_that_is_away_at_the_start_may_come(
    postgresql: Server, database: Database
) -> None:
    """It is no reason to give up."""
    with postgresql.down(), pytest.raises(StoreFailed, match="unreachable"):
        await PostgresStore.open(DatabaseAddress.parse(database.dsn), LIMITS)


# What is asked.


async def test_look_ups_of_one_moment_are_one_statement(
    postgresql: Server, database: Database
) -> None:
    """So are writes of one kind; the first of them waits for nobody."""
    async with opened(database.dsn) as store:
        with postgresql.reloaded(log_statement="all"):
            await asyncio.gather(*(store.find(os.urandom(32), T) for _ in range(100)))
            await asyncio.gather(*(add(store, awaiting()) for _ in range(50)))
    assert len(re.findall(rf"{SCHEMA}\.find\(", postgresql.log)) == 1
    assert len(re.findall(rf"{SCHEMA}\.add\(", postgresql.log)) == 1


async def test_each_look_up_gets_its_own(database: Database) -> None:
    """However many share a statement."""
    async with opened(database.dsn) as store:
        bodies = [os.urandom(8) for _ in range(60)]
        added = await asyncio.gather(*(add(store, awaiting(), body=body) for body in bodies))
        looked_up = await asyncio.gather(*(found(store, body) for body in bodies))
        assert [list(each) for each in looked_up] == [[each.event_id] for each in added]


async def test_the_time_is_the_servers(database: Database) -> None:
    """Within what the question took."""
    async with opened(database.dsn) as store:
        before = store.now()
        ((server,),) = database.rows("SELECT extract(epoch FROM clock_timestamp())")
        assert before - 0.5 < float(server) < store.now() + 0.5


def test_a_quick_answer_is_believed_before_a_slow_one() -> None:
    """Until a slow one shows that the server's clock was set anew."""
    clock, now = Clock(), time.monotonic()
    clock.tell(1000.0, now - 0.001, now)
    assert 999.9 < clock.now() < 1001.0
    clock.tell(999.7, now - 1.0, now)
    assert clock.now() < 1000.1
    clock.tell(5000.0, now - 1.0, now)
    assert 4999.0 < clock.now() < 5002.0


async def test_a_name_is_looked_up_where_nobody_waits_for_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a loop nor a process has to wait for a resolver that hangs; of several names, and of
    several addresses, one that leads to the server will do."""
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
            assert store.connections == 1
    assert asked == {"nobody.test": True, "server.test": True}


@pytest.mark.parametrize("ports", [("", ""), ("", ":{port}"), (":{port}", "")])
async def test_servers_without_a_port_have_libpqs_own(
    database: Database, monkeypatch: pytest.MonkeyPatch, ports: tuple[str, str]
) -> None:
    """`PGPORT`'s where the address has none at all, and else the usual one."""
    port = database.server.port
    monkeypatch.setenv("PGPORT", str(port))
    servers = ",".join(f"127.0.0.1{each.format(port=port)}" for each in ports)
    async with opened(database.dsn.replace(f"127.0.0.1:{port}", servers)) as store:
        assert store.connections == 1


async def test_a_fault_while_connecting_ends_no_store(
    postgresql: Server, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is, it is told, and whoever asks for a connection has another one made."""
    told: list[object] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_exception_handler", told.append)
    async with opened(database.dsn) as store:
        with postgresql.down(), monkeypatch.context() as patched:
            while not await refused(store, "unreachable"):
                await asyncio.sleep(0.01)
            faulty = asyncio.Event()

            async def connect(*_: object, **__: object) -> None:
                faulty.set()
                raise RuntimeError

            patched.setattr(psycopg.AsyncConnection, "connect", connect)
            async with asyncio.timeout(PATIENCE):
                await faulty.wait()

        async def works() -> bool:
            return not await refused(store, "unreachable")

        await soon(works)
    gc.collect()  # a task tells when it goes
    assert told


async def refused(store: PostgresStore, word: str) -> bool:
    """Whether nothing can be asked of it, for that reason."""
    try:
        await found(store)
    except StoreFailed as error:
        return str(error) == word
    return False


async def test_a_server_that_is_read_only_tells_no_time(database: Database) -> None:
    """It is refused: what counts is the clock of the server that is written to."""
    database.rows(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    clock, connection = (
        Clock(),
        await ServerConnection.open(DatabaseAddress.parse(database.dsn), PATIENCE),
    )
    with pytest.raises(StoreFailed, match="read_only"):
        await clock.ask(connection)
    connection.end()
    assert clock.error == float("inf")


async def test_what_comes_too_late_is_spent(postgresql: Server, database: Database) -> None:
    """An addition that is held up past its deadline and is committed all the same, for its server
    never hears that it is given up, grants nothing from the first moment it is seen, at any
    node."""
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


#: What a request to end a call begins with, behind its length.
_CANCEL = (80877102).to_bytes(4)


async def test_a_connection_handed_to_one_who_is_just_cancelled_is_not_lost(
    database: Database,
) -> None:
    """The next one gets it."""
    store = await PostgresStore.open(DatabaseAddress.parse(database.dsn), LIMITS)
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


async def test_what_was_never_sent_is_not_kept_in_mind(
    postgresql: Server, database: Database
) -> None:
    """However long the server is away, nothing grows: what was under way then may be."""
    async with opened(database.dsn) as store:
        with postgresql.down():
            for _ in range(20):
                with pytest.raises(StoreFailed):
                    await add(store, awaiting())
            assert len(store._late) <= 1


async def test_an_addition_that_is_lost_for_good_is_spent(
    postgresql: Server, database: Database
) -> None:
    """It was carried out, and nobody could say so in time."""
    with proxy(postgresql.port) as between:
        async with opened(database.through(between.port).dsn) as store:
            with between.losing(b".add(", Loss.ANSWERING), pytest.raises(StoreFailed):
                await add(store, awaiting())
            (kept,) = (await found(store)).values()
            assert kept.credit_revoked


async def test_a_look_up_under_way_gives_no_revoked_credit(
    postgresql: Server, database: Database
) -> None:
    """It has read the record before the credit was revoked, and its answer comes after that."""
    with proxy(postgresql.port) as between, ExitStack() as fence:
        async with opened(database.through(between.port).dsn) as store:
            fence.enter_context(between.holding(b".fence(", Loss.ASKING))
            with between.losing(b".add(", Loss.ANSWERING), pytest.raises(StoreFailed):
                await add(store, awaiting())
            with between.holding(b".find(", Loss.ANSWERING):
                looking = asyncio.create_task(found(store))
                await until(lambda: between.held)
                fence.close()
                await until(lambda: not store._unfenced)
            (kept,) = (await looking).values()
            assert kept.credit_revoked


async def test_many_that_come_too_late_are_spent_in_small_steps(database: Database) -> None:
    """A statement that spends thousands takes longer than anybody waits for it."""
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
    """All of them together in one statement would hold the loop up for seconds."""
    async with opened(database.dsn, StoreLimits(100 * ENOUGH, 100)) as store:
        bodies = [b"%d" % number * ENOUGH for number in range(4)]
        await asyncio.gather(*(add(store, awaiting(), body=body) for body in bodies))
    assert database.rows("SELECT count(DISTINCT xmin::text) FROM events") == [("4",)]


async def test_an_addition_whose_answer_is_lost_is_there_once(
    postgresql: Server, database: Database
) -> None:
    """Asked again on another connection, it is found to be there, and its credit counts."""
    with proxy(postgresql.port) as between:
        async with opened(database.through(between.port).dsn) as store:
            for loss in Loss:
                with between.losing(b".add(", loss, once=True):
                    await add(store, awaiting(), body=loss.name.encode())
                (kept,) = (await found(store, loss.name.encode())).values()
                assert not kept.credit_revoked


async def test_a_close_whose_answer_is_lost_is_a_close(
    postgresql: Server, database: Database
) -> None:
    """Asked again it knows itself; another request's close is refused still."""
    with proxy(postgresql.port) as between:
        async with opened(database.through(between.port).dsn) as store:
            for loss in Loss:
                opened_ = await add(store, awaiting())
                closing = settlement(opened_, acknowledged(), stage=Stage.CLOSED)
                with between.losing(b".settle(", loss, once=True):
                    assert await store.settle(closing, T)
                assert not await store.settle(closing, T)


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


async def test_a_server_that_comes_back_is_used_again(
    postgresql: Server, database: Database
) -> None:
    """While it is away calls fail at once, with a word; nothing has to be restarted."""
    async with opened(database.dsn) as store:
        for immediately in (False, True):
            with postgresql.down(immediately=immediately):
                for _ in range(3):
                    with pytest.raises(StoreFailed, match=r"^(unreachable|lost)$"):
                        await store.find(os.urandom(32), T)
            await soon(lambda: answers(store))


async def test_a_server_that_hangs_holds_nobody(postgresql: Server, database: Database) -> None:
    """Every call ends by its timeout, and the connections that were given up are replaced, not
    added to."""
    async with opened(database.dsn) as store:
        with postgresql.hanging():
            for _ in range(3):
                with pytest.raises(StoreFailed):
                    await store.find(os.urandom(32), 0.1)
        await soon(lambda: answers(store))
        await soon(lambda: asyncio.sleep(0, backends(database) <= 1))


async def test_a_call_that_is_given_up_ends_at_the_server_too(
    postgresql: Server, database: Database
) -> None:
    """However many commits wait for a synchronous standby that is away: else each of them keeps a
    connection, until the server has none left for anybody."""
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
    """One that is being made as the store is closed is closed too, and not a minute later: until
    then its server waits for the password, and nobody can drop a database."""
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
    """Nobody gets the answer to another's question."""
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
    """A process goes on with those that it has got, and says so where it has none."""
    database.rows(f"ALTER DATABASE {database.name} CONNECTION LIMIT 1")
    async with opened(database.dsn) as store:
        calls = (store.usage(T), store.queue(T), store.find(os.urandom(32), T), store.end(0, 1, T))
        await asyncio.gather(*calls)
        assert store.connections == 1
        with pytest.raises(StoreFailed, match="connections"):
            await PostgresStore.open(DatabaseAddress.parse(database.dsn), LIMITS)


async def test_a_server_that_only_reads_is_no_store(postgresql: Server, database: Database) -> None:
    """What it would show is behind: it is left until one takes writes."""
    async with opened(database.dsn) as store:
        with postgresql.reloaded(default_transaction_read_only="on"):
            for _ in range(2):
                with pytest.raises(StoreFailed, match="read_only"):
                    await add(store, awaiting())
        await soon(lambda: answers(store))
        await add(store, awaiting())


async def test_it_works_through_a_pooler(database: Database) -> None:
    """That gives each transaction any connection, from the first start on."""
    with pgbouncer(database, connections=3) as pooled:
        async with opened(pooled.dsn) as one, opened(pooled.dsn) as two:
            stores = (one, two) * 40
            opened_ = await asyncio.gather(
                *(add(store, queued(), awaiting("two")) for store in stores)
            )
            due = await asyncio.gather(*(s.take("one", NOW, NOW + 60, 20, T) for s in stores[:8]))
            assert sum(map(len, due)) == len(opened_)
            closes = (
                store.settle(settlement(each, acknowledged("two"), stage=Stage.CLOSED), T)
                for store, each in zip(stores, opened_, strict=True)
            )
            assert all(await asyncio.gather(*closes))


async def test_it_speaks_tls(postgresql: Server, database: Database, tmp_path: Path) -> None:
    """And to nobody whom the given certificate does not vouch for; the password is in a file."""
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        postgresql.folder / "tls.pem"
    )
    (postgresql.folder / "tls.pem").chmod(0o600)
    owner = postgresql.data.stat()
    os.chown(postgresql.folder / "tls.pem", owner.st_uid, owner.st_gid)
    for name, ca in (("right.pem", authority), ("wrong.pem", trustme.CA())):
        ca.cert_pem.write_to_path(tmp_path / name)
    passwords = tmp_path / "passwords"
    passwords.write_text(f"*:*:*:*:{PASSWORD}\n")
    passwords.chmod(0o600)
    place = f"postgresql://router@127.0.0.1:{postgresql.port}/{database.name}"
    tls = f"sslmode=verify-full&passfile={passwords}&sslrootcert={tmp_path}"
    cert = str(postgresql.folder / "tls.pem")
    with postgresql.configured(ssl="on", ssl_cert_file=cert, ssl_key_file=cert):
        async with opened(f"{place}?{tls}/right.pem") as store:
            assert database.rows("SELECT count(*) FROM pg_stat_ssl WHERE ssl") == [("1",)]
            assert await answers(store)
        with pytest.raises((StartFailed, StoreFailed)):
            await PostgresStore.open(DatabaseAddress.parse(f"{place}?{tls}/wrong.pem"), LIMITS)


# Several nodes at once.


async def test_usage_is_right_whatever_is_done_at_once(database: Database) -> None:
    """Nodes that change the same events in every way wait for each other, never in a circle, and
    what is counted is what is there."""
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
            due = await asyncio.gather(*(s.take("b", NOW, NOW + 60, 5, T) for s in stores))
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


async def test_what_backends_that_are_gone_have_counted_is_added_up(database: Database) -> None:
    """The cost of usage does not grow with the connections that there ever were."""
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
    """How many connections of the router there are at the server."""
    ((number,),) = database.rows(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ebaas-router'"
    )
    return int(number)


async def test_a_retry_whose_answer_is_lost_is_told_of(
    postgresql: Server, database: Database
) -> None:
    """Asked again it knows itself: what has become of a delivery, a dead letter say, gets its line
    in the log."""
    with proxy(postgresql.port) as between:
        async with opened(database.through(between.port).dsn) as store:
            for loss in Loss:
                await add(store, queued(), body=loss.name.encode())
                (due,) = await store.take("one", NOW, NOW + 100, 1, T)
                row = replace(due.row, state=State.DEAD)
                with between.losing(b".finish(", loss, once=True):
                    assert await store.finish(due, row, NOW + 1, T)
                assert not await store.finish(due, row, NOW + 2, T)


async def test_an_action_whose_answer_is_lost_says_what_it_did(
    postgresql: Server, database: Database
) -> None:
    """Asked again it counts what it has changed, and writes that down once."""
    with proxy(postgresql.port) as between:
        address = DatabaseAddress.parse(database.through(between.port).dsn)
        async with opened(database.dsn) as store:
            ops = await PostgresAdmin.open(address, LIMITS)
            for number, loss in enumerate(Loss):
                await add(store, queued(loss.name), body=loss.name.encode())
                (page,) = [each async for each in ops.pages(Selection(targets=(loss.name,)), 9)]
                action = Action(f"action-{number}", Verb.DISCARD, "ops", "these", NOW)
                with between.losing(b".act(", loss, once=True):
                    assert await ops.act(action, page) == 1
            await ops.close()
    assert database.rows("SELECT deliveries FROM actions") == [("1",), ("1",)]
