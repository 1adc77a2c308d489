"""What the functions of the schema are asked, as JSON, and their answers as the types they mean."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

from router.model.event import FIELDS, Event, Letter
from router.store.attempts import COLUMNS, LAST, is_kept, size_of, values
from router.store.fullness import size_of as event_size
from router.store.postgres.connection import Row
from router.store.postgres.keys import escaped, unescaped
from router.store.promises import (
    DeliveryRow,
    Due,
    Ended,
    Kept,
    Record,
    Settlement,
    Stage,
    State,
    StoreLimits,
)


def dumped(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def limits(of: StoreLimits) -> str:
    return dumped(asdict(of))


def addition(
    record: Record,
    letter: Letter,
    rows: Sequence[DeliveryRow],
    deadline: float,
    full: Collection[str],
) -> dict[str, Any]:
    event = letter.event
    return {
        "event_id": record.event_id,
        **record.columns(),
        "digest": _bytes(letter.digest),
        "size": event_size(event),
        "request_id": letter.request_id,
        "traceparent": letter.traceparent,
        "tracestate": letter.tracestate,
        "hops": letter.hops,
        **{name: escaped(getattr(event, name)) for name in FIELDS},
        "rows": [delivery(row, full) for row in rows],
        "deadline": deadline,
    }


def settlement(of: Settlement, token: str, full: Collection[str]) -> dict[str, Any]:
    return {
        "event_id": of.record.event_id,
        **of.record.columns(),
        "digest": _bytes(of.digest),
        "rows": [delivery(row, full) for row in of.rows],
        "reached": list(of.reached),
        "at": of.at,
        "token": token,
    }


def kept(row: Row) -> Kept:
    """From `find`, its first column left out."""
    *columns, rows = row
    return Kept(record(columns), tuple(delivery_row(each) for each in json.loads(rows or "[]")))


def record(columns: Sequence[Any]) -> Record:
    event_id, stage, first_at, requests, replied_at, due_at, credit_until, ends_at, spent = columns
    times = (first_at, requests, replied_at, due_at, credit_until, ends_at)
    return Record(event_id, Stage(stage), *times, spent=spent)


def delivery_row(columns: Sequence[Any]) -> DeliveryRow:
    target, state, reason, due_at, retries = columns
    return DeliveryRow(target, State(state), reason, float(due_at), retries)


def due(row: Row, lease: str) -> Due:
    """From `take_due`."""
    event_id, *rest = row
    *_, replayed = row
    return Due(event_id, delivery_row(rest[:5]), letter(rest[5:-1]), lease, replayed)


def ended(row: Row) -> Ended:
    """From `end_over`."""
    event_id, event_key, requests, dead = row
    return Ended(event_id, unescaped(event_key), requests, json.loads(dead))


def letter(columns: Sequence[Any]) -> Letter:
    digest, request_id, traceparent, tracestate, hops, *fields, body = columns
    source, topic, type_, status, key = map(unescaped, fields)
    event = Event(source, topic, type_, status, key, body)
    return Letter(event, digest, request_id, traceparent, tracestate, hops=hops)


def delivery(of: DeliveryRow, full: Collection[str] = ()) -> dict[str, Any]:
    """`full` is what has no room for attempts: targets, and `""` for the whole store."""
    asked: dict[str, Any] = {
        "target": of.target,
        "state": of.state,
        "reason": of.reason,
        "due_at": of.due_at,
        "retries": of.retries,
    }
    if of.tried is not None and is_kept(full, of.target):
        columns = dict(zip(COLUMNS, values(of.tried), strict=True))
        asked["tried"] = {**columns, "size": size_of(of.tried), "last": LAST}
    return asked


def _bytes(of: bytes) -> str:
    return f"\\x{of.hex()}"
