"""The lines of the archive, parsed into the form in which they are shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict, cast

from router.model.event import FIELDS, SUCCESS, Event
from router.telemetry.log.lines import stamp

#: The result of one request, or of one retry of the queue, at one target. Not a class, because `as`
#: is a keyword.
AtTargetView = TypedDict(
    "AtTargetView",
    {
        "target": str,
        #: `required` or `optional`; `""` for a retry of the queue.
        "as": str,
        #: Why the attempt ended; `""` if there was none.
        "reason": str,
        #: Why there was no attempt.
        "skipped": str,
        "ms": float | None,
        "status": int | None,
        #: The target's own words.
        "code": str,
        "msg": str,
        "detail": str,
        "joined": bool,
        "late": bool,
    },
)


class RequestView(TypedDict):
    """One request of EBaaS, and its reply."""

    what: Literal["request", "unmatched"]
    at: str
    event_key: str
    request_id: str
    #: The reply's code; `""` if the caller had hung up.
    code: str
    ms: float | None
    #: The request's number, and how many there can be; None without a memory.
    request: int | None
    of: int | None
    #: Why targets may have received the event before.
    cause: str
    #: Why the event is not in the memory although it should be.
    unrecorded: str
    unqueued: bool
    routes: list[str]
    targets: list[AtTargetView]
    #: Only if requested.
    body: NotRequired[str | None]


LateKind = Literal["retried", "dead_letter", "lost"]


class LateView(AtTargetView):
    """An attempt, or the end, of one delivery after the event's request."""

    what: LateKind
    at: str
    event_key: str
    #: The number of the queue's retry; None if it was not a retry.
    retry: int | None
    #: `replay` if a person asked for it.
    cause: str
    #: Why the store does not have it; `""` if it does.
    unrecorded: str


@dataclass(frozen=True, slots=True)
class CallerInfo:
    """A line about a request."""

    at: float
    #: `""` if no route matched: then only the request has an id.
    event_id: str
    view: RequestView
    #: A prefix of the body's SHA-256.
    digest: str
    bytes: int | None
    #: The body as received; None if it was not kept, or is not valid text.
    body: str | None
    trace_id: str = ""
    changes: tuple[str, ...] = ()
    #: Names of the fields that the line has only in part.
    cut: tuple[str, ...] = ()
    #: The event's other four fields, in the order of FIELDS; empty if unknown.
    parts: tuple[str, ...] = ()
    #: The number of routers that it came through.
    hops: int = 0

    @property
    def event_key(self) -> str:
        return self.view["event_key"]

    @property
    def results(self) -> list[AtTargetView]:
        return self.view["targets"]

    @property
    def event(self) -> Event:
        """The event as routes match it, without its body."""
        fields = dict(zip(FIELDS, self.parts, strict=False))
        return Event.of({**fields, "event_key": self.event_key})

    @property
    def failed(self) -> bool:
        """True if the reply was not `000`, or an attempt failed."""
        return self.view["code"] != SUCCESS or any(map(has_failed, self.results))


@dataclass(frozen=True, slots=True)
class LateAttempt:
    """A line about a delivery after the event's request."""

    at: float
    event_id: str
    view: LateView

    @property
    def event_key(self) -> str:
        return self.view["event_key"]

    @property
    def results(self) -> list[AtTargetView]:
        return [self.view]

    @property
    def failed(self) -> bool:
        return self.view["what"] != "retried" or has_failed(self.view)


#: A line about an event.
EventLine = CallerInfo | LateAttempt


def has_failed(result: AtTargetView) -> bool:
    """Return whether there was an attempt, and it failed."""
    return result["reason"] not in ("", "acknowledged")


def at_target(target: str, **fields: Any) -> AtTargetView:
    """Return a result with these fields, the others empty."""
    return cast("AtTargetView", {**_at_target(target, {}), **fields})


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
    at, targets = time_of(_text(line, "time")), line.get("targets")
    view: RequestView = {
        "what": "request" if line["happening"] == "event" else "unmatched",
        "at": stamp(at),
        "event_key": _text(line, "event_key"),
        "request_id": _text(line, "request_id"),
        "code": _text(line, "code"),
        "ms": _number(line, "ms"),
        "request": _whole(line, "request"),
        "of": _whole(line, "of"),
        "cause": _text(line, "cause"),
        "unrecorded": _text(line, "unrecorded"),
        "unqueued": line.get("unqueued") is True,
        "routes": [*_texts(line, "routes")],
        "targets": [_at_target(str(name), result) for name, result in targets.items()]
        if isinstance(targets, dict)
        else [],
    }
    return CallerInfo(
        at,
        _text(line, "event_id"),
        view,
        digest=_text(line, "body"),
        bytes=_whole(line, "bytes"),
        body=_body(line),
        trace_id=_text(line, "trace_id"),
        changes=_texts(line, "changes"),
        cut=_texts(line, "cut"),
        parts=tuple(_text(line, name) for name in FIELDS[:4]),
        hops=_whole(line, "hops") or 0,
    )


def _late(line: Mapping[str, Any], kind: LateKind) -> LateAttempt:
    at = time_of(_text(line, "time"))
    view: LateView = {
        "what": kind,
        "at": stamp(at),
        "event_key": _text(line, "event_key"),
        "retry": _whole(line, "retry"),
        "cause": _text(line, "cause"),
        "unrecorded": _text(line, "unrecorded"),
        **_at_target(_text(line, "target"), line),
    }
    return LateAttempt(at, _text(line, "event_id"), view)


def _at_target(target: str, result: Any) -> AtTargetView:
    if not isinstance(result, dict):
        return at_target(target)
    return {
        "target": target,
        "as": _text(result, "as"),
        "reason": _text(result, "reason"),
        "skipped": _text(result, "skipped"),
        "ms": _number(result, "ms"),
        "status": _whole(result, "status"),
        "code": _text(result, "code"),
        "msg": _text(result, "msg"),
        "detail": _text(result, "detail"),
        "joined": result.get("joined") is True,
        "late": result.get("late") is True,
    }


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
