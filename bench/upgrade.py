"""How long a start takes that brings a store up to date: python -m bench.upgrade [EVENTS]

Each store is made by the scripts of the first version and has so many open events with two
deliveries each, a million unless told otherwise. The PostgreSQL server is this machine's own.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from bench.numbers import numbers
from router.store.postgres import DatabaseAddress, PostgresStore
from router.store.postgres.schema import migration
from router.store.sqlite.file import prepare
from router.store.sqlite.schema import APPLICATION_ID, MIGRATIONS
from tests.support.filled import NO_LIMITS, put_in
from tests.support.postgres import running

_EVENTS = """
INSERT INTO events (event_id, digest, stage, first_at, requests, replied_at, due_at, credit_until,
    ends_at, spent, size)
SELECT 'filled-' || n, sha256(n::text::bytea), 'open', 1, 1, 1, 2e9, 2e9, 2e9, false, 1200
FROM generate_series(1, %s) AS n
"""
_LETTERS = """
INSERT INTO letters
SELECT seq, 'filled', '', 'a', 'gs', 'cert', '1', 'a.gs.cert.1', decode(repeat('61', 150), 'hex')
FROM events
"""
_DELIVERIES = """
INSERT INTO deliveries (seq, target, state, reason, due_at, retries, changed_at, size)
SELECT seq, target, state, 'code', 2e9, 0, 1, 1200
FROM events, (VALUES ('strong', 'awaiting'), ('aside', 'queued')) AS each (target, state)
"""


def sqlite(path: Path, events: int) -> tuple[int, float]:
    """The file's size, in bytes, and the seconds."""
    with closing(sqlite3.connect(path)) as old:
        old.execute("PRAGMA auto_vacuum = INCREMENTAL")
        old.execute("PRAGMA journal_mode = WAL")
        old.executescript(MIGRATIONS[0])
        old.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        old.execute("PRAGMA user_version = 1")
    put_in(path, events)
    size, began = path.stat().st_size, time.perf_counter()
    prepare(path).close()
    return size, time.perf_counter() - began


def postgresql(events: int) -> tuple[int, float]:
    """The same of a database."""
    with running() as server, server.database() as database:
        with psycopg.connect(database.dsn) as old:
            old.execute("CREATE SCHEMA ebaas_router")
            old.execute(migration(1, "ebaas_router"))
            old.execute("INSERT INTO version VALUES (1)")
            # What they count is no matter here, and grows with the square of the rows.
            for table in ("events", "deliveries"):
                old.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            old.execute(_EVENTS, [events])
            old.execute(_LETTERS)
            old.execute(_DELIVERIES)
            for table in ("events", "deliveries"):
                old.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
        ((size,),) = server.rows(f"SELECT pg_database_size('{database.name}')")
        address, began = DatabaseAddress.parse(database.dsn), time.perf_counter()
        store = asyncio.run(PostgresStore.open(address, NO_LIMITS))
        seconds = time.perf_counter() - began
        assert store.remembers
    return int(size), seconds


def main(events: int) -> None:
    with TemporaryDirectory() as folder:
        figures = {"SQLite": sqlite(Path(folder) / "store.db", events)}
    figures["PostgreSQL"] = postgresql(events)
    for name, (size, seconds) in figures.items():
        print(f"{name:<10}  {size >> 20:,} MiB  {seconds:.2f} s")


if __name__ == "__main__":
    main(*numbers("upgrade", __doc__, events=1_000_000))
