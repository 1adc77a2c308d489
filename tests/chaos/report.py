"""The figures of a verdict, and the history of a broken promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.chaos.plan import Blow
from tests.chaos.verdict import Verdict

_SHOWN = ("happening", "request_id", "code", "request", "cause", "unrecorded", "target", "error",
          "targets")  # fmt: skip


def figures(verdict: Verdict) -> str:
    history = verdict.played.history
    reached = [request for request in history.requests if request.reached]
    states = Counter(row.state for row in verdict.played.kept.rows)
    blows = Counter(struck.blow for struck in history.struck)
    counts = {
        "events": len(history.sources),
        "requests": len(reached),
        "000s": sum(request.code == "000" for request in reached),
        "attempts": len(history.seen),
        "recovered": sum(seen.acknowledged and seen.cause == "recovery" for seen in history.seen),
        "kills": blows.total() - blows[Blow.TERM],
        "terms": blows[Blow.TERM],
        "edits": history.edits,
        "storms": len(history.storms),
        "dead": states["dead"],
        "superseded": states["superseded"],
        **verdict.duplicates,
    }
    slowest = max((r.ended - r.began for r in reached if r.code and not r.left), default=0.0)
    shown = " ".join(f"{name}={count}" for name, count in counts.items())
    return f"{shown} slowest={slowest:.2f} lag={history.lag:.2f} broken={len(verdict.broken)}"


def story(verdict: Verdict, body: int) -> Iterator[str]:
    history = verdict.played.history
    lines: list[tuple[float, str]] = []
    for r in (r for r in history.requests if r.source.body == body):
        reached = "" if r.reached else " (reached nobody)"
        lines.append((r.began, f"{r.name} begins, {r.manner}, node {r.node}{reached}"))
        left = ", its caller had left" if r.left else ""
        if r.ended:
            lines.append((r.ended, f"{r.name} ends: {r.code or 'no reply'}{left}"))
    for seen in (seen for seen in history.seen if seen.body == body):
        what = f"    {seen.target} {seen.request} as {seen.event_id[:8]} ({seen.cause})"
        does = "acknowledged" if seen.acknowledged else "acted" if seen.acted else "did nothing"
        lines += [(seen.began, f"{what} begins, {seen.mood}"), (seen.ended, f"{what} ends: {does}")]
    lines += [(struck.at, str(struck)) for struck in (*history.struck, *history.storms)]
    lines += [(table.written, str(table)) for table in history.tables]
    for row in verdict.played.kept.of(body):
        what = f"row of {row.event_id[:8]} ({row.stage}): {row.target} {row.state} {row.reason}"
        lines.append((row.changed_at, what))
    lines += _logged(verdict, body)
    began = min((at for at, what in lines if what.startswith("s")), default=0.0) - 0.5
    ended = max((at for at, what in lines if what.startswith(("s", "row"))), default=0.0) + 0.5
    for at, what in sorted(lines):
        if began <= at <= ended:
            yield f"  {at - history.began:8.3f}  {what}"


def _logged(verdict: Verdict, body: int) -> Iterator[tuple[float, str]]:
    names = {r.name for r in verdict.played.history.requests if r.source.body == body}
    ids = {seen.event_id for seen in verdict.played.history.seen if seen.body == body}
    for line in verdict.played.history.lines:
        fields = line.fields
        if fields.get("request_id") in names or fields.get("event_id") in ids or line.store_failed:
            shown = (f"{name}={fields[name]}" for name in _SHOWN if name in fields)
            yield line.at, "    log " + " ".join(shown)
