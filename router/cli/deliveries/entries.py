"""Deliveries, counts and actions as text, made of their JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from router.cli.columns import columns, counted, seconds, since, when
from router.config.document import shown
from router.model.event import OWN_KEYS
from router.store.admin import DISCARDED, Verb
from router.store.protocol import Stage, State, receiver_text
from router.store.views import (
    ActionView,
    CountView,
    DossierView,
    EntryView,
    PauseView,
    TriedEntryView,
    TriedView,
)

_STAGES = {
    Stage.OPEN: "open: EBaaS retries it",
    Stage.CLOSED: "closed: EBaaS has got its 000",
    Stage.ENDED: "ended: EBaaS has given it up, or another request stood in for it",
}

DONE = {Verb.REPLAY: "replayed", Verb.DISCARD: "discarded", Verb.RESTORE: "restored"}


def overview(
    counts: Sequence[CountView],
    actions: Sequence[ActionView],
    now: float,
    pauses: Sequence[PauseView],
) -> Iterator[str]:
    """How many deliveries there are, whose targets are paused, and what people did last."""
    if not counts:
        yield "no deliveries"
    else:
        yield from format_counts(counts, now)
    if pauses:
        yield ""
        yield from (format_pause(each, now) for each in pauses)
    if actions:
        yield ""
        yield "last actions:"
        yield from _format_actions(actions)


def format_pause(pause: PauseView, now: float) -> str:
    left, who = when(pause["until"], int(now)), shown(pause["who"])
    return (
        f"{pause['target']} is paused until {pause['until']} ({left}) by {who}: {pause['because']}"
    )


def format_counts(counts: Sequence[CountView], now: float) -> Iterator[str]:
    rows = [("target", "state", f"{'deliveries':>10}", "oldest", "")]
    rows += [
        (
            count["target"],
            count["state"],
            f"{count['deliveries']:>10,}",
            since(count["oldest_at"], now),
            f"{later:,} acknowledged later" if (later := count["acknowledged_later"]) else "",
        )
        for count in counts
    ]
    return columns(rows)


def total(counts: Iterable[CountView]) -> int:
    return sum(count["deliveries"] for count in counts)


def deliveries(number: int) -> str:
    return f"{number:,} delivery" if number == 1 else f"{number:,} deliveries"


def format_entries(entries: Iterable[EntryView], now: float) -> Iterator[str]:
    rows = [("age", "target", "state", "reason", "retries", "event", "key", "it said")]
    rows += [
        (
            since(entry["first_at"], now),
            entry["target"],
            entry["state"],
            entry["reason"],
            f"{entry['retries']:>7}",
            entry["event_id"],
            "; ".join([shown(entry["event_key"]), *_notes(entry, now)]),
            entry.get("said", ""),
        )
        for entry in entries
    ]
    return columns(rows)


def format_dossier(dossier: DossierView, now: float, pauses: Iterable[PauseView]) -> Iterator[str]:
    """`pauses` are all that are in force."""
    yield from columns(
        [
            ("event", dossier["event_id"]),
            ("key", shown(dossier["event_key"])),
            ("stage", _stage(dossier, now)),
            ("came", f"{dossier['first_at']}, {since(dossier['first_at'], now)} ago"),
            ("requests", _clock(dossier, now)),
            ("request_id", shown(dossier["request_id"])),
            ("body", f"{counted(dossier['bytes'], 'byte')}, SHA-256 {dossier['sha256']}"),
        ]
    )
    yield ""
    rows = [("target", "state", "reason", "retries", "since", "")]
    rows += [
        (
            entry["target"],
            entry["state"],
            entry["reason"],
            f"{entry['retries']:>7}",
            entry["changed_at"],
            "; ".join([*_notes(entry, now), *filter(None, [entry.get("said", "")])]),
        )
        for entry in dossier["deliveries"]
    ]
    yield from columns(rows)
    targets = {entry["target"] for entry in dossier["deliveries"]}
    yield from (format_pause(each, now) for each in pauses if each["target"] in targets)
    if any(entry["attempts"] for entry in dossier["deliveries"]):
        yield ""
        yield from _timeline(dossier["deliveries"])


def standing(entry: EntryView, now: float) -> str:
    """Where a delivery stands, and why: for who has asked for something that it does not need."""
    changed, later, by = entry["changed_at"], entry["acknowledged_later_at"], entry["later_event"]
    if entry["due_at"] is not None:
        return (
            f"queued: it is retried, {when_retried(entry['due_at'], now, entry.get('in_flight'))}"
        )
    match entry["state"]:
        case State.ACKNOWLEDGED:
            return f"acknowledged, {changed}"
        case State.AWAITING:
            return "awaiting: EBaaS retries it"
        case State.SUPERSEDED if entry["reason"] == DISCARDED:
            who = f" by {shown(entry['action']['who'])}" if entry["action"] else ""
            return f"discarded{who}, {changed}; `deliveries restore` takes it back"
        case State.SUPERSEDED:
            other = f"event {by}" if by else "another event or new routes"
            return f"superseded by {other}, {changed}"
    if later is not None:
        other = by or "another event's"
        return f"dead, and acknowledged later, as {other}, {later}"
    return f"dead, {changed}"


def when_retried(at: str, now: float, in_flight: bool | None) -> str:
    """When a retry comes; one in flight has until then to end, or its process has died."""
    told = when(at, now)
    if in_flight and seconds(at) > now:
        return f"attempt in flight, again {told} if nothing is heard of it"
    return told


def _format_actions(actions: Iterable[ActionView]) -> Iterator[str]:
    rows = [
        (
            each["at"],
            DONE[each["verb"]],
            deliveries(each["deliveries"]),
            shown(each["who"]),
            each["what"],
        )
        for each in actions
    ]
    return columns(rows, indent=2)


def _clock(dossier: DossierView, now: float) -> str:
    """How far the sender is with its schedule."""
    last = f"{dossier['requests']}, the last answered {dossier['replied_at']}"
    if dossier["due_at"] is None or dossier["ends_at"] is None:
        return last
    return f"{last}, next due {dossier['due_at']}, gives up {when(dossier['ends_at'], now)}"


def _stage(dossier: DossierView, now: float) -> str:
    if dossier["event_key"].startswith(OWN_KEYS):
        return "closed: one of the router's own"
    said, due = _STAGES[dossier["stage"]], dossier["due_at"]
    return said if due is None else f"{said}, {when(due, now)}"


def _notes(entry: EntryView, now: float) -> Iterator[str]:
    later, by, action = entry["acknowledged_later_at"], entry["later_event"], entry["action"]
    if entry["due_at"] is not None:
        at = when_retried(entry["due_at"], now, entry.get("in_flight"))
        yield f"due {at}" if at.startswith(("in ", "now")) else at
    if later is not None:
        yield f"acknowledged later{f', as event {by}' if by else ''}, {later}"
    elif by:
        yield f"superseded by event {by}"
    if action is not None:
        yield f"{DONE[action['verb']]} by {shown(action['who'])}, {action['at']}"


def _timeline(entries: Sequence[TriedEntryView]) -> Iterator[str]:
    """The failed attempts of all targets, in order of time."""
    told = [(tried, entry) for entry in entries for tried in entry["attempts"]]
    rows = [("failed attempts", "of", "target", f"{'took':>8}", "reason", "status", "it said")]
    for tried, entry in sorted(told, key=lambda each: (each[0]["at"], each[0]["number"])):
        target = entry["target"]
        by = f"retry {tried['retry']}" if tried["retry"] else f"request {tried['request']}"
        took, status = f"{tried['ms']:>5g} ms", str(tried["status"] or "")
        said = receiver_text(tried["code"], tried["msg"], tried["detail"])
        rows.append((tried["at"], by, target, took, tried["reason"], status, said))
        if tried["number"] == 1 and (more := _between(entry["attempts"])):
            rows.append((f"{more:,} more", "", target, "", "", "", ""))
    yield from columns(rows)


def _between(tried: Sequence[TriedView]) -> int:
    """How many attempts between the first and the others are not kept."""
    return tried[1]["number"] - 2 if len(tried) > 1 else 0
