"""The SQLite store and faults of its file: the errors that callers get, and its recovery."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

# What blocks the loop here is the test's own work on files.
# ruff: noqa: ASYNC240
from router.model.errors import StartFailed
from router.store.admin import Action, Resend, Selection, Sort, Values, Verb
from router.store.protocol import Stage, State, StoreFailed, StoreFull
from router.store.sqlite import file
from router.store.sqlite.admin import SqliteAdmin
from router.store.sqlite.store import SqliteStore
from tests.store.records import LIMITS, NOW, T, awaiting, letter, queued, record, using
from tests.support.disks import Disks
from tests.support.shop import SqliteShop
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def add(store: SqliteStore, body: bytes, timeout: float = T) -> None:
    await store.add(record(), letter(body), [awaiting()], timeout)


async def there(store: SqliteStore, body: bytes) -> bool:
    return bool(await store.find(letter(body).digest, T))


async def works(store: SqliteStore) -> bool:
    """Return whether a write and a look-up succeed."""
    body = os.urandom(16)
    await add(store, body)
    return await there(store, body)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    async with using(SqliteStore.open(path, LIMITS)) as store:
        yield store


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


@pytest.fixture
def small_disk(disks: Disks) -> Path:
    return disks.tmpfs(24)


async def refused(path: Path) -> str:
    """Return the error of opening it: one line, with its path as it was given."""
    with pytest.raises(StartFailed) as failed:
        await SqliteStore.open(path, LIMITS)
    message = str(failed.value)
    assert "\n" not in message
    assert f"the store {path}: " in message
    return message


async def test_the_file_is_its_owners_alone(path: Path) -> None:
    """Other users may read neither the file nor those beside it."""
    store = await SqliteStore.open(path, LIMITS)
    await add(store, b"body")
    modes = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}
    await store.close()
    names = ("store.db", "store.db-lock", "store.db-wal", "store.db-shm")
    assert modes == dict.fromkeys(names, 0o600)


def make_another_programs_file(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE customers (name TEXT)")


def make_no_database(path: Path) -> None:
    path.write_bytes(b"version: 1\n" * 1000)


def damage(path: Path) -> None:
    """Overwrite some pages."""
    with path.open("r+b") as file:
        file.seek(4096 * 8)
        file.write(os.urandom(4096 * 8))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (make_another_programs_file, "another program's database"),
        (make_no_database, "damaged, or no database"),
        (damage, "damaged"),
    ],
)
async def test_a_file_that_is_not_a_store_is_refused(
    path: Path, spoil: Callable[[Path], None], why: str
) -> None:
    """At the start, with one line."""
    if spoil is damage:
        store = await SqliteStore.open(path, LIMITS)
        for n in range(200):
            await add(store, b"%d" % n * 100)
        await store.close()
    spoil(path)
    assert why in await refused(path)


async def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The file's own folder is made, for its owner alone, but not its parents."""
    assert "there is no folder" in await refused(tmp_path / "no" / "such" / "store.db")
    store = await SqliteStore.open(tmp_path / "data" / "store.db", LIMITS)
    await store.close()
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


async def test_a_full_disk_refuses_what_grows_and_recovers(small_disk: Path) -> None:
    """The reserve leaves room for deleting; no restart is needed."""
    limits = replace(LIMITS, share=1.0)
    store = await SqliteStore.open(small_disk / "store.db", limits, reserve=8 * 1024 * 1024)
    bodies = [b"%d" % n + b"x" * 500_000 for n in range(50)]
    refusals = 0
    for body in bodies:
        try:
            await add(store, body)
        except StoreFull:
            refusals += 1
    assert refusals > 10
    await store.end(NOW + 1e6, 100, T)
    assert await store.prune(NOW + 1e9, 100, T) == len(bodies) - refusals
    for _ in range(20):
        await store.prune(NOW + 1e9, 100, T)
    assert await works(store)
    await store.close()


async def test_a_read_only_file_system_is_refused(small_disk: Path) -> None:
    """With one line. Once it is writable again everything is there."""
    path = small_disk / "store.db"
    store = await SqliteStore.open(path, LIMITS, reserve=0)
    await add(store, b"before")
    await store.close()
    remount(small_disk, "ro")
    assert "can't be written to" in await refused(path)
    remount(small_disk, "rw")
    store = await SqliteStore.open(path, LIMITS, reserve=0)
    assert await there(store, b"before")
    await store.close()


async def test_a_locked_file_delays_writes_alone(path: Path, store: SqliteStore) -> None:
    """Look-ups do not wait for the write lock, and writes end by their timeouts. A write that has
    waited too long is not made, since its caller has got an error."""
    await add(store, b"before")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(StoreFailed, match="slow"):
            await add(store, b"meanwhile", timeout=0.2)
        assert await there(store, b"before")
        assert time.monotonic() - began < 1.9  # BUSY_TIMEOUT, which a reader must not wait for
        other.execute("ROLLBACK")
    assert await works(store)
    assert not await there(store, b"meanwhile")


async def test_a_write_that_commits_late_grants_nothing(store: SqliteStore) -> None:
    """It has no credit from the first moment it can be seen, and later in the file too."""
    store.watch_commits(lambda _: time.sleep(1.5))  # in its thread: the commit is known so late
    with pytest.raises(StoreFailed, match="slow"):
        await add(store, b"late", timeout=1.0)
    seen: list[bool] = []
    async with asyncio.timeout(T):
        while not seen or store._late:
            seen += [
                kept.record.credit_revoked for kept in await store.find(letter(b"late").digest, T)
            ]
            await asyncio.sleep(0)
    seen += [kept.record.credit_revoked for kept in await store.find(letter(b"late").digest, T)]
    assert set(seen) == {True}


async def test_a_write_that_ends_with_its_time_has_come_to_pass(path: Path) -> None:
    """Its caller gets a success, and its acknowledgements count."""
    store = await SqliteStore.open(path, LIMITS, now=lambda: NOW)
    writing = asyncio.create_task(add(store, b"just", 0.3))
    await asyncio.sleep(0)
    # The loop meets both at once: the commit, and the end of the time.
    time.sleep(1.0)  # noqa: ASYNC251 - the loop is held on purpose
    await writing
    (found,) = await store.find(letter(b"just").digest, T)
    assert not found.record.credit_revoked
    await store.close()


async def test_an_overdue_write_is_not_made(path: Path, store: SqliteStore) -> None:
    """Its caller has got an error before the store begins it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        first = asyncio.create_task(add(store, b"first"))
        await asyncio.sleep(0)
        await until(store._writer._jobs.empty)  # the thread has it, and waits for the lock
        with pytest.raises(StoreFailed, match="slow"):
            await add(store, b"overdue", timeout=0.05)
        other.execute("ROLLBACK")
    await first
    await add(store, b"last")
    assert await there(store, b"first")
    assert not await there(store, b"overdue")


async def test_writes_that_time_out_fill_no_memory(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were not made, and their credit cannot be revoked in a locked file."""
    monkeypatch.setattr(file, "BUSY_TIMEOUT", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for number in range(10):
            with pytest.raises(StoreFailed):
                await add(store, b"%d" % number, timeout=0.02)
        await until(lambda: store._writer._jobs.empty())
        other.execute("ROLLBACK")
    await until(lambda: not store._late)
    assert await works(store)


async def test_a_working_directory_that_is_gone_is_a_failure_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read opens a relative file again."""
    (started := tmp_path / "started").mkdir()
    monkeypatch.chdir(started)
    async with using(SqliteStore.open(Path("store.db"), LIMITS)) as store:
        shutil.rmtree(started)
        store._close_reader()
        with pytest.raises(StoreFailed, match="unreachable"):
            await store.queue(T)


async def test_a_late_write_grants_nothing_while_the_file_is_locked(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its credit cannot be revoked in the file, and it has none all the same."""
    monkeypatch.setattr(file, "BUSY_TIMEOUT", 0.05)
    may_go_on = threading.Event()
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:

        def committed(_: float) -> None:
            other.execute("BEGIN IMMEDIATE")
            may_go_on.wait(T)

        store.watch_commits(committed)
        with pytest.raises(StoreFailed, match="slow"):
            await add(store, b"late", timeout=1.0)
        may_go_on.set()
        # The revocation is between them, and has failed as well.
        for body in (b"next", b"last"):
            with pytest.raises(StoreFailed, match="locked"):
                await add(store, body)
        (kept,) = await store.find(letter(b"late").digest, T)
        assert kept.record.credit_revoked
        other.execute("ROLLBACK")


async def test_a_write_that_fails_after_its_commit_is_found(store: SqliteStore) -> None:
    """After an error a look-up asks the file, unless the write was certainly not made."""

    def committed(_: float) -> NoReturn:
        raise RuntimeError("a fault of our own")

    store.watch_commits(committed)
    with pytest.raises(RuntimeError):
        await add(store, b"kept")
    assert await there(store, b"kept")


async def test_a_look_up_asks_the_file_only_for_what_may_be_there(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for events that were replayed to several targets and are gone since, nor for those
    whose writes found the file locked, or came too late to be made."""
    monkeypatch.setattr(file, "BUSY_TIMEOUT", 0.3)
    admin = await SqliteAdmin.open(path, LIMITS, now=lambda: NOW)
    replay = Action("replay", Verb.REPLAY, "me", "all", NOW)
    stored = record(stage=Stage.CLOSED)
    await store.add(stored, letter(b"here"), [queued("one")], T)
    events = [Resend(stored, letter(b"here")), Resend(record(stage=Stage.CLOSED), letter(b"new"))]
    for target in ("two", "three"):
        assert (await admin.resend(replay, target, events)).changed == 2
    for target in ("one", "two", "three"):
        for due in await store.lease(target, NOW, NOW + 60, 9, T):
            await store.finish(due, replace(due.row, state=State.SUPERSEDED), NOW, T)
    assert await store.prune(NOW + 1e6, 9, T) == 2
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreFailed, match="locked"):
            await add(store, b"locked")
        with pytest.raises(StoreFailed, match="slow"):
            await add(store, b"slow", timeout=0.1)
        other.execute("ROLLBACK")
    await until(lambda: not store._late)
    asked = list[str]()
    assert store._reader is not None
    store._reader.set_trace_callback(asked.append)
    for body in (b"here", b"new", b"locked", b"slow"):
        assert not await there(store, body)
    assert asked == []
    await admin.close()


async def test_the_file_does_not_grow_for_ever(path: Path) -> None:
    """Pruning returns room to the file system."""
    store = await SqliteStore.open(path, LIMITS)
    for _ in range(100):
        await add(store, os.urandom(50_000))
    await store.end(NOW + 1e6, 1000, T)
    while await store.prune(NOW + 1e9, 20, T):
        pass
    await store.close()
    assert path.stat().st_size < 200_000


async def test_a_persons_question_is_stopped_by_cancelling_it(path: Path) -> None:
    """However long it would take; the next query works."""
    await (await SqliteStore.open(path, LIMITS)).close()
    admin = await SqliteAdmin.open(path, LIMITS)
    started = threading.Event()

    admin._connection.set_progress_handler(started.set, 1000)
    for_ever = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
    asking = asyncio.create_task(admin._read(f"{for_ever} SELECT count(*) FROM n", Values()))
    await asyncio.to_thread(started.wait, T)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    async with asyncio.timeout(T):
        assert await admin.groups(Selection()) == ()
    await admin.close()


@pytest.mark.parametrize("sort", [Sort.NEWEST, Sort.OLDEST])
async def test_a_page_costs_what_is_on_it(file: SqliteShop, sort: Sort) -> None:
    """However many dead letters there are."""
    admin = await SqliteAdmin.open(Path(file.option), LIMITS, read_only=True)
    costs: list[int] = []
    for number in (100, 5000):
        file.forget()
        file.add_many(number)
        steps: list[None] = []
        admin._connection.set_progress_handler(partial(steps.append, None), 1)
        dead = Selection(states=(State.DEAD,))
        assert len(await anext(admin.pages(dead, 50, sort=sort))) == 50
        costs.append(len(steps))
    assert costs[1] < 1.1 * costs[0]
    await admin.close()


@pytest.mark.parametrize("name", ["store.db", "store.db-lock"])
@pytest.mark.parametrize("successor", [False, True])
async def test_a_file_that_is_gone_is_reported(path: Path, name: str, successor: bool) -> None:
    """A store still works if its file or the lock was deleted or replaced, but a restart would lose
    the file, and another process may own it: `usage` reports it."""
    store = await SqliteStore.open(path, LIMITS)
    await store.usage(T)
    path.with_name(name).unlink()
    if successor:
        path.with_name(name).touch()
    with pytest.raises(StoreFailed, match=r"^gone$"):
        await store.usage(T)
    await store.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE deliveries SET state = 'unheard of'",
        "UPDATE events SET event_id = CAST(x'ff' AS TEXT) WHERE event_id = 'event-0'",
    ],
    ids=["a word that nobody knows", "a text that is none"],
)
async def test_a_look_up_that_fails_midway_leaves_no_transaction_open(
    path: Path, store: SqliteStore, damage: str
) -> None:
    """An open one would keep the log from being cut, for instance after another program's
    writes."""
    rows = [awaiting(target) for target in ("one", "two", "three")]
    for number in range(3):  # SQLite is at its end with the last row
        await store.add(record(event_id=f"event-{number}"), letter(b"body"), rows, T)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA ignore_check_constraints = ON")
        other.execute(damage)
        other.commit()
        with pytest.raises((StoreFailed, ValueError)):
            await store.find(letter(b"body").digest, T)
        other.execute("UPDATE deliveries SET retries = retries + 1")
        other.commit()
        busy, *_ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert not busy
    assert await store.find(letter(b"another").digest, T) == ()
