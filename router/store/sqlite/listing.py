"""Deliveries for people to look at, read from the file."""

from __future__ import annotations

import sqlite3
import sys
from functools import partial

from router.routing.index import Glob
from router.store import listing
from router.store.listing import Dialect, Query, Values
from router.store.ops import START, Action, Count, Dossier, Entry, Selection
from router.store.sqlite.reading import letter, record

#: `NOT INDEXED`: pages go along the table itself, which is in their order. An index would have to
#: be sorted anew for each page.
_PAGES = "deliveries d NOT INDEXED CROSS JOIN events e USING (seq)"
_COUNTS = "deliveries d CROSS JOIN events e USING (seq)"

_EVENT = """
SELECT event_id, stage, first_at, requests, replied_at, due_at, credit_until, ends_at,
    spent OR seq <= (SELECT spent_up_to FROM credit),
    digest, request_id, traceparent, tracestate, hops,
    event_source, event_topic, event_type, event_status, event_key, body
FROM events JOIN bodies USING (seq) WHERE event_id = ?
"""


def counts(connection: sqlite3.Connection, selection: Selection) -> tuple[Count, ...]:
    found = _rows(connection, _dialect(connection, _COUNTS).counts(selection))
    return tuple(map(listing.count, found))


def page(
    connection: sqlite3.Connection, selection: Selection, after: tuple[int, str], size: int
) -> tuple[Entry, ...]:
    found = _rows(connection, _dialect(connection, _PAGES).page(selection, after, size))
    return tuple(map(listing.entry, found))


def dossier(connection: sqlite3.Connection, event_id: str) -> Dossier | None:
    found = connection.execute(_EVENT, (event_id,)).fetchone()
    if found is None:
        return None
    entries = page(connection, Selection(event_ids=(event_id,)), START, sys.maxsize)
    tried = _rows(connection, _dialect(connection, _PAGES).attempts(event_id))
    return Dossier(record(found[:9]), letter(found[9:]), entries, listing.attempts(tried))


def actions(connection: sqlite3.Connection, limit: int) -> tuple[Action, ...]:
    found = _rows(connection, _dialect(connection, _PAGES).actions(limit))
    return tuple(map(listing.action, found))


def _dialect(connection: sqlite3.Connection, tables: str) -> Dialect:
    return Dialect(tables, "e.event_key", partial(_fits, connection), _known)


def _known(word: str) -> str:
    return f"""{word} IN (e.event_id, e.request_id, substr(e.traceparent, 4, 32))
        OR (length({word}) > 5 AND instr(lower(hex(e.digest)), {word}) = 1)
        OR EXISTS (SELECT 1 FROM bodies b WHERE b.seq = e.seq
            AND instr(b.body, CAST('"' || {word} || '"' AS BLOB)))"""  # noqa: S608


def _fits(connection: sqlite3.Connection, values: Values, keys: tuple[Glob, ...]) -> str:
    """Decided by Python; a query may have several."""
    name = f"fits_{len(values)}"
    connection.create_function(name, 1, lambda key: any(each.matches(key) for each in keys))
    return f"{name}(e.event_key)"


def _rows(connection: sqlite3.Connection, query: Query) -> sqlite3.Cursor:
    values = {str(number): value for number, value in enumerate(query.values, 1)}
    return connection.execute(query.sql, values)
