"""The story of one event: its steps in the archive and the store, and the next ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from router.archive.reading import Sources
from router.archive.trace.finding import Match, caller_info
from router.archive.trace.lines import AtTarget, CallerInfo, EventLine
from router.archive.trace.question import Question
from router.archive.trace.views import (
    ActedView,
    MissedView,
    NextView,
    StepView,
    StoryView,
    at_target_view,
    line_view,
)
from router.store.admin import Admin, Dossier, Entry, paused
from router.store.protocol import Pause, Stage, State, Tried
from router.store.views import entry_view
from router.telemetry.log.lines import stamp

#: The largest difference between a retry's times in its line and in the store, in seconds. The
#: number is not enough to recognise a retry, because a replay counts anew.
_SAME = 30.0


async def story_of(match: Match, sources: Sources, ops: Admin | None, *, body: bool) -> StoryView:
    """Return the story of an event that was found. Raises StoreFailed and OSError."""
    dossier: Dossier | None = None
    pauses: Sequence[Pause] = ()
    if ops is not None and match.event_id:
        dossier, pauses = await ops.dossier(match.event_id), await paused(ops)
    lines: list[EventLine] = [match] if isinstance(match, CallerInfo) else []
    if match.event_id:
        lines = [*sources.look(Question(event_id=match.event_id))][::-1]
    return _story(lines, dossier, pauses, body=body)


def _story(
    lines: Sequence[EventLine], dossier: Dossier | None, pauses: Sequence[Pause], *, body: bool
) -> StoryView:
    """Make the story of an event from all of its lines, the oldest first, and from the store."""
    steps: list[tuple[float, StepView]] = [(line.at, line_view(line)) for line in lines]
    requests = [line for line in lines if isinstance(line, CallerInfo)]
    if dossier is not None:
        steps += [*_actions(dossier), *_missed(dossier, lines)]
        requests.append(caller_info(dossier))
    steps.sort(key=lambda step: step[0])
    first = requests[0] if requests else None
    #: The store has the whole digest, a line only its first characters.
    best = requests[-1] if dossier else first
    view: StoryView = {
        "kind": "story",
        "event_id": (lines or requests)[0].event_id,
        "event_key": next((e.event_key for e in (*lines, *requests) if e.event_key), ""),
        "request_id": first.request_id if first else "",
        "trace_id": first.trace_id if first else "",
        "sha256": best.digest if best else "",
        "bytes": best.bytes if best else None,
        "changes": list(first.changes) if first else [],
        "steps": [step for _, step in steps],
        "stage": dossier.record.stage if dossier else None,
        "deliveries": [entry_view(entry) for entry in dossier.entries] if dossier else [],
        "next": [*_next(dossier, {pause.target: pause.until for pause in pauses})]
        if dossier
        else [],
    }
    if body:
        view["body"] = next((each.body for each in requests if each.body is not None), None)
    return view


def _actions(dossier: Dossier) -> Iterator[tuple[float, ActedView]]:
    """Yield each action once, with the deliveries whose last action it was."""
    by_action: dict[str, list[Entry]] = {}
    for entry in dossier.entries:
        if entry.action is not None:
            by_action.setdefault(entry.action.action_id, []).append(entry)
    for entries in by_action.values():
        action = entries[0].action
        assert action is not None
        yield (
            action.at,
            {
                "what": "acted",
                "at": stamp(action.at),
                "kind": "action",
                "action_id": action.action_id,
                "verb": action.verb,
                "who": action.who,
                "words": action.what,
                "deliveries": action.deliveries,
                "targets": [entry.row.target for entry in entries],
            },
        )


def _missed(dossier: Dossier, lines: Sequence[EventLine]) -> Iterator[tuple[float, MissedView]]:
    """Yield the failed attempts that are in no line."""
    for target, attempts in dossier.attempts.items():
        for tried in attempts:
            if any(_is_about(line, target, tried) for line in lines):
                continue
            a, ms = tried.attempt, round(tried.attempt.seconds * 1000, 1)
            result = AtTarget(target, "", a.reason, "", ms, a.status, a.code, a.msg, a.detail)
            yield (
                a.at,
                {
                    "what": "attempt",
                    "at": stamp(a.at),
                    "request": tried.request or None,
                    "retry": tried.retry or None,
                    **at_target_view(result),
                },
            )


def _is_about(line: EventLine, target: str, tried: Tried) -> bool:
    if isinstance(line, CallerInfo):
        is_same = line.number == tried.request
        return is_same and any(result.target == target for result in line.targets)
    is_same = line.tried.target == target and line.retry == tried.retry
    return is_same and abs(line.at - tried.attempt.at) < _SAME


def _next(dossier: Dossier, paused_until: Mapping[str, float]) -> Iterator[NextView]:
    record = dossier.record
    if record.stage is Stage.OPEN:
        yield _to_come("request", record.due_at, record.requests + 1)
        yield _to_come("given_up", record.ends_at)
    for entry in dossier.entries:
        if entry.row.state is State.QUEUED:
            target = entry.row.target
            at = max(entry.row.due_at, paused_until.get(target, 0.0))
            retry = _to_come("retry", at, entry.row.retries + 1)
            yield {
                **retry,
                "target": target,
                "paused": target in paused_until,
                "in_flight": entry.is_leased,
            }


def _to_come(what: Literal["request", "given_up", "retry"], at: float, number: int = 0) -> NextView:
    return {
        "what": what,
        "at": stamp(at),
        "number": number,
        "target": "",
        "paused": False,
        "in_flight": False,
    }
