"""Several routers on one PostgreSQL, as real processes: shared records, the list of nodes, and a
database that is not there yet."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from router.model.errors import StartFailed
from router.store.postgres.store import PostgresStore
from router.store.protocol import FORGOTTEN, GONE, Node, Trouble
from router.store.url import SCHEMA, parse_database
from tests.store.records import LIMITS, T, using
from tests.support.command import one_line, run
from tests.support.inprocess import Ran, ran
from tests.support.postgres import PASSWORD, USER, Database, Server
from tests.support.rows import option
from tests.support.serving import SOON, Serving, Target, always, serving, states, target
from tests.support.shop import SqliteShop
from tests.support.sockets import HOST
from tests.support.waiting import wait_until


@contextmanager
def nodes(
    folder: Path, database: Database, required: Mapping[str, Target], count: int = 2, **more: Any
) -> Iterator[list[Serving]]:
    """Start routers of these targets on one database, each with files of its own."""
    with ExitStack() as stack:
        started = []
        for number in range(count):
            own = folder / f"node-{number}"
            own.mkdir(parents=True)
            started.append(stack.enter_context(serving(own, required, store=database, **more)))
        yield started


def listed(database: Database, *options: str) -> Ran:
    """Run `status` on the database."""
    return ran("status", "--store", option(database), *options)


def shown(database: Database) -> list[Any]:
    return listed(database, "--format", "json").json["nodes"]  # type: ignore[no-any-return]


def age_rows(database: Database, seconds: float, pid: int | None = None) -> None:
    """Pretend that the rows were written so many seconds earlier."""
    which = "true" if pid is None else f"pid = {pid}"
    database.rows(f"UPDATE {SCHEMA}.nodes SET seen_at = seen_at - {seconds} WHERE {which}")


def rows(database: Database) -> list[str]:
    return [name for (name,) in database.rows(f"SELECT node_id FROM {SCHEMA}.nodes")]


# What they share.


def test_a_retry_at_another_node_joins_the_attempt_of_a_recovery(
    tmp_path: Path, database: Database
) -> None:
    """One call, and a `000` by it."""
    hour = {"retries": 20, "waits": ["1h"]}
    has_come, may_answer = threading.Event(), threading.Event()

    def code(name: str, _: str) -> str:
        if name == "held":
            has_come.set()
            assert may_answer.wait(T)
        return "000"

    with (
        target(always("700")) as ledger,
        nodes(tmp_path, database, {"ledger": ledger}, ebaas=hour) as (one, two),
        ThreadPoolExecutor(1) as caller,
    ):
        assert one.post("held") == "500"
        ledger.code = code
        try:
            assert one.post("live") == "000"
            assert has_come.wait(T)
            retry = caller.submit(two.post, "held")
            time.sleep(0.3)
            assert not retry.done()
        finally:
            may_answer.set()
        assert retry.result() == "000"
        assert [got.code for got in ledger.of("held")] == ["700", "000"]


def test_a_retry_at_another_node_reaches_only_who_still_needs_it(
    tmp_path: Path, database: Database
) -> None:
    """A record of one node is known to the other, with the same id."""
    answers = iter(["500", "000"])
    with (
        target() as certificates,
        target(lambda *_: next(answers)) as ledger,
        nodes(tmp_path, database, {"certificates": certificates, "ledger": ledger}) as (one, two),
    ):
        assert one.post("a") == "500"
        assert two.post("a") == "000"
        assert [got.code for got in certificates.of("a")] == ["000"]
        assert [got.code for got in ledger.of("a")] == ["500", "000"]
        assert len({got.webhook_id for got in (*certificates.got, *ledger.got)}) == 1


def test_what_a_killed_node_had_in_hand_another_takes_over(
    tmp_path: Path, database: Database
) -> None:
    """Another node sends them after the end of the lease."""
    held = True

    def code(*_: str) -> str:
        wait_until(lambda: not held)
        return "000"

    with (
        target() as ledger,
        target(code) as audit,
        nodes(tmp_path, database, {"ledger": ledger}, optional={"audit": audit}, queue=SOON) as (
            one,
            two,
        ),
    ):
        assert one.post("a") == "000"
        assert states(database)["a"]["audit"] == "queued"
        one.process.send_signal(signal.SIGKILL)
        one.wait()
        held = False
        database.rows(f"UPDATE {SCHEMA}.deliveries SET due_at = due_at - 600")
        wait_until(lambda: states(database)["a"]["audit"] == "acknowledged")
        assert two.post("b") == "000"


# The list of them.


def test_nodes_are_listed_with_what_they_run(tmp_path: Path, database: Database) -> None:
    """If all are well, the exit code is 0. A killed node is listed as gone; a stopped one leaves no
    row."""
    with target() as ledger, nodes(tmp_path, database, {"ledger": ledger}) as (one, two):
        wait_until(lambda: len(shown(database)) == 2)
        finished = listed(database, "--format", "json")
        output = finished.json["nodes"]
        assert finished.code == 0, finished.err
        assert {(node["pid"], node["address"]) for node in output} == {
            (each.process.pid, f"http://127.0.0.1:{each.port}/callback") for each in (one, two)
        }
        assert len({node["config"] for node in output}) == 1
        one.process.send_signal(signal.SIGKILL)
        one.wait()
        age_rows(database, GONE + 1, one.process.pid)
        finished = listed(database)
        assert finished.code == 1
        assert "gone, silent for" in finished.out
        assert finished.lines[-1] == "2 nodes, 1 of them gone"
        assert two.interrupt(signal.SIGTERM) == 0
        assert [node["pid"] for node in shown(database)] == [one.process.pid]


@pytest.mark.anyio
async def test_nodes_that_differ_are_named(database: Database) -> None:
    """A node whose configuration or version is not that of most is marked; exit code 1."""
    async with using(PostgresStore.open(parse_database(database.dsn), LIMITS)) as store:
        assert store.nodes is not None
        for each in (
            node("one", "usual"),
            node("two", "usual"),
            node("three", "old"),
            replace(node("four", "usual"), version="2"),
        ):
            await store.nodes.beat(replace(each, host=each.node_id), T)
        finished = await asyncio.to_thread(listed, database)
    noted = {line.split()[0]: line.partition("  another ")[2] for line in finished.lines[1:5]}
    assert finished.code == 1
    assert noted == {
        "one": "",
        "two": "",
        "three": "configuration; ledger: timeout, 1970-01-01T00:00:01Z",
        "four": "version; ledger: timeout, 1970-01-01T00:00:01Z",
    }


def test_only_postgresql_has_nodes(tmp_path: Path) -> None:
    """With a file there is one node; the line says where to look instead."""
    store = tmp_path / "store.db"
    SqliteShop(store).close()
    found = ran("status", "--store", str(store))
    assert found.code == 3
    assert "ask it by --url" in found.err


def node(name: str, config: str) -> Node:
    return Node(
        node_id=name,
        host="host",
        pid=1,
        address="http://host:8080/callback",
        version="1",
        config=config,
        uptime=60.0,
        ready=True,
        figures={"events": 7},
        troubles=(Trouble(1.5, "ledger: timeout"),),
    )


@pytest.mark.anyio
async def test_a_node_that_is_gone_does_not_count(database: Database) -> None:
    """Its row is deleted later. A process that ends deletes its own."""
    async with using(PostgresStore.open(parse_database(database.dsn), LIMITS)) as store:
        assert store.nodes is not None
        mine = node("mine", "new")
        await store.nodes.beat(node("other", "old"), T)
        assert await store.nodes.beat(mine, T) == {"old": 1, "new": 1}
        age_rows(database, GONE + 1)
        assert await store.nodes.beat(mine, T) == {"new": 1}
        assert sorted(rows(database)) == ["mine", "other"]
        age_rows(database, FORGOTTEN)
        await store.nodes.beat(mine, T)
        assert rows(database) == ["mine"]
        await store.nodes.leave("mine", T)
        assert rows(database) == []


# A database that is not there yet.


def test_a_database_that_is_away_at_the_start_is_waited_for(
    tmp_path: Path, postgresql: Server
) -> None:
    """Meanwhile the router is not ready, logs the reason, and rejects callbacks with 503."""
    with (
        postgresql.database() as database,
        target() as ledger,
        ExitStack() as stack,
    ):
        with postgresql.down():
            router = stack.enter_context(serving(tmp_path, {"ledger": ledger}, store=database))
            assert router.ask("GET", "/readyz") == (503, "503")
            assert router.post("a") == "503"
            assert ledger.got == []
        wait_until(lambda: router.ready() == 200)
        assert router.post("a") == "000"
        assert router.lines("store_awaited")[0]["error"] == "unreachable"
        (line,) = router.lines("store_opened")
        assert line["store"] == f"postgresql://{HOST}:{postgresql.port}/{database.name}"


def test_a_wrong_password_ends_the_start(tmp_path: Path, database: Database) -> None:
    """A wrong password is exit code 3 and one line, without the password."""
    store = database.dsn.replace(":not%2Fso%40secret@", ":hunter2@")
    finished = run("serve", "--port", "0", environ={"EBAAS_ROUTER_STORE": store})
    assert finished.returncode == 3
    assert b"serving" not in finished.stdout
    line = one_line(finished.stderr)
    assert "password authentication failed" in line
    assert "hunter2" not in line


@pytest.mark.anyio
async def test_the_password_may_be_in_a_passfile(tmp_path: Path, database: Database) -> None:
    """It is read for each connection, so a new password needs no restart. A file that libpq would
    ignore without a word is refused, and no message has the password or the file's name."""
    file = tmp_path / "pgpass"
    file.touch(0o600)
    url = f"postgresql://{USER}@{HOST}:{database.server.port}/{database.name}"
    address = parse_database(f"{url}?passfile={file}")

    async def refused(why: str) -> None:
        with pytest.raises(StartFailed, match=why) as raised:
            await PostgresStore.open(address, LIMITS)
        assert "hunter2" not in str(raised.value)
        assert str(file) not in str(raised.value)

    file.write_text(f"*:*:*:*:{PASSWORD}\n")
    await (await PostgresStore.open(address, LIMITS)).close()
    file.write_text("*:*:*:*:hunter2\n")
    await refused("password authentication failed")
    file.write_text("hunter2\n")
    await refused("no password supplied")
    file.chmod(0o640)
    await refused("passfile: others than its owner have access to it: chmod 600")
    file.unlink()
    await refused("passfile: no such file or directory")
    file.mkdir()
    await refused("passfile: it is not a file")
