"""A store of 0.2.0: upgraded, and used by 0.2.0 again."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from router.model.errors import RouterError, StartFailed
from router.model.event import Attempt, Reason
from router.store.admin import Action, Admin, Dossier, Selection, Verb, pause
from router.store.opening import open_store, opened
from router.store.postgres.admin import PostgresAdmin
from router.store.postgres.store import PostgresStore
from router.store.protocol import State, StoreFailed, StoreLimits, Tried
from router.store.sqlite.admin import SqliteAdmin
from router.store.sqlite.schema import FILE_VERSION
from router.store.sqlite.store import SqliteStore
from router.store.url import parse_database
from tests.chaos.boundaries import COMMITS
from tests.store.records import T, letter, queued, record, using
from tests.support.command import ROOT, environment
from tests.support.effort import LONG
from tests.support.postgres import Database, Server

pytestmark = pytest.mark.anyio

#: Made by 0.2.0, whose schema is the second: four events, an open one, a closed one, and two
#: that are dead, one of whose deliveries a person has discarded. It has an attempt of the third
#: event; the last dead letter is marked as acknowledged later. Never made anew.
SECOND = Path(__file__).parents[1] / "testdata/store/v2.db"

EVENTS = [f"00000000-0000-4000-8000-00000000000{number}" for number in range(1, 5)]

LIMITS = StoreLimits(max_bytes=2**30)

TRIED = Tried(Attempt(Reason.STATUS, True, 0.1, 503, at=1.0, msg="busy"), retry=5, number=1)

#: Opens the file that it is given, in a process of its own.
OPENING = "import sys; from pathlib import Path; from router.store.sqlite.file import open_file; "
OPENING += "open_file(Path(sys.argv[1]))[1].close()"


@pytest.fixture
def second(tmp_path: Path) -> Path:
    return Path(shutil.copy(SECOND, tmp_path / "store.db"))


async def looked_at(admin: Admin) -> list[Dossier]:
    found = [await admin.dossier(event_id) for event_id in EVENTS]
    return [dossier for dossier in found if dossier is not None]


def config_state(dossiers: Sequence[Dossier]) -> list[dict[str, tuple[str, str]]]:
    return [{e.row.target: (e.row.state, e.row.reason) for e in d.entries} for d in dossiers]


#: The states in the file.
STANDING = [
    {"certificates": ("acknowledged", "acknowledged"), "ledger": ("awaiting", "code")},
    {"audit": ("queued", "timeout")},
    {"ledger": ("dead", "status")},
    {"audit": ("dead", "target_removed"), "ledger": ("superseded", "discarded")},
]


@pytest.fixture
async def upgraded(second: Path) -> AsyncIterator[tuple[SqliteStore, SqliteAdmin]]:
    async with (
        using(SqliteStore.open(second, LIMITS)) as store,
        using(SqliteAdmin.open(second, LIMITS)) as admin,
    ):
        yield store, admin


async def test_a_file_of_the_second_version_is_as_it_was(
    upgraded: tuple[SqliteStore, SqliteAdmin],
) -> None:
    """Every event, body, delivery and attempt, the queue, the usage, actions, and later events are
    there; and its target can be paused."""
    store, admin = upgraded
    dossiers = await looked_at(admin)
    assert config_state(dossiers) == STANDING
    assert [json.loads(each.letter.event.body)["changes"] for each in dossiers] == [
        [f"id{number}"] for number in range(1, 5)
    ]
    assert dossiers[0].record.requests == 3
    assert dossiers[2].attempts == {"ledger": (TRIED,)}
    assert [each.later_event for each in dossiers[3].entries] == [EVENTS[1], ""]
    assert await store.queue(T) == {"audit": 4_000_000_000.0}
    usage = await store.usage(T)
    assert usage.first_ends == {"ledger": 4_000_000_000.0}
    assert usage.first_due == {("audit", 4): 4_000_000_000.0}
    assert usage.deliveries == {
        ("audit", State.DEAD): 0,
        ("audit", State.QUEUED): 1,
        ("ledger", State.AWAITING): 1,
        ("ledger", State.DEAD): 1,
    }
    assert [each.who for each in await admin.actions(9)] == ["ops@example"]
    made = await pause(admin, "audit", "10m", "a move", "ops")
    assert await store.pauses(T) == (made,)


async def test_it_goes_on_as_any_other(upgraded: tuple[SqliteStore, SqliteAdmin]) -> None:
    """New attempts are kept, and an earlier discard can be restored. Hops are kept from now on: a
    delivery that 0.2.0 has queued counts as not forwarded before."""
    store, admin = upgraded
    await store.add(record(), letter().replace(hops=3), [queued("audit")], T)
    new, due = await store.lease("audit", 5e9, 6e9, 9, T)
    assert (new.letter.hops, due.letter.hops) == (3, 0)
    assert await store.finish(due, replace(due.row, tried=TRIED), 5e9, T)
    entries = [e async for page in admin.pages(Selection(event_ids=(EVENTS[3],)), 9) for e in page]
    assert await admin.act(Action("undo", Verb.RESTORE, "ops", "", 1.0), entries) == 1
    dossiers = await looked_at(admin)
    assert dossiers[1].attempts == {"audit": (TRIED,)}
    assert config_state(dossiers)[3]["ledger"] == ("dead", "")


async def test_the_version_before_goes_on_with_a_new_file(second: Path) -> None:
    """The header lets it in. Its writes are counted, and its deletes include the attempts."""
    async with using(SqliteStore.open(second, LIMITS)) as store:
        await store.missed(EVENTS[2], "ledger", TRIED, 0.0, T)
    with closing(sqlite3.connect(second, isolation_level=None)) as old:
        assert old.execute("PRAGMA user_version").fetchone() == (2,)
        for table in ("deliveries", "bodies", "events"):
            old.execute(f"DELETE FROM {table} WHERE seq = 3")
        assert old.execute("SELECT count(*) FROM attempts").fetchone() == (0,)
        assert old.execute("SELECT bytes FROM usage WHERE target = ''").fetchone() == (3 * 1131,)
    await (await SqliteStore.open(second, LIMITS)).close()


async def test_a_long_start_is_reported(second: Path) -> None:
    """It reports its duration again and again."""
    lasted: list[float] = []
    shown = asyncio.Event()

    def lasts(seconds: float) -> None:
        lasted.append(seconds)
        if len(lasted) == 3:
            shown.set()

    opening = partial(open_store, second, LIMITS)
    with closing(sqlite3.connect(second, isolation_level=None)) as holder:
        holder.execute("PRAGMA journal_mode = WAL")
        holder.execute("BEGIN IMMEDIATE")
        start = asyncio.create_task(opened(opening, never, lasts, asyncio.Event(), 0.01))
        await asyncio.wait_for(shown.wait(), T)
        holder.execute("ROLLBACK")
        store = await asyncio.wait_for(start, T)
    assert store is not None
    assert lasted == sorted(lasted)
    assert lasted[0] >= 0.01
    await store.close()


def never(error: RouterError) -> None:
    raise AssertionError(str(error))


async def test_a_file_of_a_newer_version_is_refused(second: Path) -> None:
    """With a line that says what to do."""
    with closing(sqlite3.connect(second)) as newer:
        newer.execute(f"PRAGMA user_version = {FILE_VERSION + 1}")
    with pytest.raises(StartFailed, match="start that, or put back the copy"):
        await SqliteStore.open(second, LIMITS)


def killed_at(call: str, number: int, path: Path) -> bool:
    """Return whether the process that opens the file was killed before that call, which may not
    occur."""
    inject = f"inject={call}:signal=KILL:when={number}"
    tracing = [str(ROOT / "scripts/strace"), "-f", "-o", os.devnull, "-e", f"trace={call}"]
    opening = [*tracing, "-e", inject, sys.executable, "-c", OPENING, str(path)]
    done = subprocess.run(opening, cwd=ROOT, env=environment(), capture_output=True, check=False)
    if b"ptrace" in done.stderr or b"not installed" in done.stderr:
        pytest.skip("strace may not look at another process here")
    return done.returncode != 0


@pytest.mark.skipif(not LONG, reason="seconds: make test-long")
@pytest.mark.parametrize("call", COMMITS)
async def test_an_upgrade_survives_a_kill_anywhere(call: str, tmp_path: Path) -> None:
    """A kill before any of its writes or syncs leaves the file as it was, and the next start
    upgrades it. `CRASH_POINTS=all` tries all of them, otherwise it is a few."""
    step = 1 if os.environ.get("CRASH_POINTS") == "all" else (7 if call == "pwrite64" else 1)
    for number in range(1, 200, step):
        path = Path(shutil.copy(SECOND, tmp_path / f"{number}.db"))
        if not killed_at(call, number, path):
            break
        async with (
            using(SqliteStore.open(path, LIMITS)),
            using(SqliteAdmin.open(path, LIMITS)) as it,
        ):
            assert config_state(await looked_at(it)) == STANDING
    assert number > 1


# PostgreSQL.


def make_second(database: Database, schema: str) -> None:
    """Make the schema as a node of 0.2.0 does."""
    with psycopg.connect(database.dsn) as old:
        old.execute(f"CREATE SCHEMA {schema}; SET LOCAL search_path = {schema}, pg_temp")
        old.execute(SECOND.with_suffix(".sql").read_bytes())
        old.execute("INSERT INTO version VALUES (2)")


class Old:
    """A node of 0.2.0, by its statements."""

    def __init__(self, database: Database, schema: str) -> None:
        self._connection = psycopg.connect(database.dsn, autocommit=True)
        self._schema = schema

    def call(self, function: str, *values: Any) -> list[tuple[Any, ...]]:
        marks = ", ".join(["%s"] * len(values))
        sql = f"SELECT * FROM {self._schema}.{function}({marks})"
        return self._connection.execute(sql, values).fetchall()

    def add(self, event_id: str, *rows: dict[str, Any]) -> None:
        ask = {"event_id": event_id, "digest": "\\x00", "stage": "open", "first_at": 1.0,
               "requests": 1, "replied_at": 1.0, "due_at": 2.0, "credit_until": 1e9,
               "ends_at": 1e9, "spent": False, "size": 1000, "request_id": "r",
               "traceparent": "", "event_source": "a", "event_topic": "b", "event_type": "c",
               "event_status": "1", "event_key": "a.b.c.1", "rows": list(rows),
               "deadline": 1e12}  # fmt: skip
        limits = {"max_bytes": 1e9, "max_rows": 1e6, "share": 1.0, "keep_settled": 60.0,
                  "keep_dead": 60.0}  # fmt: skip
        self.limits = json.dumps(limits)
        self.call("add", json.dumps([ask]), [b"{}"], self.limits)

    def close(self) -> None:
        self._connection.close()


def row(target: str, state: str = "awaiting") -> dict[str, Any]:
    return {"target": target, "state": state, "reason": "code", "due_at": 1.0, "retries": 0}


@pytest.mark.postgresql
async def test_nodes_of_both_versions_share_a_database(postgresql: Server) -> None:
    """An old node goes on while a new one upgrades the schema: it adds, finds, takes, finishes,
    settles and deletes as before, and both see each other's changes."""
    with postgresql.database() as database:
        make_second(database, "shared")
        old = Old(database, "shared")
        address = parse_database(f"{database.dsn}?schema=shared")
        old.add("before", row("one"), row("two", "queued"))
        async with (
            using(PostgresStore.open(address, LIMITS)) as new,
            using(PostgresAdmin.open(address, LIMITS)) as admin,
        ):
            assert (await new.find(b"\0", T))[0].record.event_id == "before"
            usage = await new.usage(T)
            assert (usage.first_ends, usage.first_due) == ({"one": 1e9}, {("two", 0): 1.0})
            await new.missed("before", "one", TRIED, 0.0, T)
            old.add("after", row("two", "queued"))
            taken = old.call("take_letters", "two", 5.0, 99.0, 9, "lease")
            assert [len(each) for each in taken] == [17, 17]
            done = {"event_id": "before", "lease": "lease", "now": 6.0} | row("two", "dead")
            assert old.call("finish", json.dumps([done]), old.limits) == [(True,)]
            again = {"event_id": "before", "digest": "\\x00", "stage": "open", "first_at": 1.0,
                     "requests": 2, "replied_at": 1.0, "due_at": 2.0, "credit_until": 1e9,
                     "ends_at": 2.0, "spent": False, "rows": [row("one")], "reached": [],
                     "at": 7.0, "token": "t"}  # fmt: skip
            assert old.call("settle", json.dumps([again]), old.limits) == [(True, None)]
            assert (await new.usage(T)).first_ends == {"one": 2.0}
            assert {each[1] for each in old.call("used")} <= {"", *map(str, State)}
            dossier = await admin.dossier("before")
            assert dossier is not None
            assert dossier.attempts == {"one": (TRIED,)}
            assert [e.row.state for e in dossier.entries] == [State.AWAITING, State.DEAD]
            assert len(old.call("end_over", 3.0, 9, old.limits)) == 1
            assert old.call("prune", 1e9, 9, old.limits) == [(1,)]
            assert await admin.dossier("before") is None
            assert (await new.usage(T)).bytes == 1000
        old.close()


@pytest.mark.postgresql
async def test_a_dead_letter_acknowledged_later_is_not_counted(postgresql: Server) -> None:
    """Also if that was before the upgrade."""
    with postgresql.database() as database:
        make_second(database, "later")
        old = Old(database, "later")
        old.add("one", row("one", "dead"))
        old.add("two", row("one", "dead"))
        asked = [{"event_ids": ["one"], "reached": ["one"], "now": 2.0, "by_event": "three"}]
        old.call("supersede", json.dumps(asked), old.limits)
        old.close()
        address = parse_database(f"{database.dsn}?schema=later")
        async with using(PostgresStore.open(address, LIMITS)) as new:
            usage = await new.usage(T)
            assert (usage.deliveries, usage.bytes) == ({("one", State.DEAD): 1}, 2000)


@pytest.mark.postgresql
async def test_a_busy_table_holds_the_upgrade_up_and_nobody_else(postgresql: Server) -> None:
    """The upgrade gives up and is tried again, so that no caller waits behind it."""
    with postgresql.database() as database:
        make_second(database, "busy")
        address = parse_database(f"{database.dsn}?schema=busy")
        with psycopg.connect(database.dsn) as reader:
            reader.execute("SELECT * FROM busy.deliveries").fetchall()
            with pytest.raises(StoreFailed):
                await PostgresStore.open(address, LIMITS)
        await (await PostgresStore.open(address, LIMITS)).close()
