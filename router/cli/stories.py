"""Events as text, made of their JSON. Text from outside is quoted; `say` makes it printable."""

from __future__ import annotations

import re
from collections.abc import Iterator

from router.archive.trace.lines import AtTargetView, LateView, RequestView
from router.archive.trace.views import (
    MatchView,
    MissedView,
    NextView,
    RequestMatch,
    StepView,
    StoryView,
)
from router.cli.columns import columns, counted, quoted
from router.cli.entries import notes_on, when_retried
from router.model.event import SUCCESS, Reason
from router.store.protocol import Stage, State

#: The first four columns are as wide in every row.
MATCH_HEAD = f"{'when':<24}  {'reply':<6}  {'event':<36}  key and targets"

#: A text that can be neither a blank that shifts a column nor anything that a terminal obeys.
_PLAIN = re.compile(r"[\w.:/+*@-]*", re.ASCII)

_LATER = {"retried": "retry", "dead_letter": "dead letter", "lost": "lost"}


def format_match(match: MatchView) -> str:
    """Return one row of a table."""
    code = ""
    match match["what"]:
        case "kept":
            targets = [f"{entry['target']}: {entry['state']}" for entry in match["deliveries"]]
        case "retried" | "dead_letter" | "lost":
            later = _LATER[match["what"]]
            targets = [f"{later}: {_plain(match['target'])}: {_result(match)}"]
        case "request" | "unmatched":
            code, targets = match["code"] or "gone", [*_at_targets(match)]
    # The request of an event that no route has matched has an id, and the event has none.
    name = _plain(match["event_id"] or str(match.get("request_id", "")))
    key, short = _plain(match["event_key"]), "; ".join(targets)
    return f"{match['at']}  {_plain(code):<6}  {name:<36}  {key}  {short}".rstrip()


def _at_targets(match: RequestMatch) -> Iterator[str]:
    if match["what"] == "unmatched":
        yield "no route matches"
    failed = [target for target in match["targets"] if _needs_attention(target)]
    yield from (f"{_plain(target['target'])}: {_result(target)}" for target in failed)
    if fine := len(match["targets"]) - len(failed):
        yield f"{fine} fine"


def _needs_attention(target: AtTargetView) -> bool:
    is_open = target["skipped"] in (State.DEAD, State.QUEUED, State.AWAITING)
    return is_open or target["reason"] not in ("", Reason.ACKNOWLEDGED)


def format_story(story: StoryView, now: float) -> Iterator[str]:
    yield from columns(list(_head(story)))
    for step in story["steps"]:
        yield ""
        yield from _format_step(step)
    yield ""
    if story["deliveries"]:
        rows = [
            (
                _plain(entry["target"]),
                entry["state"],
                _plain(entry["reason"]),
                entry["changed_at"],
                "; ".join(notes_on(entry, now)),
            )
            for entry in story["deliveries"]
        ]
        yield "in the store:"
        yield from columns(rows, indent=2)
        yield ""
    yield from (f"next: {text}" for text in _next_steps(story, now))


def _head(story: StoryView) -> Iterator[tuple[str, str]]:
    yield "event", _plain(story["event_id"]) or "no route matches it"
    yield "key", _plain(story["event_key"])
    yield "request_id", _plain(story["request_id"])
    if story["trace_id"]:
        yield "trace", _plain(story["trace_id"])
    if story["changes"]:
        yield "changes", quoted(story["changes"])
    size = "" if story["bytes"] is None else f"{counted(story['bytes'], 'byte')}, "
    yield "body", f"{size}SHA-256 {_plain(story['sha256']) or 'not known'}"


def _format_step(step: StepView) -> Iterator[str]:
    match step["what"]:
        case "request" | "unmatched":
            yield f"{step['at']}  {_request(step)}"
            if step["routes"]:
                yield f"  routes: {quoted(step['routes'])}"
            yield from columns([_attempt(target) for target in step["targets"]], indent=2)
        case "acted":
            yield (
                f"{step['at']}  {step['verb']} by {_quoted(step['who'])}: "
                f"{', '.join(step['targets'])} (of {counted(step['deliveries'], 'delivery')})"
            )
        case _:
            yield f"{step['at']}  {_later(step)}"


def _request(step: RequestView) -> str:
    number = f"request {step['request']} of {step['of']}" if step["request"] else "a request"
    reply = f"reply to EBaaS: {_plain(step['code'])}" if step["code"] else "EBaaS had hung up"
    took = "" if step["ms"] is None else f" after {step['ms']:,g} ms"
    notes = [f"request_id {_plain(step['request_id'])}"]
    if step["cause"]:
        notes.append(f"targets may have seen it before: {_plain(step['cause'])}")
    if step["unrecorded"]:
        notes.append(_unrecorded(step))
    if step["unqueued"]:
        notes.append("an optional delivery found no room in the store")
    if step["what"] == "unmatched":
        notes.append("no route matches")
    return f"{number}: {reply}{took} ({'; '.join(notes)})"


def _attempt(target: AtTargetView) -> tuple[str, ...]:
    ms = "" if target["ms"] is None else f"{target['ms']:>9,.1f} ms"
    notes = [_result(target)]
    if target["joined"]:
        notes.append("an earlier request's attempt, still in flight")
    if target["late"]:
        notes.append("after the reply")
    return _plain(target["target"]), _plain(target["as"]), ms, "; ".join(notes)


def _result(target: AtTargetView) -> str:
    """Return how an attempt ended, in the receiver's own words if there are any."""
    if not target["reason"]:
        return f"skipped: {_plain(target['skipped']) or 'not known'}"
    words = [_plain(target["reason"])]
    if target["status"] is not None and not (200 <= target["status"] < 300):
        words.append(f"HTTP {target['status']}")
    if target["code"]:
        words.append(_quoted(target["code"]))
    elif target["detail"]:
        words.append(f"({target['detail']})")
    if target["msg"]:
        words.append(_quoted(target["msg"]))
    return " ".join(words)


def _later(step: LateView | MissedView) -> str:
    if step["what"] == "attempt":
        what = f"request {step['request']}" if step["request"] else f"retry {step['retry']}"
        return f"{what}: {_plain(step['target'])} {_result(step)}, {step['ms']:,g} ms"
    what = _LATER[step["what"]]
    if step["retry"]:
        what += f" {step['retry']}" if what == "retry" else f" after retry {step['retry']}"
    if step["cause"]:
        what += f" ({_plain(step['cause'])})"
    ms = "" if step["ms"] is None else f", {step['ms']:,g} ms"
    note = f" ({_unrecorded(step)})" if step["unrecorded"] else ""
    return f"{what}: {_plain(step['target'])} {_result(step)}{ms}{note}"


def _unrecorded(step: RequestView | LateView) -> str:
    return f"not recorded, the store: {_plain(step['unrecorded'])}"


def _next_steps(story: StoryView, now: float) -> Iterator[str]:
    yield from (f"{_next(step)}, {_when(step, now)}" for step in story["next"])
    dead = [entry["target"] for entry in story["deliveries"] if entry["state"] == State.DEAD]
    if dead:
        yield f"nothing for {quoted(dead)}: a dead letter, for a person to replay"
    if not story["next"] and not dead:
        yield _end(story)


def _next(step: NextView) -> str:
    match step["what"]:
        case "request":
            return f"EBaaS's request {step['number']}"
        case "given_up":
            return "EBaaS gives up"
        case "retry":
            return f"retry {step['number']} of {step['target']}"


def _when(step: NextView, now: float) -> str:
    at = when_retried(step["at"], now, step.get("in_flight"))
    is_held = step.get("paused") and not step.get("in_flight")
    return f"{at}; it is paused until then" if is_held else at


def _end(story: StoryView) -> str:
    requests = [step for step in story["steps"] if step["what"] in ("request", "unmatched")]
    code = str(requests[-1].get("code", "")) if requests else ""
    if story["stage"] in (Stage.CLOSED, Stage.ENDED) or code == SUCCESS:
        return "nothing, it is settled"
    if requests and requests[-1]["what"] == "unmatched":
        return "EBaaS retries it, and no route matches the retry either"
    return "not known: it is not in the store, or not any more"


def _quoted(text: str) -> str:
    """Return a stranger's text with a visible end."""
    return "'" + text.replace("'", "\\'") + "'"


def _plain(text: str) -> str:
    """Return a name or a word: as it is, unless something in it may mislead."""
    return text if _PLAIN.fullmatch(text) else _quoted(text)
