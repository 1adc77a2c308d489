"""The JSON that the functions of the schema take, and the types that their rows mean."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

from router.model.event import FIELDS, Event, OutboundEvent
from router.routing.index import Glob
from router.store.postgres.connection import Row
from router.store.protocol import (
    COLUMNS,
    LAST,
    DeliveryRow,
    Due,
    Ended,
    Kept,
    Record,
    Settlement,
    StoreLimits,
    attempt_size,
    attempt_values,
    event_size,
    has_attempt_room,
    record_of,
    row_of,
)


def escaped(text: str) -> str:
    """Escape a text, which may have a NUL: that becomes `\\0`, and a backslash becomes two."""
    if "\0" in text or "\\" in text:
        return text.replace("\\", "\\\\").replace("\0", "\\0")
    return text


def unescaped(text: str) -> str:
    """Undo `escaped`."""
    if "\\" in text:
        return re.sub(r"\\(.)", lambda found: "\0" if found[1] == "0" else found[1], text)
    return text


#: The text of an event's key, with \x01 for a NUL, which PostgreSQL does not have. The largest code
#: point keeps backslashes apart from what follows them.
KEY_TEXT = r"""
replace(replace(replace(l.event_key, '\\', chr(1114111)), '\0', chr(1)), chr(1114111), '\')
"""


def regex(glob: Glob) -> str:
    """Translate a pattern for the operator `~` and KEY_TEXT, in a database in UTF-8. Every
    character is written as its number, so that none has a special meaning."""
    text, *rest = glob.parts
    pairs = zip(rest[::2], rest[1::2], strict=True)
    return f"^{_literal(text)}{''.join(_wildcard(w) + _literal(t) for w, t in pairs)}$"


def _literal(text: str) -> str:
    return "".join(f"\\U{ord(character) or 1:08x}" for character in text)


def _wildcard(text: str) -> str:
    if text[0] in "*?":
        return ".*" if text[0] == "*" else "."
    left = text[1:-1].removeprefix("!")
    excluded, members = "^" if text[1] == "!" else "", ""
    while left:
        last = 2 if len(left) > 2 and left[1] == "-" else 0
        members += f"{_literal(left[0])}-{_literal(left[last])}"
        left = left[last + 1 :]
    return f"[{excluded}{members}]"


def to_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def limits(of: StoreLimits) -> str:
    return to_json(asdict(of))


def addition(
    record: Record,
    letter: OutboundEvent,
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


def quoted_bytes(of: bytes) -> str:
    """Return an element of an array of bytes."""
    return f'"\\\\x{of.hex()}"'


def kept(row: Row) -> Kept:
    """Read a row of `find` without its first column."""
    *columns, rows = row
    return Kept(record_of(columns), tuple(map(row_of, rows or ())))


def due(row: Row, lease: str) -> Due:
    """Read a row of `take_due`."""
    event_id, *_, replayed = row
    return Due(event_id, row_of(row[1:6]), letter(row[6:-1]), lease, replayed)


def ended(row: Row) -> Ended:
    """Read a row of `end_over`."""
    event_id, event_key, requests, dead = row
    return Ended(event_id, unescaped(event_key), requests, dead)


def letter(columns: Sequence[Any]) -> OutboundEvent:
    digest, request_id, traceparent, tracestate, hops, *fields, body = columns
    source, topic, type_, status, key = map(unescaped, fields)
    event = Event(source, topic, type_, status, key, body)
    return OutboundEvent(event, digest, request_id, traceparent, tracestate, hops=hops)


def delivery(of: DeliveryRow, full: Collection[str] = ()) -> dict[str, Any]:
    """`full` has the targets without room for attempts, `""` for the whole store."""
    columns: dict[str, Any] = {
        "target": of.target,
        "state": of.state,
        "reason": of.reason,
        "due_at": of.due_at,
        "retries": of.retries,
    }
    if of.tried is not None and has_attempt_room(full, of.target):
        tried = dict(zip(COLUMNS, attempt_values(of.tried), strict=True))
        columns["tried"] = {**tried, "size": attempt_size(of.tried), "last": LAST}
    return columns


def _bytes(of: bytes) -> str:
    return f"\\x{of.hex()}"
