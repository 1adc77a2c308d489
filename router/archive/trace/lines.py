"""Lines of the archive as the types that they mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from router.model.event import FIELDS, SUCCESS, Event


@dataclass(frozen=True, slots=True)
class AtTarget:
    """What one request, or one retry of the queue, came to at one target."""

    target: str
    #: `required` or `optional`; `""` for a retry of the queue.
    role: str = ""
    #: Why an attempt ended so; `""` where none was made.
    reason: str = ""
    #: Why none was made.
    skipped: str = ""
    ms: float | None = None
    status: int | None = None
    #: The answer's, in the receiver's own words; `""` where it had none.
    code: str = ""
    msg: str = ""
    detail: str = ""
    joined: bool = False
    late: bool = False

    @property
    def failed(self) -> bool:
        return self.reason not in ("", "acknowledged")


@dataclass(frozen=True, slots=True)
class CallerInfo:
    """One request of the caller, and what it was told."""

    at: float
    #: `""` for an event that no route matches: only its request can be named.
    event_id: str
    request_id: str
    event_key: str
    #: `""` where the caller had hung up.
    code: str
    ms: float | None
    #: Which request of the event it was, and of how many; None where nothing is remembered.
    number: int | None
    of: int | None
    #: Why targets may have seen the event before.
    cause: str
    #: Why nothing is remembered of it though it should be.
    unrecorded: str
    unqueued: bool
    is_matched: bool
    routes: tuple[str, ...]
    targets: tuple[AtTarget, ...]
    trace_id: str
    #: How the SHA-256 of its body begins.
    digest: str
    bytes: int | None
    changes: tuple[str, ...]
    #: The body as it came; None where it is not kept, or is no text that could have come.
    body: str | None
    #: The fields of which the line has not all.
    cut: tuple[str, ...] = ()
    #: The event's other four fields, in the order of FIELDS; none where they are not known.
    parts: tuple[str, ...] = ()
    #: The number of routers that it came through.
    hops: int = 0

    @property
    def event(self) -> Event:
        """As routes match it; it has no body."""
        fields = dict(zip(FIELDS, self.parts, strict=False))
        return Event.of({**fields, "event_key": self.event_key})

    @property
    def failed(self) -> bool:
        """Its reply was no `000`, or an attempt of it failed."""
        return self.code != SUCCESS or any(each.failed for each in self.targets)


LateKind = Literal["retried", "dead_letter", "lost"]


@dataclass(frozen=True, slots=True)
class LateAttempt:
    """What became of one delivery after its requests."""

    at: float
    event_id: str
    event_key: str
    happening: LateKind
    tried: AtTarget
    #: Which retry of the queue it was; None where it was none.
    retry: int | None
    #: `replay` where a person had asked for it.
    cause: str
    #: Why the store does not know of it; `""` where it does.
    unrecorded: str

    @property
    def failed(self) -> bool:
        return self.happening != "retried" or self.tried.failed


#: What a line says that is about an event.
EventLine = CallerInfo | LateAttempt


def happening(line: bytes) -> EventLine | None:
    """None for a line that is not about an event. Raises ValueError where it can't be read."""
    try:
        return _happening(json.loads(line))
    except (OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None


def _happening(found: Any) -> EventLine | None:
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    match found.get("happening"):
        case "event" | "unmatched":
            return _told(found)
        case "retried" | "dead_letter" | "lost" as what:
            return _later(found, what)
    return None


def _told(line: Mapping[str, Any]) -> CallerInfo:
    targets = line.get("targets")
    body = line.get("payload")
    return CallerInfo(
        at=_time(line),
        event_id=_text(line, "event_id"),
        request_id=_text(line, "request_id"),
        event_key=_text(line, "event_key"),
        code=_text(line, "code"),
        ms=_number(line, "ms"),
        number=_whole(line, "request"),
        of=_whole(line, "of"),
        cause=_text(line, "cause"),
        unrecorded=_text(line, "unrecorded"),
        unqueued=line.get("unqueued") is True,
        is_matched=line["happening"] == "event",
        routes=_texts(line, "routes"),
        targets=tuple(_tried(str(name), said) for name, said in targets.items())
        if isinstance(targets, dict)
        else (),
        trace_id=_text(line, "trace_id"),
        digest=_text(line, "body"),
        bytes=_whole(line, "bytes"),
        changes=_texts(line, "changes"),
        body=body if isinstance(body, str) and _is_text(body) else None,
        cut=_texts(line, "cut"),
        parts=tuple(_text(line, name) for name in FIELDS[:4]),
        hops=_whole(line, "hops") or 0,
    )


def _later(line: Mapping[str, Any], what: LateKind) -> LateAttempt:
    return LateAttempt(
        at=_time(line),
        event_id=_text(line, "event_id"),
        event_key=_text(line, "event_key"),
        happening=what,
        tried=_tried(_text(line, "target"), line),
        retry=_whole(line, "retry"),
        cause=_text(line, "cause"),
        unrecorded=_text(line, "unrecorded"),
    )


def _tried(target: str, said: Any) -> AtTarget:
    if not isinstance(said, dict):
        return AtTarget(target)
    return AtTarget(
        target,
        _text(said, "as"),
        _text(said, "reason"),
        _text(said, "skipped"),
        _number(said, "ms"),
        _whole(said, "status"),
        _text(said, "code"),
        _text(said, "msg"),
        _text(said, "detail"),
        joined=said.get("joined") is True,
        late=said.get("late") is True,
    )


def _time(line: Mapping[str, Any]) -> float:
    return time_of(_text(line, "time"))


def _text(line: Mapping[str, Any], name: str) -> str:
    value = line.get(name)
    return value if isinstance(value, str) else ""


def _is_text(text: str) -> bool:
    """No surrogate stands alone in it."""
    return text == text.encode("utf-8", "replace").decode()


def _texts(line: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = line.get(name)
    return tuple(str(each) for each in value) if isinstance(value, list) else ()


def _number(line: Mapping[str, Any], name: str) -> float | None:
    value = line.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(line: Mapping[str, Any], name: str) -> int | None:
    value = line.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def time_of(stamp: str) -> float:
    """As lines have it. Raises ValueError."""
    return datetime.fromisoformat(stamp).timestamp()
