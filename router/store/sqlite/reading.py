"""The store's reading methods as SQL on one connection, and rows as the types they mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from router.model.event import Event, Letter
from router.store import fullness
from router.store.pauses import Pause
from router.store.promises import (
    MAX_FOUND,
    DeliveryRow,
    Due,
    Kept,
    Notice,
    Record,
    Stage,
    State,
    StoreLimits,
    Usage,
)

_IS_THERE: Final = "SELECT 1 FROM events WHERE digest = ?"

_FIND: Final = """
SELECT seq, event_id, stage, first_at, requests, replied_at, due_at, credit_until, ends_at,
    spent OR seq <= (SELECT spent_up_to FROM credit)
FROM events WHERE digest = ? ORDER BY stage DESC LIMIT ?
"""
_DELIVERIES: Final = "SELECT target, state, reason, due_at, retries FROM deliveries WHERE seq = ?"

#: One step from a target to the next along the index, however many rows each has.
_QUEUE: Final = """
WITH RECURSIVE queued (target) AS (
    SELECT min(target) FROM deliveries WHERE state = 'queued'
    UNION ALL
    SELECT (SELECT min(target) FROM deliveries WHERE state = 'queued' AND target > queued.target)
    FROM queued WHERE target IS NOT NULL
)
SELECT target, (SELECT min(due_at) FROM deliveries d
                WHERE d.state = 'queued' AND d.target = queued.target)
FROM queued WHERE target IS NOT NULL
"""

#: The first of those that await their caller's retry, for the next target.
_NEXT_END: Final = """
SELECT target, ends_at FROM deliveries WHERE ends_at IS NOT NULL AND target > ?
ORDER BY target, ends_at LIMIT 1
"""
#: The first queued one for the next number of retries and target: behind all of the one before,
#: for SQLite would go through these.
_NEXT_DUE: Final = """
SELECT retries, target, due_at FROM deliveries
WHERE state = 'queued' AND (retries, target, due_at) > (?, ?, 9e999)
ORDER BY retries, target, due_at LIMIT 1
"""

_PAUSES: Final = "SELECT target, since, until, because, who, resumed_by FROM pauses"

TAKE: Final = """
SELECT d.seq, e.event_id, d.target, d.state, d.reason, d.due_at, d.retries,
    e.digest, e.request_id, e.traceparent, e.tracestate, e.hops,
    e.event_source, e.event_topic, e.event_type, e.event_status, e.event_key, b.body,
    d.action IS NOT NULL
FROM deliveries d CROSS JOIN events e USING (seq) CROSS JOIN bodies b USING (seq)
WHERE d.state = 'queued' AND d.target = ? AND d.due_at <= ? ORDER BY d.due_at LIMIT ?
"""


#: Settled and dead ones expire; the index has no other.
_OLDEST: Final = "SELECT min(first_at) FROM events WHERE expires_at IS NULL"


def find(cursor: sqlite3.Cursor, digest: bytes) -> tuple[Kept, ...]:
    """By a cursor that may be used again and again: none of its statements stays open."""
    # Hardly ever is there one, and to prepare to be told ten columns takes longer than to look.
    if cursor.execute(_IS_THERE, (digest,)).fetchone() is None:
        return ()
    found = cursor.execute(_FIND, (digest, MAX_FOUND)).fetchall()
    return tuple(
        Kept(record(columns), tuple(map(delivery_row, cursor.execute(_DELIVERIES, (seq,)))))
        for seq, *columns in found
    )


def queue(connection: sqlite3.Connection) -> Mapping[str, float]:
    return dict(connection.execute(_QUEUE))


def _firsts(connection: sqlite3.Connection, next_: str, start: tuple[Any, ...]) -> Iterator[Any]:
    """The first row of each group: one step along an index from a group to the next."""
    after = start
    while found := connection.execute(next_, after).fetchone():
        yield found
        after = found[:-1]


def pauses(connection: sqlite3.Connection) -> tuple[Pause, ...]:
    return tuple(Pause(*row) for row in connection.execute(_PAUSES))


def notice(connection: sqlite3.Connection, name: str) -> Notice | None:
    found = connection.execute("SELECT what, at FROM notices WHERE name = ?", (name,)).fetchone()
    return None if found is None else Notice(*found)


def usage(connection: sqlite3.Connection, limits: StoreLimits) -> Usage:
    (oldest,) = connection.execute(_OLDEST).fetchone()
    used = fullness.usage(connection.execute("SELECT * FROM usage"), oldest, limits)
    ends = dict(_firsts(connection, _NEXT_END, ("",)))
    due = {(of, made): at for made, of, at in _firsts(connection, _NEXT_DUE, (-1, ""))}
    return replace(used, first_ends=ends, first_due=due)


def record(row: Sequence[Any]) -> Record:
    event_id, stage, first_at, requests, replied_at, due_at, credit_until, ends_at, spent = row
    times = (first_at, requests, replied_at, due_at, credit_until, ends_at)
    return Record(event_id, Stage(stage), *times, spent=bool(spent))


def delivery_row(row: tuple[Any, ...]) -> DeliveryRow:
    target, state, reason, due_at, retries = row
    return DeliveryRow(target, State(state), reason, due_at, retries)


def due(row: tuple[Any, ...], lease: str) -> Due:
    _, event_id, *delivery = row[:7]
    *of_letter, replayed = row[7:]
    return Due(
        event_id, delivery_row(tuple(delivery)), letter(tuple(of_letter)), lease, bool(replayed)
    )


def letter(row: tuple[Any, ...]) -> Letter:
    digest, request_id, traceparent, tracestate, hops, *event = row
    return Letter(Event(*event), digest, request_id, traceparent, tracestate, hops=hops)
