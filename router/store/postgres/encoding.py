"""The JSON that the functions of the schema take, and the types that their rows mean."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
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

#: One character, or the two that stand for a backslash or a NUL.
_ANY = r"(?:[^\\]|\\[\\0])"

_ESCAPED = "\\\0"


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


def regex(glob: Glob) -> str:
    """Translate a pattern for the operator `~` in a database in UTF-8: it matches the same texts.
    Every character is written as its number, so that none has a special meaning."""
    text, *rest = glob.parts
    pairs = zip(rest[::2], rest[1::2], strict=True)
    return f"^{_literal(text)}{''.join(_wildcard(w) + _literal(t) for w, t in pairs)}$"


def _literal(text: str) -> str:
    return "".join(map(_number, escaped(text)))


def _number(character: str) -> str:
    return f"\\U{ord(character):08x}"


def _wildcard(text: str) -> str:
    if text[0] == "*":
        return f"{_ANY}*"
    return _ANY if text == "?" else _set(text)


def _set(text: str) -> str:
    """Translate a set: ordinary characters as a set, escaped ones as alternatives."""
    excluded = text[1] == "!"
    members = "".join(_members(text[2 if excluded else 1 : -1]))
    if members:
        plain = [f"(?!\\\\)[{'^' if excluded else ''}{members}]"]
    else:
        plain = [r"[^\\]"] if excluded else []
    pattern = Glob(text)
    others = [_literal(character) for character in _ESCAPED if pattern.matches(character)]
    return f"(?:{'|'.join(plain + others)})"


def _members(left: str) -> Iterator[str]:
    """Yield the members without the NUL, which no text has."""
    while left:
        range_ = len(left) > 2 and left[1] == "-"
        low, high = (left[0], left[2]) if range_ else (left[0], left[0])
        if high != "\0":
            yield f"{_number(max(low, chr(1)))}-{_number(high)}"
        left = left[3 if range_ else 1 :]


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
