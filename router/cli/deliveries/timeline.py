"""The failed attempts of an event as text and as JSON, in the receivers' own words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from router.cli.columns import columns
from router.cli.printing import milliseconds
from router.model import Attempt
from router.store import Dossier, Entry, Tried
from router.telemetry import utc


def timeline(dossier: Dossier) -> Iterator[str]:
    """The failed attempts of all targets, in order of time."""
    told = [(each.attempt.at, target, each) for target in dossier.attempts
            for each in dossier.attempts[target]]  # fmt: skip
    rows = [("failed attempts", "of", "target", f"{'took':>8}", "reason", "status", "it said")]
    for at, target, tried in sorted(told, key=lambda each: each[:2]):
        attempt = tried.attempt
        by = f"retry {tried.retry}" if tried.retry else f"request {tried.request}"
        took, status = f"{milliseconds(attempt.seconds):>5g} ms", str(attempt.status or "")
        rows.append((utc(at), by, target, took, attempt.reason, status, _said(attempt)))
        if tried.number == 1 and (more := _between(dossier.attempts[target])):
            rows.append((f"{more:,} more", "", target, "", "", "", ""))
    yield from columns(rows)


def _between(tried: Sequence[Tried]) -> int:
    """How many attempts between the first and the others are not kept."""
    return tried[1].number - 2 if len(tried) > 1 else 0


def _said(attempt: Attempt) -> str:
    """The receiver's own words, which are harmless; where there are none, ours."""
    words = [word for word in (attempt.code, attempt.msg) if word]
    return ": ".join(words) or attempt.detail


def reason_of(entry: Entry, dossier: Dossier) -> str:
    """With what the last attempt knows of it."""
    tried = dossier.attempts.get(entry.row.target, ())
    if not tried or tried[-1].attempt.reason != entry.row.reason:
        return entry.row.reason
    last = tried[-1].attempt
    more = [str(each) for each in (last.status, last.detail) if each]
    return f"{last.reason} ({', '.join(more)})" if more else last.reason


def tried_json(tried: Tried) -> dict[str, Any]:
    attempt = tried.attempt
    return {
        "number": tried.number,
        "at": utc(attempt.at),
        "ms": milliseconds(attempt.seconds),
        "request": tried.request or None,
        "retry": tried.retry or None,
        "reason": attempt.reason,
        "delivered": attempt.delivered,
        "status": attempt.status,
        "code": attempt.code,
        "msg": attempt.msg,
        "detail": attempt.detail,
    }
