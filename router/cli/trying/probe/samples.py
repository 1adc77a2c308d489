"""What is sent: events good and awkward, and what is no event."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from router.model.event import FIELDS, Event, new_id

#: The platform page's own.
DEFAULT_KEY = "a.gs.cert.1"

#: What the router takes at most, unless told otherwise, in bytes.
_LARGE = 1024 * 1024

#: By which secret a sample is signed: the receiver's, another and then the receiver's, another's
#: alone, none.
Signed = Literal["right", "rotated", "wrong", "not"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One request, the same each time that it is sent, but for its time."""

    event_key: str
    body: bytes
    #: What comes as `webhook-id`.
    event_id: str = field(default_factory=new_id)
    content_type: str = "application/json"
    signed: Signed = "right"
    #: How many seconds ago it was signed.
    age: float = 0.0
    #: More header lines.
    lines: bytes = b""


class Samples:
    """Events with one key. What they have changed are ids that nobody takes for real ones."""

    def __init__(self, key: str = DEFAULT_KEY) -> None:
        """Raises ValueError for a key that is not four fields joined by dots."""
        four = key.split(".")
        if len(four) != 4 or not all(four) or not key.isprintable():
            raise ValueError(f"{key!r} is not a key (like {DEFAULT_KEY})")
        self.key = key
        self._usual = {**dict(zip(FIELDS, (*four, key), strict=True)), "changes": ["probe-1"]}

    def event(self, **fields: Any) -> Sample:
        """One with these fields instead; `...` leaves one out."""
        members = {name: value for name, value in (self._usual | fields).items() if value != ...}
        texts = {name: text for name, text in members.items() if isinstance(text, str)}
        return Sample(Event.of(texts).event_key, _json(members))

    def large(self) -> Sample:
        """One of the most bytes that the router takes: as many ids as have room, and blanks."""
        few = _json(self._usual)
        ids = [f"probe-{number:030}" for number in range((_LARGE - len(few)) // 39)]
        whole = _json(self._usual | {"changes": ids})
        return Sample(self.key, whole + b" " * (_LARGE - len(whole)))

    def raw(self, body: bytes, content_type: str = "application/json") -> Sample:
        """What is no event, with an event's headers."""
        return Sample(self.key, body, content_type=content_type)


def _json(members: dict[str, Any]) -> bytes:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()
