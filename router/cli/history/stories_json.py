"""What became of events, as JSON."""

from __future__ import annotations

from typing import Any

from router.archive import (
    Acted,
    AtTarget,
    KeptStory,
    LateAttempt,
    Match,
    Missed,
    Step,
    Story,
    ToldCaller,
)
from router.cli.deliveries.entries import action_json, entry_json
from router.telemetry import stamp


def match_json(match: Match, *, body: bool) -> dict[str, Any]:
    match match:
        case ToldCaller():
            return {"kind": "match", "event_id": match.event_id, **_told_json(match, body=body)}
        case LateAttempt():
            return {"kind": "match", "event_id": match.event_id, **_later_json(match)}
        case KeptStory():
            return {
                "kind": "match",
                "event_id": match.event_id,
                "event_key": match.event_key,
                "what": "kept",
                "at": stamp(match.at),
                "deliveries": [entry_json(entry) for entry in match.entries],
            }


def story_json(story: Story, *, body: bool) -> dict[str, Any]:
    kept = {"body": story.body} if body else {}
    return {
        "kind": "story",
        "event_id": story.event_id,
        "event_key": story.event_key,
        "request_id": story.request_id,
        "trace_id": story.trace_id,
        "sha256": story.digest,
        "bytes": story.bytes,
        "changes": list(story.changes),
        "steps": [_step_json(step) for step in story.steps],
        "stage": story.stage,
        "deliveries": [entry_json(entry) for entry in story.entries],
        "next": [
            {"what": each.what, "at": stamp(each.at), "number": each.number, "target": each.target}
            for each in story.next
        ],
        **kept,
    }


def _step_json(step: Step) -> dict[str, Any]:
    match step:
        case ToldCaller():
            return _told_json(step, body=False)
        case LateAttempt():
            return _later_json(step)
        case Missed():
            return {
                "what": "attempt",
                "at": stamp(step.at),
                "request": step.tried.request or None,
                "retry": step.tried.retry or None,
                **_tried_json(step.each),
            }
        case Acted():
            return {"what": "acted", **action_json(step.action), "targets": list(step.targets)}


def _told_json(told: ToldCaller, *, body: bool) -> dict[str, Any]:
    kept = {"body": told.body} if body else {}
    return {
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
        "targets": [_tried_json(each) for each in told.targets],
        **kept,
    }


def _later_json(later: LateAttempt) -> dict[str, Any]:
    return {
        "what": later.happening,
        "at": stamp(later.at),
        "event_key": later.event_key,
        "retry": later.retry,
        "cause": later.cause,
        **_tried_json(later.tried),
    }


def _tried_json(each: AtTarget) -> dict[str, Any]:
    return {
        "target": each.target,
        "as": each.role,
        "reason": each.reason,
        "skipped": each.skipped,
        "ms": each.ms,
        "status": each.status,
        "code": each.code,
        "msg": each.msg,
        "detail": each.detail,
        "joined": each.joined,
        "late": each.late,
    }
