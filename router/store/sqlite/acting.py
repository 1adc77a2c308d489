"""A person's actions as SQL: each step is one transaction, the action's own row included."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from router.store.fullness import fitting, size_of
from router.store.ops import Action, Entry, Resend, Resent
from router.store.pauses import Pause
from router.store.promises import RETRIED, DeliveryRow, State, StoreLimits
from router.store.sqlite.rows import PUT, Rows

_RECORD = """
INSERT INTO actions (action_id, verb, who, what, at, deliveries) VALUES (?, ?, ?, ?, ?, 0)
ON CONFLICT DO UPDATE SET deliveries = deliveries RETURNING seq
"""

#: Only where it still stands as it was looked at. A lease is taken away: its holder comes too late.
#: Nothing is awaited from a caller that has given up.
_CHANGE = """
UPDATE deliveries SET state = CASE
        WHEN ?1 = 'awaiting' AND (SELECT stage FROM events e WHERE e.seq = deliveries.seq) <> 'open'
        THEN 'dead' ELSE ?1 END,
    reason = ?, due_at = ?, retries = ?, changed_at = ?, action = ?,
    lease = '', was_state = state, was_reason = reason
WHERE seq = ? AND target = ? AND state = ? AND acknowledged_later_at IS ? RETURNING seq
"""

_STANDING = """
SELECT e.seq, d.state, d.action
FROM events e LEFT JOIN deliveries d ON d.seq = e.seq AND d.target = ? WHERE e.event_id = ?
"""


def act(
    connection: sqlite3.Connection,
    limits: StoreLimits,
    action: Action,
    entries: Sequence[Entry],
    now: float,
) -> int:
    standing = [entry for entry in entries if action.verb.fits(entry.row)]
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        number = _recorded(connection, action)
        changed = [
            row
            for entry in standing
            for row in connection.execute(
                _CHANGE, (*_after(action.verb.acted(entry, now)), now, number, *_before(entry))
            ).fetchall()
        ]
        connection.execute(
            "UPDATE actions SET deliveries = deliveries + ? WHERE seq = ?", (len(changed), number)
        )
        Rows(connection, limits).touch((seq for (seq,) in changed), now)
    return len(changed)


def resend(
    connection: sqlite3.Connection,
    limits: StoreLimits,
    action: Action,
    target: str,
    events: Sequence[Resend],
    now: float,
) -> Resent:
    rows = Rows(connection, limits)
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        number = _recorded(connection, action)
        sizes = [size_of(event.letter.event) for event in events]
        taken = fitting(sizes, rows.used(""), rows.used(target), limits)
        queued = [
            seq
            for event in events[:taken]
            if (seq := _resent(connection, rows, event, target, number, now)) is not None
        ]
        connection.executemany(
            "UPDATE deliveries SET action = ? WHERE seq = ? AND target = ?",
            [(number, seq, target) for seq in queued],
        )
        what = f"{action.what} {events[taken - 1].mark}" if taken else action.what
        if taken or not events:
            connection.execute(
                "UPDATE actions SET deliveries = deliveries + ?, what = ? WHERE seq = ?",
                (len(queued), what, number),
            )
        rows.touch(queued, now)
    return Resent(taken, len(queued))


def put_pause(connection: sqlite3.Connection, pause: Pause) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO pauses (target, since, until, because, who, resumed_by) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        astuple(pause),
    )


def end_pause(connection: sqlite3.Connection, target: str, who: str, now: float) -> Pause | None:
    found = connection.execute(
        "UPDATE pauses SET until = ?1, resumed_by = ? WHERE target = ? AND until > ?1 "
        "RETURNING target, since, until, because, who, resumed_by",
        (now, who, target),
    ).fetchall()
    return Pause(*found[0]) if found else None


def _resent(
    connection: sqlite3.Connection,
    rows: Rows,
    event: Resend,
    target: str,
    action: int,
    now: float,
) -> int | None:
    """The event's number, where it is queued now."""
    row = DeliveryRow(target, State.QUEUED, due_at=now)
    found = connection.execute(_STANDING, (target, event.record.event_id)).fetchone()
    if found is None:
        rows.add(event.record, event.letter, [row])
        found = connection.execute(_STANDING, (target, event.record.event_id)).fetchone()
        return int(found[0])
    seq, state, last_action = found
    if state in RETRIED or last_action == action:
        return None
    connection.execute(PUT, (seq, target, row.state, row.reason, now, row.retries, now))
    return int(seq)


def _recorded(connection: sqlite3.Connection, action: Action) -> int:
    """The number of the action's row, which its first step makes."""
    number: int = connection.execute(
        _RECORD, (action.action_id, action.verb, action.who, action.what, action.at)
    ).fetchone()[0]
    return number


def _after(row: DeliveryRow) -> tuple[Any, ...]:
    return row.state, row.reason, row.due_at, row.retries


def _before(entry: Entry) -> tuple[Any, ...]:
    return entry.seq, entry.row.target, entry.row.state, entry.acknowledged_later_at
