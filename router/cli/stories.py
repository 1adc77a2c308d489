"""What became of events, as text. What comes from outside is quoted, and harmless."""

from __future__ import annotations

import re
from collections.abc import Iterator

from router.archive.trace.views import (
    AtTargetView,
    KeptMatch,
    LateMatch,
    LateView,
    MatchView,
    MissedView,
    NextView,
    RequestView,
    StepView,
    StoryView,
)
from router.cli.columns import columns, counted, quoted
from router.cli.entries import deliveries, when_retried
from router.model.event import SUCCESS, Reason
from router.store.protocol import Stage, State
from router.telemetry.log.lines import printable

#: The first four columns are as wide in every row.
MATCH_HEAD = f"{'when':<24}  {'told':<6}  {'event':<36}  key and targets"

#: What can be neither a blank that shifts a column nor anything that a terminal obeys.
_PLAIN = re.compile(r"[\w.:/+*@-]*", re.ASCII)

_LATER = {"retried": "retry", "dead_letter": "dead letter", "lost": "lost"}


def format_match(match: MatchView) -> str:
    """One row."""
    told, targets = _in_short(match)
    # Where no route has matched it only its request has an id.
    name = _plain(match["event_id"] or str(match.get("request_id", "")))
    return f"{match['at']}  {told:<6}  {name:<36}  {_plain(match['event_key'])}  {targets}".rstrip()


def _in_short(match: MatchView) -> tuple[str, str]:
    match match["what"]:
        case "kept":
            states = (f"{each['target']}: {each['state']}" for each in match["deliveries"])
            return _code(match), "; ".join(states)
        case "retried" | "dead_letter" | "lost" as what:
            others = (each for each in match.get("open", ()) if each["target"] != match["target"])
            said = [f"{_LATER[what]}: {_plain(match['target'])}: {_why(match)}"]
            said += (f"{_plain(each['target'])}: {_plain(each['state'])}" for each in others)
            return _code(match), "; ".join(said)
        case "unmatched":
            said = ["no route matches"]
        case "request":
            failed = [each for each in match["targets"] if _failed(each) or _is_open(each)]
            said = [f"{_plain(each['target'])}: {_why(each)}" for each in failed]
            if fine := len(match["targets"]) - len(failed):
                said.append(f"{fine} fine")
    return _plain(match["code"]) or "gone", "; ".join(said)


def format_story(story: StoryView, now: float) -> Iterator[str]:
    yield from columns(list(_head(story)))
    for step in story["steps"]:
        yield ""
        yield from _format_step(step)
    yield ""
    yield from _standing(story, now)


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
            yield from columns([_tried(each) for each in step["targets"]], indent=2)
        case "attempt":
            yield f"{step['at']}  {_missed(step)}"
        case "acted":
            yield (
                f"{step['at']}  {step['verb']} by {_quoted(step['who'])}: "
                f"{', '.join(step['targets'])} (of {deliveries(step['deliveries'])})"
            )
        case _:
            yield f"{step['at']}  {_later(step)}"


def _request(told: RequestView) -> str:
    number = f"request {told['request']} of {told['of']}" if told["request"] else "a request"
    said = f"EBaaS was told {_plain(told['code'])}" if told["code"] else "EBaaS had hung up"
    took = "" if told["ms"] is None else f" after {told['ms']:,g} ms"
    notes = [f"request_id {_plain(told['request_id'])}"]
    if told["cause"]:
        notes.append(f"targets may have seen it before: {_plain(told['cause'])}")
    if told["unrecorded"]:
        notes.append(_unrecorded(told))
    if told["unqueued"]:
        notes.append("an optional delivery found no room in the store")
    if told["what"] == "unmatched":
        notes.append("no route matches")
    return f"{number}: {said}{took} ({'; '.join(notes)})"


def _tried(each: AtTargetView) -> tuple[str, ...]:
    ms = "" if each["ms"] is None else f"{each['ms']:>9,.1f} ms"
    notes = []
    if each["joined"]:
        notes.append("an earlier request's attempt, still in flight")
    if each["late"]:
        notes.append("after the reply")
    return _plain(each["target"]), _plain(each["as"]), ms, "; ".join([_why(each), *notes])


def _code(match: LateMatch | KeptMatch) -> str:
    """What EBaaS was told last."""
    return (_plain(match["told"]) or "gone") if "told" in match else ""


def _is_open(each: AtTargetView) -> bool:
    return each["skipped"] in (State.DEAD, State.QUEUED, State.AWAITING)


def _failed(each: AtTargetView) -> bool:
    return each["reason"] not in ("", Reason.ACKNOWLEDGED)


def _why(each: AtTargetView) -> str:
    """How it ended, in the receiver's own words where there are any."""
    if not each["reason"]:
        return f"skipped: {_plain(each['skipped']) or 'not known'}"
    said = [_plain(each["reason"])]
    if each["status"] is not None and not (200 <= each["status"] < 300):
        said.append(f"HTTP {each['status']}")
    if each["code"]:
        said.append(_quoted(each["code"]))
    elif each["detail"]:
        said.append(f"({printable(each['detail'])})")
    if each["msg"]:
        said.append(_quoted(each["msg"]))
    return " ".join(said)


def _missed(missed: MissedView) -> str:
    what = f"request {missed['request']}" if missed["request"] else f"retry {missed['retry']}"
    return f"{what}: {_plain(missed['target'])} {_why(missed)}, {missed['ms']:,g} ms"


def _later(late: LateView) -> str:
    what = _LATER[late["what"]]
    if late["retry"]:
        what += f" {late['retry']}" if what == "retry" else f" after retry {late['retry']}"
    if late["cause"]:
        what += f" ({_plain(late['cause'])})"
    ms = "" if late["ms"] is None else f", {late['ms']:,g} ms"
    note = f" ({_unrecorded(late)})" if late["unrecorded"] else ""
    return f"{what}: {_plain(late['target'])} {_why(late)}{ms}{note}"


def _unrecorded(step: RequestView | LateView) -> str:
    return f"not recorded, the store: {_plain(step['unrecorded'])}"


def _standing(story: StoryView, now: float) -> Iterator[str]:
    """How it stands, and what comes next."""
    if story["deliveries"]:
        rows = [
            (_plain(each["target"]), each["state"], _plain(each["reason"]), each["changed_at"])
            for each in story["deliveries"]
        ]
        yield "in the store:"
        yield from columns(rows, indent=2)
        yield ""
    for each in story["next"]:
        yield f"next: {_next(each)}, {_when(each, now)}"
    dead = [each["target"] for each in story["deliveries"] if each["state"] == State.DEAD]
    if dead:
        yield f"next: nothing for {quoted(dead)}: a dead letter, for a person to replay"
    if not story["next"] and not dead:
        yield f"next: {_end(story)}"


def _when(each: NextView, now: float) -> str:
    told = when_retried(each["at"], now, each.get("in_flight"))
    is_held = each.get("paused") and not each.get("in_flight")
    return f"{told}; it is paused until then" if is_held else told


def _end(story: StoryView) -> str:
    told = [
        step for step in story["steps"] if step["what"] == "request" or step["what"] == "unmatched"
    ]
    if story["stage"] in (Stage.CLOSED, Stage.ENDED) or (told and told[-1]["code"] == SUCCESS):
        return "nothing, it is settled"
    if told and told[-1]["what"] == "unmatched":
        return "EBaaS repeats what was told no 000; no route matches that either"
    return "not known: it is not in the store, or not any more"


def _next(each: NextView) -> str:
    match each["what"]:
        case "request":
            return f"EBaaS's request {each['number']}"
        case "given_up":
            return "EBaaS gives up"
        case "retry":
            return f"retry {each['number']} of {each['target']}"


def _quoted(text: str) -> str:
    """What a stranger says, on one line, and with an end."""
    return "'" + printable(text.replace("'", "\\'")) + "'"


def _plain(text: str) -> str:
    """A name or a word, as it is where nothing in it misleads."""
    return text if _PLAIN.fullmatch(text) else _quoted(text)
