"""`trace`: events found by any of their ids, as a table or as one story, made of their JSON.

Text from outside is quoted; `say` makes it printable.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from router.cli.deliveries import notes_on, require_targets, when_retried
from router.cli.options import Exit, Help, Moment, Options, Parser, check_times
from router.cli.printing import columns, counted, format_recovery, note, quoted, say_as
from router.cli.remote import Remote, opened, part
from router.config.settings import parse_count
from router.model.errors import SettingInvalid
from router.model.event import SUCCESS, Reason
from router.store.protocol import Stage, State
from router.telemetry.log.lines import printable

if TYPE_CHECKING:
    from router.archive.trace.lines import AtTargetView, LateView, RequestView
    from router.archive.trace.views import (
        MatchView,
        MissedView,
        NextView,
        RequestMatch,
        StepView,
        StoryView,
    )

TRACE = Help(
    about="""Finds events in the archive and the store of the router that runs on this machine, or
    at --url, or, if none runs, of the settings. For one event it shows each request of EBaaS and
    its reply, each attempt and the receiver's answer, retries, replays, and the next step.
    Several events are a table, the newest first. WHAT is an event's id (webhook-id), a request's
    id, an event_key or a pattern of keys, an id in `changes`, a trace's id, or the beginning of
    a body's SHA-256 (6 characters at least); several mean any of them. A refused callback is also
    found by any whole word of its body. Without WHAT the filters select the events.""",
    examples="""
        ebaas-router trace order-4711
        ebaas-router trace 6fe0c3a1-0a0e-4a8b-9f5e-3f1f0f6d2c11 --body
        ebaas-router trace 'a.gs.*' --since 3h --target ledger --failed""",
    good="found",
    bad="no such event",
    not_started="the archive, the store or the router is missing or can't be read",
)

#: How many events a table has by default.
_LIMIT = 20


def configure_trace(parser: Parser) -> None:
    parser.add_argument("what", nargs="*", metavar="WHAT", help="an id of the event, or its key")
    add_search(parser.group("which of them"))
    parser.group("where to look if no router runs (default both)").archive()
    parser.switch("--body", "show bodies, which may be secret")
    parser.router()


def add_search(group: Options, verb: str = "") -> None:
    """Add the options that select events; `verb` goes before those of one verb alone."""
    group.times()
    group.option("--target", "NAME", "of this target", many=True)
    code = f"{verb}the reply's, a receiver's, or its HTTP status"
    group.option("--code", "CODE", code, many=True)
    group.switch("--failed", f"{verb}no 000, or a failed attempt")
    limit = f"{verb}so many events at most" + ("" if verb else f" (default {_LIMIT})")
    group.option("--limit", "N", limit, parse_count)


def run_trace(args: argparse.Namespace) -> int:
    has_time = args.since is not None or args.until is not None
    if not (args.what or args.target or args.code or args.failed or has_time):
        raise SettingInvalid("which event? Any id of it, a key or a pattern: trace WHAT")
    check_times(args)
    query = [*_query(args), *([("body", "true")] if args.body else [])]
    with opened(args, needs="either") as router:
        result = search(router, query, args.limit or _LIMIT)
        if len(result["events"]) == 1 and not result["more"]:
            story, body = story_of(router, result["events"][0], body=args.body), list[str]()
            if args.body:
                kept = story["body"]
                body = ["", kept if kept is not None else "(its body was not kept)"]
            say_as(args.format, [story], chain(format_story(story, router.now()), body))
        elif result["events"]:
            head, more = [MATCH_HEAD], ["and more: --limit, --since"] if result["more"] else []
            say_as(args.format, result["events"], [*head, *_rows(result["events"]), *more])
        if result["skipped"]:
            note(f"{counted(result['skipped'], 'line')} could not be read and were left out")
        return Exit.GOOD if result["events"] else Exit.BAD


def _rows(events: Sequence[Any]) -> Iterator[str]:
    for match in events:
        yield format_match(match)
        if body := match.get("body"):
            yield f"  {body}"


def search(router: Remote, query: Sequence[tuple[str, str]], limit: int) -> Any:
    """Return the matching events, the newest first. If there are none, note the sources that were
    searched, and how far back each reaches. Raises RouterError, also for an unknown target."""
    require_targets(router, [text for name, text in query if name == "target"])
    result = router.get("/events", [*query, ("limit", str(limit))])
    sources = []
    for source in result["looked_in"]:
        reach = f"back to {source['back_to']}" if source["back_to"] else "nothing there"
        if source["name"] == "store":
            reach = "what is not settled, or was within the hour"
        sources.append(f"the {source['name']} ({reach})")
    if not result["events"]:
        nowhere = "the router has neither an archive nor a store, or no such target of yours"
        note(f"no such event; {'looked in ' + ', '.join(sources) if sources else nowhere}")
    return result


def story_of(router: Remote, event: Any, *, body: bool) -> Any:
    # An event that no route matches has its request's id alone.
    name = event["event_id"] or str(event.get("request_id", ""))
    return router.get(f"/events/{part(name)}", [("body", "true")] if body else [])


def _query(args: argparse.Namespace) -> list[tuple[str, str]]:
    """Return the selected events in the form of the API."""
    query = [("what", word) for word in args.what]
    query += [("target", name) for name in args.target or ()]
    query += [("code", code) for code in args.code or ()]
    for name, moment in (("since", args.since), ("until", args.until)):
        if isinstance(moment, Moment):
            query.append((name, moment.words))
    if not all(text for _, text in query):
        raise SettingInvalid("an argument is empty")
    return [*query, *([("failed", "true")] if args.failed else [])]


# As text.

#: The first four columns are as wide in every row.
MATCH_HEAD = f"{'when':<24}  {'reply':<6}  {'event':<36}  key and targets"

#: A text without blanks, which shift a column, or anything that a terminal obeys.
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
        case "request" | "unmatched" | "refused":
            code, targets = match["code"] or "gone", [*_at_targets(match)]
            if match["first_at"]:
                targets.insert(0, f"retry, first at {match['first_at']}")
    # An event that no route has matched has no id, but its request has one.
    name = _plain(match["event_id"] or str(match.get("request_id", "")))
    key, short = _plain(match["event_key"]), "; ".join(targets)
    return f"{match['at']}  {_plain(code):<6}  {name:<36}  {key}  {short}".rstrip()


def _at_targets(match: RequestMatch) -> Iterator[str]:
    if fault := _fault(match):
        yield fault
    failed = [
        target
        for target in match["targets"]
        if target["skipped"] in (State.DEAD, State.QUEUED, State.AWAITING)
        or target["reason"] not in ("", Reason.ACKNOWLEDGED)
    ]
    yield from (f"{_plain(target['target'])}: {_result(target)}" for target in failed)
    if fine := len(match["targets"]) - len(failed):
        yield f"{fine} fine"


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
        case "request" | "unmatched" | "refused":
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
    if fault := _fault(step):
        notes.append(fault)
    return f"{number}: {reply}{took} ({'; '.join(notes)})"


def _fault(request: RequestView) -> str:
    """Format the fault of a callback that was not forwarded; `""` for one that was."""
    if request["what"] == "unmatched":
        return "no route matches"
    return f"refused: {format_fault(request['why'])}" if request["what"] == "refused" else ""


#: The words for rules of a schema.
_RULES = {"required": "is missing", "minLength": "is empty", "type": "has the wrong type"}


def format_fault(why: str) -> str:
    """Format the fault of a callback: `event_type is empty`."""
    field, _, rule = why.partition(": ")
    return printable(f"{field} {_RULES[rule]}" if rule in _RULES else why)


def _attempt(target: AtTargetView) -> tuple[str, ...]:
    ms = "" if target["ms"] is None else f"{target['ms']:>9,.1f} ms"
    notes = [_result(target)]
    if target["attempt"]:
        notes.append(f"attempt {target['attempt']}")
    if target["joined"]:
        notes.append("an earlier request's attempt, still in flight")
    if target["late"]:
        notes.append("after the reply")
    return _plain(target["target"]), _plain(target["as"]), ms, "; ".join(notes)


def _result(target: AtTargetView) -> str:
    """Format the result of an attempt, in the receiver's own words if there are any."""
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
        what = f"retry {step['retry']}" if step["retry"] else "recovery"
        what = f"request {step['request']}" if step["request"] else what
        return f"{what}: {_plain(step['target'])} {_result(step)}, {step['ms']:,g} ms"
    what = _LATER[step["what"]]
    if what == "retry" and step["by"] == "recovery":
        what = "recovery"
    elif step["retry"]:
        what += f" {step['retry']}" if what == "retry" else f" after retry {step['retry']}"
    if step["attempt"]:
        what += f", attempt {step['attempt']}"
    if step["cause"]:
        what += f" ({_plain(step['cause'])})"
    ms = "" if step["ms"] is None else f", {step['ms']:,g} ms"
    note = f" ({_unrecorded(step)})" if step["unrecorded"] else ""
    return f"{what}: {_plain(step['target'])} {_result(step)}{ms}{note}"


def _unrecorded(step: RequestView | LateView) -> str:
    return f"not recorded, the store: {_plain(step['unrecorded'])}"


def _next_steps(story: StoryView, now: float) -> Iterator[str]:
    yield from (_next(step, now) for step in story["next"])
    dead = [entry["target"] for entry in story["deliveries"] if entry["state"] == State.DEAD]
    if dead:
        yield f"nothing for {quoted(dead)}: a dead letter, for a person to replay"
    if not story["next"] and not dead:
        yield _end(story)


def _next(step: NextView, now: float) -> str:
    match step["what"]:
        case "recovery":
            return f"{step['target']} is {format_recovery(step['recovery'])}"
        case "request":
            what = f"EBaaS's request {step['number']}"
        case "given_up":
            what = "EBaaS gives up"
        case "retry":
            what = f"retry {step['number']} of {step['target']}"
    at = when_retried(step["at"], now, step.get("in_flight"))
    is_held = step.get("paused") and not step.get("in_flight")
    return f"{what}, {at}{'; it is paused until then' if is_held else ''}"


def _end(story: StoryView) -> str:
    kinds = ("request", "unmatched", "refused")
    requests = [step for step in story["steps"] if step["what"] in kinds]
    code = str(requests[-1].get("code", "")) if requests else ""
    if story["stage"] in (Stage.CLOSED, Stage.ENDED) or code == SUCCESS:
        return "nothing, it is settled"
    if requests and requests[-1]["what"] != "request" and not story["stage"]:
        return "EBaaS may retry it; once corrected: archive replay --refused"
    return "not known: it is not in the store, or not any more"


def _quoted(text: str) -> str:
    """Quote a text from outside, so that its end is visible."""
    return "'" + text.replace("'", "\\'") + "'"


def _plain(text: str) -> str:
    """Return a name or a word, quoted if something in it may mislead."""
    return text if _PLAIN.fullmatch(text) else _quoted(text)
