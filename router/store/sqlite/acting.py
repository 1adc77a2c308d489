"""A person's actions as SQL: each step is one transaction, the action's own row included."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from router.store import DeliveryRow, Limits
from router.store.ops import Action, Entry
from router.store.sqlite.rows import Rows

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


def act(
    connection: sqlite3.Connection,
    limits: Limits,
    action: Action,
    entries: Sequence[Entry],
    now: float,
) -> int:
    fitting = [entry for entry in entries if action.verb.fits(entry.row)]
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        number = _recorded(connection, action)
        changed = [
            row
            for entry in fitting
            for row in connection.execute(
                _CHANGE, (*_after(action.verb.acted(entry, now)), now, number, *_before(entry))
            ).fetchall()
        ]
        connection.execute(
            "UPDATE actions SET deliveries = deliveries + ? WHERE seq = ?", (len(changed), number)
        )
        Rows(connection, limits).touch((seq for (seq,) in changed), now)
    return len(changed)


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
