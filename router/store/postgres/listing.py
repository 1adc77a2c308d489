"""Deliveries for people to look at, read from the database."""

from __future__ import annotations

from dataclasses import replace

from router.routing.index import Glob
from router.store import listing
from router.store.listing import Dialect, Values
from router.store.ops import Entry
from router.store.postgres.connection import Row
from router.store.postgres.keys import regex, unescaped

_TABLES = """
{schema}deliveries d JOIN {schema}events e USING (seq) LEFT JOIN {schema}letters l USING (seq)
"""

EVENT = """
SELECT e.event_id, e.stage, e.first_at, e.requests, e.replied_at, e.due_at, e.credit_until,
    e.ends_at, e.spent OR e.seq <= (SELECT c.spent_up_to FROM {schema}credit c),
    e.digest, l.request_id, l.traceparent, l.tracestate, l.hops,
    l.event_source, l.event_topic, l.event_type, l.event_status, l.event_key, l.body
FROM {schema}events e JOIN {schema}letters l USING (seq) WHERE e.event_id = $1
"""


def dialect(schema: str) -> Dialect:
    prefix = f"{schema}."
    return Dialect(_TABLES.format(schema=prefix), "l.event_key", _fits, _known, prefix)


def _known(word: str) -> str:
    return f"""{word}::text IN (e.event_id, l.request_id, substr(l.traceparent, 4, 32))
        OR (length({word}) > 5 AND starts_with(encode(e.digest, 'hex'), {word}))
        OR position(convert_to('"' || {word} || '"', 'UTF8') IN l.body) > 0"""


def entry(row: Row) -> Entry:
    found = listing.entry(row)
    return replace(found, event_key=unescaped(found.event_key))


def _fits(values: Values, keys: tuple[Glob, ...]) -> str:
    return f"l.event_key ~ ANY ({values.put([regex(key) for key in keys])}::text[])"
