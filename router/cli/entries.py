"""Deliveries, counts and actions as text, made of their JSON alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from router.cli.acting import DONE
from router.cli.columns import columns, counted, seconds, since, when
from router.config.document import shown
from router.store.views import (
    ActionView,
    CountView,
    EntryView,
    PauseView,
)


def overview(
    counts: Sequence[CountView],
    actions: Sequence[ActionView],
    now: float,
    pauses: Sequence[PauseView],
) -> Iterator[str]:
    """Yield how many deliveries there are, the pauses, and the last actions of people."""
    yield from format_counts(counts, now) if counts else ["no deliveries"]
    if pauses:
        yield ""
        yield from (format_pause(pause, now) for pause in pauses)
    if actions:
        yield from ("", "last actions:")
        rows = [
            (
                action["at"],
                DONE[action["verb"]],
                counted(action["deliveries"], "delivery"),
                shown(action["who"]),
                action["what"],
            )
            for action in actions
        ]
        yield from columns(rows, indent=2)


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
            "; ".join([shown(entry["event_key"]), *notes_on(entry, now)]),
            entry.get("said", ""),
        )
        for entry in entries
    ]
    return columns(rows)


def when_retried(at: str, now: float, in_flight: bool | None) -> str:
    """Return when a retry comes. An attempt in flight has until then to end, or its process has
    died."""
    if in_flight and seconds(at) > now:
        return f"attempt in flight, again {when(at, now)} if nothing is heard of it"
    return when(at, now)


def notes_on(entry: EntryView, now: float) -> Iterator[str]:
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
