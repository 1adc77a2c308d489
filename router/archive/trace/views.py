"""Events as JSON: a TypedDict for each form, and the functions that make them.

Times of matches and steps are to the millisecond, as in the archive's lines. `what` tells which
form a match or a step has. See also `store/views.py`.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict, cast

from router.archive.trace.finding import KeptStory, Match, Row
from router.archive.trace.lines import AtTarget, CallerInfo, EventLine, LateAttempt, LateKind
from router.store.admin import Verb
from router.store.protocol import Stage
from router.store.views import EntryView, entry_view
from router.telemetry.log.lines import stamp

#: A result at one target. Not a class, because `as` is a keyword.
AtTargetView = TypedDict(
    "AtTargetView",
    {
        "target": str,
        "as": str,
        "reason": str,
        "skipped": str,
        "ms": float | None,
        "status": int | None,
        "code": str,
        "msg": str,
        "detail": str,
        "joined": bool,
        "late": bool,
    },
)


class RequestView(TypedDict):
    what: Literal["request", "unmatched"]
    at: str
    event_key: str
    request_id: str
    code: str
    ms: float | None
    request: int | None
    of: int | None
    cause: str
    unrecorded: str
    unqueued: bool
    routes: list[str]
    targets: list[AtTargetView]
    #: Only if requested.
    body: NotRequired[str | None]


class LateView(AtTargetView):
    what: LateKind
    at: str
    event_key: str
    retry: int | None
    cause: str
    unrecorded: str


class MissedView(AtTargetView):
    """A failed attempt that is in the store and in no line."""

    what: Literal["attempt"]
    at: str
    request: int | None
    retry: int | None


class ActedView(TypedDict):
    """A person's action on deliveries of the event. `words` has the selection."""

    what: Literal["acted"]
    at: str
    kind: Literal["action"]
    action_id: str
    verb: Verb
    who: str
    words: str
    deliveries: int
    targets: list[str]


StepView = RequestView | LateView | MissedView | ActedView


class RequestMatch(RequestView):
    kind: Literal["match"]
    event_id: str


class StandingView(TypedDict):
    target: str
    #: A state of the store; `failed` or `lost` if it is known from a line only.
    state: str


class RowView(TypedDict):
    """The fields of a table's row besides its newest line."""

    #: The code of the last reply to EBaaS, if known.
    told: NotRequired[str]
    #: The targets that still need the event, or have failed for good.
    open: NotRequired[list[StandingView]]


class LateMatch(LateView, RowView):
    kind: Literal["match"]
    event_id: str


class KeptMatch(TypedDict):
    kind: Literal["match"]
    event_id: str
    event_key: str
    what: Literal["kept"]
    at: str
    deliveries: list[EntryView]
    told: NotRequired[str]


MatchView = RequestMatch | LateMatch | KeptMatch


class NextView(TypedDict):
    """A step to come, unless something else happens first."""

    #: `request`: EBaaS retries; `given_up`: EBaaS gives up; `retry`: the router's queue retries.
    what: Literal["request", "given_up", "retry"]
    at: str
    number: int
    target: str
    #: Whether a pause delays the retry, and whether the retry is in flight, at most until `at`.
    #: Missing in earlier versions.
    paused: NotRequired[bool]
    in_flight: NotRequired[bool]


class StoryView(TypedDict):
    kind: Literal["story"]
    event_id: str
    event_key: str
    request_id: str
    trace_id: str
    sha256: str
    bytes: int | None
    changes: list[str]
    steps: list[StepView]
    stage: Stage | None
    deliveries: list[EntryView]
    next: list[NextView]
    #: Only if requested.
    body: NotRequired[str | None]


def match_view(match: Match, *, body: bool) -> MatchView:
    match match:
        case CallerInfo():
            return {"kind": "match", "event_id": match.event_id, **_request(match, body=body)}
        case LateAttempt():
            return {"kind": "match", "event_id": match.event_id, **_late(match), **RowView()}
        case KeptStory():
            return {
                "kind": "match",
                "event_id": match.event_id,
                "event_key": match.event_key,
                "what": "kept",
                "at": stamp(match.at),
                "deliveries": [entry_view(entry) for entry in match.entries],
            }


def row_view(row: Row, *, body: bool) -> MatchView:
    view = match_view(row.newest, body=body)
    if view["what"] == "request" or view["what"] == "unmatched":
        return view
    if row.told is not None:
        view["told"] = row.told.code
    if view["what"] != "kept":
        view["open"] = [{"target": name, "state": state} for name, state in row.open.items()]
    return view


def line_view(line: EventLine) -> StepView:
    return _request(line, body=False) if isinstance(line, CallerInfo) else _late(line)


def _request(request: CallerInfo, *, body: bool) -> RequestView:
    view: RequestView = {
        "what": "request" if request.is_matched else "unmatched",
        "at": stamp(request.at),
        "event_key": request.event_key,
        "request_id": request.request_id,
        "code": request.code,
        "ms": request.ms,
        "request": request.number,
        "of": request.of,
        "cause": request.cause,
        "unrecorded": request.unrecorded,
        "unqueued": request.unqueued,
        "routes": list(request.routes),
        "targets": [at_target_view(result) for result in request.targets],
    }
    if body:
        view["body"] = request.body
    return view


def _late(late: LateAttempt) -> LateView:
    return {
        "what": late.happening,
        "at": stamp(late.at),
        "event_key": late.event_key,
        "retry": late.retry,
        "cause": late.cause,
        "unrecorded": late.unrecorded,
        **at_target_view(late.tried),
    }


def at_target_view(result: AtTarget) -> AtTargetView:
    names = (("as" if name == "role" else name, name) for name in AtTarget.__slots__)
    return cast("AtTargetView", {shown: getattr(result, name) for shown, name in names})
