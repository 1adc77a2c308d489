"""Events found in the archive and in the store, and their stories, as JSON: a TypedDict for each
form, and the functions that make them.

Times of matches and steps are to the millisecond, as in the archive's lines. The member `what` is
the form of a match or a step. See also `store/views.py`.
"""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NotRequired, TypedDict

from router.archive.reading import MatchedBy, Question, Sources
from router.archive.trace.lines import (
    AtTargetView,
    CallerInfo,
    EventLine,
    LateAttempt,
    LateView,
    RequestView,
    name_of,
    view_of,
)
from router.model.event import SUCCESS
from router.store.admin import Admin, Dossier, Entry, Selection, Verb, paused
from router.store.protocol import Pause, Stage, State, Tried
from router.store.views import EntryView, RecoveryView, entry_view
from router.telemetry.log.lines import stamp

#: The number of deliveries read from the store at a time, and of candidates held at a time.
_PAGE, _CANDIDATES = 500, 1000


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event in the store, with the deliveries that fit a question."""

    at: float
    event_id: str
    event_key: str
    entries: tuple[Entry, ...]
    matched_by: MatchedBy = ""


#: A line or an event that fits.
Match = EventLine | StoredEvent


async def matches(
    question: Question, limit: int, sources: Sources, admin: Admin | None
) -> Iterator[Match]:
    """Return all that fits, the newest first: up to `limit` events of the store, and the lines of
    the archive, which are read during the iteration. An event may come several times.

    Raises StoreFailed; the iteration raises OSError."""
    stored = await stored_events(admin, question, limit) if admin is not None else ()
    return heapq.merge(sources.look(question), stored, key=lambda match: match.at, reverse=True)


# The store.


async def stored_events(admin: Admin, question: Question, limit: int) -> list[StoredEvent]:
    """Return the newest events that fit, up to `limit`. Raises StoreFailed."""
    fitting: list[StoredEvent] = []
    candidates: list[StoredEvent] = []
    async for event in _candidates(admin, question):
        candidates.append(event)
        if len(candidates) == _CANDIDATES:
            fitting = await _newest(admin, question, limit, fitting, candidates)
            candidates = []
    return await _newest(admin, question, limit, fitting, candidates)


async def _newest(
    admin: Admin,
    question: Question,
    limit: int,
    fitting: list[StoredEvent],
    candidates: list[StoredEvent],
) -> list[StoredEvent]:
    """Return the newest of both lists. A candidate is read as a whole only if it is among them."""
    known = {event.event_id for event in fitting}
    newest: list[StoredEvent] = []
    for event in sorted([*fitting, *candidates], key=lambda event: event.at, reverse=True):
        if len(newest) == limit:
            break
        if event.event_id not in known:
            # The store cannot tell which field the text is in, and which target's code it is.
            dossier = await admin.dossier(event.event_id)
            if dossier is None or not question.fits(line := caller_info(dossier)):
                continue
            event = replace(event, matched_by=question.matched(line))
        newest.append(event)
    return newest


async def _candidates(admin: Admin, question: Question) -> AsyncIterator[StoredEvent]:
    """Yield the events that may fit, in the order of recording."""
    entries: list[Entry] = []
    async for page in admin.pages(_selection(question), _PAGE):
        for entry in page:
            if entries and entries[-1].seq != entry.seq:
                yield _event(entries)
                entries = []
            entries.append(entry)
    if entries:
        yield _event(entries)


def _selection(question: Question) -> Selection:
    """Return the part of the question that the store decides. It selects at least what fits."""
    return Selection(
        targets=question.targets,
        event_ids=(question.event_id,) if question.event_id else (),
        keys=question.keys,
        until=question.until,
        known_by=tuple((word.text, word.keys) for word in question.words),
        changed_since=question.since,
        codes=question.codes,
        failed=question.failed,
    )


def _event(entries: list[Entry]) -> StoredEvent:
    last = max(entry.changed_at for entry in entries)
    return StoredEvent(last, entries[0].event_id, entries[0].event_key, tuple(entries))


def caller_info(dossier: Dossier) -> CallerInfo:
    """Return an event of the store in the form of a line."""
    record, letter = dossier.record, dossier.letter
    results = [
        view_of(AtTargetView, {}, target=e.row.target, reason=e.row.reason, skipped=e.row.state)
        for e in dossier.entries
    ]
    for target, attempts in dossier.attempts.items():
        for a in (tried.attempt for tried in attempts):
            result = {"target": target, "reason": a.reason, "status": a.status, "code": a.code}
            results.append(view_of(AtTargetView, result))
    view = view_of(
        RequestView,
        {},
        what="request",
        at=stamp(record.replied_at),
        event_key=letter.event.event_key,
        request_id=letter.request_id,
        code=SUCCESS if record.stage is Stage.CLOSED else "500",
        request=record.requests,
        targets=results,
    )
    return CallerInfo(
        record.replied_at,
        record.event_id,
        view,
        digest=letter.digest.hex(),
        bytes=len(letter.event.body),
        body=letter.event.body.decode("utf-8", "replace"),
        trace_id=letter.traceparent[3:35],
        hops=letter.hops,
    )


def table(newest: Iterable[Match], limit: int) -> tuple[list[Match], bool]:
    """Return the newest match of each of the first `limit` events, and whether there are more."""
    rows: dict[str, Match] = {}
    for match in newest:
        name = match.event_id if isinstance(match, StoredEvent) else name_of(match)
        if len(rows) == limit and name not in rows:
            return [*rows.values()], True
        rows.setdefault(name, match)
    return [*rows.values()], False


class MissedView(AtTargetView):
    """A failed attempt that is in the store and in no line. One of recovery belongs neither to a
    request nor to a retry."""

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
    #: Which id the search has found; `""` if the search was for none.
    matched_by: MatchedBy


class LateMatch(LateView):
    kind: Literal["match"]
    event_id: str
    matched_by: MatchedBy


class KeptMatch(TypedDict):
    kind: Literal["match"]
    event_id: str
    event_key: str
    what: Literal["kept"]
    at: str
    deliveries: list[EntryView]
    matched_by: MatchedBy


MatchView = RequestMatch | LateMatch | KeptMatch


class NextView(TypedDict):
    """A step to come, unless something else happens first."""

    #: `request`: EBaaS retries; `given_up`: EBaaS gives up; `retry`: the router's queue retries;
    #: `recovery`: the target gets what waits for it, since `at`.
    what: Literal["request", "given_up", "retry", "recovery"]
    at: str
    number: int
    target: str
    #: Whether a pause delays the retry, and whether the retry is in flight, at most until `at`.
    #: Missing in earlier versions.
    paused: NotRequired[bool]
    in_flight: NotRequired[bool]
    recovery: NotRequired[RecoveryView]


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
    #: Only if requested; `clipped` if the body is not whole.
    body: NotRequired[str | None]
    clipped: NotRequired[bool]


def match_view(match: Match, question: Question, *, body: bool) -> MatchView:
    match match:
        case CallerInfo():
            view: RequestMatch = {
                "kind": "match",
                "event_id": match.event_id,
                **match.view,
                "matched_by": question.matched(match),
            }
            if body:
                view["body"] = match.body
            return view
        case LateAttempt():
            return {
                "kind": "match",
                "event_id": match.event_id,
                **match.view,
                "matched_by": question.matched(match),
            }
        case StoredEvent():
            return {
                "kind": "match",
                "event_id": match.event_id,
                "event_key": match.event_key,
                "what": "kept",
                "at": stamp(match.at),
                "deliveries": [entry_view(entry) for entry in match.entries],
                "matched_by": match.matched_by,
            }


# The story of one event.

#: The largest difference between a retry's times in its line and in the store, in seconds. The
#: number is not enough to recognise a retry, because a replay counts anew.
_SAME = 30.0


async def story_of(match: Match, sources: Sources, admin: Admin | None, *, body: bool) -> StoryView:
    """Return the story of an event that was found. Raises StoreFailed and OSError."""
    dossier: Dossier | None = None
    pauses: Sequence[Pause] = ()
    if admin is not None and match.event_id:
        dossier, pauses = await admin.dossier(match.event_id), await paused(admin)
    lines: list[EventLine] = [match] if isinstance(match, CallerInfo) else []
    if match.event_id:
        lines = [*sources.look(Question(event_id=match.event_id))][::-1]
    return _story(lines, dossier, pauses, body=body)


def _story(
    lines: Sequence[EventLine], dossier: Dossier | None, pauses: Sequence[Pause], *, body: bool
) -> StoryView:
    """Make the story of an event from all of its lines, the oldest first, and from the store."""
    steps: list[StepView] = [line.view for line in lines]
    requests = [line for line in lines if isinstance(line, CallerInfo)]
    if dossier is not None:
        steps += [*_actions(dossier), *_missed(dossier, lines)]
        requests.append(caller_info(dossier))
    steps.sort(key=lambda step: step["at"])
    first = requests[0] if requests else None
    #: The store has the whole digest, a line only its first characters.
    best = requests[-1] if dossier else first
    view: StoryView = {
        "kind": "story",
        "event_id": (lines or requests)[0].event_id,
        "event_key": next((e.event_key for e in (*lines, *requests) if e.event_key), ""),
        "request_id": first.view["request_id"] if first else "",
        "trace_id": first.trace_id if first else "",
        "sha256": best.digest if best else "",
        "bytes": best.bytes if best else None,
        "changes": list(first.changes) if first else [],
        "steps": steps,
        "stage": dossier.record.stage if dossier else None,
        "deliveries": [entry_view(entry) for entry in dossier.entries] if dossier else [],
        "next": [*_next(dossier, {pause.target: pause.until for pause in pauses})]
        if dossier
        else [],
    }
    if body:
        kept = next((request for request in requests if request.body is not None), None)
        view["body"], view["clipped"] = (kept.body, kept.clipped) if kept else (None, False)
    return view


def _actions(dossier: Dossier) -> Iterator[ActedView]:
    """Yield each action once, with the deliveries whose last action it was."""
    by_action: dict[str, list[Entry]] = {}
    for entry in dossier.entries:
        if entry.action is not None:
            by_action.setdefault(entry.action.action_id, []).append(entry)
    for entries in by_action.values():
        action = entries[0].action
        assert action is not None
        yield {
            "what": "acted",
            "at": stamp(action.at),
            "kind": "action",
            "action_id": action.action_id,
            "verb": action.verb,
            "who": action.who,
            "words": action.what,
            "deliveries": action.deliveries,
            "targets": [entry.row.target for entry in entries],
        }


def _missed(dossier: Dossier, lines: Sequence[EventLine]) -> Iterator[MissedView]:
    """Yield the failed attempts that are in no line."""
    for target, attempts in dossier.attempts.items():
        for tried in attempts:
            if any(_is_about(line, target, tried) for line in lines):
                continue
            a = tried.attempt
            words = ("reason", "status", "code", "msg", "detail")
            yield view_of(
                MissedView,
                {},
                what="attempt",
                at=stamp(a.at),
                request=tried.request or None,
                retry=tried.retry or None,
                target=target,
                ms=round(a.seconds * 1000, 1),
                **{name: getattr(a, name) for name in words},
            )


def _is_about(line: EventLine, target: str, tried: Tried) -> bool:
    if isinstance(line, CallerInfo):
        is_same = line.view["request"] == tried.request
        return is_same and any(result["target"] == target for result in line.results)
    retry = 0 if line.view["by"] == "recovery" else line.view["retry"]
    is_same = (line.view["target"], retry, 0) == (target, tried.retry, tried.request)
    return is_same and abs(line.at - tried.attempt.at) < _SAME


def _next(dossier: Dossier, paused_until: Mapping[str, float]) -> Iterator[NextView]:
    record = dossier.record
    if record.stage is Stage.OPEN:
        yield _to_come("request", record.due_at, record.requests + 1)
        yield _to_come("given_up", record.ends_at, 0)
    for entry in dossier.entries:
        row = entry.row
        if row.state is State.QUEUED:
            at = max(row.due_at, paused_until.get(row.target, 0.0))
            retry = _to_come("retry", at, row.retries + 1, row.target)
            yield {**retry, "paused": row.target in paused_until, "in_flight": row.is_leased}


def _to_come(
    what: Literal["request", "given_up", "retry"], at: float, number: int, target: str = ""
) -> NextView:
    step: NextView = {"what": what, "at": stamp(at), "number": number, "target": target}
    return {**step, "paused": False, "in_flight": False}
