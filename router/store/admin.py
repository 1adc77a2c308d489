"""People's work with a store: find, replay, discard and restore deliveries, pause targets; and the
filters that commands and the API share.

The functions here raise ValueError with a sentence for people, and print nothing.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf
from typing import Any, NamedTuple, Protocol

from router.contract.replies import harmless
from router.contract.schedule import parse_time
from router.model.event import OutboundEvent
from router.routing.index import Glob
from router.store.protocol import (
    ASKED,
    RETRIED,
    UNSETTLED,
    DeliveryRow,
    Node,
    Pause,
    Record,
    State,
    Tried,
)
from router.telemetry.log.lines import stamp

#: The longest pause, in seconds. A longer one is `paused: true` in routes.yaml.
MAX_PAUSE = 30 * 86400.0

#: The lengths of a reason and of a name, in characters.
MAX_BECAUSE, MAX_WHO = 200, 100


def _end(until: str, now: float) -> float:
    try:
        return parse_time(until, now, ahead=True)
    except ValueError:
        raise ValueError(
            f"{until!r} is neither a time from now (like 10m, 2h, 3d) nor one like "
            "2026-11-26T13:00:00Z"
        ) from None


async def pause(admin: Admin, target: str, until: str, because: str, who: str) -> Pause:
    """Pause a target until a time that `parse_time` reads, in place of its current pause. Every
    process that shares the store obeys it within a second."""
    now = admin.now()
    end = _end(until, now)
    if end <= now:
        raise ValueError(f"{until!r} is over already")
    if end > now + MAX_PAUSE:
        raise ValueError(
            f"{until!r} is more than 30 days away; what has no end is `paused: true` in routes.yaml"
        )
    reason = harmless(because, MAX_BECAUSE)
    if not reason or len(because) > MAX_BECAUSE:
        raise ValueError(f"the reason has to have 1 to {MAX_BECAUSE} characters")
    new = Pause(target, now, end, reason, harmless(who, MAX_WHO))
    await admin.put_pause(new)
    return new


async def resume(admin: Admin, target: str, who: str) -> Pause | None:
    """End a target's pause and return it, None for none. `paused` in routes.yaml stays."""
    return await admin.end_pause(target, harmless(who, MAX_WHO))


async def paused(admin: Admin) -> tuple[Pause, ...]:
    """Return the current pauses, by target."""
    now = admin.now()
    return tuple(sorted((p for p in await admin.pauses() if p.until > now), key=lambda p: p.target))


#: The reason of a delivery that a person has discarded. Its state is `superseded`: it is settled
#: and raises no alarm, but an acknowledgement or a retry that needs the target still changes it.
DISCARDED = "discarded"

#: Before the first page.
START = (0, "")

#: The most deliveries that one commit changes, so that the router never waits for long.
STEP = 200


class Verb(StrEnum):
    """An action of a person on deliveries."""

    #: Queue a dead letter again, with all retries of the queue.
    REPLAY = "replay"
    #: Settle a delivery without delivering it.
    DISCARD = "discard"
    #: Undo a discard: the delivery gets its former state.
    RESTORE = "restore"
    #: Send now what waits; the delivery keeps its schedule.
    RETRY = "retry"

    @property
    def states(self) -> tuple[State, ...]:
        """The states of deliveries that it applies to."""
        return _STATES[self]

    def fits(self, row: DeliveryRow) -> bool:
        discarded = self is not Verb.RESTORE or row.reason == DISCARDED
        return row.state in self.states and discarded

    def acted(self, entry: Entry, now: float) -> DeliveryRow:
        """Return the new state of a delivery. The store makes it a dead letter if it would be
        awaited from a caller that has given up."""
        row = replace(entry.row, recover_at=0.0)
        if self is Verb.REPLAY:
            return replace(row, state=State.QUEUED, due_at=now, retries=0)
        if self is Verb.RETRY:
            return replace(row, recover_at=ASKED)
        if self is Verb.DISCARD:
            return replace(row, state=State.SUPERSEDED, reason=DISCARDED)
        # If 0.2.0 has discarded it, this is its state before an earlier action.
        state, reason = entry.before or (State.DEAD, "")
        if state not in UNSETTLED:
            state, reason = State.DEAD, ""
        return replace(row, state=state, reason=reason)


_STATES = {
    Verb.REPLAY: (State.DEAD,),
    Verb.DISCARD: UNSETTLED,
    Verb.RESTORE: (State.SUPERSEDED,),
    Verb.RETRY: RETRIED,
}


class Later(StrEnum):
    """The selection of deliveries whose body was acknowledged later, as another event's."""

    INCLUDE = "include"
    EXCLUDE = "exclude"
    ONLY = "only"


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions for deliveries, which must all hold; an empty one always holds."""

    targets: tuple[str, ...] = ()
    states: tuple[State, ...] = ()
    event_ids: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    #: Any of them matches the event's key.
    keys: tuple[Glob, ...] = ()
    #: The event's first request arrived at this time or later.
    since: float | None = None
    #: It arrived before this time.
    until: float | None = None
    acknowledged_later: Later = Later.INCLUDE
    #: For any of these pairs, the word is the id of the event, its request or its trace, begins the
    #: SHA-256 of its body, or is in its body in quotes; or the pattern matches its key.
    known_by: tuple[tuple[str, Glob], ...] = ()
    #: One of the event's deliveries has changed at this time or later.
    changed_since: float | None = None
    #: One of its failed attempts, or the reply to its caller, had one of these codes or statuses.
    codes: tuple[str, ...] = ()
    #: Its `000` is still due, or an attempt has failed.
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Count:
    """The number of deliveries of a target in a state."""

    target: str
    state: State
    deliveries: int
    #: The number of them whose body was acknowledged later, as another event's.
    acknowledged_later: int
    #: When the first request of the oldest event arrived.
    oldest_at: float


class ReplayPlace(NamedTuple):
    """The progress of a replay from the archive: its events are queued in this order."""

    #: When the event came.
    at: float
    event_id: str

    def __str__(self) -> str:
        return f"up to {stamp(self.at)} {self.event_id}"


@dataclass(frozen=True, slots=True)
class Action:
    """A command of a person, with all its steps."""

    action_id: str
    verb: Verb
    who: str
    #: The selection in the person's own words.
    what: str
    #: When it began.
    at: float
    #: The number of deliveries that it has changed.
    deliveries: int = 0
    #: Of a replay from the archive: when its first event may have come, None for any time.
    since: float | None = None
    #: The last event that such a replay has queued; None before the first and after its end.
    place: ReplayPlace | None = None

    @property
    def text(self) -> str:
        """The selection, and how far a replay has come."""
        return f"{self.what} {self.place}" if self.place else self.what


@dataclass(frozen=True, slots=True)
class Entry:
    """A delivery, at the time of the query."""

    #: The number of its event, in the order of recording.
    seq: int
    event_id: str
    event_key: str
    #: When the event's first request arrived.
    first_at: float
    row: DeliveryRow
    #: When the row was last written.
    changed_at: float
    #: When another event with the same body was acknowledged by this target.
    acknowledged_later_at: float | None
    #: The last action on it, if it is still kept.
    action: Action | None
    #: State and reason before that action; None if there was none.
    before: tuple[State, str] | None = None
    #: The event that superseded it or was acknowledged later; `""` for none.
    later_event: str = ""
    #: The receiver's answer to the last failed attempt, or the error; `""` if none is kept.
    answer: str = ""

    def is_as_of(self, moment: float) -> bool:
        """Return whether it has not changed since then."""
        return self.changed_at < moment and (self.acknowledged_later_at or 0.0) < moment


@dataclass(frozen=True, slots=True)
class Dossier:
    """Everything that is kept of an event."""

    record: Record
    letter: OutboundEvent
    entries: tuple[Entry, ...]
    #: By target, in order of time.
    attempts: Mapping[str, tuple[Tried, ...]]


@dataclass(frozen=True, slots=True)
class Resend:
    """An event to be delivered to a target again."""

    #: The record to add if the store does not have the event.
    record: Record
    letter: OutboundEvent

    @property
    def place(self) -> ReplayPlace:
        return ReplayPlace(self.record.first_at, self.record.event_id)


@dataclass(frozen=True, slots=True)
class Resent:
    """The result of one step of a replay."""

    #: The number of events taken; there was no room for the next one.
    taken: int
    #: The number of them that were queued.
    queued: int


class Admin(Protocol):
    """A store as people use it, beside running routers, whose requests it never delays.

    Every method raises StoreFailed, does not block the loop, and stops when it is cancelled.
    Queries may take seconds in a store of millions. Writes are atomic and durable, as a Store's.
    """

    def now(self) -> float:
        """Return the time on the clock that all processes of this store share."""

    async def counts(self, selection: Selection) -> tuple[Count, ...]:
        """Count by target and state; pairs without deliveries are left out."""

    def pages(
        self, selection: Selection, size: int, after: tuple[int, str] = START
    ) -> AsyncIterator[tuple[Entry, ...]]:
        """Yield the deliveries in pages of up to `size`, in the order of recording, behind the
        number and target `after`. Each page is read on demand, and no delivery comes twice,
        whatever changes meanwhile."""

    async def dossier(self, event_id: str) -> Dossier | None:
        """Return everything that is kept of an event, None if there is no such event."""

    async def act(self, action: Action, entries: Sequence[Entry]) -> int:
        """Apply an action to up to STEP deliveries, in one commit with the action itself, and
        return how many changed. A delivery that has changed since the query stays as it is.

        Replay: `queued`, due now, no retry made. Discard: `superseded`, with the reason DISCARDED.
        Restore: its state before the discard, but dead if its record is not open any more.
        """

    async def resend(self, action: Action, target: str, events: Sequence[Resend]) -> Resent:
        """Queue events of an action for a target, in order, due now, up to STEP of them, as far as
        its share of the store and half of the whole have room; in one commit with the action
        itself, whose place is then the last one taken. Without events it has no place any more.

        A delivery stays as it is if it is still being retried (RETRIED), or if this action has
        queued it before. The state of the event towards its caller does not matter.
        """

    async def actions(self, limit: int) -> tuple[Action, ...]:
        """Return the last actions, newest first. They are kept for as long as dead letters."""

    async def pauses(self) -> tuple[Pause, ...]:
        """Return the last pause of each target; one that is over is kept for a while."""

    async def put_pause(self, pause: Pause) -> None:
        """Write the target's pause, in place of any other."""

    async def end_pause(self, target: str, who: str) -> Pause | None:
        """End the target's pause now, and return it; None, and nothing written, without one."""

    async def nodes(self) -> tuple[Node, ...] | None:
        """Return the processes that share the store; None if only one can."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an action."""

    #: The number of deliveries selected, and of those that changed.
    taken: int
    changed: int


async def carry_out(
    admin: Admin, action: Action, selection: Selection, before: float = inf
) -> AsyncGenerator[Step, None]:
    """Apply an action step by step to the selected deliveries that have not changed since `before`.

    Half of the time is left to the router: without pauses, its commits would find the store locked
    again and again.
    """
    async for page in admin.pages(selection, STEP):
        began = time.monotonic()
        entries = [entry for entry in page if entry.is_as_of(before)]
        changed = await admin.act(action, entries) if entries else 0
        yield Step(len(entries), changed)
        await asyncio.sleep(time.monotonic() - began)


#: By name: one value, or several of which any may match. Time spans are in seconds. A filter that
#: was not given is None or missing.
Filters = Mapping[str, Any]

FILTERS = ("target", "state", "match", "event", "older_than", "newer_than", "acknowledged_later")


def selection_of(filters: Filters, now: float) -> Selection:
    """Return the selection; without a state, of deliveries that are not settled."""
    older, newer = filters.get("older_than"), filters.get("newer_than")
    return Selection(
        targets=tuple(filters.get("target") or ()),
        states=tuple(map(State, filters.get("state") or UNSETTLED)),
        event_ids=tuple(filters.get("event") or ()),
        keys=tuple(filters.get("match") or ()),
        since=None if newer is None else now - newer,
        until=None if older is None else now - older,
        acknowledged_later=Later(filters.get("acknowledged_later") or Later.INCLUDE),
    )


def acted_on(verb: Verb, filters: Filters, now: float) -> Selection:
    """Return the selection for an action: by default dead letters, or all that a retry or a restore
    applies to, as they are now. A dead letter that was acknowledged later is not replayed by
    default. Raises ValueError for a wrong state."""
    states = tuple(map(State, filters.get("state") or ()))
    check_states(verb, states)
    selection = selection_of(filters, now)
    later = Later.EXCLUDE if verb is Verb.REPLAY else Later.INCLUDE
    return replace(
        selection,
        states=states or (verb.states if verb in (Verb.RESTORE, Verb.RETRY) else (State.DEAD,)),
        reasons=(DISCARDED,) if verb is Verb.RESTORE else (),
        until=now if selection.until is None else selection.until,
        acknowledged_later=Later(filters.get("acknowledged_later") or later),
    )


def check_states(verb: Verb, states: Sequence[State]) -> None:
    """Raises ValueError for a state that the action does not apply to."""
    for state in states:
        if state not in verb.states:
            why = "is settled already"
            if verb is Verb.RESTORE:
                why = "was not discarded"
            elif state in RETRIED:
                why = "is retried anyway, and `deliveries retry` sends it now"
            elif state is State.DEAD and verb is Verb.RETRY:
                why = "is not retried any more, and `deliveries replay` queues it again"
            raise ValueError(f"what is {state} {why}; {verb} is not for it")


def filter_texts(filters: Filters) -> Iterator[tuple[str, str]]:
    """Yield each name with each of its values, as people type them."""
    for name in FILTERS:
        given = filters.get(name)
        for value in given if isinstance(given, (list, tuple)) else (given,):
            if value is not None:
                yield name, _text(value)


def filter_words(filters: Filters) -> str:
    """Return the filters as options of a command line."""
    pairs = ((f"--{name.replace('_', '-')}", text) for name, text in filter_texts(filters))
    return shlex.join(word for pair in pairs for word in pair)


def _text(given: object) -> str:
    if isinstance(given, Glob):
        return given.pattern
    if isinstance(given, float):
        return f"{given:.9f}".rstrip("0").rstrip(".") + "s"
    return str(given)
