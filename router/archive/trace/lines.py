"""The lines of the archive, parsed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from router.model.event import FIELDS, SUCCESS, Event


@dataclass(frozen=True, slots=True)
class AtTarget:
    """The result of one request, or of one retry of the queue, at one target."""

    target: str
    #: `required` or `optional`; `""` for a retry of the queue.
    role: str = ""
    #: Why the attempt ended; `""` if there was none.
    reason: str = ""
    #: Why there was no attempt.
    skipped: str = ""
    ms: float | None = None
    status: int | None = None
    #: The target's own words.
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
    """One request of EBaaS, and its reply."""

    at: float
    #: `""` if no route matched: then only the request has an id.
    event_id: str
    request_id: str
    event_key: str
    #: The reply's code; `""` if the caller had hung up.
    code: str
    targets: tuple[AtTarget, ...]
    #: A prefix of the body's SHA-256.
    digest: str
    bytes: int | None
    #: The body as received; None if it was not kept, or is not valid text.
    body: str | None
    trace_id: str = ""
    ms: float | None = None
    #: The request's number, and how many there can be; None without a memory.
    number: int | None = None
    of: int | None = None
    #: Why targets may have received the event before.
    cause: str = ""
    #: Why the event is not in the memory although it should be.
    unrecorded: str = ""
    unqueued: bool = False
    is_matched: bool = True
    routes: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    #: Names of the fields that the line has only in part.
    cut: tuple[str, ...] = ()
    #: The event's other four fields, in the order of FIELDS; empty if unknown.
    parts: tuple[str, ...] = ()
    #: The number of routers that it came through.
    hops: int = 0

    @property
    def event(self) -> Event:
        """The event as routes match it, without its body."""
        fields = dict(zip(FIELDS, self.parts, strict=False))
        return Event.of({**fields, "event_key": self.event_key})

    @property
    def failed(self) -> bool:
        """True if the reply was not `000`, or an attempt failed."""
        return self.code != SUCCESS or any(result.failed for result in self.targets)


LateKind = Literal["retried", "dead_letter", "lost"]


@dataclass(frozen=True, slots=True)
class LateAttempt:
    """An attempt, or the end, of one delivery after the event's request."""

    at: float
    event_id: str
    event_key: str
    happening: LateKind
    tried: AtTarget
    #: The number of the queue's retry; None if it was not a retry.
    retry: int | None
    #: `replay` if a person asked for it.
    cause: str
    #: Why the store does not have it; `""` if it does.
    unrecorded: str

    @property
    def failed(self) -> bool:
        return self.happening != "retried" or self.tried.failed


#: A line about an event.
EventLine = CallerInfo | LateAttempt


def parse_line(text: bytes) -> EventLine | None:
    """Parse a line; None if it is not about an event. Raises ValueError."""
    try:
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise ValueError("not a JSON object")
        match fields.get("happening"):
            case "event" | "unmatched":
                return _request(fields)
            case "retried" | "dead_letter" | "lost" as kind:
                return _late(fields, kind)
        return None
    except (OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None


def _request(line: Mapping[str, Any]) -> CallerInfo:
    targets = line.get("targets")
    if not isinstance(targets, dict):
        targets = {}
    return CallerInfo(
        at=time_of(_text(line, "time")),
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
        targets=tuple(_at_target(str(name), result) for name, result in targets.items()),
        trace_id=_text(line, "trace_id"),
        digest=_text(line, "body"),
        bytes=_whole(line, "bytes"),
        changes=_texts(line, "changes"),
        body=_body(line),
        cut=_texts(line, "cut"),
        parts=tuple(_text(line, name) for name in FIELDS[:4]),
        hops=_whole(line, "hops") or 0,
    )


def _late(line: Mapping[str, Any], kind: LateKind) -> LateAttempt:
    return LateAttempt(
        at=time_of(_text(line, "time")),
        event_id=_text(line, "event_id"),
        event_key=_text(line, "event_key"),
        happening=kind,
        tried=_at_target(_text(line, "target"), line),
        retry=_whole(line, "retry"),
        cause=_text(line, "cause"),
        unrecorded=_text(line, "unrecorded"),
    )


def _at_target(target: str, result: Any) -> AtTarget:
    if not isinstance(result, dict):
        return AtTarget(target)
    return AtTarget(
        target,
        _text(result, "as"),
        _text(result, "reason"),
        _text(result, "skipped"),
        _number(result, "ms"),
        _whole(result, "status"),
        _text(result, "code"),
        _text(result, "msg"),
        _text(result, "detail"),
        joined=result.get("joined") is True,
        late=result.get("late") is True,
    )


# The archive's files may be damaged: a value of the wrong type counts as missing.


def _text(line: Mapping[str, Any], name: str) -> str:
    value = line.get(name)
    return value if isinstance(value, str) else ""


def _texts(line: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = line.get(name)
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _body(line: Mapping[str, Any]) -> str | None:
    body = line.get("payload")
    # A lone surrogate cannot have come from a body, which is UTF-8.
    is_text = isinstance(body, str) and body == body.encode("utf-8", "replace").decode()
    return body if is_text else None


def _number(line: Mapping[str, Any], name: str) -> float | None:
    value: Any = line.get(name)
    return float(value) if type(value) in (int, float) else None


def _whole(line: Mapping[str, Any], name: str) -> int | None:
    value = line.get(name)
    return value if type(value) is int else None


def time_of(stamp: str) -> float:
    """Parse the time of a line. Raises ValueError."""
    return datetime.fromisoformat(stamp).timestamp()
