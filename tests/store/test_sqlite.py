"""The SQLite store against what befalls a file: what its caller gets, and that it recovers."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

# What blocks the loop here is the test's own work on files.
# ruff: noqa: ASYNC240
from router.model.errors import StartFailed
from router.model.event import Event, OutboundEvent
from router.store.admin import Selection
from router.store.protocol import (
    DeliveryRow,
    Record,
    Stage,
    State,
    StoreFailed,
    StoreFull,
    StoreLimits,
)
from router.store.sqlite.admin import SqliteAdmin
from router.store.sqlite.store import SqliteStore
from tests.store.records import steps_of
from tests.support.disks import Disks, filled
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

LIMITS = StoreLimits(max_bytes=1 << 30, max_rows=1_000_000)
NOW = 1_000_000.0
T = 20.0


def letter(body: bytes) -> OutboundEvent:
    event = Event("a", "b", "c", "1", "a.b.c.1", body)
    return OutboundEvent(event, hashlib.sha256(body).digest(), "request")


def event_id(body: bytes) -> str:
    return letter(body).digest.hex()


async def add(store: SqliteStore, body: bytes, timeout: float = T) -> None:
    record = Record(event_id(body), Stage.OPEN, NOW, 1, NOW, NOW + 1, NOW + 62, NOW + 999)
    await store.add(record, letter(body), [DeliveryRow("one", State.AWAITING)], timeout)


async def there(store: SqliteStore, body: bytes) -> bool:
    return bool(await store.find(letter(body).digest, T))


async def works(store: SqliteStore) -> bool:
    """Whether a write and a look-up go through."""
    body = os.urandom(16)
    await add(store, body)
    return await there(store, body)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


@pytest.fixture
def small_disk(disks: Disks) -> Path:
    return disks.tmpfs(24)


async def refused(path: Path) -> str:
    """Why it does not open: one line, with its path as it was given."""
    with pytest.raises(StartFailed) as failed:
        await SqliteStore.open(path, LIMITS)
    message = str(failed.value)
    assert "\n" not in message
    assert f"the store {path}: " in message
    return message


async def test_the_file_is_its_owners_alone(path: Path) -> None:
    """Nobody else may read bodies: neither the file nor those beside it."""
    store = await SqliteStore.open(path, LIMITS)
    await add(store, b"body")
    modes = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}
    await store.close()
    names = ("store.db", "store.db-lock", "store.db-wal", "store.db-shm")
    assert modes == dict.fromkeys(names, 0o600)


async def test_a_newer_file_is_refused(path: Path) -> None:
    """A program that is too old says so and leaves the file alone."""
    await (await SqliteStore.open(path, LIMITS)).close()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    for _ in range(2):
        assert "its version is 99" in await refused(path)


async def test_another_programs_file_is_refused(path: Path) -> None:
    """A database that is not a store is not made into one."""
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE customers (name TEXT)")
    other.close()
    assert "another program's database" in await refused(path)


async def test_what_is_no_database_is_refused(path: Path) -> None:
    """Whatever the file holds."""
    path.write_bytes(b"version: 1\n" * 1000)
    assert "damaged, or no database" in await refused(path)


async def test_a_damaged_file_is_refused(path: Path) -> None:
    """Pages that were overwritten are found at the start."""
    store = await SqliteStore.open(path, LIMITS)
    for n in range(200):
        await add(store, b"%d" % n * 100)
    await store.close()
    with path.open("r+b") as file:
        file.seek(4096 * 8)
        file.write(os.urandom(4096 * 8))
    assert "damaged" in await refused(path)


async def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The file's own folder is made, for its owner alone, but none above it."""
    assert "there is no folder" in await refused(tmp_path / "no" / "such" / "store.db")
    store = await SqliteStore.open(tmp_path / "data" / "store.db", LIMITS)
    await store.close()
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


async def test_a_full_disk_refuses_what_grows_and_recovers(small_disk: Path) -> None:
    """The reserve keeps room for what makes room; no restart is needed."""
    store = await SqliteStore.open(small_disk / "store.db", LIMITS, reserve=8 * 1024 * 1024)
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


async def test_a_disk_that_others_fill_is_survived(small_disk: Path) -> None:
    """Without a byte to write nothing is recorded, look-ups go on, and it recovers."""
    store = await SqliteStore.open(small_disk / "store.db", LIMITS, reserve=0)
    await add(store, b"before")
    with filled(small_disk):
        with pytest.raises(StoreFailed, match="disk_full"):
            await asyncio.gather(*(add(store, b"%d" % n + b"x" * 100_000) for n in range(50)))
        assert await there(store, b"before")
    assert await works(store)
    await store.close()


async def test_a_read_only_file_system_is_refused(small_disk: Path) -> None:
    """In one line; once it can be written to again everything is there."""
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


async def test_a_locked_file_delays_writes_alone(path: Path) -> None:
    """Whoever holds the write lock, look-ups don't wait for it and writes end by their timeouts."""
    store = await SqliteStore.open(path, LIMITS)
    await add(store, b"before")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.raises(StoreFailed, match="slow"):
        await add(store, b"meanwhile", timeout=0.2)
    assert await there(store, b"before")
    assert time.monotonic() - began < 1.9  # BUSY_TIMEOUT, which a reader must not wait for
    other.execute("ROLLBACK")
    other.close()
    assert await works(store)
    await store.close()


async def test_a_write_that_commits_late_grants_nothing(path: Path) -> None:
    """From the moment on that it can be seen, and once it is spent in the file too."""
    store = await SqliteStore.open(path, LIMITS)
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
    await store.close()


async def test_a_write_that_ends_with_its_time_has_come_to_pass(path: Path) -> None:
    """Its caller is told that it is written, and its acknowledgements count."""
    store = await SqliteStore.open(path, LIMITS, now=lambda: NOW)
    writing = asyncio.create_task(add(store, b"just", 0.3))
    await asyncio.sleep(0)
    # The loop meets both at once: the commit, and the end of the time.
    time.sleep(1.0)  # noqa: ASYNC251 - the loop is held on purpose
    await writing
    (found,) = await store.find(letter(b"just").digest, T)
    assert not found.record.credit_revoked
    await store.close()


async def test_an_overdue_write_is_not_made(path: Path) -> None:
    """Its caller was told that it failed before the store came to it."""
    store = await SqliteStore.open(path, LIMITS)
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
    await store.close()


async def test_a_lock_that_stays_fails_writes_by_its_name(path: Path) -> None:
    """After the busy timeout; and nothing of it is written later."""
    store = await SqliteStore.open(path, LIMITS)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreFailed, match="locked"):
        await add(store, b"locked out")
    other.execute("ROLLBACK")
    other.close()
    assert await works(store)
    assert not await there(store, b"locked out")
    await store.close()


async def test_the_loop_runs_on_while_writes_wait(path: Path) -> None:
    """A store that is stuck blocks nobody: the loop ticks while every write hangs."""
    store = await SqliteStore.open(path, LIMITS)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writes = [asyncio.create_task(add(store, b"%d" % n, timeout=0.5)) for n in range(100)]
    ticks = 0
    while not all(write.done() for write in writes):
        await asyncio.sleep(0.001)
        ticks += 1
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert all(isinstance(result, StoreFailed) for result in results)
    assert ticks > 20  # some hundreds; a loop that waited with a write would see none or two
    other.execute("ROLLBACK")
    other.close()
    await store.close()


async def test_a_file_damaged_in_use_fails_by_its_name(path: Path) -> None:
    """Calls fail as values of the store's own; none brings the process down."""
    store = await SqliteStore.open(path, LIMITS)
    for n in range(300):
        await add(store, b"%d" % n * 200)
    await store.close()
    store = await SqliteStore.open(path, LIMITS)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    words = set()
    for n in range(50):
        for call in (store.find(letter(b"%d" % n * 200).digest, T), add(store, os.urandom(16))):
            try:
                await call
            except StoreFailed as error:
                words.add(str(error))
    assert words <= {"corrupt", "sqlite", "io"}
    assert words
    await store.close()


async def test_the_file_does_not_grow_for_ever(path: Path) -> None:
    """What is pruned gives its room back to the file system."""
    store = await SqliteStore.open(path, LIMITS)
    for _ in range(100):
        await add(store, os.urandom(50_000))
    await store.end(NOW + 1e6, 1000, T)
    while await store.prune(NOW + 1e9, 20, T):
        pass
    await store.close()
    assert path.stat().st_size < 200_000


async def test_a_persons_question_is_stopped_by_cancelling_it(path: Path) -> None:
    """However long it would take; the next one is answered."""
    await (await SqliteStore.open(path, LIMITS)).close()
    ops = await SqliteAdmin.open(path, LIMITS)
    started = threading.Event()

    def for_ever(connection: sqlite3.Connection) -> None:
        connection.set_progress_handler(started.set, 1000)
        numbers = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
        connection.execute(f"{numbers} SELECT count(*) FROM n").fetchone()

    asking = asyncio.create_task(ops._call(for_ever))
    await asyncio.to_thread(started.wait, T)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    async with asyncio.timeout(T):
        assert await ops.counts(Selection()) == ()
    await ops.close()


_WRITER = """
import asyncio, sys
from pathlib import Path
from router.store.sqlite.store import SqliteStore
from tests.store.test_sqlite import LIMITS, add

async def main(path):
    store = await SqliteStore.open(Path(path), LIMITS)
    print("open", flush=True)
    async def write(place):
        n = 0
        while True:
            body = b"%d-%d" % (place, n)
            await add(store, body)
            print(body.decode(), flush=True)
            n += 1
    await asyncio.gather(*(write(place) for place in range(20)))

asyncio.run(main(sys.argv[1]))
"""


def writer(path: Path, *prefix: str) -> subprocess.Popen[str]:
    """A process that writes as fast as it can, and prints what the store has returned from."""
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", _WRITER, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": root},
    )


async def test_kill_9_loses_nothing_that_was_returned_from(path: Path) -> None:
    """Three times in a row, in the midst of writing; the file opens again at once."""
    for _ in range(3):
        path.unlink(missing_ok=True)
        process = writer(path)
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(200)]
        process.send_signal(signal.SIGKILL)
        said += process.stdout.readlines()
        process.stdout.close()
        process.wait()
        # The last line may have been cut.
        bodies = [line.strip().encode() for line in said[1:] if line.endswith("\n")]
        store = await SqliteStore.open(path, LIMITS)
        lost = [body for body in bodies if not await there(store, body)]
        await store.close()
        assert len(bodies) > 100
        assert lost == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace on this machine")
async def test_an_fsync_that_fails_is_a_failed_write(path: Path) -> None:
    """With EIO from every fdatasync after the start, nothing more is said to be durable."""
    await (await SqliteStore.open(path, LIMITS)).close()
    inject = "inject=fdatasync,fsync:error=EIO:when=40+"
    process = writer(path, "strace", "-f", "-qq", "-e", "trace=fdatasync,fsync", "-e", inject)
    assert process.stdout is not None
    said = await asyncio.to_thread(process.stdout.read)
    process.stdout.close()
    assert process.wait() != 0
    bodies = [line.encode() for line in said.splitlines()[1:]]
    store = await SqliteStore.open(path, LIMITS)
    assert all([await there(store, body) for body in bodies])
    assert await works(store)
    await store.close()


@pytest.mark.parametrize("successor", [False, True])
async def test_a_file_that_is_gone_is_told_of(tmp_path: Path, successor: bool) -> None:
    """A store whose file was deleted under it, or replaced, still writes into what ends with the
    process; whoever asks how full it is hears so."""
    path = tmp_path / "store.db"
    store = await SqliteStore.open(path, LIMITS)
    try:
        await store.usage(T)
        path.unlink()
        if successor:
            path.touch()
        with pytest.raises(StoreFailed, match=r"^gone$"):
            await store.usage(T)
    finally:
        await store.close()


async def test_what_is_held_is_told_at_the_same_cost_whatever_it_is(path: Path) -> None:
    """The database takes as many steps for thousands of rows as for two of each target."""
    store = await SqliteStore.open(path, LIMITS)

    async def steps() -> int:
        taken, usage = await steps_of(store, lambda: store.usage(T))
        assert (set(usage.first_ends), set(usage.first_due)) == ({"a", "b"}, {("a", 0), ("b", 3)})
        return taken

    def fill(first: int, last: int) -> None:
        with closing(sqlite3.connect(path)) as filling, filling:
            for n in range(first, last):
                event = (n, f"event-{n}", b"", "open", *[NOW + n] * 5, 1, 0, 1000, *[""] * 7)
                marks = ", ".join("?" * len(event))
                filling.execute(
                    "INSERT INTO events (seq, event_id, digest, stage, first_at, replied_at, "
                    "due_at, credit_until, ends_at, requests, spent, size, request_id, "
                    "traceparent, event_source, event_topic, event_type, event_status, event_key) "
                    f"VALUES ({marks})",
                    event,
                )
                for state, made in (("awaiting", 0), ("queued", 3 * (n % 2))):
                    target = "ab"[n % 2] if state == "queued" else "ba"[n % 2]
                    filling.execute(
                        "INSERT INTO deliveries (seq, target, state, reason, due_at, retries, "
                        "changed_at) VALUES (?, ?, ?, '', ?, ?, 0)",
                        (n, target, state, NOW + n, made),
                    )

    fill(1, 5)
    await steps()
    few = await steps()
    fill(5, 4000)
    await steps()
    assert await steps() == few
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
    path: Path, damage: str
) -> None:
    """Else the log could never be cut again: of what was written by another program, say."""
    store = await SqliteStore.open(path, LIMITS)
    record = Record("event", Stage.OPEN, NOW, 1, NOW, NOW + 1, NOW + 62, NOW + 999)
    rows = [DeliveryRow(target, State.AWAITING) for target in ("one", "two", "three")]
    for number in range(3):  # SQLite is at its end with the last row
        each = replace(record, event_id=f"event-{number}")
        await store.add(each, letter(b"body"), rows, T)
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
    await store.close()


async def test_a_working_directory_that_is_gone_is_a_failure_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a relative file in it, which a read opens anew."""
    started = tmp_path / "started"
    started.mkdir()
    monkeypatch.chdir(started)
    store = await SqliteStore.open(Path("store.db"), LIMITS)
    shutil.rmtree(started)
    for _ in range(2):
        store._failed(sqlite3.DatabaseError("of a disk that was away"))
        with pytest.raises(StoreFailed, match="unreachable"):
            await store.queue(T)
    await store.close()
