"""What became of events, as text. What comes from outside is quoted, and harmless."""

from __future__ import annotations

import re
from collections.abc import Iterator

from router.archive import (
    Acted,
    AtTarget,
    KeptStory,
    LateAttempt,
    Match,
    Missed,
    Next,
    Step,
    Story,
    ToldCaller,
    name_of,
)
from router.cli.columns import columns, counted, quoted
from router.cli.deliveries.entries import deliveries
from router.cli.times import age
from router.model import SUCCESS
from router.store import Stage, State
from router.telemetry import printable, stamp, utc

#: The first four columns are as wide in every row.
MATCH_HEAD = f"{'when':<24}  {'told':<6}  {'event':<36}  key and targets"

#: What can be neither a blank that shifts a column nor anything that a terminal obeys.
_PLAIN = re.compile(r"[\w.:/+*@-]*", re.ASCII)

_LATER = {"retried": "retry", "dead_letter": "dead letter", "lost": "lost"}


def match_told(match: Match) -> str:
    """One row."""
    told, targets = _in_short(match)
    key = _plain(match.event_key)
    return f"{stamp(match.at)}  {told:<6}  {_plain(name_of(match)):<36}  {key}  {targets}".rstrip()


def _in_short(match: Match) -> tuple[str, str]:
    match match:
        case ToldCaller():
            failed = [
                f"{_plain(each.target)}: {_why(each)}" for each in match.targets if each.failed
            ]
            fine = sum(not each.failed for each in match.targets)
            if not match.is_matched:
                failed = ["no route matches"]
            return _plain(match.code) or "gone", "; ".join(
                [*failed, f"{fine} fine"] if fine else failed
            )
        case LateAttempt():
            what = _LATER[match.happening]
            return "", f"{what}: {_plain(match.tried.target)}: {_why(match.tried)}"
        case KeptStory():
            states = (f"{each.row.target}: {each.row.state}" for each in match.entries)
            return "", "; ".join(states)


def story_told(story: Story, now: float) -> Iterator[str]:
    yield from columns(list(_head(story)))
    for step in story.steps:
        yield ""
        yield from _step_told(step)
    yield ""
    yield from _standing(story, now)


def _head(story: Story) -> Iterator[tuple[str, str]]:
    yield "event", _plain(story.event_id) or "no route matches it"
    yield "key", _plain(story.event_key)
    yield "request_id", _plain(story.request_id)
    if story.trace_id:
        yield "trace", _plain(story.trace_id)
    if story.changes:
        yield "changes", quoted(story.changes)
    size = "" if story.bytes is None else f"{counted(story.bytes, 'byte')}, "
    yield "body", f"{size}SHA-256 {_plain(story.digest) or 'not known'}"


def _step_told(step: Step) -> Iterator[str]:
    match step:
        case ToldCaller():
            yield f"{stamp(step.at)}  {_request(step)}"
            if step.routes:
                yield f"  routes: {quoted(step.routes)}"
            yield from columns([_tried(each) for each in step.targets], indent=2)
        case LateAttempt():
            yield f"{stamp(step.at)}  {_later(step)}"
        case Missed():
            yield f"{stamp(step.at)}  {_missed(step)}"
        case Acted():
            action = step.action
            yield (
                f"{stamp(step.at)}  {action.verb} by {_quoted(action.who)}: "
                f"{', '.join(step.targets)} (of {deliveries(action.deliveries)})"
            )


def _request(told: ToldCaller) -> str:
    number = f"request {told.number} of {told.of}" if told.number else "a request"
    said = f"EBaaS was told {_plain(told.code)}" if told.code else "EBaaS had hung up"
    took = "" if told.ms is None else f" after {told.ms:,g} ms"
    notes = [f"request_id {_plain(told.request_id)}"]
    if told.cause:
        notes.append(f"targets may have seen it before: {_plain(told.cause)}")
    if told.unrecorded:
        notes.append(f"not recorded, the store: {_plain(told.unrecorded)}")
    if told.unqueued:
        notes.append("an optional delivery found no room in the store")
    if not told.is_matched:
        notes.append("no route matches")
    return f"{number}: {said}{took} ({'; '.join(notes)})"


def _tried(each: AtTarget) -> tuple[str, ...]:
    ms = "" if each.ms is None else f"{each.ms:>9,.1f} ms"
    notes = []
    if each.joined:
        notes.append("an earlier request's attempt, still in flight")
    if each.late:
        notes.append("after the reply")
    return _plain(each.target), _plain(each.role), ms, "; ".join([_why(each), *notes])


def _why(each: AtTarget) -> str:
    """How it ended, in the receiver's own words where there are any."""
    if not each.reason:
        return f"skipped: {_plain(each.skipped) or 'not known'}"
    said = [_plain(each.reason)]
    if each.status is not None and not (200 <= each.status < 300):
        said.append(f"HTTP {each.status}")
    if each.code:
        said.append(_quoted(each.code))
    elif each.detail:
        said.append(f"({printable(each.detail)})")
    if each.msg:
        said.append(_quoted(each.msg))
    return " ".join(said)


def _missed(missed: Missed) -> str:
    request, retry = missed.tried.request, missed.tried.retry
    what = f"request {request}" if request else f"retry {retry}"
    each = missed.each
    return f"{what}: {_plain(missed.target)} {_why(each)}, {each.ms:,g} ms"


def _later(later: LateAttempt) -> str:
    tried = later.tried
    what = _LATER[later.happening]
    if later.retry:
        what = (
            f"{what} {later.retry}"
            if later.happening == "retried"
            else f"{what} after retry {later.retry}"
        )
    if later.cause:
        what += f" ({_plain(later.cause)})"
    ms = "" if tried.ms is None else f", {tried.ms:,g} ms"
    return f"{what}: {_plain(tried.target)} {_why(tried)}{ms}"


def _standing(story: Story, now: float) -> Iterator[str]:
    """How it stands, and what comes next."""
    if story.entries:
        rows = [
            (_plain(each.row.target), each.row.state, _plain(each.row.reason), utc(each.changed_at))
            for each in story.entries
        ]
        yield "in the store:"
        yield from columns(rows, indent=2)
        yield ""
    for each in story.next:
        yield f"next: {_next(each)}, {_when(each.at, now)}"
    dead = [entry.row.target for entry in story.entries if entry.row.state is State.DEAD]
    if dead:
        yield f"next: nothing for {quoted(dead)}: a dead letter, for a person to replay"
    if not story.next and not dead:
        yield f"next: {_end(story)}"


def _end(story: Story) -> str:
    told = [step for step in story.steps if isinstance(step, ToldCaller)]
    if story.stage in (Stage.CLOSED, Stage.ENDED) or (told and told[-1].code == SUCCESS):
        return "nothing, it is settled"
    if told and not told[-1].is_matched:
        return "EBaaS repeats what was told no 000; no route matches that either"
    return "not known: it is not in the store, or not any more"


def _next(each: Next) -> str:
    match each.what:
        case "request":
            return f"EBaaS's request {each.number}"
        case "given_up":
            return "EBaaS gives up"
        case _:
            return f"retry {each.number} of {each.target}"


def _when(at: float, now: float) -> str:
    return f"in {age(at - now)}" if at > now else "now"


def _quoted(text: str) -> str:
    """What a stranger says, on one line, and with an end."""
    return "'" + printable(text.replace("'", "\\'")) + "'"


def _plain(text: str) -> str:
    """A name or a word, as it is where nothing in it misleads."""
    return text if _PLAIN.fullmatch(text) else _quoted(text)
