"""Deliveries, counts and actions as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from router.cli.columns import columns, counted
from router.cli.deliveries.timeline import reason_of, timeline, tried_json
from router.cli.times import age
from router.config import shown
from router.store import DISCARDED, Action, Count, Dossier, Entry, Pause, Record, Stage, State, Verb
from router.telemetry import utc

#: What may need a person comes first.
_ORDER = (State.DEAD, State.QUEUED, State.AWAITING, State.SUPERSEDED, State.ACKNOWLEDGED)

_STAGES = {
    Stage.OPEN: "open: EBaaS retries it",
    Stage.CLOSED: "closed: EBaaS has got its 000",
    Stage.ENDED: "ended: EBaaS has given it up, or another request stood in for it",
}

DONE = {Verb.REPLAY: "replayed", Verb.DISCARD: "discarded", Verb.RESTORE: "restored"}


def overview(
    counts: Sequence[Count], actions: Sequence[Action], now: float, pauses: Sequence[Pause] = ()
) -> Iterator[str]:
    """How many deliveries there are, whose targets are paused, and what people did last."""
    if not counts:
        yield "no deliveries"
    else:
        yield from counts_told(counts, now)
    if pauses:
        yield ""
        yield from (pause_told(each, now) for each in pauses)
    if actions:
        yield ""
        yield "last actions:"
        yield from _actions_told(actions)


def pause_told(pause: Pause, now: float) -> str:
    left, who = age(pause.until - now), shown(pause.who)
    return f"{pause.target} is paused until {utc(pause.until)} ({left}) by {who}: {pause.because}"


def counts_told(counts: Sequence[Count], now: float) -> Iterator[str]:
    rows = [("target", "state", f"{'deliveries':>10}", "oldest", "")]
    rows += [
        (
            count.target,
            count.state,
            f"{count.deliveries:>10,}",
            age(now - count.oldest_at),
            f"{count.acknowledged_later:,} acknowledged later" if count.acknowledged_later else "",
        )
        for count in counts
    ]
    return columns(rows)


def in_order(counts: Iterable[Count]) -> list[Count]:
    return sorted(counts, key=lambda count: (count.target, _ORDER.index(count.state)))


def total(counts: Iterable[Count]) -> int:
    return sum(count.deliveries for count in counts)


def deliveries(number: int) -> str:
    return f"{number:,} delivery" if number == 1 else f"{number:,} deliveries"


def entries_told(entries: Sequence[Entry], now: float) -> Iterator[str]:
    rows = [("age", "target", "state", "reason", "retries", "event", "key")]
    rows += [
        (
            age(now - entry.first_at),
            entry.row.target,
            entry.row.state,
            entry.row.reason,
            f"{entry.row.retries:>7}",
            entry.event_id,
            "; ".join([shown(entry.event_key), *_notes(entry, now)]),
        )
        for entry in entries
    ]
    return columns(rows)


def dossier_told(
    dossier: Dossier, now: float, of: int | None, pauses: Iterable[Pause] = ()
) -> Iterator[str]:
    """`of`: how many requests EBaaS makes of an event, where that is known. `pauses` are all that
    are in force."""
    record, letter = dossier.record, dossier.letter
    yield from columns(
        [
            ("event", record.event_id),
            ("key", shown(letter.event.event_key)),
            ("stage", _stage(record, now)),
            ("came", f"{utc(record.first_at)}, {age(now - record.first_at)} ago"),
            ("requests", _clock(record, now, of)),
            ("request_id", shown(letter.request_id)),
            ("body", f"{counted(len(letter.event.body), 'byte')}, SHA-256 {letter.digest.hex()}"),
        ]
    )
    yield ""
    rows = [("target", "state", "reason", "retries", "since", "")]
    rows += [
        (
            entry.row.target,
            entry.row.state,
            reason_of(entry, dossier),
            f"{entry.row.retries:>7}",
            utc(entry.changed_at),
            "; ".join(_notes(entry, now)),
        )
        for entry in dossier.entries
    ]
    yield from columns(rows)
    targets = {entry.row.target for entry in dossier.entries}
    yield from (pause_told(each, now) for each in pauses if each.target in targets)
    if dossier.attempts:
        yield ""
        yield from timeline(dossier)


def standing(entry: Entry, now: float) -> str:
    """Where a delivery stands, and why: for who has asked for something that it does not need."""
    row, since = entry.row, utc(entry.changed_at)
    match row.state:
        case State.ACKNOWLEDGED:
            return f"acknowledged, {since}"
        case State.AWAITING:
            return "awaiting: EBaaS retries it"
        case State.QUEUED:
            return f"queued: it is retried, {_when(row.due_at, now)}"
        case State.SUPERSEDED if row.reason == DISCARDED:
            by = f" by {shown(entry.action.who)}" if entry.action else ""
            return f"discarded{by}, {since}; `deliveries restore` takes it back"
        case State.SUPERSEDED:
            by = (
                f"event {entry.later_event}" if entry.later_event else "another event or new routes"
            )
            return f"superseded by {by}, {since}"
    if entry.acknowledged_later_at is not None:
        by = entry.later_event or "another event's"
        return f"dead, and acknowledged later, as {by}, {utc(entry.acknowledged_later_at)}"
    return f"dead, {since}"


def body_text(dossier: Dossier) -> str:
    return dossier.letter.event.body.decode("utf-8", "backslashreplace")


def _actions_told(actions: Iterable[Action]) -> Iterator[str]:
    rows = [
        (utc(each.at), DONE[each.verb], deliveries(each.deliveries), shown(each.who), each.what)
        for each in actions
    ]
    return columns(rows, indent=2)


def _clock(record: Record, now: float, of: int | None) -> str:
    """How far the sender is with its schedule."""
    number = f"{record.requests} of {of}" if of else str(record.requests)
    last = f"{number}, the last answered {utc(record.replied_at)}"
    if record.stage is not Stage.OPEN:
        return last
    return f"{last}, next due {utc(record.due_at)}, gives up {_when(record.ends_at, now)}"


def _stage(record: Record, now: float) -> str:
    said = _STAGES[record.stage]
    return f"{said}, {_when(record.due_at, now)}" if record.stage is Stage.OPEN else said


def _notes(entry: Entry, now: float) -> Iterator[str]:
    if entry.row.state is State.QUEUED:
        yield f"due {_when(entry.row.due_at, now)}"
    if entry.acknowledged_later_at is not None:
        by = f", as event {entry.later_event}" if entry.later_event else ""
        yield f"acknowledged later{by}, {utc(entry.acknowledged_later_at)}"
    elif entry.later_event:
        yield f"superseded by event {entry.later_event}"
    if entry.action is not None:
        yield f"{DONE[entry.action.verb]} by {shown(entry.action.who)}, {utc(entry.action.at)}"


def _when(at: float, now: float) -> str:
    return f"in {age(at - now)}" if at > now else "now"


# As JSON, one line each; `kind` tells them apart.


def count_json(count: Count) -> dict[str, Any]:
    return {
        "kind": "count",
        "target": count.target,
        "state": count.state,
        "deliveries": count.deliveries,
        "acknowledged_later": count.acknowledged_later,
        "oldest_at": utc(count.oldest_at),
    }


def pause_json(pause: Pause) -> dict[str, Any]:
    return {
        "kind": "pause",
        "target": pause.target,
        "since": utc(pause.since),
        "until": utc(pause.until),
        "because": pause.because,
        "who": pause.who,
        "resumed_by": pause.resumed_by or None,
    }


def entry_json(entry: Entry) -> dict[str, Any]:
    row, later, action = entry.row, entry.acknowledged_later_at, entry.action
    return {
        "kind": "delivery",
        "event_id": entry.event_id,
        "event_key": entry.event_key,
        "first_at": utc(entry.first_at),
        "target": row.target,
        "state": row.state,
        "reason": row.reason,
        "retries": row.retries,
        "due_at": utc(row.due_at) if row.state is State.QUEUED else None,
        "changed_at": utc(entry.changed_at),
        "acknowledged_later_at": None if later is None else utc(later),
        "later_event": entry.later_event or None,
        "action": None if action is None else action_json(action),
    }


def action_json(action: Action) -> dict[str, Any]:
    return {
        "kind": "action",
        "action_id": action.action_id,
        "verb": action.verb,
        "who": action.who,
        "what": action.what,
        "at": utc(action.at),
        "deliveries": action.deliveries,
    }


def dossier_json(dossier: Dossier) -> dict[str, Any]:
    record, letter = dossier.record, dossier.letter
    return {
        "kind": "event",
        "event_id": record.event_id,
        "event_key": letter.event.event_key,
        "stage": record.stage,
        "first_at": utc(record.first_at),
        "requests": record.requests,
        "replied_at": utc(record.replied_at),
        "request_id": letter.request_id,
        "bytes": len(letter.event.body),
        "sha256": letter.digest.hex(),
        "due_at": utc(record.due_at) if record.stage is Stage.OPEN else None,
        "ends_at": utc(record.ends_at) if record.stage is Stage.OPEN else None,
        "trace_id": letter.traceparent[3:35] or None,
        "deliveries": [
            {
                **entry_json(entry),
                "attempts": [*map(tried_json, dossier.attempts.get(entry.row.target, ()))],
            }
            for entry in dossier.entries
        ],
    }
