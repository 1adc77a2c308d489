"""What became of events, as JSON: a TypedDict for each form, and what makes it.

As in `store/views.py`, but times of matches and steps are to the millisecond, as the lines of the
archive have them. `what` tells which form a match or a step has.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict, cast

from router.archive.trace.finding import KeptStory, Match, Row
from router.archive.trace.lines import AtTarget, CallerInfo, LateAttempt, LateKind
from router.archive.trace.story import Acted, Missed, Step, Story
from router.store.admin import Verb
from router.store.protocol import Stage
from router.store.views import EntryView, entry_view
from router.telemetry.log.lines import stamp

#: What one target came to. It is made so, since `as` is a word of Python's.
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
    #: Where it was asked for.
    body: NotRequired[str | None]


class LateView(AtTargetView):
    what: LateKind
    at: str
    event_key: str
    retry: int | None
    cause: str
    unrecorded: str


class MissedView(AtTargetView):
    what: Literal["attempt"]
    at: str
    request: int | None
    retry: int | None


class ActedView(TypedDict):
    """An action's, but that `words` has the selection."""

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
    #: The store's, or `failed` or `lost` where only a line tells of it.
    state: str


class RowView(TypedDict):
    """What a row of a table has besides its newest line."""

    #: What EBaaS was told last, where that is known.
    told: NotRequired[str]
    #: The targets that still need something, or have failed for good.
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
    what: Literal["request", "given_up", "retry"]
    at: str
    number: int
    target: str
    #: Whether the target's pause has to end first, and whether that retry is in flight: then it has
    #: until `at`. Not told by earlier versions.
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
    #: Where it was asked for.
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
    """One of a table."""
    shape = match_view(row.newest, body=body)
    if shape["what"] == "request" or shape["what"] == "unmatched":
        return shape
    if row.told is not None:
        shape["told"] = row.told.code
    if shape["what"] != "kept":
        shape["open"] = [
            StandingView(target=target, state=state) for target, state in row.open.items()
        ]
    return shape


def story_view(story: Story, *, body: bool) -> StoryView:
    shape: StoryView = {
        "kind": "story",
        "event_id": story.event_id,
        "event_key": story.event_key,
        "request_id": story.request_id,
        "trace_id": story.trace_id,
        "sha256": story.digest,
        "bytes": story.bytes,
        "changes": list(story.changes),
        "steps": [_step(step) for step in story.steps],
        "stage": story.stage,
        "deliveries": [entry_view(entry) for entry in story.entries],
        "next": [
            {
                "what": each.what,
                "at": stamp(each.at),
                "number": each.number,
                "target": each.target,
                "paused": each.is_paused,
                "in_flight": each.is_in_flight,
            }
            for each in story.next
        ],
    }
    if body:
        shape["body"] = story.body
    return shape


def _step(step: Step) -> StepView:
    match step:
        case CallerInfo():
            return _request(step, body=False)
        case LateAttempt():
            return _late(step)
        case Missed():
            return {
                "what": "attempt",
                "at": stamp(step.at),
                "request": step.tried.request or None,
                "retry": step.tried.retry or None,
                **_at_target(step.each),
            }
        case Acted():
            return {
                "what": "acted",
                "at": stamp(step.at),
                "kind": "action",
                "action_id": step.action.action_id,
                "verb": step.action.verb,
                "who": step.action.who,
                "words": step.action.what,
                "deliveries": step.action.deliveries,
                "targets": list(step.targets),
            }


def _request(told: CallerInfo, *, body: bool) -> RequestView:
    shape: RequestView = {
        "what": "request" if told.is_matched else "unmatched",
        "at": stamp(told.at),
        "event_key": told.event_key,
        "request_id": told.request_id,
        "code": told.code,
        "ms": told.ms,
        "request": told.number,
        "of": told.of,
        "cause": told.cause,
        "unrecorded": told.unrecorded,
        "unqueued": told.unqueued,
        "routes": list(told.routes),
        "targets": [_at_target(each) for each in told.targets],
    }
    if body:
        shape["body"] = told.body
    return shape


def _late(late: LateAttempt) -> LateView:
    return {
        "what": late.happening,
        "at": stamp(late.at),
        "event_key": late.event_key,
        "retry": late.retry,
        "cause": late.cause,
        "unrecorded": late.unrecorded,
        **_at_target(late.tried),
    }


def _at_target(each: AtTarget) -> AtTargetView:
    named = (("as" if name == "role" else name, name) for name in AtTarget.__slots__)
    return cast("AtTargetView", {shown: getattr(each, name) for shown, name in named})
