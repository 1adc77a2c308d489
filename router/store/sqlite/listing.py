"""Deliveries for people to look at, as SQL: counts, pages, one event in full."""

from __future__ import annotations

import sqlite3
from typing import Any

from router.store import State
from router.store.ops import Action, Count, Dossier, Entry, Later, Selection, Verb
from router.store.sqlite.reading import delivery_row, letter, record

#: Before the first page.
START = (0, "")

_LATER = {
    Later.INCLUDE: "",
    Later.EXCLUDE: "d.acknowledged_later_at IS NULL",
    Later.ONLY: "d.acknowledged_later_at IS NOT NULL",
}

#: `NOT INDEXED`: pages go along the table itself, which is in their order. An index would have to
#: be sorted anew for each page.
_ENTRIES = """
SELECT d.seq, e.event_id, e.event_key, e.first_at, d.changed_at, d.acknowledged_later_at,
    d.target, d.state, d.reason, d.due_at, d.retries,
    a.action_id, a.verb, a.who, a.what, a.at, a.deliveries
FROM deliveries d NOT INDEXED CROSS JOIN events e USING (seq)
    LEFT JOIN actions a ON a.seq = d.action
WHERE (d.seq, d.target) > (?, ?) AND {} ORDER BY d.seq, d.target LIMIT ?
"""

_COUNTS = """
SELECT d.target, d.state, count(*), count(d.acknowledged_later_at), min(e.first_at)
FROM deliveries d CROSS JOIN events e USING (seq) WHERE {} GROUP BY d.target, d.state
"""

_EVENT = """
SELECT event_id, stage, first_at, requests, replied_at, due_at, credit_until, ends_at,
    spent OR seq <= (SELECT spent_up_to FROM credit),
    digest, request_id, traceparent,
    event_source, event_topic, event_type, event_status, event_key, body
FROM events JOIN bodies USING (seq) WHERE event_id = ?
"""

_ACTIONS = """
SELECT action_id, verb, who, what, at, deliveries FROM actions ORDER BY seq DESC LIMIT ?
"""


def counts(connection: sqlite3.Connection, selection: Selection) -> tuple[Count, ...]:
    condition, values = _condition(connection, selection)
    rows = connection.execute(_COUNTS.format(condition), values)
    return tuple(Count(target, State(state), *rest) for target, state, *rest in rows)


def page(
    connection: sqlite3.Connection, selection: Selection, after: tuple[int, str], size: int
) -> tuple[Entry, ...]:
    condition, values = _condition(connection, selection)
    rows = connection.execute(_ENTRIES.format(condition), (*after, *values, size))
    return tuple(map(_entry, rows))


def dossier(connection: sqlite3.Connection, event_id: str) -> Dossier | None:
    found = connection.execute(_EVENT, (event_id,)).fetchone()
    if found is None:
        return None
    entries = page(connection, Selection(event_ids=(event_id,)), START, -1)
    return Dossier(record(found[:9]), letter(found[9:]), entries)


def actions(connection: sqlite3.Connection, limit: int) -> tuple[Action, ...]:
    return tuple(map(_action, connection.execute(_ACTIONS, (limit,))))


def _condition(
    connection: sqlite3.Connection, selection: Selection
) -> tuple[str, list[str | float]]:
    """The selection as SQL; what decides by Python comes last."""
    terms, values = ["1"], list[str | float]()
    ids = "d.seq IN (SELECT seq FROM events WHERE event_id IN ({}))"
    for sql, chosen in (
        (ids, selection.event_ids),
        ("d.target IN ({})", selection.targets),
        ("d.state IN ({})", selection.states),
    ):
        if chosen:
            terms.append(sql.format(", ".join("?" * len(chosen))))
            values += chosen
    for sql, time in (("e.first_at >= ?", selection.since), ("e.first_at < ?", selection.until)):
        if time is not None:
            terms.append(sql)
            values.append(time)
    if later := _LATER[selection.acknowledged_later]:
        terms.append(later)
    if keys := selection.keys:
        connection.create_function("fits", 1, lambda key: any(k.matches(key) for k in keys))
        terms.append("fits(e.event_key)")
    return " AND ".join(terms), values


def _entry(row: tuple[Any, ...]) -> Entry:
    seq, event_id, event_key, first_at, changed_at, later = row[:6]
    action = None if row[11] is None else _action(row[11:])
    return Entry(
        seq, event_id, event_key, first_at, delivery_row(row[6:11]), changed_at, later, action
    )


def _action(row: tuple[Any, ...]) -> Action:
    action_id, verb, *rest = row
    return Action(action_id, Verb(verb), *rest)
