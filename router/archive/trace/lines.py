"""The lines of the archive, parsed into the form in which they are shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any, Final, Literal, NotRequired, TypedDict, get_type_hints

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
        #: The number of the attempt among all at this delivery; None for the first one, and if it
        #: is unknown.
        "attempt": int | None,
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

    what: Literal["request", "unmatched", "refused"]
    at: str
    event_key: str
    request_id: str
    #: The reply's code; `""` if the caller had hung up.
    code: str
    #: The fault of a refused callback; `""` for an event.
    why: str
    ms: float | None
    #: The request's number, and how many there can be; None without a memory.
    request: int | None
    of: int | None
    #: When the first request of the event arrived; `""` if it is this one, or not known.
    first_at: str
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
    #: Why it was sent now: `queue`, `recovery` or `replay`; `""` for no attempt, or before 0.4.0.
    by: str
    #: `replay` if a person asked for it.
    cause: str
    #: Why the store does not have it; `""` if it does.
    unrecorded: str


@dataclass(frozen=True, slots=True)
class CallerInfo:
    """A line about a request."""

    at: float
    #: `""` before 0.4.0 if no route matched, and if the reply was `000` all the same: then only the
    #: request has an id.
    event_id: str
    view: RequestView
    #: A prefix of the body's SHA-256.
    digest: str
    #: The body's size.
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
    #: The body is not whole: only its beginning was kept, or it was not valid UTF-8.
    clipped: bool = False

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


def name_of(line: EventLine) -> str:
    """Return the event's id; the request's id if no route matched."""
    return line.event_id or (line.view["request_id"] if isinstance(line, CallerInfo) else "")


def visible(line: EventLine, seen: Collection[str]) -> EventLine:
    """Return a request's line with the results at these targets only."""
    if not isinstance(line, CallerInfo):
        return line
    targets = [result for result in line.results if result["target"] in seen]
    if len(targets) == len(line.results):
        return line
    return replace(line, view={**line.view, "targets": targets, "routes": []})


def has_failed(result: AtTargetView) -> bool:
    """Return whether there was an attempt, and it failed."""
    return result["reason"] not in ("", "acknowledged")


def parse_line(text: bytes) -> EventLine | None:
    """Parse a line; None if it is not about an event. Raises ValueError."""
    try:
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise ValueError("not a JSON object")
        return event_line(fields)
    except (OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None


def event_line(fields: Mapping[str, Any]) -> EventLine | None:
    """Return a line from its members; None if it is not about an event. Raises ValueError and
    OverflowError."""
    match fields.get("happening"):
        case "event" | "unmatched" | "refused":
            return _request(fields)
        case "retried" | "dead_letter" | "lost" as kind:
            at = time_of(_text(fields.get("time")))
            view = view_of(LateView, fields, what=kind, at=stamp(at))
            return LateAttempt(at, _text(fields.get("event_id")), view)
    return None


def _request(line: Mapping[str, Any]) -> CallerInfo:
    at, targets = time_of(_text(line.get("time"))), line.get("targets")
    results = targets.items() if isinstance(targets, dict) else ()
    view = view_of(
        RequestView,
        line,
        what="request" if line["happening"] == "event" else line["happening"],
        at=stamp(at),
        targets=[
            view_of(AtTargetView, result if isinstance(result, dict) else {}, target=name)
            for name, result in results
        ],
    )
    return CallerInfo(
        at,
        _text(line.get("event_id")),
        view,
        digest=_text(line.get("body")),
        bytes=_whole(line.get("bytes")),
        body=_body(line.get("payload")),
        trace_id=_text(line.get("trace_id")),
        changes=(*_texts(line.get("changes")),),
        cut=(*_texts(line.get("cut")),),
        parts=tuple(_text(line.get(name)) for name in FIELDS[:4]),
        hops=_whole(line.get("hops")) or 0,
        clipped=line.get("clipped") is True,
    )


def time_of(stamp: str) -> float:
    """Parse the time of a line. Raises ValueError."""
    return datetime.fromisoformat(stamp).timestamp()


# The archive's files may be damaged: a value of the wrong type counts as missing.


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> list[str]:
    return [*map(str, value)] if isinstance(value, list) else []


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None


def _body(value: Any) -> str | None:
    # A lone surrogate cannot have come from a body, which is UTF-8.
    is_text = isinstance(value, str) and value == value.encode("utf-8", "replace").decode()
    return value if is_text else None


#: By the type of a member.
_READERS: Final[Mapping[Any, Callable[[Any], Any]]] = {
    str: _text,
    list[str]: _texts,
    int | None: _whole,
    float | None: lambda value: float(value) if type(value) in (int, float) else None,
    bool: lambda value: value is True,
}


@cache
def _readers(view: Any) -> Mapping[str, Callable[[Any], Any]]:
    kinds = get_type_hints(view).items()
    return {name: _READERS[kind] for name, kind in kinds if kind in _READERS}


def view_of(view: Any, line: Mapping[str, Any], **fields: Any) -> Any:
    """Return a view of a line, which has its members under the same names, with these fields."""
    return {name: read(line.get(name)) for name, read in _readers(view).items()} | fields
