"""A look-up that does not look: what the store knows of its file, and what it costs to be wrong."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

# What blocks the loop here is the test's own.
# ruff: noqa: ASYNC220, ASYNC240
from router.store import StoreFailed, StoreLimits
from router.store.ops import Selection
from router.store.sqlite import SqliteStore, reading
from router.store.sqlite.file import connect
from router.store.sqlite.known import MOST_KNOWN
from router.store.sqlite.ops import SqliteOps
from tests.support import records
from tests.support.effort import LONG
from tests.support.records import NOW, T, steps_of

pytestmark = pytest.mark.anyio

LIMITS = StoreLimits(max_bytes=1 << 30, max_rows=1_000_000, keep_settled=10.0)

#: The byte of a log's index by whose lock SQLite knows that somebody uses it.
_IN_USE = 128


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def body_of(number: int) -> bytes:
    return str(number).encode()


def digest_of(number: int) -> bytes:
    return records.letter(body_of(number)).digest


async def add(store: SqliteStore, number: int) -> None:
    name = digest_of(number).hex()
    await records.add(store, records.awaiting(), body=body_of(number), event_id=name)


async def there(store: SqliteStore, number: int) -> bool:
    return bool(await store.find(digest_of(number), T))


async def looks(store: SqliteStore, number: int) -> int:
    """How many steps SQLite takes for a look-up."""
    taken, _ = await steps_of(store, lambda: there(store, number))
    return taken


async def until_it_knows(store: SqliteStore) -> None:
    for _ in range(2 + MOST_KNOWN // 200):
        if not await looks(store, -1):
            return
    raise AssertionError("it goes on looking")


async def test_a_body_that_nobody_has_needs_no_look(path: Path) -> None:
    store = await SqliteStore.open(path, LIMITS)
    await add(store, 1)
    await until_it_knows(store)
    assert (await looks(store, 2), await there(store, 2)) == (0, False)
    assert await looks(store, 1)
    assert await there(store, 1)
    await store.close()


async def test_what_another_process_adds_is_found(path: Path) -> None:
    """Between two look-ups of the same body, which nobody had at the first."""
    store = await SqliteStore.open(path, LIMITS)
    adding = (
        "import asyncio, sys; from pathlib import Path; from tests.store import test_known as t\n"
        "async def main():\n"
        "    store = await t.SqliteStore.open(Path(sys.argv[1]), t.LIMITS)\n"
        "    for line in sys.stdin:\n"
        "        await t.add(store, int(line)); print(flush=True)\n"
        "    await store.close()\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", adding, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        for number in range(20):
            await until_it_knows(store)
            assert not await there(store, number)
            print(number, file=other.stdin)
            assert other.stdout.readline() == "\n"
            assert await there(store, number)
        other.stdin.close()
    await store.close()


@pytest.mark.parametrize("seed", range(5 if LONG else 2))
async def test_it_says_what_a_look_says(path: Path, seed: int) -> None:
    """Two processes' stores, events that come and go, and connections that are opened anew."""
    choice = random.Random(seed)
    clock = NOW
    stores = [await SqliteStore.open(path, LIMITS, now=lambda: clock) for _ in range(2)]
    number = 0

    async def comes(store: SqliteStore) -> None:
        nonlocal number
        number += 1
        await add(store, number)

    async def goes(store: SqliteStore) -> None:
        nonlocal clock
        clock += 4000.0
        await store.end(clock, 3, T)
        await store.prune(clock + LIMITS.keep_dead + 1, 2, T)
        await store.usage(T)

    async def reopens(store: SqliteStore) -> None:
        store._close_reader()

    for _ in range(400):
        act = choice.choices((comes, goes, reopens), (8, 2, 1))[0]
        await act(choice.choice(stores))
        asked = choice.randint(0, number + 1)
        with closing(sqlite3.connect(path)) as looking:
            expected = reading.find(looking.cursor(), digest_of(asked))
        assert [await store.find(digest_of(asked), T) for store in stores] == [expected, expected]
    for store in stores:
        await store.close()


async def test_more_than_it_may_know_is_looked_up_until_it_has_gone(path: Path) -> None:
    store = await SqliteStore.open(path, LIMITS)

    def fill(count: int) -> None:
        with closing(sqlite3.connect(path)) as filling, filling:
            filling.execute("DELETE FROM bodies")
            filling.execute("DELETE FROM events")
            filling.executemany(
                "INSERT INTO events (event_id, digest, stage, first_at, replied_at, due_at,"
                " credit_until, ends_at, requests, spent, size, request_id, traceparent,"
                " event_source, event_topic, event_type, event_status, event_key)"
                " VALUES (?, ?, 'open', 1, 1, 1, 1, 1, 1, 0, 9, '', '', '', '', '', '', '')",
                ((digest_of(number).hex(), digest_of(number)) for number in range(count)),
            )

    await asyncio.to_thread(fill, MOST_KNOWN + 500)
    for number in range(0, MOST_KNOWN + 500, 100):
        assert await there(store, number)
    assert await looks(store, -1)
    await store.usage(T)
    assert await looks(store, -1), "nothing has gone yet"

    await asyncio.to_thread(fill, 300)
    await store.usage(T)
    await until_it_knows(store)
    assert [await there(store, number) for number in (0, 299, 300)] == [True, True, False]
    await store.close()


def is_in_use(path: Path) -> bool:
    """Whether another process has the index of that file's log locked, as that process sees it."""
    asking = (
        "import fcntl, struct, sys\n"
        "with open(sys.argv[1], 'r+b') as index:\n"
        f"    asked = struct.pack('hhqqi', fcntl.F_WRLCK, 0, {_IN_USE}, 1, 0)\n"
        "    said = fcntl.fcntl(index, fcntl.F_GETLK, asked)\n"
        "    print(struct.unpack('hhqqi', said)[0] != fcntl.F_UNLCK)"
    )
    command = [sys.executable, "-c", asking, f"{path}-shm"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    return said.stdout == "True\n"


@pytest.mark.skipif(
    sys.platform != "linux" or struct.calcsize("hhqqi") != 28, reason="a struct flock of Linux"
)
async def test_who_closes_takes_nobodys_locks(path: Path) -> None:
    """A store, its twin, and a person's connection beside it, of one process; whoever is last."""
    first, second = [await SqliteStore.open(path, LIMITS) for _ in range(2)]
    for store in (first, second):
        await until_it_knows(store)
    ops = await SqliteOps.open(path, LIMITS)
    await ops.counts(Selection())
    closes: list[Callable[[], Awaitable[None]]] = [first.close, ops.close, second.close]
    for number, close in enumerate(closes):
        assert await asyncio.to_thread(is_in_use, path), number
        await close()
    assert not Path(f"{path}-shm").exists()


async def test_its_descriptors_end_with_it(path: Path) -> None:
    def open_here() -> list[str]:
        links = list(Path("/proc/self/fd").iterdir())
        return [str(link.readlink()) for link in links if link.is_symlink()]

    for _ in range(3):
        store = await SqliteStore.open(path, LIMITS)
        await until_it_knows(store)
        store._close_reader()
        await there(store, 1)
        await until_it_knows(store)
        assert any(name.endswith("-shm") for name in open_here())
        await store.close()
    assert not [name for name in open_here() if name.startswith(str(path))]


async def test_with_no_descriptor_left_it_looks(path: Path) -> None:
    """For as long as its connection lives; the next one tries again."""
    store = await SqliteStore.open(path, LIMITS)
    await store.usage(T)  # SQLite has its own by now
    await add(store, 1)
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, usual[1]))
    try:
        for number in (1, 2):
            assert await there(store, number) == (number == 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)
    assert await looks(store, 2)
    store._close_reader()
    assert await there(store, 1)
    await until_it_knows(store)
    await store.close()


async def test_a_damaged_page_costs_its_own_rows_alone(path: Path) -> None:
    """What the table can't be read for is looked up by the index, as ever."""
    store = await SqliteStore.open(path, LIMITS)
    for number in range(300):
        await add(store, number)
    await store.close()
    content = path.read_bytes()
    size = int.from_bytes(content[16:18], "big")
    pages = [content[at : at + size] for at in range(0, len(content), size)]
    leaf_of_a_table, name = 0x0D, digest_of(150).hex().encode()
    (damaged,) = [n for n, page in enumerate(pages) if page[0] == leaf_of_a_table and name in page]
    store = await SqliteStore.open(path, LIMITS)
    with path.open("r+b") as file:
        file.seek(damaged * size)
        file.write(random.Random(1).randbytes(size))
    assert [await there(store, number) for number in (-1, 0, 299)] == [False, True, True]
    await store.close()


async def test_an_older_file_in_its_place_is_seen(path: Path) -> None:
    """By `.restore`, which SQLite allows beside a router: its numbers are given anew."""
    store = await SqliteStore.open(path, LIMITS)
    backup = path.with_name("backup.db")
    await add(store, 0)
    await until_it_knows(store)
    with closing(sqlite3.connect(path)) as live, closing(sqlite3.connect(backup)) as kept:
        live.backup(kept)
        for number in range(1, 20):
            await add(store, number)
        await until_it_knows(store)
        kept.backup(live)
    for number in range(100, 110):
        await add(store, number)
        assert await there(store, number)
    await until_it_knows(store)
    assert [await there(store, number) for number in (0, 19, 109)] == [True, False, True]
    await store.close()


async def test_another_history_in_its_place_is_seen(path: Path) -> None:
    """Of which the last one that is known here is not there, and higher numbers are."""
    store = await SqliteStore.open(path, LIMITS)
    for number in range(5):
        await add(store, number)
    await until_it_knows(store)
    other = await SqliteStore.open(path.with_name("other.db"), LIMITS)
    for number in range(100, 120):
        await add(other, number)
    await other.close()
    with closing(sqlite3.connect(path.with_name("other.db"))) as kept:
        kept.execute("DELETE FROM deliveries WHERE seq = 5")
        kept.execute("DELETE FROM bodies WHERE seq = 5")
        kept.execute("DELETE FROM events WHERE seq = 5")
        kept.commit()
        with closing(sqlite3.connect(path)) as live:
            kept.backup(live)
    there_now = [number for number in range(100, 120) if await there(store, number)]
    assert there_now == [100, 101, 102, 103, *range(105, 120)]
    await until_it_knows(store)
    assert await there(store, 100)
    await store.close()


async def test_with_no_memory_left_it_looks(path: Path) -> None:
    """For as long as its connection lives; a set that could not grow is not used again."""
    store = await SqliteStore.open(path, LIMITS)
    await add(store, 1)

    def too_much(*_: object) -> None:
        raise MemoryError

    store._looking.row_factory = too_much
    assert not await there(store, 2)
    store._looking.row_factory = None
    assert await looks(store, 2)
    assert await there(store, 1)
    await store.close()


@pytest.mark.parametrize("gone", ["", "-shm"])
async def test_a_file_in_its_place_is_not_taken_for_it(path: Path, gone: str) -> None:
    """It goes on with what it has open, though it has never looked yet."""
    store = await SqliteStore.open(path, LIMITS)
    await add(store, 1)
    for end in [gone] if gone else ["", "-wal", "-shm"]:
        Path(f"{path}{end}").unlink()
    another = await SqliteStore.open(path, LIMITS)
    await there(another, 1)
    for number in range(1, 10):
        await add(store, number + 10)
        assert await there(store, number + 10)
    await another.close()
    await store.close()


async def once_unlocked(store: SqliteStore, number: int) -> bool:
    """Whoever closes a file as the last one has it locked meanwhile, and a reader does not wait."""
    async with asyncio.timeout(T):
        while True:
            with suppress(StoreFailed):
                return await there(store, number)


async def test_a_connection_that_ends_beside_one_that_begins(path: Path) -> None:
    """Whoever of one process is the last takes the index away, and the next one makes another."""
    store = await SqliteStore.open(path, LIMITS)
    ending = False

    def come_and_go() -> None:
        while not ending:
            connection = connect(path)
            connection.execute("SELECT 1 FROM events").fetchone()
            connection.close()

    beside = asyncio.create_task(asyncio.to_thread(come_and_go))
    try:
        for number in range(300 if LONG else 100):
            await add(store, number)
            store._close_reader()
            with pytest.raises(ZeroDivisionError):  # after which the writer opens the file anew
                await store._write(lambda rows: 1 // 0, T)
            assert await once_unlocked(store, number)
            await there(store, -1)
            await add(store, -number - 2)
            assert await there(store, -number - 2)
    finally:
        ending = True
        await beside
    await store.close()


async def test_a_name_that_is_no_text_will_do(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.db"))
    store = await SqliteStore.open(path, LIMITS)
    await add(store, 1)
    await until_it_knows(store)
    assert await there(store, 1)
    await store.close()
