"""The JSON that the functions of the schema take, and the types that their rows mean."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
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
    event_columns,
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
    return json.dumps(value, separators=(",", ":"), default=_bytes)


def _bytes(of: bytes) -> str:
    return f"\\x{of.hex()}"


def addition(
    record: Record,
    letter: OutboundEvent,
    rows: Sequence[DeliveryRow],
    deadline: float,
    full: Collection[str],
) -> dict[str, Any]:
    return {
        **event_columns(record, letter),
        **{name: escaped(getattr(letter.event, name)) for name in FIELDS},
        "rows": [delivery(row, full) for row in rows],
        "deadline": deadline,
    }


def settlement(of: Settlement, token: str, full: Collection[str]) -> dict[str, Any]:
    return {
        **of.record.columns(),
        "digest": of.digest,
        "rows": [delivery(row, full) for row in of.rows],
        "reached": list(of.reached),
        "at": of.at,
        "token": token,
    }


def delivery(of: DeliveryRow, full: Collection[str] = ()) -> dict[str, Any]:
    """`full` has the targets without room for attempts, `""` for the whole store."""
    columns = of.columns()
    if tried := of.attempt_to_keep(full):
        values = dict(zip(COLUMNS, tried.values, strict=True))
        columns["tried"] = {**values, "size": tried.size, "last": LAST}
    return columns


def kept(row: Row) -> Kept:
    """Read a row of `find_records` without its first column."""
    *columns, rows = row
    return Kept(Record.of(columns), tuple(map(DeliveryRow.of, rows or ())))


def due(row: Row, lease: str) -> Due:
    """Read a row of `lease`."""
    return Due.of(row, letter(row[10:]), lease)


def ended(row: Row) -> Ended:
    """Read a row of `end_over`."""
    event_id, event_key, requests, dead = row
    return Ended(event_id, unescaped(event_key), requests, dead)


def letter(columns: Sequence[Any]) -> OutboundEvent:
    digest, request_id, traceparent, tracestate, hops, *fields, body = columns
    source, topic, type_, status, key = map(unescaped, fields)
    event = Event(source, topic, type_, status, key, body)
    return OutboundEvent(event, digest, request_id, traceparent, tracestate, hops=hops)
