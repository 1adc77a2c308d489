"""What the store's file says in the end."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tests.chaos.callers import body_of


@dataclass(frozen=True, slots=True)
class Row:
    event_id: str
    stage: str
    digest: bytes
    target: str
    state: str
    reason: str
    changed_at: float


@dataclass(frozen=True, slots=True)
class Kept:
    rows: list[Row]
    open_events: list[str]

    def of(self, body: int) -> list[Row]:
        digest = sha256(body_of(body)).digest()
        return [row for row in self.rows if row.digest == digest]


def read(store: Path) -> Kept:
    query = (
        "SELECT event_id, stage, digest, target, state, reason, changed_at "
        "FROM deliveries JOIN events USING (seq) ORDER BY changed_at"
    )
    with _opened(store) as connection:
        rows = [Row(*row) for row in connection.execute(query)]
        found = connection.execute("SELECT event_id FROM events WHERE stage = 'open'").fetchall()
    return Kept(rows, [event_id for (event_id,) in found])


def unsettled(store: Path) -> int:
    """How many records are open, and how many deliveries are not settled."""
    query = (
        "SELECT (SELECT count(*) FROM events WHERE stage = 'open') + "
        "(SELECT count(*) FROM deliveries WHERE state IN ('awaiting', 'queued'))"
    )
    with _opened(store) as connection:
        (count,) = connection.execute(query).fetchone()
    return int(count)


@contextmanager
def _opened(store: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"{store.as_uri()}?mode=rw", uri=True, timeout=10.0)
    try:
        connection.execute("PRAGMA query_only = ON")
        yield connection
    finally:
        connection.close()
